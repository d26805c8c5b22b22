//! The byte sequence of a wire as its viewers see it, under random frames and reading habits.

use std::time::Duration;

use bytes::Bytes;
use protocols::media::{Codec, Frame, Track, VideoInfo};
use protocols::rtp::NtpTime;

use super::*;
use crate::stream::Container;

const OPTIONS: PackagerOptions = PackagerOptions {
    type3_extended_timestamp: true,
    legacy_h265_id: 12,
    rtp_packet_bytes: 1400,
    rtp_seed: 1,
    ntp_at_zero: NtpTime::from_bits(0),
};

fn format(container: Container) -> Format {
    Format { container, enhanced: false, legacy: false, video: true, audio: true, merge_ms: None }
}

fn limits(bytes: usize) -> WireLimits {
    WireLimits { bytes, lag: Duration::from_secs(2) }
}

fn tracks() -> Tracks {
    let config = Bytes::from_static(&[1, 0x42, 0, 0x1e, 0xff, 0xe0, 0]);
    let info = VideoInfo::default();
    Tracks { video: Some(Track { codec: Codec::H264, config, info }), ..Tracks::default() }
}

fn frame(kind: FrameKind, millis: i64, size: usize) -> Ingested {
    let fill = u8::try_from(millis % 251).unwrap();
    let frame = Frame {
        kind,
        dts: Timestamp::from_millis(millis),
        composition_offset: 0,
        payload: Bytes::from(vec![fill; size]),
    };
    Ingested { frame, at: crate::clock::now() }
}

fn read(wire: &Wire, from: u64, to: u64) -> Vec<u8> {
    let mut slices = Slices::new();
    let total = wire.slices(from, to, &mut slices, usize::MAX);
    let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
    assert_eq!(bytes.len(), total);
    bytes
}

/// A small deterministic generator: a test's failing seed is its argument.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn every_reader_sees_the_same_bytes_however_it_cuts_them() {
    for seed in 1..60 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut wire = Wire::new(
            format(Container::Flv),
            &tracks(),
            OPTIONS,
            limits(usize::MAX),
            crate::clock::now(),
        );
        let mut whole = Vec::new();
        let mut at = 0;
        for n in 0..200 {
            let key = n % 25 == 0;
            let size = random.below(if key { 90_000 } else { 9_000 }) as usize;
            let kind = if key { FrameKind::Keyframe } else { FrameKind::Inter };
            let next = frame(kind, n * 40, size);
            let before = whole.len();
            format(Container::Flv).write_frame(&tracks(), &next.frame, OPTIONS, &mut whole);
            wire.append_frame(&tracks(), &next, key);
            assert_eq!(wire.head(), whole.len() as u64);
            // One reader takes random cuts and stays within the lag.
            let to = wire.tail().max(at) + random.below(wire.head() - at.max(wire.tail()) + 1);
            let from = at.max(wire.tail());
            assert_eq!(read(&wire, from, to), whole[from as usize..to as usize], "seed {seed}");
            at = to;
            assert_eq!(wire.boundary_at_or_after(before as u64), before as u64);
            wire.check_invariants();
        }
    }
}

#[test]
fn holds_the_newest_gop_and_the_lag_and_no_more() {
    let mut wire = Wire::new(
        format(Container::Flv),
        &tracks(),
        OPTIONS,
        limits(usize::MAX),
        crate::clock::now(),
    );
    let mut starts = Vec::new();
    for n in 0..1000 {
        if n % 50 == 0 {
            starts.push(wire.head());
        }
        let kind = if n % 50 == 0 { FrameKind::Keyframe } else { FrameKind::Inter };
        wire.append_frame(&tracks(), &frame(kind, n * 20, 5_000), n % 50 == 0);
    }
    wire.check_invariants();
    assert_eq!(wire.join_point(), starts.last().copied());
    // Two seconds of lag before the last keyframe, and the second of its GOP: 150 frames, and
    // blocks are dropped whole.
    assert!(wire.bytes() < 200 * 5_100, "{}", wire.bytes());
    assert!(wire.lag(wire.head()) == Duration::ZERO);
    assert_eq!(wire.lag(starts[19]), Duration::from_millis(49 * 20));
}

#[test]
fn a_gop_over_the_budget_is_cut_and_cannot_be_joined() {
    let mut wire =
        Wire::new(format(Container::Flv), &tracks(), OPTIONS, limits(300_000), crate::clock::now());
    wire.append_frame(&tracks(), &frame(FrameKind::Keyframe, 0, 50_000), true);
    for n in 1..100 {
        wire.append_frame(&tracks(), &frame(FrameKind::Inter, n * 20, 10_000), false);
        wire.check_invariants();
    }
    assert!(wire.head() - wire.tail() <= 300_000 + BLOCK_BYTES as u64);
    assert_eq!(wire.join_point(), None);
}

#[test]
fn rtmp_viewers_get_chunks_with_their_stream_id() {
    let container = Container::Rtmp { message_stream_id: 1, chunk_size: 4096 };
    let mut wire =
        Wire::new(format(container), &tracks(), OPTIONS, limits(usize::MAX), crate::clock::now());
    wire.append_frame(&tracks(), &frame(FrameKind::Keyframe, 0, 5_000), true);
    let bytes = read(&wire, 0, wire.head());
    // Chunk stream 6, fmt 0, timestamp 0, length, type 9, message stream 1 little endian.
    assert_eq!(bytes[..12], [6, 0, 0, 0, 0, 0x13, 0x8d, 9, 1, 0, 0, 0]);
    assert_eq!(bytes[12 + 4096], 0xc6, "a type-3 header after each chunk");
}
