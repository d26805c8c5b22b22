//! Status codes (RFC 2326 7.1.1, 11) and what refusals of the engine become.

use std::fmt;

use crate::session::Refusal;

/// A status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub u16);

impl Status {
    /// Success.
    pub const OK: Self = Self(200);
    /// Malformed message.
    pub const BAD_REQUEST: Self = Self(400);
    /// Credentials are missing or wrong.
    pub const UNAUTHORIZED: Self = Self(401);
    /// Understood and refused.
    pub const FORBIDDEN: Self = Self(403);
    /// No such stream, app or track.
    pub const NOT_FOUND: Self = Self(404);
    /// A method servers send and clients do not.
    pub const METHOD_NOT_ALLOWED: Self = Self(405);
    /// Nothing can be described in a form the client accepts.
    pub const NOT_ACCEPTABLE: Self = Self(406);
    /// The body is over its limit.
    pub const ENTITY_TOO_LARGE: Self = Self(413);
    /// The request line is over its limit.
    pub const URI_TOO_LONG: Self = Self(414);
    /// The description holds what cannot be received.
    pub const UNSUPPORTED_MEDIA: Self = Self(415);
    /// No parameter of that name.
    pub const PARAMETER_UNKNOWN: Self = Self(451);
    /// The client cannot be served fast enough.
    pub const NOT_ENOUGH_BANDWIDTH: Self = Self(453);
    /// The session is not one of this connection.
    pub const SESSION_NOT_FOUND: Self = Self(454);
    /// The method has no place in the state of the session.
    pub const INVALID_STATE: Self = Self(455);
    /// The method is for a track.
    pub const AGGREGATE_NOT_ALLOWED: Self = Self(459);
    /// The method is for the whole presentation.
    pub const ONLY_AGGREGATE: Self = Self(460);
    /// No transport of the request is possible.
    pub const UNSUPPORTED_TRANSPORT: Self = Self(461);
    /// No such method.
    pub const NOT_IMPLEMENTED: Self = Self(501);
    /// Not now.
    pub const UNAVAILABLE: Self = Self(503);
    /// Not RTSP/1.0.
    pub const VERSION_NOT_SUPPORTED: Self = Self(505);
    /// `Require` names what this server lacks.
    pub const OPTION_NOT_SUPPORTED: Self = Self(551);

    /// 2xx.
    pub fn is_success(self) -> bool {
        (200..300).contains(&self.0)
    }

    /// 3xx.
    pub fn is_redirection(self) -> bool {
        (300..400).contains(&self.0)
    }

    /// The phrase of the specification, empty where it has none.
    pub fn phrase(self) -> &'static str {
        match self.0 {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            406 => "Not Acceptable",
            413 => "Request Entity Too Large",
            414 => "Request-URI Too Large",
            415 => "Unsupported Media Type",
            451 => "Parameter Not Understood",
            453 => "Not Enough Bandwidth",
            454 => "Session Not Found",
            455 => "Method Not Valid in This State",
            459 => "Aggregate Operation Not Allowed",
            460 => "Only Aggregate Operation Allowed",
            461 => "Unsupported Transport",
            500 => "Internal Server Error",
            501 => "Not Implemented",
            503 => "Service Unavailable",
            505 => "RTSP Version Not Supported",
            551 => "Option Not Supported",
            _ => "",
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownApp
            | Refusal::StreamNotFound
            | Refusal::PublisherGone
            | Refusal::TracksChanged
            | Refusal::Loop => Self::NOT_FOUND,
            Refusal::BadName => Self::BAD_REQUEST,
            Refusal::StreamBusy | Refusal::Superseded | Refusal::Forbidden | Refusal::Kicked => {
                Self::FORBIDDEN
            }
            Refusal::Unauthorised => Self::UNAUTHORIZED,
            Refusal::Overloaded | Refusal::ShuttingDown | Refusal::Unverified => Self::UNAVAILABLE,
            Refusal::Unsupported => Self::NOT_ACCEPTABLE,
            Refusal::TooSlow => Self::NOT_ENOUGH_BANDWIDTH,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.phrase())
    }
}
