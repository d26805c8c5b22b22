//! Fuzz bodies of the server: any bytes, and sequences of requests and engine commands.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::{Addresses, Phase, PlayState, Server, ServerOptions};
use crate::media::{AudioInfo, Codec, Track, Tracks};
use crate::rtsp::message::Method;
use crate::rtsp::reader::{Item, Limits, Reader};
use crate::session::{Command, Event, Input, Output, Refusal, RtpStart, Session};

const LIMITS: Limits = Limits { line_bytes: 256, head_bytes: 1024, body_bytes: 512 };
/// URLs a peer may ask for.
const URLS: [&str; 8] = [
    "rtsp://h/live/x",
    "rtsp://h/live/x/trackID=0",
    "rtsp://h/live/x/trackID=1",
    "rtsp://h/live/x/?t=1/trackID=1",
    "rtsp://h/live/y",
    "rtsp://h/live",
    "rtsp://h/other/x",
    "*",
];
/// Transports a peer may offer.
const TRANSPORTS: [&str; 8] = [
    "RTP/AVP/TCP;unicast;interleaved=0-1",
    "RTP/AVP/TCP;unicast;interleaved=2-3",
    "RTP/AVP/TCP;unicast",
    "RTP/AVP;unicast;client_port=5000-5001",
    "RTP/AVP;multicast",
    "RTP/AVP/UDP;unicast;client_port=5000-5001;mode=RECORD",
    "RTP/AVP;unicast;client_port=5000-5001;destination=192.0.2.9,RTP/AVP/TCP;interleaved=0-1",
    "",
];
const SDP: &str = "v=0\r\nm=audio 0 RTP/AVP 8\r\na=control:trackID=0\r\n";

/// A server under test, and the requests it owes an answer for.
struct Run {
    server: Server,
    now: Instant,
    inbox: BytesMut,
    outbox: BytesMut,
    reader: Reader,
    asked: u32,
    answered: u32,
    /// What the engine was last asked, by the kind of its answers.
    question: Option<Event>,
    publishing: bool,
    ended: bool,
}

impl Run {
    fn new() -> Self {
        let options = ServerOptions { limits: LIMITS, ..ServerOptions::default() };
        let now = crate::fuzzing::virtual_epoch();
        let peer = IpAddr::from([127, 0, 0, 1]);
        let addresses = Addresses { local: peer, peer };
        Self {
            server: Server::new(now, 1, Arc::new(options), addresses),
            now,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            reader: Reader::new(Limits::default()),
            asked: 0,
            answered: 0,
            question: None,
            publishing: false,
            ended: false,
        }
    }

    fn feed(&mut self) {
        let (waiting, before) = (self.server.pending.is_some(), self.inbox.len());
        let result = self.server.handle_input(self.now, Input::Stream(&mut self.inbox));
        assert!(!waiting || self.inbox.len() == before, "input rests until a decision");
        self.settle(result.is_err());
    }

