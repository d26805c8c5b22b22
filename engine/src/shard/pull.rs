//! Pulled sources of the streams this shard owns: begun when they are wanted, dialled, kept up.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocols::hops::Hops;
use protocols::media::StreamKey;
use protocols::session::{AccessRequest, Command, ErrorClass, Refusal, SessionError};

use slab::Slab;

use super::dial::{Dial, REDIRECTED, Route};
use super::edge::EdgePull;
use super::owner_of;
use crate::config::Config;
use crate::conn::{CloseReason, Protocol, Role};
use crate::net::reach;
use crate::net::resolve::Asker;
use crate::observe::PullReport;
use crate::pull::{Action, Demand, Entry, Puller, Remote, Source, client, masked};
use crate::ring::{ShardId, Token};
use crate::segment::Packaging;
use crate::shard::Shard;

/// How long viewers wait for a stream that is pulled for them.
pub(crate) const PULL_WAIT: Duration = Duration::from_secs(20);

/// What a shard knows of pulls.
#[derive(Default)]
pub(super) struct Pulls {
    /// Those of streams owned here.
    pub(super) list: Slab<Pull>,
    pub(super) by_key: HashMap<StreamKey, usize>,
    /// All streams that are pulled again and again, whoever owns them.
    covered: HashSet<StreamKey>,
}

/// One pull.
pub(super) struct Pull {
    pub(super) entry: Arc<Entry>,
    pub(super) key: StreamKey,
    pub(super) puller: Puller,
    /// It was begun for a request: where else the stream may be.
    pub(super) edge: Option<EdgePull>,
    /// Times the source was to be fetched.
    attempts: u64,
    pub(super) route: Route,
    /// Where the source has sent us.
    redirected: Option<Remote>,
    /// Set to have the reader of a file stop.
    stop_file: Option<Rc<Cell<bool>>>,
    /// Shards that wait for segments.
    pub(super) waiting: Vec<(Packaging, ShardId)>,
    /// Why it failed or ended last.
    last_error: Option<&'static str>,
}

impl Pulls {
    /// Those of a shard.
    pub(super) fn new(
        entries: &[Arc<Entry>],
        config: &Config,
        id: ShardId,
        shards: usize,
        seed: u64,
    ) -> Self {
        let mut pulls = Self::default();
        for (number, entry) in entries.iter().enumerate() {
            // The server has checked the entries at its start.
            let Ok(key) = config.stream_key("", &entry.app, &entry.name) else { continue };
            if !entry.once {
                pulls.covered.insert(key.clone());
            }
            if owner_of(&key, shards) != id {
                continue;
            }
            let seed = seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            pulls.add(key, Arc::clone(entry), seed, None);
        }
        pulls
    }

    /// One more.
    pub(super) fn add(
        &mut self,
        key: StreamKey,
        entry: Arc<Entry>,
        seed: u64,
        edge: Option<EdgePull>,
    ) -> usize {
        let index = self.list.insert(Pull {
            puller: Puller::new(entry.always, entry.linger, seed),
            entry,
            key: key.clone(),
            edge,
            attempts: 0,
            route: Route::default(),
            redirected: None,
            stop_file: None,
            waiting: Vec::new(),
            last_error: None,
        });
        self.by_key.insert(key, index);
        index
    }

    /// The stream comes back for as long as somebody waits for it.
    pub(super) fn cover(&self, key: &StreamKey) -> bool {
        self.covered.contains(key)
    }

    fn of_conn(&self, conn: Token) -> Option<usize> {
        self.list.iter().find(|(_, pull)| pull.route.conn == Some(conn)).map(|(index, _)| index)
    }
}

impl Shard {
    /// Viewers of this stream wait for a pull: not only for a publisher that may or may not come.
    pub(crate) fn is_pulled(&self, key: &StreamKey) -> bool {
        self.pulls.cover(key) || self.origins_of(key).is_some()
    }

    /// What the API shows of pulls.
    pub(super) fn pull_reports(&self) -> Vec<PullReport> {
        let shown = |pull: &Pull| PullReport {
            key: pull.key.clone(),
            source: pull.entry.shown(),
            always: pull.entry.always,
            state: pull.puller.state(),
            attempts: pull.attempts,
            last_error: pull.last_error,
        };
        self.pulls.list.iter().map(|(_, pull)| shown(pull)).collect()
    }

