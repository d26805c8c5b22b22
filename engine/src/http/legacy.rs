//! `/api/config` and `/api/policy` in the shapes of the older API: groups of short names, for the
//! web pages written for it. Both are the operator's: see [`Guard::Operate`].

use bytes::Bytes;
use hyper::body::Body;
use hyper::{Method, Request, StatusCode, header};
use serde_json::{Map, Value, json};

use super::HttpContext;
use super::admit::{Door, Guard};
use super::respond::{self, Reply};
use super::router::Caller;
use super::v1;
use crate::config::options::{self, Kind, Opt};
use crate::config::{Document, Edit};
use crate::reload::{ReloadError, Report};

/// Group, name there, and the option it is.
const NAMES: &[(&str, &str, &str)] = &[
    ("global", "auth_url", "authurl"),
    ("global", "rtp_min", "rtp@min"),
    ("global", "rtp_max", "rtp@max"),
    ("nat", "rtmp", "nat/rtmp"),
    ("nat", "rtsp", "nat/rtsp"),
    ("nat", "http", "nat/http"),
    ("nat", "https", "nat/https"),
    ("nat", "srt", "nat/srt"),
    ("nat", "rtp", "nat/rtp"),
    ("ssl", "ca", "ssl/serverca"),
    ("ssl", "server_key", "ssl/serverkey"),
    ("ssl", "server_cert", "ssl/servercert"),
    ("ssl", "client_key", "ssl/clientkey"),
    ("ssl", "client_cert", "ssl/clientcert"),
    ("rtmp", "port", "rtmp/port"),
    ("rtmp", "ssl", "rtmp/ssl"),
    ("rtmp", "gop_cache", "rtmp/gopenable"),
    ("rtmp", "chunk_size", "rtmp/chunksize"),
    ("rtmp", "has_rtsp", "rtmp/hasrtsp"),
    ("rtmp", "has_hls", "rtmp/hashls"),
    ("rtmp", "has_dash", "rtmp/hasdash"),
    ("rtmp", "has_webrtc", "rtmp/haswebrtc"),
    ("rtmp", "has_srt", "rtmp/hassrt"),
    ("rtmp", "max_idle", "rtmp/maxidle"),
    ("rtsp", "port", "rtsp/port"),
    ("rtsp", "enable", "rtsp/enable"),
    ("rtsp", "ssl", "rtsp/ssl"),
    ("rtsp", "max_idle", "rtsp/maxidle"),
    ("rtsp", "has_rtmp", "rtsp/hasrtmp"),
    ("srt", "port", "srt/port"),
    ("srt", "enable", "srt/enable"),
    ("srt", "has_rtmp", "srt/hasrtmp"),
    ("http", "port", "http/port"),
    ("http", "enable", "http/enable"),
    ("http", "sport", "http/sport"),
    ("http", "ssl", "http/ssl"),
    ("http", "io_shrink", "http/ioshrink"),
    ("http", "hls_count", "http/hlssegment"),
    ("http", "hls_duration", "http/hlsduration"),
    ("http", "hls_cache", "http/hlslivecache"),
    ("http", "dash_duration", "http/dashduration"),
    ("http", "dash_cache", "http/dashlivecache"),
    ("http", "rec_mode", "http/recmode"),
    ("http", "rec_period", "http/recduration"),
];

/// Whether a path is one of these.
pub(crate) fn owns(path: &str) -> bool {
    matches!(path, "/api/config" | "/api/policy")
}

/// Whether a request may carry a body that is read here.
pub(crate) fn takes_body(method: &Method, path: &str) -> bool {
    matches!(*method, Method::POST | Method::PUT) && owns(path)
}

/// Answers a request for one of these paths.
pub(crate) async fn answer<B>(ctx: &HttpContext, caller: Caller, request: &mut Request<B>) -> Reply
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut reply = match perform(ctx, caller, request).await {
        Ok(value) => respond::json(StatusCode::OK, &value),
        Err(reply) => *reply,
    };
    respond::set(&mut reply, header::CACHE_CONTROL, "no-store");
    reply
}

fn refuse(status: StatusCode, sentence: impl Into<String>) -> Box<Reply> {
    Box::new(respond::json(status, &json!({ "error": sentence.into() })))
}

async fn perform<B>(
    ctx: &HttpContext,
    caller: Caller,
    request: &mut Request<B>,
) -> Result<Value, Box<Reply>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let door = Door::of_api(path, caller, request).guarding(Guard::Operate);
    door.open(ctx, caller, query, request.headers()).await.map_err(Box::new)?;
    let reloader = ctx.backend.reloader();
    let starting = || refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is starting");
    let reloader = reloader.ok_or_else(starting)?;
    let is_config = request.uri().path() == "/api/config";
    match *request.method() {
        Method::GET | Method::HEAD => {
            let accepted = reloader.accepted();
            Ok(match is_config {
                true => shown(&accepted.document),
                false => policy_value(&accepted.policy_text),
            })
        }
        Method::POST | Method::PUT => {
            let body = v1::read_body(request).await.map_err(Box::new)?;
            let unreadable = |error: serde_json::Error| {
                refuse(StatusCode::BAD_REQUEST, crate::conn::escape(&error.to_string()))
            };
            if is_config {
                let value: Value = serde_json::from_slice(&body).map_err(unreadable)?;
                let edits =
                    edits(&value).map_err(|why| refuse(StatusCode::UNPROCESSABLE_ENTITY, why))?;
                let write = move || {
                    reloader.write_config(|old| old.edited(&edits).map_err(ReloadError::Refused))
                };
                written(&*glommio::executor().spawn_blocking(write).await, ctx, true)
            } else {
                let v1::Object(change) =
                    serde_json::from_slice::<v1::Object<v1::PolicyDocument>>(&body)
                        .map_err(unreadable)?;
                let write = move || reloader.write_policy(|old| v1::edited_policy(old, &change));
                written(&*glommio::executor().spawn_blocking(write).await, ctx, false)
            }
        }
        _ => Err(Box::new(respond::method_not_allowed("GET, HEAD, POST, PUT"))),
    }
}

