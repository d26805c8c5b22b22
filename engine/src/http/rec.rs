//! Recordings over HTTP: what there is, and its media as HLS, DASH and MP4.

use std::ops::Range;

use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use protocols::container::fmp4::{self, Selection, TrackKind};
use protocols::{dash, hls};
use serde_json::json;

use super::HttpContext;
use super::admit::Door;
use super::rec_media::{self, Content};
use super::rec_url::{self, Asked, Form, Wanted};
use super::router::Caller;
use super::urls::{self, Addressed};
use super::{live_head, respond};
use crate::clock;
use crate::config::model::{Config, Listed};
use crate::http::respond::{READ_ONLY_CORS, Reply};
use crate::record::{self, Library, LoadError, Piece, PieceName, Place, Tail, day_text};

const NOT_RECORDED: &str = "nothing of that name and time is recorded";
const BAD_NAME: &str = "no stream can have this name";
const TOO_MUCH: &str = "that is more than one answer holds: ask for a shorter time";
const MIXED: &str = "the codec changes within that time: one MP4 cannot hold both, ask for the \
    parts, or for m3u8";
const NO_TRACK: &str = "the recording has no such track or segment";

/// Answers a request for recordings; `None` if it is not one.
pub(crate) async fn answer<B>(
    ctx: &HttpContext,
    caller: Caller,
    request: &Request<B>,
    config: &Config,
    at: &Addressed,
    path: &str,
) -> Option<Reply> {
    let query = request.uri().query().unwrap_or_default();
    let listing = path == "/api/rec";
    let asked = if listing {
        None
    } else {
        let below =
            path.strip_prefix('/')?.strip_prefix(&config.rtmp.rec_app)?.strip_prefix('/')?;
        Some(rec_url::parse(below, query, clock::unix_millis())?)
    };
    match *request.method() {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => return Some(options()),
        _ => return Some(respond::method_not_allowed(READ_ONLY_CORS)),
    }
    let door = match &asked {
        None => Door::of_api(path, caller, request),
        Some(asked) => door(&config.rtmp.rec_app, asked.as_ref().ok(), path),
    };
    if let Err(reply) = door.open(ctx, caller, query, request.headers()).await {
        return Some(reply);
    }
    let vhost = vhost(config, query, at);
    let library = Library::new(&config.record.dir);
    let mut reply = match asked {
        None => match blocking(move || library.streams(&vhost)).await {
            Ok(names) => respond::json(StatusCode::OK, &json!({ "dirs": names })),
            Err(error) => refuse(&error),
        },
        Some(Err(fault)) => respond::text(StatusCode::BAD_REQUEST, fault),
        Some(Ok(asked)) => match Place::find(&vhost, &asked.name) {
            Some(place) => {
                let answer = Answer { library, place, asked, query, listed: config.record.listed };
                answer.reply(request.headers()).await
            }
            None => respond::text(StatusCode::NOT_FOUND, BAD_NAME),
        },
    };
    if listing {
        respond::set(&mut reply, header::CACHE_CONTROL, "no-store");
        return Some(reply);
    }
    respond::allow_any_origin(&mut reply);
    let exposed = "Content-Range, Content-Length, Accept-Ranges";
    respond::set(&mut reply, header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    Some(reply)
}

/// Recordings are played; what belongs to a piece is asked about as the list of the piece.
fn door(app: &str, asked: Option<&Asked>, path: &str) -> Door {
    let Some(asked) = asked else { return Door::of_stream(app, "", path) };
    let name = &asked.name;
    let piece = match &asked.wanted {
        Wanted::Piece { piece, .. }
        | Wanted::Init { piece, .. }
        | Wanted::Segment { piece, .. } => {
            format!("{app}/{name}/{}/{}", piece.day_text(), piece.time_text())
        }
        Wanted::Days { .. } | Wanted::Pieces { .. } | Wanted::Range { .. } => {
            return Door::of_stream(app, name, path);
        }
    };
    let listed = matches!(&asked.wanted, Wanted::Piece { form: Some(Form::Hls | Form::Dash), .. });
    let list = format!("/{piece}.m3u8");
    Door::of_stream(app, name, if listed { path } else { &list }).of_session_about(piece)
}

fn options() -> Reply {
    let mut reply = live_head::options();
    respond::set(&mut reply, header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Range");
    reply
}

/// The vhost the caller means: the one it names, or the one it speaks to. Empty for all domains
/// that are not vhosts of their own.
fn vhost(config: &Config, query: &str, at: &Addressed) -> String {
    let named = urls::query_value(query, "vhost").filter(|vhost| !vhost.is_empty());
    let host = named.map_or_else(
        || at.host.clone(),
        |vhost| urls::parse_host(&vhost).map_or(vhost, |(host, _)| host),
    );
    let own = config.vhosts.iter().find(|vhost| vhost.eq_ignore_ascii_case(&host));
    own.cloned().unwrap_or_default()
}

/// Runs what waits for the disk beside the shard.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    glommio::executor().spawn_blocking(run).await
}

fn refuse(error: &LoadError) -> Reply {
    match error {
        LoadError::NotFound => respond::text(StatusCode::NOT_FOUND, NOT_RECORDED),
        LoadError::TooMuch => respond::text(StatusCode::BAD_REQUEST, TOO_MUCH),
        LoadError::Io(error) => {
            tracing::warn!(%error, "recordings cannot be read");
            let sentence = "the recordings cannot be read";
            respond::text(StatusCode::INTERNAL_SERVER_ERROR, sentence)
        }
    }
}

/// A request whose address is sound.
struct Answer<'a> {
    library: Library,
    place: Place,
    asked: Asked,
    query: &'a str,
    listed: Listed,
}

