//! Segments between shards: the owner of a stream makes them while somebody asks; every shard
//! that is asked keeps the newest snapshot of what there is.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::FutureExt as _;
use protocols::media::StreamKey;

use super::owner_of;
use crate::alarm::Alarm;
use crate::clock;
use crate::config::model::{AlwaysFor, Http};
use crate::ring::{ControlMessage, MediaItem, ShardId};
use crate::segment::{Options, Packaging, Segmenter, Snapshot};
use crate::shard::Shard;
use crate::stream::Stream;

/// A stream that nobody has asked for so long is not segmented any more.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How long a stream counts as missing before its owner is asked again.
const MISSING_FOR: Duration = Duration::from_millis(500);
/// How long the owner may take to say whether there is a stream.
const OWNER_WAIT: Duration = Duration::from_secs(2);
/// Frame times are rounded: a span may be this much shorter.
const SPAN_SLACK: Duration = Duration::from_millis(200);
/// Tasks that wait for news of one stream before all of them are woken to look again.
const WAITERS_MAX: usize = 65_536;
/// Streams a shard keeps snapshots of.
const SHELVES_MAX: usize = 10_000;

/// One segmenter of a stream and the shards it feeds; on the owner.
#[derive(Debug)]
pub struct Feed {
    segmenter: Segmenter,
    latest: Arc<Snapshot>,
    shards: Vec<ShardId>,
    /// It goes on while nobody asks.
    pub(super) always: bool,
}

/// What this shard knows of one packaging of a stream.
#[derive(Debug)]
struct Shelf {
    state: State,
    waiters: Vec<Waker>,
    used_at: Instant,
}

#[derive(Debug)]
enum State {
    /// The owner has been asked.
    Asked,
    /// It has no such stream.
    Missing(Instant),
    /// The newest snapshot.
    Have(Arc<Snapshot>),
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Shelves(HashMap<(StreamKey, Packaging), Shelf>);

/// Why there is no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Nobody publishes the stream.
    NotFound,
    /// Not in time.
    Late,
    /// Too many streams are being asked for.
    Overloaded,
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever there is.
    Anything,
    /// Something that can be played.
    Playable,
    /// So much of it that a player finds a place to start with media ahead of it.
    Startable(Duration),
    /// A whole segment, or what makes it impossible.
    Segment(u64),
    /// A part of a segment, or what makes it impossible.
    Part(u64, u64),
}

impl Wanted {
    /// There is no use in waiting any longer.
    fn is_met(self, snapshot: &Snapshot) -> bool {
        let past = |sequence: u64| snapshot.next_sequence > sequence || snapshot.ended;
        match self {
            Self::Anything => true,
            Self::Playable => !snapshot.segments.is_empty() || snapshot.ended,
            Self::Startable(span) => {
                let listed = snapshot.listed().iter().map(|segment| segment.duration);
                snapshot.ended || listed.sum::<Duration>() + SPAN_SLACK >= span
            }
            Self::Segment(sequence) => past(sequence),
            Self::Part(sequence, part) => {
                let open = snapshot.open.as_ref().filter(|open| open.sequence == sequence);
                past(sequence) || open.is_some_and(|open| open.parts.len() as u64 > part)
            }
        }
    }
}

impl Feed {
    /// Some shard asks for it.
    pub(super) fn is_asked_for(&self) -> bool {
        !self.shards.is_empty()
    }

    /// Media bytes held.
    pub fn bytes(&self) -> usize {
        self.latest.bytes()
    }
}

/// The newest snapshot of a stream once it has what is wanted.
///
/// # Errors
/// There is no such stream, or it does not come that far in time.
pub async fn snapshot(
    shard: &Rc<RefCell<Shard>>,
    key: StreamKey,
    packaging: Packaging,
    wanted: Wanted,
    patience: Duration,
) -> Result<Arc<Snapshot>, Absent> {
    let asked_at = clock::now();
    let place = (key, packaging);
    let found = poll_fn(|cx| {
        let mut this = shard.borrow_mut();
        let Some(shelf) = this.shelf(&place, clock::now()) else {
            return Poll::Ready(Err(Absent::Overloaded));
        };
        match &shelf.state {
            State::Have(snapshot) if wanted.is_met(snapshot) => {
                return Poll::Ready(Ok(Arc::clone(snapshot)));
            }
            State::Missing(_) => return Poll::Ready(Err(Absent::NotFound)),
            State::Asked | State::Have(_) => {}
        }
        // A task may be polled often while it waits: it stands here once, or is woken to stand
        // here again.
        if shelf.waiters.last().is_none_or(|last| !last.will_wake(cx.waker())) {
            if shelf.waiters.len() >= WAITERS_MAX {
                shelf.waiters.drain(..).for_each(Waker::wake);
            }
            shelf.waiters.push(cx.waker().clone());
        }
        Poll::Pending
    });
    let late = async {
        Alarm::after(patience.min(OWNER_WAIT)).await;
        let asked = {
            let this = shard.borrow();
            this.shelves.0.get(&place).is_some_and(|shelf| matches!(shelf.state, State::Asked))
        };
        if !asked {
            Alarm::at(asked_at + patience).await;
        }
        Err(Absent::Late)
    };
    found.or(late).await
}

