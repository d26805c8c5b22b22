//! The body of an answer: chunked (RFC 9112 7.1) or up to the end of the connection.

use bytes::{Buf, BytesMut};

/// Longest line of a chunk size, extensions included.
const LINE_BYTES_MAX: usize = 1024;

/// The chunks do not make sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadChunk;

/// Takes the framing off a body.
#[derive(Debug)]
pub(super) enum Body {
    /// There is none.
    Plain,
    /// Within a chunk: bytes left of it; before its size line when none is.
    Chunked {
        left: usize,
        /// The end of the line behind the last chunk is still to come.
        ends: bool,
    },
    /// The last chunk has come.
    Ended,
}

impl Body {
    pub(super) fn new(chunked: bool) -> Self {
        if chunked { Self::Chunked { left: 0, ends: false } } else { Self::Plain }
    }

    /// Moves what there is of the content from `input` to `content`, up to the first bad chunk.
    pub(super) fn take(
        &mut self,
        input: &mut BytesMut,
        content: &mut BytesMut,
    ) -> Result<(), BadChunk> {
        loop {
            match self {
                Self::Plain => {
                    content.extend_from_slice(input);
                    input.clear();
                    return Ok(());
                }
                Self::Ended => {
                    input.clear();
                    return Ok(());
                }
                Self::Chunked { left, ends } if *left > 0 => {
                    let taken = (*left).min(input.len());
                    content.extend_from_slice(&input[..taken]);
                    input.advance(taken);
                    *left -= taken;
                    *ends = true;
                    if *left > 0 {
                        return Ok(());
                    }
                }
                Self::Chunked { left, ends } => {
                    let mut line = input.iter().take(LINE_BYTES_MAX);
                    let Some(end) = line.position(|byte| *byte == b'\n') else {
                        return if input.len() < LINE_BYTES_MAX { Ok(()) } else { Err(BadChunk) };
                    };
                    let line = input.split_to(end + 1);
                    if std::mem::take(ends) {
                        if line.trim_ascii().is_empty() {
                            continue;
                        }
                        return Err(BadChunk);
                    }
                    *left = chunk_size(&line).ok_or(BadChunk)?;
                    if *left == 0 {
                        *self = Self::Ended;
                    }
                }
            }
        }
    }
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let size = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let text = std::str::from_utf8(size).ok()?;
    // `from_str_radix` takes a sign.
    let digits = !text.is_empty() && text.len() <= 8;
    let digits = digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| usize::from_str_radix(text, 16).ok())?
}
