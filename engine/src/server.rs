//! The process: listeners, one pinned executor per CPU, the watchdog, the end.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use protocols::hops::NodeId;

use crate::auth::Rules;
use crate::auth::hash::Comparer;
use crate::clock;
use crate::config::Config;
use crate::events::Events;
use crate::net::preflight::StartError;
use crate::net::resolve::Resolver;
use crate::net::tls::TlsContext;
use crate::net::{sys, sys_heap, sys_socket};
use crate::plane::{Listener, Service};
use crate::policy::{ActivePolicy, Policy};
use crate::record::Upkeep;
use crate::reload::watch::Watch;
use crate::reload::{Accepted, Contents, Files, Reloader, Running};
use crate::ring::{ControlMessage, Mesh, Remote};
use crate::shard::{self, Nudge, Ports, Shard, Shared};

/// Longest time all shards may take to come up.
const START_MAX: Duration = Duration::from_secs(10);
/// A shard that has not turned for so long is taken for dead.
const STALL_MAX: Duration = Duration::from_secs(10);
/// How long the last events may take once all shards have stopped.
const EVENTS_MAX: Duration = Duration::from_secs(2);
/// How long the end waits for a reload that is under way.
const RELOAD_END_MAX: Duration = Duration::from_secs(2);
/// Memory each executor registers with the kernel; files of ours are few and buffered.
const EXECUTOR_IO_MEMORY: usize = 64 * 1024;
const EXECUTOR_RING_DEPTH: usize = 256;
/// Timers and completions are looked at this often while a shard is busy. Turns are short, so it
/// seldom fires; the shorter, the likelier it meets the executor's fault told of in `shard::nudge`.
const PREEMPT_TIMER: Duration = Duration::from_millis(5);

/// A running server.
pub struct Server {
    handles: Vec<ExecutorJoinHandle<io::Result<()>>>,
    ended: Receiver<usize>,
    remote: Remote,
    shared: Shared,
    addresses: Vec<(&'static str, SocketAddr)>,
    /// Until somebody else sees to it that files are reloaded.
    events: Events,
    beats: Vec<(u64, Instant)>,
    /// Until somebody else sees to it that files are reloaded, ends with the server.
    upkeep: Option<Upkeep>,
    watch: Option<Watch>,
}

/// How a server ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All shards have stopped as asked.
    Stopped,
    /// A shard ended or stalls: the process must go, so that its supervisor restarts it.
    ShardDied {
        /// Its index.
        shard: usize,
        /// What is known.
        cause: String,
    },
}

impl Server {
    /// Binds the ports and brings every shard up, or none. `rules` and `policy` are made from the
    /// configuration.
    ///
    /// # Errors
    /// What prevents it, with the remedy; see [`StartError`].
    pub fn start(
        config: Config,
        rules: Rules,
        policy: Arc<ActivePolicy>,
        cpus: &[usize],
    ) -> Result<Self, StartError> {
        let tls = load_tls(&config)?;
        let shards = cpus.len();
        let mut bound = Bound::default();
        bind_all(&config, shards, &mut bound)?;
        let (ends, remote) =
            Mesh::new(shards, config.engine.ring_depth, config.engine.control_depth).into_ends();
        let thread = |error: io::Error| failed(0, &error.to_string());
        let resolver = Resolver::start(&remote).map_err(thread)?;
        let comparer = Comparer::start(&remote).map_err(thread)?;
        let beats: Arc<[AtomicU64]> = (0..shards).map(|_| AtomicU64::new(0)).collect();
        let events = Events::start(&config.events, &Arc::default()).map_err(StartError::Events)?;
        let shared = Shared {
            config: Arc::new(config),
            tls,
            beats,
            nudges: (0..shards).map(|_| Arc::new(Nudge::new(clock::now()))).collect(),
            started: clock::now(),
            started_unix_ms: clock::unix_millis(),
            ports: Arc::new(bound.ports),
            base_bytes: Arc::default(),
            policy,
            node: NodeId(secret_seed(0)?),
            resolver: Some(resolver),
            rules: Arc::new(rules),
            comparer: Some(comparer),
            upkeep: Arc::default(),
            event_counts: Arc::clone(&events.counts),
            applied: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            reloader: Arc::default(),
        };
        let (ready, started) = crossbeam_channel::bounded(shards);
        let (over, ended) = crossbeam_channel::bounded(shards);
        let mut handles = Vec::with_capacity(shards);
        for ((index, end), listeners) in ends.into_iter().enumerate().zip(bound.per_shard) {
            let start = Start {
                shared: shared.clone(),
                events: events.clone(),
                listeners,
                seed: secret_seed(index)?,
                ready: ready.clone(),
            };
            let over = OnDrop { index, over: over.clone() };
            let spawned = LocalExecutorBuilder::new(Placement::Fixed(cpus[index]))
                .name(&format!("shard-{index}"))
                .io_memory(EXECUTOR_IO_MEMORY)
                .ring_depth(EXECUTOR_RING_DEPTH)
                .preempt_timer(PREEMPT_TIMER)
                .spawn(move || async move {
                    let _over = over;
                    start.run(end).await
                });
            handles.push(spawned.map_err(|error| failed(index, &error.to_string()))?);
        }
        drop((ready, over));
        let now = clock::now();
        let beats = vec![(0, now); shards];
        let addresses = bound.addresses;
        let (upkeep, watch) = (None, None);
        let mut server =
            Self { handles, ended, remote, shared, addresses, events, beats, upkeep, watch };
        server.await_shards(&started)?;
        let upkeep = Upkeep::start(&server.shared.config.record, &server.shared.upkeep);
        server.upkeep = upkeep
            .inspect_err(|error| tracing::error!(%error, "nobody looks after recordings"))
            .ok();
        let base = sys::resident_bytes().saturating_sub(sys_heap::free_bytes());
        server.shared.base_bytes.store(base, Ordering::Relaxed);
        Ok(server)
    }

