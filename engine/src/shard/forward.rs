//! Forwards of the streams this shard owns: dialled while there is something to send, put on a wire
//! like viewers, kept up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocols::hops::Hops;
use protocols::media::{Codec, StreamKey};
use protocols::session::{AccessRequest, Command, ErrorClass, Refusal, SessionError};
use slab::Slab;

use super::dial::{Dial, REDIRECTED, Route, UNANSWERED};
use crate::conn::{CloseReason, Protocol, Role, Wants};
use crate::events::Event;
use crate::forward::{Action, ForwardStatus, Forwarder, State, StreamUrl, Target, client, targets};
use crate::net::reach;
use crate::net::resolve::Asker;
use crate::ring::Token;
use crate::shard::Shard;
use crate::stream::{Container, Format};

/// Redirects followed before a target counts as failed.
const REDIRECTS_MAX: u8 = 3;
/// Connections on which a target may ask who we are: once for the name, once for the proof.
const AUTH_STEPS_MAX: u8 = 2;
/// Over so long a rate is counted.
const RATE_INTERVAL: Duration = Duration::from_secs(1);
/// Tells the seed of retries from that of sessions.
const FORWARD_SEED: u64 = 0x464f_5257;

/// The end of a connection that leads to another one at once, like one that was redirected.
const ASKED_AGAIN: &str = "asked_again";

/// What a shard knows of forwards.
#[derive(Default)]
pub(super) struct Forwards {
    pub(super) list: Slab<Forward>,
    by_key: HashMap<StreamKey, Vec<usize>>,
    /// Changes with the policy.
    epoch: u64,
}

/// One forward of one stream.
pub(super) struct Forward {
    key: StreamKey,
    target: Target,
    /// Servers of our kind that the stream has passed, this one last.
    hops: Hops,
    forwarder: Forwarder,
    attempts: u64,
    pub(super) route: Route,
    /// Where the target has sent us.
    redirected: Option<Target>,
    redirects: u8,
    /// What the target wants to be asked with.
    auth: Option<Box<str>>,
    auth_steps: u8,
    last_error: Option<Arc<str>>,
    /// What those who asked for event callbacks were told last: it is up, or down.
    told_up: Option<bool>,
    /// Bytes of connections that have ended.
    bytes_before: u64,
    rate: Rate,
}

/// Bytes over the last full interval.
struct Rate {
    since: Instant,
    bytes: u64,
    bits_per_second: u64,
}

impl Forward {
    fn goal(&self) -> &Target {
        self.redirected.as_ref().unwrap_or(&self.target)
    }

    /// The next connection is a new beginning.
    fn forget_dialogue(&mut self) {
        self.redirected = None;
        self.redirects = 0;
        self.auth = None;
        self.auth_steps = 0;
        self.route.forget();
    }
}

impl Forwards {
    /// The rules have changed: every stream is compared with them again.
    pub(super) fn renew(&mut self) {
        self.epoch += 1;
    }

    fn of_conn(&self, conn: Token) -> Option<usize> {
        self.list
            .iter()
            .find(|(_, forward)| forward.route.conn == Some(conn))
            .map(|(index, _)| index)
    }
}

impl Shard {
    /// How many of those who wait at the mirror of a stream, or watch it, are its forwards.
    pub(super) fn forwards_in_audience(&self, key: &StreamKey) -> usize {
        let there = |role: &&Role| matches!(role, Role::Waiting { .. } | Role::Viewer { .. });
        self.forward_roles(key).filter(there).count()
    }

    /// How many of those who watch it are.
    pub(super) fn forwards_on_wires(&self, key: &StreamKey) -> usize {
        self.forward_roles(key).filter(|role| matches!(role, Role::Viewer { .. })).count()
    }

    fn forward_roles(&self, key: &StreamKey) -> impl Iterator<Item = &Role> {
        let of_key = self.forwards.by_key.get(key).into_iter().flatten();
        let conns = of_key.filter_map(|&index| self.forwards.list.get(index)?.route.conn);
        conns.filter_map(|conn| self.plane.slot(conn)).map(|slot| &self.plane.conns[slot].role)
    }

    /// By the clock: which streams are to be forwarded where, what is to be dialled, and rates.
    pub(crate) fn tend_forwards(&mut self, now: Instant) {
        let epoch = self.forwards.epoch;
        let wanted = |stream: &crate::stream::Stream| {
            stream.publisher.as_ref().map(|_| (stream.generation, epoch))
        };
        let changed = self.streams.iter().filter(|(_, stream)| stream.forwarded != wanted(stream));
        let changed: Vec<usize> = changed.map(|(index, _)| index).collect();
        for index in changed {
            self.sync_forwards(index, now);
            self.streams[index].forwarded = wanted(&self.streams[index]);
        }
        let known: Vec<usize> = self.forwards.list.iter().map(|(index, _)| index).collect();
        for index in known {
            self.tend_forward(index, now);
        }
    }

