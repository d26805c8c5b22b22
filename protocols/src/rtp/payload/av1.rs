//! AV1: RTP Payload Format For AV1 1.0 (AOM), without spatial layers.

use bytes::Bytes;

use super::PayloadError;
use super::av1_sequence::config_record;
use super::pictures::{Closed, PictureFormat};
use crate::codec::Reordering;
use crate::codec::av1::{self, leb128};
use crate::media::{Codec, FrameKind, Track};
use crate::rtp::packets::PacketWriter;

/// Types of OBUs (AV1 bitstream 6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;
/// `obu_extension_flag` and `obu_has_size_field`.
const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;
/// Z, Y and N of the aggregation header (4.4), and W of 1.
const CONTINUES: u8 = 0x80;
const UNFINISHED: u8 = 0x40;
const NEW_SEQUENCE: u8 = 0x08;
const ONE_ELEMENT: u8 = 0x10;
/// Largest sequence header kept.
const SEQUENCE_BYTES_MAX: usize = 512;

/// Puts temporal units together.
#[derive(Debug, Default)]
pub(super) struct Av1Pictures {
    /// An OBU of which the rest comes in the next packet.
    unfinished: Vec<u8>,
    /// The sequence header, as an OBU with its size, and the record made of it.
    sequence: Vec<u8>,
    record: Bytes,
    changed: bool,
    sequence_seen: bool,
    /// The first frame of the open temporal unit is a keyframe.
    keyframe: Option<bool>,
}

impl Av1Pictures {
    /// Takes a whole OBU; puts it into the picture with its size.
    fn on_obu(
        &mut self,
        obu: &[u8],
        picture: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), PayloadError> {
        let Some(obu) = Obu::split(obu).map(|(obu, _)| obu) else {
            return Err(PayloadError::Truncated);
        };
        if obu.extension.is_some_and(|extension| extension & 0x18 != 0) {
            return Err(PayloadError::Unsupported);
        }
        match obu.kind() {
            TEMPORAL_DELIMITER | TILE_LIST | PADDING => return Ok(()),
            FRAME_HEADER | FRAME if self.keyframe.is_none() => {
                // `show_existing_frame` 0 and `frame_type` `KEY_FRAME`.
                self.keyframe = Some(obu.payload.first().is_some_and(|byte| byte & 0xe0 == 0));
            }
            _ => {}
        }
        let begin = picture.len();
        if begin.saturating_add(obu.payload.len() + 10) > bytes_max {
            return Err(PayloadError::TooLong);
        }
        obu.write_sized(picture);
        if obu.kind() == SEQUENCE_HEADER {
            self.on_sequence(picture.get(begin..).unwrap_or_default(), obu.payload);
        }
        Ok(())
    }

    fn on_sequence(&mut self, sized: &[u8], payload: &[u8]) {
        self.sequence_seen = true;
        if self.sequence == sized || sized.len() > SEQUENCE_BYTES_MAX {
            return;
        }
        if let Some(record) = config_record(sized, payload) {
            self.sequence = sized.to_vec();
            self.record = record.into();
            self.changed = true;
        }
    }

    fn reset(&mut self) {
        self.unfinished.clear();
        (self.sequence_seen, self.keyframe) = (false, None);
    }
}

impl PictureFormat for Av1Pictures {
    fn push(
        &mut self,
        payload: &[u8],
        picture: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), PayloadError> {
        let (aggregation, mut rest) = payload.split_first().ok_or(PayloadError::Truncated)?;
        let count = usize::from(aggregation >> 4 & 3);
        let mut continues = aggregation & CONTINUES != 0;
        if continues == self.unfinished.is_empty() {
            return Err(PayloadError::Fragment);
        }
        let mut at = 0;
        while !rest.is_empty() {
            at += 1;
            let element;
            if count > 0 && at == count {
                (element, rest) = (rest, &[][..]);
            } else {
                let (length, bytes) = leb128(rest).ok_or(PayloadError::Truncated)?;
                let behind = rest.get(bytes..).unwrap_or_default();
                (element, rest) = behind.split_at_checked(length).ok_or(PayloadError::Truncated)?;
            }
            if self.unfinished.len().saturating_add(element.len()) > bytes_max {
                return Err(PayloadError::TooLong);
            }
            let stays_open = rest.is_empty() && aggregation & UNFINISHED != 0;
            if continues || stays_open {
                self.unfinished.extend_from_slice(element);
            }
            if stays_open {
                continue;
            }
            if continues {
                let obu = std::mem::take(&mut self.unfinished);
                self.on_obu(&obu, picture, bytes_max)?;
            } else if !element.is_empty() {
                self.on_obu(element, picture, bytes_max)?;
            }
            continues = false;
        }
        Ok(())
    }

    fn close(&mut self, _picture: &mut Vec<u8>) -> Option<Closed> {
        let whole = self.unfinished.is_empty();
        let has_beginning = self.sequence_seen;
        let keyframe = self.keyframe;
        self.reset();
        let configured = whole && !self.record.is_empty();
        let kind = if keyframe? { FrameKind::Keyframe } else { FrameKind::Inter };
        let told = kind == FrameKind::Keyframe && std::mem::take(&mut self.changed);
        let track = told.then(|| {
            let info = av1::parse_config(&self.record).map(|config| config.info);
            let info = info.unwrap_or_default();
            // Temporal units come in the order they are shown in.
            (
                Track { codec: Codec::Av1, config: self.record.clone(), info },
                Reordering::Pictures(0),
            )
        });
        Some(Closed { kind, has_beginning, configured, track })
    }

