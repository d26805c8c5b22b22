//! What is asked of a request before it is acted on: extensions, credentials, session, state.

use std::time::Instant;

use crate::rtsp::auth::server::Verdict;
use crate::rtsp::message::{Draft, Method, Request};
use crate::rtsp::status::Status;
use crate::rtsp::url::{Target, split_control};
use crate::session::{Event, Identity};

use super::play::PlayState;
use super::{Phase, Server};

impl Server {
    /// `Require` (12.32): there are no extensions here. False: answered.
    pub(super) fn supports_required(&mut self, request: &Request, cseq: u32) -> bool {
        let fields = &request.fields;
        let required: Vec<_> = fields.all("Require").chain(fields.all("Proxy-Require")).collect();
        if required.is_empty() {
            return true;
        }
        let draft = Draft::response(Status::OPTION_NOT_SUPPORTED, "", Some(cseq));
        self.send(draft.with("Unsupported", &required.join(", ")));
        false
    }

    /// The request may be acted on: credentials, session and state. False: answered.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        method: Method,
        request: &Request,
        cseq: u32,
    ) -> bool {
        let opens = matches!(
            method,
            Method::Describe | Method::Announce | Method::Setup | Method::Play | Method::Record
        );
        // What else there is works on a session of this connection, which began with one of these.
        if opens && !self.authenticate(now, method, request, cseq) {
            return false;
        }
        let current = match &self.phase {
            Phase::Play(play) => Some(play.id.as_str()),
            Phase::Publish(publish) => publish.id.as_deref(),
            Phase::Idle | Phase::Ended => None,
        };
        let given = request.fields.session_id();
        let needs =
            matches!(method, Method::Play | Method::Pause | Method::Record | Method::Teardown);
        let refusal = if given.is_some() && given != current {
            Some((Status::SESSION_NOT_FOUND, "no such session on this connection"))
        } else if !self.allows(method) {
            Some((Status::INVALID_STATE, ""))
        } else if needs && given.is_none() && current.is_some() {
            Some((Status::SESSION_NOT_FOUND, "Session is missing"))
        } else {
            None
        };
        if let Some((status, detail)) = refusal {
            self.answer(cseq, status, detail);
        }
        refusal.is_none()
    }

    /// The state table (A.2).
    fn allows(&self, method: Method) -> bool {
        match (method, &self.phase) {
            (_, Phase::Ended) => false,
            (Method::Options | Method::GetParameter | Method::SetParameter, _)
            | (Method::Redirect, _) => true,
            (Method::Describe, phase) => !matches!(phase, Phase::Publish(_)),
            (Method::Announce, phase) => matches!(phase, Phase::Idle),
            (Method::Setup, Phase::Idle) => true,
            (Method::Setup, Phase::Play(play)) => play.state != PlayState::Playing,
            (Method::Setup, Phase::Publish(publish)) => !publish.has_recorded(),
            (Method::Play, phase) => matches!(phase, Phase::Play(_)),
            (Method::Pause, Phase::Publish(publish)) => publish.has_recorded(),
            (Method::Pause, phase) => matches!(phase, Phase::Play(_)),
            (Method::Record, Phase::Publish(publish)) => publish.id.is_some(),
            (Method::Record, _) => false,
            (Method::Teardown, phase) => matches!(phase, Phase::Play(_) | Phase::Publish(_)),
        }
    }

    fn authenticate(&mut self, now: Instant, method: Method, request: &Request, cseq: u32) -> bool {
        let asked = without_control(&request.target);
        // Some clients put the URL of the presentation there for all its tracks.
        let same = |uri: &str| match (&asked, without_control(uri)) {
            (Some(asked), Some(named)) => asked.is_same_stream(&named),
            _ => false,
        };
        let header = request.fields.get("Authorization");
        let access = &self.options.access;
        let verdict = self.guard.check(now, access, method.name(), header, same);
        if verdict == Verdict::Allowed {
            return true;
        }
        // Whoever has not answered a challenge yet has not guessed.
        let guessed = header.is_some() && verdict != Verdict::Stale;
        if guessed {
            self.outputs.event(Event::CredentialsRefused);
        }
        self.challenge(now, cseq, verdict, guessed);
        false
    }

    /// The engine did not let the peer in, which may have users' credentials to show.
    pub(super) fn challenge_refused(&mut self, now: Instant, cseq: u32) {
        let verdict = self.guard.refused();
        // Whoever refused it knows of the guess.
        let guessed = matches!(self.guard.identity(), Identity::Claimed { .. });
        self.challenge(now, cseq, verdict, guessed);
    }

    /// 401, with what would be accepted; for a guess not at once.
    fn challenge(&mut self, now: Instant, cseq: u32, why: Verdict, guessed: bool) {
        let stale = why == Verdict::Stale;
        let realm = &self.options.access.realm;
        let mut draft = Draft::response(Status::UNAUTHORIZED, "", Some(cseq));
        for challenge in self.guard.challenges(now, &mut self.random, realm, stale) {
            draft.push("WWW-Authenticate", &challenge);
        }
        let last = why == Verdict::GivenUp;
        if guessed || last { self.hold(now, draft, last) } else { self.send(draft) }
    }
}

/// The stream of a URL, whichever of its tracks it names.
fn without_control(url: &str) -> Option<Target> {
    Target::parse(&split_control(url, |last| last.contains('=')).0)
}
