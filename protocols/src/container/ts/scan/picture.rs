//! Whether a PES packet begins with a picture that a decoder can start at: NAL units up to its first
//! slice are looked at, as they come.

use crate::codec::nal::{UnitRole, start_code};
use crate::codec::{h264, h265};
use crate::container::ts::stream_type::Format;

/// Bytes before the first slice that are searched, and NAL units among them.
const FRONT_BYTES_MAX: usize = 32 << 10;
const FRONT_UNITS_MAX: usize = 256;
/// Bytes of a slice that tell whether it is the first of its picture.
const SLICE_HEAD_BYTES: usize = 3;
const START_CODE_BYTES: usize = 3;

/// What a PES packet begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Front {
    /// A keyframe with its parameter sets; those of the sequence.
    Keyframe(Vec<u8>),
    /// Anything else.
    Other,
}

/// The front of one PES packet.
#[derive(Debug)]
pub(super) struct FrontReader {
    is_h264: bool,
    bytes: Vec<u8>,
    /// Where NAL units begin.
    units: Vec<usize>,
    /// Units whose role was looked at; they are no slices.
    passed: usize,
    /// Bytes that were searched for start codes.
    searched: usize,
}

impl FrontReader {
    pub(super) fn new(format: Format) -> Self {
        let is_h264 = format == Format::H264;
        Self { is_h264, bytes: Vec::new(), units: Vec::new(), passed: 0, searched: 0 }
    }

    /// A PES packet begins.
    pub(super) fn begin(&mut self) {
        self.bytes.clear();
        self.units.clear();
        (self.passed, self.searched) = (0, 0);
    }

    /// Takes the next bytes of the payload; tells what it begins with once that is known.
    pub(super) fn push(&mut self, payload: &[u8]) -> Option<Front> {
        self.bytes.extend_from_slice(payload);
        while let Some(at) = self.bytes.get(self.searched..).and_then(start_code) {
            self.searched += at + START_CODE_BYTES;
            self.units.push(self.searched);
        }
        // A start code may be cut in two here.
        let tail = self.bytes.len().saturating_sub(START_CODE_BYTES - 1);
        self.searched = self.searched.max(tail);
        while let Some(begin) = self.units.get(self.passed) {
            let unit = self.bytes.get(*begin..).unwrap_or_default();
            if unit.len() < SLICE_HEAD_BYTES {
                break;
            }
            match self.role(unit) {
                UnitRole::FirstSlice => return Some(self.judge(unit)),
                UnitRole::Slice => return Some(Front::Other),
                _ => self.passed += 1,
            }
        }
        let too_long = self.bytes.len() > FRONT_BYTES_MAX || self.units.len() > FRONT_UNITS_MAX;
        too_long.then_some(Front::Other)
    }

    fn role(&self, unit: &[u8]) -> UnitRole {
        if self.is_h264 { h264::unit_role(unit) } else { h265::unit_role(unit) }
    }

    /// What the picture of this slice is, from it and what stands before it.
    fn judge(&self, slice: &[u8]) -> Front {
        let mut keyframe =
            if self.is_h264 { h264::is_idr_slice(slice) } else { h265::is_irap_slice(slice) };
        let (mut sequence, mut has_picture_set, mut has_video_set) = (Vec::new(), false, false);
        for pair in self.units.get(..=self.passed).unwrap_or_default().windows(2) {
            let [begin, next] = pair else { continue };
            let end = next.saturating_sub(START_CODE_BYTES);
            let mut unit = self.bytes.get(*begin..end).unwrap_or_default();
            while let [front @ .., 0] = unit {
                unit = front;
            }
            match self.role(unit) {
                UnitRole::SequenceParameterSet => sequence.extend_from_slice(unit),
                UnitRole::PictureParameterSet => has_picture_set = true,
                UnitRole::VideoParameterSet => has_video_set = true,
                _ => keyframe |= self.is_h264 && h264::is_recovery_point(unit),
            }
        }
        let has_sets = !sequence.is_empty() && has_picture_set && (self.is_h264 || has_video_set);
        if keyframe && has_sets { Front::Keyframe(sequence) } else { Front::Other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: &[u8] = &[0, 0, 0, 1, 0x67, 1, 2, 3];
    const PPS: &[u8] = &[0, 0, 1, 0x68, 4, 5];
    const RECOVERY: &[u8] = &[0, 0, 1, 6, 6, 1, 0xc0, 0x80];

    fn front(pieces: &[&[u8]], step: usize) -> Option<Front> {
        let (mut reader, bytes) = (FrontReader::new(Format::H264), pieces.concat());
        reader.begin();
        bytes.chunks(step).find_map(|piece| reader.push(piece))
    }

    #[test]
    fn keyframes_need_their_parameter_sets() {
        let (idr, inter, second) = ([0, 0, 1, 0x65, 0x88, 9], [0, 0, 1, 0x41, 0x9a, 9], 0x40);
        let later = [0, 0, 1, 0x65, second, 9];
        let keyframe = Some(Front::Keyframe(vec![0x67, 1, 2, 3]));
        for step in 1..20 {
            assert_eq!(front(&[SPS, PPS, &idr], step), keyframe, "{step}");
            assert_eq!(front(&[SPS, PPS, RECOVERY, &inter], step), keyframe, "{step}");
            for other in [
                &[SPS, &idr][..],
                &[PPS, &idr],
                &[&idr],
                &[SPS, PPS, &inter],
                &[SPS, PPS, &later],
                &[&inter, SPS, PPS, &idr],
            ] {
                assert_eq!(front(other, step), Some(Front::Other), "{step} {other:?}");
            }
            assert_eq!(front(&[SPS, PPS], step), None);
        }
    }

    #[test]
    fn the_search_ends() {
        assert_eq!(front(&[&[7; FRONT_BYTES_MAX + 1]], 184), Some(Front::Other));
        assert_eq!(front(&[&[0, 0, 1, 9, 0xf0].repeat(300)], 184), Some(Front::Other));
    }
}