    /// Notes that a shard wants segments of a stream that is not there but can be pulled.
    pub(super) fn await_pull(
        &mut self,
        key: &StreamKey,
        packaging: Packaging,
        from: ShardId,
        now: Instant,
    ) -> bool {
        let Some(index) = self.edge_pull(key, &Hops::default(), now) else { return false };
        if self.pulls.list[index].puller.is_done() {
            return false;
        }
        let waiting = &mut self.pulls.list[index].waiting;
        if !waiting.contains(&(packaging, from)) {
            waiting.push((packaging, from));
        }
        true
    }

    /// A shard does not want them any more.
    pub(super) fn leave_pull(&mut self, key: &StreamKey, packaging: Packaging, from: ShardId) {
        if let Some(&index) = self.pulls.by_key.get(key) {
            self.pulls.list[index].waiting.retain(|waiting| *waiting != (packaging, from));
        }
    }

    /// By the clock: what is wanted, what is to be tried again, what nobody watches any more.
    pub(crate) fn tend_pulls(&mut self, now: Instant) {
        let indices: Vec<usize> = self.pulls.list.iter().map(|(index, _)| index).collect();
        for index in indices {
            self.tend_pull(index, now);
        }
    }

    pub(super) fn tend_pull(&mut self, index: usize, now: Instant) {
        self.serve_waiting(index, now);
        let Some(pull) = self.pulls.list.get(index) else { return };
        let demand = self.demand(pull, now);
        let publishes = pull
            .route
            .conn
            .and_then(|conn| self.plane.slot(conn))
            .is_some_and(|slot| matches!(self.plane.conns[slot].role, Role::Publisher(_)));
        let stream = self.stream_index.get(&pull.key);
        let occupied = stream.is_some_and(|&at| self.streams[at].publisher.is_some());
        let file_plays = pull.stop_file.is_some() && occupied;
        let pull = &mut self.pulls.list[index];
        if publishes || file_plays {
            pull.puller.went_live(now);
            if let Some(edge) = &mut pull.edge {
                edge.note_live();
            }
        }
        if self.tend_route(Asker::Pull(index), now) {
            return;
        }
        let pull = &mut self.pulls.list[index];
        match pull.puller.step(now, demand, occupied) {
            Action::Nothing => {}
            Action::Start if self.choose_origin(index, now) => self.start_pull(index, now),
            Action::Start => return self.fail_pull(index, "no_origin", now),
            Action::Stop => self.stop_pull(index, now),
        }
        let over = self.pulls.list.get(index).is_some_and(|pull| {
            pull.edge.is_some() && pull.puller.is_resting() && demand == Demand::Nobody
        });
        if over {
            self.remove_pull(index, now);
        }
    }

    /// Takes a pull out, whatever it does.
    pub(super) fn remove_pull(&mut self, index: usize, now: Instant) -> Option<Pull> {
        if !self.pulls.list.contains(index) {
            return None;
        }
        self.stop_pull(index, now);
        let pull = self.pulls.list.try_remove(index)?;
        self.pulls.by_key.remove(&pull.key);
        Some(pull)
    }

    /// Compares the pulls with the policy: only what differs is touched.
    pub(super) fn sync_pulls(&mut self, now: Instant) {
        let seed = self.next_seed();
        let (config, policy) = (Arc::clone(&self.config), Arc::clone(&self.policy));
        let shards = self.mesh.shards();
        let mut wanted = Pulls::new(&policy.pulls, &config, self.id, shards, seed);
        self.pulls.covered = std::mem::take(&mut wanted.covered);
        let known: Vec<usize> = self.pulls.list.iter().map(|(index, _)| index).collect();
        for index in known {
            let pull = &self.pulls.list[index];
            let same = match &pull.edge {
                Some(edge) => {
                    let rule = self.origins_of(&pull.key);
                    let entry = wanted.by_key.contains_key(&pull.key);
                    !entry && rule.is_some_and(|rule| edge.rule == *rule)
                }
                None => wanted
                    .by_key
                    .get(&pull.key)
                    .is_some_and(|&at| wanted.list[at].entry == pull.entry),
            };
            if same {
                let key = self.pulls.list[index].key.clone();
                wanted.by_key.remove(&key);
            } else {
                tracing::info!(key = %pull.key, "is not pulled any more");
                self.remove_pull(index, now);
            }
        }
        for (key, at) in wanted.by_key {
            tracing::info!(%key, "is to be pulled");
            let index = self.pulls.list.insert(wanted.list.remove(at));
            self.pulls.by_key.insert(key, index);
        }
    }

