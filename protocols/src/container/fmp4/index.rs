//! Indexes of finished outputs: `sidx` in front of a file of one track, `mfra` at the end of any.

use bytes::BufMut;

use super::TrackKind;
use super::boxes::{put_u16s, put_u32s, write_box, write_full_box};

/// One segment, or one fragment, of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentReference {
    /// Its bytes, at most 31 bits: `moof` and `mdat`, and what stands between it and the last.
    pub bytes: u32,
    /// Its duration in ticks.
    pub duration: u32,
    /// It begins with a keyframe.
    pub starts_with_keyframe: bool,
}

/// What a `sidx` says of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentIndex {
    /// The track of the file.
    pub track: TrackKind,
    /// Its ticks per second.
    pub timescale: u32,
    /// Earliest presentation time of the first segment in ticks.
    pub earliest_presentation_time: u64,
    /// Bytes between the end of the index and the first segment.
    pub first_offset: u64,
}

/// Most references of an index: its count has 16 bits.
const REFERENCES_MAX: usize = u16::MAX as usize;

/// Appends a `sidx` (8.16.3) of these segments in their order, the first 65,535 of them.
pub fn write_segment_index(
    out: &mut Vec<u8>,
    index: &SegmentIndex,
    references: &[SegmentReference],
) {
    let references = &references[..references.len().min(REFERENCES_MAX)];
    write_full_box(out, b"sidx", 1, 0, |out| {
        put_u32s(out, &[index.track.id(), index.timescale]);
        out.put_u64(index.earliest_presentation_time);
        out.put_u64(index.first_offset);
        put_u16s(out, &[0, u16::try_from(references.len()).unwrap_or(u16::MAX)]);
        for reference in references {
            // A keyframe is a stream access point of type 1 or 2; 0 leaves open which.
            let access_point = u32::from(reference.starts_with_keyframe) << 31;
            put_u32s(out, &[reference.bytes & 0x7fff_ffff, reference.duration, access_point]);
        }
    });
}

/// A fragment that begins with a keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomAccessPoint {
    /// Its track.
    pub track: TrackKind,
    /// Presentation time of the keyframe in ticks.
    pub presentation_time: u64,
    /// Where its `moof` begins in the file.
    pub moof_offset: u64,
}

/// Appends an `mfra` (8.8.9): the last box of a finished file, by which players seek in it.
pub fn write_random_access(out: &mut Vec<u8>, points: &[RandomAccessPoint]) {
    let start = out.len();
    write_box(out, b"mfra", |out| {
        for track in [TrackKind::Video, TrackKind::Audio] {
            let of_track = || points.iter().filter(|point| point.track == track);
            let Ok(count) = u32::try_from(of_track().count()) else { continue };
            if count == 0 {
                continue;
            }
            write_full_box(out, b"tfra", 1, 0, |out| {
                // The numbers of `traf`, `trun` and sample take a byte each.
                put_u32s(out, &[track.id(), 0, count]);
                for point in of_track() {
                    out.put_u64(point.presentation_time);
                    out.put_u64(point.moof_offset);
                    out.put_slice(&[1, 1, 1]);
                }
            });
        }
        write_full_box(out, b"mfro", 0, 0, |out| {
            // The size of the whole `mfra`, these four bytes included.
            let bytes = out.len() + 4 - start;
            out.put_u32(u32::try_from(bytes).unwrap_or(u32::MAX));
        });
    });
}