    /// Compares the forwards of a stream with what the rules say: only what differs is touched.
    fn sync_forwards(&mut self, index: usize, now: Instant) {
        let stream = &self.streams[index];
        let key = stream.key.clone();
        let (wanted, hops) = match &stream.publisher {
            Some(publisher) if key.delay_s() == 0 && self.policy.forwards() => {
                let info = &publisher.info;
                let own_port = self.shared.ports.rtmp;
                let url = StreamUrl {
                    host: &info.host,
                    port: if info.protocol == "rtmp" { info.port } else { own_port },
                    vhost: key.vhost(),
                    app: key.app(),
                    name: key.name(),
                };
                let vhosts = &self.config.vhosts;
                let is_vhost = |host: &str| vhosts.iter().any(|v| v.eq_ignore_ascii_case(host));
                (targets(&self.policy.rules, &url, &is_vhost), info.hops.clone())
            }
            _ => (Vec::new(), Hops::default()),
        };
        let passed = hops.with(self.shared.node);
        let known = self.forwards.by_key.remove(&key).unwrap_or_default();
        let mut kept = Vec::new();
        for place in known {
            let forward = &self.forwards.list[place];
            if forward.hops == passed && wanted.contains(&forward.target) {
                kept.push(place);
            } else {
                self.stop_forward(place, now);
                self.forwards.list.remove(place);
            }
        }
        for target in wanted {
            if kept.iter().any(|&place| self.forwards.list[place].target == target) {
                continue;
            }
            tracing::info!(%key, to = %target.shown, at = %target.host, "is to be forwarded");
            let seed = self.next_seed() ^ FORWARD_SEED;
            kept.push(self.forwards.list.insert(Forward {
                key: key.clone(),
                target,
                hops: passed.clone(),
                forwarder: Forwarder::new(seed),
                attempts: 0,
                route: Route::default(),
                redirected: None,
                redirects: 0,
                auth: None,
                auth_steps: 0,
                last_error: None,
                told_up: None,
                bytes_before: 0,
                rate: Rate { since: now, bytes: 0, bits_per_second: 0 },
            }));
        }
        if !kept.is_empty() {
            self.forwards.by_key.insert(key, kept);
        }
    }

    fn tend_forward(&mut self, index: usize, now: Instant) {
        let Some(forward) = self.forwards.list.get(index) else { return };
        let since = forward.rate.since;
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= RATE_INTERVAL {
            let sent = self.forwarded_bytes(index);
            let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
            let rate = &mut self.forwards.list[index].rate;
            rate.bits_per_second = sent.saturating_sub(rate.bytes).saturating_mul(8000) / millis;
            (rate.since, rate.bytes) = (now, sent);
        }
        if self.tend_route(Asker::Forward(index), now) {
            return;
        }
        let forward = &mut self.forwards.list[index];
        let running = matches!(forward.forwarder.state(), State::Connecting | State::Live { .. });
        let stream = self.stream_index.get(&forward.key).map(|&at| &self.streams[at]);
        let published = stream.filter(|stream| stream.publisher.is_some());
        let joinable = published.is_some_and(|stream| {
            let mirror = &self.mirrors[stream.mirror];
            // A newer publisher has no keyframe yet: no reason to hang up.
            running || (mirror.is_ready() && mirror.log.joinable().next().is_some())
        });
        match forward.forwarder.step(now, joinable) {
            Action::Nothing => {}
            Action::Start => self.start_forward(index, now),
            Action::Stop => self.stop_forward(index, now),
        }
    }

    fn forwarded_bytes(&self, index: usize) -> u64 {
        let Some(forward) = self.forwards.list.get(index) else { return 0 };
        let slot = forward.route.conn.and_then(|conn| self.plane.slot(conn));
        let now = slot.map_or(0, |slot| {
            let conn = &self.plane.conns[slot];
            let on_wire = match conn.role {
                Role::Viewer { mirror, wire, index } => {
                    self.mirrors[mirror].wires[wire].viewers[index].sent
                }
                Role::Idle
                | Role::Applying(_)
                | Role::Claiming { .. }
                | Role::Publisher(_)
                | Role::Waiting { .. } => 0,
            };
            conn.bytes_out + on_wire
        });
        forward.bytes_before + now
    }

