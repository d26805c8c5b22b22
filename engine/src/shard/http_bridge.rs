//! Connections that leave the plane for an HTTP task, and viewers that come back from one.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_lite::future::BoxedLocal;
use protocols::media::StreamKey;

use super::auth_task::admission;
use super::kick::{Kick, Kicked};
use super::sessions::{self, SessionPage, SessionQuery};
use super::{Absent, Ports, Wanted, ask_all, shift, snapshot};
use crate::auth::{By, Question, Role};
use crate::clock;
use crate::config::Config;
use crate::conn::{CloseReason, Conn, ConnId, Protocol};
use crate::http::HttpContext;
use crate::http::api::{Admission, Backend, ServiceState, StatusInfo, StreamInfo, Totals};
use crate::http::io::Io;
use crate::http::live::LiveSession;
use crate::http::server::{MediaHandoff, Outcome, serve};
use crate::net::awaited::Awaited;
use crate::net::tls::Purpose;
use crate::net::{sys, sys_heap};
use crate::observe::Viewers;
use crate::observe::{self, Process, PullReport, ShardReport, Topic};
use crate::reload::Reloader;
use crate::segment::{Packaging, Snapshot};
use crate::shard::{Shard, Shared};
use crate::timeshift::Refused;

/// First byte of a TLS record that carries a handshake (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What HTTP answers are made from.
struct ShardBackend {
    shard: Rc<RefCell<Shard>>,
    shared: Shared,
}

impl Backend for ShardBackend {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.shard.borrow().config)
    }

    fn admission(&self, question: &Question, session: Option<&str>) -> Admission {
        admission(&self.shard, question, session)
    }

    fn lets_all(&self, role: Role) -> bool {
        let mut shard = self.shard.borrow_mut();
        let all = shard.auth.rules.let_all(role);
        if all {
            shard.counters.auth.allowed(role, By::Open);
        }
        all
    }

    fn challenge(&self, role: Role) -> Option<&'static str> {
        self.shard.borrow().auth.rules.challenge(role)
    }

    fn segments(
        &self,
        key: StreamKey,
        packaging: Packaging,
        wanted: Wanted,
        patience: Duration,
    ) -> BoxedLocal<Result<Arc<Snapshot>, Absent>> {
        let shard = Rc::clone(&self.shard);
        Box::pin(async move { snapshot(&shard, key, packaging, wanted, patience).await })
    }

    fn shift(&self, key: StreamKey) -> BoxedLocal<Result<(), Refused>> {
        let shard = Rc::clone(&self.shard);
        Box::pin(async move { shift(&shard, key).await })
    }

    fn streams(&self) -> BoxedLocal<Vec<StreamInfo>> {
        let shard = Rc::clone(&self.shard);
        Box::pin(async move { stream_infos(&ask_all(&shard, Topic::Streams).await) })
    }

    fn metrics(&self) -> BoxedLocal<String> {
        let shard = Rc::clone(&self.shard);
        let shared = self.shared.clone();
        Box::pin(async move {
            let reports = ask_all(&shard, Topic::Counters).await;
            let process = Process {
                shards: shard.borrow().mesh.shards(),
                uptime: clock::now().saturating_duration_since(shared.started),
                base_bytes: shared.base_bytes.load(Ordering::Relaxed),
                resident_bytes: sys::resident_bytes(),
                heap_free_bytes: sys_heap::free_bytes(),
                nudges: shared.nudges.iter().map(|nudge| nudge.count()).sum(),
                recovered: shared.upkeep.recovered.load(Ordering::Relaxed),
                deleted: shared.upkeep.deleted.load(Ordering::Relaxed),
                events: shared.event_counts.by_outcome(),
                reloads: reloads(&shared),
            };
            observe::render(&reports, &process)
        })
    }

    fn sessions(&self, query: SessionQuery) -> BoxedLocal<SessionPage> {
        let shard = Rc::clone(&self.shard);
        Box::pin(async move { sessions::page(&shard, query).await })
    }

    fn kick(&self, kick: Kick) -> BoxedLocal<Option<Kicked>> {
        let shard = Rc::clone(&self.shard);
        Box::pin(async move { super::kick(&shard, kick).await })
    }

    fn pulls(&self) -> BoxedLocal<Vec<PullReport>> {
        let shard = Rc::clone(&self.shard);
        Box::pin(async move {
            let reports = ask_all(&shard, Topic::Pulls).await;
            reports.into_iter().flat_map(|report| report.pulls).collect()
        })
    }

    fn totals(&self) -> BoxedLocal<Totals> {
        let shard = Rc::clone(&self.shard);
        let started = self.shared.started;
        Box::pin(async move {
            let reports = ask_all(&shard, Topic::Counters).await;
            let mut totals = Totals {
                uptime: clock::now().saturating_duration_since(started),
                shards: shard.borrow().mesh.shards(),
                ..Totals::default()
            };
            for report in &reports {
                totals.add(report);
            }
            totals
        })
    }

    fn reloader(&self) -> Option<Arc<Reloader>> {
        self.shared.reloader.get().cloned()
    }

    fn status(&self) -> StatusInfo {
        let shard = self.shard.borrow();
        let ssl = shard.tls.is_some();
        let Ports { rtmp, rtsp, http, https } = *self.shared.ports;
        let state = |port: Option<u16>, ssl| ServiceState {
            port: port.unwrap_or(0),
            running: port.is_some(),
            ssl,
        };
        StatusInfo {
            start_unix_s: i64::try_from(self.shared.started_unix_ms / 1000).unwrap_or(i64::MAX),
            rtmp: state(rtmp, ssl && shard.config.rtmp.ssl),
            rtsp: state(rtsp, ssl && shard.config.rtsp.ssl),
            http: state(http, ssl),
            https: state(https, ssl),
        }
    }
}

