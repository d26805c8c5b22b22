//! The fan-out: every viewer behind the head of its wire gets one vectored send per batch.
//!
//! Viewers at the same offset share one array of slices over the same bytes. A viewer costs one
//! send per batch and touches nothing but its own 48 bytes. Three ways to send a batch: one system
//! call per viewer ([`super::direct_egress`]), one for all of them ([`super::ring_egress`]), or, of
//! large batches, no copy per viewer ([`super::staged_egress`]).

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::direct_egress::DirectEgress;
use super::lag::rejoin;
use super::ring_egress::RingEgress;
use super::staged_egress::StagedEgress;
use crate::config::EgressMode;
use crate::conn::{CloseReason, Conn, Place, Pumped, Role};
use crate::observe::DropReason;
use crate::shard::Shard;
use crate::stream::{Mirror, Viewer, Wire};

/// Blocks one send of the fan-out may span; more than that goes the long way.
pub(super) const SLICES_MAX: usize = 16;

/// Viewers served, and bytes sent, per turn before sockets and rings are looked at again: about 2
/// milliseconds. As many go in one batch: what a thousand small sends cost rises by a quarter when
/// they are submitted 64 at a time.
const VIEWERS_PER_TURN: usize = 1024;
const BYTES_PER_TURN: u64 = 4 << 20;
/// What a batch costs beside its viewers, in viewers.
const BATCH_VIEWERS: usize = 3;
/// Time per turn for connections that used up their budget in an earlier one.
const AGAIN_MAX: Duration = Duration::from_millis(1);

/// One way to send a batch. A send never waits: what the socket does not take stays with the
/// viewer, whose poller edge resumes it.
pub trait Egress {
    /// Sends each eligible viewer everything from its offset to the head of the wire, and notes
    /// what remains to be done with the whole shard at hand.
    fn send_batch(&mut self, wire: &Wire, viewers: &mut [Viewer], after: &mut Batch);

    /// Sends each its own part of `bytes`; appends what came of each, in order.
    fn send_parcels(
        &mut self,
        bytes: &[u8],
        parcels: &[Parcel],
        outcome: &mut Vec<io::Result<usize>>,
    );

    /// A connection becomes a viewer: its socket may be made known to the kernel beforehand. True
    /// when that was done.
    fn enroll(&mut self, conn: u32, fd: RawFd) -> bool;

    /// An enrolled viewer leaves; before its socket is closed.
    fn dismiss(&mut self, conn: u32);
}

/// Bytes that go to one viewer alone.
#[derive(Debug)]
pub struct Parcel {
    /// Its slot in the plane's table.
    pub conn: u32,
    /// Its socket.
    pub fd: RawFd,
    /// The egress knows the socket beforehand.
    pub enrolled: bool,
    /// Which of the bytes are its.
    pub range: Range<usize>,
}

/// What a batch did, and what it leaves to be done.
#[derive(Debug, Default)]
pub struct Batch {
    /// Sends made.
    pub sends: u64,
    /// Bytes the sockets took.
    pub bytes: u64,
    /// Sends the socket did not take whole.
    pub cut: u64,
    /// Viewers that became blocked.
    pub blocked: usize,
    /// Connections that go the long way.
    pub special: Vec<u32>,
    /// Connections whose socket failed.
    pub failed: Vec<(u32, io::ErrorKind)>,
}

impl Batch {
    /// A viewer that is due but cannot be served from shared slices.
    pub(super) fn defer(&mut self, viewer: &Viewer) {
        self.special.push(viewer.conn);
    }

