//! Transport stream segments: both tracks in one run of packets, tables at the start of each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocols::container::ts::Muxer;
use protocols::media::{Frame, Timestamp, Tracks};

use super::store::{Init, Part, Piece};

/// The muxer of a stream and the segment it is writing.
#[derive(Debug)]
pub(super) struct Transport {
    muxer: Muxer,
    packets: Vec<u8>,
    has_video: bool,
    independent: bool,
}

impl Transport {
    /// `None` when a transport stream can carry nothing of the tracks.
    pub(super) fn new(id: u32, tracks: &Arc<Tracks>) -> Option<(Self, Init)> {
        let muxer = Muxer::new(tracks);
        for (codec, reason) in muxer.left_out() {
            tracing::info!(codec = codec.name(), %reason,
                "a track cannot go into a transport stream: left out");
        }
        if muxer.is_empty() {
            return None;
        }
        let video = tracks.video.as_ref().map(|track| track.codec);
        let has_video = video.is_some_and(|codec| muxer.carries(codec));
        let empty = Bytes::new;
        let init =
            Init { id, tracks: Arc::clone(tracks), both: empty(), video: empty(), audio: empty() };
        Some((Self { muxer, packets: Vec::new(), has_video, independent: true }, init))
    }

    /// The tracks have changed; counters go on.
    pub(super) fn reconfigure(&mut self, id: u32, tracks: &Arc<Tracks>) -> Option<Init> {
        let (fresh, init) = Self::new(id, tracks)?;
        self.muxer.set_tracks(tracks);
        self.muxer.mark_discontinuity();
        self.has_video = fresh.has_video;
        Some(init)
    }

    /// The clock may have jumped.
    pub(super) fn mark_discontinuity(&mut self) {
        self.muxer.mark_discontinuity();
    }

    pub(super) fn has_video(&self) -> bool {
        self.has_video
    }

    /// Takes a frame. `first`: it begins a segment; `independent`: a decoder can start at it.
    pub(super) fn push(&mut self, frame: &Frame, first: bool, independent: bool) {
        if first {
            self.independent = independent;
            self.muxer.write_tables(&mut self.packets);
        }
        self.muxer.write_frame(frame, &mut self.packets);
    }

    /// The segment so far.
    pub(super) fn cut(&mut self, start: Timestamp, end: Timestamp) -> Option<Part> {
        if self.packets.is_empty() {
            return None;
        }
        let duration: Duration = end.saturating_since(start);
        let bytes = Bytes::from(std::mem::take(&mut self.packets));
        let ticks = |time: Timestamp| u64::try_from(time.to_ticks(90_000)).unwrap_or(0);
        let video =
            Piece { bytes, time: ticks(start), duration: ticks(end).saturating_sub(ticks(start)) };
        Some(Part {
            duration,
            independent: self.independent,
            video,
            audio: Piece::default(),
            joint: None,
        })
    }
}
