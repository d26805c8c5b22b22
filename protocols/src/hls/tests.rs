//! Exact texts, other readers of them, and random live runs before the judge of the test harness.
//!
//! A multivariant playlist with an audio rendition, and media playlists of fragmented MP4, were
//! also given to ffprobe 5.1: `ffprobe -count_packets -show_streams index.m3u8` found every packet.

use std::time::Duration;

use m3u8_rs::Playlist;
use proptest::prelude::*;

use super::*;

// The judge of the end-to-end tests, which knows the rules but not this writer.
#[path = "../../../tests/harness/hls_rules/mod.rs"]
#[allow(unreachable_pub, dead_code)]
mod hls_rules;

use hls_rules::Snapshot;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn part(uri: &str, duration_ms: u64, independent: bool) -> Part {
    Part { uri: uri.to_owned(), duration: ms(duration_ms), independent, gap: false }
}

fn map(uri: &str) -> Option<Map> {
    Some(Map { uri: uri.to_owned(), byte_range: None })
}

fn segment(number: u64, duration_ms: u64) -> Segment {
    Segment {
        head: SegmentHead { map: map("init.mp4"), ..SegmentHead::default() },
        uri: format!("{number}.m4s"),
        duration: ms(duration_ms),
        ..Segment::default()
    }
}

/// Seven segments of 2 s, the last two with parts of 500 ms, and an eighth begun.
fn low_latency() -> MediaPlaylist {
    let parts = |number: u64| {
        (0..4).map(|index| part(&format!("{number}.{index}.m4s"), 500, index == 0)).collect()
    };
    let mut playlist = MediaPlaylist {
        target_duration_s: 2,
        low_latency: Some(LowLatency { part_target: ms(500), part_hold_back: ms(1500) }),
        can_block_reload: true,
        can_skip: true,
        independent_segments: true,
        media_sequence: 100,
        discontinuity_sequence: 1,
        segments: (100..107).map(|number| segment(number, 2000)).collect(),
        open: Some(OpenSegment {
            head: SegmentHead { map: map("init.mp4"), ..SegmentHead::default() },
            parts: vec![part("107.0.m4s", 500, true), part("107.1.m4s", 499, false)],
        }),
        preload_part: Some("107.2.m4s".to_owned()),
        rendition_reports: vec![RenditionReport {
            uri: "../audio/index.m3u8".to_owned(),
            last_media_sequence: 107,
            last_part: Some(1),
        }],
        ..MediaPlaylist::default()
    };
    for (number, segment) in (100..).zip(&mut playlist.segments) {
        segment.parts = parts(number);
        segment.head.program_date_time_ms = Some(1_767_225_600_000 + (number - 100) as i64 * 2000);
    }
    playlist
}

const LOW_LATENCY_HEADER: &str = "#EXTM3U
#EXT-X-VERSION:9
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.00000,PART-HOLD-BACK=1.50000
#EXT-X-PART-INF:PART-TARGET=0.50000
#EXT-X-MEDIA-SEQUENCE:100
#EXT-X-DISCONTINUITY-SEQUENCE:1
";

const LOW_LATENCY_TAIL: &str = "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:10.000Z
#EXT-X-PART:DURATION=0.50000,URI=\"105.0.m4s?token=x\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.50000,URI=\"105.1.m4s?token=x\"
#EXT-X-PART:DURATION=0.50000,URI=\"105.2.m4s?token=x\"
#EXT-X-PART:DURATION=0.50000,URI=\"105.3.m4s?token=x\"
#EXTINF:2.00000,
105.m4s?token=x
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:12.000Z
#EXT-X-PART:DURATION=0.50000,URI=\"106.0.m4s?token=x\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.50000,URI=\"106.1.m4s?token=x\"
#EXT-X-PART:DURATION=0.50000,URI=\"106.2.m4s?token=x\"
#EXT-X-PART:DURATION=0.50000,URI=\"106.3.m4s?token=x\"
#EXTINF:2.00000,
106.m4s?token=x
#EXT-X-PART:DURATION=0.50000,URI=\"107.0.m4s?token=x\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.49900,URI=\"107.1.m4s?token=x\"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"107.2.m4s?token=x\"
#EXT-X-RENDITION-REPORT:URI=\"../audio/index.m3u8?token=x\",LAST-MSN=107,LAST-PART=1
";

