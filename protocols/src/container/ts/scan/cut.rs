//! The bytes of the segment in progress, and those that were closed.

use std::ops::Range;
use std::time::Duration;

use super::Segment;
use super::tables::Entry;
use crate::container::ts::packet::PACKET_BYTES;
use crate::media::Timestamp;

/// Most segments: a day of seconds.
const SEGMENTS_MAX: usize = 1 << 16;
/// Most ranges of all segments: each has its tables and itself, and one more for each hole.
const RANGES_MAX: usize = 1 << 18;

/// Puts a packet behind `ranges`.
pub(super) fn extend(ranges: &mut Vec<Range<u64>>, offset: u64) {
    let end = offset + PACKET_BYTES as u64;
    match ranges.last_mut() {
        Some(last) if last.end == offset => last.end = end,
        _ => ranges.push(offset..end),
    }
}

/// Takes what stands at `at` and behind it out of ranges in order.
fn split_off(ranges: &mut Vec<Range<u64>>, at: u64) -> Vec<Range<u64>> {
    let from = ranges.partition_point(|range| range.end <= at);
    let mut later = ranges.split_off(from);
    if let Some(first) = later.first_mut().filter(|first| first.start < at) {
        ranges.push(first.start..at);
        first.start = at;
    }
    later
}

/// A segment that began.
#[derive(Debug)]
struct Open {
    start: Timestamp,
    discontinuity: bool,
}

/// See the module text.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    closed: Vec<Segment>,
    closed_ranges: usize,
    /// Bytes of the open segment, or, while there is none, what goes in front of the next.
    ranges: Vec<Range<u64>>,
    open: Option<Open>,
    /// Number and beginning of the first segment of the timeline.
    first: (usize, Timestamp),
    pub(super) unreachable_bytes: u64,
}

impl Cutter {
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// When the open segment begins.
    pub(super) fn start(&self) -> Option<Timestamp> {
        self.open.as_ref().map(|open| open.start)
    }

    /// Nothing stands in front of the next segment.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// More than is kept.
    pub(super) fn is_full(&self) -> bool {
        self.closed.len() > SEGMENTS_MAX || self.closed_ranges + self.ranges.len() > RANGES_MAX
    }

    /// The next packet.
    pub(super) fn take(&mut self, offset: u64) {
        // While it is full nothing more is of use.
        if !self.is_full() {
            extend(&mut self.ranges, offset);
        }
    }

    /// What comes from here on goes in front of the next segment; what waited for that before is
    /// lost.
    pub(super) fn wait_from(&mut self, entry: &Entry) {
        let later = split_off(&mut self.ranges, entry.at);
        self.forget();
        self.ranges = [entry.tables.clone(), later].concat();
    }

    /// What waits for the next segment is of no use.
    pub(super) fn forget(&mut self) {
        let bytes = self.ranges.iter().map(|range| range.end - range.start).sum::<u64>();
        self.unreachable_bytes += bytes;
        self.ranges.clear();
    }

    /// Begins a segment, the first of a timeline, with what waited for it.
    pub(super) fn open(&mut self, start: Timestamp) {
        let discontinuity = !self.closed.is_empty();
        self.first = (self.closed.len(), start);
        self.open = Some(Open { start, discontinuity });
    }

    /// Sound begins before the first picture of the timeline, although it may come much later in
    /// the stream.
    pub(super) fn begin_earlier(&mut self, start: Timestamp) {
        let (number, before) = self.first;
        if start >= before {
            return;
        }
        self.first.1 = start;
        match (self.closed.get_mut(number), &mut self.open) {
            (Some(segment), _) => segment.duration += before.saturating_since(start),
            (None, Some(open)) => open.start = start,
            (None, None) => {}
        }
    }

    /// When the timeline begins.
    pub(super) fn timeline_start(&self) -> Timestamp {
        self.first.1
    }

    /// Closes the open segment where another begins.
    pub(super) fn cut(&mut self, entry: &Entry, start: Timestamp, discontinuity: bool) {
        let later = split_off(&mut self.ranges, entry.at);
        self.close(start);
        self.ranges = [entry.tables.clone(), later].concat();
        self.open = Some(Open { start, discontinuity });
    }

    /// Closes the open segment where its timeline ends.
    pub(super) fn end(&mut self, entry: &Entry, end: Timestamp) {
        let later = split_off(&mut self.ranges, entry.at);
        self.close(end);
        self.ranges = [entry.tables.clone(), later].concat();
    }

    fn close(&mut self, end: Timestamp) {
        let ranges = std::mem::take(&mut self.ranges);
        let Some(open) = self.open.take().filter(|_| !ranges.is_empty()) else { return };
        self.closed_ranges += ranges.len();
        let duration: Duration = end.saturating_since(open.start);
        self.closed.push(Segment { ranges, duration, discontinuity: open.discontinuity });
    }

    /// The stream ends, and with it the timeline at `end`.
    pub(super) fn finish(mut self, end: Timestamp) -> Vec<Segment> {
        self.close(end);
        self.closed
    }
}
