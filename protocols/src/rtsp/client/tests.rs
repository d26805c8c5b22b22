//! The client against scripted servers, and against our own server over a virtual connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::media::{AudioInfo, Codec, Track, Tracks};
use crate::rtp::interleaved;
use crate::rtsp::auth::server::Secret;
use crate::rtsp::reader::Limits;
use crate::rtsp::server::{Addresses, Server, ServerOptions};
use crate::session::{Refusal, RtpTransport};

const URL: &str = "rtsp://u:p@h:8554/live/x?k=v";
const SOUND: &str = "v=0\r\ns=a\r\na=control:*\r\nm=audio 0 RTP/AVP 8\r\na=control:trackID=1\r\n";

/// A client, and what it said.
struct Bench {
    client: Client,
    now: Instant,
    outbox: BytesMut,
    reader: Reader,
    requests: Vec<Request>,
    events: Vec<Event>,
    datagrams: Vec<(u8, bool)>,
    end: Option<SessionError>,
}

impl Bench {
    fn new(preference: Preference) -> Self {
        let now = crate::fuzzing::virtual_epoch();
        let options = ClientOptions { preference, ..ClientOptions::new(URL).unwrap() };
        let mut bench = Self {
            client: Client::new(now, 1, Arc::new(options)),
            now,
            outbox: BytesMut::new(),
            reader: Reader::new(Limits::default()),
            requests: Vec::new(),
            events: Vec::new(),
            datagrams: Vec::new(),
            end: None,
        };
        bench.settle(Ok(()));
        bench
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut input = BytesMut::from(bytes);
        let result = self.client.handle_input(self.now, Input::Stream(&mut input));
        assert!(input.is_empty() || result.is_err());
        self.settle(result);
    }

    fn engine(&mut self, command: Command) {
        let result = self.client.handle_command(self.now, command);
        self.settle(result);
    }

    fn datagram(&mut self, data: &[u8]) {
        let data = Bytes::copy_from_slice(data);
        let input = Input::Datagram { track: 0, rtcp: false, data };
        let result = self.client.handle_input(self.now, input);
        self.settle(result);
    }

    /// Lets that much time pass, with all that is due in it; something is at its end.
    fn expire(&mut self, ahead: Duration) {
        let end = self.now + ahead;
        while self.now < end {
            self.now = self.client.poll_timeout().unwrap();
            assert!(self.end.is_none() && self.now <= end);
            let result = self.client.handle_input(self.now, Input::Timeout);
            self.settle(result);
        }
    }

    fn settle(&mut self, result: Result<(), SessionError>) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Transmit(bytes) => self.outbox.extend_from_slice(&bytes),
                Output::Datagram { track, rtcp, .. } => self.datagrams.push((track, rtcp)),
                Output::Event(event) => self.events.push(event),
            }
        }
        while let Some(item) = self.reader.next_item(&mut self.outbox).unwrap() {
            if let Item::Request(request) = item {
                self.requests.push(request);
            }
        }
        if let Err(error) = result {
            assert!(self.end.is_none() && self.client.state() == ClientState::Ended);
            self.end = Some(error);
        }
    }

    /// The only request of now: method and URL.
    fn request(&mut self) -> Request {
        assert_eq!(self.requests.len(), 1, "{:?} {:?}", self.requests, self.end);
        self.requests.remove(0)
    }

    fn expect(&mut self, method: &str, target: &str) -> Request {
        let request = self.request();
        assert_eq!((request.method.as_str(), request.target.as_str()), (method, target));
        request
    }

    /// Answers the last request.
    fn answer(&mut self, status: &str, lines: &str, body: &str) {
        let (cseq, length) = (self.client.cseq, body.len());
        self.feed(
            format!(
                "RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        );
    }

    /// Up to the first SETUP, or the question for ports.
    fn described(preference: Preference) -> Self {
        let mut bench = Self::new(preference);
        bench.expect("OPTIONS", "rtsp://h:8554/live/x?k=v");
        bench.answer("200 OK", "Public: DESCRIBE, GET_PARAMETER\r\n", "");
        let describe = bench.expect("DESCRIBE", "rtsp://h:8554/live/x?k=v");
        assert_eq!(describe.fields.get("Accept"), Some("application/sdp"));
        bench.answer("200 OK", "Content-Base: rtsp://h:8554/live/x/\r\n", SOUND);
        bench
    }

    /// Playing within the connection.
    fn playing() -> Self {
        let mut bench = Self::described(Preference::Interleaved);
        bench.finish_interleaved();
        bench
    }

    fn finish_interleaved(&mut self) {
        let setup = self.expect("SETUP", "rtsp://h:8554/live/x/trackID=1");
        let transport = setup.fields.get("Transport");
        assert_eq!(transport, Some("RTP/AVP/TCP;unicast;interleaved=0-1"));
        // The server has its own idea of channels.
        let lines = "Session: ab;timeout=40\r\nTransport: RTP/AVP/TCP;unicast;interleaved=6-7\r\n";
        self.answer("200 OK", lines, "");
        let play = self.expect("PLAY", "rtsp://h:8554/live/x/");
        assert_eq!(play.fields.get("Session"), Some("ab"));
        self.answer("200 OK", "", "");
        assert_eq!(self.client.state(), ClientState::Playing);
    }
}

/// One RTP packet of G.711.
fn packet(number: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend_from_slice(&(number as u16).to_be_bytes());
    packet.extend_from_slice(&(number * 160).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 9]);
    packet.extend_from_slice(&[0xd5; 160]);
    packet
}

