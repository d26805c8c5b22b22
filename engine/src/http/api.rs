//! `/api/*`: live streams, viewer counts and the state of the services, as JSON or plain lines,
//! and the trait through which the engine supplies them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::BoxedLocal;
use hyper::StatusCode;
use protocols::media::{StreamKey, Tracks};
use serde_json::{Value, json};

use crate::auth::{By, Question, Reason, Role};
use crate::config::model::Config;
use crate::forward::ForwardStatus;
use crate::http::respond::{self, Reply};
use crate::http::urls::{self, Addressed};
use crate::http::v1::Statistics;
use crate::observe::{PullReport, ShardReport, Viewers};
use crate::reload::Reloader;
use crate::segment::{Packaging, Snapshot};
use crate::shard::sessions::{SessionPage, SessionQuery};
use crate::shard::{Absent, Wanted};
use crate::shard::{Kick, Kicked};
use crate::timeshift::Refused;

/// Where the HTTP service gets its answers; implemented by the engine on each shard.
pub trait Backend {
    /// The newest segments of a stream, once they are what is wanted.
    fn segments(
        &self,
        key: StreamKey,
        packaging: Packaging,
        wanted: Wanted,
        patience: Duration,
    ) -> BoxedLocal<Result<Arc<Snapshot>, Absent>>;

    /// Has a stream played so much later than live as its key says.
    fn shift(&self, key: StreamKey) -> BoxedLocal<Result<(), Refused>>;
    /// Whether somebody may do something. `session` names what all requests of one viewer are
    /// about: who was let in a moment ago is then not judged again.
    fn admission(&self, question: &Question, session: Option<&str>) -> Admission;
    /// Whether everybody may be that, without being asked anything.
    fn lets_all(&self, role: Role) -> bool;
    /// What `WWW-Authenticate` says to who may not but might.
    fn challenge(&self, role: Role) -> Option<&'static str>;
    /// The configuration in force.
    fn config(&self) -> Arc<Config>;
    /// Every live stream of the server, gathered from all shards, sorted by vhost, app and name.
    fn streams(&self) -> BoxedLocal<Vec<StreamInfo>>;
    /// The metrics of all shards in text exposition format.
    fn metrics(&self) -> BoxedLocal<String>;
    /// The state of the services.
    fn status(&self) -> StatusInfo;
    /// Sessions, a page at a time.
    fn sessions(&self, query: SessionQuery) -> BoxedLocal<SessionPage>;
    /// Ends sessions; those that have ended.
    fn kick(&self, kick: Kick) -> BoxedLocal<Option<Kicked>>;
    /// What is pulled.
    fn pulls(&self) -> BoxedLocal<Vec<PullReport>>;
    /// Sums over all shards.
    fn totals(&self) -> BoxedLocal<Totals>;
    /// Who reloads the files, once the server has come up.
    fn reloader(&self) -> Option<Arc<Reloader>>;
}

/// Sums over all shards.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Since the start.
    pub uptime: Duration,
    /// Shards of the process.
    pub shards: usize,
    /// Shards in the sums.
    pub answered: usize,
    /// Streams with a publisher.
    pub streams: usize,
    /// Open connections.
    pub connections: usize,
    /// Viewers.
    pub viewers: Viewers,
    /// Connections accepted.
    pub accepted: u64,
    /// Bytes from peers.
    pub bytes_in: u64,
    /// Bytes to peers.
    pub bytes_out: u64,
    /// Frames from publishers.
    pub frames_in: u64,
}

impl Totals {
    /// Adds one shard.
    pub fn add(&mut self, report: &ShardReport) {
        self.answered += 1;
        self.streams += report.streams.len();
        self.connections += report.connections;
        report.audiences.iter().for_each(|audience| self.viewers.add(&audience.viewers));
        if let Some(counters) = &report.counters {
            self.accepted += counters.accepted;
            self.bytes_in += counters.bytes_in;
            self.bytes_out += counters.bytes_out;
            self.frames_in += counters.frames_in;
        }
    }

    /// As the API says it.
    pub(crate) fn statistics(&self) -> Statistics {
        let viewers = self.viewers.iter().map(|(label, count)| (label.to_owned(), count));
        Statistics {
            uptime_s: self.uptime.as_secs(),
            shards: self.shards,
            shards_answered: self.answered,
            streams: self.streams,
            connections: self.connections,
            viewers: viewers.collect(),
            accepted: self.accepted,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            frames_in: self.frames_in,
        }
    }
}

/// Answers a permitted GET or HEAD of `/api/statistics`.
pub(crate) async fn statistics(backend: &dyn Backend) -> Reply {
    let value = serde_json::to_value(backend.totals().await.statistics()).unwrap_or_default();
    respond::json(StatusCode::OK, &value)
}

