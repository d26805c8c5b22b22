//! Tests of reader and writer: specification examples, hostile input, round trips.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::rtmp::message::{Message, type_id};
use crate::rtmp::wire;

const LIMITS: Limits = Limits { reassembly_bytes: 4096, chunk_streams: 8, message_bytes: 1 << 20 };

fn read(reader: &mut Reader, bytes: &[u8]) -> Result<Vec<Message>, ChunkError> {
    let mut buf = BytesMut::from(bytes);
    let mut messages = Vec::new();
    let before = reader.bytes_received() as usize;
    while let Some(message) = reader.next_message(&mut buf)? {
        messages.push(message);
        reader.check_invariants();
    }
    reader.check_invariants();
    assert_eq!(reader.bytes_received() as usize + buf.len(), before + bytes.len());
    Ok(messages)
}

fn read_fresh(bytes: &[u8]) -> Result<Vec<Message>, ChunkError> {
    read(&mut Reader::new(LIMITS), bytes)
}

fn timestamps(bytes: &[u8]) -> Vec<u32> {
    read_fresh(bytes).unwrap().iter().map(|message| message.timestamp).collect()
}

/// A type 0 header on chunk stream 3 of video data, message stream 1.
fn full_header(timestamp: u32, length: u8) -> Vec<u8> {
    let mut out = vec![3];
    out.extend_from_slice(&timestamp.min(0xFF_FFFF).to_be_bytes()[1..]);
    out.extend_from_slice(&[0, 0, length, 9, 1, 0, 0, 0]);
    if timestamp >= 0xFF_FFFF {
        out.extend_from_slice(&timestamp.to_be_bytes());
    }
    out
}

/// Clause 5.3.2.1: four audio messages 20 ms apart take 44, 36, 33 and 33 bytes.
#[test]
fn example_of_audio_messages() {
    let mut bytes = vec![3, 0, 3, 0xE8, 0, 0, 32, 8, 0x39, 0x30, 0, 0];
    bytes.extend_from_slice(&[1; 32]);
    bytes.extend_from_slice(&[0x83, 0, 0, 20]);
    bytes.extend_from_slice(&[2; 32]);
    for fill in [3, 4] {
        bytes.push(0xC3);
        bytes.extend_from_slice(&[fill; 32]);
    }
    assert_eq!(bytes.len(), 44 + 36 + 33 + 33);
    let messages = read_fresh(&bytes).unwrap();
    let expected: Vec<_> = (0..4)
        .map(|i: u8| Message {
            chunk_stream_id: 3,
            timestamp: 1000 + 20 * u32::from(i),
            type_id: type_id::AUDIO,
            message_stream_id: 12345,
            payload: vec![i + 1; 32].into(),
        })
        .collect();
    assert_eq!(messages, expected);
}

#[test]
fn a_message_does_not_keep_the_read_buffer() {
    let mut buf = BytesMut::from(&full_header(0, 3)[..]);
    buf.extend_from_slice(b"abc");
    let message = Reader::new(LIMITS).next_message(&mut buf).unwrap().unwrap();
    assert_eq!(message.payload, "abc");
    assert!(message.payload.is_unique());
}

#[test]
fn type_3_repeats_the_last_timestamp_field() {
    let mut bytes = full_header(100, 0);
    bytes.push(0xC3);
    assert_eq!(timestamps(&bytes), [100, 200]);
    bytes.extend_from_slice(&[0x43, 0, 0, 7, 0, 0, 0, 9, 0xC3]);
    assert_eq!(timestamps(&bytes), [100, 200, 207, 214]);
}

#[test]
fn timestamps_wrap() {
    let mut bytes = full_header(u32::MAX, 0);
    bytes.extend_from_slice(&[0x83, 0, 0, 5]);
    assert_eq!(timestamps(&bytes), [u32::MAX, 4]);
}

#[test]
fn both_habits_of_the_extended_timestamp() {
    for timestamp in [0xFF_FFFF, 0x0123_4567, u32::MAX] {
        for repeat in [true, false] {
            let payload: Vec<u8> = (0..=255).collect();
            let mut bytes = Vec::new();
            assert!(wire::write_message(&mut bytes, 50, repeat, 6, 9, 1, timestamp, &[&payload]));
            for step in [1, 2, 3, 7, bytes.len()] {
                let mut reader = Reader::new(LIMITS);
                reader.set_chunk_size(50).unwrap();
                let mut buf = BytesMut::new();
                let mut messages = Vec::new();
                for piece in bytes.chunks(step) {
                    buf.extend_from_slice(piece);
                    messages.extend(reader.next_message(&mut buf).unwrap());
                }
                assert_eq!(messages.len(), 1);
                assert_eq!(messages[0].payload, payload);
                assert_eq!(messages[0].timestamp, timestamp);
            }
        }
    }
}

