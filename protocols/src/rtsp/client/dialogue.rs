//! The dialogue of a pull: `OPTIONS`, `DESCRIBE`, `SETUP` of each track, `PLAY`.

use std::time::{Duration, Instant};

use crate::rtp::sdp::{self, MediumFormat};
use crate::rtsp::ingest::{Ingest, IngestTrack};
use crate::rtsp::message::{Method, Response};
use crate::rtsp::status::Status;
use crate::rtsp::transport::{Delivery, Transport};
use crate::rtsp::url::resolve;
use crate::session::{ErrorClass, Event, SessionError};

use super::{Client, KEEPALIVE_MIN, Phase, PullTrack, SESSION_TIMEOUT, ServerSession, misbehaved};

/// Longest session id taken.
const SESSION_ID_BYTES_MAX: usize = 256;

impl Client {
    pub(super) fn on_response(
        &mut self,
        now: Instant,
        response: &Response,
    ) -> Result<(), SessionError> {
        // An answer without CSeq can only belong to the one question there is.
        if response.fields.cseq().is_some_and(|cseq| cseq != self.cseq) || self.asked.is_none() {
            tracing::trace!(status = response.status.0, "answer to no question ignored");
            return Ok(());
        }
        if response.status.0 < 200 {
            return Ok(());
        }
        let challenges = response.fields.all("WWW-Authenticate");
        if response.status == Status::UNAUTHORIZED && self.authorization.challenged(challenges) {
            self.send_asked(now);
            if self.phase == Phase::Playing {
                self.timers.answer = None;
            }
            return Ok(());
        }
        let Some(asked) = self.asked.take() else { return Ok(()) };
        self.timers.answer = None;
        if response.status.is_redirection() {
            return self.on_redirect(response.fields.get("Location"));
        }
        match self.phase {
            // Whoever does not know OPTIONS may know the rest.
            Phase::Options if response.status != Status::UNAUTHORIZED => {
                self.on_options(now, response);
                Ok(())
            }
            Phase::Restart => {
                self.session = None;
                self.setup_next(now, 0);
                Ok(())
            }
            Phase::Setup(_)
                if response.status == Status::UNSUPPORTED_TRANSPORT && self.may_change =>
            {
                self.change_way(now);
                Ok(())
            }
            // A session that is gone, or credentials that are; anything else is a server's manners.
            Phase::Playing
                if ![Status::SESSION_NOT_FOUND, Status::UNAUTHORIZED]
                    .contains(&response.status) =>
            {
                Ok(())
            }
            _ if !response.status.is_success() => Err(refused(asked.method, response)),
            Phase::Describe => self.on_described(now, response),
            Phase::Setup(index) => self.on_setup(now, index, response),
            Phase::Play => {
                self.on_playing(now);
                Ok(())
            }
            Phase::Options | Phase::Ports(_) | Phase::Playing | Phase::Ended => Ok(()),
        }
    }

    fn on_options(&mut self, now: Instant, response: &Response) {
        let mut public = response.fields.all("Public").flat_map(|value| value.split(','));
        self.get_parameter = public.any(|name| name.trim() == Method::GetParameter.name());
        self.phase = Phase::Describe;
        let fields = vec![("Accept", "application/sdp".to_owned())];
        self.ask(now, Method::Describe, self.options.url.clone(), fields);
    }

    fn on_described(&mut self, now: Instant, response: &Response) -> Result<(), SessionError> {
        let description = sdp::parse(&response.body)
            .map_err(|error| misbehaved(&format!("description: {error}")))?;
        let fields = &response.fields;
        let base = fields.get("Content-Base").or(fields.get("Content-Location"));
        let base = base.filter(|base| base.contains("://")).unwrap_or(&self.options.url).to_owned();
        self.presentation = resolve(&base, &description.control);
        let mut left_out = Vec::new();
        for medium in description.media {
            match medium.format {
                MediumFormat::Known(format)
                    if self
                        .tracks
                        .iter()
                        .all(|known| known.format.is_video() != format.is_video()) =>
                {
                    let url = resolve(&base, &medium.control);
                    self.tracks.push(PullTrack { url, format, delivery: None });
                }
                MediumFormat::Unsupported(what) => left_out.push(what),
                MediumFormat::Known(_) | MediumFormat::Other => {}
            }
        }
        if self.tracks.is_empty() {
            let detail = format!("nothing to receive: {}", left_out.join(", "));
            return Err(SessionError::new(ErrorClass::PeerUnsupported, "no_tracks", detail));
        }
        if !left_out.is_empty() {
            tracing::info!(tracks = left_out.join(", "), "tracks left out");
        }
        self.setup_next(now, 0);
        Ok(())
    }

    /// Sets that track up, or begins to play if there is none left.
    pub(super) fn setup_next(&mut self, now: Instant, index: usize) {
        let Some(track) = self.tracks.get(index) else { return self.send_play(now) };
        // At most one video and one audio.
        let number = u8::try_from(index).unwrap_or(u8::MAX);
        if self.interleaved {
            let rtp = number.saturating_mul(2);
            self.send_setup(now, index, Delivery::Interleaved(Some((rtp, rtp + 1))));
        } else {
            self.phase = Phase::Ports(index);
            self.outputs.event(Event::DatagramRequested {
                track: number,
                video: track.format.is_video(),
                client_ports: (0, 0),
                publish: true,
            });
        }
    }

