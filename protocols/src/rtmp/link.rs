//! What both ends of a connection share: the chunk layer in both directions, protocol control,
//! acknowledgements, and the queue of outputs in wire order.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::session::{ErrorClass, Event, Output, OutputQueue, SessionError};

use super::chunk::{CHUNK_SIZE_MAX, ChunkError, Limits, Reader, Writer};
use super::command::Command;
use super::control::{self, UserControl};
use super::egress::{COMMAND_CHUNK_STREAM, STATUS_CHUNK_STREAM};
use super::message::{Message, type_id};
use super::wire;

/// Chunk size changes a peer may make in one second.
const CHUNK_SIZE_CHANGES_MAX: u32 = 1000;

/// A fixed-window event counter over time values.
#[derive(Debug)]
pub(super) struct Rate {
    window: Duration,
    since: Instant,
    count: u32,
}

impl Rate {
    pub(super) fn new(now: Instant, window: Duration) -> Self {
        Self { window, since: now, count: 0 }
    }

    /// Counts one event; how many there were in the current window.
    pub(super) fn count(&mut self, now: Instant) -> u32 {
        if now.saturating_duration_since(self.since) >= self.window {
            self.since = now;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

/// One end of an RTMP connection after its handshake.
#[derive(Debug)]
pub(super) struct Link {
    reader: Reader,
    writer: Writer,
    outputs: OutputQueue,
    created: Instant,
    chunk_size_changes: Rate,
    /// What we announce when the peer sets our bandwidth.
    window_ack_size: u32,
    /// After how many bytes the peer wants an acknowledgement; 0: never.
    peer_window: u32,
    acknowledged: u64,
}

impl Link {
    pub(super) fn new(now: Instant, limits: Limits, window_ack_size: u32) -> Self {
        Self {
            reader: Reader::new(limits),
            writer: Writer::new(),
            outputs: OutputQueue::default(),
            created: now,
            chunk_size_changes: Rate::new(now, Duration::from_secs(1)),
            window_ack_size,
            peer_window: 0,
            acknowledged: 0,
        }
    }

    /// Milliseconds since the connection began, as RTMP clocks count.
    pub(super) fn clock_ms(&self, now: Instant) -> u32 {
        // The clock of the wire is modulo 2^32.
        now.saturating_duration_since(self.created).as_millis() as u32
    }

    /// The next message of the peer that is not protocol control.
    pub(super) fn next_message(
        &mut self,
        now: Instant,
        buffer: &mut BytesMut,
    ) -> Result<Option<Message>, SessionError> {
        while let Some(message) = self.reader.next_message(buffer).map_err(chunk_error)? {
            match message.type_id {
                type_id::SET_CHUNK_SIZE => self.on_set_chunk_size(now, &message.payload)?,
                type_id::ABORT => {
                    if let Ok(chunk_stream_id) = control::parse_u32(&message.payload) {
                        self.reader.abort(chunk_stream_id);
                    }
                }
                type_id::WINDOW_ACK_SIZE => {
                    self.peer_window =
                        control::parse_u32(&message.payload).unwrap_or(self.peer_window);
                }
                type_id::SET_PEER_BANDWIDTH => {
                    self.send(&control::window_ack_size(self.window_ack_size));
                }
                type_id::ACKNOWLEDGEMENT => {}
                _ => return Ok(Some(message)),
            }
        }
        Ok(None)
    }

    fn on_set_chunk_size(&mut self, now: Instant, payload: &[u8]) -> Result<(), SessionError> {
        if self.chunk_size_changes.count(now) > CHUNK_SIZE_CHANGES_MAX {
            return Err(SessionError::new(
                ErrorClass::LimitExceeded,
                "chunk_size_changes",
                format!("more than {CHUNK_SIZE_CHANGES_MAX} chunk size changes in a second"),
            ));
        }
        let size = control::parse_u32(payload).map_err(|error| {
            SessionError::new(ErrorClass::PeerMisbehaved, error.reason(), error.to_string())
        })?;
        self.reader.set_chunk_size(size).map_err(chunk_error)
    }

    /// Acts on a user control message; hands on what it does not answer itself.
    pub(super) fn on_user_control(&mut self, message: &Message) -> Option<UserControl> {
        match control::parse_user_control(&message.payload) {
            Ok(UserControl::PingRequest(time)) => {
                self.send(&control::user_control(UserControl::PingResponse(time)));
                None
            }
            Ok(other) => Some(other),
            Err(error) => {
                tracing::trace!(%error, "user control message ignored");
                None
            }
        }
    }

    /// Acknowledges what came in, once per half window and at most once per call.
    pub(super) fn acknowledge(&mut self) {
        let received = self.reader.bytes_received();
        if self.peer_window == 0 || received - self.acknowledged < u64::from(self.peer_window / 2) {
            return;
        }
        if received == self.acknowledged {
            return;
        }
        self.acknowledged = received;
        // The sequence number on the wire is modulo 2^32 (5.4.3).
        self.send(&control::acknowledgement(received as u32));
    }

    /// Sets the size of the chunks we write, and says so.
    pub(super) fn set_chunk_size(&mut self, size: u32) {
        let size = size.clamp(1, CHUNK_SIZE_MAX);
        self.send(&control::set_chunk_size(size));
        // In range by the line above.
        let _ = self.writer.set_chunk_size(size);
    }

    /// Queues a command: on the status chunk stream if it belongs to a message stream.
    pub(super) fn send_command(&mut self, message_stream_id: u32, command: &Command) {
        let chunk_stream_id =
            if message_stream_id == 0 { COMMAND_CHUNK_STREAM } else { STATUS_CHUNK_STREAM };
        self.send(&Message {
            chunk_stream_id,
            timestamp: 0,
            type_id: type_id::COMMAND_AMF0,
            message_stream_id,
            payload: command.encode(),
        });
    }

    /// Queues any message.
    pub(super) fn send(&mut self, message: &Message) {
        self.writer.write(message, self.outputs.bytes());
    }

    /// Queues a message whose payload is the concatenation of `parts`.
    pub(super) fn send_parts(
        &mut self,
        repeat_extended: bool,
        (chunk_stream_id, type_id): (u32, u8),
        message_stream_id: u32,
        timestamp: u32,
        parts: &[&[u8]],
    ) -> bool {
        wire::write_message(
            self.outputs.bytes(),
            self.writer.chunk_size(),
            repeat_extended,
            chunk_stream_id,
            type_id,
            message_stream_id,
            timestamp,
            parts,
        )
    }

    /// Queues bytes of the handshake.
    pub(super) fn send_raw(&mut self, bytes: &[u8]) {
        self.outputs.bytes().extend_from_slice(bytes);
    }

    /// Where media events go, behind everything queued so far.
    pub(super) fn outputs(&mut self) -> &mut OutputQueue {
        &mut self.outputs
    }

    /// Queues an event behind everything queued so far.
    pub(super) fn event(&mut self, event: Event) {
        self.outputs.event(event);
    }

    /// The next output in wire order.
    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.poll()
    }

    /// Bytes held on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.reader.heap_bytes() + self.outputs.heap_bytes()
    }
}

fn chunk_error(error: ChunkError) -> SessionError {
    let class =
        if error.is_limit() { ErrorClass::LimitExceeded } else { ErrorClass::PeerMisbehaved };
    SessionError::new(class, error.reason(), error.to_string())
}
