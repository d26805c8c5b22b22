//! A media presentation as plain data.

use std::time::Duration;

/// A media presentation description.
#[derive(Debug, Clone, PartialEq)]
pub struct Mpd {
    /// Live or recorded.
    pub presentation: Presentation,
    /// Media a player at the announced bandwidths needs in hand to play on without a stall.
    pub min_buffer_time: Duration,
    /// Longest segment; Shaka takes the live edge from it.
    pub max_segment_duration: Option<Duration>,
    /// What is in it, one after the other.
    pub periods: Vec<Period>,
}

/// Live or recorded.
#[derive(Debug, Clone, PartialEq)]
pub enum Presentation {
    /// `type="dynamic"`.
    Dynamic(Dynamic),
    /// `type="static"`: everything is there, and this long.
    Static(Duration),
}

/// A presentation in the making. Wall clock is Unix milliseconds throughout.
#[derive(Debug, Clone, PartialEq)]
pub struct Dynamic {
    /// The time presentation time zero was produced. Never changes.
    pub availability_start_time_ms: i64,
    /// When this MPD was made.
    pub publish_time_ms: i64,
    /// How long this MPD is good for; `None`: as long as the presentation goes on.
    pub minimum_update_period: Option<Duration>,
    /// How far back segments are kept; `None`: to the beginning, which ffmpeg does not understand.
    /// Written as no more than the presentation is old at [`Self::publish_time_ms`]: until it is
    /// older, give a [`Self::minimum_update_period`].
    pub time_shift_buffer_depth: Option<Duration>,
    /// How far behind the live edge to play.
    pub suggested_presentation_delay: Option<Duration>,
    /// The latency players with a low latency mode are to hold.
    pub latency: Option<Latency>,
    /// Where players get the time of this server, best first.
    pub utc_timing: Vec<UtcTiming>,
}

/// The latency to hold, and by what means (annex K).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// From production to presentation.
    pub target: Duration,
    /// Least.
    pub min: Option<Duration>,
    /// Most; beyond it a player may jump.
    pub max: Option<Duration>,
    /// Slowest and fastest playback to get there.
    pub playback_rate: Option<(f64, f64)>,
}

/// A source of the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UtcTiming {
    /// The time this MPD left, as Unix milliseconds: free, but as late as the answer.
    Direct(i64),
    /// A URL that answers with the time in ISO 8601.
    HttpIso(String),
}

/// A stretch in which nothing a decoder depends on changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Period {
    /// Unique, and the same in every MPD of the presentation.
    pub id: String,
    /// Its beginning in presentation time.
    pub start: Duration,
    /// Its length; `None` for the last period of a live presentation.
    pub duration: Option<Duration>,
    /// Tracks.
    pub adaptation_sets: Vec<AdaptationSet>,
}

/// Versions of one track.
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptationSet {
    /// Unique in its period, and the same for the same track in others.
    pub id: u32,
    /// RFC 5646 language tag.
    pub language: Option<String>,
    /// A media time of which the wall clock is known.
    pub producer_reference_time: Option<ProducerReferenceTime>,
    /// At least one; all of the same kind of media, cut at the same times.
    pub representations: Vec<Representation>,
}

/// The wall clock an encoder gave a media time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerReferenceTime {
    /// Unix milliseconds.
    pub wall_clock_ms: i64,
    /// Media time in the timescale of the representations.
    pub presentation_time: u64,
    /// Segments carry more of them (`prft` boxes).
    pub inband: bool,
}

/// One version of a track.
#[derive(Debug, Clone, PartialEq)]
pub struct Representation {
    /// Unique in its period. Letters, digits, `-`, `_` and `.` only.
    pub id: String,
    /// RFC 6381 codec.
    pub codecs: String,
    /// Bits per second.
    pub bandwidth: u64,
    /// What is known of the pictures or the sound.
    pub media: Media,
    /// Its segments.
    pub segments: Segments,
}

/// What is known of the pictures or the sound; 0 where unknown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Media {
    /// `video/mp4`.
    Video {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Frames per second.
        frame_rate: f64,
    },
    /// `audio/mp4`.
    Audio {
        /// Samples per second.
        sample_rate: u32,
        /// Channels.
        channels: u8,
    },
}

/// How the segments of a representation are found. Times are ticks of the timescale.
#[derive(Debug, Clone, PartialEq)]
pub struct Segments {
    /// Ticks per second.
    pub timescale: u32,
    /// Media time that is played at the start of the period.
    pub presentation_time_offset: u64,
    /// Segments can be had before they are whole (chunked transfer), and this much earlier: the
    /// duration of a segment less that of one chunk.
    pub availability_time_offset: Option<Duration>,
    /// The segments.
    pub addressing: Addressing,
}

/// The segments of a representation. In templates `$RepresentationID$`, `$Number$` and `$Time$`
/// have their meaning (5.3.9.4.4); any other `$` is doubled by the caller.
#[derive(Debug, Clone, PartialEq)]
pub enum Addressing {
    /// Segments of one length, found by the clock. Segment `start_number + n` begins within half a
    /// duration of `n` durations after the start of the period, for every `n`: a publisher whose
    /// clock drifts further needs a new period.
    Numbers {
        /// Template of the initialization segment.
        initialization: String,
        /// Template of the segments, with `$Number$`.
        media: String,
        /// Number of the segment at the start of the period.
        start_number: u64,
        /// Their length.
        duration: u64,
    },
    /// Segments of any length, each listed.
    Timeline {
        /// Template of the initialization segment.
        initialization: String,
        /// Template of the segments, with `$Number$` or `$Time$`.
        media: String,
        /// Number of the first segment listed.
        start_number: u64,
        /// Oldest first.
        segments: Vec<TimelineSegment>,
    },
    /// Byte ranges of one file.
    List {
        /// URI reference of the file.
        file: String,
        /// The initialization segment within it.
        initialization: ByteRange,
        /// Oldest first.
        segments: Vec<ListedSegment>,
    },
}

impl Segments {
    /// The longest segment that is listed, rounded up to a millisecond.
    pub(super) fn longest(&self) -> Option<Duration> {
        let Addressing::Timeline { segments, .. } = &self.addressing else { return None };
        let ticks = segments.iter().map(|segment| segment.duration).max()?;
        let millis = (u128::from(ticks) * 1000).div_ceil(u128::from(self.timescale.max(1)));
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

/// When a segment plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimelineSegment {
    /// Media time of its first sample.
    pub time: u64,
    /// Its length.
    pub duration: u64,
}

/// A segment within a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedSegment {
    /// When it plays.
    pub timeline: TimelineSegment,
    /// Where it is.
    pub range: ByteRange,
}

/// Part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Length in bytes, at least 1.
    pub length: u64,
}
