//! Decode times for pictures of which only the presentation time travels.
//!
//! A picture's decode time is the earliest presentation time among those that are still to come out
//! of a decoder that holds back `depth` pictures. That is never later than its own presentation,
//! grows with each picture, and equals it where nothing is reordered. No picture waits for it: the
//! first ones get times before their presentation. Where the parameter sets do not tell the depth,
//! the first few pictures are held until it shows.

use std::collections::VecDeque;

use crate::codec::Reordering;
use crate::media::{Frame, Timestamp};

/// Pictures looked at before the depth is believed, and how long they may last.
const LOOK_AHEAD: usize = 5;
const LOOK_AHEAD_NANOS: i64 = 1_000_000_000;
/// Deepest reordering of any level.
const DEPTH_MAX: usize = 16;
/// Duration of a picture before two are known, and the durations believed.
const PICTURE_NANOS: i64 = 40_000_000;
const PICTURE_NANOS_RANGE: std::ops::RangeInclusive<i64> = 1_000_000..=1_000_000_000;
/// The step where there is no room for a real one: a tick of 90 kHz.
const LEAST_STEP_NANOS: i64 = 11_111;

/// Gives the pictures of one track their decode times.
#[derive(Debug)]
pub(super) struct DecodeOrder {
    depth: usize,
    /// The depth is being found out from these.
    look_ahead: Option<VecDeque<Frame>>,
    /// Presentation times not yet given out as decode times, ascending.
    pending: Vec<Timestamp>,
    last: Option<Timestamp>,
    picture_nanos: i64,
    /// The depth grew within a run of pictures: earlier ones may still come, so that decode times
    /// must stay as early as can be until enough presentation times are known.
    grown: bool,
    /// Pictures whose presentation had to be moved because the depth turned out larger.
    pub(super) moved: u64,
}

impl DecodeOrder {
    pub(super) fn new() -> Self {
        Self {
            depth: 0,
            look_ahead: None,
            pending: Vec::new(),
            last: None,
            picture_nanos: PICTURE_NANOS,
            grown: false,
            moved: 0,
        }
    }

    /// What the parameter sets from the next picture on say. What is held goes to `out`.
    pub(super) fn set(&mut self, reordering: Reordering, out: &mut Vec<Frame>) {
        self.flush(out);
        self.pending.clear();
        self.grown = false;
        self.look_ahead = (reordering == Reordering::Unknown).then(VecDeque::new);
        if let Reordering::Pictures(depth) = reordering {
            self.depth = usize::from(depth).min(DEPTH_MAX);
        }
    }

    /// Pictures are missing before the next one, or time starts anew.
    pub(super) fn restart(&mut self, out: &mut Vec<Frame>) {
        let looking = self.look_ahead.is_some();
        self.flush(out);
        // Too few were seen to believe them.
        self.look_ahead = looking.then(VecDeque::new);
        self.pending.clear();
        self.grown = false;
    }

    /// Takes a picture in decoding order whose `dts` is its presentation time.
    pub(super) fn push(&mut self, frame: Frame, out: &mut Vec<Frame>) {
        let Some(held) = &mut self.look_ahead else {
            out.push(self.stamped(frame));
            return;
        };
        held.push_back(frame);
        let span = match (held.front(), held.back()) {
            (Some(first), Some(last)) => (last.dts - first.dts).saturating_abs(),
            _ => 0,
        };
        if held.len() >= LOOK_AHEAD || span >= LOOK_AHEAD_NANOS {
            self.flush(out);
        }
    }

    /// Gives out what is held.
    pub(super) fn flush(&mut self, out: &mut Vec<Frame>) {
        let Some(held) = self.look_ahead.take() else { return };
        if held.is_empty() {
            // Nothing was learned.
            self.look_ahead = Some(held);
            return;
        }
        let earlier_but_shown_later = |(at, frame): (usize, &Frame)| {
            held.iter().take(at).filter(|before| before.dts > frame.dts).count()
        };
        self.depth = held.iter().enumerate().map(earlier_but_shown_later).max().unwrap_or(0);
        out.extend(held.into_iter().map(|frame| self.stamped(frame)));
    }

