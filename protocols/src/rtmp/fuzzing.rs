//! Bodies of the fuzz targets of the RTMP wire formats, and the invariants they check.

use bytes::BytesMut;

use super::chunk::{ChunkError, Limits, Reader, Writer};
use super::handshake::{ClientHandshake, ServerHandshake};
use super::message::{Message, split_aggregate, type_id};
use super::{control as control_message, server, wire};

/// Name and body of one target.
pub type Target = (&'static str, fn(&[u8]));

/// Every target here.
pub const TARGETS: &[Target] = &[
    ("rtmp_handshake", handshake),
    ("rtmp_chunk", chunk),
    ("rtmp_control", control),
    ("rtmp_aggregate", aggregate),
    ("rtmp_command_sequence", server::fuzzing::command_sequence),
    ("rtmp_client", server::fuzzing::client),
];

/// Small enough for a fuzzer to reach each of them.
const LIMITS: Limits = Limits { reassembly_bytes: 2048, chunk_streams: 6, message_bytes: 8192 };

/// Both sides of the handshake; the first byte says how the rest is cut.
///
/// # Panics
/// When an invariant does not hold.
pub fn handshake(data: &[u8]) {
    let Some((cut, rest)) = data.split_first() else { return };
    let mut out = Vec::new();
    let mut server = ServerHandshake::new(u64::from(*cut));
    let mut client = ClientHandshake::new(u64::from(*cut), 0, &mut Vec::new());
    let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
    for piece in rest.chunks(1 + usize::from(*cut) * 8) {
        to_server.extend_from_slice(piece);
        to_client.extend_from_slice(piece);
        let server_result = server.handle_input(1, &mut to_server, &mut out);
        let client_result = client.handle_input(1, &mut to_client, &mut Vec::new());
        assert_eq!(server_result, client_result, "both sides frame alike");
        match server_result {
            Ok(false) => assert!(to_server.len() < 1537),
            Ok(true) | Err(_) => break,
        }
    }
    assert!(out.is_empty() || out.len() == 3073);
}

/// The chunk reader: fed whole and in pieces it must find the same; what it finds must survive
/// writing and reading. The first byte is the chunk size, the second says how the rest is cut, and
/// Set Chunk Size and Abort within the data are obeyed.
///
/// # Panics
/// When an invariant does not hold.
pub fn chunk(data: &[u8]) {
    let [chunk_size, cut, rest @ ..] = data else { return };
    let chunk_size = u32::from(*chunk_size).max(1);
    let whole = read_chunks(rest, chunk_size, rest.len().max(1));
    let pieces = read_chunks(rest, chunk_size, 1 + usize::from(*cut));
    let limited = |error: &Option<ChunkError>| error.is_some_and(|error| error.is_limit());
    // Input in pieces needs more reassembly, so limits may tell the two apart.
    if !limited(&whole.1) && !limited(&pieces.1) {
        assert_eq!(whole, pieces, "the cut does not matter");
    }
    for message in &whole.0 {
        let mut out = Vec::new();
        assert!(writer(chunk_size).write(message, &mut out));
        let mut reader = Reader::new(Limits { reassembly_bytes: 8192, ..LIMITS });
        let again = reader
            .set_chunk_size(chunk_size)
            .and_then(|()| reader.next_message(&mut BytesMut::from(&out[..])));
        assert_eq!(again, Ok(Some(message.clone())));
    }
}

/// The parsers of control messages; what they accept must survive writing and reading.
///
/// # Panics
/// When an invariant does not hold.
pub fn control(data: &[u8]) {
    if let Ok(event) = control_message::parse_user_control(data) {
        let message = control_message::user_control(event);
        assert_eq!(control_message::parse_user_control(&message.payload), Ok(event));
    }
    if let Ok((bytes, limit)) = control_message::parse_set_peer_bandwidth(data) {
        let message = control_message::set_peer_bandwidth(bytes, limit);
        assert_eq!(message.payload, data[..5]);
    }
    if let Ok(number) = control_message::parse_u32(data) {
        assert_eq!(control_message::acknowledgement(number).payload, data[..4]);
    }
}

/// The splitting of aggregate messages.
///
/// # Panics
/// When an invariant does not hold.
pub fn aggregate(data: &[u8]) {
    let message = Message {
        chunk_stream_id: wire::CHUNK_STREAM_ID_MIN,
        timestamp: u32::MAX - 10,
        type_id: type_id::AGGREGATE,
        message_stream_id: 1,
        payload: data.to_vec().into(),
    };
    if let Ok(messages) = split_aggregate(&message) {
        let bytes: usize = messages.iter().map(|message| message.payload.len() + 11).sum();
        assert!(bytes <= data.len());
        assert!(messages.first().is_none_or(|first| first.timestamp == message.timestamp));
    }
}

/// A writer at a chunk size that is known to be good.
fn writer(chunk_size: u32) -> Writer {
    let mut writer = Writer::new();
    writer.set_chunk_size(chunk_size).expect("chunk size is 1 to 255");
    writer
}

/// Everything read from `data` in pieces of `step` bytes, and the error it ended with.
fn read_chunks(data: &[u8], chunk_size: u32, step: usize) -> (Vec<Message>, Option<ChunkError>) {
    let mut reader = Reader::new(LIMITS);
    let (mut buf, mut messages) = (BytesMut::new(), Vec::new());
    let mut error = reader.set_chunk_size(chunk_size).err();
    for piece in data.chunks(step) {
        buf.extend_from_slice(piece);
        while error.is_none() {
            let before = (reader.bytes_received(), buf.len());
            let result = reader.next_message(&mut buf);
            reader.check_invariants();
            assert!(reader.held_bytes() <= LIMITS.reassembly_bytes);
            let consumed = reader.bytes_received() - before.0;
            assert_eq!(consumed as usize, before.1 - buf.len(), "every byte is counted once");
            match result {
                Ok(Some(message)) => {
                    assert!(consumed > 0, "a message takes at least its header");
                    error = obey(&mut reader, &message).err();
                    messages.push(message);
                }
                Ok(None) => break,
                Err(found) => error = Some(found),
            }
        }
        if error.is_some() {
            break;
        }
        assert!(buf.len() < 18, "no more than a header waits in the input");
    }
    (messages, error)
}

/// What a session does with the two messages that concern the chunks themselves.
fn obey(reader: &mut Reader, message: &Message) -> Result<(), ChunkError> {
    match (message.type_id, control_message::parse_u32(&message.payload)) {
        (type_id::SET_CHUNK_SIZE, Ok(size)) => reader.set_chunk_size(size)?,
        (type_id::ABORT, Ok(chunk_stream_id)) => reader.abort(chunk_stream_id),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Small ids and lengths, so that random chunks meet each other.
    fn any_chunk() -> impl Strategy<Value = Vec<u8>> {
        let timestamp = prop_oneof![Just([0xFF; 3]), any::<[u8; 3]>()];
        let length = prop_oneof![0u8..8, 100u8..200, Just(255)];
        let type_id = prop_oneof![1u8..4, any::<u8>()];
        let body = prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..140);
        (0u8..4, 2u8..9, timestamp, length, type_id, body).prop_map(
            |(format, id, timestamp, length, type_id, body)| {
                let mut out = vec![format << 6 | id];
                let fields = [&timestamp[..], &[0, 0, length, type_id, 1, 0, 0, 0]].concat();
                out.extend_from_slice(&fields[..[11, 7, 3, 0][usize::from(format)]]);
                out.extend_from_slice(&body);
                out
            },
        )
    }

    proptest! {
        #[test]
        fn targets_hold_on_random_bytes(mut data in prop::collection::vec(any::<u8>(), 0..4000)) {
            for (_, target) in TARGETS {
                target(&data);
            }
            // Far enough into the handshake to matter.
            if let Some(version) = data.get_mut(1) {
                *version = 3;
            }
            handshake(&data);
        }

        #[test]
        fn chunk_target_holds_on_likely_chunks(
            head in any::<[u8; 2]>(),
            chunks in prop::collection::vec(any_chunk(), 0..20),
        ) {
            chunk(&[&head[..], &chunks.concat()].concat());
        }

        #[test]
        fn aggregate_target_holds_on_likely_aggregates(
            subs in prop::collection::vec((0u8..24, prop::collection::vec(any::<u8>(), 0..9)), 0..9),
        ) {
            let mut data = Vec::new();
            for (type_id, body) in subs {
                data.extend_from_slice(&[type_id, 0, 0, body.len() as u8, 1, 2, 3, 4, 0, 0, 0]);
                data.extend_from_slice(&body);
                data.extend_from_slice(&[0; 4]);
            }
            aggregate(&data);
        }
    }
}
