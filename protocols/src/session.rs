//! The one trait of every protocol: the sans-IO state machine of one peer, and its vocabulary.
//!
//! Rules above the trait:
//! 1. One input or command, then drain [`Session::poll_output`] to `None`, then the next.
//! 2. After [`Event::PublishRequested`] or [`Event::PlayRequested`] the session stops consuming
//!    input until [`Command::Accept`] or [`Command::Reject`]; the driver then feeds again what is
//!    left in its buffer (an empty buffer too: the session may hold parsed messages back).
//! 3. Constructors take `now`, a seed and limits.
//! 4. An error ends the session; outputs still queued hold the wire reply and are sent first.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::media::{Frame, Tracks};
use std::sync::Arc;

/// The state machine of one peer.
pub trait Session {
    /// Takes one input.
    ///
    /// # Errors
    /// The session is over; drain the outputs, send them, close.
    fn handle_input(&mut self, now: Instant, input: Input<'_>) -> Result<(), SessionError>;

    /// Takes one command of the engine.
    ///
    /// # Errors
    /// As [`Session::handle_input`].
    fn handle_command(&mut self, now: Instant, command: Command) -> Result<(), SessionError>;

    /// The next output, in wire order; `None` when there is nothing to do.
    fn poll_output(&mut self) -> Option<Output>;

    /// When [`Input::Timeout`] is due, if ever.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Bytes the session holds on the heap, itself included; an estimate for the accounts.
    fn memory_bytes(&self) -> usize;
}

/// What comes in from outside.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes of the peer, in order. The session takes complete units from the front and leaves
    /// the rest; the driver appends to the same buffer.
    Stream(&'a mut BytesMut),
    /// The deadline of [`Session::poll_timeout`] has passed.
    Timeout,
}

/// What goes out.
#[derive(Debug)]
pub enum Output {
    /// Bytes for the peer.
    Transmit(Bytes),
    /// Something the engine must know or decide.
    Event(Event),
}

/// Something the engine must know or decide.
#[derive(Debug)]
pub enum Event {
    /// The peer wants to publish; answer with Accept or Reject.
    PublishRequested(AccessRequest),
    /// The peer wants to play; answer with Accept or Reject.
    PlayRequested(AccessRequest),
    /// The tracks of the published stream, first time or changed.
    Tracks(Arc<Tracks>),
    /// One frame of the published stream.
    Frame(Frame),
    /// The peer ended its publication but may stay connected.
    PublishEnded,
    /// The peer ended its play but may stay connected.
    PlayEnded,
    /// The peer paused (true) or resumed (false) its play.
    Paused(bool),
    /// The player wants (true) or refuses (false) a kind of track from now on.
    Receive {
        /// Video (true) or audio (false).
        video: bool,
        /// Wanted or not.
        wanted: bool,
    },
}

/// Who asks for what, as the wire said it; nothing here has been checked but its length and form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessRequest {
    /// Host the peer addressed, without port; empty when it named none.
    pub host: String,
    /// Port the peer addressed, if it named one.
    pub port: Option<u16>,
    /// App, first path component.
    pub app: String,
    /// Stream name without query.
    pub name: String,
    /// Query string without `?`, as sent; app-level and stream-level queries joined by `&`.
    pub query: String,
    /// What the peer calls itself (flashVer, User-Agent), cut to 128 bytes.
    pub agent: String,
    /// The message stream the media of a play must be addressed to (RTMP); 0 elsewhere.
    pub message_stream_id: u32,
    /// The peer understands FourCC video and audio (Enhanced RTMP); legacy forms otherwise.
    pub enhanced: bool,
}

/// What the engine tells a session.
#[derive(Debug)]
pub enum Command {
    /// The pending publish or play may go ahead.
    Accept,
    /// The pending publish or play is refused.
    Reject(Refusal),
    /// The published stream has gone or come back (players only): tell the peer politely.
    PublisherGone,
    /// See [`Command::PublisherGone`].
    PublisherBack,
    /// Ask the peer to connect again elsewhere or later, where the protocol can say so.
    Reconnect,
    /// Say goodbye with this reason; the driver closes after the outputs are sent.
    Close(Refusal),
}

/// Why the engine refuses or ends something; each protocol maps it to its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// App is not one of the configured ones.
    UnknownApp,
    /// The stream name is not acceptable.
    BadName,
    /// Somebody else publishes this stream.
    StreamBusy,
    /// Nobody publishes this stream and the wait is over.
    StreamNotFound,
    /// The authorisation said no.
    Unauthorised,
    /// A limit of this server is reached.
    Overloaded,
    /// The peer asks for something this server does not do.
    Unsupported,
    /// This server is shutting down.
    ShuttingDown,
    /// A newer publisher took the stream over.
    Superseded,
    /// The publisher went away and did not return in time.
    PublisherGone,
    /// The viewer reads too slowly.
    TooSlow,
}

impl Refusal {
    /// Stable `snake_case` word, used as a metric label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::UnknownApp => "unknown_app",
            Self::BadName => "bad_name",
            Self::StreamBusy => "stream_busy",
            Self::StreamNotFound => "stream_not_found",
            Self::Unauthorised => "unauthorised",
            Self::Overloaded => "overloaded",
            Self::Unsupported => "unsupported",
            Self::ShuttingDown => "shutting_down",
            Self::Superseded => "superseded",
            Self::PublisherGone => "publisher_gone",
            Self::TooSlow => "too_slow",
        }
    }

    /// The end of a session by this refusal.
    pub fn error(self) -> SessionError {
        SessionError::new(ErrorClass::Refused, self.reason(), self.text())
    }

    /// One sentence for the peer and the log.
    pub fn text(self) -> &'static str {
        match self {
            Self::UnknownApp => "no such application: only the configured live and rec apps exist",
            Self::BadName => "stream name is not acceptable",
            Self::StreamBusy => "stream is being published by somebody else",
            Self::StreamNotFound => "stream not found",
            Self::Unauthorised => "not authorised",
            Self::Overloaded => "server limit reached, try again later",
            Self::Unsupported => "not supported by this server",
            Self::ShuttingDown => "server is shutting down",
            Self::Superseded => "another publisher took the stream over",
            Self::PublisherGone => "publisher has gone",
            Self::TooSlow => "viewer reads too slowly",
        }
    }
}

/// Whose fault the end of a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The peer broke its protocol.
    PeerMisbehaved,
    /// The peer asked for something this server does not do.
    PeerUnsupported,
    /// A named limit was exceeded.
    LimitExceeded,
    /// The engine said no.
    Refused,
    /// The peer was silent for too long.
    TimedOut,
    /// This server failed.
    Internal,
}

/// The end of a session: class, a stable reason from a closed set, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct SessionError {
    /// Whose fault it is.
    pub class: ErrorClass,
    /// Stable `snake_case` word, used as a metric label.
    pub reason: &'static str,
    /// One sentence for the log, without control characters.
    pub detail: String,
}

impl SessionError {
    /// An error of the given class.
    pub fn new(class: ErrorClass, reason: &'static str, detail: impl Into<String>) -> Self {
        Self { class, reason, detail: detail.into() }
    }
}
