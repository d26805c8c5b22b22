//! Checked values to the typed configuration, and the checks that span several options.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::auth;
use super::error::{ConfigError, Problem};
use super::model::{
    AlwaysFor, Config, Cores, EgressMode, Engine, EventOptions, HostPort, Http, Limits, Listed,
    MergeWindow, Multicast, Nat, Record, Rtmp, Rtsp, SecondPublisher, Secret, Sock, Ssl,
};
use super::options::Value;
use super::read::Values;
use crate::events::EventKind;

/// Largest socket buffer that takes effect, in KiB.
const SOCKET_BUFFER_KIB_MAX: usize = 4096;

/// Most multicast groups.
const GROUPS_MAX: u32 = 4096;
/// Servers that are told of events: each has a thread.
const EVENT_URLS_MAX: usize = 8;

/// Shortest piece of a recording.
const PIECE_MIN: Duration = Duration::from_secs(2);

/// Builds the typed configuration; relative paths start at `base_dir`.
pub(super) fn build(file: &str, values: &Values, base_dir: &Path) -> Result<Config, ConfigError> {
    let config = Config {
        engine: engine(values),
        elapse: values.window("elapse"),
        sock: Sock {
            recv_buffer_kib: values.size("sock/recvbuffer").min(SOCKET_BUFFER_KIB_MAX),
            send_buffer_kib: values.size("sock/sendbuffer").min(SOCKET_BUFFER_KIB_MAX),
        },
        ssl: Ssl {
            server_cert: values.path("ssl/servercert", base_dir),
            server_key: values.path("ssl/serverkey", base_dir),
            client_ca: values.path("ssl/clientca", base_dir),
            client_cert: values.path("ssl/clientcert", base_dir),
            client_key: values.path("ssl/clientkey", base_dir),
        },
        nat: Nat {
            rtmp: values.host_port("nat/rtmp"),
            http: values.host_port("nat/http"),
            https: values.host_port("nat/https"),
            rtsp: values.host_port("nat/rtsp"),
            rtp: values.ip("nat/rtp"),
        },
        rtmp: rtmp(values),
        rtsp: rtsp(values),
        http: http(values, base_dir),
        auth: auth::build(file, values, base_dir)?,
        record: record(values, base_dir),
        events: events(values, base_dir).map_err(|text| {
            let path = "events/kinds";
            ConfigError::new(file, values.line(path), path, Problem::Conflict(text))
        })?,
        limits: limits(values),
        vhosts: vhosts(values),
        base_dir: base_dir.to_path_buf(),
        log_level: values.text("log"),
        warnings: values.warnings.clone(),
    };
    check(&config)
        .map_err(|(path, text)| {
            ConfigError::new(file, values.line(path), path, Problem::Conflict(text))
        })
        .map(|()| config)
}

fn engine(values: &Values) -> Engine {
    Engine {
        cores: values.cores("engine/cores"),
        egress: match values.text("engine/egress").as_str() {
            "ring" => EgressMode::Ring,
            "direct" => EgressMode::Direct,
            _ => EgressMode::Auto,
        },
        ring_depth: values.size("engine/ring_depth"),
        control_depth: values.size("engine/control_depth"),
        stream_log_bytes: values.size("engine/stream_log_kb") << 10,
        stream_log_ms: values.int("engine/stream_log_ms"),
        shard_log_bytes: values.size("engine/shard_log_mb") << 20,
        viewer_pending_bytes: values.size("engine/viewer_pending_kb") << 10,
    }
}