#[test]
fn a_low_latency_playlist_in_full() {
    let mut old = String::from("#EXT-X-MAP:URI=\"init.mp4?token=x\"\n");
    for (number, second) in [(100, "00"), (101, "02"), (102, "04"), (103, "06"), (104, "08")] {
        old += &format!(
            "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:{second}.000Z\n\
             #EXTINF:2.00000,\n{number}.m4s?token=x\n"
        );
    }
    let expected = format!("{LOW_LATENCY_HEADER}{old}{LOW_LATENCY_TAIL}");
    assert_eq!(low_latency().render(false, "token=x"), expected);
}

#[test]
fn a_delta_update_keeps_the_header_and_the_last_six_target_durations() {
    let mut playlist = low_latency();
    playlist.segments.push_front(segment(99, 2000));
    playlist.media_sequence = 99;
    let text = playlist.render(true, "");
    let header = LOW_LATENCY_HEADER.replace("SEQUENCE:100", "SEQUENCE:99");
    let start = format!(
        "{header}#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n#EXT-X-MAP:URI=\"init.mp4\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:02.000Z\n#EXTINF:2.00000,\n101.m4s\n"
    );
    assert!(text.starts_with(&start), "{text}");
    assert!(text.ends_with(&LOW_LATENCY_TAIL.replace("?token=x", "")), "{text}");
    playlist.segments.drain(..2);
    let short = playlist.render(true, "");
    assert_eq!(short, playlist.render(false, ""), "nothing lies before the boundary");
}

#[test]
fn a_transport_stream_playlist_in_full() {
    let mut playlist = MediaPlaylist {
        target_duration_s: 4,
        media_sequence: 5,
        segments: [segment(5, 4000), segment(6, 3967), segment(7, 4100)].into(),
        ..MediaPlaylist::default()
    };
    for (segment, name) in playlist.segments.iter_mut().zip(["5.ts", "6.ts", "7.ts"]) {
        segment.head.map = None;
        segment.uri = name.to_owned();
    }
    playlist.segments[1].head.discontinuity = true;
    playlist.segments[1].gap = true;
    let text = playlist.render(true, "");
    let expected = "#EXTM3U
#EXT-X-VERSION:8
#EXT-X-TARGETDURATION:4
#EXT-X-MEDIA-SEQUENCE:5
#EXT-X-DISCONTINUITY-SEQUENCE:0
#EXTINF:4.00000,
5.ts
#EXT-X-DISCONTINUITY
#EXT-X-GAP
#EXTINF:3.96700,
6.ts
#EXTINF:4.10000,
7.ts
";
    assert_eq!(text, expected);
}

#[test]
fn a_recording_in_full() {
    let range = |offset, length| Some(ByteRange { offset, length });
    let at = |map: &str, offset, length| Segment {
        head: SegmentHead {
            map: Some(Map { uri: map.to_owned(), byte_range: range(0, 800) }),
            ..SegmentHead::default()
        },
        uri: map.to_owned(),
        byte_range: range(offset, length),
        duration: ms(2000),
        ..Segment::default()
    };
    let mut segments = [at("a b.mp4", 800, 1000), at("a b.mp4", 1800, 5), at("c.mp4", 800, 7)];
    segments[2].head.discontinuity = true;
    let playlist = MediaPlaylist {
        kind: Kind::Vod,
        start_offset_ms: Some(-1500),
        segments: segments.into(),
        ended: true,
        ..MediaPlaylist::default()
    };
    let expected = "#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:2
#EXT-X-START:TIME-OFFSET=-1.500
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-MAP:URI=\"a%20b.mp4\",BYTERANGE=\"800@0\"
#EXT-X-BYTERANGE:1000@800
#EXTINF:2.00000,
a%20b.mp4
#EXT-X-BYTERANGE:5@1800
#EXTINF:2.00000,
a%20b.mp4
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI=\"c.mp4\",BYTERANGE=\"800@0\"
#EXT-X-BYTERANGE:7@800
#EXTINF:2.00000,
c.mp4
#EXT-X-ENDLIST
";
    assert_eq!(playlist.render(false, ""), expected);
}

