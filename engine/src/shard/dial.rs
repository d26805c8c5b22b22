//! Connections that this server opens: sources of pulls, targets of forwards.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use protocols::session::Session;

use crate::conn::{CloseReason, Conn, Protocol};
use crate::net::reach::Reach;
use crate::net::resolve::{Asker, Query};
use crate::net::sys_socket;
use crate::plane::UNACKNOWLEDGED_MAX;
use crate::ring::Token;
use crate::shard::Shard;

/// How long a name may take to be resolved.
pub(super) const RESOLVE_MAX: Duration = Duration::from_secs(10);

/// How long an address may take to answer: after that the next one is dialled.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// The end of a connection that never came to be.
pub(super) const UNANSWERED: &str = "unanswered";

/// The end of a connection that led elsewhere.
pub(super) const REDIRECTED: &str = "redirected";

/// The way to one host: its name looked up, its addresses dialled one after the other.
#[derive(Default)]
pub(super) struct Route {
    /// Names the present attempt: an answer that is late belongs to none.
    pub(super) attempt: u64,
    /// The name is being resolved, until then at the latest.
    resolving: Option<Instant>,
    /// Addresses not tried yet.
    addresses: VecDeque<SocketAddr>,
    pub(super) conn: Option<Token>,
    /// How near the first address was: a redirect must not lead nearer.
    pub(super) reach: Option<Reach>,
}

impl Route {
    /// Nothing more is awaited or tried.
    pub(super) fn forget(&mut self) {
        self.resolving = None;
        self.addresses.clear();
    }

    /// There is another address to try.
    pub(super) fn has_more(&self) -> bool {
        !self.addresses.is_empty()
    }
}

/// One connection to be opened.
pub(super) struct Dial<'a> {
    /// What it is for.
    pub(super) protocol: Protocol,
    /// Whom to dial.
    pub(super) address: SocketAddr,
    /// Within TLS: the file of authorities, if one was named, and the name of the server.
    pub(super) tls: Option<(Option<&'a Path>, &'a str)>,
    /// What the log says.
    pub(super) shown: &'a str,
}

impl Shard {
    fn route(&mut self, asker: Asker) -> Option<&mut Route> {
        match asker {
            Asker::Pull(index) => self.pulls.list.get_mut(index).map(|pull| &mut pull.route),
            Asker::Forward(index) => {
                self.forwards.list.get_mut(index).map(|forward| &mut forward.route)
            }
            Asker::Hook => None,
        }
    }

    fn fail_dial(&mut self, asker: Asker, reason: &'static str, now: Instant) {
        match asker {
            Asker::Pull(index) => self.fail_pull(index, reason, now),
            Asker::Forward(index) => self.fail_forward(index, reason, None, now),
            Asker::Hook => {}
        }
    }

    /// A name for the next attempt, of whatever is dialled.
    pub(super) fn next_attempt(&mut self) -> u64 {
        self.dials += 1;
        self.dials
    }

    /// Begins an attempt: looks a host up and dials it.
    pub(super) fn seek(&mut self, asker: Asker, to: (&str, u16), now: Instant) {
        let attempt = self.next_attempt();
        let found = self.look_up(asker, attempt, to, now);
        let Some(route) = self.route(asker) else { return };
        route.forget();
        route.attempt = attempt;
        match found {
            Ok(Ok(addresses)) => {
                route.addresses = addresses;
                self.dial_next(asker, now);
            }
            Ok(Err(until)) => route.resolving = Some(until),
            Err(reason) => self.fail_dial(asker, reason, now),
        }
    }

    /// A name has been looked up.
    pub(super) fn on_resolved(
        &mut self,
        asker: Asker,
        attempt: u64,
        addresses: Vec<SocketAddr>,
        now: Instant,
    ) {
        let Some(route) = self.route(asker) else { return };
        if route.attempt != attempt || route.resolving.take().is_none() {
            return;
        }
        if addresses.is_empty() {
            return self.fail_dial(asker, "name_unknown", now);
        }
        route.addresses = addresses.into();
        self.dial_next(asker, now);
    }

