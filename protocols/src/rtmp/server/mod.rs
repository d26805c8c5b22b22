//! The server end of one RTMP connection: handshake, commands, publish in, permission to play out.
//!
//! Media of a play is not written here: the engine puts shared, packaged messages between this
//! session's outputs, at message boundaries, on the chunk streams of [`super::egress`].

mod connect;
pub mod fuzzing;
mod play;
mod publish;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::amf::Value;
use crate::hops::NodeId;
use crate::session::{
    AccessRequest, Command as EngineCommand, ErrorClass, Event, Input, Output, Refusal, Session,
    SessionError,
};

use super::chunk::Limits;
use super::command::Command;
use super::control::UserControl;
use super::handshake::{HandshakeError, ServerHandshake};
use super::link::Link;
use super::message::{Message, type_id};
use super::status::{self, Level, code, on_status};

use connect::Peer;
use play::Playing;
use publish::Publishing;

/// Message streams one connection may have open.
const STREAMS_MAX: u32 = 16;
/// How long a player may be silent before it is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// What a browser or a monitor reads that asks this port for a page.
fn http_reply(http_port: Option<u16>) -> String {
    let elsewhere = match http_port {
        Some(port) => format!("Pages and HTTP streams are on port {port}."),
        None => "HTTP is switched off on this server.".to_owned(),
    };
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
         This port speaks RTMP. {elsewhere}\n"
    )
}

/// What all server sessions of a listener share.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Size of the chunks this server writes, media included.
    pub chunk_size: u32,
    /// Apps that may be connected to.
    pub live_apps: Vec<String>,
    /// Legacy FLV codec id that means H.265.
    pub legacy_h265_id: u8,
    /// Bounds of the chunk layer.
    pub limits: Limits,
    /// From the first byte until `publish` or `play`.
    pub handshake_timeout: Duration,
    /// Acknowledgement window announced to peers.
    pub window_ack_size: u32,
    /// Whether type 3 chunks written by the engine repeat an extended timestamp.
    pub type3_extended_timestamp: bool,
    /// Where HTTP is served, for those who ask this port for a page.
    pub http_port: Option<u16>,
    /// What this server is to others of its kind.
    pub node: Option<NodeId>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            chunk_size: 4096,
            live_apps: vec!["live".to_owned()],
            legacy_h265_id: 12,
            limits: Limits { reassembly_bytes: 8 << 20, chunk_streams: 32, message_bytes: 8 << 20 },
            handshake_timeout: Duration::from_secs(10),
            window_ack_size: 5_000_000,
            type3_extended_timestamp: true,
            http_port: None,
            node: None,
        }
    }
}

/// The state machine of one RTMP client.
///
/// Commands that come in the wrong phase do nothing. [`EngineCommand::Reject`] ends the session
/// with an error of class `Refused`; [`EngineCommand::Close`] ends it without one.
#[derive(Debug)]
pub struct Server {
    options: Arc<ServerOptions>,
    link: Link,
    phase: Phase,
    peer: Option<Box<Peer>>,
    /// Open message streams; bit 0 is stream 1.
    streams: u16,
    /// When a peer that neither publishes nor plays is given up.
    deadline: Option<Instant>,
    /// When a silent player is pinged.
    ping_at: Option<Instant>,
    /// Client buffer length in milliseconds, as last announced.
    buffer_length_ms: u32,
    wants_audio: bool,
    wants_video: bool,
}

/// What the session waits for.
#[derive(Debug)]
enum Phase {
    Handshaking(Box<ServerHandshake>),
    ExpectConnect,
    /// Connected, neither publishing nor playing.
    Connected,
    /// The engine decides on a publish; input rests.
    AwaitPublish(Pending),
    /// The engine decides on a play; input rests.
    AwaitPlay(Pending),
    Publishing(Box<Publishing>),
    Playing(Playing),
    Ended,
}

/// A publish or play the engine has not decided on.
#[derive(Debug)]
struct Pending {
    message_stream_id: u32,
    name: String,
}

impl Server {
    /// The server end of a fresh connection.
    pub fn new(now: Instant, seed: u64, options: Arc<ServerOptions>) -> Self {
        Self {
            link: Link::new(now, options.limits, options.window_ack_size),
            phase: Phase::Handshaking(Box::new(ServerHandshake::new(seed))),
            peer: None,
            streams: 0,
            deadline: now.checked_add(options.handshake_timeout),
            ping_at: None,
            buffer_length_ms: 0,
            wants_audio: true,
            wants_video: true,
            options,
        }
    }

    /// The peer publishes, and may.
    pub fn is_publishing(&self) -> bool {
        matches!(self.phase, Phase::Publishing(_))
    }

    /// The peer plays, and may.
    pub fn is_playing(&self) -> bool {
        matches!(self.phase, Phase::Playing(_))
    }

