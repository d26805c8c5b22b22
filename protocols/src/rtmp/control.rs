//! Protocol control (clause 5.4) and user control (clauses 6.2, 7.1.7) messages.

use bytes::Bytes;

use super::message::{Message, type_id};

/// Chunk stream all control messages use (clause 5.4).
pub const CONTROL_CHUNK_STREAM_ID: u32 = 2;

/// Event types of user control messages (clause 7.1.7).
mod event_type {
    pub(super) const STREAM_BEGIN: u16 = 0;
    pub(super) const STREAM_EOF: u16 = 1;
    pub(super) const STREAM_DRY: u16 = 2;
    pub(super) const SET_BUFFER_LENGTH: u16 = 3;
    pub(super) const STREAM_IS_RECORDED: u16 = 4;
    pub(super) const PING_REQUEST: u16 = 6;
    pub(super) const PING_RESPONSE: u16 = 7;
}

/// One user control event. Streams are message stream ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserControl {
    /// The stream can be used now.
    StreamBegin(u32),
    /// The playback of the stream is over.
    StreamEof(u32),
    /// There is no data on the stream for now.
    StreamDry(u32),
    /// How much the player buffers.
    SetBufferLength {
        /// The stream.
        stream_id: u32,
        /// Length in milliseconds.
        millis: u32,
    },
    /// The stream is a recorded one.
    StreamIsRecorded(u32),
    /// Answer with the same timestamp, in milliseconds of the sender's clock.
    PingRequest(u32),
    /// The timestamp of the request.
    PingResponse(u32),
    /// Any other event type; its data is not kept.
    Unknown(u16),
}

/// How the window of Set Peer Bandwidth is meant (clause 5.4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BandwidthLimit {
    /// Limit the output to the window.
    Hard,
    /// Limit it to the smaller of this and the present window.
    Soft,
    /// Hard if the present one is hard, otherwise nothing.
    Dynamic,
}

/// What is wrong with a control message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Fewer bytes than the fields need.
    #[error("control message of {bytes} bytes is shorter than {needed}")]
    Truncated {
        /// Bytes the fields need.
        needed: usize,
        /// Bytes there are.
        bytes: usize,
    },
    /// A limit type of Set Peer Bandwidth above 2.
    #[error("peer bandwidth limit type {0} does not exist")]
    BadLimitType(u8),
}

impl ControlError {
    /// Stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "control_truncated",
            Self::BadLimitType(_) => "bad_bandwidth_limit_type",
        }
    }
}

/// The four-byte number at the start of `payload`: chunk size, chunk stream id, sequence number or
/// window of a protocol control message. Bytes behind it are ignored.
///
/// # Errors
/// [`ControlError::Truncated`].
pub fn parse_u32(payload: &[u8]) -> Result<u32, ControlError> {
    take::<4>(payload).map(|(bytes, _)| u32::from_be_bytes(bytes))
}

/// Window in bytes and limit type of Set Peer Bandwidth (clause 5.4.5).
///
/// # Errors
/// See [`ControlError`].
pub fn parse_set_peer_bandwidth(payload: &[u8]) -> Result<(u32, BandwidthLimit), ControlError> {
    let ([w0, w1, w2, w3, limit], _) = take::<5>(payload)?;
    let limit = match limit {
        0 => BandwidthLimit::Hard,
        1 => BandwidthLimit::Soft,
        2 => BandwidthLimit::Dynamic,
        other => return Err(ControlError::BadLimitType(other)),
    };
    Ok((u32::from_be_bytes([w0, w1, w2, w3]), limit))
}

/// The event of a user control message (clause 6.2). Bytes behind its fields are ignored.
///
/// # Errors
/// [`ControlError::Truncated`].
pub fn parse_user_control(payload: &[u8]) -> Result<UserControl, ControlError> {
    let (event_type, data) = take::<2>(payload)?;
    let event = match u16::from_be_bytes(event_type) {
        event_type::STREAM_BEGIN => UserControl::StreamBegin(parse_u32(data)?),
        event_type::STREAM_EOF => UserControl::StreamEof(parse_u32(data)?),
        event_type::STREAM_DRY => UserControl::StreamDry(parse_u32(data)?),
        event_type::SET_BUFFER_LENGTH => {
            let (stream_id, rest) = take::<4>(data)?;
            let stream_id = u32::from_be_bytes(stream_id);
            UserControl::SetBufferLength { stream_id, millis: parse_u32(rest)? }
        }
        event_type::STREAM_IS_RECORDED => UserControl::StreamIsRecorded(parse_u32(data)?),
        event_type::PING_REQUEST => UserControl::PingRequest(parse_u32(data)?),
        event_type::PING_RESPONSE => UserControl::PingResponse(parse_u32(data)?),
        other => UserControl::Unknown(other),
    };
    Ok(event)
}

/// Set Chunk Size (clause 5.4.1): chunks sent after this message are up to `bytes` long.
pub fn set_chunk_size(bytes: u32) -> Message {
    control(type_id::SET_CHUNK_SIZE, bytes.to_be_bytes().to_vec())
}

/// Abort (clause 5.4.2): forget the half-sent message of `chunk_stream_id`.
pub fn abort(chunk_stream_id: u32) -> Message {
    control(type_id::ABORT, chunk_stream_id.to_be_bytes().to_vec())
}

/// Acknowledgement (clause 5.4.3): the bytes received so far, modulo 2^32.
pub fn acknowledgement(sequence_number: u32) -> Message {
    control(type_id::ACKNOWLEDGEMENT, sequence_number.to_be_bytes().to_vec())
}