fn written(report: &Report, ctx: &HttpContext, is_config: bool) -> Result<Value, Box<Reply>> {
    let applied =
        report.outcome.as_ref().map_err(|error| refuse(v1::status_of(error), error.to_string()))?;
    let mut value = json!({
        "changed": applied.changed,
        "restart": applied.restart,
        "policy": applied.policy,
    });
    if let Some(reloader) = ctx.backend.reloader() {
        // The port after a restart, where a page looks for the server then.
        let port = reloader.accepted().document.config.http.port;
        value["http_port"] = json!(if port == 0 { ctx.backend.status().http.port } else { port });
        let files = reloader.files();
        let file = if is_config { &files.config } else { &files.policy };
        if applied.backup {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let key = if is_config { "bak_config" } else { "bak_policy" };
            value[key] = json!(format!("{name}.bak"));
        }
    }
    Ok(value)
}

fn policy_value(text: &str) -> Value {
    serde_json::to_value(v1::shown_policy(text)).unwrap_or_default()
}

/// The configuration in groups; values that the file does not set are defaults.
fn shown(document: &Document) -> Value {
    let mut groups = Map::new();
    for (group, name, path) in NAMES {
        let Some(opt) = options::find(path) else { continue };
        let text = document.shown(opt).into_iter().next();
        let text = text.unwrap_or_else(|| opt.default.to_owned());
        let group = groups.entry(*group).or_insert_with(|| json!({}));
        group[*name] = typed(opt, &text);
    }
    Value::Object(groups)
}

/// A value as JSON has it.
fn typed(opt: &Opt, text: &str) -> Value {
    let number = || text.parse::<u64>().map(Value::from).ok();
    let found = match opt.kind {
        Kind::Bool => text.parse::<bool>().map(Value::from).ok(),
        Kind::Int(..) | Kind::Port => number(),
        Kind::Millis(..) | Kind::Seconds(..) | Kind::Minutes(..) => {
            number().or_else(|| text.parse::<f64>().map(Value::from).ok())
        }
        _ => None,
    };
    found.unwrap_or_else(|| Value::from(text))
}

/// What is to be written. Names and groups that are not known are refused.
fn edits(value: &Value) -> Result<Vec<Edit>, String> {
    let groups = value.as_object().ok_or("an object with groups of options is expected")?;
    let mut edits = Vec::new();
    for (group, names) in groups {
        let names = names
            .as_object()
            .ok_or_else(|| format!("{} is no group of options", crate::conn::escape(group)))?;
        for (name, value) in names {
            let known = NAMES.iter().find(|(g, n, _)| g == group && n == name);
            let opt = known.and_then(|(_, _, path)| options::find(path)).ok_or_else(|| {
                format!(
                    "{}.{} is not an option",
                    crate::conn::escape(group),
                    crate::conn::escape(name)
                )
            })?;
            let text = match value {
                Value::Null => String::new(),
                Value::Bool(value) => value.to_string(),
                Value::Number(value) => value.to_string(),
                Value::String(text) => text.clone(),
                Value::Array(_) | Value::Object(_) => {
                    return Err(format!("{group}.{name} is one value"));
                }
            };
            let is_default = text.trim().is_empty();
            edits.push(Edit { opt, values: if is_default { Vec::new() } else { vec![text] } });
        }
    }
    Ok(edits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn document(text: &str) -> Document {
        Document::parse("c.xml", text, Path::new(".")).unwrap()
    }

    #[test]
    fn every_name_is_an_option_and_the_groups_are_those_of_the_older_api() {
        assert!(NAMES.iter().all(|(_, _, path)| options::find(path).is_some()));
        let value = shown(&document("<config><rtmp><port>19350</port></rtmp></config>"));
        assert_eq!(value["rtmp"]["port"], 19350);
        assert_eq!(value["rtmp"]["gop_cache"], true);
        assert_eq!(value["http"]["hls_duration"], 1);
        assert_eq!(value["global"]["rtp_min"], 30000);
        let groups: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(groups, ["global", "http", "nat", "rtmp", "rtsp", "srt", "ssl"]);
    }

    #[test]
    fn what_is_shown_can_be_sent_back_and_changes_nothing() {
        let old = document("<config>\n  <rtmp><port>19350</port></rtmp>\n</config>");
        let text = old.edited(&edits(&shown(&old)).unwrap()).unwrap();
        assert!(document(&text).changed(&old).is_empty(), "{text}");
        let new = json!({ "rtmp": { "port": "1936", "ssl": false } });
        let text = old.edited(&edits(&new).unwrap()).unwrap();
        assert_eq!(document(&text).changed(&old), ["rtmp/port", "rtmp/ssl"], "{text}");
        for wrong in [json!([]), json!({ "rtmp": 1 }), json!({ "rtmp": { "prot": 1 } })] {
            assert!(edits(&wrong).is_err(), "{wrong}");
        }
    }
}
