//! Streams played later than live: asked for on any shard, read and published on the owner of the
//! delayed stream, while somebody watches.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::FutureExt as _;
use protocols::media::StreamKey;

use super::owner_of;
use crate::alarm::Alarm;
use crate::clock;
use crate::config::SecondPublisher;
use crate::ring::{ControlMessage, Ingested, MediaItem, ShardId, Token};
use crate::shard::Shard;
use crate::stream::{Claim, NO_CONN, PublisherInfo, Timeline};
use crate::timeshift::{Due, Refused, Schedule, Source};

/// Delayed streams that one shard reads.
const SHIFTS_MAX: usize = 256;
/// Questions that may be open on a shard, and that may wait for the beginning of one stream.
const QUESTIONS_MAX: usize = 4096;
/// How long the owner may take to find where a stream begins: it reads folders and indexes.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How often it is looked for what has not been written yet.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Frames are sent together that are due within so long.
const GRAIN: Duration = Duration::from_millis(10);
/// A stream of which nothing has come for so long after the last frame was due is over, or its
/// publisher is away.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// A delayed stream that nobody has watched for so long is not read any more.
const IDLE_MAX: Duration = Duration::from_secs(30);

type Answer = Result<(), Refused>;

/// What a shard knows of delayed streams.
#[derive(Debug, Default)]
pub(super) struct Shifts {
    /// Those that are read here.
    read: HashMap<StreamKey, Reading>,
    /// Questions to owners.
    open: HashMap<u64, Question>,
    next: u64,
}

#[derive(Debug)]
enum Reading {
    /// It is being looked for; these wait.
    Opening(Vec<(ShardId, u64)>),
    Running,
}

