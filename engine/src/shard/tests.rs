//! Whole shards on one thread, turned by hand: publishers are scripted, viewers are sockets.

use std::collections::VecDeque;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocols::container::flv::{TagReader, TagType};
use protocols::hops::Hops;
use protocols::media::{Codec, Frame, FrameKind, Timestamp, Track, Tracks, VideoInfo};
use protocols::session::{AccessRequest, Command, Event, Input, Output, Session, SessionError};

use super::*;
use crate::clock;
use crate::conn::{CloseReason, Conn, Protocol, Role};
use crate::http::live::LiveSession;
use crate::http::server::{MediaKind, MediaRequest};
use crate::observe::DropReason;
use crate::ring::{Mesh, Token};
use crate::stream::Container;

pub(super) const HTTP_FLV: MediaKind = MediaKind { container: Container::Flv, websocket: false };

/// Several shards without executors.
pub(super) struct World {
    pub(super) shards: Vec<Shard>,
    pub(super) now: Instant,
}

/// What a scripted session says next, shared with the test.
pub(super) type Script = Arc<Mutex<VecDeque<Output>>>;

pub(super) struct Scripted(pub(super) Script);

impl Session for Scripted {
    fn handle_input(&mut self, _: Instant, _: Input<'_>) -> Result<(), SessionError> {
        Ok(())
    }
    fn handle_command(&mut self, _: Instant, _: Command) -> Result<(), SessionError> {
        Ok(())
    }
    fn poll_output(&mut self) -> Option<Output> {
        self.0.lock().unwrap().pop_front()
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn memory_bytes(&self) -> usize {
        0
    }
}

struct Panicking;

impl Session for Panicking {
    fn handle_input(&mut self, _: Instant, _: Input<'_>) -> Result<(), SessionError> {
        panic!("on purpose")
    }
    fn handle_command(&mut self, _: Instant, _: Command) -> Result<(), SessionError> {
        Ok(())
    }
    fn poll_output(&mut self) -> Option<Output> {
        None
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn memory_bytes(&self) -> usize {
        0
    }
}

impl World {
    pub(super) fn new(shards: usize, ring_depth: usize, change: impl Fn(&mut Config)) -> Self {
        let now = clock::now();
        let mut config = Config::default();
        change(&mut config);
        let (ends, _) = Mesh::new(shards, ring_depth, 64).into_ends();
        let rules = Arc::new(Rules::load(&config).unwrap());
        let shared = Shared {
            rules,
            comparer: None,
            config: Arc::new(config),
            tls: None,
            beats: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            nudges: (0..shards).map(|_| Arc::new(Nudge::new(now))).collect(),
            started: now,
            started_unix_ms: 0,
            ports: Arc::default(),
            base_bytes: Arc::default(),
            policy: ActivePolicy::none(),
            node: NodeId(1),
            resolver: None,
            upkeep: Arc::default(),
            event_counts: Arc::default(),
            applied: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            reloader: Arc::default(),
        };
        let shards = ends
            .into_iter()
            .map(|end| Shard::new(end, shared.clone(), Vec::new(), 1, now).unwrap())
            .collect();
        Self { shards, now }
    }

    /// Turns every shard until all queues are empty.
    pub(super) fn settle(&mut self) {
        for _ in 0..6 {
            for shard in &mut self.shards {
                shard.turn_for_test(self.now);
            }
        }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.settle();
    }

    pub(super) fn connect(
        &mut self,
        shard: usize,
        protocol: Protocol,
        session: Box<dyn Session>,
    ) -> (Token, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let peer = ([127, 0, 0, 1], 9).into();
        let shard = &mut self.shards[shard];
        let id = shard.plane.next_id();
        let mut conn = Conn::new(id, OwnedFd::from(ours), peer, protocol, self.now);
        conn.session = Some(session);
        let slot = shard.plane.insert(conn).unwrap();
        let token = shard.plane.token(slot);
        let now = self.now;
        shard.guarded(token, now, |shard, slot| shard.feed(slot, BytesMut::new(), now));
        (token, theirs)
    }

    pub(super) fn publish(&mut self, shard: usize, name: &str) -> (Token, Script, UnixStream) {
        self.publish_from(shard, name, Hops::default())
    }