/// Whether somebody may, now or when it is known.
pub enum Admission {
    /// It is known.
    Settled(Result<By, Reason>),
    /// It is being found out. Dropped, nobody waits for it any more.
    Pending(BoxedLocal<Result<By, Reason>>),
}

/// One live stream.
#[derive(Debug, Clone)]
pub struct StreamInfo {
    /// Vhost; empty for the default one.
    pub vhost: String,
    /// App.
    pub app: String,
    /// Name.
    pub name: String,
    /// Host the publisher addressed, without port; may be empty.
    pub publisher_host: String,
    /// Port the publisher addressed, if it named one.
    pub publisher_port: Option<u16>,
    /// How the stream comes in: `rtmp`, `rtsp`, `pull`.
    pub from: &'static str,
    /// Where this server fetches it from, without credentials.
    pub source: Option<Arc<str>>,
    /// What the publisher calls itself.
    pub agent: String,
    /// The publisher's session, if it has one.
    pub session: Option<String>,
    /// The publisher, if it is a peer.
    pub peer: Option<SocketAddr>,
    /// Time since the stream began.
    pub uptime: Duration,
    /// Bytes received from the publisher.
    pub bytes_in: u64,
    /// Present bit rate of the publisher.
    pub bits_per_second: f64,
    /// Frames between the last two keyframes; 0 when unknown.
    pub gop_frames: u32,
    /// The tracks.
    pub tracks: Arc<Tracks>,
    /// Who watches.
    pub viewers: Viewers,
    /// Where it is forwarded.
    pub forwards: Vec<ForwardStatus>,
}

/// The state of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusInfo {
    /// When the server started, in seconds since 1970.
    pub start_unix_s: i64,
    /// RTMP and RTMPS.
    pub rtmp: ServiceState,
    /// RTSP and RTSPS.
    pub rtsp: ServiceState,
    /// HTTP.
    pub http: ServiceState,
    /// HTTPS.
    pub https: ServiceState,
}

/// The state of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServiceState {
    /// The port it listens on.
    pub port: u16,
    /// It listens.
    pub running: bool,
    /// It accepts TLS.
    pub ssl: bool,
}

/// Answers a permitted GET or HEAD of `/api/live`.
pub(crate) async fn live(backend: &dyn Backend, query: &str, at: &Addressed) -> Reply {
    let (config, status) = (backend.config(), backend.status());
    let mut streams = backend.streams().await;
    streams.sort_by(|a, b| (&a.vhost, &a.app, &a.name).cmp(&(&b.vhost, &b.app, &b.name)));
    if let Some(vhost) = urls::query_value(query, "vhost") {
        let host = urls::parse_host(&vhost).map_or(vhost, |(host, _)| host);
        // A host that is no vhost of its own means the default one.
        let own = config.vhosts.iter().any(|v| v.eq_ignore_ascii_case(&host));
        let wanted = if own { host.as_str() } else { "" };
        streams.retain(|s| s.vhost.eq_ignore_ascii_case(wanted));
    }
    if let Some(app) = urls::query_value(query, "app") {
        streams.retain(|s| s.app == app);
    }
    let Some(name) = urls::query_value(query, "name") else {
        return respond::json(StatusCode::OK, &list(&streams, at, &config, &status));
    };
    let Some(stream) = streams.iter().find(|s| s.name == name) else {
        let error = json!({ "error": "no such live stream" });
        return respond::json(StatusCode::NOT_FOUND, &error);
    };
    match urls::query_value(query, "cmd").as_deref() {
        None => respond::json(StatusCode::OK, &detail(stream, at, &config, &status)),
        Some("count") => {
            let of = |label| stream.viewers.of(label);
            let (rtmp, flv, rtsp, ws) = (of("rtmp"), of("http-flv"), of("rtsp"), of("ws-flv"));
            let mut lines = format!("rtmp:{rtmp}\nflv:{flv}\nrtsp:{rtsp}\nws:{ws}");
            let known = ["rtmp", "http-flv", "rtsp", "ws-flv"];
            for (label, count) in stream.viewers.iter().filter(|(label, _)| !known.contains(label))
            {
                lines.push_str(&format!("\n{label}:{count}"));
            }
            respond::text(StatusCode::OK, &lines)
        }
        Some(_) => {
            let error = json!({ "error": "the only cmd is count" });
            respond::json(StatusCode::BAD_REQUEST, &error)
        }
    }
}

/// `stream`: the URLs older tools read. `live`: the same streams with everything known of them.
fn list(streams: &[StreamInfo], at: &Addressed, config: &Config, status: &StatusInfo) -> Value {
    let first = |s: &StreamInfo| urls::stream_urls(s, at, config, status).swap_remove(0).1;
    let known = |s: &&StreamInfo| !urls::stream_urls(s, at, config, status).is_empty();
    json!({
        "stream": streams.iter().filter(known).map(first).collect::<Vec<_>>(),
        "live": streams.iter().map(|s| detail(s, at, config, status)).collect::<Vec<_>>(),
    })
}

