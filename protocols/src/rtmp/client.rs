//! The client end of one RTMP connection: publishes or plays one stream.
//!
//! Received media comes out as [`Event::Tracks`] and [`Event::Frame`]; media to publish goes in by
//! [`Client::send_tracks`] and [`Client::send_frame`] once [`Client::state`] is ready.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use crate::amf::Value;
use crate::container::flv::{self, Dialect, TagType};
use crate::media::{Frame, Timestamp, Tracks};
use crate::session::{
    Command as EngineCommand, ErrorClass, Event, Input, Output, Session, SessionError,
};
use crate::text::split_url;

use super::chunk::Limits;
use super::command::{self, Command};
use super::control::{self, UserControl};
use super::egress;
use super::handshake::ClientHandshake;
use super::ingest::Ingest;
use super::link::Link;
use super::message::{Message, type_id};
use super::status::code;

/// Acknowledgement window announced to the server.
const WINDOW_ACK_SIZE: u32 = 2_500_000;
/// Client buffer length announced before a play, in milliseconds.
const BUFFER_LENGTH_MS: u32 = 3000;
/// What stands before `onMetaData` on the way to a server: an AMF0 string.
const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0D@setDataFrame";

/// Transaction ids of the commands this client sends.
mod transaction {
    pub(super) const CONNECT: f64 = 1.0;
    pub(super) const RELEASE_STREAM: f64 = 2.0;
    pub(super) const FC_PUBLISH: f64 = 3.0;
    pub(super) const CREATE_STREAM: f64 = 4.0;
    pub(super) const STREAM: f64 = 5.0;
}

/// What a client does with its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends media.
    Publish,
    /// Receives media.
    Play,
}

/// Where a client goes and how.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// App, with query if there is one.
    pub app: String,
    /// `rtmp://host[:port]/app`.
    pub tc_url: String,
    /// Stream name, with query if there is one.
    pub stream: String,
    /// Publish or play.
    pub role: Role,
    /// Size of the chunks this client writes.
    pub chunk_size: u32,
    /// Whether type 3 chunks repeat an extended timestamp (RTMP 1.0, 5.3.1.3); both habits exist.
    pub type3_extended_timestamp: bool,
    /// Announces Enhanced RTMP and uses its forms for what has no other.
    pub enhanced: bool,
    /// What the client calls itself.
    pub flash_ver: String,
    /// Bounds of the chunk layer.
    pub limits: Limits,
    /// Legacy FLV codec id that means H.265.
    pub legacy_h265_id: u8,
}

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// Not there yet.
    Connecting,
    /// The server said start.
    Ready,
    /// Over.
    Ended,
}

/// The state machine of one RTMP client.
#[derive(Debug)]
pub struct Client {
    options: Arc<ClientOptions>,
    link: Link,
    phase: Phase,
    /// Received media, for a play.
    ingest: Option<Box<Ingest>>,
    /// Tracks to announce before the next frame, for a publish.
    tracks_due: Option<Tracks>,
}

#[derive(Debug)]
enum Phase {
    Handshaking(Box<ClientHandshake>),
    ExpectConnected,
    ExpectStream,
    ExpectStart { message_stream_id: u32 },
    Ready { message_stream_id: u32 },
    Ended,
}

impl Client {
    /// The client end of a fresh connection; its first output opens the handshake.
    pub fn new(now: Instant, seed: u64, options: Arc<ClientOptions>) -> Self {
        let mut link = Link::new(now, options.limits, WINDOW_ACK_SIZE);
        let mut hello = Vec::new();
        let handshake = ClientHandshake::new(seed, 0, &mut hello);
        link.send_raw(&hello);
        Self {
            link,
            phase: Phase::Handshaking(Box::new(handshake)),
            ingest: None,
            tracks_due: None,
            options,
        }
    }

    /// How far it has come.
    pub fn state(&self) -> ClientState {
        match self.phase {
            Phase::Ready { .. } => ClientState::Ready,
            Phase::Ended => ClientState::Ended,
            _ => ClientState::Connecting,
        }
    }

    /// Announces the tracks, now or again; they go out with the time of the next frame.
    pub fn send_tracks(&mut self, tracks: &Tracks) {
        self.tracks_due = Some(tracks.clone());
    }

