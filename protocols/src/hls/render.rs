//! The text of a media playlist: which tags, in which order, under which version.

use std::fmt::{self, Write};
use std::time::Duration;

use super::media::{
    ByteRange, Kind, LowLatency, Map, MediaPlaylist, Part, Segment, SegmentHead, tens_of_micros,
};
use crate::text::{date_time, push_uri};

/// Parts are listed for segments that begin within so many target durations of the end (4.4.4.9).
const PARTS_TARGET_DURATIONS: u32 = 3;
/// `HOLD-BACK` in target durations, at least (4.4.3.8).
const HOLD_BACK_TARGET_DURATIONS: u32 = 3;
/// `PART-HOLD-BACK` in part targets, at least: the recommendation, one more than the rule.
const PART_HOLD_BACK_TARGETS: u128 = 3;
/// The skip boundary in target durations: the least allowed (4.4.3.8).
const SKIP_TARGET_DURATIONS: u32 = 6;
/// What a segment takes in text, roughly.
const SEGMENT_TEXT_BYTES: usize = 160;
/// The same for a part.
const PART_TEXT_BYTES: usize = 80;

impl MediaPlaylist {
    /// The playlist as text. With `skip`, and where the playlist is long enough for it, a delta
    /// update (6.2.5.1). `query` goes with every URI, so that a viewer's token reaches the
    /// segments; pass what [`super::without_directives`] leaves of the request's own.
    pub fn render(&self, skip: bool, query: &str) -> String {
        let parts = self.segments.back().map_or(0, |last| last.parts.len()) * 4;
        let mut out = String::with_capacity(
            512 + self.segments.len() * SEGMENT_TEXT_BYTES + parts * PART_TEXT_BYTES,
        );
        let mut writer = Writer { out: &mut out, query, map: None };
        writer.playlist(self, skip).expect("writing to a String cannot fail");
        out
    }

    /// Version 9 where a delta update may appear, so that it never changes between full and delta
    /// (8).
    fn version(&self) -> u32 {
        let any = |test: fn(&Segment) -> bool| self.segments.iter().any(test);
        let open_map = self.open.as_ref().is_some_and(|open| open.head.map.is_some());
        if self.can_skip {
            9
        } else if any(|segment| segment.gap) {
            8
        } else if open_map || any(|segment| segment.head.map.is_some()) {
            6
        } else if any(|segment| segment.byte_range.is_some()) {
            4
        } else {
            3
        }
    }

    /// How many segments a delta update leaves out: those that end before the skip boundary,
    /// counted from the last whole segment.
    fn skipped(&self, target: Duration) -> usize {
        if !self.can_skip {
            return 0;
        }
        let boundary = target * SKIP_TARGET_DURATIONS;
        let mut behind = Duration::ZERO;
        let later = self.segments.iter().rev().take_while(|segment| {
            let keep = behind < boundary;
            behind += segment.duration;
            keep
        });
        self.segments.len() - later.count()
    }

    /// The first segment, as an index, whose parts are still listed.
    fn first_with_parts(&self, target: Duration) -> usize {
        if self.low_latency.is_none() {
            return self.segments.len();
        }
        let open = self.open.iter().flat_map(|open| &open.parts);
        let mut behind: Duration = open.map(|part| part.duration).sum();
        let recent = self.segments.iter().rev().take_while(|segment| {
            behind += segment.duration;
            behind <= target * PARTS_TARGET_DURATIONS
        });
        self.segments.len() - recent.count()
    }
}

struct Writer<'a> {
    out: &'a mut String,
    query: &'a str,
    /// The initialization section written last.
    map: Option<&'a Map>,
}

