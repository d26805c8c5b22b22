//! A hand-driven client on the other end of a [`Server`], for tests and fuzz targets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::amf::{self, Value};
use crate::session::{Command as EngineCommand, Event, Input, Output, Session, SessionError};

use super::chunk::{Limits, Reader, Writer};
use super::command::{self, Command};
use super::control;
use super::handshake::ClientHandshake;
use super::message::{Message, type_id};
use super::server::{Server, ServerOptions};

/// Most bytes of chunks looked at in what a server sends.
const LIMITS: Limits =
    Limits { reassembly_bytes: 1 << 20, chunk_streams: 16, message_bytes: 1 << 20 };

/// One server session and all it said.
pub(super) struct Bench {
    pub(super) server: Server,
    pub(super) now: Instant,
    /// Bytes the server has not consumed.
    pub(super) inbox: BytesMut,
    pub(super) events: Vec<Event>,
    pub(super) replies: Vec<Message>,
    pub(super) error: Option<SessionError>,
    writer: Writer,
    reader: Reader,
    outbox: BytesMut,
    handshaken: bool,
}

impl Bench {
    /// A fresh connection, no byte sent.
    pub(super) fn new(now: Instant, options: ServerOptions) -> Self {
        Self {
            server: Server::new(now, 7, Arc::new(options)),
            now,
            inbox: BytesMut::new(),
            events: Vec::new(),
            replies: Vec::new(),
            error: None,
            writer: Writer::new(),
            reader: Reader::new(LIMITS),
            outbox: BytesMut::new(),
            handshaken: false,
        }
    }

    /// Runs the handshake.
    pub(super) fn handshaken(mut self) -> Self {
        let mut bytes = Vec::new();
        let mut handshake = ClientHandshake::new(1, 0, &mut bytes);
        self.feed(&bytes);
        bytes.clear();
        if handshake.handle_input(1, &mut self.outbox, &mut bytes) == Ok(true) {
            self.handshaken = true;
            self.feed(&bytes);
        }
        self
    }

    /// Gives the server bytes, unless it has ended, and collects what it says.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        if self.error.is_none() {
            let input = Input::Stream(&mut self.inbox);
            self.error = self.server.handle_input(self.now, input).err();
        }
        self.drain();
    }

    /// Lets time pass, and the server's deadline if it is due.
    pub(super) fn wait(&mut self, duration: Duration) {
        self.now += duration;
        while self.error.is_none() && self.server.poll_timeout().is_some_and(|at| at <= self.now) {
            self.error = self.server.handle_input(self.now, Input::Timeout).err();
        }
        self.drain();
    }

    /// The engine speaks; input rests no longer.
    pub(super) fn engine(&mut self, command: EngineCommand) {
        if self.error.is_none() {
            self.error = self.server.handle_command(self.now, command).err();
        }
        self.drain();
        self.feed(&[]);
    }

    fn drain(&mut self) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Transmit(bytes) => self.outbox.extend_from_slice(&bytes),
                Output::Event(event) => self.events.push(event),
                Output::Datagram { .. } => panic!("RTMP has no datagrams"),
            }
        }
        if self.handshaken {
            while let Ok(Some(message)) = self.reader.next_message(&mut self.outbox) {
                if message.type_id == type_id::SET_CHUNK_SIZE
                    && let Ok(size) = control::parse_u32(&message.payload)
                {
                    let _ = self.reader.set_chunk_size(size);
                }
                self.replies.push(message);
            }
        }
    }

    pub(super) fn set_chunk_size(&mut self, size: u32) {
        self.send(&control::set_chunk_size(size));
        let _ = self.writer.set_chunk_size(size);
    }

    pub(super) fn send(&mut self, message: &Message) {
        let mut bytes = Vec::new();
        self.writer.write(message, &mut bytes);
        self.feed(&bytes);
    }

    pub(super) fn send_payload(&mut self, type_id: u8, message_stream_id: u32, payload: &[u8]) {
        self.send(&Message {
            chunk_stream_id: 3 + u32::from(type_id % 5),
            timestamp: 0,
            type_id,
            message_stream_id,
            payload: Bytes::copy_from_slice(payload),
        });
    }

    pub(super) fn command(&mut self, message_stream_id: u32, command: &Command) {
        let payload = command.encode();
        self.send_payload(type_id::COMMAND_AMF0, message_stream_id, &payload);
    }

    /// A command with a null command object.
    pub(super) fn call(
        &mut self,
        message_stream_id: u32,
        name: &str,
        transaction_id: f64,
        arguments: &[Value],
    ) {
        let mut command = Command::new(name, transaction_id).with(Value::Null);
        command.values.extend_from_slice(arguments);
        self.command(message_stream_id, &command);
    }

    pub(super) fn connect(&mut self, app: &str) {
        let object = command::object([
            ("app", command::text(app)),
            ("flashVer", command::text("test")),
            ("tcUrl", command::text(&format!("rtmp://host/{app}"))),
        ]);
        self.command(0, &Command::new("connect", 1.0).with(object));
    }

    /// What the server said since the last call, one line per message.
    pub(super) fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.replies).iter().map(line).collect()
    }
}

/// One message in words.
fn line(message: &Message) -> String {
    match message.type_id {
        type_id::COMMAND_AMF0 | type_id::DATA_AMF0 => {
            let values = amf::decode_all(&message.payload).unwrap_or_default();
            let name = values.first().and_then(Value::as_text).unwrap_or("?");
            let code = values.iter().find_map(|value| command::text_property(value, "code"));
            [Some(name), code].into_iter().flatten().collect::<Vec<_>>().join(" ")
        }
        type_id::USER_CONTROL => match control::parse_user_control(&message.payload) {
            Ok(event) => format!("{event:?}"),
            Err(error) => error.to_string(),
        },
        type_id::SET_CHUNK_SIZE => "SetChunkSize".to_owned(),
        type_id::WINDOW_ACK_SIZE => "WindowAckSize".to_owned(),
        type_id::SET_PEER_BANDWIDTH => "SetPeerBandwidth".to_owned(),
        type_id::ACKNOWLEDGEMENT => "Acknowledgement".to_owned(),
        other => format!("type {other}"),
    }
}
