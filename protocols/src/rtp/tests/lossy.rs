//! A sender and a receiver in virtual time over a path that loses, repeats and reorders packets.

use std::collections::HashMap;
use std::time::Duration;

use super::{CAPTURES, Received, deliver, packets_of, pair};
use crate::fuzzing::virtual_epoch;
use crate::media::{Frame, FrameKind, Timestamp, Tracks};
use crate::rtp::Random;

/// How often a stream is sent after the other, and how long it lasts.
const ROUNDS: i64 = 30;
const ROUND_MS: i64 = 1600;

/// Loss, repetition and displacement of packets in thousandths.
#[derive(Debug, Clone, Copy)]
struct Path {
    loss: u64,
    repetition: u64,
    displacement: u64,
}

/// The video of a capture again and again, times growing.
fn long_stream(capture: usize) -> (Tracks, Vec<Frame>) {
    let received = CAPTURES[capture].received();
    let video = received.of(true);
    let mut frames = Vec::new();
    for round in 0..ROUNDS {
        for frame in &video {
            let mut frame = frame.clone();
            frame.dts = frame.dts + Duration::from_millis((round * ROUND_MS) as u64);
            frames.push(frame);
        }
    }
    let tracks = Tracks { audio: None, ..received.tracks[0].clone() };
    (tracks, frames)
}

/// What happened to the packets of each frame, and in sum.
#[derive(Debug, Default)]
struct Fate {
    lost: u64,
    repeated: u64,
    arrived: u64,
    /// Whether all, or any, packets of a frame arrived.
    whole: Vec<bool>,
    touched: Vec<bool>,
}

fn run(tracks: &Tracks, frames: &[Frame], path: Path, seed: u64) -> (Received, Fate) {
    let mut random = Random(seed);
    let mut hits = |thousandths: u64| random.next() % 1000 < thousandths;
    let (mut sender, mut receiver) = pair(tracks, seed, 600);
    let (mut received, mut fate) = (Received::default(), Fate::default());
    let epoch = virtual_epoch();
    let mut path_queue: Vec<(u8, bytes::Bytes)> = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        let now = epoch + Duration::from_millis(at as u64 * 40);
        let (mut whole, mut touched) = (true, false);
        for (channel, packet) in packets_of(&mut sender, frame) {
            // The ends of the stream are kept, so that both sides count the same packets.
            let end = at == 0 || at + 1 == frames.len();
            if channel.is_multiple_of(2) && !end && hits(path.loss) {
                (whole, fate.lost) = (false, fate.lost + 1);
                continue;
            }
            if channel.is_multiple_of(2) {
                (touched, fate.arrived) = (true, fate.arrived + 1);
            }
            let repeat = channel.is_multiple_of(2) && hits(path.repetition);
            fate.repeated += u64::from(repeat);
            for _ in 0..=u8::from(repeat) {
                path_queue.push((channel, packet.clone()));
                let displaced = path_queue.len() - 1;
                if !end && displaced > 0 && hits(path.displacement) {
                    path_queue.swap(displaced, displaced - 1);
                }
            }
        }
        fate.whole.push(whole);
        fate.touched.push(touched);
        // The last packet stays on the way, to be overtaken.
        let keep = usize::from(at + 1 < frames.len() && path.displacement > 0);
        let ready = path_queue.len().saturating_sub(keep);
        for (channel, packet) in path_queue.drain(..ready) {
            deliver(&mut receiver, now, channel, &packet);
        }
        receiver.handle_timeout(now);
        received.take(&mut receiver);
    }
    let end = epoch + Duration::from_secs(1 << 16);
    receiver.handle_timeout(end);
    receiver.finish(end);
    received.take(&mut receiver);
    received.receiver = Some(receiver);
    (received, fate)
}

/// What must hold whatever was lost.
fn check(frames: &[Frame], received: &Received, fate: &Fate) {
    // The first frame comes always, and tells where the timeline begins.
    let since =
        |frame: &Frame, first: &Frame| Timestamp::from_nanos(frame.pts() - first.pts()).to_millis();
    let known: HashMap<i64, usize> =
        frames.iter().enumerate().map(|(at, frame)| (since(frame, &frames[0]), at)).collect();
    let mut passed = vec![false; frames.len()];
    let mut last = Timestamp::from_nanos(i64::MIN);
    for frame in &received.frames {
        let at = known[&since(frame, &received.frames[0])];
        assert_eq!((frames[at].kind, &frames[at].payload), (frame.kind, &frame.payload));
        assert!(!passed[at] && fate.whole[at], "frame {at}");
        passed[at] = true;
        assert!(frame.dts > last && frame.composition_offset >= 0);
        last = frame.dts;
    }
    let (mut intact, mut gop_whole, mut leading) = (false, false, Timestamp::ZERO);
    for (at, frame) in frames.iter().enumerate() {
        match frame.kind {
            FrameKind::Keyframe => {
                let gop = frames[at + 1..].iter().position(|next| next.kind == FrameKind::Keyframe);
                let gop = at..gop.map_or(frames.len(), |length| at + 1 + length);
                gop_whole = gop.clone().all(|at| fate.whole[at]);
                (intact, leading) = (passed[at], frame.pts());
            }
            // Shown before the keyframe: may refer to what was before it too.
            _ if frame.pts() < leading && !passed[at] => {}
            kind => {
                assert!(!passed[at] || intact, "frame {at} refers to what is missing");
                intact &= passed[at] || kind == FrameKind::Disposable;
            }
        }
        // A GOP of which nothing was lost comes whole, whatever was lost before.
        assert!(passed[at] || !gop_whole || frame.pts() < leading, "frame {at} of a whole GOP");
    }
    let account = received.receiver.as_ref().unwrap().statistics(0);
    assert_eq!((account.lost, account.received), (fate.lost, fate.arrived));
    assert_eq!((account.duplicates, account.late), (fate.repeated, 0));
    let withheld =
        fate.touched.iter().zip(&passed).filter(|(touched, passed)| **touched && !**passed);
    // The rest of a picture right after a gap may be taken for one of its own.
    assert_eq!(account.discarded_frames, withheld.count() as u64);
    assert_eq!(account.moved_frames, 0);
}

#[test]
fn nothing_broken_comes_through() {
    let paths = [(0, 0, 0), (20, 0, 0), (100, 0, 0), (0, 50, 100), (20, 20, 50), (100, 50, 50)];
    let paths =
        paths.map(|(loss, repetition, displacement)| Path { loss, repetition, displacement });
    for capture in [0, 1, 2, 3, 4] {
        let (tracks, frames) = long_stream(capture);
        for path in paths {
            for seed in 1..4 {
                eprintln!("capture {capture}, {path:?}, seed {seed}");
                let (received, fate) = run(&tracks, &frames, path, seed);
                check(&frames, &received, &fate);
                if path.loss == 0 {
                    assert_eq!(received.frames.len(), frames.len());
                } else {
                    assert!(received.frames.len() > frames.len() / 20 && fate.lost > 0);
                }
            }
        }
    }
}
