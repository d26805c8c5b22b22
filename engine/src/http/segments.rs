//! Live HLS and DASH: playlists, manifests, segments, parts, and requests that wait for them.

use std::io::Write as _;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use protocols::hls::{
    Decision, Directives, MEDIA_TYPE, RenditionReport, WAIT_TARGET_DURATIONS_MAX, decide,
    without_directives,
};
use protocols::media::StreamKey;

use crate::clock;
use crate::config::Config;
use crate::http::HttpContext;
use crate::http::admit::Door;
use crate::http::body::Body;
use crate::http::conditional;
use crate::http::respond::{self, Reply};
use crate::http::router::Caller;
use crate::http::segment_body::{Growing, of_pieces};
use crate::http::text_cache::TextKey;
use crate::http::urls::{Addressed, query_value};
use crate::http::variants;
use crate::segment::files::{File, FileName};
use crate::segment::{Packaging, Snapshot, Targets, manifest, playlist};
use crate::shard::{Absent, Wanted};

/// The media type of a manifest.
const MPD_TYPE: &str = "application/dash+xml";
/// How long a first request may wait until there is something to play: a GOP, and a segment.
const FIRST_WAIT: Duration = Duration::from_secs(15);
/// Media a first playlist or manifest lists. Players start three segments behind live; with less
/// they start at the oldest one, with nothing ahead of them, and stall at each late segment.
const START_SPAN: Duration = Duration::from_secs(3);
/// The same of low latency, where they start some parts behind live.
const START_SPAN_LOW_LATENCY: Duration = Duration::from_secs(2);

/// What a path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked<'a> {
    Playlist,
    Manifest,
    File(&'a str, FileName),
}

/// One request.
struct Request<'a> {
    ctx: &'a HttpContext,
    config: &'a Config,
    key: StreamKey,
    /// The last component of the stream's name.
    folder: &'a str,
    query: &'a str,
    headers: &'a HeaderMap,
}

/// Answers a GET, HEAD or OPTIONS of a live playlist, manifest or segment; `None` when the path is
/// none of these.
#[expect(clippy::too_many_arguments, reason = "the parts of a request, taken apart once")]
pub(super) async fn answer(
    ctx: &HttpContext,
    caller: Caller,
    config: &Config,
    at: &Addressed,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
) -> Option<Reply> {
    let (app, name, asked) = parse(path, query, config)?;
    match *method {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => return Some(super::live_head::options()),
        _ => return Some(respond::method_not_allowed(respond::READ_ONLY_CORS)),
    }
    let Ok(key) = config.stream_key(&at.host, app, name) else {
        return Some(absent(Absent::NotFound));
    };
    let door = match asked {
        Asked::Playlist | Asked::Manifest => Door::of_stream(app, name, path),
        // What a playlist lists is asked about as the playlist.
        Asked::File(..) => Door::of_stream(app, name, &format!("/{app}/{name}.m3u8")),
    };
    if let Err(reply) = door.of_session().open(ctx, caller, query, headers).await {
        return Some(reply);
    }
    let key = match super::delay::key_of_query(key, query) {
        Ok(key) => key,
        Err(reply) => return Some(reply),
    };
    // Its files are there when its playlist is.
    if !matches!(asked, Asked::File(..))
        && let Err(reply) = super::delay::begin(ctx, &key).await
    {
        return Some(reply);
    }
    let folder = name.rsplit('/').next().unwrap_or(name);
    let request = Request { ctx, config, key, folder, query, headers };
    let mut reply = match asked {
        Asked::Playlist => request.playlist().await,
        Asked::Manifest => request.manifest().await,
        Asked::File(_, file) => request.file(file).await,
    }
    .unwrap_or_else(|reply| reply);
    respond::allow_any_origin(&mut reply);
    Some(reply)
}