fn framed(channel: u8, packet: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(interleaved::write(channel, packet, &mut out));
    out
}

fn frames(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Frame(_))).count()
}

#[test]
fn media_within_the_connection() {
    let mut bench = Bench::playing();
    for sequence in 0..10 {
        bench.feed(&framed(6, &packet(sequence)));
        bench.feed(&framed(0, &packet(sequence)));
    }
    assert!(matches!(bench.events.first(), Some(Event::Tracks(_))));
    assert_eq!(frames(&bench.events), 10);
    bench.engine(Command::Close(Refusal::ShuttingDown));
    let teardown = bench.expect("TEARDOWN", "rtsp://h:8554/live/x/");
    assert_eq!(teardown.fields.get("Session"), Some("ab"));
    assert_eq!((bench.client.state(), bench.client.poll_timeout()), (ClientState::Ended, None));
}

#[test]
fn signs_of_life_and_silence() {
    let mut bench = Bench::playing();
    bench.expire(Duration::from_secs(12));
    assert_eq!(bench.end.as_ref().map(|error| error.reason), Some("media_timeout"));

    let mut bench = Bench::playing();
    let keepalive = bench.now + Duration::from_secs(20);
    for (sequence, step) in [(0, 8), (1, 8)] {
        bench.now += Duration::from_secs(step);
        bench.feed(&framed(6, &packet(sequence)));
    }
    bench.now = keepalive;
    let result = bench.client.handle_input(bench.now, Input::Timeout);
    bench.settle(result);
    let alive = bench.expect("GET_PARAMETER", "rtsp://h:8554/live/x/");
    assert_eq!(alive.fields.get("Session"), Some("ab"));
    bench.answer("451 No", "", "");
    assert!(bench.end.is_none(), "an answer is an answer");
    bench.answer("454 Session Not Found", "", "");
    assert!(bench.end.is_none(), "an answer to nothing");

    let mut bench = Bench::new(Preference::Interleaved);
    bench.expire(Duration::from_secs(10));
    assert_eq!(bench.end.map(|error| error.reason), Some("request_timeout"));
}

#[test]
fn datagrams_and_the_way_back() {
    let mut bench = Bench::described(Preference::Datagram);
    let set_up = |bench: &mut Bench| {
        let Some(Event::DatagramRequested {
            track: 0,
            video: false,
            client_ports: (0, 0),
            publish: true,
        }) = bench.events.pop()
        else {
            panic!("not asked")
        };
        bench.engine(Command::DatagramPorts { track: 0, rtp: 6000, rtcp: 6001 });
        let setup = bench.expect("SETUP", "rtsp://h:8554/live/x/trackID=1");
        let transport = setup.fields.get("Transport");
        assert_eq!(transport, Some("RTP/AVP;unicast;client_port=6000-6001"));
        let transport =
            "RTP/AVP;unicast;client_port=6000-6001;server_port=7000-7001;source=192.0.2.5";
        bench.answer("200 OK", &format!("Session: ab\r\nTransport: {transport}\r\n"), "");
        let Some(Event::DatagramConnected { track: 0, ports: (7000, 7001), source }) =
            bench.events.pop()
        else {
            panic!("not told")
        };
        assert_eq!(source, "192.0.2.5".parse().ok());
        bench.expect("PLAY", "rtsp://h:8554/live/x/");
        bench.answer("200 OK", "", "");
    };
    set_up(&mut bench);
    bench.datagram(&packet(0));
    bench.datagram(&packet(1));
    assert_eq!(frames(&bench.events), 2);
    bench.expire(Duration::from_secs(12));
    assert_eq!(bench.end.map(|error| error.reason), Some("media_timeout"));

    let mut bench = Bench::described(Preference::Datagram);
    set_up(&mut bench);
    bench.expire(Duration::from_secs(5));
    assert!(matches!(bench.events.pop(), Some(Event::PlayEnded)));
    bench.expect("TEARDOWN", "rtsp://h:8554/live/x/");
    bench.answer("200 OK", "", "");
    bench.finish_interleaved();
}

