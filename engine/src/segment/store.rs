//! What a segmenter has made, as every shard sees it: immutable, shared by reference.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocols::media::{Timestamp, Tracks};

/// How media is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packaging {
    /// MPEG-2 transport stream segments, both tracks in one.
    Ts,
    /// CMAF fragments of one track each.
    Cmaf,
}

/// One of the tracks of a CMAF segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Track {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// What a decoder must know before the media: one per configuration of the stream.
#[derive(Debug)]
pub struct Init {
    /// Counts configurations of this segmenter, from 0.
    pub id: u32,
    /// The tracks.
    pub tracks: Arc<Tracks>,
    /// Initialization segment of both tracks; empty for a transport stream.
    pub both: Bytes,
    /// That of the video track alone; empty when there is none.
    pub video: Bytes,
    /// That of the audio track alone; empty when there is none.
    pub audio: Bytes,
}

/// The pieces of one track in a part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// Fragments, or transport stream packets of both tracks; may be empty.
    pub bytes: Bytes,
    /// Decode time of the first sample, in ticks of the track.
    pub time: u64,
    /// Ticks.
    pub duration: u64,
}

/// A stretch of a segment that can be had before the rest.
#[derive(Debug, Clone)]
pub struct Part {
    /// Length in time.
    pub duration: Duration,
    /// A decoder can start here.
    pub independent: bool,
    /// Pictures, or both tracks of a transport stream.
    pub video: Piece,
    /// Sound of a CMAF part.
    pub audio: Piece,
    /// What stands before the payload of both where they are sent as one fragment.
    pub joint: Option<Joint>,
}

/// A part of both tracks as one fragment: this, then the payload of either piece.
#[derive(Debug, Clone)]
pub struct Joint {
    /// Boxes of both tracks.
    pub head: Bytes,
    /// Payload of the pictures.
    pub video: Bytes,
    /// Payload of the sound.
    pub audio: Bytes,
}

impl Part {
    /// The pieces of the tracks asked for, in the order they are sent.
    pub fn pieces(&self, track: Option<Track>) -> impl Iterator<Item = &Bytes> {
        let (video, audio) = (&self.video.bytes, &self.audio.bytes);
        let pieces = match (track, &self.joint) {
            (None, Some(joint)) => [Some(&joint.head), Some(&joint.video), Some(&joint.audio)],
            (None, None) => [Some(video), Some(audio), None],
            (Some(Track::Video), _) => [Some(video), None, None],
            (Some(Track::Audio), _) => [Some(audio), None, None],
        };
        pieces.into_iter().flatten().filter(|bytes| !bytes.is_empty())
    }

    fn bytes(&self) -> usize {
        self.video.bytes.len() + self.audio.bytes.len()
    }
}

/// A stretch in which nothing a decoder or a clock depends on changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Era {
    /// Counts them from 0.
    pub index: u32,
    /// Decode time of its first picture.
    pub media_start: Timestamp,
    /// The same in milliseconds since [`Snapshot::origin_ms`] by the wall clock.
    pub start_ms: i64,
}

/// A segment: whole in [`Snapshot::segments`], growing in [`Snapshot::open`].
#[derive(Debug, Clone)]
pub struct Segment {
    /// Media sequence number.
    pub sequence: u64,
    /// Decode time of its first picture on the stream's timeline.
    pub start: Timestamp,
    /// Length in time of the parts so far.
    pub duration: Duration,
    /// Wall clock of its first sample, Unix milliseconds.
    pub program_date_time_ms: i64,
    /// A decoder or a clock must begin anew.
    pub discontinuity: bool,
    /// The stretch it belongs to.
    pub era: Era,
    /// What it needs.
    pub init: Arc<Init>,
    /// At least one once it is whole.
    pub parts: Vec<Part>,
}

impl Segment {
    /// The pieces of the tracks asked for, in order.
    pub fn pieces(&self, track: Option<Track>) -> impl Iterator<Item = &Bytes> {
        self.parts.iter().flat_map(move |part| part.pieces(track))
    }

    /// Media bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(Part::bytes).sum()
    }

    /// When a track of it plays: time of the first sample and duration, in ticks; `None` when it
    /// has nothing of the track.
    #[must_use]
    pub fn span(&self, track: Track) -> Option<(u64, u64)> {
        let pieces = self.parts.iter().map(|part| match track {
            Track::Video => &part.video,
            Track::Audio => &part.audio,
        });
        let mut present = pieces.filter(|piece| piece.duration > 0).peekable();
        let start = present.peek()?.time;
        Some((start, present.map(|piece| piece.duration).sum()))
    }
}

/// The lengths a playlist announces. They never change while a segmenter lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Targets {
    /// Longest segment, in whole seconds.
    pub segment_s: u32,
    /// Longest part.
    pub part: Duration,
}

/// See the module text.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// How the bytes are wrapped.
    pub packaging: Packaging,
    /// Tells the files of this segmenter from those of an earlier one: Unix milliseconds.
    pub epoch: u64,
    /// Wall clock of the first sample there ever was, Unix milliseconds.
    pub origin_ms: i64,
    /// How much later than it was received each sample comes, as told by the stream's key.
    pub delay: Duration,
    /// Announced lengths.
    pub targets: Targets,
    /// Whole segments, oldest first; the last [`Snapshot::listed`] of them are in playlists, the
    /// others are kept for players that read an older playlist.
    pub segments: Vec<Arc<Segment>>,
    /// Segments in playlists.
    pub listed: usize,
    /// Discontinuities that have left the playlist.
    pub discontinuity_sequence: u64,
    /// The segment in the making.
    pub open: Option<Segment>,
    /// Sequence number of the segment in the making, or of the next.
    pub next_sequence: u64,
    /// Configurations whose segments are still held.
    pub inits: Vec<Arc<Init>>,
    /// The publisher has gone for good.
    pub ended: bool,
}

impl Snapshot {
    /// The segments of playlists.
    #[must_use]
    pub fn listed(&self) -> &[Arc<Segment>] {
        &self.segments[self.segments.len().saturating_sub(self.listed)..]
    }

    /// A whole segment by number.
    #[must_use]
    pub fn segment(&self, sequence: u64) -> Option<&Arc<Segment>> {
        let first = self.segments.first()?.sequence;
        self.segments.get(usize::try_from(sequence.checked_sub(first)?).ok()?)
    }

    /// The parts of a segment, whole or in the making.
    #[must_use]
    pub fn parts(&self, sequence: u64) -> Option<&[Part]> {
        let open = self.open.as_ref().filter(|open| open.sequence == sequence);
        let whole = || self.segment(sequence).map(|segment| &segment.parts[..]);
        open.map(|open| &open.parts[..]).or_else(whole)
    }

    /// A configuration by number.
    #[must_use]
    pub fn init(&self, id: u32) -> Option<&Arc<Init>> {
        self.inits.iter().find(|init| init.id == id)
    }

    /// Media bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let whole: usize = self.segments.iter().map(|segment| segment.bytes()).sum();
        whole + self.open.as_ref().map_or(0, Segment::bytes)
    }
}