#[test]
fn an_ended_playlist_promises_nothing() {
    let playlist = MediaPlaylist { ended: true, open: None, ..low_latency() };
    let text = playlist.render(false, "");
    assert!(text.ends_with("106.m4s\n#EXT-X-ENDLIST\n"), "{text}");
    assert!(!text.contains("PRELOAD-HINT") && !text.contains("RENDITION-REPORT"), "{text}");
}

#[test]
fn a_head_without_parts_and_a_new_map_wait_for_the_first_part() {
    let mut playlist = low_latency();
    let head = SegmentHead { discontinuity: true, map: map("init2.mp4"), ..SegmentHead::default() };
    playlist.open = Some(OpenSegment { head, parts: Vec::new() });
    playlist.preload_map = Some("init2.mp4".to_owned());
    playlist.preload_part = Some("107.0.m4s".to_owned());
    let text = playlist.render(false, "");
    let hints = "106.m4s\n#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"init2.mp4\"\n\
                 #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"107.0.m4s\"\n";
    assert!(text.contains(hints), "{text}");
    playlist.open.as_mut().unwrap().parts.push(part("107.0.m4s", 500, true));
    let text = playlist.render(false, "");
    let head = "106.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init2.mp4\"\n#EXT-X-PART:";
    assert!(text.contains(head), "{text}");
}

#[test]
fn targets_are_never_shorter_than_what_is_there() {
    let playlist = |duration_us| MediaPlaylist {
        target_duration_s: 2,
        segments: [Segment { duration: Duration::from_micros(duration_us), ..segment(0, 0) }]
            .into(),
        hold_back: Some(ms(1)),
        ..MediaPlaylist::default()
    };
    assert_eq!(playlist(2_499_994).target_duration_s(), 2);
    // Written as 2.50000, which a client rounds up.
    assert_eq!(playlist(2_499_995).target_duration_s(), 3);
    let text = playlist(2_499_995).render(false, "");
    assert!(text.contains("#EXT-X-TARGETDURATION:3\n#EXT-X-SERVER-CONTROL:HOLD-BACK=9.00000\n"));
    assert_eq!(MediaPlaylist::default().target_duration_s(), 1);

    let mut low_latency = low_latency();
    low_latency.segments[6].parts[0].duration = ms(600);
    let text = low_latency.render(false, "");
    assert!(text.contains("PART-HOLD-BACK=1.80000\n#EXT-X-PART-INF:PART-TARGET=0.60000\n"));
}

#[test]
fn old_segments_leave_as_far_as_the_window_and_three_target_durations_allow() {
    let mut playlist = low_latency();
    playlist.segments[0].head.discontinuity = true;
    let mut left = std::iter::from_fn(|| playlist.evict(ms(9_000))).map(|segment| segment.uri);
    assert_eq!(left.by_ref().collect::<Vec<_>>(), ["100.m4s", "101.m4s"]);
    assert_eq!((playlist.media_sequence, playlist.discontinuity_sequence), (102, 2));
    assert_eq!(std::iter::from_fn(|| playlist.evict(ms(0))).count(), 2);
    assert_eq!(playlist.duration(), ms(6_000));
    let mut event = MediaPlaylist { kind: Kind::Event, ..low_latency() };
    assert_eq!(event.evict(ms(0)), None);
}

#[test]
fn a_multivariant_playlist_in_full() {
    let playlist = MultivariantPlaylist {
        independent_segments: true,
        audio: vec![AudioRendition {
            group_id: "audio".to_owned(),
            name: "a \"b\"\nc".to_owned(),
            language: Some("en".to_owned()),
            default: true,
            channels: 2,
            uri: Some("audio.m3u8".to_owned()),
        }],
        variants: vec![
            Variant {
                uri: "video.m3u8".to_owned(),
                bandwidth: 2_100_000,
                average_bandwidth: Some(1_800_000),
                codecs: vec!["avc1.640028".to_owned(), "mp4a.40.2".to_owned()],
                resolution: Some((1920, 1080)),
                frame_rate: Some(30_000.0 / 1001.0),
                audio_group: Some("audio".to_owned()),
            },
            Variant { uri: "a.m3u8".to_owned(), bandwidth: 1, ..Variant::default() },
        ],
    };
    let expected = "#EXTM3U
#EXT-X-VERSION:4
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"a 'b' c\",LANGUAGE=\"en\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio.m3u8?t=1\"
#EXT-X-STREAM-INF:BANDWIDTH=2100000,AVERAGE-BANDWIDTH=1800000,CODECS=\"avc1.640028,mp4a.40.2\",RESOLUTION=1920x1080,FRAME-RATE=29.970,AUDIO=\"audio\"
video.m3u8?t=1
#EXT-X-STREAM-INF:BANDWIDTH=1
a.m3u8?t=1
";
    let text = playlist.render("t=1");
    assert_eq!(text, expected);
    let read = m3u8_rs::parse_master_playlist_res(text.as_bytes()).unwrap();
    let [video, sound] = read.variants.as_slice() else { panic!("{read:?}") };
    assert_eq!((video.bandwidth, video.average_bandwidth), (2_100_000, Some(1_800_000)));
    assert_eq!(video.codecs.as_deref(), Some("avc1.640028,mp4a.40.2"));
    assert_eq!((sound.bandwidth, sound.uri.as_str()), (1, "a.m3u8?t=1"));
    assert_eq!(read.alternatives[0].name, "a 'b' c");
}

