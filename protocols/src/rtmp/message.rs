//! The RTMP message, its type ids, and the splitting of aggregate messages.

use bytes::Bytes;

/// Message type ids (clauses 5.4 and 7.1).
pub mod type_id {
    /// Protocol control: the sender's chunk size changes (5.4.1).
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Protocol control: a half-sent message is given up (5.4.2).
    pub const ABORT: u8 = 2;
    /// Protocol control: bytes received so far (5.4.3).
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// User control events (6.2, 7.1.7).
    pub const USER_CONTROL: u8 = 4;
    /// Protocol control: how often to acknowledge (5.4.4).
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// Protocol control: limit of the peer's output (5.4.5).
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Audio data (7.1.4).
    pub const AUDIO: u8 = 8;
    /// Video data (7.1.5).
    pub const VIDEO: u8 = 9;
    /// Data in AMF3 (7.1.2).
    pub const DATA_AMF3: u8 = 15;
    /// Shared object in AMF3 (7.1.3).
    pub const SHARED_OBJECT_AMF3: u8 = 16;
    /// Command in AMF3 (7.1.1).
    pub const COMMAND_AMF3: u8 = 17;
    /// Data in AMF0 (7.1.2).
    pub const DATA_AMF0: u8 = 18;
    /// Shared object in AMF0 (7.1.3).
    pub const SHARED_OBJECT_AMF0: u8 = 19;
    /// Command in AMF0 (7.1.1).
    pub const COMMAND_AMF0: u8 = 20;
    /// Several messages in one (7.1.6).
    pub const AGGREGATE: u8 = 22;
}

/// Longest payload a message header can announce, in bytes (24 bits, clause 5.3.1.2.1).
pub const MESSAGE_BYTES_MAX: usize = 0xFF_FFFF;

/// Most messages taken out of one aggregate.
pub const AGGREGATE_MESSAGES_MAX: usize = 4096;

/// Header of one message inside an aggregate, in bytes.
const SUB_HEADER_BYTES: usize = 11;
/// The size field behind each message inside an aggregate, in bytes.
const BACK_POINTER_BYTES: usize = 4;

/// One whole message, whatever number of chunks carried it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The chunk stream it came or goes on, 2 to 65599.
    pub chunk_stream_id: u32,
    /// Absolute timestamp in milliseconds; wraps at 2^32.
    pub timestamp: u32,
    /// One of [`type_id`], or anything else a peer sent.
    pub type_id: u8,
    /// The message stream; 0 is the connection itself.
    pub message_stream_id: u32,
    /// The body without any header.
    pub payload: Bytes,
}

/// What is wrong with an aggregate message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AggregateError {
    /// A header, a body or a back pointer ends behind the payload.
    #[error("aggregate is cut short at byte {at}")]
    Truncated {
        /// Offset of the message that does not fit.
        at: usize,
    },
    /// More messages than [`AGGREGATE_MESSAGES_MAX`].
    #[error("aggregate holds too many messages")]
    TooMany,
    /// An aggregate inside the aggregate.
    #[error("aggregate inside an aggregate")]
    Nested,
}

impl AggregateError {
    /// Stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "aggregate_truncated",
            Self::TooMany => "aggregate_too_many",
            Self::Nested => "aggregate_nested",
        }
    }

    /// Whether a limit of this server was exceeded, rather than the protocol broken.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::TooMany)
    }
}

