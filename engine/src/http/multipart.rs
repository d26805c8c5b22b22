//! `multipart/form-data` (RFC 7578, RFC 2046 5.1.1) as it comes in: bytes in, parts out, bounded
//! memory. Pure.

use bytes::{Buf, Bytes, BytesMut};

/// Longest boundary (RFC 2046 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;
/// Most bytes of the headers of a part, or before the first part.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Most parts of a form.
const PARTS_MAX: usize = 64;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A part begins; a file if it has a name.
    Part {
        /// `filename` as sent, perhaps with a path.
        file_name: Option<String>,
    },
    /// Content of the part.
    Data(Bytes),
    /// The part is over.
    PartEnd,
    /// The form is over; what follows is ignored.
    End,
    /// Nothing more can be said of what was given.
    NeedMore,
}

/// Why a form cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormError {
    /// The headers of a part exceed 8 KiB, or as much comes before the first part.
    #[error("the headers of a part are too long")]
    HeadTooLong,
    /// More than 64 parts.
    #[error("the form has too many parts")]
    TooManyParts,
    /// Not what RFC 7578 describes.
    #[error("the form is malformed")]
    Malformed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble,
    AfterDelimiter,
    Head,
    Data,
    Done,
}

/// Reads one form. After each [`Form::push`] a loop over [`Form::next`] until it needs more.
pub(crate) struct Form {
    /// Line break, two dashes, boundary.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    state: State,
    parts: usize,
    skipped: usize,
    /// The line break before the content is still in the buffer.
    fresh: bool,
}

impl Form {
    /// A form with the boundary a `Content-Type` names; `None` if it names no form or none.
    pub(crate) fn of_content_type(value: &str) -> Option<Self> {
        let (media_type, parameters) = value.split_once(';')?;
        if !media_type.trim().eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let parameter = |text: &str| {
            let (name, value) = text.split_once('=')?;
            name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().to_owned())
        };
        let boundary = parameters.split(';').find_map(parameter)?;
        let boundary = boundary.trim_matches('"').as_bytes();
        let plain = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        if !(1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()) || !boundary.iter().all(plain) {
            return None;
        }
        Some(Self {
            delimiter: [b"\r\n--", boundary].concat(),
            // The first delimiter may stand at the very front, without a line break.
            buffer: BytesMut::from(&b"\r\n"[..]),
            state: State::Preamble,
            parts: 0,
            skipped: 0,
            fresh: false,
        })
    }

    /// Takes the next bytes of the body.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.state != State::Done {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// What comes next.
    ///
    /// # Errors
    /// The form cannot be read; nothing more comes.
    pub(crate) fn next(&mut self) -> Result<Event, FormError> {
        loop {
            match self.state {
                State::Preamble => match find(&self.buffer, &self.delimiter) {
                    Some(at) => {
                        self.buffer.advance(at + self.delimiter.len());
                        self.state = State::AfterDelimiter;
                    }
                    None => {
                        let skip = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
                        self.buffer.advance(skip);
                        self.skipped += skip;
                        if self.skipped > HEAD_BYTES_MAX {
                            return Err(FormError::HeadTooLong);
                        }
                        return Ok(Event::NeedMore);
                    }
                },
                State::AfterDelimiter => {
                    if self.buffer.starts_with(b"--") {
                        self.buffer = BytesMut::new();
                        self.state = State::Done;
                        return Ok(Event::End);
                    }
                    let Some(end) = find(&self.buffer, b"\r\n") else {
                        return self.need_more(b"- \t\r");
                    };
                    if !self.buffer[..end].iter().all(|byte| matches!(byte, b' ' | b'\t')) {
                        return Err(FormError::Malformed);
                    }
                    // The line break stays: headers end with an empty line, also if there are none.
                    self.buffer.advance(end);
                    self.state = State::Head;
                }
                State::Head => {
                    let Some(end) = find(&self.buffer, b"\r\n\r\n") else {
                        if self.buffer.len() > HEAD_BYTES_MAX {
                            return Err(FormError::HeadTooLong);
                        }
                        return Ok(Event::NeedMore);
                    };
                    self.parts += 1;
                    if end > HEAD_BYTES_MAX || self.parts > PARTS_MAX {
                        let long = end > HEAD_BYTES_MAX;
                        return Err(if long {
                            FormError::HeadTooLong
                        } else {
                            FormError::TooManyParts
                        });
                    }
                    let head = self.buffer.split_to(end);
                    // The line break of the empty line stays: it begins the delimiter of a part
                    // without content, and is dropped before any other.
                    self.buffer.advance(2);
                    (self.state, self.fresh) = (State::Data, true);
                    let head = std::str::from_utf8(&head).map_err(|_| FormError::Malformed)?;
                    return Ok(Event::Part { file_name: file_name(head) });
                }
                State::Data => return Ok(self.data()),
                State::Done => return Ok(Event::End),
            }
        }
    }

    /// After a delimiter there is nothing but a line break, padding, or the end.
    fn need_more(&self, allowed: &[u8]) -> Result<Event, FormError> {
        let plain = self.buffer.iter().all(|byte| allowed.contains(byte));
        if plain && self.buffer.len() < BOUNDARY_BYTES_MAX {
            Ok(Event::NeedMore)
        } else {
            Err(FormError::Malformed)
        }
    }

    fn data(&mut self) -> Event {
        if let Some(at) = find(&self.buffer, &self.delimiter) {
            if self.fresh && at > 0 {
                self.buffer.advance(2);
                self.fresh = false;
                return self.data();
            }
            if at > 0 {
                return Event::Data(self.buffer.split_to(at).freeze());
            }
            self.buffer.advance(self.delimiter.len());
            self.state = State::AfterDelimiter;
            return Event::PartEnd;
        }
        // What may be the beginning of a delimiter stays.
        let sure = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
        if sure > 2 && std::mem::take(&mut self.fresh) {
            self.buffer.advance(2);
            return Event::Data(self.buffer.split_to(sure - 2).freeze());
        }
        if sure == 0 || self.fresh {
            return Event::NeedMore;
        }
        Event::Data(self.buffer.split_to(sure).freeze())
    }
}

