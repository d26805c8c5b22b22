//! Stateless packaging of one message into chunks, for the egress hot path.

use super::message::MESSAGE_BYTES_MAX;

/// A timestamp field with this value says that the extended field follows (clause 5.3.1.3).
pub const EXTENDED_TIMESTAMP: u32 = 0xFF_FFFF;

/// Lowest chunk stream id a message may use (clause 5.3.1.1).
pub const CHUNK_STREAM_ID_MIN: u32 = 2;
/// Highest chunk stream id three bytes can say (clause 5.3.1.1).
pub const CHUNK_STREAM_ID_MAX: u32 = 65_599;

/// Longest basic header plus extended timestamp of a continuation chunk, in bytes.
const CONTINUATION_BYTES_MAX: usize = 3 + 4;
/// Longest header of a first chunk: basic, message, extended timestamp, in bytes.
const FIRST_BYTES_MAX: usize = 3 + 11 + 4;

/// Appends one message to `out`: a type 0 chunk and as many type 3 chunks as it takes.
///
/// The payload is the concatenation of `parts`. No state of earlier messages is needed, so the
/// bytes are the same for every connection with the same chunk size and message stream.
/// `timestamp` is absolute, in milliseconds. With `repeat_extended`, type 3 chunks repeat the
/// extended timestamp as clause 5.3.1.3 wants; some players do not expect it.
///
/// `chunk_size` 0 counts as 1, and `chunk_stream_id` is brought into 2..=65599. Returns false, with
/// nothing written, when the payload is longer than a header can say (16,777,215 bytes).
#[expect(clippy::too_many_arguments, reason = "a flat call keeps the hot path free of a struct")]
pub fn write_message(
    out: &mut Vec<u8>,
    chunk_size: u32,
    repeat_extended: bool,
    chunk_stream_id: u32,
    type_id: u8,
    message_stream_id: u32,
    timestamp: u32,
    parts: &[&[u8]],
) -> bool {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > MESSAGE_BYTES_MAX {
        return false;
    }
    let chunk_size = chunk_size.max(1) as usize;
    let chunk_count = length.div_ceil(chunk_size);
    out.reserve(FIRST_BYTES_MAX + length + chunk_count * CONTINUATION_BYTES_MAX);

    let field = timestamp.min(EXTENDED_TIMESTAMP);
    write_basic_header(out, 0, chunk_stream_id);
    write_u24(out, field);
    write_u24(out, length as u32);
    out.push(type_id);
    // The one little-endian field of the protocol (clause 5.3.1.2.1).
    out.extend_from_slice(&message_stream_id.to_le_bytes());
    let extended = (field == EXTENDED_TIMESTAMP).then_some(timestamp.to_be_bytes());
    if let Some(bytes) = extended {
        out.extend_from_slice(&bytes);
    }

    let mut room = chunk_size;
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            if room == 0 {
                write_basic_header(out, 3, chunk_stream_id);
                if let (Some(bytes), true) = (extended, repeat_extended) {
                    out.extend_from_slice(&bytes);
                }
                room = chunk_size;
            }
            let (now, later) = rest.split_at(room.min(rest.len()));
            out.extend_from_slice(now);
            room -= now.len();
            rest = later;
        }
    }
    true
}

/// Appends the basic header (clause 5.3.1.1) in its shortest form; `format` is 0 to 3.
fn write_basic_header(out: &mut Vec<u8>, format: u8, chunk_stream_id: u32) {
    let format = format << 6;
    match chunk_stream_id.clamp(CHUNK_STREAM_ID_MIN, CHUNK_STREAM_ID_MAX) {
        id @ ..64 => out.push(format | id as u8),
        id @ 64..320 => out.extend_from_slice(&[format, (id - 64) as u8]),
        id => {
            let [low, high, ..] = (id - 64).to_le_bytes();
            out.extend_from_slice(&[format | 1, low, high]);
        }
    }
}

/// Appends the low 24 bits of `value`, big-endian.
fn write_u24(out: &mut Vec<u8>, value: u32) {
    let [_, rest @ ..] = value.to_be_bytes();
    out.extend_from_slice(&rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clause 5.3.2.2: 307 bytes of video at chunk size 128 are 140, 129 and 52 bytes.
    #[test]
    fn example_of_a_long_message() {
        let payload = [0xAB; 307];
        let mut out = Vec::new();
        assert!(write_message(&mut out, 128, true, 4, 9, 12346, 1000, &[&payload]));
        assert_eq!(out.len(), 140 + 129 + 52);
        assert_eq!(out[..12], [4, 0, 3, 0xE8, 0, 1, 0x33, 9, 0x3A, 0x30, 0, 0]);
        assert_eq!((out[140], out[269]), (0xC4, 0xC4));
    }

    #[test]
    fn parts_are_one_payload() {
        let (mut whole, mut split) = (Vec::new(), Vec::new());
        write_message(&mut whole, 3, true, 6, 9, 1, 7, &[b"abcdefgh"]);
        write_message(&mut split, 3, true, 6, 9, 1, 7, &[b"a", b"", b"bcde", b"fgh", b""]);
        assert_eq!(whole, split);
        assert!(whole.ends_with(b"abc\xC6def\xC6gh"));
    }

    #[test]
    fn extended_timestamp_is_repeated_on_request() {
        for (timestamp, extended) in [(0xFF_FFFE, false), (0xFF_FFFF, true), (u32::MAX, true)] {
            for repeat in [false, true] {
                let mut out = Vec::new();
                write_message(&mut out, 2, repeat, 6, 9, 1, timestamp, &[b"abcd"]);
                let fields = u32::from(extended) * (1 + u32::from(repeat));
                assert_eq!(out.len() as u32, 12 + 4 + 1 + 4 * fields);
                let found = out.windows(4).filter(|w| **w == timestamp.to_be_bytes()).count();
                assert!(found >= fields as usize);
            }
        }
    }

    #[test]
    fn basic_header_forms() {
        for (id, bytes) in [
            (0, &[0xC2][..]),
            (2, &[0xC2]),
            (63, &[0xFF]),
            (64, &[0xC0, 0]),
            (319, &[0xC0, 255]),
            (320, &[0xC1, 0, 1]),
            (65_599, &[0xC1, 255, 255]),
            (u32::MAX, &[0xC1, 255, 255]),
        ] {
            let mut out = Vec::new();
            write_basic_header(&mut out, 3, id);
            assert_eq!(out, bytes, "{id}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_not_written() {
        let half = vec![0; MESSAGE_BYTES_MAX / 2 + 1];
        let mut out = Vec::new();
        assert!(!write_message(&mut out, 128, true, 4, 9, 1, 0, &[&half, &half]));
        assert!(out.is_empty());
        assert!(write_message(&mut out, 0, true, 4, 9, 1, 0, &[b"ab"]));
        assert!(out.ends_with(b"a\xC4b"));
    }
}
