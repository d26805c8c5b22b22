//! Bytes from peers: read what is ready, drive the session, act on what it reports.

use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use bytes::BytesMut;
use protocols::session::{Event, Input, Output, Session, SessionError};

use super::datagram::DATAGRAM_BIT;
use super::{BELL, LISTENER_BIT, is_of_task};
use crate::conn::{CloseReason, Protocol, Role, TunnelEnd};
use crate::net::sys_epoll::Ready;
use crate::net::sys_socket;
use crate::net::tls::Purpose;
use crate::ring::Token;
use crate::shard::{Shard, Wish};

/// Size of the read buffer all connections of a shard share.
const READ_BYTES: usize = 64 * 1024;
/// Reads per connection and turn.
const READS_PER_TURN: usize = 8;
/// First byte of a TLS record that carries a handshake (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What one read gave.
enum Read {
    Bytes { more: bool },
    Nothing,
    End,
    Failed(io::ErrorKind),
}

impl Shard {
    /// Handles one readiness report.
    pub(crate) fn on_ready(&mut self, ready: Ready, now: Instant) {
        if ready.token == BELL {
            return;
        }
        if ready.token & LISTENER_BIT != 0 {
            let index = usize::try_from(ready.token & !LISTENER_BIT).unwrap_or(usize::MAX);
            self.accept_ready(index, now);
            return;
        }
        if ready.token & DATAGRAM_BIT != 0 {
            self.receive_datagrams(ready.token & 1 == 1, now);
            return;
        }
        if is_of_task(&ready) {
            self.plane.waiters.report(ready);
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the token is two 32-bit halves")]
        let token = Token { index: ready.token as u32, generation: (ready.token >> 32) as u32 };
        self.guarded(token, now, |shard, slot| {
            if ready.readable && !shard.put_off(slot, &ready, now) {
                shard.read_ready(slot, ready.hung_up, now);
            }
            if ready.writable && shard.plane.slot(token).is_some() && shard.waits_for_room(slot) {
                shard.pump(slot, now);
            }
        });
    }

    /// Something is left that the socket did not take. Every report of a socket says that it is
    /// writable when it is; a viewer that waits for its slot is not to be served for that.
    fn waits_for_room(&self, slot: usize) -> bool {
        let conn = &self.plane.conns[slot];
        let blocked = match conn.role {
            Role::Viewer { mirror, wire, index } => {
                self.mirrors[mirror].wires[wire].viewers[index].blocked
            }
            Role::Idle
            | Role::Applying(_)
            | Role::Claiming { .. }
            | Role::Publisher(_)
            | Role::Waiting { .. } => false,
        };
        blocked || conn.pending_bytes() > 0 || conn.tls.as_ref().is_some_and(|t| t.wants_write())
    }

    /// Runs work for one connection; a panic in it ends that connection and nothing else.
    pub(crate) fn guarded(
        &mut self,
        token: Token,
        now: Instant,
        work: impl FnOnce(&mut Self, usize),
    ) {
        let Some(slot) = self.plane.slot(token) else { return };
        // The state a panic may leave behind is the connection's own, which is then closed; what
        // it shares with others is changed by calls that do not panic half way.
        let outcome = catch_unwind(AssertUnwindSafe(|| work(self, slot)));
        if outcome.is_err() {
            self.counters.panics += 1;
            tracing::error!("panic while serving a connection: it is closed, others go on");
            if let Some(slot) = self.plane.slot(token) {
                self.close(slot, CloseReason::Panic, now);
            }
        }
    }

    /// Reads until the socket is empty, or to the peer's end when it is known to have come. A read
    /// that does not fill its buffer has emptied the socket, but does not show the end.
    pub(super) fn read_ready(&mut self, slot: usize, to_end: bool, now: Instant) {
        let token = self.plane.token(slot);
        for _ in 0..READS_PER_TURN {
            let Some(conn) = self.plane.conns.get(slot) else { return };
            if conn.generation != token.generation {
                return;
            }
            if conn.session.is_none() && conn.draining.is_none() {
                self.greet_http(slot, now);
                return;
            }
            match self.read_once(slot, now) {
                Read::Bytes { more } if more || to_end => {}
                Read::Bytes { .. } | Read::Nothing => return,
                Read::End => {
                    if self.plane.slot(token).is_some() {
                        self.close(slot, CloseReason::PeerClosed, now);
                    }
                    return;
                }
                Read::Failed(kind) => {
                    self.close(slot, CloseReason::Socket(kind), now);
                    return;
                }
            }
        }
        self.plane.again.push(token);
    }

    /// One receive into the shared buffer and what follows from it. The buffer stays in the cache,
    /// however many connections are read; what is to be kept of it the session copies.
    fn read_once(&mut self, slot: usize, now: Instant) -> Read {
        let conn = &mut self.plane.conns[slot];
        let mut buffer = std::mem::take(&mut self.plane.scratch);
        buffer.clear();
        buffer.reserve(READ_BYTES);
        let room = buffer.capacity();
        let received = match sys_socket::recv_into(conn.fd.as_fd(), &mut buffer) {
            Ok(0) => Err(Read::End),
            Ok(count) => Ok(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Read::Nothing),
            Err(error) => Err(Read::Failed(error.kind())),
        };
        match received {
            Ok(count) => {
                conn.bytes_in += count as u64;
                self.counters.bytes_in += count as u64;
                self.plane.scratch = if conn.draining.is_some() {
                    buffer
                } else {
                    self.take_input(slot, buffer, now)
                };
                Read::Bytes { more: count == room }
            }
            Err(read) => {
                self.plane.scratch = buffer;
                read
            }
        }
    }

    /// Bytes read into the shared buffer: through TLS if there is any, then to the session.
    /// Gives the buffer back.
    fn take_input(&mut self, slot: usize, mut buffer: BytesMut, now: Instant) -> BytesMut {
        let conn = &mut self.plane.conns[slot];
        let first = conn.bytes_in == buffer.len() as u64;
        if first && conn.tls.is_none() && buffer.first() == Some(&TLS_HANDSHAKE) {
            let on = match conn.protocol {
                Protocol::Rtmp => self.config.rtmp.ssl,
                Protocol::Rtsp => self.config.rtsp.ssl,
                Protocol::Http | Protocol::Live(_) => self.config.http.ssl,
                Protocol::Pull | Protocol::Forward => false,
            };
            let tls = self.tls.as_ref().filter(|_| on);
            match tls.map(|tls| tls.accept(Purpose::Rtmp)) {
                Some(Ok(codec)) => conn.tls = Some(Box::new(codec)),
                Some(Err(error)) => {
                    self.close(slot, CloseReason::Tls(error.to_string()), now);
                    return buffer;
                }
                // TLS is switched off: the session names what it met.
                None => {}
            }
        }
        // The peer asks on the other half of its tunnel.
        let silent = matches!(conn.tunnel.as_deref(), Some(TunnelEnd::Receiving { .. }));
        let Some(tls) = &mut conn.tls else {
            if silent {
                self.close(slot, CloseReason::Limit("tunnel_input"), now);
                return buffer;
            }
            if conn.input.is_empty() {
                let rest = self.feed_shared(slot, buffer, now);
                return rest;
            }
            let mut input = std::mem::take(&mut conn.input);
            input.extend_from_slice(&buffer);
            self.feed(slot, input, now);
            return buffer;
        };
        let mut input = std::mem::take(&mut conn.input);
        let result = tls.receive(&buffer, &mut input);
        buffer.clear();
        let token = self.plane.token(slot);
        match result {
            Ok(received) => {
                if silent && !input.is_empty() {
                    self.close(slot, CloseReason::Limit("tunnel_input"), now);
                    return buffer;
                }
                self.feed(slot, input, now);
                if self.plane.slot(token).is_some() {
                    self.pump(slot, now);
                }
                if received.eof && self.plane.slot(token).is_some() {
                    self.close(slot, CloseReason::PeerClosed, now);
                }
            }
            Err(error) => {
                // The alert goes out with the farewell.
                self.close(slot, CloseReason::Tls(error.to_string()), now);
            }
        }
        buffer
    }

    /// Feeds the shared buffer; what the session leaves is kept with the connection.
    fn feed_shared(&mut self, slot: usize, mut buffer: BytesMut, now: Instant) -> BytesMut {
        let token = self.plane.token(slot);
        self.drive(slot, now, |session| session.handle_input(now, Input::Stream(&mut buffer)));
        if !buffer.is_empty() {
            if let Some(slot) = self.plane.slot(token) {
                self.plane.conns[slot].input = BytesMut::from(&buffer[..]);
                self.bound_input(slot, now);
            }
            buffer.clear();
        }
        buffer
    }

    /// Feeds a buffer that belongs to the connection.
    pub(crate) fn feed(&mut self, slot: usize, mut input: BytesMut, now: Instant) {
        let token = self.plane.token(slot);
        self.drive(slot, now, |session| session.handle_input(now, Input::Stream(&mut input)));
        if let Some(slot) = self.plane.slot(token) {
            self.plane.conns[slot].input = if input.is_empty() { BytesMut::new() } else { input };
            self.bound_input(slot, now);
        }
    }

    /// A session that waits for an answer does not consume; the peer may not use that to fill
    /// memory.
    fn bound_input(&mut self, slot: usize, now: Instant) {
        let limit = self.config.limits.rtmp_reassembly_bytes.max(READ_BYTES);
        if self.plane.conns[slot].input.len() > limit {
            self.close(slot, CloseReason::Limit("input_before_accept"), now);
        }
    }

    /// Gives the session one input or command and acts on everything that comes out.
    pub(crate) fn drive(
        &mut self,
        slot: usize,
        now: Instant,
        act: impl FnOnce(&mut dyn Session) -> Result<(), SessionError>,
    ) {
        let token = self.plane.token(slot);
        let Some(conn) = self.plane.conns.get_mut(slot) else { return };
        let Some(mut session) = conn.session.take() else { return };
        let result = act(&mut *session);
        while let Some(output) = session.poll_output() {
            match output {
                Output::Transmit(bytes) => {
                    if let Some(conn) = self.plane.conns.get_mut(slot) {
                        conn.out.extend_from_slice(&bytes);
                    }
                }
                Output::Datagram { track, rtcp, data } => {
                    self.send_datagram(slot, track, rtcp, &data);
                }
                Output::Event(event) => self.on_event(slot, event, now),
            }
        }
        let Some(slot) = self.plane.slot(token) else {
            self.counters.packets.add(session.packet_statistics());
            return;
        };
        let conn = &mut self.plane.conns[slot];
        conn.timeout = session.poll_timeout();
        conn.session = Some(session);
        if let Err(error) = result {
            self.close(slot, CloseReason::Session(error), now);
            return;
        }
        if conn.pending_bytes() > self.config.engine.viewer_pending_bytes {
            self.close(slot, CloseReason::SlowViewer, now);
        } else if !conn.out.is_empty() {
            self.pump(slot, now);
        }
    }

    fn on_event(&mut self, slot: usize, event: Event, now: Instant) {
        match event {
            Event::PublishRequested(request) => match self.plane.conns[slot].protocol {
                Protocol::Pull => self.request_pull(slot, &request),
                Protocol::Rtmp
                | Protocol::Rtsp
                | Protocol::Http
                | Protocol::Forward
                | Protocol::Live(_) => self.authorise(slot, Wish::Publish, request, now),
            },
            Event::PlayRequested(request) => match self.plane.conns[slot].protocol {
                Protocol::Forward => self.feed_target(slot, &request, now),
                Protocol::Rtmp
                | Protocol::Rtsp
                | Protocol::Http
                | Protocol::Pull
                | Protocol::Live(_) => self.authorise(slot, Wish::Play, request, now),
            },
            Event::Tracks(tracks) => self.publish_tracks(slot, tracks, now),
            Event::Frame(frame) => self.publish_frame(slot, frame, now),
            Event::DescribeRequested(request) => {
                self.authorise(slot, Wish::Describe, request, now);
            }
            Event::DatagramRequested { track, video, client_ports, publish: _ } => {
                self.request_datagrams(slot, track, video, client_ports);
            }
            Event::DatagramConnected { track, ports, source } => {
                self.connect_awaited(slot, track, ports, source);
            }
            Event::MulticastRequested { track, video, request } => {
                self.request_multicast(slot, track, video, request, now);
            }
            Event::TunnelHalf { receives, cookie } => {
                let end = TunnelEnd::Asked { receives, cookie };
                self.plane.conns[slot].tunnel = Some(Box::new(end));
                self.plane.moving.push(self.plane.token(slot));
            }
            Event::CredentialsRefused => self.note_guess(slot, now),
            Event::Tunnelled(bytes) => self.feed_tunnel(slot, &bytes, now),
            Event::Redirected(url) if self.plane.conns[slot].protocol == Protocol::Forward => {
                self.redirect_forward(slot, &url, now);
            }
            Event::Redirected(url) => self.redirect_pull(slot, &url, now),
            Event::ConnectAgain(query) => self.connect_again(slot, query, now),
            // The session of a pull has noted it.
            Event::PeerNode(node) => tracing::debug!(%node, "a server of our kind"),
            Event::PublishEnded => {
                self.unpublish(slot, now);
                self.drop_flows(slot);
            }
            Event::PlayEnded => {
                self.detach(slot, now);
                self.drop_flows(slot);
            }
            Event::Paused(paused) => self.pause_viewer(slot, paused, now),
            Event::Receive { video, wanted } => self.select_tracks(slot, video, wanted, now),
        }
    }

    /// Runs the commands that events and other shards have left for sessions.
    pub(crate) fn run_commands(&mut self, now: Instant) {
        while let Some((token, command)) = self.plane.commands.pop_front() {
            self.guarded(token, now, |shard, slot| {
                let resumes = command.answers();
                shard.drive(slot, now, |session| session.handle_command(now, command));
                if resumes && shard.plane.slot(token).is_some() {
                    // The session has held back what came meanwhile; feed again what is left.
                    let input = std::mem::take(&mut shard.plane.conns[slot].input);
                    shard.feed(slot, input, now);
                }
            });
        }
    }

    /// A connection without a session is HTTP: it leaves for a task of the executor.
    fn greet_http(&mut self, slot: usize, now: Instant) {
        debug_assert_eq!(self.plane.conns[slot].protocol, Protocol::Http);
        match self.read_greeting(slot) {
            Ok(Some(prefix)) => self.leave_for_http(slot, prefix, now),
            Ok(None) => {}
            Err(reason) => self.close(slot, reason, now),
        }
    }

    fn read_greeting(&mut self, slot: usize) -> Result<Option<BytesMut>, CloseReason> {
        let conn = &mut self.plane.conns[slot];
        let mut prefix = BytesMut::with_capacity(4096);
        match sys_socket::recv_into(conn.fd.as_fd(), &mut prefix) {
            Ok(0) => Err(CloseReason::PeerClosed),
            Ok(count) => {
                conn.bytes_in += count as u64;
                Ok(Some(prefix))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(CloseReason::Socket(error.kind())),
        }
    }
}
