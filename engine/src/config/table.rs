//! The rows of the options table, in the order of the reference text.

use super::options::{Kind, Opt, Shown, Support};
use super::table_auth::AUTH;
use Kind::{
    App, Bool, Cores, Endings, Groups, Host, HostPort, HttpUrl, Int, Ip, Log, Millis, Minutes,
    Names, Networks, OneOf, Opaque, Path, Patterns, Port, Seconds, Text, Window,
};

const SRT: &str = "SRT";
const WEBRTC: &str = "WebRTC";
const FORWARDING: &str = "forwarding";
const CLUSTER: &str = "the cluster centre";
const SIP: &str = "SIP, IMS and TURN";
const NAT_PAIRS: &str = "address mapping by pairs (use nat/rtmp, nat/http and nat/https)";

const NO_CLIENT_CA: &str = "this build does not check client certificates and would accept \
    everybody; empty serverca, a certificate chain belongs in servercert";
const NO_RULES: &str = "forward rules are not read from config.xml; move them to policy.xml";

/// Sections of the reference text with their heading.
pub const SECTIONS: &[(&str, &str)] = &[
    ("engine", "Cores, rings between them, and memory budgets."),
    ("", "How long frames may wait to be sent together; logging; ports; the authorisation server."),
    ("auth", "Who may do what, with the authorisation server or without."),
    ("vhosts", "Domains that are virtual hosts of their own; all others share the default one."),
    ("sock", "Socket buffers."),
    ("ssl", "Certificates. Without a pair, a self-signed one is made at the first start."),
    ("nat", "Public addresses behind NAT, used only where an address is advertised."),
    ("rtmp", "RTMP and RTMPS."),
    ("rtsp", "RTSP and RTSPS."),
    ("rtp", "UDP ports of RTP."),
    ("http", "HTTP and HTTPS: pages, API, HTTP-FLV and WS-FLV; recordings."),
    ("events", "Event callbacks: what happens to streams and sessions, told by HTTP POST."),
    ("limits", "Limits; a peer beyond one is refused or closed, the others are not disturbed."),
    ("rtc", "WebRTC codecs."),
    ("webrtc", "Attached WebRTC nodes."),
    ("srt", "SRT."),
    ("cluster", "Cluster centre."),
    ("natmap", "Older form of nat."),
    ("hostmap", "Older form of nat."),
    ("sip", "SIP."),
    ("ims", "IMS."),
    ("turn", "TURN."),
];

/// Every option there is.
pub fn table() -> impl Iterator<Item = &'static Opt> {
    let tables = [ENGINE, HOST, AUTH, RTMP, RTSP, HTTP, RECORD, EVENTS, LIMITS, LEGACY, ABSENT];
    tables.into_iter().flatten()
}