    /// Sends one frame of a publish; dropped while the client is not ready.
    pub fn send_frame(&mut self, tracks: &Tracks, frame: &Frame) {
        let Phase::Ready { message_stream_id } = self.phase else {
            return;
        };
        if let Some(tracks) = self.tracks_due.take() {
            self.write_tracks(message_stream_id, &tracks, frame.dts);
        }
        self.write_frame(message_stream_id, tracks, frame);
    }

    fn write_tracks(&mut self, message_stream_id: u32, tracks: &Tracks, time: Timestamp) {
        let bodies = flv::configuration(tracks, self.dialect(), &self.options.flash_ver);
        for (tag, body) in &bodies {
            let prefix = if *tag == TagType::Script { SET_DATA_FRAME } else { &[] };
            self.write_tag(message_stream_id, *tag, time, &[prefix, body]);
        }
    }

    fn write_frame(&mut self, message_stream_id: u32, tracks: &Tracks, frame: &Frame) {
        match flv::frame_head(tracks, frame, self.dialect()) {
            Some((tag, head)) => {
                self.write_tag(message_stream_id, tag, frame.dts, &[&head, &frame.payload]);
            }
            None => tracing::trace!(kind = ?frame.kind, "frame has no FLV form"),
        }
    }

    fn write_tag(&mut self, message_stream_id: u32, tag: TagType, time: Timestamp, body: &[&[u8]]) {
        let route = (egress::chunk_stream_id(tag), tag as u8);
        let repeat_extended = self.options.type3_extended_timestamp;
        if !self.link.send_parts(
            repeat_extended,
            route,
            message_stream_id,
            flv::Timeline::wrap(time),
            body,
        ) {
            tracing::trace!(?tag, "message too long for RTMP");
        }
    }

    fn dialect(&self) -> Dialect {
        Dialect { enhanced: self.options.enhanced, legacy_h265_id: self.options.legacy_h265_id }
    }

    fn on_stream(&mut self, now: Instant, buffer: &mut BytesMut) -> Result<(), SessionError> {
        if let Phase::Handshaking(handshake) = &mut self.phase {
            let mut reply = Vec::new();
            let result = handshake.handle_input(self.link.clock_ms(now), buffer, &mut reply);
            self.link.send_raw(&reply);
            let done = result.map_err(|error| {
                SessionError::new(ErrorClass::PeerMisbehaved, error.reason(), error.to_string())
            })?;
            if !done {
                return Ok(());
            }
            self.send_connect();
            self.phase = Phase::ExpectConnected;
        }
        while !matches!(self.phase, Phase::Ended) {
            match self.link.next_message(now, buffer)? {
                Some(message) => self.on_message(now, message)?,
                None => break,
            }
        }
        self.link.acknowledge();
        Ok(())
    }

    fn on_message(&mut self, now: Instant, message: Message) -> Result<(), SessionError> {
        match message.type_id {
            type_id::USER_CONTROL => {
                // Stream begin and end come as statuses too.
                self.link.on_user_control(&message);
                Ok(())
            }
            type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3 => {
                self.on_command(now, &Command::parse(&message)?)
            }
            _ => match &mut self.ingest {
                Some(ingest) => ingest.handle(now, message, &mut self.link),
                None => Ok(()),
            },
        }
    }

    fn on_command(&mut self, now: Instant, command: &Command) -> Result<(), SessionError> {
        match command.name.as_str() {
            "_result" => self.on_result(now, command),
            // Servers that do not know the FC commands say so.
            "_error"
                if command.transaction_id == transaction::CONNECT
                    || command.transaction_id == transaction::CREATE_STREAM =>
            {
                self.on_refused(command)
            }
            "onStatus" => self.on_status(command),
            _ => Ok(()),
        }
    }

    fn on_result(&mut self, now: Instant, command: &Command) -> Result<(), SessionError> {
        match self.phase {
            Phase::ExpectConnected if command.transaction_id == transaction::CONNECT => {
                self.send_create_stream();
                self.phase = Phase::ExpectStream;
            }
            Phase::ExpectStream if command.transaction_id == transaction::CREATE_STREAM => {
                let id = command.number(1).filter(|&id| id >= 1.0 && id <= f64::from(u32::MAX));
                let Some(id) = id else {
                    return Err(SessionError::new(
                        ErrorClass::PeerMisbehaved,
                        "bad_command",
                        "createStream without a stream id",
                    ));
                };
                self.start(now, id as u32);
            }
            _ => {}
        }
        Ok(())
    }

