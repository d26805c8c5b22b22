//! A tiny RTMP peer of its own: well-behaved enough to play and publish, and open enough to send
//! anything else. Shares no code with the server.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::flv::Tag;
use crate::{http, wait};

/// A message as it came off the chunk stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Message type id.
    pub kind: u8,
    /// Milliseconds.
    pub timestamp: u32,
    /// Message stream id.
    pub stream: u32,
    /// Body.
    pub body: Vec<u8>,
}

impl Message {
    /// The `code` of an `onStatus` or `_error`, or the name of any other command.
    pub fn status(&self) -> Option<String> {
        if self.kind != 20 {
            return None;
        }
        let code = b"\x00\x04code\x02";
        let at = self.body.windows(code.len()).position(|part| part == code);
        amf0_text(&self.body, at.map_or(1, |at| at + code.len()))
    }

    /// The text behind a key of an object in a command.
    pub fn text_of(&self, key: &str) -> Option<String> {
        let length = u16::try_from(key.len()).ok()?.to_be_bytes();
        let key = [&length[..], key.as_bytes(), &[2]].concat();
        let at = self.body.windows(key.len()).position(|part| part == key)?;
        amf0_text(&self.body, at + key.len())
    }

    /// The command's name.
    pub fn command(&self) -> Option<String> {
        if self.kind == 20 { amf0_text(&self.body, 1) } else { None }
    }

    /// Audio and video messages as FLV tags.
    pub fn tag(self) -> Option<Tag> {
        let tag = Tag { kind: self.kind, timestamp: self.timestamp, data: self.body };
        matches!(tag.kind, 8 | 9).then_some(tag)
    }
}

#[derive(Debug, Clone, Default)]
struct Incoming {
    timestamp: u32,
    delta: u32,
    extended: bool,
    length: usize,
    kind: u8,
    stream: u32,
    body: Vec<u8>,
}

/// A connection to an RTMP port.
#[derive(Debug)]
pub struct Peer {
    /// The socket, for raw bytes.
    pub socket: TcpStream,
    chunk_size_in: usize,
    /// Chunk size we send with; tell the server by a message of type 1.
    pub chunk_size_out: usize,
    /// Whether our type 3 chunks repeat an extended timestamp; clients differ.
    pub repeat_extended: bool,
    incoming: HashMap<u32, Incoming>,
    transaction: u32,
}

impl Peer {
    /// Connects, without any byte sent.
    pub fn open(port: u16) -> io::Result<Peer> {
        http::connect(port).map(Peer::over)
    }

    fn over(socket: TcpStream) -> Peer {
        Peer {
            socket,
            chunk_size_in: 128,
            chunk_size_out: 128,
            repeat_extended: true,
            incoming: HashMap::new(),
            transaction: 0,
        }
    }

    /// The other end: somebody who has connected to us, after the handshake.
    pub fn accepted(mut socket: TcpStream) -> io::Result<Peer> {
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut hello = [0; 1537];
        socket.read_exact(&mut hello)?;
        let mut answer = vec![3];
        answer.extend([0; 1536]);
        answer.extend(&hello[1..]);
        socket.write_all(&answer)?;
        socket.read_exact(&mut [0; 1536])?;
        Ok(Peer::over(socket))
    }

    /// `_error` in answer to `connect`, with so much information beside level and code.
    pub fn reject(&mut self, information: &[(&str, Vec<u8>)]) -> io::Result<()> {
        let code = ("code", string("NetConnection.Connect.Rejected"));
        let words = [&[("level", string("error")), code], information].concat();
        let body = [string("_error"), number(1.0), null(), object(&words)].concat();
        self.send(3, 0, 20, 0, &body)
    }

    /// Connects and shakes hands.
    pub fn shaken(port: u16) -> io::Result<Peer> {
        let mut peer = Peer::open(port)?;
        peer.handshake()?;
        Ok(peer)
    }

    /// Connects, shakes hands and asks for `app`.
    pub fn connected(port: u16, app: &str) -> io::Result<Peer> {
        let mut peer = Peer::shaken(port)?;
        let status = peer.connect(port, app)?;
        if status != "NetConnection.Connect.Success" {
            return Err(io::Error::other(format!("connect: {status}")));
        }
        Ok(peer)
    }

    /// A viewer of `/live/NAME`: everything up to `play` sent.
    pub fn playing(port: u16, name: &str) -> io::Result<Peer> {
        let mut peer = Peer::connected(port, "live")?;
        let stream = peer.create_stream()?;
        let arguments = [null(), string(name), number(-2000.0)].concat();
        peer.command("play", stream, &arguments)?;
        Ok(peer)
    }