#[test]
fn directives() {
    let parse = Directives::parse;
    let of = |media_sequence, part, skip| Ok(Directives { media_sequence, part, skip });
    assert_eq!(parse(""), of(None, None, false));
    assert_eq!(parse("token=a&_HLS_msn=7&_HLS_part=0&_HLS_skip=YES"), of(Some(7), Some(0), true));
    assert_eq!(parse("_HLS_skip=v2&_HLS_report=x"), of(None, None, true));
    assert_eq!(parse("_HLS_skip=maybe"), of(None, None, false));
    assert_eq!(parse(&format!("_HLS_msn={}", u64::MAX)), of(Some(u64::MAX), None, false));
    let bad = |name| Err(DirectiveError::BadNumber(name));
    for value in
        ["", "-1", "+1", "1.0", " 1", "%31", "18446744073709551616", "000000000000000000001"]
    {
        assert_eq!(parse(&format!("_HLS_msn={value}")), bad("_HLS_msn"), "{value}");
    }
    assert_eq!(parse("_HLS_msn=1&_HLS_part"), bad("_HLS_part"));
    assert_eq!(parse("_HLS_part=1"), Err(DirectiveError::PartAlone));
    assert_eq!(parse("_HLS_msn=1&_HLS_msn=1"), Err(DirectiveError::Repeated("_HLS_msn")));
    let long = format!("token={}", "x".repeat(8 * 1024));
    assert_eq!(parse(&long), Err(DirectiveError::QueryTooLong(long.len())));

    assert_eq!(without_directives("_HLS_msn=1&token=a&_HLS_skip=YES&&b"), "token=a&b");
    assert_eq!(without_directives("_HLS_msn=1"), "");
}

#[test]
fn when_to_answer() {
    // 100 to 106 are whole with four parts each, 107 has two parts, the part target is 500 ms.
    let edge = low_latency().live_edge();
    let expected = LiveEdge {
        next_media_sequence: 107,
        open_parts: 2,
        last_parts: 4,
        part_target: Some(ms(500)),
        ended: false,
    };
    assert_eq!(edge, expected);
    let wait = |media_sequence, part| Decision::Wait { media_sequence, part };
    let (answer, too_far) = (Decision::Answer, Decision::TooFarAhead);
    for (media_sequence, part, expected) in [
        (None, None, answer),
        (Some(0), None, answer),
        (Some(3), Some(99), answer),
        (Some(106), None, answer),
        (Some(106), Some(3), answer),
        // 106 has no part 4: that is part 0 of 107, which is there.
        (Some(106), Some(4), answer),
        (Some(107), None, wait(107, None)),
        (Some(107), Some(1), answer),
        (Some(107), Some(2), wait(107, Some(2))),
        (Some(107), Some(7), wait(107, Some(7))),
        (Some(107), Some(8), too_far),
        (Some(107), Some(u64::MAX), too_far),
        (Some(108), None, wait(108, None)),
        (Some(108), Some(0), wait(108, Some(0))),
        (Some(108), Some(6), too_far),
        (Some(109), None, too_far),
        (Some(109), Some(0), too_far),
        (Some(1 << 63), None, too_far),
        (Some(u64::MAX), Some(u64::MAX), too_far),
    ] {
        let directives = Directives { media_sequence, part, skip: false };
        assert_eq!(decide(&directives, &edge), expected, "{media_sequence:?} {part:?}");
        let ended = LiveEdge { ended: true, ..edge };
        assert_eq!(decide(&directives, &ended), answer, "ended, {media_sequence:?} {part:?}");
    }
    let asked = |media_sequence, part| Directives {
        media_sequence: Some(media_sequence),
        part,
        skip: false,
    };
    let closed = LiveEdge { open_parts: 0, ..edge };
    assert_eq!(decide(&asked(106, Some(4)), &closed), wait(107, Some(0)));
    assert_eq!(decide(&asked(105, Some(4)), &closed), answer);
    let whole = LiveEdge { part_target: None, open_parts: 0, last_parts: 0, ..edge };
    assert_eq!(decide(&asked(107, Some(3)), &whole), wait(107, None));
    assert_eq!(decide(&asked(106, Some(3)), &whole), answer);
    assert_eq!(decide(&asked(1, None), &LiveEdge::default()), wait(1, None));
    assert_eq!(decide(&asked(2, None), &LiveEdge::default()), too_far);
}

