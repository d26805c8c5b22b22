//! Pulled sources of the streams this shard owns: begun when they are wanted, dialled, kept up.

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocols::media::StreamKey;
use protocols::session::{AccessRequest, Command, ErrorClass, Refusal, SessionError};

use super::owner_of;
use crate::config::Config;
use crate::conn::{CloseReason, Conn, Protocol, Role};
use crate::net::resolve::Query;
use crate::net::sys_socket;
use crate::observe::PullReport;
use crate::plane::UNACKNOWLEDGED_MAX;
use crate::pull::{Action, Demand, Entry, Puller, Remote, Source, client, masked};
use crate::ring::{ShardId, Token};
use crate::segment::Packaging;
use crate::shard::Shard;

/// How long a name may take to be resolved.
const RESOLVE_MAX: Duration = Duration::from_secs(10);
/// How long viewers wait for a stream that is pulled for them.
pub(crate) const PULL_WAIT: Duration = Duration::from_secs(20);

/// What a shard knows of pulls.
pub(super) struct Pulls {
    id: ShardId,
    shards: usize,
    seed: u64,
    /// Those of streams owned here.
    list: Vec<Pull>,
    by_key: HashMap<StreamKey, usize>,
    /// All streams that are pulled again and again, whoever owns them.
    covered: HashSet<StreamKey>,
}

/// One pull.
struct Pull {
    entry: Arc<Entry>,
    key: StreamKey,
    puller: Puller,
    /// Counts attempts.
    attempt: u64,
    /// Where the source has sent us.
    redirected: Option<Remote>,
    /// The name is being resolved, until then at the latest.
    resolving: Option<Instant>,
    /// Addresses not tried yet.
    addresses: VecDeque<SocketAddr>,
    conn: Option<Token>,
    /// Set to have the reader of a file stop.
    stop_file: Option<Rc<Cell<bool>>>,
    /// Shards that wait for segments.
    waiting: Vec<(Packaging, ShardId)>,
    /// Why it failed or ended last.
    last_error: Option<&'static str>,
    /// The policy has it no longer: nothing is done for it, and its place may be taken.
    retired: bool,
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
        let (list, by_key, covered) = (Vec::new(), HashMap::new(), HashSet::new());
        let mut pulls = Self { id, shards, seed, list, by_key, covered };
        for entry in entries {
            pulls.add(entry, config);
        }
        pulls
    }

    fn add(&mut self, entry: &Arc<Entry>, config: &Config) {
        // The entries have been checked against the configuration.
        let Ok(key) = config.stream_key("", &entry.app, &entry.name) else { return };
        if !entry.once {
            self.covered.insert(key.clone());
        }
        if owner_of(&key, self.shards) != self.id || self.by_key.contains_key(&key) {
            return;
        }
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut pull = Pull {
            puller: Puller::new(entry.always, entry.linger, self.seed),
            entry: Arc::clone(entry),
            key: key.clone(),
            attempt: 0,
            redirected: None,
            resolving: None,
            addresses: VecDeque::new(),
            conn: None,
            stop_file: None,
            waiting: Vec::new(),
            last_error: None,
            retired: false,
        };
        let free = self.list.iter().position(|pull| pull.retired);
        let index = match free {
            Some(index) => {
                // What is still under way for the one before is told by its attempt.
                pull.attempt = self.list[index].attempt + 1;
                self.list[index] = pull;
                index
            }
            None => {
                self.list.push(pull);
                self.list.len() - 1
            }
        };
        self.by_key.insert(key, index);
    }

    /// The stream comes back for as long as somebody waits for it.
    pub(super) fn cover(&self, key: &StreamKey) -> bool {
        self.covered.contains(key)
    }

    fn of_conn(&self, conn: Token) -> Option<usize> {
        self.list.iter().position(|pull| pull.conn == Some(conn))
    }
}

impl Shard {
    /// Viewers of this stream wait for a pull: not only for a publisher that may or may not come.
    pub(crate) fn is_pulled(&self, key: &StreamKey) -> bool {
        self.pulls.cover(key)
    }

    /// What the API shows of pulls.
    pub(super) fn pull_reports(&self) -> Vec<PullReport> {
        let shown = |pull: &Pull| PullReport {
            key: pull.key.clone(),
            source: pull.entry.shown(),
            always: pull.entry.always,
            state: pull.puller.state(),
            attempts: pull.attempt,
            last_error: pull.last_error,
        };
        self.pulls.list.iter().filter(|pull| !pull.retired).map(shown).collect()
    }

