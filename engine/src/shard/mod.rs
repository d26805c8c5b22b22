//! A shard: all that one core owns. Executor, connections, streams, mirrors, counters.
//!
//! Nothing here is shared with another shard but the rings of [`crate::ring`], the immutable
//! configuration, and the allocations of frames, which are never written again.

mod announce;
mod ask;
mod auth;
mod auth_conn;
mod auth_hook;
mod auth_place;
mod auth_task;
#[cfg(test)]
mod auth_tests;
mod control;
mod dial;
mod edge;
mod forward;
mod http_bridge;
mod kick;
mod nudge;
mod owner;
mod play;
mod policy;
#[cfg(test)]
mod policy_tests;
mod publish;
mod pull;
mod pull_file;
mod pulse;
mod reconfigure;
mod recording;
mod rest;
mod run;
mod segments;
pub mod sessions;
mod shift;
#[cfg(test)]
mod tests;
mod tunnel;
#[cfg(test)]
mod unhurried_tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::rc::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use protocols::hops::NodeId;
use protocols::media::StreamKey;
use slab::Slab;

use crate::auth::Rules;
use crate::auth::hash::Comparer;
use crate::config::Config;
use crate::conn::Conn;
use crate::events::{EventCounts, Events};
use crate::http::HttpContext;
use crate::net::resolve::Resolver;
use crate::net::tls::TlsContext;
use crate::observe::{Audience, Counters, Memory, ShardReport, Topic, Viewers};
use crate::plane::{Listener, Plane};
use crate::policy::ActivePolicy;
use crate::reload::Reloader;
use crate::ring::{MeshEnd, ShardId};
use crate::service::rtmp::RtmpOptions;
use crate::service::rtsp::RtspOptions;
use crate::stream::{Container, Mirror, PackagerOptions, Stream, StreamSnapshot};

pub use ask::{Asks, ask_all};
pub use auth::Auth;
pub use auth_conn::{Applicant, Wish};
pub use kick::{Kick, Kicked, kick};
pub use nudge::Nudge;
pub use owner::{owner_of, owner_of_text};
pub(crate) use pull::PULL_WAIT;
pub use pulse::Pulse;
pub use run::run;
pub use segments::{Absent, Feed, Wanted, snapshot};
pub use shift::shift;
pub use tunnel::TunnelHalf;

/// Tells the seed of RTP sources from that of sessions.
const RTP_SEED: u64 = 0x5254_5000;

/// Tells the seed of retries from that of sessions.
const PULL_SEED: u64 = 0x5055_4c4c;

type LocalBoxFuture = Pin<Box<dyn Future<Output = ()>>>;

/// What every shard of the process shares: immutable, or atomics nobody waits on.
#[derive(Clone)]
pub struct Shared {
    /// The configuration.
    pub config: Arc<Config>,
    /// Certificates, when TLS is on.
    pub tls: Option<Arc<TlsContext>>,
    /// One heartbeat per shard: turns begun and ended so far.
    pub beats: Arc<[AtomicU64]>,
    /// The way to wake each shard from outside when it oversleeps.
    pub nudges: Arc<[Arc<Nudge>]>,
    /// When the process started.
    pub started: Instant,
    /// The same as wall clock, milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// Ports in use by service name.
    pub ports: Arc<Ports>,
    /// Resident bytes when all shards had come up.
    pub base_bytes: Arc<AtomicU64>,
    /// What is forwarded and pulled at the start.
    pub policy: Arc<ActivePolicy>,
    /// What this process is to other servers of its kind.
    pub node: NodeId,
    /// The way to resolve names; `None` in tests.
    pub resolver: Option<Resolver>,
    /// Who may do what, at the start.
    pub rules: Arc<Rules>,
    /// The way to the thread that compares passwords; none in tests.
    pub comparer: Option<Comparer>,
    /// What the thread that looks after recordings did.
    pub upkeep: Arc<crate::record::UpkeepCounts>,
    /// What became of events.
    pub event_counts: Arc<EventCounts>,
    /// The configuration or policy each shard goes by, as the reloader counts them.
    pub applied: Arc<[AtomicU64]>,
    /// Who reloads; set once the server has come up.
    pub reloader: Arc<OnceLock<Arc<Reloader>>>,
}

/// The ports the process listens on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ports {
    /// RTMP and RTMPS.
    pub rtmp: Option<u16>,
    /// RTSP and RTSPS.
    pub rtsp: Option<u16>,
    /// HTTP.
    pub http: Option<u16>,
    /// HTTPS.
    pub https: Option<u16>,
}

