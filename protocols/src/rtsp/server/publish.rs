//! `ANNOUNCE` and `RECORD` (RFC 2326 10.3, 10.11), and the media that follow.

use std::time::Instant;

use bytes::Bytes;

use crate::rtp::sdp::{self, MediumFormat};
use crate::rtp::{PayloadFormat, Statistics};
use crate::rtsp::ingest::{Ingest, IngestTrack};
use crate::rtsp::message::{Draft, Request};
use crate::rtsp::status::Status;
use crate::rtsp::transport::Delivery;
use crate::rtsp::url::{Target, track_number};
use crate::session::{Event, OutputQueue};

use super::describe::SDP;
use super::{PendingRequest, Phase, Server};

/// One announced medium.
#[derive(Debug)]
pub(super) struct PublishTrack {
    /// Control attribute; empty if it has none.
    control: String,
    /// `None`: neither video nor audio.
    format: Option<PayloadFormat>,
    pub(super) delivery: Option<Delivery>,
}

impl PublishTrack {
    pub(super) fn is_video(&self) -> bool {
        self.format.as_ref().is_some_and(PayloadFormat::is_video)
    }
}

/// The session of a publisher.
#[derive(Debug)]
pub(super) struct Publish {
    /// From the first `SETUP` on.
    pub(super) id: Option<String>,
    pub(super) target: Target,
    pub(super) tracks: Vec<PublishTrack>,
    /// From the first `RECORD` on.
    ingest: Option<Ingest>,
    recording: bool,
}

impl Publish {
    /// There was a `RECORD`.
    pub(super) fn has_recorded(&self) -> bool {
        self.ingest.is_some()
    }

    /// The last component of a URL is a track of this publication.
    pub(super) fn is_control(&self, last: &str) -> bool {
        self.position_of_control(last).is_some()
    }

    /// The medium of that control attribute, or of that number if it looks like one.
    pub(super) fn position_of_control(&self, control: &str) -> Option<usize> {
        let named = self.tracks.iter().position(|track| track.control == control);
        named.or_else(|| {
            let number = usize::from(track_number(control)?);
            (number < self.tracks.len()).then_some(number)
        })
    }

    /// The medium whose control attribute is that URL or, with several components, its end.
    pub(super) fn position_of_url(&self, url: &str) -> Option<usize> {
        let url = url.trim_end_matches('/');
        self.tracks.iter().position(|track| {
            let control = track.control.trim_end_matches('/');
            let beyond_one = control.contains('/') && control.len() > 1;
            beyond_one
                && (url == control
                    || url.strip_suffix(control).is_some_and(|base| base.ends_with('/')))
        })
    }

    /// A packet within the connection.
    pub(super) fn handle_interleaved(
        &mut self,
        now: Instant,
        channel: u8,
        data: Bytes,
        outputs: &mut OutputQueue,
    ) {
        if let Some(ingest) = self.ingest.as_mut().filter(|_| self.recording) {
            ingest.handle_interleaved(now, channel, data, outputs);
        }
    }

    /// A packet beside the connection.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        track: u8,
        rtcp: bool,
        data: Bytes,
        outputs: &mut OutputQueue,
    ) {
        if let Some(ingest) = self.ingest.as_mut().filter(|_| self.recording) {
            ingest.handle_datagram(now, track, rtcp, data, outputs);
        }
    }

    /// The publication is over.
    pub(super) fn finish(&mut self, now: Instant, outputs: &mut OutputQueue) {
        if let Some(ingest) = &mut self.ingest {
            ingest.finish(now, outputs);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, outputs: &mut OutputQueue) {
        if let Some(ingest) = &mut self.ingest {
            ingest.handle_timeout(now, outputs);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.ingest.as_ref().and_then(Ingest::poll_timeout)
    }

    /// What has become of the packets so far.
    pub(super) fn statistics(&self) -> Statistics {
        self.ingest.as_ref().map(Ingest::statistics).unwrap_or_default()
    }

    /// What comes until the next `RECORD` is dropped.
    pub(super) fn pause(&mut self) {
        self.recording = false;
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let controls: usize = self.tracks.iter().map(|track| track.control.capacity()).sum();
        size_of::<Self>()
            + self.target.heap_bytes()
            + self.tracks.capacity() * size_of::<PublishTrack>()
            + controls
            + self.ingest.as_ref().map_or(0, Ingest::heap_bytes)
    }
}

impl Server {
    pub(super) fn on_announce(&mut self, request: &Request, cseq: u32) {
        let target = match self.acceptable(&request.target) {
            Ok(target) => target,
            Err((status, detail)) => return self.answer(cseq, status, detail),
        };
        let content_type = request.fields.get("Content-Type").unwrap_or(SDP);
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case(SDP) {
            self.answer(cseq, Status::UNSUPPORTED_MEDIA, "descriptions are application/sdp");
            return;
        }
        let tracks = match announced(&request.body) {
            Ok(tracks) => tracks,
            Err((status, detail)) => return self.answer(cseq, status, &detail),
        };
        let event = Event::PublishRequested(self.access_request(&target));
        let publish = Publish { id: None, target, tracks, ingest: None, recording: false };
        self.wait(cseq, PendingRequest::Announce(Box::new(publish)), event);
    }

    pub(super) fn on_record(&mut self, now: Instant, request: &Request, cseq: u32) {
        if !self.is_aggregate(request, cseq) {
            return;
        }
        let seed = self.random.next_u64();
        let Phase::Publish(publish) = &mut self.phase else { return };
        if publish.ingest.is_none() {
            // A track that was announced and not set up will not come.
            let tracks = publish.tracks.iter().enumerate().filter_map(|(number, track)| {
                Some(IngestTrack {
                    track: u8::try_from(number).ok()?,
                    // What is neither video nor audio is dropped.
                    format: track.format.clone()?,
                    delivery: track.delivery.clone()?,
                })
            });
            publish.ingest = Some(Ingest::new(now, seed, self.options.receiver, tracks));
        }
        publish.recording = true;
        let draft = self.with_session(Draft::response(Status::OK, "", Some(cseq)));
        self.send(draft);
        self.rearm(now);
    }
}

/// The tracks of a description: at most one video and one audio, all in formats of ours.
fn announced(body: &[u8]) -> Result<Vec<PublishTrack>, (Status, String)> {
    let description = sdp::parse(body).map_err(|error| (Status::BAD_REQUEST, error.to_string()))?;
    let mut counts = [0; 2];
    let mut tracks = Vec::with_capacity(description.media.len());
    for medium in description.media {
        let format = match medium.format {
            MediumFormat::Known(format) => Some(format),
            MediumFormat::Unsupported(what) => {
                return Err((Status::UNSUPPORTED_MEDIA, format!("cannot receive {what}")));
            }
            MediumFormat::Other => None,
        };
        if let Some(format) = &format {
            counts[usize::from(format.is_video())] += 1;
        }
        tracks.push(PublishTrack { control: medium.control, format, delivery: None });
    }
    match counts {
        [0, 0] => Err((Status::UNSUPPORTED_MEDIA, "neither video nor audio".to_owned())),
        [0 | 1, 0 | 1] => Ok(tracks),
        _ => Err((
            Status::UNSUPPORTED_MEDIA,
            "a stream has at most one video and one audio track".to_owned(),
        )),
    }
}
