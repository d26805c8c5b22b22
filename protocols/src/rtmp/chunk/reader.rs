//! Joins the chunks of one connection into messages, within bounds.

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;

use super::{ChunkError, DEFAULT_CHUNK_SIZE, Limits, checked_chunk_size};
use crate::rtmp::message::{Message, type_id};
use crate::rtmp::wire::{CHUNK_STREAM_ID_MIN, EXTENDED_TIMESTAMP};

/// Message header bytes behind the basic header, by chunk type (clause 5.3.1.2).
const MESSAGE_HEADER_BYTES: [usize; 4] = [11, 7, 3, 0];

/// Reserved for a message before any of it has come, at most: what most pictures need, so that they
/// are copied once.
const FIRST_RESERVE_BYTES: usize = 16 << 10;

/// Chunk streams that need no allocation: publishers use five or six, players three.
const CHUNK_STREAMS_INLINE: usize = 6;

/// The receiving side of one connection.
///
/// Payload is copied once, as it arrives, into memory of the message's own size: the input never
/// has to hold more than one header, and one read buffer serves any number of connections.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    chunk_size: u32,
    chunk_streams: ChunkStreams,
    /// The chunk whose payload is not all here yet.
    open: Option<OpenChunk>,
    /// Capacity of all `ChunkStream::partial` together, in bytes.
    held_bytes: usize,
    bytes_received: u64,
}

/// What a chunk stream remembers from one header to the next.
#[derive(Debug, Default)]
struct ChunkStream {
    timestamp: u32,
    delta: u32,
    /// The extended field of the last header that had a timestamp field, if it had one.
    extended: Option<u32>,
    length: u32,
    type_id: u8,
    message_stream_id: u32,
    /// The message in progress.
    partial: Option<Vec<u8>>,
}

/// The chunk streams that have been used, in the order of their first use. There are few, and they
/// lie beside what else each message needs.
#[derive(Debug, Default)]
struct ChunkStreams {
    known: SmallVec<[(u32, ChunkStream); CHUNK_STREAMS_INLINE]>,
}

impl ChunkStreams {
    fn get(&self, id: u32) -> Option<&ChunkStream> {
        self.known.iter().find(|(known, _)| *known == id).map(|(_, stream)| stream)
    }

    fn get_mut(&mut self, id: u32) -> Option<&mut ChunkStream> {
        self.known.iter_mut().find(|(known, _)| *known == id).map(|(_, stream)| stream)
    }

    /// `None`: it would be one more than `max`.
    fn get_or_add(&mut self, id: u32, max: usize) -> Option<&mut ChunkStream> {
        let position = self.known.iter().position(|(known, _)| *known == id);
        let index = match position {
            Some(index) => index,
            None if self.known.len() >= max => return None,
            None => {
                self.known.push((id, ChunkStream::default()));
                self.known.len() - 1
            }
        };
        Some(&mut self.known[index].1)
    }

    fn heap_bytes(&self) -> usize {
        let spilled = if self.known.spilled() { self.known.capacity() } else { 0 };
        spilled * size_of::<(u32, ChunkStream)>()
    }
}

#[derive(Debug, Clone, Copy)]
struct OpenChunk {
    chunk_stream_id: u32,
    bytes_left: usize,
}

/// One chunk header as the wire says it.
#[derive(Debug, Clone, Copy)]
struct Header {
    format: u8,
    chunk_stream_id: u32,
    /// Timestamp field of types 0 to 2, already replaced by the extended one.
    timestamp: u32,
    extended: Option<u32>,
    length: u32,
    type_id: u8,
    message_stream_id: u32,
    /// Bytes of all of it on the wire.
    header_bytes: usize,
}