/// The part target of live runs: its third decimal is not its last.
const PART_US: u64 = 333_335;

/// One step of a live run.
#[derive(Debug, Clone)]
enum Step {
    /// A part of a full part target.
    Part,
    /// The last part of a segment, of so many microseconds, and whether the next segment is cut
    /// off from this one.
    Close(u64, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let close =
        (1_000..=PART_US, prop::bool::weighted(0.1)).prop_map(|(last, cut)| Step::Close(last, cut));
    prop::collection::vec(prop_oneof![3 => Just(Step::Part), 2 => close], 50..200)
}

/// A segmenter without media: it plays the steps and hands out the playlist after each.
struct Run {
    playlist: MediaPlaylist,
    head: SegmentHead,
    clock_us: i64,
}

impl Run {
    const PARTS_MAX: u64 = 9;

    fn new() -> Self {
        let mut playlist = low_latency();
        playlist.target_duration_s = 3;
        let part_target = Duration::from_micros(PART_US);
        playlist.low_latency = Some(LowLatency { part_target, part_hold_back: ms(0) });
        playlist.segments.clear();
        playlist.rendition_reports.clear();
        (playlist.media_sequence, playlist.discontinuity_sequence) = (0, 0);
        let head =
            SegmentHead { program_date_time_ms: Some(0), map: map("0.mp4"), discontinuity: false };
        playlist.open = Some(OpenSegment { head: head.clone(), parts: Vec::new() });
        let mut run = Self { playlist, head, clock_us: 0 };
        run.hint();
        run
    }

    fn number(&self) -> u64 {
        self.playlist.live_edge().next_media_sequence
    }

    fn hint(&mut self) {
        let (number, index) = (self.number(), self.playlist.live_edge().open_parts);
        self.playlist.preload_part = Some(format!("{number}.{index}.m4s"));
    }

    fn part(&mut self, duration_us: u64) {
        let uri = self.playlist.preload_part.take().unwrap();
        let open = self.playlist.open.as_mut().unwrap();
        let duration = Duration::from_micros(duration_us);
        open.parts.push(Part { duration, ..part(&uri, 0, open.parts.is_empty()) });
        self.clock_us += duration_us as i64;
    }

    fn step(&mut self, step: &Step) {
        let full = self.playlist.live_edge().open_parts >= Self::PARTS_MAX;
        match step {
            Step::Part if !full => self.part(PART_US),
            Step::Part => self.close(PART_US, false),
            Step::Close(last_us, cut) => self.close(*last_us, *cut),
        }
        self.hint();
        while self.playlist.evict(ms(20_000)).is_some() {}
    }

