//! The connecting side of the handshake.

use bytes::BytesMut;

use super::{HandshakeError, PACKET_BYTES, VERSION};
use super::{echo, filler, put, skip_packet, take_version_and_packet};

/// The connecting side of one handshake: the simple one of clause 5.2, which every server takes.
///
/// S2 is not compared with C1.
#[derive(Debug)]
pub struct ClientHandshake {
    state: State,
}

#[derive(Debug)]
enum State {
    ExpectS0S1,
    ExpectS2,
    Done,
}

impl ClientHandshake {
    /// Appends C0 and C1 to `out`; the filler comes from `seed`, the time is the client's in
    /// milliseconds from any epoch.
    pub fn new(seed: u64, time_ms: u32, out: &mut Vec<u8>) -> Self {
        let mut c1 = filler(seed);
        put(&mut c1, 0, time_ms.to_be_bytes());
        put(&mut c1, 4, [0; 4]);
        out.reserve(1 + PACKET_BYTES);
        out.push(VERSION);
        out.extend_from_slice(&c1);
        Self { state: State::ExpectS0S1 }
    }

    /// Takes what is whole from the front of `buf` and appends C2 to `out` when it is due.
    ///
    /// True: the handshake is over, and what is left in `buf` are chunks.
    ///
    /// # Errors
    /// The first byte is not a version this side speaks; nothing was consumed.
    pub fn handle_input(
        &mut self,
        time_ms: u32,
        buf: &mut BytesMut,
        out: &mut Vec<u8>,
    ) -> Result<bool, HandshakeError> {
        if matches!(self.state, State::ExpectS0S1)
            && let Some(s1) = take_version_and_packet(buf)?
        {
            out.extend_from_slice(&echo(&s1, time_ms));
            self.state = State::ExpectS2;
        }
        if matches!(self.state, State::ExpectS2) && skip_packet(buf) {
            self.state = State::Done;
        }
        Ok(matches!(self.state, State::Done))
    }
}
