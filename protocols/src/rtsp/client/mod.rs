//! The client end of one RTSP connection: pulls one stream.
//!
//! What is received comes out as [`Event::Tracks`] and [`Event::Frame`], like a publication. For
//! media by datagrams the engine is asked for ports ([`Event::DatagramRequested`]) before each
//! `SETUP` and told the server's after it ([`Event::DatagramConnected`]); [`Event::PlayEnded`] gives
//! them back.

mod dialogue;
mod options;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::hops;
use crate::rtp::{PayloadFormat, Statistics};
use crate::session::{
    Command, ErrorClass, Event, Input, Output, OutputQueue, Session, SessionError,
};
use crate::text::resolve_reference;

use super::Random;
use super::auth::client::Authorization;
use super::ingest::Ingest;
use super::message::{Draft, Method, Request};
use super::reader::{Item, Reader};
use super::status::Status;
use super::transport::Delivery;

pub use options::{ClientOptions, Preference};

/// Session time-out of servers that name none (RFC 2326 12.37).
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
/// Shortest time between two signs of life.
const KEEPALIVE_MIN: Duration = Duration::from_secs(5);

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// Not there yet.
    Connecting,
    /// The server plays.
    Playing,
    /// Over.
    Ended,
}

/// The state machine of one RTSP client.
#[derive(Debug)]
pub struct Client {
    options: Arc<ClientOptions>,
    reader: Reader,
    outputs: OutputQueue,
    random: Random,
    authorization: Authorization,
    phase: Phase,
    /// `CSeq` of the last request.
    cseq: u32,
    /// The request whose answer is awaited.
    asked: Option<Box<Asked>>,
    /// The server knows `GET_PARAMETER`.
    get_parameter: bool,
    /// URL of the presentation.
    presentation: String,
    /// Video and audio to be received; their index is the track.
    tracks: Vec<PullTrack>,
    /// Media come, or shall come, within the connection.
    interleaved: bool,
    /// They may come the other way if this one leads nowhere.
    may_change: bool,
    session: Option<ServerSession>,
    ingest: Option<Box<Ingest>>,
    timers: Timers,
}

/// What the client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Options,
    Describe,
    /// Ports of the engine for that track; input rests.
    Ports(usize),
    Setup(usize),
    Play,
    Playing,
    /// The end of a session, to set up another whose media travel the other way.
    Restart,
    Ended,
}

/// A request under way, to be sent again with credentials.
#[derive(Debug)]
struct Asked {
    method: Method,
    target: String,
    fields: Vec<(&'static str, String)>,
}

/// One track of the stream.
#[derive(Debug)]
struct PullTrack {
    url: String,
    format: PayloadFormat,
    delivery: Option<Delivery>,
}

/// The session as the server named it.
#[derive(Debug)]
struct ServerSession {
    id: String,
    timeout: Duration,
}

/// Everything that can wake the client.
#[derive(Debug, Default)]
struct Timers {
    /// The answer to a request is overdue.
    answer: Option<Instant>,
    /// A sign of life is due.
    keepalive: Option<Instant>,
    /// No datagram came: ask for the media the other way.
    datagrams: Option<Instant>,
    /// The media are silent.
    media: Option<Instant>,
}

impl Client {
    /// The client end of a fresh connection; its first output is the first request.
    pub fn new(now: Instant, seed: u64, options: Arc<ClientOptions>) -> Self {
        let mut client = Self {
            reader: Reader::new(options.limits),
            outputs: OutputQueue::default(),
            random: Random::new(seed),
            authorization: Authorization::new(options.credentials.clone()),
            phase: Phase::Options,
            cseq: 0,
            asked: None,
            get_parameter: false,
            presentation: options.url.clone(),
            tracks: Vec::new(),
            interleaved: options.preference != Preference::Datagram,
            may_change: options.preference != Preference::Interleaved,
            session: None,
            ingest: None,
            timers: Timers::default(),
            options,
        };
        client.ask(now, Method::Options, client.options.url.clone(), Vec::new());
        client
    }

