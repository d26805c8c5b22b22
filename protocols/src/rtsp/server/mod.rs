//! The server end of one RTSP connection: requests, states, publish in, permission to play out.
//!
//! Media of a play is not written here: the engine puts shared packets, framed, between this
//! session's outputs once the answer to `PLAY` is out, or sends them from ports of its own.

mod admission;
mod describe;
pub mod fuzzing;
mod options;
mod play;
mod publish;
mod setup;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use crate::hops::{self, Hops};
use crate::rtp::Statistics;
use crate::session::{
    AccessRequest, Command, ErrorClass, Event, Input, Output, OutputQueue, Refusal, Session,
    SessionError,
};
use crate::text::{cut, split_query};

use super::Random;
use super::auth::server::Guard;
use super::message::{Draft, Method, Request, Version};
use super::reader::{Item, Reader};
use super::status::Status;
use super::tunnel;
use super::url::{Target, split_control};

pub use options::{Addresses, ServerOptions};

use describe::Described;
use play::{Play, PlayState};
use publish::Publish;
use setup::Setup;

/// What this server does (RFC 2326 10).
const PUBLIC: &str = "OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, PAUSE, RECORD, TEARDOWN, \
                      GET_PARAMETER, SET_PARAMETER";
/// Longest `User-Agent` kept.
const AGENT_BYTES_MAX: usize = 128;

/// The state machine of one RTSP client.
///
/// Commands that come in the wrong phase do nothing. [`Command::Reject`] of a publish, play or
/// description ends the session with an error of class `Refused`, of a transport it does not, nor
/// for want of credentials where there are users: the peer is asked for them and may try again.
/// [`Command::Close`] ends it without an error.
#[derive(Debug)]
pub struct Server {
    options: Arc<ServerOptions>,
    addresses: Addresses,
    reader: Reader,
    outputs: OutputQueue,
    random: Random,
    guard: Guard,
    phase: Phase,
    /// What the engine decides on; input rests.
    pending: Option<Pending>,
    /// An answer that waits; input rests.
    held: Option<Held>,
    /// The stream last described on this connection.
    described: Option<Box<Described>>,
    agent: String,
    /// Servers of our kind that the peer's requests have passed.
    hops: Hops,
    /// Nothing was asked yet: the connection may still be half of a tunnel.
    fresh: bool,
    /// When the peer is given up.
    deadline: Option<Instant>,
    /// Packets of publications that are over.
    packets: Statistics,
}

/// What the connection is for (RFC 2326 A.2).
#[derive(Debug)]
enum Phase {
    /// Nothing is set up: the Init state.
    Idle,
    Play(Box<Play>),
    Publish(Box<Publish>),
    Ended,
}

/// A request the engine has not decided on.
#[derive(Debug)]
struct Pending {
    cseq: u32,
    request: PendingRequest,
}

/// An answer that waits for its time.
#[derive(Debug)]
struct Held {
    until: Instant,
    answer: Vec<u8>,
    /// The session ends with it.
    last: bool,
}

#[derive(Debug)]
enum PendingRequest {
    Describe(Target),
    Announce(Box<Publish>),
    Setup(Box<Setup>),
    Play {
        wants_scale: bool,
    },
    /// The connection is half of a tunnel; this session is over.
    Tunnel,
}

impl Server {
    /// The server end of a fresh connection.
    pub fn new(now: Instant, seed: u64, options: Arc<ServerOptions>, addresses: Addresses) -> Self {
        Self {
            addresses,
            reader: Reader::new(options.limits),
            outputs: OutputQueue::default(),
            random: Random::new(seed),
            guard: Guard::new(),
            phase: Phase::Idle,
            pending: None,
            held: None,
            described: None,
            agent: String::new(),
            hops: Hops::default(),
            fresh: true,
            deadline: now.checked_add(options.setup_timeout),
            packets: Statistics::default(),
            options,
        }
    }

