//! A media playlist as plain data, and the rules of what may enter and leave it.

use std::collections::VecDeque;
use std::time::Duration;

use super::LiveEdge;

/// Target durations a live playlist keeps at least (6.2.2).
const KEPT_TARGET_DURATIONS: u32 = 3;

/// How a playlist may change (`EXT-X-PLAYLIST-TYPE`, 4.4.3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// A sliding window: no tag.
    #[default]
    Live,
    /// Grows at the end only.
    Event,
    /// Never changes.
    Vod,
}

/// What a playlist with partial segments adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowLatency {
    /// Longest part; every part but the last of a segment is at least 85 % of it.
    pub part_target: Duration,
    /// `PART-HOLD-BACK`; anything under three part targets is raised to that.
    pub part_hold_back: Duration,
}

/// Part of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// A media initialization section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// URI reference.
    pub uri: String,
    /// The section within the resource; the whole resource if absent.
    pub byte_range: Option<ByteRange>,
}

/// A partial segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// URI reference.
    pub uri: String,
    /// Length in time.
    pub duration: Duration,
    /// A decoder can start here.
    pub independent: bool,
    /// The part does not exist.
    pub gap: bool,
}

/// What is known of a segment before its first part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SegmentHead {
    /// Wall clock of the first sample, as Unix milliseconds.
    pub program_date_time_ms: Option<i64>,
    /// Something a decoder or a clock depends on differs from the segment before.
    pub discontinuity: bool,
    /// The initialization section. Segments of one playlist all have one, or none has.
    pub map: Option<Map>,
}

/// A whole segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segment {
    /// What was known before the first part.
    pub head: SegmentHead,
    /// URI reference.
    pub uri: String,
    /// Length in time.
    pub duration: Duration,
    /// The segment within the resource; the whole resource if absent.
    pub byte_range: Option<ByteRange>,
    /// The segment does not exist.
    pub gap: bool,
    /// Its parts, kept also when they are too old to be listed; empty if there never were any.
    pub parts: Vec<Part>,
}

/// The segment in the making.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenSegment {
    /// What was known before the first part.
    pub head: SegmentHead,
    /// Its parts so far.
    pub parts: Vec<Part>,
}

/// How far another rendition is (4.4.5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenditionReport {
    /// URI reference of its media playlist, relative to this one.
    pub uri: String,
    /// Media sequence number of its last segment or part.
    pub last_media_sequence: u64,
    /// Index of its last part, if it has parts.
    pub last_part: Option<u64>,
}

/// A media playlist. Plain data: the caller owns the segments and says what there is.
///
/// The caller keeps three promises no writer can: a segment never changes once it is in, segments
/// leave through [`MediaPlaylist::evict`] only, and neither segments nor parts outgrow their
/// announced targets (a playlist with longer ones announces the longer target, which players
/// bear badly, but better than a playlist that contradicts itself).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MediaPlaylist {
    /// How it may change.
    pub kind: Kind,
    /// Longest segment in seconds, at least 1; see [`MediaPlaylist::target_duration_s`].
    pub target_duration_s: u32,
    /// Partial segments; without it none is listed.
    pub low_latency: Option<LowLatency>,
    /// The server blocks reloads (`CAN-BLOCK-RELOAD`).
    pub can_block_reload: bool,
    /// The server answers `_HLS_skip`; the skip boundary is six target durations.
    pub can_skip: bool,
    /// `HOLD-BACK`; anything under three target durations is raised to that. `None`: no attribute,
    /// which means three target durations.
    pub hold_back: Option<Duration>,
    /// Every segment can be decoded without another.
    pub independent_segments: bool,
    /// Where to start (`EXT-X-START`) in milliseconds: from the beginning, or from the end if
    /// negative.
    pub start_offset_ms: Option<i64>,
    /// Media sequence number of the first segment.
    pub media_sequence: u64,
    /// Discontinuities that have left.
    pub discontinuity_sequence: u64,
    /// Whole segments, oldest first.
    pub segments: VecDeque<Segment>,
    /// The segment in the making. Closed or dropped by the caller before [`Self::ended`].
    pub open: Option<OpenSegment>,
    /// URI reference of the next part.
    pub preload_part: Option<String>,
    /// URI reference of an initialization section a coming part will need.
    pub preload_map: Option<String>,
    /// The other renditions of the presentation.
    pub rendition_reports: Vec<RenditionReport>,
    /// Nothing will be added (`EXT-X-ENDLIST`).
    pub ended: bool,
}

impl MediaPlaylist {
    /// The target duration that is written: the announced one, or that of the longest segment as
    /// its `EXTINF` rounds, whichever is longer.
    pub fn target_duration_s(&self) -> u64 {
        let longest = self.segments.iter().map(|segment| rounded_s(segment.duration)).max();
        longest.unwrap_or(1).max(u64::from(self.target_duration_s)).max(1)
    }

    /// The part target that is written, by the same rule.
    pub fn part_target(&self) -> Option<Duration> {
        let announced = self.low_latency?.part_target;
        let closed = self.segments.iter().flat_map(|segment| &segment.parts);
        let open = self.open.iter().flat_map(|open| &open.parts);
        Some(closed.chain(open).map(|part| part.duration).fold(announced, Duration::max))
    }

    /// Length of the whole segments in time.
    pub fn duration(&self) -> Duration {
        self.segments.iter().map(|segment| segment.duration).sum()
    }

    /// Takes out the oldest segment if what remains is at least `window`, and at least the three
    /// target durations every live playlist keeps (6.2.2). A discontinuity that leaves with it is
    /// counted. Call it until it gives nothing.
    pub fn evict(&mut self, window: Duration) -> Option<Segment> {
        let first = self.segments.front()?;
        let target_s = u32::try_from(self.target_duration_s()).unwrap_or(u32::MAX);
        let least = Duration::from_secs(1) * target_s.saturating_mul(KEPT_TARGET_DURATIONS);
        let remaining = self.duration().saturating_sub(first.duration);
        if self.kind != Kind::Live || self.ended || remaining < window.max(least) {
            return None;
        }
        self.media_sequence = self.media_sequence.saturating_add(1);
        let discontinuities = u64::from(first.head.discontinuity);
        self.discontinuity_sequence = self.discontinuity_sequence.saturating_add(discontinuities);
        self.segments.pop_front()
    }

    /// How far the playlist is, for [`super::decide`].
    pub fn live_edge(&self) -> LiveEdge {
        let parts = |parts: &Vec<Part>| u64::try_from(parts.len()).unwrap_or(u64::MAX);
        let segments = u64::try_from(self.segments.len()).unwrap_or(u64::MAX);
        LiveEdge {
            next_media_sequence: self.media_sequence.saturating_add(segments),
            open_parts: self.open.as_ref().map_or(0, |open| parts(&open.parts)),
            last_parts: self.segments.back().map_or(0, |last| parts(&last.parts)),
            part_target: self.part_target(),
            ended: self.ended,
        }
    }
}

/// Whole seconds of a duration as it is written: first to the five decimals of an `EXTINF`, then
/// to the nearest second, as a client will.
fn rounded_s(duration: Duration) -> u64 {
    let written = tens_of_micros(duration);
    u64::try_from((written + 50_000) / 100_000).unwrap_or(u64::MAX)
}

/// A duration in the unit it is written in: 10 microseconds, rounded to nearest.
pub(super) fn tens_of_micros(duration: Duration) -> u128 {
    (duration.as_nanos() + 5_000) / 10_000
}