/// App, stream name, and what is asked of it.
fn parse<'a>(
    path: &'a str,
    query: &str,
    config: &'a Config,
) -> Option<(&'a str, &'a str, Asked<'a>)> {
    let (app, rest) = path.strip_prefix('/')?.split_once('/')?;
    if app != config.rtmp.live_app && app != config.rtmp.rec_app {
        return None;
    }
    let recorded =
        |pair: &str| ["day=", "start=", "cmd="].iter().any(|prefix| pair.starts_with(prefix));
    if let Some((name, file)) = rest.rsplit_once('/')
        && let Some(file_name) = FileName::parse(file)
    {
        return Some((app, name, Asked::File(file, file_name)));
    }
    if query.split('&').any(recorded) {
        return None;
    }
    let (name, extension) = rest.rsplit_once('.')?;
    let asked = match extension {
        "m3u8" if config.http.hls => Asked::Playlist,
        "mpd" if config.http.dash => Asked::Manifest,
        _ => return None,
    };
    // `NAME/DAY/TIME.m3u8` is a recording.
    if app == config.rtmp.rec_app && is_recording(name) {
        return None;
    }
    Some((app, name, asked))
}

/// The name ends in a day and a time of day.
fn is_recording(name: &str) -> bool {
    let mut parts = name.rsplit('/');
    let (time, day) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let shaped = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                form => byte == form,
            })
    };
    shaped(day, "0000-00-00") && shaped(time, "00-00-00")
}