    /// Who wants the stream.
    fn demand(&self, pull: &Pull, now: Instant) -> Demand {
        let asked = pull.edge.as_ref().is_some_and(|edge| edge.is_wanted(now));
        if !pull.waiting.is_empty() || asked {
            return Demand::Here;
        }
        // A stream that is forwarded is not fetched for that alone.
        let forwards = self.forwards_in_audience(&pull.key);
        let mirror = self.mirror_index.get(&pull.key);
        if mirror.is_some_and(|&mirror| self.mirrors[mirror].audience() > forwards) {
            return Demand::Here;
        }
        let Some(&index) = self.stream_index.get(&pull.key) else { return Demand::Nobody };
        let stream = &self.streams[index];
        if stream.feeds.iter().any(super::Feed::is_asked_for) {
            Demand::Here
        } else if stream.subscribers.is_empty() {
            Demand::Nobody
        } else {
            Demand::Mirrored(self.config.rtmp.publisher_grace)
        }
    }

    /// Segments begin once the stream can be joined.
    fn serve_waiting(&mut self, index: usize, now: Instant) {
        let Some(pull) = self.pulls.list.get(index) else { return };
        let Some(&stream) = self.stream_index.get(&pull.key) else { return };
        let mirror = &self.mirrors[self.streams[stream].mirror];
        if pull.waiting.is_empty()
            || self.streams[stream].publisher.is_none()
            || !mirror.is_ready()
            || mirror.log.joinable().next().is_none()
        {
            return;
        }
        let key = pull.key.clone();
        for (packaging, from) in std::mem::take(&mut self.pulls.list[index].waiting) {
            self.on_want_segments(key.clone(), packaging, from, now);
        }
    }

    pub(super) fn start_pull(&mut self, index: usize, now: Instant) {
        let pull = &mut self.pulls.list[index];
        pull.attempts += 1;
        self.counters.pull_attempts += 1;
        tracing::debug!(key = %pull.key, source = %pull.entry.shown(), "pulling");
        let Source::Remote(configured) = &pull.entry.source else { return self.start_file(index) };
        let remote = pull.redirected.as_ref().unwrap_or(configured);
        let (host, port) = (remote.host.clone(), remote.port);
        self.seek(Asker::Pull(index), (&host, port), now);
    }