    /// Bytes of pictures held.
    pub(super) fn held_bytes(&self) -> usize {
        self.look_ahead.iter().flatten().map(|frame| frame.payload.len()).sum()
    }

    fn stamped(&mut self, mut frame: Frame) -> Frame {
        let mut pts = frame.dts;
        let at = self.pending.partition_point(|time| *time <= pts);
        self.pending.insert(at, pts);
        let missing = (self.depth + 1).saturating_sub(self.pending.len());
        let mut dts =
            if missing == 0 { self.pending.remove(0) } else { self.lead_in(missing, pts) };
        let earliest = dts;
        if let Some(last) = self.last {
            if dts <= last {
                dts = last.offset_nanos(LEAST_STEP_NANOS);
                // Two pictures of the same time, as fields may be, are no reordering.
                if missing == 0 && last - earliest >= *PICTURE_NANOS_RANGE.start() {
                    self.depth = (self.depth + 1).min(DEPTH_MAX);
                    self.grown = true;
                }
            } else if missing == 0 && PICTURE_NANOS_RANGE.contains(&(dts - last)) {
                self.picture_nanos = dts - last;
            }
        }
        if pts < dts {
            self.moved += 1;
            pts = dts;
        }
        self.pending.retain(|time| *time > dts);
        self.last = Some(dts);
        frame.dts = dts;
        frame.composition_offset = pts - dts;
        frame
    }

