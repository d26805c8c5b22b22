//! Fuzz bodies of the transport stream.

use std::collections::VecDeque;
use std::time::Duration;

use super::scan::Scanner;
use super::{Damage, Demuxer, Muxer, PACKET_BYTES, psi, stream_type};
use crate::container::Item;
use crate::fuzzing::Target;

/// Every target by name.
pub const TARGETS: &[(&str, Target)] =
    &[("ts_demuxer", ts_demuxer), ("ts_psi", ts_psi), ("ts_scan", ts_scan)];

/// A transport stream, arriving in pieces of sizes the data picks. What comes out goes through the
/// muxer, and what that writes must be read without damage.
pub fn ts_demuxer(data: &[u8]) {
    let (mut demuxer, mut items) = (Demuxer::new(1 << 16), VecDeque::new());
    let mut rest = data;
    while let Some(first) = rest.first() {
        let (piece, next) = rest.split_at((usize::from(*first) * 8 + 1).min(rest.len()));
        rest = next;
        if demuxer.push(piece, &mut items).is_err() {
            break;
        }
    }
    demuxer.finish(&mut items);
    let (mut muxer, mut out) = (None, Vec::new());
    for item in items {
        match (item, &mut muxer) {
            (Item::Tracks(tracks), None) => muxer = Some(Muxer::new(&tracks)),
            (Item::Tracks(tracks), Some(muxer)) => muxer.set_tracks(&tracks),
            (Item::Frame(frame), Some(muxer)) => {
                if muxer.tables_due(&frame) {
                    muxer.write_tables(&mut out);
                }
                muxer.write_frame(&frame, &mut out);
            }
            (Item::Frame(_), None) => debug_assert!(false, "a frame before its tracks"),
        }
    }
    let (mut again, mut items) = (Demuxer::new(1 << 20), VecDeque::new());
    let read = again.push(&out, &mut items);
    again.finish(&mut items);
    // What stands inside the frames may be nonsense still.
    let mut damage = again.damage();
    (damage.skipped_audio_bytes, damage.damaged_pes) = (0, 0);
    debug_assert!(read.is_ok() && damage == Damage::default(), "{damage:?}");
}

/// A transport stream in pieces, cut wherever it can be: segments are whole packets of it.
pub fn ts_scan(data: &[u8]) {
    let (mut scanner, mut rest) = (Scanner::new(Duration::ZERO), data);
    while let Some(first) = rest.first() {
        let (piece, next) = rest.split_at((usize::from(*first) * 8 + 1).min(rest.len()));
        rest = next;
        if scanner.push(piece).is_err() {
            return;
        }
    }
    let Ok(cuts) = scanner.finish() else { return };
    let ranges = || cuts.segments.iter().flat_map(|segment| &segment.ranges);
    let inside = ranges().all(|range| range.start < range.end && range.end <= data.len() as u64);
    let whole = ranges().all(|range| (range.end - range.start) % PACKET_BYTES as u64 == 0);
    debug_assert!(inside && whole && !cuts.segments.is_empty(), "{cuts:?}");
}

/// Sections and what is in them.
pub fn ts_psi(data: &[u8]) {
    let mut reader = psi::SectionReader::default();
    let read = |section: &[u8]| {
        let _ = (psi::is_intact(section), psi::parse_pat(section).map(Iterator::count));
        for stream in psi::parse_pmt(section).map(|(_, streams)| streams).unwrap_or_default() {
            let _ = stream_type::format(&stream);
        }
    };
    read(data);
    for (at, payload) in data.chunks(184).enumerate() {
        reader.push(at == 0 || payload.first() == Some(&0), payload, |section, _| read(section));
    }
}
