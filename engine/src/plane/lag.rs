//! Slow viewers: bounded in media time, moved at message boundaries, closed when it does not help.
//!
//! A viewer whose socket is full stays where it is until it lags more than the limit. Then the
//! message it is in the middle of is copied out for it (the only copy per viewer there is), and
//! it goes on at the newest join point, or waits for the next one. It never gets a broken message
//! and nobody else notices.

use std::time::{Duration, Instant};

use protocols::media::Tracks;

use crate::conn::{CloseReason, Conn, Protocol, Role};
use crate::observe::DropReason;
use crate::shard::Shard;
use crate::stream::{AWAIT_KEYFRAME, Slices, Wire, wire_millis};

/// The span over which jumps are counted.
const JUMP_WINDOW: Duration = Duration::from_secs(60);

/// What the ladder decided for one viewer.
enum Step {
    Stay,
    Moved,
    Close,
}

impl Shard {
    /// Looks after the blocked viewers of every wire; called on the tick.
    pub(crate) fn tend_slow_viewers(&mut self, now: Instant) {
        let limits = self.config.limits.clone();
        let pending_max = self.config.engine.viewer_pending_bytes;
        let mut doomed = Vec::new();
        for (_, mirror) in &mut self.mirrors {
            let tracks = mirror.log.tracks();
            for (_, wire) in &mut mirror.wires {
                if wire.blocked == 0 {
                    continue;
                }
                for index in 0..wire.viewers.len() {
                    if !wire.viewers[index].blocked {
                        continue;
                    }
                    let slot = wire.viewers[index].conn as usize;
                    let Some(conn) = self.plane.conns.get_mut(slot) else { continue };
                    let stalled = conn
                        .blocked_since
                        .is_some_and(|since| now.duration_since(since) > limits.viewer_stall);
                    let step = if stalled {
                        Step::Close
                    } else {
                        tend(conn, wire, index, tracks, limits.viewer_lag, pending_max)
                    };
                    match step {
                        Step::Stay => {}
                        Step::Moved => {
                            self.counters.dropped(DropReason::LagSkip);
                            // A target that is slow but alive is better than none.
                            let patient = conn.protocol == Protocol::Forward;
                            if count_jump(conn, now) > limits.viewer_jumps_max && !patient {
                                doomed.push(slot);
                            }
                        }
                        Step::Close => doomed.push(slot),
                    }
                }
            }
        }
        for slot in doomed {
            self.close(slot, CloseReason::SlowViewer, now);
        }
    }
}

fn tend(
    conn: &mut Conn,
    wire: &mut Wire,
    index: usize,
    tracks: &Tracks,
    lag_max: Duration,
    pending_max: usize,
) -> Step {
    let offset = wire.viewers[index].offset;
    if offset >= wire.head() {
        return Step::Stay;
    }
    if conn.pace.is_some() && offset >= wire.tail() {
        // Behind by our own doing.
        return Step::Stay;
    }
    let lag = if offset >= wire.tail() { wire.lag(offset) } else { Duration::MAX };
    if lag > lag_max / 2 {
        // First rung: leave out what nobody depends on.
        conn.thin = true;
        wire.viewers[index].special = true;
    }
    if lag <= lag_max {
        return Step::Stay;
    }
    let Some(end) = finish_message(conn, wire, index, pending_max) else { return Step::Close };
    rejoin(conn, wire, index, end, tracks);
    Step::Moved
}

/// Moves a viewer from a message boundary to the newest join point behind it, or has it wait for the
/// next one. What it skips may have told of another configuration.
pub(super) fn rejoin(conn: &mut Conn, wire: &mut Wire, index: usize, from: u64, tracks: &Tracks) {
    let join = wire.join_point().filter(|join| *join > from);
    if wire.misses_configuration(from, join) {
        wire.viewers[index].configuration = wire.configuration().wrapping_sub(1);
    }
    wire.viewers[index].offset = join.unwrap_or(AWAIT_KEYFRAME);
    if join.is_some() {
        catch_up(conn, wire, index, tracks);
    }
}

/// Tells a viewer that goes on of the configuration that it has skipped.
fn catch_up(conn: &mut Conn, wire: &mut Wire, index: usize, tracks: &Tracks) {
    let version = wire.configuration();
    let viewer = &mut wire.viewers[index];
    if std::mem::replace(&mut viewer.configuration, version) != version {
        let mut bytes = Vec::new();
        wire.packager.catch_up(tracks, wire_millis(wire.newest()), &mut bytes);
        conn.stage_out(&bytes);
        wire.viewers[index].special = true;
    }
}

/// Takes a viewer off the shared bytes at a message boundary: the rest of the message, or of the
/// WebSocket frame, it is in the middle of becomes its own. Gives the boundary; `None` when the
/// rest is not held any more or is more than may wait for one viewer.
pub(crate) fn finish_message(
    conn: &mut Conn,
    wire: &mut Wire,
    index: usize,
    pending_max: usize,
) -> Option<u64> {
    let offset = wire.viewers[index].offset;
    if offset >= wire.head() {
        return Some(offset);
    }
    let end = if conn.frame_left > 0 {
        offset + conn.frame_left
    } else {
        wire.boundary_at_or_after(offset)
    };
    let length = usize::try_from(end - offset).ok()?;
    if end > wire.head() || length + conn.pending_bytes() > pending_max {
        return None;
    }
    let mut slices = Slices::new();
    if wire.slices(offset, end, &mut slices, usize::MAX) != length {
        return None;
    }
    // They stand before whatever control bytes wait: they end a message already begun.
    let mut rest: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
    drop(slices);
    rest.extend_from_slice(&conn.out);
    conn.out = rest.as_slice().into();
    conn.frame_left = 0;
    wire.viewers[index].special = true;
    wire.viewers[index].offset = end;
    Some(end)
}

fn count_jump(conn: &mut Conn, now: Instant) -> u32 {
    let jumps = &mut conn.jumps;
    if jumps.since.is_none_or(|since| now.duration_since(since) > JUMP_WINDOW) {
        jumps.since = Some(now);
        jumps.count = 0;
    }
    jumps.count += 1;
    jumps.count
}

impl Shard {
    /// Viewers that wait on a wire start at a join point that has just been appended.
    pub(crate) fn wake_awaiting(&mut self, mirror: usize) {
        let Some(mirror) = self.mirrors.get_mut(mirror) else { return };
        let tracks = mirror.log.tracks();
        for (_, wire) in &mut mirror.wires {
            let Some(join) = wire.join_point() else { continue };
            for index in 0..wire.viewers.len() {
                if wire.viewers[index].offset != AWAIT_KEYFRAME {
                    continue;
                }
                wire.viewers[index].offset = join;
                let slot = wire.viewers[index].conn as usize;
                let Some(conn) = self.plane.conns.get_mut(slot) else { continue };
                debug_assert!(matches!(conn.role, Role::Viewer { .. }));
                catch_up(conn, wire, index, tracks);
            }
        }
    }
}
