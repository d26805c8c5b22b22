//! Connections that this server opens: sources of pulls, targets of forwards.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use protocols::session::Session;

use crate::conn::{Conn, Protocol};
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
    pub(super) fn is_unanswered(&self, token: Token, now: Instant) -> bool {
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