impl Reader {
    /// A reader at the initial chunk size of 128.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            chunk_size: DEFAULT_CHUNK_SIZE,
            chunk_streams: ChunkStreams::default(),
            open: None,
            held_bytes: 0,
            bytes_received: 0,
        }
    }

    /// Takes chunks from the front of `buf` until one message is complete.
    ///
    /// `None`: more input is needed; what is left in `buf` is less than one chunk header. The work
    /// of a call is bounded by the bytes it consumes. A message that changes the chunk size must
    /// be given to [`Reader::set_chunk_size`] before the next call.
    ///
    /// # Errors
    /// The peer broke clause 5.3 or a limit; there is no way to go on with this connection.
    pub fn next_message(&mut self, buf: &mut BytesMut) -> Result<Option<Message>, ChunkError> {
        loop {
            let message = match self.open {
                Some(open) if open.bytes_left > 0 && buf.is_empty() => return Ok(None),
                Some(open) => self.take_payload(open, buf)?,
                None => {
                    let Some(header) = self.parse_header(buf)? else { return Ok(None) };
                    self.take_header(header, buf)?
                }
            };
            if message.is_some() {
                return Ok(message);
            }
        }
    }

    /// Takes over the chunk size the peer announced (clause 5.4.1), from the next chunk on.
    ///
    /// # Errors
    /// [`ChunkError::BadChunkSize`] for 0 and for the top bit; larger than 16 MiB is clamped.
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), ChunkError> {
        self.chunk_size = checked_chunk_size(size)?;
        Ok(())
    }

    /// The peer gives up the half-sent message of a chunk stream (clause 5.4.2), if there is one.
    pub fn abort(&mut self, chunk_stream_id: u32) {
        let partial = self.chunk_streams.get_mut(chunk_stream_id).and_then(|s| s.partial.take());
        self.held_bytes -= partial.map_or(0, |partial| partial.capacity());
    }

    /// The peer's chunk size in force, in bytes.
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Bytes consumed so far, headers included, as an acknowledgement counts them (5.4.3).
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Heap held by half-received messages and by what chunk streams remember, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.held_bytes + self.chunk_streams.heap_bytes()
    }

    /// Heap held by half-received messages alone; never over [`Limits::reassembly_bytes`].
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Checks what must hold between calls.
    ///
    /// # Panics
    /// When it does not; for tests and fuzzing.
    pub fn check_invariants(&self) {
        let partials =
            self.chunk_streams.known.iter().filter_map(|(_, stream)| stream.partial.as_ref());
        assert_eq!(self.held_bytes, partials.map(Vec::capacity).sum::<usize>());
        assert!(self.held_bytes <= self.limits.reassembly_bytes);
        assert!(self.chunk_streams.known.len() <= self.limits.chunk_streams);
    }

    /// Reads one header without consuming it; `None` when it is not all there.
    fn parse_header(&self, input: &[u8]) -> Result<Option<Header>, ChunkError> {
        let Some((format, chunk_stream_id, basic_bytes)) = parse_basic_header(input) else {
            return Ok(None);
        };
        let stream = self.chunk_streams.get(chunk_stream_id);
        if stream.is_none() && format != 0 && (format, chunk_stream_id) != (1, CHUNK_STREAM_ID_MIN)
        {
            return Err(ChunkError::NoEarlierHeader { chunk_stream_id, format });
        }
        let message_bytes = MESSAGE_HEADER_BYTES[usize::from(format & 3)];
        let Some((fields, rest)) =
            input.get(basic_bytes..).and_then(|rest| rest.split_at_checked(message_bytes))
        else {
            return Ok(None);
        };
        let mut header = Header {
            format,
            chunk_stream_id,
            timestamp: 0,
            extended: None,
            length: stream.map_or(0, |stream| stream.length),
            type_id: stream.map_or(0, |stream| stream.type_id),
            message_stream_id: stream.map_or(0, |stream| stream.message_stream_id),
            header_bytes: basic_bytes + message_bytes,
        };
        if let [t0, t1, t2, fields @ ..] = fields {
            header.timestamp = u32::from_be_bytes([0, *t0, *t1, *t2]);
            if let [l0, l1, l2, type_id, fields @ ..] = fields {
                header.length = u32::from_be_bytes([0, *l0, *l1, *l2]);
                header.type_id = *type_id;
                if let [s0, s1, s2, s3] = fields {
                    header.message_stream_id = u32::from_le_bytes([*s0, *s1, *s2, *s3]);
                }
            }
            if header.timestamp == EXTENDED_TIMESTAMP {
                let Some(bytes) = rest.first_chunk::<4>() else { return Ok(None) };
                header.timestamp = u32::from_be_bytes(*bytes);
                header.extended = Some(header.timestamp);
                header.header_bytes += 4;
            }
        } else if let Some(extended) = stream.and_then(|stream| stream.extended) {
            // Clause 5.3.1.3 repeats the field in type 3 chunks, but not every peer does. The four
            // bytes decide: the same value is the field, anything else is payload already.
            let expected = extended.to_be_bytes();
            let seen = rest.len().min(expected.len());
            if rest[..seen] == expected[..seen] {
                if seen < expected.len() {
                    return Ok(None);
                }
                header.header_bytes += expected.len();
            }
        }
        // librtmp answers a ping with a type 1 chunk although chunk stream 2 had none before.
        // Nothing is in doubt there: control messages belong to message stream 0 and their
        // timestamp is ignored (clause 5.4). Everything else needs a full header first.
        if stream.is_none() && format == 1 && header.type_id > type_id::SET_PEER_BANDWIDTH {
            return Err(ChunkError::NoEarlierHeader { chunk_stream_id, format });
        }
        Ok(Some(header))
    }

    /// Consumes a header; returns the message when its payload is all there in one chunk.
    fn take_header(
        &mut self,
        header: Header,
        buf: &mut BytesMut,
    ) -> Result<Option<Message>, ChunkError> {
        let Header { format, chunk_stream_id, length, .. } = header;
        let max = self.limits.chunk_streams;
        let stream = self
            .chunk_streams
            .get_or_add(chunk_stream_id, max)
            .ok_or(ChunkError::TooManyChunkStreams { max })?;
        let chunk_size = self.chunk_size as usize;
        let received = match &stream.partial {
            Some(partial) if format == 3 => Some(partial.len()),
            Some(_) if length != stream.length => {
                let was = stream.length;
                return Err(ChunkError::LengthChanged { chunk_stream_id, was, now: length });
            }
            Some(_) => return Err(ChunkError::HeaderWithinMessage { chunk_stream_id, format }),
            None => None,
        };
        if received.is_none() {
            if length as usize > self.limits.message_bytes {
                let max = self.limits.message_bytes;
                return Err(ChunkError::MessageTooLong { length, max });
            }
            stream.begin(&header);
        }
        buf.advance(header.header_bytes);
        self.bytes_received += header.header_bytes as u64;

        let message_left = (length as usize).saturating_sub(received.unwrap_or(0));
        if received.is_none() && message_left <= chunk_size && message_left <= buf.len() {
            // A copy of its own size: a slice would keep the whole read buffer for one frame.
            let payload = Bytes::copy_from_slice(&buf[..message_left]);
            buf.advance(message_left);
            self.bytes_received += payload.len() as u64;
            return Ok(Some(stream.message(chunk_stream_id, payload)));
        }
        stream.partial.get_or_insert_default();
        self.open = Some(OpenChunk { chunk_stream_id, bytes_left: message_left.min(chunk_size) });
        Ok(None)
    }

    /// Consumes payload of the open chunk; returns the message when that completes it.
    fn take_payload(
        &mut self,
        open: OpenChunk,
        buf: &mut BytesMut,
    ) -> Result<Option<Message>, ChunkError> {
        let OpenChunk { chunk_stream_id, bytes_left } = open;
        let (now, _) = buf.split_at(bytes_left.min(buf.len()));
        let now_bytes = now.len();
        let bytes_left = bytes_left - now_bytes;
        let mut message = None;
        // Without a message in progress it was aborted within this chunk: the rest is skipped.
        if let Some(stream) = self.chunk_streams.get_mut(chunk_stream_id)
            && let Some(partial) = &mut stream.partial
        {
            let others = self.held_bytes - partial.capacity();
            let room = self.limits.reassembly_bytes.saturating_sub(others);
            if !grow(partial, now_bytes, stream.length as usize, room) {
                let max = self.limits.reassembly_bytes;
                return Err(ChunkError::ReassemblyFull { max });
            }
            partial.extend_from_slice(now);
            self.held_bytes = others + partial.capacity();
            if partial.len() >= stream.length as usize {
                self.held_bytes = others;
                let payload = Bytes::from(stream.partial.take().unwrap_or_default());
                message = Some(stream.message(chunk_stream_id, payload));
            }
        }
        buf.advance(now_bytes);
        self.bytes_received += now_bytes as u64;
        self.open = (bytes_left > 0).then_some(OpenChunk { chunk_stream_id, bytes_left });
        Ok(message)
    }
}