    fn close(&mut self, last_us: u64, cut: bool) {
        self.part(last_us);
        let number = self.number();
        let OpenSegment { head, parts } = self.playlist.open.take().unwrap();
        let duration = parts.iter().map(|part| part.duration).sum();
        self.playlist.segments.push_back(Segment {
            head,
            uri: format!("{number}.m4s"),
            duration,
            parts,
            ..Segment::default()
        });
        if cut {
            self.clock_us += 60_000_000;
            self.head.map = map(&format!("{}.mp4", number + 1));
        }
        self.head.discontinuity = cut;
        self.head.program_date_time_ms = Some(self.clock_us / 1000);
        self.playlist.open = Some(OpenSegment { head: self.head.clone(), parts: Vec::new() });
    }
}

/// Segments and their numbers as m3u8-rs reads them, without skipped ones.
fn read(text: &str) -> m3u8_rs::MediaPlaylist {
    match m3u8_rs::parse_playlist_res(text.as_bytes()) {
        Ok(Playlist::MediaPlaylist(playlist)) => playlist,
        other => panic!("{other:?}\n{text}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_live_run_keeps_the_rules(steps in steps(), skips in any::<u64>()) {
        let mut run = Run::new();
        let mut texts = vec![run.playlist.render(false, "t=1")];
        for (index, step) in steps.iter().enumerate() {
            run.step(step);
            texts.push(run.playlist.render(skips >> (index % 64) & 1 == 1, "t=1"));
        }
        run.playlist.ended = true;
        run.playlist.open = None;
        let snapshot = |(index, text): (usize, &String)| (index as u64 * 500, text.clone());
        let timed: Vec<_> = texts.iter().enumerate().map(snapshot).collect();
        let snapshots: Vec<_> =
            timed.iter().map(|(at_ms, text)| Snapshot { at_ms: *at_ms, text }).collect();
        let findings = hls_rules::check(&snapshots);
        prop_assert!(findings.is_empty(), "{:#?}\n{}", findings, texts[findings[0].snapshot]);
    }

    #[test]
    fn another_reader_sees_what_was_written(steps in steps()) {
        let mut run = Run::new();
        steps.iter().for_each(|step| run.step(step));
        let playlist = &run.playlist;
        let (full, delta) = (playlist.render(false, ""), playlist.render(true, ""));
        let (read_full, read_delta) = (read(&full), read(&delta));
        prop_assert_eq!(read_full.media_sequence, playlist.media_sequence);
        prop_assert_eq!(read_full.discontinuity_sequence, playlist.discontinuity_sequence);
        prop_assert_eq!(read_full.target_duration, playlist.target_duration_s());
        prop_assert_eq!(read_full.segments.len(), playlist.segments.len());
        for (read, written) in read_full.segments.iter().zip(&playlist.segments) {
            prop_assert_eq!(&read.uri, &written.uri);
            prop_assert!((f64::from(read.duration) - written.duration.as_secs_f64()).abs() < 1e-4);
            prop_assert_eq!(read.discontinuity, written.head.discontinuity);
            let date = read.program_date_time.map(|date| date.timestamp_millis());
            prop_assert_eq!(date, written.head.program_date_time_ms);
        }
        // What a delta update lists is the end of what the full playlist lists.
        let skipped = full.matches("#EXTINF").count() - delta.matches("#EXTINF").count();
        let tag = format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n");
        prop_assert_eq!(skipped > 0, delta.contains(&tag));
        let uris = |read: &m3u8_rs::MediaPlaylist| -> Vec<String> {
            read.segments.iter().map(|segment| segment.uri.clone()).collect()
        };
        prop_assert_eq!(&uris(&read_full)[skipped..], uris(&read_delta));
    }

    #[test]
    fn no_query_or_name_adds_a_line(uri in ".{0,40}", query in ".{0,40}") {
        let mut playlist = low_latency();
        let lines = playlist.render(false, "").lines().count();
        playlist.segments[0].uri.clone_from(&uri);
        playlist.preload_part = Some(uri);
        let text = playlist.render(false, &query);
        prop_assert_eq!(text.lines().count(), lines, "{}", text);
        prop_assert!(text.is_ascii());
    }

    #[test]
    fn an_answer_holds_what_was_asked(
        steps in steps(),
        asked in 0..60_u64,
        part in prop::option::of(0..9_u64),
    ) {
        let mut run = Run::new();
        let directives = Directives { media_sequence: Some(asked), part, skip: false };
        for step in &steps {
            run.step(step);
            let edge = run.playlist.live_edge();
            let there = match part {
                None => asked < edge.next_media_sequence,
                // A part beyond its segment is the first of the next.
                Some(part) => {
                    let next = edge.next_media_sequence;
                    let last = asked + 1 == next && part >= edge.last_parts;
                    (asked < next && !(last && edge.open_parts == 0))
                        || (asked == next && part < edge.open_parts)
                }
            };
            prop_assert_eq!(decide(&directives, &edge) == Decision::Answer, there);
        }
    }
}
