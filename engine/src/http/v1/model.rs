//! What the API says, as types: they write the answers, and their schemas describe them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Live streams.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StreamPage {
    pub(super) streams: Vec<Stream>,
    /// Cursor of the next page; null at the end.
    pub(super) next: Option<String>,
}

/// A live stream.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Stream {
    /// `default` for all domains that are no virtual hosts of their own.
    pub(super) vhost: String,
    pub(super) app: String,
    pub(super) name: String,
    pub(super) publisher: Publisher,
    /// Milliseconds since it was published.
    pub(super) uptime_ms: u64,
    /// Media bytes since then.
    pub(super) bytes_in: u64,
    /// Media of the last second.
    pub(super) bits_per_second: f64,
    /// It is being recorded, or a rule says so.
    pub(super) recorded: bool,
    pub(super) tracks: Tracks,
    pub(super) viewers: Viewers,
    /// Where it can be played.
    pub(super) urls: Vec<StreamUrl>,
    /// Outputs that go without a track whose codec they cannot carry.
    pub(super) left_out: Vec<LeftOut>,
}

/// Who publishes a stream.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Publisher {
    /// Its session; null of what this server reads from a file.
    pub(super) session: Option<String>,
    /// Address and port.
    pub(super) peer: Option<String>,
    /// `rtmp`, `rtsp` or `pull`.
    pub(super) protocol: String,
    /// What it calls itself.
    pub(super) agent: String,
    /// Where this server fetches the stream from, without credentials.
    pub(super) source: Option<String>,
}

/// What a stream consists of.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Tracks {
    pub(super) video: Option<Video>,
    pub(super) audio: Option<Audio>,
}

/// A video track; numbers are 0 where they are not known.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Video {
    pub(super) codec: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frame_rate: f64,
    /// Pictures from one keyframe to the next.
    pub(super) gop: u32,
}

/// An audio track; numbers are 0 where they are not known.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Audio {
    pub(super) codec: String,
    pub(super) channels: u32,
    pub(super) sample_bits: u32,
    pub(super) sample_rate: u32,
}

/// How many watch; players of HLS and DASH are not sessions and not counted.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Viewers {
    pub(super) total: usize,
    pub(super) by_protocol: BTreeMap<String, usize>,
}

/// One way to play a stream.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StreamUrl {
    pub(super) r#type: String,
    pub(super) url: String,
}

/// A track an output goes without.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LeftOut {
    pub(super) output: String,
    pub(super) codec: String,
}

/// What was ended with a stream.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Ended {
    /// Its publisher was told to go.
    pub(super) publisher: bool,
    /// Viewers that were told to go.
    pub(super) viewers: usize,
}

/// Sessions.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SessionPage {
    pub(super) sessions: Vec<Session>,
    /// Cursor of the next page; null at the end.
    pub(super) next: Option<String>,
}

/// A session that publishes, plays or has not said yet what it wants.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Session {
    /// As in the log.
    pub(super) id: String,
    /// Address and port.
    pub(super) peer: String,
    pub(super) protocol: String,
    /// Within TLS.
    pub(super) secure: bool,
    /// `publish`, `play` or `idle`.
    pub(super) role: String,
    pub(super) stream: Option<StreamName>,
    /// What the peer calls itself.
    pub(super) agent: String,
    /// Milliseconds since it was accepted.
    pub(super) age_ms: u64,
    /// Milliseconds since it has its role.
    pub(super) role_age_ms: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// How far a viewer is behind live; null if it is none or has not begun.
    pub(super) lag_ms: Option<u64>,
}

/// The name of a stream.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct StreamName {
    pub(super) vhost: String,
    pub(super) app: String,
    pub(super) name: String,
}

/// Streams that this server fetches itself.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PullPage {
    pub(super) pulls: Vec<Pull>,
    /// Cursor of the next page; null at the end.
    pub(super) next: Option<String>,
}

/// A stream that this server fetches itself.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Pull {
    pub(super) stream: StreamName,
    /// Where from, without credentials.
    pub(super) source: String,
    /// From the start and for ever; otherwise while somebody watches.
    pub(super) always: bool,
    /// `idle`, `connecting`, `live`, `waiting` (to try again) or `done`.
    pub(super) state: String,
    pub(super) attempts: u64,
    /// Why it failed or ended last.
    pub(super) last_error: Option<String>,
}

/// Streams that this server sends to others.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ForwardPage {
    pub(super) forwards: Vec<Forward>,
    /// Cursor of the next page; null at the end.
    pub(super) next: Option<String>,
}

/// A stream that this server sends to another.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Forward {
    pub(super) stream: StreamName,
    /// Where to, without keys and credentials.
    pub(super) target: String,
    /// `resting`, `connecting`, `live` or `waiting` (to try again).
    pub(super) state: String,
    pub(super) attempts: u64,
    pub(super) bytes_out: u64,
    pub(super) bits_per_second: u64,
    /// Why it failed or ended last.
    pub(super) last_error: Option<String>,
}