fn rtmp(values: &Values) -> Rtmp {
    Rtmp {
        enable: values.bool("rtmp/enable"),
        ip: values.ip("rtmp/ip"),
        port: values.int("rtmp/port") as u16,
        ssl: values.bool("rtmp/ssl"),
        live_app: values.text("rtmp/live"),
        rec_app: values.text("rtmp/rec"),
        legacy_h265_id: values.int("rtmp/codech265") as u8,
        gop_enable: values.bool("rtmp/gopenable"),
        start_rate: u32::try_from(values.size("rtmp/start_rate")).unwrap_or(u32::MAX),
        publisher_idle: values.time("rtmp/maxidle"),
        chunk_size: values.int("rtmp/chunksize") as u32,
        publisher_dead: values.time("rtmp/publisher_dead"),
        second_publisher: match values.text("rtmp/publish_policy").as_str() {
            "takeover" => SecondPublisher::Takeover,
            _ => SecondPublisher::Reject,
        },
        play_wait: values.time("rtmp/play_wait"),
        publisher_grace: values.time("rtmp/publisher_grace"),
        handshake_timeout: values.time("rtmp/handshake_timeout"),
        type3_extended_timestamp: values.bool("rtmp/hdr3exttime"),
        forward_timeout: values.time("rtmp/fwdtimeout"),
    }
}

fn rtsp(values: &Values) -> Rtsp {
    let multicast = values.multicast_groups("rtsp/multicast").map(|groups| Multicast {
        groups,
        port: values.int("rtsp/multicast@port") as u16,
        ttl: values.int("rtsp/multicast@ttl") as u8,
        interface: match values.ip("rtsp/multicast@interface") {
            Some(IpAddr::V4(address)) => Some(address),
            // Refused by the checks that follow.
            Some(IpAddr::V6(_)) => Some(Ipv4Addr::UNSPECIFIED),
            None => None,
        },
    });
    Rtsp {
        multicast,
        enable: values.bool("rtsp/enable"),
        ip: values.ip("rtsp/ip"),
        port: values.int("rtsp/port") as u16,
        ssl: values.bool("rtsp/ssl"),
        play: values.bool("rtmp/hasrtsp"),
        idle: values.time("rtsp/maxidle"),
        port_min: values.int("rtp@min") as u16,
        port_max: values.int("rtp@max") as u16,
        packet_bytes: values.size("rtmp/rtp@size"),
    }
}

fn http(values: &Values, base_dir: &Path) -> Http {
    let extension = |name: String| name.trim_start_matches('.').to_ascii_lowercase();
    Http {
        enable: values.bool("http/enable"),
        ip: values.ip("http/ip"),
        port: values.int("http/port") as u16,
        tls_port: values.int("http/sport") as u16,
        ssl: values.bool("http/ssl"),
        flv: values.bool("rtmp/hasflv"),
        hls: values.bool("rtmp/hashls"),
        dash: values.bool("rtmp/hasdash"),
        hls_cmaf: values.text("http/hlsformat") == "fmp4",
        hls_variants: values.list("http/hlsvariants"),
        segment_always: segment_always(values.list("http/hlsalways")),
        segment: values.time("http/hlsduration"),
        part: values.time("http/hlspart"),
        segments_listed: values.size("http/hlssegment"),
        segments_kept: values.size("http/hlslivecache"),
        html_dir: values.path("http/html", base_dir).unwrap_or_else(|| base_dir.join("html")),
        deny_extensions: values.list("http/denyfile").into_iter().map(extension).collect(),
        deny_paths: values.list("http/denypath"),
        body_bytes_max: values.size("http/httpmaxbody"),
        vod_dir: values.path("http/vod_dir", base_dir).unwrap_or_else(|| base_dir.join("vod")),
        upload_bytes_max: upload_bytes_max(values),
        head_timeout: values.time("http/head_timeout"),
        keepalive_timeout: values.time("http/keepalive"),
        api_allow: values.list("http/api_allow"),
    }
}

/// A word, or names of apps; a word among names is an app of that name.
fn segment_always(words: Vec<String>) -> AlwaysFor {
    match words.as_slice() {
        [] => AlwaysFor::NoApp,
        [word] if word == "false" => AlwaysFor::NoApp,
        [word] if word == "true" => AlwaysFor::EveryApp,
        _ => AlwaysFor::Apps(words),
    }
}

/// Older files bound uploads by the one bound of all bodies.
fn upload_bytes_max(values: &Values) -> u64 {
    match values.int("http/upload_mb") {
        0 => 0,
        mebibytes => (mebibytes << 20).max(values.int("http/httpmaxbody")),
    }
}

