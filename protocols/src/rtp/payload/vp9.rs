//! VP9: RFC 9628, one spatial layer.

use bytes::Bytes;

use super::pictures::{Closed, PictureFormat};
use super::{PayloadError, append};
use crate::bits::{BitReader, ByteReader};
use crate::codec::{Reordering, vp};
use crate::media::{Codec, FrameKind, Track, VideoInfo};
use crate::rtp::packets::PacketWriter;

/// Bits of the descriptor (4.2): picture id, inter-predicted, layers, flexible, start, end, scalability.
const PICTURE_ID: u8 = 0x80;
const INTER: u8 = 0x40;
const LAYERS: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const START: u8 = 0x08;
const END: u8 = 0x04;
const SCALABILITY: u8 = 0x02;
/// Most reference indices of a flexible frame.
const REFERENCES_MAX: usize = 3;

/// Puts frames together.
#[derive(Debug, Default)]
pub(super) struct Vp9Pictures {
    /// Of the track told last.
    head: Option<Head>,
    begun: bool,
    ended: bool,
}

/// What the uncompressed header of a keyframe says (VP9 bitstream 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    profile: u8,
    /// Bits per sample.
    depth: u8,
    /// `chroma_subsampling` of the configuration record.
    chroma: u8,
    width: u32,
    height: u32,
}

/// The descriptor's first byte, and what follows the descriptor.
fn descriptor(payload: &[u8]) -> Result<(u8, &[u8]), PayloadError> {
    let mut reader = ByteReader::new(payload);
    let mut byte = || reader.u8().ok_or(PayloadError::Truncated);
    let first = byte()?;
    if first & PICTURE_ID != 0 && byte()? & 0x80 != 0 {
        byte()?;
    }
    if first & LAYERS != 0 {
        if byte()? & 0x0e != 0 {
            return Err(PayloadError::Unsupported);
        }
        if first & FLEXIBLE == 0 {
            byte()?;
        }
    }
    if first & FLEXIBLE != 0 && first & INTER != 0 {
        let mut count = 1;
        while byte()? & 1 != 0 {
            count += 1;
            if count > REFERENCES_MAX {
                return Err(PayloadError::Unsupported);
            }
        }
    }
    if first & SCALABILITY != 0 {
        skip_scalability(&mut byte)?;
    }
    Ok((first, reader.rest()))
}

/// The scalability structure (4.2.1).
fn skip_scalability(
    byte: &mut impl FnMut() -> Result<u8, PayloadError>,
) -> Result<(), PayloadError> {
    let head = byte()?;
    let layers = (head >> 5) + 1;
    if head & 0x10 != 0 {
        (0..4 * layers).try_for_each(|_| byte().map(drop))?;
    }
    if head & 0x08 != 0 {
        for _ in 0..byte()? {
            let references = byte()? >> 2 & 3;
            (0..references).try_for_each(|_| byte().map(drop))?;
        }
    }
    Ok(())
}

/// Reads the header of a keyframe; `None` for other frames.
fn keyframe_head(frame: &[u8]) -> Option<Head> {
    let mut reader = BitReader::new(frame);
    if reader.bits(2)? != 2 {
        return None;
    }
    let (low, high) = (reader.bits(1)?, reader.bits(1)?);
    let profile = high << 1 | low;
    if profile == 3 {
        reader.skip(1)?;
    }
    // `show_existing_frame` and `frame_type`, where 0 is a keyframe.
    if reader.flag()? || reader.flag()? {
        return None;
    }
    reader.skip(2)?;
    if reader.bits(24)? != 0x49_8342 {
        return None;
    }
    let deep = profile >= 2;
    let depth = if deep && reader.flag()? { 12 } else { 8 + 2 * u8::from(deep) };
    let srgb = reader.bits(3)? == 7;
    let odd = profile & 1 == 1;
    let chroma = if srgb {
        reader.skip(usize::from(odd))?;
        3
    } else {
        reader.skip(1)?;
        let both = if odd { (reader.flag()?, reader.flag()?) } else { (true, true) };
        reader.skip(usize::from(odd))?;
        match both {
            (true, true) => 1,
            (true, false) => 2,
            _ => 3,
        }
    };
    let (width, height) = (reader.bits(16)? + 1, reader.bits(16)? + 1);
    Some(Head { profile: u8::try_from(profile).ok()?, depth, chroma, width, height })
}

impl PictureFormat for Vp9Pictures {
    fn push(
        &mut self,
        payload: &[u8],
        picture: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), PayloadError> {
        let (first, body) = descriptor(payload)?;
        if picture.is_empty() {
            self.begun = first & START != 0;
        }
        if !self.begun {
            return Err(PayloadError::Fragment);
        }
        append(&[body], picture, bytes_max)?;
        self.ended = first & END != 0;
        Ok(())
    }

    fn close(&mut self, picture: &mut Vec<u8>) -> Option<Closed> {
        let head = keyframe_head(picture);
        let kind = if head.is_some() { FrameKind::Keyframe } else { FrameKind::Inter };
        let whole = std::mem::take(&mut self.ended);
        let changed = head.filter(|head| whole && self.head != Some(*head));
        let track = changed.map(|head| {
            self.head = Some(head);
            let mut config = vp::build_config(head.profile, 0);
            config[2] = head.depth << 4 | head.chroma << 1;
            let info = VideoInfo { width: head.width, height: head.height, frame_rate: 0.0 };
            let config = Bytes::copy_from_slice(&config);
            (Track { codec: Codec::Vp9, config, info }, Reordering::Pictures(0))
        });
        let has_beginning = std::mem::take(&mut self.begun);
        let configured = whole && self.head.is_some();
        if picture.is_empty() {
            None
        } else {
            Some(Closed { kind, has_beginning, configured, track })
        }
    }

    fn abandon(&mut self) -> bool {
        (self.begun, self.ended) = (false, false);
        false
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

/// Writes the packets of a frame.
pub(in crate::rtp) fn write(frame: &[u8], kind: FrameKind, writer: &mut PacketWriter<'_>) {
    let inter = if kind == FrameKind::Keyframe { 0 } else { INTER };
    let size = writer.payload_max().saturating_sub(1).max(1);
    let last = frame.len().div_ceil(size).max(1) - 1;
    for (at, part) in frame.chunks(size).enumerate() {
        let start = if at == 0 { START } else { 0 };
        writer.packet(&[&[inter | start | if at == last { END } else { 0 }], part]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_every_size() {
        let body = |payload: &[u8]| descriptor(payload).map(|(_, body)| body.to_vec());
        assert_eq!(body(&[0x0c, 5]), Ok(vec![5]));
        assert_eq!(body(&[0xac, 0x81, 0x11, 0x20, 0x07, 5]), Ok(vec![5]));
        // Flexible, two references, scalability structure with sizes and two pictures.
        let full = [0xfe, 0x11, 0x00, 0x03, 0x04, 0x18, 0, 160, 0, 90, 2, 0x04, 1, 0x08, 1, 2, 5];
        assert_eq!(body(&full), Ok(vec![5]));
        for end in 0..full.len() - 1 {
            assert_eq!(body(&full[..end]), Err(PayloadError::Truncated), "{end}");
        }
        assert_eq!(body(&[0x2c, 0x02, 0, 5]), Err(PayloadError::Unsupported));
        assert_eq!(body(&[0x5c, 1, 1, 1, 0, 5]), Err(PayloadError::Unsupported));
    }
}