/// Names under which something is recorded.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RecordingPage {
    pub(super) recordings: Vec<String>,
    /// Cursor of the next page; null at the end.
    pub(super) next: Option<String>,
}

/// Days on which something was recorded.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DayPage {
    /// `YYYY-MM-DD`.
    pub(super) days: Vec<String>,
    /// Cursor of the next page; null at the end.
    pub(super) next: Option<String>,
}

/// Pieces of a day.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PiecePage {
    pub(super) pieces: Vec<Piece>,
    /// Cursor of the next page; null at the end.
    pub(super) next: Option<String>,
}

/// A piece of a recording.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Piece {
    /// Local time at which it begins, `hh-mm-ss`: its name.
    pub(super) time: String,
    /// The same in Unix milliseconds.
    pub(super) start_unix_ms: u64,
    /// Paths under which it plays.
    pub(super) paths: Vec<String>,
}

/// `config.xml`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Configuration {
    /// Every option with what the file gives it; nothing means its default. Secrets are shown as
    /// `***` and stay what they are when they are written so.
    pub(super) options: BTreeMap<String, Vec<String>>,
    /// Options whose value in the file waits for a restart.
    pub(super) restart: Vec<String>,
    /// What each option is.
    pub(super) described: BTreeMap<String, Described>,
}

/// What an option is.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Described {
    pub(super) default: String,
    /// What is allowed.
    pub(super) wanted: String,
    /// A reload applies it; otherwise it needs a restart.
    pub(super) reloadable: bool,
    /// It may have several values.
    pub(super) repeatable: bool,
    /// Its values are not shown.
    pub(super) secret: bool,
    pub(super) doc: String,
}

/// Options that get other values; those that are not named keep theirs.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ConfigurationChange {
    /// By option; null or nothing means its default.
    pub(super) options: Unique<Values>,
}

/// The values of one option.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Values {
    One(Scalar),
    Many(#[schemars(length(max = 1000))] Vec<Scalar>),
    Default(()),
}

/// One value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Scalar {
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(#[schemars(length(max = 1024))] String),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

impl Values {
    /// As they are written into the file.
    pub(super) fn texts(&self) -> Vec<String> {
        let texts: Vec<String> = match self {
            Self::One(value) => vec![value.text()],
            Self::Many(values) => values.iter().map(Scalar::text).collect(),
            Self::Default(()) => Vec::new(),
        };
        texts.into_iter().filter(|text| !text.trim().is_empty()).collect()
    }
}

/// A value written as an object; lists of its fields are taken for structs too by default.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(serde::de::value::MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Fields(std::marker::PhantomData)).map(Self)
    }
}

fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list: Vec<Object<T>> = Vec::deserialize(deserializer)?;
    Ok(list.into_iter().map(|Object(value)| value).collect())
}

fn some_objects<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list: Option<Vec<Object<T>>> = Option::deserialize(deserializer)?;
    Ok(list.map(|list| list.into_iter().map(|Object(value)| value).collect()))
}

/// A map that no key stands in twice.
#[derive(Debug, JsonSchema)]
#[schemars(transparent, rename = "OptionValues")]
pub(super) struct Unique<T>(pub(super) BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<T> {
            type Value = BTreeMap<String, T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut out = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    if out.contains_key(&key) {
                        return Err(serde::de::Error::custom("a key stands twice"));
                    }
                    out.insert(key, value);
                }
                Ok(out)
            }
        }
        deserializer.deserialize_map(Each(std::marker::PhantomData)).map(Self)
    }
}

/// What a reload or a write has come to.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ReloadReport {
    /// Unix milliseconds.
    pub(super) time_unix_ms: u64,
    /// `start`, `signal`, `file` or `api`.
    pub(super) cause: String,
    /// It went well; otherwise nothing has changed.
    pub(super) ok: bool,
    /// Why not.
    pub(super) error: Option<String>,
    /// Options that mean something else now.
    pub(super) changed: Vec<String>,
    /// Options whose value in the file waits for a restart.
    pub(super) restart: Vec<String>,
    /// The policy says something else now.
    pub(super) policy_changed: bool,
    /// Another certificate is shown now.
    pub(super) certificate_changed: bool,
    /// Shards that do not go by it yet: they were too busy, and follow as soon as they can.
    pub(super) late_shards: usize,
}

/// `policy.xml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyDocument {
    /// Rules for all streams of an app; without it they stay as they are.
    #[serde(default, deserialize_with = "some_objects")]
    pub(crate) vhosts: Option<Vec<VhostRule>>,
    /// Rules for one stream; without it they stay as they are.
    #[serde(default, deserialize_with = "some_objects")]
    pub(crate) urls: Option<Vec<UrlRule>>,
    /// Streams that are fetched; without it they stay as they are.
    #[serde(default, deserialize_with = "some_objects")]
    pub(crate) pulls: Option<Vec<PullRule>>,
    /// Where streams that are not here are fetched from; without it that stays as it is.
    #[serde(default, deserialize_with = "some_objects")]
    pub(crate) origins: Option<Vec<OriginsRule>>,
}

