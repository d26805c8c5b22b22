//! From a connection's pending bytes and its wire to its socket, in the one legal order.
//!
//! The order: what the socket did not take last time; the session's own bytes, at a message
//! boundary; shared media bytes, wrapped in WebSocket frames and TLS records where asked. The
//! fan-out of plain viewers does not come here, see `plane::egress`.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use super::{CloseReason, Conn};
use crate::http::websocket;
use crate::net::sys;
use crate::stream::{Slices, Wire};

/// Plaintext encrypted at a time; four TLS records.
const TLS_BATCH_BYTES: u64 = 64 * 1024;
/// Largest WebSocket message; players take any cut of the FLV bytes.
const WS_MESSAGE_BYTES: u64 = 1024 * 1024;
/// Blocks one send may span.
const SLICES_MAX: usize = 16;
/// A socket that takes everything is left after so many sends, for the others' sake.
const SENDS_PER_WAKE: usize = 64;

/// What came of pumping.
#[derive(Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing is left to send.
    Idle,
    /// The socket is full; its poller edge resumes.
    Blocked,
    /// The budget of this wake is used up; call again.
    Budget,
    /// The connection is over.
    Closed(CloseReason),
}

/// The place of a viewer in its wire.
#[derive(Debug)]
pub struct Place<'a> {
    /// The wire.
    pub wire: &'a Wire,
    /// The viewer's next byte; moved on.
    pub offset: &'a mut u64,
    /// Where it may go now: the head, or less while it is paced. A message boundary.
    pub limit: u64,
    /// Pictures left out for it.
    pub left_out: &'a mut u64,
}

impl Conn {
    /// Sends what is due.
    pub fn pump(&mut self, mut place: Option<Place<'_>>) -> Pumped {
        for _ in 0..SENDS_PER_WAKE {
            if !self.wire_out.is_empty() {
                match sys::send(self.fd.as_fd(), &self.wire_out[self.wire_sent..]) {
                    Ok(sent) => self.note_wire_sent(sent),
                    Err(error) => return Self::on_send_error(&error),
                }
                continue;
            }
            if let Some(tls) = &mut self.tls {
                if tls.wants_write() {
                    match tls.flush(self.fd.as_fd()) {
                        Ok(sent) => self.note_sent(sent),
                        Err(error) => return Self::on_send_error(&error),
                    }
                    continue;
                }
                if tls.is_handshaking() {
                    return Pumped::Idle;
                }
            }
            // Looked up only for what has to stand at one.
            let at_boundary = (self.thin || !self.out.is_empty())
                && self.frame_left == 0
                && place.as_ref().is_none_or(|place| {
                    *place.offset >= place.limit
                        || place.wire.boundary_at_or_after(*place.offset) == *place.offset
                });
            if at_boundary && !self.out.is_empty() {
                let out = std::mem::take(&mut self.out);
                self.stage(&out);
                continue;
            }
            let Some(place) = &mut place else { return Pumped::Idle };
            if self.thin && at_boundary {
                *place.offset = place.wire.skip_disposable(*place.offset, place.left_out);
            }
            if *place.offset >= place.limit {
                self.thin &= *place.offset < place.wire.head();
                return Pumped::Idle;
            }
            if let Some(done) = self.pump_media(place) {
                return done;
            }
        }
        Pumped::Budget
    }

    /// One step of media: a WebSocket frame head, a TLS batch, or a vectored send.
    fn pump_media(&mut self, place: &mut Place<'_>) -> Option<Pumped> {
        let mut end = place.limit;
        if self.thin {
            end = end.min(place.wire.next_disposable(*place.offset));
        }
        if self.protocol.is_websocket() {
            if self.frame_left == 0 {
                let length = (end - *place.offset).min(WS_MESSAGE_BYTES);
                let frame_head = websocket::frame_header(usize::try_from(length).unwrap_or(0));
                self.stage(frame_head.as_slice());
                self.frame_left = length;
                return None;
            }
            end = *place.offset + self.frame_left;
        } else if !self.out.is_empty() {
            // Control bytes wait for the next boundary: do not send past it.
            end = place.wire.boundary_at_or_after(*place.offset);
        }
        if self.tls.is_some() {
            end = end.min(*place.offset + TLS_BATCH_BYTES);
        }
        let mut slices = Slices::new();
        let total = place.wire.slices(*place.offset, end, &mut slices, SLICES_MAX);
        if total == 0 {
            // The bytes have been evicted under the viewer: the lag ladder should have moved it.
            return Some(Pumped::Closed(CloseReason::SlowViewer));
        }
        let sent = if let Some(tls) = &mut self.tls {
            tls.encrypt(&slices);
            total
        } else {
            match sys::sendmsg(self.fd.as_fd(), &slices) {
                Ok(sent) => {
                    self.note_sent(sent);
                    sent
                }
                Err(error) => return Some(Self::on_send_error(&error)),
            }
        };
        *place.offset += sent as u64;
        self.frame_left = self.frame_left.saturating_sub(sent as u64);
        None
    }

    /// Plaintext to the front of the wire: encrypted where TLS is on.
    fn stage(&mut self, plain: &[u8]) {
        match &mut self.tls {
            Some(tls) => tls.encrypt(&[IoSlice::new(plain)]),
            None => self.wire_out.extend_from_slice(plain),
        }
    }

    pub(crate) fn note_sent(&mut self, sent: usize) {
        self.bytes_out += sent as u64;
        self.blocked_since = None;
    }

    fn note_wire_sent(&mut self, sent: usize) {
        self.wire_sent += sent;
        self.note_sent(sent);
        if self.wire_sent >= self.wire_out.len() {
            self.wire_sent = 0;
            self.wire_out.clear();
        }
    }

    fn on_send_error(error: &io::Error) -> Pumped {
        match error.kind() {
            io::ErrorKind::WouldBlock => Pumped::Blocked,
            kind => Pumped::Closed(CloseReason::Socket(kind)),
        }
    }
}
