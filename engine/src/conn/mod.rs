//! One TCP connection: socket, TLS, session, and the bytes that wait for the peer.
//!
//! A connection lives on the shard that accepted it, from the first byte to the last; a half of an
//! RTSP tunnel from its head on where the tunnel is.

mod close;
mod pump;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use bytes::BytesMut;
use protocols::media::StreamKey;
use protocols::session::Session;

use crate::auth::Admittance;
use crate::http::server::MediaKind;
use crate::http::websocket;
use crate::net::sys_socket;
use crate::net::tls::TlsCodec;
use crate::plane::{Flows, Pace, Unhurried};
use crate::ring::{ShardId, Token};
use crate::shard::Applicant;
use crate::stream::{Format, Timeline};

pub use close::{CloseReason, escape};
pub use pump::{Place, Pumped};

/// Names a connection in every log line: shard and serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// Shard that accepted it.
    pub shard: ShardId,
    /// Counts up on that shard.
    pub serial: u64,
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.shard.0, self.serial)
    }
}

/// What the peer speaks, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RTMP or RTMPS.
    Rtmp,
    /// RTSP or RTSPS.
    Rtsp,
    /// Whatever the source of a pull speaks.
    Pull,
    /// RTMP to the target of a forward.
    Forward,
    /// HTTP until a request says what it is about.
    Http,
    /// A live stream as an endless HTTP body or in WebSocket messages.
    Live(MediaKind),
}

impl Protocol {
    /// Label in logs, the API and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Rtsp => "rtsp",
            Self::Pull => "pull",
            Self::Forward => "forward",
            Self::Http => "http",
            Self::Live(kind) => kind.name(),
        }
    }

    /// This server has opened the connection.
    #[must_use]
    pub fn is_dialled(self) -> bool {
        matches!(self, Self::Pull | Self::Forward)
    }

    /// Media goes out in WebSocket messages.
    #[must_use]
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Live(MediaKind { websocket: true, .. }))
    }
}

/// What the connection does for a stream.
#[derive(Debug)]
pub enum Role {
    /// Nothing yet, or nothing any more.
    Idle,
    /// Waits to be let in.
    Applying(Box<Applicant>),
    /// Asked its owner shard for the stream.
    Claiming {
        /// The stream.
        key: StreamKey,
    },
    /// Publishes.
    Publisher(Box<Publishing>),
    /// Waits for a publisher or its first join point.
    Waiting {
        /// Mirror it waits at.
        mirror: usize,
        /// Since when.
        since: Instant,
        /// What for.
        wants: Wants,
        /// The peer is a server of our kind that asks for its own viewers: a stream that is not
        /// there is not waited for.
        relay: bool,
    },
    /// Watches.
    Viewer {
        /// The mirror.
        mirror: usize,
        /// The wire in it.
        wire: usize,
        /// The viewer in that.
        index: usize,
    },
}

/// What a connection waits for at a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// To be sent the stream in this format.
    Play(Format),
    /// To be told what the stream consists of.
    Description,
    /// To be told the multicast group of a track.
    Group {
        /// The track, as its session numbers it.
        track: u8,
        /// It is the pictures.
        video: bool,
    },
}

/// The publisher's end on its own shard.
#[derive(Debug)]
pub struct Publishing {
    /// The stream.
    pub key: StreamKey,
    /// Its owner.
    pub owner: ShardId,
    /// The stream there.
    pub stream: Token,
    /// Its clock.
    pub timeline: Timeline,
    /// The ring to the owner was full: nothing but tracks until the next keyframe.
    pub skipping: bool,
    /// The publisher has a video track.
    pub has_video: bool,
    /// When it last sent metadata, tracks or frames.
    pub last_media_at: Instant,
    /// How its socket is read.
    pub unhurried: Unhurried,
}