    /// The app the peer connected to; empty before.
    pub fn app(&self) -> &str {
        self.peer.as_ref().map_or("", |peer| &peer.target.app)
    }

    /// What the peer calls itself; empty before `connect`.
    pub fn flash_ver(&self) -> &str {
        self.peer.as_ref().map_or("", |peer| &peer.agent)
    }

    /// How much a player wants to buffer, in milliseconds, if it said so (else 0).
    pub fn buffer_length_ms(&self) -> u32 {
        self.buffer_length_ms
    }

    /// Bytes this session holds on the heap, beyond its own size.
    pub fn heap_bytes(&self) -> usize {
        let phase = match &self.phase {
            Phase::Handshaking(_) => size_of::<ServerHandshake>(),
            Phase::AwaitPublish(pending) | Phase::AwaitPlay(pending) => pending.name.capacity(),
            Phase::Publishing(publishing) => size_of_val(&**publishing),
            Phase::Playing(playing) => playing.heap_bytes(),
            Phase::ExpectConnect | Phase::Connected | Phase::Ended => 0,
        };
        let peer = self.peer.as_ref().map_or(0, |peer| peer.heap_bytes());
        self.link.heap_bytes() + phase + peer
    }

    fn on_stream(&mut self, now: Instant, buffer: &mut BytesMut) -> Result<(), SessionError> {
        if let Phase::Handshaking(handshake) = &mut self.phase {
            let mut reply = Vec::new();
            let result = handshake.handle_input(self.link.clock_ms(now), buffer, &mut reply);
            self.link.send_raw(&reply);
            match result {
                Ok(true) => self.phase = Phase::ExpectConnect,
                Ok(false) => return Ok(()),
                Err(error) => {
                    if error == HandshakeError::LooksLikeHttp {
                        self.link.send_raw(http_reply(self.options.http_port).as_bytes());
                    }
                    return Err(SessionError::new(
                        ErrorClass::PeerMisbehaved,
                        error.reason(),
                        error.to_string(),
                    ));
                }
            }
        }
        while self.takes_input() {
            match self.link.next_message(now, buffer)? {
                Some(message) => self.on_message(now, message)?,
                None => break,
            }
        }
        self.link.acknowledge();
        Ok(())
    }

    fn takes_input(&self) -> bool {
        !matches!(self.phase, Phase::AwaitPublish(_) | Phase::AwaitPlay(_) | Phase::Ended)
    }

    fn on_message(&mut self, now: Instant, message: Message) -> Result<(), SessionError> {
        match message.type_id {
            type_id::USER_CONTROL => {
                if let Some(UserControl::SetBufferLength { millis, .. }) =
                    self.link.on_user_control(&message)
                {
                    self.buffer_length_ms = millis;
                }
                Ok(())
            }
            type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3 => {
                let command = Command::parse(&message)?;
                self.on_command(now, message.message_stream_id, &command)
            }
            type_id::AUDIO
            | type_id::VIDEO
            | type_id::DATA_AMF0
            | type_id::DATA_AMF3
            | type_id::AGGREGATE => self.on_media(now, message),
            // Shared objects and types nobody defined.
            type_id => {
                tracing::trace!(type_id, "message ignored");
                Ok(())
            }
        }
    }

    fn on_command(
        &mut self,
        now: Instant,
        message_stream_id: u32,
        command: &Command,
    ) -> Result<(), SessionError> {
        let name = command.name.as_str();
        tracing::debug!(command = ?name, message_stream_id, "command");
        if name == "connect" {
            return self.on_connect(command);
        }
        if self.peer.is_none() && matches!(name, "createStream" | "publish" | "play" | "play2") {
            self.call_failed(command, "connect first");
            return Err(misplaced(format!("{name} before connect")));
        }
        match name {
            "createStream" => self.on_create_stream(command),
            "deleteStream" => {
                self.on_delete_stream(now, command.number(1).map_or(0, |id| id as u32));
            }
            "closeStream" => self.on_close_stream(now, message_stream_id),
            "publish" => return self.on_publish(message_stream_id, command),
            "play" => return self.on_play(now, message_stream_id, command),
            "play2" => self.on_play2(message_stream_id, command),
            "pause" | "pauseRaw" => self.on_pause(message_stream_id, command),
            "seek" => self.link.send_command(
                message_stream_id,
                &on_status(Level::Error, code::SEEK_FAILED, "a live stream cannot be sought in"),
            ),
            "receiveAudio" => self.on_receive(false, command),
            "receiveVideo" => self.on_receive(true, command),
            "releaseStream" | "checkBandwidth" | "_checkbw" => {
                self.result(command, Value::Undefined)
            }
            "getStreamLength" => self.result(command, Value::Number(0.0)),
            "FCPublish" => self.on_fc(command, "onFCPublish", code::PUBLISH_START),
            "FCUnpublish" => self.on_fc(command, "onFCUnpublish", code::UNPUBLISH_SUCCESS),
            "FCSubscribe" => self.on_fc(command, "onFCSubscribe", code::PLAY_START),
            "FCUnsubscribe" => self.on_fc(command, "onFCUnsubscribe", code::PLAY_STOP),
            "_result" | "_error" | "onStatus" => {}
            _ => self.call_failed(command, "no such procedure"),
        }
        Ok(())
    }

