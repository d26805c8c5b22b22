//! The one trait of every protocol: the sans-IO state machine of one peer, and its vocabulary.
//!
//! Rules above the trait:
//! 1. One input or command, then drain [`Session::poll_output`] to `None`, then the next.
//! 2. After an event whose name ends in `Requested` the session stops consuming input until the
//!    command that answers it ([`Command::answers`]); the driver then feeds again what is left in
//!    its buffer (an empty buffer too: the session may hold parsed messages back). So it is with an
//!    answer that a session holds back for a while: what is left is fed again after a time-out.
//! 3. Constructors take `now`, a seed and limits.
//! 4. An error ends the session; outputs still queued hold the wire reply and are sent first.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::container::Item;
use crate::container::flv::FlvError;
use crate::hops::{Hops, NodeId};
use crate::media::{Frame, Tracks};
use crate::rtp::{Channels, Statistics};

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

    /// What has become of the media packets of the peer since the session began; nothing where the
    /// protocol has none. The counts never fall.
    fn packet_statistics(&self) -> Statistics {
        Statistics::default()
    }
}

/// What comes in from outside.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes of the peer, in order. The session takes complete units from the front and leaves
    /// the rest; the driver appends to the same buffer.
    Stream(&'a mut BytesMut),
    /// One datagram of the peer that came on a port bound for [`Event::DatagramRequested`].
    Datagram {
        /// Track, as in the request for the ports.
        track: u8,
        /// It came on the RTCP port.
        rtcp: bool,
        /// What it holds.
        data: Bytes,
    },
    /// The deadline of [`Session::poll_timeout`] has passed.
    Timeout,
}

/// What goes out.
#[derive(Debug)]
pub enum Output {
    /// Bytes for the peer.
    Transmit(Bytes),
    /// One datagram for the peer, from a port bound for [`Event::DatagramRequested`].
    Datagram {
        /// Track, as in the request for the ports.
        track: u8,
        /// From the RTCP port to the peer's.
        rtcp: bool,
        /// What it holds.
        data: Bytes,
    },
    /// Something the engine must know or decide.
    Event(Event),
}

/// Outputs in wire order. Bytes written one after the other leave as one [`Output::Transmit`].
#[derive(Debug, Default)]
pub struct OutputQueue {
    queue: VecDeque<Output>,
    /// Bytes behind everything in `queue`.
    tail: Vec<u8>,
}

/// Outputs an [`OutputQueue`] keeps room for while it is empty.
const QUEUE_KEPT: usize = 4;

impl OutputQueue {
    /// Where to append bytes for the peer.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Queues an event behind everything queued so far.
    pub fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }

    /// Queues any output behind everything queued so far.
    pub fn push(&mut self, output: Output) {
        self.flush_tail();
        self.queue.push_back(output);
    }

    /// The next output in wire order. An emptied queue gives its memory back.
    pub fn poll(&mut self) -> Option<Output> {
        if self.queue.is_empty() {
            self.flush_tail();
        }
        let output = self.queue.pop_front();
        if output.is_none() && self.queue.capacity() > QUEUE_KEPT {
            self.queue = VecDeque::new();
        }
        output
    }

    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            let bytes = Bytes::from(std::mem::take(&mut self.tail));
            self.queue.push_back(Output::Transmit(bytes));
        }
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<Output>() + self.tail.capacity()
    }
}

impl Extend<Item> for OutputQueue {
    fn extend<I: IntoIterator<Item = Item>>(&mut self, items: I) {
        for item in items {
            self.event(match item {
                Item::Tracks(tracks) => Event::Tracks(tracks),
                Item::Frame(frame) => Event::Frame(frame),
            });
        }
    }
}

