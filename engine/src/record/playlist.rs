//! HLS of recordings: one media playlist over the pieces of a stream, byte ranges of their files.
//!
//! Pieces are files with both tracks, as HLS has them: a segment is a range of one, and the server
//! only sends bytes of a file. Every piece begins at time 0, hence a discontinuity between two, and
//! with an initialisation section. That is named again only where it differs: players take it for
//! another one by its name, and some (ffmpeg 5.1) complain of one they have.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use protocols::hls::{ByteRange, Kind, Map, MediaPlaylist, Segment as ListedSegment, SegmentHead};

use super::piece::Piece;
use super::segment::SEGMENT_S_MAX;

/// Whether a playlist can grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// What there is now, and no more.
    Ended,
    /// More will be listed: the segment in the making is left out until it is whole.
    Growing,
}

/// The playlist of everything in these pieces within a window of wall clock (Unix milliseconds);
/// `uri` gives the reference of a piece's media file, and `query` goes with each. `None` if there
/// is nothing.
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
        let uri = uri(piece);
        let map = match last.take() {
            Some((init, map)) if *init == piece.init => map,
            _ => {
                let init = ByteRange { offset: 0, length: piece.init.len() as u64 };
                Map { uri: uri.clone(), byte_range: Some(init) }
            }
        };
        last = Some((&piece.init, map.clone()));
        for (number, segment) in segments.iter().enumerate() {
            let discontinuity = segment.after_gap || (number == 0 && !listed.is_empty());
            let dated = number == 0 || segment.after_gap;
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
