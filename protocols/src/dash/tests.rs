//! Exact texts, and random presentations read back with another XML parser.
//!
//! The texts below were also given to ffprobe 5.1 with media of that shape (`ffprobe -count_packets
//! -show_streams live.mpd`), to ffmpeg as a live player against a server that holds requests for
//! the next segment, and to the parsers of dash-mpd-core 0.1, mpd-parser 1.4 and mpegdash 0.4.

use std::time::Duration;

use proptest::prelude::*;
use quick_xml::Reader;
use quick_xml::events::Event;

use super::*;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const VIDEO: Media = Media::Video { width: 1280, height: 720, frame_rate: 30.0 };
const AUDIO: Media = Media::Audio { sample_rate: 48_000, channels: 2 };

fn set(id: u32, codecs: &str, media: Media, segments: Segments) -> AdaptationSet {
    AdaptationSet {
        id,
        language: None,
        producer_reference_time: None,
        representations: vec![Representation {
            id: format!("r{id}"),
            codecs: codecs.to_owned(),
            bandwidth: 1_500_000,
            media,
            segments,
        }],
    }
}

fn segments(timescale: u32, addressing: Addressing) -> Segments {
    Segments { timescale, presentation_time_offset: 0, availability_time_offset: None, addressing }
}

fn timeline(segments: &[(u64, u64)]) -> Addressing {
    let at = |&(time, duration)| TimelineSegment { time, duration };
    Addressing::Timeline {
        initialization: "$RepresentationID$/init.mp4".to_owned(),
        media: "$RepresentationID$/$Number$.m4s".to_owned(),
        start_number: 7,
        segments: segments.iter().map(at).collect(),
    }
}

fn dynamic() -> Dynamic {
    Dynamic {
        availability_start_time_ms: 1_767_225_600_000,
        publish_time_ms: 1_767_225_660_250,
        minimum_update_period: None,
        time_shift_buffer_depth: Some(s(30)),
        suggested_presentation_delay: None,
        latency: None,
        utc_timing: Vec::new(),
    }
}

fn mpd(presentation: Presentation, periods: Vec<Period>) -> Mpd {
    Mpd { presentation, min_buffer_time: s(1), max_segment_duration: None, periods }
}

fn period(id: &str, adaptation_sets: Vec<AdaptationSet>) -> Period {
    Period { id: id.to_owned(), start: Duration::ZERO, duration: None, adaptation_sets }
}

