//! The text of an MPD: which elements and attributes, in the order of the schema.

use std::fmt::Display;
use std::time::Duration;

use super::mpd::{
    AdaptationSet, Addressing, ByteRange, Dynamic, Latency, Media, Mpd, Period, Presentation,
    Representation, Segments, TimelineSegment, UtcTiming,
};
use super::xml::Xml;
use crate::text::{date_time, push_uri};

impl Mpd {
    /// The MPD as text. `query` goes with every URI of a segment, so that a viewer's token reaches
    /// it.
    pub fn render(&self, query: &str) -> String {
        let mut xml = Xml::new();
        xml.start("MPD")
            .attribute("xmlns", "urn:mpeg:dash:schema:mpd:2011")
            .attribute("profiles", self.profile());
        let dynamic = match &self.presentation {
            Presentation::Static(duration) => {
                xml.attribute("type", "static")
                    .attribute("mediaPresentationDuration", XsDuration(*duration));
                None
            }
            Presentation::Dynamic(dynamic) => {
                dynamic.attributes(&mut xml);
                Some(dynamic)
            }
        };
        xml.attribute("minBufferTime", XsDuration(self.min_buffer_time))
            .optional("maxSegmentDuration", self.max_segment_duration().map(XsDuration));
        if let Some(latency) = dynamic.and_then(|dynamic| dynamic.latency) {
            latency.element(&mut xml);
        }
        self.periods.iter().for_each(|period| period.element(&mut xml, query));
        dynamic
            .iter()
            .flat_map(|dynamic| &dynamic.utc_timing)
            .for_each(|utc| utc.element(&mut xml));
        xml.finish()
    }

    /// No segment of any representation is longer (5.3.1.2): sound is cut where its frames end, which
    /// may be a frame beyond the pictures.
    fn max_segment_duration(&self) -> Option<Duration> {
        let sets = self.periods.iter().flat_map(|period| &period.adaptation_sets);
        let all = sets.flat_map(|set| &set.representations);
        let longest = all.filter_map(|one| one.segments.longest()).max();
        self.max_segment_duration.map(|told| longest.map_or(told, |longest| longest.max(told)))
    }

    /// Lists of segments are not in the live profile.
    fn profile(&self) -> &'static str {
        let sets = self.periods.iter().flat_map(|period| &period.adaptation_sets);
        let mut all = sets.flat_map(|set| &set.representations);
        if all.any(|one| matches!(one.segments.addressing, Addressing::List { .. })) {
            "urn:mpeg:dash:profile:isoff-main:2011"
        } else {
            "urn:mpeg:dash:profile:isoff-live:2011"
        }
    }
}

impl Dynamic {
    /// The window, no longer than the presentation is old: ffmpeg takes the difference, in whole
    /// seconds, as unsigned, and with a longer one reads the same segment over and over.
    fn time_shift_buffer_depth(&self) -> Option<Duration> {
        let age_ms = self.publish_time_ms.saturating_sub(self.availability_start_time_ms);
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
        self.time_shift_buffer_depth.map(|depth| depth.min(age))
    }

    fn attributes(&self, xml: &mut Xml) {
        xml.attribute("type", "dynamic")
            .attribute("availabilityStartTime", date_time(self.availability_start_time_ms))
            .attribute("publishTime", date_time(self.publish_time_ms))
            .optional("minimumUpdatePeriod", self.minimum_update_period.map(XsDuration))
            .optional("timeShiftBufferDepth", self.time_shift_buffer_depth().map(XsDuration))
            .optional(
                "suggestedPresentationDelay",
                self.suggested_presentation_delay.map(XsDuration),
            );
    }
}

impl Latency {
    fn element(&self, xml: &mut Xml) {
        let ms = |duration: Duration| duration.as_millis();
        xml.start("ServiceDescription").attribute("id", 0);
        xml.start("Latency")
            .attribute("target", ms(self.target))
            .optional("min", self.min.map(ms))
            .optional("max", self.max.map(ms))
            .end();
        if let Some((min, max)) = self.playback_rate {
            xml.start("PlaybackRate").attribute("min", min).attribute("max", max).end();
        }
        xml.end();
    }
}

impl UtcTiming {
    fn element(&self, xml: &mut Xml) {
        xml.start("UTCTiming");
        match self {
            Self::Direct(unix_ms) => xml
                .attribute("schemeIdUri", "urn:mpeg:dash:utc:direct:2014")
                .attribute("value", date_time(*unix_ms)),
            Self::HttpIso(url) => {
                let mut value = String::new();
                push_uri(&mut value, url, "");
                xml.attribute("schemeIdUri", "urn:mpeg:dash:utc:http-iso:2014")
                    .attribute("value", value)
            }
        };
        xml.end();
    }
}

impl Period {
    fn element(&self, xml: &mut Xml, query: &str) {
        xml.start("Period")
            .attribute("id", &self.id)
            .attribute("start", XsDuration(self.start))
            .optional("duration", self.duration.map(XsDuration));
        self.adaptation_sets.iter().for_each(|set| set.element(xml, query));
        xml.end();
    }
}

