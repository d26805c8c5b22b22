//! The typed configuration: what `config.xml` means once it has been parsed and checked.
//!
//! Plain data, immutable, shared by `Arc`; replaced whole on reload. Field names follow the XML
//! path (`rtmp/chunksize` → `rtmp.chunk_size`), units stand last. Defaults and bounds are in the
//! options table, nowhere else.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocols::media::StreamKey;
use protocols::session::Refusal;

use super::auth::Auth;
use super::units;
use crate::events::EventKind;

/// Everything `config.xml` says.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Cores and rings.
    pub engine: Engine,
    /// Merge window of egress.
    pub elapse: MergeWindow,
    /// Socket buffers.
    pub sock: Sock,
    /// Certificates.
    pub ssl: Ssl,
    /// Public addresses behind NAT.
    pub nat: Nat,
    /// RTMP service.
    pub rtmp: Rtmp,
    /// RTSP service.
    pub rtsp: Rtsp,
    /// HTTP service.
    pub http: Http,
    /// Who may do what.
    pub auth: Auth,
    /// Recordings.
    pub record: Record,
    /// Event callbacks.
    pub events: EventOptions,
    /// Limits per connection, address and shard.
    pub limits: Limits,
    /// Domains that are vhosts of their own; every other host is the default vhost.
    pub vhosts: Vec<String>,
    /// Directory of the configuration file. The paths below are already joined to it.
    pub base_dir: PathBuf,
    /// Log filter (`tracing` directives), `info` by default.
    pub log_level: String,
    /// One sentence per element that the file sets but this build cannot honour yet.
    pub warnings: Vec<String>,
}

impl Config {
    /// Whether a stream is recorded: one of the recorded app, or one a rule names.
    pub fn records(&self, app: &str, name: &str) -> bool {
        app == self.rtmp.rec_app || self.record.matches(app, name)
    }

    /// Whether some service shows a certificate.
    pub fn shows_certificate(&self) -> bool {
        self.rtmp.ssl || self.rtsp.ssl || self.http.ssl
    }
}

/// `engine/*`: cores, rings and budgets.
#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    /// Which CPUs get a shard.
    pub cores: Cores,
    /// How batches of sends reach the kernel.
    pub egress: EgressMode,
    /// Messages a media ring between two shards holds.
    pub ring_depth: usize,
    /// Messages the control queue of a shard holds.
    pub control_depth: usize,
    /// Bytes one stream's log may hold per shard.
    pub stream_log_bytes: usize,
    /// Milliseconds of media one stream's log may hold per shard.
    pub stream_log_ms: u64,
    /// Bytes all stream logs of a shard may hold together.
    pub shard_log_bytes: usize,
    /// Bytes that may wait in user space for one viewer (handshake, control, TLS records).
    pub viewer_pending_bytes: usize,
}

/// `engine/egress`: how a batch of sends reaches the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressMode {
    /// The ring where the kernel offers it, else directly; large batches from pages that all
    /// viewers share.
    Auto,
    /// One submission to an io_uring ring per batch.
    Ring,
    /// One `sendmsg` per viewer.
    Direct,
}

/// Which CPUs get a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cores {
    /// Every CPU of the affinity mask.
    Auto,
    /// That many shards, placed round robin on the allowed CPUs; may exceed their number (tests).
    Count(usize),
    /// Exactly these CPUs.
    List(Vec<usize>),
}

/// `elapse`: how long egress may hold frames back to merge them into one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeWindow {
    /// 0 while the shard idles, growing with its load to the ceiling.
    Adaptive {
        /// Longest window.
        ceiling: Duration,
    },
    /// Always this long.
    Fixed(Duration),
}

/// `sock/*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sock {
    /// `SO_RCVBUF` in KiB, 0 leaves it to the kernel.
    pub recv_buffer_kib: usize,
    /// `SO_SNDBUF` of viewers in KiB, 0 leaves it to the kernel.
    pub send_buffer_kib: usize,
}

/// `ssl/*`: PEM files; empty paths mean the self-signed pair made at first start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ssl {
    /// Certificate chain.
    pub server_cert: Option<PathBuf>,
    /// Private key.
    pub server_key: Option<PathBuf>,
    /// Authorities of servers that are dialled; those of the platform if `None`.
    pub client_ca: Option<PathBuf>,
    /// Certificate chain this server shows to those it dials.
    pub client_cert: Option<PathBuf>,
    /// Its private key.
    pub client_key: Option<PathBuf>,
}

impl Ssl {
    /// What those who are dialled are shown and held to.
    pub fn client_files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.client_ca, &self.client_cert, &self.client_key];
        files.into_iter().flatten().map(PathBuf::as_path)
    }
}