fn record(values: &Values, base_dir: &Path) -> Record {
    let days = values.int("http/rec_days");
    let gigabytes = values.int("http/rec_size_gb");
    Record {
        dir: values.path("http/rec_dir", base_dir).unwrap_or_else(|| base_dir.join("rec")),
        patterns: values.list("http/record"),
        piece: values.time("http/recduration").max(PIECE_MIN),
        listed: match values.int("http/recmode") {
            0 => Listed::Dash,
            2 => Listed::Mp4,
            3 => Listed::Both,
            _ => Listed::Hls,
        },
        queue_bytes: values.size("http/rec_queue_kb") << 10,
        age_max: (days > 0).then(|| Duration::from_secs(days * 86_400)),
        bytes_max: (gigabytes > 0).then_some(gigabytes << 30),
    }
}

fn events(values: &Values, base_dir: &Path) -> Result<EventOptions, String> {
    let kind = |name: String| {
        EventKind::of_name(&name).ok_or_else(|| {
            let known = EventKind::ALL.map(EventKind::name).join(", ");
            format!("\"{name}\" is no event, known are {known}")
        })
    };
    let secret = values.text("events/secret");
    if values.texts("events/url").count() > EVENT_URLS_MAX {
        return Err(format!("has more than {EVENT_URLS_MAX} servers (events/url) to tell"));
    }
    Ok(EventOptions {
        urls: values.texts("events/url").map(|url| Secret(url.to_owned())).collect(),
        kinds: values.list("events/kinds").into_iter().map(kind).collect::<Result<_, _>>()?,
        secret: (!secret.is_empty()).then_some(Secret(secret)),
        timeout: values.time("events/timeout"),
        attempts: u32::try_from(values.int("events/attempts")).unwrap_or(u32::MAX),
        queue: values.size("events/queue"),
        ca: values.path("events/ca", base_dir),
    })
}

fn limits(values: &Values) -> Limits {
    Limits {
        connections: values.size("limits/connections"),
        connections_per_address: values.size("limits/connections_per_address"),
        connects_per_second: values.size("limits/connects_per_second"),
        streams: values.size("limits/streams"),
        viewers_per_stream: values.size("limits/viewers_per_stream"),
        rtmp_reassembly_bytes: values.size("limits/rtmp_reassembly_kb") << 10,
        viewer_lag: values.time("limits/viewer_lag"),
        viewer_jumps_max: values.int("limits/viewer_jumps") as u32,
        viewer_stall: values.time("limits/viewer_stall"),
    }
}