    /// The outcome of one send of `offered` bytes.
    pub(super) fn note(&mut self, viewer: &mut Viewer, offered: usize, sent: io::Result<usize>) {
        self.sends += 1;
        match sent {
            Ok(sent) => {
                self.bytes += sent as u64;
                viewer.offset += sent as u64;
                viewer.sent += sent as u64;
                if sent < offered {
                    // The edge of the poller comes only after a send that takes nothing.
                    self.cut += 1;
                    self.special.push(viewer.conn);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.cut += 1;
                self.blocked += 1;
                viewer.blocked = true;
                self.special.push(viewer.conn);
            }
            Err(error) => self.failed.push((viewer.conn, error.kind())),
        }
    }
}

/// What serving a wire came to.
enum Served {
    /// Every viewer has everything; the wire waits for more bytes.
    Everybody,
    /// The next slot is not due yet.
    UntilDue,
    /// So many viewers with so many bytes, which was all of the slot or not.
    Some { viewers: usize, bytes: u64, ended: bool },
}

/// A viewer to be served in this batch, or not (`None`), or by the long way.
pub(super) fn eligible(viewer: &Viewer, head: u64) -> Option<bool> {
    if viewer.blocked || !viewer.is_behind(head) { None } else { Some(!viewer.special) }
}

/// The way the configuration asks for, or the best that works here.
pub(super) fn choose(mode: EgressMode) -> Box<dyn Egress> {
    let ring = || match RingEgress::new() {
        Ok(ring) => Box::new(ring) as Box<dyn Egress>,
        Err(error) => {
            if mode == EgressMode::Ring {
                tracing::warn!(%error, "no egress ring: sending directly");
            } else {
                tracing::info!(%error, "no egress ring: sending directly");
            }
            Box::new(DirectEgress)
        }
    };
    match mode {
        EgressMode::Direct => Box::new(DirectEgress),
        EgressMode::Ring => ring(),
        EgressMode::Auto => Box::new(StagedEgress::new(ring())),
    }
}

impl Shard {
    /// Serves the slots that are due, a bounded number of viewers per turn. True when the budget
    /// was used up and more is due at once. A slot that was begun is ended first, then wires take
    /// turns slot by slot: with more to do than time, all are late by the same.
    pub(crate) fn flush(&mut self, now: Instant) -> bool {
        let (mut viewers_left, mut bytes_left) = (VIEWERS_PER_TURN, BYTES_PER_TURN);
        let mut due = std::mem::take(&mut self.plane.dirty);
        let mut later = VecDeque::new();
        while viewers_left > 0
            && bytes_left > 0
            && let Some((mirror, wire)) = due.pop_front()
        {
            match self.serve_slot(mirror, wire, (viewers_left, bytes_left), now) {
                Served::Everybody => {}
                Served::UntilDue => later.push_back((mirror, wire)),
                Served::Some { viewers, bytes, ended } => {
                    viewers_left = viewers_left.saturating_sub(viewers + BATCH_VIEWERS);
                    bytes_left = bytes_left.saturating_sub(bytes);
                    match ended {
                        true => due.push_back((mirror, wire)),
                        false => due.push_front((mirror, wire)),
                    }
                }
            }
        }
        due.append(&mut later);
        // Wires that a viewer's arrival has made dirty meanwhile.
        due.append(&mut self.plane.dirty);
        self.plane.dirty = due;
        viewers_left == 0 || bytes_left == 0
    }

    /// Serves one slot of a wire, or as many viewers of it as these and these bytes are for.
    fn serve_slot(
        &mut self,
        mirror_index: usize,
        wire_index: usize,
        (viewers_left, bytes_left): (usize, u64),
        now: Instant,
    ) -> Served {
        let window = self.plane.window.current();
        let Some(mirror) = self.mirrors.get_mut(mirror_index) else {
            return Served::Everybody;
        };
        let own = mirror.merge_ms;
        let Some(wire) = mirror.wires.get_mut(wire_index) else { return Served::Everybody };
        if wire.sweep.due().is_some_and(|at| at > now) {
            return Served::UntilDue;
        }
        let datagrams = wire.format.is_datagrams();
        let own = wire.format.merge_ms.or(own);
        let window = own.map_or(window, |millis| Duration::from_millis(millis.into()));
        let (viewers, head) = (&wire.viewers, wire.head());
        let most = |first: usize| {
            let mut slot = viewers.iter().skip(first);
            let due = slot.find(|viewer| eligible(viewer, head).is_some());
            let each = due.map_or(1, |viewer| head - viewer.offset);
            viewers_left.min(usize::try_from(bytes_left / each).unwrap_or(usize::MAX))
        };
        let Some(range) = wire.sweep.next(viewers.len(), window, most, now) else {
            wire.sweep.queued = false;
            return Served::Everybody;
        };
        let ended = wire.sweep.due().is_some();
        let oldest = wire.viewers.get(range.start).and_then(|v| wire.ingested_at(v.offset));
        if datagrams {
            let bytes = self.send_trains(mirror_index, wire_index, range.clone(), now);
            self.counters.flushes += 1;
            self.counters.bytes_out += bytes;
            self.note_delay(oldest);
            return Served::Some { viewers: range.len(), bytes, ended };
        }
        // The viewers move while the bytes stay: taken out, so that both can be borrowed.
        let mut viewers = std::mem::take(&mut wire.viewers);
        let mut batch = Batch::default();
        self.plane.egress.send_batch(wire, &mut viewers[range.clone()], &mut batch);
        wire.viewers = viewers;
        wire.blocked += batch.blocked;
        self.counters.sends += batch.sends;
        self.counters.sends_blocked += batch.cut;
        self.counters.bytes_out += batch.bytes;
        self.counters.flushes += 1;
        let before = self.counters.bytes_out;
        self.send_sealed(&mut batch.special, now);
        for slot in batch.special {
            let token = self.plane.token(slot as usize);
            self.guarded(token, now, |shard, slot| shard.pump(slot, now));
        }
        let long_way = self.counters.bytes_out - before;
        for (slot, kind) in batch.failed {
            self.close(slot as usize, CloseReason::Socket(kind), now);
        }
        self.note_delay(oldest);
        Served::Some { viewers: range.len(), bytes: batch.bytes + long_way, ended }
    }