impl Shard {
    /// The shelf of a stream; its owner is asked if it is new. `None` at the limit.
    fn shelf(&mut self, place: &(StreamKey, Packaging), now: Instant) -> Option<&mut Shelf> {
        let stale = self.shelves.0.get(place).is_none_or(|shelf| match shelf.state {
            State::Missing(since) => now.saturating_duration_since(since) > MISSING_FOR,
            State::Asked | State::Have(_) => false,
        });
        if stale {
            if self.shelves.0.len() >= SHELVES_MAX {
                return None;
            }
            let owner = owner_of(&place.0, self.mesh.shards());
            let (key, packaging, from) = (place.0.clone(), place.1, self.id);
            if !self.mesh.send(owner, ControlMessage::WantSegments { key, packaging, from }) {
                return None;
            }
            self.mesh.kick();
            self.mesh.kick_self();
            let shelf = Shelf { state: State::Asked, waiters: Vec::new(), used_at: now };
            self.shelves.0.insert(place.clone(), shelf);
        }
        let shelf = self.shelves.0.get_mut(place)?;
        shelf.used_at = now;
        Some(shelf)
    }

    /// A shard wants segments of a stream of ours.
    pub(super) fn on_want_segments(
        &mut self,
        key: StreamKey,
        packaging: Packaging,
        from: ShardId,
        now: Instant,
    ) {
        let index = self.stream_index.get(&key).copied();
        let known = index.filter(|&index| {
            let stream = &self.streams[index];
            stream.publisher.is_some() || !stream.feeds.is_empty()
        });
        let snapshot = known.map(|index| {
            let at = match self.feed_position(index, packaging) {
                Some(at) => at,
                None => self.start_feed(index, packaging, now),
            };
            let feed = &mut self.streams[index].feeds[at];
            if !feed.shards.contains(&from) {
                feed.shards.push(from);
            }
            Arc::clone(&feed.latest)
        });
        let snapshot = snapshot.or_else(|| {
            // Whoever asks waits for what does not come at once.
            let pulled = self.await_pull(&key, packaging, from, now);
            pulled.then(|| Arc::new(self.nothing_yet(packaging)))
        });
        self.mesh.send(from, ControlMessage::Segments { key, packaging, snapshot });
    }

    /// What there is of a stream that is only being fetched.
    fn nothing_yet(&self, packaging: Packaging) -> Snapshot {
        Segmenter::new(packaging, self.segment_options(), clock::unix_millis()).snapshot()
    }

    /// As configured, of a stream of which nothing is known.
    fn segment_options(&self) -> Options {
        let http = &self.config.http;
        Options {
            segment: http.segment,
            part: http.part,
            window: http.segments_listed,
            kept: http.segments_kept,
            gop: None,
            frame: None,
            delay: Duration::ZERO,
        }
    }

    fn feed_position(&self, index: usize, packaging: Packaging) -> Option<usize> {
        let feeds = &self.streams[index].feeds;
        feeds.iter().position(|feed| feed.segmenter.packaging() == packaging)
    }

    fn start_feed(&mut self, index: usize, packaging: Packaging, now: Instant) -> usize {
        let stream = &self.streams[index];
        let video = self.mirrors[stream.mirror].log.tracks().video.as_ref();
        let rate = video.map_or(0.0, |track| track.info.frame_rate);
        let frame = (1.0..=1000.0).contains(&rate).then(|| Duration::from_secs_f64(1.0 / rate));
        let options = Options {
            gop: stream.gop,
            frame: frame.or(stream.frame_duration()),
            delay: Duration::from_secs(stream.key.delay_s().into()),
            ..self.segment_options()
        };
        let unix_ms = clock::unix_millis();
        tracing::info!(key = %stream.key, ?packaging, "segments are made from now on");
        let mut segmenter = Segmenter::new(packaging, options, unix_ms);
        let mut latest = None;
        for item in self.history(index) {
            latest = segmenter.take(&item, now, unix_ms).or(latest);
        }
        let latest = latest.unwrap_or_else(|| Arc::new(segmenter.snapshot()));
        let feeds = &mut self.streams[index].feeds;
        feeds.push(Feed { segmenter, latest, shards: Vec::new(), always: false });
        feeds.len() - 1
    }