/// Something the engine must know or decide.
#[derive(Debug)]
pub enum Event {
    /// The peer wants to publish; answer with Accept or Reject.
    PublishRequested(AccessRequest),
    /// The peer wants to play, or will take what a client publishes; answer with Accept or Reject.
    PlayRequested(AccessRequest),
    /// The peer wants to know what a stream consists of; answer with Describe or Reject.
    DescribeRequested(AccessRequest),
    /// The peer wants a track by datagrams; answer with DatagramPorts or Reject. The ports are kept
    /// until `PublishEnded`, `PlayEnded` or the end of the session.
    DatagramRequested {
        /// Names the track in answers and datagrams.
        track: u8,
        /// Video (true) or audio (false).
        video: bool,
        /// RTP and RTCP port of the peer; 0 if it will name them in [`Event::DatagramConnected`].
        client_ports: (u16, u16),
        /// The peer will send (true) or receive (false) it.
        publish: bool,
    },
    /// The peer wants to receive a track by multicast; answer with MulticastGroup or Reject.
    MulticastRequested {
        /// Names the track in the answer.
        track: u8,
        /// Video (true) or audio (false).
        video: bool,
        /// The stream, as of a play.
        request: AccessRequest,
    },
    /// The peer has named its ports for a track whose ports were requested without.
    DatagramConnected {
        /// Track, as in the request.
        track: u8,
        /// RTP and RTCP port of the peer.
        ports: (u16, u16),
        /// Where it sends from, if not from the address of its connection.
        source: Option<IpAddr>,
    },
    /// The connection is one half of a tunnel (RTSP over HTTP); its session is over, and what it has
    /// not consumed is for the one that comes after it: a server for the half that receives, an
    /// upload for the other.
    TunnelHalf {
        /// The peer receives (true) or sends (false) on this connection.
        receives: bool,
        /// Names the tunnel.
        cookie: Box<str>,
    },
    /// Bytes for the session at the other half of the tunnel.
    Tunnelled(Bytes),
    /// The peer has shown wrong credentials, and was told so.
    CredentialsRefused,
    /// The peer sends us elsewhere, by URL; this session is over.
    Redirected(String),
    /// The peer is a server of our kind.
    PeerNode(NodeId),
    /// The peer wants to be asked again on a new connection, with this besides (RTMP: a query of the
    /// app); this session is over.
    ConnectAgain(Box<str>),
    /// The tracks of the published stream, first time or changed.
    Tracks(Arc<Tracks>),
    /// One frame of the published stream.
    Frame(Frame),
    /// The peer ended its accepted publication but may stay connected.
    PublishEnded,
    /// The peer ended its play, or what it had set up for one, but may stay connected.
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
    /// How the media of a play travels, where the protocol has a choice (RTSP).
    pub transport: Option<RtpTransport>,
    /// Kinds of track a play is to carry.
    pub kinds: Kinds,
    /// Servers of our kind that the stream, or the request for it, has passed.
    pub hops: Hops,
    /// Who the peer says it is, where its protocol has a place for that outside the URL.
    pub identity: Identity,
}

/// Who a peer says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Identity {
    /// It does not say.
    #[default]
    Unknown,
    /// The session has checked it.
    Proven {
        /// Name of the user.
        user: String,
    },
    /// It gave a password that the session cannot judge.
    Claimed {
        /// Name of the user.
        user: String,
        /// Password.
        password: Password,
    },
}

/// A password that a peer gave; no log or debug output shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// How the RTP of a play travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtpTransport {
    /// Within the connection of the session (RFC 2326 10.12).
    Interleaved(Channels),
    /// From the ports the engine gave to each track with [`Command::DatagramPorts`].
    Datagram,
    /// To the groups the engine gave to each track with [`Command::MulticastGroup`].
    Multicast,
}

/// Which kinds of track a play is to carry; both unless the protocol lets players choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kinds {
    /// Video.
    pub video: bool,
    /// Audio.
    pub audio: bool,
}

impl Default for Kinds {
    fn default() -> Self {
        Self { video: true, audio: true }
    }
}

/// Where the RTP of a play begins (RFC 2326 12.33).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RtpStart {
    /// Sequence number of the first packet.
    pub sequence: u16,
    /// RTP timestamp that stands for the start of the play.
    pub rtptime: u32,
}