#[test]
fn datagrams_refused_by_either_side() {
    let mut bench = Bench::described(Preference::Datagram);
    bench.engine(Command::DatagramPorts { track: 0, rtp: 6000, rtcp: 6001 });
    bench.requests.clear();
    bench.answer("461 Unsupported Transport", "", "");
    bench.finish_interleaved();

    let mut bench = Bench::described(Preference::Datagram);
    bench.engine(Command::Reject(Refusal::Overloaded));
    bench.finish_interleaved();

    let mut bench = Bench::described(Preference::Interleaved);
    bench.answer("461 Unsupported Transport", "", "");
    assert_eq!(
        bench.end.map(|error| error.detail).as_deref(),
        Some("SETUP: 461 Unsupported Transport")
    );
}

#[test]
fn datagrams_where_the_connection_is_refused() {
    let refused = |preference| {
        let mut bench = Bench::described(preference);
        bench.expect("SETUP", "rtsp://h:8554/live/x/trackID=1");
        bench.answer("461 Unsupported Transport", "", "");
        bench
    };
    let mut bench = refused(Preference::Any);
    assert!(matches!(bench.events.pop(), Some(Event::DatagramRequested { track: 0, .. })));
    bench.engine(Command::DatagramPorts { track: 0, rtp: 6000, rtcp: 6001 });
    let setup = bench.expect("SETUP", "rtsp://h:8554/live/x/trackID=1");
    assert_eq!(setup.fields.get("Transport"), Some("RTP/AVP;unicast;client_port=6000-6001"));
    let transport = "RTP/AVP;unicast;client_port=6000-6001;server_port=7000-7001";
    bench.answer("200 OK", &format!("Session: ab\r\nTransport: {transport}\r\n"), "");
    bench.expect("PLAY", "rtsp://h:8554/live/x/");
    bench.answer("200 OK", "", "");
    bench.datagram(&packet(0));
    assert_eq!(frames(&bench.events), 1);
    // There is no third way.
    bench.expire(Duration::from_secs(12));
    assert_eq!(bench.end.map(|error| error.reason), Some("media_timeout"));

    let mut bench = refused(Preference::Any);
    bench.engine(Command::Reject(Refusal::Overloaded));
    assert_eq!(bench.end.map(|error| error.reason), Some("overloaded"));
    let bench = refused(Preference::Interleaved);
    assert_eq!(bench.end.map(|error| error.reason), Some("server_refused"));
}

#[test]
fn servers_that_send_us_elsewhere() {
    for (location, expected) in [
        ("rtsp://i/live/x", "rtsp://i/live/x"),
        ("/other/x", "rtsp://h:8554/other/x"),
        ("y", "rtsp://h:8554/live/y"),
    ] {
        let mut bench = Bench::new(Preference::Any);
        bench.answer("302 Found", &format!("Location: {location}\r\n"), "");
        let event = bench.events.pop();
        assert!(matches!(&event, Some(Event::Redirected(url)) if url == expected), "{event:?}");
    }
    let mut bench = Bench::new(Preference::Interleaved);
    bench.answer("302 Found", "Location: rtsp://i/live/x\r\n", "");
    assert!(matches!(bench.events.pop(), Some(Event::Redirected(url)) if url == "rtsp://i/live/x"));
    assert!(bench.end.is_none() && bench.client.state() == ClientState::Ended);

    let mut bench = Bench::playing();
    bench.feed(b"REDIRECT a RTSP/1.0\r\nCSeq: 77\r\nLocation: rtsp://i/live/x\r\n\r\n");
    assert!(matches!(bench.events.pop(), Some(Event::Redirected(_))));

    for location in ["", "Location: http://i/\r\n", "Location: rtsp://a b\r\n"] {
        let mut bench = Bench::new(Preference::Interleaved);
        bench.answer("301 Moved", location, "");
        assert_eq!(bench.end.map(|error| error.reason), Some("bad_response"), "{location}");
    }
}