    /// The server end of a tunnel: its outputs go to the `GET`, its inputs are those of the `POST`.
    pub fn tunnelled(
        now: Instant,
        seed: u64,
        options: Arc<ServerOptions>,
        addresses: Addresses,
    ) -> Self {
        Self { fresh: false, ..Self::new(now, seed, options, addresses) }
    }

    /// The peer publishes, and may.
    pub fn is_publishing(&self) -> bool {
        matches!(self.phase, Phase::Publish(_))
    }

    /// The peer plays, and may; perhaps it pauses.
    pub fn is_playing(&self) -> bool {
        matches!(&self.phase, Phase::Play(play) if play.state != PlayState::Ready)
    }

    fn takes_input(&self) -> bool {
        self.pending.is_none() && self.held.is_none() && !matches!(self.phase, Phase::Ended)
    }

    fn on_stream(&mut self, now: Instant, buffer: &mut BytesMut) -> Result<(), SessionError> {
        while self.takes_input() {
            match self.reader.next_item(buffer) {
                Ok(Some(Item::Request(request))) => self.on_request(now, &request)?,
                Ok(Some(Item::Interleaved { channel, data })) => {
                    if let Phase::Publish(publish) = &mut self.phase {
                        publish.handle_interleaved(now, channel, data, &mut self.outputs);
                    }
                    self.rearm(now);
                }
                // This server asks nothing.
                Ok(Some(Item::Response(response))) => {
                    tracing::trace!(status = response.status.0, "response ignored");
                }
                Ok(None) => break,
                Err(error) => {
                    let draft = Draft::response(error.status, error.detail, error.cseq);
                    self.send(draft);
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    fn on_request(&mut self, now: Instant, request: &Request) -> Result<(), SessionError> {
        let fresh = std::mem::replace(&mut self.fresh, false);
        if request.version == Version::Http {
            let half = tunnel::half_of(request).filter(|_| fresh);
            let Some(half) = half else { return Err(self.refuse_http()) };
            self.wait(0, PendingRequest::Tunnel, half);
            return Ok(());
        }
        let Some(cseq) = request.fields.cseq() else {
            let detail = "CSeq is missing or not a number";
            self.send(Draft::response(Status::BAD_REQUEST, detail, None));
            return Ok(());
        };
        // Behind the path there may be secrets.
        let target = split_query(&request.target).0;
        tracing::debug!(method = ?request.method, ?target, cseq, "request");
        if request.version != Version::Rtsp10 {
            self.answer(cseq, Status::VERSION_NOT_SUPPORTED, "");
            return Ok(());
        }
        let Some(method) = Method::parse(&request.method) else {
            let draft = Draft::response(Status::NOT_IMPLEMENTED, "", Some(cseq));
            self.send(draft.with("Public", PUBLIC));
            return Ok(());
        };
        if let Some(agent) = request.fields.get("User-Agent") {
            self.agent = cut(agent, AGENT_BYTES_MAX).to_owned();
        }
        if let Some(text) = request.fields.get(hops::HEADER) {
            // What is no list of nodes is none: it is for servers of our kind to write.
            self.hops = text.parse().unwrap_or_default();
        }
        if !self.supports_required(request, cseq) || !self.admit(now, method, request, cseq) {
            return Ok(());
        }
        self.rearm(now);
        match method {
            Method::Options => {
                self.send(Draft::response(Status::OK, "", Some(cseq)).with("Public", PUBLIC));
            }
            Method::Describe => self.on_describe(request, cseq),
            Method::Announce => self.on_announce(request, cseq),
            Method::Setup => self.on_setup(now, request, cseq),
            Method::Play => self.on_play(now, request, cseq),
            Method::Pause => self.on_pause(now, request, cseq),
            Method::Record => self.on_record(now, request, cseq),
            Method::Teardown => self.on_teardown(now, request, cseq),
            Method::GetParameter | Method::SetParameter => self.on_parameter(request, cseq),
            Method::Redirect => {
                let draft = Draft::response(Status::METHOD_NOT_ALLOWED, "", Some(cseq));
                self.send(draft.with("Allow", PUBLIC));
            }
        }
        Ok(())
    }

    fn refuse_http(&mut self) -> SessionError {
        let elsewhere = match self.options.http_port {
            Some(port) => format!("Pages and HTTP streams are on port {port}."),
            None => "HTTP is switched off on this server.".to_owned(),
        };
        let reply = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
             This port speaks RTSP. {elsewhere}\n"
        );
        self.outputs.bytes().extend_from_slice(reply.as_bytes());
        SessionError::new(ErrorClass::PeerMisbehaved, "looks_like_http", "HTTP on the RTSP port")
    }

    /// `GET_PARAMETER` and `SET_PARAMETER` (10.8, 10.9): empty ones ask whether anybody is there.
    fn on_parameter(&mut self, request: &Request, cseq: u32) {
        if request.body.trim_ascii().is_empty() {
            let draft = self.with_session(Draft::response(Status::OK, "", Some(cseq)));
            self.send(draft);
        } else {
            self.answer(cseq, Status::PARAMETER_UNKNOWN, "this server has no parameters");
        }
    }

    /// `TEARDOWN` (10.7) of the whole session.
    fn on_teardown(&mut self, now: Instant, request: &Request, cseq: u32) {
        if !self.is_aggregate(request, cseq) {
            return;
        }
        self.end_session(now);
        self.deadline = now.checked_add(self.options.setup_timeout);
        self.answer(cseq, Status::OK, "");
    }

    fn end_session(&mut self, now: Instant) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Play(_) => self.outputs.event(Event::PlayEnded),
            Phase::Publish(mut publish) => {
                publish.finish(now, &mut self.outputs);
                self.packets.add(publish.statistics());
                self.outputs.event(Event::PublishEnded);
            }
            Phase::Idle | Phase::Ended => {}
        }
    }

    /// The request is about the whole presentation of the session, or about its only track. False:
    /// answered.
    fn is_aggregate(&mut self, request: &Request, cseq: u32) -> bool {
        let (target, tracks) = match &self.phase {
            Phase::Play(play) => (&play.target, play.tracks.iter().flatten().count()),
            Phase::Publish(publish) => (&publish.target, publish.tracks.len()),
            Phase::Idle | Phase::Ended => return true,
        };
        let refusal = match self.locate(&request.target, target) {
            Some(None) => None,
            Some(Some(_)) if tracks == 1 => None,
            Some(Some(_)) => Some((Status::ONLY_AGGREGATE, "")),
            None => Some((Status::NOT_FOUND, "not the stream of this session")),
        };
        if let Some((status, detail)) = refusal {
            self.answer(cseq, status, detail);
        }
        refusal.is_none()
    }

    /// Where a URL lies in a presentation: `Some(None)` the whole, `Some(control)` a part of it,
    /// `None` elsewhere.
    fn locate(&self, url: &str, known: &Target) -> Option<Option<String>> {
        let is_control = |last: &str| match &self.phase {
            Phase::Publish(publish) => publish.is_control(last),
            _ => super::url::track_number(last).is_some(),
        };
        let whole = Target::parse(url)?;
        let after_query = whole.query.rsplit_once('/').is_some_and(|(_, last)| is_control(last));
        if whole.is_same_stream(known) && !after_query {
            return Some(None);
        }
        let (base, control) = split_control(url, is_control);
        let base = Target::parse(&base)?;
        (control.is_some() && base.is_same_stream(known)).then_some(control)
    }

    /// The stream a URL names, if it can be one here; else what to answer.
    fn acceptable(&self, url: &str) -> Result<Target, (Status, &'static str)> {
        let Some(target) = Target::parse(url) else {
            return Err((Status::URI_TOO_LONG, "no stream has such a name"));
        };
        if !self.options.live_apps.contains(&target.app) {
            return Err((Status::NOT_FOUND, Refusal::UnknownApp.text()));
        }
        if target.name.is_empty() {
            return Err((Status::NOT_FOUND, "the URL names no stream"));
        }
        Ok(target)
    }

    fn access_request(&self, target: &Target) -> AccessRequest {
        AccessRequest {
            host: target.host.clone(),
            port: target.port,
            app: target.app.clone(),
            name: target.name.clone(),
            query: target.query.clone(),
            agent: self.agent.clone(),
            hops: self.hops.clone(),
            identity: self.guard.identity().clone(),
            ..AccessRequest::default()
        }
    }

    fn wait(&mut self, cseq: u32, request: PendingRequest, event: Event) {
        self.pending = Some(Pending { cseq, request });
        self.outputs.event(event);
    }

    fn answer(&mut self, cseq: u32, status: Status, detail: &str) {
        self.send(Draft::response(status, detail, Some(cseq)));
    }

    fn send(&mut self, draft: Draft) {
        draft.with("Server", &self.options.name).write(self.outputs.bytes());
    }

    /// Sends an answer to wrong credentials, later.
    fn hold(&mut self, now: Instant, draft: Draft, last: bool) {
        let mut answer = Vec::new();
        draft.with("Server", &self.options.name).write(&mut answer);
        self.held = Some(Held { until: now + self.guard.penalty(), answer, last });
    }

    /// `Session` with its time-out (12.37), where there is one.
    fn with_session(&self, draft: Draft) -> Draft {
        let id = match &self.phase {
            Phase::Play(play) => Some(&play.id),
            Phase::Publish(publish) => publish.id.as_ref(),
            Phase::Idle | Phase::Ended => None,
        };
        match id {
            Some(id) => {
                let seconds = self.options.session_timeout.as_secs();
                draft.with("Session", &format!("{id};timeout={seconds}"))
            }
            None => draft,
        }
    }

    /// The peer was heard: a session lives on.
    fn rearm(&mut self, now: Instant) {
        self.deadline = match &self.phase {
            // A session must come about in its time, whatever else is asked.
            Phase::Idle => self.deadline,
            Phase::Publish(publish) if !publish.has_recorded() => self.deadline,
            Phase::Play(play) if play.needs_no_sign() => None,
            Phase::Play(_) | Phase::Publish(_) => now.checked_add(self.options.session_timeout),
            Phase::Ended => None,
        };
    }

    /// The next word is ours: the peer is not late.
    fn waits_for_us(&self) -> bool {
        self.pending.is_some() || self.held.is_some()
    }

    fn on_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        if let Phase::Publish(publish) = &mut self.phase {
            publish.handle_timeout(now, &mut self.outputs);
        }
        if let Some(held) = self.held.take_if(|held| now >= held.until) {
            self.outputs.bytes().extend_from_slice(&held.answer);
            if held.last {
                return Err(Refusal::Unauthorised.error());
            }
        }
        if self.waits_for_us() || self.deadline.is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        let (reason, waited) = match &self.phase {
            Phase::Idle => ("handshake_timeout", self.options.setup_timeout),
            Phase::Publish(publish) if !publish.has_recorded() => {
                ("handshake_timeout", self.options.setup_timeout)
            }
            _ => ("session_timeout", self.options.session_timeout),
        };
        let detail = format!("silent for {} ms", waited.as_millis());
        Err(SessionError::new(ErrorClass::TimedOut, reason, detail))
    }

