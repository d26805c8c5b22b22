//! WebSocket (RFC 6455) as a server of binary messages needs it: the opening handshake, frame
//! headers for what is sent, and a bounded reader for what the peer sends.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BytesMut};
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Version};
use sha1::{Digest, Sha1};

/// Appended to the key of the peer before it is hashed (RFC 6455 1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longest data frame that is skipped rather than refused.
const DATA_FRAME_BYTES_MAX: u64 = 64 * 1024;
/// Longest payload of a control frame (RFC 6455 5.5).
const CONTROL_BYTES_MAX: u64 = 125;

const OPCODE_CONTINUATION: u8 = 0x0;
const OPCODE_TEXT: u8 = 0x1;
const OPCODE_BINARY: u8 = 0x2;
const OPCODE_CLOSE: u8 = 0x8;
const OPCODE_PING: u8 = 0x9;
const OPCODE_PONG: u8 = 0xa;

/// Why an opening handshake is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// Not a GET of HTTP/1.1, or a header is missing or wrong: status 400.
    #[error("not a WebSocket handshake: {0}")]
    BadRequest(&'static str),
    /// Another protocol version than 13: status 426 with `Sec-WebSocket-Version: 13`.
    #[error("only version 13 of the WebSocket protocol is spoken here")]
    WrongVersion,
}

/// The request asks for the WebSocket protocol, correctly or not.
pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, &header::UPGRADE, "websocket")
        || headers.contains_key(header::SEC_WEBSOCKET_KEY)
}

/// Checks an opening handshake (RFC 6455 4.2.1) and computes `Sec-WebSocket-Accept`.
///
/// # Errors
/// The request is not acceptable; see [`UpgradeError`].
pub fn accept(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
) -> Result<String, UpgradeError> {
    let bad = |what| Err(UpgradeError::BadRequest(what));
    if *method != Method::GET || version != Version::HTTP_11 {
        return bad("it is a GET of HTTP/1.1");
    }
    if !has_token(headers, &header::UPGRADE, "websocket") {
        return bad("Upgrade must name websocket");
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return bad("Connection must name Upgrade");
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return bad("there must be one Sec-WebSocket-Key");
    };
    if STANDARD.decode(key.as_bytes()).map_or(0, |k| k.len()) != 16 {
        return bad("Sec-WebSocket-Key must be 16 bytes in base64");
    }
    let version = headers.get(header::SEC_WEBSOCKET_VERSION);
    if version.is_none_or(|v| v.as_bytes() != b"13") {
        return Err(UpgradeError::WrongVersion);
    }
    Ok(accept_key(key.as_bytes()))
}

fn accept_key(key: &[u8]) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    STANDARD.encode(digest)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// The header of one frame this server sends: at most ten bytes, on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    bytes: [u8; 10],
    length: u8,
}

impl FrameHeader {
    /// The bytes to send in front of the payload.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// The header of a whole binary message of `length` bytes; the payload follows unmasked.
pub fn frame_header(length: usize) -> FrameHeader {
    header_of(OPCODE_BINARY, length)
}

fn header_of(opcode: u8, length: usize) -> FrameHeader {
    let mut bytes = [0; 10];
    bytes[0] = 0x80 | opcode;
    let used = if length <= 125 {
        bytes[1] = length as u8;
        2
    } else if let Ok(short) = u16::try_from(length) {
        bytes[1] = 126;
        bytes[2..4].copy_from_slice(&short.to_be_bytes());
        4
    } else {
        bytes[1] = 127;
        bytes[2..10].copy_from_slice(&(length as u64).to_be_bytes());
        10
    };
    FrameHeader { bytes, length: used }
}

/// The answer to a ping; longer payloads than a control frame may have are cut.
pub fn pong_frame(payload: &[u8]) -> Vec<u8> {
    control_frame(OPCODE_PONG, payload)
}

/// A close frame with this status code (RFC 6455 7.4.1).
pub fn close_frame(code: u16) -> Vec<u8> {
    control_frame(OPCODE_CLOSE, &code.to_be_bytes())
}

fn control_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX as usize)];
    let mut frame = header_of(opcode, payload.len()).as_slice().to_vec();
    frame.extend_from_slice(payload);
    frame
}

/// What the peer said that asks for a reaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// Answer with [`pong_frame`] of the same payload.
    Ping(Vec<u8>),
    /// The peer closes; answer with [`close_frame`] and end.
    Close(Option<u16>),
}

