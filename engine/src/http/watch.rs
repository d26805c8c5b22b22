//! How long the peer of a connection may take over a request, an answer, and the time between.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::alarm::Alarm;
use crate::http::io::Flow;
use crate::http::server::Outcome;

/// An answer of which the peer takes nothing for so long ends the connection.
const WRITE_STALL: Duration = Duration::from_secs(30);

/// What the deadlines of a connection depend on.
pub(super) struct Watch {
    /// What the socket gave and took.
    pub(super) flow: Rc<Flow>,
    /// Requests that are being answered.
    pub(super) active: Cell<usize>,
    /// There has been a request.
    pub(super) served: Cell<bool>,
    /// It speaks HTTP/2.
    pub(super) multiplexed: bool,
    /// When the last answer was made.
    pub(super) idle_since: Cell<Instant>,
    /// How long a request head may take.
    pub(super) head_timeout: Duration,
    /// How long nothing may be asked.
    pub(super) keepalive_timeout: Duration,
}

impl Watch {
    /// The end of the connection.
    pub(super) fn closed(&self, reason: &'static str) -> Outcome {
        let (bytes_in, bytes_out) = (self.flow.bytes_in.get(), self.flow.bytes_out.get());
        Outcome::Closed { reason, bytes_in, bytes_out }
    }

    /// When the connection is over if nothing changes, and why.
    fn due(&self) -> Option<(Instant, &'static str)> {
        if !self.flow.flushed.get() {
            return Some((self.flow.last_output() + WRITE_STALL, "write_stall"));
        }
        if self.active.get() > 0 {
            return None;
        }
        if !self.served.get() {
            return Some((self.idle_since.get() + self.head_timeout, "head_timeout"));
        }
        let idle_since = self.idle_since.get().max(self.flow.last_output());
        match self.flow.first_input.get() {
            // On HTTP/2 any frame is input, so it says nothing about a head.
            Some(at) if !self.multiplexed => {
                Some((at.max(idle_since) + self.head_timeout, "head_timeout"))
            }
            _ => Some((idle_since + self.keepalive_timeout, "idle")),
        }
    }
}

/// Counts a request as running while it lives.
pub(super) struct Active(Rc<Watch>);

impl Active {
    /// From now on.
    pub(super) fn new(watch: Rc<Watch>) -> Self {
        watch.active.set(watch.active.get() + 1);
        watch.served.set(true);
        Self(watch)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        self.0.idle_since.set(Instant::now());
        self.0.flow.first_input.set(None);
    }
}

/// One alarm for all deadlines: set anew only when the next one is earlier than it.
#[derive(Default)]
pub(super) struct Deadline {
    alarm: Option<Alarm>,
}

impl Deadline {
    /// Why the connection is over, once it is.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, watch: &Watch) -> Poll<&'static str> {
        loop {
            let Some((due, reason)) = watch.due() else {
                return Poll::Pending;
            };
            if due <= Instant::now() {
                return Poll::Ready(reason);
            }
            if self.alarm.as_ref().is_none_or(|alarm| alarm.due() > due) {
                self.alarm = Some(Alarm::at(due));
            }
            let Some(alarm) = &mut self.alarm else {
                return Poll::Pending;
            };
            if Pin::new(alarm).poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.alarm = None;
        }
    }
}
