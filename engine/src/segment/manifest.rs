//! A snapshot as a DASH manifest: a period per configuration, one adaptation set per track.

use std::sync::Arc;
use std::time::Duration;

use protocols::codec::rfc6381::Manifest;
use protocols::container::fmp4::{Selection, VIDEO_TIMESCALE, audio_timescale, codecs};
use protocols::dash::{
    AdaptationSet, Addressing, Dynamic, Latency, Media, Mpd, Period, Presentation, Representation,
    Segments, TimelineSegment, UtcTiming,
};

use super::store::{Init, Segment, Snapshot, Track};

/// Bit rate announced until a segment has been measured.
const BANDWIDTH_GUESSED: u64 = 1_000_000;
/// What a low-latency player looks into the manifest after; the least dash.js keeps to. It asks for
/// a segment once that is listed: a part after the segment began, and up to so much later.
const LOOK_LOW_LATENCY: Duration = Duration::from_secs(1);
/// Parts a low-latency player has beside that: one until the segment is listed, what the network
/// takes, and enough ahead for players that do not slow down when they run short.
const LATENCY_PARTS: u32 = 3;

/// What one manifest is about.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The media; CMAF.
    pub snapshot: &'a Snapshot,
    /// Folder of the files as seen from the manifest: the last component of the stream's name.
    pub folder: &'a str,
    /// Segments are fetched while they grow.
    pub low_latency: bool,
    /// Wall clock, Unix milliseconds.
    pub now_ms: i64,
}

/// Where this server says what time it is.
pub const TIME_PATH: &str = "/time";

