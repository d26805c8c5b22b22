//! Edge: the owner of a stream that is not there pulls it from an origin, once, however many ask on
//! whichever shards; what no origin has is remembered by all of them for a moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocols::hops::Hops;
use protocols::media::StreamKey;
use protocols::session::{Command, Refusal};

use super::owner_of;
use crate::conn::Role;
use crate::edge::{Blame, Health, Origins, blame};
use crate::pull::{Scheme, Source};
use crate::ring::{ControlMessage, ShardId};
use crate::shard::Shard;
use crate::stream::Asked;

/// So long a stream that no origin has is not asked for again.
const MISSING_FOR: Duration = Duration::from_secs(3);
/// Streams a shard remembers as missing.
const MISSING_MAX: usize = 4096;
/// Streams of a shard that are fetched from origins at a time.
const EDGE_PULLS_MAX: usize = 1024;
/// How often an owner is reminded that somebody waits.
const REMIND: Duration = Duration::from_secs(1);
/// A request counts for so long: reminders come more often.
const WANTED_FOR: Duration = Duration::from_secs(2);

/// What a shard knows of streams that origins may have.
#[derive(Debug, Default)]
pub(super) struct Edge {
    health: Health,
    /// Streams that no origin has, until then.
    missing: HashMap<StreamKey, Instant>,
}

/// A pull that was begun for a request.
#[derive(Debug)]
pub(super) struct EdgePull {
    pub(super) rule: Arc<Origins>,
    /// The origin it is asked of.
    origin: usize,
    /// Origins of this round that did not have it.
    tried: Vec<usize>,
    /// It has been live: viewers may be attached.
    pub(super) was_live: bool,
    asked_at: Instant,
    /// Shards to be told if it is missing.
    askers: Vec<ShardId>,
    /// Servers of our kind that the request has passed, this one last.
    pub(super) hops: Hops,
}

impl EdgePull {
    /// It is live: the next time, any origin may be asked again.
    pub(super) fn note_live(&mut self) {
        self.was_live = true;
        self.tried.clear();
    }

    /// Somebody has asked for it lately.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.asked_at) < WANTED_FOR
    }
}

impl Edge {
    fn is_missing(&self, key: &StreamKey, now: Instant) -> bool {
        self.missing.get(key).is_some_and(|until| now < *until)
    }

    fn note_missing(&mut self, key: &StreamKey, now: Instant) {
        if self.missing.len() >= MISSING_MAX {
            self.missing.retain(|_, until| now < *until);
        }
        // A table that is full of fresh ones forgets this one: it is asked for again too soon.
        if self.missing.len() < MISSING_MAX {
            self.missing.insert(key.clone(), now + MISSING_FOR);
        }
    }

    /// The rules have changed: what was missing may be there, and some origins may be gone.
    pub(super) fn renew(&mut self, rules: &[Arc<Origins>]) {
        self.missing.clear();
        self.health.retain(|url| rules.iter().any(|rule| rule.urls.iter().any(|u| u == url)));
    }
}

impl Shard {
    /// The origins that may have a stream; none for what is pulled by an entry of its own.
    pub(super) fn origins_of(&self, key: &StreamKey) -> Option<&Arc<Origins>> {
        let rule = self.policy.origins.iter().find(|rule| rule.cover(key))?;
        (!self.pulls.cover(key)).then_some(rule)
    }

    /// Whether a request that has come this way may wait for a stream.
    pub(super) fn admit_relay(
        &self,
        key: StreamKey,
        hops: &Hops,
        now: Instant,
    ) -> Result<StreamKey, Refusal> {
        if let Err(error) = hops.admit(self.shared.node) {
            tracing::info!(%key, %hops, %error, "a request of another server is refused");
            return Err(Refusal::Loop);
        }
        let online = self.mirror_index.get(&key).is_some_and(|&at| self.mirrors[at].online);
        if !online && self.edge.is_missing(&key, now) && self.origins_of(&key).is_some() {
            return Err(Refusal::StreamNotFound);
        }
        Ok(key)
    }

