//! HLS of recordings: one media playlist over the pieces of a stream, byte ranges of their files.
//!
//! Pieces are files with both tracks, as HLS has them: a segment is a range of one, and the server
//! only sends bytes of a file. Each piece begins at time 0 on the disk. In a playlist over several
//! the later ones are asked for with a shift of their times, so that they play on without a seam
//! where the recording went on, and never step back in time, which some players (ffmpeg) take badly
//! even at a discontinuity. There is one wherever something is missing or the tracks differ. The
//! initialisation section is named again only where it differs: players tell sections by name.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use protocols::hls::{ByteRange, Kind, Map, MediaPlaylist, Segment as ListedSegment, SegmentHead};

use super::join::Timeline;
use super::piece::Piece;
use super::segment::{SEGMENT_S_MAX, Segment};

/// How far the clocks of two pieces may be apart that follow each other without a seam.
const CLOCK_MS: u64 = 1000;

/// Whether a playlist can grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// What there is now, and no more.
    Ended,
    /// More will be listed: the segment in the making is left out until it is whole.
    Growing,
}

/// The playlist of everything in these pieces within a window of wall clock (Unix milliseconds);
/// `uri` gives the reference of a piece's media file, which takes a [`super::Shift`] as
/// `?shift=VIDEO,SOUND`, and `query` goes with each. `None` if there is nothing.
#[must_use]
pub fn playlist(
    pieces: &[Piece],
    window: Option<Range<u64>>,
    tail: Tail,
    uri: impl Fn(&Piece) -> String,
    query: &str,
) -> Option<String> {
    let mut listed = VecDeque::new();
    let mut last: Option<(&Bytes, Map)> = None;
    let mut timeline: Option<Timeline> = None;
    let mut clock = None;
    for piece in pieces {
        let mut segments = piece.segments();
        if tail == Tail::Growing && piece.is_open {
            segments.pop();
        }
        let inside = |begin: u64, end: u64| {
            window.as_ref().is_none_or(|window| begin < window.end && end > window.start)
        };
        segments.retain(|segment| inside(segment.unix_ms, segment.end_unix_ms()));
        if segments.is_empty() {
            continue;
        }
        let pairs = segments.first().map_or(0, |first| first.pairs.start)
            ..segments.last().map_or(0, |last| last.pairs.end);
        let pairs = piece.index.pairs.get(pairs).unwrap_or_default();
        let placed = match &mut timeline {
            Some(timeline) => timeline.add(piece, pairs),
            // The first one stays where it is.
            None => timeline.insert(Timeline::at_home(piece)).add(piece, pairs),
        };
        let file = uri(piece);
        let uri = match placed.shift {
            [0, 0] => file.clone(),
            [video, audio] => format!("{file}?shift={video},{audio}"),
        };
        let (map, same) = match last.take() {
            Some((init, map)) if *init == piece.init => (map, true),
            _ => {
                let init = ByteRange { offset: 0, length: piece.init.len() as u64 };
                (Map { uri: file, byte_range: Some(init) }, false)
            }
        };
        last = Some((&piece.init, map.clone()));
        // One recording has one clock: each piece takes it anew, a little early or late.
        let on_time = clock.is_some_and(|clock: u64| {
            segments.first().is_some_and(|first| first.unix_ms.abs_diff(clock) <= CLOCK_MS)
        });
        let seamless = same && placed.follows && on_time;
        clock = segments.last().map(Segment::end_unix_ms);
        for (number, segment) in segments.iter().enumerate() {
            let dated = segment.after_gap || (number == 0 && !seamless);
            let discontinuity = dated && !listed.is_empty();
            let date = i64::try_from(segment.unix_ms).ok().filter(|_| dated);
            listed.push_back(ListedSegment {
                head: SegmentHead {
                    program_date_time_ms: date,
                    discontinuity,
                    map: Some(map.clone()),
                },
                uri: uri.clone(),
                duration: segment.duration,
                byte_range: Some(ByteRange {
                    offset: segment.span.offset,
                    length: segment.span.bytes,
                }),
                ..ListedSegment::default()
            });
        }
    }
    if listed.is_empty() {
        return None;
    }
    let growing = tail == Tail::Growing;
    let playlist = MediaPlaylist {
        kind: if growing { Kind::Event } else { Kind::Vod },
        // One that grows may not raise it later.
        target_duration_s: if growing { SEGMENT_S_MAX } else { 1 },
        independent_segments: !growing && independent(pieces),
        start_offset_ms: growing.then_some(0),
        segments: listed,
        ended: !growing,
        ..MediaPlaylist::default()
    };
    Some(playlist.render(false, query))
}

fn independent(pieces: &[Piece]) -> bool {
    pieces.iter().flat_map(Piece::segments).all(|segment| segment.keyframe)
}