/// Splits an aggregate (clause 7.1.6) into its messages; the payloads are slices, not copies.
///
/// Timestamps are moved so that the first message has the timestamp of the aggregate; chunk stream
/// and message stream are those of the aggregate. Back pointers are skipped unread, and the last
/// one may be missing. The type of `message` is not looked at.
///
/// # Errors
/// See [`AggregateError`]; nothing is returned of an aggregate that is damaged anywhere.
pub fn split_aggregate(message: &Message) -> Result<Vec<Message>, AggregateError> {
    let payload = &message.payload;
    let mut messages = Vec::new();
    let mut first_timestamp = None;
    let mut at = 0;
    while at < payload.len() {
        let truncated = AggregateError::Truncated { at };
        let rest = payload.get(at..).unwrap_or_default();
        let Some(header) = rest.first_chunk::<SUB_HEADER_BYTES>() else { return Err(truncated) };
        let [type_id, l0, l1, l2, t0, t1, t2, t3, ..] = *header;
        let body_start = at + SUB_HEADER_BYTES;
        let body_end = body_start + u32::from_be_bytes([0, l0, l1, l2]) as usize;
        if body_end > payload.len() {
            return Err(truncated);
        }
        if type_id == type_id::AGGREGATE {
            return Err(AggregateError::Nested);
        }
        if messages.len() == AGGREGATE_MESSAGES_MAX {
            return Err(AggregateError::TooMany);
        }
        // The fourth byte holds the upper bits, as in an FLV tag.
        let timestamp = u32::from_be_bytes([t3, t0, t1, t2]);
        let first = *first_timestamp.get_or_insert(timestamp);
        messages.push(Message {
            chunk_stream_id: message.chunk_stream_id,
            timestamp: message.timestamp.wrapping_add(timestamp.wrapping_sub(first)),
            type_id,
            message_stream_id: message.message_stream_id,
            payload: payload.slice(body_start..body_end),
        });
        at = body_end;
        if at < payload.len() {
            at += BACK_POINTER_BYTES;
            if at > payload.len() {
                return Err(truncated);
            }
        }
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub(type_id: u8, timestamp: u32, body: &[u8]) -> Vec<u8> {
        let mut out = vec![type_id];
        out.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
        let [high, rest @ ..] = timestamp.to_be_bytes();
        out.extend_from_slice(&rest);
        out.push(high);
        out.extend_from_slice(&[0, 0, 0]);
        out.extend_from_slice(body);
        out.extend_from_slice(&(body.len() as u32 + 11).to_be_bytes());
        out
    }

    fn aggregate(timestamp: u32, payload: Vec<u8>) -> Message {
        Message {
            chunk_stream_id: 6,
            timestamp,
            type_id: type_id::AGGREGATE,
            message_stream_id: 1,
            payload: payload.into(),
        }
    }

    #[test]
    fn timestamps_are_moved_to_the_aggregate() {
        let mut payload = sub(type_id::AUDIO, 0x0100_0000, b"a");
        payload.extend(sub(type_id::VIDEO, 0x0100_0028, b"vv"));
        payload.extend(sub(type_id::AUDIO, 0x00FF_FFFF, b""));
        let messages = split_aggregate(&aggregate(1000, payload)).unwrap();
        let seen: Vec<_> = messages.iter().map(|m| (m.type_id, m.timestamp)).collect();
        assert_eq!(seen, [(8, 1000), (9, 1040), (8, 999)]);
        assert_eq!(messages[1].payload, "vv");
        assert_eq!((messages[1].chunk_stream_id, messages[1].message_stream_id), (6, 1));
    }

    #[test]
    fn the_last_back_pointer_may_be_missing_but_nothing_else() {
        let whole = sub(type_id::AUDIO, 5, b"abcd");
        let body_end = whole.len() - 4;
        for cut in 0..=whole.len() {
            let result = split_aggregate(&aggregate(0, whole[..cut].to_vec()));
            match cut {
                0 => assert_eq!(result, Ok(vec![])),
                _ if cut == body_end || cut == whole.len() => assert_eq!(result.unwrap().len(), 1),
                _ => assert_eq!(result, Err(AggregateError::Truncated { at: 0 })),
            }
        }
    }

    #[test]
    fn counts_and_nesting_are_bounded() {
        let many = sub(8, 0, b"").repeat(AGGREGATE_MESSAGES_MAX);
        assert_eq!(split_aggregate(&aggregate(0, many)).unwrap().len(), AGGREGATE_MESSAGES_MAX);
        let many = sub(8, 0, b"").repeat(AGGREGATE_MESSAGES_MAX + 1);
        assert_eq!(split_aggregate(&aggregate(0, many)), Err(AggregateError::TooMany));
        let nested = sub(type_id::AGGREGATE, 0, b"");
        assert_eq!(split_aggregate(&aggregate(0, nested)), Err(AggregateError::Nested));
    }
}