#[test]
fn both_habits_on_a_new_message() {
    let mut start = full_header(0, 2);
    start.extend_from_slice(b"ab\x83\xFF\xFF\xFF\x01\x00\x00\x00cd\xC3");
    for extended in [&b"\x01\x00\x00\x00"[..], b""] {
        let bytes = [&start[..], extended, b"ef\x83\0\0\x01gh\xC3ij"].concat();
        let messages = read_fresh(&bytes).unwrap();
        let payloads: Vec<_> = messages.iter().map(|m| &m.payload[..]).collect();
        assert_eq!(payloads, [b"ab", b"cd", b"ef", b"gh", b"ij"]);
        let base = 0x0200_0000;
        assert_eq!(timestamps(&bytes), [0, 0x0100_0000, base, base + 1, base + 2]);
    }
}

#[test]
fn first_chunk_of_a_stream_needs_a_full_header() {
    for format in 1..=3 {
        for basic in [&[format << 6 | 3][..], &[format << 6, 0], &[format << 6 | 1, 9, 9]] {
            let bytes = [basic, &[0; 16]].concat();
            assert!(matches!(read_fresh(&bytes), Err(ChunkError::NoEarlierHeader { .. })));
        }
    }
    assert!(read_fresh(&[0x82, 0, 0, 0]).is_err());
    assert!(read_fresh(&[0xC2]).is_err());
}

/// The ping response of librtmp: type 1 on the unused chunk stream 2.
#[test]
fn control_message_may_start_with_type_1() {
    let mut bytes = vec![0x42, 0, 0, 9, 0, 0, 6, 4, 0, 7, 1, 2, 3, 4];
    let messages = read_fresh(&bytes).unwrap();
    assert_eq!((messages[0].type_id, messages[0].message_stream_id), (4, 0));
    bytes[7] = type_id::COMMAND_AMF0;
    assert!(matches!(read_fresh(&bytes), Err(ChunkError::NoEarlierHeader { .. })));
}

#[test]
fn headers_within_a_message_are_refused() {
    let mut start = full_header(0, 200);
    start.extend_from_slice(&[0; 128]);
    for (header, changed) in [
        (&[3, 0, 0, 0, 0, 0, 201, 9, 1, 0, 0, 0][..], true),
        (&[0x43, 0, 0, 0, 0, 0, 100, 9], true),
        (&[3, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0], false),
        (&[0x43, 0, 0, 0, 0, 0, 200, 9], false),
        (&[0x83, 0, 0, 0], false),
    ] {
        let error = read_fresh(&[&start[..], header].concat()).unwrap_err();
        assert_eq!(matches!(error, ChunkError::LengthChanged { .. }), changed);
        assert_eq!(matches!(error, ChunkError::HeaderWithinMessage { .. }), !changed);
        assert!(!error.is_limit());
    }
}

#[test]
fn announced_length_reserves_a_share_of_the_limit_at_most() {
    let mut reader = Reader::new(LIMITS);
    for id in 3..=10 {
        read(&mut reader, &[id, 0, 0, 0, 0x0F, 0xFF, 0xFF, 9, 1, 0, 0, 0, 0xAA]).unwrap();
        assert_eq!(read(&mut reader, &[0; 127]).unwrap(), []);
    }
    assert!(reader.held_bytes() <= LIMITS.reassembly_bytes, "{}", reader.held_bytes());
    reader.check_invariants();
    let error =
        reader.next_message(&mut BytesMut::from(&[11, 0, 0, 0, 0, 0, 0, 9, 1, 0, 0, 0][..]));
    assert_eq!(error, Err(ChunkError::TooManyChunkStreams { max: 8 }));
}

#[test]
fn reassembly_is_bounded() {
    let mut reader = Reader::new(LIMITS);
    reader.set_chunk_size(CHUNK_SIZE_MAX).unwrap();
    read(&mut reader, &[3, 0, 0, 0, 0x0F, 0xFF, 0xFF, 9, 1, 0, 0, 0]).unwrap();
    for _ in 0..4096 {
        assert!(reader.next_message(&mut BytesMut::from(&b"x"[..])).unwrap().is_none());
        reader.check_invariants();
    }
    let error = reader.next_message(&mut BytesMut::from(&b"x"[..])).unwrap_err();
    assert_eq!(error, ChunkError::ReassemblyFull { max: 4096 });
    assert!(error.is_limit());
    let error = read_fresh(&[3, 0, 0, 0, 0xFF, 0xFF, 0xFF, 9, 1, 0, 0, 0]).unwrap_err();
    assert_eq!(error, ChunkError::MessageTooLong { length: 0xFF_FFFF, max: 1 << 20 });
}

#[test]
fn abort_frees_and_later_chunks_go_on() {
    let mut reader = Reader::new(LIMITS);
    let mut bytes = full_header(0, 200);
    bytes.extend_from_slice(&[0; 100]);
    assert_eq!(read(&mut reader, &bytes).unwrap(), []);
    reader.abort(77);
    assert!(reader.held_bytes() >= 100);
    reader.abort(3);
    assert_eq!(reader.held_bytes(), 0);
    // The open chunk has 28 bytes left, then a new message begins.
    let mut buf = BytesMut::from(&[0xAA; 28][..]);
    buf.extend_from_slice(&[0x43, 0, 0, 1, 0, 0, 1, 8, 0x55]);
    let message = reader.next_message(&mut buf).unwrap().unwrap();
    assert_eq!((message.type_id, &message.payload[..]), (8, &[0x55][..]));
    reader.check_invariants();
}

