//! The segments of a live stream in memory as a source of frames: part by part, as they come.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use protocols::container::fmp4::read::Movie;
use protocols::media::{Frame, StreamKey, Timestamp};

use crate::record::{Stretch, Unreached, movie_of_init};
use crate::segment::{Init, Packaging, Part, Segment, Snapshot};
use crate::shard::{Absent, Shard, Wanted, snapshot};

/// How long the owner of the live stream may take to say what there is.
const OWNER_WAIT: Duration = Duration::from_secs(2);

/// See the module text.
#[derive(Debug)]
pub struct Window {
    key: StreamKey,
    /// The segmenter that is read.
    epoch: u64,
    /// The segment, and how many of its parts have been taken.
    sequence: u64,
    part: usize,
    /// What the parts need, and the number of their configuration.
    movie: Option<(u32, Movie)>,
    broken: bool,
    /// Wall clock of the part that was taken last, Unix milliseconds.
    reached_ms: u64,
}

impl Window {
    /// Begins at the newest keyframe at a moment or before, `now_ms` being the present (Unix
    /// milliseconds). Whoever asks has segments made, if they are not: a stream that is asked for
    /// again a while later reaches back further.
    ///
    /// # Errors
    /// The window does not reach back so far; `None`: nobody publishes the stream.
    pub async fn open(
        shard: &Rc<RefCell<Shard>>,
        key: StreamKey,
        from_ms: u64,
        now_ms: u64,
    ) -> Result<Self, Option<Unreached>> {
        let snapshot = newest(shard, &key).await.map_err(|absent| match absent {
            Absent::NotFound => None,
            Absent::Late | Absent::Overloaded => Some(Unreached::Nothing),
        })?;
        let held = {
            let http = &shard.borrow().config.http;
            http.segments_listed + http.segments_kept
        };
        let since = since(&snapshot, held, now_ms).ok_or(Some(Unreached::Nothing))?;
        let late = Some(Unreached::Since(since));
        if from_ms < since {
            return Err(late);
        }
        let sequence = start_at(&snapshot, from_ms).ok_or(late)?;
        let (epoch, part, movie, broken) = (snapshot.epoch, 0, None, false);
        Ok(Self { key, epoch, sequence, part, movie, broken, reached_ms: from_ms })
    }

    /// The next stretch, if it is there.
    ///
    /// # Errors
    /// A part is not what this server writes.
    pub async fn read_on(&mut self, shard: &Rc<RefCell<Shard>>) -> io::Result<Option<Stretch>> {
        let Ok(snapshot) = newest(shard, &self.key).await else { return Ok(None) };
        if snapshot.epoch != self.epoch {
            self.restart(&snapshot);
        }
        loop {
            let oldest = snapshot.segments.first().map_or(snapshot.next_sequence, |s| s.sequence);
            if self.sequence < oldest {
                // Too far behind: goes on at the oldest keyframe that is held.
                let Some(start) = snapshot.segments.iter().find(|segment| is_start(segment)) else {
                    return Ok(None);
                };
                (self.sequence, self.part, self.broken) = (start.sequence, 0, true);
            }
            let whole = snapshot.segment(self.sequence).map(|segment| &**segment);
            let open = snapshot.open.as_ref().filter(|open| open.sequence == self.sequence);
            let Some(segment) = whole.or(open) else { return Ok(None) };
            if let Some(part) = segment.parts.get(self.part) {
                let stretch = self.stretch(segment, part)?;
                self.part += 1;
                self.broken = false;
                self.reached_ms = stretch.unix_ms;
                return Ok(Some(stretch));
            }
            if whole.is_none() {
                return Ok(None);
            }
            (self.sequence, self.part) = (self.sequence + 1, 0);
        }
    }

    /// Another segmenter has taken over: goes on where this one has come to, as near as may be.
    fn restart(&mut self, snapshot: &Snapshot) {
        let oldest = snapshot.segments.first().map_or(snapshot.next_sequence, |s| s.sequence);
        self.epoch = snapshot.epoch;
        self.sequence = start_at(snapshot, self.reached_ms).unwrap_or(oldest);
        (self.part, self.movie, self.broken) = (0, None, true);
    }

    fn stretch(&mut self, segment: &Segment, part: &Part) -> io::Result<Stretch> {
        let movie = self.movie(&segment.init)?;
        let read = |bytes| {
            let frames = movie.frames(bytes);
            frames.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        };
        let mut frames: Vec<Frame> = read(&part.video.bytes)?;
        frames.extend(read(&part.audio.bytes)?);
        frames.sort_by_key(|frame| frame.dts);
        let start: Timestamp = segment.start;
        Ok(Stretch {
            tracks: Arc::clone(&segment.init.tracks),
            broken: self.broken || (self.part == 0 && segment.discontinuity),
            start,
            unix_ms: clock_of(segment),
            frames,
        })
    }

