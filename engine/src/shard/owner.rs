//! Which shard owns a stream, and the owner's part in its life: claims, fan-out to shards, ends.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocols::media::StreamKey;
use protocols::session::Refusal;

use crate::config::SecondPublisher;
use crate::observe::DropReason;
use crate::ring::{ControlMessage, Grant, MediaItem, MediaMessage, MediaTarget, ShardId, Token};
use crate::shard::{Feed, Shard};
use crate::stream::{Claim, Mirror, Stream, Subscriber, SubscriberShard, Verdict};

/// The owner shard of a stream: the same on every shard, fixed for the life of the process.
#[must_use]
pub fn owner_of(key: &StreamKey, shards: usize) -> ShardId {
    let index = key.stable_hash() % (shards.max(1) as u64);
    ShardId(u16::try_from(index).expect("fewer shards than u16 holds"))
}

/// The shard where questions of that text come together.
#[must_use]
pub fn owner_of_text(text: &str, shards: usize) -> ShardId {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let index = hasher.finish() % (shards.max(1) as u64);
    ShardId(u16::try_from(index).expect("fewer shards than u16 holds"))
}

impl Shard {
    /// The stream of a key, made when it is not there; `None` at the limit.
    pub(super) fn own(&mut self, key: &StreamKey, now: Instant) -> Option<usize> {
        if let Some(&index) = self.stream_index.get(key) {
            return Some(index);
        }
        if self.streams.len() >= self.config.limits.streams || self.is_over_budget() {
            return None;
        }
        let mirror = self.mirror_of(key, now);
        self.mirrors[mirror].fed = true;
        let generation = self.next_generation();
        let index = self.streams.insert(Stream::new(key.clone(), generation, mirror, now));
        self.stream_index.insert(key.clone(), index);
        Some(index)
    }

    /// The streams here already hold what all streams of a shard may hold.
    pub(super) fn is_over_budget(&self) -> bool {
        self.held_bytes >= self.config.engine.shard_log_bytes
    }

    pub(super) fn stream_token(&self, index: usize) -> Token {
        let generation = self.streams[index].generation;
        Token { index: u32::try_from(index).expect("streams are limited"), generation }
    }

    /// The mirror of a key on this shard, made when it is not there.
    pub(super) fn mirror_of(&mut self, key: &StreamKey, now: Instant) -> usize {
        if let Some(&index) = self.mirror_index.get(key) {
            return index;
        }
        let generation = self.next_generation();
        let limits = crate::stream::LogLimits {
            bytes: self.config.engine.stream_log_bytes,
            span: Duration::from_millis(self.config.engine.stream_log_ms),
        };
        let index = self.mirrors.insert(Mirror::new(key.clone(), generation, limits, now));
        self.mirror_index.insert(key.clone(), index);
        index
    }

    /// A connection somewhere wants to publish a stream of ours.
    pub(super) fn on_claim(&mut self, key: &StreamKey, claim: Claim, now: Instant) {
        let Some(index) = self.own(key, now) else {
            self.answer_claim(&claim, Err(Refusal::Overloaded));
            return;
        };
        let dead = self.config.rtmp.publisher_dead;
        // A forward never deposes anybody: two of them would depose each other for ever.
        let policy = match claim.info.hops.is_empty() {
            true => self.config.rtmp.second_publisher,
            false => SecondPublisher::Reject,
        };
        let claimant = claim.clone();
        match self.streams[index].claim(claim, policy, dead) {
            Verdict::Granted { deposed } => self.grant(index, &claimant, deposed, now),
            Verdict::Pending => {}
            Verdict::Busy => self.answer_claim(&claimant, Err(Refusal::StreamBusy)),
        }
    }