    fn on_command(&mut self, now: Instant, command: Command) -> Result<(), SessionError> {
        if let Command::Close(refusal) = command {
            if let Some(Pending { cseq, .. }) = self.pending.take() {
                self.answer(cseq, refusal.into(), refusal.text());
            }
            self.end();
            return Ok(());
        }
        let Some(Pending { cseq, request }) = self.pending.take() else { return Ok(()) };
        match (command, request) {
            (Command::Describe(tracks), PendingRequest::Describe(target)) => {
                self.describe(cseq, target, &tracks);
            }
            (Command::Accept, PendingRequest::Announce(publish)) => {
                self.phase = Phase::Publish(publish);
                self.answer(cseq, Status::OK, "");
            }
            (Command::Accept, PendingRequest::Play { wants_scale }) => {
                self.accept_play(cseq, wants_scale, [None, None]);
            }
            (Command::AcceptPlay { video, audio }, PendingRequest::Play { wants_scale }) => {
                self.accept_play(cseq, wants_scale, [video, audio]);
            }
            (Command::Reject(refusal), PendingRequest::Setup(setup)) => {
                self.try_transports(now, cseq, setup, Some(refusal));
            }
            (Command::Reject(Refusal::Unauthorised), _) if self.options.access.knows_users() => {
                self.challenge_refused(now, cseq);
            }
            (Command::Reject(refusal), request) => {
                let unsupported = refusal == Refusal::Unsupported;
                let status = match request {
                    PendingRequest::Announce(_) if unsupported => Status::UNSUPPORTED_MEDIA,
                    _ => refusal.into(),
                };
                self.answer(cseq, status, refusal.text());
                return Err(refusal.error());
            }
            (command, PendingRequest::Setup(setup)) => self.on_ports(cseq, setup, command),
            // Not an answer to this: it still waits.
            (_, request) => {
                self.pending = Some(Pending { cseq, request });
                return Ok(());
            }
        }
        if self.pending.is_none() {
            self.deadline = now.checked_add(self.options.setup_timeout);
            self.rearm(now);
        }
        Ok(())
    }