#[derive(Debug, Default)]
struct Question {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

impl Shifts {
    /// The owner has answered.
    pub(super) fn answer(&mut self, question: u64, answer: Answer) {
        // Late answers find no question and are dropped.
        let Some(question) = self.open.get_mut(&question) else { return };
        question.answer = Some(answer);
        if let Some(waker) = question.waker.take() {
            waker.wake();
        }
    }
}

/// Has a delayed stream played by its owner, if it is not already.
///
/// # Errors
/// It cannot be.
pub async fn shift(shard: &Rc<RefCell<Shard>>, key: StreamKey) -> Answer {
    let question = {
        let mut this = shard.borrow_mut();
        if this.has_shelf(&key) {
            return Ok(());
        }
        if this.shifts.open.len() >= QUESTIONS_MAX {
            this.refuse_shift(&key);
            return Err(Refused::Overloaded);
        }
        this.shifts.next += 1;
        let question = this.shifts.next;
        let (owner, from) = (owner_of(&key, this.mesh.shards()), this.id);
        if !this.mesh.send(owner, ControlMessage::WantShift { key, from, question }) {
            return Err(Refused::Overloaded);
        }
        this.shifts.open.insert(question, Question::default());
        this.mesh.kick();
        this.mesh.kick_self();
        question
    };
    // Forgotten however the request ends.
    let _forget = Forget { shard: Rc::clone(shard), question };
    let answered = poll_fn(|cx| {
        let mut this = shard.borrow_mut();
        let Some(open) = this.shifts.open.get_mut(&question) else {
            return Poll::Ready(Err(Refused::Late));
        };
        match open.answer {
            Some(answer) => Poll::Ready(answer),
            None => {
                open.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    });
    let late = async {
        Alarm::after(ANSWER_MAX).await;
        Err(Refused::Late)
    };
    answered.or(late).await
}

struct Forget {
    shard: Rc<RefCell<Shard>>,
    question: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        // Dropped with the executor the shard may be borrowed; then nobody asks any more.
        if let Ok(mut shard) = self.shard.try_borrow_mut() {
            shard.shifts.open.remove(&self.question);
        }
    }
}

impl Shard {
    /// A shard wants a delayed stream of ours.
    pub(super) fn on_want_shift(&mut self, key: StreamKey, from: ShardId, question: u64) {
        let is_full = self.shifts.read.len() >= SHIFTS_MAX;
        let answer = match self.shifts.read.get_mut(&key) {
            Some(Reading::Running) => Ok(()),
            Some(Reading::Opening(waiting)) if waiting.len() < QUESTIONS_MAX => {
                waiting.push((from, question));
                return;
            }
            None if !is_full => {
                let Some(shard) = self.this.upgrade() else { return };
                let opening = Reading::Opening(vec![(from, question)]);
                self.shifts.read.insert(key.clone(), opening);
                // The executor polls a new task at once, and this shard is borrowed: the loop
                // spawns it.
                self.leaving.push(Box::pin(run(shard, key)));
                return;
            }
            Some(Reading::Opening(_)) | None => {
                self.refuse_shift(&key);
                Err(Refused::Overloaded)
            }
        };
        self.mesh.send(from, ControlMessage::ShiftAnswer { question, answer });
    }

    fn refuse_shift(&mut self, key: &StreamKey) {
        tracing::warn!(%key, "too many delays are asked for");
        self.counters.turn_away("timeshift_limit");
    }

    /// Tells those who wait for a delayed stream whether it plays now.
    fn answer_shift(&mut self, key: &StreamKey, answer: Answer) {
        let before = match answer {
            Ok(()) => self.shifts.read.insert(key.clone(), Reading::Running),
            Err(_) => self.shifts.read.remove(key),
        };
        if let Some(Reading::Opening(waiting)) = before {
            for (from, question) in waiting {
                self.mesh.send(from, ControlMessage::ShiftAnswer { question, answer });
            }
        }
        self.mesh.kick();
        self.mesh.kick_self();
    }

    /// Makes a delayed stream, published by nobody but its reader, or goes on with it; `None` at a
    /// limit.
    fn begin_shift(&mut self, key: &StreamKey, now: Instant) -> Option<(Token, Timeline)> {
        let index = self.own(key, now)?;
        tracing::info!("playing later: {key}");
        let generation = self.next_generation();
        self.streams[index].generation = generation;
        let stream = self.stream_token(index);
        let timeline = Timeline::new(self.streams[index].resume_at());
        self.resume_shift(stream, now);
        Some((stream, timeline))
    }

    /// The publisher of a delayed stream is there, or is there again.
    fn resume_shift(&mut self, stream: Token, now: Instant) {
        let Some(index) = self.stream_at(stream) else { return };
        if self.streams[index].publisher.is_some() {
            return;
        }
        let info = Arc::new(PublisherInfo::without_peer("timeshift", None));
        let claim = Claim { from: self.id, conn: NO_CONN, info, at: now };
        // Nobody else publishes under a key with a delay.
        self.streams[index].claim(claim, SecondPublisher::Takeover, Duration::ZERO);
        self.distribute(index, MediaItem::Online { merge_ms: None }, now);
    }

    /// The publisher of a delayed stream is away: the clock runs for those who watch.
    fn pause_shift(&mut self, stream: Token, now: Instant) {
        let Some(index) = self.stream_at(stream) else { return };
        if self.streams[index].release(self.id, NO_CONN, now) {
            self.distribute(index, MediaItem::Offline, now);
        }
    }

    /// Whether somebody watches a delayed stream, or asks for its segments; `None` when it is gone.
    fn is_shift_wanted(&self, stream: Token) -> Option<bool> {
        let stream = &self.streams[self.stream_at(stream)?];
        let watched = self.mirrors[stream.mirror].audience() > 0;
        Some(watched || !stream.subscribers.is_empty() || !stream.feeds.is_empty())
    }

    /// What is due of a delayed stream. `at`: when it was.
    fn on_shift_due(
        &mut self,
        stream: Token,
        timeline: &mut Timeline,
        due: Due,
        at: Instant,
        now: Instant,
    ) {
        let Some(index) = self.stream_at(stream) else { return };
        match due {
            Due::Break => {
                // As if its publisher had gone and come.
                self.pause_shift(stream, now);
                *timeline = Timeline::new(self.streams[index].resume_at());
                self.resume_shift(stream, now);
            }
            Due::Tracks(tracks) => self.on_stream_item(stream, MediaItem::Tracks(tracks), now),
            Due::Frame(mut frame) => {
                let adjusted = timeline.adjust(&mut frame);
                if !self.counters.note_adjusted(adjusted) {
                    return;
                }
                let frame = Arc::new(Ingested { frame, at });
                self.on_stream_item(stream, MediaItem::Frame(frame), now);
            }
        }
    }
}

/// Reads a delayed stream and publishes it until nobody wants it or there is no more of it.
async fn run(shard: Rc<RefCell<Shard>>, key: StreamKey) {
    let reading = AssertUnwindSafe(read(&shard, &key)).catch_unwind().await;
    if reading.is_err() {
        tracing::error!(%key, "the reader of a delayed stream panicked");
    }
    let mut this = shard.borrow_mut();
    this.answer_shift(&key, Err(reading.unwrap_or(Refused::Late)));
}

/// See [`run`]; what those are told who have had no answer by the end.
async fn read(shard: &Rc<RefCell<Shard>>, key: &StreamKey) -> Refused {
    let mut source = match Source::open(shard, key, clock::unix_millis()).await {
        Ok(source) => source,
        Err(refused) => return refused,
    };
    let (stream, timeline) = {
        let mut this = shard.borrow_mut();
        let Some(begun) = this.begin_shift(key, clock::now()) else {
            this.refuse_shift(key);
            return Refused::Overloaded;
        };
        this.answer_shift(key, Ok(()));
        begun
    };
    let mut player = Player {
        shard,
        stream,
        timeline,
        schedule: Schedule::new(Duration::from_secs(key.delay_s().into())),
        look_at: clock::now(),
        wanted_at: clock::now(),
    };
    while let Some(wait_until) = player.step(&mut source).await {
        Alarm::at(wait_until).await;
    }
    shard.borrow_mut().pause_shift(stream, clock::now());
    tracing::info!("not played any more: {key}");
    Refused::NotFound
}

/// A delayed stream while it is read.
struct Player<'a> {
    shard: &'a Rc<RefCell<Shard>>,
    stream: Token,
    timeline: Timeline,
    schedule: Schedule,
    /// When the source is looked at again that had nothing more.
    look_at: Instant,
    /// When somebody was last seen to want the stream.
    wanted_at: Instant,
}

impl Player<'_> {
    /// Reads what is wanted, publishes what is due, and says when to come again; `None` at the
    /// end.
    async fn step(&mut self, source: &mut Source) -> Option<Instant> {
        let mut now = clock::now();
        let wants_more = self.schedule.wants_more_at().is_none_or(|at| at <= now);
        if wants_more && self.look_at <= now {
            match source.read_on(self.shard).await {
                Ok(Some(mut stretch)) => {
                    stretch.broken |= self.is_away();
                    self.schedule.add(stretch, clock::now(), clock::unix_millis());
                }
                Ok(None) => self.look_at = clock::now() + LOOK_INTERVAL,
                Err(error) => {
                    tracing::warn!(%error, "a recording cannot be played on");
                    return None;
                }
            }
            now = clock::now();
        }
        self.publish(now);
        if !self.is_wanted(now) {
            return None;
        }
        let silent = self.schedule.end().is_some_and(|end| now > end + SILENCE_MAX);
        if silent {
            self.shard.borrow_mut().pause_shift(self.stream, now);
        }
        let more_at = self.schedule.wants_more_at().map_or(self.look_at, |at| at.max(self.look_at));
        let next = self.schedule.next_due().map_or(more_at, |due| due.min(more_at));
        Some(next.max(now + GRAIN).min(now + IDLE_MAX))
    }

    /// The publisher of then is taken to be away.
    fn is_away(&self) -> bool {
        let this = self.shard.borrow();
        let index = this.stream_at(self.stream);
        index.is_some_and(|index| this.streams[index].publisher.is_none())
    }

    fn publish(&mut self, now: Instant) {
        let mut some = false;
        let mut this = self.shard.borrow_mut();
        while let Some((at, due)) = self.schedule.take(now) {
            this.on_shift_due(self.stream, &mut self.timeline, due, at, now);
            some = true;
        }
        if some {
            this.mesh.kick();
            this.mesh.kick_self();
        }
    }

    /// Somebody wants the stream, or did a short while ago.
    fn is_wanted(&mut self, now: Instant) -> bool {
        let this = self.shard.borrow();
        match this.is_shift_wanted(self.stream) {
            Some(true) => self.wanted_at = now,
            Some(false) => {}
            None => return false,
        }
        this.stopping.is_none() && now.saturating_duration_since(self.wanted_at) < IDLE_MAX
    }
}
