//! The client end of one RTMP connection: publishes or plays one stream.
//!
//! Received media comes out as [`Event::Tracks`] and [`Event::Frame`]. A publication that the server
//! has taken is reported as [`Event::PlayRequested`], whose message stream the engine puts packaged
//! media on, between this session's outputs, as for a player of a [`super::Server`]; or media goes
//! in by [`Client::send_tracks`] and [`Client::send_frame`] once [`Client::state`] is ready.

mod auth;
mod connect;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::amf::Value;
use crate::container::flv::{self, Dialect, TagType};
use crate::hops::Hops;
use crate::media::{Frame, Timestamp, Tracks};
use crate::session::{
    AccessRequest, Command as EngineCommand, ErrorClass, Event, Input, Output, Session,
    SessionError,
};

use super::chunk::Limits;
use super::command::{self, Command};
use super::control::{self, UserControl};
use super::egress;
use super::handshake::ClientHandshake;
use super::ingest::Ingest;
use super::link::Link;
use super::message::{Message, type_id};
use super::status::code;

pub use auth::Credentials;

/// Acknowledgement window announced to the server.
const WINDOW_ACK_SIZE: u32 = 2_500_000;
/// Client buffer length announced before a play, in milliseconds.
const BUFFER_LENGTH_MS: u32 = 3000;
/// What stands before `onMetaData` on the way to a server: an AMF0 string.
pub const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0D@setDataFrame";

/// Transaction ids of the commands this client sends.
mod transaction {
    pub(super) const CONNECT: f64 = 1.0;
    pub(super) const RELEASE_STREAM: f64 = 2.0;
    pub(super) const FC_PUBLISH: f64 = 3.0;
    pub(super) const CREATE_STREAM: f64 = 4.0;
    pub(super) const STREAM: f64 = 5.0;
    pub(super) const FC_UNPUBLISH: f64 = 6.0;
    pub(super) const DELETE_STREAM: f64 = 7.0;
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
    /// Announces Enhanced RTMP, and uses its forms for what has no other if the server does too.
    pub enhanced: bool,
    /// What the client calls itself.
    pub flash_ver: String,
    /// Bounds of the chunk layer.
    pub limits: Limits,
    /// Legacy FLV codec id that means H.265.
    pub legacy_h265_id: u8,
    /// Who we are, for servers that ask.
    pub credentials: Option<Credentials>,
    /// What the server wanted to be asked with: [`Event::ConnectAgain`] of the connection before.
    pub auth: Option<Box<str>>,
    /// Servers of our kind that the stream, or the request for it, has passed, this one last.
    pub hops: Hops,
    /// From the first byte until the server says start; `None` leaves that to the caller.
    pub start_timeout: Option<Duration>,
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
    /// The server has announced Enhanced RTMP.
    peer_enhanced: bool,
    /// When a server that has not said start is given up.
    deadline: Option<Instant>,
    /// Ours, for servers that ask who we are.
    challenge: u32,
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
            peer_enhanced: false,
            deadline: options.start_timeout.and_then(|after| now.checked_add(after)),
            // Half of the seed: nothing else of it is shown to the server but random bytes.
            challenge: (seed >> 32) as u32,
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
        let enhanced = self.options.enhanced && self.peer_enhanced;
        Dialect { enhanced, legacy_h265_id: self.options.legacy_h265_id }
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
                    || command.transaction_id == transaction::CREATE_STREAM
                    || command.transaction_id == transaction::STREAM =>
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
                self.on_connected(command)?;
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

