//! All tracks of one publisher: RTP and RTCP packets to neutral tracks and frames, and reports back.
//!
//! # Times
//! The first access unit stands one second into the timeline, so that decode times before its
//! presentation, and sound that began earlier, have room. Before sender reports tracks are lined up
//! as they arrived; with a report of each they are lined up by wall-clock time, small corrections bit
//! by bit on the sound, large ones forward at once on the track that is behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::decode_order::DecodeOrder;
use super::feedback::Feedback;
use super::format::PayloadFormat;
use super::header::Header;
use super::incoming::Incoming;
use super::payload::Found;
use super::rtcp::{self, Said};
use super::{NtpTime, RtpError};
use crate::container::Item;
use crate::container::announce::Announcer;
use crate::media::{Frame, FrameKind, Timestamp, Tracks};

/// Where the timeline begins.
const START: Timestamp = Timestamp::from_millis(1000);
/// Reports that would move a track by more than this are not believed. Less than what a track's
/// clock takes for a jump.
const CORRECTION_NANOS_MAX: i64 = 8_000_000_000;
/// Below this tracks are in step; beyond the second a correction is made at once.
const CORRECTION_NANOS_MIN: i64 = 10_000_000;
const AT_ONCE_NANOS: i64 = 500_000_000;
/// Least step between two frames of sound.
const SOUND_STEP_NANOS: i64 = 1000;

/// Bounds of a receiver.
#[derive(Debug, Clone, Copy)]
pub struct ReceiverLimits {
    /// Packets of a track that wait for one before them.
    pub reorder_packets: usize,
    /// How long they wait.
    pub reorder_time: Duration,
    /// Bytes of one access unit.
    pub frame_bytes: usize,
}

impl Default for ReceiverLimits {
    fn default() -> Self {
        Self {
            reorder_packets: 512,
            reorder_time: Duration::from_millis(200),
            frame_bytes: 8 << 20,
        }
    }
}

/// What a receiver has to say.
#[derive(Debug, Clone, PartialEq)]
pub enum ReceiverEvent {
    /// The tracks, first time or changed.
    Tracks(Arc<Tracks>),
    /// A frame of the tracks announced last.
    Frame(Frame),
    /// The publisher ended this track (BYE).
    Ended(usize),
}

/// The account of one track; all counts but the jitter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets, those sent twice only once.
    pub received: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that had not come when those behind them were passed on. Never falls; `late` has
    /// those that came after all.
    pub given_up: u64,
    /// Packets that came after one sent later.
    pub reordered: u64,
    /// Packets that had come before.
    pub duplicates: u64,
    /// Packets that came when they were given up already; `reordered` has them too.
    pub late: u64,
    /// Mean deviation of the transit time, in ticks of the track's clock.
    pub jitter_ticks: u32,
    /// Access units of which something came and that were not passed on: a part was missing, or a
    /// picture that they refer to.
    pub discarded_frames: u64,
    /// Payloads that made no sense.
    pub malformed_payloads: u64,
    /// Packets of a payload type that is not the track's.
    pub wrong_payload_type: u64,
    /// Pictures whose presentation was moved, because they were reordered more than was known.
    pub moved_frames: u64,
}

impl Statistics {
    /// Adds the counts of another track. Jitter, which is in ticks of a track's own, is left.
    pub fn add(&mut self, other: Self) {
        self.received += other.received;
        self.lost += other.lost;
        self.given_up += other.given_up;
        self.reordered += other.reordered;
        self.duplicates += other.duplicates;
        self.late += other.late;
        self.discarded_frames += other.discarded_frames;
        self.malformed_payloads += other.malformed_payloads;
        self.wrong_payload_type += other.wrong_payload_type;
        self.moved_frames += other.moved_frames;
    }
}

/// Receives all tracks of one publisher; of these the first video and the first audio track are
/// carried. See the module for times.
#[derive(Debug)]
pub struct Receiver {
    epoch: Instant,
    tracks: Vec<Incoming>,
    video: Option<usize>,
    audio: Option<usize>,
    order: DecodeOrder,
    last_sound: Option<Timestamp>,
    announcer: Announcer,
    items: VecDeque<Item>,
    ended: VecDeque<usize>,
    feedback: Feedback,
}