    fn end(&mut self) {
        self.packets = self.packet_statistics();
        self.phase = Phase::Ended;
        self.pending = None;
        self.held = None;
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

impl Session for Server {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) -> Result<(), SessionError> {
        let result = match input {
            Input::Stream(buffer) if matches!(self.phase, Phase::Ended) => {
                buffer.clear();
                Ok(())
            }
            Input::Stream(buffer) => self.on_stream(now, buffer),
            Input::Datagram { track, rtcp, data } => {
                if let Phase::Publish(publish) = &mut self.phase {
                    publish.handle_datagram(now, track, rtcp, data, &mut self.outputs);
                }
                self.rearm(now);
                Ok(())
            }
            Input::Timeout => self.on_timeout(now),
        };
        self.settle(result)
    }

    fn handle_command(&mut self, now: Instant, command: Command) -> Result<(), SessionError> {
        let result = self.on_command(now, command);
        self.settle(result)
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.poll()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadline.filter(|_| !self.waits_for_us());
        let receiver = match &self.phase {
            Phase::Publish(publish) => publish.poll_timeout(),
            _ => None,
        };
        let held = self.held.as_ref().map(|held| held.until);
        [deadline, receiver, held].into_iter().flatten().min()
    }

    fn packet_statistics(&self) -> Statistics {
        let mut total = self.packets;
        if let Phase::Publish(publish) = &self.phase {
            total.add(publish.statistics());
        }
        total
    }

    fn memory_bytes(&self) -> usize {
        let phase = match &self.phase {
            Phase::Play(play) => play.heap_bytes(),
            Phase::Publish(publish) => publish.heap_bytes(),
            Phase::Idle | Phase::Ended => 0,
        };
        let pending = self.pending.as_ref().map_or(0, |pending| match &pending.request {
            PendingRequest::Describe(target) => target.heap_bytes(),
            PendingRequest::Announce(publish) => publish.heap_bytes(),
            PendingRequest::Setup(setup) => setup.heap_bytes(),
            PendingRequest::Play { .. } | PendingRequest::Tunnel => 0,
        });
        let described = self.described.as_ref().map_or(0, |described| described.heap_bytes());
        let held = self.held.as_ref().map_or(0, |held| held.answer.capacity());
        size_of::<Self>()
            + self.reader.heap_bytes()
            + self.outputs.heap_bytes()
            + self.guard.heap_bytes()
            + self.agent.capacity()
            + phase
            + pending
            + held
            + described
    }
}