    /// How far it has come.
    pub fn state(&self) -> ClientState {
        match self.phase {
            Phase::Playing => ClientState::Playing,
            Phase::Ended => ClientState::Ended,
            _ => ClientState::Connecting,
        }
    }

    fn takes_input(&self) -> bool {
        !matches!(self.phase, Phase::Ports(_) | Phase::Ended)
    }

    /// Sends a request and awaits its answer.
    fn ask(
        &mut self,
        now: Instant,
        method: Method,
        target: String,
        fields: Vec<(&'static str, String)>,
    ) {
        self.asked = Some(Box::new(Asked { method, target, fields }));
        self.send_asked(now);
    }

    fn send_asked(&mut self, now: Instant) {
        let Some(Asked { method, target, fields }) = self.asked.as_deref() else { return };
        self.cseq = self.cseq.wrapping_add(1);
        let mut draft = Draft::request(*method, target, self.cseq);
        for (name, value) in fields {
            draft.push(name, value);
        }
        if let Some(session) = &self.session {
            draft.push("Session", &session.id);
        }
        if let Some(value) = self.authorization.header(&mut self.random, method.name(), target) {
            draft.push("Authorization", &value);
        }
        draft.push("User-Agent", &self.options.agent);
        if !self.options.hops.is_empty() {
            draft.push(hops::HEADER, &self.options.hops.to_string());
        }
        draft.write(self.outputs.bytes());
        self.timers.answer = now.checked_add(self.options.request_timeout);
    }

    fn on_stream(&mut self, now: Instant, buffer: &mut BytesMut) -> Result<(), SessionError> {
        while self.takes_input() {
            match self.reader.next_item(buffer)? {
                Some(Item::Response(response)) => self.on_response(now, &response)?,
                Some(Item::Request(request)) => self.on_request(&request)?,
                Some(Item::Interleaved { channel, data }) => {
                    if let Some(ingest) = &mut self.ingest
                        && ingest.handle_interleaved(now, channel, data, &mut self.outputs)
                    {
                        self.media_came(now);
                    }
                }
                None => break,
            }
        }
        Ok(())
    }

    fn media_came(&mut self, now: Instant) {
        self.timers.datagrams = None;
        if self.phase == Phase::Playing {
            self.timers.media = now.checked_add(self.options.media_timeout);
        }
    }

    /// Requests of a server: whether we are there, where else to go, that it ends.
    fn on_request(&mut self, request: &Request) -> Result<(), SessionError> {
        let cseq = request.fields.cseq();
        let method = Method::parse(&request.method);
        let status = match method {
            Some(
                Method::Options
                | Method::GetParameter
                | Method::SetParameter
                | Method::Announce
                | Method::Redirect
                | Method::Teardown,
            ) => Status::OK,
            _ => Status::NOT_IMPLEMENTED,
        };
        let mut draft = Draft::response(status, "", cseq);
        if method == Some(Method::Options) {
            draft.push("Public", "OPTIONS, GET_PARAMETER, SET_PARAMETER, REDIRECT, TEARDOWN");
        }
        draft.write(self.outputs.bytes());
        match method {
            Some(Method::Redirect) => self.on_redirect(request.fields.get("Location")),
            Some(Method::Teardown) => {
                self.end();
                self.outputs.event(Event::PublishEnded);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The engine connects to where the server sends us.
    fn on_redirect(&mut self, location: Option<&str>) -> Result<(), SessionError> {
        let Some(location) = location else {
            return Err(misbehaved("redirect without Location"));
        };
        let location = resolve_reference(&self.options.url, location);
        if ClientOptions::new(&location).is_none() {
            return Err(misbehaved("redirect to what is no URL of RTSP"));
        }
        self.end();
        self.outputs.event(Event::Redirected(location));
        Ok(())
    }

    fn on_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        if let Some(ingest) = &mut self.ingest {
            ingest.handle_timeout(now, &mut self.outputs);
        }
        let due = |timer: Option<Instant>| timer.is_some_and(|at| now >= at);
        if due(self.timers.answer) {
            return Err(SessionError::new(
                ErrorClass::TimedOut,
                "request_timeout",
                format!("no answer within {} ms", self.options.request_timeout.as_millis()),
            ));
        }
        if due(self.timers.datagrams) {
            tracing::debug!("no datagram came, asking for media within the connection");
            self.change_way(now);
        } else if due(self.timers.media) {
            return Err(SessionError::new(
                ErrorClass::TimedOut,
                "media_timeout",
                format!("no media for {} ms", self.options.media_timeout.as_millis()),
            ));
        }
        if due(self.timers.keepalive) {
            self.keep_alive(now);
        }
        Ok(())
    }

    /// `GET_PARAMETER` without parameters, or `OPTIONS` where the server does not know it.
    fn keep_alive(&mut self, now: Instant) {
        let Some(session) = &self.session else { return };
        let interval = (session.timeout / 2).max(KEEPALIVE_MIN);
        self.timers.keepalive = now.checked_add(interval);
        let method = if self.get_parameter { Method::GetParameter } else { Method::Options };
        self.ask(now, method, self.presentation.clone(), Vec::new());
        // Media are a better sign than answers, which some servers owe.
        self.timers.answer = None;
    }

    fn end(&mut self) {
        self.phase = Phase::Ended;
        self.asked = None;
        self.timers = Timers::default();
    }

    fn on_command(&mut self, now: Instant, command: Command) -> Result<(), SessionError> {
        match (command, self.phase) {
            (Command::Close(_), Phase::Ended) => {}
            (Command::Close(_), _) => {
                if self.session.is_some() {
                    self.ask(now, Method::Teardown, self.presentation.clone(), Vec::new());
                }
                self.end();
            }
            (Command::DatagramPorts { track, rtp, rtcp }, Phase::Ports(index))
                if usize::from(track) == index =>
            {
                self.send_setup(
                    now,
                    index,
                    Delivery::Datagram { client: (rtp, rtcp), server: None },
                );
            }
            (Command::Reject(refusal), Phase::Ports(_)) if self.may_change => {
                tracing::debug!(reason = refusal.reason(), "no ports, media within the connection");
                self.change_way(now);
            }
            (Command::Reject(refusal), Phase::Ports(_)) => return Err(refusal.error()),
            _ => {}
        }
        Ok(())
    }

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
            Input::Stream(buffer) if self.phase == Phase::Ended => {
                buffer.clear();
                Ok(())
            }
            Input::Stream(buffer) => self.on_stream(now, buffer),
            Input::Datagram { track, rtcp, data } => {
                if let Some(ingest) = &mut self.ingest
                    && ingest.handle_datagram(now, track, rtcp, data, &mut self.outputs)
                {
                    self.media_came(now);
                }
                Ok(())
            }
            Input::Timeout => self.on_timeout(now),
        };
        self.settle(result)
    }

    /// [`Command::Close`] and the answers to [`Event::DatagramRequested`] mean something to a client.
    fn handle_command(&mut self, now: Instant, command: Command) -> Result<(), SessionError> {
        let result = self.on_command(now, command);
        self.settle(result)
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.poll()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let Timers { answer, keepalive, datagrams, media } = self.timers;
        let receiver = self.ingest.as_ref().and_then(|ingest| ingest.poll_timeout());
        let receiver = receiver.filter(|_| self.phase != Phase::Ended);
        [answer, keepalive, datagrams, media, receiver].into_iter().flatten().min()
    }

    fn packet_statistics(&self) -> Statistics {
        self.ingest.as_ref().map(|ingest| ingest.statistics()).unwrap_or_default()
    }

    fn memory_bytes(&self) -> usize {
        let tracks: usize = self.tracks.iter().map(|track| track.url.capacity()).sum();
        size_of::<Self>()
            + self.reader.heap_bytes()
            + self.outputs.heap_bytes()
            + self.presentation.capacity()
            + self.tracks.capacity() * size_of::<PullTrack>()
            + tracks
            + self.ingest.as_ref().map_or(0, |ingest| ingest.heap_bytes())
    }
}

/// The server broke the protocol.
fn misbehaved(detail: &str) -> SessionError {
    SessionError::new(ErrorClass::PeerMisbehaved, "bad_response", detail)
}
