//! What one shard knows of a stream: its log, its wires and the viewers that wait.
//!
//! Lives on every shard that has viewers for the stream, and on its owner shard always.

use std::sync::Arc;
use std::time::Instant;

use protocols::hops::Hops;
use protocols::media::{StreamKey, Tracks};
use slab::Slab;

use super::format::{Format, PackagerOptions};
use super::log::{FrameLog, LogLimits};
use super::sweep::Sweep;
use super::wire::{Wire, WireLimits};
use crate::ring::MediaItem;

/// Wires of one stream beyond which no merge window gets a wire of its own.
const WIRES_MAX: usize = 16;

/// What an appended item asks of the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// Bytes to send within the merge window.
    Media,
    /// A join point: send at once; viewers may be attached that waited for it.
    JoinPoint,
    /// The publisher came.
    Online,
    /// The publisher went.
    Offline,
}

/// See the module text.
#[derive(Debug)]
pub struct Mirror {
    /// The stream.
    pub key: StreamKey,
    /// Tells this slot from its predecessors.
    pub generation: u32,
    /// Merge window its publisher asked for.
    pub merge_ms: Option<u16>,
    /// Newest GOP and tracks.
    pub log: FrameLog,
    /// Packaged bytes by format; a handful at most.
    pub wires: Slab<Wire>,
    /// A publisher is there.
    pub online: bool,
    /// When the publisher went, or when the mirror was made without one.
    pub offline_since: Option<Instant>,
    /// Connections (slots of the plane) that wait for the first join point.
    pub waiting: Vec<u32>,
    /// The last time somebody watched or waited here.
    pub used_at: Instant,
    /// The owner has been told to feed this mirror (on the owner itself always).
    pub fed: bool,
    /// What the owner was told of those who wait for a stream that origins may have.
    pub asked: Option<Asked>,
}

/// A request that waits at a mirror.
#[derive(Debug)]
pub struct Asked {
    /// When the owner was last told of it.
    pub at: Option<Instant>,
    /// Servers of our kind that it has passed; of many requests, the one that has passed fewest.
    pub hops: Hops,
}

impl Mirror {
    /// A mirror without a publisher.
    #[must_use]
    pub fn new(key: StreamKey, generation: u32, limits: LogLimits, now: Instant) -> Self {
        Self {
            key,
            generation,
            merge_ms: None,
            log: FrameLog::new(limits),
            wires: Slab::new(),
            online: false,
            offline_since: Some(now),
            waiting: Vec::new(),
            used_at: now,
            fed: false,
            asked: None,
        }
    }

    /// Viewers attached or waiting.
    #[must_use]
    pub fn audience(&self) -> usize {
        self.waiting.len() + self.wires.iter().map(|(_, wire)| wire.viewers.len()).sum::<usize>()
    }

    /// A viewer can be attached: a publisher is there and has said what it sends.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.online && !self.log.tracks().is_empty()
    }

    /// Takes the next item of the stream.
    pub fn append(&mut self, item: MediaItem, now: Instant) -> Appended {
        match item {
            MediaItem::Online { merge_ms } => {
                self.merge_ms = merge_ms;
                self.online = true;
                self.offline_since = None;
                self.log.clear();
                self.wires.iter_mut().for_each(|(_, wire)| wire.forbid_join());
                Appended::Online
            }
            MediaItem::Offline => {
                self.online = false;
                self.offline_since = Some(now);
                Appended::Offline
            }
            MediaItem::Tracks(tracks) => {
                self.set_tracks(&tracks);
                Appended::Media
            }
            MediaItem::Frame(ingested) => {
                let join = self.log.is_join_point(&ingested);
                let tracks = self.log.tracks();
                for (_, wire) in &mut self.wires {
                    wire.append_frame(tracks, &ingested, join);
                }
                self.log.append(ingested);
                if join { Appended::JoinPoint } else { Appended::Media }
            }
        }
    }

    fn set_tracks(&mut self, tracks: &Arc<Tracks>) {
        let old = Arc::clone(self.log.tracks());
        if *old == **tracks {
            return;
        }
        let restart = old.video.is_some() && old.video != tracks.video;
        self.log.set_tracks(Arc::clone(tracks));
        for (_, wire) in &mut self.wires {
            wire.append_configuration(tracks, restart);
        }
    }

    /// The wire of a format, made from the log when nobody has used it yet. When too many
    /// different merge windows are asked for, the rest share the shard's own.
    pub fn wire(
        &mut self,
        mut format: Format,
        limits: WireLimits,
        options: PackagerOptions,
        now: Instant,
    ) -> usize {
        if self.wires.len() >= WIRES_MAX {
            format.merge_ms = None;
        }
        if let Some((index, _)) = self.wires.iter().find(|(_, wire)| wire.format == format) {
            return index;
        }
        let tracks = self.log.tracks();
        let mut wire = Wire::new(format, tracks, options, limits, now);
        for (position, ingested) in self.log.joinable().enumerate() {
            wire.append_frame(tracks, ingested, position == 0);
        }
        // These bytes are for the viewer that is about to join, not for a flush that is due.
        wire.sweep = Sweep::new(now);
        self.wires.insert(wire)
    }

    /// Bytes of the viewers' places.
    #[must_use]
    pub fn viewer_bytes(&self) -> usize {
        let places = |wire: &Wire| wire.viewers.capacity() * size_of::<super::Viewer>();
        self.wires.iter().map(|(_, wire)| places(wire)).sum()
    }

    /// Bytes this mirror holds: log and wires.
    #[must_use]
    pub fn bytes(&self) -> (usize, usize) {
        (self.log.held_bytes(), self.wires.iter().map(|(_, wire)| wire.bytes()).sum())
    }
}
