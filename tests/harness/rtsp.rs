//! A tiny RTSP peer of its own: well-behaved enough to play and publish, and open enough to send
//! anything else. Shares no code with the server.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};

use crate::http;

/// A description of one track of G.711; its control URL is `track`.
pub const SOUND: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=a\r\nt=0 0\r\n\
    m=audio 0 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na=control:track\r\n";
/// A description of one track of H.264; its control URL is `track`.
pub const PICTURES: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=a\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1\r\na=control:track\r\n";
/// `Transport` within the connection.
pub const TCP: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Everything before the body.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Value of a header field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The session id.
    pub fn session(&self) -> &str {
        self.field("Session").and_then(|value| value.split(';').next()).unwrap_or_default()
    }

    /// A parameter of `Transport`, such as `server_port`: its first number.
    pub fn port(&self, parameter: &str) -> u16 {
        let transport = self.field("Transport").unwrap_or_default();
        let value = transport.split(';').find_map(|part| part.strip_prefix(parameter));
        let first =
            value.and_then(|value| value.strip_prefix('=')?.split('-').next()?.parse().ok());
        first.unwrap_or_else(|| panic!("no {parameter} in {transport:?}"))
    }
}

/// A connection to an RTSP port.
#[derive(Debug)]
pub struct Peer {
    /// The socket.
    pub socket: TcpStream,
    /// `rtsp://…/live/`, to be followed by a name.
    pub base: String,
    /// Header lines of every request: `Session`, credentials.
    pub lines: String,
    /// Interleaved packets that came between answers, with their channels.
    pub packets: VecDeque<(u8, Vec<u8>)>,
    cseq: u32,
}

impl Peer {
    /// Connects.
    pub fn open(port: u16) -> io::Result<Peer> {
        let base = format!("rtsp://127.0.0.1:{port}/live/");
        let socket = http::connect(port)?;
        Ok(Peer { socket, base, lines: String::new(), packets: VecDeque::new(), cseq: 0 })
    }

    /// The URL of a stream, or of a track in it.
    pub fn url(&self, name: &str) -> String {
        format!("{}{name}", self.base)
    }

    /// Asks for `method` of a stream or track by its name, with header lines and a body.
    pub fn ask(&mut self, method: &str, name: &str, lines: &str, body: &str) -> io::Result<Answer> {
        self.cseq += 1;
        let (url, cseq, own) = (self.url(name), self.cseq, &self.lines);
        let mut text = format!("{method} {url} RTSP/1.0\r\nCSeq: {cseq}\r\n{own}{lines}");
        if !body.is_empty() {
            let length = body.len();
            text += &format!("Content-Type: application/sdp\r\nContent-Length: {length}\r\n");
        }
        self.socket.write_all(format!("{text}\r\n{body}").as_bytes())?;
        self.answer()
    }

    /// As [`Peer::ask`], the status only; 0 when the connection has ended.
    pub fn status(&mut self, method: &str, name: &str, lines: &str, body: &str) -> u16 {
        self.ask(method, name, lines, body).map_or(0, |answer| answer.status)
    }

    /// Whether the connection still answers.
    pub fn lives(&mut self) -> bool {
        self.status("OPTIONS", "", "", "") == 200
    }

    /// The next answer; packets before it are kept.
    pub fn answer(&mut self) -> io::Result<Answer> {
        loop {
            let first = self.read(1)?;
            if first == b"$" {
                let packet = self.packet()?;
                self.packets.push_back(packet);
                continue;
            }
            let mut head = first;
            while !head.ends_with(b"\r\n\r\n") {
                head.extend(self.read(1)?);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
            let status = status.ok_or_else(|| io::Error::other(format!("no answer: {head}")))?;
            let mut answer = Answer { status, head, body: String::new() };
            let length = answer.field("Content-Length").and_then(|value| value.parse().ok());
            answer.body = String::from_utf8_lossy(&self.read(length.unwrap_or(0))?).into_owned();
            return Ok(answer);
        }
    }

    /// The next interleaved packet that has not come yet.
    pub fn next_packet(&mut self) -> io::Result<(u8, Vec<u8>)> {
        match self.read(1)?[0] {
            b'$' => self.packet(),
            other => Err(io::Error::other(format!("{other:#x} instead of a packet"))),
        }
    }

    fn packet(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let head = self.read(3)?;
        let length = u16::from_be_bytes([head[1], head[2]]);
        Ok((head[0], self.read(usize::from(length))?))
    }

    fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.socket.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Sends one interleaved packet.
    pub fn send(&mut self, channel: u8, packet: &[u8]) -> io::Result<()> {
        self.socket.write_all(&interleaved(channel, packet))
    }

    /// Sets the video track of a stream up and plays it, within the connection.
    pub fn playing(port: u16, name: &str) -> io::Result<Peer> {
        let mut peer = Peer::open(port)?;
        peer.set_up(&format!("{name}/trackID=0"), TCP)?;
        expect(peer.ask("PLAY", name, "", "")?, "PLAY")?;
        Ok(peer)
    }

    /// Announces and records `description` as `name`, by that `Transport`.
    pub fn recording(
        port: u16,
        name: &str,
        description: &str,
        transport: &str,
    ) -> io::Result<Peer> {
        Peer::open(port)?.record(name, description, transport).map(|(peer, _)| peer)
    }

    /// As [`Peer::recording`], with the answer to `SETUP`.
    pub fn record(
        mut self,
        name: &str,
        description: &str,
        transport: &str,
    ) -> io::Result<(Peer, Answer)> {
        expect(self.ask("ANNOUNCE", name, "", description)?, "ANNOUNCE")?;
        let answer = self.set_up(&format!("{name}/track"), transport)?;
        expect(self.ask("RECORD", name, "", "")?, "RECORD")?;
        Ok((self, answer))
    }

    /// Sets one track up and remembers the session.
    pub fn set_up(&mut self, track: &str, transport: &str) -> io::Result<Answer> {
        let answer = expect(self.ask("SETUP", track, transport, "")?, "SETUP")?;
        if self.lines.is_empty() {
            self.lines = format!("Session: {}\r\n", answer.session());
        }
        Ok(answer)
    }
}

fn expect(answer: Answer, what: &str) -> io::Result<Answer> {
    match answer.status {
        200 => Ok(answer),
        _ => Err(io::Error::other(format!("{what}: {}", answer.head))),
    }
}

/// A packet as it is framed within a connection.
pub fn interleaved(channel: u8, packet: &[u8]) -> Vec<u8> {
    let length = u16::try_from(packet.len()).expect("packets are shorter than 64 KiB");
    let [high, low] = length.to_be_bytes();
    [&[b'$', channel, high, low], packet].concat()
}

/// An RTP packet of one source.
pub fn rtp(
    payload_type: u8,
    marker: bool,
    sequence: u16,
    timestamp: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type | u8::from(marker) << 7];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(0x0102_0304_u32.to_be_bytes());
    packet.extend(payload);
    packet
}

/// Two sockets on ports of which the first is even, and that port.
pub fn port_pair(ip: &str) -> (UdpSocket, UdpSocket, u16) {
    for _ in 0..100 {
        let Ok(rtp) = UdpSocket::bind((ip, 0)) else { continue };
        let port = rtp.local_addr().expect("it is bound").port();
        if port % 2 == 0
            && let Ok(rtcp) = UdpSocket::bind((ip, port + 1))
        {
            return (rtp, rtcp, port);
        }
    }
    panic!("no pair of ports on {ip}");
}
