//! What one viewer makes of the frames it gets: times, order, gaps, damage.

use hdrhistogram::Histogram;
use protocols::container::flv::TagType;

use crate::clip;

/// One FLV tag or RTMP media message.
#[derive(Debug, Clone)]
pub struct Tag {
    /// Audio, video or script data.
    pub tag: TagType,
    /// Milliseconds.
    pub timestamp: u32,
    /// FLV body.
    pub body: bytes::Bytes,
}

impl Tag {
    /// A coded audio or video frame, not a header or script data.
    pub fn is_frame(&self) -> bool {
        match self.tag {
            TagType::Script => false,
            // Anything that is not AAC or AVC with packet type 0 or 2 (end of sequence).
            TagType::Audio => !matches!(self.body.first_chunk(), Some([0xAF, 0])),
            TagType::Video => self.body.len() > 5 && !matches!(self.body.get(1), Some(0 | 2)),
        }
    }

    /// A picture a decoder can start at.
    pub fn is_keyframe(&self) -> bool {
        self.tag == TagType::Video && self.body.first().is_some_and(|first| first >> 4 & 7 == 1)
    }
}

/// What all checked viewers saw together.
#[derive(Debug)]
pub struct Findings {
    /// Sending to arrival of video frames, in microseconds.
    pub latency: Histogram<u64>,
    /// Frames checked.
    pub frames: u64,
    /// Frames whose filler changed.
    pub damaged: u64,
    /// Frames earlier than the one before in their track.
    pub backwards: u64,
    /// Viewers whose first picture was no keyframe.
    pub bad_starts: u64,
    /// Gaps in the pictures' numbers.
    pub jumps: u64,
    /// Pictures left out by them.
    pub skipped: u64,
    /// Gaps that did not end on a keyframe.
    pub broken_jumps: u64,
    /// Gaps in the audio frames' numbers.
    pub audio_gaps: u64,
}

impl Default for Findings {
    fn default() -> Self {
        let latency = crate::report::microseconds();
        let (frames, damaged, backwards, bad_starts) = (0, 0, 0, 0);
        let (jumps, skipped, broken_jumps, audio_gaps) = (0, 0, 0, 0);
        Self {
            latency,
            frames,
            damaged,
            backwards,
            bad_starts,
            jumps,
            skipped,
            broken_jumps,
            audio_gaps,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct TrackState {
    timestamp: Option<u32>,
    number: Option<u32>,
}

/// The memory of one viewer between frames.
#[derive(Debug, Default)]
pub struct Checker {
    video: TrackState,
    audio: TrackState,
}

impl Checker {
    /// Looks at one tag that was complete at `now_ns`.
    pub fn look(&mut self, tag: &Tag, now_ns: u64, checksums: bool, found: &mut Findings) {
        if !tag.is_frame() {
            return;
        }
        found.frames += 1;
        let video = tag.tag == TagType::Video;
        let state = if video { &mut self.video } else { &mut self.audio };
        let before =
            std::mem::replace(state, TrackState { timestamp: Some(tag.timestamp), ..*state });
        if before.timestamp.is_some_and(|before| (tag.timestamp.wrapping_sub(before) as i32) < 0) {
            found.backwards += 1;
        }
        if video && before.timestamp.is_none() && !tag.is_keyframe() {
            found.bad_starts += 1;
        }
        let Some(mark) = clip::read_mark(tag.tag, &tag.body, checksums) else { return };
        state.number = Some(mark.number);
        found.damaged += u64::from(!mark.intact);
        if video {
            let latency_us = now_ns.saturating_sub(mark.sent_ns) / 1000;
            found.latency.saturating_record(latency_us);
        }
        let Some(last) = before.number else { return };
        let step = mark.number.wrapping_sub(last);
        if step == 1 {
            return;
        }
        if video {
            found.jumps += 1;
            found.skipped += u64::from(step.wrapping_sub(1).min(1 << 20));
            found.broken_jumps += u64::from(!tag.is_keyframe());
        } else {
            found.audio_gaps += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{Clip, Shape};

    fn tag(clip: &Clip, number: u64) -> Tag {
        let piece = &clip.video[(number % clip.video.len() as u64) as usize];
        let mut body = piece.body.clone();
        clip::stamp(&mut body[piece.mark_at..], 1_000_000, number);
        Tag { tag: TagType::Video, timestamp: number as u32 * 33, body: body.into() }
    }

    #[test]
    fn gaps_count_and_only_keyframes_may_end_them() {
        let clip = Clip::new(Shape { bitrate: 1e6, fps: 10, gop: 1.0, audio: false });
        let (mut checker, mut found) = (Checker::default(), Findings::default());
        for number in [0, 1, 2, 10, 11, 15, 14] {
            checker.look(&tag(&clip, number), 3_000_000, true, &mut found);
        }
        assert_eq!((found.frames, found.damaged, found.bad_starts), (7, 0, 0));
        assert_eq!((found.jumps, found.broken_jumps, found.backwards), (3, 2, 1));
        assert_eq!(found.latency.max(), 2000);
        let mut late = Checker::default();
        late.look(&tag(&clip, 3), 0, true, &mut found);
        assert_eq!(found.bad_starts, 1);
    }
}
