//! The client end of one HTTP connection whose answer is an FLV stream.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BytesMut};

use super::body::Body;
use crate::container::flv::{Demuxer, TagReader, Timeline};
use crate::hops::{self, Hops};
use crate::session::{
    Command, ErrorClass, Event, Input, Output, OutputQueue, Session, SessionError,
};
use crate::text::{credentials, resolve_reference, split_url, split_user};

/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields of an answer.
const FIELDS_MAX: usize = 64;

/// Where a client goes.
#[derive(Clone)]
pub struct ClientOptions {
    /// `http://[user:password@]host[:port]/path[?query]`.
    pub url: String,
    /// What the client calls itself.
    pub agent: String,
    /// Legacy FLV codec id that means H.265.
    pub legacy_h265_id: u8,
    /// Largest tag.
    pub tag_bytes: usize,
    /// Servers of our kind that the request has passed, this one last.
    pub hops: Hops,
}

/// The state machine of one pull.
pub struct Client {
    outputs: OutputQueue,
    url: String,
    phase: Phase,
    content: BytesMut,
    tags: TagReader,
    demuxer: Demuxer,
    timeline: Timeline,
}

enum Phase {
    /// Before the end of the answer's head.
    Head,
    Media(Body),
    Ended,
}

impl Client {
    /// The client end of a fresh connection; its first output is the request.
    pub fn new(options: ClientOptions) -> Self {
        let mut outputs = OutputQueue::default();
        write_request(&options, outputs.bytes());
        Self {
            outputs,
            url: options.url,
            phase: Phase::Head,
            content: BytesMut::new(),
            tags: TagReader::new(options.tag_bytes),
            demuxer: Demuxer::new(options.legacy_h265_id),
            timeline: Timeline::default(),
        }
    }

    fn on_stream(&mut self, input: &mut BytesMut) -> Result<(), SessionError> {
        if matches!(self.phase, Phase::Head) && !self.on_head(input)? {
            return Ok(());
        }
        let Phase::Media(body) = &mut self.phase else {
            input.clear();
            return Ok(());
        };
        let taken = body.take(input, &mut self.content);
        let ended = matches!(body, Body::Ended);
        // What came before a bad chunk counts, however much arrived at once.
        self.on_content()?;
        taken.map_err(|_| misbehaved("the chunks of the body do not make sense"))?;
        if ended {
            self.phase = Phase::Ended;
            let detail = "the source has ended the stream";
            return Err(SessionError::new(ErrorClass::Refused, "source_ended", detail));
        }
        Ok(())
    }

    /// True once the head is over and promises media.
    fn on_head(&mut self, input: &mut BytesMut) -> Result<bool, SessionError> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let whole = input.len() < HEAD_BYTES_MAX;
        let length = match response.parse(&input[..input.len().min(HEAD_BYTES_MAX)]) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if whole => return Ok(false),
            Ok(httparse::Status::Partial) => return Err(misbehaved("head of the answer too long")),
            Err(_) => return Err(misbehaved("the answer is no HTTP")),
        };
        let field = |name: &str| {
            let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            found.and_then(|field| std::str::from_utf8(field.value).ok())
        };
        let status = response.code.unwrap_or(0);
        match status {
            200 => {}
            301 | 302 | 303 | 307 | 308 => {
                let location = field("location").ok_or(misbehaved("redirect without Location"))?;
                let event = Event::Redirected(resolve_reference(&self.url, location));
                self.outputs.event(event);
                self.phase = Phase::Ended;
                return Ok(false);
            }
            401 | 403 => return Err(refused("unauthorised", status)),
            404 => return Err(refused("stream_not_found", status)),
            _ => return Err(refused("server_refused", status)),
        }
        let coding = field("transfer-encoding").unwrap_or("identity").trim().to_ascii_lowercase();
        if !matches!(coding.as_str(), "chunked" | "identity") {
            return Err(misbehaved("transfer coding is neither chunked nor none"));
        }
        input.advance(length);
        self.phase = Phase::Media(Body::new(coding == "chunked"));
        Ok(true)
    }

    fn on_content(&mut self) -> Result<(), SessionError> {
        while let Some((tag, time, body)) = self.tags.next_tag(&mut self.content)? {
            let time = self.timeline.of_tag(tag, time);
            match self.demuxer.push(tag, time, body, &mut self.outputs) {
                Ok(()) => {}
                Err(error) if error.is_passable() => tracing::trace!(%error, "tag dropped"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Session for Client {
    fn handle_input(&mut self, _: Instant, input: Input<'_>) -> Result<(), SessionError> {
        let result = match input {
            Input::Stream(buffer) => self.on_stream(buffer),
            Input::Datagram { .. } | Input::Timeout => Ok(()),
        };
        if result.is_err() {
            self.phase = Phase::Ended;
        }
        result
    }

    /// There is nothing to say to a server that sends: closing the connection says it.
    fn handle_command(&mut self, _: Instant, _: Command) -> Result<(), SessionError> {
        Ok(())
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.poll()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.outputs.heap_bytes() + self.content.capacity()
    }
}

fn write_request(options: &ClientOptions, out: &mut Vec<u8>) {
    let (authority, path, query) = split_url(&options.url);
    let (user, host) = split_user(authority);
    let (mark, agent) = (if query.is_empty() { "" } else { "?" }, &options.agent);
    let head = format!(
        "GET /{path}{mark}{query} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n\
         Accept: video/x-flv, */*\r\nConnection: close\r\n"
    );
    out.extend_from_slice(head.as_bytes());
    if let Some(user) = user {
        let (name, password) = credentials(user);
        let value = STANDARD.encode(format!("{name}:{password}"));
        out.extend_from_slice(format!("Authorization: Basic {value}\r\n").as_bytes());
    }
    if !options.hops.is_empty() {
        let hops = &options.hops;
        out.extend_from_slice(format!("{}: {hops}\r\n", hops::HEADER).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn misbehaved(detail: &str) -> SessionError {
    SessionError::new(ErrorClass::PeerMisbehaved, "bad_response", detail)
}

fn refused(reason: &'static str, status: u16) -> SessionError {
    SessionError::new(ErrorClass::Refused, reason, format!("the source answers {status}"))
}