fn detail(stream: &StreamInfo, at: &Addressed, config: &Config, status: &StatusInfo) -> Value {
    let audio = stream.tracks.audio.as_ref().map(|track| {
        json!({
            "codec": track.codec.name(),
            "channel": track.info.channels,
            "samplebit": track.info.sample_bits,
            "samplerate": track.info.sample_rate,
        })
    });
    let video = stream.tracks.video.as_ref().map(|track| {
        json!({
            "codec": track.codec.name(),
            "width": track.info.width,
            "height": track.info.height,
            "fps": (track.info.frame_rate * 100.0).round() / 100.0,
            "gop": stream.gop_frames,
        })
    });
    let urls: Vec<Value> = urls::stream_urls(stream, at, config, status)
        .into_iter()
        .map(|(kind, url)| json!({ "type": kind, "url": url }))
        .collect();
    json!({
        "vhost": stream.vhost,
        "name": stream.name,
        "app": {
            "name": stream.app,
            "duration": iso_duration(stream.uptime),
            "from": stream.from,
            "source": stream.source.as_deref(),
            "rate": rate(stream.bits_per_second),
            "rec": config.records(&stream.app, &stream.name),
        },
        "bits_per_second": stream.bits_per_second.round(),
        "bytes_in": stream.bytes_in,
        "media": { "audio": audio, "video": video },
        "left_out": crate::stream::left_out(&stream.tracks)
            .into_iter()
            .map(|(output, codec)| json!({ "output": output.name(), "codec": codec.name() }))
            .collect::<Vec<_>>(),
        "viewers": viewers(&stream.viewers),
        "forwards": stream.forwards.iter().map(forward).collect::<Vec<_>>(),
        "urls": urls,
    })
}

/// Seconds and bits, as elsewhere here.
fn forward(forward: &ForwardStatus) -> Value {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64().round());
    json!({
        "target": &*forward.target,
        "address": forward.address.map(|address| address.to_string()),
        "state": forward.state,
        "live_seconds": seconds(forward.live_for),
        "retry_seconds": seconds(forward.retry_in),
        "attempts": forward.attempts,
        "bytes_out": forward.bytes_out,
        "bits_per_second": forward.bits_per_second,
        "last_error": forward.last_error.as_deref(),
    })
}

/// Counts by the way of watching; the first three have names of their own for older clients.
fn viewers(viewers: &Viewers) -> Value {
    let mut map = json!({
        "rtmp": viewers.of("rtmp"),
        "rtsp": viewers.of("rtsp"),
        "flv": viewers.of("http-flv"),
        "ws": viewers.of("ws-flv"),
    });
    for (label, count) in
        viewers.iter().filter(|(label, _)| label.ends_with("-ts") || label.ends_with("-mp4"))
    {
        map[label] = json!(count);
    }
    map
}

/// Answers a permitted GET or HEAD of `/api/status`.
pub(crate) fn status(backend: &dyn Backend) -> Reply {
    let status = backend.status();
    let start = jiff::Timestamp::from_second(status.start_unix_s).map_or(String::new(), |t| {
        t.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    });
    let with_tls = |service: ServiceState| json!({ "port": service.port, "run": service.running, "ssl": service.ssl });
    let value = json!({
        "start_time": start,
        "rtmp": with_tls(status.rtmp),
        "rtsp": with_tls(status.rtsp),
        "http": { "port": status.http.port, "run": status.http.running },
        "https": { "port": status.https.port, "run": status.https.running },
    });
    respond::json(StatusCode::OK, &value)
}

fn iso_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let parts = [(seconds / 3600, 'H'), (seconds / 60 % 60, 'M')];
    let mut out = "PT".to_owned();
    for (value, unit) in parts.into_iter().filter(|p| p.0 > 0) {
        out.push_str(&format!("{value}{unit}"));
    }
    if !seconds.is_multiple_of(60) || out.len() == 2 {
        out.push_str(&format!("{}S", seconds % 60));
    }
    out
}

fn rate(bits_per_second: f64) -> String {
    let (value, unit) = match bits_per_second {
        b if b >= 1e6 => (b / 1e6, "Mb/s"),
        b if b >= 1e3 => (b / 1e3, "Kb/s"),
        b => (b, "b/s"),
    };
    format!("{value:.2} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_rates_read_like_the_documented_samples() {
        assert_eq!(iso_duration(Duration::from_secs(2)), "PT2S");
        assert_eq!(iso_duration(Duration::ZERO), "PT0S");
        assert_eq!(iso_duration(Duration::from_secs(3600)), "PT1H");
        assert_eq!(iso_duration(Duration::from_secs(3725)), "PT1H2M5S");
        assert_eq!(rate(91.81), "91.81 b/s");
        assert_eq!(rate(2_500_000.0), "2.50 Mb/s");
    }
}
