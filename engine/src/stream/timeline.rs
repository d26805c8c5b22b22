//! The timeline of one publisher: monotonic, joined to what viewers saw before, jumps bridged.
//!
//! Runs on the publisher's shard before a frame is shared; everything behind it may rely on
//! decode times that grow strictly per track and never jump by more than ten seconds.

use std::time::Duration;

use protocols::media::{Frame, FrameKind, Timestamp};

/// A larger step between two frames is a break in the publisher's clock, not media time.
const JUMP_MAX: Duration = Duration::from_secs(10);
/// A frame this far behind its own track is nudged forward; further behind it is dropped.
const NUDGE_MAX: Duration = Duration::from_secs(1);
/// The step that replaces a jump, and the smallest step of a track: RTMP counts milliseconds.
const STEP: Duration = Duration::from_millis(1);
const BRIDGE: Duration = Duration::from_millis(20);

/// What became of a frame's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adjusted {
    /// As it was, but for the publisher's constant offset.
    Kept,
    /// Moved forward to keep its track monotonic.
    Nudged,
    /// The clock jumped; the timeline goes on without the jump.
    Bridged,
    /// Too far behind: leave it out.
    Dropped,
}

/// See the module text.
#[derive(Debug, Default)]
pub struct Timeline {
    offset_nanos: i64,
    resume_at: Option<Timestamp>,
    newest: Option<Timestamp>,
    video: Option<Timestamp>,
    audio: Option<Timestamp>,
}

impl Timeline {
    /// A timeline that begins at `resume_at`, or where the publisher's own clock begins.
    #[must_use]
    pub fn new(resume_at: Option<Timestamp>) -> Self {
        Self { resume_at, ..Self::default() }
    }

    /// Puts a frame on the timeline.
    pub fn adjust(&mut self, frame: &mut Frame) -> Adjusted {
        if let Some(resume_at) = self.resume_at.take() {
            self.offset_nanos = resume_at - frame.dts;
        }
        let mut time = frame.dts.offset_nanos(self.offset_nanos);
        let mut verdict = Adjusted::Kept;
        if let Some(newest) = self.newest {
            let jump = i64::try_from(JUMP_MAX.as_nanos()).unwrap_or(i64::MAX);
            if (time - newest).saturating_abs() > jump {
                let bridged = newest + BRIDGE;
                self.offset_nanos = self.offset_nanos.saturating_add(bridged - time);
                time = bridged;
                verdict = Adjusted::Bridged;
            }
        }
        let track = match frame.kind {
            FrameKind::Keyframe | FrameKind::Inter | FrameKind::Disposable => &mut self.video,
            FrameKind::Audio => &mut self.audio,
            FrameKind::Data => {
                frame.dts = self.newest.map_or(time, |newest| newest.max(time));
                return verdict;
            }
        };
        if let Some(last) = *track
            && time <= last
        {
            if last.saturating_since(time) > NUDGE_MAX {
                return Adjusted::Dropped;
            }
            // The presentation time stays where it was, but never comes before the decode time.
            let nudged = last + STEP;
            let offset = frame.composition_offset;
            frame.composition_offset = offset.saturating_sub(nudged - time).max(offset.min(0));
            time = nudged;
            verdict = Adjusted::Nudged;
        }
        *track = Some(time);
        self.newest = Some(self.newest.map_or(time, |newest| newest.max(time)));
        frame.dts = time;
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn frame(kind: FrameKind, millis: i64) -> Frame {
        let dts = Timestamp::from_millis(millis);
        Frame { kind, dts, composition_offset: 0, payload: Bytes::new() }
    }

    fn run(timeline: &mut Timeline, kind: FrameKind, millis: i64) -> (Adjusted, i64) {
        let mut frame = frame(kind, millis);
        let adjusted = timeline.adjust(&mut frame);
        (adjusted, frame.dts.to_millis())
    }

    #[test]
    fn a_returning_publisher_goes_on_where_viewers_are() {
        let mut timeline = Timeline::new(Some(Timestamp::from_millis(5000)));
        assert_eq!(run(&mut timeline, FrameKind::Keyframe, 70_000), (Adjusted::Kept, 5000));
        assert_eq!(run(&mut timeline, FrameKind::Audio, 70_010), (Adjusted::Kept, 5010));
    }

    #[test]
    fn an_hour_forward_and_a_reset_to_zero_are_bridged_with_the_av_offset_kept() {
        for jump in [3_600_000, -100_000] {
            let mut timeline = Timeline::default();
            run(&mut timeline, FrameKind::Inter, 100_000);
            run(&mut timeline, FrameKind::Audio, 100_005);
            let (adjusted, video) = run(&mut timeline, FrameKind::Inter, 100_040 + jump);
            assert_eq!(adjusted, Adjusted::Bridged);
            let (adjusted, audio) = run(&mut timeline, FrameKind::Audio, 100_045 + jump);
            assert_eq!((adjusted, audio - video), (Adjusted::Kept, 5));
        }
    }

    #[test]
    fn equal_and_slightly_older_times_are_nudged_and_keep_their_presentation() {
        let mut timeline = Timeline::default();
        run(&mut timeline, FrameKind::Keyframe, 40);
        let mut equal = frame(FrameKind::Inter, 40);
        equal.composition_offset = 80_000_000;
        assert_eq!(timeline.adjust(&mut equal), Adjusted::Nudged);
        assert_eq!((equal.dts.to_millis(), equal.pts().to_millis()), (41, 120));
        let mut tight = frame(FrameKind::Inter, 41);
        assert_eq!(timeline.adjust(&mut tight), Adjusted::Nudged);
        assert_eq!((tight.dts.to_millis(), tight.pts().to_millis()), (42, 42));
        assert_eq!(run(&mut timeline, FrameKind::Audio, 0), (Adjusted::Kept, 0));
        run(&mut timeline, FrameKind::Inter, 3000);
        assert_eq!(run(&mut timeline, FrameKind::Inter, 1000).0, Adjusted::Dropped);
    }
}
