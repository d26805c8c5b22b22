//! RTSP tunnelled through HTTP: the two connections of a tunnel meet on the shard their cookie names.
//!
//! A client's `GET` and `POST` may have been accepted by any two shards. As soon as either has said
//! which tunnel it belongs to, its socket goes to the shard the cookie's hash names, and stays. There
//! the `GET` is an RTSP connection like any other, but what it is asked comes from the `POST`.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use bytes::BytesMut;
use protocols::rtsp::tunnel::{self, Upload};
use protocols::session::Refusal;

use crate::conn::{CloseReason, Conn, ConnId, Protocol, TunnelEnd};
use crate::net::tls::TlsCodec;
use crate::ring::{ControlMessage, ShardId, Token};
use crate::service;
use crate::shard::Shard;

/// Tunnels of a shard whose client has not begun to send. Each ends with its session's own deadline.
const HALF_OPEN_MAX: usize = 1024;

/// A connection on its way to the shard of its tunnel.
pub struct TunnelHalf {
    /// The peer receives (true) or sends (false) on it.
    receives: bool,
    cookie: Box<str>,
    id: ConnId,
    fd: OwnedFd,
    peer: SocketAddr,
    tls: Option<Box<TlsCodec>>,
    /// What came behind the head.
    input: BytesMut,
    opened_at: Instant,
    bytes_in: u64,
    bytes_out: u64,
}

impl fmt::Debug for TunnelHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelHalf")
            .field("id", &self.id)
            .field("receives", &self.receives)
            .finish_non_exhaustive()
    }
}

/// Why a half cannot be part of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfit {
    /// Another tunnel has that cookie, or another `POST` sends in it.
    Taken,
    /// There is no such tunnel, or it is of another address.
    Unknown,
    /// Too many wait for their clients.
    Full,
    /// The client sent what it may not on this half.
    Input,
}

impl Unfit {
    fn reason(self) -> &'static str {
        match self {
            Self::Taken => "tunnel_taken",
            Self::Unknown => "tunnel_unknown",
            Self::Full => "tunnels_half_open",
            Self::Input => "tunnel_input",
        }
    }

    fn answer(self) -> String {
        match self {
            Self::Taken => tunnel::refusal(409, "Conflict"),
            Self::Unknown => tunnel::refusal(404, "Not Found"),
            Self::Full => tunnel::refusal(503, "Service Unavailable"),
            Self::Input => tunnel::refusal(400, "Bad Request"),
        }
    }
}

/// One tunnel.
#[derive(Debug)]
struct Tunnel {
    get: Token,
    post: Option<Token>,
    /// Its client has begun to send at some time.
    complete: bool,
}

/// The tunnels of a shard by their cookies.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    tunnels: HashMap<Box<str>, Tunnel>,
    half_open: usize,
}

impl Tunnels {
    fn open(&mut self, cookie: &str, get: Token) -> Result<(), Unfit> {
        if self.tunnels.contains_key(cookie) {
            return Err(Unfit::Taken);
        }
        if self.half_open >= HALF_OPEN_MAX {
            return Err(Unfit::Full);
        }
        self.half_open += 1;
        self.tunnels.insert(cookie.into(), Tunnel { get, post: None, complete: false });
        Ok(())
    }

    /// The connection with the session.
    fn session(&self, cookie: &str) -> Option<Token> {
        self.tunnels.get(cookie).map(|tunnel| tunnel.get)
    }

    fn join(&mut self, cookie: &str, post: Token) -> Result<Token, Unfit> {
        let tunnel = self.tunnels.get_mut(cookie).ok_or(Unfit::Unknown)?;
        if tunnel.post.is_some() {
            return Err(Unfit::Taken);
        }
        tunnel.post = Some(post);
        if !std::mem::replace(&mut tunnel.complete, true) {
            self.half_open -= 1;
        }
        Ok(tunnel.get)
    }

    /// The client has closed its `POST`; it may open another.
    fn part(&mut self, cookie: &str, post: Token) {
        if let Some(tunnel) = self.tunnels.get_mut(cookie)
            && tunnel.post == Some(post)
        {
            tunnel.post = None;
        }
    }

    /// The session is over: the `POST` that is left.
    fn close(&mut self, cookie: &str) -> Option<Token> {
        let tunnel = self.tunnels.remove(cookie)?;
        self.half_open -= usize::from(!tunnel.complete);
        tunnel.post
    }
}