/// `nat/*`: public `host[:port]` per service, used only where an address is advertised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nat {
    /// For RTMP URLs.
    pub rtmp: Option<HostPort>,
    /// For HTTP URLs.
    pub http: Option<HostPort>,
    /// For HTTPS URLs.
    pub https: Option<HostPort>,
    /// For RTSP URLs.
    pub rtsp: Option<HostPort>,
    /// For UDP media.
    pub rtp: Option<IpAddr>,
}

/// A host with an optional port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port if given.
    pub port: Option<u16>,
}

/// `rtsp/*` and `rtp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtsp {
    /// Listen at all.
    pub enable: bool,
    /// Bind address; `None` = all, IPv6 and IPv4.
    pub ip: Option<IpAddr>,
    /// Port; 0 picks a free one.
    pub port: u16,
    /// Accept TLS on the same port (first byte decides).
    pub ssl: bool,
    /// Streams may be played.
    pub play: bool,
    /// A session that says nothing for so long ends; zero = never.
    pub idle: Duration,
    /// Lowest UDP port of RTP and RTCP.
    pub port_min: u16,
    /// Highest UDP port of RTP and RTCP.
    pub port_max: u16,
    /// Largest RTP packet in bytes.
    pub packet_bytes: usize,
    /// Where players may be sent that ask for multicast; `None` = nowhere.
    pub multicast: Option<Multicast>,
}

/// `rtsp/multicast`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multicast {
    /// First and last group.
    pub groups: (Ipv4Addr, Ipv4Addr),
    /// Lowest port, even; each group takes four.
    pub port: u16,
    /// Time to live of packets.
    pub ttl: u8,
    /// Address of the interface they leave by; `None` = as routed.
    pub interface: Option<Ipv4Addr>,
}

/// A text that no log or debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// `rtmp/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtmp {
    /// Listen at all.
    pub enable: bool,
    /// Bind address; `None` = all, IPv6 and IPv4.
    pub ip: Option<IpAddr>,
    /// Port; 0 picks a free one.
    pub port: u16,
    /// Accept TLS on the same port (first byte decides).
    pub ssl: bool,
    /// The live app tag.
    pub live_app: String,
    /// The recorded app tag.
    pub rec_app: String,
    /// FLV codec id that means H.265 in legacy FLV, both ways.
    pub legacy_h265_id: u8,
    /// Start viewers at the last keyframe in the log rather than at the next one.
    pub gop_enable: bool,
    /// A joining viewer catches up with live at this multiple of real time.
    pub start_rate: u32,
    /// A publisher that sends nothing for so long is closed; zero = never.
    pub publisher_idle: Duration,
    /// Outgoing chunk size.
    pub chunk_size: u32,
    /// A publisher silent for so long may be replaced by a newcomer.
    pub publisher_dead: Duration,
    /// What a second publisher on a live key gets.
    pub second_publisher: SecondPublisher,
    /// How long a viewer waits for its publisher.
    pub play_wait: Duration,
    /// How long viewers stay attached after the publisher has gone.
    pub publisher_grace: Duration,
    /// Handshake and command phase deadline.
    pub handshake_timeout: Duration,
    /// Type-3 chunk headers of our own messages repeat the extended timestamp.
    pub type3_extended_timestamp: bool,
    /// From dialling the target of a forward until it takes the stream.
    pub forward_timeout: Duration,
}

/// `rtmp/publish_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondPublisher {
    /// The newcomer is refused while the incumbent lives.
    Reject,
    /// The newcomer replaces the incumbent.
    Takeover,
}

/// Which apps have something done for all their streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlwaysFor {
    /// None.
    NoApp,
    /// All.
    EveryApp,
    /// These.
    Apps(Vec<String>),
}

impl AlwaysFor {
    /// The app is one of them.
    #[must_use]
    pub fn contains(&self, app: &str) -> bool {
        match self {
            Self::NoApp => false,
            Self::EveryApp => true,
            Self::Apps(apps) => apps.iter().any(|name| name == app),
        }
    }
}