    fn on_status(&mut self, command: &Command) -> Result<(), SessionError> {
        let information = command.information();
        if self.follow(command) {
            return Ok(());
        }
        if command::text_property(information, "level") == Some("error") {
            return Err(refused(command, &self.options));
        }
        match command::text_property(information, "code").unwrap_or_default() {
            code::PUBLISH_START | code::PLAY_START => {
                if let Phase::ExpectStart { message_stream_id } = self.phase {
                    self.on_started(message_stream_id);
                }
            }
            code::CONNECT_CLOSED if self.options.role == Role::Publish => {
                let detail = "the server has ended the connection";
                return Err(SessionError::new(ErrorClass::Refused, "server_closed", detail));
            }
            code::PLAY_STOP | code::CONNECT_CLOSED => self.end(),
            // Without a URL: to the same server again (Enhanced RTMP v2, "Reconnect Request").
            code::CONNECT_RECONNECT => match command::text_property(information, "tcUrl") {
                Some(url) => self.redirect(url),
                None if self.options.role == Role::Publish => {
                    let detail = "the server wants to be connected to anew";
                    let reason = "reconnect_requested";
                    return Err(SessionError::new(ErrorClass::Refused, reason, detail));
                }
                None => self.redirect(&Arc::clone(&self.options).tc_url),
            },
            code::PLAY_UNPUBLISH_NOTIFY => self.link.event(Event::PublishEnded),
            _ => {}
        }
        Ok(())
    }

    /// The server takes or gives media from here on.
    fn on_started(&mut self, message_stream_id: u32) {
        self.phase = Phase::Ready { message_stream_id };
        self.deadline = None;
        if self.options.role == Role::Publish {
            self.link.event(Event::PlayRequested(AccessRequest {
                app: self.options.app.clone(),
                name: self.options.stream.clone(),
                message_stream_id,
                enhanced: self.options.enhanced && self.peer_enhanced,
                ..AccessRequest::default()
            }));
        }
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
                let unpublish = Command::new("FCUnpublish", transaction::FC_UNPUBLISH)
                    .with(Value::Null)
                    .with(command::text(&self.options.stream));
                self.link.send_command(0, &unpublish);
            }
            let delete = Command::new("deleteStream", transaction::DELETE_STREAM)
                .with(Value::Null)
                .with(Value::Number(f64::from(message_stream_id)));
            self.link.send_command(0, &delete);
        }
        self.end();
    }

    fn end(&mut self) {
        self.phase = Phase::Ended;
        self.deadline = None;
    }

    /// Ends the session if the result says so.
    fn settle(&mut self, result: Result<(), SessionError>) -> Result<(), SessionError> {
        if result.is_err() {
            self.end();
        }
        result
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
            Input::Timeout if self.deadline.is_some_and(|deadline| now >= deadline) => {
                let detail = "the server has not said start in time";
                Err(SessionError::new(ErrorClass::TimedOut, "start_timeout", detail))
            }
            Input::Timeout | Input::Datagram { .. } => Ok(()),
        };
        self.settle(result)
    }

    /// Only [`EngineCommand::Close`] means anything to a client.
    fn handle_command(&mut self, _: Instant, command: EngineCommand) -> Result<(), SessionError> {
        match command {
            EngineCommand::Close(_) => self.close(),
            // There is nothing to publish after all.
            EngineCommand::Reject(refusal) if self.options.role == Role::Publish => {
                self.close();
                return Err(refusal.error());
            }
            _ => {}
        }
        Ok(())
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.link.poll_output()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    fn memory_bytes(&self) -> usize {
        let ingest = self.ingest.as_ref().map_or(0, |ingest| size_of_val(&**ingest));
        size_of::<Self>() + self.link.heap_bytes() + ingest
    }
}

/// The end of a session by an error status of the server, whose code is the detail. Servers like to
/// repeat the name of the stream there, which may be a secret key: it is left out.
fn refused(command: &Command, options: &ClientOptions) -> SessionError {
    let information = command.information();
    let said = command::text_property(information, "code").unwrap_or("no code");
    let description = command::text_property(information, "description").unwrap_or_default();
    let name = crate::text::split_query(&options.stream).0;
    let hides = options.role == Role::Publish && !name.is_empty();
    let description = if hides { description.replace(name, "***") } else { description.to_owned() };
    let detail: String = format!("{said}: {description}")
        .chars()
        .filter(|character| !character.is_control())
        .take(256)
        .collect();
    let reason = match said {
        code::PLAY_NOT_FOUND => "stream_not_found",
        _ => "server_refused",
    };
    SessionError::new(ErrorClass::Refused, reason, detail)
}
