//! The fan-out to viewers behind TLS: records made side by side in one buffer, sent as one batch.
//!
//! Each viewer has keys of its own, so its bytes are made for it alone, once per batch, in one
//! pass from the bytes that all share. A viewer with anything else to send (a handshake, control
//! bytes, a WebSocket frame, what its socket did not take) or behind TLS 1.2 goes the long way, as
//! does what is left of a send that was cut.

use std::io;
use std::time::Instant;

use super::egress::{Parcel, SLICES_MAX};
use crate::conn::{CloseReason, Role};
use crate::net::sys_cache::prefetch;
use crate::net::tls::TlsCodec;
use crate::shard::Shard;
use crate::stream::Slices;

/// Ciphertext made before it is sent: it should still be in the core's cache then.
const SEALED_BYTES: usize = 256 * 1024;
/// Plaintext of one viewer per batch; more goes the long way, in parts.
const PLAIN_BYTES_MAX: u64 = 64 * 1024;

/// The buffer of a shard, used anew for each batch. It is as long as it was ever needed: what is
/// past `used` is of an earlier batch.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    bytes: Vec<u8>,
    used: usize,
    parcels: Vec<Parcel>,
    outcome: Vec<io::Result<usize>>,
}

impl Shard {
    /// Takes those viewers out of `special` that are behind TLS and want nothing but media, and
    /// serves them. Those whose send was cut stay in it.
    pub(super) fn send_sealed(&mut self, special: &mut Vec<u32>, now: Instant) {
        if special.is_empty() {
            return;
        }
        let due = std::mem::take(special);
        for (at, &slot) in due.iter().enumerate() {
            self.foresee(&due[at + 1..]);
            let token = self.plane.token(slot as usize);
            let mut sealed = false;
            self.guarded(token, now, |shard, slot| sealed = shard.seal(slot));
            if !sealed {
                special.push(slot);
            } else if self.plane.sealed.used >= SEALED_BYTES {
                self.flush_sealed(special, now);
            }
        }
        self.flush_sealed(special, now);
    }

    /// Has the memory of those that come next fetched, a step each: the connection, its TLS
    /// state, its key. Hundreds of them do not fit into the cache, and each step waits for the one
    /// before it.
    fn foresee(&self, next: &[u32]) {
        let conn = |ahead: usize| self.plane.conns.get(*next.get(ahead)? as usize);
        if let Some(conn) = conn(2) {
            prefetch(conn);
            prefetch(&conn.role);
            prefetch(&conn.tls);
            prefetch(&conn.wire_out);
        }
        if let Some(tls) = conn(1).and_then(|conn| conn.tls.as_deref()) {
            prefetch(tls);
        }
        if let Some(tls) = conn(0).and_then(|conn| conn.tls.as_deref()) {
            tls.foresee();
        }
    }

    /// Encrypts what is due to one viewer; false when it has to go the long way.
    fn seal(&mut self, slot: usize) -> bool {
        let conn = &mut self.plane.conns[slot];
        let Role::Viewer { mirror, wire: wire_index, index } = conn.role else { return false };
        let only_media = conn.pace.is_none()
            && !conn.thin
            && conn.out.is_empty()
            && conn.wire_out.is_empty()
            && !conn.protocol.is_websocket();
        let Some(tls) = &mut conn.tls else { return false };
        if !only_media {
            return false;
        }
        let wire = &self.mirrors[mirror].wires[wire_index];
        let viewer = &wire.viewers[index];
        let (offset, head) = (viewer.offset, wire.head());
        // Nothing is due to one that waits for a keyframe or has paused.
        if offset >= head || head - offset > PLAIN_BYTES_MAX {
            return false;
        }
        let mut slices = Slices::new();
        if wire.slices(offset, head, &mut slices, SLICES_MAX) as u64 != head - offset {
            // Evicted in part, or in more pieces than one batch takes.
            return false;
        }
        let sealed = &mut self.plane.sealed;
        let start = sealed.used;
        let room = start + TlsCodec::sealed_len(&slices);
        if sealed.bytes.len() < room {
            sealed.bytes.resize(room, 0);
        }
        let Some(made) = tls.seal(&slices, &mut sealed.bytes[start..]) else { return false };
        sealed.used += made;
        sealed.parcels.push(Parcel {
            conn: viewer.conn,
            fd: viewer.fd,
            enrolled: viewer.enrolled,
            range: start..sealed.used,
        });
        drop(slices);
        self.mirrors[mirror].wires[wire_index].viewers[index].offset = head;
        true
    }

    /// Sends what has been made; what a socket does not take waits with its connection.
    fn flush_sealed(&mut self, special: &mut Vec<u32>, now: Instant) {
        let mut sealed = std::mem::take(&mut self.plane.sealed);
        self.plane.egress.send_parcels(&sealed.bytes, &sealed.parcels, &mut sealed.outcome);
        self.counters.sends += sealed.parcels.len() as u64;
        for (parcel, sent) in sealed.parcels.drain(..).zip(sealed.outcome.drain(..)) {
            let slot = parcel.conn as usize;
            let sent = match sent {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => {
                    self.close(slot, CloseReason::Socket(error.kind()), now);
                    continue;
                }
            };
            self.counters.bytes_out += sent as u64;
            let Some(conn) = self.plane.conns.get_mut(slot) else { continue };
            conn.note_sent(sent);
            let rest = &sealed.bytes[parcel.range.start + sent..parcel.range.end];
            if !rest.is_empty() {
                conn.wire_out.extend_from_slice(rest);
                self.counters.sends_blocked += 1;
                special.push(parcel.conn);
            }
        }
        sealed.used = 0;
        self.plane.sealed = sealed;
    }
}