    /// Dials the next address that may be.
    pub(super) fn dial_next(&mut self, asker: Asker, now: Instant) {
        let mut reason = "no_address";
        while let Some(address) = self.route(asker).and_then(|route| route.addresses.pop_front()) {
            let tried = match asker {
                Asker::Pull(index) => self.try_source(index, address, now),
                Asker::Forward(index) => self.try_target(index, address, now),
                Asker::Hook => return,
            };
            match tried {
                Ok(token) => {
                    if let Some(route) = self.route(asker) {
                        route.conn = Some(token);
                    }
                    return self.open_dialogue(token, now);
                }
                Err(error) => reason = error,
            }
        }
        self.fail_dial(asker, reason, now);
    }

    /// By the clock: names and addresses that take too long. True: there is nothing else to do now.
    pub(super) fn tend_route(&mut self, asker: Asker, now: Instant) -> bool {
        let Some(route) = self.route(asker) else { return true };
        if route.resolving.is_some_and(|until| now >= until) {
            route.forget();
            self.fail_dial(asker, "resolve_timeout", now);
            return true;
        }
        let conn = route.conn;
        if self.stopping.is_some() {
            return true;
        }
        match conn.filter(|conn| self.is_unanswered(*conn, now)) {
            Some(conn) => self.close_token(conn, CloseReason::Limit(UNANSWERED), now),
            None => return false,
        }
        true
    }

    /// The addresses of a host at once if it is one itself; else they come as a message, and are
    /// waited for until the time given.
    ///
    /// # Errors
    /// Too many names are being looked up.
    pub(super) fn look_up(
        &self,
        asker: Asker,
        attempt: u64,
        (host, port): (&str, u16),
        now: Instant,
    ) -> Result<Result<VecDeque<SocketAddr>, Instant>, &'static str> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Ok(VecDeque::from([SocketAddr::new(ip, port)])));
        }
        let query = Query { shard: self.id, asker, attempt, host: host.to_owned(), port };
        let asked = self.shared.resolver.as_ref().is_some_and(|way| way.ask(query));
        if asked { Ok(Err(now + RESOLVE_MAX)) } else { Err("resolver_busy") }
    }

    /// Opens a connection, whose session has not been asked for its first words yet: see
    /// [`Shard::open_dialogue`].
    ///
    /// # Errors
    /// A stable `snake_case` word.
    pub(super) fn dial(
        &mut self,
        to: &Dial,
        session: Box<dyn Session>,
        now: Instant,
    ) -> Result<Token, &'static str> {
        if self.stopping.is_some() {
            return Err("shutting_down");
        }
        if self.plane.connections() >= self.config.limits.connections {
            return Err("connections");
        }
        let tls = to.tls.map(|(ca, name)| self.policy.tls_client.connect(ca, name)).transpose();
        let tls = tls.map_err(|error| {
            tracing::warn!(to = to.shown, %error, "no TLS to who is dialled");
            "tls"
        })?;
        let address = to.address;
        let fd = sys_socket::connect(address).map_err(|error| {
            tracing::debug!(%address, %error, "cannot dial");
            "cannot_dial"
        })?;
        let sock = self.config.sock;
        let (recv, send) = (sock.recv_buffer_kib, sock.send_buffer_kib);
        sys_socket::tune(fd.as_fd(), recv, send, UNACKNOWLEDGED_MAX);
        let mut conn = Conn::new(self.plane.next_id(), fd, address, to.protocol, now);
        conn.chunk_size = self.config.rtmp.chunk_size;
        let id = conn.id;
        conn.timeout = session.poll_timeout();
        conn.session = Some(session);
        conn.tls = tls.map(Box::new);
        let slot = self.plane.insert(conn).map_err(|error| {
            tracing::warn!(%address, %error, "cannot watch a connection that was dialled");
            "poller"
        })?;
        let proto = to.protocol.name();
        tracing::info!(conn = %id, peer = %address, proto, to = to.shown, "dialled");
        Ok(self.plane.token(slot))
    }

    /// A connection that was dialled has not come to be, for too long.
    fn is_unanswered(&self, token: Token, now: Instant) -> bool {
        let conn = self.plane.slot(token).map(|slot| &self.plane.conns[slot]);
        conn.is_some_and(|conn| {
            // The first words of every session here are ours.
            let late = now.saturating_duration_since(conn.opened_at) >= ANSWER_MAX;
            late && conn.bytes_out == 0
        })
    }

    /// Has the session speak: its first words wait for the connection.
    pub(super) fn open_dialogue(&mut self, token: Token, now: Instant) {
        self.guarded(token, now, |shard, slot| shard.drive(slot, now, |_| Ok(())));
    }
}
