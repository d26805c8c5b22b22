//! The handshake (clause 5.2): simple for everybody, with digests for peers that ask for them.

mod client;
mod digest;
mod server;

pub use client::ClientHandshake;
pub use server::ServerHandshake;

/// The only protocol version in use (clause 5.2.2).
pub const VERSION: u8 = 3;

/// Bytes of C1, C2, S1 and S2 each (clauses 5.2.3 and 5.2.4).
pub const PACKET_BYTES: usize = 1536;

/// One of C1, C2, S1 and S2.
type Packet = [u8; PACKET_BYTES];

/// What is wrong with the first bytes of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The first letter of an HTTP method; answer with a 400 that names the HTTP port.
    #[error("the peer speaks HTTP on the RTMP port")]
    LooksLikeHttp,
    /// The first byte of a TLS handshake record.
    #[error("the peer speaks TLS on the plain RTMP port")]
    LooksLikeTls,
    /// Any other version than 3; 6 is the encrypted RTMPE.
    #[error("RTMP version {0} is not supported")]
    BadVersion(u8),
}

impl HandshakeError {
    /// Stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::LooksLikeHttp => "http_on_rtmp_port",
            Self::LooksLikeTls => "tls_on_rtmp_port",
            Self::BadVersion(_) => "bad_handshake_version",
        }
    }

    /// Checks C0 or S0.
    fn check_version(version: u8) -> Result<(), Self> {
        match version {
            VERSION => Ok(()),
            // CONNECT, DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, TRACE.
            b'C' | b'D' | b'G' | b'H' | b'O' | b'P' | b'T' => Err(Self::LooksLikeHttp),
            0x16 => Err(Self::LooksLikeTls),
            other => Err(Self::BadVersion(other)),
        }
    }
}

/// A packet of filler that depends on the seed alone; the handshake keeps no secret with it.
fn filler(seed: u64) -> Packet {
    let mut packet = [0; PACKET_BYTES];
    // SplitMix64: every seed gives a full-period sequence.
    let mut state = seed;
    for word in packet.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word.copy_from_slice(&(z ^ (z >> 31)).to_be_bytes());
    }
    packet
}

/// Puts four bytes at `at`; positions are constants of the packet layout.
fn put(packet: &mut Packet, at: usize, bytes: [u8; 4]) {
    packet[at..at + 4].copy_from_slice(&bytes);
}

/// C2 or S2 (clause 5.2.4): an echo of the peer's packet with the time it was read.
fn echo(packet: &Packet, time_ms: u32) -> Packet {
    let mut out = *packet;
    put(&mut out, 4, time_ms.to_be_bytes());
    out
}

/// Splits a version byte and a packet off the front of a peer's bytes, once both are whole.
///
/// The version is checked as soon as it is there.
fn take_version_and_packet(buf: &mut bytes::BytesMut) -> Result<Option<Packet>, HandshakeError> {
    let Some(version) = buf.first() else { return Ok(None) };
    HandshakeError::check_version(*version)?;
    let Some(packet) = buf.get(1..).and_then(|rest| rest.first_chunk()).copied() else {
        return Ok(None);
    };
    bytes::Buf::advance(buf, 1 + PACKET_BYTES);
    Ok(Some(packet))
}

/// Drops one packet from the front of a peer's bytes, unread; false when it is not whole.
fn skip_packet(buf: &mut bytes::BytesMut) -> bool {
    let whole = buf.len() >= PACKET_BYTES;
    if whole {
        bytes::Buf::advance(buf, PACKET_BYTES);
    }
    whole
}

#[cfg(test)]
mod tests;