/// The shard on which the halves of a tunnel meet.
fn shard_of(cookie: &str, shards: usize) -> ShardId {
    let mut hasher = DefaultHasher::new();
    cookie.hash(&mut hasher);
    let index = hasher.finish() % shards.max(1) as u64;
    ShardId(u16::try_from(index).expect("shards are counted in u16"))
}

impl Shard {
    /// Sends halves that have said which tunnel they belong to on their way.
    pub(super) fn move_halves(&mut self) {
        for token in std::mem::take(&mut self.plane.moving) {
            let Some(slot) = self.plane.slot(token) else { continue };
            let conn = &mut self.plane.conns[slot];
            // Closed meanwhile, for a reason that is still being told.
            if conn.draining.is_some() {
                continue;
            }
            let Some(TunnelEnd::Asked { receives, cookie }) = conn.tunnel.take().map(|end| *end)
            else {
                continue;
            };
            let conn = self.plane.conns.remove(slot);
            self.plane.epoll.remove(conn.fd.as_fd());
            self.plane.admission.leave(conn.peer.ip());
            let to = shard_of(&cookie, self.mesh.shards());
            tracing::debug!(conn = %conn.id, receives, shard = to.0, "half of a tunnel");
            let Conn { id, fd, peer, tls, input, opened_at, bytes_in, bytes_out, .. } = conn;
            let half = TunnelHalf {
                receives,
                cookie,
                id,
                fd,
                peer,
                tls,
                input,
                opened_at,
                bytes_in,
                bytes_out,
            };
            if !self.mesh.send(to, ControlMessage::TunnelHalf(Box::new(half))) {
                self.counters.closed(Protocol::Rtsp.name(), "control_full");
                tracing::info!(conn = %id, %peer, "closed control_full");
            }
        }
    }

    /// A half arrives at the shard of its tunnel.
    pub(super) fn take_half(&mut self, half: TunnelHalf, now: Instant) {
        let TunnelHalf { receives, cookie, id, fd, peer, tls, input, .. } = half;
        if self.plane.connections() >= self.config.limits.connections {
            self.counters.closed(Protocol::Rtsp.name(), "connections");
            tracing::info!(conn = %id, %peer, "closed connections");
            return;
        }
        let mut conn = Conn::new(id, fd, peer, Protocol::Rtsp, now);
        (conn.tls, conn.opened_at) = (tls, half.opened_at);
        (conn.bytes_in, conn.bytes_out) = (half.bytes_in, half.bytes_out);
        if receives {
            let seed = self.next_seed();
            let (options, local) = (&self.rtsp_options, conn.local_ip());
            let session = service::rtsp::tunnelled(options, seed, local, peer, now);
            conn.timeout = session.poll_timeout();
            conn.session = Some(session);
        } else {
            conn.session = Some(Box::new(Upload::default()));
        }
        self.plane.admission.take_over(peer.ip(), now);
        let slot = match self.plane.insert(conn) {
            Ok(slot) => slot,
            Err(error) => {
                self.plane.admission.leave(peer.ip());
                self.counters.closed(Protocol::Rtsp.name(), "poller");
                tracing::warn!(conn = %id, %error, "cannot watch half of a tunnel");
                return;
            }
        };
        let token = self.plane.token(slot);
        self.guarded(token, now, |shard, slot| {
            if shard.stopping.is_some() {
                return shard.close(slot, CloseReason::Refused(Refusal::ShuttingDown), now);
            }
            let unfit = match receives {
                true => shard.open_tunnel(slot, cookie, &input, now),
                false => shard.join_tunnel(slot, cookie, input, now),
            };
            if let Err(unfit) = unfit {
                shard.plane.conns[slot].out.extend_from_slice(unfit.answer().as_bytes());
                shard.close(slot, CloseReason::Limit(unfit.reason()), now);
            }
        });
    }

    /// The `GET`: a session begins that nobody has asked anything yet.
    fn open_tunnel(
        &mut self,
        slot: usize,
        cookie: Box<str>,
        input: &[u8],
        now: Instant,
    ) -> Result<(), Unfit> {
        if !input.is_empty() {
            return Err(Unfit::Input);
        }
        self.tunnels.open(&cookie, self.plane.token(slot))?;
        let conn = &mut self.plane.conns[slot];
        conn.tunnel = Some(Box::new(TunnelEnd::Receiving { cookie }));
        conn.out.extend_from_slice(tunnel::get_response());
        self.pump(slot, now);
        Ok(())
    }

