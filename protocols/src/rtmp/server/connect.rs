//! `connect`: where the peer wants to go, what it understands, and our answer.

use crate::amf::Value;
use crate::hops::Hops;
use crate::session::{ErrorClass, Refusal, SessionError};
use crate::text::cut;

use super::super::command::{self, Command, HOPS_PROPERTY, NODE_PROPERTY};
use super::super::command::{number_property, text_property};
use super::super::control::{self, BandwidthLimit};
use super::super::status;
use super::super::url::Target;
use super::{Phase, Server};

/// Longest name of a client kept.
const AGENT_BYTES_MAX: usize = 128;
/// What we call ourselves; encoders look for the `FMS/` prefix before they use extensions.
const FMS_VERSION: &str = "FMS/3,5,7,7009";
/// `capabilities` of a server of that age.
const CAPABILITIES: f64 = 31.0;
/// `capsEx` bit: the peer can follow a reconnect request (Enhanced RTMP v2, "capsEx").
const CAPS_RECONNECT: u32 = 0x01;
/// What we say we can do: reconnect requests, `ModEx` packets, nanosecond time offsets.
const CAPS_EX: f64 = 13.0; // 0x01 | 0x04 | 0x08
/// `FourCcInfoMask`: can forward.
const CAN_FORWARD: f64 = 4.0;
/// Video codecs passed through.
const VIDEO_FOURCC: [&str; 5] = ["avc1", "hvc1", "av01", "vp08", "vp09"];
/// Audio codecs passed through.
const AUDIO_FOURCC: [&str; 6] = ["mp4a", "Opus", "fLaC", "ac-3", "ec-3", ".mp3"];

/// Who the peer is.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) target: Target,
    pub(super) agent: String,
    pub(super) enhanced: bool,
    pub(super) can_reconnect: bool,
    /// It is a server of our kind: where the stream, or the request for it, has passed.
    pub(super) hops: Option<Hops>,
}

impl Peer {
    /// Bytes held on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let hops = self.hops.as_ref().map_or(0, |hops| size_of_val(hops.nodes()));
        size_of::<Self>() + self.agent.capacity() + self.target.heap_bytes() + hops
    }
}

impl Server {
    /// Answers `connect` (RTMP 1.0, 7.2.1.1).
    pub(super) fn on_connect(&mut self, command: &Command) -> Result<(), SessionError> {
        if self.peer.is_some() {
            let text = "connect came twice";
            self.reject_connect(command, text);
            return Err(SessionError::new(ErrorClass::PeerMisbehaved, "command_order", text));
        }
        let null = Value::Null;
        let object = command.values.first().unwrap_or(&null);
        let peer = match read_connect(object) {
            Ok(peer) => peer,
            Err(error) => {
                self.reject_connect(command, Refusal::BadName.text());
                return Err(SessionError::new(
                    ErrorClass::Refused,
                    Refusal::BadName.reason(),
                    error.to_string(),
                ));
            }
        };
        if !self.options.live_apps.contains(&peer.target.app) {
            let apps = self.options.live_apps.join(", ");
            let text = format!("{} ({apps})", Refusal::UnknownApp.text());
            self.reject_connect(command, &text);
            return Err(Refusal::UnknownApp.error());
        }
        self.link.send(&control::window_ack_size(self.options.window_ack_size));
        self.link.send(&control::set_peer_bandwidth(
            self.options.window_ack_size,
            BandwidthLimit::Dynamic,
        ));
        self.link.set_chunk_size(self.options.chunk_size);
        let mut reply = success(command.transaction_id, object, peer.enhanced);
        if let (Some(_), Some(node)) = (&peer.hops, self.options.node)
            && let Some(Value::Object(properties)) = reply.values.first_mut()
        {
            properties.push((NODE_PROPERTY.to_owned(), command::text(&node.to_string())));
        }
        self.link.send_command(0, &reply);
        tracing::debug!(app = ?peer.target.app, agent = ?peer.agent, enhanced = peer.enhanced, "connected");
        self.peer = Some(Box::new(peer));
        self.phase = Phase::Connected;
        Ok(())
    }

    fn reject_connect(&mut self, command: &Command, text: &str) {
        let information =
            status::information(status::Level::Error, status::code::CONNECT_REJECTED, text);
        let reply =
            Command::new("_error", command.transaction_id).with(Value::Null).with(information);
        self.link.send_command(0, &reply);
    }
}

fn read_connect(object: &Value) -> Result<Peer, super::super::url::TooLong> {
    let tc_url = text_property(object, "tcUrl").unwrap_or_default();
    let app = text_property(object, "app").unwrap_or_default();
    let agent = text_property(object, "flashVer").unwrap_or_default();
    let caps_ex = number_property(object, "capsEx").unwrap_or(0.0);
    let enhanced = ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"]
        .iter()
        .any(|name| object.get(name).is_some());
    Ok(Peer {
        target: Target::parse(tc_url, app)?,
        agent: cut(agent, AGENT_BYTES_MAX).to_owned(),
        enhanced,
        // A float cast saturates, and NaN becomes 0.
        can_reconnect: caps_ex as u32 & CAPS_RECONNECT != 0,
        // What is no list is none: it is for us alone to write.
        hops: text_property(object, HOPS_PROPERTY).and_then(|text| text.parse().ok()),
    })
}

/// `_result` of `connect`: properties of the server, then what happened. Enhanced capabilities
/// stand in both objects, for clients in use read one or the other.
fn success(transaction_id: f64, object: &Value, enhanced: bool) -> Command {
    let encoding = number_property(object, "objectEncoding").unwrap_or(0.0);
    let encoding = if encoding == 3.0 { 3.0 } else { 0.0 };
    let mut properties = vec![
        ("fmsVer".to_owned(), command::text(FMS_VERSION)),
        ("capabilities".to_owned(), Value::Number(CAPABILITIES)),
        ("mode".to_owned(), Value::Number(1.0)),
    ];
    let mut information = vec![
        ("level".to_owned(), command::text(status::Level::Status.word())),
        ("code".to_owned(), command::text(status::code::CONNECT_SUCCESS)),
        ("description".to_owned(), command::text("Connection succeeded.")),
        ("objectEncoding".to_owned(), Value::Number(encoding)),
    ];
    if enhanced {
        properties.extend(enhanced_capabilities());
        information.extend(enhanced_capabilities());
    }
    Command::new("_result", transaction_id)
        .with(Value::Object(properties))
        .with(Value::Object(information))
}

/// Enhanced RTMP v2, "Enhancing NetConnection connect Command".
fn enhanced_capabilities() -> [(String, Value); 4] {
    let map = |codes: &[&str]| {
        Value::Object(
            codes.iter().map(|&code| (code.to_owned(), Value::Number(CAN_FORWARD))).collect(),
        )
    };
    let list = VIDEO_FOURCC.iter().chain(&AUDIO_FOURCC).map(|&code| command::text(code)).collect();
    [
        ("capsEx".to_owned(), Value::Number(CAPS_EX)),
        ("videoFourCcInfoMap".to_owned(), map(&VIDEO_FOURCC)),
        ("audioFourCcInfoMap".to_owned(), map(&AUDIO_FOURCC)),
        ("fourCcList".to_owned(), Value::StrictArray(list)),
    ]
}