    fn movie(&mut self, init: &Init) -> io::Result<&Movie> {
        if self.movie.as_ref().is_none_or(|(id, _)| *id != init.id) {
            let movie = movie_of_init(&init.both).ok_or(io::ErrorKind::InvalidData)?;
            self.movie = Some((init.id, movie));
        }
        self.movie.as_ref().map(|(_, movie)| movie).ok_or(io::ErrorKind::InvalidData.into())
    }
}

async fn newest(shard: &Rc<RefCell<Shard>>, key: &StreamKey) -> Result<Arc<Snapshot>, Absent> {
    snapshot(shard, key.clone(), Packaging::Cmaf, Wanted::Anything, OWNER_WAIT).await
}

/// Since when there is something that will not have gone by the time it is due, when so many
/// segments are held: one of them is being read while the next is forgotten.
fn since(snapshot: &Snapshot, held: usize, now_ms: u64) -> Option<u64> {
    let oldest = snapshot.segments.iter().find(|segment| is_start(segment))?;
    let whole = snapshot.segments.iter().map(|segment| segment.duration);
    let count = u32::try_from(snapshot.segments.len()).unwrap_or(u32::MAX);
    let usual = whole.sum::<Duration>() / count.max(1);
    let reach = usual.saturating_mul(u32::try_from(held.saturating_sub(1)).unwrap_or(u32::MAX));
    let reach_ms = u64::try_from(reach.as_millis()).unwrap_or(u64::MAX);
    Some(clock_of(oldest).max(now_ms.saturating_sub(reach_ms)))
}

/// The newest segment that decoding can start at and that begins at that moment or before.
fn start_at(snapshot: &Snapshot, from_ms: u64) -> Option<u64> {
    let begins = |segment: &&Arc<Segment>| is_start(segment) && clock_of(segment) <= from_ms;
    snapshot.segments.iter().rev().find(begins).map(|segment| segment.sequence)
}

fn is_start(segment: &Segment) -> bool {
    segment.parts.first().is_some_and(|part| part.independent)
}

/// Wall clock of its first sample, Unix milliseconds.
fn clock_of(segment: &Segment) -> u64 {
    u64::try_from(segment.program_date_time_ms).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Era, Piece, Targets};
    use bytes::Bytes;

    const BEGIN_MS: u64 = 1_700_000_000_000;

    /// Segments of a second; decoding can start at every second one.
    fn snapshot(count: u64) -> Snapshot {
        let empty = Bytes::new;
        let init = Arc::new(Init {
            id: 0,
            tracks: Arc::default(),
            both: empty(),
            video: empty(),
            audio: empty(),
        });
        let second = Duration::from_secs(1);
        let segment = |sequence: u64| {
            let at_ms = i64::try_from(sequence * 1000).unwrap();
            let part = Part {
                duration: second,
                independent: sequence.is_multiple_of(2),
                video: Piece::default(),
                audio: Piece::default(),
                joint: None,
            };
            Arc::new(Segment {
                sequence,
                start: Timestamp::from_millis(at_ms),
                duration: second,
                program_date_time_ms: i64::try_from(BEGIN_MS).unwrap() + at_ms,
                discontinuity: false,
                era: Era { index: 0, media_start: Timestamp::ZERO, start_ms: 0 },
                init: Arc::clone(&init),
                parts: vec![part],
            })
        };
        Snapshot {
            packaging: Packaging::Cmaf,
            epoch: 1,
            origin_ms: 0,
            delay: Duration::ZERO,
            targets: Targets { segment_s: 1, part: second },
            segments: (0..count).map(segment).collect(),
            listed: 7,
            discontinuity_sequence: 0,
            open: None,
            next_sequence: count,
            inits: vec![init],
            ended: false,
        }
    }

    #[test]
    fn it_begins_at_the_keyframe_at_or_before_a_moment() {
        let snapshot = snapshot(7);
        let at = |after_ms: u64| start_at(&snapshot, BEGIN_MS + after_ms);
        assert_eq!((at(0), at(1999), at(2000), at(60_000)), (Some(0), Some(0), Some(2), Some(6)));
        assert_eq!(start_at(&snapshot, BEGIN_MS - 1), None);
    }

    #[test]
    fn it_reaches_back_to_its_beginning_but_never_to_what_is_about_to_go() {
        let young = snapshot(4);
        assert_eq!(since(&young, 11, BEGIN_MS + 4000), Some(BEGIN_MS));
        let full = snapshot(11);
        assert_eq!(since(&full, 11, BEGIN_MS + 11_000), Some(BEGIN_MS + 1000));
        assert_eq!(since(&snapshot(0), 11, BEGIN_MS), None);
    }
}
