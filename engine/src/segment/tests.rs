//! A segmenter fed by hand: what it makes of streams that go well, restart, change and end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use protocols::container::Item;
use protocols::container::flv::{Demuxer, TagReader};
use protocols::container::ts;
use protocols::media::{Frame, FrameKind, Timestamp, Tracks};

use super::*;
use crate::ring::{Ingested, MediaItem};

const H264_AAC: &[u8] =
    include_bytes!("../../../protocols/src/container/flv/testdata/h264_aac.flv");
const H265_OPUS: &[u8] =
    include_bytes!("../../../protocols/src/container/flv/testdata/h265_opus.flv");
const GOP: Duration = Duration::from_secs(1);

/// Tracks of a file, one keyframe, one other picture and one sound of it.
fn samples(file: &[u8]) -> (Arc<Tracks>, Bytes, Bytes, Bytes) {
    let (mut reader, mut input) = (TagReader::new(1 << 20), BytesMut::from(file));
    let mut demuxer = Demuxer::new(12);
    let mut items = std::collections::VecDeque::new();
    while let Some((tag, millis, body)) = reader.next_tag(&mut input).unwrap() {
        let at = Timestamp::from_millis(millis.into());
        demuxer.push(tag, at, body, &mut items).unwrap();
    }
    let (mut tracks, mut key, mut other, mut sound) = (None, None, None, None);
    for item in items {
        match item {
            Item::Tracks(new) => tracks = Some(new),
            Item::Frame(Frame { kind: FrameKind::Keyframe, payload, .. }) => key = Some(payload),
            Item::Frame(Frame { kind: FrameKind::Audio, payload, .. }) => sound = Some(payload),
            Item::Frame(frame) => other = Some(frame.payload),
        }
    }
    (tracks.unwrap(), key.unwrap(), other.unwrap(), sound.unwrap())
}

/// A stream of 25 pictures a second and sound, from a time on.
struct Source {
    tracks: Arc<Tracks>,
    key: Bytes,
    other: Bytes,
    sound: Bytes,
    now: Instant,
}

impl Source {
    fn new(file: &[u8]) -> Self {
        let (tracks, key, other, sound) = samples(file);
        Self { tracks, key, other, sound, now: crate::clock::now() }
    }

    fn item(&self, kind: FrameKind, millis: i64, payload: &Bytes) -> MediaItem {
        let (dts, payload) = (Timestamp::from_millis(millis), payload.clone());
        let frame = Frame { kind, dts, composition_offset: 0, payload };
        MediaItem::Frame(Arc::new(Ingested { frame, at: self.now }))
    }

    /// Items of `seconds` in order of time; a keyframe every `gop` pictures.
    fn items(&self, from_ms: i64, seconds: i64, gop: i64) -> Vec<MediaItem> {
        let mut items = Vec::new();
        let mut sound_ms = 0;
        for n in 0..seconds * 25 {
            while sound_ms < (n + 1) * 40 {
                items.push(self.item(FrameKind::Audio, from_ms + sound_ms, &self.sound));
                sound_ms += 23;
            }
            let (kind, payload) = match n % gop {
                0 => (FrameKind::Keyframe, &self.key),
                _ => (FrameKind::Inter, &self.other),
            };
            items.push(self.item(kind, from_ms + n * 40, payload));
        }
        items
    }
}

fn options(gop: Option<Duration>) -> Options {
    Options {
        segment: Duration::from_secs(1),
        part: Duration::from_millis(200),
        window: 5,
        kept: 2,
        gop,
        frame: Some(Duration::from_millis(40)),
        delay: Duration::ZERO,
    }
}

/// Feeds all items; the last snapshot and how many there were.
fn run(
    segmenter: &mut Segmenter,
    items: &[MediaItem],
    now: Instant,
) -> (Option<Arc<Snapshot>>, usize) {
    let (mut last, mut count) = (None, 0);
    for item in items {
        if let Some(snapshot) = segmenter.take(item, now, 1_700_000_000_000) {
            check(&snapshot);
            (last, count) = (Some(snapshot), count + 1);
        }
    }
    (last, count)
}

