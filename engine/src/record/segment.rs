//! The segments a piece is offered in: several pairs, from a keyframe to the next one that is far
//! enough away. The same whoever asks, and those of a piece in the making never change but for
//! the last.

use std::ops::Range;
use std::time::Duration;

use protocols::container::fmp4::TrackKind;

use super::piece::{Piece, Span, part};

/// A segment this long ends at the next keyframe.
const SEGMENT_MIN: i64 = 4_000_000_000;
/// A segment this long ends, keyframe or not.
const SEGMENT_MAX: i64 = 10_000_000_000;
/// Longest segment: the last pair is one of sound without a picture, or of slow pictures.
pub(super) const SEGMENT_S_MAX: u32 = 14;

/// See the module text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its bytes in the media file, both tracks.
    pub span: Span,
    /// Its length in time.
    pub duration: Duration,
    /// Decoding can start at it.
    pub keyframe: bool,
    /// Something before it was not recorded.
    pub after_gap: bool,
    /// Wall clock of its beginning, Unix milliseconds.
    pub unix_ms: u64,
    pub(super) pairs: Range<usize>,
}

impl Segment {
    /// Wall clock of its end, Unix milliseconds.
    #[must_use]
    pub fn end_unix_ms(&self) -> u64 {
        let length = u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX);
        self.unix_ms.saturating_add(length)
    }
}

impl Piece {
    /// All of its segments, the one in the making included.
    #[must_use]
    pub fn segments(&self) -> Vec<Segment> {
        let pairs = &self.index.pairs;
        let mut gaps = self.index.gaps.iter().map(|gap| gap.before).peekable();
        let mut segments = Vec::new();
        let mut first = 0;
        for (number, pair) in pairs.iter().enumerate().skip(1) {
            let Some(begin) = pairs.get(first) else { break };
            while gaps.next_if(|gap| *gap < number).is_some() {}
            let so_far = self.start_nanos(pair) - self.start_nanos(begin);
            let at_gap = gaps.peek() == Some(&number);
            if at_gap || (pair.keyframe && so_far >= SEGMENT_MIN) || so_far >= SEGMENT_MAX {
                segments.push(self.segment(first..number));
                first = number;
            }
        }
        if first < pairs.len() {
            segments.push(self.segment(first..pairs.len()));
        }
        segments
    }

    fn segment(&self, range: Range<usize>) -> Segment {
        let pairs = self.index.pairs.get(range.clone()).unwrap_or_default();
        let (first, last) = (pairs.first(), pairs.last());
        let begin = first.map_or(0, |pair| self.start_nanos(pair));
        // Sound goes on where pictures have stopped.
        let end = last.map_or(begin, |pair| self.end_nanos(pair)).max(begin + 1_000_000);
        Segment {
            span: self.span(range.clone()),
            duration: Duration::from_nanos((end - begin).unsigned_abs()),
            keyframe: first.is_some_and(|pair| pair.keyframe),
            after_gap: range.start > 0
                && self.index.gaps.iter().any(|gap| gap.before == range.start),
            unix_ms: first.map_or(0, |pair| pair.unix_ms),
            pairs: range,
        }
    }

    /// When a segment of one track plays, in ticks of the track: begin and length. `None` if it
    /// holds none of it.
    #[must_use]
    pub fn track_time(&self, segment: &Segment, track: TrackKind) -> Option<(u64, u64)> {
        let pairs = self.index.pairs.get(segment.pairs.clone()).unwrap_or_default();
        let mut parts = pairs.iter().map(|pair| part(pair, track)).filter(|part| part.bytes > 0);
        let first = parts.next()?;
        let last = parts.next_back().unwrap_or(first);
        Some((first.time, last.time + u64::from(last.duration) - first.time))
    }

    /// Where the fragments of one track lie that make up its segment `number`, counted over the
    /// segments that hold any.
    #[must_use]
    pub fn track_segment(&self, number: usize, track: TrackKind) -> Option<Vec<Span>> {
        let segments = self.segments().into_iter();
        let segment = segments.filter(|one| self.track_time(one, track).is_some()).nth(number)?;
        Some(self.track_spans(segment.pairs, track))
    }
}
