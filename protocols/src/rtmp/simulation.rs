//! A publisher, two server sessions, a relay and a player over links that cut and delay, in
//! virtual time: every frame must come out as it went in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::codec::h264;
use crate::container::flv::{self, Dialect};
use crate::hops::Hops;
use crate::media::{AudioInfo, Codec, Frame, FrameKind, Timestamp, Track, Tracks, VideoInfo};
use crate::session::{
    Command as EngineCommand, ErrorClass, Event, Input, Output, Refusal, Session, SessionError,
};

use super::chunk::Limits;
use super::client::{Client, ClientOptions, ClientState, Role};
use super::server::{Server, ServerOptions};
use super::{egress, wire};

const FRAMES: usize = 60;
const SEEDS: u64 = 200;
const LEGACY_H265_ID: u8 = 12;
const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
    0x00, 0x00, 0x03, 0x00, 0x32, 0x0f, 0x16, 0x2e, 0x48,
];
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// One direction of a connection: bytes under way, and those that have arrived unread.
#[derive(Default)]
struct Pipe {
    under_way: VecDeque<(Instant, Bytes)>,
    inbox: BytesMut,
}

impl Pipe {
    fn send(&mut self, at: Instant, bytes: Bytes) {
        let at = self.under_way.back().map_or(at, |(last, _)| at.max(*last));
        self.under_way.push_back((at, bytes));
    }

    /// Moves what is due to the inbox, cut at random; whether anything came.
    fn deliver(&mut self, now: Instant, random: &mut Random) -> bool {
        let before = self.inbox.len();
        while let Some((at, bytes)) = self.under_way.front_mut() {
            if *at > now {
                break;
            }
            let cut = match random.below(8) {
                0 => 1,
                1 => 1 + random.below(20) as usize,
                _ => bytes.len(),
            };
            let cut = cut.min(bytes.len());
            self.inbox.extend_from_slice(&bytes.split_to(cut));
            if !bytes.is_empty() {
                break;
            }
            self.under_way.pop_front();
        }
        self.inbox.len() > before
    }
}

/// A client and its server session with both directions between them.
struct Connection {
    client: Client,
    server: Server,
    up: Pipe,
    down: Pipe,
    /// When the engine will have decided.
    decision_at: Option<Instant>,
    message_stream_id: u32,
    from_client: Vec<Event>,
    from_server: Vec<Event>,
}

impl Connection {
    fn new(now: Instant, role: Role, options: &Arc<ServerOptions>, random: &mut Random) -> Self {
        let client_options = ClientOptions {
            app: "live".to_owned(),
            tc_url: "rtmp://h/live".to_owned(),
            stream: "x?k=v".to_owned(),
            role,
            chunk_size: 1 + random.below(6000) as u32,
            type3_extended_timestamp: options.type3_extended_timestamp,
            enhanced: random.below(2) == 0,
            flash_ver: "simulation".to_owned(),
            limits: options.limits,
            legacy_h265_id: LEGACY_H265_ID,
            credentials: None,
            auth: None,
            hops: Hops::default(),
            start_timeout: None,
        };
        Self {
            client: Client::new(now, random.below(u64::MAX), Arc::new(client_options)),
            server: Server::new(now, random.below(u64::MAX), Arc::clone(options)),
            up: Pipe::default(),
            down: Pipe::default(),
            decision_at: None,
            message_stream_id: 0,
            from_client: Vec::new(),
            from_server: Vec::new(),
        }
    }

    fn step(&mut self, now: Instant, random: &mut Random) {
        self.try_step(now, random).unwrap();
    }

    /// An error is that of the client, or of the server while the client has none.
    fn try_step(&mut self, now: Instant, random: &mut Random) -> Result<(), SessionError> {
        let mut result = Ok(());
        if self.up.deliver(now, random) {
            result = self.server.handle_input(now, Input::Stream(&mut self.up.inbox));
        }
        if self.decision_at.is_some_and(|at| at <= now) {
            self.decision_at = None;
            self.server.handle_command(now, EngineCommand::Accept)?;
            self.drain(now, random);
            result = self.server.handle_input(now, Input::Stream(&mut self.up.inbox));
        }
        if self.down.deliver(now, random) {
            let client = self.client.handle_input(now, Input::Stream(&mut self.down.inbox));
            result = client.and(result);
        }
        self.drain(now, random);
        result
    }