/// How the peer broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WsError {
    /// A frame without a mask, with reserved bits, an unknown opcode or a broken order.
    #[error("broken WebSocket frame: {0}")]
    Protocol(&'static str),
    /// A data frame longer than this server skips.
    #[error("WebSocket frame is too long")]
    TooBig,
}

impl WsError {
    /// The status code of the close frame that answers it.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::TooBig => 1009,
        }
    }
}

/// Reads the frames of a peer. Data is skipped as it arrives, so nothing is held but the start of
/// a control frame.
#[derive(Debug, Default)]
pub struct ClientFrames {
    skip: u64,
    in_message: bool,
    closed: bool,
}

impl ClientFrames {
    /// Takes complete frames from the front of `input` and leaves the rest there (at most 131
    /// bytes). Nothing is reported after a close frame.
    ///
    /// # Errors
    /// The peer broke the protocol; send [`close_frame`] of [`WsError::close_code`] and end.
    pub fn push(&mut self, input: &mut BytesMut) -> Result<Vec<ClientEvent>, WsError> {
        let mut events = Vec::new();
        loop {
            let skipped = self.skip.min(input.len() as u64);
            input.advance(skipped as usize);
            self.skip -= skipped;
            if self.closed {
                input.clear();
            }
            let Some(head) = Head::parse(input)? else {
                return Ok(events);
            };
            if head.opcode & 0x8 == 0 {
                self.on_data(head)?;
                input.advance(head.bytes);
                self.skip = head.length;
                continue;
            }
            // A control frame is at most 125 bytes long, so the sum cannot overflow.
            let end = head.bytes + head.length as usize;
            if input.len() < end {
                return Ok(events);
            }
            let mut frame = input.split_to(end);
            frame.advance(head.bytes);
            for (byte, mask) in frame.iter_mut().zip(head.mask.iter().cycle()) {
                *byte ^= mask;
            }
            match head.opcode {
                OPCODE_PING => events.push(ClientEvent::Ping(frame.to_vec())),
                OPCODE_CLOSE => {
                    self.closed = true;
                    let code = match &frame[..] {
                        [] => None,
                        [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
                        [_] => return Err(WsError::Protocol("close frame of one byte")),
                    };
                    events.push(ClientEvent::Close(code));
                }
                _ => {}
            }
        }
    }

    fn on_data(&mut self, head: Head) -> Result<(), WsError> {
        if (head.opcode == OPCODE_CONTINUATION) != self.in_message {
            return Err(WsError::Protocol("fragments out of order"));
        }
        self.in_message = !head.last;
        if head.length > DATA_FRAME_BYTES_MAX { Err(WsError::TooBig) } else { Ok(()) }
    }
}

#[derive(Debug, Clone, Copy)]
struct Head {
    last: bool,
    opcode: u8,
    length: u64,
    mask: [u8; 4],
    bytes: usize,
}

impl Head {
    /// Reads a frame header; `None` when it is not complete. What two bytes can show to be wrong
    /// is refused without waiting for more.
    fn parse(input: &[u8]) -> Result<Option<Self>, WsError> {
        let &[first, second, ..] = input else {
            return Ok(None);
        };
        let opcode = first & 0x0f;
        let last = first & 0x80 != 0;
        if first & 0x70 != 0 {
            return Err(WsError::Protocol("reserved bits are set"));
        }
        if second & 0x80 == 0 {
            return Err(WsError::Protocol("frame of a client is not masked"));
        }
        let control = match opcode {
            OPCODE_CONTINUATION | OPCODE_TEXT | OPCODE_BINARY => false,
            OPCODE_CLOSE | OPCODE_PING | OPCODE_PONG => true,
            _ => return Err(WsError::Protocol("unknown opcode")),
        };
        let short = u64::from(second & 0x7f);
        if control && (!last || short > CONTROL_BYTES_MAX) {
            return Err(WsError::Protocol("control frame is fragmented or too long"));
        }
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(rest) = input.get(2..2 + length_bytes + 4) else {
            return Ok(None);
        };
        let (extended, mask) = rest.split_at(length_bytes);
        let length = match extended {
            [] => short,
            _ => extended.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let mask = [mask[0], mask[1], mask[2], mask[3]];
        Ok(Some(Self { last, opcode, length, mask, bytes: 2 + length_bytes + 4 }))
    }
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;
