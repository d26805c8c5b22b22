//! The digests Flash players and their successors put into the handshake.
//!
//! Not part of clause 5.2. A packet carries 32 bytes of HMAC-SHA256 over all its other bytes, at
//! a place computed from four bytes of the packet; there are two such places, called schemes.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{PACKET_BYTES, Packet};

/// Bytes of one digest.
pub(super) const DIGEST_BYTES: usize = 32;

/// The version a server tells in S1 to show that it knows digests.
pub(super) const SERVER_VERSION: [u8; 4] = [4, 5, 0, 1];

/// Key of the digests clients make.
const CLIENT_KEY: &[u8] = b"Genuine Adobe Flash Player 001";
/// Key of the digests servers make.
const SERVER_KEY: &[u8] = b"Genuine Adobe Flash Media Server 001";
/// What follows the server key when it signs the client's digest.
const KEY_TAIL: [u8; 32] = [
    0xF0, 0xEE, 0xC2, 0x4A, 0x80, 0x68, 0xBE, 0xE8, 0x2E, 0x00, 0xD0, 0xD1, 0x02, 0x9E, 0x7E, 0x57,
    0x6E, 0xEC, 0x5D, 0x2D, 0x29, 0x80, 0x6F, 0xAB, 0x93, 0xB8, 0xE6, 0x36, 0xCF, 0xEB, 0x31, 0xAE,
];

/// Where the four bytes are from which the place of the digest is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Scheme 0: at byte 8.
    First,
    /// Scheme 1: at byte 772, behind the block with the public key.
    Second,
}

impl Scheme {
    /// Offset of the digest within `packet`, at most 8 + 4 + 727 or 772 + 4 + 727.
    fn digest_offset(self, packet: &Packet) -> usize {
        let base = match self {
            Self::First => 8,
            Self::Second => 772,
        };
        let sum: usize = packet[base..base + 4].iter().map(|byte| usize::from(*byte)).sum();
        base + 4 + sum % 728
    }
}

/// A valid digest found in C1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) scheme: Scheme,
    pub(super) digest: [u8; DIGEST_BYTES],
}

/// Looks for a client's digest; a C1 whose version is zero has none.
pub(super) fn find_client(c1: &Packet) -> Option<Found> {
    if c1[4..8] == [0; 4] {
        return None;
    }
    [Scheme::First, Scheme::Second].into_iter().find_map(|scheme| {
        let digest = packet_digest(CLIENT_KEY, c1, scheme);
        let at = scheme.digest_offset(c1);
        (c1[at..at + DIGEST_BYTES] == digest).then_some(Found { scheme, digest })
    })
}

/// Puts the server's digest into S1.
pub(super) fn sign_s1(s1: &mut Packet, scheme: Scheme) {
    sign(SERVER_KEY, s1, scheme);
}

/// Ends S2 with the answer to the client's digest.
pub(super) fn sign_s2(s2: &mut Packet, client_digest: &[u8; DIGEST_BYTES]) {
    let key = hmac_sha256(&[SERVER_KEY, &KEY_TAIL].concat(), &[client_digest]);
    let (body, signature) = s2.split_at_mut(PACKET_BYTES - DIGEST_BYTES);
    signature.copy_from_slice(&hmac_sha256(&key, &[body]));
}

fn sign(key: &[u8], packet: &mut Packet, scheme: Scheme) {
    let digest = packet_digest(key, packet, scheme);
    let at = scheme.digest_offset(packet);
    packet[at..at + DIGEST_BYTES].copy_from_slice(&digest);
}

/// The digest over all of `packet` but the place of the digest.
fn packet_digest(key: &[u8], packet: &Packet, scheme: Scheme) -> [u8; DIGEST_BYTES] {
    let at = scheme.digest_offset(packet);
    hmac_sha256(key, &[&packet[..at], &packet[at + DIGEST_BYTES..]])
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rtmp::handshake::filler;

    /// Makes a C1 of a player that knows digests.
    pub(in super::super) fn signed_c1(seed: u64, scheme: Scheme) -> Packet {
        let mut c1 = filler(seed);
        c1[4..8].copy_from_slice(&[9, 0, 124, 2]);
        sign(CLIENT_KEY, &mut c1, scheme);
        c1
    }

    /// Whether S1 and S2 answer the digest of `c1`, as a strict player checks it.
    pub(in super::super) fn answers(c1: &Packet, s1: &Packet, s2: &Packet) -> bool {
        let Some(found) = find_client(c1) else { return false };
        let at = found.scheme.digest_offset(s1);
        let mut expected = *s2;
        sign_s2(&mut expected, &found.digest);
        s1[at..at + DIGEST_BYTES] == packet_digest(SERVER_KEY, s1, found.scheme)
            && expected == *s2
            && s2[..8] != c1[..8]
    }

    /// Test case 2 of RFC 4231.
    #[test]
    fn hmac_vector() {
        let mac = hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(mac[..8], [0x5B, 0xDC, 0xC1, 0x46, 0xBF, 0x60, 0x75, 0x4E]);
    }

    #[test]
    fn both_schemes_are_found() {
        for scheme in [Scheme::First, Scheme::Second] {
            for seed in 0..50 {
                let mut c1 = signed_c1(seed, scheme);
                assert_eq!(find_client(&c1).unwrap().scheme, scheme);
                c1[1535] ^= 1;
                assert_eq!(find_client(&c1), None);
            }
        }
    }

    #[test]
    fn places_stay_within_the_packet() {
        for scheme in [Scheme::First, Scheme::Second] {
            for byte in 0..=255 {
                let at = scheme.digest_offset(&[byte; PACKET_BYTES]);
                assert!((12..=PACKET_BYTES - DIGEST_BYTES).contains(&at));
            }
        }
    }
}