impl<'a> Writer<'a> {
    fn playlist(&mut self, playlist: &'a MediaPlaylist, skip: bool) -> fmt::Result {
        let target_s = playlist.target_duration_s();
        let target = Duration::from_secs(target_s.min(u64::from(u32::MAX)));
        self.header(playlist, target_s, target)?;

        let skipped = if skip { playlist.skipped(target) } else { 0 };
        if skipped > 0 {
            writeln!(self.out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")?;
        }
        let first_with_parts = playlist.first_with_parts(target);
        for (index, segment) in playlist.segments.iter().enumerate().skip(skipped) {
            self.head(&segment.head)?;
            let parts = if index < first_with_parts { &[] } else { segment.parts.as_slice() };
            self.segment(segment, parts)?;
        }
        if playlist.ended {
            return self.out.write_str("#EXT-X-ENDLIST\n");
        }
        if playlist.low_latency.is_some() {
            self.edge(playlist)?;
        }
        Ok(())
    }

    fn header(&mut self, playlist: &MediaPlaylist, target_s: u64, target: Duration) -> fmt::Result {
        writeln!(self.out, "#EXTM3U\n#EXT-X-VERSION:{}", playlist.version())?;
        if playlist.independent_segments {
            writeln!(self.out, "#EXT-X-INDEPENDENT-SEGMENTS")?;
        }
        writeln!(self.out, "#EXT-X-TARGETDURATION:{target_s}")?;
        self.server_control(playlist, target)?;
        if let Some(part_target) = playlist.part_target() {
            writeln!(self.out, "#EXT-X-PART-INF:PART-TARGET={}", Seconds::of(part_target))?;
        }
        if let Some(offset_ms) = playlist.start_offset_ms {
            let (sign, ms) = (if offset_ms < 0 { "-" } else { "" }, offset_ms.unsigned_abs());
            let (s, ms) = (ms / 1_000, ms % 1_000);
            writeln!(self.out, "#EXT-X-START:TIME-OFFSET={sign}{s}.{ms:03}")?;
        }
        match playlist.kind {
            Kind::Live => {}
            Kind::Event => writeln!(self.out, "#EXT-X-PLAYLIST-TYPE:EVENT")?,
            Kind::Vod => writeln!(self.out, "#EXT-X-PLAYLIST-TYPE:VOD")?,
        }
        writeln!(self.out, "#EXT-X-MEDIA-SEQUENCE:{}", playlist.media_sequence)?;
        if playlist.kind == Kind::Live || playlist.discontinuity_sequence > 0 {
            let sequence = playlist.discontinuity_sequence;
            writeln!(self.out, "#EXT-X-DISCONTINUITY-SEQUENCE:{sequence}")?;
        }
        Ok(())
    }

    fn server_control(&mut self, playlist: &MediaPlaylist, target: Duration) -> fmt::Result {
        let mut attributes = Vec::new();
        if playlist.can_block_reload {
            attributes.push("CAN-BLOCK-RELOAD=YES".to_owned());
        }
        if playlist.can_skip {
            let boundary = Seconds::of(target * SKIP_TARGET_DURATIONS);
            attributes.push(format!("CAN-SKIP-UNTIL={boundary}"));
        }
        if let (Some(LowLatency { part_hold_back, .. }), Some(part_target)) =
            (playlist.low_latency, playlist.part_target())
        {
            // A multiple of the part target as it is written: rounding must not break the rule.
            let least = tens_of_micros(part_target) * PART_HOLD_BACK_TARGETS;
            let hold_back = Seconds(tens_of_micros(part_hold_back).max(least));
            attributes.push(format!("PART-HOLD-BACK={hold_back}"));
        }
        if let Some(hold_back) = playlist.hold_back {
            let hold_back = hold_back.max(target * HOLD_BACK_TARGET_DURATIONS);
            attributes.push(format!("HOLD-BACK={}", Seconds::of(hold_back)));
        }
        if attributes.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "#EXT-X-SERVER-CONTROL:{}", attributes.join(","))
    }

    /// What must stand before the first part of a segment (4.4.4.9).
    fn head(&mut self, head: &'a SegmentHead) -> fmt::Result {
        if head.discontinuity {
            self.out.write_str("#EXT-X-DISCONTINUITY\n")?;
        }
        if let Some(map) = &head.map
            && self.map != Some(map)
        {
            self.map = Some(map);
            self.out.write_str("#EXT-X-MAP:")?;
            self.uri_attribute(&map.uri)?;
            if let Some(ByteRange { offset, length }) = map.byte_range {
                write!(self.out, ",BYTERANGE=\"{length}@{offset}\"")?;
            }
            self.out.push('\n');
        }
        if let Some(unix_ms) = head.program_date_time_ms {
            writeln!(self.out, "#EXT-X-PROGRAM-DATE-TIME:{}", date_time(unix_ms))?;
        }
        Ok(())
    }

    fn segment(&mut self, segment: &Segment, parts: &[Part]) -> fmt::Result {
        self.parts(parts)?;
        if segment.gap {
            self.out.write_str("#EXT-X-GAP\n")?;
        }
        if let Some(ByteRange { offset, length }) = segment.byte_range {
            writeln!(self.out, "#EXT-X-BYTERANGE:{length}@{offset}")?;
        }
        writeln!(self.out, "#EXTINF:{},", Seconds::of(segment.duration))?;
        push_uri(self.out, &segment.uri, self.query);
        self.out.push('\n');
        Ok(())
    }

    fn parts(&mut self, parts: &[Part]) -> fmt::Result {
        for part in parts {
            write!(self.out, "#EXT-X-PART:DURATION={},", Seconds::of(part.duration))?;
            self.uri_attribute(&part.uri)?;
            self.out.push_str(if part.independent { ",INDEPENDENT=YES" } else { "" });
            self.out.push_str(if part.gap { ",GAP=YES\n" } else { "\n" });
        }
        Ok(())
    }

    /// The open segment, hints and reports. A head without parts is held back: its tags would apply
    /// to nothing.
    fn edge(&mut self, playlist: &'a MediaPlaylist) -> fmt::Result {
        if let Some(open) = playlist.open.as_ref().filter(|open| !open.parts.is_empty()) {
            self.head(&open.head)?;
            self.parts(&open.parts)?;
        }
        for (kind, hint) in [("MAP", &playlist.preload_map), ("PART", &playlist.preload_part)] {
            if let Some(uri) = hint {
                write!(self.out, "#EXT-X-PRELOAD-HINT:TYPE={kind},")?;
                self.uri_attribute(uri)?;
                self.out.push('\n');
            }
        }
        for report in &playlist.rendition_reports {
            self.out.push_str("#EXT-X-RENDITION-REPORT:");
            self.uri_attribute(&report.uri)?;
            write!(self.out, ",LAST-MSN={}", report.last_media_sequence)?;
            if let Some(part) = report.last_part {
                write!(self.out, ",LAST-PART={part}")?;
            }
            self.out.push('\n');
        }
        Ok(())
    }

    fn uri_attribute(&mut self, reference: &str) -> fmt::Result {
        self.out.write_str("URI=\"")?;
        push_uri(self.out, reference, self.query);
        self.out.write_char('"')
    }
}

/// Seconds with five decimals: enough that thousands of segments add up without audible drift.
#[derive(Clone, Copy)]
struct Seconds(u128);

impl Seconds {
    fn of(duration: Duration) -> Self {
        Self(tens_of_micros(duration))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:05}", self.0 / 100_000, self.0 % 100_000)
    }
}