    fn result(&mut self, command: &Command, value: Value) {
        if command.transaction_id != 0.0 {
            let reply =
                Command::new("_result", command.transaction_id).with(Value::Null).with(value);
            self.link.send_command(0, &reply);
        }
    }

    fn call_failed(&mut self, command: &Command, description: &str) {
        if command.transaction_id != 0.0 {
            let reply = Command::new("_error", command.transaction_id)
                .with(Value::Null)
                .with(status::information(Level::Error, code::CALL_FAILED, description));
            self.link.send_command(0, &reply);
        }
    }

    /// The `FC` commands of Flash Media Server: a notice of their own, then the result.
    fn on_fc(&mut self, command: &Command, notice: &str, code: &str) {
        let description = command.text(1).unwrap_or_default();
        let notice = Command::new(notice, 0.0).with(Value::Null).with(status::information(
            Level::Status,
            code,
            description,
        ));
        self.link.send_command(0, &notice);
        self.result(command, Value::Undefined);
    }

    fn on_create_stream(&mut self, command: &Command) {
        let index = self.streams.trailing_ones();
        if index >= STREAMS_MAX {
            self.call_failed(command, "too many streams on one connection");
            return;
        }
        self.streams |= 1 << index;
        self.result(command, Value::Number(f64::from(index + 1)));
    }

    fn on_delete_stream(&mut self, now: Instant, message_stream_id: u32) {
        if self.has_stream(message_stream_id) {
            self.on_close_stream(now, message_stream_id);
            self.streams &= !(1 << (message_stream_id - 1));
        }
    }

    /// Ends the publish or play on that message stream, if there is one.
    fn on_close_stream(&mut self, now: Instant, message_stream_id: u32) {
        let event = match &self.phase {
            Phase::Publishing(publishing) if publishing.message_stream_id == message_stream_id => {
                self.link.send_command(
                    message_stream_id,
                    &on_status(Level::Status, code::UNPUBLISH_SUCCESS, "publication ended"),
                );
                Event::PublishEnded
            }
            Phase::Playing(playing) if playing.message_stream_id == message_stream_id => {
                Event::PlayEnded
            }
            _ => return,
        };
        self.phase = Phase::Connected;
        self.ping_at = None;
        self.deadline = now.checked_add(self.options.handshake_timeout);
        self.link.event(event);
    }

    fn has_stream(&self, message_stream_id: u32) -> bool {
        (1..=STREAMS_MAX).contains(&message_stream_id)
            && self.streams & (1 << (message_stream_id - 1)) != 0
    }

    /// A publish or play is possible now on that message stream.
    ///
    /// # Errors
    /// It is not; the peer has been told with `failed`.
    fn admit(
        &mut self,
        message_stream_id: u32,
        verb: &'static str,
        failed: &'static str,
    ) -> Result<(), SessionError> {
        let text = match &self.phase {
            Phase::Publishing(_) => format!("{verb} on a connection that publishes"),
            Phase::Playing(_) => format!("{verb} on a connection that plays"),
            _ if !self.has_stream(message_stream_id) => format!("{verb} before createStream"),
            _ => return Ok(()),
        };
        self.link.send_command(message_stream_id, &on_status(Level::Error, failed, &text));
        Err(misplaced(text))
    }

    /// The request for the engine. `name` is what the peer called the stream.
    ///
    /// # Errors
    /// A part of the name is too long; the peer has been told with `failed`.
    fn access_request(
        &mut self,
        message_stream_id: u32,
        name: &str,
        failed: &'static str,
    ) -> Result<AccessRequest, SessionError> {
        let Some(peer) = &self.peer else {
            return Err(misplaced("no connect"));
        };
        match peer.target.join(name) {
            Ok(destination) => Ok(AccessRequest {
                host: destination.host,
                port: peer.target.port,
                app: peer.target.app.clone(),
                name: destination.name,
                query: destination.query,
                agent: peer.agent.clone(),
                message_stream_id,
                enhanced: peer.enhanced,
                hops: peer.hops.clone().unwrap_or_default(),
                ..AccessRequest::default()
            }),
            Err(error) => {
                let text = Refusal::BadName.text();
                self.link.send_command(message_stream_id, &on_status(Level::Error, failed, text));
                let reason = Refusal::BadName.reason();
                Err(SessionError::new(ErrorClass::Refused, reason, error.to_string()))
            }
        }
    }

