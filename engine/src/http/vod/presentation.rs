//! An MP4 file seen as HLS: where its segments begin, and the fragments each is made of. No sample
//! is copied: a segment is heads in memory and ranges of the file. Made off the shard, then shared.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use protocols::container::fmp4::read::{FileSample, Movie, MovieTrack, SamplePlace, Scanner};
use protocols::container::fmp4::{
    FragmentHead, Init, SampleHead, Selection, TrackKind, VIDEO_TIMESCALE, audio_timescale,
    init_segment, write_fragment_head,
};
use protocols::container::ts::scan::ScanError;
use protocols::hls::{Kind, Map, MediaPlaylist, Segment as ListedSegment, SegmentHead};
use protocols::media::Timestamp;

use crate::http::file_body::Part;
use crate::http::urls;

/// Most segments of a file: a day of seconds, or four days at the usual length.
const SEGMENTS_MAX: usize = 1 << 16;
/// Most samples of a segment: an hour of pictures without a second keyframe.
const SEGMENT_SAMPLES_MAX: usize = 1 << 18;
/// Most samples of one fragment of a segment.
const FRAGMENT_SAMPLES: usize = 2048;
/// What a segment costs in memory, roughly.
const SEGMENT_COST_BYTES: usize = size_of::<Segment>() + 256;

/// Why a file cannot be seen as HLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unplayable {
    /// No usable `moov`.
    #[error("the file is no MP4 that can be read, or it is not complete")]
    NotMp4,
    /// No track that can be carried.
    #[error("the file has no track that HLS carries")]
    NoTrack,
    /// Beyond a bound of this module.
    #[error("the file is too long, or has too few keyframes, to be cut into segments")]
    TooLong,
    /// A transport stream that cannot be cut.
    #[error("the file cannot be cut into segments: {0}")]
    NotCut(ScanError),
    /// The file could not be read.
    #[error("the file cannot be read")]
    NotRead,
}

/// Where the samples of a segment are described.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// In the sample tables: for each track where the segment begins, and how many it has.
    Tables {
        /// Of the video track.
        video: (SamplePlace, usize),
        /// Of the sound track.
        audio: (SamplePlace, usize),
    },
    /// In fragments: a walk that stands before the first of them, and how many there are.
    Fragments(Box<Scanner>, usize),
}

/// One segment.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// When it begins.
    pub(super) start: Timestamp,
    /// Where its samples are described.
    pub(super) source: Source,
}

/// See the module text.
#[derive(Debug)]
pub(super) struct Presentation {
    movie: Movie,
    carried: Selection,
    init: Bytes,
    segments: Vec<Segment>,
    end: Timestamp,
}

impl Presentation {
    /// From what was found in a file; `end` is where its last sample ends.
    pub(super) fn new(
        movie: Movie,
        segments: Vec<Segment>,
        end: Timestamp,
    ) -> Result<Self, Unplayable> {
        let Init { bytes, carried, .. } =
            init_segment(&movie.tracks, Selection::Both).map_err(|_| Unplayable::NoTrack)?;
        if segments.is_empty() {
            return Err(Unplayable::NoTrack);
        }
        Ok(Self { movie, carried, init: bytes, segments, end })
    }

    /// From the sample tables of a movie; segments begin at keyframes and are at least `target`
    /// long where there is one.
    pub(super) fn of_tables(movie: Movie, target: Duration) -> Result<Self, Unplayable> {
        let carried = carried(&movie)?;
        let leading = leading(&movie, carried).ok_or(Unplayable::NoTrack)?;
        let (mut segments, end) = cut(&movie, leading, target)?;
        let mut end = end;
        if leading == TrackKind::Video && carried.contains(TrackKind::Audio) {
            end = end.max(add_audio(&movie, &mut segments));
        }
        Self::new(movie, segments, end)
    }

    /// The initialisation segment.
    pub(super) fn init(&self) -> Bytes {
        self.init.clone()
    }

