//! New connections: accept, admission by limits, the first look at what they are.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::LISTENER_BIT;
use crate::config::Limits;
use crate::conn::{Conn, Protocol};
use crate::net::sys_socket;
use crate::service;
use crate::shard::Shard;

/// Connections accepted per listener and turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Pause after the process ran out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Addresses whose connections are counted at a time.
const ADDRESSES_MAX: usize = 65_536;
/// Data that the peer does not acknowledge for so long ends the connection.
pub(crate) const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// Which service a listener belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// RTMP; RTMPS by the first byte.
    Rtmp,
    /// RTSP; RTSPS by the first byte.
    Rtsp,
    /// HTTP; HTTPS by the first byte.
    Http,
}

impl Service {
    /// Protocol of a connection of this service before its first request.
    #[must_use]
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Rtmp => Protocol::Rtmp,
            Self::Rtsp => Protocol::Rtsp,
            Self::Http => Protocol::Http,
        }
    }
}

/// A listening socket of this shard.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub fd: OwnedFd,
    /// What is served on it.
    pub service: Service,
}

#[derive(Debug, Clone, Copy)]
struct Address {
    connections: usize,
    second: Instant,
    fresh: usize,
}

/// Connections counted per peer address.
#[derive(Debug, Default)]
pub struct Admission {
    addresses: HashMap<IpAddr, Address>,
    reserve: Option<OwnedFd>,
    /// Accepting is paused until then.
    pub paused_until: Option<Instant>,
}

impl Admission {
    /// Counts a new connection, or says why it may not come in.
    ///
    /// # Errors
    /// The metric label of the limit.
    pub fn admit(&mut self, ip: IpAddr, limits: &Limits, now: Instant) -> Result<(), &'static str> {
        if ip.is_loopback() {
            return Ok(());
        }
        let ip = prefix(ip);
        if self.addresses.len() >= ADDRESSES_MAX && !self.addresses.contains_key(&ip) {
            self.addresses.retain(|_, address| address.connections > 0);
            if self.addresses.len() >= ADDRESSES_MAX {
                return Err("address_table_full");
            }
        }
        let entry =
            self.addresses.entry(ip).or_insert(Address { connections: 0, second: now, fresh: 0 });
        if now.saturating_duration_since(entry.second) >= Duration::from_secs(1) {
            entry.second = now;
            entry.fresh = 0;
        }
        entry.fresh += 1;
        if limits.connects_per_second > 0 && entry.fresh > limits.connects_per_second {
            return Err("connect_rate");
        }
        if limits.connections_per_address > 0 && entry.connections >= limits.connections_per_address
        {
            return Err("connections_per_address");
        }
        entry.connections += 1;
        Ok(())
    }

    /// Counts a connection that another shard has admitted.
    pub fn take_over(&mut self, ip: IpAddr, now: Instant) {
        let full = self.addresses.len() >= ADDRESSES_MAX;
        let ip = prefix(ip);
        if ip.is_loopback() || (full && !self.addresses.contains_key(&ip)) {
            return;
        }
        let fresh = Address { connections: 0, second: now, fresh: 0 };
        self.addresses.entry(ip).or_insert(fresh).connections += 1;
    }

    /// A connection that was admitted has ended.
    pub fn leave(&mut self, ip: IpAddr) {
        let ip = prefix(ip);
        if let Some(address) = self.addresses.get_mut(&ip) {
            address.connections = address.connections.saturating_sub(1);
        }
    }

    /// Forgets addresses without connections; called now and then.
    pub fn sweep(&mut self, now: Instant) {
        self.addresses.retain(|_, address| {
            address.connections > 0
                || now.saturating_duration_since(address.second) < Duration::from_secs(2)
        });
    }
}

