//! The far end of an RTMP server: handshake and commands up to media in either direction. Media
//! itself is left as messages, so that nothing repairs what the server sent.

use bytes::{Bytes, BytesMut};
use protocols::amf::Value;
use protocols::container::flv::TagType;
use protocols::rtmp::chunk::{Limits, Reader, Writer};
use protocols::rtmp::client::Role;
use protocols::rtmp::command::{self, Command};
use protocols::rtmp::control;
use protocols::rtmp::handshake::ClientHandshake;
use protocols::rtmp::message::{Message, type_id};

use crate::checker::Tag;

const LIMITS: Limits =
    Limits { reassembly_bytes: 8 << 20, chunk_streams: 64, message_bytes: 8 << 20 };
/// Chunk stream of commands.
const COMMANDS: u32 = 3;

#[derive(Debug)]
enum Phase {
    Handshake(ClientHandshake),
    Connect,
    CreateStream,
    Start,
    Ready,
}

/// One RTMP connection.
#[derive(Debug)]
pub struct RtmpPeer {
    phase: Phase,
    role: Role,
    authority: String,
    app: String,
    name: String,
    chunk_size: u32,
    message_stream_id: u32,
    reader: Reader,
    writer: Writer,
}

impl RtmpPeer {
    /// A connection that will publish or play `app/name`; appends its first bytes to `out`.
    pub fn new(role: Role, authority: &str, names: (String, String), out: &mut Vec<u8>) -> Self {
        Self {
            phase: Phase::Handshake(ClientHandshake::new(crate::sys::monotonic_ns(), 0, out)),
            role,
            authority: authority.to_owned(),
            app: names.0,
            name: names.1,
            chunk_size: 4096,
            message_stream_id: 0,
            reader: Reader::new(LIMITS),
            writer: Writer::new(),
        }
    }

    /// With another size of the chunks it writes.
    #[must_use]
    pub fn with_chunk_size(mut self, bytes: u32) -> Self {
        self.chunk_size = bytes;
        self
    }

    /// The message stream for media, once the server has said start.
    pub fn ready(&self) -> Option<u32> {
        matches!(self.phase, Phase::Ready).then_some(self.message_stream_id)
    }

    /// Takes what is whole from `input`; answers go to `out`, media to `tags`.
    ///
    /// # Errors
    /// The server refuses or cannot be understood.
    pub fn take(
        &mut self,
        input: &mut BytesMut,
        out: &mut Vec<u8>,
        tags: &mut Vec<Tag>,
    ) -> Result<(), String> {
        if let Phase::Handshake(handshake) = &mut self.phase {
            let done = handshake.handle_input(1, input, out).map_err(|error| error.to_string())?;
            if !done {
                return Ok(());
            }
            self.connect(out);
        }
        while let Some(message) =
            self.reader.next_message(input).map_err(|error| error.to_string())?
        {
            self.on_message(message, out, tags)?;
        }
        Ok(())
    }

    /// The bytes that tell the server how much has arrived.
    pub fn acknowledgement(received: u64) -> Vec<u8> {
        let mut out = Vec::new();
        // A fresh writer makes a chunk with a full header, which stands on its own.
        Writer::new().write(&control::acknowledgement(received as u32), &mut out);
        out
    }

    fn connect(&mut self, out: &mut Vec<u8>) {
        self.write(&control::set_chunk_size(self.chunk_size), out);
        let _ = self.writer.set_chunk_size(self.chunk_size);
        let object = command::object([
            ("app", command::text(&self.app)),
            ("flashVer", command::text("perf")),
            ("tcUrl", command::text(&format!("rtmp://{}/{}", self.authority, self.app))),
        ]);
        self.command(0, &Command::new("connect", 1.0).with(object), out);
        self.phase = Phase::Connect;
    }

    fn on_message(
        &mut self,
        message: Message,
        out: &mut Vec<u8>,
        tags: &mut Vec<Tag>,
    ) -> Result<(), String> {
        match message.type_id {
            type_id::SET_CHUNK_SIZE => {
                let size = control::parse_u32(&message.payload).map_err(|e| e.to_string())?;
                self.reader.set_chunk_size(size).map_err(|error| error.to_string())?;
            }
            type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3 => {
                let command = Command::parse(&message).map_err(|error| error.to_string())?;
                self.on_command(&command, out)?;
            }
            other => {
                if let Some(tag) = TagType::from_u8(other) {
                    tags.push(Tag { tag, timestamp: message.timestamp, body: message.payload });
                }
            }
        }
        Ok(())
    }

    fn on_command(&mut self, command: &Command, out: &mut Vec<u8>) -> Result<(), String> {
        let information = command.values.get(1).unwrap_or(&Value::Null);
        let code = command::text_property(information, "code").unwrap_or_default();
        let refused = command::text_property(information, "level") == Some("error");
        match (&self.phase, command.name.as_str()) {
            (Phase::Connect, "_result") => {
                let create = Command::new("createStream", 2.0).with(Value::Null);
                self.command(0, &create, out);
                self.phase = Phase::CreateStream;
            }
            (Phase::CreateStream, "_result") => {
                self.message_stream_id = command.number(1).unwrap_or(1.0) as u32;
                self.start(out);
                self.phase = Phase::Start;
            }
            (_, "onStatus" | "_error") if refused => return Err(format!("refused: {code}")),
            (Phase::Start, "onStatus") if code.ends_with(".Start") => self.phase = Phase::Ready,
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        let name = command::text(&self.name);
        let start = match self.role {
            Role::Publish => Command::new("publish", 3.0)
                .with(Value::Null)
                .with(name)
                .with(command::text("live")),
            Role::Play => Command::new("play", 3.0).with(Value::Null).with(name),
        };
        self.command(self.message_stream_id, &start, out);
    }

    fn command(&mut self, message_stream_id: u32, command: &Command, out: &mut Vec<u8>) {
        let payload: Bytes = command.encode();
        let message = Message {
            chunk_stream_id: COMMANDS,
            timestamp: 0,
            type_id: type_id::COMMAND_AMF0,
            message_stream_id,
            payload,
        };
        self.write(&message, out);
    }

    fn write(&mut self, message: &Message, out: &mut Vec<u8>) {
        self.writer.write(message, out);
    }
}
