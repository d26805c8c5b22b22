//! The rules between one playlist and the next (6.2.1, 6.2.2), on playlists with their skipped
//! segments put back.

use super::Faults;
use super::single::{ROUNDING, duration};
use super::syntax::{Nanos, Part, Playlist, Segment};

const SECOND: Nanos = 1_000_000_000;

/// What the client knows.
#[derive(Default)]
pub(super) struct History {
    last: Option<Known>,
}

struct Known {
    playlist: Playlist,
    /// When this content was seen first, and last, in milliseconds.
    first_seen_ms: u64,
    last_seen_ms: u64,
    /// The hinted part that has not appeared yet: its URI and where it is to appear.
    hint: Option<Hint>,
}

struct Hint {
    uri: String,
    media_sequence: u64,
    index: usize,
}

impl History {
    pub(super) fn next(&mut self, at_ms: u64, mut playlist: Playlist, faults: &mut Faults) {
        expand(&mut playlist, self.last.as_ref().map(|known| &known.playlist), faults);
        let mut hint = None;
        let mut first_seen_ms = at_ms;
        if let Some(known) = self.last.take() {
            constants(&known.playlist, &playlist, faults);
            window(&known.playlist, &playlist, faults);
            unchanged(&known.playlist, &playlist, faults);
            reports(&known.playlist, &playlist, faults);
            first_seen_ms = punctual(&known, at_ms, &playlist, faults);
            hint = known.hint.and_then(|hint| hint.judge(&playlist, faults));
        }
        let hint = Hint::of(&playlist, hint, faults);
        self.last = Some(Known { playlist, first_seen_ms, last_seen_ms: at_ms, hint });
    }
}

/// The media sequence number after the last whole segment.
fn end(playlist: &Playlist) -> u64 {
    playlist.media_sequence + playlist.segments.len() as u64
}

fn at(playlist: &Playlist, media_sequence: u64) -> Option<&Segment> {
    let index = media_sequence.checked_sub(playlist.media_sequence)?;
    playlist.segments.get(usize::try_from(index).ok()?)
}

/// Puts skipped segments back, from what was known (6.3.7).
fn expand(playlist: &mut Playlist, known: Option<&Playlist>, faults: &mut Faults) {
    let Some(skipped) = playlist.skipped else { return };
    let numbers = playlist.media_sequence..playlist.media_sequence.saturating_add(skipped);
    let Some(known) = known else {
        return faults.violation("6.3.7", "a delta update as the first playlist");
    };
    let missing = numbers.start < known.media_sequence || numbers.end > end(known);
    if missing {
        faults.violation("6.3.7", "skipped segments the client has never seen");
    }
    let back = numbers.map_while(|number| {
        at(known, number).cloned().map(|segment| Segment { parts: Vec::new(), ..segment })
    });
    let mut segments: Vec<Segment> = back.collect();
    // A map holds until the next one, across the skipped segments too.
    let mut map = segments.last().and_then(|segment| segment.map.clone());
    for segment in playlist.segments.iter_mut().chain(&mut playlist.open) {
        match &segment.map {
            Some(_) => map.clone_from(&segment.map),
            None => segment.map.clone_from(&map),
        }
    }
    segments.append(&mut playlist.segments);
    playlist.segments = segments;
}

fn constants(old: &Playlist, new: &Playlist, faults: &mut Faults) {
    faults.must(old.target_duration_s == new.target_duration_s, "6.2.1", || {
        format!("target duration {:?} became {:?}", old.target_duration_s, new.target_duration_s)
    });
    faults.must(old.kind == new.kind, "6.2.1", || {
        format!("playlist type {:?} became {:?}", old.kind, new.kind)
    });
    faults.must(old.part_target == new.part_target, "4.4.3.7", || {
        format!("part target {:?} ns became {:?} ns", old.part_target, new.part_target)
    });
    faults.should(old.version == new.version, "8", || {
        format!("version {:?} became {:?}", old.version, new.version)
    });
}

fn window(old: &Playlist, new: &Playlist, faults: &mut Faults) {
    let forward = new.media_sequence >= old.media_sequence;
    faults.must(forward, "6.2.1", || {
        format!("media sequence {} after {}", new.media_sequence, old.media_sequence)
    });
    faults.must(end(new) >= end(old), "6.2.1", || "segments left from the end".to_owned());
    if old.ended {
        let same = new.ended && end(new) == end(old) && new.media_sequence == old.media_sequence;
        faults.must(same, "4.4.3.4", || "a change after EXT-X-ENDLIST".to_owned());
    }
    if new.media_sequence > old.media_sequence {
        faults.must(new.kind.is_none(), "4.4.3.5", || "segments left an EVENT or VOD".to_owned());
        let length: Nanos = new.segments.iter().map(duration).sum();
        let least = 3 * new.target_duration_s.unwrap_or(0) * SECOND;
        faults.must(new.ended || length + ROUNDING >= least, "6.2.2", || {
            format!("{length} ns left of the {least} ns to be kept")
        });
    }
}