/// What the engine tells a session.
#[derive(Debug)]
pub enum Command {
    /// The pending publish or play may go ahead.
    Accept,
    /// The pending play may go ahead (RTSP). Once the outputs of this command are drained the answer
    /// is written: media may follow it.
    AcceptPlay {
        /// Where the video begins, if it is known and carried.
        video: Option<RtpStart>,
        /// Where the audio begins, if it is known and carried.
        audio: Option<RtpStart>,
    },
    /// Answers [`Event::DescribeRequested`].
    Describe(Arc<Tracks>),
    /// Answers [`Event::DatagramRequested`]: the ports of this server.
    DatagramPorts {
        /// Track of the request.
        track: u8,
        /// RTP port.
        rtp: u16,
        /// RTCP port.
        rtcp: u16,
    },
    /// Answers [`Event::MulticastRequested`]: where the track is sent.
    MulticastGroup {
        /// Track of the request.
        track: u8,
        /// Group.
        address: IpAddr,
        /// RTP and RTCP port.
        ports: (u16, u16),
        /// Time to live of the packets.
        ttl: u8,
    },
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

impl Command {
    /// The command decides on what a session waits for: it takes input again.
    pub fn answers(&self) -> bool {
        match self {
            Self::Accept
            | Self::AcceptPlay { .. }
            | Self::Describe(_)
            | Self::DatagramPorts { .. }
            | Self::MulticastGroup { .. }
            | Self::Reject(_) => true,
            Self::PublisherGone | Self::PublisherBack | Self::Reconnect | Self::Close(_) => false,
        }
    }
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
    /// Nothing, or nothing right, says that the peer may; another try with credentials may do.
    Unauthorised,
    /// The authorisation said no.
    Forbidden,
    /// The authorisation could not say anything.
    Unverified,
    /// A limit of this server is reached.
    Overloaded,
    /// The peer asks for something this server does not do.
    Unsupported,
    /// This server is shutting down.
    ShuttingDown,
    /// A newer publisher took the stream over.
    Superseded,
    /// The operator has ended the session.
    Kicked,
    /// The publisher went away and did not return in time.
    PublisherGone,
    /// The viewer reads too slowly.
    TooSlow,
    /// The tracks are no longer as the viewer was told, and its protocol has no way to tell it.
    TracksChanged,
    /// The stream, or the request for it, has passed this server already, or too many.
    Loop,
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
            Self::Forbidden => "forbidden",
            Self::Unverified => "unverified",
            Self::Overloaded => "overloaded",
            Self::Unsupported => "unsupported",
            Self::ShuttingDown => "shutting_down",
            Self::Superseded => "superseded",
            Self::Kicked => "kicked",
            Self::PublisherGone => "publisher_gone",
            Self::TooSlow => "too_slow",
            Self::TracksChanged => "tracks_changed",
            Self::Loop => "loop",
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
            Self::Forbidden => "not allowed",
            Self::Unverified => "whether this is allowed cannot be found out now, try again later",
            Self::Overloaded => "server limit reached, try again later",
            Self::Unsupported => "not supported by this server",
            Self::ShuttingDown => "server is shutting down",
            Self::Superseded => "another publisher took the stream over",
            Self::Kicked => "ended by the operator",
            Self::PublisherGone => "publisher has gone",
            Self::TooSlow => "viewer reads too slowly",
            Self::TracksChanged => "the tracks are no longer as described, play again",
            Self::Loop => "the stream has passed this server already",
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

impl From<FlvError> for SessionError {
    /// The end of a session by its media.
    fn from(error: FlvError) -> Self {
        let (class, reason) = if error.is_unknown_codec() {
            (ErrorClass::PeerUnsupported, "unsupported_codec")
        } else {
            (ErrorClass::PeerMisbehaved, "bad_media")
        };
        Self::new(class, reason, error.to_string())
    }
}

impl SessionError {
    /// An error of the given class.
    pub fn new(class: ErrorClass, reason: &'static str, detail: impl Into<String>) -> Self {
        Self { class, reason, detail: detail.into() }
    }
}