    /// A request that has come this way waits at a mirror: tells the owner of a stream that origins
    /// may have.
    pub(super) fn ask_owner(&mut self, index: usize, hops: &Hops, now: Instant) {
        let asked = &mut self.mirrors[index].asked;
        match asked {
            Some(asked) if asked.hops.nodes().len() <= hops.nodes().len() => {}
            Some(asked) => asked.hops = hops.clone(),
            None => *asked = Some(Asked { at: None, hops: hops.clone() }),
        }
        self.remind_owner(index, now);
    }

    /// The same for those who go on waiting.
    fn remind_owner(&mut self, index: usize, now: Instant) {
        let mirror = &mut self.mirrors[index];
        if mirror.online || mirror.waiting.is_empty() {
            mirror.asked = None;
        }
        let Some(asked) = &mirror.asked else { return };
        if asked.at.is_some_and(|at| now.saturating_duration_since(at) < REMIND) {
            return;
        }
        let (key, hops) = (mirror.key.clone(), asked.hops.clone());
        if self.origins_of(&key).is_none() {
            return;
        }
        let owner = owner_of(&key, self.mesh.shards());
        if self.mesh.send(owner, ControlMessage::WantStream { key, from: self.id, hops })
            && let Some(asked) = &mut self.mirrors[index].asked
        {
            asked.at = Some(now);
        }
    }

    /// A shard has viewers that wait for a stream of ours.
    pub(super) fn on_want_stream(
        &mut self,
        key: &StreamKey,
        from: ShardId,
        hops: &Hops,
        now: Instant,
    ) {
        let published = self.stream_index.get(key).map(|&at| &self.streams[at].publisher);
        if published.is_some_and(Option::is_some) {
            return;
        }
        match self.edge_pull(key, hops, now) {
            Some(index) => {
                if let Some(edge) = &mut self.pulls.list[index].edge {
                    edge.asked_at = now;
                    if !edge.askers.contains(&from) {
                        edge.askers.push(from);
                    }
                }
                self.tend_pull(index, now);
            }
            None => {
                self.mesh.send(from, ControlMessage::NotFound { key: key.clone() });
            }
        }
    }

    /// The pull of a stream that origins may have, begun if it is not there; `None` if they do not
    /// have it, or too much is being fetched.
    pub(super) fn edge_pull(
        &mut self,
        key: &StreamKey,
        hops: &Hops,
        now: Instant,
    ) -> Option<usize> {
        if let Some(&index) = self.pulls.by_key.get(key) {
            return Some(index);
        }
        let rule = Arc::clone(self.origins_of(key)?);
        if self.edge.is_missing(key, now) || self.stopping.is_some() {
            return None;
        }
        let pulls = self.pulls.list.iter().filter(|(_, pull)| pull.edge.is_some()).count();
        if pulls >= EDGE_PULLS_MAX {
            tracing::warn!(%key, "not fetched: {EDGE_PULLS_MAX} streams are");
            *self.counters.pull_failures.entry("edge_pulls").or_default() += 1;
            return None;
        }
        let first = *rule.ranked(key).first()?;
        let entry = Arc::new(rule.entry(first, key)?);
        let edge = EdgePull {
            rule,
            origin: first,
            tried: Vec::new(),
            was_live: false,
            asked_at: now,
            askers: Vec::new(),
            hops: hops.with(self.shared.node),
        };
        let seed = self.next_seed();
        Some(self.pulls.add(key.clone(), entry, seed, Some(edge)))
    }

    /// Takes the best origin that is well and was not asked in this round; false if there is none.
    pub(super) fn choose_origin(&mut self, index: usize, now: Instant) -> bool {
        let pull = &mut self.pulls.list[index];
        let Some(edge) = &mut pull.edge else { return true };
        let health = &self.edge.health;
        let next = edge.rule.ranked(&pull.key).into_iter().find(|origin| {
            !edge.tried.contains(origin) && health.is_well(&edge.rule.urls[*origin], now)
        });
        let entry = next.and_then(|next| Some((next, edge.rule.entry(next, &pull.key)?)));
        let Some((origin, entry)) = entry else { return false };
        edge.origin = origin;
        edge.tried.push(origin);
        pull.entry = Arc::new(entry);
        true
    }

