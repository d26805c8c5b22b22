//! `SETUP` (RFC 2326 10.4): the first transport of the client's list that is possible.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Instant;

use crate::rtsp::CONTROL_PREFIX;
use crate::rtsp::message::{Draft, Request};
use crate::rtsp::status::Status;
use crate::rtsp::transport::{ALTERNATIVES_MAX, Delivery, Transport};
use crate::rtsp::url::{Target, resolve, split_control, track_number};
use crate::session::{Command, Event, Refusal};

use super::play::{Play, PlayState, PlayTrack};
use super::{PendingRequest, Phase, Server};

/// A track on its way to a transport.
#[derive(Debug)]
pub(super) struct Setup {
    /// Stream of the session; of a publication it is known.
    target: Target,
    url: String,
    track: u8,
    video: bool,
    /// What can still be tried.
    alternatives: VecDeque<Transport>,
    /// What the engine is asked for.
    asked: Option<Transport>,
}

impl Setup {
    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.target.heap_bytes()
            + self.url.capacity()
            + self.alternatives.capacity() * size_of::<Transport>()
    }
}

/// The track a client names.
struct Found {
    target: Target,
    /// The URL of the track, as the client wrote it.
    url: String,
    /// Of a play 0 video, 1 audio; of a publication the number of the medium.
    track: u8,
    video: bool,
}

