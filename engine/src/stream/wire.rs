//! The packaged bytes of one stream in one format on one shard, and the viewers that read them.
//!
//! A wire is an append-only byte sequence held in blocks. A viewer is an offset into it: no
//! queue, no copy, no allocation per viewer. Marks tell where each message begins, so that a
//! viewer can be moved to a keyframe, and control bytes put in between, at message boundaries
//! only.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use protocols::media::{FrameKind, Timestamp, Tracks};
use smallvec::SmallVec;

use super::format::{Format, PackagerOptions, wire_millis};
use super::packager::Packager;
use super::sweep::Sweep;
use crate::ring::Ingested;

/// Capacity of one block; a larger message gets a block of its own.
const BLOCK_BYTES: usize = 64 * 1024;

/// A range of a wire in pieces, for one vectored send; on the stack.
pub type Slices<'a> = SmallVec<[IoSlice<'a>; 16]>;

/// The viewer waits for the next join point.
pub const AWAIT_KEYFRAME: u64 = u64::MAX;
/// The viewer has paused.
pub const PAUSED: u64 = u64::MAX - 1;

/// One viewer: all the fan-out loop touches, densely packed.
#[derive(Debug)]
pub struct Viewer {
    /// Its socket.
    pub fd: RawFd,
    /// Its slot in the plane's table.
    pub conn: u32,
    /// Next byte of the wire it gets, or [`AWAIT_KEYFRAME`], or [`PAUSED`].
    pub offset: u64,
    /// Bytes of this wire it got.
    pub sent: u64,
    /// Version of the configuration it has.
    pub configuration: u32,
    /// Its socket took less than offered; an edge of the poller ends this.
    pub blocked: bool,
    /// The egress knows its socket beforehand.
    pub enrolled: bool,
    /// Goes the long way: TLS, WebSocket framing or control bytes are waiting.
    pub special: bool,
}

impl Viewer {
    /// The viewer is on the wire and not at its head.
    #[must_use]
    pub fn is_behind(&self, head: u64) -> bool {
        self.offset < head
    }
}

/// Where a message begins.
#[derive(Debug, Clone, Copy)]
struct Mark {
    offset: u64,
    dts: Timestamp,
    /// Ingest time; of a configuration, none.
    at: Option<Instant>,
    disposable: bool,
}

#[derive(Debug)]
struct Block {
    start: u64,
    bytes: Vec<u8>,
}

impl Block {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// Bounds of one wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireLimits {
    /// Bytes kept, the newest GOP included.
    pub bytes: usize,
    /// Media time kept behind the head for viewers that lag.
    pub lag: Duration,
}

/// See the module text.
#[derive(Debug)]
pub struct Wire {
    /// What the bytes look like.
    pub format: Format,
    /// The viewers, in no order.
    pub viewers: Vec<Viewer>,
    /// How many of them are blocked.
    pub blocked: usize,
    /// When the last viewer left.
    pub empty_since: Option<Instant>,
    /// How far the fan-out has come.
    pub sweep: Sweep,
    /// Its viewers have been told of tracks that are no longer there.
    pub outdated: bool,
    /// What makes the bytes.
    pub packager: Packager,
    blocks: VecDeque<Block>,
    marks: VecDeque<Mark>,
    /// The newest join point.
    join: Option<u64>,
    head: u64,
    newest: Timestamp,
    /// Counts configurations, so that a viewer that skipped one can be told.
    configuration: u32,
    /// Where the newest one begins; none since those who watch came.
    configured_at: Option<u64>,
    limits: WireLimits,
}

impl Wire {
    /// An empty wire for tracks that are live now.
    #[must_use]
    pub fn new(
        format: Format,
        tracks: &Tracks,
        options: PackagerOptions,
        limits: WireLimits,
        now: Instant,
    ) -> Self {
        Self {
            format,
            viewers: Vec::new(),
            blocked: 0,
            empty_since: None,
            sweep: Sweep::new(now),
            outdated: false,
            packager: Packager::new(format, tracks, options),
            blocks: VecDeque::new(),
            marks: VecDeque::new(),
            join: None,
            head: 0,
            newest: Timestamp::ZERO,
            configuration: 0,
            configured_at: None,
            limits,
        }
    }

    /// End of the bytes: always a message boundary.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// First byte still held.
    #[must_use]
    pub fn tail(&self) -> u64 {
        self.blocks.front().map_or(self.head, |block| block.start)
    }

    /// Where a viewer starts now, if anywhere.
    #[must_use]
    pub fn join_point(&self) -> Option<u64> {
        self.join
    }