    /// A pull of this kind has failed: the next origin is asked, or nobody has the stream.
    pub(super) fn fail_edge(&mut self, index: usize, reason: &'static str, now: Instant) {
        *self.counters.pull_failures.entry(reason).or_default() += 1;
        let seed = self.next_seed();
        let pull = &mut self.pulls.list[index];
        let Some(edge) = &mut pull.edge else { return };
        let scheme = match &pull.entry.source {
            Source::Remote(remote) => remote.scheme,
            Source::File(_) => Scheme::HttpFlv,
        };
        let url = &edge.rule.urls[edge.origin];
        let source = pull.entry.shown();
        tracing::debug!(key = %pull.key, %source, reason, "an origin does not send a stream");
        match blame(reason, scheme) {
            Blame::Us => {}
            Blame::Stream => self.edge.health.answered(url),
            Blame::Origin => self.edge.health.failed(url, seed, now),
        }
        // One that was live is tried again after a pause, as any other: an origin that sends a
        // little and ends would be dialled without one.
        let was_live = self.pulls.list[index].puller.is_live();
        if !was_live && self.stopping.is_none() && self.choose_origin(index, now) {
            return self.start_pull(index, now);
        }
        let pull = &mut self.pulls.list[index];
        let Some(edge) = &mut pull.edge else { return };
        if !edge.was_live {
            return self.no_origin(index, now);
        }
        // Viewers may be attached: once more from the beginning, after a pause.
        edge.tried.clear();
        if let Some(pause) = pull.puller.ended(now).filter(|_| self.stopping.is_none()) {
            tracing::warn!(key = %pull.key, reason, ?pause, "no origin sends it, trying again");
        }
    }

    /// No origin has the stream: those who wait are told, and those who come next.
    pub(super) fn no_origin(&mut self, index: usize, now: Instant) {
        let Some(pull) = self.remove_pull(index, now) else { return };
        tracing::debug!(key = %pull.key, "no origin has it");
        self.edge.note_missing(&pull.key, now);
        for (packaging, from) in pull.waiting {
            let key = pull.key.clone();
            self.mesh.send(from, ControlMessage::Segments { key, packaging, snapshot: None });
        }
        let askers = pull.edge.map(|edge| edge.askers).unwrap_or_default();
        for from in askers {
            self.mesh.send(from, ControlMessage::NotFound { key: pull.key.clone() });
        }
    }

    /// The owner of a stream says that no origin has it.
    pub(super) fn on_not_found(&mut self, key: &StreamKey, now: Instant) {
        self.edge.note_missing(key, now);
        let Some(&index) = self.mirror_index.get(key) else { return };
        let mirror = &mut self.mirrors[index];
        mirror.asked = None;
        if mirror.online {
            return;
        }
        let waiting = std::mem::take(&mut mirror.waiting);
        self.counters.edge_not_found += waiting.len() as u64;
        for slot in waiting {
            let slot = slot as usize;
            if let Some(conn) = self.plane.conns.get_mut(slot)
                && matches!(conn.role, Role::Waiting { .. })
            {
                conn.role = Role::Idle;
                let token = self.plane.token(slot);
                self.command(token, Command::Reject(Refusal::StreamNotFound));
            }
        }
    }

    /// By the clock: owners are reminded of those who wait.
    pub(crate) fn remind_owners(&mut self, now: Instant) {
        if self.policy.origins.is_empty() {
            return;
        }
        let asked = self.mirrors.iter().filter(|(_, mirror)| mirror.asked.is_some());
        let indices: Vec<usize> = asked.map(|(index, _)| index).collect();
        for index in indices {
            self.remind_owner(index, now);
        }
    }
}