    pub(super) fn send_setup(&mut self, now: Instant, index: usize, delivery: Delivery) {
        let Some(track) = self.tracks.get_mut(index) else { return };
        let url = track.url.clone();
        track.delivery = Some(delivery.clone());
        let transport =
            Transport { names_udp: false, delivery, destination: None, source: None, record: None };
        self.phase = Phase::Setup(index);
        self.ask(now, Method::Setup, url, vec![("Transport", transport.to_header())]);
    }

    fn on_setup(
        &mut self,
        now: Instant,
        index: usize,
        response: &Response,
    ) -> Result<(), SessionError> {
        let session = server_session(response)?;
        match &self.session {
            None => self.session = Some(session),
            Some(known) if known.id == session.id => {}
            Some(_) => return Err(misbehaved("each track in a session of its own")),
        }
        let header = response.fields.get("Transport").unwrap_or_default();
        let answer = Transport::parse_all(header).into_iter().next();
        let asked = self.tracks.get(index).and_then(|track| track.delivery.clone());
        let number = u8::try_from(index).unwrap_or(u8::MAX);
        let delivery = match (asked, answer.as_ref().map(|answer| answer.delivery.clone())) {
            (asked @ Some(Delivery::Interleaved(_)), Some(Delivery::Interleaved(None))) => asked,
            (_, Some(delivery @ Delivery::Interleaved(Some(_)))) => Some(delivery),
            (Some(Delivery::Datagram { client, .. }), Some(Delivery::Datagram { server, .. })) => {
                let source = answer.and_then(|answer| answer.source?.parse().ok());
                if let Some(ports) = server {
                    self.outputs.event(Event::DatagramConnected { track: number, ports, source });
                }
                Some(Delivery::Datagram { client, server })
            }
            _ => return Err(misbehaved("SETUP answered with another transport")),
        };
        if let Some(track) = self.tracks.get_mut(index) {
            track.delivery = delivery;
        }
        self.setup_next(now, index + 1);
        Ok(())
    }

    fn send_play(&mut self, now: Instant) {
        let tracks = self.tracks.iter().enumerate().filter_map(|(number, track)| {
            Some(IngestTrack {
                track: u8::try_from(number).ok()?,
                format: track.format.clone(),
                delivery: track.delivery.clone()?,
            })
        });
        let seed = self.random.next_u64();
        // Media may overtake the answer.
        let ingest = Ingest::new(now, seed, self.options.receiver, tracks);
        self.ingest = Some(Box::new(ingest));
        self.phase = Phase::Play;
        let fields = vec![("Range", "npt=0.000-".to_owned())];
        self.ask(now, Method::Play, self.presentation.clone(), fields);
    }

    fn on_playing(&mut self, now: Instant) {
        self.phase = Phase::Playing;
        let timeout = self.session.as_ref().map_or(SESSION_TIMEOUT, |session| session.timeout);
        self.timers.keepalive = now.checked_add((timeout / 2).max(KEEPALIVE_MIN));
        let datagrams =
            |track: &PullTrack| matches!(track.delivery, Some(Delivery::Datagram { .. }));
        if self.may_change && self.tracks.iter().any(datagrams) {
            self.timers.datagrams = now.checked_add(self.options.datagram_timeout);
        }
        self.timers.media = now.checked_add(self.options.media_timeout);
    }

    /// Sets all tracks up anew, to travel the other way: within the connection, or not. Ports of
    /// datagrams are given back.
    pub(super) fn change_way(&mut self, now: Instant) {
        self.may_change = false;
        if !self.interleaved {
            self.outputs.event(Event::PlayEnded);
        }
        self.interleaved = !self.interleaved;
        self.ingest = None;
        (self.timers.datagrams, self.timers.media, self.timers.keepalive) = (None, None, None);
        for track in &mut self.tracks {
            track.delivery = None;
        }
        if self.session.is_some() {
            self.phase = Phase::Restart;
            self.ask(now, Method::Teardown, self.presentation.clone(), Vec::new());
        } else {
            self.setup_next(now, 0);
        }
    }
}

/// `Session` of an answer to `SETUP`.
fn server_session(response: &Response) -> Result<ServerSession, SessionError> {
    let id = response.fields.session_id().unwrap_or_default();
    if id.is_empty() || id.len() > SESSION_ID_BYTES_MAX {
        return Err(misbehaved("SETUP answered without a session"));
    }
    let header = response.fields.get("Session").unwrap_or_default();
    let seconds = header.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().parse::<u32>().ok())?
    });
    let timeout = seconds.map_or(SESSION_TIMEOUT, |seconds| Duration::from_secs(seconds.into()));
    Ok(ServerSession { id: id.to_owned(), timeout })
}

/// The end by an answer of the server, which is the detail.
fn refused(method: Method, response: &Response) -> SessionError {
    let phrase: String =
        response.phrase.chars().filter(|character| !character.is_control()).take(200).collect();
    let detail = format!("{}: {} {phrase}", method.name(), response.status.0);
    let reason = match response.status {
        Status::NOT_FOUND => "stream_not_found",
        _ => "server_refused",
    };
    SessionError::new(ErrorClass::Refused, reason, detail)
}
