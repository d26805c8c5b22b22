//! VP8: RFC 7741.

use bytes::Bytes;

use super::pictures::{Closed, PictureFormat};
use super::{PayloadError, append};
use crate::bits::ByteReader;
use crate::codec::{Reordering, vp};
use crate::media::{Codec, FrameKind, Track, VideoInfo};
use crate::rtp::packets::PacketWriter;

/// X, N and S of the descriptor (4.2).
const EXTENDED: u8 = 0x80;
const NON_REFERENCE: u8 = 0x20;
const START: u8 = 0x10;
/// PID: three bits, below one that is reserved.
const PARTITION: u8 = 0x07;
const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];

/// Puts frames together.
#[derive(Debug, Default)]
pub(super) struct Vp8Pictures {
    /// Size of the track told last.
    size: Option<(u32, u32)>,
    non_reference: bool,
    begun: bool,
}

/// The descriptor's first byte, and what follows the descriptor.
fn descriptor(payload: &[u8]) -> Option<(u8, &[u8])> {
    let mut reader = ByteReader::new(payload);
    let first = reader.u8()?;
    if first & EXTENDED != 0 {
        let present = reader.u8()?;
        if present & 0x80 != 0 && reader.u8()? & 0x80 != 0 {
            reader.u8()?;
        }
        if present & 0x40 != 0 {
            reader.u8()?;
        }
        if present & 0x30 != 0 {
            reader.u8()?;
        }
    }
    Some((first, reader.rest()))
}

/// Width and height of a keyframe (RFC 6386 9.1); `None` for other frames.
fn keyframe_size(frame: &[u8]) -> Option<(u32, u32)> {
    let head = frame.first_chunk::<10>()?;
    if head[0] & 1 != 0 || head[3..6] != START_CODE {
        return None;
    }
    let edge = |at: usize| u32::from(u16::from_le_bytes([head[at], head[at + 1]]) & 0x3fff);
    Some((edge(6), edge(8)))
}

impl PictureFormat for Vp8Pictures {
    fn push(
        &mut self,
        payload: &[u8],
        picture: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), PayloadError> {
        let (first, body) = descriptor(payload).ok_or(PayloadError::Truncated)?;
        // Partition 0 begins with the frame.
        let start = first & START != 0 && first & PARTITION == 0;
        if picture.is_empty() {
            self.begun = start;
        }
        if !self.begun {
            return Err(PayloadError::Fragment);
        }
        self.non_reference = first & NON_REFERENCE != 0;
        append(&[body], picture, bytes_max)
    }

    fn close(&mut self, picture: &mut Vec<u8>) -> Option<Closed> {
        let size = keyframe_size(picture);
        let kind = match (size, self.non_reference) {
            (Some(_), _) => FrameKind::Keyframe,
            (None, true) => FrameKind::Disposable,
            (None, false) => FrameKind::Inter,
        };
        let changed = size.filter(|size| self.size != Some(*size));
        let track = changed.map(|(width, height)| {
            self.size = Some((width, height));
            let config = Bytes::copy_from_slice(&vp::build_config(0, 0));
            let info = VideoInfo { width, height, frame_rate: 0.0 };
            (Track { codec: Codec::Vp8, config, info }, Reordering::Pictures(0))
        });
        let has_beginning = std::mem::take(&mut self.begun);
        let configured = self.size.is_some();
        if picture.is_empty() {
            None
        } else {
            Some(Closed { kind, has_beginning, configured, track })
        }
    }

    fn abandon(&mut self) -> bool {
        std::mem::take(&mut self.begun) && self.non_reference
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

/// Writes the packets of a frame.
pub(in crate::rtp) fn write(frame: &[u8], kind: FrameKind, writer: &mut PacketWriter<'_>) {
    let reference = if kind == FrameKind::Disposable { NON_REFERENCE } else { 0 };
    for (at, part) in frame.chunks(writer.payload_max().saturating_sub(1).max(1)).enumerate() {
        writer.packet(&[&[if at == 0 { START } else { 0 } | reference], part]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_every_size() {
        let body = |payload: &[u8]| descriptor(payload).map(|(_, body)| body.to_vec());
        assert_eq!(body(&[0x10, 5]), Some(vec![5]));
        assert_eq!(body(&[0x90, 0x80, 0x11, 5]), Some(vec![5]));
        assert_eq!(body(&[0x90, 0xf0, 0x81, 0x11, 0x22, 0x33, 5]), Some(vec![5]));
        assert_eq!(body(&[0x90, 0xc0, 0x81, 0x11]), None);
        assert_eq!(body(&[]), None);
    }

    #[test]
    fn a_frame_begins_with_its_first_partition() {
        let mut pictures = Vp8Pictures::default();
        let mut picture = Vec::new();
        let push = |pictures: &mut Vp8Pictures, picture: &mut _, payload: &[u8]| {
            pictures.push(payload, picture, 100)
        };
        assert_eq!(push(&mut pictures, &mut picture, &[0x00, 1]), Err(PayloadError::Fragment));
        assert_eq!(push(&mut pictures, &mut picture, &[0x11, 1]), Err(PayloadError::Fragment));
        assert_eq!(push(&mut pictures, &mut picture, &[0x14, 1]), Err(PayloadError::Fragment));
        // Reserved bits are ignored.
        let head = [0x58, 0x00, 0, 0, 0x9d, 0x01, 0x2a, 0xa0, 0x00, 0x5a, 0x40];
        assert_eq!(push(&mut pictures, &mut picture, &head), Ok(()));
        let closed = pictures.close(&mut picture).unwrap();
        assert_eq!((closed.kind, closed.has_beginning), (FrameKind::Keyframe, true));
        let info = closed.track.unwrap().0.info;
        assert_eq!((info.width, info.height), (160, 90));
        picture.clear();
        assert_eq!(push(&mut pictures, &mut picture, &[0x30, 1]), Ok(()));
        assert!(pictures.abandon());
        picture.clear();
        assert_eq!(push(&mut pictures, &mut picture, &[0x10; 200]), Err(PayloadError::TooLong));
    }
}