/// One connection.
pub struct Conn {
    /// Its name.
    pub id: ConnId,
    /// Its socket.
    pub fd: OwnedFd,
    /// Tells this slot from its predecessors.
    pub generation: u32,
    /// The peer.
    pub peer: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// Chunk size that its session announces (RTMP only).
    pub chunk_size: u32,
    /// Its TLS state, if any.
    pub tls: Option<Box<TlsCodec>>,
    /// Its protocol; taken out while it is driven.
    pub session: Option<Box<dyn Session>>,
    /// What it does.
    pub role: Role,
    /// Plaintext the session has not consumed; without allocation when empty.
    pub input: BytesMut,
    /// Plaintext for the peer that goes before the next media bytes, at a message boundary.
    pub out: BytesMut,
    /// Bytes on their way to the socket: ciphertext, or plaintext the socket did not take.
    pub wire_out: Vec<u8>,
    /// How many of those the socket has taken.
    pub wire_sent: usize,
    /// The budget of a wake ended within a message, perhaps.
    pub cut: bool,
    /// Inside a WebSocket message: how many of its bytes are still to come.
    pub frame_left: u64,
    /// When it was accepted.
    pub opened_at: Instant,
    /// Set while the viewer is brought up to live at a bounded rate.
    pub pace: Option<Pace>,
    /// The viewer lags: pictures nobody depends on are left out for it.
    pub thin: bool,
    /// Bytes from the socket.
    pub bytes_in: u64,
    /// Bytes to the socket.
    pub bytes_out: u64,
    /// When the session wants to be woken.
    pub timeout: Option<Instant>,
    /// Closing: read and discard until the peer closes, or this passes.
    pub draining: Option<Instant>,
    /// The reason found while the connection could not be closed on the spot.
    pub closing: Option<CloseReason>,
    /// Since when the socket has taken nothing although bytes wait.
    pub blocked_since: Option<Instant>,
    /// When the viewer was last moved to a keyframe, and how often within a minute.
    pub jumps: Jumps,
    /// What the peer calls itself, once it has asked for something; fit for a log.
    pub agent: Box<str>,
    /// Since when it has its present role.
    pub role_since: Instant,
    /// Tracks that travel by datagrams.
    pub flows: Option<Box<Flows>>,
    /// The connection has been greeted in the log.
    pub announced: bool,
    /// It is half of a tunnel.
    pub tunnel: Option<Box<TunnelEnd>>,
    /// What it was let in for, where that matters later.
    pub admittance: Option<Box<Admittance>>,
}

/// What a connection is to a tunnel of RTSP through HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelEnd {
    /// The peer asked for it; the connection is about to leave for the shard of the cookie.
    Asked {
        /// The peer receives (true) or sends (false) on it.
        receives: bool,
        /// Names the tunnel.
        cookie: Box<str>,
    },
    /// The peer receives on it; the session is here.
    Receiving {
        /// Names the tunnel.
        cookie: Box<str>,
    },
    /// The peer sends on it.
    Sending {
        /// Names the tunnel.
        cookie: Box<str>,
        /// The connection that has the session.
        session: Token,
    },
}

/// How often a viewer was moved to a keyframe lately.
#[derive(Debug, Clone, Copy, Default)]
pub struct Jumps {
    /// Start of the minute that is counted.
    pub since: Option<Instant>,
    /// Jumps in it.
    pub count: u32,
}

impl Conn {
    /// A connection that has just been accepted.
    #[must_use]
    pub fn new(
        id: ConnId,
        fd: OwnedFd,
        peer: SocketAddr,
        protocol: Protocol,
        now: Instant,
    ) -> Self {
        Self {
            id,
            fd,
            generation: 0,
            peer,
            protocol,
            chunk_size: 0,
            tls: None,
            session: None,
            role: Role::Idle,
            input: BytesMut::new(),
            out: BytesMut::new(),
            wire_out: Vec::new(),
            wire_sent: 0,
            cut: false,
            frame_left: 0,
            opened_at: now,
            pace: None,
            thin: false,
            bytes_in: 0,
            bytes_out: 0,
            timeout: None,
            draining: None,
            closing: None,
            blocked_since: None,
            jumps: Jumps::default(),
            agent: Box::default(),
            role_since: now,
            flows: None,
            announced: false,
            tunnel: None,
            admittance: None,
        }
    }

    /// The address the peer has reached us at; the peer's own where the system does not say.
    #[must_use]
    pub fn local_ip(&self) -> IpAddr {
        sys_socket::local_addr(self.fd.as_fd()).map_or(self.peer.ip(), |local| local.ip())
    }

    /// Goes the long way in the fan-out: something other than shared plain bytes is due.
    #[must_use]
    pub fn is_special(&self) -> bool {
        self.tls.is_some()
            || self.protocol.is_websocket()
            || self.pace.is_some()
            || self.thin
            || !self.out.is_empty()
            || !self.wire_out.is_empty()
    }

    /// Appends media bytes that go to this viewer alone: a configuration it has missed. In a
    /// WebSocket they are a message of their own.
    pub fn stage_out(&mut self, bytes: &[u8]) {
        if self.protocol.is_websocket() {
            self.out.extend_from_slice(websocket::frame_header(bytes.len()).as_slice());
        }
        self.out.extend_from_slice(bytes);
    }

    /// Bytes of its buffers, used or not.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.input.capacity() + self.out.capacity() + self.wire_out.capacity()
    }

    /// Bytes waiting in user space for this peer.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        let records = self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        self.out.len() + self.wire_out.len() - self.wire_sent + usize::from(records)
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .field("protocol", &self.protocol)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}