    fn on_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            let waited = self.options.handshake_timeout.as_millis();
            return Err(SessionError::new(
                ErrorClass::TimedOut,
                "handshake_timeout",
                format!("neither publish nor play within {waited} ms"),
            ));
        }
        if self.ping_at.is_some_and(|ping_at| now >= ping_at) {
            self.ping(now);
        }
        Ok(())
    }

    fn on_engine_command(
        &mut self,
        now: Instant,
        command: EngineCommand,
    ) -> Result<(), SessionError> {
        match command {
            EngineCommand::Accept => self.on_accept(now),
            EngineCommand::Reject(refusal) => return self.on_reject(refusal),
            // Answers to what this session never asks.
            EngineCommand::AcceptPlay { .. }
            | EngineCommand::Describe(_)
            | EngineCommand::DatagramPorts { .. }
            | EngineCommand::MulticastGroup { .. } => {}
            EngineCommand::PublisherGone => self.on_publisher(false),
            EngineCommand::PublisherBack => self.on_publisher(true),
            EngineCommand::Reconnect => {
                if self.peer.as_ref().is_some_and(|peer| peer.can_reconnect) {
                    let text = "please connect again";
                    let status = on_status(Level::Status, code::CONNECT_RECONNECT, text);
                    self.link.send_command(0, &status);
                }
            }
            EngineCommand::Close(refusal) => {
                self.say_goodbye(refusal);
                self.end();
            }
        }
        Ok(())
    }

    fn on_accept(&mut self, now: Instant) {
        match std::mem::replace(&mut self.phase, Phase::Connected) {
            Phase::AwaitPublish(pending) => self.accept_publish(now, pending),
            Phase::AwaitPlay(pending) => self.accept_play(pending),
            other => self.phase = other,
        }
    }

    fn on_reject(&mut self, refusal: Refusal) -> Result<(), SessionError> {
        let (pending, code) = match &self.phase {
            Phase::AwaitPublish(pending) => (pending, status::publish_code(refusal)),
            Phase::AwaitPlay(pending) => (pending, status::play_code(refusal)),
            _ => return Ok(()),
        };
        let status = on_status(Level::Error, code, refusal.text());
        self.link.send_command(pending.message_stream_id, &status);
        Err(refusal.error())
    }

    fn say_goodbye(&mut self, refusal: Refusal) {
        match &self.phase {
            Phase::Publishing(publishing) => {
                let code = status::publish_code(refusal);
                let status = on_status(Level::Error, code, refusal.text());
                self.link.send_command(publishing.message_stream_id, &status);
            }
            Phase::Playing(playing) => {
                let message_stream_id = playing.message_stream_id;
                self.stop_play(message_stream_id, refusal);
            }
            Phase::AwaitPublish(_) | Phase::AwaitPlay(_) => {
                // The error it returns is what the caller does anyway.
                let _ = self.on_reject(refusal);
            }
            Phase::Connected => {
                let status = on_status(Level::Status, code::CONNECT_CLOSED, refusal.text());
                self.link.send_command(0, &status);
            }
            Phase::Handshaking(_) | Phase::ExpectConnect | Phase::Ended => {}
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Ended;
        self.deadline = None;
        self.ping_at = None;
    }

    /// Ends the session if the result says so.
    fn settle(&mut self, result: Result<(), SessionError>) -> Result<(), SessionError> {
        if result.is_err() {
            self.end();
        }
        result
    }
}

impl Session for Server {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) -> Result<(), SessionError> {
        let result = match input {
            Input::Stream(buffer) if matches!(self.phase, Phase::Ended) => {
                buffer.clear();
                Ok(())
            }
            Input::Stream(buffer) => {
                if self.ping_at.is_some() && !buffer.is_empty() {
                    self.ping_at = now.checked_add(PING_INTERVAL);
                }
                self.on_stream(now, buffer)
            }
            Input::Timeout => self.on_timeout(now),
            // All of RTMP is within its connection.
            Input::Datagram { .. } => Ok(()),
        };
        self.settle(result)
    }

    fn handle_command(&mut self, now: Instant, command: EngineCommand) -> Result<(), SessionError> {
        let result = self.on_engine_command(now, command);
        self.settle(result)
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.link.poll_output()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match (self.deadline, self.ping_at) {
            (Some(deadline), Some(ping_at)) => Some(deadline.min(ping_at)),
            (deadline, ping_at) => deadline.or(ping_at),
        }
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.heap_bytes()
    }
}

fn misplaced(detail: impl Into<String>) -> SessionError {
    SessionError::new(ErrorClass::PeerMisbehaved, "command_order", detail)
}
