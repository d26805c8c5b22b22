//! The framing of an FLV byte stream: file header, tag headers, back pointers (annex E.2, E.3).

use bytes::{Buf, Bytes, BytesMut};

use super::FlvError;
use crate::bits::ByteReader;

/// Bytes of the file header together with the back pointer that follows it.
pub const HEADER_BYTES: usize = 13;
/// Bytes of a tag header.
pub const TAG_HEADER_BYTES: usize = 11;
/// Largest file header passed over.
const DATA_OFFSET_MAX: u32 = 1024;
const BACK_POINTER_BYTES: usize = 4;

/// What a tag holds; the values are those of FLV tags and of RTMP messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TagType {
    /// Sound.
    Audio = 8,
    /// Pictures.
    Video = 9,
    /// AMF0 script data.
    Script = 18,
}

impl TagType {
    /// From the value in a tag or message header.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            8 => Some(Self::Audio),
            9 => Some(Self::Video),
            18 => Some(Self::Script),
            _ => None,
        }
    }
}

/// The file header and the first back pointer (E.2, E.3).
pub fn header(has_audio: bool, has_video: bool) -> [u8; HEADER_BYTES] {
    let flags = u8::from(has_audio) << 2 | u8::from(has_video);
    [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]
}

/// Appends one tag to `out`: header, the `parts` as its body, back pointer (E.4.1).
/// `timestamp_ms` is milliseconds. A body of more than 16,777,215 bytes has no form in FLV:
/// nothing is written.
pub fn write_tag(out: &mut Vec<u8>, tag: TagType, timestamp_ms: u32, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let Some(length) = u32::try_from(length).ok().filter(|length| *length < 1 << 24) else {
        return;
    };
    let [extended, high, middle, low] = timestamp_ms.to_be_bytes();
    out.push(tag as u8);
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[high, middle, low, extended, 0, 0, 0]);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&(length + TAG_HEADER_BYTES as u32).to_be_bytes());
}

/// Takes an FLV byte stream apart as it arrives.
#[derive(Debug)]
pub struct TagReader {
    body_bytes_max: usize,
    header_done: bool,
    /// Bytes still to pass over before the next tag header.
    skip: usize,
}

impl TagReader {
    /// A reader at the file header that refuses bodies of more than `body_bytes_max` bytes.
    pub const fn new(body_bytes_max: usize) -> Self {
        Self { body_bytes_max, header_done: false, skip: 0 }
    }

    /// Takes the next tag from the front of `input`: type, timestamp in milliseconds, body. `None`
    /// when more bytes are needed. Tags of other types are passed over.
    ///
    /// # Errors
    /// The stream does not begin with an FLV header, or a tag is too large; the stream is lost.
    pub fn next_tag(
        &mut self,
        input: &mut BytesMut,
    ) -> Result<Option<(TagType, u32, Bytes)>, FlvError> {
        loop {
            let skipped = self.skip.min(input.len());
            input.advance(skipped);
            self.skip -= skipped;
            if self.skip > 0 {
                return Ok(None);
            }
            if !self.header_done {
                let Some(data_offset) = read_header(input)? else { return Ok(None) };
                self.header_done = true;
                self.skip = data_offset + BACK_POINTER_BYTES;
                continue;
            }
            let Some((tag, length, timestamp)) = read_tag_header(input) else { return Ok(None) };
            if length as usize > self.body_bytes_max {
                return Err(FlvError::TagTooLarge(length));
            }
            let end = TAG_HEADER_BYTES + length as usize;
            let Some(tag) = TagType::from_u8(tag) else {
                self.skip = end + BACK_POINTER_BYTES;
                continue;
            };
            if input.len() < end {
                return Ok(None);
            }
            let mut body = input.split_to(end).freeze();
            body.advance(TAG_HEADER_BYTES);
            self.skip = BACK_POINTER_BYTES;
            return Ok(Some((tag, timestamp, body)));
        }
    }
}

fn read_header(input: &[u8]) -> Result<Option<usize>, FlvError> {
    let known = input.len().min(4);
    if input[..known] != b"FLV\x01"[..known] {
        return Err(FlvError::NotFlv);
    }
    let mut reader = ByteReader::new(input);
    let Some(data_offset) = reader.bytes(5).and_then(|_| reader.u32()) else { return Ok(None) };
    if !(9..=DATA_OFFSET_MAX).contains(&data_offset) {
        return Err(FlvError::NotFlv);
    }
    Ok(Some(data_offset as usize))
}

/// Type, body length and timestamp; `None` when the header is not complete.
fn read_tag_header(input: &[u8]) -> Option<(u8, u32, u32)> {
    let mut reader = ByteReader::new(input);
    let tag = reader.u8()?;
    let length = reader.u24()?;
    let low = reader.u24()?;
    let high = u32::from(reader.u8()?);
    reader.u24()?;
    Some((tag, length, high << 24 | low))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tags_survive_any_split(
            tags in prop::collection::vec((0usize..3, any::<u32>(), prop::collection::vec(any::<u8>(), 0..60)), 0..8),
            step in 1usize..40,
        ) {
            let kinds = [TagType::Audio, TagType::Video, TagType::Script];
            let mut bytes = header(true, true).to_vec();
            for (kind, timestamp, body) in &tags {
                let (head, tail) = body.split_at(body.len() / 3);
                write_tag(&mut bytes, kinds[*kind], *timestamp, &[head, tail]);
            }
            let (mut reader, mut input, mut found) = (TagReader::new(100), BytesMut::new(), Vec::new());
            for chunk in bytes.chunks(step) {
                input.extend_from_slice(chunk);
                while let Some(tag) = reader.next_tag(&mut input).unwrap() {
                    found.push(tag);
                }
            }
            let expected: Vec<_> = tags.into_iter()
                .map(|(kind, timestamp, body)| (kinds[kind], timestamp, Bytes::from(body)))
                .collect();
            prop_assert_eq!(found, expected);
            prop_assert!(input.is_empty());
        }
    }

    #[test]
    fn other_tags_are_passed_over_and_bad_streams_refused() {
        let mut bytes = header(false, true).to_vec();
        write_tag(&mut bytes, TagType::Video, 1, &[&[1; 5]]);
        bytes[HEADER_BYTES] = 15;
        write_tag(&mut bytes, TagType::Video, 0x0102_0304, &[&[2]]);
        let mut input = BytesMut::from(&bytes[..]);
        let tag = TagReader::new(5).next_tag(&mut input).unwrap();
        assert_eq!(tag, Some((TagType::Video, 0x0102_0304, Bytes::from_static(&[2]))));

        let refused = |bytes: &[u8]| TagReader::new(4).next_tag(&mut BytesMut::from(bytes));
        assert_eq!(refused(b"GET"), Err(FlvError::NotFlv));
        assert_eq!(refused(b"FLV\x01\x05\xff\xff\xff\xff"), Err(FlvError::NotFlv));
        assert_eq!(refused(&bytes), Err(FlvError::TagTooLarge(5)));
        assert_eq!(refused(b"FLV"), Ok(None));
    }

    #[test]
    fn a_body_that_does_not_fit_is_not_written() {
        let mut out = Vec::new();
        write_tag(&mut out, TagType::Video, 0, &[&vec![0; 1 << 24]]);
        assert!(out.is_empty());
    }
}
