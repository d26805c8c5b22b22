//! The rules one playlist has to keep by itself.

use super::Faults;
use super::syntax::{Nanos, Part, Playlist, Segment};

const SECOND: Nanos = 1_000_000_000;
/// Numbers are written rounded; sums of them may be off by so much.
pub(super) const ROUNDING: Nanos = SECOND / 1000;
/// How far a program date time may be from the one before plus the durations between.
const DATE_TIME_TOLERANCE_MS: u64 = 100;

pub(super) fn check(playlist: &Playlist, faults: &mut Faults) {
    target_duration(playlist, faults);
    versions(playlist, faults);
    server_control(playlist, faults);
    parts(playlist, faults);
    maps(playlist, faults);
    date_times(playlist, faults);
    metadata(playlist, faults);
}

pub(super) fn duration(segment: &Segment) -> Nanos {
    segment.duration.unwrap_or(0)
}

fn part_durations(parts: &[Part]) -> Nanos {
    parts.iter().map(|part| part.duration).sum()
}

fn target_duration(playlist: &Playlist, faults: &mut Faults) {
    let Some(target_s) = playlist.target_duration_s else {
        return faults.violation("4.4.3.1", "no EXT-X-TARGETDURATION");
    };
    faults.must(target_s >= 1, "4.4.3.1", || "a target duration of zero".to_owned());
    for segment in &playlist.segments {
        let rounded_s = (duration(segment) + SECOND / 2) / SECOND;
        faults.must(rounded_s <= target_s, "4.4.3.1", || {
            format!("{} rounds to {rounded_s} s, the target is {target_s} s", segment.uri)
        });
        faults
            .should(duration(segment) > 0, "4.4.4.1", || format!("{} lasts no time", segment.uri));
    }
}

fn versions(playlist: &Playlist, faults: &mut Faults) {
    let any = |test: fn(&Segment) -> bool| playlist.segments.iter().any(test);
    let fraction = any(|segment| !duration(segment).is_multiple_of(SECOND));
    let map = any(|segment| segment.map.is_some());
    let needs = [
        (3, fraction, "a duration with decimals"),
        (4, any(|segment| segment.byte_range.is_some()), "EXT-X-BYTERANGE"),
        (6, map, "EXT-X-MAP"),
        (9, playlist.skipped.is_some(), "EXT-X-SKIP"),
    ];
    let version = playlist.version.unwrap_or(1);
    for (least, used, what) in needs {
        faults.must(!used || version >= least, "8", || {
            format!("{what} needs version {least}, this is {version}")
        });
    }
}

fn server_control(playlist: &Playlist, faults: &mut Faults) {
    let target = playlist.target_duration_s.unwrap_or(0).saturating_mul(SECOND);
    let at_least = |value: Option<Nanos>, least| value.is_none_or(|value| value >= least);
    faults.must(at_least(playlist.hold_back, 3 * target), "4.4.3.8", || {
        "HOLD-BACK is under three target durations".to_owned()
    });
    faults.must(at_least(playlist.can_skip_until, 6 * target), "4.4.3.8", || {
        "CAN-SKIP-UNTIL is under six target durations".to_owned()
    });
    let orphan = playlist.can_skip_dateranges && playlist.can_skip_until.is_none();
    faults.must(!orphan, "4.4.3.8", || "CAN-SKIP-DATERANGES without CAN-SKIP-UNTIL".to_owned());
    if let Some(part_target) = playlist.part_target {
        let hold_back = playlist.part_hold_back;
        faults.must(hold_back.is_some(), "4.4.3.8", || "no PART-HOLD-BACK".to_owned());
        faults.must(at_least(hold_back, 2 * part_target), "4.4.3.8", || {
            "PART-HOLD-BACK is under two part targets".to_owned()
        });
        faults.should(at_least(hold_back, 3 * part_target), "4.4.3.8", || {
            "PART-HOLD-BACK is under three part targets".to_owned()
        });
        faults.should(playlist.can_block_reload || playlist.ended, "B.1", || {
            "parts without CAN-BLOCK-RELOAD".to_owned()
        });
    }
}

