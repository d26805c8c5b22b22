//! The accepting side of the handshake.

use bytes::BytesMut;

use super::{HandshakeError, PACKET_BYTES, Packet, VERSION, digest};
use super::{echo, filler, put, skip_packet, take_version_and_packet};

/// The accepting side of one handshake.
///
/// A peer whose C1 carries a valid digest gets digests in return; every other peer gets the
/// handshake of clause 5.2. Both answers go out as S0, S1 and S2 together, once C1 is whole. C2
/// is not compared with S1: peers in use send anything there.
#[derive(Debug)]
pub struct ServerHandshake {
    state: State,
}

#[derive(Debug)]
enum State {
    ExpectC0C1(ExpectC0C1),
    ExpectC2(ExpectC2),
    Done,
}

#[derive(Debug)]
struct ExpectC0C1 {
    seed: u64,
}

#[derive(Debug)]
struct ExpectC2;

impl ServerHandshake {
    /// A handshake whose filler bytes come from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: State::ExpectC0C1(ExpectC0C1 { seed }) }
    }

    /// Takes what is whole from the front of `buf` and appends the answer to `out`.
    ///
    /// `time_ms` is the server's time as the handshake tells it, from any epoch. True: the
    /// handshake is over, and what is left in `buf` are chunks; a further call takes nothing.
    /// Until then `buf` never has to hold more than 1537 bytes.
    ///
    /// # Errors
    /// The first byte is not a version this server speaks; nothing was consumed.
    pub fn handle_input(
        &mut self,
        time_ms: u32,
        buf: &mut BytesMut,
        out: &mut Vec<u8>,
    ) -> Result<bool, HandshakeError> {
        if let State::ExpectC0C1(state) = &self.state
            && let Some(c1) = take_version_and_packet(buf)?
        {
            self.state = State::ExpectC2(state.on_c1(&c1, time_ms, out));
        }
        if let State::ExpectC2(state) = &self.state
            && state.take_c2(buf)
        {
            self.state = State::Done;
        }
        Ok(matches!(self.state, State::Done))
    }
}

impl ExpectC0C1 {
    fn on_c1(&self, c1: &Packet, time_ms: u32, out: &mut Vec<u8>) -> ExpectC2 {
        let mut s1 = filler(self.seed);
        put(&mut s1, 0, time_ms.to_be_bytes());
        let s2 = if let Some(found) = digest::find_client(c1) {
            put(&mut s1, 4, digest::SERVER_VERSION);
            digest::sign_s1(&mut s1, found.scheme);
            let mut s2 = filler(!self.seed);
            digest::sign_s2(&mut s2, &found.digest);
            s2
        } else {
            put(&mut s1, 4, [0; 4]);
            echo(c1, time_ms)
        };
        out.reserve(1 + 2 * PACKET_BYTES);
        out.push(VERSION);
        out.extend_from_slice(&s1);
        out.extend_from_slice(&s2);
        ExpectC2
    }
}

impl ExpectC2 {
    #[expect(clippy::unused_self, reason = "the state says that this may be done now")]
    fn take_c2(&self, buf: &mut BytesMut) -> bool {
        skip_packet(buf)
    }
}
