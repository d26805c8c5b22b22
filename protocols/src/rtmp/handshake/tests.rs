//! Tests of both sides of the handshake, apart and against each other.

use bytes::BytesMut;
use proptest::prelude::*;

use super::digest::tests::{answers, signed_c1};
use super::digest::{SERVER_VERSION, Scheme};
use super::*;

fn answer(c1: &Packet) -> (Packet, Packet) {
    let mut buf = BytesMut::from(&[&[VERSION], &c1[..]].concat()[..]);
    let mut out = Vec::new();
    let mut server = ServerHandshake::new(7);
    assert_eq!(server.handle_input(5000, &mut buf, &mut out), Ok(false));
    assert_eq!((buf.len(), out.len(), out[0]), (0, 1 + 2 * PACKET_BYTES, VERSION));
    let (s1, s2) = out[1..].split_at(PACKET_BYTES);
    (s1.try_into().unwrap(), s2.try_into().unwrap())
}

#[test]
fn first_byte_decides() {
    for (first, error) in [
        (0, HandshakeError::BadVersion(0)),
        (6, HandshakeError::BadVersion(6)),
        (0x16, HandshakeError::LooksLikeTls),
        (b'G', HandshakeError::LooksLikeHttp),
        (b'P', HandshakeError::LooksLikeHttp),
        (255, HandshakeError::BadVersion(255)),
    ] {
        let (mut buf, mut out) = (BytesMut::from(&[first][..]), Vec::new());
        assert_eq!(ServerHandshake::new(1).handle_input(0, &mut buf, &mut out), Err(error));
        assert_eq!((buf.len(), out.len()), (1, 0));
    }
}

#[test]
fn simple_answer_echoes_c1() {
    for version in [[0; 4], [9, 0, 124, 2]] {
        let mut c1 = filler(3);
        put(&mut c1, 0, [0; 4]);
        put(&mut c1, 4, version);
        let (s1, s2) = answer(&c1);
        assert_eq!(s1[..8], [0, 0, 0x13, 0x88, 0, 0, 0, 0]);
        assert_eq!(s2[..8], [0, 0, 0, 0, 0, 0, 0x13, 0x88]);
        assert_eq!(s2[8..], c1[8..]);
    }
}

#[test]
fn digest_is_answered_in_its_scheme() {
    for scheme in [Scheme::First, Scheme::Second] {
        for seed in 0..20 {
            let c1 = signed_c1(seed, scheme);
            let (s1, s2) = answer(&c1);
            assert_eq!(s1[4..8], SERVER_VERSION);
            assert!(answers(&c1, &s1, &s2));
        }
    }
}

#[test]
fn same_seed_same_bytes() {
    assert_eq!(filler(9), filler(9));
    assert_ne!(filler(9), filler(10));
}

proptest! {
    #[test]
    fn both_sides_agree_at_any_split(
        seeds in any::<(u64, u64)>(),
        sizes in prop::collection::vec(1usize..2000, 1..10),
    ) {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let mut client = ClientHandshake::new(seeds.0, 1, &mut to_server);
        let mut server = ServerHandshake::new(seeds.1);
        let (mut server_buf, mut client_buf) = (BytesMut::new(), BytesMut::new());
        let (mut server_done, mut client_done) = (false, false);
        let mut steps = 0;
        for size in sizes.iter().cycle() {
            let piece: Vec<_> = to_server.drain(..(*size).min(to_server.len())).collect();
            server_buf.extend_from_slice(&piece);
            server_done = server.handle_input(2, &mut server_buf, &mut to_client).unwrap();
            let piece: Vec<_> = to_client.drain(..(*size).min(to_client.len())).collect();
            client_buf.extend_from_slice(&piece);
            client_done = client.handle_input(3, &mut client_buf, &mut to_server).unwrap();
            steps += 1;
            if server_done && client_done || steps > 20_000 {
                break;
            }
        }
        prop_assert!(server_done && client_done);
        prop_assert_eq!((to_server.len(), to_client.len()), (0, 0));
        // What follows is left to the chunk reader.
        server_buf.extend_from_slice(&[VERSION]);
        prop_assert_eq!(server.handle_input(2, &mut server_buf, &mut to_client), Ok(true));
        prop_assert_eq!((server_buf.len(), to_client.len()), (1, 0));
    }
}
