//! What takes every item of a stream on its owner shard, beside the mirrors that feed viewers:
//! recorders, segmenters, forwarders.

use std::fmt::Debug;
use std::time::Instant;

use crate::ring::MediaItem;

/// One taker of a stream's items. It must not block and must bound what it keeps; a stream does
/// not wait for it.
pub trait Subscriber: Debug {
    /// The next item, in order. A taker that begins while the stream is live is given the log
    /// first: [`MediaItem::Online`], the tracks, and frames from the newest join point on.
    fn take(&mut self, item: &MediaItem, now: Instant);

    /// By the clock, some ten times a second; false when it is done and can be dropped.
    fn tend(&mut self, now: Instant) -> bool;

    /// It records: a rule that names the stream no longer ends it.
    fn is_recorder(&self) -> bool {
        false
    }
}
