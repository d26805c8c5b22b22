//! All media sockets of one core: accepted, read, fanned out and timed by one loop.
//!
//! No task, timer, waker or queue per connection. A connection is a slot of a slab and one entry
//! of an edge-triggered epoll; a viewer is besides that an offset in a wire. Connections that have
//! become HTTP tasks share the epoll and nothing else.

mod accept;
mod closing;
mod datagram;
mod datagram_egress;
mod direct_egress;
mod egress;
mod ingest;
mod lag;
mod multicast;
mod pace;
mod ring_egress;
mod sealed;
mod staged_egress;
mod tick;
mod unhurried;
mod window;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use protocols::session::Command;
use slab::Slab;

use crate::config::{EgressMode, MergeWindow};
use crate::conn::{Conn, ConnId};
use crate::net::awaited::Waiters;
use crate::net::sys_bell::Bell;
use crate::net::sys_epoll::{Epoll, Ready};
use crate::ring::{ShardId, Token};

pub(crate) use accept::UNACKNOWLEDGED_MAX;
pub use accept::{Admission, Listener, Service};
pub use datagram::Flows;
pub use egress::{Batch, Egress, Parcel};
pub(crate) use lag::finish_message;
pub use pace::Pace;
pub use unhurried::Unhurried;
pub use window::Window;

/// Marks a poller token as a listener's.
const LISTENER_BIT: u64 = 1 << 63;
/// Marks one of a socket that a task waits for.
const TASK_BIT: u64 = 1 << 61;
/// The token of the bell: no listener has so high a number.
const BELL: u64 = LISTENER_BIT | u32::MAX as u64;

/// Whether a report is of a socket that a task waits for.
pub(crate) fn is_of_task(ready: &Ready) -> bool {
    ready.token & TASK_BIT != 0
}

/// See the module text.
pub struct Plane {
    /// The connections.
    pub conns: Slab<Conn>,
    /// The poller of all of them.
    pub epoll: Epoll,
    /// Listening sockets.
    pub listeners: Vec<Listener>,
    /// Who may connect.
    pub admission: Admission,
    /// The merge window.
    pub window: Window,
    /// Wires with bytes to flush: (mirror, wire).
    pub dirty: VecDeque<(usize, usize)>,
    /// Commands for sessions, run when no session is being driven.
    pub commands: VecDeque<(Token, Command)>,
    /// Viewers whose sessions are about to be accepted.
    pub accepted: Vec<Token>,
    /// Halves of tunnels that are about to leave for the shard of their cookie.
    pub moving: Vec<Token>,
    /// Connections that used up their budget and go on in the next turn.
    pub again: Vec<Token>,
    /// Publishers that nobody watches, to be read then; in the order of that time.
    pub unhurried: VecDeque<(Instant, Token)>,
    /// Readiness reports being worked through.
    pub ready: Vec<Ready>,
    /// How batches are sent.
    pub egress: Box<dyn Egress>,
    /// Viewers that are being brought up to live.
    pub pacing: VecDeque<Token>,
    /// When they get their next share.
    pub next_pace: Instant,
    /// RTP and RTCP over UDP.
    pub datagrams: datagram::Datagrams,
    /// HTTP connections that live as tasks of the executor.
    pub http_tasks: usize,
    /// Their sockets.
    pub waiters: Rc<Waiters>,
    scratch: BytesMut,
    /// What is framed or copied for one connection at a time; lent to it while it is served.
    spare: Vec<u8>,
    sealed: sealed::Sealed,
    generation: u32,
    serial: u64,
    shard: ShardId,
    next_tick: Instant,
}

impl Plane {
    /// An empty plane.
    ///
    /// # Errors
    /// The poller cannot be made.
    pub fn new(
        shard: ShardId,
        window: MergeWindow,
        mode: EgressMode,
        now: Instant,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        Ok(Self {
            conns: Slab::new(),
            waiters: Waiters::new(&epoll, TASK_BIT)?,
            epoll,
            listeners: Vec::new(),
            admission: Admission::default(),
            window: Window::new(window, now),
            dirty: VecDeque::new(),
            commands: VecDeque::new(),
            accepted: Vec::new(),
            moving: Vec::new(),
            again: Vec::new(),
            unhurried: VecDeque::new(),
            ready: Vec::new(),
            egress: egress::choose(mode),
            pacing: VecDeque::new(),
            next_pace: now,
            datagrams: datagram::Datagrams::default(),
            http_tasks: 0,
            scratch: BytesMut::new(),
            spare: Vec::new(),
            sealed: sealed::Sealed::default(),
            generation: 0,
            serial: 0,
            shard,
            next_tick: now,
        })
    }

    /// Has each ring of a bell end a wait for the poller.
    ///
    /// # Errors
    /// The poller refuses.
    pub fn watch_bell(&self, bell: &Bell) -> io::Result<()> {
        self.epoll.add_bell(bell, BELL)
    }

    /// A name for a new connection.
    pub fn next_id(&mut self) -> ConnId {
        self.serial += 1;
        ConnId { shard: self.shard, serial: self.serial }
    }

    /// Takes a connection into the table and the poller.
    ///
    /// # Errors
    /// The poller refuses; the connection is dropped.
    pub fn insert(&mut self, mut conn: Conn) -> io::Result<usize> {
        // 29 bits: the top bits of a poller token mark listeners, datagram sockets and tasks.
        self.generation = self.generation.wrapping_add(1) & 0x1fff_ffff;
        conn.generation = self.generation;
        let entry = self.conns.vacant_entry();
        let slot = entry.key();
        let token = u64::from(conn.generation) << 32 | slot as u64;
        self.epoll.add_connection(conn.fd.as_fd(), token)?;
        entry.insert(conn);
        Ok(slot)
    }

    /// The token of a slot, for other shards and for later.
    #[must_use]
    pub fn token(&self, slot: usize) -> Token {
        let index = u32::try_from(slot).expect("slots are bounded by the connection limit");
        Token { index, generation: self.conns.get(slot).map_or(0, |conn| conn.generation) }
    }

    /// The slot of a token, if the connection is still there.
    #[must_use]
    pub fn slot(&self, token: Token) -> Option<usize> {
        let slot = token.index as usize;
        self.conns.get(slot).filter(|conn| conn.generation == token.generation).map(|_| slot)
    }

    /// Open connections, those that HTTP tasks hold included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.conns.len() + self.http_tasks
    }
}