impl Answer<'_> {
    async fn reply(self, headers: &header::HeaderMap) -> Reply {
        let reply = match self.asked.wanted.clone() {
            Wanted::Days { lines } => self.days(lines).await,
            Wanted::Pieces { day, lines } => self.pieces(day, lines).await,
            Wanted::Piece { piece, form } => {
                let form = form.unwrap_or(match self.listed {
                    Listed::Dash => Form::Dash,
                    Listed::Mp4 => Form::Mp4,
                    Listed::Hls | Listed::Both => Form::Hls,
                });
                self.piece(piece, form, headers).await
            }
            Wanted::Range { window, open, form: Form::Mp4 } => {
                self.download(window, open, headers).await
            }
            Wanted::Range { window, open, form } => self.range(window, open, form).await,
            Wanted::Init { piece, track } => self.init(piece, track, headers).await,
            Wanted::Segment { piece, track, number } => {
                self.segment(piece, track, number, headers).await
            }
        };
        reply.unwrap_or_else(|error| refuse(&error))
    }

    async fn days(self, lines: bool) -> Result<Reply, LoadError> {
        let days = blocking(move || self.library.days(&self.place)).await?;
        let days: Vec<String> = days.into_iter().map(day_text).collect();
        Ok(if lines {
            respond::text(StatusCode::OK, &days.join("\n"))
        } else {
            respond::json(StatusCode::OK, &json!({ "dirs": days }))
        })
    }

    async fn pieces(self, day: jiff::civil::Date, lines: bool) -> Result<Reply, LoadError> {
        let endings = self.listed.endings();
        let mut pieces = blocking(move || self.library.pieces(&self.place, day)).await?;
        if lines {
            pieces.reverse();
        }
        let names = |piece: PieceName| {
            let time = piece.time_text();
            endings.iter().map(move |ending| format!("{time}.{ending}"))
        };
        let names: Vec<String> = pieces.into_iter().flat_map(names).collect();
        Ok(if lines {
            respond::text(StatusCode::OK, &names.join("\n"))
        } else {
            respond::json(StatusCode::OK, &json!({ "files": names }))
        })
    }

    async fn piece(
        self,
        name: PieceName,
        form: Form,
        headers: &header::HeaderMap,
    ) -> Result<Reply, LoadError> {
        let (query, in_day) = (rec_url::passed_on(self.query), self.asked.in_day);
        if form == Form::Mp4 {
            return self.media(name, headers).await;
        }
        let text = blocking(move || {
            let (piece, _) = self.library.piece(&self.place, name)?;
            let pieces = [piece];
            let text = match form {
                Form::Dash => {
                    record::manifest(&pieces, None, |piece| folder(piece, in_day), &query)
                }
                Form::Hls | Form::Mp4 => {
                    let uri = |piece: &Piece| format!("{}.mp4", folder(piece, in_day));
                    record::playlist(&pieces, None, Tail::Ended, uri, &query)
                }
            };
            text.ok_or(LoadError::NotFound)
        });
        Ok(index_reply(form, text.await?))
    }

    /// The media file of a piece, its times as the query says.
    async fn media(self, name: PieceName, headers: &header::HeaderMap) -> Result<Reply, LoadError> {
        let shift = match rec_url::shift(self.query) {
            Ok(shift) => shift,
            Err(fault) => return Ok(respond::text(StatusCode::BAD_REQUEST, fault)),
        };
        // With a condition the answer may be the whole all the same.
        let asked = headers.get(header::RANGE).filter(|_| !headers.contains_key(header::IF_RANGE));
        let asked = asked.cloned();
        let load = move || {
            let (piece, file) = self.library.piece(&self.place, name)?;
            let range = rec_media::range(asked.as_ref(), piece.media_bytes());
            let unshifted = shift == [0, 0];
            let patches =
                if unshifted { Vec::new() } else { piece.shifted(&file, shift, &range)? };
            Ok::<_, LoadError>((piece, file, patches))
        };
        let (piece, file, patches) = blocking(load).await?;
        let [video, audio] = shift;
        let (begin, bytes) = (piece.unix_ms(), piece.media_bytes());
        // What was recorded does not change; a piece recovered after a crash may be shorter.
        let tag = (!piece.is_open).then(|| format!("\"{begin:x}-{bytes:x}-{video:x}-{audio:x}\""));
        let content = Content::of_file(file, bytes, patches);
        Ok(rec_media::reply(content, "video/mp4", tag, headers))
    }

    async fn range(self, window: Range<u64>, open: bool, form: Form) -> Result<Reply, LoadError> {
        let query = rec_url::passed_on(self.query);
        let text = blocking(move || {
            let pieces = self.library.range(&self.place, &window)?;
            let growing = open && pieces.last().is_some_and(|piece| piece.is_open);
            let window = Some(window);
            let text = match form {
                Form::Dash => {
                    record::manifest(&pieces, window, |piece| folder(piece, false), &query)
                }
                Form::Hls | Form::Mp4 => {
                    let tail = if growing { Tail::Growing } else { Tail::Ended };
                    let uri = |piece: &Piece| format!("{}.mp4", folder(piece, false));
                    record::playlist(&pieces, window, tail, uri, &query)
                }
            };
            text.ok_or(LoadError::NotFound)
        });
        Ok(index_reply(form, text.await?))
    }

    /// A stretch of time as one file.
    async fn download(
        self,
        window: Range<u64>,
        open: bool,
        headers: &header::HeaderMap,
    ) -> Result<Reply, LoadError> {
        let name = format!("{}_{}.mp4", self.place.name(), PieceName::at(window.start).file_text());
        let tag = format!("\"{:x}-{:x}\"", window.start, window.end);
        let joined = blocking(move || {
            let pieces = self.library.range(&self.place, &window)?;
            let growing = open && pieces.last().is_some_and(|piece| piece.is_open);
            Ok::<_, LoadError>((record::join(&self.library, &pieces, &window), growing))
        });
        let (joined, growing) = joined.await?;
        let joined = match joined {
            Ok(joined) => joined,
            Err(record::JoinError::Nothing) => return Err(LoadError::NotFound),
            Err(record::JoinError::TracksDiffer) => {
                return Ok(respond::text(StatusCode::CONFLICT, MIXED));
            }
        };
        let content = Content::of_joined(joined);
        let tag = (!growing).then_some(tag);
        let mut reply = rec_media::reply(content, "video/mp4", tag, headers);
        reply.headers_mut().insert(header::CONTENT_DISPOSITION, disposition(&name));
        Ok(reply)
    }

    async fn init(
        self,
        name: PieceName,
        track: TrackKind,
        headers: &header::HeaderMap,
    ) -> Result<Reply, LoadError> {
        let selection = match track {
            TrackKind::Video => Selection::Video,
            TrackKind::Audio => Selection::Audio,
        };
        let init = blocking(move || {
            let (piece, _) = self.library.piece(&self.place, name)?;
            Ok::<_, LoadError>(fmp4::init_segment(&piece.tracks, selection).ok())
        });
        let Some(init) = init.await? else { return Ok(no_track()) };
        let content = Content::of_bytes(init.bytes);
        Ok(rec_media::reply(content, track_type(track), None, headers))
    }

    async fn segment(
        self,
        name: PieceName,
        track: TrackKind,
        number: usize,
        headers: &header::HeaderMap,
    ) -> Result<Reply, LoadError> {
        let found = blocking(move || {
            let (piece, file) = self.library.piece(&self.place, name)?;
            Ok::<_, LoadError>(piece.track_segment(number, track).map(|spans| (spans, file)))
        });
        let Some((spans, file)) = found.await? else { return Ok(no_track()) };
        let content = Content::of_spans(file, &spans);
        Ok(rec_media::reply(content, track_type(track), None, headers))
    }
}

fn no_track() -> Reply {
    respond::text(StatusCode::NOT_FOUND, NO_TRACK)
}

fn track_type(track: TrackKind) -> &'static str {
    match track {
        TrackKind::Video => "video/mp4",
        TrackKind::Audio => "audio/mp4",
    }
}

fn index_reply(form: Form, text: String) -> Reply {
    let media_type = if form == Form::Dash { dash::MEDIA_TYPE } else { hls::MEDIA_TYPE };
    respond::body(StatusCode::OK, media_type, text)
}

/// The reference of a piece without extension, from an answer beside the stream or one beside it.
fn folder(piece: &Piece, in_day: bool) -> String {
    let time = piece.name.time_text();
    if in_day {
        return time;
    }
    let name = piece.place.name();
    let last = name.rsplit('/').next().unwrap_or(name);
    format!("{}/{}/{time}", urls::percent_encode(last), piece.name.day_text())
}

/// A name to save under, for clients old and new (RFC 6266).
fn disposition(name: &str) -> HeaderValue {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .collect();
    let exact = urls::percent_encode(name).replace('/', "_");
    let value = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}");
    HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("attachment"))
}
