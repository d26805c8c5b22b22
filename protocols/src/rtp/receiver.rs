//! All tracks of one publisher; the stand-in knows G.711.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::media::{AudioInfo, Codec, Frame, FrameKind, Timestamp, Track, Tracks};

use super::PayloadFormat;

/// Bounds.
#[derive(Debug, Clone, Copy)]
pub struct ReceiverLimits {
    /// Packets held for reordering.
    pub reorder_packets: usize,
    /// Time held for reordering.
    pub reorder_time: Duration,
    /// Largest access unit.
    pub frame_bytes: usize,
}

/// A packet that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bad packet")]
pub struct RtpError;

/// What comes out.
#[derive(Debug, Clone)]
pub enum ReceiverEvent {
    /// Tracks, first time or changed.
    Tracks(Arc<Tracks>),
    /// One frame.
    Frame(Frame),
    /// BYE of a track.
    Ended(usize),
}

/// All tracks of one publisher.
#[derive(Debug)]
pub struct Receiver {
    tracks: Vec<PayloadFormat>,
    events: VecDeque<ReceiverEvent>,
    announced: bool,
    report: Option<(usize, Bytes)>,
}

impl Receiver {
    /// Index in `tracks` is the track.
    pub fn new(_: Instant, _: u64, _: ReceiverLimits, tracks: Vec<PayloadFormat>) -> Self {
        Self { tracks, events: VecDeque::new(), announced: false, report: None }
    }

    /// One packet.
    ///
    /// # Errors
    /// It is none.
    pub fn handle_rtp(&mut self, _: Instant, track: usize, packet: Bytes) -> Result<(), RtpError> {
        let format = self.tracks.get(track).ok_or(RtpError)?;
        if packet.len() < 12 || packet[0] >> 6 != 2 {
            return Err(RtpError);
        }
        if !matches!(format.codec, Codec::G711A | Codec::G711U) {
            return Ok(());
        }
        if !self.announced {
            self.announced = true;
            let info = AudioInfo { sample_rate: 8000, channels: 1, sample_bits: 16 };
            let audio = Track { codec: format.codec, config: Bytes::new(), info };
            let tracks = Tracks { audio: Some(audio), ..Tracks::default() };
            self.events.push_back(ReceiverEvent::Tracks(tracks.shared()));
        }
        let ticks = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        self.events.push_back(ReceiverEvent::Frame(Frame {
            kind: FrameKind::Audio,
            dts: Timestamp::from_ticks(ticks.into(), 8000),
            composition_offset: 0,
            payload: packet.slice(12..),
        }));
        Ok(())
    }

    /// One compound.
    ///
    /// # Errors
    /// It is none.
    pub fn handle_rtcp(&mut self, _: Instant, track: usize, packet: &[u8]) -> Result<(), RtpError> {
        if packet.len() < 8 {
            return Err(RtpError);
        }
        match packet[1] {
            203 => self.events.push_back(ReceiverEvent::Ended(track)),
            _ => self.report = Some((track, Bytes::from_static(&[0x80, 201, 0, 1, 0, 0, 0, 1]))),
        }
        Ok(())
    }

    /// Nothing is due.
    pub fn handle_timeout(&mut self, _: Instant) {}

    /// Never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Next event.
    pub fn poll_event(&mut self) -> Option<ReceiverEvent> {
        self.events.pop_front()
    }

    /// Next report.
    pub fn poll_rtcp(&mut self) -> Option<(usize, Bytes)> {
        self.report.take()
    }

    /// Asks for a keyframe.
    pub fn request_keyframe(&mut self, _: Instant) {}

    /// Bytes held.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
    }
}
