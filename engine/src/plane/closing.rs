//! The end of a connection: last words, lingering, and the one line and count it leaves.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use protocols::session::ErrorClass;

use crate::conn::{CloseReason, Conn, Protocol, Role};
use crate::net::sys::{self, Half};
use crate::ring::Token;
use crate::shard::Shard;

/// How long a peer may take to fetch our last words and close.
const DRAIN_MAX: Duration = Duration::from_secs(1);

impl Shard {
    /// Ends a connection for a reason. Its role ends at once; the socket stays for a moment when
    /// the peer is still to be told something.
    pub(crate) fn close(&mut self, slot: usize, reason: CloseReason, now: Instant) {
        let Some(conn) = self.plane.conns.get(slot) else { return };
        if conn.draining.is_some() {
            // The farewell could not be delivered, or the peer has closed after it.
            self.finish(slot);
            return;
        }
        self.release_role(slot, now);
        self.leave_tunnel(slot, &reason, now);
        let token = self.plane.token(slot);
        match self.plane.conns[slot].protocol {
            Protocol::Pull => self.on_pull_closed(token, &reason, now),
            Protocol::Forward => self.on_forward_closed(token, &reason, now),
            Protocol::Rtmp | Protocol::Rtsp | Protocol::Http | Protocol::Live(_) => {}
        }
        let conn = &mut self.plane.conns[slot];
        log_end(conn, &reason, now);
        self.counters.closed(conn.protocol.name(), reason.label());
        let speaks = !matches!(
            reason,
            CloseReason::PeerClosed
                | CloseReason::Socket(_)
                | CloseReason::Panic
                | CloseReason::SlowViewer
        );
        conn.closing = Some(reason);
        if let Some(session) = conn.session.take() {
            self.counters.packets.add(session.packet_statistics());
        }
        conn.timeout = None;
        if !speaks {
            self.finish(slot);
            return;
        }
        conn.draining = Some(now + DRAIN_MAX);
        self.pump(slot, now);
        if self.plane.slot(token).is_some() && self.plane.conns[slot].pending_bytes() == 0 {
            self.finish_draining(slot);
        }
    }

    /// The last words are with the kernel: end our direction, then wait for the peer's end, so
    /// that unread input does not turn them into a reset.
    pub(crate) fn finish_draining(&mut self, slot: usize) {
        let Some(conn) = self.plane.conns.get_mut(slot) else { return };
        if let Some(tls) = &mut conn.tls
            && !tls.is_handshaking()
        {
            tls.close(&mut conn.wire_out);
            // Best effort: a full socket loses the close_notify, and the end follows anyway.
            let _ = sys::send(conn.fd.as_fd(), &conn.wire_out);
            conn.wire_out.clear();
            conn.wire_sent = 0;
        }
        sys::shutdown(conn.fd.as_fd(), Half::Write);
    }

    /// Takes the connection out of the table and closes its socket.
    pub(crate) fn finish(&mut self, slot: usize) {
        let Some(conn) = self.plane.conns.try_remove(slot) else { return };
        if let Some(session) = &conn.session {
            self.counters.packets.add(session.packet_statistics());
        }
        // Who was dialled was not admitted.
        if !conn.protocol.is_dialled() {
            self.plane.admission.leave(conn.peer.ip());
        }
        self.plane.epoll.remove(conn.fd.as_fd());
        sys::shutdown(conn.fd.as_fd(), Half::Both);
    }

    /// Ends whatever the connection does for a stream.
    fn release_role(&mut self, slot: usize, now: Instant) {
        match &self.plane.conns[slot].role {
            Role::Idle => {}
            Role::Applying(_) => self.withdraw_application(slot),
            Role::Claiming { .. } | Role::Publisher(_) => self.unpublish(slot, now),
            Role::Waiting { .. } | Role::Viewer { .. } => self.detach(slot, now),
        }
        self.drop_flows(slot);
    }

    /// Ends a connection another shard names.
    pub(crate) fn close_token(&mut self, token: Token, reason: CloseReason, now: Instant) {
        if let Some(slot) = self.plane.slot(token) {
            self.close(slot, reason, now);
        }
    }
}

fn log_end(conn: &Conn, reason: &CloseReason, now: Instant) {
    let seconds = now.saturating_duration_since(conn.opened_at).as_secs_f64();
    let notable = match reason {
        CloseReason::Panic => true,
        CloseReason::Session(error) => error.class == ErrorClass::Internal,
        CloseReason::PeerClosed
        | CloseReason::Socket(_)
        | CloseReason::Refused(_)
        | CloseReason::Tls(_)
        | CloseReason::SlowViewer
        | CloseReason::PublisherIdle
        | CloseReason::Unwanted
        | CloseReason::Limit(_) => false,
    };
    let (id, peer, proto) = (conn.id, conn.peer, conn.protocol.name());
    let (bytes_in, bytes_out) = (conn.bytes_in, conn.bytes_out);
    if notable {
        tracing::error!(conn = %id, %peer, proto, bytes_in, bytes_out, seconds, "closed {reason}");
    } else {
        tracing::info!(conn = %id, %peer, proto, bytes_in, bytes_out, seconds, "closed {reason}");
    }
}