fn reloads(shared: &Shared) -> [(&'static str, u64); 2] {
    let (succeeded, failed) = shared.reloader.get().map_or((0, 0), |reloader| reloader.counts());
    [("succeeded", succeeded), ("failed", failed)]
}

/// Joins what owners know of streams with what every shard knows of viewers.
fn stream_infos(reports: &[ShardReport]) -> Vec<StreamInfo> {
    let now = clock::unix_millis();
    let mut infos: Vec<StreamInfo> = reports
        .iter()
        .flat_map(|report| &report.streams)
        .map(|stream| {
            let mut viewers = Viewers::default();
            let audiences = reports.iter().flat_map(|report| &report.audiences);
            for audience in audiences.filter(|audience| audience.key == stream.key) {
                viewers.add(&audience.viewers);
            }
            let publisher = &stream.publisher;
            StreamInfo {
                vhost: stream.key.vhost().to_owned(),
                app: stream.key.app().to_owned(),
                name: stream.key.name().to_owned(),
                publisher_host: publisher.host.clone(),
                publisher_port: publisher.port,
                from: publisher.protocol,
                source: publisher.source.clone(),
                agent: publisher.agent.clone(),
                session: publisher.session.map(|id| id.to_string()),
                peer: publisher.peer,
                uptime: Duration::from_millis(now.saturating_sub(publisher.since_unix_ms)),
                bytes_in: stream.bytes_in,
                bits_per_second: stream.bytes_per_second as f64 * 8.0,
                gop_frames: stream.gop_frames,
                tracks: Arc::clone(&stream.tracks),
                viewers,
                forwards: stream.forwards.clone(),
            }
        })
        .collect();
    infos.sort_by(|a, b| (&a.vhost, &a.app, &a.name).cmp(&(&b.vhost, &b.app, &b.name)));
    infos
}

impl Shard {
    /// Makes what HTTP tasks work with.
    pub(super) fn start_http(&mut self) {
        let Some(shard) = self.this.upgrade() else { return };
        let backend = ShardBackend { shard, shared: self.shared.clone() };
        self.http = Some(Rc::new(HttpContext::new(Rc::new(backend))));
    }

    /// Hands a connection that speaks HTTP, or TLS on an HTTP port, to a task.
    pub(crate) fn leave_for_http(&mut self, slot: usize, prefix: BytesMut, now: Instant) {
        let (Some(shard), Some(context)) = (self.this.upgrade(), self.http.clone()) else {
            return self.close(slot, CloseReason::Limit("not_started"), now);
        };
        let mut plain = BytesMut::new();
        let mut codec = None;
        if prefix.first() == Some(&TLS_HANDSHAKE)
            && let Some(tls) = &self.tls
        {
            let fed = tls.accept(Purpose::Http).and_then(|mut fresh| {
                fresh.receive(&prefix, &mut plain)?;
                Ok(fresh)
            });
            match fed {
                Ok(fresh) => codec = Some(fresh),
                Err(error) => return self.close(slot, CloseReason::Tls(error.to_string()), now),
            }
        } else {
            plain = prefix;
        }
        let Some(conn) = self.plane.conns.try_remove(slot) else { return };
        self.plane.epoll.remove(std::os::fd::AsFd::as_fd(&conn.fd));
        self.plane.http_tasks += 1;
        let Conn { id, peer, opened_at, fd, .. } = conn;
        let socket = Awaited::of_shard(fd, &self.plane.waiters);
        // The executor polls a new task at once, and this shard is borrowed: the loop spawns it.
        self.leaving.push(Box::pin(async move {
            let served = match socket {
                Ok(socket) => {
                    let io = Io::new(socket, codec, plain);
                    Guarded(Box::pin(serve(io, peer, context))).await
                }
                Err(error) => {
                    tracing::warn!(conn = %id, %error, "cannot serve HTTP");
                    None
                }
            };
            shard.borrow_mut().return_from_http(id, peer, opened_at, served);
        }));
    }

    fn return_from_http(
        &mut self,
        id: ConnId,
        peer: std::net::SocketAddr,
        opened_at: Instant,
        served: Option<Outcome>,
    ) {
        let now = clock::now();
        self.plane.http_tasks -= 1;
        let seconds = now.saturating_duration_since(opened_at).as_secs_f64();
        let proto = Protocol::Http.name();
        match served {
            Some(Outcome::Media(handoff)) => {
                self.adopt(id, opened_at, *handoff, now);
                return;
            }
            Some(Outcome::Closed { reason, bytes_in, bytes_out }) => {
                self.counters.bytes_in += bytes_in;
                self.counters.bytes_out += bytes_out;
                self.counters.closed(proto, reason);
                tracing::info!(conn = %id, %peer, proto, bytes_in, bytes_out, seconds, "closed {reason}");
            }
            None => {
                self.counters.panics += 1;
                self.counters.closed(proto, "panic");
                tracing::error!(conn = %id, %peer, proto, seconds, "closed panic");
            }
        }
        self.plane.admission.leave(peer.ip());
    }

    /// Takes a viewer over from its HTTP task.
    fn adopt(&mut self, id: ConnId, opened_at: Instant, handoff: MediaHandoff, now: Instant) {
        let MediaHandoff { fd, tls, leftover, mut request } = handoff;
        let peer = request.peer;
        let mut conn = Conn::new(id, fd, peer, Protocol::Live(request.kind), now);
        conn.opened_at = opened_at;
        conn.tls = tls.map(Box::new);
        conn.admittance = request.admittance.take();
        if let Some(held) = &mut conn.admittance {
            held.recheck_at = self.recheck_at(now);
        }
        conn.session = Some(Box::new(LiveSession::new(request)));
        // The plane counts what it reads itself; TLS has begun long ago.
        conn.bytes_in = 1;
        match self.plane.insert(conn) {
            Ok(slot) => {
                let token = self.plane.token(slot);
                self.guarded(token, now, |shard, slot| shard.feed(slot, leftover, now));
                // The loop may be asleep, and it runs the commands.
                self.mesh.kick_self();
            }
            Err(error) => {
                self.plane.admission.leave(peer.ip());
                tracing::warn!(conn = %id, %error, "cannot watch a viewer");
            }
        }
    }
}

/// A future whose panic is its end (`None`), not the end of the shard.
struct Guarded<F>(Pin<Box<F>>);

impl<F: Future> Future for Guarded<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let inner = self.0.as_mut();
        // After a panic the future is dropped with the task and never polled again.
        match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    }
}
