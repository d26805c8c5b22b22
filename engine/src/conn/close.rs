//! Why a connection ended: attached once, logged once, counted once.

use std::fmt;

use protocols::session::{ErrorClass, Refusal, SessionError};

/// The one reason a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed.
    PeerClosed,
    /// The socket failed.
    Socket(std::io::ErrorKind),
    /// The session ended itself.
    Session(SessionError),
    /// This server ended it.
    Refused(Refusal),
    /// TLS failed.
    Tls(String),
    /// The viewer's socket took nothing for too long, or it was moved too often.
    SlowViewer,
    /// The publisher sent nothing for too long.
    PublisherIdle,
    /// Nobody watches the pulled stream any more, or there is nothing to forward.
    Unwanted,
    /// A limit of this server.
    Limit(&'static str),
    /// A bug in this server, met while serving this connection.
    Panic,
}

impl CloseReason {
    /// Stable `snake_case` word from a closed set: the metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::Socket(_) => "socket_error",
            Self::Session(error) => error.reason,
            Self::Refused(refusal) => refusal.reason(),
            Self::Tls(_) => "tls",
            Self::SlowViewer => "slow_viewer",
            Self::PublisherIdle => "publisher_idle",
            Self::Unwanted => "unwanted",
            Self::Limit(which) => which,
            Self::Panic => "panic",
        }
    }

    /// The end is nobody's fault: no detail worth a warning.
    #[must_use]
    pub fn is_ordinary(&self) -> bool {
        match self {
            Self::PeerClosed | Self::Refused(_) | Self::Unwanted => true,
            Self::Session(error) => error.class == ErrorClass::Refused,
            Self::Socket(_)
            | Self::Tls(_)
            | Self::SlowViewer
            | Self::PublisherIdle
            | Self::Limit(_)
            | Self::Panic => false,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())?;
        match self {
            Self::Socket(kind) => write!(f, " ({kind})"),
            Self::Session(error) => write!(f, " ({})", escape(&error.detail)),
            Self::Tls(detail) => write!(f, " ({})", escape(detail)),
            Self::PeerClosed
            | Self::Refused(_)
            | Self::SlowViewer
            | Self::PublisherIdle
            | Self::Unwanted
            | Self::Limit(_)
            | Self::Panic => Ok(()),
        }
    }
}

/// Peer-made text for a log line: control and direction characters escaped, 256 bytes at most.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(256));
    for c in text.chars() {
        if out.len() > 240 {
            out.push('…');
            break;
        }
        let hidden = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
        if hidden {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_text_cannot_forge_log_lines() {
        assert_eq!(escape("a\r\nb\u{1b}[2J\u{202e}"), "a\\r\\nb\\u{1b}[2J\\u{202e}");
        assert!(escape(&"x".repeat(10_000)).len() <= 256);
    }
}