/// Where `needle` begins in `hay`.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = hay.get(from..)?.iter().position(|byte| *byte == first) {
        let at = from + at;
        if hay.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// The `filename` of the `Content-Disposition` in the headers of a part.
fn file_name(head: &str) -> Option<String> {
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let mut rest = disposition.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = parameter(after.trim_start());
        if name.trim().trim_start_matches(';').trim().eq_ignore_ascii_case("filename") {
            return Some(value);
        }
        rest = after;
    }
}

/// A quoted or plain value, and what follows it. Senders escape a quote as `\"` or `%22`, and
/// nothing else.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.trim().to_owned(), rest.trim_start_matches(';'));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' if chars.peek().is_some_and(|(_, next)| *next == '"') => {
                chars.next();
                value.push('"');
            }
            // One byte.
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            _ => value.push(char),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Parts = Vec<(Option<String>, Vec<u8>)>;

    /// Reads a whole form given in pieces.
    fn read(boundary: &str, pieces: &[&[u8]]) -> Result<(Parts, bool), FormError> {
        let mut form = Form::of_content_type(&format!("multipart/form-data; boundary={boundary}"))
            .expect("a form");
        let (mut parts, mut open) = (Parts::new(), false);
        for piece in pieces {
            form.push(piece);
            loop {
                match form.next()? {
                    Event::Part { file_name } => {
                        assert!(!std::mem::replace(&mut open, true));
                        parts.push((file_name, Vec::new()));
                    }
                    Event::Data(data) => {
                        assert!(open && !data.is_empty());
                        parts.last_mut().unwrap().1.extend_from_slice(&data);
                    }
                    Event::PartEnd => assert!(std::mem::replace(&mut open, false)),
                    Event::End => return Ok((parts, true)),
                    Event::NeedMore => break,
                }
            }
            assert!(form.buffer.len() <= HEAD_BYTES_MAX + piece.len() + 200, "memory is bounded");
        }
        Ok((parts, false))
    }

    const BODY: &[u8] = b"ignored\r\n--XyZ\r\n\
        Content-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--XyZ  \r\n\
        content-disposition: form-data; name=\"a;b=c\"; filename=\"a \\\"b\\\".mp4\"\r\n\
        Content-Type: video/mp4\r\n\r\n\r\n--XyY\r\n-\r\n--XyZ\r\n\
        Content-Disposition: form-data; filename=plain.ts\r\n\r\n\r\n--XyZ--\r\nafter";

    fn expected() -> Parts {
        vec![
            (None, b"hello".to_vec()),
            (Some("a \"b\".mp4".into()), b"\r\n--XyY\r\n-".to_vec()),
            (Some("plain.ts".into()), Vec::new()),
        ]
    }

    #[test]
    fn forms_in_pieces_of_every_size() {
        for size in 1..BODY.len() {
            let pieces: Vec<&[u8]> = BODY.chunks(size).collect();
            assert_eq!(read("XyZ", &pieces), Ok((expected(), true)), "pieces of {size}");
        }
        assert_eq!(read("\"XyZ\"", &[BODY]), Ok((expected(), true)));
        // Cut short anywhere it never ends.
        let end = BODY.len() - b"--\r\nafter".len();
        for cut in 0..=end {
            let (parts, ended) = read("XyZ", &[&BODY[..cut]]).unwrap();
            assert!(!ended && parts.len() <= 3, "{cut}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for value in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"\u{7f}\"",
            "multipart/mixed; boundary=x",
            "text/plain",
            &format!("multipart/form-data; boundary={}", "x".repeat(71)),
        ] {
            assert!(Form::of_content_type(value).is_none(), "{value}");
        }
        let error = |body: &[u8]| read("b", &[body]).unwrap_err();
        assert_eq!(error(&[b'x'; 20_000]), FormError::HeadTooLong);
        assert_eq!(error(b"--bad\r\n\r\nx\r\n--b--"), FormError::Malformed);
        assert_eq!(error(b"--b\r\n\xff: x\r\n\r\nx\r\n--b--"), FormError::Malformed);
        let long = [b"--b\r\nx: ", &[b'y'; 9000][..]].concat();
        assert_eq!(error(&long), FormError::HeadTooLong);
        let many = b"--b\r\n\r\n\r\n".repeat(65);
        assert_eq!(error(&many), FormError::TooManyParts);
    }

    proptest! {
        #[test]
        fn any_content_comes_out_as_it_went_in(
            contents in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'b')], 0..40),
                1..4,
            ),
            size in 1usize..50,
        ) {
            // A boundary that cannot be in the content.
            let mut body = Vec::new();
            for content in &contents {
                body.extend_from_slice(b"--bc\r\nContent-Disposition: form-data; filename=x\r\n\r\n");
                body.extend_from_slice(content);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"--bc--");
            let pieces: Vec<&[u8]> = body.chunks(size).collect();
            let (parts, ended) = read("bc", &pieces).unwrap();
            prop_assert!(ended);
            prop_assert_eq!(parts.into_iter().map(|part| part.1).collect::<Vec<_>>(), contents);
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            pieces in proptest::collection::vec("[-b\r\n:; =\"a-z]{0,30}", 0..10),
        ) {
            let pieces: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
            let _ = read("b", &pieces);
        }
    }
}