    /// Goes by other entries; those that are as before go on undisturbed.
    pub(super) fn apply_pulls(&mut self, entries: &[Entry], now: Instant) {
        let stays = |pull: &Pull| entries.iter().any(|entry| entry.same(&pull.entry));
        let gone: Vec<usize> = (0..self.pulls.list.len())
            .filter(|&index| !self.pulls.list[index].retired && !stays(&self.pulls.list[index]))
            .collect();
        for index in gone {
            let pull = &self.pulls.list[index];
            tracing::info!(key = %pull.key, source = %pull.entry.shown(), "no longer pulled");
            self.pulls.by_key.remove(&pull.key);
            self.stop_pull(index, now);
            let pull = &mut self.pulls.list[index];
            pull.waiting.clear();
            pull.retired = true;
        }
        let config = Arc::clone(&self.config);
        self.pulls.covered.clear();
        for entry in entries {
            self.pulls.add(&Arc::new(entry.clone()), &config);
        }
    }

    /// Notes that a shard wants segments of a stream that is not there but can be pulled.
    pub(super) fn await_pull(
        &mut self,
        key: &StreamKey,
        packaging: Packaging,
        from: ShardId,
    ) -> bool {
        let Some(&index) = self.pulls.by_key.get(key) else { return false };
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
        for index in 0..self.pulls.list.len() {
            if self.pulls.list[index].retired {
                continue;
            }
            self.serve_waiting(index, now);
            let demand = self.demand(&self.pulls.list[index]);
            let pull = &self.pulls.list[index];
            let late = pull.resolving.is_some_and(|until| now >= until);
            let publishes = pull
                .conn
                .and_then(|conn| self.plane.slot(conn))
                .is_some_and(|slot| matches!(self.plane.conns[slot].role, Role::Publisher(_)));
            let stream = self.stream_index.get(&pull.key);
            let occupied = stream.is_some_and(|&at| self.streams[at].publisher.is_some());
            let file_plays = pull.stop_file.is_some() && occupied;
            if publishes || file_plays {
                self.pulls.list[index].puller.went_live(now);
            }
            if late {
                self.pulls.list[index].resolving = None;
                self.fail_pull(index, "resolve_timeout", now);
            }
            if self.stopping.is_some() {
                continue;
            }
            match self.pulls.list[index].puller.step(now, demand, occupied) {
                Action::Nothing => {}
                Action::Start => self.start_pull(index, now),
                Action::Stop => self.stop_pull(index, now),
            }
        }
    }

