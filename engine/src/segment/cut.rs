//! Where segments and parts end: decided before a frame is taken, by its time alone.

use std::time::Duration;

use protocols::media::Timestamp;

use super::store::Targets;

/// A keyframe this much before the target duration still ends a segment: frame times are rounded.
const EARLY: Duration = Duration::from_millis(60);
/// A segment may be this much longer than its announced whole seconds and still round to them
/// (RFC 8216, 4.3.3.1); less a frame.
const LATE: Duration = Duration::from_millis(450);
/// Announced parts are this much longer than those that are cut, since frames of milliseconds
/// jitter; parts must reach 85 % of what is announced.
const PART_SLACK: f64 = 1.06;
/// Duration of a frame when the rate is unknown.
const FRAME_GUESSED: Duration = Duration::from_millis(40);
/// Longest segment that a GOP can force; a longer GOP is cut without a keyframe.
const SEGMENT_MAX_S: u32 = 10;

/// What ends before a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nothing.
    None,
    /// The part.
    Part,
    /// The segment, at a keyframe.
    Segment,
    /// The segment, although no decoder can start at what follows.
    ForcedSegment,
}

/// The rules of one segmenter; its targets are announced and never change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cutter {
    segment: Duration,
    segment_max: Duration,
    part: Duration,
    frame: Duration,
    pub(super) targets: Targets,
}

impl Cutter {
    /// For wanted lengths, given how long the stream's GOPs and frames are, as far as is known.
    pub(super) fn new(
        segment: Duration,
        part: Duration,
        gop: Option<Duration>,
        frame: Option<Duration>,
    ) -> Self {
        let frame = frame.filter(|frame| !frame.is_zero()).unwrap_or(FRAME_GUESSED);
        let gop = gop.unwrap_or_default();
        // Segments end at keyframes: a whole number of GOPs, at least one.
        let longest = if gop.is_zero() || gop > Duration::from_secs(SEGMENT_MAX_S.into()) {
            segment
        } else {
            let gops = (segment.as_secs_f64() / gop.as_secs_f64() - 0.05).ceil().max(1.0);
            gop.mul_f64(gops)
        };
        let segment_s = (longest.as_secs_f64().round() as u32).clamp(1, SEGMENT_MAX_S);
        let frames = (part.as_secs_f64() / frame.as_secs_f64()).round().max(1.0);
        let part = frame.mul_f64(frames);
        let announced = part.mul_f64(PART_SLACK);
        // Written in milliseconds: what is compared is what is announced.
        let announced = Duration::from_millis(announced.as_secs_f64().mul_add(1000.0, 0.5) as u64);
        Self {
            segment,
            segment_max: Duration::from_secs(segment_s.into()) + LATE,
            part,
            frame,
            targets: Targets { segment_s, part: announced.max(Duration::from_millis(1)) },
        }
    }

    /// What ends before a frame at `at`, when the open segment and part began at these times.
    pub(super) fn before(
        &self,
        at: Timestamp,
        keyframe: bool,
        segment_start: Timestamp,
        part_start: Timestamp,
    ) -> Cut {
        let segment = at.saturating_since(segment_start);
        if keyframe && segment + EARLY >= self.segment {
            return Cut::Segment;
        }
        if segment + self.frame > self.segment_max {
            return if keyframe { Cut::Segment } else { Cut::ForcedSegment };
        }
        let part = at.saturating_since(part_start);
        // With this frame the part would be as long as it may be, or the next one would not fit.
        if part + self.frame / 2 >= self.part || part + self.frame > self.targets.part {
            return Cut::Part;
        }
        Cut::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Cuts of a stream with these frames and GOPs: durations of segments and parts in ms.
    fn run(
        segment: u64,
        gop_frames: i64,
        fps: f64,
        known: bool,
    ) -> (Targets, Vec<i64>, Vec<i64>, bool) {
        let frame = Duration::from_secs_f64(1.0 / fps);
        let gop = frame.mul_f64(gop_frames as f64);
        let cutter = Cutter::new(MS(segment), MS(200), known.then_some(gop), Some(frame));
        let (mut segment_at, mut part_at) = (Timestamp::ZERO, Timestamp::ZERO);
        let (mut segments, mut parts, mut forced) = (Vec::new(), Vec::new(), false);
        for n in 1..2000 {
            // Times of RTMP: whole milliseconds.
            let at = Timestamp::from_millis((n as f64 * 1000.0 / fps).round() as i64);
            let cut = cutter.before(at, n % gop_frames == 0, segment_at, part_at);
            if cut != Cut::None {
                parts.push((at - part_at) / 1_000_000);
                part_at = at;
            }
            if matches!(cut, Cut::Segment | Cut::ForcedSegment) {
                forced |= cut == Cut::ForcedSegment;
                segments.push((at - segment_at) / 1_000_000);
                segment_at = at;
            }
        }
        (cutter.targets, segments, parts, forced)
    }

    #[test]
    fn segments_end_at_keyframes_and_never_outgrow_the_announced_target() {
        for fps in [10.0, 15.0, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0] {
            for gop_s in [0.5, 1.0, 2.0, 3.0, 4.0] {
                let gop_frames = (fps * gop_s) as i64;
                let (targets, segments, parts, forced) = run(1000, gop_frames, fps, true);
                assert!(!forced, "{fps} fps, GOP of {gop_s} s");
                let longest = segments.iter().max().copied().unwrap_or(0) as f64 / 1000.0;
                assert!(longest.round() <= f64::from(targets.segment_s), "{fps} {gop_s} {longest}");
                let announced = targets.part.as_millis() as i64;
                assert!(parts.iter().all(|part| *part <= announced), "{fps}: {parts:?}");
            }
        }
    }

    #[test]
    fn parts_reach_what_low_latency_players_demand_of_them() {
        for fps in [23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0] {
            // One endless GOP: every part but the last of a segment is a full one.
            let (targets, segments, parts, _) = run(1000, 100_000, fps, false);
            let least = targets.part.as_millis() as f64 * 0.85;
            let short = parts.iter().filter(|part| (**part as f64) < least).count();
            assert!(short <= segments.len(), "{fps}: {targets:?} {parts:?}");
        }
    }

    #[test]
    fn a_gop_nobody_announced_is_cut_in_time() {
        let (targets, segments, _, forced) = run(1000, 250, 25.0, false);
        assert_eq!(targets.segment_s, 1);
        assert!(forced);
        assert!(segments.iter().all(|segment| *segment <= 1450), "{segments:?}");
    }

    #[test]
    fn long_gops_that_are_known_are_announced() {
        let (targets, segments, _, forced) = run(1000, 100, 25.0, true);
        assert_eq!((targets.segment_s, forced), (4, false));
        assert!(segments.iter().all(|segment| *segment == 4000), "{segments:?}");
    }
}