    fn drain(&mut self, now: Instant, random: &mut Random) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Transmit(bytes) => self.down.send(later(now, random), bytes),
                Output::Event(Event::PublishRequested(to) | Event::PlayRequested(to)) => {
                    assert_eq!(
                        (&*to.host, &*to.app, &*to.name, &*to.query),
                        ("h", "live", "x", "k=v")
                    );
                    self.message_stream_id = to.message_stream_id;
                    self.decision_at = Some(later(now, random));
                }
                Output::Event(event) => self.from_server.push(event),
                Output::Datagram { .. } => panic!("RTMP has no datagrams"),
            }
        }
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Transmit(bytes) => self.up.send(later(now, random), bytes),
                Output::Event(event) => self.from_client.push(event),
                Output::Datagram { .. } => panic!("RTMP has no datagrams"),
            }
        }
    }
}

fn later(now: Instant, random: &mut Random) -> Instant {
    now + Duration::from_millis(random.below(50))
}

/// Writes what a stream owner hands to all players of it.
struct Relay {
    options: Arc<ServerOptions>,
    dialect: Dialect,
    tracks: Arc<Tracks>,
    /// Tracks not yet announced to the player.
    changed: bool,
}

impl Relay {
    fn package(&mut self, event: &Event, message_stream_id: u32) -> Vec<u8> {
        let mut out = Vec::new();
        match event {
            Event::Tracks(tracks) => {
                self.tracks = Arc::clone(tracks);
                self.changed = true;
            }
            Event::Frame(frame) => {
                let time = flv::Timeline::wrap(frame.dts);
                if std::mem::take(&mut self.changed) {
                    let bodies = flv::configuration(&self.tracks, self.dialect, "relay");
                    for (tag, body) in bodies {
                        self.write(&mut out, tag, message_stream_id, time, &[&body]);
                    }
                }
                let (tag, head) = flv::frame_head(&self.tracks, frame, self.dialect).unwrap();
                self.write(&mut out, tag, message_stream_id, time, &[&head, &frame.payload]);
            }
            other => panic!("unexpected {other:?}"),
        }
        out
    }

    fn write(
        &self,
        out: &mut Vec<u8>,
        tag: flv::TagType,
        message_stream_id: u32,
        time: u32,
        parts: &[&[u8]],
    ) {
        assert!(wire::write_message(
            out,
            self.options.chunk_size,
            self.options.type3_extended_timestamp,
            egress::chunk_stream_id(tag),
            tag as u8,
            message_stream_id,
            time,
            parts,
        ));
    }
}

fn tracks() -> Tracks {
    let config = h264::build_config(&[SPS], &[PPS]).unwrap();
    Tracks {
        video: Some(Track {
            codec: Codec::H264,
            config: config.into(),
            info: VideoInfo { width: 640, height: 360, frame_rate: 25.0 },
        }),
        audio: Some(Track {
            codec: Codec::Aac,
            config: Bytes::from_static(&[0x12, 0x10]),
            info: AudioInfo { sample_rate: 44_100, channels: 2, sample_bits: 16 },
        }),
        metadata: Vec::new(),
        legacy_flv: false,
    }
}

/// Pictures and sound by turns, 20 ms apart.
fn frames(start_ms: i64, random: &mut Random) -> Vec<Frame> {
    (0..FRAMES)
        .map(|index| {
            let size = 1 + random.below(if index % 10 == 0 { 20_000 } else { 800 }) as usize;
            let noise = || (0..size).map(|at| (at * 31 + index) as u8);
            let nal = |head: u8| {
                let length = (size as u32 + 1).to_be_bytes();
                length.into_iter().chain([head]).chain(noise()).collect::<Bytes>()
            };
            let (kind, payload, offset_ms) = match index % 10 {
                0 => (FrameKind::Keyframe, nal(0x65), 80),
                1 | 3 | 5 | 7 | 9 => (FrameKind::Audio, noise().collect(), 0),
                _ => (FrameKind::Inter, nal(0x41), 40),
            };
            Frame {
                kind,
                dts: Timestamp::from_millis(start_ms + index as i64 * 20),
                composition_offset: offset_ms * 1_000_000,
                payload,
            }
        })
        .collect()
}

fn received(events: &[Event]) -> Vec<&Frame> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Frame(frame) => Some(frame),
            _ => None,
        })
        .collect()
}

