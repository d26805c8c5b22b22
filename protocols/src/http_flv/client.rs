//! The client end of one HTTP connection whose answer is an FLV stream.

use std::collections::VecDeque;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BytesMut};

use super::body::Body;
use crate::container::flv::{Demuxer, FlvError, Item, TagReader, TagType};
use crate::hops::{self, Hops};
use crate::media::Timestamp;
use crate::session::{
    Command, ErrorClass, Event, Input, Output, OutputQueue, Session, SessionError,
};
use crate::text::split_url;

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
    phase: Phase,
    content: BytesMut,
    tags: TagReader,
    demuxer: Demuxer,
    items: VecDeque<Item>,
    /// Of the last tag, in milliseconds: the wire has 32 bits of it.
    time_ms: Option<i64>,
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
            phase: Phase::Head,
            content: BytesMut::new(),
            tags: TagReader::new(options.tag_bytes),
            demuxer: Demuxer::new(options.legacy_h265_id),
            items: VecDeque::new(),
            time_ms: None,
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
        body.take(input, &mut self.content)
            .map_err(|_| misbehaved("the chunks of the body do not make sense"))?;
        let ended = matches!(body, Body::Ended);
        self.on_content()?;
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
        let length = match response.parse(input) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if input.len() <= HEAD_BYTES_MAX => return Ok(false),
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
                let event = Event::Redirected(location.to_owned());
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
        while let Some((tag, time, body)) =
            self.tags.next_tag(&mut self.content).map_err(bad_media)?
        {
            let time = self.unwrap(tag, time);
            match self.demuxer.push(tag, time, body, &mut self.items) {
                // What makes one tag unusable leaves the rest as it is.
                Ok(()) | Err(FlvError::BadScript(_) | FlvError::UnknownPacketType(_)) => {}
                Err(error) => return Err(bad_media(error)),
            }
            for item in self.items.drain(..) {
                self.outputs.event(match item {
                    Item::Tracks(tracks) => Event::Tracks(tracks),
                    Item::Frame(frame) => Event::Frame(frame),
                });
            }
        }
        Ok(())
    }

    /// Time stamps have 32 bits; script data are stamped 0 at any time.
    fn unwrap(&mut self, tag: TagType, stamp: u32) -> Timestamp {
        let last = self.time_ms.unwrap_or(i64::from(stamp));
        #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
        let step = stamp.wrapping_sub(last as u32).cast_signed();
        let time = last + i64::from(step);
        if tag == TagType::Script {
            return Timestamp::from_millis(last);
        }
        self.time_ms = Some(time);
        Timestamp::from_millis(time)
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
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let (mark, agent) = (if query.is_empty() { "" } else { "?" }, &options.agent);
    let head = format!(
        "GET /{path}{mark}{query} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n\
         Accept: video/x-flv, */*\r\nConnection: close\r\n"
    );
    out.extend_from_slice(head.as_bytes());
    if let Some(user) = user {
        let value = STANDARD.encode(user);
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

fn bad_media(error: FlvError) -> SessionError {
    SessionError::new(ErrorClass::PeerMisbehaved, "bad_media", error.to_string())
}
