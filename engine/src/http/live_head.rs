//! What a request for live media says before any media flows: its path, its answer to HEAD and
//! OPTIONS, and the refusals that need no stream.

use hyper::{StatusCode, header};
use protocols::media::StreamKey;

use crate::config::model::Config;
use crate::http::respond::{self, Reply};
use crate::http::server::MediaKind;
use crate::stream::Container;

/// Which stream a decoded path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LivePath {
    /// The live or rec app tag.
    pub(crate) app: String,
    /// The stream name, maybe of several components.
    pub(crate) name: String,
    /// What the extension asks for.
    pub(crate) container: Container,
}

/// Reads `/{live_app|rec_app}/NAME.{flv|ts|mp4}` from a path that was percent-decoded once; `None`
/// when the path is not of that form, its name could not belong to a stream, or the query asks for
/// a recording.
pub(crate) fn parse(path: &str, query: &str, config: &Config) -> Option<LivePath> {
    let rtmp = &config.rtmp;
    let path = path.strip_prefix('/')?;
    let in_app = |app: &str| path.strip_prefix(app)?.strip_prefix('/');
    let (app, rest) = [&rtmp.live_app, &rtmp.rec_app]
        .into_iter()
        .find_map(|app| in_app(app).map(|rest| (app, rest)))?;
    let (name, extension) = rest.rsplit_once('.')?;
    let container = match extension {
        "flv" if config.http.flv => Container::Flv,
        "ts" => Container::Ts,
        "mp4" => Container::Fmp4,
        _ => return None,
    };
    let recorded = |pair: &str| pair.starts_with("start=") || pair.starts_with("day=");
    if *app == rtmp.rec_app && query.split('&').any(recorded) {
        return None;
    }
    StreamKey::new("", app, name).ok()?;
    Some(LivePath { app: app.clone(), name: name.to_owned(), container })
}

/// The headers a GET would get, without looking for the stream.
pub(crate) fn head(kind: MediaKind) -> Reply {
    let mut reply = respond::empty(StatusCode::OK);
    respond::set(&mut reply, header::CONTENT_TYPE, kind.content_type());
    respond::set(&mut reply, header::CACHE_CONTROL, "no-store");
    respond::allow_any_origin(&mut reply);
    reply
}

/// The answer to a preflight request.
pub(crate) fn options() -> Reply {
    let mut reply = respond::empty(StatusCode::NO_CONTENT);
    respond::set(&mut reply, header::ALLOW, respond::READ_ONLY_CORS);
    respond::set(&mut reply, header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization");
    respond::allow_any_origin(&mut reply);
    reply
}
