//! Plain integers and histograms of one shard behind verb methods; no atomics, no locks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use protocols::media::StreamKey;
use protocols::rtp::Statistics;

use super::AccessCounts;
use crate::ring::ShardId;
use crate::stream::{Adjusted, StreamSnapshot};

/// Why frames were not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Before the publisher's first keyframe.
    BeforeKeyframe,
    /// The ring to another shard was full.
    RingFull,
    /// Too far behind its own track.
    Late,
    /// A lagging viewer was moved to a keyframe; counts jumps, not frames.
    LagSkip,
    /// A GOP outgrew the budget of the log.
    LogEvicted,
    /// Pictures nobody depends on, left out for a viewer that lags.
    Disposable,
    /// The socket did not take a message of datagrams.
    DatagramRefused,
    /// A datagram from an address that no session has named.
    WrongSource,
}

impl DropReason {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::BeforeKeyframe,
        Self::RingFull,
        Self::Late,
        Self::LagSkip,
        Self::LogEvicted,
        Self::Disposable,
        Self::DatagramRefused,
        Self::WrongSource,
    ];

    /// Metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::BeforeKeyframe => "before_keyframe",
            Self::RingFull => "ring_full",
            Self::Late => "late",
            Self::LagSkip => "lag_skip",
            Self::LogEvicted => "log_evicted",
            Self::Disposable => "disposable",
            Self::DatagramRefused => "datagram_refused",
            Self::WrongSource => "wrong_source",
        }
    }
}

/// Counters of one shard.
#[derive(Debug, Clone)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections turned away before a session existed, by reason.
    pub turned_away: BTreeMap<&'static str, u64>,
    /// Connections ended, by protocol and reason.
    pub closed: BTreeMap<(&'static str, &'static str), u64>,
    /// Times that a source was to be fetched.
    pub pull_attempts: u64,
    /// Times the target of a forward was dialled.
    pub forward_attempts: u64,
    /// Forwards that failed or ended, by reason.
    pub forward_failures: BTreeMap<&'static str, u64>,
    /// Requests for streams that no origin has.
    pub edge_not_found: u64,
    /// Fetches that failed or ended, by reason.
    pub pull_failures: BTreeMap<&'static str, u64>,
    /// Bytes from peers.
    pub bytes_in: u64,
    /// Bytes to peers.
    pub bytes_out: u64,
    /// Frames from publishers.
    pub frames_in: u64,
    /// Time breaks of publishers that were bridged.
    pub bridged: u64,
    /// Frames nudged to keep a track monotonic.
    pub nudged: u64,
    /// Panics caught around connections.
    pub panics: u64,
    /// Sends of the fan-out, and those that the socket did not take whole.
    pub sends: u64,
    /// See `sends`.
    pub sends_blocked: u64,
    /// Batches of the fan-out.
    pub flushes: u64,
    /// RTP packets of publishers.
    pub packets: Statistics,
    /// Recordings.
    pub recordings: crate::record::Counts,
    /// Who was let in.
    pub auth: AccessCounts,
    drops: [u64; DropReason::ALL.len()],
    /// Microseconds from ingest to the end of the fan-out of a batch.
    pub ingest_to_socket: Histogram<u64>,
    /// Microseconds one turn of the shard took.
    pub turn: Histogram<u64>,
    /// Microseconds a tick came later than it was due.
    pub tick_late: Histogram<u64>,
}

impl Default for Counters {
    fn default() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, 60_000_000, 2).expect("these bounds are valid constants")
        };
        Self {
            accepted: 0,
            turned_away: BTreeMap::new(),
            closed: BTreeMap::new(),
            pull_attempts: 0,
            forward_attempts: 0,
            forward_failures: BTreeMap::new(),
            edge_not_found: 0,
            pull_failures: BTreeMap::new(),
            bytes_in: 0,
            bytes_out: 0,
            frames_in: 0,
            bridged: 0,
            nudged: 0,
            panics: 0,
            sends: 0,
            sends_blocked: 0,
            flushes: 0,
            packets: Statistics::default(),
            recordings: crate::record::Counts::default(),
            auth: AccessCounts::default(),
            drops: [0; DropReason::ALL.len()],
            ingest_to_socket: histogram(),
            turn: histogram(),
            tick_late: histogram(),
        }
    }
}