/// What holds in every snapshot.
fn check(snapshot: &Snapshot) {
    let segments = &snapshot.segments;
    for pair in segments.windows(2) {
        assert_eq!(pair[0].sequence + 1, pair[1].sequence);
        if !pair[1].discontinuity {
            assert_eq!(pair[0].era, pair[1].era);
            let gap = pair[1].start.saturating_since(pair[0].start).abs_diff(pair[0].duration);
            assert!(gap <= Duration::from_millis(1), "{gap:?}");
        }
    }
    for segment in segments {
        let parts: Duration = segment.parts.iter().map(|part| part.duration).sum();
        assert_eq!(parts, segment.duration);
        assert!(segment.duration.as_secs_f64().round() as u32 <= snapshot.targets.segment_s);
        assert!(snapshot.init(segment.init.id).is_some());
        if snapshot.packaging == Packaging::Cmaf {
            assert!(segment.parts.iter().all(|part| part.duration <= snapshot.targets.part));
        }
    }
    assert!(snapshot.listed <= segments.len());
    assert_eq!(segments.last().map_or(0, |last| last.sequence + 1), snapshot.next_sequence);
}

fn start(packaging: Packaging, source: &Source, gop: Option<Duration>) -> Segmenter {
    let mut segmenter = Segmenter::new(packaging, options(gop), 7);
    let begin = [MediaItem::Online { merge_ms: None }, MediaItem::Tracks(source.tracks.clone())];
    assert!(run(&mut segmenter, &begin, source.now).0.is_none());
    segmenter
}

#[test]
fn segments_of_a_second_in_parts_of_a_fifth() {
    for file in [H264_AAC, H265_OPUS] {
        let source = Source::new(file);
        let mut segmenter = start(Packaging::Cmaf, &source, Some(GOP));
        let (last, count) = run(&mut segmenter, &source.items(5000, 12, 25), source.now);
        let last = last.unwrap();
        assert_eq!(last.next_sequence, 11);
        assert_eq!((last.listed, last.segments.len()), (5, 7));
        assert!(count >= 55, "a snapshot per part: {count}");
        for segment in &last.segments {
            assert_eq!(segment.parts.len(), 5);
            assert!(segment.parts[0].independent && !segment.parts[1].independent);
            let (_, video) = segment.span(Track::Video).unwrap();
            assert_eq!(video, 90_000);
        }
        // Sound neither gets lost nor twice.
        let spans: Vec<_> = last.segments.iter().filter_map(|s| s.span(Track::Audio)).collect();
        assert!(spans.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0), "{spans:?}");
    }
}

#[test]
fn a_delayed_stream_keeps_the_wall_clock_of_the_live_one() {
    let source = Source::new(H264_AAC);
    let delay = Duration::from_secs(30);
    let options = Options { delay, ..options(Some(GOP)) };
    let mut segmenter = Segmenter::new(Packaging::Cmaf, options, 7);
    let begin = [MediaItem::Online { merge_ms: None }, MediaItem::Tracks(source.tracks.clone())];
    run(&mut segmenter, &begin, source.now);
    let (last, _) = run(&mut segmenter, &source.items(5000, 3, 25), source.now);
    let last = last.unwrap();
    assert_eq!(last.segments[0].program_date_time_ms, 1_700_000_000_000 - 30_000);
    let view = manifest::View { snapshot: &last, folder: "x", low_latency: false, now_ms: 0 };
    // Players take what was published so much earlier for what is live now.
    let text = view.render("delay=30");
    assert!(text.contains("availabilityStartTime=\"2023-11-14T22:13:20"), "{text}");
    assert!(text.contains("$Number$.m4s?delay=30"), "{text}");
}