fn vhosts(values: &Values) -> Vec<String> {
    let mut hosts = Vec::new();
    for host in values.texts("vhosts/vhost") {
        let host = host.to_ascii_lowercase();
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// Values that exclude each other: the path to name and the sentence.
fn check(config: &Config) -> Result<(), (&'static str, String)> {
    let Config { rtmp, rtsp, http, ssl, engine, .. } = config;
    if ssl.server_cert.is_some() != ssl.server_key.is_some() {
        let (set, missing) = match ssl.server_cert {
            Some(_) => ("ssl/servercert", "ssl/serverkey"),
            None => ("ssl/serverkey", "ssl/servercert"),
        };
        return Err((set, format!("is set without {missing}; set both or neither")));
    }
    if ssl.client_cert.is_some() != ssl.client_key.is_some() {
        let (set, missing) = match ssl.client_cert {
            Some(_) => ("ssl/clientcert", "ssl/clientkey"),
            None => ("ssl/clientkey", "ssl/clientcert"),
        };
        return Err((set, format!("is set without {missing}; set both or neither")));
    }
    if rtmp.live_app == rtmp.rec_app {
        let text = format!("is \"{}\" like rtmp/live; give it another name", rtmp.rec_app);
        return Err(("rtmp/rec", text));
    }
    if config.vhosts.iter().any(|host| host == crate::record::DEFAULT_VHOST) {
        let text = "is the name under which recordings of all other domains lie".to_owned();
        return Err(("vhosts/vhost", text));
    }
    let listeners = [
        ("rtmp/port", rtmp.enable, rtmp.ip, rtmp.port),
        ("rtsp/port", rtsp.enable, rtsp.ip, rtsp.port),
        ("http/port", http.enable, http.ip, http.port),
        ("http/sport", http.enable && http.ssl, http.ip, http.tls_port),
    ];
    for (index, (path, on, ip, port)) in listeners.iter().enumerate() {
        for (other, other_on, other_ip, other_port) in listeners.iter().take(index) {
            let overlap = ip == other_ip || ip.is_none() || other_ip.is_none();
            if *on && *other_on && overlap && port == other_port && *port != 0 {
                let text = format!("is {port} like {other}; give each its own port");
                return Err((path, text));
            }
        }
    }
    if rtsp.port_min >= rtsp.port_max {
        return Err(("rtp@min", format!("is not below rtp@max, {}", rtsp.port_max)));
    }
    if let Some(Multicast { groups, port, interface, .. }) = rtsp.multicast {
        if port % 2 != 0 {
            return Err(("rtsp/multicast@port", "is not even, as RTP wants it".to_owned()));
        }
        if groups.0 > groups.1 || groups.1.to_bits() - groups.0.to_bits() >= GROUPS_MAX {
            let text = format!("is not first-last with at most {GROUPS_MAX} groups");
            return Err(("rtsp/multicast", text));
        }
        if interface.is_some_and(|address| address.is_unspecified()) {
            let text = "is no IPv4 address, as the groups are".to_owned();
            return Err(("rtsp/multicast@interface", text));
        }
    }
    if engine.stream_log_bytes > engine.shard_log_bytes {
        let text = "is larger than engine/shard_log_mb; one stream may not exceed its shard";
        return Err(("engine/stream_log_kb", text.to_owned()));
    }
    Ok(())
}

/// Typed access; the table fixes the type of every path and a test builds the defaults.
impl Values {
    pub(super) fn int(&self, path: &'static str) -> u64 {
        let Value::Int(number) = self.get(path) else { wrong_type(path) };
        number
    }

    fn size(&self, path: &'static str) -> usize {
        self.int(path) as usize
    }

    pub(super) fn bool(&self, path: &'static str) -> bool {
        let Value::Bool(value) = self.get(path) else { wrong_type(path) };
        value
    }

    pub(super) fn time(&self, path: &'static str) -> Duration {
        let Value::Time(time) = self.get(path) else { wrong_type(path) };
        time
    }

    pub(super) fn text(&self, path: &'static str) -> String {
        let Value::Text(text) = self.get(path) else { wrong_type(path) };
        text
    }

    /// Of an option that may stand several times.
    pub(super) fn texts(&self, path: &'static str) -> impl Iterator<Item = &str> {
        self.all(path).filter_map(|value| match value {
            Value::Text(text) if !text.is_empty() => Some(text.as_str()),
            _ => None,
        })
    }

    pub(super) fn list(&self, path: &'static str) -> Vec<String> {
        let Value::List(list) = self.get(path) else { wrong_type(path) };
        list
    }

    fn ip(&self, path: &'static str) -> Option<IpAddr> {
        let Value::Ip(ip) = self.get(path) else { wrong_type(path) };
        ip
    }

    fn multicast_groups(&self, path: &'static str) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let Value::Groups(groups) = self.get(path) else { wrong_type(path) };
        groups
    }

    fn host_port(&self, path: &'static str) -> Option<HostPort> {
        let Value::HostPort(host) = self.get(path) else { wrong_type(path) };
        host
    }

    fn window(&self, path: &'static str) -> MergeWindow {
        let Value::Window(window) = self.get(path) else { wrong_type(path) };
        window
    }

    fn cores(&self, path: &'static str) -> Cores {
        let Value::Cores(cores) = self.get(path) else { wrong_type(path) };
        cores
    }

    pub(super) fn path(&self, path: &'static str, base_dir: &Path) -> Option<PathBuf> {
        let text = self.text(path);
        (!text.is_empty()).then(|| base_dir.join(text))
    }
}

fn wrong_type(path: &str) -> ! {
    unreachable!("{path} has another type in the options table")
}