/// `http/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Listen at all.
    pub enable: bool,
    /// Bind address; `None` = all.
    pub ip: Option<IpAddr>,
    /// Port; 0 picks a free one.
    pub port: u16,
    /// HTTPS port; 0 picks a free one.
    pub tls_port: u16,
    /// Listen on the HTTPS port and accept TLS on the plain port too (first byte decides).
    pub ssl: bool,
    /// Serve HTTP-FLV and WS-FLV.
    pub flv: bool,
    /// Serve HLS.
    pub hls: bool,
    /// Serve DASH.
    pub dash: bool,
    /// HLS of a stream is CMAF with parts unless a request says otherwise.
    pub hls_cmaf: bool,
    /// Endings of the names of renditions of one stream.
    pub hls_variants: Vec<String>,
    /// Whose segments are made without a request.
    pub segment_always: AlwaysFor,
    /// Length of segments.
    pub segment: Duration,
    /// Length of parts.
    pub part: Duration,
    /// Segments in a playlist, at least.
    pub segments_listed: usize,
    /// Segments kept behind those.
    pub segments_kept: usize,
    /// Folder that overrides the embedded pages.
    pub html_dir: PathBuf,
    /// File extensions of the folder that are never served, lower case without dot.
    pub deny_extensions: Vec<String>,
    /// First-level folders of it that are never served.
    pub deny_paths: Vec<String>,
    /// Largest request body.
    pub body_bytes_max: usize,
    /// Folder of files on demand.
    pub vod_dir: PathBuf,
    /// Largest body of an upload into it; 0 = none is taken.
    pub upload_bytes_max: u64,
    /// A request head must be complete by then.
    pub head_timeout: Duration,
    /// An idle keep-alive connection is closed after that.
    pub keepalive_timeout: Duration,
    /// Addresses and `address/bits` that may read `/api/*` and `/metrics` without a credential;
    /// `*` = everybody.
    pub api_allow: Vec<String>,
}

impl Config {
    /// The key of the stream that a peer names.
    ///
    /// # Errors
    /// The app is neither the live nor the rec one, or the name cannot be a stream's.
    pub fn stream_key(&self, host: &str, app: &str, name: &str) -> Result<StreamKey, Refusal> {
        if app != self.rtmp.live_app && app != self.rtmp.rec_app {
            return Err(Refusal::UnknownApp);
        }
        let own_vhost = self.vhosts.iter().any(|vhost| vhost.eq_ignore_ascii_case(host));
        let vhost = if own_vhost { host } else { "" };
        StreamKey::new(vhost, app, name).map_err(|_| Refusal::BadName)
    }
}

/// `http/rec*`: what is recorded, where, and for how long it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Folder of all recordings.
    pub dir: PathBuf,
    /// Streams to record beside those of the recorded app: `app/name` with `*` for any text.
    pub patterns: Vec<String>,
    /// Length of a piece.
    pub piece: Duration,
    /// The names under which pieces are listed.
    pub listed: Listed,
    /// Bytes of one stream that may wait for the disk.
    pub queue_bytes: usize,
    /// Age at which recordings are deleted; `None` = never.
    pub age_max: Option<Duration>,
    /// Bytes of all recordings beyond which the oldest are deleted; `None` = never.
    pub bytes_max: Option<u64>,
}

impl Record {
    /// Whether a rule says that a stream of an ordinary app is recorded.
    pub fn matches(&self, app: &str, name: &str) -> bool {
        let stream = format!("{app}/{name}");
        self.patterns.iter().any(|pattern| units::matches(pattern, &stream))
    }
}

/// `http/recmode`: the names under which pieces are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// `.mpd`.
    Dash,
    /// `.m3u8`.
    Hls,
    /// `.mp4`.
    Mp4,
    /// `.m3u8` and `.mpd`.
    Both,
}

impl Listed {
    /// The endings of the names, in the order in which they are listed.
    #[must_use]
    pub fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Dash => &["mpd"],
            Self::Hls => &["m3u8"],
            Self::Mp4 => &["mp4"],
            Self::Both => &["m3u8", "mpd"],
        }
    }
}

/// `events/*`: who is told what happens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventOptions {
    /// Where to; may hold credentials.
    pub urls: Vec<Secret>,
    /// Which events.
    pub kinds: Vec<EventKind>,
    /// Key of the signature.
    pub secret: Option<Secret>,
    /// An attempt must be answered by then.
    pub timeout: Duration,
    /// Times an event is sent.
    pub attempts: u32,
    /// Events that may wait for each server.
    pub queue: usize,
    /// Authorities of servers with TLS, instead of those of the platform.
    pub ca: Option<PathBuf>,
}

/// `limits/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections per shard.
    pub connections: usize,
    /// Connections per peer address (/32, /64) and shard; 0 = no limit. Loopback is exempt.
    pub connections_per_address: usize,
    /// New connections per second, per peer address and shard; 0 = no limit. Loopback is exempt.
    pub connects_per_second: usize,
    /// Streams per shard.
    pub streams: usize,
    /// Viewers per stream and shard.
    pub viewers_per_stream: usize,
    /// Bytes one RTMP connection may hold in half-received messages.
    pub rtmp_reassembly_bytes: usize,
    /// A viewer further behind live than this jumps to the newest keyframe.
    pub viewer_lag: Duration,
    /// After so many jumps within a minute the viewer is closed.
    pub viewer_jumps_max: u32,
    /// A viewer whose socket takes nothing for so long is closed.
    pub viewer_stall: Duration,
}
