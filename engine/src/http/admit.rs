//! The door of HTTP: what a request needs permission for, and the answer to who has none.

use hyper::header::{self, HeaderMap};
use hyper::{Request, StatusCode};
use protocols::hls::without_directives;

use super::HttpContext;
use super::origin::{self, Stranger};
use super::respond::{self, Reply};
use super::router::Caller;
use crate::auth::{By, Query, Question, Reason, Role, Shown, Via};
use crate::http::api::Admission;

/// What a path of the API gives away or changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// Reads what is going on.
    Read,
    /// Changes something, or reads what only the operator should: the configuration, the log.
    Operate,
}

/// What a request is about, as far as permission is concerned.
pub(super) struct Door {
    role: Role,
    resource: String,
    path: String,
    /// What all requests of one viewer are about.
    session: Option<String>,
    /// Why the caller may not what only this machine may.
    stranger: Option<Stranger>,
    /// A page of another site makes a browser ask.
    foreign: bool,
    unasked: bool,
    operates: bool,
}

impl Door {
    /// To play a stream, live or recorded, by a decoded path.
    pub(super) fn of_stream(app: &str, name: &str, path: &str) -> Self {
        Self::new(Role::Player, format!("{app}/{name}"), path)
    }

    /// To fetch a file on demand; `about` is the one that is played, below the folder.
    pub(super) fn of_file(path: &str, about: String) -> Self {
        let resource = format!("vod/{about}");
        let session = Some(resource.clone());
        Self { session, ..Self::new(Role::Download, resource, path) }
    }

    /// To put one there.
    pub(super) fn of_upload<B>(path: &str, caller: Caller, request: &Request<B>) -> Self {
        let resource = path.trim_start_matches('/').to_owned();
        Self::new(Role::Upload, resource, path).of(caller, request)
    }

    /// To use the API or to read the metrics.
    pub(super) fn of_api<B>(path: &str, caller: Caller, request: &Request<B>) -> Self {
        let resource = path.trim_start_matches('/').to_owned();
        Self {
            session: Some(resource.clone()),
            // Who scrapes would ask all day long, and most of all when the server is in trouble.
            unasked: path == "/metrics",
            ..Self::new(Role::Api, resource, path).of(caller, request)
        }
    }

    /// To do that with the API.
    pub(super) fn guarding(mut self, guard: Guard) -> Self {
        self.operates = guard == Guard::Operate;
        self
    }

    fn new(role: Role, resource: String, path: &str) -> Self {
        let path = path.to_owned();
        let (session, stranger, foreign) = (None, None, false);
        let (unasked, operates) = (false, false);
        Self { role, resource, path, session, stranger, foreign, unasked, operates }
    }

    /// With what it matters to who manages the server where the request comes from.
    fn of<B>(mut self, caller: Caller, request: &Request<B>) -> Self {
        let authority = request.uri().authority().map(|authority| authority.as_str());
        self.stranger = origin::check(caller.peer.ip(), authority, request.headers()).err();
        self.foreign = origin::is_of_other_site(authority, request.headers());
        self
    }

    /// One of many requests of the same viewer of that stream.
    pub(super) fn of_session(mut self) -> Self {
        self.session = Some(self.resource.clone());
        self
    }

    /// The same, when they have more in common than the stream.
    pub(super) fn of_session_about(mut self, about: String) -> Self {
        self.session = Some(about);
        self
    }

    /// Lets the caller in.
    ///
    /// # Errors
    /// The answer to who may not.
    pub(super) async fn open(
        self,
        ctx: &HttpContext,
        caller: Caller,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<(), Reply> {
        if ctx.backend.lets_all(self.role) {
            return Ok(());
        }
        self.open_for_long(ctx, caller, query, headers).await.map(|_| ())
    }

    /// Lets in who stays; gives the question that was answered, for it may be asked again.
    ///
    /// # Errors
    /// The answer to who may not.
    pub(super) async fn open_for_long(
        self,
        ctx: &HttpContext,
        caller: Caller,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<Question, Reply> {
        if self.path.split('/').any(|part| matches!(part, "." | "..")) {
            // Nothing is there, and no other server is to be led elsewhere with it.
            let put = self.role == Role::Upload;
            let status = if put { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND };
            return Err(respond::text(status, "no path of this server has dots"));
        }
        let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = header.map(Shown::of_header).unwrap_or_default();
        // A browser adds what it knows of this server, and an address, that the page has no part
        // in; a token is added by nobody who does not have it.
        let guarded = self.foreign && (self.role == Role::Upload || self.operates);
        let refuse_page = || {
            let sentence = "no page of another site may do that without a bearer token";
            respond::text(StatusCode::FORBIDDEN, sentence)
        };
        if guarded && !matches!(shown, Shown::Bearer(_)) {
            return Err(refuse_page());
        }
        let query = match &self.session {
            Some(_) => without_directives(query),
            None => query.to_owned(),
        };
        let question = Question {
            role: self.role,
            via: Via::Http,
            peer: caller.peer.ip(),
            at_home: self.stranger.is_none(),
            resource: self.resource.clone(),
            path: self.path.clone(),
            query: Query(query),
            shown,
            unasked: self.unasked,
            operates: self.operates,
        };
        // What let somebody in a moment ago may have been something else.
        let session = self.session.as_deref().filter(|_| !guarded);
        let verdict = match ctx.backend.admission(&question, session) {
            Admission::Settled(verdict) => verdict,
            Admission::Pending(verdict) => verdict.await,
        };
        match verdict {
            // Anything may be called a token: it has to be the reason.
            Ok(by) if guarded && !matches!(by, By::Admin | By::Token) => Err(refuse_page()),
            Ok(_) => Ok(question),
            Err(reason) => Err(self.refuse(ctx, reason)),
        }
    }

    fn refuse(&self, ctx: &HttpContext, reason: Reason) -> Reply {
        use protocols::session::Refusal;
        let refusal = reason.refusal();
        let challenge = ctx.backend.challenge(self.role);
        let mut reply = match (refusal, challenge, self.stranger) {
            (Refusal::Unauthorised, _, Some(stranger)) if self.role == Role::Upload => {
                respond::text(StatusCode::FORBIDDEN, &stranger.to_string())
            }
            (Refusal::Unauthorised, Some(challenge), _) => {
                let mut reply = respond::text(StatusCode::UNAUTHORIZED, refusal.text());
                respond::set(&mut reply, header::WWW_AUTHENTICATE, challenge);
                reply
            }
            // Without a challenge there is nothing to answer it with (RFC 9110 15.5.2).
            (Refusal::Unauthorised, None, Some(stranger)) => {
                respond::text(StatusCode::FORBIDDEN, &stranger.to_string())
            }
            (Refusal::Unverified, ..) => {
                let mut reply = respond::text(StatusCode::SERVICE_UNAVAILABLE, refusal.text());
                respond::set(&mut reply, header::RETRY_AFTER, "2");
                reply
            }
            _ => respond::text(StatusCode::FORBIDDEN, refusal.text()),
        };
        respond::set(&mut reply, header::CACHE_CONTROL, "no-store");
        if matches!(self.role, Role::Player | Role::Download) {
            // A page may know why it plays nothing.
            respond::allow_any_origin(&mut reply);
        }
        reply
    }
}