/// All streams of an app, to other servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VhostRule {
    /// `rtmp://host/app`.
    pub(crate) vhost: String,
    #[serde(deserialize_with = "objects")]
    pub(crate) forward: Vec<ForwardTarget>,
}

/// One stream, to other servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UrlRule {
    /// `rtmp://host/app/stream`.
    pub(crate) url: String,
    #[serde(deserialize_with = "objects")]
    pub(crate) forward: Vec<ForwardTarget>,
}

/// One target of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForwardTarget {
    /// New URL; empty keeps the URL. Keys and credentials are shown as `***` and stay what they
    /// are when they are written so.
    #[serde(default)]
    pub(crate) rewrite: String,
    /// The server that is dialled.
    pub(crate) host: String,
    /// PEM file of the authorities to trust.
    #[serde(default)]
    pub(crate) ca: String,
    /// `true`: it may be link-local, or this machine.
    #[serde(default)]
    pub(crate) local: String,
}

/// A stream that is fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PullRule {
    /// Where from. Credentials are shown as `***` and stay what they are when written so.
    pub(crate) url: String,
    /// What it becomes: `app/name`.
    pub(crate) stream: String,
    /// `demand` or `always`.
    #[serde(default)]
    pub(crate) when: String,
    /// `auto`, `tcp` or `udp`.
    #[serde(default)]
    pub(crate) transport: String,
    /// Seconds.
    #[serde(default)]
    pub(crate) linger: String,
    /// `loop` or `once`.
    #[serde(default)]
    pub(crate) play: String,
    /// PEM file.
    #[serde(default)]
    pub(crate) ca: String,
    /// `true`: it may be link-local, or this machine.
    #[serde(default)]
    pub(crate) local: String,
}

/// Where the streams of an app are fetched from when they are not here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OriginsRule {
    pub(crate) app: String,
    #[serde(deserialize_with = "objects")]
    pub(crate) origins: Vec<Origin>,
    /// Seconds.
    #[serde(default)]
    pub(crate) linger: String,
    /// `auto`, `tcp` or `udp`.
    #[serde(default)]
    pub(crate) transport: String,
    /// PEM file.
    #[serde(default)]
    pub(crate) ca: String,
    /// `true`: they may be link-local, or this machine.
    #[serde(default)]
    pub(crate) local: String,
}

/// One origin of an app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Origin {
    /// Host and app. Credentials are shown as `***` and stay what they are when written so.
    pub(crate) url: String,
}

/// The last lines of the log.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Log {
    pub(super) lines: Vec<LogLine>,
    /// What `from` is to be to go on behind these; behind the last line of all if `from` was not
    /// reached yet.
    pub(super) next: u64,
}

/// A line of the log.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LogLine {
    /// Counts from the start of the process.
    pub(super) number: u64,
    pub(super) text: String,
}

/// The machine and the process.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct System {
    /// Version of the server.
    pub(super) version: String,
    /// Seconds since the server was started.
    pub(super) uptime_s: u64,
    pub(super) os: String,
    pub(super) architecture: String,
    /// Mean number of runnable tasks over 1, 5 and 15 minutes.
    pub(super) load_average: [f64; 3],
    pub(super) cpus: Vec<Cpu>,
    pub(super) memory: Memory,
    pub(super) disks: Vec<Disk>,
    pub(super) interfaces: Vec<Interface>,
}

/// One CPU.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct Cpu {
    /// Its number.
    pub(super) index: u32,
    /// Share of the last moment in which it was busy, from 0 to 1.
    pub(super) used: f64,
}

/// Bytes of memory.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Memory {
    pub(super) total: u64,
    /// What can be had without swapping.
    pub(super) available: u64,
    /// Of this process, resident.
    pub(super) process: u64,
}

/// The file system of a folder.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Disk {
    /// `config`, `recordings` or `vod`.
    pub(super) folder: String,
    pub(super) total: u64,
    /// What this process may still write.
    pub(super) available: u64,
}

/// A network interface.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Interface {
    pub(super) name: String,
    /// Hardware address; empty if there is none.
    pub(super) mac: String,
    pub(super) addresses: Vec<String>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// Sums over all shards.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Statistics {
    pub(crate) uptime_s: u64,
    /// Shards, and those in this answer.
    pub(crate) shards: usize,
    pub(crate) shards_answered: usize,
    pub(crate) streams: usize,
    pub(crate) connections: usize,
    pub(crate) viewers: BTreeMap<String, usize>,
    pub(crate) accepted: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) frames_in: u64,
}