impl Counters {
    /// Counts what was not passed on.
    pub fn dropped(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    /// Counts several at once.
    pub fn dropped_many(&mut self, reason: DropReason, count: u64) {
        self.drops[reason as usize] += count;
    }

    /// How often that happened.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Counts a connection's end.
    pub fn closed(&mut self, protocol: &'static str, reason: &'static str) {
        *self.closed.entry((protocol, reason)).or_default() += 1;
    }

    /// Counts a connection turned away.
    pub fn turn_away(&mut self, reason: &'static str) {
        *self.turned_away.entry(reason).or_default() += 1;
    }

    /// Counts what became of a frame's time; whether the frame is to go on.
    pub fn note_adjusted(&mut self, adjusted: Adjusted) -> bool {
        match adjusted {
            Adjusted::Kept => {}
            Adjusted::Nudged => self.nudged += 1,
            Adjusted::Bridged => self.bridged += 1,
            Adjusted::Dropped => self.dropped(DropReason::Late),
        }
        adjusted != Adjusted::Dropped
    }

    /// Records the delay of a batch.
    pub fn note_ingest_to_socket(&mut self, delay: Duration) {
        self.ingest_to_socket.saturating_record(micros(delay));
    }

    /// Records the length of a turn.
    pub fn note_turn(&mut self, length: Duration) {
        self.turn.saturating_record(micros(length));
    }

    /// Records how late a tick was.
    pub fn note_tick(&mut self, late: Duration) {
        self.tick_late.saturating_record(micros(late));
    }

    /// Adds another shard's counters.
    pub fn merge(&mut self, other: &Self) {
        self.accepted += other.accepted;
        for (reason, count) in &other.turned_away {
            *self.turned_away.entry(reason).or_default() += count;
        }
        for (key, count) in &other.closed {
            *self.closed.entry(*key).or_default() += count;
        }
        self.pull_attempts += other.pull_attempts;
        self.forward_attempts += other.forward_attempts;
        self.edge_not_found += other.edge_not_found;
        for (reason, count) in &other.forward_failures {
            *self.forward_failures.entry(reason).or_default() += count;
        }
        for (reason, count) in &other.pull_failures {
            *self.pull_failures.entry(reason).or_default() += count;
        }
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.frames_in += other.frames_in;
        self.bridged += other.bridged;
        self.nudged += other.nudged;
        self.panics += other.panics;
        self.sends += other.sends;
        self.sends_blocked += other.sends_blocked;
        self.flushes += other.flushes;
        self.packets.add(other.packets);
        self.recordings.merge(&other.recordings);
        self.auth.merge(&other.auth);
        for (mine, theirs) in self.drops.iter_mut().zip(other.drops) {
            *mine += theirs;
        }
        // Both were made with the same bounds, so adding cannot fail.
        let _ = self.ingest_to_socket.add(&other.ingest_to_socket);
        let _ = self.turn.add(&other.turn);
        let _ = self.tick_late.add(&other.tick_late);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Viewers of one stream on one shard, by protocol label.
#[derive(Debug, Clone)]
pub struct Audience {
    /// The stream.
    pub key: StreamKey,
    /// How many, and how they watch.
    pub viewers: Viewers,
}

/// Viewers by protocol label, in the order of the labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Viewers(BTreeMap<&'static str, usize>);

impl Viewers {
    /// Counts more of one label.
    pub fn count(&mut self, label: &'static str, more: usize) {
        if more > 0 {
            *self.0.entry(label).or_default() += more;
        }
    }

    /// Takes some of one label out again.
    pub fn discount(&mut self, label: &'static str, fewer: usize) {
        if let Some(count) = self.0.get_mut(label) {
            *count = count.saturating_sub(fewer);
        }
        self.0.retain(|_, count| *count > 0);
    }

    /// Adds those of another shard or stream.
    pub fn add(&mut self, other: &Self) {
        other.iter().for_each(|(label, count)| self.count(label, count));
    }

    /// Label and count of those there are.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.0.iter().map(|(label, count)| (*label, *count))
    }

    /// How many of one label.
    #[must_use]
    pub fn of(&self, label: &str) -> usize {
        self.0.get(label).copied().unwrap_or(0)
    }
}

/// Where the memory of a shard is, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Payloads in stream logs.
    pub logs: usize,
    /// Packaged streams.
    pub wires: usize,
    /// Segments of HLS and DASH.
    pub segments: usize,
    /// Connections: table, sessions, TLS states.
    pub connections: usize,
    /// Bytes waiting for or from single peers.
    pub pending: usize,
}

impl Memory {
    /// Everything.
    #[must_use]
    pub fn total(self) -> usize {
        self.logs + self.wires + self.segments + self.connections + self.pending
    }
}

/// What a shard is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Streams and viewers.
    Streams,
    /// Counters, histograms and memory beside them.
    Counters,
    /// Pulls alone.
    Pulls,
}

/// One pull as the API shows it.
#[derive(Debug, Clone)]
pub struct PullReport {
    /// The stream it becomes.
    pub key: StreamKey,
    /// Where from, without credentials.
    pub source: Arc<str>,
    /// From the start and for ever.
    pub always: bool,
    /// `idle`, `connecting`, `live`, `waiting` or `done`.
    pub state: &'static str,
    /// Times the source was to be fetched.
    pub attempts: u64,
    /// Why it failed or ended last.
    pub last_error: Option<&'static str>,
}

/// What one shard reports of itself.
#[derive(Debug)]
pub struct ShardReport {
    /// Who reports.
    pub shard: ShardId,
    /// Its counters; `None` when only streams were asked for.
    pub counters: Option<Box<Counters>>,
    /// Streams it owns that have a publisher.
    pub streams: Vec<StreamSnapshot>,
    /// Viewers it serves.
    pub audiences: Vec<Audience>,
    /// Open connections, HTTP included.
    pub connections: usize,
    /// Pulls of streams it owns, if they were asked about.
    pub pulls: Vec<PullReport>,
    /// Media messages it pushed, per receiving shard.
    pub ring_messages: Vec<u64>,
    /// Control messages it could not send.
    pub control_dropped: u64,
    /// Where its memory is.
    pub memory: Memory,
    /// Its merge window in microseconds.
    pub window_us: u64,
}