/// See the module text.
pub struct Shard {
    /// Its index.
    pub id: ShardId,
    /// The configuration in force.
    pub config: Arc<Config>,
    /// What all packagers have in common.
    pub options: PackagerOptions,
    /// What all RTMP sessions have in common.
    pub rtmp_options: RtmpOptions,
    /// What all RTSP sessions have in common.
    pub rtsp_options: RtspOptions,
    /// Certificates, when TLS is on.
    pub tls: Option<Arc<TlsContext>>,
    /// Ways to the other shards.
    pub mesh: MeshEnd,
    /// All media sockets.
    pub plane: Plane,
    /// Streams this shard owns.
    pub streams: Slab<Stream>,
    /// Streams with viewers here.
    pub mirrors: Slab<Mirror>,
    /// What happened.
    pub counters: Counters,
    /// Questions to all shards that wait for answers.
    pub asks: Asks<ShardReport>,
    /// Questions to one shard about its sessions.
    session_asks: Asks<sessions::SessionSlice>,
    /// Who may do what.
    pub auth: Auth,
    /// Questions about sessions that are to end.
    kicks: Asks<Kicked>,
    /// Segments of streams that are asked for here.
    shelves: segments::Shelves,
    /// What is forwarded and pulled.
    policy: Arc<ActivePolicy>,
    /// Sources of streams owned here.
    pulls: pull::Pulls,
    /// Streams that origins may have.
    edge: edge::Edge,
    /// Targets of streams owned here.
    forwards: forward::Forwards,
    /// Attempts to reach anybody so far.
    dials: u64,
    /// Streams played later than live that are read here, and questions about others.
    shifts: shift::Shifts,
    /// Tunnels of RTSP through HTTP.
    tunnels: tunnel::Tunnels,
    /// Who is told of events; nobody unless this is set.
    pub events: Events,
    /// Everything process-wide.
    pub shared: Shared,
    /// Bytes of streams held at the last tick, for the budget.
    pub held_bytes: usize,
    /// How busy its sockets are.
    pub pulse: Pulse,
    /// Set when the process stops: the deadline for the last connections.
    pub stopping: Option<Instant>,
    /// What recordings share; made by the loop.
    pub recordings: Option<std::rc::Rc<crate::record::Hub>>,
    /// What HTTP tasks work with; made by the loop.
    pub http: Option<std::rc::Rc<HttpContext>>,
    /// HTTP connections that wait to be spawned as tasks.
    leaving: Vec<LocalBoxFuture>,
    stream_index: HashMap<StreamKey, usize>,
    mirror_index: HashMap<StreamKey, usize>,
    this: Weak<RefCell<Shard>>,
    seed: u64,
    generation: u32,
}

impl Shard {
    /// A shard without connections.
    ///
    /// # Errors
    /// Its poller cannot be made.
    pub fn new(
        mesh: MeshEnd,
        shared: Shared,
        listeners: Vec<Listener>,
        seed: u64,
        now: Instant,
    ) -> io::Result<Self> {
        let config = Arc::clone(&shared.config);
        let mut plane = Plane::new(mesh.id(), config.elapse, config.engine.egress, now)?;
        plane.listeners = listeners;
        Ok(Self {
            id: mesh.id(),
            options: reconfigure::packager_options(&config, &shared, seed),
            rtmp_options: RtmpOptions::new(&config, shared.ports.http, shared.node),
            rtsp_options: RtspOptions::new(&config, &shared.rules, shared.ports.http),
            tls: shared.tls.clone(),
            plane,
            streams: Slab::new(),
            mirrors: Slab::new(),
            counters: Counters::default(),
            asks: Asks::default(),
            session_asks: Asks::default(),
            auth: Auth::new(Arc::clone(&shared.rules)),
            kicks: Asks::default(),
            shelves: segments::Shelves::default(),
            policy: Arc::clone(&shared.policy),
            pulls: pull::Pulls::new(
                &shared.policy.pulls,
                &config,
                mesh.id(),
                mesh.shards(),
                seed ^ PULL_SEED,
            ),
            edge: edge::Edge::default(),
            forwards: forward::Forwards::default(),
            dials: 0,
            mesh,
            shifts: shift::Shifts::default(),
            tunnels: tunnel::Tunnels::default(),
            held_bytes: 0,
            pulse: Pulse::new(now),
            stopping: None,
            recordings: None,
            http: None,
            leaving: Vec::new(),
            stream_index: HashMap::new(),
            mirror_index: HashMap::new(),
            this: Weak::new(),
            seed,
            generation: 0,
            events: Events::default(),
            config,
            shared,
        })
    }