    pub(super) fn grant(
        &mut self,
        index: usize,
        claim: &Claim,
        deposed: Option<Claim>,
        now: Instant,
    ) {
        if let Some(deposed) = deposed {
            tracing::warn!(key = %self.streams[index].key, "publisher replaced by a newcomer");
            let stream = &self.streams[index];
            self.announce_unpublish(&stream.key, &deposed.info, stream.bytes_before);
            let kick = ControlMessage::Kick { conn: deposed.conn, refusal: Refusal::Superseded };
            self.mesh.send(deposed.from, kick);
            self.distribute(index, MediaItem::Offline, now);
        }
        let resume_at = self.streams[index].resume_at();
        self.streams[index].generation = self.next_generation();
        self.distribute(index, MediaItem::Online { merge_ms: claim.info.merge_ms }, now);
        self.streams[index].watched = true;
        let grant = Grant { stream: self.stream_token(index), resume_at };
        self.answer_claim(claim, Ok(grant));
        self.announce_publish(&self.streams[index].key, &claim.info);
        self.record(index, now);
    }

    fn answer_claim(&mut self, claim: &Claim, answer: Result<Grant, Refusal>) {
        let message = ControlMessage::PublishAnswer { conn: claim.conn, answer };
        self.mesh.send(claim.from, message);
    }

    /// A publisher has gone or given up.
    pub(super) fn on_unpublish(&mut self, stream: Token, from: ShardId, conn: Token, now: Instant) {
        let Some(index) = self.stream_at(stream) else { return };
        let publisher = self.streams[index].publisher.as_ref().map(|p| Arc::clone(&p.info));
        if self.streams[index].release(from, conn, now) {
            if let Some(info) = publisher {
                let stream = &self.streams[index];
                self.announce_unpublish(&stream.key, &info, stream.bytes_in);
            }
            self.distribute(index, MediaItem::Offline, now);
            self.settle_challenger(index, now, Duration::ZERO);
        }
    }

    /// The slot of a stream of ours, if it is still the one that is meant.
    pub(super) fn stream_at(&self, stream: Token) -> Option<usize> {
        let index = stream.index as usize;
        let known = self.streams.get(index).is_some_and(|s| s.generation == stream.generation);
        known.then_some(index)
    }

    /// A claim is withdrawn before it was granted.
    pub(super) fn on_withdraw(
        &mut self,
        key: &StreamKey,
        from: ShardId,
        conn: Token,
        now: Instant,
    ) {
        if let Some(&index) = self.stream_index.get(key) {
            self.on_unpublish(self.stream_token(index), from, conn, now);
        }
    }

    /// The next item from the publisher of a stream of ours.
    pub(crate) fn on_stream_item(&mut self, stream: Token, item: MediaItem, now: Instant) {
        let Some(index) = self.stream_at(stream) else { return };
        let entry = &mut self.streams[index];
        if entry.publisher.is_none() {
            return;
        }
        entry.note(&item, now);
        if matches!(item, MediaItem::Frame(_))
            && let Some(challenger) = entry.challenger.take()
        {
            // The incumbent lives.
            self.answer_claim(&challenger, Err(Refusal::StreamBusy));
        }
        self.distribute(index, item, now);
    }

    /// Passes an item to our own mirror and once to every shard that has viewers.
    pub(super) fn distribute(&mut self, index: usize, item: MediaItem, now: Instant) {
        let stream = &mut self.streams[index];
        let mirror = stream.mirror;
        for subscriber in &mut stream.subscribers {
            if !pass(subscriber, &item) {
                self.counters.dropped(DropReason::RingFull);
                continue;
            }
            let message =
                MediaMessage { target: MediaTarget::Mirror(subscriber.mirror), item: item.clone() };
            if self.mesh.try_push(subscriber.shard, message).is_err() {
                subscriber.skipping = true;
                self.counters.dropped(DropReason::RingFull);
            }
        }
        self.feed_segments(index, &item, now);
        for taker in &mut self.streams[index].takers {
            taker.take(&item, now);
        }
        self.on_mirror_item(mirror, item, now);
    }

    /// Adds a taker to a stream of ours, and gives it what the log holds.
    pub(super) fn add_taker(&mut self, index: usize, mut taker: Box<dyn Subscriber>, now: Instant) {
        for item in self.history(index) {
            taker.take(&item, now);
        }
        self.streams[index].takers.push(taker);
    }