#[test]
fn a_low_latency_live_mpd_in_full() {
    let low_latency = |timescale, duration| Segments {
        timescale,
        presentation_time_offset: 3_000,
        availability_time_offset: Some(ms(1_750)),
        addressing: Addressing::Numbers {
            initialization: "$RepresentationID$/init.mp4".to_owned(),
            media: "$RepresentationID$/$Number$.m4s".to_owned(),
            start_number: 100,
            duration,
        },
    };
    let mut video = set(0, "avc1.64001f", VIDEO, low_latency(90_000, 180_000));
    video.producer_reference_time = Some(ProducerReferenceTime {
        wall_clock_ms: 1_767_225_600_123,
        presentation_time: 3_000,
        inband: true,
    });
    let mut audio = set(1, "mp4a.40.2", AUDIO, low_latency(48_000, 96_000));
    audio.language = Some("en".to_owned());
    let live = Dynamic {
        suggested_presentation_delay: Some(ms(2_500)),
        latency: Some(Latency {
            target: ms(2_500),
            min: Some(s(1)),
            max: Some(s(6)),
            playback_rate: Some((0.96, 1.04)),
        }),
        utc_timing: vec![
            UtcTiming::HttpIso("/api/v1/time?x=\"1\"&y".to_owned()),
            UtcTiming::Direct(1_767_225_660_251),
        ],
        ..dynamic()
    };
    let mut mpd = mpd(Presentation::Dynamic(live), vec![period("p0", vec![video, audio])]);
    mpd.max_segment_duration = Some(s(2));
    let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="dynamic" availabilityStartTime="2026-01-01T00:00:00.000Z" publishTime="2026-01-01T00:01:00.250Z" timeShiftBufferDepth="PT30S" suggestedPresentationDelay="PT2.5S" minBufferTime="PT1S" maxSegmentDuration="PT2S">
<ServiceDescription id="0">
<Latency target="2500" min="1000" max="6000"/>
<PlaybackRate min="0.96" max="1.04"/>
</ServiceDescription>
<Period id="p0" start="PT0S">
<AdaptationSet id="0" contentType="video" mimeType="video/mp4" segmentAlignment="true" startWithSAP="1">
<ProducerReferenceTime id="0" inband="true" type="encoder" wallClockTime="2026-01-01T00:00:00.123Z" presentationTime="3000"/>
<Role schemeIdUri="urn:mpeg:dash:role:2011" value="main"/>
<Representation id="r0" codecs="avc1.64001f" bandwidth="1500000" width="1280" height="720" frameRate="30">
<SegmentTemplate timescale="90000" presentationTimeOffset="3000" availabilityTimeOffset="1.75" availabilityTimeComplete="false" duration="180000" startNumber="100" initialization="$RepresentationID$/init.mp4?t=a&amp;u=%24" media="$RepresentationID$/$Number$.m4s?t=a&amp;u=%24"/>
</Representation>
</AdaptationSet>
<AdaptationSet id="1" contentType="audio" mimeType="audio/mp4" lang="en" segmentAlignment="true" startWithSAP="1">
<Role schemeIdUri="urn:mpeg:dash:role:2011" value="main"/>
<Representation id="r1" codecs="mp4a.40.2" bandwidth="1500000" audioSamplingRate="48000">
<AudioChannelConfiguration schemeIdUri="urn:mpeg:dash:23003:3:audio_channel_configuration:2011" value="2"/>
<SegmentTemplate timescale="48000" presentationTimeOffset="3000" availabilityTimeOffset="1.75" availabilityTimeComplete="false" duration="96000" startNumber="100" initialization="$RepresentationID$/init.mp4?t=a&amp;u=%24" media="$RepresentationID$/$Number$.m4s?t=a&amp;u=%24"/>
</Representation>
</AdaptationSet>
</Period>
<UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-iso:2014" value="/api/v1/time?x=%221%22&amp;y"/>
<UTCTiming schemeIdUri="urn:mpeg:dash:utc:direct:2014" value="2026-01-01T00:01:00.251Z"/>
</MPD>
"#;
    assert_eq!(mpd.render("t=a&u=$"), expected);
}

#[test]
fn a_live_mpd_of_two_periods_in_full() {
    let times = [(0, 2_000), (2_000, 2_000), (4_000, 1_500), (6_000, 2_000), (8_000, 2_000)];
    let first = set(0, "hvc1.1.6.L93.B0", VIDEO, segments(1000, timeline(&times)));
    let second = Segments {
        presentation_time_offset: 500,
        ..segments(1000, timeline(&[(500, 2_000), (2_500, 2_000), (4_500, 2_000)]))
    };
    let live = Dynamic { minimum_update_period: Some(s(2)), ..dynamic() };
    let periods = vec![
        Period { duration: Some(s(10)), ..period("a<b", vec![first]) },
        Period { start: s(10), ..period("b", vec![set(0, "hvc1.1.6.L93.B0", VIDEO, second)]) },
    ];
    let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="dynamic" availabilityStartTime="2026-01-01T00:00:00.000Z" publishTime="2026-01-01T00:01:00.250Z" minimumUpdatePeriod="PT2S" timeShiftBufferDepth="PT30S" minBufferTime="PT1S">
<Period id="a&lt;b" start="PT0S" duration="PT10S">
<AdaptationSet id="0" contentType="video" mimeType="video/mp4" segmentAlignment="true" startWithSAP="1">
<Role schemeIdUri="urn:mpeg:dash:role:2011" value="main"/>
<Representation id="r0" codecs="hvc1.1.6.L93.B0" bandwidth="1500000" width="1280" height="720" frameRate="30">
<SegmentTemplate timescale="1000" startNumber="7" initialization="$RepresentationID$/init.mp4" media="$RepresentationID$/$Number$.m4s">
<SegmentTimeline>
<S t="0" d="2000" r="1"/>
<S d="1500"/>
<S t="6000" d="2000" r="1"/>
</SegmentTimeline>
</SegmentTemplate>
</Representation>
</AdaptationSet>
</Period>
<Period id="b" start="PT10S">
<AdaptationSet id="0" contentType="video" mimeType="video/mp4" segmentAlignment="true" startWithSAP="1">
<Role schemeIdUri="urn:mpeg:dash:role:2011" value="main"/>
<Representation id="r0" codecs="hvc1.1.6.L93.B0" bandwidth="1500000" width="1280" height="720" frameRate="30">
<SegmentTemplate timescale="1000" presentationTimeOffset="500" startNumber="7" initialization="$RepresentationID$/init.mp4" media="$RepresentationID$/$Number$.m4s">
<SegmentTimeline>
<S t="500" d="2000" r="2"/>
</SegmentTimeline>
</SegmentTemplate>
</Representation>
</AdaptationSet>
</Period>
</MPD>
"#;
    assert_eq!(mpd(Presentation::Dynamic(live), periods).render(""), expected);
}