fn parts(playlist: &Playlist, faults: &mut Faults) {
    let segments = || playlist.segments.iter().chain(&playlist.open);
    if segments().all(|segment| segment.parts.is_empty()) {
        return;
    }
    let Some(part_target) = playlist.part_target else {
        return faults.violation("4.4.3.7", "EXT-X-PART without EXT-X-PART-INF");
    };
    for segment in segments() {
        for (index, part) in segment.parts.iter().enumerate() {
            faults.must(part.duration <= part_target, "4.4.4.9", || {
                format!("part {} is longer than the part target", part.uri)
            });
            let next = segment.parts.get(index + 1);
            let excused = part.independent || part.gap || next.is_none_or(|next| next.gap);
            // Each number is rounded to at least the fifth decimal.
            let long =
                (part.duration + 10_000).saturating_mul(100) >= part_target.saturating_mul(85);
            faults.must(excused || long, "4.4.4.9", || {
                format!("part {} is under 85 % of the part target", part.uri)
            });
        }
        if segment.duration.is_some() && !segment.parts.is_empty() {
            let sum = part_durations(&segment.parts);
            faults.should(sum.abs_diff(duration(segment)) <= ROUNDING, "4.4.4.9", || {
                format!("the parts of {} do not add up to it", segment.uri)
            });
        }
    }
    // Not older than three target durations.
    let target = playlist.target_duration_s.unwrap_or(0).saturating_mul(SECOND);
    let mut behind = playlist.open.as_ref().map_or(0, |open| part_durations(&open.parts));
    for segment in playlist.segments.iter().rev() {
        let old = behind > 3 * target + ROUNDING && !segment.parts.is_empty();
        faults.should(!old, "4.4.4.9", || format!("{} still lists its parts", segment.uri));
        behind += duration(segment);
    }
}

fn maps(playlist: &Playlist, faults: &mut Faults) {
    // The map of skipped segments still holds, so a delta update may lack it.
    if playlist.skipped.is_some() {
        return;
    }
    for segment in playlist.segments.iter().chain(&playlist.open) {
        let first = segment.parts.first().map(|part| part.uri.as_str());
        let uri = first.unwrap_or(&segment.uri);
        let path = uri.split(['?', '#']).next().unwrap_or_default();
        let fragmented = [".m4s", ".mp4", ".m4v", ".m4a", ".cmfv", ".cmfa"];
        let needs = fragmented.iter().any(|suffix| path.ends_with(suffix));
        faults
            .must(!needs || segment.map.is_some(), "4.4.4.5", || format!("no EXT-X-MAP for {uri}"));
    }
}

fn date_times(playlist: &Playlist, faults: &mut Faults) {
    let mut expected: Option<i64> = None;
    for segment in playlist.segments.iter().chain(&playlist.open) {
        if segment.discontinuity {
            expected = None;
        }
        if let (Some(stated), Some(expected)) = (segment.date_time_ms, expected) {
            let off = stated.abs_diff(expected);
            faults.must(off <= DATE_TIME_TOLERANCE_MS, "4.4.4.6", || {
                format!("the date of {} is {off} ms off", segment.uri)
            });
        }
        let length_ms = i64::try_from((duration(segment) + 500_000) / 1_000_000).unwrap_or(0);
        expected = segment.date_time_ms.or(expected).map(|start| start + length_ms);
    }
    let dated = playlist.segments.iter().any(|segment| segment.date_time_ms.is_some());
    let due = playlist.part_target.is_some() && !playlist.segments.is_empty();
    faults.should(dated || !due, "B.1", || "no EXT-X-PROGRAM-DATE-TIME".to_owned());
}

fn metadata(playlist: &Playlist, faults: &mut Faults) {
    let skips = playlist.skipped.is_none() || playlist.can_skip_until.is_some();
    faults.must(skips, "4.4.5.2", || "EXT-X-SKIP without CAN-SKIP-UNTIL".to_owned());
    faults.must(playlist.skipped != Some(0), "4.4.5.2", || "EXT-X-SKIP of nothing".to_owned());
    faults.must(!playlist.ended || playlist.hints.is_empty(), "4.4.5.3", || {
        "EXT-X-PRELOAD-HINT after EXT-X-ENDLIST".to_owned()
    });
    for kind in ["PART", "MAP"] {
        let hints = playlist.hints.iter().filter(|(of, _)| of == kind).count();
        faults.must(hints <= 1, "6.2.2", || format!("{hints} hints of type {kind}"));
    }
    if let Some(boundary) = playlist.can_skip_until.filter(|_| playlist.skipped.is_some()) {
        let listed: Nanos = playlist.segments.iter().map(duration).sum();
        let open = playlist.open.as_ref().map_or(0, |open| part_durations(&open.parts));
        faults.must(listed + open + ROUNDING >= boundary, "6.2.5.1", || {
            "segments later than the skip boundary are skipped".to_owned()
        });
    }
    for report in &playlist.reports {
        let relative = !report.uri.contains("://");
        faults.must(relative, "4.4.5.4", || format!("{} is not relative", report.uri));
    }
    let fixed = playlist.kind.as_deref() == Some("VOD");
    faults.should(!fixed || playlist.ended, "4.4.3.5", || "VOD without an end".to_owned());
}