impl ChunkStream {
    /// Takes over the header a new message starts with.
    ///
    /// A type 3 header adds the last timestamp field once more. After type 1 and 2 that is the
    /// delta; after type 0 clause 5.3.1.2.4 makes the absolute timestamp the delta, and the readers
    /// of `FFmpeg` and librtmp do the same, so writers in use rely on it or start at 0, where
    /// every reading is the same.
    fn begin(&mut self, header: &Header) {
        if header.format != 3 {
            self.delta = header.timestamp;
            self.extended = header.extended;
        }
        self.timestamp = match header.format {
            0 => header.timestamp,
            _ => self.timestamp.wrapping_add(self.delta),
        };
        self.length = header.length;
        self.type_id = header.type_id;
        self.message_stream_id = header.message_stream_id;
    }

    fn message(&self, chunk_stream_id: u32, payload: Bytes) -> Message {
        Message {
            chunk_stream_id,
            timestamp: self.timestamp,
            type_id: self.type_id,
            message_stream_id: self.message_stream_id,
            payload,
        }
    }
}

/// Makes room for `more` bytes, with at most `room` bytes of capacity; false when that is too little.
///
/// Capacity doubles with what was received and stops at `length`; an announced length alone
/// reserves [`FIRST_RESERVE_BYTES`] at most, and an eighth of what is left.
fn grow(partial: &mut Vec<u8>, more: usize, length: usize, room: usize) -> bool {
    let needed = partial.len() + more;
    if needed > room {
        return false;
    }
    if needed > partial.capacity() {
        let first = FIRST_RESERVE_BYTES.min(room / 8);
        let wanted = needed.max(partial.len() * 2).max(first).min(length).min(room).max(needed);
        partial.reserve_exact(wanted - partial.len());
    }
    true
}

/// Chunk type, chunk stream id and bytes of the basic header (clause 5.3.1.1).
fn parse_basic_header(input: &[u8]) -> Option<(u8, u32, usize)> {
    let first = *input.first()?;
    let (chunk_stream_id, basic_bytes) = match first & 0x3F {
        0 => (64 + u32::from(*input.get(1)?), 2),
        1 => (64 + u32::from(u16::from_le_bytes([*input.get(1)?, *input.get(2)?])), 3),
        id => (u32::from(id), 1),
    };
    Some((first >> 6, chunk_stream_id, basic_bytes))
}