    /// Version of the configuration in force.
    #[must_use]
    pub fn configuration(&self) -> u32 {
        self.configuration
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.bytes.capacity()).sum::<usize>()
            + self.marks.capacity() * size_of::<Mark>()
    }

    /// Decode time of the newest frame in wire milliseconds.
    #[must_use]
    pub fn newest(&self) -> Timestamp {
        self.newest
    }

    /// Whether somebody who goes on at `to` (none: at a join point that is still to come) instead
    /// of at `from` misses the newest configuration.
    #[must_use]
    pub fn misses_configuration(&self, from: u64, to: Option<u64>) -> bool {
        self.configured_at.is_some_and(|at| from <= at && to.is_none_or(|to| at < to))
    }

    /// Appends a new configuration for those who watch. `restart` forbids joining before it.
    pub fn append_configuration(&mut self, tracks: &Tracks, restart: bool) {
        self.configuration += 1;
        if restart {
            self.join = None;
        }
        let at = self.newest;
        self.configured_at = Some(self.head);
        let millis = wire_millis(at);
        self.outdated |= !self.append_with(at, None, BLOCK_BYTES / 16, |packager, out| {
            packager.configure(tracks, millis, out)
        });
        let (head, version) = (self.head, self.configuration);
        for viewer in &mut self.viewers {
            if viewer.offset <= head {
                viewer.configuration = version;
            }
        }
    }

    /// Other bounds from now on.
    pub fn set_limits(&mut self, limits: WireLimits) {
        self.limits = limits;
    }

    /// Nobody joins before the next join point: what is held belongs to an earlier publisher.
    pub fn forbid_join(&mut self) {
        self.join = None;
    }

    /// Appends one frame. Viewers that wait for a join point start at it.
    pub fn append_frame(&mut self, tracks: &Tracks, ingested: &Ingested, is_join: bool) {
        let frame = &ingested.frame;
        if !self.format.wants(frame.kind) {
            return;
        }
        let offset = self.head;
        let payload = frame.payload.len();
        let chunk_heads = payload / self.format.chunk_size().max(1) as usize * 8;
        // Packets of RTP and of transport streams cost more than chunks: a block that is too small
        // grows to twice its size.
        let room = payload + payload / 16 + chunk_heads + 512;
        let wrote = self.append_with(frame.dts, Some(ingested), room, |packager, out| {
            packager.frame(tracks, frame, out)
        });
        if !wrote {
            return;
        }
        let offset = if self.packager.holds_back() { self.head } else { offset };
        if frame.kind != FrameKind::Data {
            self.newest = self.newest.max(frame.dts);
        }
        if is_join || (!self.format.video && frame.kind == FrameKind::Audio) {
            self.join = Some(offset);
            self.sweep.urgent |= is_join;
            self.evict();
        } else if self.head - self.tail() > self.limits.bytes as u64 {
            self.evict();
        }
    }

    fn append_with(
        &mut self,
        dts: Timestamp,
        ingested: Option<&Ingested>,
        bytes_hint: usize,
        write: impl FnOnce(&mut Packager, &mut Vec<u8>) -> bool,
    ) -> bool {
        let needs_block = self
            .blocks
            .back()
            .is_none_or(|block| block.bytes.capacity() - block.bytes.len() < bytes_hint);
        if needs_block {
            let bytes = Vec::with_capacity(BLOCK_BYTES.max(bytes_hint));
            self.blocks.push_back(Block { start: self.head, bytes });
        }
        let Some(block) = self.blocks.back_mut() else { return false };
        let before = block.bytes.len();
        let written = write(&mut self.packager, &mut block.bytes);
        let grown = block.bytes.len() - before;
        if grown == 0 {
            return written;
        }
        let disposable = self.packager.may_thin()
            && ingested.is_some_and(|ingested| ingested.frame.kind == FrameKind::Disposable);
        let at = ingested.map(|ingested| ingested.at);
        self.marks.push_back(Mark { offset: self.head, dts, at, disposable });
        self.head += grown as u64;
        self.sweep.add(at);
        written
    }

    /// Drops blocks that neither a joining viewer nor one inside the allowed lag needs.
    fn evict(&mut self) {
        let lag = i64::try_from(self.limits.lag.as_nanos()).unwrap_or(i64::MAX);
        let oldest_wanted = self.newest.offset_nanos(lag.saturating_neg());
        let lag_offset = self
            .marks
            .iter()
            .find(|mark| mark.dts >= oldest_wanted)
            .map_or(self.head, |mark| mark.offset);
        let keep_from = lag_offset.min(self.join.unwrap_or(self.head));
        while let Some(block) = self.blocks.front() {
            let over_budget = self.head - block.start > self.limits.bytes as u64;
            let unneeded = block.end() <= keep_from;
            if self.blocks.len() < 2 || !(unneeded || over_budget) {
                break;
            }
            self.blocks.pop_front();
        }
        let tail = self.tail();
        while self.marks.front().is_some_and(|mark| mark.offset < tail) {
            self.marks.pop_front();
        }
        if self.join.is_some_and(|join| join < tail) {
            self.join = None;
        }
    }

    /// The bytes from `offset` to `end` as slices; returns how many bytes they hold. The slices
    /// may end early when there are more blocks than `slices` has room for.
    pub fn slices<'a>(
        &'a self,
        offset: u64,
        end: u64,
        slices: &mut Slices<'a>,
        slices_max: usize,
    ) -> usize {
        let mut total = 0;
        for bytes in self.parts(offset, end).take(slices_max.saturating_sub(slices.len())) {
            total += bytes.len();
            slices.push(IoSlice::new(bytes));
        }
        total
    }

    /// The bytes from `offset` to `end`, block by block; nothing when the first of them are not
    /// held any more. A message lies in one block.
    pub fn parts(&self, offset: u64, end: u64) -> impl Iterator<Item = &[u8]> {
        let end = if offset < self.tail() { offset } else { end };
        let first = self.blocks.partition_point(|block| block.end() <= offset);
        let blocks = self.blocks.range(first..).take_while(move |block| block.start < end);
        blocks.filter_map(move |block| {
            let from = usize::try_from(offset.saturating_sub(block.start)).unwrap_or(usize::MAX);
            let to = usize::try_from(end.min(block.end()) - block.start).unwrap_or(usize::MAX);
            block.bytes.get(from..to)
        })
    }

    /// The first message boundary at or after an offset.
    #[must_use]
    pub fn boundary_at_or_after(&self, offset: u64) -> u64 {
        let index = self.marks.partition_point(|mark| mark.offset < offset);
        self.marks.get(index).map_or(self.head, |mark| mark.offset)
    }

    /// From a message boundary past the pictures that nobody depends on.
    #[must_use]
    pub fn skip_disposable(&self, offset: u64, left_out: &mut u64) -> u64 {
        let first = self.marks.partition_point(|mark| mark.offset < offset);
        let skipped = self.marks.range(first..).take_while(|mark| mark.disposable).count();
        *left_out += skipped as u64;
        if skipped == 0 {
            return offset;
        }
        self.marks.get(first + skipped).map_or(self.head, |mark| mark.offset)
    }

    /// Where the next picture begins, after an offset, that nobody depends on.
    #[must_use]
    pub fn next_disposable(&self, offset: u64) -> u64 {
        let first = self.marks.partition_point(|mark| mark.offset <= offset);
        let next = self.marks.range(first..).find(|mark| mark.disposable);
        next.map_or(self.head, |mark| mark.offset)
    }

    /// The boundary behind the messages up to a decode time.
    #[must_use]
    pub fn offset_after(&self, time: Timestamp) -> u64 {
        // Tracks interleave within a few frames of each other: sorted well enough, and any mark
        // is a boundary.
        let index = self.marks.partition_point(|mark| mark.dts <= time);
        self.marks.get(index).map_or(self.head, |mark| mark.offset)
    }

    /// When the frame at or after an offset was ingested.
    #[must_use]
    pub fn ingested_at(&self, offset: u64) -> Option<Instant> {
        let index = self.marks.partition_point(|mark| mark.offset < offset);
        self.marks.get(index).and_then(|mark| mark.at)
    }

    /// How far behind the newest frame an offset is.
    #[must_use]
    pub fn lag(&self, offset: u64) -> Duration {
        if offset >= self.head {
            return Duration::ZERO;
        }
        let index = self.marks.partition_point(|mark| mark.offset <= offset).saturating_sub(1);
        self.marks.get(index).map_or(Duration::MAX, |mark| self.newest.saturating_since(mark.dts))
    }

    /// Checks what must always hold.
    #[cfg(test)]
    fn check_invariants(&self) {
        let mut at = self.tail();
        for block in &self.blocks {
            assert_eq!(block.start, at);
            at = block.end();
        }
        assert_eq!(at, self.head);
        assert!(self.marks.iter().zip(self.marks.iter().skip(1)).all(|(a, b)| a.offset < b.offset));
        assert!(self.join.is_none_or(|join| join >= self.tail() && join <= self.head));
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