pub(super) const fn opt(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Opt {
    Opt {
        path,
        kind,
        default,
        unit: match kind {
            Millis(..) => "ms",
            Seconds(..) => "s",
            Minutes(..) => "min",
            _ => "",
        },
        reloadable: true,
        repeatable: false,
        shown: Shown::Whole,
        aliases: &[],
        support: Support::Yes,
        doc,
    }
}

const fn legacy(path: &'static str, kind: Kind, default: &'static str) -> Opt {
    let doc = "accepted for compatibility; elapse and limits replace it";
    Opt { support: Support::Legacy, ..opt(path, kind, default, doc) }
}

const fn absent(
    feature: &'static str,
    path: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Opt {
    Opt { support: Support::Absent(feature), ..opt(path, kind, default, doc) }
}

impl Opt {
    pub(super) const fn restart(self) -> Self {
        Self { reloadable: false, ..self }
    }

    const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    const fn aliases(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    pub(super) const fn many(self) -> Self {
        Self { repeatable: true, ..self }
    }

    /// Of its value only so much is shown.
    pub(super) const fn secret(self, shown: Shown) -> Self {
        Self { shown, ..self }
    }

    const fn refuse(self, why: &'static str) -> Self {
        Self { support: Support::Refuse(why), ..self }
    }
}

const ENGINE: &[Opt] = &[
    opt(
        "engine/cores",
        Cores,
        "auto",
        "One shard per core: auto = every allowed CPU, a count = that many, a list = these CPUs.",
    )
    .restart(),
    opt(
        "engine/egress",
        OneOf(&["auto", "ring", "direct"]),
        "auto",
        "How batches of sends reach the kernel: one submission to an io_uring ring, one sendmsg \
         per viewer, or (auto) the ring where the kernel offers it and large batches from pages \
         that all viewers share, without a copy for each.",
    )
    .restart(),
    opt(
        "engine/ring_depth",
        Int(64, 65_536),
        "4096",
        "Messages a media ring between two shards holds; a full ring drops that stream there \
         up to its next keyframe.",
    )
    .unit("messages")
    .restart(),
    opt(
        "engine/control_depth",
        Int(64, 65_536),
        "1024",
        "Messages the control queue of a shard holds.",
    )
    .unit("messages")
    .restart(),
    opt(
        "engine/stream_log_kb",
        Int(256, 1_048_576),
        "32768",
        "Media one stream keeps per shard; whole GOPs are dropped from the old end.",
    )
    .unit("KiB")
    .restart(),
    opt("engine/stream_log_ms", Int(500, 600_000), "20000", "The same bound in time.")
        .unit("ms")
        .restart(),
    opt(
        "engine/shard_log_mb",
        Int(16, 1_048_576),
        "512",
        "Media all streams of a shard keep together.",
    )
    .unit("MiB")
    .restart(),
    opt(
        "engine/viewer_pending_kb",
        Int(16, 65_536),
        "2048",
        "Bytes that may wait in user space for one viewer.",
    )
    .unit("KiB")
    .restart(),
];

const HOST: &[Opt] = &[
    opt(
        "elapse",
        Window,
        "50",
        "Merge window of sends in ms: 50 = adaptive, nothing on an idle core and at most that \
         on a busy one; fixed:20 = always that long; true and false of older files mean the \
         default.",
    ),
    opt("log", Log, "info", "Log level, or a list such as info,engine::net=debug."),
    opt("vhosts/vhost", Host, "", "A domain, once per element.")
        .aliases(&["vhosts/vhost@name"])
        .many(),
    opt(
        "sock/recvbuffer",
        Int(0, 1_048_576),
        "0",
        "Receive buffer per connection; 0 leaves it to the kernel, more than 4096 is cut to \
         4096.",
    )
    .unit("KiB"),
    opt(
        "sock/sendbuffer",
        Int(0, 1_048_576),
        "256",
        "Send buffer per viewer; 0 leaves it to the kernel, more than 4096 is cut to 4096 \
         because a deep buffer only holds old pictures.",
    )
    .unit("KiB"),
    opt("ssl/servercert", Path, "", "Certificate chain, PEM. Set both or neither."),
    opt("ssl/serverkey", Path, "", "Private key, PEM."),
    opt(
        "ssl/clientca",
        Path,
        "",
        "Authorities of servers that are dialled (forwards, pulls), PEM; empty = the system's.",
    ),
    opt(
        "ssl/clientcert",
        Path,
        "",
        "Certificate chain shown to servers that are dialled, PEM. Set both or neither.",
    ),
    opt("ssl/clientkey", Path, "", "Its private key, PEM."),
    opt("nat/rtmp", HostPort, "", "Public host:port of RTMP."),
    opt("nat/http", HostPort, "", "Public host:port of HTTP."),
    opt("nat/https", HostPort, "", "Public host:port of HTTPS."),
    opt("nat/rtsp", HostPort, "", "Public host:port of RTSP."),
    opt("nat/rtp", Ip, "", "Public address of UDP media; its ports must be mapped one to one."),
];

const RTSP: &[Opt] = &[
    opt("rtsp/enable", Bool, "true", "Listen for RTSP.").restart(),
    opt("rtsp/ip", Ip, "", "Bind address; empty = all, IPv6 and IPv4.").restart(),
    opt("rtsp/port", Port, "8554", "Port; 0 picks a free one.").restart(),
    opt(
        "rtsp/ssl",
        Bool,
        "true",
        "RTSPS on the same port beside RTSP; the first byte tells them apart.",
    )
    .restart(),
    opt(
        "rtsp/maxidle",
        Seconds(0, 86_400),
        "60",
        "A session from which nothing comes for so long, neither requests nor RTCP, ends; players \
         are told so. 0 = never.",
    ),
    opt(
        "rtsp/user",
        Text,
        "",
        "NAME:PASSWORD that may publish and play by RTSP (Digest and Basic); several elements, \
         several users; none = as elsewhere. auth/user is for every protocol.",
    )
    .many()
    .secret(Shown::Name),
    opt(
        "rtsp/multicast",
        Groups,
        "",
        "Groups that players by RTSP may be sent to: all of a stream on a shard share one, however \
         many they are. Empty = no multicast. Receivers beyond this host must be trusted: whoever is \
         in the network can join a group.",
    )
    .restart(),
    opt(
        "rtsp/multicast@port",
        Int(1024, 65_000),
        "20000",
        "Lowest port of groups, even: each takes four, RTP and RTCP of video and sound.",
    )
    .restart(),
    opt("rtsp/multicast@ttl", Int(0, 255), "1", "Routers that packets to groups may pass, and one.")
        .restart(),
    opt(
        "rtsp/multicast@interface",
        Ip,
        "",
        "IPv4 address of the interface that groups are sent from; empty = as routed.",
    )
    .restart(),
    opt("rtmp/hasrtsp", Bool, "true", "Offer streams over RTSP.").aliases(&["rtsp/play"]),
    opt("rtp@min", Port, "30000", "Lowest UDP port of RTP and RTCP; each shard takes a pair.")
        .restart(),
    opt("rtp@max", Port, "60000", "Highest UDP port of RTP and RTCP.").restart(),
    opt(
        "rtmp/rtp@size",
        Int(256, 65_000),
        "1400",
        "Largest RTP packet made; with its headers it should fit the network's MTU.",
    )
    .unit("bytes"),
];

const RTMP: &[Opt] = &[
    opt("rtmp/enable", Bool, "true", "Listen for RTMP.").restart(),
    opt("rtmp/ip", Ip, "", "Bind address; empty = all, IPv6 and IPv4.").restart(),
    opt("rtmp/port", Port, "1935", "Port; 0 picks a free one.").restart(),
    opt(
        "rtmp/ssl",
        Bool,
        "true",
        "RTMPS on the same port beside RTMP; the first byte tells them apart.",
    )
    .restart(),
    opt("rtmp/live", App, "live", "App name of live streams."),
    opt("rtmp/rec", App, "rec", "App name of recorded streams."),
    opt("rtmp/codech265", Int(0, 15), "12", "Codec id that means H.265 in legacy FLV."),
    opt(
        "rtmp/gopenable",
        Bool,
        "true",
        "Start viewers at the last keyframe, at once, instead of waiting for the next one \
         (upstream's default is false).",
    ),
    opt(
        "rtmp/maxidle",
        Seconds(0, 86_400),
        "12",
        "A publisher that sends nothing for so long is closed; 0 = never.",
    ),
    opt(
        "rtmp/chunksize",
        Int(128, 16_777_215),
        "8192",
        "Outgoing chunk size of connections from now on.",
    )
    .unit("bytes"),
    opt("rtmp/hdr3exttime", Bool, "true", "Type-3 chunk headers repeat the extended timestamp."),
    opt("rtmp/hashls", Bool, "true", "Offer streams as HLS."),
    opt("rtmp/hasdash", Bool, "true", "Offer streams as DASH."),
    opt("rtmp/hasflv", Bool, "true", "Offer streams as HTTP-FLV and WS-FLV.")
        .aliases(&["http/flv"]),
    opt(
        "rtmp/start_rate",
        Int(2, 1000),
        "10",
        "A joining viewer is brought up to live at this multiple of real time.",
    ),
    opt(
        "rtmp/publish_policy",
        OneOf(&["reject", "takeover"]),
        "reject",
        "A second publisher on a live stream: reject it, or let it take over.",
    ),
    opt(
        "rtmp/publisher_dead",
        Millis(0, 3_600_000),
        "1000",
        "A publisher silent for so long may be replaced under either policy.",
    ),
    opt(
        "rtmp/publisher_grace",
        Seconds(0, 3600),
        "15",
        "Viewers stay attached for so long after the publisher has gone.",
    ),
    opt("rtmp/play_wait", Seconds(0, 3600), "15", "A viewer waits for its publisher for so long."),
    opt(
        "rtmp/handshake_timeout",
        Seconds(1, 600),
        "10",
        "Handshake and first command must be complete by then.",
    ),
    opt(
        "rtmp/fwdtimeout",
        Millis(100, 600_000),
        "5000",
        "The target of a forward must take the stream within this time of being dialled.",
    ),
];

const HTTP: &[Opt] = &[
    opt("http/enable", Bool, "true", "Listen for HTTP.").restart(),
    opt("http/ip", Ip, "", "Bind address; empty = all, IPv6 and IPv4.").restart(),
    opt("http/port", Port, "8080", "HTTP port; 0 picks a free one.").restart(),
    opt(
        "http/ssl",
        Bool,
        "true",
        "Listen for HTTPS on sport, and accept it on port too; the first byte tells.",
    )
    .restart(),
    opt("http/sport", Port, "8181", "HTTPS port; 0 picks a free one.").restart(),
    opt("http/html", Path, "html", "Folder whose files replace the built-in pages."),
    opt(
        "http/denyfile",
        Names,
        "php,xml",
        "Extensions in that folder that are never served; none = serve all.",
    ),
    opt("http/denypath", Names, "none", "First-level folders in it that are never served."),
    opt(
        "http/hlsduration",
        Seconds(1, 10),
        "1",
        "Length of live segments of HLS and DASH; a longer GOP makes them as long as itself.",
    ),
    opt("http/hlssegment", Int(3, 1000), "7", "Segments in a live playlist, at least."),
    opt(
        "http/hlslivecache",
        Int(1, 1000),
        "4",
        "Segments kept for players with an older playlist.",
    ),
    opt("http/hlspart", Millis(50, 2000), "200", "Length of parts of low-latency HLS and DASH."),
    opt(
        "http/hlsformat",
        OneOf(&["ts", "fmp4"]),
        "ts",
        "What NAME.m3u8 lists: transport stream segments, or CMAF with parts for low latency. \
         A request chooses with ?format=ts or ?format=fmp4.",
    ),
    opt(
        "http/hlsvariants",
        Endings,
        "",
        "Renditions of one stream are streams whose names end so, such as _low,_mid,_hi: when \
         NAME is not live and one of them is, NAME.m3u8 is a multivariant playlist of those \
         that are.",
    ),
    opt(
        "http/hlsalways",
        Names,
        "false",
        "Segments of HLS and DASH are made without a request: true, false, or the apps whose \
         streams begin at once. Costs memory and time for streams that nobody watches.",
    ),
    opt(
        "http/api_allow",
        Networks,
        "none",
        "Who may read /api and /metrics without a credential, besides this machine: addresses, \
         address/bits, or * for everybody.",
    ),
    opt("http/httpmaxbody", Int(0, 1_073_741_824), "67108864", "Largest request body.")
        .unit("bytes"),
    opt(
        "http/vod_dir",
        Path,
        "vod",
        "Folder of files on demand, served below /vod/: whole, in ranges, and MP4 and MPEG-TS \
         also as HLS (NAME.mp4.m3u8, NAME.ts.m3u8).",
    ),
    opt(
        "http/upload_mb",
        Int(0, 1_048_576),
        "4096",
        "Largest upload into that folder; 0 = none is taken. Without a credential from this \
         machine only. Where httpmaxbody is larger, that counts.",
    )
    .unit("MiB"),
    opt("http/head_timeout", Seconds(1, 600), "10", "A request head must be complete by then."),
    opt(
        "http/keepalive",
        Seconds(1, 3600),
        "60",
        "An idle keep-alive connection is closed after that.",
    ),
];

const RECORD: &[Opt] = &[
    opt(
        "http/rec_dir",
        Path,
        "rec",
        "Folder of recordings. Streams of the app rtmp/rec are recorded there.",
    )
    .restart(),
    opt(
        "http/record",
        Patterns,
        "none",
        "Other streams to record, as app/name with * for any text: live/camera*, live/*. \
         Their recordings are found under APP/NAME.",
    ),
    opt(
        "http/recduration",
        Minutes(0, 1440),
        "3",
        "Length of a piece; it ends at the first keyframe after that.",
    ),
    opt(
        "http/recmode",
        Int(0, 3),
        "1",
        "The names under which pieces are listed: 0 = .mpd, 1 = .m3u8, 2 = .mp4, 3 = .m3u8 and \
         .mpd. Each piece plays under all of them, whatever is listed (upstream's default is 0).",
    ),
    opt(
        "http/rec_queue_kb",
        Int(256, 1_048_576),
        "16384",
        "Media of one stream that may wait for the disk; beyond it the recording has a gap up to \
         a keyframe, the live stream none.",
    )
    .unit("KiB"),
    opt("http/rec_days", Int(0, 36_500), "0", "Recordings older than this are deleted; 0 = never.")
        .unit("days"),
    opt(
        "http/rec_size_gb",
        Int(0, 1_048_576),
        "0",
        "When all recordings together are larger than this, the oldest are deleted; 0 = never.",
    )
    .unit("GiB"),
];

const EVENTS: &[Opt] = &[
    opt(
        "events/url",
        HttpUrl,
        "",
        "Where events are sent, as JSON; several elements, several servers; none = nowhere. \
         Redirects are not followed, certificates are checked.",
    )
    .many()
    .secret(Shown::Address),
    opt(
        "events/kinds",
        Names,
        "publish,unpublish,play,stop,record,forward_up,forward_down",
        "Which events are told.",
    ),
    opt(
        "events/secret",
        Text,
        "",
        "Key of the signature: X-Signature is sha256= and the HMAC-SHA256 of X-Timestamp, a dot \
         and the body; empty = no signature.",
    )
    .secret(Shown::Nothing),
    opt("events/timeout", Millis(100, 60_000), "3000", "An attempt must be answered by then."),
    opt(
        "events/attempts",
        Int(1, 20),
        "5",
        "Times an event is sent until it is taken, with pauses from 0.2 s to 10 s between them; \
         later ones wait meanwhile.",
    ),
    opt(
        "events/queue",
        Int(1, 100_000),
        "1000",
        "Events that may wait for each server; more are dropped and counted.",
    ),
    opt("events/ca", Path, "", "Authorities of https servers, PEM; empty = those of the system."),
];

const LIMITS: &[Opt] = &[
    opt("limits/connections", Int(1, 10_000_000), "100000", "Connections per shard."),
    opt(
        "limits/connections_per_address",
        Int(0, 10_000_000),
        "1024",
        "Connections per peer address (IPv6: per /64) and shard; 0 = no limit, this \
         machine is exempt.",
    ),
    opt(
        "limits/connects_per_second",
        Int(0, 1_000_000),
        "200",
        "New connections per second, per peer address and shard; 0 = no limit, this \
         machine is exempt.",
    ),
    opt("limits/streams", Int(1, 1_000_000), "10000", "Streams per shard."),
    opt("limits/viewers_per_stream", Int(1, 10_000_000), "100000", "Viewers per stream and shard."),
    opt(
        "limits/rtmp_reassembly_kb",
        Int(64, 262_144),
        "16384",
        "Half-received messages one RTMP connection may hold.",
    )
    .unit("KiB"),
    opt(
        "limits/viewer_lag",
        Millis(100, 600_000),
        "8000",
        "A viewer further behind live than this jumps to the newest keyframe.",
    ),
    opt(
        "limits/viewer_jumps",
        Int(1, 10_000),
        "10",
        "After more jumps than this within a minute the viewer is closed.",
    ),
    opt(
        "limits/viewer_stall",
        Seconds(1, 3600),
        "10",
        "A viewer whose socket takes nothing for so long is closed.",
    ),
];

const MANY: Kind = Int(0, 4_294_967_295);

const LEGACY: &[Opt] = &[
    legacy("rtmp/waitcount", MANY, "3"),
    legacy("rtmp/waitsleep", MANY, "20"),
    legacy("rtmp/waitchunk", MANY, "8192"),
    legacy("rtmp/shrinksize", MANY, "64"),
    legacy("rtmp/shrinktime", MANY, "300"),
    legacy("rtmp/blockcount", MANY, "1024"),
    legacy("rtmp/gopquesize", MANY, "512"),
    legacy("rtmp/avtime_delta", MANY, "1000"),
    legacy("http/httpcache", MANY, "8192"),
    legacy("http/httpchunk", MANY, "8192"),
    legacy("http/flvblock", MANY, "2048"),
    legacy("http/ioshrink", MANY, "120"),
    legacy("http/hlsreccache", MANY, "20"),
    legacy("http/dashreccache", MANY, "20"),
    legacy("http/dashlivecache", MANY, "10"),
    legacy("http/dashduration", MANY, "10"),
];

const ABSENT: &[Opt] = &[
    opt("ssl/serverca", Path, "", "Authority that client certificates must come from.")
        .refuse(NO_CLIENT_CA),
    opt("vhosts/vhost/forward", Text, "", "Forward rule of an older file.").many().refuse(NO_RULES),
    absent(FORWARDING, "vhosts/vhost/forward@rewrite", Text, "", "Its target.").many(),
    absent(FORWARDING, "vhosts/url@name", Text, "", "Forward rule of an older file.").many(),
    opt("vhosts/url/forward", Text, "", "Forward rule of an older file.").many().refuse(NO_RULES),
    absent(FORWARDING, "vhosts/url/forward@rewrite", Text, "", "Its target.").many(),
    absent(SRT, "nat/srt", HostPort, "", "Public host:port of SRT."),
    absent(NAT_PAIRS, "natmap", Host, "", "One public address."),
    absent(NAT_PAIRS, "hostmap@inner", Text, "", "Inner address.").many(),
    absent(NAT_PAIRS, "hostmap@outer", Text, "", "Outer address.").many(),
    absent(SRT, "rtmp/hassrt", Bool, "false", "Offer streams over SRT."),
    absent(WEBRTC, "rtmp/haswebrtc", Bool, "false", "Offer streams over WebRTC."),
    legacy("rtp@que", MANY, "20000"),
    legacy("rtsp/hasrtmp", Bool, "true"),
    legacy("rtmp/rtp@h265", Int(0, 127), "98"),
    legacy("rtmp/rtp@h264", Int(0, 127), "96"),
    legacy("rtmp/rtp@aac", Int(0, 127), "97"),
    absent(WEBRTC, "rtc/codec@audio", Text, "opus", "Audio codec."),
    absent(WEBRTC, "rtc/codec@video", Text, "vp9", "Video codec."),
    absent(WEBRTC, "webrtc/host@rtmp", Text, "", "RTMP address of a node.").many(),
    absent(WEBRTC, "webrtc/host@http", Text, "", "HTTP address of a node.").many(),
    absent(SRT, "srt/enable", Bool, "false", "Listen for SRT."),
    absent(SRT, "srt/ip", Ip, "", "Bind address."),
    absent(SRT, "srt/port", Port, "9000", "Port."),
    absent(SRT, "srt/hasrtmp", Bool, "true", "Offer SRT streams over RTMP."),
    absent(SRT, "srt/maxidle", MANY, "10", "Idle time, s."),
    absent(CLUSTER, "cluster/id", Text, "", "Name of this node."),
    absent(CLUSTER, "cluster/reconnect", MANY, "10", "Seconds between attempts."),
    absent(CLUSTER, "cluster/heartbeat", MANY, "180", "Seconds between reports."),
    absent(CLUSTER, "cluster/url", Text, "", "Centre, host:port."),
    absent(CLUSTER, "cluster/rtmp", Text, "", "Announced RTMP address."),
    absent(CLUSTER, "cluster/http", Text, "", "Announced HTTP address."),
    absent(SIP, "sip", Opaque, "", "Any content."),
    absent(SIP, "ims", Opaque, "", "Any content."),
    absent(SIP, "turn", Opaque, "", "Any content."),
];