impl View<'_> {
    /// The text; `query` goes with every URI.
    #[must_use]
    pub fn render(self, query: &str) -> String {
        self.mpd().render(query)
    }

    fn mpd(self) -> Mpd {
        let snapshot = self.snapshot;
        let segment = Duration::from_secs(snapshot.targets.segment_s.into());
        let listed = snapshot.listed();
        let depth: Duration = listed.iter().map(|segment| segment.duration).sum();
        let low_latency = self.low_latency;
        let delay_ms = i64::try_from(snapshot.delay.as_millis()).unwrap_or(i64::MAX);
        let (update, delay) = if low_latency {
            let update = segment.min(LOOK_LOW_LATENCY);
            (update, update + snapshot.targets.part * LATENCY_PARTS)
        } else {
            (segment, segment * 3)
        };
        Mpd {
            presentation: Presentation::Dynamic(Dynamic {
                // A stream played later than live is there so much later.
                availability_start_time_ms: snapshot.origin_ms.saturating_add(delay_ms),
                publish_time_ms: self.now_ms,
                minimum_update_period: Some(update),
                // Players stay no further behind than this; a stream that has just begun is going to
                // have as much.
                time_shift_buffer_depth: Some(depth.max(delay)),
                suggested_presentation_delay: Some(delay),
                latency: low_latency.then_some(Latency {
                    target: delay,
                    min: None,
                    max: None,
                    playback_rate: Some((0.96, 1.04)),
                }),
                // Players that set their clock again use the MPD they have: its own time would be
                // late by its age.
                utc_timing: vec![
                    UtcTiming::HttpIso(TIME_PATH.to_owned()),
                    UtcTiming::Direct(self.now_ms),
                ],
            }),
            min_buffer_time: if low_latency { snapshot.targets.part } else { segment },
            max_segment_duration: Some(segment),
            periods: self.periods(listed),
        }
    }

    /// Segments with the same configuration and no break between them are a period.
    fn periods(self, listed: &[Arc<Segment>]) -> Vec<Period> {
        let mut runs: Vec<Vec<&Segment>> = Vec::new();
        let open =
            self.snapshot.open.as_ref().filter(|open| self.low_latency && !open.parts.is_empty());
        for segment in listed.iter().map(|segment| &**segment).chain(open) {
            match runs.last_mut() {
                Some(run) if run.first().is_some_and(|first| first.era == segment.era) => {
                    run.push(segment);
                }
                _ => runs.push(vec![segment]),
            }
        }
        let count = runs.len();
        let mut periods = Vec::with_capacity(count);
        for (index, run) in runs.iter().enumerate() {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let media = last.start.saturating_since(first.era.media_start) + last.duration;
            periods.push(Period {
                id: format!("{}-{}", self.snapshot.epoch, first.era.index),
                start: Duration::from_millis(u64::try_from(first.era.start_ms).unwrap_or(0)),
                duration: (index + 1 < count).then_some(media),
                adaptation_sets: self.adaptation_sets(&first.init, run),
            });
        }
        periods
    }

    fn adaptation_sets(self, init: &Init, run: &[&Segment]) -> Vec<AdaptationSet> {
        let tracks = &init.tracks;
        let video = tracks.video.as_ref().filter(|_| !init.video.is_empty()).map(|track| {
            let media = Media::Video {
                width: track.info.width,
                height: track.info.height,
                frame_rate: track.info.frame_rate,
            };
            self.adaptation_set(init, run, Track::Video, VIDEO_TIMESCALE, media)
        });
        let audio = tracks.audio.as_ref().filter(|_| !init.audio.is_empty()).map(|track| {
            let (sample_rate, channels) = (track.info.sample_rate, track.info.channels);
            let media = Media::Audio { sample_rate, channels };
            self.adaptation_set(init, run, Track::Audio, audio_timescale(track), media)
        });
        video.into_iter().chain(audio).collect()
    }

    /// Ticks a segment is listed with. One that grows is listed as long as it is going to be: its
    /// availability is told from its end (DASH 5.3.9.5.3), and players fetch a segment again that
    /// has become longer than they were told.
    fn announced(self, segment: &Segment, track: Track, so_far: u64) -> u64 {
        if segment.sequence < self.snapshot.next_sequence {
            return so_far;
        }
        let before = self.snapshot.segments.last().and_then(|before| before.span(track));
        before.map_or(so_far, |(_, usual)| usual.max(so_far))
    }

    fn adaptation_set(
        self,
        init: &Init,
        run: &[&Segment],
        track: Track,
        timescale: u32,
        media: Media,
    ) -> AdaptationSet {
        let (id, letter, selection) = match track {
            Track::Video => (1, "v", Selection::Video),
            Track::Audio => (2, "a", Selection::Audio),
        };
        let Snapshot { epoch, targets, .. } = self.snapshot;
        let folder = self.folder.replace('$', "$$");
        let segments = run.iter().filter_map(|segment| {
            let (time, so_far) = segment.span(track)?;
            let duration = self.announced(segment, track, so_far);
            Some(TimelineSegment { time, duration })
        });
        let media_start = run.first().map_or(0, |first| first.era.media_start.to_ticks(timescale));
        AdaptationSet {
            id,
            language: None,
            producer_reference_time: None,
            representations: vec![Representation {
                id: letter.to_owned(),
                codecs: codecs(&init.tracks, selection, Manifest::Dash),
                bandwidth: bandwidth(run, track),
                media,
                segments: Segments {
                    timescale,
                    presentation_time_offset: u64::try_from(media_start).unwrap_or(0),
                    availability_time_offset: self.low_latency.then(|| {
                        Duration::from_secs(targets.segment_s.into()).saturating_sub(targets.part)
                    }),
                    addressing: Addressing::Timeline {
                        initialization: format!("{folder}/{letter}init-{epoch}-{}.mp4", init.id),
                        media: format!("{folder}/{letter}-{epoch}-$Number$.m4s"),
                        start_number: run.first().map_or(0, |first| first.sequence),
                        segments: segments.collect(),
                    },
                },
            }],
        }
    }
}

/// Bits per second of the largest of the segments.
fn bandwidth(run: &[&Segment], track: Track) -> u64 {
    let rate = |segment: &&&Segment| {
        let bytes: usize = segment.pieces(Some(track)).map(bytes::Bytes::len).sum();
        let seconds = segment.duration.as_secs_f64();
        if seconds > 0.0 { (bytes as f64 * 8.0 / seconds) as u64 } else { 0 }
    };
    run.iter()
        .map(|segment| rate(&segment))
        .max()
        .filter(|rate| *rate > 0)
        .unwrap_or(BANDWIDTH_GUESSED)
}
