//! Requests and responses (RFC 2326 4–7): their parts, and how they are written.

use bytes::Bytes;

use super::status::Status;

/// Methods of RFC 2326 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the method of its name")]
pub enum Method {
    Options,
    Describe,
    Announce,
    Setup,
    Play,
    Pause,
    Record,
    Teardown,
    GetParameter,
    SetParameter,
    Redirect,
}

impl Method {
    /// All, in the order of the specification.
    pub const ALL: [Self; 11] = [
        Self::Options,
        Self::Describe,
        Self::Announce,
        Self::Setup,
        Self::Play,
        Self::Pause,
        Self::Record,
        Self::Teardown,
        Self::GetParameter,
        Self::SetParameter,
        Self::Redirect,
    ];

    /// As the wire writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Options => "OPTIONS",
            Self::Describe => "DESCRIBE",
            Self::Announce => "ANNOUNCE",
            Self::Setup => "SETUP",
            Self::Play => "PLAY",
            Self::Pause => "PAUSE",
            Self::Record => "RECORD",
            Self::Teardown => "TEARDOWN",
            Self::GetParameter => "GET_PARAMETER",
            Self::SetParameter => "SET_PARAMETER",
            Self::Redirect => "REDIRECT",
        }
    }

    /// Methods are case-sensitive (6.1).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

/// Protocol and version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `RTSP/1.0`.
    Rtsp10,
    /// Another version of RTSP.
    RtspOther,
    /// HTTP: a tunnel, or somebody lost.
    Http,
}

/// Header fields in their order; names compare without case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(Box<str>, Box<str>)>);

impl Fields {
    /// Appends one.
    pub fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.into(), value.into()));
    }

    /// The first value of that name.
    pub fn get<'a>(&'a self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Every value of that name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    /// `CSeq` (12.17), if there is one and it is a number.
    pub fn cseq(&self) -> Option<u32> {
        let text = self.get("CSeq")?;
        // `parse` would take a sign.
        if text.starts_with('+') { None } else { text.parse().ok() }
    }

    /// The id of `Session` (12.37), without its parameters.
    pub fn session_id(&self) -> Option<&str> {
        self.get("Session").map(|value| value.split(';').next().unwrap_or_default().trim())
    }
}

/// A request of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// As written.
    pub method: String,
    /// Request-URI, `*` included.
    pub target: String,
    /// Protocol and version.
    pub version: Version,
    /// Header fields.
    pub fields: Fields,
    /// Body, empty if there is none.
    pub body: Bytes,
}

/// A response of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: Status,
    /// Reason phrase.
    pub phrase: String,
    /// Header fields.
    pub fields: Fields,
    /// Body, empty if there is none.
    pub body: Bytes,
}

/// A message on its way out. Control characters cannot get into its head.
#[derive(Debug)]
pub struct Draft {
    head: String,
    body: Vec<u8>,
}

impl Draft {
    /// A response; `detail` stands behind the phrase of the status, where clients log it.
    pub fn response(status: Status, detail: &str, cseq: Option<u32>) -> Self {
        let mut draft = Self { head: format!("RTSP/1.0 {status}"), body: Vec::new() };
        if !detail.is_empty() {
            draft.head.push_str(": ");
            draft.push_text(detail);
        }
        draft.head.push_str("\r\n");
        if let Some(cseq) = cseq {
            draft.push("CSeq", &cseq.to_string());
        }
        draft
    }

    /// A request.
    pub fn request(method: Method, target: &str, cseq: u32) -> Self {
        let mut draft = Self { head: format!("{} ", method.name()), body: Vec::new() };
        draft.push_text(target);
        draft.head.push_str(" RTSP/1.0\r\n");
        draft.push("CSeq", &cseq.to_string());
        draft
    }

    /// One header field more.
    pub fn push(&mut self, name: &str, value: &str) {
        self.head.push_str(name);
        self.head.push_str(": ");
        self.push_text(value);
        self.head.push_str("\r\n");
    }

    /// The same, for a chain.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.push(name, value);
        self
    }

    /// With a body.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: Vec<u8>) -> Self {
        self.push("Content-Type", content_type);
        self.body = body;
        self
    }

    fn push_text(&mut self, text: &str) {
        self.head.extend(text.chars().filter(|character| !character.is_control()));
    }

    /// Appends the message to `out`. A message without body has no `Content-Length`: it is then 0
    /// (12.14), and some clients take any for a body.
    pub fn write(mut self, out: &mut Vec<u8>) {
        if !self.body.is_empty() {
            let length = self.body.len().to_string();
            self.push("Content-Length", &length);
        }
        self.head.push_str("\r\n");
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(&self.body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_can_be_smuggled_in() {
        let mut out = Vec::new();
        Draft::response(Status::NOT_FOUND, "a\r\nb: c", Some(3))
            .with("Location", "rtsp://h\r\nSession: 1")
            .write(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "RTSP/1.0 404 Not Found: ab: c\r\nCSeq: 3\r\nLocation: rtsp://hSession: 1\r\n\r\n"
        );
    }

    #[test]
    fn sequence_numbers_are_plain_decimals() {
        for (text, expected) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("4294967295", Some(u32::MAX)),
            ("18446744073709551616", None),
            ("+1", None),
            ("-1", None),
            ("", None),
        ] {
            let mut fields = Fields::default();
            fields.push("cseq", text);
            assert_eq!(fields.cseq(), expected, "{text}");
        }
    }
}
