//! The words RTMP has for what happens: status codes, `onStatus` and connect replies.

use crate::amf::Value;
use crate::session::Refusal;

use super::command::{self, Command};

/// `level` of an information object (RTMP 1.0, 7.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Things are as they should be.
    Status,
    /// The request failed.
    Error,
}

impl Level {
    /// As the wire says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Error => "error",
        }
    }
}

/// Status codes this server sends.
pub mod code {
    /// `connect` went through.
    pub const CONNECT_SUCCESS: &str = "NetConnection.Connect.Success";
    /// `connect` did not.
    pub const CONNECT_REJECTED: &str = "NetConnection.Connect.Rejected";
    /// The connection ends.
    pub const CONNECT_CLOSED: &str = "NetConnection.Connect.Closed";
    /// Please connect again (Enhanced RTMP v2, "Reconnect Request").
    pub const CONNECT_RECONNECT: &str = "NetConnection.Connect.ReconnectRequest";
    /// No such procedure.
    pub const CALL_FAILED: &str = "NetConnection.Call.Failed";
    /// A request about a stream failed for a reason with no code of its own.
    pub const STREAM_FAILED: &str = "NetStream.Failed";
    /// Publishing may start.
    pub const PUBLISH_START: &str = "NetStream.Publish.Start";
    /// The name is taken, not acceptable or not allowed.
    pub const PUBLISH_BAD_NAME: &str = "NetStream.Publish.BadName";
    /// Publishing failed.
    pub const PUBLISH_FAILED: &str = "NetStream.Publish.Failed";
    /// The publication ended as asked.
    pub const UNPUBLISH_SUCCESS: &str = "NetStream.Unpublish.Success";
    /// The playlist was reset.
    pub const PLAY_RESET: &str = "NetStream.Play.Reset";
    /// Playing starts.
    pub const PLAY_START: &str = "NetStream.Play.Start";
    /// Playing ended.
    pub const PLAY_STOP: &str = "NetStream.Play.Stop";
    /// Playing failed.
    pub const PLAY_FAILED: &str = "NetStream.Play.Failed";
    /// Nobody publishes that.
    pub const PLAY_NOT_FOUND: &str = "NetStream.Play.StreamNotFound";
    /// The publisher came (back).
    pub const PLAY_PUBLISH_NOTIFY: &str = "NetStream.Play.PublishNotify";
    /// The publisher went.
    pub const PLAY_UNPUBLISH_NOTIFY: &str = "NetStream.Play.UnpublishNotify";
    /// Paused as asked.
    pub const PAUSE_NOTIFY: &str = "NetStream.Pause.Notify";
    /// Resumed as asked.
    pub const UNPAUSE_NOTIFY: &str = "NetStream.Unpause.Notify";
    /// A live stream cannot be sought in.
    pub const SEEK_FAILED: &str = "NetStream.Seek.Failed";
}

/// An information object.
pub fn information(level: Level, code: &str, description: &str) -> Value {
    command::object([
        ("level", command::text(level.word())),
        ("code", command::text(code)),
        ("description", command::text(description)),
    ])
}

/// An `onStatus` command (RTMP 1.0, 7.2.2: transaction 0, null command object).
pub fn on_status(level: Level, code: &str, description: &str) -> Command {
    Command::new("onStatus", 0.0).with(Value::Null).with(information(level, code, description))
}

/// The code a refused publisher reads. Encoders show `BadName` as a wrong key, which is what
/// most refusals come down to; the description says the rest.
pub fn publish_code(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownApp
        | Refusal::BadName
        | Refusal::StreamBusy
        | Refusal::Unauthorised
        | Refusal::Superseded
        | Refusal::Forbidden
        | Refusal::Kicked
        | Refusal::Loop => code::PUBLISH_BAD_NAME,
        Refusal::StreamNotFound
        | Refusal::Unverified
        | Refusal::Overloaded
        | Refusal::Unsupported
        | Refusal::ShuttingDown
        | Refusal::PublisherGone
        | Refusal::TooSlow
        | Refusal::TracksChanged => code::PUBLISH_FAILED,
    }
}

/// The code a refused player reads.
pub fn play_code(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownApp
        | Refusal::BadName
        | Refusal::StreamNotFound
        | Refusal::PublisherGone
        | Refusal::Loop => code::PLAY_NOT_FOUND,
        Refusal::StreamBusy
        | Refusal::Unauthorised
        | Refusal::Forbidden
        | Refusal::Unverified
        | Refusal::Superseded
        | Refusal::Kicked
        | Refusal::Overloaded
        | Refusal::Unsupported
        | Refusal::ShuttingDown
        | Refusal::TooSlow
        | Refusal::TracksChanged => code::PLAY_FAILED,
    }
}