    /// The media type of the segments.
    pub(super) fn media_type(&self) -> &'static str {
        if self.carried == Selection::Audio { "audio/mp4" } else { "video/mp4" }
    }

    /// Bytes of memory, roughly: `moov` and places.
    pub(super) fn cost_bytes(&self) -> usize {
        let tables = [&self.movie.video, &self.movie.audio].into_iter().flatten();
        let samples: usize = tables.map(|track| track.table.count() as usize).sum();
        // At most: sizes, and a share of the other tables.
        self.init.len() + samples * 8 + self.segments.len() * SEGMENT_COST_BYTES
    }

    /// The playlist of a file of this name; every URI is relative to a playlist beside the file.
    pub(super) fn playlist(&self, name: &str, query: &str) -> String {
        let folder = urls::percent_encode(name);
        let mut playlist = MediaPlaylist {
            kind: Kind::Vod,
            independent_segments: true,
            ended: true,
            ..MediaPlaylist::default()
        };
        let map = Map { uri: format!("{folder}/init.mp4"), byte_range: None };
        let ends = self.segments.iter().skip(1).map(|segment| segment.start).chain([self.end]);
        for (number, (segment, end)) in self.segments.iter().zip(ends).enumerate() {
            playlist.segments.push_back(ListedSegment {
                head: SegmentHead { map: Some(map.clone()), ..SegmentHead::default() },
                uri: format!("{folder}/seg-{number}.m4s"),
                duration: end.saturating_since(segment.start),
                ..ListedSegment::default()
            });
        }
        playlist.render(false, query)
    }

    /// What a segment is made of; `None` if there is no such segment. `file` is read for the
    /// fragments of the segment.
    pub(super) fn segment(
        &self,
        number: usize,
        file: &std::fs::File,
        file_bytes: u64,
    ) -> Option<io::Result<Vec<Part>>> {
        let segment = self.segments.get(number)?;
        let inside = |part: &Part| !matches!(part, Part::File(range) if range.end > file_bytes);
        let parts = self.parts(segment, number, file, file_bytes);
        // A damaged table may point anywhere.
        Some(parts.and_then(|parts| {
            let whole = parts.iter().all(inside);
            if whole { Ok(parts) } else { Err(io::ErrorKind::InvalidData.into()) }
        }))
    }

    fn parts(
        &self,
        segment: &Segment,
        number: usize,
        file: &std::fs::File,
        file_bytes: u64,
    ) -> io::Result<Vec<Part>> {
        let (video, audio) = match &segment.source {
            Source::Tables { video, audio } => {
                let samples =
                    |track: &Option<MovieTrack>, (place, count): &(SamplePlace, usize)| {
                        let track = track.iter();
                        track.flat_map(|t| t.table.samples_from(place).take(*count)).collect()
                    };
                (samples(&self.movie.video, video), samples(&self.movie.audio, audio))
            }
            Source::Fragments(scanner, count) => {
                super::scan::samples(&self.movie, (**scanner).clone(), *count, file, file_bytes)?
            }
        };
        let mut parts = Vec::new();
        // Fragments count up through the file; each segment has numbers of its own.
        let mut sequence_number = u32::try_from(number).unwrap_or(u32::MAX) << 12 | 1;
        for (kind, samples) in [(TrackKind::Video, video), (TrackKind::Audio, audio)] {
            let samples: Vec<FileSample> = samples;
            if self.carried.contains(kind) {
                self.write_track(kind, &samples, &mut sequence_number, &mut parts)?;
            }
        }
        Ok(parts)
    }

    fn write_track(
        &self,
        kind: TrackKind,
        samples: &[FileSample],
        sequence_number: &mut u32,
        parts: &mut Vec<Part>,
    ) -> io::Result<()> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        if samples.len() > SEGMENT_SAMPLES_MAX {
            return Err(bad());
        }
        let timescale = match (kind, &self.movie.tracks.audio) {
            (TrackKind::Audio, Some(track)) => audio_timescale(track),
            _ => VIDEO_TIMESCALE,
        };
        let dts = |sample: &FileSample| {
            let frame = self.movie.frame(kind, sample, Bytes::new());
            frame.map(|frame| frame.dts.to_ticks(timescale))
        };
        for (index, fragment) in samples.chunks(FRAGMENT_SAMPLES).enumerate() {
            let next_fragment = samples.get((index + 1) * FRAGMENT_SAMPLES);
            let after = fragment.last().map(|last| FileSample {
                decode_time: last.decode_time.saturating_add(last.duration.into()),
                ..*last
            });
            let nexts = fragment.iter().skip(1).chain(next_fragment.or(after.as_ref()));
            let mut heads = Vec::with_capacity(fragment.len());
            let base = fragment.first().and_then(dts).ok_or_else(bad)?;
            for (sample, next) in fragment.iter().zip(nexts) {
                let frame = self.movie.frame(kind, sample, Bytes::new()).ok_or_else(bad)?;
                let decode_time = frame.dts.to_ticks(timescale);
                let duration = dts(next).ok_or_else(bad)?.saturating_sub(decode_time);
                let offset = frame.pts().to_ticks(timescale).saturating_sub(decode_time);
                heads.push(SampleHead {
                    duration: u32::try_from(duration.max(1)).unwrap_or(u32::MAX),
                    composition_offset: i32::try_from(offset).unwrap_or(0),
                    kind: frame.kind,
                    bytes: sample.size,
                });
            }
            let head = FragmentHead {
                track: kind,
                sequence_number: *sequence_number,
                base_decode_time: u64::try_from(base).unwrap_or(0),
                ntp_timestamp: None,
            };
            *sequence_number = sequence_number.saturating_add(1);
            let mut out = Vec::new();
            write_fragment_head(&mut out, &head, heads.into_iter()).map_err(|_| bad())?;
            parts.push(Part::Bytes(out.into()));
            push_runs(fragment, parts);
        }
        Ok(())
    }
}