    /// A publisher of `/live/NAME`; the status that answers it.
    pub fn publishing(port: u16, name: &str) -> io::Result<(Peer, u32, String)> {
        let mut peer = Peer::connected(port, "live")?;
        let stream = peer.create_stream()?;
        let status = peer.publish(stream, name)?;
        Ok((peer, stream, status))
    }

    /// The simple handshake.
    pub fn handshake(&mut self) -> io::Result<()> {
        let mut hello = vec![0; 1537];
        hello[0] = 3;
        for (index, byte) in hello[9..].iter_mut().enumerate() {
            *byte = (index % 251) as u8;
        }
        self.socket.write_all(&hello)?;
        let mut answer = vec![0; 1 + 1536 + 1536];
        self.socket.read_exact(&mut answer)?;
        if answer[0] != 3 {
            return Err(io::Error::other(format!("S0 is {}", answer[0])));
        }
        self.socket.write_all(&answer[1..1537])
    }

    /// `connect`; the status code of the answer.
    pub fn connect(&mut self, port: u16, app: &str) -> io::Result<String> {
        self.connect_as(port, app, "FMLE/3.0 (compatible; test)")
    }

    /// `connect` of a peer that calls itself so.
    pub fn connect_as(&mut self, port: u16, app: &str, agent: &str) -> io::Result<String> {
        let url = format!("rtmp://127.0.0.1:{port}/{app}");
        let fields = [("app", app), ("tcUrl", &url), ("flashVer", agent)];
        let object = object(fields.map(|(key, value)| (key, string(value))).as_ref());
        self.command("connect", 0, &object)?;
        self.status_of(&["_result", "_error"])
    }

    /// `createStream`; the message stream id.
    pub fn create_stream(&mut self) -> io::Result<u32> {
        self.command("createStream", 0, &null())?;
        loop {
            let message = self.read_message()?;
            if message.command().as_deref() == Some("_result") {
                let digits = message.body.len().checked_sub(8).map(|at| &message.body[at..]);
                let bytes = digits.and_then(|bytes| bytes.try_into().ok());
                let id = f64::from_be_bytes(bytes.ok_or(io::ErrorKind::InvalidData)?);
                return Ok(id as u32);
            }
        }
    }

    /// `publish`; the status code of the answer.
    pub fn publish(&mut self, stream: u32, name: &str) -> io::Result<String> {
        let arguments = [null(), string(name), string("live")].concat();
        self.command("publish", stream, &arguments)?;
        self.status_of(&["onStatus", "_error"])
    }

    /// Sends a command with the next transaction id.
    pub fn command(&mut self, name: &str, stream: u32, arguments: &[u8]) -> io::Result<()> {
        self.transaction += 1;
        let body = [&string(name), &number(f64::from(self.transaction)), arguments].concat();
        self.send(3, 0, 20, stream, &body)
    }

    /// Sends one message on a chunk stream below 64, cut into chunks.
    pub fn send(
        &mut self,
        chunk_stream: u8,
        timestamp: u32,
        kind: u8,
        stream: u32,
        body: &[u8],
    ) -> io::Result<()> {
        let length = u32::try_from(body.len()).expect("a message below 4 GiB");
        let mut bytes = header(chunk_stream, timestamp, length, kind, stream);
        for (number, part) in body.chunks(self.chunk_size_out).enumerate() {
            if number > 0 {
                bytes.push(0xC0 | chunk_stream);
                if timestamp >= 0xFF_FFFF && self.repeat_extended {
                    bytes.extend(timestamp.to_be_bytes());
                }
            }
            bytes.extend(part);
        }
        self.socket.write_all(&bytes)
    }

    /// Reads messages until one of the named commands comes; its status code.
    pub fn status_of(&mut self, commands: &[&str]) -> io::Result<String> {
        loop {
            let message = self.read_message()?;
            let command = message.command().unwrap_or_default();
            if commands.contains(&command.as_str()) {
                return Ok(message.status().unwrap_or(command));
            }
        }
    }

    /// The next audio or video message.
    pub fn next_tag(&mut self) -> io::Result<Tag> {
        loop {
            if let Some(tag) = self.read_message()?.tag() {
                return Ok(tag);
            }
        }
    }

