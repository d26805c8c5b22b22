//! From frames to fragments: exact durations, times that never go back, and where to cut.
//!
//! A frame lasts until the next one, so the newest frame always stays behind: a cut takes every
//! frame but that one, which begins the next fragment. This costs no latency. Whether a frame
//! begins a new part, because it is a keyframe or because it lies beyond the part's target
//! duration, is decided when it has come; so push it, then cut. Only the end of a stream, where
//! nothing follows, needs [`FragmentBuilder::finish`].

use super::fragment::FRAGMENT_SAMPLES_MAX;
use super::{
    FRAGMENT_BYTES_MAX, FragmentHead, Sample, TrackKind, VIDEO_TIMESCALE, audio_timescale,
    write_fragment,
};
use crate::codec::frame_samples::FrameSamples;
use crate::media::{AudioInfo, Codec, Frame, FrameKind, Timestamp, Track, VideoInfo};

/// How far the time of a sound frame may lie from the end of the one before, and still be taken to
/// follow it without a gap. Milliseconds of RTMP are a millisecond off at most, and players click
/// when frames of equal length have unequal durations. What adds up beyond this is a true gap or
/// another clock, and is kept.
const JITTER_MAX_MS: u32 = 2;
/// Duration of a lone frame of unknown rate, as a fraction of a second.
const FRAME_RATE_GUESSED: u32 = 25;

/// The OBU that separates temporal units (AV1 5.6): type 2 with a size field of 0.
const TEMPORAL_DELIMITER: [u8; 2] = [0x12, 0];

/// A fragment as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Its track.
    pub track: TrackKind,
    /// Decode time of its first sample in ticks.
    pub base_decode_time: u64,
    /// Its duration in ticks: the next fragment of the track begins where this one ends.
    pub duration: u64,
    /// Its samples; at least 1.
    pub samples: usize,
    /// Decoding can start at its first sample.
    pub starts_with_keyframe: bool,
    /// Its bytes, `prft` included.
    pub bytes: usize,
}

/// What was not taken as it came; all counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BuilderCounts {
    /// Frames whose decode time was before 0, not after that of the frame before, or too far
    /// ahead: moved.
    pub moved: u64,
    /// Frames dropped because a fragment holds no more: nothing cut for too long.
    pub dropped: u64,
}

/// The frames of one track since its last cut.
#[derive(Debug)]
pub struct FragmentBuilder {
    track: TrackKind,
    timescale: u32,
    frame_samples: FrameSamples,
    /// Temporal delimiters are not part of a sample (AV1 in ISOBMFF 2.4).
    av1: bool,
    /// All but the last have their final duration.
    samples: Vec<Sample>,
    /// Bytes of payload in `samples`.
    payload_bytes: usize,
    /// Decode time of the first of `samples`; without any, the earliest time for the next one.
    base: u64,
    /// Decode time of the last of `samples`; without any, the same as `base`.
    newest: u64,
    /// The duration that `newest` has if no other frame tells.
    duration_expected: u32,
    /// There was a frame.
    started: bool,
    counts: BuilderCounts,
}

impl FragmentBuilder {
    /// A builder of video fragments.
    pub fn video(track: &Track<VideoInfo>) -> Self {
        let rate = track.info.frame_rate;
        let duration = if rate >= 1.0 { f64::from(VIDEO_TIMESCALE) / rate } else { 0.0 };
        let guessed = VIDEO_TIMESCALE / FRAME_RATE_GUESSED;
        // Between 1 and 1000 frames per second the quotient fits.
        let duration = if duration >= 1.0 { duration.round() as u32 } else { guessed };
        let av1 = track.codec == Codec::Av1;
        Self::new(TrackKind::Video, VIDEO_TIMESCALE, FrameSamples::Unknown, av1, duration)
    }

    /// A builder of sound fragments.
    pub fn audio(track: &Track<AudioInfo>) -> Self {
        let timescale = audio_timescale(track);
        let duration = (timescale / FRAME_RATE_GUESSED).max(1);
        Self::new(TrackKind::Audio, timescale, FrameSamples::of(track), false, duration)
    }

    fn new(
        track: TrackKind,
        timescale: u32,
        frame_samples: FrameSamples,
        av1: bool,
        duration_expected: u32,
    ) -> Self {
        Self {
            track,
            timescale,
            frame_samples,
            av1,
            samples: Vec::new(),
            payload_bytes: 0,
            base: 0,
            newest: 0,
            duration_expected,
            started: false,
            counts: BuilderCounts::default(),
        }
    }

    /// Ticks per second.
    pub fn timescale(&self) -> u32 {
        self.timescale
    }

    /// What was moved or dropped so far.
    pub fn counts(&self) -> BuilderCounts {
        self.counts
    }

    /// Decode time in ticks at which the next fragment begins; `None` before the first frame.
    pub fn base_decode_time(&self) -> Option<u64> {
        self.started.then_some(self.base)
    }

    /// Ticks that a cut now would take.
    pub fn duration(&self) -> u64 {
        self.newest - self.base
    }