/// Window Acknowledgement Size (clause 5.4.4): acknowledge after this many bytes.
pub fn window_ack_size(bytes: u32) -> Message {
    control(type_id::WINDOW_ACK_SIZE, bytes.to_be_bytes().to_vec())
}

/// Set Peer Bandwidth (clause 5.4.5): send at most this many unacknowledged bytes.
pub fn set_peer_bandwidth(bytes: u32, limit: BandwidthLimit) -> Message {
    let mut payload = bytes.to_be_bytes().to_vec();
    payload.push(match limit {
        BandwidthLimit::Hard => 0,
        BandwidthLimit::Soft => 1,
        BandwidthLimit::Dynamic => 2,
    });
    control(type_id::SET_PEER_BANDWIDTH, payload)
}

/// A user control message (clause 6.2). [`UserControl::Unknown`] is sent without data.
pub fn user_control(event: UserControl) -> Message {
    let (event_type, first, second) = match event {
        UserControl::StreamBegin(id) => (event_type::STREAM_BEGIN, Some(id), None),
        UserControl::StreamEof(id) => (event_type::STREAM_EOF, Some(id), None),
        UserControl::StreamDry(id) => (event_type::STREAM_DRY, Some(id), None),
        UserControl::SetBufferLength { stream_id, millis } => {
            (event_type::SET_BUFFER_LENGTH, Some(stream_id), Some(millis))
        }
        UserControl::StreamIsRecorded(id) => (event_type::STREAM_IS_RECORDED, Some(id), None),
        UserControl::PingRequest(time) => (event_type::PING_REQUEST, Some(time), None),
        UserControl::PingResponse(time) => (event_type::PING_RESPONSE, Some(time), None),
        UserControl::Unknown(event_type) => (event_type, None, None),
    };
    let mut payload = event_type.to_be_bytes().to_vec();
    for field in [first, second].into_iter().flatten() {
        payload.extend_from_slice(&field.to_be_bytes());
    }
    control(type_id::USER_CONTROL, payload)
}

/// A message as clause 5.4 wants control messages: chunk stream 2, message stream 0, time 0.
fn control(type_id: u8, payload: Vec<u8>) -> Message {
    Message {
        chunk_stream_id: CONTROL_CHUNK_STREAM_ID,
        timestamp: 0,
        type_id,
        message_stream_id: 0,
        payload: Bytes::from(payload),
    }
}

/// The first `N` bytes and the rest.
fn take<const N: usize>(payload: &[u8]) -> Result<([u8; N], &[u8]), ControlError> {
    match payload.split_first_chunk::<N>() {
        Some((first, rest)) => Ok((*first, rest)),
        None => Err(ControlError::Truncated { needed: N, bytes: payload.len() }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_of_each_message() {
        for (message, type_id, payload) in [
            (set_chunk_size(4096), 1, &[0, 0, 0x10, 0][..]),
            (abort(6), 2, &[0, 0, 0, 6]),
            (acknowledgement(0xFFFF_FFFE), 3, &[0xFF, 0xFF, 0xFF, 0xFE]),
            (user_control(UserControl::StreamBegin(1)), 4, &[0, 0, 0, 0, 0, 1]),
            (user_control(UserControl::PingRequest(9)), 4, &[0, 6, 0, 0, 0, 9]),
            (user_control(UserControl::Unknown(31)), 4, &[0, 31]),
            (window_ack_size(2_500_000), 5, &[0, 0x26, 0x25, 0xA0]),
            (set_peer_bandwidth(1, BandwidthLimit::Dynamic), 6, &[0, 0, 0, 1, 2]),
        ] {
            assert_eq!((message.chunk_stream_id, message.message_stream_id), (2, 0));
            assert_eq!((message.type_id, message.timestamp), (type_id, 0));
            assert_eq!(message.payload, payload);
        }
    }

    #[test]
    fn truncated_messages_are_refused() {
        let event = UserControl::SetBufferLength { stream_id: 1, millis: 300 };
        let whole = user_control(event).payload;
        assert_eq!(parse_user_control(&[&whole[..], &[7]].concat()), Ok(event));
        for cut in 0..whole.len() {
            let error = parse_user_control(&whole[..cut]).unwrap_err();
            assert_eq!(error.reason(), "control_truncated");
        }
        assert_eq!(parse_u32(&[0; 3]), Err(ControlError::Truncated { needed: 4, bytes: 3 }));
        assert_eq!(parse_set_peer_bandwidth(&[0, 0, 0, 0, 3]), Err(ControlError::BadLimitType(3)));
    }

    proptest! {
        #[test]
        fn user_control_is_read_back(event_type in 0u16..12, a in any::<u32>(), b in any::<u32>()) {
            let payload = [&event_type.to_be_bytes()[..], &a.to_be_bytes(), &b.to_be_bytes()].concat();
            let event = parse_user_control(&payload).unwrap();
            prop_assert_eq!(parse_user_control(&user_control(event).payload), Ok(event));
        }

        #[test]
        fn bandwidth_is_read_back(bytes in any::<u32>()) {
            for limit in [BandwidthLimit::Hard, BandwidthLimit::Soft, BandwidthLimit::Dynamic] {
                let message = set_peer_bandwidth(bytes, limit);
                prop_assert_eq!(parse_set_peer_bandwidth(&message.payload), Ok((bytes, limit)));
            }
        }
    }
}