    /// Who wants the stream.
    fn demand(&self, pull: &Pull) -> Demand {
        if !pull.waiting.is_empty() {
            return Demand::Here;
        }
        let mirror = self.mirror_index.get(&pull.key);
        if mirror.is_some_and(|&mirror| self.mirrors[mirror].audience() > 0) {
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
        let pull = &self.pulls.list[index];
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

    fn start_pull(&mut self, index: usize, now: Instant) {
        let pull = &mut self.pulls.list[index];
        pull.attempt += 1;
        self.counters.pull_attempts += 1;
        tracing::debug!(key = %pull.key, source = %pull.entry.shown(), "pulling");
        match &pull.entry.source {
            Source::File(_) => self.start_file(index),
            Source::Remote(configured) => {
                let remote = pull.redirected.as_ref().unwrap_or(configured);
                let (host, port) = (remote.host.clone(), remote.port);
                if let Ok(ip) = host.parse::<IpAddr>() {
                    pull.addresses = VecDeque::from([SocketAddr::new(ip, port)]);
                    return self.dial_pull(index, now);
                }
                pull.resolving = Some(now + RESOLVE_MAX);
                let query =
                    Query { shard: self.id, pull: index, attempt: pull.attempt, host, port };
                let asked = self.shared.resolver.as_ref().is_some_and(|way| way.ask(query));
                if !asked {
                    self.pulls.list[index].resolving = None;
                    self.fail_pull(index, "resolver_busy", now);
                }
            }
        }
    }

    /// The name of a source has been looked up.
    pub(super) fn on_resolved(
        &mut self,
        index: usize,
        attempt: u64,
        addresses: Vec<SocketAddr>,
        now: Instant,
    ) {
        let Some(pull) = self.pulls.list.get_mut(index) else { return };
        if pull.attempt != attempt || pull.resolving.take().is_none() {
            return;
        }
        if addresses.is_empty() {
            return self.fail_pull(index, "name_unknown", now);
        }
        pull.addresses = addresses.into();
        self.dial_pull(index, now);
    }

    /// Dials the next address.
    fn dial_pull(&mut self, index: usize, now: Instant) {
        let full = self.plane.connections() >= self.config.limits.connections;
        let Some(address) = self.pulls.list[index].addresses.pop_front().filter(|_| !full) else {
            let reason = if full { "connections" } else { "no_address" };
            return self.fail_pull(index, reason, now);
        };
        let seed = self.next_seed();
        let pull = &self.pulls.list[index];
        let Source::Remote(configured) = &pull.entry.source else { return };
        let remote = pull.redirected.as_ref().unwrap_or(configured);
        let session = match client(now, seed, &pull.entry, remote, &self.config) {
            Ok(session) => session,
            Err(error) => return self.fail_pull(index, error.reason, now),
        };
        let tls = remote.tls.then(|| {
            let ca = pull.entry.ca.as_deref();
            self.shared.tls_client.connect(ca, &remote.host)
        });
        let tls = match tls.transpose() {
            Ok(tls) => tls.map(Box::new),
            Err(error) => {
                tracing::warn!(source = %pull.entry.shown(), %error, "no TLS to a source");
                return self.fail_pull(index, "tls", now);
            }
        };
        let fd = match sys_socket::connect(address) {
            Ok(fd) => fd,
            Err(error) => {
                tracing::debug!(%address, %error, "cannot dial a source");
                return match self.pulls.list[index].addresses.is_empty() {
                    true => self.fail_pull(index, "cannot_dial", now),
                    false => self.dial_pull(index, now),
                };
            }
        };
        let sock = self.config.sock;
        let (recv, send) = (sock.recv_buffer_kib, sock.send_buffer_kib);
        sys_socket::tune(fd.as_fd(), recv, send, UNACKNOWLEDGED_MAX);
        let mut conn = Conn::new(self.plane.next_id(), fd, address, Protocol::Pull, now);
        let id = conn.id;
        conn.timeout = session.poll_timeout();
        conn.session = Some(session);
        conn.tls = tls;
        match self.plane.insert(conn) {
            Ok(slot) => {
                let token = self.plane.token(slot);
                let pull = &mut self.pulls.list[index];
                pull.conn = Some(token);
                let source = pull.entry.shown();
                tracing::info!(conn = %id, peer = %address, proto = "pull", %source, "dialled");
                // The first words of the client wait for the connection.
                self.guarded(token, now, |shard, slot| shard.drive(slot, now, |_| Ok(())));
            }
            Err(error) => {
                tracing::warn!(%address, %error, "cannot watch a connection to a source");
                self.fail_pull(index, "poller", now);
            }
        }
    }

    /// Nobody watches any more.
    fn stop_pull(&mut self, index: usize, now: Instant) {
        let pull = &mut self.pulls.list[index];
        pull.resolving = None;
        pull.addresses.clear();
        pull.redirected = None;
        if let Some(stop) = pull.stop_file.take() {
            stop.set(true);
        }
        let Some(token) = pull.conn.take() else { return };
        self.guarded(token, now, |shard, slot| {
            let farewell = Command::Close(Refusal::PublisherGone);
            shard.drive(slot, now, |session| session.handle_command(now, farewell));
            shard.close_token(token, CloseReason::Unwanted, now);
        });
    }

    /// The connection of a pull has ended.
    pub(crate) fn on_pull_closed(&mut self, conn: Token, reason: &CloseReason, now: Instant) {
        let Some(index) = self.pulls.of_conn(conn) else { return };
        let pull = &mut self.pulls.list[index];
        pull.conn = None;
        let redirected =
            matches!(reason, CloseReason::Session(error) if error.reason == REDIRECTED);
        if redirected && pull.redirected.is_some() {
            return self.start_pull(index, now);
        }
        // A name may have an address of either family, of which one leads nowhere.
        if !pull.puller.is_live() && !pull.addresses.is_empty() {
            return self.dial_pull(index, now);
        }
        self.fail_pull(index, reason.label(), now);
    }

    /// A pull has failed or ended: it is tried again after a pause.
    pub(super) fn fail_pull(&mut self, index: usize, reason: &'static str, now: Instant) {
        let pull = &mut self.pulls.list[index];
        pull.redirected = None;
        pull.stop_file = None;
        pull.last_error = Some(reason);
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
        let pull = &mut self.pulls.list[index];
        pull.stop_file = Some(Rc::clone(&stop));
        let Source::File(name) = &pull.entry.source else { return };
        let job = super::pull_file::Job {
            index,
            attempt: pull.attempt,
            key: pull.key.clone(),
            name: name.clone(),
            shown: pull.entry.shown(),
            once: pull.entry.once,
            stop,
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
        let pull = &mut self.pulls.list[index];
        // A reader that was stopped may end after its successor has begun.
        if pull.attempt != attempt {
            return;
        }
        pull.stop_file = None;
        match end {
            Ok(()) => pull.puller.finished(),
            Err(reason) => self.fail_pull(index, reason, now),
        }
    }
}

/// The end of a connection that led elsewhere.
const REDIRECTED: &str = "redirected";