    /// The decode time while `missing` presentation times are not known yet: evenly towards the
    /// first one.
    fn lead_in(&self, missing: usize, pts: Timestamp) -> Timestamp {
        let missing = i64::try_from(missing).unwrap_or(i64::MAX);
        let earliest = self.pending.first().copied().unwrap_or(pts);
        let wished =
            earliest.offset_nanos(missing.saturating_mul(self.picture_nanos).wrapping_neg());
        match self.last {
            Some(last) if self.grown => last.offset_nanos(LEAST_STEP_NANOS),
            Some(last) if wished <= last => {
                let room = (earliest - last) / (missing + 1);
                last.offset_nanos(room.clamp(LEAST_STEP_NANOS, self.picture_nanos))
            }
            _ => wished,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::media::FrameKind;

    fn frame(pts_ms: i64) -> Frame {
        let dts = Timestamp::from_millis(pts_ms);
        Frame { kind: FrameKind::Inter, dts, composition_offset: 0, payload: Bytes::new() }
    }

    /// Decode times in milliseconds, after the rules that always hold were checked.
    fn decode(order: &mut DecodeOrder, pts: &[i64]) -> Vec<i64> {
        let mut out = Vec::new();
        pts.iter().for_each(|pts| order.push(frame(*pts), &mut out));
        order.flush(&mut out);
        assert!(out.iter().all(|frame| frame.composition_offset >= 0), "{out:?}");
        assert!(out.windows(2).all(|pair| pair[0].dts < pair[1].dts), "{out:?}");
        out.iter().map(|frame| frame.dts.to_millis()).collect()
    }

    #[test]
    fn nothing_is_reordered_nothing_is_held() {
        let mut order = DecodeOrder::new();
        let mut out = Vec::new();
        order.set(Reordering::Pictures(0), &mut out);
        order.push(frame(7), &mut out);
        assert_eq!((out[0].dts.to_millis(), out[0].composition_offset), (7, 0));
        assert_eq!(decode(&mut order, &[47, 90, 120]), [47, 90, 120]);
    }

    #[test]
    fn a_known_depth_holds_no_picture() {
        let mut order = DecodeOrder::new();
        order.set(Reordering::Pictures(2), &mut Vec::new());
        // I P B b b P B b b, as pyramids have it.
        let pts = [0, 160, 80, 40, 120, 320, 240, 200, 280];
        let mut out = Vec::new();
        for (count, pts) in pts.into_iter().enumerate() {
            order.push(frame(pts), &mut out);
            assert_eq!(out.len(), count + 1);
        }
        let dts: Vec<_> = out.iter().map(|frame| frame.dts.to_millis()).collect();
        assert_eq!(dts, [-80, -40, 0, 40, 80, 120, 160, 200, 240]);
        assert!(out.iter().zip(pts).all(|(frame, pts)| frame.pts().to_millis() == pts));
    }

    #[test]
    fn an_unknown_depth_is_found_out() {
        let mut order = DecodeOrder::new();
        order.set(Reordering::Unknown, &mut Vec::new());
        let dts = decode(&mut order, &[0, 120, 40, 80, 240, 160, 200]);
        assert_eq!(dts, [-40, 0, 40, 80, 120, 160, 200]);
        let mut order = DecodeOrder::new();
        order.set(Reordering::Unknown, &mut Vec::new());
        let mut out = Vec::new();
        (0..5).for_each(|at| order.push(frame(at * 40), &mut out));
        assert_eq!(out.len(), 5);
        order.push(frame(200), &mut out);
        assert_eq!((out.len(), out[5].composition_offset, order.moved), (6, 0, 0));
    }

    #[test]
    fn what_was_cut_short_is_not_believed() {
        let (mut order, mut out) = (DecodeOrder::new(), Vec::new());
        order.set(Reordering::Unknown, &mut out);
        order.push(frame(0), &mut out);
        order.restart(&mut out);
        assert_eq!(out.len(), 1);
        let dts = decode(&mut order, &[1000, 1120, 1040, 1080, 1240, 1160, 1200]);
        assert_eq!(dts, [960, 1000, 1040, 1080, 1120, 1160, 1200]);
    }

    #[test]
    fn pictures_of_one_time_are_not_taken_for_reordered() {
        let mut order = DecodeOrder::new();
        order.set(Reordering::Pictures(0), &mut Vec::new());
        assert_eq!(decode(&mut order, &[0, 0, 40, 40, 80, 80]), [0, 0, 40, 40, 80, 80]);
        assert_eq!(decode(&mut order, &[120]), [120]);
    }

    #[test]
    fn reordering_that_shows_late_moves_one_picture_only() {
        let mut order = DecodeOrder::new();
        order.set(Reordering::Pictures(0), &mut Vec::new());
        let dts = decode(&mut order, &[0, 40, 160, 80, 120, 280, 200, 240, 400, 320, 360]);
        assert_eq!(dts[5..], [160, 200, 240, 280, 320, 360]);
        assert!(order.moved <= 2, "{}", order.moved);
    }

    #[test]
    fn a_gap_leads_in_anew() {
        let mut order = DecodeOrder::new();
        order.set(Reordering::Pictures(1), &mut Vec::new());
        decode(&mut order, &[0, 120, 40, 80]);
        order.restart(&mut Vec::new());
        assert_eq!(decode(&mut order, &[1000, 1120, 1040, 1080]), [960, 1000, 1040, 1080]);
        order.restart(&mut Vec::new());
        let dts = decode(&mut order, &[1090, 1200, 1130]);
        assert_eq!(dts[1..], [1090, 1130]);
    }

    proptest! {
        #[test]
        fn any_times_give_growing_decode_times(
            depth in 0u8..5,
            pts in prop::collection::vec(0i64..2000, 1..60),
        ) {
            for reordering in [Reordering::Pictures(depth), Reordering::Unknown] {
                let mut order = DecodeOrder::new();
                order.set(reordering, &mut Vec::new());
                prop_assert_eq!(decode(&mut order, &pts).len(), pts.len());
            }
        }

        #[test]
        fn a_depth_that_holds_moves_nothing(seed in 0u64.., groups in 1i64..20) {
            // Groups of I or P, then two B in either order: depth 1, or 2 when reversed.
            let mut order = DecodeOrder::new();
            order.set(Reordering::Pictures(2), &mut Vec::new());
            let mut pts = vec![0];
            for group in 0..groups {
                let at = group * 120;
                let reversed = seed >> (group % 64) & 1 == 1;
                pts.extend(if reversed { [at + 120, at + 80, at + 40] } else { [at + 120, at + 40, at + 80] });
            }
            decode(&mut order, &pts);
            prop_assert_eq!(order.moved, 0);
        }
    }
}
