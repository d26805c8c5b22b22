//! Seeded fuzz bodies of what reads peer text here, run on stable by one test; hyper itself is
//! met with damaged request heads in the end-to-end tests.

use bytes::BytesMut;
use protocols::hops::Hops;
use protocols::session::{Command, Input, Refusal, Session};
use protocols::text::percent_decode;

use super::live::LiveSession;
use super::server::{MediaKind, MediaRequest};
use super::urls;
use super::websocket::{ClientFrames, frame_header};
use crate::stream::Container;

/// Pseudo-random bytes; a failing seed is printed and can be put back.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }

    /// One of the seeds with some bytes changed, cut or doubled.
    fn mutate(&mut self, seeds: &[&[u8]]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].to_vec();
        for _ in 0..self.below(6) {
            let at = self.below(bytes.len() + 1).min(bytes.len());
            match self.below(4) {
                0 if at < bytes.len() => bytes[at] = self.next().to_le_bytes()[0],
                1 => bytes.truncate(at),
                2 => bytes.insert(at, self.next().to_le_bytes()[1]),
                _ => bytes.extend_from_within(..at),
            }
        }
        bytes
    }
}

fn text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some((host, _)) = urls::parse_host(&text) {
        assert!(!host.contains(['/', ' ', '\n']), "{host:?}");
    }
    if let Some(decoded) = percent_decode(&text) {
        assert_eq!(percent_decode(&urls::percent_encode(&decoded)), Some(decoded));
    }
    let _ = urls::query_value(&text, "name");
}

fn client_frames(data: &[u8]) {
    let mut frames = ClientFrames::default();
    let mut input = BytesMut::new();
    for piece in data.chunks(7) {
        input.extend_from_slice(piece);
        if frames.push(&mut input).is_err() {
            return;
        }
        assert!(input.len() < 200, "an incomplete head or control frame is all that may wait");
    }
}

fn live_session(data: &[u8]) {
    let now = crate::clock::now();
    let request = MediaRequest {
        admittance: None,
        host: String::new(),
        port: None,
        app: "live".into(),
        name: "x".into(),
        query: String::from_utf8_lossy(data).into_owned(),
        agent: String::new(),
        hops: Hops::default(),
        kind: MediaKind { container: Container::Flv, websocket: !data.len().is_multiple_of(2) },
        websocket_accept: None,
        keep_http11: true,
        peer: ([127, 0, 0, 1], 1).into(),
    };
    let mut session = LiveSession::new(request);
    let mut input = BytesMut::new();
    for (index, piece) in data.chunks(5).enumerate() {
        input.extend_from_slice(piece);
        let fed = session.handle_input(now, Input::Stream(&mut input));
        let told = match index {
            1 => session.handle_command(now, Command::Accept),
            9 => session.handle_command(now, Command::Close(Refusal::TooSlow)),
            _ => Ok(()),
        };
        while session.poll_output().is_some() {}
        if fed.is_err() || told.is_err() {
            return;
        }
    }
}

#[test]
fn nothing_a_peer_writes_is_too_much() {
    let iterations: u64 =
        std::env::var("FUZZ_ITERATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let frame = [frame_header(300).as_slice(), &[0; 300]].concat();
    let seeds: [&[u8]; 8] = [
        b"example.org:8080",
        b"[2001:db8::1]:80",
        b"%2e%2e/%E6%B5%81?name=a&name=b",
        b"vhost=h&app=live&name=cam%2F1&codec=fourcc&merge=20",
        &[0x89, 0x84, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8],
        &[0x82, 0xfe, 0, 126, 9, 9, 9, 9],
        &frame,
    ];
    for (name, body) in [
        ("text", text as fn(&[u8])),
        ("client_frames", client_frames),
        ("live_session", live_session),
    ] {
        for seed in 1..=iterations {
            let data = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).mutate(&seeds);
            let outcome = std::panic::catch_unwind(|| body(&data));
            assert!(outcome.is_ok(), "{name} failed with seed {seed}: {data:02x?}");
        }
    }
}