    fn note_delay(&mut self, ingested: Option<Instant>) {
        if let Some(at) = ingested {
            let delay = crate::clock::now().saturating_duration_since(at);
            self.counters.note_ingest_to_socket(delay);
        }
    }

    /// When the next slot is due; `now` at the earliest.
    pub(crate) fn next_flush(&self, now: Instant) -> Option<Instant> {
        let wire = |(mirror, wire): &(usize, usize)| self.mirrors.get(*mirror)?.wires.get(*wire);
        let due = self.plane.dirty.iter().filter_map(wire).map(|wire| wire.sweep.due());
        due.map(|at| at.unwrap_or(now)).min()
    }

    /// How soon media that comes in has to be looked for, see [`super::window::Window::look`]: at
    /// once while anybody has a window of its own.
    pub(crate) fn look(&self) -> Duration {
        let look = self.plane.window.look();
        let own = |mirror: &Mirror| {
            let mut wires = mirror.wires.iter();
            mirror.merge_ms.is_some() || wires.any(|(_, wire)| wire.format.merge_ms.is_some())
        };
        let at_once = !look.is_zero() && self.mirrors.iter().any(|(_, mirror)| own(mirror));
        if at_once { Duration::ZERO } else { look }
    }

    /// Sends what is due to one connection, by the long way.
    pub(crate) fn pump(&mut self, slot: usize, now: Instant) {
        let Some(conn) = self.plane.conns.get(slot) else { return };
        let datagrams = match conn.role {
            Role::Viewer { mirror, wire, index }
                if self.mirrors[mirror].wires[wire].format.is_datagrams() =>
            {
                self.send_trains(mirror, wire, index..index + 1, now);
                true
            }
            _ => false,
        };
        let Some(conn) = self.plane.conns.get_mut(slot) else { return };
        let before = conn.bytes_out;
        if conn.wire_out.capacity() == 0 {
            conn.wire_out = std::mem::take(&mut self.plane.spare);
        }
        let outcome = if let Role::Viewer { mirror, wire, index } = conn.role
            && !datagrams
        {
            let mirror = &mut self.mirrors[mirror];
            let wire = &mut mirror.wires[wire];
            let offset = wire.viewers[index].offset;
            if offset < wire.tail() && is_at_rest(conn, &wire.viewers[index]) {
                // A burst has overtaken it.
                rejoin(conn, wire, index, offset, mirror.log.tracks());
                self.counters.dropped(DropReason::LagSkip);
            }
            let mut offset = wire.viewers[index].offset;
            let limit = conn.reach(wire, now);
            let mut left_out = 0;
            let outcome = conn.pump(Some(Place {
                wire,
                offset: &mut offset,
                limit,
                left_out: &mut left_out,
            }));
            conn.cut = outcome == Pumped::Budget;
            self.counters.dropped_many(DropReason::Disposable, left_out);
            let blocked = outcome == Pumped::Blocked;
            let viewer = &mut wire.viewers[index];
            viewer.offset = offset;
            viewer.special = conn.is_special();
            if viewer.blocked != blocked {
                viewer.blocked = blocked;
                wire.blocked = if blocked { wire.blocked + 1 } else { wire.blocked - 1 };
            }
            outcome
        } else {
            conn.pump(None)
        };
        self.counters.bytes_out += conn.bytes_out - before;
        if conn.wire_out.is_empty() {
            // A connection keeps no buffer of its own while its socket takes everything.
            self.plane.spare = std::mem::take(&mut conn.wire_out);
        }
        match outcome {
            Pumped::Idle => {
                conn.blocked_since = None;
                if conn.draining.is_some() {
                    self.finish_draining(slot);
                }
            }
            Pumped::Blocked => {
                conn.blocked_since.get_or_insert(now);
            }
            Pumped::Budget => {
                let token = self.plane.token(slot);
                self.plane.again.push(token);
            }
            Pumped::Closed(reason) => self.close(slot, reason, now),
        }
    }

    /// Goes on with connections that used up their budget, of reads or of sends, for as long as a
    /// turn may spend on them.
    pub(crate) fn run_again(&mut self, clock: impl Fn() -> Instant) {
        let mut waiting = std::mem::take(&mut self.plane.again);
        let start = clock();
        let mut now = start;
        let mut served = 0;
        for token in waiting.iter().copied() {
            if now.saturating_duration_since(start) >= AGAIN_MAX {
                break;
            }
            served += 1;
            self.guarded(token, now, |shard, slot| {
                // The end may have been the reason; reading once more costs little.
                shard.read_ready(slot, true, now);
                if shard.plane.slot(token).is_some() {
                    shard.pump(slot, now);
                }
            });
            now = clock();
        }
        waiting.drain(..served);
        waiting.append(&mut self.plane.again);
        self.plane.again = waiting;
    }
}

/// The viewer had taken all there was: it is at a message boundary.
fn is_at_rest(conn: &Conn, viewer: &Viewer) -> bool {
    !viewer.blocked && !conn.cut && conn.frame_left == 0
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