    /// By the clock: segmenters that do not wait for a request begin once the tracks are known.
    pub(super) fn segment_always(&mut self, now: Instant) {
        let config = Arc::clone(&self.config);
        if config.http.segment_always == AlwaysFor::NoApp {
            return;
        }
        let wanted = |stream: &Stream| {
            let published = stream.publisher.is_some() && stream.key.delay_s() == 0;
            published && config.http.segment_always.contains(stream.key.app())
        };
        let indices: Vec<usize> = self
            .streams
            .iter()
            .filter(|(_, stream)| wanted(stream))
            .filter(|(_, stream)| !self.mirrors[stream.mirror].log.tracks().is_empty())
            .map(|(index, _)| index)
            .collect();
        for index in indices {
            for packaging in packagings(&config.http) {
                let at = match self.feed_position(index, packaging) {
                    Some(at) => at,
                    None => self.start_feed(index, packaging, now),
                };
                self.streams[index].feeds[at].always = true;
            }
        }
    }

    /// Somebody here has a playlist of the stream, and asks for more of it.
    pub(super) fn has_shelf(&self, key: &StreamKey) -> bool {
        [Packaging::Ts, Packaging::Cmaf].into_iter().any(|packaging| {
            let shelf = self.shelves.0.get(&(key.clone(), packaging));
            shelf.is_some_and(|shelf| matches!(shelf.state, State::Have(_)))
        })
    }

    /// A shard has not been asked for a while.
    pub(super) fn on_drop_segments(
        &mut self,
        key: &StreamKey,
        packaging: Packaging,
        from: ShardId,
    ) {
        self.leave_pull(key, packaging, from);
        let Some(&index) = self.stream_index.get(key) else { return };
        let stream = &mut self.streams[index];
        stream.feeds.retain_mut(|feed| {
            if feed.segmenter.packaging() == packaging {
                feed.shards.retain(|shard| *shard != from);
            }
            feed.always || !feed.shards.is_empty()
        });
    }

    /// The next item of a stream of ours, for its segmenters.
    pub(super) fn feed_segments(&mut self, index: usize, item: &MediaItem, now: Instant) {
        let stream = &mut self.streams[index];
        if stream.feeds.is_empty() {
            return;
        }
        let unix_ms = clock::unix_millis();
        let key = &stream.key;
        for feed in &mut stream.feeds {
            if let Some(snapshot) = feed.segmenter.take(item, now, unix_ms) {
                feed.latest = snapshot;
                publish(&mut self.mesh, key, feed);
            }
        }
    }

    /// A stream of ours is over.
    pub(super) fn end_segments(&mut self, key: &StreamKey, feeds: Vec<Feed>) {
        for mut feed in feeds {
            feed.latest = feed.segmenter.end();
            publish(&mut self.mesh, key, &feed);
        }
    }

    /// News from an owner.
    pub(super) fn on_segments(
        &mut self,
        key: StreamKey,
        packaging: Packaging,
        snapshot: Option<Arc<Snapshot>>,
        now: Instant,
    ) {
        // Forgotten meanwhile: the owner has been told.
        let Some(shelf) = self.shelves.0.get_mut(&(key, packaging)) else { return };
        shelf.state = snapshot.map_or(State::Missing(now), State::Have);
        for waiter in shelf.waiters.drain(..) {
            waiter.wake();
        }
    }

    /// By the clock: streams nobody asks for any more, and those that are over.
    pub(crate) fn tend_shelves(&mut self, now: Instant) {
        let Self { shelves, mesh, id, .. } = self;
        shelves.0.retain(|(key, packaging), shelf| {
            let unused = now.saturating_duration_since(shelf.used_at);
            let (keep, tell) = match &shelf.state {
                State::Missing(since) => {
                    (now.saturating_duration_since(*since) <= MISSING_FOR, false)
                }
                State::Have(snapshot) if snapshot.ended => (unused <= IDLE_MAX, false),
                State::Asked | State::Have(_) => (unused <= IDLE_MAX, true),
            };
            if !keep && tell {
                let owner = owner_of(key, mesh.shards());
                let (key, packaging, from) = (key.clone(), *packaging, *id);
                mesh.send(owner, ControlMessage::DropSegments { key, packaging, from });
            }
            // Who still waits asks again.
            if !keep {
                shelf.waiters.drain(..).for_each(Waker::wake);
            }
            keep
        });
    }
}

/// What players get who ask without naming a format.
fn packagings(http: &Http) -> impl Iterator<Item = Packaging> {
    let cmaf = (http.hls && http.hls_cmaf) || http.dash;
    let ts = http.hls && !http.hls_cmaf;
    let ts = ts.then_some(Packaging::Ts);
    ts.into_iter().chain(cmaf.then_some(Packaging::Cmaf))
}

fn publish(mesh: &mut crate::ring::MeshEnd, key: &StreamKey, feed: &Feed) {
    for shard in &feed.shards {
        let (key, packaging) = (key.clone(), feed.segmenter.packaging());
        let snapshot = Some(Arc::clone(&feed.latest));
        // A shard that misses one gets the next, which says everything.
        mesh.send(*shard, ControlMessage::Segments { key, packaging, snapshot });
    }
}