/// A refusal in words.
type Refused = (Status, &'static str);

impl Server {
    pub(super) fn on_setup(&mut self, now: Instant, request: &Request, cseq: u32) {
        if matches!(&self.phase, Phase::Play(play) if play.state == PlayState::Paused) {
            if request.fields.session_id().is_some() {
                // How the media of a play travel does not change any more (10.4).
                return self.answer(cseq, Status::INVALID_STATE, "");
            }
            // A client that begins anew, with another transport, on the connection of its old play.
            self.end_session(now);
        }
        let found = match &self.phase {
            Phase::Publish(_) => self.publish_track(&request.target),
            _ => self.play_track(&request.target),
        };
        let Found { target, url, track, video } = match found {
            Ok(found) => found,
            Err((status, detail)) => return self.answer(cseq, status, detail),
        };
        let alternatives = request
            .fields
            .all("Transport")
            .flat_map(Transport::parse_all)
            .filter(|transport| self.is_possible(transport, track))
            .take(ALTERNATIVES_MAX)
            .collect();
        let setup = Setup { target, url, track, video, alternatives, asked: None };
        self.try_transports(now, cseq, Box::new(setup), None);
    }

    fn play_track(&self, url: &str) -> Result<Found, Refused> {
        let described = self.described.as_deref();
        let known = match &self.phase {
            Phase::Play(play) => Some(&play.target),
            _ => described.map(|described| &described.target),
        };
        let in_known = known.and_then(|known| Some((known.clone(), self.locate(url, known)?)));
        let (target, control) = match in_known {
            Some(found) => found,
            None if matches!(self.phase, Phase::Play(_)) => {
                return Err((Status::AGGREGATE_NOT_ALLOWED, "one session plays one stream"));
            }
            // Nothing was described, or something else.
            None => {
                let (base, control) = split_control(url, |last| track_number(last).is_some());
                (self.acceptable(&base)?, control)
            }
        };
        let kinds = described
            .filter(|described| described.target.is_same_stream(&target))
            .map_or([true, true], |described| described.kinds);
        let track = match (control.as_deref().map(track_number), kinds) {
            (Some(Some(track @ (0 | 1))), _) => track,
            (Some(_), _) => return Err((Status::NOT_FOUND, "no such track")),
            (None, [true, true]) => {
                return Err((Status::AGGREGATE_NOT_ALLOWED, "the URL names no track"));
            }
            (None, [video, _]) => u8::from(!video),
        };
        if !kinds[usize::from(track)] {
            return Err((Status::NOT_FOUND, "the stream has no such track"));
        }
        let url = match control {
            Some(_) => url.to_owned(),
            None => resolve(&target.content_base(), &format!("{CONTROL_PREFIX}{track}")),
        };
        Ok(Found { target, url, track, video: track == 0 })
    }

    fn publish_track(&self, url: &str) -> Result<Found, Refused> {
        let Phase::Publish(publish) = &self.phase else {
            return Err((Status::INVALID_STATE, ""));
        };
        let number = match self.locate(url, &publish.target) {
            // Its control URLs may lie anywhere.
            _ if let Some(number) = publish.position_of_url(url) => Some(number),
            Some(Some(control)) => publish.position_of_control(&control),
            Some(None) if publish.tracks.len() == 1 => Some(0),
            Some(None) => return Err((Status::AGGREGATE_NOT_ALLOWED, "the URL names no track")),
            None => return Err((Status::NOT_FOUND, "not the stream that was announced")),
        };
        let track = number.and_then(|number| Some((number, publish.tracks.get(number)?)));
        let Some((number, track)) = track else {
            return Err((Status::NOT_FOUND, "no such track was announced"));
        };
        Ok(Found {
            target: publish.target.clone(),
            url: url.to_owned(),
            // Media are far fewer than that.
            track: u8::try_from(number).unwrap_or(u8::MAX),
            video: track.is_video(),
        })
    }

    /// The transport could serve this session; media go nowhere but to the peer.
    fn is_possible(&self, transport: &Transport, track: u8) -> bool {
        let publish = matches!(self.phase, Phase::Publish(_));
        let multicast = matches!(transport.delivery, Delivery::Multicast { .. });
        let direction = transport.record.is_none_or(|record| record == publish);
        let same_peer = transport.destination.as_ref().is_none_or(|destination| {
            multicast || destination.parse::<IpAddr>().ok() == Some(self.addresses.peer)
        });
        // The sender of shared packets counts RTCP from RTP.
        let in_order = match transport.delivery {
            Delivery::Interleaved(Some((rtp, rtcp))) => rtp.checked_add(1) == Some(rtcp),
            _ => true,
        };
        let kind = std::mem::discriminant(&transport.delivery);
        let like_others =
            self.deliveries(track).all(|delivery| std::mem::discriminant(delivery) == kind);
        direction && same_peer && in_order && like_others && !(publish && multicast)
    }

    /// How the other tracks of the session travel.
    fn deliveries(&self, track: u8) -> impl Iterator<Item = &Delivery> {
        let (play, publish) = match &self.phase {
            Phase::Play(play) => (Some(play), None),
            Phase::Publish(publish) => (None, Some(publish)),
            Phase::Idle | Phase::Ended => (None, None),
        };
        let play = play
            .into_iter()
            .flat_map(|play| &play.tracks)
            .map(|track| track.as_ref().map(|track| &track.delivery));
        let publish = publish.into_iter().flat_map(|publish| &publish.tracks);
        let publish = publish.map(|track| track.delivery.as_ref());
        play.enumerate()
            .chain(publish.enumerate())
            .filter(move |(number, _)| *number != usize::from(track))
            .filter_map(|(_, delivery)| delivery)
    }

    /// Takes the next alternative: answers at once, or asks the engine. When there is none, the
    /// answer is why the engine `refused` the last one.
    pub(super) fn try_transports(
        &mut self,
        now: Instant,
        cseq: u32,
        mut setup: Box<Setup>,
        refused: Option<Refusal>,
    ) {
        while let Some(mut transport) = setup.alternatives.pop_front() {
            let Setup { track, video, .. } = *setup;
            let event = match &mut transport.delivery {
                Delivery::Interleaved(channels) => {
                    let Some(free) = self.free_channels(*channels, track) else { continue };
                    *channels = Some(free);
                    return self.finish_setup(cseq, *setup, transport);
                }
                Delivery::Datagram { client, .. } => {
                    let publish = matches!(self.phase, Phase::Publish(_));
                    let client_ports = *client;
                    Event::DatagramRequested { track, video, client_ports, publish }
                }
                Delivery::Multicast { .. } => {
                    let request = self.access_request(&setup.target);
                    Event::MulticastRequested { track, video, request }
                }
            };
            setup.asked = Some(transport);
            return self.wait(cseq, PendingRequest::Setup(setup), event);
        }
        match refused {
            Some(Refusal::Unauthorised) if self.options.access.knows_users() => {
                self.challenge_refused(now, cseq);
            }
            // Another transport may do.
            None | Some(Refusal::Unsupported | Refusal::Overloaded) => {
                let detail = refused.map_or("", Refusal::text);
                self.answer(cseq, Status::UNSUPPORTED_TRANSPORT, detail);
            }
            Some(refusal) => self.answer(cseq, refusal.into(), refusal.text()),
        }
    }

    /// The wanted channels if no other track has one of them, or the lowest free pair.
    fn free_channels(&self, wanted: Option<(u8, u8)>, track: u8) -> Option<(u8, u8)> {
        let taken = |channel: u8| {
            self.deliveries(track).any(|delivery| match delivery {
                Delivery::Interleaved(Some((rtp, rtcp))) => [*rtp, *rtcp].contains(&channel),
                _ => false,
            })
        };
        let free = |pair: &(u8, u8)| !taken(pair.0) && !taken(pair.1);
        match wanted {
            Some(pair) => Some(pair).filter(free),
            None => {
                let usual = track.saturating_mul(2);
                let pairs = std::iter::once(usual).chain((0..=254).step_by(2));
                pairs.map(|rtp| (rtp, rtp + 1)).find(free)
            }
        }
    }

    /// The engine has answered the question for ports or a group.
    pub(super) fn on_ports(&mut self, cseq: u32, mut setup: Box<Setup>, command: Command) {
        let fits = match (setup.asked.as_mut().map(|asked| &mut asked.delivery), command) {
            (
                Some(Delivery::Datagram { server, .. }),
                Command::DatagramPorts { track, rtp, rtcp },
            ) if track == setup.track => {
                *server = Some((rtp, rtcp));
                true
            }
            (
                Some(Delivery::Multicast { group }),
                Command::MulticastGroup { track, address, ports, ttl },
            ) if track == setup.track => {
                *group = Some((address, ports, ttl));
                true
            }
            _ => false,
        };
        match setup.asked.take() {
            Some(transport) if fits => self.finish_setup(cseq, *setup, transport),
            asked => {
                setup.asked = asked;
                let request = PendingRequest::Setup(setup);
                self.pending = Some(super::Pending { cseq, request });
            }
        }
    }

    fn finish_setup(&mut self, cseq: u32, setup: Setup, mut transport: Transport) {
        let Setup { target, url, track, .. } = setup;
        let delivery = transport.delivery.clone();
        let fresh_id = format!("{:016x}", self.random.next_u64());
        match &mut self.phase {
            Phase::Publish(publish) => {
                publish.id.get_or_insert(fresh_id);
                if let Some(track) = publish.tracks.get_mut(usize::from(track)) {
                    track.delivery = Some(delivery);
                }
                transport.record = Some(true);
            }
            phase => {
                if !matches!(phase, Phase::Play(_)) {
                    *phase = Phase::Play(Box::new(Play::new(fresh_id, target)));
                }
                if let Phase::Play(play) = phase {
                    play.tracks[usize::from(track)] = Some(PlayTrack { url, delivery });
                }
                transport.record = None;
            }
        }
        let draft = Draft::response(Status::OK, "", Some(cseq));
        let draft = draft.with("Transport", &transport.to_header());
        let draft = self.with_session(draft);
        self.send(draft);
    }
}
