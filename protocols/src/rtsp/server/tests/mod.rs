//! The server against scripts: a bench that plays client and engine in virtual time.

mod authorisation;
mod dialogues;
mod play;
mod publish;
mod states;
mod statuses;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::{Addresses, Phase, Server, ServerOptions};
use crate::media::{AudioInfo, Codec, Track, Tracks, VideoInfo};
use crate::rtsp::auth::server::Secret;
use crate::rtsp::message::Response;
use crate::rtsp::reader::{Item, Limits, Reader};
use crate::session::{Command, Event, Input, Output, Session, SessionError};

/// The only stream of most tests.
const URL: &str = "rtsp://h:8554/live/x";
/// A description of one track of G.711.
const SOUND: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=a\r\nt=0 0\r\n\
    m=audio 0 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na=control:streamid=0\r\n";
const TCP: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
const UDP: &str = "Transport: RTP/AVP;unicast;client_port=5000-5001\r\n";

/// A server and what came out of it.
struct Bench {
    server: Server,
    now: Instant,
    inbox: BytesMut,
    outbox: BytesMut,
    reader: Reader,
    responses: Vec<Response>,
    frames: Vec<(u8, Bytes)>,
    datagrams: Vec<(u8, bool, Bytes)>,
    events: Vec<Event>,
    end: Option<SessionError>,
    cseq: u32,
}

impl Bench {
    fn new() -> Self {
        Self::with(ServerOptions::default())
    }

    /// With a user `u` of password `p`.
    fn guarded() -> Self {
        let mut options = ServerOptions::default();
        options.access.users = vec![("u".to_owned(), Secret::Password("p".to_owned()))];
        Self::with(options)
    }

