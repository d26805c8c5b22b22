//! `DESCRIBE` (RFC 2326 10.2): the description of a live stream.

use std::sync::Arc;

use crate::media::Tracks;
use crate::rtp::sdp;
use crate::rtsp::CONTROL_PREFIX;
use crate::rtsp::message::{Draft, Request};
use crate::rtsp::status::Status;
use crate::rtsp::url::Target;
use crate::session::Event;

use super::{PendingRequest, Server};

/// The only form of description here.
pub(super) const SDP: &str = "application/sdp";

/// A stream that was described on this connection.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) target: Target,
    /// Video, audio.
    pub(super) kinds: [bool; 2],
}

impl Described {
    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.target.heap_bytes()
    }
}

impl Server {
    pub(super) fn on_describe(&mut self, request: &Request, cseq: u32) {
        let mut accept = request.fields.all("Accept").peekable();
        if accept.peek().is_some() && !accept.any(accepts_sdp) {
            self.answer(cseq, Status::NOT_ACCEPTABLE, "descriptions are application/sdp");
            return;
        }
        match self.acceptable(&request.target) {
            Ok(target) => {
                let event = Event::DescribeRequested(self.access_request(&target));
                self.wait(cseq, PendingRequest::Describe(target), event);
            }
            Err((status, detail)) => self.answer(cseq, status, detail),
        }
    }

    pub(super) fn describe(&mut self, cseq: u32, target: Target, tracks: &Arc<Tracks>) {
        let presentation = sdp::Presentation {
            id: self.random.next_u64() >> 1,
            address: self.addresses.local,
            name: &target.name,
            tool: &self.options.name,
        };
        let (video, audio) = sdp::formats(tracks);
        let both = (video.as_ref(), audio.as_ref());
        let Some(text) = sdp::write(both, presentation, CONTROL_PREFIX) else {
            let detail = "no track of this stream has an RTP payload format";
            self.answer(cseq, Status::NOT_ACCEPTABLE, detail);
            return;
        };
        let draft = Draft::response(Status::OK, "", Some(cseq))
            .with("Content-Base", &target.content_base())
            .with("Cache-Control", "no-cache")
            .with_body(SDP, text);
        self.send(draft);
        let kinds = [video.is_some(), audio.is_some()];
        self.described = Some(Box::new(Described { target, kinds }));
    }
}

/// One value of `Accept` (12.1) takes session descriptions.
fn accepts_sdp(value: &str) -> bool {
    value.split(',').any(|range| {
        let media_type = range.split(';').next().unwrap_or_default().trim();
        ["*/*", "application/*", SDP].iter().any(|ours| ours.eq_ignore_ascii_case(media_type))
    })
}
