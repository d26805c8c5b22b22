//! What the payload formats of sound share: frames that go on in the next packet, and the track.

use bytes::Bytes;

use super::{Found, Packet, PayloadError, append};
use crate::media::{AudioInfo, FrameKind, Track};

/// Most frames in one packet: far more than any packet of a real sender has.
pub(super) const FRAMES_MAX: usize = 64;

/// What a payload format does for [`Sound`].
pub(super) trait SoundFormat: std::fmt::Debug {
    /// Takes a payload and passes the frames it completes to `out`.
    fn push(&mut self, packet: &Packet, out: &mut Frames<'_>) -> Result<(), PayloadError>;

    /// Forgets a frame of which only a part came; `true` when there was one.
    fn abandon(&mut self) -> bool {
        false
    }

    /// Heap bytes held.
    fn memory_bytes(&self) -> usize {
        0
    }
}

/// Where a format puts its frames.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    track: &'a mut Option<Track<AudioInfo>>,
    found: &'a mut Vec<Found>,
    /// Most bytes of one frame.
    pub(super) bytes_max: usize,
}

impl Frames<'_> {
    /// The track of the frames that follow.
    pub(super) fn set_track(&mut self, track: &Track<AudioInfo>) {
        if self.track.as_ref() != Some(track) {
            *self.track = Some(track.clone());
            self.found.push(Found::AudioTrack(track.clone()));
        }
    }

    /// A frame of the track; empty ones are passed over.
    pub(super) fn push(&mut self, timestamp: i64, payload: Bytes) {
        if !payload.is_empty() {
            self.found.push(Found::Frame { timestamp, kind: FrameKind::Audio, payload });
        }
    }
}

/// Reads the payloads of sound: each frame stands for itself, so that loss costs only what is lost.
#[derive(Debug)]
pub(in crate::rtp) struct Sound {
    format: Box<dyn SoundFormat>,
    bytes_max: usize,
    track: Option<Track<AudioInfo>>,
    pub(super) discarded: u64,
    pub(super) malformed: u64,
}

impl Sound {
    pub(super) fn new(format: Box<dyn SoundFormat>, bytes_max: usize) -> Self {
        Self { format, bytes_max, track: None, discarded: 0, malformed: 0 }
    }

    pub(super) fn push(&mut self, packet: &Packet, found: &mut Vec<Found>) {
        if packet.gap {
            self.abandon();
        }
        let mut out = Frames { track: &mut self.track, found, bytes_max: self.bytes_max };
        match self.format.push(packet, &mut out) {
            Ok(()) => {}
            Err(error) => {
                tracing::trace!(%error, "payload dropped");
                self.malformed += 1;
                self.abandon();
            }
        }
    }

    fn abandon(&mut self) {
        self.discarded += u64::from(self.format.abandon());
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.format.memory_bytes()
    }
}

/// A frame that comes in fragments.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    timestamp: i64,
    bytes: Vec<u8>,
}

impl Fragments {
    /// Nothing of a frame is there.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes there so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What is there so far.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The time of the first fragment.
    pub(super) fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// Appends a fragment.
    pub(super) fn push(
        &mut self,
        timestamp: i64,
        fragment: &[u8],
        bytes_max: usize,
    ) -> Result<(), PayloadError> {
        if self.bytes.is_empty() {
            self.timestamp = timestamp;
        }
        append(&[fragment], &mut self.bytes, bytes_max)
    }

    /// The frame, whole now.
    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes).into()
    }

    /// Forgets what is there; `true` when there was something.
    pub(super) fn clear(&mut self) -> bool {
        let held = !self.bytes.is_empty();
        self.bytes.clear();
        held
    }

    /// Heap bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}