#[test]
fn a_recording_in_one_file_in_full() {
    let listed = |time, duration, offset, length| ListedSegment {
        timeline: TimelineSegment { time, duration },
        range: ByteRange { offset, length },
    };
    let list = Addressing::List {
        file: "2026-01-01 a&b.mp4".to_owned(),
        initialization: ByteRange { offset: 0, length: 800 },
        segments: vec![listed(0, 96_256, 800, 1_000), listed(96_256, 96_256, 1_800, 1)],
    };
    let audio = Media::Audio { sample_rate: 0, channels: 0 };
    let periods = vec![period("0", vec![set(3, "opus", audio, segments(48_000, list))])];
    let mpd = mpd(Presentation::Static(ms(4_011)), periods);
    let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-main:2011" type="static" mediaPresentationDuration="PT4.011S" minBufferTime="PT1S">
<Period id="0" start="PT0S">
<AdaptationSet id="3" contentType="audio" mimeType="audio/mp4" segmentAlignment="true" startWithSAP="1">
<Role schemeIdUri="urn:mpeg:dash:role:2011" value="main"/>
<Representation id="r3" codecs="opus" bandwidth="1500000">
<BaseURL>2026-01-01%20a&amp;b.mp4?t=1</BaseURL>
<SegmentList timescale="48000">
<Initialization range="0-799"/>
<SegmentTimeline>
<S t="0" d="96256" r="1"/>
</SegmentTimeline>
<SegmentURL mediaRange="800-1799"/>
<SegmentURL mediaRange="1800-1800"/>
</SegmentList>
</Representation>
</AdaptationSet>
</Period>
</MPD>
"#;
    assert_eq!(mpd.render("t=1"), expected);
}

#[test]
fn numbers_have_the_forms_players_know() {
    let with = |frame_rate, min_buffer_time| {
        let media = Media::Video { width: 0, height: 0, frame_rate };
        let sets = vec![set(0, "avc1", media, segments(1, timeline(&[])))];
        let mut mpd = mpd(Presentation::Static(s(3_600)), vec![period("0", sets)]);
        mpd.min_buffer_time = min_buffer_time;
        mpd.render("")
    };
    for (rate, expected) in [
        (25.0, Some("25")),
        (29.97, Some("30000/1001")),
        (30_000.0 / 1001.0, Some("30000/1001")),
        (23.976, Some("24000/1001")),
        (59.94, Some("60000/1001")),
        (12.5, Some("12500/1000")),
        (0.25, Some("250/1000")),
        (0.0, None),
        (f64::NAN, None),
        (f64::INFINITY, None),
    ] {
        let text = with(rate, s(1));
        let attribute = expected.map(|rate| format!(" frameRate=\"{rate}\">"));
        assert!(attribute.is_none_or(|attribute| text.contains(&attribute)), "{rate}: {text}");
        assert_eq!(text.contains("frameRate"), expected.is_some(), "{rate}");
    }
    for (duration, expected) in [
        (ms(0), "PT0S"),
        (ms(1_500), "PT1.5S"),
        (ms(1_050), "PT1.05S"),
        (Duration::from_micros(999_600), "PT1S"),
        (ms(86_400_001), "PT86400.001S"),
    ] {
        let attribute = format!("minBufferTime=\"{expected}\"");
        assert!(with(25.0, duration).contains(&attribute), "{expected}");
    }
}

#[test]
fn the_window_is_no_longer_than_the_presentation_is_old() {
    let depth = |age_ms: i64, depth| {
        let live = Dynamic {
            publish_time_ms: 1_767_225_600_000 + age_ms,
            time_shift_buffer_depth: depth,
            ..dynamic()
        };
        let text = mpd(Presentation::Dynamic(live), Vec::new()).render("");
        value(&elements(&text, "MPD")[0], "timeShiftBufferDepth")
    };
    assert_eq!(depth(30_000, Some(s(30))).as_deref(), Some("PT30S"));
    assert_eq!(depth(29_999, Some(s(30))).as_deref(), Some("PT29.999S"));
    assert_eq!(depth(-1, Some(s(30))).as_deref(), Some("PT0S"));
    assert_eq!(depth(30_000, None), None);
}