    /// The same by a server of our kind.
    pub(super) fn publish_from(
        &mut self,
        shard: usize,
        name: &str,
        hops: Hops,
    ) -> (Token, Script, UnixStream) {
        let (app, name) = ("live".into(), name.into());
        let request = AccessRequest { app, name, hops, ..AccessRequest::default() };
        let script = Script::default();
        script.lock().unwrap().push_back(Output::Event(Event::PublishRequested(request)));
        let session = Box::new(Scripted(Arc::clone(&script)));
        let (token, socket) = self.connect(shard, Protocol::Rtmp, session);
        self.settle();
        self.say(shard, token, &script, Output::Event(Event::Tracks(tracks())));
        (token, script, socket)
    }

    pub(super) fn say(&mut self, shard: usize, token: Token, script: &Script, output: Output) {
        script.lock().unwrap().push_back(output);
        let now = self.now;
        self.shards[shard]
            .guarded(token, now, |shard, slot| shard.feed(slot, BytesMut::new(), now));
        self.settle();
    }

    pub(super) fn watch(
        &mut self,
        shard: usize,
        name: &str,
        kind: MediaKind,
    ) -> (Token, UnixStream) {
        self.watch_with(shard, name, kind, "", Hops::default())
    }

    pub(super) fn watch_with(
        &mut self,
        shard: usize,
        name: &str,
        kind: MediaKind,
        query: &str,
        hops: Hops,
    ) -> (Token, UnixStream) {
        let request = MediaRequest {
            admittance: None,
            host: String::new(),
            port: None,
            app: "live".into(),
            name: name.into(),
            query: query.into(),
            agent: String::new(),
            hops,
            kind,
            websocket_accept: None,
            keep_http11: true,
            peer: ([127, 0, 0, 1], 9).into(),
        };
        let seen =
            self.connect(shard, Protocol::Live(HTTP_FLV), Box::new(LiveSession::new(request)));
        self.settle();
        seen
    }
}

fn tracks() -> Arc<Tracks> {
    let config = Bytes::from_static(&[1, 0x42, 0, 0x1e, 0xff, 0xe0, 0]);
    let info = VideoInfo::default();
    let video = Some(Track { codec: Codec::H264, config, info });
    Tracks { video, ..Tracks::default() }.shared()
}

pub(super) fn frame(n: i64, gop: i64, size: usize) -> Output {
    let kind = if n % gop == 0 { FrameKind::Keyframe } else { FrameKind::Inter };
    let dts = Timestamp::from_millis(n * 40);
    let payload = Bytes::from(vec![u8::try_from(n % 251).unwrap(); size]);
    Output::Event(Event::Frame(Frame { kind, dts, composition_offset: 0, payload }))
}

/// Everything a viewer has been sent: the video tags after the HTTP head.
pub(super) fn received(socket: &mut UnixStream, buffer: &mut BytesMut) {
    let mut chunk = [0; 65536];
    while let Ok(count) = socket.read(&mut chunk) {
        if count == 0 {
            break;
        }
        buffer.extend_from_slice(&chunk[..count]);
    }
}

fn video_tags(buffer: &BytesMut) -> Vec<(u32, bool, usize)> {
    let head = buffer.windows(4).position(|w| w == b"\r\n\r\n").expect("an HTTP head") + 4;
    let mut body = BytesMut::from(&buffer[head..]);
    let mut reader = TagReader::new(1 << 24);
    let mut tags = Vec::new();
    while let Some((tag, at, bytes)) = reader.next_tag(&mut body).expect("whole tags") {
        // Not the sequence header: AVC packet type 1.
        if tag == TagType::Video && bytes[1] == 1 {
            assert!(bytes[5..].iter().all(|byte| *byte == bytes[5]), "a torn picture");
            tags.push((at, bytes[0] >> 4 == 1, bytes.len()));
        }
    }
    tags
}

#[test]
fn a_panic_in_one_session_ends_that_session_alone() {
    let mut world = World::new(1, 64, |_| {});
    let (token, script, _publisher) = world.publish(0, "x");
    let (_, mut viewer) = world.watch(0, "x", HTTP_FLV);
    let (victim, _socket) = world.connect(0, Protocol::Rtmp, Box::new(Panicking));
    let shard = &world.shards[0];
    assert_eq!(shard.counters.panics, 1);
    assert_eq!(shard.plane.slot(victim), None);
    assert_eq!(shard.counters.closed.get(&("rtmp", "panic")), Some(&1));
    for n in 0..10 {
        world.say(0, token, &script, frame(n, 5, 100));
    }
    let mut seen = BytesMut::new();
    received(&mut viewer, &mut seen);
    assert_eq!(video_tags(&seen).len(), 10);
}

#[test]
fn a_frame_crosses_once_to_each_shard_with_viewers() {
    // The owner is fixed by the name: find names whose owner is not the publisher's shard.
    let shards = 4;
    let owner_is = |owner: usize| {
        (0..).map(|n| format!("s{n}")).find(|name| {
            let key = StreamKey::new("", "live", name).unwrap();
            owner_of(&key, shards).index() == owner
        })
    };
    for (owner, viewers, per_frame) in
        [(0, vec![0, 0], 0), (0, vec![1, 1, 1], 1), (1, vec![2, 2, 3], 3)]
    {
        let name = owner_is(owner).unwrap();
        let mut world = World::new(shards, 1024, |_| {});
        let (token, script, _publisher) = world.publish(0, &name);
        let mut sockets: Vec<_> =
            viewers.iter().map(|shard| world.watch(*shard, &name, HTTP_FLV).1).collect();
        world.say(0, token, &script, frame(0, 50, 100));
        let sent = |world: &World| {
            world.shards.iter().flat_map(|shard| &shard.mesh.media_sent).sum::<u64>()
        };
        let before = sent(&world);
        for n in 1..=40 {
            world.say(0, token, &script, frame(n, 50, 100));
        }
        assert_eq!(sent(&world) - before, 40 * per_frame, "owner {owner}, viewers {viewers:?}");
        for socket in &mut sockets {
            let mut seen = BytesMut::new();
            received(socket, &mut seen);
            let tags = video_tags(&seen);
            assert_eq!((tags.len(), tags[0].1), (41, true));
        }
    }
}

#[test]
fn a_full_ring_skips_to_the_next_keyframe() {
    let shards = 2;
    let name = (0..)
        .map(|n| format!("s{n}"))
        .find(|name| owner_of(&StreamKey::new("", "live", name).unwrap(), shards).index() == 0)
        .unwrap();
    let mut world = World::new(shards, 16, |_| {});
    let (token, script, _publisher) = world.publish(0, &name);
    let (_, mut viewer) = world.watch(1, &name, HTTP_FLV);
    for n in 0..30 {
        // The viewers' shard does not turn: its ring fills.
        script.lock().unwrap().push_back(frame(n, 10, 100));
        let now = world.now;
        world.shards[0].guarded(token, now, |shard, slot| shard.feed(slot, BytesMut::new(), now));
    }
    assert!(world.shards[0].counters.drops(DropReason::RingFull) > 0);
    for n in 30..60 {
        world.say(0, token, &script, frame(n, 10, 100));
    }
    let mut seen = BytesMut::new();
    received(&mut viewer, &mut seen);
    let tags = video_tags(&seen);
    for pair in tags.windows(2) {
        let gap = pair[1].0 - pair[0].0;
        assert!(gap == 40 || pair[1].1, "a gap of {gap} ms that does not end at a keyframe");
    }
    assert_eq!(tags.last().map(|tag| tag.0), Some(59 * 40));
}

#[test]
fn a_slow_viewer_lands_on_keyframes_and_others_lose_nothing() {
    let mut world = World::new(1, 64, |config| {
        config.limits.viewer_lag = Duration::from_secs(2);
        config.limits.viewer_jumps_max = 1000;
    });
    let (token, script, _publisher) = world.publish(0, "x");
    let (slow, mut slow_socket) = world.watch(0, "x", HTTP_FLV);
    let (_, mut fast_socket) = world.watch(0, "x", HTTP_FLV);
    let (mut slow_seen, mut fast_seen) = (BytesMut::new(), BytesMut::new());
    for n in 0..1000 {
        world.now += Duration::from_millis(40);
        world.say(0, token, &script, frame(n, 25, 30_000));
        received(&mut fast_socket, &mut fast_seen);
        // Half the rate, in small bites.
        let mut bite = [0; 15_000];
        if let Ok(count) = slow_socket.read(&mut bite) {
            slow_seen.extend_from_slice(&bite[..count]);
        }
    }
    assert!(world.shards[0].plane.slot(slow).is_some(), "still served");
    assert!(world.shards[0].counters.drops(DropReason::LagSkip) > 3);
    let fast = video_tags(&fast_seen);
    assert_eq!(fast.len(), 1000);
    let slow = video_tags(&slow_seen);
    assert!(slow.len() > 300 && slow.len() < 700, "{}", slow.len());
    for pair in slow.windows(2) {
        let gap = pair[1].0 - pair[0].0;
        assert!(gap == 40 || pair[1].1, "a gap of {gap} ms that does not end at a keyframe");
    }
}

#[test]
fn a_viewer_that_takes_nothing_is_closed() {
    let mut world = World::new(1, 64, |_| {});
    let (token, script, _publisher) = world.publish(0, "x");
    let (stuck, _socket) = world.watch(0, "x", HTTP_FLV);
    for n in 0..600 {
        world.now += Duration::from_millis(100);
        world.say(0, token, &script, frame(n, 25, 30_000));
    }
    assert_eq!(world.shards[0].plane.slot(stuck), None);
    let closed = &world.shards[0].counters.closed;
    assert_eq!(closed.get(&("http-flv", "slow_viewer")), Some(&1), "{closed:?}");
}

#[test]
fn a_returning_publisher_goes_on_where_its_viewers_are() {
    let mut world = World::new(2, 256, |_| {});
    let (token, script, _socket) = world.publish(0, "x");
    let (viewer, mut socket) = world.watch(1, "x", HTTP_FLV);
    for n in 0..50 {
        world.say(0, token, &script, frame(n, 25, 100));
    }
    world.shards[0].close_token(token, CloseReason::PeerClosed, world.now);
    world.settle();
    world.now += Duration::from_secs(5);
    let (token, script, _again) = world.publish(1, "x");
    for n in 0..50 {
        world.say(1, token, &script, frame(n, 25, 100));
    }
    assert!(world.shards[1].plane.slot(viewer).is_some());
    let mut seen = BytesMut::new();
    received(&mut socket, &mut seen);
    let tags = video_tags(&seen);
    assert_eq!(tags.len(), 100);
    assert!(tags.windows(2).all(|pair| pair[0].0 < pair[1].0), "{tags:?}");
    assert_eq!(tags[50].0 - tags[49].0, 20);
}

#[test]
fn a_joining_viewer_is_brought_up_to_live_at_a_bounded_rate() {
    let mut world = World::new(1, 256, |config| config.rtmp.start_rate = 10);
    let (token, script, _publisher) = world.publish(0, "x");
    for n in 0..100 {
        world.say(0, token, &script, frame(n, 1000, 100));
    }
    let (_, mut socket) = world.watch(0, "x", HTTP_FLV);
    let mut seen = BytesMut::new();
    received(&mut socket, &mut seen);
    // 300 ms at once: pictures at 0, 40, … 280.
    assert_eq!(video_tags(&seen).len(), 8);
    world.now += Duration::from_millis(100);
    world.settle();
    received(&mut socket, &mut seen);
    assert_eq!(video_tags(&seen).len(), 33, "a second more after 100 ms");
    world.now += Duration::from_millis(400);
    world.settle();
    received(&mut socket, &mut seen);
    assert_eq!(video_tags(&seen).len(), 100, "live");
    world.say(0, token, &script, frame(100, 1000, 100));
    received(&mut socket, &mut seen);
    assert_eq!(video_tags(&seen).len(), 101);
}

#[test]
fn a_stream_that_takes_all_of_a_turn_leaves_the_next_to_others() {
    // The frames of one stream alone are more than a turn sends.
    const VIEWERS: usize = 24;
    const BYTES: usize = 60_000;
    let mut world = World::new(1, 256, |_| {});
    let names = ["a", "b", "c"];
    let publishers = names.map(|name| world.publish(0, name));
    for (token, script, _) in &publishers {
        world.say(0, *token, script, frame(0, 1000, 100));
    }
    let mut crowds = names.map(|name| [(); VIEWERS].map(|()| world.watch(0, name, HTTP_FLV).1));
    let mut seen = BytesMut::new();
    crowds.iter_mut().flatten().for_each(|socket| received(socket, &mut seen));
    let mut turns_without = [0; 3];
    for n in 1..40 {
        for (token, script, _) in &publishers {
            script.lock().unwrap().push_back(frame(n, 1000, BYTES));
            let now = world.now;
            world.shards[0]
                .guarded(*token, now, |shard, slot| shard.feed(slot, BytesMut::new(), now));
        }
        world.shards[0].turn_for_test(world.now);
        for (crowd, without) in crowds.iter_mut().zip(&mut turns_without) {
            seen.clear();
            crowd.iter_mut().for_each(|socket| received(socket, &mut seen));
            *without = if seen.is_empty() { *without + 1 } else { 0 };
            assert!(*without < 6, "frame {n}: a stream was not served for six turns");
        }
    }
}

#[test]
fn each_viewer_may_have_its_own_merge_window() {
    let mut world = World::new(1, 256, |config| {
        config.elapse = crate::config::MergeWindow::Fixed(Duration::from_millis(100));
    });
    let (token, script, _publisher) = world.publish(0, "x");
    world.say(0, token, &script, frame(0, 1000, 100));
    let (_, mut merged) = world.watch(0, "x", HTTP_FLV);
    assert!(world.shards[0].look() > Duration::ZERO, "all is held back");
    let (_, mut eager) = world.watch_with(0, "x", HTTP_FLV, "merge=0", Hops::default());
    assert_eq!(world.shards[0].look(), Duration::ZERO, "for one, nothing is");
    let (mut merged_seen, mut eager_seen) = (BytesMut::new(), BytesMut::new());
    let (mut merged_reads, mut eager_reads) = (0, 0);
    for n in 1..=50 {
        world.now += Duration::from_millis(40);
        world.say(0, token, &script, frame(n, 1000, 100));
        for (socket, seen, reads) in [
            (&mut merged, &mut merged_seen, &mut merged_reads),
            (&mut eager, &mut eager_seen, &mut eager_reads),
        ] {
            let before = seen.len();
            received(socket, seen);
            *reads += u32::from(seen.len() > before);
        }
    }
    assert_eq!(eager_reads, 50);
    assert!((15..=26).contains(&merged_reads), "{merged_reads}");
    // What leaves is counted as it leaves, not when its viewer does.
    let sent = world.shards[0].counters.bytes_out;
    assert_eq!(sent, (merged_seen.len() + eager_seen.len()) as u64);
    drop((merged, eager));
    world.settle();
    assert_eq!(world.shards[0].counters.bytes_out, sent);
}

#[test]
fn sessions_end_by_name_or_by_stream_on_every_shard() {
    let mut world = World::new(2, 64, |_| {});
    let (publisher, script, _socket) = world.publish(0, "x");
    let (_, _, _other) = world.publish(1, "y");
    for n in 0..4 {
        world.say(0, publisher, &script, frame(n, 2, 100));
    }
    let (_, mut here) = world.watch(0, "x", HTTP_FLV);
    let (_, mut there) = world.watch(1, "x", HTTP_FLV);
    let (_, _bystander) = world.watch(1, "y", HTTP_FLV);
    let now = world.now;
    let end = |world: &mut World, kick: &Kick| -> usize {
        world.shards.iter_mut().map(|shard| shard.kick(kick, now)).sum::<Kicked>().total()
    };
    let key = StreamKey::new("", "live", "x").unwrap();
    let players = Kick::Stream { key: key.clone(), role: Some(crate::auth::Role::Player) };
    assert_eq!(end(&mut world, &players), 2);
    assert_eq!(end(&mut world, &players), 0, "they are gone");
    for viewer in [&mut here, &mut there] {
        let mut seen = BytesMut::new();
        received(viewer, &mut seen);
        assert!(viewer.read(&mut [0]).is_ok_and(|count| count == 0), "told and closed");
    }
    assert!(world.shards[0].plane.slot(publisher).is_some());
    let id = world.shards[0].plane.conns[publisher.index as usize].id;
    assert_eq!(end(&mut world, &Kick::Session(id)), 1);
    world.settle();
    assert_eq!(world.shards[0].counters.closed.get(&("rtmp", "kicked")), Some(&1));
    assert_eq!(end(&mut world, &Kick::Stream { key, role: None }), 0);
    let key = StreamKey::new("", "live", "y").unwrap();
    assert_eq!(end(&mut world, &Kick::Stream { key, role: None }), 2, "publisher and viewer");
}

/// Nobody is let in while it is not known, and the place is free when the peer leaves.
#[test]
fn who_applies_waits_and_may_leave() {
    let hook = "<config><authurl>127.0.0.1:9</authurl></config>";
    let auth = crate::config::load_str("test", hook, std::path::Path::new(".")).unwrap().auth;
    let mut world = World::new(1, 64, |config| config.auth = auth.clone());
    let request =
        AccessRequest { app: "live".into(), name: "x".into(), ..AccessRequest::default() };
    let apply = |world: &mut World| {
        let script = Script::default();
        let event = Event::PublishRequested(request.clone());
        script.lock().unwrap().push_back(Output::Event(event));
        world.connect(0, Protocol::Rtmp, Box::new(Scripted(script)))
    };
    let role =
        |world: &World, token: Token| match &world.shards[0].plane.conns[token.index as usize].role
        {
            Role::Idle => "idle",
            Role::Applying(_) => "applying",
            Role::Publisher(_) => "publisher",
            _ => "other",
        };
    let now = world.now;
    let (first, _socket) = apply(&mut world);
    let (second, _second) = apply(&mut world);
    assert_eq!((role(&world, first), role(&world, second)), ("applying", "applying"));
    let shard = &mut world.shards[0];
    shard.close(second.index as usize, CloseReason::PeerClosed, now);
    // Answers in the order of the questions; that to who has left finds nobody.
    shard.on_judged(2, crate::auth::Answer::Yes, None, now);
    shard.on_judged(1, crate::auth::Answer::Yes, None, now);
    world.settle();
    assert_eq!(role(&world, first), "publisher");
    let (third, _third) = apply(&mut world);
    world.shards[0].on_judged(3, crate::auth::Answer::No, None, now);
    world.settle();
    assert_eq!(role(&world, third), "idle");
    let (fourth, _fourth) = apply(&mut world);
    world.now += Duration::from_secs(5);
    world.settle();
    assert_eq!(role(&world, fourth), "idle", "an answer that stays away is a refusal");
    assert_eq!(world.shards[0].counters.accepted, 0);
}

/// What a shard has derived from its configuration.
fn derived(shard: &Shard) -> String {
    let Shard { config, options, rtmp_options, rtsp_options, plane, .. } = shard;
    let window = plane.window.current();
    format!("{config:?} {options:?} {rtmp_options:?} {rtsp_options:?} {window:?}")
}

#[test]
fn after_a_reload_a_shard_is_as_one_that_was_started_so() {
    for opt in crate::config::options::table() {
        let honoured = opt.support == crate::config::options::Support::Yes;
        // Files of keys are not there: what they mean is tested where they are read.
        let keys = ["auth/ca", "auth/jwt_key", "auth/jwt_jwks"].contains(&opt.path);
        if !opt.reloadable || !honoured || opt.is_of_group() || keys {
            continue;
        }
        let new = crate::config::tests::changed(opt);
        let mut reloaded = World::new(1, 64, |_| ());
        let now = reloaded.now;
        let before = derived(&reloaded.shards[0]);
        let rules = Arc::new(Rules::load(&new).expect(opt.path));
        reloaded.shards[0].reconfigure(Arc::new(new.clone()), &rules, now);
        let started = World::new(1, 64, |config| *config = new.clone());
        assert_eq!(derived(&reloaded.shards[0]), derived(&started.shards[0]), "{}", opt.path);
        let differs = derived(&reloaded.shards[0]) != before;
        assert!(differs || opt.path == "http/httpmaxbody", "{}", opt.path);
    }
}

#[test]
fn a_reload_leaves_viewers_on_their_wires() {
    let mut world = World::new(2, 64, |_| {});
    let (token, script, _publisher) = world.publish(0, "steady");
    let (_, mut viewer) = world.watch(1, "steady", HTTP_FLV);
    for n in 0..5 {
        world.say(0, token, &script, frame(n, 5, 100));
    }
    let now = world.now;
    let mut new = (*world.shards[1].config).clone();
    new.rtmp.chunk_size = 256;
    new.rtmp.legacy_h265_id = 13;
    new.http.flv = false;
    new.limits.viewers_per_stream = 1;
    for shard in &mut world.shards {
        let rules = Arc::clone(&shard.auth.rules);
        shard.reconfigure(Arc::new(new.clone()), &rules, now);
    }
    for n in 5..10 {
        world.say(0, token, &script, frame(n, 5, 100));
    }
    let mut seen = BytesMut::new();
    received(&mut viewer, &mut seen);
    assert_eq!(video_tags(&seen).len(), 10);
}

/// What one turn brings may be more than is held for those who watch.
#[test]
fn a_burst_that_overtakes_a_viewer_leaves_whole_messages() {
    let mut world = World::new(1, 64, |config| config.engine.stream_log_bytes = 512 * 1024);
    let (token, script, _publisher) = world.publish(0, "x");
    world.say(0, token, &script, frame(0, 10, 1000));
    let (_, mut viewer) = world.watch(0, "x", HTTP_FLV);
    world.say(0, token, &script, frame(1, 10, 1000));
    let mut seen = BytesMut::new();
    received(&mut viewer, &mut seen);
    let burst = (2..60).map(|n| frame(n, 10, 60_000));
    script.lock().unwrap().extend(burst);
    for n in 60..80 {
        world.say(0, token, &script, frame(n, 10, 1000));
        received(&mut viewer, &mut seen);
    }
    let tags = video_tags(&seen);
    assert!(tags.len() > 20 && tags.len() < 70, "some were left out: {}", tags.len());
    let counters = &world.shards[0].counters;
    assert!(counters.drops(DropReason::LagSkip) > 0);
    assert_eq!(world.shards[0].plane.connections(), 2, "nobody was closed");
}

/// Whoever is moved past a new configuration is told of it before the pictures that need it.
#[test]
fn a_jump_does_not_hide_a_new_configuration() {
    let mut world = World::new(1, 64, |config| config.engine.stream_log_bytes = 512 * 1024);
    let (token, script, _publisher) = world.publish(0, "x");
    world.say(0, token, &script, frame(0, 10, 1000));
    let (_, mut viewer) = world.watch(0, "x", HTTP_FLV);
    let mut seen = BytesMut::new();
    received(&mut viewer, &mut seen);
    let mut changed = (*tracks()).clone();
    let other = Bytes::from_static(&[1, 0x4d, 0, 0x1e, 0xff, 0xe0, 0]);
    changed.video.as_mut().expect("pictures").config = other.clone();
    {
        let mut script = script.lock().unwrap();
        script.extend((1..10).map(|n| frame(n, 10, 60_000)));
        script.push_back(Output::Event(Event::Tracks(changed.shared())));
        script.extend((10..60).map(|n| frame(n, 10, 60_000)));
    }
    for n in 60..80 {
        world.say(0, token, &script, frame(n, 10, 1000));
        received(&mut viewer, &mut seen);
    }
    let head = seen.windows(4).position(|w| w == b"\r\n\r\n").expect("an HTTP head") + 4;
    let mut body = BytesMut::from(&seen[head..]);
    let mut reader = TagReader::new(1 << 24);
    let mut configured = Bytes::new();
    let mut pictures = 0;
    while let Some((tag, at, bytes)) = reader.next_tag(&mut body).expect("whole tags") {
        match (tag, bytes[1]) {
            (TagType::Video, 0) => configured = bytes.slice(5..),
            (TagType::Video, _) if at >= 10 * 40 => {
                pictures += 1;
                assert_eq!(configured, other, "picture at {at} ms");
            }
            _ => {}
        }
    }
    assert!(pictures > 10, "{pictures}");
}
