//! A snapshot as an HLS media playlist.

use std::sync::Arc;
use std::time::Duration;

use protocols::hls::{
    self, LiveEdge, LowLatency, Map, MediaPlaylist, OpenSegment, RenditionReport, SegmentHead,
};

use super::files::{File, FileName};
use super::store::{Packaging, Segment, Snapshot};

/// Part targets a low-latency player stays behind live. Three are the least it may be; one more
/// keeps players that wait for whole parts from running dry.
const PART_HOLD_BACK: u32 = 4;
/// Parts are listed for so many target durations behind live; players need no older ones.
const PARTS_LISTED: u32 = 3;

/// What one playlist is about.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The media.
    pub snapshot: &'a Snapshot,
    /// Folder of the files as seen from the playlist: the last component of the stream's name.
    pub folder: &'a str,
    /// With parts; only for CMAF.
    pub low_latency: bool,
    /// How far the other renditions are; only with parts.
    pub reports: &'a [RenditionReport],
}

impl View<'_> {
    /// The text. `skip`: as a delta update; `query` goes with every URI.
    #[must_use]
    pub fn render(self, skip: bool, query: &str) -> String {
        self.playlist().render(skip, query)
    }

    /// How far it is, for blocking reloads.
    #[must_use]
    pub fn live_edge(self) -> LiveEdge {
        let Snapshot { open, next_sequence, targets, ended, .. } = self.snapshot;
        let count = |parts: usize| u64::try_from(parts).unwrap_or(u64::MAX);
        let open_parts = open.as_ref().map_or(0, |open| count(open.parts.len()));
        let last = self.snapshot.segments.last().map_or(0, |last| count(last.parts.len()));
        LiveEdge {
            next_media_sequence: *next_sequence,
            open_parts: if self.low_latency { open_parts } else { 0 },
            last_parts: if self.low_latency { last } else { 0 },
            part_target: self.low_latency.then_some(targets.part),
            ended: *ended,
        }
    }

    fn playlist(self) -> MediaPlaylist {
        let snapshot = self.snapshot;
        let listed = snapshot.listed();
        let parts_from = self.parts_from(listed);
        let segments = listed.iter().enumerate();
        let segments =
            segments.map(|(index, segment)| self.segment(segment, index >= parts_from)).collect();
        let part = snapshot.targets.part;
        let low_latency = self
            .low_latency
            .then_some(LowLatency { part_target: part, part_hold_back: part * PART_HOLD_BACK });
        let open = snapshot.open.as_ref().filter(|_| self.low_latency && !snapshot.ended);
        let next_part = open.map_or(0, |open| open.parts.len());
        let open = open.map(|open| OpenSegment { head: self.head(open), parts: self.parts(open) });
        MediaPlaylist {
            target_duration_s: snapshot.targets.segment_s,
            low_latency,
            can_block_reload: true,
            can_skip: true,
            hold_back: None,
            independent_segments: false,
            media_sequence: listed.first().map_or(snapshot.next_sequence, |first| first.sequence),
            discontinuity_sequence: snapshot.discontinuity_sequence,
            segments,
            open,
            preload_part: (self.low_latency && !snapshot.ended)
                .then(|| self.uri(File::Part(snapshot.next_sequence, next_part as u64))),
            rendition_reports: self.reports.to_vec(),
            ended: snapshot.ended,
            ..MediaPlaylist::default()
        }
    }

    /// Index of the first listed segment whose parts are listed too.
    fn parts_from(self, listed: &[Arc<Segment>]) -> usize {
        if !self.low_latency {
            return listed.len();
        }
        let span = Duration::from_secs((self.snapshot.targets.segment_s * PARTS_LISTED).into());
        let mut behind = Duration::ZERO;
        let newer = listed.iter().rev().take_while(|segment| {
            let recent = behind < span;
            behind += segment.duration;
            recent
        });
        listed.len() - newer.count()
    }

    fn segment(self, segment: &Segment, with_parts: bool) -> hls::Segment {
        let file = match self.snapshot.packaging {
            Packaging::Ts => File::Ts(segment.sequence),
            Packaging::Cmaf => File::Segment(None, segment.sequence),
        };
        hls::Segment {
            head: self.head(segment),
            uri: self.uri(file),
            duration: segment.duration,
            parts: if with_parts { self.parts(segment) } else { Vec::new() },
            ..hls::Segment::default()
        }
    }

    fn head(self, segment: &Segment) -> SegmentHead {
        let map = (self.snapshot.packaging == Packaging::Cmaf)
            .then(|| Map { uri: self.uri(File::Init(None, segment.init.id)), byte_range: None });
        SegmentHead {
            program_date_time_ms: Some(segment.program_date_time_ms),
            discontinuity: segment.discontinuity,
            map,
        }
    }

    fn parts(self, segment: &Segment) -> Vec<hls::Part> {
        let parts = segment.parts.iter().enumerate();
        let part = |(index, part): (usize, &super::store::Part)| hls::Part {
            uri: self.uri(File::Part(segment.sequence, index as u64)),
            duration: part.duration,
            independent: part.independent,
            gap: false,
        };
        parts.map(part).collect()
    }

    fn uri(self, file: File) -> String {
        format!("{}/{}", self.folder, FileName { epoch: self.snapshot.epoch, file })
    }
}