/// Whatever is in both playlists is the same in both, and has the same discontinuity number.
fn unchanged(old: &Playlist, new: &Playlist, faults: &mut Faults) {
    let first = old.media_sequence.max(new.media_sequence);
    for number in first..end(old).min(end(new)) {
        let (Some(was), Some(is)) = (at(old, number), at(new, number)) else { continue };
        let bare = |segment: &Segment| Segment { parts: Vec::new(), ..segment.clone() };
        faults.must(bare(was) == bare(is), "6.2.1", || {
            format!("segment {number} changed from {:?} to {:?}", bare(was), bare(is))
        });
        let gone = is.parts.is_empty();
        faults.must(gone || was.parts.is_empty() || was.parts == is.parts, "6.2.1", || {
            format!("the parts of segment {number} changed")
        });
    }
    let number = |playlist: &Playlist| discontinuity_number(playlist, first);
    if let (Some(was), Some(is)) = (number(old), number(new)) {
        faults.must(was == is, "6.2.2", || {
            format!("segment {first} had discontinuity number {was}, now {is}")
        });
    }
    opened(old, new, faults);
}

/// The discontinuity sequence number of a segment.
fn discontinuity_number(playlist: &Playlist, media_sequence: u64) -> Option<u64> {
    at(playlist, media_sequence)?;
    let index = usize::try_from(media_sequence - playlist.media_sequence).ok()?;
    let tags = playlist.segments.iter().take(index + 1).filter(|segment| segment.discontinuity);
    Some(playlist.discontinuity_sequence + tags.count() as u64)
}

/// What was in the making goes on as it began.
fn opened(old: &Playlist, new: &Playlist, faults: &mut Faults) {
    let Some(was) = &old.open else { return };
    let number = end(old);
    let is = at(new, number).or_else(|| new.open.as_ref().filter(|_| end(new) == number));
    match is {
        Some(is) => {
            let goes_on = is.parts.is_empty() || is.parts.starts_with(&was.parts);
            faults.must(goes_on, "6.2.1", || format!("the parts of segment {number} changed"));
            let head = |segment: &Segment| {
                (segment.discontinuity, segment.map.clone(), segment.date_time_ms)
            };
            faults.must(head(was) == head(is), "6.2.1", || {
                format!("segment {number} changed from {:?} to {:?}", head(was), head(is))
            });
        }
        None => {
            let gone = number < new.media_sequence;
            faults.must(gone, "6.2.1", || format!("the parts of segment {number} vanished"));
        }
    }
}

fn reports(old: &Playlist, new: &Playlist, faults: &mut Faults) {
    for report in &new.reports {
        let was = old.reports.iter().find(|was| was.uri == report.uri);
        let forward = was
            .is_none_or(|was| (was.last_msn, was.last_part) <= (report.last_msn, report.last_part));
        faults.must(forward, "4.4.5.4", || format!("the report of {} went back", report.uri));
    }
}

/// A live playlist changes within one and a half target durations (6.2.1). Gives the time its
/// content was first seen.
fn punctual(known: &Known, at_ms: u64, new: &Playlist, faults: &mut Faults) -> u64 {
    let old = &known.playlist;
    let parts = |playlist: &Playlist| playlist.open.as_ref().map_or(0, |open| open.parts.len());
    let same = (end(old), parts(old), old.ended) == (end(new), parts(new), new.ended);
    if same && !new.ended {
        return known.first_seen_ms;
    }
    // Only how long the old content was certainly current, whatever the client's pauses.
    let current_ms = known.last_seen_ms.saturating_sub(known.first_seen_ms);
    let limit_ms = old.target_duration_s.unwrap_or(0) * 1500;
    faults.must(old.ended || current_ms <= limit_ms, "6.2.1", || {
        format!("nothing new for {current_ms} ms")
    });
    at_ms
}

impl Hint {
    /// The hint of a playlist, unless an older one is still open.
    fn of(playlist: &Playlist, pending: Option<Self>, faults: &mut Faults) -> Option<Self> {
        let (_, uri) = playlist.hints.iter().find(|(kind, _)| kind == "PART")?;
        if let Some(pending) = pending {
            faults.should(pending.uri == *uri, "4.4.5.3", || {
                format!("{} was hinted, now {uri} without it", pending.uri)
            });
            return Some(pending);
        }
        let index = playlist.open.as_ref().map_or(0, |open| open.parts.len());
        Some(Self { uri: uri.clone(), media_sequence: end(playlist), index })
    }

    /// Compares with the part that came; gives itself back while none has.
    fn judge(self, playlist: &Playlist, faults: &mut Faults) -> Option<Self> {
        let came = match at(playlist, self.media_sequence) {
            // Its parts are no longer listed.
            Some(segment) if segment.parts.is_empty() => return None,
            Some(segment) => match segment.parts.get(self.index) {
                Some(part) => Some(part),
                // The segment ended before the hinted part, which begins the next one.
                None => first_part(playlist, self.media_sequence + 1),
            },
            None if end(playlist) == self.media_sequence => {
                playlist.open.as_ref().and_then(|open| open.parts.get(self.index))
            }
            None => return None,
        };
        let Some(part) = came else { return Some(self) };
        faults.must(part.uri == self.uri, "4.4.5.3", || {
            format!("{} was hinted, {} came", self.uri, part.uri)
        });
        None
    }
}

fn first_part(playlist: &Playlist, media_sequence: u64) -> Option<&Part> {
    let open = || playlist.open.as_ref().filter(|_| end(playlist) == media_sequence);
    at(playlist, media_sequence).or_else(open)?.parts.first()
}