/// The first manifest of a stream is read before there is a window; dash.js stays no further behind
/// than the window it reads, and looks for new segments once a second at most.
#[test]
fn low_latency_players_have_a_second_to_hear_of_a_segment() {
    let source = Source::new(H264_AAC);
    let mut segmenter = start(Packaging::Cmaf, &source, Some(GOP));
    let (last, _) = run(&mut segmenter, &source.items(0, 2, 25), source.now);
    let last = last.unwrap();
    assert_eq!(last.segments.len(), 1);
    let part_ms = i64::try_from(last.targets.part.as_millis()).unwrap();
    let now_ms = last.origin_ms + 2000;
    let text =
        manifest::View { snapshot: &last, folder: "x", low_latency: true, now_ms }.render("");
    let delay_ms = 1000 + 3 * part_ms;
    assert!(text.contains("minimumUpdatePeriod=\"PT1S\""), "{text}");
    assert!(text.contains(&format!("<Latency target=\"{delay_ms}\"/>")), "{text}");
    let seconds = delay_ms as f64 / 1000.0;
    assert!(text.contains(&format!("timeShiftBufferDepth=\"PT{seconds}S\"")), "{text}");
}

#[test]
fn transport_stream_segments_begin_with_tables_and_a_keyframe() {
    let source = Source::new(H264_AAC);
    let mut segmenter = start(Packaging::Ts, &source, Some(GOP));
    let (last, count) = run(&mut segmenter, &source.items(0, 8, 25), source.now);
    assert_eq!(count, 7, "a snapshot per segment");
    for segment in &last.unwrap().segments {
        let bytes: Vec<u8> = segment.pieces(None).flat_map(|piece| piece.to_vec()).collect();
        let (mut demuxer, mut items) = (ts::Demuxer::new(1 << 20), Default::default());
        demuxer.push(&bytes, &mut items).unwrap();
        demuxer.finish(&mut items);
        let frames: Vec<_> = items
            .into_iter()
            .filter_map(|item| match item {
                Item::Frame(frame) => Some(frame),
                Item::Tracks(_) => None,
            })
            .collect();
        let pictures: Vec<_> = frames.iter().filter(|frame| frame.kind.is_video()).collect();
        assert_eq!(pictures.len(), 25);
        assert_eq!(pictures[0].kind, FrameKind::Keyframe);
    }
}

#[test]
fn an_unknown_gop_is_waited_for_and_announced() {
    let source = Source::new(H264_AAC);
    let mut segmenter = start(Packaging::Cmaf, &source, None);
    let items = source.items(0, 9, 50);
    let first_gop = items.iter().take(100).cloned().collect::<Vec<_>>();
    assert!(run(&mut segmenter, &first_gop, source.now).0.is_none(), "nothing before it is known");
    let (last, _) = run(&mut segmenter, &items[100..], source.now);
    let last = last.unwrap();
    assert_eq!(last.targets.segment_s, 2);
    assert!(last.segments.iter().all(|segment| segment.parts[0].independent));
}

#[test]
fn another_publisher_begins_a_new_era_with_its_own_configuration() {
    for packaging in [Packaging::Cmaf, Packaging::Ts] {
        let (first, second) = (Source::new(H264_AAC), Source::new(H265_OPUS));
        let mut segmenter = start(packaging, &first, Some(GOP));
        run(&mut segmenter, &first.items(0, 3, 25), first.now);
        let (last, _) = run(&mut segmenter, &[MediaItem::Offline], first.now);
        let last = last.unwrap();
        assert_eq!(last.next_sequence, 3, "what was left is a segment");
        let left = last.segments.last().map(|segment| segment.duration);
        assert_eq!(left, Some(Duration::from_secs(1)), "{packaging:?}");
        run(&mut segmenter, &[MediaItem::Online { merge_ms: None }], first.now);
        run(&mut segmenter, &[MediaItem::Tracks(second.tracks.clone())], first.now);
        let (last, _) = run(&mut segmenter, &second.items(9000, 3, 25), first.now);
        let last = last.unwrap();
        let marks: Vec<_> = last.segments.iter().map(|segment| segment.discontinuity).collect();
        assert_eq!(marks, [false, false, false, true, false]);
        let ids: Vec<_> = last.segments.iter().map(|segment| segment.init.id).collect();
        assert_eq!(ids, [0, 0, 0, 1, 1]);
        let ended = segmenter.end();
        assert!(ended.ended && ended.open.is_none());
    }
}