    /// The loop has ended: lets go of what holds this shard in turn, and of the threads that would
    /// wait for its events.
    fn let_go(&mut self) {
        self.http = None;
        self.events = Events::default();
    }

    /// A seed for a new session: unpredictable to peers, as the first one was.
    pub fn next_seed(&mut self) -> u64 {
        // SplitMix64 over a secret start.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// Tells the watchdog that the loop turns: once when a turn begins and once when it ends, so
    /// that an odd number means a turn is being taken.
    fn beat(&self) {
        self.shared.beats[self.id.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// What this shard reports of itself.
    #[must_use]
    pub fn report(&self, topic: Topic) -> ShardReport {
        let mut report = ShardReport {
            shard: self.id,
            counters: None,
            streams: Vec::new(),
            audiences: Vec::new(),
            connections: self.plane.connections(),
            ring_messages: self.mesh.media_sent.clone(),
            control_dropped: self.mesh.control_dropped,
            memory: Memory::default(),
            pulls: Vec::new(),
            window_us: u64::try_from(self.plane.window.current().as_micros()).unwrap_or(u64::MAX),
        };
        match topic {
            Topic::Streams => self.report_streams(&mut report),
            Topic::Pulls => report.pulls = self.pull_reports(),
            Topic::Counters => {
                self.report_streams(&mut report);
                report.counters = Some(Box::new(self.counters_now()));
                report.memory = self.memory();
            }
        }
        report
    }

    fn report_streams(&self, report: &mut ShardReport) {
        // What is played later is the same stream.
        let live = self.streams.iter().filter(|(_, stream)| stream.key.delay_s() == 0);
        report.streams = live.filter_map(|(_, stream)| self.snapshot(stream)).collect();
        report.audiences = self.mirrors.iter().map(|(_, mirror)| self.audience(mirror)).collect();
    }

    /// Where this shard's memory is.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        for (_, mirror) in &self.mirrors {
            let (logs, wires) = mirror.bytes();
            memory.logs += logs;
            memory.wires += wires;
            memory.connections += mirror.viewer_bytes();
        }
        let feeds = self.streams.iter().flat_map(|(_, stream)| &stream.feeds);
        memory.segments = feeds.map(Feed::bytes).sum();
        memory.connections += self.plane.conns.capacity() * size_of::<Conn>();
        for (_, conn) in &self.plane.conns {
            memory.connections += conn.session.as_ref().map_or(0, |s| s.memory_bytes());
            memory.connections += conn.tls.as_ref().map_or(0, |tls| tls.heap_bytes());
            memory.pending += conn.buffer_bytes();
        }
        let waiting = self.recordings.as_ref().map_or(0, |hub| hub.counts().queue_bytes);
        memory.pending += usize::try_from(waiting).unwrap_or(usize::MAX);
        memory
    }

    fn snapshot(&self, stream: &Stream) -> Option<StreamSnapshot> {
        let publisher = stream.publisher.as_ref()?;
        Some(StreamSnapshot {
            key: stream.key.clone(),
            publisher: Arc::clone(&publisher.info),
            tracks: Arc::clone(self.mirrors[stream.mirror].log.tracks()),
            bytes_in: stream.bytes_in,
            frames_in: stream.frames_in,
            bytes_per_second: stream.bytes_per_second,
            gop_frames: stream.gop_frames,
            forwards: self.forward_statuses(&stream.key, crate::clock::now()),
        })
    }

    fn audience(&self, mirror: &Mirror) -> Audience {
        let (key, viewers) = (mirror.key.delayed(0), Viewers::default());
        let mut audience = Audience { key, viewers };
        for (_, wire) in &mirror.wires {
            if let Container::Rtmp { .. } | Container::Rtp { .. } = wire.format.container {
                audience.viewers.count(wire.format.container.name(), wire.viewers.len());
                continue;
            }
            // The same wire serves endless bodies and WebSockets.
            for viewer in &wire.viewers {
                let conn = self.plane.conns.get(viewer.conn as usize);
                audience.viewers.count(conn.map_or("http", |conn| conn.protocol.name()), 1);
            }
        }
        // Forwards are on wires of RTMP, but nobody's eyes.
        audience.viewers.discount("rtmp", self.forwards_on_wires(&mirror.key));
        audience
    }
}
