//! Fuzz bodies of the sessions: sequences of messages and engine commands, and what must hold.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::{Phase, Server, ServerOptions, Session};
use crate::amf::Value;
use crate::hops::{Hops, NodeId};
use crate::rtmp::chunk::{Limits, Reader, Writer};
use crate::rtmp::client::{Client, ClientOptions, Credentials, Role};
use crate::rtmp::command::{Command, object, text};
use crate::rtmp::handshake::ServerHandshake;
use crate::rtmp::message::{Message, type_id};
use crate::rtmp::status::{Level, information};
use crate::rtmp::{control, wire};
use crate::session::{Command as EngineCommand, Event, Input, Output, Refusal};

/// Names a peer may call.
const NAMES: [&str; 24] = [
    "connect",
    "createStream",
    "publish",
    "play",
    "deleteStream",
    "closeStream",
    "releaseStream",
    "FCPublish",
    "FCUnpublish",
    "play2",
    "pause",
    "pauseRaw",
    "seek",
    "receiveAudio",
    "receiveVideo",
    "getStreamLength",
    "FCSubscribe",
    "_checkbw",
    "unknown",
    "_result",
    "_error",
    "onStatus",
    "FCUnsubscribe",
    "",
];
/// Types of the messages with bytes for a payload.
const TYPES: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 8, 9, 15, 16, 17, 18, 20, 22, 255];
const LIMITS: Limits = Limits { reassembly_bytes: 4096, chunk_streams: 8, message_bytes: 1 << 16 };

/// The bytes of a fuzz input, handed out in small pieces.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte().unwrap_or(0)).min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn value(&mut self) -> Value {
        match self.byte().unwrap_or(0) % 8 {
            0 => Value::Number(f64::from(self.byte().unwrap_or(0))),
            1 => Value::Bool(true),
            2 => Value::Bool(false),
            3 => text("x?vhost=h&k"),
            4 => Value::Text(String::from_utf8_lossy(self.bytes()).into_owned()),
            5 => object([("streamName", text("x")), ("code", text("c"))]),
            6 => object([("app", text("live")), ("capsEx", Value::Number(15.0))]),
            _ => Value::Null,
        }
    }

    fn refusal(&mut self) -> Refusal {
        match self.byte().unwrap_or(0) % 4 {
            0 => Refusal::StreamBusy,
            1 => Refusal::StreamNotFound,
            2 => Refusal::ShuttingDown,
            _ => Refusal::BadName,
        }
    }
}

/// A server under test and what it may do next.
struct Run {
    server: Server,
    now: Instant,
    inbox: BytesMut,
    reader: Reader,
    outbox: BytesMut,
    accepted_publish: bool,
    ended: bool,
}

impl Run {
    /// Behind its handshake.
    fn new() -> Self {
        let options = ServerOptions { limits: LIMITS, ..ServerOptions::default() };
        // Only differences to this time matter.
        let now = crate::fuzzing::virtual_epoch();
        let mut server = Server::new(now, 1, Arc::new(options));
        let mut hello = BytesMut::from(&[3][..]);
        hello.resize(1 + 2 * 1536, 0);
        let hello = server.handle_input(now, Input::Stream(&mut hello));
        assert!(hello.is_ok() && server.poll_output().is_some());
        Self {
            server,
            now,
            inbox: BytesMut::new(),
            reader: Reader::new(Limits { reassembly_bytes: 1 << 20, ..LIMITS }),
            outbox: BytesMut::new(),
            accepted_publish: false,
            ended: false,
        }
    }

    fn feed(&mut self) {
        let waiting = !self.server.takes_input();
        let before = self.inbox.len();
        let result = self.server.handle_input(self.now, Input::Stream(&mut self.inbox));
        let ended = matches!(self.server.phase, Phase::Ended);
        assert!(ended || !waiting || self.inbox.len() == before, "input rests until a decision");
        self.settle(result.is_err());
    }

    fn engine(&mut self, command: EngineCommand) {
        self.accepted_publish |= matches!(command, EngineCommand::Accept)
            && matches!(self.server.phase, Phase::AwaitPublish(_));
        let result = self.server.handle_command(self.now, command);
        self.settle(result.is_err());
        self.feed();
    }