    fn start_forward(&mut self, index: usize, now: Instant) {
        self.counters.forward_attempts += 1;
        let forward = &mut self.forwards.list[index];
        forward.attempts += 1;
        // The list holds this server already; what is full has no room for the next.
        if forward.hops.nodes().last() != Some(&self.shared.node) {
            return self.fail_forward(index, "too_many_hops", None, now);
        }
        let (host, port) = (forward.goal().host.clone(), forward.goal().port);
        self.seek(Asker::Forward(index), (&host, port), now);
    }

    pub(super) fn try_target(
        &mut self,
        index: usize,
        address: SocketAddr,
        now: Instant,
    ) -> Result<Token, &'static str> {
        let seed = self.next_seed();
        let forward = &mut self.forwards.list[index];
        let goal = forward.goal().clone();
        let redirected = forward.redirected.is_some();
        let first = &mut forward.route.reach;
        reach::admit_next(first, redirected, &goal.host, goal.local, address.ip())?;
        let (auth, hops) = (forward.auth.clone(), forward.hops.clone());
        let session = client(now, seed, &goal, auth, hops, &self.config);
        let to = Dial {
            protocol: Protocol::Forward,
            address,
            tls: goal.tls.then_some((goal.ca.as_deref(), goal.server_name.as_str())),
            shown: &goal.shown,
        };
        self.dial(&to, Box::new(session), now)
    }

    /// The target takes the stream: its connection waits at the mirror like a viewer's.
    pub(crate) fn feed_target(&mut self, slot: usize, request: &AccessRequest, now: Instant) {
        let token = self.plane.token(slot);
        let index = self.forwards.of_conn(token);
        let key = index.map(|index| &self.forwards.list[index].key);
        let Some(&mirror) = key.and_then(|key| self.mirror_index.get(key)) else {
            return self.command(token, Command::Reject(Refusal::PublisherGone));
        };
        let tracks = self.mirrors[mirror].log.tracks();
        let codec = tracks.video.as_ref().map(|track| track.codec);
        let format = Format {
            container: Container::Rtmp {
                message_stream_id: request.message_stream_id,
                chunk_size: self.plane.conns[slot].chunk_size,
            },
            enhanced: request.enhanced,
            // The one codec with both forms.
            legacy: !request.enhanced && !tracks.legacy_flv && codec == Some(Codec::H265),
            video: true,
            audio: true,
            merge_ms: None,
        };
        self.mirrors[mirror].waiting.push(token.index);
        self.mirrors[mirror].used_at = now;
        let wants = Wants::Play(format);
        self.plane.conns[slot].role = Role::Waiting { mirror, since: now, wants, relay: false };
        self.attach_waiting(mirror, now);
    }

    /// Its connection is on a wire.
    pub(super) fn on_target_fed(&mut self, conn: Token, now: Instant) {
        let Some(index) = self.forwards.of_conn(conn) else { return };
        let forward = &mut self.forwards.list[index];
        forward.forwarder.went_live(now);
        tracing::info!(key = %forward.key, to = %forward.target.shown, "forwarding");
        self.tell_of_forward(index, true, "");
    }

    /// Tells those who asked for event callbacks, unless they know.
    fn tell_of_forward(&mut self, index: usize, up: bool, reason: &str) {
        let forward = &mut self.forwards.list[index];
        if forward.told_up.replace(up) == Some(up) {
            return;
        }
        let (stream, target) = ((&forward.key).into(), forward.target.shown.to_string());
        self.announce(match up {
            true => Event::ForwardUp { stream, target },
            false => Event::ForwardDown { stream, target, reason: reason.to_owned() },
        });
    }

    /// There is nothing to forward any more, or not there.
    fn stop_forward(&mut self, index: usize, now: Instant) {
        let forward = &mut self.forwards.list[index];
        forward.forget_dialogue();
        let sent = self.forwarded_bytes(index);
        let forward = &mut self.forwards.list[index];
        forward.bytes_before = sent;
        let Some(token) = forward.route.conn.take() else { return };
        if self.forwards.list[index].told_up == Some(true) {
            self.tell_of_forward(index, false, "nothing to forward");
        }
        self.part_with(token, Refusal::PublisherGone, CloseReason::Unwanted, now);
    }

    /// The connection of a forward has ended.
    pub(crate) fn on_forward_closed(&mut self, conn: Token, reason: &CloseReason, now: Instant) {
        let Some(index) = self.forwards.of_conn(conn) else { return };
        let sent = self.forwarded_bytes(index);
        let forward = &mut self.forwards.list[index];
        forward.bytes_before = sent;
        forward.route.conn = None;
        let again = matches!(
            reason,
            CloseReason::Session(error) if [REDIRECTED, ASKED_AGAIN].contains(&error.reason)
        );
        if again {
            return self.start_forward(index, now);
        }
        // A name may have an address of either family, of which one leads nowhere.
        let connecting = forward.forwarder.state() == State::Connecting;
        let unreached = matches!(reason, CloseReason::Socket(_) | CloseReason::Limit(UNANSWERED));
        if connecting && unreached && forward.route.has_more() {
            return self.dial_next(Asker::Forward(index), now);
        }
        self.fail_forward(index, reason.label(), Some(reason.to_string()), now);
    }

    /// A forward has failed or ended: it is tried again after a pause.
    pub(super) fn fail_forward(
        &mut self,
        index: usize,
        reason: &'static str,
        detail: Option<String>,
        now: Instant,
    ) {
        let forward = &mut self.forwards.list[index];
        forward.forget_dialogue();
        let declined = matches!(reason, "loop" | "too_many_hops" | "unauthorised");
        let Some(pause) = forward.forwarder.ended(now, declined) else { return };
        let detail: Arc<str> = detail.map_or(reason.into(), Into::into);
        if self.stopping.is_some() {
            if forward.told_up == Some(true) {
                self.tell_of_forward(index, false, &detail);
            }
            return;
        }
        let (key, to, at) = (&forward.key, &forward.target.shown, &forward.target.host);
        tracing::warn!(%key, %to, %at, error = %detail, ?pause, "not forwarded, trying again");
        forward.last_error = Some(Arc::clone(&detail));
        *self.counters.forward_failures.entry(reason).or_default() += 1;
        self.tell_of_forward(index, false, &detail);
    }

    /// The target sends us elsewhere.
    pub(crate) fn redirect_forward(&mut self, slot: usize, url: &str, now: Instant) {
        let Some(index) = self.forwards.of_conn(self.plane.token(slot)) else { return };
        let forward = &mut self.forwards.list[index];
        let there = forward.goal().redirected(url).filter(|_| forward.redirects < REDIRECTS_MAX);
        let reason = if there.is_some() { REDIRECTED } else { "bad_redirect" };
        if there.is_some() {
            forward.redirected = there;
            forward.redirects += 1;
            forward.auth = None;
            forward.auth_steps = 0;
        }
        let detail = "the target sends us elsewhere";
        let error = SessionError::new(ErrorClass::Refused, reason, detail);
        self.close(slot, CloseReason::Session(error), now);
    }

    /// The target wants to be asked again, and to be told who we are.
    pub(crate) fn connect_again(&mut self, slot: usize, query: Box<str>, now: Instant) {
        let Some(index) = self.forwards.of_conn(self.plane.token(slot)) else { return };
        let forward = &mut self.forwards.list[index];
        forward.auth_steps += 1;
        let reason =
            if forward.auth_steps <= AUTH_STEPS_MAX { ASKED_AGAIN } else { "unauthorised" };
        forward.auth = Some(query);
        let detail = "the target wants to know who publishes";
        let error = SessionError::new(ErrorClass::Refused, reason, detail);
        self.close(slot, CloseReason::Session(error), now);
    }

    /// What the API shows of a stream's forwards.
    pub(super) fn forward_statuses(&self, key: &StreamKey, now: Instant) -> Vec<ForwardStatus> {
        let places = self.forwards.by_key.get(key).into_iter().flatten();
        let status = |&index: &usize| {
            let forward = &self.forwards.list[index];
            let state = forward.forwarder.state();
            let slot = forward.route.conn.and_then(|conn| self.plane.slot(conn));
            let (live_for, retry_in) = match state {
                State::Live { since } => (Some(now.saturating_duration_since(since)), None),
                State::Waiting { until } => (None, Some(until.saturating_duration_since(now))),
                State::Resting | State::Connecting => (None, None),
            };
            ForwardStatus {
                target: Arc::clone(&forward.target.shown),
                address: slot.map(|slot| self.plane.conns[slot].peer),
                state: state.name(),
                live_for,
                retry_in,
                attempts: forward.attempts,
                bytes_out: self.forwarded_bytes(index),
                bits_per_second: forward.rate.bits_per_second,
                last_error: forward.last_error.clone(),
            }
        };
        places.map(status).collect()
    }
}