#[test]
fn chunk_sizes_are_checked() {
    let mut reader = Reader::new(LIMITS);
    for bad in [0, 0x8000_0000, u32::MAX] {
        assert_eq!(reader.set_chunk_size(bad), Err(ChunkError::BadChunkSize(bad)));
        assert_eq!(Writer::new().set_chunk_size(bad), Err(ChunkError::BadChunkSize(bad)));
    }
    for (size, used) in [(1, 1), (128, 128), (0x7FFF_FFFF, CHUNK_SIZE_MAX)] {
        reader.set_chunk_size(size).unwrap();
        assert_eq!(reader.chunk_size(), used);
    }
}

fn any_message() -> impl Strategy<Value = Message> {
    let id = prop_oneof![2u32..8, 60u32..70, 315u32..325, Just(65_599)];
    let timestamp = prop_oneof![any::<u32>(), 0xFF_FFF0u32..0x100_0010, 0u32..1000];
    let payload = prop::collection::vec(any::<u8>(), 0..600);
    (id, timestamp, any::<u8>(), any::<u32>(), payload).prop_map(
        |(chunk_stream_id, timestamp, type_id, message_stream_id, payload)| Message {
            chunk_stream_id,
            timestamp,
            type_id,
            message_stream_id,
            payload: payload.into(),
        },
    )
}

const WIDE: Limits =
    Limits { reassembly_bytes: 1 << 20, chunk_streams: 64, message_bytes: 1 << 20 };

/// Feeds `bytes` in pieces of the given sizes, over and over.
fn read_in_pieces(bytes: &[u8], chunk_size: u32, sizes: &[usize]) -> Vec<Message> {
    let mut reader = Reader::new(WIDE);
    reader.set_chunk_size(chunk_size).unwrap();
    let (mut buf, mut rest, mut messages) = (BytesMut::new(), bytes, Vec::new());
    for size in sizes.iter().cycle() {
        let (piece, later) = rest.split_at((*size).min(rest.len()));
        buf.extend_from_slice(piece);
        rest = later;
        while let Some(message) = reader.next_message(&mut buf).unwrap() {
            messages.push(message);
            reader.check_invariants();
        }
        assert!(buf.len() < 18, "only a header may be left");
        if rest.is_empty() {
            break;
        }
    }
    assert_eq!((reader.held_bytes(), buf.len()), (0, 0));
    messages
}

/// The chunks of one message, split apart.
fn chunks_of(message: &Message, chunk_size: u32) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    let mut before = 0;
    let mut pieces: Vec<_> = message.payload.chunks(chunk_size as usize).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    for count in 1..=pieces.len() {
        let mut all = Vec::new();
        let Message { chunk_stream_id, type_id, message_stream_id, timestamp, .. } = *message;
        wire::write_message(
            &mut all,
            chunk_size,
            true,
            chunk_stream_id,
            type_id,
            message_stream_id,
            timestamp,
            &pieces[..count],
        );
        if count == 1 {
            // The header announces the whole message.
            let at =
                [1, 2, 3][usize::from(chunk_stream_id >= 64) + usize::from(chunk_stream_id >= 320)];
            let length = message.payload.len() as u32;
            all[at + 3..at + 6].copy_from_slice(&length.to_be_bytes()[1..]);
        }
        chunks.push(all[before..].to_vec());
        before = all.len();
    }
    chunks
}

proptest! {
    #[test]
    fn written_messages_are_read_back(
        messages in prop::collection::vec(any_message(), 0..12),
        chunk_size in prop_oneof![1u32..10, 100u32..300, Just(65_536)],
        sizes in prop::collection::vec(1usize..400, 1..20),
    ) {
        let mut writer = Writer::new();
        writer.set_chunk_size(chunk_size).unwrap();
        let mut bytes = Vec::new();
        for message in &messages {
            prop_assert!(writer.write(message, &mut bytes));
        }
        prop_assert_eq!(read_in_pieces(&bytes, chunk_size, &sizes), messages);
    }

    #[test]
    fn interleaved_messages_are_read_back(
        messages in prop::collection::vec(any_message(), 1..6),
        chunk_size in 1u32..200,
        picks in prop::collection::vec(any::<usize>(), 1..50),
        sizes in prop::collection::vec(1usize..400, 1..20),
    ) {
        let mut queues: Vec<_> = messages
            .iter()
            .enumerate()
            .map(|(i, m)| Message { chunk_stream_id: 60 + i as u32, ..m.clone() })
            .map(|m| (chunks_of(&m, chunk_size), m))
            .collect();
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for pick in picks.iter().cycle() {
            if queues.is_empty() {
                break;
            }
            let at = pick % queues.len();
            bytes.extend(queues[at].0.remove(0));
            if queues[at].0.is_empty() {
                expected.push(queues.remove(at).1);
            }
        }
        prop_assert_eq!(read_in_pieces(&bytes, chunk_size, &sizes), expected);
    }
}
