//! How messages to a peer are spread over chunk streams.
//!
//! Media written outside of a [`super::Server`] uses its own chunk streams, so that it and the
//! session's messages can be put on the wire in any order, whole message by whole message.

use crate::container::flv::TagType;

/// Protocol and user control (RTMP 1.0, 5.4 wants 2).
pub const CONTROL_CHUNK_STREAM: u32 = super::control::CONTROL_CHUNK_STREAM_ID;
/// Commands of the connection.
pub const COMMAND_CHUNK_STREAM: u32 = 3;
/// Sound.
pub const AUDIO_CHUNK_STREAM: u32 = 4;
/// Data: metadata and timed data.
pub const DATA_CHUNK_STREAM: u32 = 5;
/// Pictures.
pub const VIDEO_CHUNK_STREAM: u32 = 6;
/// Commands and statuses of a message stream.
pub const STATUS_CHUNK_STREAM: u32 = 7;

/// The chunk stream of a kind of media.
pub const fn chunk_stream_id(tag: TagType) -> u32 {
    match tag {
        TagType::Audio => AUDIO_CHUNK_STREAM,
        TagType::Video => VIDEO_CHUNK_STREAM,
        TagType::Script => DATA_CHUNK_STREAM,
    }
}