    fn await_shards(&mut self, started: &Receiver<usize>) -> Result<(), StartError> {
        let deadline = clock::now() + START_MAX;
        for _ in 0..self.handles.len() {
            match started.recv_deadline(deadline) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(failed(0, "it did not report within 10 s"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let dead = self.ended.try_recv().unwrap_or(0);
                    return Err(failed(dead, &self.join_cause(dead)));
                }
            }
        }
        Ok(())
    }

    /// What a shard that has ended said last.
    fn join_cause(&mut self, index: usize) -> String {
        if index >= self.handles.len() {
            return "it ended".to_owned();
        }
        match self.handles.remove(index).join() {
            Ok(Ok(())) => "it ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Where the server listens, by service name.
    #[must_use]
    pub fn addresses(&self) -> &[(&'static str, SocketAddr)] {
        &self.addresses
    }

    /// The ports in use.
    #[must_use]
    pub fn ports(&self) -> Ports {
        *self.shared.ports
    }

    /// From where publishers may come, as a sentence goes on after "publishing".
    #[must_use]
    pub fn publishing(&self) -> &'static str {
        self.shared.rules.publishing()
    }

    /// A way to send to the shards from any thread.
    #[must_use]
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// From now on the files are read again when they change, and when that is asked for.
    /// `accepted` and `policy` are what the server was started with, `named` what the files they
    /// name held before that.
    ///
    /// # Errors
    /// There are no more threads.
    pub fn watch_files(
        &mut self,
        files: Files,
        accepted: Accepted,
        policy: Policy,
        named: Contents,
    ) -> Result<(), StartError> {
        let shared = &self.shared;
        let running = Running {
            config: Arc::clone(&shared.config),
            policy,
            active: Arc::clone(&shared.policy),
            events: std::mem::take(&mut self.events),
            remote: self.remote.clone(),
            applied: Arc::clone(&shared.applied),
            tls: shared.tls.clone(),
            rules: Arc::clone(&shared.rules),
            upkeep: self.upkeep.take(),
            upkeep_counts: Arc::clone(&shared.upkeep),
        };
        let reloader = Arc::new(Reloader::new(files, accepted, named, running));
        let watch = Watch::start(Arc::clone(&reloader)).map_err(|e| failed(0, &e.to_string()))?;
        self.watch = Some(watch);
        // Set once, here.
        let _ = self.shared.reloader.set(reloader);
        Ok(())
    }

    /// Has the files read again, soon; a bad one changes nothing.
    pub fn reload(&self) {
        if let Some(watch) = &self.watch {
            watch.signal();
        }
    }

    /// Looks whether all shards live, and wakes those that oversleep; `Some` when the process must
    /// end. To be called every few dozen milliseconds.
    pub fn watch(&mut self) -> Option<Ended> {
        if let Ok(shard) = self.ended.try_recv() {
            let cause = "it ended without being asked to".to_owned();
            return Some(Ended::ShardDied { shard, cause });
        }
        let now = clock::now();
        for (shard, nudge) in self.shared.nudges.iter().enumerate() {
            if nudge.wake_if_late(now) {
                tracing::debug!(shard, "overslept: woken");
            }
        }
        for (index, (seen, at)) in self.beats.iter_mut().enumerate() {
            let beat = self.shared.beats[index].load(Ordering::Relaxed);
            if beat != *seen {
                (*seen, *at) = (beat, now);
            } else if now.saturating_duration_since(*at) > STALL_MAX {
                let place = if beat % 2 == 1 { "stuck in a turn" } else { "asleep" };
                let cause = format!("it has not turned for {} s, {place}", STALL_MAX.as_secs());
                return Some(Ended::ShardDied { shard: index, cause });
            }
        }
        None
    }

    /// Stops all shards and waits for them, up to the deadline.
    #[must_use]
    pub fn stop(mut self, deadline: Instant) -> Ended {
        if let Some(watch) = self.watch.take() {
            // A reload that is stuck is not to cost the shards their farewells.
            watch.stop(deadline.min(clock::now() + RELOAD_END_MAX));
        }
        // A full control queue is tried again: shards drain theirs on every turn.
        while !self.remote.broadcast(|| ControlMessage::Stop) {
            if clock::now() >= deadline {
                break;
            }
            std::thread::yield_now();
        }
        for _ in 0..self.handles.len() {
            if self.ended.recv_deadline(deadline).is_err() {
                let cause = "it did not stop in time".to_owned();
                return Ended::ShardDied { shard: 0, cause };
            }
        }
        let deadline = deadline.min(clock::now() + EVENTS_MAX);
        match self.shared.reloader.get() {
            Some(reloader) => reloader.finish(deadline),
            None => self.events.finish(deadline),
        }
        Ended::Stopped
    }
}

/// Reports the end of a shard's future, however it comes: a return, an error or a panic.
struct OnDrop {
    index: usize,
    over: Sender<usize>,
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        // Holds as many messages as there are shards: never full.
        let _ = self.over.try_send(self.index);
    }
}

struct Start {
    shared: Shared,
    events: Events,
    listeners: Vec<Listener>,
    seed: u64,
    ready: Sender<usize>,
}

impl Start {
    async fn run(self, end: crate::ring::MeshEnd) -> io::Result<()> {
        let id = end.id();
        let mut shard = Shard::new(end, self.shared, self.listeners, self.seed, clock::now())?;
        shard.events = self.events;
        let shard = Rc::new(RefCell::new(shard));
        // As many places as shards: never full. The receiver may have given up; then so do we.
        let _ = self.ready.try_send(id.index());
        drop(self.ready);
        shard::run(shard).await
    }
}

fn failed(shard: usize, cause: &str) -> StartError {
    StartError::ShardFailed { shard, cause: cause.to_owned() }
}

fn secret_seed(shard: usize) -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| failed(shard, &error.to_string()))?;
    Ok(u64::from_ne_bytes(bytes))
}

