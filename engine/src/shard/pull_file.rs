//! A file beneath the folder of files on demand, played as a live stream by a task of its owner.

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::FutureExt as _;
use protocols::media::StreamKey;

use crate::alarm::Alarm;
use crate::clock;
use crate::config::SecondPublisher;
use crate::pull::file::{Due, Pacer, Reader};
use crate::ring::{Ingested, MediaItem, Token};
use crate::shard::Shard;
use crate::stream::{Claim, NO_CONN, PublisherInfo, Timeline};

/// Longest sleep: how late it is noticed that the task is to end.
const SLEEP_MAX: Duration = Duration::from_millis(200);
/// Shortest sleep.
const SLEEP_MIN: Duration = Duration::from_millis(5);

/// What is to be played.
pub(super) struct Job {
    pub(super) index: usize,
    pub(super) attempt: u64,
    pub(super) key: StreamKey,
    pub(super) name: String,
    pub(super) shown: Arc<str>,
    pub(super) once: bool,
    pub(super) stop: Rc<Cell<bool>>,
    /// The stream has been its own.
    pub(super) held: Cell<bool>,
}

/// Plays the file until it ends, or for ever.
pub(super) async fn run(shard: Rc<RefCell<Shard>>, job: Job) {
    let played = AssertUnwindSafe(play(&shard, &job)).catch_unwind().await;
    let end = played.unwrap_or_else(|_| {
        tracing::error!(key = %job.key, "the reader of a file panicked");
        Err("panic")
    });
    let now = clock::now();
    let mut this = shard.borrow_mut();
    let id = this.id;
    // One that never had it would take it from another that does.
    if job.held.get() {
        this.on_withdraw(&job.key, id, NO_CONN, now);
    }
    this.on_file_ended(job.index, job.attempt, end, now);
    this.mesh.kick();
    this.mesh.kick_self();
}

async fn play(shard: &Rc<RefCell<Shard>>, job: &Job) -> Result<(), &'static str> {
    let reader = open(shard, job).await?;
    let Some((stream, timeline)) = shard.borrow_mut().begin_file(job, clock::now()) else {
        return Err("stream_busy");
    };
    job.held.set(true);
    let mut player = Player { shard, stream, timeline, pacer: Pacer::new() };
    player.play(reader, job).await
}

async fn open(shard: &Rc<RefCell<Shard>>, job: &Job) -> Result<Reader, &'static str> {
    let config = Arc::clone(&shard.borrow().config);
    let name = job.name.clone();
    let open = move || Reader::open(&config.http.vod_dir, &name, config.rtmp.legacy_h265_id);
    glommio::executor().spawn_blocking(open).await.map_err(|error| {
        tracing::warn!(source = %job.shown, %error, "a file cannot be played");
        "file_unusable"
    })
}

struct Player<'a> {
    shard: &'a Rc<RefCell<Shard>>,
    stream: Token,
    timeline: Timeline,
    pacer: Pacer,
}

impl Player<'_> {
    async fn play(&mut self, mut reader: Reader, job: &Job) -> Result<(), &'static str> {
        let mut more = true;
        loop {
            while more && self.pacer.is_empty() {
                (reader, more) = self.read_on(reader, job).await?;
            }
            if self.pacer.is_empty() {
                if job.once {
                    return Ok(());
                }
                if !self.pacer.next_round() {
                    return Err("file_without_media");
                }
                reader = open(self.shard, job).await?;
                more = true;
                continue;
            }
            let now = clock::now();
            if !self.publish(now) {
                return Err("superseded");
            }
            if job.stop.get() || self.shard.borrow().stopping.is_some() {
                return Err("unwanted");
            }
            if let Some(due) = self.pacer.next_due(now) {
                Alarm::at(due.max(now + SLEEP_MIN).min(now + SLEEP_MAX)).await;
            }
        }
    }

    /// Reads the next piece on the blocking thread.
    async fn read_on(
        &mut self,
        mut reader: Reader,
        job: &Job,
    ) -> Result<(Reader, bool), &'static str> {
        let mut items = std::mem::take(self.pacer.inbox());
        let read = move || {
            let more = reader.read_on(&mut items);
            (reader, items, more)
        };
        let (reader, items, more) = glommio::executor().spawn_blocking(read).await;
        *self.pacer.inbox() = items;
        more.map(|more| (reader, more)).map_err(|error| {
            tracing::warn!(source = %job.shown, %error, "a file cannot be played on");
            "file_unusable"
        })
    }

    /// Publishes what is due; false when somebody else has the stream.
    fn publish(&mut self, now: Instant) -> bool {
        let mut this = self.shard.borrow_mut();
        if !this.has_file(self.stream) {
            return false;
        }
        let mut some = false;
        while let Some(due) = self.pacer.take(now) {
            some = true;
            let item = match due {
                Due::Tracks(tracks) => MediaItem::Tracks(tracks),
                Due::Frame(mut frame) => {
                    let adjusted = self.timeline.adjust(&mut frame);
                    if !this.counters.note_adjusted(adjusted) {
                        continue;
                    }
                    this.counters.frames_in += 1;
                    MediaItem::Frame(Arc::new(Ingested { frame, at: now }))
                }
            };
            this.on_stream_item(self.stream, item, now);
        }
        if some {
            this.mesh.kick();
            this.mesh.kick_self();
        }
        true
    }
}

impl Shard {
    /// Makes a file the publisher of its stream, unless there is one.
    fn begin_file(&mut self, job: &Job, now: Instant) -> Option<(Token, Timeline)> {
        let index = self.own(&job.key, now)?;
        if self.streams[index].publisher.is_some() {
            return None;
        }
        let info = Arc::new(PublisherInfo::without_peer("pull", Some(Arc::clone(&job.shown))));
        let timeline = Timeline::new(self.streams[index].resume_at());
        let claim = Claim { from: self.id, conn: NO_CONN, info, at: now };
        self.streams[index].claim(claim.clone(), SecondPublisher::Reject, Duration::MAX);
        self.grant(index, &claim, None, now);
        tracing::info!(source = %job.shown, "publishing {}", job.key);
        Some((self.stream_token(index), timeline))
    }

    /// Nobody has taken the stream over.
    fn has_file(&self, stream: Token) -> bool {
        let index = self.stream_at(stream);
        let publisher = index.and_then(|index| self.streams[index].publisher.as_ref());
        publisher.is_some_and(|publisher| publisher.is(self.id, NO_CONN))
    }
}