fn simulate(seed: u64, start_ms: i64, type3_extended_timestamp: bool) {
    let random = &mut Random(seed);
    let options = Arc::new(ServerOptions {
        chunk_size: 1 + random.below(8000) as u32,
        window_ack_size: 1 + random.below(20_000) as u32,
        type3_extended_timestamp,
        limits: Limits { reassembly_bytes: 1 << 20, chunk_streams: 16, message_bytes: 1 << 20 },
        ..ServerOptions::default()
    });
    let mut now = crate::fuzzing::virtual_epoch();
    let mut publisher = Connection::new(now, Role::Publish, &options, random);
    let mut player = Connection::new(now, Role::Play, &options, random);
    let tracks = tracks();
    let sent = frames(start_ms, random);
    let mut relay = Relay {
        dialect: Dialect { enhanced: random.below(2) == 0, legacy_h265_id: LEGACY_H265_ID },
        options,
        tracks: Arc::default(),
        changed: false,
    };
    let (mut next, mut relayed) = (0, 0);
    for _ in 0..20_000 {
        now += Duration::from_millis(5);
        publisher.step(now, random);
        player.step(now, random);
        if publisher.client.state() == ClientState::Ready
            && next < sent.len()
            && random.below(2) == 0
        {
            if next == 0 {
                publisher.client.send_tracks(&tracks);
            }
            publisher.client.send_frame(&tracks, &sent[next]);
            next += 1;
        }
        while player.server.is_playing() && relayed < publisher.from_server.len() {
            let bytes = relay.package(&publisher.from_server[relayed], player.message_stream_id);
            player.down.send(later(now, random), bytes.into());
            relayed += 1;
        }
        if received(&player.from_client).len() == sent.len() {
            break;
        }
    }
    let expected: Vec<_> = sent.iter().collect();
    assert_eq!(received(&publisher.from_server), expected, "seed {seed}, at the server");
    assert_eq!(received(&player.from_client), expected, "seed {seed}, at the player");
    let first = player.from_client.iter().find_map(|event| match event {
        Event::Tracks(tracks) if tracks.video.is_some() && tracks.audio.is_some() => Some(tracks),
        _ => None,
    });
    let first = first.expect("the player learns the tracks");
    assert_eq!(
        first.video.as_ref().map(|track| &track.config),
        tracks.video.map(|t| t.config).as_ref()
    );
    assert_eq!(
        first.audio.as_ref().map(|track| &track.config),
        tracks.audio.map(|t| t.config).as_ref()
    );
}

/// Each starts a little before a place where timestamps have gone wrong.
#[test]
fn every_frame_arrives_as_sent() {
    let starts = [0, 0xFF_FFFF, 1 << 31, 1 << 32];
    for seed in 0..SEEDS {
        let edge: i64 = starts[(seed % 4) as usize];
        let start_ms = (edge - 20 * (1 + seed as i64 / 4 % FRAMES as i64)).max(0);
        simulate(seed, start_ms, seed / 4 % 2 == 0);
    }
}

/// Runs one connection until the client has ended or is ready.
fn settle(app: &str, role: Role) -> (Connection, Result<(), SessionError>) {
    let random = &mut Random(1);
    let mut now = crate::fuzzing::virtual_epoch();
    let options = ServerOptions { live_apps: vec![app.to_owned()], ..ServerOptions::default() };
    let mut connection = Connection::new(now, role, &Arc::new(options), random);
    let mut result = Ok(());
    while connection.client.state() == ClientState::Connecting {
        now += Duration::from_millis(5);
        result = connection.try_step(now, random);
    }
    (connection, result)
}

#[test]
fn a_refused_client_learns_the_code() {
    let (_, result) = settle("other", Role::Publish);
    let error = result.unwrap_err();
    assert_eq!((error.class, error.reason), (ErrorClass::Refused, "server_refused"));
    assert!(error.detail.starts_with("NetConnection.Connect.Rejected: "), "{}", error.detail);
}

#[test]
fn a_client_takes_leave() {
    for role in [Role::Publish, Role::Play] {
        let (mut connection, result) = settle("live", role);
        assert_eq!(result, Ok(()));
        let now = crate::fuzzing::virtual_epoch() + Duration::from_secs(60);
        connection.client.handle_command(now, EngineCommand::Close(Refusal::ShuttingDown)).unwrap();
        let random = &mut Random(2);
        for second in 0..100 {
            connection.step(now + Duration::from_secs(second), random);
        }
        let ended = connection.from_server.last();
        assert!(matches!(ended, Some(Event::PublishEnded | Event::PlayEnded)), "{ended:?}");
    }
}
