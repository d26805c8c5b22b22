//! Writes the messages of one connection as chunks, at the chunk size in force.

use super::{ChunkError, DEFAULT_CHUNK_SIZE, checked_chunk_size};
use crate::rtmp::message::Message;
use crate::rtmp::wire;

/// The sending side of one connection.
///
/// Every message begins with a type 0 chunk. Header compression would save a few bytes of each
/// command and would make what is sent depend on what was sent; the media path does not use it
/// either, see [`wire`].
#[derive(Debug)]
pub struct Writer {
    chunk_size: u32,
}

impl Writer {
    /// A writer at the initial chunk size of 128.
    pub fn new() -> Self {
        Self { chunk_size: DEFAULT_CHUNK_SIZE }
    }

    /// Uses this chunk size from the next message on; announce it to the peer first.
    ///
    /// # Errors
    /// [`ChunkError::BadChunkSize`] for 0 and for the top bit; larger than 16 MiB is clamped.
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), ChunkError> {
        self.chunk_size = checked_chunk_size(size)?;
        Ok(())
    }

    /// The chunk size in force, in bytes.
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Appends one message to `out`. Extended timestamps are repeated in type 3 chunks.
    ///
    /// Returns false, with nothing written, for a payload over 16,777,215 bytes.
    pub fn write(&mut self, message: &Message, out: &mut Vec<u8>) -> bool {
        wire::write_message(
            out,
            self.chunk_size,
            true,
            message.chunk_stream_id,
            message.type_id,
            message.message_stream_id,
            message.timestamp,
            &[&message.payload],
        )
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}