    fn settle(&mut self, failed: bool) {
        assert!(!self.ended || !failed, "a session ends once");
        self.ended |= failed;
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Transmit(bytes) => self.outbox.extend_from_slice(&bytes),
                Output::Event(Event::Frame(_) | Event::Tracks(_)) => {
                    assert!(self.accepted_publish, "media only of an accepted publication");
                }
                Output::Event(_) | Output::Datagram { .. } => {}
            }
        }
        assert!(self.server.poll_output().is_none());
        loop {
            match self.reader.next_message(&mut self.outbox) {
                Ok(Some(message)) if message.type_id == type_id::SET_CHUNK_SIZE => {
                    let size = control::parse_u32(&message.payload).unwrap_or(0);
                    assert!(self.reader.set_chunk_size(size).is_ok());
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => panic!("the server wrote bad chunks: {error}"),
            }
        }
        assert!(self.outbox.is_empty(), "outputs end at message boundaries");
        assert!(self.server.heap_bytes() < 64 << 10);
        assert!(!self.ended || self.server.poll_timeout().is_none());
    }
}

/// Messages of a peer and commands of the engine in any order against a server.
///
/// # Panics
/// When an invariant does not hold.
pub fn command_sequence(data: &[u8]) {
    drop(run(data));
}

fn run(data: &[u8]) -> Run {
    let mut choices = Choices(data);
    let mut run = Run::new();
    let mut writer = Writer::new();
    while let Some(step) = choices.byte() {
        let message = match step % 10 {
            0..=3 => {
                let name = NAMES[usize::from(choices.byte().unwrap_or(0)) % NAMES.len()];
                let mut command = Command::new(name, f64::from(step >> 4));
                let count = if name == "connect" { 1 } else { 2 + usize::from(step & 1) };
                command.values.extend((0..count).map(|_| choices.value()));
                let message_stream_id = u32::from(choices.byte().unwrap_or(1) % 3);
                message(type_id::COMMAND_AMF0, message_stream_id, command.encode())
            }
            4 => {
                let connect = Command::new("connect", 1.0).with(object([("app", text("live"))]));
                message(type_id::COMMAND_AMF0, 0, connect.encode())
            }
            5 => {
                let type_id = TYPES[usize::from(choices.byte().unwrap_or(0)) % TYPES.len()];
                let payload = Bytes::copy_from_slice(choices.bytes());
                let message = message(type_id, u32::from(step >> 6), payload);
                if let (type_id::SET_CHUNK_SIZE, Ok(size)) =
                    (type_id, control::parse_u32(&message.payload))
                {
                    let mut bytes = Vec::new();
                    writer.write(&message, &mut bytes);
                    run.inbox.extend_from_slice(&bytes);
                    let _ = writer.set_chunk_size(size);
                    run.feed();
                    continue;
                }
                message
            }
            6 => {
                run.inbox.extend_from_slice(choices.bytes());
                run.feed();
                continue;
            }
            7 => {
                run.engine(EngineCommand::Accept);
                continue;
            }
            8 => {
                run.engine(match choices.byte().unwrap_or(0) % 5 {
                    0 => EngineCommand::Reject(choices.refusal()),
                    1 => EngineCommand::PublisherGone,
                    2 => EngineCommand::PublisherBack,
                    3 => EngineCommand::Reconnect,
                    _ => EngineCommand::Close(choices.refusal()),
                });
                continue;
            }
            _ => {
                run.now += Duration::from_millis(u64::from(choices.byte().unwrap_or(0)) * 200);
                if run.server.poll_timeout().is_some_and(|at| at <= run.now) {
                    let result = run.server.handle_input(run.now, Input::Timeout);
                    run.settle(result.is_err());
                }
                continue;
            }
        };
        let mut bytes = Vec::new();
        writer.write(&message, &mut bytes);
        run.inbox.extend_from_slice(&bytes);
        run.feed();
    }
    run
}