/// Attributes of every element of a name, in the order of the document; fails on what is not
/// well-formed.
fn elements(text: &str, wanted: &str) -> Vec<Vec<(String, String)>> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = true;
    let mut found = Vec::new();
    let mut open = 0_i32;
    loop {
        let event = reader.read_event().expect("well-formed");
        let element = match &event {
            Event::Start(element) => {
                open += 1;
                element
            }
            Event::Empty(element) => element,
            Event::End(_) => {
                open -= 1;
                continue;
            }
            Event::Eof => {
                assert_eq!(open, 0, "{text}");
                return found;
            }
            _ => continue,
        };
        if element.name().as_ref() == wanted {
            let attributes = element.attributes().map(|attribute| {
                let attribute = attribute.expect("an attribute");
                let value = quick_xml::escape::unescape(&attribute.value).expect("escapes");
                (attribute.key.as_ref().to_owned(), value.into_owned())
            });
            found.push(attributes.collect());
        }
    }
}

fn value(element: &[(String, String)], name: &str) -> Option<String> {
    element.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

proptest! {
    #[test]
    fn a_timeline_says_what_was_given(
        runs in prop::collection::vec((0..3_u64, 1..5_u64, 1..6_usize), 0..40),
        start in 0..u64::MAX / 2,
    ) {
        // Runs of equal durations, some after a gap.
        let mut given = Vec::new();
        let mut time = start;
        for (gap, duration, count) in runs {
            time += gap / 2;
            for _ in 0..count {
                given.push((time, duration));
                time += duration;
            }
        }
        let sets = vec![set(0, "avc1", VIDEO, segments(1000, timeline(&given)))];
        let text = mpd(Presentation::Static(s(1)), vec![period("0", sets)]).render("");
        let mut read = Vec::new();
        let mut next = 0;
        let runs = elements(&text, "S");
        for run in &runs {
            let number = |name| value(run, name).map(|value| value.parse::<u64>().unwrap());
            next = number("t").unwrap_or(next);
            let duration = number("d").unwrap();
            for _ in 0..=number("r").unwrap_or(0) {
                read.push((next, duration));
                next += duration;
            }
        }
        prop_assert_eq!(&read, &given);
        // As few as there can be: no run goes on where the one before ends.
        for pair in runs.windows(2) {
            let same = value(&pair[0], "d") == value(&pair[1], "d");
            prop_assert!(!same || value(&pair[1], "t").is_some());
        }
    }

    #[test]
    fn any_text_stays_inside_its_attribute(id in ".{0,30}", codecs in ".{0,30}", uri in ".{0,30}") {
        let sets = vec![set(0, &codecs, VIDEO, segments(1, Addressing::List {
            file: uri.clone(),
            initialization: ByteRange { offset: 0, length: 1 },
            segments: Vec::new(),
        }))];
        let text = mpd(Presentation::Dynamic(Dynamic {
            utc_timing: vec![UtcTiming::HttpIso(uri)],
            ..dynamic()
        }), vec![period(&id, sets)]).render(&codecs);
        let plain = |text: &str| -> String {
            text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
        };
        prop_assert_eq!(elements(&text, "Period").len(), 1);
        prop_assert_eq!(value(&elements(&text, "Period")[0], "id"), Some(plain(&id)));
        prop_assert_eq!(
            value(&elements(&text, "Representation")[0], "codecs"),
            Some(plain(&codecs))
        );
        prop_assert_eq!(elements(&text, "UTCTiming").len(), 1);
    }
}

#[test]
fn no_segment_is_longer_than_what_is_said() {
    let timeline = |duration| Segments {
        timescale: 48_000,
        presentation_time_offset: 0,
        availability_time_offset: None,
        addressing: Addressing::Timeline {
            initialization: "init".to_owned(),
            media: "$Number$".to_owned(),
            start_number: 0,
            segments: vec![TimelineSegment { time: 0, duration }],
        },
    };
    assert_eq!(timeline(48_128).longest(), Some(Duration::from_millis(1003)));
    assert_eq!(timeline(48_000).longest(), Some(s(1)));
}
