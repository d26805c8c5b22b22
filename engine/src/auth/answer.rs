//! What comes of asking: a verdict, or why there is none.

/// The answer of the authorisation server, or of a comparison with a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It may.
    Yes,
    /// It may not.
    No,
    /// Nobody could say.
    Unknown(Cause),
}

/// Why there is no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The server's name is not known.
    Resolve,
    /// It cannot be connected to.
    Connect,
    /// TLS with it failed: its certificate, most likely.
    Tls,
    /// It was not done in time.
    Timeout,
    /// What it said is no HTTP answer of a sensible size.
    BadAnswer,
    /// It failed itself (5xx).
    ServerError,
    /// It has failed so often that it is left alone for a while.
    Paused,
    /// Too many questions wait already.
    Busy,
}

impl Cause {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Resolve,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::BadAnswer,
        Self::ServerError,
        Self::Paused,
        Self::Busy,
    ];

    /// Metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::BadAnswer => "bad_answer",
            Self::ServerError => "server_error",
            Self::Paused => "paused",
            Self::Busy => "busy",
        }
    }
}