    /// What somebody who begins now must know: the state of the stream, and the newest GOP.
    pub(super) fn history(&self, index: usize) -> Vec<MediaItem> {
        let stream = &self.streams[index];
        let Some(publisher) = &stream.publisher else { return Vec::new() };
        let log = &self.mirrors[stream.mirror].log;
        let mut history = vec![MediaItem::Online { merge_ms: publisher.info.merge_ms }];
        if !log.tracks().is_empty() {
            history.push(MediaItem::Tracks(Arc::clone(log.tracks())));
        }
        history.extend(log.joinable().map(|frame| MediaItem::Frame(Arc::clone(frame))));
        history
    }

    /// A shard has viewers for a stream of ours.
    pub(super) fn on_subscribe(
        &mut self,
        key: &StreamKey,
        from: ShardId,
        mirror: Token,
        now: Instant,
    ) {
        let Some(index) = self.own(key, now) else { return };
        let stream = &mut self.streams[index];
        stream.subscribers.retain(|subscriber| subscriber.shard != from);
        stream.subscribers.push(SubscriberShard { shard: from, mirror, skipping: false });
        let history = self.history(index);
        let target = MediaTarget::Mirror(mirror);
        for item in history {
            if self.mesh.try_push(from, MediaMessage { target, item }).is_err() {
                self.counters.dropped(DropReason::RingFull);
                if let Some(subscriber) = self.streams[index].subscribers.last_mut() {
                    subscriber.skipping = true;
                }
                break;
            }
        }
    }

    /// A shard has no viewers for a stream of ours any more.
    pub(super) fn on_unsubscribe(&mut self, key: &StreamKey, from: ShardId, mirror: Token) {
        if let Some(&index) = self.stream_index.get(key) {
            self.streams[index]
                .subscribers
                .retain(|subscriber| subscriber.shard != from || subscriber.mirror != mirror);
        }
    }

    /// By the clock: challengers whose wait is over, streams nobody needs.
    pub(crate) fn tend_streams(&mut self, now: Instant) {
        let dead = self.config.rtmp.publisher_dead;
        let grace = self.config.rtmp.publisher_grace;
        let mut idle = Vec::new();
        for index in self.streams.iter().map(|(index, _)| index).collect::<Vec<_>>() {
            self.settle_challenger(index, now, dead);
            let token = self.stream_token(index);
            let stream = &mut self.streams[index];
            stream.takers.retain_mut(|taker| taker.tend(now));
            let audience = self.mirrors[stream.mirror].audience();
            if let Some((to, news)) = stream.tell_publisher(token, audience > 0)
                && self.mesh.send(to, news)
            {
                stream.watched = !stream.watched;
            }
            let asked =
                self.pulls.cover(&stream.key) && stream.feeds.iter().any(Feed::is_asked_for);
            if stream.is_idle(now, grace) && !asked && stream.takers.is_empty() && audience == 0 {
                idle.push(index);
            }
        }
        self.segment_always(now);
        for index in idle {
            let mut stream = self.streams.remove(index);
            self.stream_index.remove(&stream.key);
            self.end_segments(&stream.key, std::mem::take(&mut stream.feeds));
            // The mirror goes with its own idle rule, as on any other shard.
            self.mirrors[stream.mirror].fed = false;
        }
    }

    fn settle_challenger(&mut self, index: usize, now: Instant, dead: Duration) {
        if let Some((claim, deposed)) = self.streams[index].settle(now, dead) {
            self.grant(index, &claim, deposed, now);
        }
    }
}

/// Whether a subscriber that lost messages can take this one; it resumes at a keyframe.
fn pass(subscriber: &mut SubscriberShard, item: &MediaItem) -> bool {
    if !subscriber.skipping {
        return true;
    }
    match item {
        MediaItem::Frame(ingested) => {
            let resume = ingested.frame.kind == protocols::media::FrameKind::Keyframe;
            subscriber.skipping = !resume;
            resume
        }
        MediaItem::Online { .. } | MediaItem::Tracks(_) | MediaItem::Offline => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_spread_evenly() {
        let mut count = [0; 4];
        for n in 0..4000 {
            let key = StreamKey::new("", "live", &format!("stream{n}")).unwrap();
            count[owner_of(&key, 4).index()] += 1;
        }
        assert!(count.iter().all(|n| (850..1150).contains(n)), "{count:?}");
    }
}