    /// An error status: the end, unless it says where else to go, as in `ex.redirect` of those who
    /// answer `connect` so.
    fn on_refused(&mut self, command: &Command) -> Result<(), SessionError> {
        let extra = command.values.get(1).and_then(|information| information.get("ex"));
        match extra.and_then(|extra| command::text_property(extra, "redirect")) {
            Some(url) => {
                self.redirect(url);
                Ok(())
            }
            None => Err(refused(command)),
        }
    }

    /// The server sends us to another, to the app of that URL or to a stream of it.
    fn redirect(&mut self, url: &str) {
        let (_, path, _) = split_url(url);
        let names_stream = path.trim_matches('/').contains('/');
        let base = url.trim_end_matches('/');
        let url = match names_stream {
            true => base.to_owned(),
            false => format!("{base}/{}", self.options.stream),
        };
        self.link.event(Event::Redirected(url));
        self.phase = Phase::Ended;
    }

    fn on_status(&mut self, command: &Command) -> Result<(), SessionError> {
        let null = Value::Null;
        let information = command.values.get(1).unwrap_or(&null);
        if command::text_property(information, "level") == Some("error") {
            return self.on_refused(command);
        }
        match command::text_property(information, "code").unwrap_or_default() {
            code::PUBLISH_START | code::PLAY_START => {
                if let Phase::ExpectStart { message_stream_id } = self.phase {
                    self.phase = Phase::Ready { message_stream_id };
                }
            }
            code::PLAY_STOP | code::CONNECT_CLOSED => self.phase = Phase::Ended,
            code::CONNECT_RECONNECT => {
                // Without a URL: to the same server again (Enhanced RTMP v2, "Reconnect Request").
                let options = Arc::clone(&self.options);
                let url = command::text_property(information, "tcUrl");
                self.redirect(url.unwrap_or(&options.tc_url));
            }
            code::PLAY_UNPUBLISH_NOTIFY => self.link.event(Event::PublishEnded),
            _ => {}
        }
        Ok(())
    }

    fn send_connect(&mut self) {
        let options = Arc::clone(&self.options);
        self.link.set_chunk_size(options.chunk_size);
        let mut properties = vec![
            ("app".to_owned(), command::text(&options.app)),
            ("type".to_owned(), command::text("nonprivate")),
            ("flashVer".to_owned(), command::text(&options.flash_ver)),
            ("tcUrl".to_owned(), command::text(&options.tc_url)),
        ];
        if options.enhanced {
            let list = ["hvc1", "av01", "vp08", "vp09", "Opus", "fLaC", "ac-3", "ec-3"];
            let list = list.iter().map(|code| command::text(code)).collect();
            properties.push(("fourCcList".to_owned(), Value::StrictArray(list)));
            properties.push(("capsEx".to_owned(), Value::Number(1.0)));
        }
        let connect = Command::new("connect", transaction::CONNECT).with(Value::Object(properties));
        self.link.send_command(0, &connect);
    }

    fn send_create_stream(&mut self) {
        if self.options.role == Role::Publish {
            for (name, id) in [
                ("releaseStream", transaction::RELEASE_STREAM),
                ("FCPublish", transaction::FC_PUBLISH),
            ] {
                let command = Command::new(name, id)
                    .with(Value::Null)
                    .with(command::text(&self.options.stream));
                self.link.send_command(0, &command);
            }
        }
        let create = Command::new("createStream", transaction::CREATE_STREAM).with(Value::Null);
        self.link.send_command(0, &create);
    }

    fn start(&mut self, now: Instant, message_stream_id: u32) {
        let name = command::text(&self.options.stream);
        let command = match self.options.role {
            Role::Publish => Command::new("publish", transaction::STREAM)
                .with(Value::Null)
                .with(name)
                .with(command::text("live")),
            Role::Play => {
                self.ingest = Some(Box::new(Ingest::new(now, self.options.legacy_h265_id)));
                self.link.send(&control::user_control(UserControl::SetBufferLength {
                    stream_id: message_stream_id,
                    millis: BUFFER_LENGTH_MS,
                }));
                Command::new("play", transaction::STREAM)
                    .with(Value::Null)
                    .with(name)
                    .with(Value::Number(-2000.0))
            }
        };
        self.link.send_command(message_stream_id, &command);
        self.phase = Phase::ExpectStart { message_stream_id };
    }