#[test]
fn discontinuities_that_leave_the_playlist_are_counted() {
    let source = Source::new(H264_AAC);
    let mut segmenter = start(Packaging::Cmaf, &source, Some(GOP));
    run(&mut segmenter, &source.items(0, 2, 25), source.now);
    let again = [MediaItem::Offline, MediaItem::Online { merge_ms: None }];
    run(&mut segmenter, &again, source.now);
    run(&mut segmenter, &[MediaItem::Tracks(source.tracks.clone())], source.now);
    let (last, _) = run(&mut segmenter, &source.items(5000, 12, 25), source.now);
    let last = last.unwrap();
    assert_eq!(last.discontinuity_sequence, 1);
    assert!(last.listed().iter().all(|segment| !segment.discontinuity));
    assert_eq!(last.inits.len(), 1, "the same configuration serves both publishers");
}

#[test]
fn nothing_is_made_of_what_cannot_be_carried() {
    let source = Source::new(H264_AAC);
    let mut segmenter = Segmenter::new(Packaging::Ts, options(Some(GOP)), 7);
    let mut tracks = Tracks::default();
    tracks.video = source.tracks.video.clone().map(|mut track| {
        track.codec = protocols::media::Codec::LegacyVideo(4);
        track
    });
    run(&mut segmenter, &[MediaItem::Tracks(tracks.shared())], source.now);
    assert!(run(&mut segmenter, &source.items(0, 3, 25), source.now).0.is_none());
}

#[test]
fn a_rendition_tells_its_rates_and_how_far_it_is() {
    for (file, packaging, codecs) in [
        (H264_AAC, Packaging::Cmaf, ["avc1.", "mp4a.40.2"]),
        (H264_AAC, Packaging::Ts, ["avc1.", "mp4a.40.2"]),
        (H265_OPUS, Packaging::Cmaf, ["hvc1.", "Opus"]),
    ] {
        let source = Source::new(file);
        let mut segmenter = start(packaging, &source, Some(GOP));
        assert_eq!(rendition::variant(&segmenter.snapshot(), "x".into()), None);
        assert_eq!(rendition::report(&segmenter.snapshot(), "x".into()), None);
        let (last, _) = run(&mut segmenter, &source.items(0, 6, 25), source.now);
        let last = last.unwrap();
        let variant = rendition::variant(&last, "x_hi.m3u8".into()).unwrap();
        let info = source.tracks.video.as_ref().unwrap().info;
        assert_eq!(variant.resolution, Some((info.width, info.height)));
        assert_eq!((variant.uri.as_str(), variant.codecs.len()), ("x_hi.m3u8", 2));
        for (codec, begin) in variant.codecs.iter().zip(codecs) {
            assert!(codec.starts_with(begin), "{codec}");
        }
        // Every second has the same.
        let bits = last.segments[0].pieces(None).map(Bytes::len).sum::<usize>() as u64 * 8;
        let average = variant.average_bandwidth.unwrap();
        assert!(average.abs_diff(bits) < bits / 20, "{average} {bits}");
        assert!((average..bits * 21 / 20).contains(&variant.bandwidth), "{variant:?}");
        if packaging == Packaging::Cmaf {
            let report = rendition::report(&last, "x_hi.m3u8".into()).unwrap();
            let open = last.open.as_ref().map_or(0, |open| open.parts.len() as u64);
            let expected = if open > 0 { (5, Some(open - 1)) } else { (4, Some(4)) };
            assert_eq!((report.last_media_sequence, report.last_part), expected);
        }
        assert_eq!(rendition::report(&segmenter.end(), "x".into()), None);
    }
}