#[test]
fn servers_that_ask_and_servers_that_leave() {
    let mut bench = Bench::playing();
    for (request, status) in
        [("OPTIONS", 200), ("GET_PARAMETER", 200), ("PLAY", 501), ("TEARDOWN", 200)]
    {
        let mut input =
            BytesMut::from(format!("{request} * RTSP/1.0\r\nCSeq: 5\r\n\r\n").as_bytes());
        bench.client.handle_input(bench.now, Input::Stream(&mut input)).unwrap();
        let Some(Output::Transmit(said)) = bench.client.poll_output() else { panic!("{request}") };
        let said = String::from_utf8(said.to_vec()).unwrap();
        assert!(said.starts_with(&format!("RTSP/1.0 {status} ")), "{said}");
    }
    assert!(matches!(bench.client.poll_output(), Some(Output::Event(Event::PublishEnded))));
    assert_eq!(bench.client.state(), ClientState::Ended);
}

#[test]
fn answers_that_cannot_be_used() {
    let cases: [(&str, &str, &str, &str); 5] = [
        ("404 Not Found", "", "", "stream_not_found"),
        ("401 Unauthorized", "WWW-Authenticate: Bearer\r\n", "", "server_refused"),
        ("200 OK", "", "no description", "bad_response"),
        ("200 OK", "", "v=0\r\n", "bad_response"),
        ("200 OK", "", "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 x/1\r\n", "no_tracks"),
    ];
    for (status, lines, body, reason) in cases {
        let mut bench = Bench::new(Preference::Interleaved);
        bench.answer("501 Not Implemented", "", "");
        bench.answer(status, lines, body);
        assert_eq!(bench.end.map(|error| error.reason), Some(reason), "{status} {body}");
    }
    for lines in [
        "",
        "Session: a\r\n",
        "Session: a\r\nTransport: RTP/AVP;multicast\r\n",
        "Session: a\r\nTransport: RTP/AVP/TCP;interleaved=255\r\n",
        "Transport: RTP/AVP/TCP;interleaved=0-1\r\n",
    ] {
        let mut bench = Bench::described(Preference::Interleaved);
        bench.answer("200 OK", lines, "");
        assert_eq!(bench.end.map(|error| error.reason), Some("bad_response"), "{lines}");
    }
}

/// A client and our own server, joined by two byte streams cut as the seed picks.
struct Pair {
    client: Client,
    server: Server,
    now: Instant,
    /// On their way, and arrived.
    up: BytesMut,
    to_server: BytesMut,
    down: BytesMut,
    to_client: BytesMut,
    pieces: u64,
    transport: Option<RtpTransport>,
    sent: u32,
    received: Vec<i64>,
    tracks: usize,
    requests: usize,
}

impl Pair {
    fn new(seed: u64, preference: Preference, guarded: bool) -> Self {
        let now = crate::fuzzing::virtual_epoch();
        let mut options = ServerOptions::default();
        if guarded {
            options.access.users = vec![("u".to_owned(), Secret::Password("p".to_owned()))];
        }
        let address = "192.0.2.1".parse().unwrap();
        let addresses = Addresses { local: address, peer: address };
        let wanted = ClientOptions { preference, ..ClientOptions::new(URL).unwrap() };
        Self {
            client: Client::new(now, seed, Arc::new(wanted)),
            server: Server::new(now, seed + 1, Arc::new(options), addresses),
            now,
            up: BytesMut::new(),
            to_server: BytesMut::new(),
            down: BytesMut::new(),
            to_client: BytesMut::new(),
            pieces: seed | 1,
            transport: None,
            sent: 0,
            received: Vec::new(),
            tracks: 0,
            requests: 0,
        }
    }

    fn piece(&mut self, available: usize) -> usize {
        self.pieces ^= self.pieces << 13;
        self.pieces ^= self.pieces >> 7;
        self.pieces ^= self.pieces << 17;
        (self.pieces % 97) as usize % available + 1
    }