/// Chunks of a server against a client: the first byte is its role, the rest is cut by the second.
/// With the third bit of the role the server does not take the client, in words that follow.
///
/// # Panics
/// When an invariant does not hold.
pub fn client(data: &[u8]) {
    let [role, cut, rest @ ..] = data else { return };
    let options = ClientOptions {
        app: "live".to_owned(),
        tc_url: "rtmp://h/live".to_owned(),
        stream: "x".to_owned(),
        role: if role & 1 == 0 { Role::Publish } else { Role::Play },
        chunk_size: 128,
        type3_extended_timestamp: true,
        enhanced: role & 2 == 0,
        flash_ver: "fuzz".to_owned(),
        limits: LIMITS,
        legacy_h265_id: 12,
        credentials: (role & 8 != 0)
            .then(|| Credentials { user: "user".to_owned(), password: "password".to_owned() }),
        auth: (role & 16 != 0).then(|| "authmod=adobe&user=user".into()),
        hops: Hops::default().with(NodeId(1)),
        start_timeout: None,
    };
    let now = crate::fuzzing::virtual_epoch();
    let mut client = Client::new(now, 1, Arc::new(options));
    let mut inbox = BytesMut::new();
    let mut handshake = ServerHandshake::new(1);
    let mut hello = Vec::new();
    while let Some(Output::Transmit(bytes)) = client.poll_output() {
        let _ = handshake.handle_input(1, &mut BytesMut::from(&bytes[..]), &mut hello);
    }
    inbox.extend_from_slice(&hello);
    if role & 4 != 0 {
        let words = information(Level::Error, "", &String::from_utf8_lossy(rest));
        let payload = Command::new("_error", 1.0).with(Value::Null).with(words).encode();
        let mut bytes = Vec::new();
        wire::write_message(&mut bytes, 128, true, 3, type_id::COMMAND_AMF0, 0, 0, &[&payload]);
        inbox.extend_from_slice(&bytes);
    }
    // The way to a running play, in the words of a server.
    for (name, id, value) in [("_result", 1.0, Value::Null), ("_result", 4.0, Value::Number(1.0))] {
        let payload = Command::new(name, id).with(Value::Null).with(value).encode();
        let mut bytes = Vec::new();
        wire::write_message(&mut bytes, 128, true, 3, type_id::COMMAND_AMF0, 0, 0, &[&payload]);
        inbox.extend_from_slice(&bytes);
    }
    for piece in rest.chunks(1 + usize::from(*cut)) {
        inbox.extend_from_slice(piece);
        if client.handle_input(now, Input::Stream(&mut inbox)).is_err() {
            break;
        }
        while client.poll_output().is_some() {}
    }
}

fn message(type_id: u8, message_stream_id: u32, payload: Bytes) -> Message {
    Message { chunk_stream_id: 3, timestamp: 0, type_id, message_stream_id, payload }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sessions_hold_on_random_bytes(data in prop::collection::vec(any::<u8>(), 0..2000)) {
            super::command_sequence(&data);
            super::client(&data);
        }

        #[test]
        fn sessions_hold_behind_a_request(
            play in 2u8..4,
            decision in 7u8..9,
            data in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            super::command_sequence(&[&requested(play), &[decision][..], &data].concat());
        }

        #[test]
        fn sessions_hold_on_odd_media(
            data in prop::collection::vec((7u8..11, prop::collection::vec(any::<u8>(), 0..60)), 0..20),
        ) {
            let mut input = [&requested(2), &[7][..]].concat();
            for (kind, payload) in data {
                input.extend([5, kind, payload.len() as u8]);
                input.extend(payload);
            }
            super::command_sequence(&input);
        }
    }

    /// Connected, a stream created, a publish (2) or play (3) asked for.
    fn requested(verb: u8) -> [u8; 11] {
        [4, 20, 1, 7, 7, 0, 20, verb, 7, 3, 1]
    }

    #[test]
    fn the_request_is_one() {
        let accepted = |verb| super::run(&[&requested(verb), &[7][..]].concat()).server;
        assert!(accepted(2).is_publishing() && accepted(3).is_playing());
    }
}
