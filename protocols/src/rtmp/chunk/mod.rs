//! Chunk streams (clause 5.3): the reader that joins chunks and the writer that makes them.

mod reader;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

/// The chunk size of both directions until it is changed, in bytes (clause 5.4.1).
pub const DEFAULT_CHUNK_SIZE: u32 = 128;

/// The largest chunk size in use, in bytes; no message is longer than 24 bits can say.
pub const CHUNK_SIZE_MAX: u32 = 16 * 1024 * 1024;

/// What the chunks of one connection may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Heap for all half-received messages of the connection together, in bytes.
    pub reassembly_bytes: usize,
    /// Distinct chunk stream ids.
    pub chunk_streams: usize,
    /// Announced length of one message, in bytes.
    pub message_bytes: usize,
}

/// What is wrong with the chunks of a peer. The connection cannot go on after any of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Chunk size 0 or with the top bit set (clause 5.4.1).
    #[error("chunk size {0} is not allowed")]
    BadChunkSize(u32),
    /// The first chunk of a chunk stream refers to an earlier header.
    #[error("chunk type {format} on chunk stream {chunk_stream_id}, which has no earlier header")]
    NoEarlierHeader {
        /// The chunk stream.
        chunk_stream_id: u32,
        /// The chunk type, 1 to 3.
        format: u8,
    },
    /// A new message header with another length while a message is half received.
    #[error("message length {was} becomes {now} within a message of {chunk_stream_id}")]
    LengthChanged {
        /// The chunk stream.
        chunk_stream_id: u32,
        /// Length the message began with, in bytes.
        was: u32,
        /// Length the new header says, in bytes.
        now: u32,
    },
    /// A new message header while a message is half received.
    #[error("chunk type {format} within a message of chunk stream {chunk_stream_id}")]
    HeaderWithinMessage {
        /// The chunk stream.
        chunk_stream_id: u32,
        /// The chunk type, 0 to 2.
        format: u8,
    },
    /// [`Limits::message_bytes`] is exceeded.
    #[error("message of {length} bytes is longer than {max}")]
    MessageTooLong {
        /// Announced length in bytes.
        length: u32,
        /// The limit in bytes.
        max: usize,
    },
    /// [`Limits::chunk_streams`] is exceeded.
    #[error("more than {max} chunk streams")]
    TooManyChunkStreams {
        /// The limit.
        max: usize,
    },
    /// [`Limits::reassembly_bytes`] is exceeded.
    #[error("half-received messages take more than {max} bytes")]
    ReassemblyFull {
        /// The limit in bytes.
        max: usize,
    },
}

impl ChunkError {
    /// Stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadChunkSize(_) => "bad_chunk_size",
            Self::NoEarlierHeader { .. } => "no_earlier_header",
            Self::LengthChanged { .. } => "message_length_changed",
            Self::HeaderWithinMessage { .. } => "header_within_message",
            Self::MessageTooLong { .. } => "message_too_long",
            Self::TooManyChunkStreams { .. } => "too_many_chunk_streams",
            Self::ReassemblyFull { .. } => "reassembly_full",
        }
    }

    /// Whether a limit of this server was exceeded, rather than the protocol broken.
    pub fn is_limit(&self) -> bool {
        matches!(
            self,
            Self::MessageTooLong { .. }
                | Self::TooManyChunkStreams { .. }
                | Self::ReassemblyFull { .. }
        )
    }
}

/// The chunk size to use for one a peer announces or an operator configures.
fn checked_chunk_size(size: u32) -> Result<u32, ChunkError> {
    if size == 0 || size > i32::MAX as u32 {
        return Err(ChunkError::BadChunkSize(size));
    }
    Ok(size.min(CHUNK_SIZE_MAX))
}

#[cfg(test)]
mod tests;