    /// Bytes of payload held.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Takes the next frame of the track in decode order; its payload is shared, not copied. Frames
    /// of other tracks are ignored.
    ///
    /// Decode times are made to rise: a frame at or before the last one is moved one tick behind
    /// it, and a negative time is moved to 0, both keeping their presentation time. The frames of a
    /// stream should begin at or after 0 on its timeline.
    pub fn push(&mut self, frame: &Frame) {
        if TrackKind::of(frame.kind) != Some(self.track) {
            return;
        }
        let mut payload = frame.payload.clone();
        if self.av1 && payload.starts_with(&TEMPORAL_DELIMITER) {
            payload = payload.slice(TEMPORAL_DELIMITER.len()..);
        }
        let payload_bytes = self.payload_bytes.saturating_add(payload.len());
        if payload_bytes > FRAGMENT_BYTES_MAX || self.samples.len() >= FRAGMENT_SAMPLES_MAX {
            self.counts.dropped += 1;
            return;
        }
        let decode_time = self.decode_time(frame.dts);
        match self.samples.last_mut() {
            Some(last) => {
                // `decode_time` bounds the difference.
                last.duration = (decode_time - self.newest) as u32;
                self.duration_expected = last.duration;
            }
            None => self.base = decode_time,
        }
        if let Some(samples) = self.frame_samples.count(&payload) {
            self.duration_expected = samples;
        }
        let offset = match self.track {
            // Of what both times round to, so that neither drifts.
            TrackKind::Video => {
                let presentation_time = i128::from(frame.pts().to_ticks(self.timescale));
                (presentation_time - i128::from(decode_time))
                    .clamp(i32::MIN.into(), i32::MAX.into()) as i32
            }
            TrackKind::Audio => 0,
        };
        let kind = frame.kind;
        self.samples.push(Sample { duration: 0, composition_offset: offset, kind, payload });
        self.payload_bytes = payload_bytes;
        self.newest = decode_time;
        self.started = true;
    }

    /// The decode time of a frame in ticks: beyond the last one, and for sound exactly at its end
    /// unless the difference is more than jitter.
    fn decode_time(&mut self, dts: Timestamp) -> u64 {
        let ticks = dts.to_ticks(self.timescale);
        let ticks_given = u64::try_from(ticks).unwrap_or(0);
        // After `finish` no frame is held, and `newest` is the end of what was written.
        let held = !self.samples.is_empty();
        let expected = self.newest + if held { u64::from(self.duration_expected) } else { 0 };
        let jitter_max = u64::from(self.timescale * JITTER_MAX_MS / 1000);
        if self.track == TrackKind::Audio
            && self.started
            && ticks >= 0
            && self.frame_samples != FrameSamples::Unknown
            && ticks_given.abs_diff(expected) <= jitter_max
        {
            return expected;
        }
        let earliest = self.newest + u64::from(held);
        let latest = if self.started { self.newest + u64::from(u32::MAX) } else { u64::MAX };
        let moved = ticks_given.clamp(earliest, latest);
        self.counts.moved += u64::from(ticks < 0 || moved != ticks_given);
        moved
    }

    /// Appends the fragment of all frames but the newest, which begins the next one. `None`, and
    /// nothing appended, when there is no other.
    ///
    /// `ntp_timestamp` is the wall-clock time of the fragment's first frame (see
    /// [`super::ntp_timestamp`]), for players that measure latency.
    pub fn cut(
        &mut self,
        out: &mut Vec<u8>,
        sequence_number: u32,
        ntp_timestamp: Option<u64>,
    ) -> Option<Fragment> {
        let count = self.samples.len().saturating_sub(1);
        self.write(out, sequence_number, ntp_timestamp, count)
    }

    /// As [`FragmentBuilder::cut`], but takes only the frames before `boundary`: sound that came
    /// early stays for the part its time belongs to.
    pub fn cut_before(
        &mut self,
        boundary: Timestamp,
        out: &mut Vec<u8>,
        sequence_number: u32,
        ntp_timestamp: Option<u64>,
    ) -> Option<Fragment> {
        let boundary = u64::try_from(boundary.to_ticks(self.timescale)).unwrap_or(0);
        let (_, known) = self.samples.split_last()?;
        let mut decode_time = self.base;
        let before = known.iter().take_while(|sample| {
            let begins_before = decode_time < boundary;
            decode_time += u64::from(sample.duration);
            begins_before
        });
        let count = before.count();
        self.write(out, sequence_number, ntp_timestamp, count)
    }

    /// Appends the fragment of all frames. The last one lasts until `end`, where the stream ended
    /// or goes on in another way; if that is not known or not after it, as long as its own samples
    /// or the frame before. `None`, and nothing appended, when there is no frame.
    pub fn finish(
        &mut self,
        end: Option<Timestamp>,
        out: &mut Vec<u8>,
        sequence_number: u32,
        ntp_timestamp: Option<u64>,
    ) -> Option<Fragment> {
        let end = end.and_then(|end| u64::try_from(end.to_ticks(self.timescale)).ok());
        let duration = end
            .and_then(|end| end.checked_sub(self.newest))
            .and_then(|duration| u32::try_from(duration).ok())
            .filter(|duration| *duration > 0)
            .unwrap_or(self.duration_expected);
        self.samples.last_mut()?.duration = duration;
        self.newest += u64::from(duration);
        self.write(out, sequence_number, ntp_timestamp, self.samples.len())
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        sequence_number: u32,
        ntp_timestamp: Option<u64>,
        count: usize,
    ) -> Option<Fragment> {
        let samples = self.samples.get(..count)?;
        let first = samples.first()?;
        let head = FragmentHead {
            track: self.track,
            sequence_number,
            base_decode_time: self.base,
            ntp_timestamp,
        };
        let start = out.len();
        let starts_with_keyframe = matches!(first.kind, FrameKind::Keyframe | FrameKind::Audio);
        // What is held was bounded when it came.
        write_fragment(out, &head, samples).ok()?;
        let duration = samples.iter().map(|sample| u64::from(sample.duration)).sum();
        self.payload_bytes -= samples.iter().map(|sample| sample.payload.len()).sum::<usize>();
        self.samples.drain(..count);
        let base_decode_time = self.base;
        self.base += duration;
        let (track, bytes) = (self.track, out.len() - start);
        let samples = count;
        Some(Fragment { track, base_decode_time, duration, samples, starts_with_keyframe, bytes })
    }
}