    /// Takes leave as encoders do.
    fn close(&mut self) {
        if let Phase::Ready { message_stream_id } | Phase::ExpectStart { message_stream_id } =
            self.phase
        {
            if self.options.role == Role::Publish {
                let unpublish = Command::new("FCUnpublish", 6.0)
                    .with(Value::Null)
                    .with(command::text(&self.options.stream));
                self.link.send_command(0, &unpublish);
            }
            let delete = Command::new("deleteStream", 7.0)
                .with(Value::Null)
                .with(Value::Number(f64::from(message_stream_id)));
            self.link.send_command(0, &delete);
        }
        self.phase = Phase::Ended;
    }
}

impl Session for Client {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) -> Result<(), SessionError> {
        let result = match input {
            Input::Stream(buffer) if matches!(self.phase, Phase::Ended) => {
                buffer.clear();
                Ok(())
            }
            Input::Stream(buffer) => self.on_stream(now, buffer),
            Input::Timeout | Input::Datagram { .. } => Ok(()),
        };
        if result.is_err() {
            self.phase = Phase::Ended;
        }
        result
    }

    /// Only [`EngineCommand::Close`] means anything to a client.
    fn handle_command(&mut self, _: Instant, command: EngineCommand) -> Result<(), SessionError> {
        if matches!(command, EngineCommand::Close(_)) {
            self.close();
        }
        Ok(())
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.link.poll_output()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
    }
}

/// The end of a session by an error status of the server, whose code is the detail.
fn refused(command: &Command) -> SessionError {
    let null = Value::Null;
    let information = command.values.get(1).unwrap_or(&null);
    let code = command::text_property(information, "code").unwrap_or("no code");
    let description = command::text_property(information, "description").unwrap_or_default();
    let detail: String = format!("{code}: {description}")
        .chars()
        .filter(|character| !character.is_control())
        .take(256)
        .collect();
    SessionError::new(ErrorClass::Refused, "server_refused", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amf::Value;

    /// What a client that plays `live/x?k=v` makes of a command.
    fn after(name: &str, information: Value) -> (Result<(), SessionError>, Option<String>) {
        let now = crate::fuzzing::virtual_epoch();
        let options = ClientOptions {
            app: "live".to_owned(),
            tc_url: "rtmp://h/live".to_owned(),
            stream: "x?k=v".to_owned(),
            role: Role::Play,
            chunk_size: 4096,
            type3_extended_timestamp: true,
            enhanced: true,
            flash_ver: "test".to_owned(),
            limits: Limits { reassembly_bytes: 1 << 16, chunk_streams: 8, message_bytes: 1 << 16 },
            legacy_h265_id: 12,
        };
        let mut client = Client::new(now, 1, Arc::new(options));
        client.phase = Phase::ExpectConnected;
        let command = Command::new(name, transaction::CONNECT).with(Value::Null).with(information);
        let result = client.on_command(now, &command);
        let outputs = std::iter::from_fn(|| client.poll_output());
        let url = outputs.into_iter().find_map(|output| match output {
            Output::Event(Event::Redirected(url)) => Some(url),
            _ => None,
        });
        assert_eq!(url.is_some(), client.state() == ClientState::Ended);
        (result, url)
    }

    fn rejected(extra: Value) -> Value {
        let code = command::text("NetConnection.Connect.Rejected");
        command::object([("level", command::text("error")), ("code", code), ("ex", extra)])
    }

    #[test]
    fn servers_send_us_elsewhere_in_several_words() {
        let moved = |url: &str| {
            let properties = [("code", Value::Number(302.0)), ("redirect", command::text(url))];
            rejected(command::object(properties))
        };
        for (name, information, expected) in [
            ("_error", moved("rtmp://i:1936/live/y"), "rtmp://i:1936/live/y"),
            ("_error", moved("rtmp://i/other"), "rtmp://i/other/x?k=v"),
            ("onStatus", moved("rtmp://i/other/"), "rtmp://i/other/x?k=v"),
            (
                "onStatus",
                command::object([
                    ("level", command::text("status")),
                    ("code", command::text(code::CONNECT_RECONNECT)),
                    ("tcUrl", command::text("rtmp://i/live")),
                ]),
                "rtmp://i/live/x?k=v",
            ),
            (
                "onStatus",
                command::object([("code", command::text(code::CONNECT_RECONNECT))]),
                "rtmp://h/live/x?k=v",
            ),
        ] {
            assert_eq!(after(name, information), (Ok(()), Some(expected.to_owned())), "{name}");
        }
        let (result, url) = after("_error", rejected(Value::Null));
        assert_eq!((result.unwrap_err().reason, url), ("server_refused", None));
    }
}
