//! From packets to whole pictures: which packets make one up, and which pictures may be passed on.
//!
//! A picture is passed on when all its packets came and all pictures before it, since a keyframe,
//! did too. Only the loss of a picture that no other refers to is passed over.

use bytes::Bytes;

use super::{Found, Packet, PayloadError};
use crate::codec::Reordering;
use crate::media::{FrameKind, Track, VideoInfo};

/// What a payload format does for [`Pictures`]. Between two calls of `close` or `abandon` all
/// payloads are of one picture.
pub(super) trait PictureFormat: std::fmt::Debug {
    /// Appends what a payload holds to `picture`, in the neutral form, up to `bytes_max` of it.
    fn push(
        &mut self,
        payload: &[u8],
        picture: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), PayloadError>;

    /// All payloads were pushed; puts the last touches to the picture. `None` when there is no
    /// picture in what was pushed.
    fn close(&mut self, picture: &mut Vec<u8>) -> Option<Closed>;

    /// Something is missing of the picture; `true` when no other picture refers to it.
    fn abandon(&mut self) -> bool;

    /// The payload cannot begin a picture: one that seemed to have ended goes on.
    fn continues(&self, _payload: &[u8]) -> bool {
        false
    }

    /// Heap bytes beside the picture.
    fn memory_bytes(&self) -> usize;
}

/// A picture whose payloads are all there.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) kind: FrameKind,
    /// The beginning of the picture is there, though packets before it are missing.
    pub(super) has_beginning: bool,
    /// The decoder configuration is known, and this is how it is from this picture on if it changed.
    pub(super) configured: bool,
    pub(super) track: Option<(Track<VideoInfo>, Reordering)>,
}

/// Collects the packets of pictures; see the module.
#[derive(Debug)]
pub(in crate::rtp) struct Pictures {
    format: Box<dyn PictureFormat>,
    bytes_max: usize,
    /// The picture that is open: its timestamp.
    open: Option<i64>,
    picture: Vec<u8>,
    broken: bool,
    /// Packets are missing right before the open picture.
    after_gap: bool,
    /// The timestamp of the picture that a marker ended.
    ended: Option<i64>,
    /// Markers were seen inside of pictures: only a new timestamp ends one.
    ignores_markers: bool,
    /// Nothing but a keyframe is passed on.
    waits: bool,
    /// Something was lost, so that waiting is not just for the start.
    damaged: bool,
    /// Passed-on pictures began after a gap with this timestamp: what precedes it when shown may
    /// refer to pictures before the gap.
    restarted_at: Option<i64>,
    /// The track as it is from the next picture that is passed on.
    track: Option<(Track<VideoInfo>, Reordering)>,
    pub(super) discarded: u64,
    pub(super) malformed: u64,
}

impl Pictures {
    pub(super) fn new(format: Box<dyn PictureFormat>, bytes_max: usize) -> Self {
        Self {
            format,
            bytes_max,
            open: None,
            picture: Vec::new(),
            broken: false,
            // Nobody knows what came before the first packet.
            after_gap: true,
            ended: None,
            ignores_markers: false,
            waits: true,
            damaged: false,
            restarted_at: None,
            track: None,
            discarded: 0,
            malformed: 0,
        }
    }

    pub(super) fn wants_keyframe(&self) -> bool {
        self.waits && self.damaged
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.picture.capacity() + self.format.memory_bytes()
    }

    pub(super) fn push(&mut self, packet: &Packet, out: &mut Vec<Found>) {
        let timestamp = packet.timestamp;
        if packet.gap {
            self.on_gap(timestamp);
        }
        if self.open.is_some_and(|open| open != timestamp) {
            self.close(out);
        }
        if self.open.is_none() {
            // A picture that was passed on was a part only. That cannot be undone, but the rest is no
            // picture either, and it happens once.
            self.broken = self.ended == Some(timestamp) && self.format.continues(&packet.payload);
            self.ignores_markers |= self.broken;
            if self.broken {
                self.wait();
            }
            self.open = Some(timestamp);
            self.after_gap |= packet.gap;
        }
        let room = self.bytes_max;
        if let Err(error) = self.format.push(&packet.payload, &mut self.picture, room) {
            tracing::trace!(%error, "payload dropped");
            self.malformed += 1;
            self.broken = true;
        }
        if packet.marker && !self.ignores_markers {
            self.close(out);
            self.ended = Some(timestamp);
        }
    }

    /// Packets before one with this timestamp are missing.
    fn on_gap(&mut self, timestamp: i64) {
        match self.open {
            // All that is missing is of the picture that is open.
            Some(open) if open == timestamp => self.broken = true,
            Some(_) => {
                self.abandon();
                self.open = None;
                self.wait();
            }
            None => self.wait(),
        }
    }

    fn wait(&mut self) {
        self.waits = true;
        self.damaged = true;
    }

    fn abandon(&mut self) -> bool {
        self.discarded += 1;
        self.picture.clear();
        self.format.abandon()
    }

    /// Nothing more belongs to the open picture.
    pub(super) fn finish(&mut self, out: &mut Vec<Found>) {
        if self.open.is_some() {
            self.close(out);
        }
    }

    fn close(&mut self, out: &mut Vec<Found>) {
        let Some(timestamp) = self.open.take() else { return };
        let after_gap = std::mem::take(&mut self.after_gap);
        if self.broken {
            if !self.abandon() {
                self.wait();
            }
            return;
        }
        let Some(closed) = self.format.close(&mut self.picture) else {
            // Parameter sets that come before their picture: the gap is still right before it.
            self.after_gap = after_gap;
            self.picture.clear();
            return;
        };
        let keyframe = closed.kind == FrameKind::Keyframe;
        self.track = closed.track.or(self.track.take());
        if after_gap && !closed.has_beginning {
            self.wait();
            self.discard();
            return;
        }
        if !closed.configured || self.waits && !keyframe {
            self.waits = true;
            self.damaged = true;
            self.discard();
            return;
        }
        if keyframe {
            self.restarted_at = self.waits.then_some(timestamp);
            if self.waits {
                out.push(Found::Gap);
            }
            (self.waits, self.damaged) = (false, false);
        }
        if self.restarted_at.is_some_and(|restart| timestamp < restart) {
            self.discard();
            return;
        }
        if let Some((track, reordering)) = self.track.take() {
            out.push(Found::VideoTrack(track, reordering));
        }
        // Copied once more, so that no picture holds on to the room of a keyframe before it.
        let payload = Bytes::copy_from_slice(&self.picture);
        self.picture.clear();
        out.push(Found::Frame { timestamp, kind: closed.kind, payload });
    }

    fn discard(&mut self) {
        self.discarded += 1;
        self.picture.clear();
    }
}
