//! Endless bodies as they are played: over HTTP, over WebSocket, or bare after one line.

use bytes::{Buf, BytesMut};

use crate::checker::Tag;
use crate::media_reader::MediaReader;
use crate::target::{Scheme, Target};

/// Longest answer head accepted.
const HEAD_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// The answer head is not complete.
    Head,
    /// Everything is media.
    Bare,
    /// HTTP chunks; so many bytes of the current one are left.
    Chunks { left: usize, first: bool },
    /// WebSocket frames; so many bytes of the current one are left.
    Frames { left: usize, media: bool },
}

/// One connection.
#[derive(Debug)]
pub struct HttpPlay {
    scheme: Scheme,
    framing: Framing,
    media: BytesMut,
    reader: MediaReader,
}

impl HttpPlay {
    /// A connection that will play `path`; appends its request to `out`.
    pub fn new(target: &Target, path: &str, out: &mut Vec<u8>) -> Self {
        let scheme = target.scheme;
        let upgrade = match scheme {
            Scheme::WebSocket => {
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: c21hcnQtcnRtcGQtcGVyZg==\r\n"
            }
            _ => "",
        };
        let request = match scheme {
            Scheme::Tcp => "PLAY\n".to_owned(),
            _ => format!(
                "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: perf\r\n{upgrade}\r\n",
                target.authority
            ),
        };
        out.extend_from_slice(request.as_bytes());
        Self {
            scheme,
            framing: if scheme == Scheme::Tcp { Framing::Bare } else { Framing::Head },
            media: BytesMut::new(),
            reader: MediaReader::of_path(path),
        }
    }

    /// Takes what is whole from `input`; media goes to `tags`.
    ///
    /// # Errors
    /// The server refuses or cannot be understood.
    pub fn take(&mut self, input: &mut BytesMut, tags: &mut Vec<Tag>) -> Result<(), String> {
        while self.unframe(input)? {}
        self.reader.take(&mut self.media, tags)
    }

    /// One step from `input` to `media`; false when more input is needed.
    fn unframe(&mut self, input: &mut BytesMut) -> Result<bool, String> {
        match self.framing {
            Framing::Head => self.take_head(input),
            Framing::Bare => {
                self.media.unsplit(input.split());
                Ok(false)
            }
            Framing::Chunks { left, first } if left > 0 => {
                let count = left.min(input.len());
                self.media.unsplit(input.split_to(count));
                self.framing = Framing::Chunks { left: left - count, first };
                Ok(count > 0)
            }
            Framing::Chunks { first, .. } => {
                let skip = if first { 0 } else { 2 };
                let line = input.get(skip..).and_then(|rest| line_end(rest, b"\r\n"));
                let Some(end) = line.map(|end| skip + end) else { return Ok(false) };
                let text = String::from_utf8_lossy(&input[skip..end]).into_owned();
                let digits = text.split(';').next().unwrap_or_default().trim();
                let left = usize::from_str_radix(digits, 16).map_err(|error| error.to_string())?;
                if left == 0 {
                    return Err("end of the HTTP body".to_owned());
                }
                input.advance(end + 2);
                self.framing = Framing::Chunks { left, first: false };
                Ok(true)
            }
            Framing::Frames { left, media } if left > 0 => {
                let count = left.min(input.len());
                let part = input.split_to(count);
                if media {
                    self.media.unsplit(part);
                }
                self.framing = Framing::Frames { left: left - count, media };
                Ok(count > 0)
            }
            Framing::Frames { .. } => self.take_frame_header(input),
        }
    }

    fn take_head(&mut self, input: &mut BytesMut) -> Result<bool, String> {
        let Some(end) = line_end(input, b"\r\n\r\n") else {
            return match input.len() > HEAD_BYTES_MAX {
                true => Err("answer head is too long".to_owned()),
                false => Ok(false),
            };
        };
        let head = String::from_utf8_lossy(&input.split_to(end + 4)).to_ascii_lowercase();
        let status = head.split_whitespace().nth(1).unwrap_or_default();
        self.framing = match (self.scheme, status) {
            (Scheme::WebSocket, "101") => Framing::Frames { left: 0, media: true },
            (Scheme::Http, "200") if head.contains("transfer-encoding: chunked") => {
                Framing::Chunks { left: 0, first: true }
            }
            (Scheme::Http, "200") => Framing::Bare,
            _ => return Err(format!("answer {status}")),
        };
        Ok(true)
    }

    /// RFC 6455, 5.2; a server does not mask.
    fn take_frame_header(&mut self, input: &mut BytesMut) -> Result<bool, String> {
        let Some(&[first, second]) = input.first_chunk() else { return Ok(false) };
        let opcode = first & 0x0F;
        if opcode == 8 {
            return Err("WebSocket closed".to_owned());
        }
        let (header, left) = match second {
            126 => match input.get(2..4) {
                Some(bytes) => (4, bytes.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte))),
                None => return Ok(false),
            },
            127 => match input.get(2..10) {
                Some(bytes) => {
                    (10, bytes.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)))
                }
                None => return Ok(false),
            },
            128.. => return Err("WebSocket frame is masked".to_owned()),
            length => (2, usize::from(length)),
        };
        input.advance(header);
        self.framing = Framing::Frames { left, media: opcode < 8 };
        Ok(true)
    }
}

fn line_end(bytes: &[u8], end: &[u8]) -> Option<usize> {
    bytes.windows(end.len()).position(|window| window == end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocols::container::flv::{TagType, header, write_tag};

    fn check(scheme: Scheme, wire: &[u8]) {
        let mut target = Target::parse("tcp://127.0.0.1:1").unwrap();
        target.scheme = scheme;
        for step in [1, 7, wire.len()] {
            let (mut input, mut tags) = (BytesMut::new(), Vec::new());
            let mut play = HttpPlay::new(&target, "/", &mut Vec::new());
            for part in wire.chunks(step) {
                input.extend_from_slice(part);
                play.take(&mut input, &mut tags).unwrap();
            }
            assert_eq!(tags.len(), 2, "{scheme:?} {step}");
        }
    }

    #[test]
    fn all_framings_give_the_same_tags() {
        let mut flv = header(true, true).to_vec();
        write_tag(&mut flv, TagType::Video, 1, &[&[1; 50]]);
        write_tag(&mut flv, TagType::Audio, 2, &[&[2; 90]]);
        check(Scheme::Tcp, &flv);
        check(Scheme::Http, &[b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", &flv[..]].concat());
        let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let mut frames = b"HTTP/1.1 101 Switching\r\n\r\n".to_vec();
        for part in flv.chunks(40) {
            chunked.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            chunked.extend_from_slice(part);
            chunked.extend_from_slice(b"\r\n");
            frames.extend_from_slice(&[0x89, 1, b'x', 0x82, 126, 0, part.len() as u8]);
            frames.extend_from_slice(part);
        }
        check(Scheme::Http, &chunked);
        check(Scheme::WebSocket, &frames);
    }
}