/// The unit of counting: an IPv4 address, or the /64 an IPv6 address is in.
fn prefix(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

impl Shard {
    /// Puts the listeners into the poller.
    ///
    /// # Errors
    /// The poller refuses one.
    pub fn start_accepting(&mut self) -> io::Result<()> {
        for (index, listener) in self.plane.listeners.iter().enumerate() {
            self.plane.epoll.add_listener(listener.fd.as_fd(), LISTENER_BIT | index as u64)?;
        }
        Ok(())
    }

    /// Takes the connections that wait at a listener.
    pub(super) fn accept_ready(&mut self, index: usize, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.plane.listeners.get(index) else { return };
            let service = listener.service;
            match sys_socket::accept(listener.fd.as_fd()) {
                Ok((fd, peer)) => self.admit(fd, peer, service, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.pause_accepting(&error, now);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, fd: OwnedFd, peer: SocketAddr, service: Service, now: Instant) {
        self.counters.accepted += 1;
        self.pulse.stir(now);
        let verdict = if self.plane.connections() >= self.config.limits.connections {
            Err("connections")
        } else if service == Service::Rtsp && self.is_suspect(peer.ip(), now) {
            // Its sessions judge what they can themselves.
            Err("credentials")
        } else {
            self.plane.admission.admit(peer.ip(), &self.config.limits, now)
        };
        if let Err(reason) = verdict {
            // Closed without a word: there is no protocol yet to say it in, and an answer would
            // cost more than the connection.
            self.counters.turn_away(reason);
            tracing::debug!(%peer, reason, "turned away");
            return;
        }
        let sock = self.config.sock;
        sys_socket::tune(
            fd.as_fd(),
            sock.recv_buffer_kib,
            sock.send_buffer_kib,
            UNACKNOWLEDGED_MAX,
        );
        let id = self.plane.next_id();
        let mut conn = Conn::new(id, fd, peer, service.protocol(), now);
        match service {
            Service::Rtmp => {
                let seed = self.next_seed();
                conn.session = Some(service::rtmp::session(&self.rtmp_options, seed, now));
                conn.chunk_size = self.config.rtmp.chunk_size;
                conn.timeout = Some(now + self.config.rtmp.handshake_timeout);
            }
            Service::Rtsp => {
                let seed = self.next_seed();
                let (options, local) = (&self.rtsp_options, conn.local_ip());
                let session = service::rtsp::session(options, seed, local, peer, now);
                conn.timeout = session.poll_timeout();
                conn.session = Some(session);
            }
            Service::Http => conn.timeout = Some(now + self.config.http.head_timeout),
        }
        match self.plane.insert(conn) {
            Ok(_) => tracing::info!(conn = %id, %peer, proto = service.protocol().name(), "opened"),
            Err(error) => {
                self.plane.admission.leave(peer.ip());
                self.counters.turn_away("poller");
                tracing::warn!(%peer, %error, "cannot watch a new connection");
            }
        }
    }

    /// Out of descriptors: give one back to answer nobody, and look away for a moment.
    fn pause_accepting(&mut self, error: &io::Error, now: Instant) {
        tracing::warn!(%error, "cannot accept: pausing");
        self.counters.turn_away("out_of_descriptors");
        for listener in &self.plane.listeners {
            self.plane.epoll.remove(listener.fd.as_fd());
        }
        // With the reserve given back, the connections that wait are accepted and closed, so
        // that their peers learn it now and not after a time-out.
        if self.plane.admission.reserve.take().is_some() {
            for listener in &self.plane.listeners {
                for _ in 0..ACCEPTS_PER_TURN {
                    if sys_socket::accept(listener.fd.as_fd()).is_err() {
                        break;
                    }
                }
            }
        }
        self.plane.admission.paused_until = Some(now + ACCEPT_PAUSE);
    }

    /// Ends a pause whose time is over, and keeps a descriptor in reserve for the next.
    pub(super) fn resume_accepting(&mut self, now: Instant) {
        if self.plane.admission.reserve.is_none()
            && let Some(listener) = self.plane.listeners.first()
        {
            self.plane.admission.reserve = listener.fd.try_clone().ok();
        }
        if self.plane.admission.paused_until.is_some_and(|until| now >= until) {
            self.plane.admission.paused_until = None;
            if let Err(error) = self.start_accepting() {
                tracing::error!(%error, "cannot watch the listeners again");
                self.plane.admission.paused_until = Some(now + ACCEPT_PAUSE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_limited_alone_and_by_64_and_loopback_is_not() {
        let mut limits = crate::config::Config::default().limits;
        limits.connections_per_address = 2;
        limits.connects_per_second = 3;
        let now = crate::clock::now();
        let mut admission = Admission::default();
        let a: IpAddr = "2001:db8::1".parse().unwrap();
        let b: IpAddr = "2001:db8::2".parse().unwrap();
        let c: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        assert_eq!(admission.admit(a, &limits, now), Ok(()));
        assert_eq!(admission.admit(b, &limits, now), Ok(()));
        assert_eq!(admission.admit(a, &limits, now), Err("connections_per_address"));
        assert_eq!(admission.admit(a, &limits, now), Err("connect_rate"));
        assert_eq!(admission.admit(c, &limits, now), Ok(()));
        admission.leave(a);
        let later = now + Duration::from_secs(1);
        assert_eq!(admission.admit(b, &limits, later), Ok(()));
        for _ in 0..100 {
            assert_eq!(admission.admit("127.0.0.1".parse().unwrap(), &limits, now), Ok(()));
        }
    }
}