    pub(super) fn try_source(
        &mut self,
        index: usize,
        address: SocketAddr,
        now: Instant,
    ) -> Result<Token, &'static str> {
        let seed = self.next_seed();
        let pull = &mut self.pulls.list[index];
        let entry = Arc::clone(&pull.entry);
        let Source::Remote(configured) = &entry.source else { return Err("no_address") };
        let remote = pull.redirected.as_ref().unwrap_or(configured);
        let redirected = pull.redirected.is_some();
        let first = &mut pull.route.reach;
        reach::admit_next(first, redirected, &remote.host, entry.local, address.ip())?;
        let hops = pull.edge.as_ref().map(|edge| edge.hops.clone()).unwrap_or_default();
        let session = client(now, seed, &entry, remote, hops, &self.config);
        let session = session.map_err(|error| error.reason)?;
        let remote = remote.clone();
        let to = Dial {
            protocol: Protocol::Pull,
            address,
            tls: remote.tls.then_some((entry.ca.as_deref(), remote.host.as_str())),
            shown: &entry.shown(),
        };
        self.dial(&to, session, now)
    }

    /// Nobody watches any more.
    fn stop_pull(&mut self, index: usize, now: Instant) {
        let pull = &mut self.pulls.list[index];
        pull.route.forget();
        pull.redirected = None;
        if let Some(stop) = pull.stop_file.take() {
            stop.set(true);
        }
        let Some(token) = pull.route.conn.take() else { return };
        self.part_with(token, Refusal::PublisherGone, CloseReason::Unwanted, now);
    }

    /// The connection of a pull has ended.
    pub(crate) fn on_pull_closed(&mut self, conn: Token, reason: &CloseReason, now: Instant) {
        let Some(index) = self.pulls.of_conn(conn) else { return };
        let pull = &mut self.pulls.list[index];
        pull.route.conn = None;
        let redirected =
            matches!(reason, CloseReason::Session(error) if error.reason == REDIRECTED);
        if redirected && pull.redirected.is_some() {
            return self.start_pull(index, now);
        }
        // A name may have an address of either family, of which one leads nowhere.
        if !pull.puller.is_live() && pull.route.has_more() {
            return self.dial_next(Asker::Pull(index), now);
        }
        self.fail_pull(index, reason.label(), now);
    }

    /// A pull has failed or ended: it is tried again after a pause.
    pub(super) fn fail_pull(&mut self, index: usize, reason: &'static str, now: Instant) {
        let pull = &mut self.pulls.list[index];
        pull.route.forget();
        pull.redirected = None;
        pull.stop_file = None;
        pull.last_error = Some(reason);
        if pull.edge.is_some() {
            return self.fail_edge(index, reason, now);
        }
        let source = pull.entry.shown();
        let Some(pause) = pull.puller.ended(now).filter(|_| self.stopping.is_none()) else {
            return;
        };
        tracing::warn!(key = %pull.key, %source, reason, ?pause, "a source is away, trying again");
        *self.counters.pull_failures.entry(reason).or_default() += 1;
    }

    /// The source sends us elsewhere.
    pub(crate) fn redirect_pull(&mut self, slot: usize, url: &str, now: Instant) {
        let Some(index) = self.pulls.of_conn(self.plane.token(slot)) else { return };
        let pull = &mut self.pulls.list[index];
        let Source::Remote(configured) = &pull.entry.source else { return };
        pull.redirected = pull.redirected.as_ref().unwrap_or(configured).redirected(url);
        let reason = if pull.redirected.is_some() { REDIRECTED } else { "bad_redirect" };
        let error = SessionError::new(ErrorClass::Refused, reason, masked(url));
        self.close(slot, CloseReason::Session(error), now);
    }

    /// A pull asks for its stream. Whoever publishes it meanwhile keeps it: a source that could
    /// depose a publisher would be deposed by its return, and so on.
    pub(crate) fn request_pull(&mut self, slot: usize, request: &AccessRequest) {
        let token = self.plane.token(slot);
        let index = self.pulls.of_conn(token);
        let key = index.map(|index| &self.pulls.list[index].key);
        let stream = key.and_then(|key| self.stream_index.get(key));
        if stream.is_some_and(|&at| self.streams[at].publisher.is_some()) {
            return self.command(token, Command::Reject(Refusal::StreamBusy));
        }
        self.request_publish(slot, request);
    }

    /// What the API shows of where a connection's media come from.
    pub(super) fn source_of(&self, slot: usize) -> Option<Arc<str>> {
        let index = self.pulls.of_conn(self.plane.token(slot))?;
        Some(self.pulls.list[index].entry.shown())
    }

    fn start_file(&mut self, index: usize) {
        let Some(shard) = self.this.upgrade() else { return };
        let stop = Rc::new(Cell::new(false));
        let attempt = self.next_attempt();
        let pull = &mut self.pulls.list[index];
        pull.route.attempt = attempt;
        pull.stop_file = Some(Rc::clone(&stop));
        let Source::File(name) = &pull.entry.source else { return };
        let job = super::pull_file::Job {
            index,
            attempt,
            key: pull.key.clone(),
            name: name.clone(),
            shown: pull.entry.shown(),
            once: pull.entry.once,
            stop,
            held: Cell::new(false),
        };
        // The executor polls a new task at once, and this shard is borrowed: the loop spawns it.
        self.leaving.push(Box::pin(super::pull_file::run(shard, job)));
    }

    /// The reader of a file has ended.
    pub(super) fn on_file_ended(
        &mut self,
        index: usize,
        attempt: u64,
        end: Result<(), &'static str>,
        now: Instant,
    ) {
        let Some(pull) = self.pulls.list.get_mut(index) else { return };
        // A reader that was stopped may end after its successor has begun.
        if pull.route.attempt != attempt {
            return;
        }
        pull.stop_file = None;
        match end {
            Ok(()) => pull.puller.finished(),
            Err(reason) => self.fail_pull(index, reason, now),
        }
    }
}