impl Request<'_> {
    async fn snapshot(
        &self,
        packaging: Packaging,
        wanted: Wanted,
        patience: Duration,
    ) -> Result<std::sync::Arc<Snapshot>, Reply> {
        let found = self.ctx.backend.segments(self.key.clone(), packaging, wanted, patience);
        found.await.map_err(absent)
    }

    async fn playlist(&self) -> Result<Reply, Reply> {
        let bad = |text: &str| respond::text(StatusCode::BAD_REQUEST, text);
        let directives = Directives::parse(self.query).map_err(|e| bad(&e.to_string()))?;
        let packaging = match query_value(self.query, "format").as_deref() {
            Some("ts") => Packaging::Ts,
            Some("fmp4") => Packaging::Cmaf,
            None if self.config.http.hls_cmaf => Packaging::Cmaf,
            None => Packaging::Ts,
            Some(_) => return Err(bad("format is ts or fmp4")),
        };
        let low_latency = packaging == Packaging::Cmaf;
        let wanted = startable(low_latency);
        let found = self.ctx.backend.segments(self.key.clone(), packaging, wanted, FIRST_WAIT);
        let mut snapshot = match found.await {
            Err(Absent::NotFound) if !self.config.http.hls_variants.is_empty() => {
                return self.multivariant(packaging, wanted).await;
            }
            found => found.map_err(absent)?,
        };
        let edge = |snapshot: &Snapshot| {
            playlist::View { snapshot, folder: self.folder, low_latency, reports: &[] }.live_edge()
        };
        match decide(&directives, &edge(&snapshot)) {
            Decision::Answer => {}
            Decision::TooFarAhead => {
                return Err(bad("_HLS_msn or _HLS_part is too far ahead of the stream"));
            }
            Decision::Wait { media_sequence, part } => {
                let wanted = match part {
                    Some(part) => Wanted::Part(media_sequence, part),
                    None => Wanted::Segment(media_sequence),
                };
                snapshot = self.snapshot(packaging, wanted, patience(snapshot.targets)).await?;
            }
        }
        let reports = if low_latency {
            variants::reports(self.ctx, self.config, &self.key).await
        } else {
            Vec::new()
        };
        let view = playlist::View {
            snapshot: &snapshot,
            folder: self.folder,
            low_latency,
            reports: &reports,
        };
        let gzip = accepts_gzip(self.headers);
        let tag = tag(&snapshot, &reports, directives.skip, gzip);
        let query = without_directives(self.query);
        let key = TextKey {
            stream: self.key.clone(),
            tag: tag.clone(),
            low_latency,
            query: query.clone(),
            gzip,
        };
        let text = self.ctx.texts.get(key, || {
            let text = view.render(directives.skip, &query);
            if gzip { compress(text.as_bytes()) } else { text.into() }
        });
        let blocking = directives.media_sequence.is_some();
        // The answer to a blocking request is the same for everybody and for good.
        let age = if blocking { 6 * snapshot.targets.segment_s } else { 0 };
        Ok(self.text(text, gzip, MEDIA_TYPE, &tag, age))
    }

    /// The stream is not live, but renditions of it may be.
    async fn multivariant(&self, packaging: Packaging, wanted: Wanted) -> Result<Reply, Reply> {
        let found = variants::find(self.ctx, self.config, &self.key, packaging, wanted, FIRST_WAIT);
        let playlist = found.await.map_err(absent)?;
        let text = playlist.render(&without_directives(self.query));
        let gzip = accepts_gzip(self.headers);
        let text = if gzip { compress(text.as_bytes()) } else { text.into() };
        Ok(self.text(text, gzip, MEDIA_TYPE, "", 0))
    }

    async fn manifest(&self) -> Result<Reply, Reply> {
        let low_latency = query_value(self.query, "ll").is_some_and(|value| value != "0");
        let wanted = startable(low_latency);
        let snapshot = self.snapshot(Packaging::Cmaf, wanted, FIRST_WAIT).await?;
        let now_ms = clock::signed_unix_millis();
        let view = manifest::View { snapshot: &snapshot, folder: self.folder, low_latency, now_ms };
        // It tells the time: no two are the same.
        let text = view.render(self.query);
        let gzip = accepts_gzip(self.headers);
        let text = if gzip { compress(text.as_bytes()) } else { text.into() };
        Ok(self.text(text, gzip, MPD_TYPE, "", 0))
    }

    /// A text with what caches want to know.
    fn text(
        &self,
        text: Bytes,
        is_zipped: bool,
        media_type: &'static str,
        tag: &str,
        max_age_s: u32,
    ) -> Reply {
        if !tag.is_empty() && conditional::has_version(self.headers, tag) {
            let mut reply = respond::empty(StatusCode::NOT_MODIFIED);
            respond::set_text(&mut reply, header::ETAG, tag);
            return reply;
        }
        let mut reply = respond::body(StatusCode::OK, media_type, text);
        if is_zipped {
            respond::set(&mut reply, header::CONTENT_ENCODING, "gzip");
        }
        respond::set(&mut reply, header::VARY, "Accept-Encoding");
        if !tag.is_empty() {
            respond::set_text(&mut reply, header::ETAG, tag);
        }
        if max_age_s > 0 {
            respond::set_text(
                &mut reply,
                header::CACHE_CONTROL,
                &format!("public, max-age={max_age_s}"),
            );
        }
        reply
    }

    async fn file(&self, name: FileName) -> Result<Reply, Reply> {
        let packaging = name.packaging();
        let snapshot = self.snapshot(packaging, Wanted::Playable, FIRST_WAIT).await?;
        if snapshot.epoch != name.epoch {
            return Err(gone());
        }
        let patience = patience(snapshot.targets);
        let (body, length) = match name.file {
            File::Init(track, id) => {
                let init = snapshot.init(id).ok_or_else(gone)?;
                let bytes = match track {
                    None => &init.both,
                    Some(crate::segment::Track::Video) => &init.video,
                    Some(crate::segment::Track::Audio) => &init.audio,
                };
                of_pieces(Some(bytes).filter(|bytes| !bytes.is_empty()).into_iter())
            }
            File::Ts(sequence) => {
                self.check_near(&snapshot, sequence)?;
                let wanted = Wanted::Segment(sequence);
                let snapshot = self.snapshot(packaging, wanted, patience).await?;
                of_pieces(snapshot.segment(sequence).ok_or_else(gone)?.pieces(None))
            }
            File::Segment(track, sequence) => match snapshot.segment(sequence) {
                Some(segment) => of_pieces(segment.pieces(track)),
                None => {
                    self.check_near(&snapshot, sequence)?;
                    return Ok(self.growing(name, track, sequence, patience));
                }
            },
            File::Part(sequence, part) => {
                self.check_near(&snapshot, sequence)?;
                let wanted = Wanted::Part(sequence, part);
                let snapshot = self.snapshot(packaging, wanted, patience).await?;
                let parts = snapshot.parts(sequence).ok_or_else(gone)?;
                let part = usize::try_from(part).ok().and_then(|part| parts.get(part));
                of_pieces(part.ok_or_else(gone)?.pieces(None))
            }
        };
        if length == 0 {
            return Err(gone());
        }
        let mut reply = media(body, name);
        reply.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        Ok(reply)
    }

    /// A segment can be waited for when it is the one in the making or the next.
    #[expect(clippy::result_large_err, reason = "the error is the answer")]
    fn check_near(&self, snapshot: &Snapshot, sequence: u64) -> Result<(), Reply> {
        let first = snapshot.segments.first().map_or(snapshot.next_sequence, |s| s.sequence);
        let last = snapshot.next_sequence + u64::from(!snapshot.ended);
        if (first..=last).contains(&sequence) { Ok(()) } else { Err(gone()) }
    }

    fn growing(
        &self,
        name: FileName,
        track: Option<crate::segment::Track>,
        sequence: u64,
        patience: Duration,
    ) -> Reply {
        let segment = Growing {
            backend: Rc::clone(&self.ctx.backend),
            key: self.key.clone(),
            epoch: name.epoch,
            sequence,
            track,
            patience,
        };
        media(segment.into_body(), name)
    }
}