impl AdaptationSet {
    fn element(&self, xml: &mut Xml, query: &str) {
        let audio = matches!(
            self.representations.first().map(|first| first.media),
            Some(Media::Audio { .. })
        );
        let (content_type, mime_type) =
            if audio { ("audio", "audio/mp4") } else { ("video", "video/mp4") };
        xml.start("AdaptationSet")
            .attribute("id", self.id)
            .attribute("contentType", content_type)
            .attribute("mimeType", mime_type)
            .optional("lang", self.language.as_deref())
            .attribute("segmentAlignment", "true")
            .attribute("startWithSAP", 1);
        if let Some(time) = self.producer_reference_time {
            xml.start("ProducerReferenceTime")
                .attribute("id", 0)
                .attribute("inband", time.inband)
                .attribute("type", "encoder")
                .attribute("wallClockTime", date_time(time.wall_clock_ms))
                .attribute("presentationTime", time.presentation_time)
                .end();
        }
        xml.start("Role")
            .attribute("schemeIdUri", "urn:mpeg:dash:role:2011")
            .attribute("value", "main")
            .end();
        self.representations.iter().for_each(|one| one.element(xml, query));
        xml.end();
    }
}

impl Representation {
    fn element(&self, xml: &mut Xml, query: &str) {
        let known = |value: u32| (value > 0).then_some(value);
        xml.start("Representation")
            .attribute("id", &self.id)
            .attribute("codecs", &self.codecs)
            // An `xs:unsignedInt`.
            .attribute("bandwidth", self.bandwidth.min(u32::MAX.into()));
        match self.media {
            Media::Video { width, height, frame_rate } => {
                xml.optional("width", known(width))
                    .optional("height", known(height))
                    .optional("frameRate", fraction(frame_rate));
            }
            Media::Audio { sample_rate, channels } => {
                xml.optional("audioSamplingRate", known(sample_rate));
                if channels > 0 {
                    const SCHEME: &str = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011";
                    xml.start("AudioChannelConfiguration")
                        .attribute("schemeIdUri", SCHEME)
                        .attribute("value", channels)
                        .end();
                }
            }
        }
        self.segments.element(xml, query);
        xml.end();
    }
}

impl Segments {
    fn element(&self, xml: &mut Xml, query: &str) {
        let reference = |text: &str| {
            let mut out = String::new();
            push_uri(&mut out, text, query);
            out
        };
        match &self.addressing {
            Addressing::Numbers { initialization, media, start_number, duration } => {
                self.attributes(xml.start("SegmentTemplate"))
                    .attribute("duration", duration)
                    .attribute("startNumber", start_number)
                    .attribute("initialization", reference(initialization))
                    .attribute("media", reference(media));
            }
            Addressing::Timeline { initialization, media, start_number, segments } => {
                self.attributes(xml.start("SegmentTemplate"))
                    .attribute("startNumber", start_number)
                    .attribute("initialization", reference(initialization))
                    .attribute("media", reference(media));
                timeline(xml, segments.iter().copied());
            }
            Addressing::List { file, initialization, segments } => {
                xml.text_element("BaseURL", &reference(file));
                self.attributes(xml.start("SegmentList"));
                xml.start("Initialization").attribute("range", range(*initialization)).end();
                timeline(xml, segments.iter().map(|segment| segment.timeline));
                for segment in segments {
                    xml.start("SegmentURL").attribute("mediaRange", range(segment.range)).end();
                }
            }
        }
        xml.end();
    }

    fn attributes<'a>(&self, xml: &'a mut Xml) -> &'a mut Xml {
        let offset = self.presentation_time_offset;
        let early = self.availability_time_offset;
        xml.attribute("timescale", self.timescale)
            .optional("presentationTimeOffset", (offset > 0).then_some(offset))
            .optional("availabilityTimeOffset", early.map(Seconds))
            .optional("availabilityTimeComplete", early.map(|_| false))
    }
}

/// A `SegmentTimeline`: neighbours of one duration without a gap become one `S` (5.3.9.6).
fn timeline(xml: &mut Xml, segments: impl Iterator<Item = TimelineSegment>) {
    xml.start("SegmentTimeline");
    let mut segments = segments.peekable();
    let mut end = None;
    while let Some(TimelineSegment { time, duration }) = segments.next() {
        let mut next = time.saturating_add(duration);
        let mut repeat = 0_u64;
        while segments.next_if_eq(&TimelineSegment { time: next, duration }).is_some() {
            next = next.saturating_add(duration);
            repeat += 1;
        }
        xml.start("S")
            .optional("t", (end != Some(time)).then_some(time))
            .attribute("d", duration)
            .optional("r", (repeat > 0).then_some(repeat))
            .end();
        end = Some(next);
    }
    xml.end();
}

fn range(range: ByteRange) -> impl Display {
    let last = range.offset.saturating_add(range.length.saturating_sub(1));
    std::fmt::from_fn(move |f| write!(f, "{}-{last}", range.offset))
}

/// `frameRate` of 5.3.7.2: whole frames, or a fraction of the NTSC family, or thousandths.
fn fraction(frame_rate: f64) -> Option<String> {
    if !(frame_rate.is_finite() && frame_rate > 0.0) {
        return None;
    }
    let near = |value: f64| (value - value.round()).abs() < 0.002 && value.round() >= 1.0;
    let ntsc = frame_rate * 1.001;
    Some(if near(frame_rate) {
        format!("{frame_rate:.0}")
    } else if near(ntsc) {
        format!("{:.0}/1001", ntsc.round() * 1000.0)
    } else {
        format!("{:.0}/1000", (frame_rate * 1000.0).max(1.0))
    })
}

/// Seconds to the millisecond, without needless zeros.
struct Seconds(Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = (self.0.as_nanos() + 500_000) / 1_000_000;
        write!(f, "{}", ms / 1000)?;
        match ms % 1000 {
            0 => Ok(()),
            ms if ms % 100 == 0 => write!(f, ".{}", ms / 100),
            ms if ms % 10 == 0 => write!(f, ".{:02}", ms / 10),
            ms => write!(f, ".{ms:03}"),
        }
    }
}

/// `xs:duration`.
struct XsDuration(Duration);

impl Display for XsDuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PT{}S", Seconds(self.0))
    }
}