impl Receiver {
    /// A receiver of these tracks; their order is how all methods number them.
    pub fn new(
        now: Instant,
        seed: u64,
        limits: ReceiverLimits,
        tracks: Vec<PayloadFormat>,
    ) -> Self {
        let first = |video| tracks.iter().position(|format| format.is_video() == video);
        let (video, audio) = (first(true), first(false));
        let incoming = |(at, format)| {
            let carried = Some(at) == video || Some(at) == audio;
            Incoming::new(now, format, carried, &limits)
        };
        let mut announcer = Announcer::default();
        announcer.expect((video.is_some(), true), (audio.is_some(), true));
        Self {
            epoch: now,
            tracks: tracks.iter().enumerate().map(incoming).collect(),
            video,
            audio,
            order: DecodeOrder::new(),
            last_sound: None,
            announcer,
            items: VecDeque::new(),
            ended: VecDeque::new(),
            feedback: Feedback::new(now, seed),
        }
    }

    /// Takes an RTP packet of a track.
    ///
    /// # Errors
    /// There is no such track, or the header makes no sense. The packet is dropped.
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        track: usize,
        packet: Bytes,
    ) -> Result<(), RtpError> {
        let incoming = self.tracks.get_mut(track).ok_or(RtpError::UnknownTrack)?;
        let (header, payload) = Header::parse(&packet)?;
        incoming.on_packet(now, header, payload);
        self.depacketize(now, track);
        self.feedback.speak(now, &mut self.tracks, self.video);
        Ok(())
    }

    /// Takes an RTCP packet that came for a track.
    ///
    /// # Errors
    /// There is no such track, or the packet does not add up; what is whole of it counts.
    pub fn handle_rtcp(
        &mut self,
        now: Instant,
        track: usize,
        packet: &[u8],
    ) -> Result<(), RtpError> {
        let mut said = Vec::new();
        let read = rtcp::read(packet, &mut said);
        for said in said {
            let incoming = self.tracks.get_mut(track).ok_or(RtpError::UnknownTrack)?;
            match said {
                Said::Report { ssrc, ntp, timestamp } => {
                    if incoming.on_report(now, ssrc, ntp, timestamp) {
                        self.line_up(now);
                    }
                }
                Said::Goodbye(sources) => {
                    if incoming.on_goodbye(&sources) {
                        self.end(now, track);
                        self.ended.push_back(track);
                    }
                }
            }
        }
        read
    }

    /// Gives up on packets that were waited for long enough and says what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for track in 0..self.tracks.len() {
            if let Some(incoming) = self.tracks.get_mut(track) {
                incoming.give_up(now);
            }
            self.depacketize(now, track);
        }
        self.feedback.speak(now, &mut self.tracks, self.video);
    }

    /// When [`Receiver::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waits = self.tracks.iter().filter_map(Incoming::deadline).min();
        let speaks = self.feedback.deadline();
        Some(waits.map_or(speaks, |waits| waits.min(speaks)))
    }

    /// What came out.
    pub fn poll_event(&mut self) -> Option<ReceiverEvent> {
        match self.items.pop_front() {
            Some(Item::Tracks(tracks)) => Some(ReceiverEvent::Tracks(tracks)),
            Some(Item::Frame(frame)) => Some(ReceiverEvent::Frame(frame)),
            None => self.ended.pop_front().map(ReceiverEvent::Ended),
        }
    }

    /// RTCP to be sent, and the track it belongs to.
    pub fn poll_rtcp(&mut self) -> Option<(usize, Bytes)> {
        self.feedback.poll()
    }

    /// Asks the publisher for a keyframe; at most once a second, later if it was asked before.
    pub fn request_keyframe(&mut self, now: Instant) {
        if self.video.is_some() {
            self.feedback.on_request();
            self.feedback.speak(now, &mut self.tracks, self.video);
        }
    }

    /// The publication is over: gives out what waits for more.
    pub fn finish(&mut self, now: Instant) {
        for track in 0..self.tracks.len() {
            self.end(now, track);
        }
    }

    /// The account of a track; empty when there is none of this number.
    pub fn statistics(&self, track: usize) -> Statistics {
        let moved_frames = if self.video == Some(track) { self.order.moved } else { 0 };
        let incoming = self.tracks.get(track).map(Incoming::statistics);
        Statistics { moved_frames, ..incoming.unwrap_or_default() }
    }

    /// The counts of all tracks together.
    pub fn total(&self) -> Statistics {
        let mut total = Statistics::default();
        (0..self.tracks.len()).for_each(|track| total.add(self.statistics(track)));
        total
    }

    /// Bytes held on the heap; an estimate for the accounts.
    pub fn memory_bytes(&self) -> usize {
        let item = |item: &Item| match item {
            Item::Frame(frame) => frame.payload.len(),
            Item::Tracks(_) => 0,
        };
        let items: usize = self.items.iter().map(item).sum();
        let tracks: usize = self.tracks.iter().map(Incoming::memory_bytes).sum();
        size_of::<Self>()
            + self.tracks.len() * size_of::<Incoming>()
            + items
            + tracks
            + self.announcer.held_bytes()
            + self.order.held_bytes()
    }

    /// Passes what is in order to the depacketizer of a track, and what that finds on.
    fn depacketize(&mut self, now: Instant, track: usize) {
        let Some(incoming) = self.tracks.get_mut(track) else { return };
        if incoming.ready.is_empty() {
            return;
        }
        let mut packets = std::mem::take(&mut incoming.ready);
        let mut found = Vec::new();
        if let Some(depacketizer) = &mut incoming.depacketizer {
            packets.iter().for_each(|packet| depacketizer.push(packet, &mut found));
            if depacketizer.wants_keyframe() {
                self.feedback.on_picture_loss();
            }
        }
        // The room is kept for the next packet.
        packets.clear();
        incoming.ready = packets;
        self.on_found(now, track, found);
    }

    /// Nothing more comes of a track for now.
    fn end(&mut self, now: Instant, track: usize) {
        self.depacketize(now, track);
        let mut found = Vec::new();
        if let Some(incoming) = self.tracks.get_mut(track)
            && let Some(depacketizer) = &mut incoming.depacketizer
        {
            depacketizer.finish(&mut found);
        }
        self.on_found(now, track, found);
        if self.video == Some(track) {
            let mut frames = Vec::new();
            self.order.flush(&mut frames);
            self.pass_on(frames);
        }
        self.announcer.release(&mut self.items);
    }

    fn on_found(&mut self, now: Instant, track: usize, found: Vec<Found>) {
        let arrival = START + now.saturating_duration_since(self.epoch);
        for found in found {
            let mut frames = Vec::new();
            match found {
                Found::Gap => self.order.restart(&mut frames),
                Found::VideoTrack(video, reordering) => {
                    self.order.set(reordering, &mut frames);
                    self.pass_on(std::mem::take(&mut frames));
                    self.announcer.set_video(video, &mut self.items);
                }
                Found::AudioTrack(audio) => self.announcer.set_audio(audio, &mut self.items),
                Found::Frame { timestamp, kind, payload } => {
                    let Some(incoming) = self.tracks.get_mut(track) else { return };
                    let (dts, anew) = incoming.clock.next(timestamp, arrival);
                    if anew {
                        self.line_up(now);
                    }
                    let frame = Frame { kind, dts, composition_offset: 0, payload };
                    if kind == FrameKind::Audio {
                        self.on_sound(frame);
                        continue;
                    }
                    if anew {
                        self.order.restart(&mut frames);
                    }
                    self.order.push(frame, &mut frames);
                }
            }
            self.pass_on(frames);
        }
    }

    fn on_sound(&mut self, mut frame: Frame) {
        if let Some(last) = self.last_sound {
            frame.dts = frame.dts.max(last.offset_nanos(SOUND_STEP_NANOS));
        }
        self.last_sound = Some(frame.dts);
        self.announcer.frame(frame, &mut self.items);
    }

    fn pass_on(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            self.announcer.frame(frame, &mut self.items);
        }
    }

    /// Lines the two tracks up by their sender reports, once there is one of each.
    fn line_up(&mut self, now: Instant) {
        let (Some(video), Some(audio)) = (self.video, self.audio) else { return };
        let Ok([video, audio]) = self.tracks.get_disjoint_mut([video, audio]) else { return };
        let (Some(of_video), Some(of_audio)) = (video.report, audio.report) else { return };
        let apart = NtpTime::nanos_since(of_audio.ntp, of_video.ntp);
        let arrival = START + now.saturating_duration_since(self.epoch);
        let believed = |time: Timestamp| (time - arrival).saturating_abs() <= CORRECTION_NANOS_MAX;
        match (video.clock.place(of_video.ticks), audio.clock.place(of_audio.ticks)) {
            (None, None) => {}
            (Some(place), None) => {
                let place = place.offset_nanos(apart);
                if believed(place) {
                    audio.clock.set_origin(of_audio.ticks, place);
                }
            }
            (None, Some(place)) => {
                let place = place.offset_nanos(apart.saturating_neg());
                if believed(place) {
                    video.clock.set_origin(of_video.ticks, place);
                }
            }
            (Some(of_video), Some(of_audio)) => {
                let correction = of_video.offset_nanos(apart) - of_audio;
                let size = correction.saturating_abs();
                if size > CORRECTION_NANOS_MAX {
                    tracing::debug!(correction, "sender reports are too far apart");
                } else if size > AT_ONCE_NANOS && correction < 0 {
                    video.clock.shift(size, true);
                } else if size >= CORRECTION_NANOS_MIN {
                    audio.clock.shift(correction, size > AT_ONCE_NANOS);
                }
            }
        }
    }
}