    fn abandon(&mut self) -> bool {
        self.reset();
        false
    }

    fn memory_bytes(&self) -> usize {
        self.unfinished.capacity() + self.sequence.len() + self.record.len()
    }
}

/// One open bitstream unit.
struct Obu<'a> {
    header: u8,
    extension: Option<u8>,
    payload: &'a [u8],
}

impl<'a> Obu<'a> {
    /// The unit at the front of `bytes`, and what follows it; one without a size takes all.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, mut rest) = bytes.split_first()?;
        let mut extension = None;
        if header & HAS_EXTENSION != 0 {
            let (byte, behind) = rest.split_first()?;
            (extension, rest) = (Some(*byte), behind);
        }
        let mut size = rest.len();
        if header & HAS_SIZE != 0 {
            let (stated, bytes) = leb128(rest)?;
            (size, rest) = (stated, rest.get(bytes..)?);
        }
        let (payload, rest) = rest.split_at_checked(size)?;
        Some((Self { header: *header, extension, payload }, rest))
    }

    fn kind(&self) -> u8 {
        self.header >> 3 & 0x0f
    }

    /// The unit with its size, as temporal units have it.
    fn write_sized(&self, out: &mut Vec<u8>) {
        out.push(self.header | HAS_SIZE);
        out.extend(self.extension);
        let mut size = self.payload.len();
        while size >= 0x80 {
            out.push((size & 0x7f) as u8 | 0x80);
            size >>= 7;
        }
        out.push(size as u8);
        out.extend_from_slice(self.payload);
    }
}

/// Writes the packets of a temporal unit: one OBU, or a part of one, to a packet.
pub(in crate::rtp) fn write(
    mut temporal_unit: &[u8],
    keyframe: bool,
    writer: &mut PacketWriter<'_>,
) {
    let mut first = keyframe;
    while let Some((obu, rest)) = Obu::split(temporal_unit) {
        temporal_unit = rest;
        if matches!(obu.kind(), TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            continue;
        }
        let header = [obu.header & !HAS_SIZE, obu.extension.unwrap_or(0)];
        let header = if obu.extension.is_some() { &header[..] } else { &header[..1] };
        let mut payload = obu.payload;
        let (mut head, mut continues) = (header, 0);
        loop {
            let room = writer.payload_max().saturating_sub(1 + head.len()).max(1);
            let (part, behind) = payload.split_at(room.min(payload.len()));
            payload = behind;
            let unfinished = if payload.is_empty() { 0 } else { UNFINISHED };
            let new = if std::mem::take(&mut first) { NEW_SEQUENCE } else { 0 };
            writer.packet(&[&[continues | unfinished | ONE_ELEMENT | new], head, part]);
            (head, continues) = (&[], CONTINUES);
            if payload.is_empty() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(pictures: &mut Av1Pictures, payload: &[u8]) -> Result<Vec<u8>, PayloadError> {
        let mut picture = Vec::new();
        pictures.push(payload, &mut picture, 256).map(|()| picture)
    }

    #[test]
    fn elements_of_every_kind_of_packet() {
        // Three elements, the last one without a length: delimiter, metadata, frame.
        let packet = [0x30, 1, 0x10, 2, 0x28, 9, 0x30, 0x10, 7];
        let mut pictures = Av1Pictures::default();
        assert_eq!(push(&mut pictures, &packet), Ok(vec![0x2a, 1, 9, 0x32, 2, 0x10, 7]));
        assert_eq!(pictures.keyframe, Some(true));
        // All with a length; one whose own size is there already.
        let packet = [0x00, 2, 0x28, 9, 3, 0x2a, 1, 8];
        let read = push(&mut Av1Pictures::default(), &packet);
        assert_eq!(read, Ok(vec![0x2a, 1, 9, 0x2a, 1, 8]));
    }

    #[test]
    fn fragments_follow_each_other() {
        let mut pictures = Av1Pictures::default();
        assert_eq!(push(&mut pictures, &[0x50, 0x30, 0x10]), Ok(Vec::new()));
        assert_eq!(push(&mut pictures, &[0xd0, 7]), Ok(Vec::new()));
        assert_eq!(push(&mut pictures, &[0x90, 8]), Ok(vec![0x32, 3, 0x10, 7, 8]));
        let refused = |packets: &[&[u8]]| {
            let mut pictures = Av1Pictures::default();
            packets.iter().map(|payload| push(&mut pictures, payload)).last().unwrap().unwrap_err()
        };
        assert_eq!(refused(&[&[0x90, 8]]), PayloadError::Fragment);
        assert_eq!(refused(&[&[0x50, 0x30], &[0x10, 0x30]]), PayloadError::Fragment);
        assert_eq!(refused(&[&[0x00, 9, 0x30]]), PayloadError::Truncated);
        assert_eq!(refused(&[&[]]), PayloadError::Truncated);
        assert_eq!(refused(&[&[0x10, 0x34, 0x08, 1]]), PayloadError::Unsupported);
        assert_eq!(refused(&[&[0x50, 0x30], &[0xd0; 300]]), PayloadError::TooLong);
    }
}