    fn settle(&mut self, failed: bool) {
        assert!(!self.ended || !failed, "a session ends once");
        self.ended |= failed;
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Transmit(bytes) => self.outbox.extend_from_slice(&bytes),
                Output::Datagram { .. } => {}
                Output::Event(Event::Frame(_) | Event::Tracks(_)) => {
                    assert!(self.publishing, "media only of an accepted publication");
                }
                Output::Event(Event::PublishEnded) => self.publishing = false,
                Output::Event(
                    event @ (Event::PublishRequested(_)
                    | Event::PlayRequested(_)
                    | Event::DescribeRequested(_)
                    | Event::DatagramRequested { .. }
                    | Event::MulticastRequested { .. }),
                ) => self.question = Some(event),
                Output::Event(_) => {}
            }
        }
        loop {
            match self.reader.next_item(&mut self.outbox) {
                Ok(Some(Item::Response(_))) => self.answered += 1,
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => assert!(self.ended, "unreadable answer: {error}"),
            }
        }
        if matches!(self.server.phase, Phase::Ended) {
            assert_eq!(self.server.poll_timeout(), None);
        } else if self.server.pending.is_none() {
            let rests = matches!(&self.server.phase, Phase::Play(play) if play.needs_no_sign());
            assert!(rests || self.server.poll_timeout().is_some(), "something ends every session");
        }
    }

    fn command(&mut self, command: Command) {
        let result = self.server.handle_command(self.now, command);
        self.settle(result.is_err());
        self.feed();
    }

    /// Answers what the engine was asked, or refuses.
    fn decide(&mut self, choice: u8) {
        let Some(question) = self.question.take() else { return };
        if choice.is_multiple_of(4) {
            return self.command(Command::Reject(Refusal::Unsupported));
        }
        let command = match question {
            Event::DescribeRequested(_) => Command::Describe(sound()),
            Event::PlayRequested(_) => {
                let start = Some(RtpStart { sequence: 1, rtptime: 2 });
                Command::AcceptPlay { video: start, audio: start }
            }
            Event::DatagramRequested { track, .. } => {
                Command::DatagramPorts { track, rtp: 30_000, rtcp: 30_001 }
            }
            Event::MulticastRequested { track, .. } => Command::MulticastGroup {
                track,
                address: IpAddr::from([239, 1, 1, 1]),
                ports: (5000, 5001),
                ttl: 1,
            },
            _ => {
                self.publishing = true;
                Command::Accept
            }
        };
        self.command(command);
    }

    fn request(&mut self, choices: [u8; 4]) {
        let [method, url, transport, flags] = choices.map(usize::from);
        let method = Method::ALL[method % Method::ALL.len()];
        self.asked += 1;
        let mut text = format!("{} {} RTSP/1.0\r\n", method.name(), URLS[url % URLS.len()]);
        text += &format!("CSeq: {}\r\n", self.asked);
        let id = match &self.server.phase {
            Phase::Play(play) => Some(play.id.clone()),
            Phase::Publish(publish) => publish.id.clone(),
            Phase::Idle | Phase::Ended => None,
        };
        if let Some(id) = id.filter(|_| flags % 8 != 0) {
            text += &format!("Session: {id}\r\n");
        } else if flags % 16 == 1 {
            text += "Session: stolen\r\n";
        }
        if method == Method::Setup {
            text += &format!("Transport: {}\r\n", TRANSPORTS[transport % TRANSPORTS.len()]);
        }
        let body = if method == Method::Announce && flags % 16 != 2 { SDP } else { "" };
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        self.inbox.extend_from_slice(text.as_bytes());
        self.feed();
    }
}

fn sound() -> Arc<Tracks> {
    let info = AudioInfo { sample_rate: 8000, channels: 1, sample_bits: 16 };
    let audio = Track { codec: Codec::G711A, config: Bytes::new(), info };
    Tracks { audio: Some(audio), ..Tracks::default() }.shared()
}

/// Any bytes on a fresh connection.
pub fn bytes(data: &[u8]) {
    let mut run = Run::new();
    run.inbox.extend_from_slice(data);
    run.feed();
    run.decide(1);
}

/// Requests, packets, decisions and time, as the data picks them: every request is answered once, or
/// the session ends.
pub fn sequence(data: &[u8]) {
    let mut run = Run::new();
    for choices in data.chunks_exact(5) {
        let [kind, rest @ ..] = choices else { return };
        let rest: [u8; 4] = rest.try_into().unwrap_or_default();
        match kind % 8 {
            0 => run.decide(rest[0]),
            1 => {
                let packet =
                    [b'$', rest[0] % 6, 0, 12, 0x80, 8, 0, rest[1], 0, 0, 0, 0, 0, 0, 0, 1];
                run.inbox.extend_from_slice(&packet);
                run.feed();
            }
            2 => {
                if let Some(at) = run.server.poll_timeout().filter(|_| rest[0].is_multiple_of(4)) {
                    run.now = at;
                    let result = run.server.handle_input(run.now, Input::Timeout);
                    run.settle(result.is_err());
                }
            }
            3 => {
                let data = Bytes::copy_from_slice(&rest);
                let input =
                    Input::Datagram { track: rest[0] % 3, rtcp: rest[1].is_multiple_of(2), data };
                let result = run.server.handle_input(run.now, input);
                run.settle(result.is_err());
            }
            4 if rest[0] == 0 => run.command(Command::Close(Refusal::ShuttingDown)),
            _ => run.request(rest),
        }
        if run.ended || matches!(run.server.phase, Phase::Ended) {
            return;
        }
        let owed = u32::from(run.server.pending.is_some());
        if run.inbox.is_empty() {
            assert_eq!(run.asked, run.answered + owed, "one answer for each request");
        }
        if let Phase::Play(play) = &run.server.phase {
            assert!(play.state == PlayState::Ready || !run.publishing);
        }
    }
}
