//! `PLAY` and `PAUSE` (RFC 2326 10.5, 10.6): a live stream is played from now on, whatever `Range`
//! asks for.

use std::time::Instant;

use crate::rtp::Channels;
use crate::rtsp::message::{Draft, Request};
use crate::rtsp::status::Status;
use crate::rtsp::transport::Delivery;
use crate::rtsp::url::Target;
use crate::session::{Event, Kinds, RtpStart, RtpTransport};

use super::{PendingRequest, Phase, Server};

/// What is played, in words of 3.6.
const RANGE: &str = "npt=now-";

/// One track of a play.
#[derive(Debug)]
pub(super) struct PlayTrack {
    /// The URL of its `SETUP`: players find their track by it in `RTP-Info`.
    pub(super) url: String,
    pub(super) delivery: Delivery,
}

/// How far a play is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlayState {
    /// Set up, not yet asked for.
    Ready,
    Playing,
    Paused,
}

/// The session of a player.
#[derive(Debug)]
pub(super) struct Play {
    pub(super) id: String,
    pub(super) target: Target,
    /// Video, audio.
    pub(super) tracks: [Option<PlayTrack>; 2],
    pub(super) state: PlayState,
}

impl Play {
    pub(super) fn new(id: String, target: Target) -> Self {
        Self { id, target, tracks: [None, None], state: PlayState::Ready }
    }

    /// Media that nobody reads block the connection, which is sign enough.
    pub(super) fn needs_no_sign(&self) -> bool {
        self.state == PlayState::Playing && matches!(self.transport(), RtpTransport::Interleaved(_))
    }

    /// All tracks travel alike. A kind that is not set up gets channels no other has.
    fn transport(&self) -> RtpTransport {
        let channel = |track: usize| match self.tracks[track].as_ref()?.delivery {
            Delivery::Interleaved(Some((rtp, _))) => Some(rtp),
            _ => None,
        };
        match (channel(0), channel(1)) {
            (Some(video), audio) => {
                let unused = if video == 2 { 0 } else { 2 };
                RtpTransport::Interleaved(Channels { video, audio: audio.unwrap_or(unused) })
            }
            (None, Some(audio)) => {
                let unused = if audio == 0 { 2 } else { 0 };
                RtpTransport::Interleaved(Channels { video: unused, audio })
            }
            (None, None) => {
                let multicast = self
                    .tracks
                    .iter()
                    .flatten()
                    .any(|track| matches!(track.delivery, Delivery::Multicast { .. }));
                if multicast { RtpTransport::Multicast } else { RtpTransport::Datagram }
            }
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let urls: usize = self.tracks.iter().flatten().map(|track| track.url.capacity()).sum();
        size_of::<Self>() + self.id.capacity() + self.target.heap_bytes() + urls
    }
}

impl Server {
    pub(super) fn on_play(&mut self, now: Instant, request: &Request, cseq: u32) {
        if !self.is_aggregate(request, cseq) {
            return;
        }
        let Phase::Play(play) = &mut self.phase else { return };
        let wants_scale = request.fields.get("Scale").is_some();
        match play.state {
            PlayState::Ready => {
                let kinds =
                    Kinds { video: play.tracks[0].is_some(), audio: play.tracks[1].is_some() };
                let transport = Some(play.transport());
                let target = play.target.clone();
                let mut access = self.access_request(&target);
                (access.kinds, access.transport) = (kinds, transport);
                let event = Event::PlayRequested(access);
                self.wait(cseq, PendingRequest::Play { wants_scale }, event);
            }
            // Live: what was missed is not played, and nothing is queued behind.
            PlayState::Paused => {
                play.state = PlayState::Playing;
                self.answer_play(cseq, wants_scale, "");
                self.outputs.event(Event::Paused(false));
                self.rearm(now);
            }
            PlayState::Playing => self.answer_play(cseq, wants_scale, ""),
        }
    }

    /// `starts`: video, audio.
    pub(super) fn accept_play(
        &mut self,
        cseq: u32,
        wants_scale: bool,
        starts: [Option<RtpStart>; 2],
    ) {
        let Phase::Play(play) = &mut self.phase else { return };
        play.state = PlayState::Playing;
        let info: Vec<_> = play
            .tracks
            .iter()
            .zip(starts)
            .filter_map(|(track, start)| Some((track.as_ref()?, start?)))
            .map(|(track, RtpStart { sequence, rtptime })| {
                format!("url={};seq={sequence};rtptime={rtptime}", track.url)
            })
            .collect();
        self.answer_play(cseq, wants_scale, &info.join(","));
    }

    fn answer_play(&mut self, cseq: u32, wants_scale: bool, info: &str) {
        let draft = self.with_session(Draft::response(Status::OK, "", Some(cseq)));
        let mut draft = draft.with("Range", RANGE);
        if wants_scale {
            draft.push("Scale", "1.0");
        }
        if !info.is_empty() {
            draft.push("RTP-Info", info);
        }
        self.send(draft);
    }

    pub(super) fn on_pause(&mut self, now: Instant, request: &Request, cseq: u32) {
        if !self.is_aggregate(request, cseq) {
            return;
        }
        match &mut self.phase {
            Phase::Play(play) if play.state == PlayState::Playing => {
                play.state = PlayState::Paused;
                self.outputs.event(Event::Paused(true));
            }
            Phase::Publish(publish) => publish.pause(),
            _ => {}
        }
        let draft = self.with_session(Draft::response(Status::OK, "", Some(cseq)));
        self.send(draft);
        self.rearm(now);
    }
}
