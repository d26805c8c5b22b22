//! CMAF: fragments of one track each, cut for both tracks at the same moment.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocols::container::fmp4::{
    Fragment, FragmentBuilder, Selection, TrackKind, init_segment, join_fragments, ntp_timestamp,
};
use protocols::media::{Frame, Timestamp, Tracks};

use super::store::{Init, Joint, Part, Piece};

/// The builders of one configuration of a stream.
#[derive(Debug)]
pub(super) struct Cmaf {
    video: Option<FragmentBuilder>,
    audio: Option<FragmentBuilder>,
    sequence_number: u32,
}

impl Cmaf {
    /// Builders for what CMAF can carry of the tracks, and its initialization segments; `None`
    /// when it can carry nothing.
    pub(super) fn new(id: u32, tracks: &Arc<Tracks>) -> Option<(Self, Init)> {
        let both = init_segment(tracks, Selection::Both).ok()?;
        for left_out in &both.left_out {
            tracing::info!(codec = left_out.codec.name(), reason = %left_out.reason,
                "a track cannot go into MP4: left out");
        }
        let one = |selection| {
            init_segment(tracks, selection).map_or_else(|_| Bytes::new(), |init| init.bytes)
        };
        let carries = |kind| both.carried.contains(kind);
        let video = tracks.video.as_ref().filter(|_| carries(TrackKind::Video));
        let audio = tracks.audio.as_ref().filter(|_| carries(TrackKind::Audio));
        let init = Init {
            id,
            tracks: Arc::clone(tracks),
            video: if video.is_some() { one(Selection::Video) } else { Bytes::new() },
            audio: if audio.is_some() { one(Selection::Audio) } else { Bytes::new() },
            both: both.bytes,
        };
        let builders = Self {
            video: video.map(FragmentBuilder::video),
            audio: audio.map(FragmentBuilder::audio),
            sequence_number: 1,
        };
        Some((builders, init))
    }

    /// The video track decides where parts end.
    pub(super) fn has_video(&self) -> bool {
        self.video.is_some()
    }

    pub(super) fn push(&mut self, frame: &Frame) {
        for builder in [&mut self.video, &mut self.audio].into_iter().flatten() {
            builder.push(frame);
        }
    }

    /// The part of everything before `boundary`, the time of the frame that was pushed last.
    /// `unix_nanos`: wall clock of its first sample. `None` when there is nothing.
    pub(super) fn cut(&mut self, boundary: Timestamp, unix_nanos: u64) -> Option<Part> {
        let ntp = Some(ntp_timestamp(unix_nanos));
        let video = take(&mut self.sequence_number, |out, number| {
            self.video.as_mut()?.cut(out, number, ntp)
        });
        let audio = take(&mut self.sequence_number, |out, number| {
            let builder = self.audio.as_mut()?;
            if self.video.is_some() {
                builder.cut_before(boundary, out, number, ntp)
            } else {
                builder.cut(out, number, ntp)
            }
        });
        self.part(video, audio)
    }

    /// The last part: everything.
    pub(super) fn finish(&mut self, end: Option<Timestamp>, unix_nanos: u64) -> Option<Part> {
        let ntp = Some(ntp_timestamp(unix_nanos));
        let video = take(&mut self.sequence_number, |out, number| {
            self.video.as_mut()?.finish(end, out, number, ntp)
        });
        let audio = take(&mut self.sequence_number, |out, number| {
            self.audio.as_mut()?.finish(None, out, number, ntp)
        });
        self.part(video, audio)
    }

    fn part(
        &self,
        video: Option<(Fragment, Bytes)>,
        audio: Option<(Fragment, Bytes)>,
    ) -> Option<Part> {
        let timed = |fragment: &Fragment, builder: &Option<FragmentBuilder>| {
            let timescale = builder.as_ref().map_or(1, FragmentBuilder::timescale).max(1);
            Duration::from_secs_f64(fragment.duration as f64 / f64::from(timescale))
        };
        let (duration, independent) = match (&video, &audio) {
            (Some((fragment, _)), _) => {
                (timed(fragment, &self.video), fragment.starts_with_keyframe)
            }
            (None, Some((fragment, _))) => (timed(fragment, &self.audio), self.video.is_none()),
            (None, None) => return None,
        };
        let piece = |made: Option<(Fragment, Bytes)>| {
            made.map(|(fragment, bytes)| Piece {
                bytes,
                time: fragment.base_decode_time,
                duration: fragment.duration,
            })
            .unwrap_or_default()
        };
        let (video, audio) = (piece(video), piece(audio));
        let joint = join(&video.bytes, &audio.bytes);
        Some(Part { duration, independent, video, audio, joint })
    }
}

/// Both pieces as one fragment; their payload is shared.
fn join(video: &Bytes, audio: &Bytes) -> Option<Joint> {
    let joined = join_fragments(video, audio)?;
    Some(Joint {
        head: joined.head.into(),
        video: video.slice(joined.first),
        audio: audio.slice(joined.second),
    })
}

/// Runs one cut with the next number.
fn take(
    number: &mut u32,
    cut: impl FnOnce(&mut Vec<u8>, u32) -> Option<Fragment>,
) -> Option<(Fragment, Bytes)> {
    let mut out = Vec::new();
    let fragment = cut(&mut out, *number)?;
    *number = number.wrapping_add(1);
    Some((fragment, out.into()))
}
