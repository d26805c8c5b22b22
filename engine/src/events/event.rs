//! The events there are, and their JSON.

use std::net::SocketAddr;

use protocols::media::StreamKey;
use serde::Serialize;

/// Which event it is; the names in `events/kinds` and in the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A stream has a publisher.
    Publish,
    /// It has none any more.
    Unpublish,
    /// A viewer gets a stream.
    Play,
    /// It gets it no longer.
    Stop,
    /// A piece of a recording is complete.
    Record,
    /// A target of a forward takes a stream.
    ForwardUp,
    /// It takes it no longer, or could not be reached.
    ForwardDown,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Publish,
        Self::Unpublish,
        Self::Play,
        Self::Stop,
        Self::Record,
        Self::ForwardUp,
        Self::ForwardDown,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Unpublish => "unpublish",
            Self::Play => "play",
            Self::Stop => "stop",
            Self::Record => "record",
            Self::ForwardUp => "forward_up",
            Self::ForwardDown => "forward_down",
        }
    }

    /// The kind of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The stream an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventStream {
    /// Vhost; empty for the default one.
    pub vhost: String,
    /// App.
    pub app: String,
    /// Name.
    pub name: String,
}

impl From<&StreamKey> for EventStream {
    fn from(key: &StreamKey) -> Self {
        let (vhost, app, name) = (key.vhost().into(), key.app().into(), key.name().into());
        Self { vhost, app, name }
    }
}

/// The session an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventSession {
    /// As in the log and the API; none of what this server makes itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// Protocol label.
    pub protocol: &'static str,
    /// What the peer calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent: String,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// See [`EventKind::Publish`].
    Publish {
        /// The stream.
        stream: EventStream,
        /// Its publisher.
        session: EventSession,
        /// Where this server fetches it from, without credentials.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// See [`EventKind::Unpublish`].
    Unpublish {
        /// The stream.
        stream: EventStream,
        /// Its publisher.
        session: EventSession,
        /// Media bytes from it.
        bytes: u64,
        /// How long it published.
        duration_ms: u64,
    },
    /// See [`EventKind::Play`].
    Play {
        /// The stream.
        stream: EventStream,
        /// The viewer.
        session: EventSession,
    },
    /// See [`EventKind::Stop`].
    Stop {
        /// The stream.
        stream: EventStream,
        /// The viewer.
        session: EventSession,
        /// Bytes sent to it.
        bytes: u64,
        /// Age of its connection.
        duration_ms: u64,
    },
    /// See [`EventKind::Record`].
    Record {
        /// Folder of the stream's recordings: `VHOST/NAME`, with the app in front of the name unless
        /// it is the recorded one.
        place: String,
        /// Local day, `YYYY-MM-DD`.
        day: String,
        /// Local time, `hh-mm-ss`: the name of the piece.
        time: String,
        /// Bytes of media.
        bytes: u64,
        /// When it began, Unix milliseconds.
        start_unix_ms: u64,
        /// When it was closed, Unix milliseconds.
        end_unix_ms: u64,
    },
    /// See [`EventKind::ForwardUp`].
    ForwardUp {
        /// The stream.
        stream: EventStream,
        /// Where to, without keys and credentials.
        target: String,
    },
    /// See [`EventKind::ForwardDown`].
    ForwardDown {
        /// The stream.
        stream: EventStream,
        /// Where to, without keys and credentials.
        target: String,
        /// Why.
        reason: String,
    },
}

impl Event {
    /// Which it is.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Publish { .. } => EventKind::Publish,
            Self::Unpublish { .. } => EventKind::Unpublish,
            Self::Play { .. } => EventKind::Play,
            Self::Stop { .. } => EventKind::Stop,
            Self::Record { .. } => EventKind::Record,
            Self::ForwardUp { .. } => EventKind::ForwardUp,
            Self::ForwardDown { .. } => EventKind::ForwardDown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_are_those_of_the_kinds() {
        let stream = EventStream { vhost: String::new(), app: "live".into(), name: "x".into() };
        let event = Event::ForwardDown { stream, target: "t".into(), reason: "r".into() };
        let value = serde_json::to_value(&event).unwrap();
        assert_eq!(value["event"], event.kind().name());
        assert_eq!(value["stream"]["name"], "x");
        assert!(EventKind::ALL.into_iter().all(|k| EventKind::of_name(k.name()) == Some(k)));
    }
}