    /// The next complete message; Set Chunk Size is obeyed here.
    pub fn read_message(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = self.read_chunk()? {
                if message.kind == 1 && message.body.len() >= 4 {
                    let bytes = &message.body;
                    let size = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                    self.chunk_size_in = size as usize;
                }
                return Ok(message);
            }
        }
    }

    fn read_chunk(&mut self) -> io::Result<Option<Message>> {
        let first = self.read_number(1)?;
        let id = match first & 0x3F {
            0 => self.read_number(1)? + 64,
            1 => {
                let bytes = self.read_number(2)?;
                (bytes & 0xFF) * 256 + (bytes >> 8) + 64
            }
            id => id,
        };
        let format = first >> 6;
        let mut state = self.incoming.remove(&id).unwrap_or_default();
        let time = if format < 3 { self.read_number(3)? } else { 0 };
        if format < 2 {
            state.length = self.read_number(3)? as usize;
            state.kind = self.read_number(1)? as u8;
        }
        if format == 0 {
            state.stream = self.read_number(4)?.swap_bytes();
        }
        if format < 3 {
            state.extended = time == 0xFF_FFFF;
        }
        let extended = if state.extended { self.read_number(4)? } else { time };
        let starts = state.body.is_empty();
        match format {
            0 => (state.timestamp, state.delta) = (extended, 0),
            1 | 2 => {
                state.delta = extended;
                state.timestamp = state.timestamp.wrapping_add(extended);
            }
            _ if starts => state.timestamp = state.timestamp.wrapping_add(state.delta),
            _ => {}
        }
        let count = self.chunk_size_in.min(state.length - state.body.len());
        let at = state.body.len();
        state.body.resize(at + count, 0);
        self.socket.read_exact(&mut state.body[at..])?;
        let mut message = None;
        if state.body.len() == state.length {
            let body = std::mem::take(&mut state.body);
            let Incoming { timestamp, kind, stream, .. } = state;
            message = Some(Message { kind, timestamp, stream, body });
        }
        self.incoming.insert(id, state);
        Ok(message)
    }

    fn read_number(&mut self, bytes: usize) -> io::Result<u32> {
        let mut buffer = [0; 4];
        self.socket.read_exact(&mut buffer[4 - bytes..])?;
        Ok(u32::from_be_bytes(buffer))
    }
}

/// Sends FLV tags at the pace of their timestamps until `span` of media has gone out.
pub fn send_paced(peer: &mut Peer, stream: u32, tags: &[Tag], span: Duration) -> io::Result<()> {
    let start = Instant::now();
    let first = tags.first().map_or(0, |tag| tag.timestamp);
    for tag in tags {
        let at = Duration::from_millis(u64::from(tag.timestamp - first));
        if at > span {
            break;
        }
        wait::until_instant(start + at);
        let body = if tag.kind == 18 {
            [&string("@setDataFrame"), tag.data.as_slice()].concat()
        } else {
            tag.data.clone()
        };
        peer.send(4 + tag.kind % 3, tag.timestamp, tag.kind, stream, &body)?;
    }
    Ok(())
}

/// A type 0 chunk header, with whatever length it is to announce.
pub fn header(chunk_stream: u8, timestamp: u32, length: u32, kind: u8, stream: u32) -> Vec<u8> {
    let mut bytes = vec![chunk_stream];
    bytes.extend(&timestamp.min(0xFF_FFFF).to_be_bytes()[1..]);
    bytes.extend(&length.to_be_bytes()[1..]);
    bytes.push(kind);
    bytes.extend(stream.to_le_bytes());
    if timestamp >= 0xFF_FFFF {
        bytes.extend(timestamp.to_be_bytes());
    }
    bytes
}

/// An AMF0 string.
pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let length = u16::try_from(text.len()).expect("a short string");
    [&[2], &length.to_be_bytes()[..], text].concat()
}

/// An AMF0 number.
pub fn number(value: f64) -> Vec<u8> {
    [&[0], &value.to_be_bytes()[..]].concat()
}

/// AMF0 null.
pub fn null() -> Vec<u8> {
    vec![5]
}

/// An AMF0 object of encoded values.
pub fn object(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![3];
    for (key, value) in fields {
        bytes.extend(&string(key)[1..]);
        bytes.extend(value);
    }
    bytes.extend([0, 0, 9]);
    bytes
}

/// The text at `at`, which points behind a string marker.
fn amf0_text(body: &[u8], at: usize) -> Option<String> {
    let length = usize::from(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
    let bytes = body.get(at + 2..at + 2 + length)?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}