fn load_tls(config: &Config) -> Result<Option<Arc<TlsContext>>, StartError> {
    if !config.shows_certificate() {
        return Ok(None);
    }
    match TlsContext::load(&config.ssl, &config.base_dir) {
        Ok(tls) => Ok(Some(Arc::new(tls))),
        Err(error) => Err(StartError::Certificate(error.to_string())),
    }
}

#[derive(Default)]
struct Bound {
    per_shard: Vec<Vec<Listener>>,
    addresses: Vec<(&'static str, SocketAddr)>,
    ports: Ports,
}

fn bind_all(config: &Config, shards: usize, bound: &mut Bound) -> Result<(), StartError> {
    bound.per_shard = (0..shards).map(|_| Vec::new()).collect();
    // Publishers and players find a pair on whichever shard accepts them, and so do pulls.
    let (first, last) = (u32::from(config.rtsp.port_min), u32::from(config.rtsp.port_max));
    if (first.next_multiple_of(2)..last).step_by(2).len() < shards {
        let cause = "rtp@min to rtp@max holds no pair of UDP ports for it; widen the range";
        return Err(failed(shards - 1, cause));
    }
    let Config { rtmp, rtsp, http, .. } = config;
    if rtmp.enable {
        let port = bind("rtmp", rtmp.ip, rtmp.port, Service::Rtmp, bound)?;
        bound.ports.rtmp = Some(port);
    }
    if rtsp.enable {
        bound.ports.rtsp = Some(bind("rtsp", rtsp.ip, rtsp.port, Service::Rtsp, bound)?);
    }
    if http.enable {
        bound.ports.http = Some(bind("http", http.ip, http.port, Service::Http, bound)?);
        if http.ssl {
            let port = bind("https", http.ip, http.tls_port, Service::Http, bound)?;
            bound.ports.https = Some(port);
        }
    }
    Ok(())
}

/// One listener per shard on the same port; gives the port.
fn bind(
    service: &'static str,
    ip: Option<IpAddr>,
    port: u16,
    kind: Service,
    bound: &mut Bound,
) -> Result<u16, StartError> {
    let wanted = SocketAddr::new(ip.unwrap_or(Ipv6Addr::UNSPECIFIED.into()), port);
    let (first, addr) = match bind_first(wanted) {
        // A host without IPv6 has no dual-stack socket.
        Err(error) if ip.is_none() && error.kind() != io::ErrorKind::AddrInUse => {
            let v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
            bind_first(v4).map_err(|error| refused(service, v4, error))?
        }
        other => other.map_err(|error| refused(service, wanted, error))?,
    };
    let mut fds = vec![first];
    for _ in 1..bound.per_shard.len() {
        fds.push(sys_socket::listen(addr).map_err(|error| refused(service, addr, error))?);
    }
    for (listeners, fd) in bound.per_shard.iter_mut().zip(fds) {
        listeners.push(Listener { fd, service: kind });
    }
    bound.addresses.push((service, addr));
    Ok(addr.port())
}

fn bind_first(addr: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    sys_socket::probe_free(addr)?;
    let fd = sys_socket::listen(addr)?;
    let addr = sys_socket::local_addr(fd.as_fd())?;
    Ok((fd, addr))
}

fn refused(service: &'static str, addr: SocketAddr, source: io::Error) -> StartError {
    if source.kind() == io::ErrorKind::AddrInUse {
        StartError::PortTaken { service, addr, owner: None }
    } else {
        StartError::Bind { service, addr, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_str;
    use crate::net::preflight;
    use crate::ring::{Fault, ShardId};

    fn start(shards: usize) -> Server {
        start_with(shards, "")
    }

    fn start_with(shards: usize, options: &str) -> Server {
        let text = format!(
            "<config><engine><cores>{shards}</cores></engine>{options}\
             <rtmp><ip>127.0.0.1</ip><port>0</port><ssl>false</ssl></rtmp>\
             <rtsp><ip>127.0.0.1</ip><port>0</port><ssl>false</ssl></rtsp>\
             <http><ip>127.0.0.1</ip><port>0</port><ssl>false</ssl></http></config>"
        );
        let config = load_str("test", &text, std::path::Path::new(".")).unwrap();
        let cpus = preflight::place(&config.engine.cores).unwrap();
        let rules = Rules::load(&config).unwrap();
        Server::start(config, rules, ActivePolicy::none(), &cpus).unwrap()
    }

    fn await_death(server: &mut Server) -> Ended {
        let deadline = clock::now() + STALL_MAX * 2;
        while clock::now() < deadline {
            if let Some(ended) = server.watch() {
                return ended;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        panic!("nothing was noticed");
    }

    #[test]
    fn stops_when_asked() {
        let server = start(3);
        assert_eq!(server.addresses().len(), 3);
        assert_eq!(server.stop(clock::now() + Duration::from_secs(5)), Ended::Stopped);
    }

    #[test]
    fn a_stop_does_not_wait_for_events_where_none_are_queued() {
        let server = start_with(2, "<events><url>http://127.0.0.1:1/</url></events>");
        let begun = clock::now();
        assert_eq!(server.stop(begun + Duration::from_secs(20)), Ended::Stopped);
        let taken = clock::now().saturating_duration_since(begun);
        assert!(taken < EVENTS_MAX, "{taken:?}");
    }

    #[test]
    fn a_shard_that_panics_or_hangs_is_noticed() {
        for (fault, word) in
            [(Fault::ShardPanic, "without being asked"), (Fault::ShardHang, "not turned")]
        {
            let mut server = start(2);
            assert_eq!(server.watch(), None);
            assert!(server.remote().send(ShardId(1), ControlMessage::Fault(fault)));
            match await_death(&mut server) {
                Ended::ShardDied { shard: 1, cause } => assert!(cause.contains(word), "{cause}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
