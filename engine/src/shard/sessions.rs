//! Who is connected, a page at a time. A shard looks at a bounded part of its table per message, so
//! that a list of a hundred thousand sessions holds no frame up.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use protocols::media::StreamKey;

use super::Shard;
use crate::conn::{Conn, ConnId, Protocol, Role};
use crate::ring::{ControlMessage, ShardId};

/// Places of the table that are looked at per message.
const SLICE_PLACES: usize = 4096;

/// Which sessions are wanted.
#[derive(Debug, Clone, Default)]
pub struct SessionQuery {
    /// First shard and place in its table.
    pub from: (u16, u32),
    /// How many, at most.
    pub limit: usize,
    /// Only this one.
    pub id: Option<ConnId>,
    /// Only those of this stream, time shifts of it included.
    pub stream: Option<StreamKey>,
    /// Only those with this role.
    pub role: Option<SessionRole>,
}

/// What a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionRole {
    /// Nothing yet.
    Idle,
    /// It publishes, or is about to.
    Publish,
    /// It plays, or waits for what it will play.
    Play,
}

impl SessionRole {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Publish => "publish",
            Self::Play => "play",
        }
    }
}

/// One session.
#[derive(Debug, Clone)]
pub struct SessionSnapshot {
    /// Its name.
    pub id: ConnId,
    /// The peer.
    pub peer: SocketAddr,
    /// Protocol label.
    pub protocol: &'static str,
    /// Within TLS.
    pub secure: bool,
    /// What it does.
    pub role: SessionRole,
    /// For which stream.
    pub stream: Option<StreamKey>,
    /// What the peer calls itself.
    pub agent: Box<str>,
    /// Since it was accepted.
    pub age: Duration,
    /// Since it has its role.
    pub role_age: Duration,
    /// Bytes from the peer.
    pub bytes_in: u64,
    /// Bytes to the peer.
    pub bytes_out: u64,
    /// How far a viewer is behind.
    pub lag: Option<Duration>,
}

/// Some sessions of one shard.
#[derive(Debug, Default)]
pub struct SessionSlice {
    /// Those that are wanted, in the order of their places.
    pub sessions: Vec<SessionSnapshot>,
    /// The first place that was not looked at; none at the end.
    pub next: Option<u32>,
}

/// Some sessions of the process.
#[derive(Debug, Default)]
pub struct SessionPage {
    /// Those that are wanted.
    pub sessions: Vec<SessionSnapshot>,
    /// Where the next page begins; none at the end.
    pub next: Option<(u16, u32)>,
}

/// Gathers one page from one shard after the other. A shard that does not answer in time is passed
/// over.
pub async fn page(shard: &Rc<RefCell<Shard>>, mut query: SessionQuery) -> SessionPage {
    let shards = u16::try_from(shard.borrow().mesh.shards()).unwrap_or(u16::MAX);
    let mut page = SessionPage::default();
    let (mut at, mut place) = query.from;
    if let Some(id) = query.id {
        at = at.max(id.shard.0);
    }
    while at < shards && page.sessions.len() < query.limit {
        query.from = (at, place);
        let wanted = SessionQuery { limit: query.limit - page.sessions.len(), ..query.clone() };
        let slice = slice_of(shard, ShardId(at), wanted).await;
        page.sessions.extend(slice.sessions);
        let found = query.id.is_some() && !page.sessions.is_empty();
        match slice.next {
            Some(next) => place = next,
            None if query.id.is_some() => return page,
            None => (at, place) = (at + 1, 0),
        }
        if found {
            return page;
        }
    }
    page.next = (at < shards).then_some((at, place));
    page
}

async fn slice_of(shard: &Rc<RefCell<Shard>>, to: ShardId, query: SessionQuery) -> SessionSlice {
    let question = {
        let mut this = shard.borrow_mut();
        let Ok(question) = this.session_asks.open(Vec::new(), 1) else {
            return SessionSlice::default();
        };
        let (from, number) = (this.id, question.number);
        let query = Box::new(query);
        this.mesh.send(to, ControlMessage::AskSessions { from, question: number, query });
        this.mesh.kick();
        this.mesh.kick_self();
        question
    };
    question.answers().await.into_iter().next().unwrap_or_default()
}

impl Shard {
    /// Looks at the next part of the table.
    pub(super) fn session_slice(&self, query: &SessionQuery, now: Instant) -> SessionSlice {
        let mut slice = SessionSlice::default();
        let first = query.from.1 as usize;
        let end = self.plane.conns.capacity();
        let last = end.min(first.saturating_add(SLICE_PLACES));
        let mut at = first;
        while at < last {
            if slice.sessions.len() >= query.limit {
                break;
            }
            if let Some(conn) = self.plane.conns.get(at) {
                let session = self.session(conn, now);
                let fits = query.id.is_none_or(|id| id == session.id)
                    && query.role.is_none_or(|role| role == session.role)
                    && query.stream.as_ref().is_none_or(|key| session.stream.as_ref() == Some(key));
                // One that is saying goodbye has been told of already; forwards have a list of
                // their own.
                let is_forward = conn.protocol == Protocol::Forward;
                if fits && conn.draining.is_none() && !is_forward {
                    slice.sessions.push(session);
                }
            }
            at += 1;
        }
        slice.next = (at < end).then(|| u32::try_from(at).unwrap_or(u32::MAX));
        slice
    }

    fn session(&self, conn: &Conn, now: Instant) -> SessionSnapshot {
        let mut bytes_out = conn.bytes_out;
        let mut lag = None;
        let (role, key) = match &conn.role {
            Role::Idle | Role::Applying(_) => (SessionRole::Idle, None),
            Role::Claiming { key } => (SessionRole::Publish, Some(key)),
            Role::Publisher(publishing) => (SessionRole::Publish, Some(&publishing.key)),
            Role::Waiting { mirror, .. } => {
                (SessionRole::Play, self.mirrors.get(*mirror).map(|mirror| &mirror.key))
            }
            Role::Viewer { mirror, wire, index } => {
                let mirror = &self.mirrors[*mirror];
                let wire = &mirror.wires[*wire];
                let viewer = &wire.viewers[*index];
                bytes_out += viewer.sent;
                lag = (viewer.offset <= wire.head()).then(|| wire.lag(viewer.offset));
                (SessionRole::Play, Some(&mirror.key))
            }
        };
        SessionSnapshot {
            id: conn.id,
            peer: conn.peer,
            protocol: conn.protocol.name(),
            secure: conn.tls.is_some(),
            role,
            stream: key.map(|key| key.delayed(0)),
            agent: conn.agent.clone(),
            age: now.saturating_duration_since(conn.opened_at),
            role_age: now.saturating_duration_since(conn.role_since),
            bytes_in: conn.bytes_in,
            bytes_out,
            lag,
        }
    }
}
