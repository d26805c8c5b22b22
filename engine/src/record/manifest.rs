//! DASH of recordings: a period per piece, a representation per track, segments by number.
//!
//! DASH wants tracks apart, and in a piece they lie in turns. So a segment is what the server
//! gathers of the file: the fragments of one track, one behind the other.

use std::ops::Range;
use std::time::Duration;

use protocols::codec::rfc6381::Manifest;
use protocols::container::fmp4::{self, Selection, TrackKind};
use protocols::dash::{
    AdaptationSet, Addressing, Media, Mpd, Period, Presentation, Representation, Segments,
    TimelineSegment,
};
use protocols::media::Timestamp;

use super::piece::Piece;
use super::segment::Segment;

/// What a player has in hand before it begins: segments are some seconds long.
const MIN_BUFFER: Duration = Duration::from_secs(2);

/// The name of a track in addresses: `video` or `audio`.
pub(crate) fn track_name(track: TrackKind) -> &'static str {
    match track {
        TrackKind::Video => "video",
        TrackKind::Audio => "audio",
    }
}

/// The description of everything in these pieces within a window of wall clock (Unix
/// milliseconds); `uri` gives the reference of the folder in which the segments of a piece are
/// asked for, and `query` goes with each. `None` if there is nothing.
#[must_use]
pub fn manifest(
    pieces: &[Piece],
    window: Option<Range<u64>>,
    uri: impl Fn(&Piece) -> String,
    query: &str,
) -> Option<String> {
    let mut periods = Vec::new();
    let mut start = Duration::ZERO;
    let mut longest = Duration::ZERO;
    for piece in pieces {
        let inside = |segment: &Segment| {
            window.as_ref().is_none_or(|window| {
                segment.unix_ms < window.end && segment.end_unix_ms() > window.start
            })
        };
        let all = piece.segments();
        let Some(first) = all.iter().position(inside) else { continue };
        let count = all.iter().skip(first).take_while(|segment| inside(segment)).count();
        let segments = all.get(first..first + count).unwrap_or_default();
        let before = all.get(..first).unwrap_or_default();
        let Some(duration) = duration(piece, segments) else { continue };
        longest = segments.iter().map(|segment| segment.duration).fold(longest, Duration::max);
        let sets = [TrackKind::Video, TrackKind::Audio];
        let sets = sets
            .into_iter()
            .filter_map(|track| adaptation_set(piece, before, segments, track, &uri(piece)));
        let adaptation_sets: Vec<_> = sets.collect();
        if adaptation_sets.is_empty() {
            continue;
        }
        let id = format!("{}T{}", piece.name.day_text(), piece.name.time_text());
        periods.push(Period { id, start, duration: Some(duration), adaptation_sets });
        start += duration;
    }
    if periods.is_empty() {
        return None;
    }
    let mpd = Mpd {
        presentation: Presentation::Static(start),
        min_buffer_time: MIN_BUFFER,
        max_segment_duration: Some(longest),
        periods,
    };
    Some(mpd.render(query))
}

/// From the beginning of the first segment to the end of the last.
fn duration(piece: &Piece, segments: &[Segment]) -> Option<Duration> {
    let pairs = &piece.index.pairs;
    let first = pairs.get(segments.first()?.pairs.start)?;
    let last = pairs.get(segments.last()?.pairs.end.checked_sub(1)?)?;
    let length = piece.end_nanos(last) - piece.start_nanos(first);
    Some(Duration::from_nanos(u64::try_from(length).ok()?))
}

fn adaptation_set(
    piece: &Piece,
    before: &[Segment],
    segments: &[Segment],
    track: TrackKind,
    folder: &str,
) -> Option<AdaptationSet> {
    let timescale = piece.timescale(track);
    let selection = match track {
        TrackKind::Video => Selection::Video,
        TrackKind::Audio => Selection::Audio,
    };
    let codecs = fmp4::codecs(&piece.tracks, selection, Manifest::Dash);
    // Segments are announced by when they are shown: pictures after they are decoded.
    let delay = match track {
        TrackKind::Video => u64::from(piece.index.header.video_delay),
        TrackKind::Audio => 0,
    };
    let times = |segments: &[Segment]| -> Vec<TimelineSegment> {
        let times = segments.iter().filter_map(|segment| piece.track_time(segment, track));
        times.map(|(time, duration)| TimelineSegment { time: time + delay, duration }).collect()
    };
    let listed = times(segments);
    if timescale == 0 || codecs.is_empty() || listed.is_empty() {
        return None;
    }
    let begin = piece.index.pairs.get(segments.first()?.pairs.start)?;
    // The period begins with its first picture, and its sound with that.
    let start = Timestamp::from_nanos(piece.start_nanos(begin).saturating_add(piece.delay_nanos()));
    let offset = u64::try_from(start.to_ticks(timescale)).unwrap_or(0);
    let bytes: u64 = segments
        .iter()
        .flat_map(|segment| piece.track_spans(segment.pairs.clone(), track))
        .map(|span| span.bytes)
        .sum();
    let ticks: u64 = listed.iter().map(|segment| segment.duration).sum();
    let bandwidth = u128::from(bytes) * 8 * u128::from(timescale) / u128::from(ticks.max(1));
    let media = match track {
        TrackKind::Video => {
            let info = piece.tracks.video.as_ref()?.info;
            Media::Video { width: info.width, height: info.height, frame_rate: info.frame_rate }
        }
        TrackKind::Audio => {
            let info = piece.tracks.audio.as_ref()?.info;
            Media::Audio { sample_rate: info.sample_rate, channels: info.channels }
        }
    };
    let name = track_name(track);
    let representation = Representation {
        id: name.to_owned(),
        codecs,
        bandwidth: u64::try_from(bandwidth).unwrap_or(u64::MAX).max(1),
        media,
        segments: Segments {
            timescale,
            presentation_time_offset: offset,
            availability_time_offset: None,
            addressing: Addressing::Timeline {
                initialization: format!("{folder}/{name}/init.mp4"),
                media: format!("{folder}/{name}/$Number$.m4s"),
                start_number: times(before).len() as u64,
                segments: listed,
            },
        },
    };
    Some(AdaptationSet {
        id: track.id(),
        language: None,
        producer_reference_time: None,
        representations: vec![representation],
    })
}