    fn with(options: ServerOptions) -> Self {
        let now = crate::fuzzing::virtual_epoch();
        let local = "192.0.2.1".parse().unwrap();
        let peer = "192.0.2.7".parse().unwrap();
        Self {
            server: Server::new(now, 7, Arc::new(options), Addresses { local, peer }),
            now,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            reader: Reader::new(Limits::default()),
            responses: Vec::new(),
            frames: Vec::new(),
            datagrams: Vec::new(),
            events: Vec::new(),
            end: None,
            cseq: 0,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        let result = self.server.handle_input(self.now, Input::Stream(&mut self.inbox));
        self.settle(result);
    }

    fn datagram(&mut self, track: u8, rtcp: bool, data: &[u8]) {
        let data = Bytes::copy_from_slice(data);
        let result = self.server.handle_input(self.now, Input::Datagram { track, rtcp, data });
        self.settle(result);
    }

    /// Lets that much time pass, with all that is due in it; something is at its end.
    fn expire(&mut self, ahead: Duration) {
        let end = self.now + ahead;
        while self.now < end {
            self.now = self.server.poll_timeout().unwrap();
            assert!(self.end.is_none() && self.now <= end);
            let result = self.server.handle_input(self.now, Input::Timeout);
            self.settle(result);
        }
    }

    fn engine(&mut self, command: Command) {
        let answers = command.answers();
        let result = self.server.handle_command(self.now, command);
        self.settle(result);
        if answers {
            self.feed(b"");
        }
    }

    fn settle(&mut self, result: Result<(), SessionError>) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Transmit(bytes) => self.outbox.extend_from_slice(&bytes),
                Output::Datagram { track, rtcp, data } => self.datagrams.push((track, rtcp, data)),
                Output::Event(event) => self.events.push(event),
            }
        }
        while let Some(item) = self.reader.next_item(&mut self.outbox).unwrap() {
            match item {
                Item::Response(response) => self.responses.push(response),
                Item::Interleaved { channel, data } => self.frames.push((channel, data)),
                Item::Request(request) => panic!("{request:?}"),
            }
        }
        if let Err(error) = result {
            assert!(self.end.is_none(), "a session ends once");
            assert!(matches!(self.server.phase, Phase::Ended));
            self.end = Some(error);
        }
    }

    /// Sends a request with further header lines; nothing may be waiting.
    fn ask(&mut self, method: &str, url: &str, lines: &str, body: &str) {
        self.cseq += 1;
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let text =
            format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n{lines}{length}\r\n{body}", self.cseq);
        self.feed(text.as_bytes());
    }

    /// The answer to the request before, which is the only thing that was said.
    fn answer(&mut self) -> Response {
        assert_eq!(self.responses.len(), 1, "{:?} {:?}", self.responses, self.events);
        let response = self.responses.remove(0);
        assert_eq!(response.fields.cseq(), Some(self.cseq));
        response
    }

    /// Status of a request that is answered at once.
    fn status(&mut self, method: &str, url: &str, lines: &str) -> u16 {
        self.ask(method, url, lines, "");
        self.answer().status.0
    }

    fn event(&mut self) -> Event {
        assert_eq!(self.events.len(), 1, "{:?} {:?}", self.events, self.responses);
        self.events.remove(0)
    }

    /// `Session` of the session there is, as a header line.
    fn session(&self) -> String {
        let id = match &self.server.phase {
            Phase::Play(play) => &play.id,
            Phase::Publish(publish) => publish.id.as_ref().unwrap(),
            Phase::Idle | Phase::Ended => panic!("no session"),
        };
        format!("Session: {id}\r\n")
    }

    /// Describes [`URL`] as having these tracks.
    fn describe(&mut self, tracks: Arc<Tracks>) -> Response {
        self.ask("DESCRIBE", URL, "Accept: application/sdp\r\n", "");
        assert!(matches!(self.event(), Event::DescribeRequested(_)));
        self.engine(Command::Describe(tracks));
        self.answer()
    }

    /// Sets that track up within the connection.
    fn set_up(&mut self, track: u8) {
        let lines =
            format!("Transport: RTP/AVP/TCP;interleaved={}-{}\r\n", track * 2, track * 2 + 1);
        assert_eq!(self.status("SETUP", &format!("{URL}/trackID={track}"), &lines), 200);
    }

    /// Plays what is set up.
    fn play(&mut self) {
        let session = self.session();
        self.ask("PLAY", URL, &session, "");
        assert!(matches!(self.event(), Event::PlayRequested(_)));
        self.engine(Command::AcceptPlay { video: None, audio: None });
        assert_eq!(self.answer().status.0, 200);
    }

    /// Announces [`SOUND`].
    fn announce(&mut self) {
        self.ask("ANNOUNCE", URL, "Content-Type: application/sdp\r\n", SOUND);
        assert!(matches!(self.event(), Event::PublishRequested(_)));
        self.engine(Command::Accept);
        assert_eq!(self.answer().status.0, 200);
    }

    /// Announces, sets up within the connection, records.
    fn record(&mut self) {
        self.announce();
        assert_eq!(self.status("SETUP", &format!("{URL}/streamid=0"), TCP), 200);
        let session = self.session();
        assert_eq!(self.status("RECORD", URL, &session), 200);
    }
}

fn video_track() -> Track<VideoInfo> {
    // x264, baseline, 64 × 36.
    const CONFIG: &[u8] =
        b"\x01\x42\xc0\x0a\xff\xe1\x00\x16\x67\x42\xc0\x0a\xda\x10\x9a\x6e\x02\x20\
        \x00\x00\x03\x00\x20\x00\x00\x06\x41\xe2\x44\xd4\x01\x00\x04\x68\xce\x0f\xc8";
    let info = VideoInfo { width: 64, height: 36, frame_rate: 25.0 };
    Track { codec: Codec::H264, config: Bytes::from_static(CONFIG), info }
}

fn audio_track() -> Track<AudioInfo> {
    let info = AudioInfo { sample_rate: 8000, channels: 1, sample_bits: 16 };
    Track { codec: Codec::G711A, config: Bytes::new(), info }
}

fn both() -> Arc<Tracks> {
    Tracks { video: Some(video_track()), audio: Some(audio_track()), ..Tracks::default() }.shared()
}

fn sound() -> Arc<Tracks> {
    Tracks { audio: Some(audio_track()), ..Tracks::default() }.shared()
}

/// One RTP packet of G.711.
fn packet(sequence: u16, timestamp: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 9]);
    packet.extend_from_slice(&[0xd5; 160]);
    packet
}

/// A packet within the connection.
fn framed(channel: u8, packet: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(crate::rtp::interleaved::write(channel, packet, &mut out));
    out
}