    /// The `POST`, which belongs to a `GET` of the same address.
    fn join_tunnel(
        &mut self,
        slot: usize,
        cookie: Box<str>,
        input: BytesMut,
        now: Instant,
    ) -> Result<(), Unfit> {
        let peer = self.plane.conns[slot].peer.ip();
        let session = self.tunnels.session(&cookie).and_then(|token| self.plane.slot(token));
        if session.is_none_or(|session| self.plane.conns[session].peer.ip() != peer) {
            return Err(Unfit::Unknown);
        }
        let session = self.tunnels.join(&cookie, self.plane.token(slot))?;
        let end = TunnelEnd::Sending { cookie, session };
        self.plane.conns[slot].tunnel = Some(Box::new(end));
        self.feed(slot, input, now);
        Ok(())
    }

    /// What a `POST` carries is what the session at its `GET` is asked.
    pub(crate) fn feed_tunnel(&mut self, slot: usize, bytes: &[u8], now: Instant) {
        let end = self.plane.conns[slot].tunnel.as_deref();
        let Some(&TunnelEnd::Sending { session, .. }) = end else { return };
        self.guarded(session, now, |shard, slot| {
            let conn = &mut shard.plane.conns[slot];
            if conn.draining.is_none() {
                let mut input = std::mem::take(&mut conn.input);
                input.extend_from_slice(bytes);
                shard.feed(slot, input, now);
            }
        });
    }

    /// A connection that was half of a tunnel ends: so does the tunnel, unless its client has only
    /// closed its `POST`.
    pub(crate) fn leave_tunnel(&mut self, slot: usize, reason: &CloseReason, now: Instant) {
        let Some(end) = self.plane.conns[slot].tunnel.take() else { return };
        let (other, reason) = match *end {
            TunnelEnd::Asked { .. } => return,
            TunnelEnd::Receiving { cookie } => {
                (self.tunnels.close(&cookie), CloseReason::Limit("tunnel_over"))
            }
            TunnelEnd::Sending { cookie, session } => {
                self.tunnels.part(&cookie, self.plane.token(slot));
                match reason {
                    CloseReason::PeerClosed | CloseReason::Socket(_) => return,
                    // The session is what has ended, and ends this one.
                    _ if self.tunnels.session(&cookie) != Some(session) => return,
                    reason => (Some(session), reason.clone()),
                }
            }
        };
        if let Some(other) = other {
            self.close_token(other, reason, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(index: u32) -> Token {
        Token { index, generation: 1 }
    }

    #[test]
    fn a_tunnel_has_one_of_each_half_and_may_change_its_post() {
        let mut tunnels = Tunnels::default();
        assert_eq!(tunnels.join("a", token(9)), Err(Unfit::Unknown));
        assert_eq!(tunnels.open("a", token(1)), Ok(()));
        assert_eq!(tunnels.open("a", token(2)), Err(Unfit::Taken));
        assert_eq!(tunnels.join("a", token(3)), Ok(token(1)));
        assert_eq!(tunnels.join("a", token(4)), Err(Unfit::Taken));
        tunnels.part("a", token(4));
        assert_eq!(tunnels.join("a", token(5)), Err(Unfit::Taken), "4 was never its half");
        tunnels.part("a", token(3));
        assert_eq!(tunnels.join("a", token(5)), Ok(token(1)));
        assert_eq!(tunnels.close("a"), Some(token(5)));
        assert_eq!((tunnels.close("a"), tunnels.half_open), (None, 0));
    }

    #[test]
    fn those_whose_client_never_sent_are_limited() {
        let mut tunnels = Tunnels::default();
        for number in 0..HALF_OPEN_MAX {
            assert_eq!(tunnels.open(&number.to_string(), token(1)), Ok(()));
        }
        assert_eq!(tunnels.open("more", token(1)), Err(Unfit::Full));
        assert!(tunnels.join("7", token(2)).is_ok());
        tunnels.part("7", token(2));
        assert_eq!(tunnels.open("more", token(1)), Ok(()));
        assert_eq!(tunnels.open("still more", token(1)), Err(Unfit::Full));
        assert_eq!(tunnels.close("8"), None);
        assert_eq!(tunnels.open("still more", token(1)), Ok(()));
    }

    #[test]
    fn cookies_are_spread_over_the_shards() {
        let mut counts = [0; 4];
        for number in 0..4000 {
            counts[shard_of(&format!("{number:08x}"), 4).index()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        assert_eq!(shard_of("a", 1), ShardId(0));
    }
}