    /// One event of the server, as an engine with one stream of G.711 answers it.
    fn serve(&mut self, event: Event) {
        let info = AudioInfo { sample_rate: 8000, channels: 1, sample_bits: 16 };
        let audio = Track { codec: Codec::G711A, config: Bytes::new(), info };
        let command = match event {
            Event::DescribeRequested(access) => {
                assert_eq!((&*access.name, &*access.query), ("x", "k=v"));
                let tracks = Tracks { audio: Some(audio), ..Tracks::default() };
                Command::Describe(tracks.shared())
            }
            Event::PlayRequested(access) => {
                assert_eq!((&*access.name, &*access.query), ("x", "k=v"));
                self.transport = access.transport;
                Command::Accept
            }
            Event::DatagramRequested { .. } => Command::Reject(Refusal::Unsupported),
            Event::PlayEnded => {
                self.transport = None;
                return;
            }
            other => panic!("{other:?}"),
        };
        self.server.handle_command(self.now, command).unwrap();
    }

    fn drain(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(output) = self.server.poll_output() {
                quiet = false;
                match output {
                    Output::Transmit(bytes) => self.down.extend_from_slice(&bytes),
                    Output::Event(event) => self.serve(event),
                    Output::Datagram { .. } => panic!("no datagrams here"),
                }
            }
            while let Some(output) = self.client.poll_output() {
                quiet = false;
                match output {
                    Output::Transmit(bytes) => {
                        self.requests += usize::from(bytes.first() != Some(&b'$'));
                        self.up.extend_from_slice(&bytes);
                    }
                    Output::Event(Event::Tracks(_)) => self.tracks += 1,
                    Output::Event(Event::Frame(frame)) => self.received.push(frame.dts.to_millis()),
                    Output::Event(Event::DatagramRequested { track, .. }) => {
                        let ports = Command::DatagramPorts { track, rtp: 6000, rtcp: 6001 };
                        self.client.handle_command(self.now, ports).unwrap();
                    }
                    Output::Event(Event::PlayEnded) => {}
                    Output::Event(other) => panic!("{other:?}"),
                    Output::Datagram { .. } => panic!("no datagrams here"),
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// Delivers a piece each way; with `media` a packet every 20 ms goes along once it plays.
    fn step(&mut self) {
        self.drain();
        if let Some(RtpTransport::Interleaved(channels)) = self.transport {
            self.down.extend_from_slice(&framed(channels.audio, &packet(self.sent)));
            self.sent += 1;
        }
        if !self.up.is_empty() {
            let count = self.piece(self.up.len());
            self.to_server.extend_from_slice(&self.up.split_to(count.min(self.up.len())));
        }
        if !self.down.is_empty() {
            let count = 4 * self.piece(self.down.len());
            self.to_client.extend_from_slice(&self.down.split_to(count.min(self.down.len())));
        }
        self.server.handle_input(self.now, Input::Stream(&mut self.to_server)).unwrap();
        self.drain();
        self.client.handle_input(self.now, Input::Stream(&mut self.to_client)).unwrap();
        self.drain();
        self.now += Duration::from_millis(20);
        if self.client.poll_timeout().is_some_and(|at| at <= self.now) {
            self.client.handle_input(self.now, Input::Timeout).unwrap();
        }
        if self.server.poll_timeout().is_some_and(|at| at <= self.now) {
            self.server.handle_input(self.now, Input::Timeout).unwrap();
        }
        self.drain();
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
    }
}

#[test]
fn our_client_pulls_from_our_server_however_the_bytes_are_cut() {
    for seed in 1..40 {
        for (preference, guarded) in [
            (Preference::Interleaved, false),
            (Preference::Interleaved, true),
            (Preference::Datagram, true),
        ] {
            let mut pair = Pair::new(seed, preference, guarded);
            pair.run(400);
            assert_eq!(pair.client.state(), ClientState::Playing, "seed {seed}");
            let count = pair.received.len();
            assert!(count > 100 && pair.tracks == 1, "seed {seed}: {count} frames");
            assert!(pair.received.windows(2).all(|two| two[1] - two[0] == 20), "seed {seed}");
        }
    }
}

#[test]
fn hours_of_keeping_alive() {
    let mut pair = Pair::new(5, Preference::Interleaved, true);
    pair.run(400);
    let before = pair.requests;
    // The session of 60 s is kept alive every 30 s, past the life of many nonces.
    pair.run(30 * 60 * 50);
    assert_eq!(pair.client.state(), ClientState::Playing);
    assert!((59..=62).contains(&(pair.requests - before)), "{} requests", pair.requests - before);
}
