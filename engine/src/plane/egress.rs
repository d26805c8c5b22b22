//! The fan-out: every viewer behind the head of its wire gets one vectored send per batch.
//!
//! Viewers at the same offset share one array of slices over the same bytes. A viewer costs one
//! system call per batch and touches nothing but its own 48 bytes.

use std::io::{self, IoSlice};
use std::time::Instant;

use crate::conn::{CloseReason, Place, Pumped, Role};
use crate::net::sys_socket;
use crate::ring::Token;
use crate::shard::Shard;
use crate::stream::{Viewer, Wire};

/// Blocks one send of the fan-out may span; more than that goes the long way.
const SLICES_MAX: usize = 64;

/// What the loop over one wire leaves to be done with the whole shard at hand.
#[derive(Debug, Default)]
struct Leftovers {
    special: Vec<u32>,
    failed: Vec<(u32, io::ErrorKind)>,
}

impl Shard {
    /// Sends everything that waits on dirty wires.
    pub(crate) fn flush(&mut self, now: Instant) {
        let mut dirty = std::mem::take(&mut self.plane.dirty);
        for (mirror, wire) in dirty.drain(..) {
            self.flush_wire(mirror, wire, now);
        }
        // Keeps its capacity; nothing was marked dirty meanwhile but by a viewer that joined.
        if self.plane.dirty.is_empty() {
            self.plane.dirty = dirty;
        }
    }

    fn flush_wire(&mut self, mirror: usize, wire_index: usize, now: Instant) {
        let Some(wire) =
            self.mirrors.get_mut(mirror).and_then(|mirror| mirror.wires.get_mut(wire_index))
        else {
            return;
        };
        wire.dirty = false;
        wire.queued = false;
        let ingested_at = wire.unflushed_since.take();
        let mut leftovers = Leftovers::default();
        let (sends, blocked) = fan_out(wire, &mut leftovers);
        self.counters.sends += sends;
        self.counters.sends_blocked += blocked;
        self.counters.flushes += 1;
        for slot in leftovers.special {
            let token = self.plane.token(slot as usize);
            self.guarded(token, now, |shard, slot| shard.pump(slot, now));
        }
        for (slot, kind) in leftovers.failed {
            self.close(slot as usize, CloseReason::Socket(kind), now);
        }
        if let Some(at) = ingested_at {
            self.counters.note_ingest_to_socket(crate::clock::now().saturating_duration_since(at));
        }
    }

    /// Sends what is due to one connection, by the long way.
    pub(crate) fn pump(&mut self, slot: usize, now: Instant) {
        let Some(conn) = self.plane.conns.get_mut(slot) else { return };
        let before = conn.bytes_out;
        let outcome = if let Role::Viewer { mirror, wire, index } = conn.role {
            let wire = &mut self.mirrors[mirror].wires[wire];
            let mut offset = wire.viewers[index].offset;
            let outcome = conn.pump(Some(Place { wire, offset: &mut offset }));
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
        match outcome {
            Pumped::Idle => {
                conn.blocked_since = None;
                if conn.draining.is_some() {
                    self.finish_draining(slot, now);
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

    /// Goes on with connections that used up their budget.
    pub(crate) fn run_again(&mut self, now: Instant) {
        for token in std::mem::take(&mut self.plane.again) {
            self.guarded(token, now, |shard, slot| {
                let ready = crate::net::sys_epoll::Ready {
                    token: poll_token(token),
                    readable: true,
                    writable: true,
                    // It may have been the reason; reading once more costs little.
                    hung_up: true,
                };
                debug_assert_eq!(shard.plane.token(slot), token);
                shard.on_ready(ready, now);
            });
        }
    }
}

fn poll_token(token: Token) -> u64 {
    u64::from(token.generation) << 32 | u64::from(token.index)
}

/// The loop over all viewers of a wire: sends made, and how many of them were cut short.
fn fan_out(wire: &mut Wire, leftovers: &mut Leftovers) -> (u64, u64) {
    let head = wire.head();
    // The viewers move while the bytes stay: taken out, so that both can be borrowed.
    let mut viewers = std::mem::take(&mut wire.viewers);
    let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(16);
    let (mut slices_of, mut slices_bytes) = (u64::MAX, 0);
    let (mut sends, mut cut, mut newly_blocked) = (0u64, 0u64, 0usize);
    for viewer in &mut viewers {
        if viewer.blocked || !viewer.is_behind(head) {
            continue;
        }
        if viewer.special {
            leftovers.special.push(viewer.conn);
            continue;
        }
        if slices_of != viewer.offset {
            slices.clear();
            slices_bytes = wire.slices(viewer.offset, head, &mut slices, SLICES_MAX);
            slices_of = viewer.offset;
        }
        if slices_bytes as u64 != head - viewer.offset {
            // Evicted in part, or in more pieces than one send takes.
            leftovers.special.push(viewer.conn);
            continue;
        }
        sends += 1;
        match sys_socket::sendmsg_raw(viewer.fd, &slices) {
            Ok(sent) => {
                note_sent(viewer, sent);
                if sent < slices_bytes {
                    // The edge of the poller comes only after a send that takes nothing.
                    cut += 1;
                    leftovers.special.push(viewer.conn);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                cut += 1;
                newly_blocked += 1;
                viewer.blocked = true;
                leftovers.special.push(viewer.conn);
            }
            Err(error) => leftovers.failed.push((viewer.conn, error.kind())),
        }
    }
    drop(slices);
    wire.viewers = viewers;
    wire.blocked += newly_blocked;
    (sends, cut)
}

fn note_sent(viewer: &mut Viewer, sent: usize) {
    viewer.offset += sent as u64;
    viewer.sent += sent as u64;
}