/// The payloads of the samples as ranges of the file, neighbours joined.
fn push_runs(samples: &[FileSample], parts: &mut Vec<Part>) {
    for sample in samples.iter().filter(|sample| sample.size > 0) {
        // Inside the file, so within 64 bits.
        let end = sample.offset.saturating_add(sample.size.into());
        match parts.last_mut() {
            Some(Part::File(run)) if run.end == sample.offset => run.end = end,
            _ => parts.push(Part::File(sample.offset..end)),
        }
    }
}

/// The tracks that can be carried.
pub(super) fn carried(movie: &Movie) -> Result<Selection, Unplayable> {
    let init = init_segment(&movie.tracks, Selection::Both).map_err(|_| Unplayable::NoTrack)?;
    Ok(init.carried)
}

/// The track whose keyframes segments begin at.
pub(super) fn leading(movie: &Movie, carried: Selection) -> Option<TrackKind> {
    let video = movie.video.as_ref().filter(|_| carried.contains(TrackKind::Video));
    let audio = movie.audio.as_ref().filter(|_| carried.contains(TrackKind::Audio));
    match (video, audio) {
        (Some(video), _) if movie.fragmented || video.table.count() > 0 => Some(TrackKind::Video),
        (_, Some(_)) => Some(TrackKind::Audio),
        _ => None,
    }
}

/// The track of this kind.
pub(super) fn track(movie: &Movie, kind: TrackKind) -> Option<&MovieTrack> {
    match kind {
        TrackKind::Video => movie.video.as_ref(),
        TrackKind::Audio => movie.audio.as_ref(),
    }
}

/// When a sample is decoded, and when it ends.
pub(super) fn times(
    movie: &Movie,
    kind: TrackKind,
    sample: &FileSample,
) -> Option<(Timestamp, Timestamp)> {
    let begin = movie.frame(kind, sample, Bytes::new())?.dts;
    let decode_time = sample.decode_time.saturating_add(sample.duration.into());
    let end = movie.frame(kind, &FileSample { decode_time, ..*sample }, Bytes::new())?.dts;
    Some((begin, end))
}

/// Whether a segment ends where another could begin.
pub(super) fn is_due(segments: &[Segment], at: Timestamp, target: Duration) -> bool {
    segments.last().is_none_or(|last| at.saturating_since(last.start) >= target)
}

/// The segments of the leading track, and where it ends.
fn cut(
    movie: &Movie,
    leading: TrackKind,
    target: Duration,
) -> Result<(Vec<Segment>, Timestamp), Unplayable> {
    let table = &track(movie, leading).ok_or(Unplayable::NoTrack)?.table;
    let mut segments: Vec<Segment> = Vec::new();
    let (mut end, mut walk, mut last) = (Timestamp::ZERO, table.samples(), None);
    loop {
        let place = walk.place();
        let Some(sample) = walk.next() else { break };
        last = Some(sample);
        if sample.keyframe || segments.is_empty() {
            let (at, _) = times(movie, leading, &sample).ok_or(Unplayable::NotMp4)?;
            if is_due(&segments, at, target) {
                if segments.len() >= SEGMENTS_MAX {
                    return Err(Unplayable::TooLong);
                }
                let none = (SamplePlace::default(), 0);
                let (video, audio) = match leading {
                    TrackKind::Video => ((place, 0), none),
                    TrackKind::Audio => (none, (place, 0)),
                };
                segments.push(Segment { start: at, source: Source::Tables { video, audio } });
            }
        }
        if let Some(Segment { source: Source::Tables { video, audio }, .. }) = segments.last_mut() {
            let count = if leading == TrackKind::Video { &mut video.1 } else { &mut audio.1 };
            *count += 1;
            if *count > SEGMENT_SAMPLES_MAX {
                return Err(Unplayable::TooLong);
            }
        }
    }
    if let Some((_, after)) = last.and_then(|last| times(movie, leading, &last)) {
        end = after;
    }
    Ok((segments, end))
}

/// Gives every segment the sound of its time; what comes before the first goes with it. Returns
/// where the sound ends.
fn add_audio(movie: &Movie, segments: &mut [Segment]) -> Timestamp {
    let Some(audio) = &movie.audio else { return Timestamp::ZERO };
    let starts: Vec<Timestamp> = segments.iter().skip(1).map(|segment| segment.start).collect();
    let (mut index, mut end, mut walk) = (0, Timestamp::ZERO, audio.table.samples());
    loop {
        let place = walk.place();
        let Some(sample) = walk.next() else { return end };
        let Some((at, after)) = times(movie, TrackKind::Audio, &sample) else { return end };
        end = after;
        while starts.get(index).is_some_and(|start| *start <= at) {
            index += 1;
        }
        if let Some(Segment { source: Source::Tables { audio, .. }, .. }) = segments.get_mut(index)
        {
            if audio.1 == 0 {
                audio.0 = place;
            }
            audio.1 += 1;
        }
    }
}