/// An answer with media: it never changes.
fn media(body: Body, name: FileName) -> Reply {
    let mut reply = Response::new(body);
    respond::set(&mut reply, header::CONTENT_TYPE, name.content_type());
    respond::set(&mut reply, header::CACHE_CONTROL, "public, max-age=3600, immutable");
    respond::set_text(&mut reply, header::ETAG, &format!("\"{name}\""));
    reply
}

/// What a player needs to begin.
fn startable(low_latency: bool) -> Wanted {
    Wanted::Startable(if low_latency { START_SPAN_LOW_LATENCY } else { START_SPAN })
}

/// What may be waited for takes so long at most.
fn patience(targets: Targets) -> Duration {
    Duration::from_secs((targets.segment_s * WAIT_TARGET_DURATIONS_MAX).into())
}

fn absent(why: Absent) -> Reply {
    let (status, sentence) = match why {
        Absent::NotFound => (StatusCode::NOT_FOUND, "no such stream is live"),
        Absent::Late => (StatusCode::SERVICE_UNAVAILABLE, "the stream has not come so far in time"),
        Absent::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "too many streams are asked for"),
    };
    let mut reply = respond::text(status, sentence);
    respond::set(&mut reply, header::CACHE_CONTROL, "no-store");
    reply
}

fn gone() -> Reply {
    let sentence = "this is not, or not any more, part of the stream";
    let mut reply = respond::text(StatusCode::NOT_FOUND, sentence);
    respond::set(&mut reply, header::CACHE_CONTROL, "no-store");
    reply
}

/// Names a state of a playlist, and of the others it speaks of.
fn tag(snapshot: &Snapshot, reports: &[RenditionReport], skip: bool, gzip: bool) -> String {
    let parts = snapshot.open.as_ref().map_or(0, |open| open.parts.len());
    let Snapshot { epoch, next_sequence, ended, .. } = snapshot;
    let form = u8::from(skip) + 2 * u8::from(*ended) + 4 * u8::from(gzip);
    let mut tag = format!("\"{epoch}-{next_sequence}-{parts}-{form}");
    for RenditionReport { last_media_sequence, last_part, .. } in reports {
        tag += &format!("-{last_media_sequence}.{}", last_part.unwrap_or(0));
    }
    tag + "\""
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::ACCEPT_ENCODING).iter();
    let mut codings = codings.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim() == "gzip" && weight.trim() != "q=0"
    })
}

fn compress(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    // Writing to memory cannot fail.
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map(Bytes::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_recordings_are_left_to_recordings() {
        assert!(is_recording("a/b/2020-09-20/21-41-06"));
        for live in ["a", "a/b", "2020-09-20", "a/2020-09-20/stream", "x/2020-9-20/21-41-06"] {
            assert!(!is_recording(live), "{live}");
        }
    }

    #[test]
    fn gzip_is_used_where_it_is_welcome() {
        let headers = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            headers
        };
        assert!(accepts_gzip(&headers("deflate, gzip;q=0.8")));
        assert!(!accepts_gzip(&headers("gzip;q=0, br")));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
