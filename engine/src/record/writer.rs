//! The task that writes the pieces of one stream: media first, then the index that promises it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::GapReason;
use super::disk::{Disk, PieceFiles, Which};
use super::index::{Entry, Header, Pair, RECORD_BYTES};
use super::name::Place;
use super::queue::{Failure, Job, Queue};
use super::tally::{Finished, Tally};
use crate::clock;

/// What may be lost when the machine stops: the page cache survives a process, not the power.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);
/// One line per stream and this time about what goes wrong.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// Streams remembered for that.
const COMPLAINTS_MAX: usize = 4096;

/// Which streams have been complained about, and when.
#[derive(Debug, Default)]
pub(super) struct Complaints(RefCell<HashMap<Place, Instant>>);

impl Complaints {
    /// Logs that something is not recorded, if that was not said a short while ago.
    pub(super) fn gap(&self, place: &Place, reason: GapReason, error: Option<&io::Error>) {
        let now = clock::now();
        let mut said = self.0.borrow_mut();
        if said.get(place).is_some_and(|at| now.duration_since(*at) < COMPLAINT_INTERVAL) {
            return;
        }
        if said.len() >= COMPLAINTS_MAX {
            said.retain(|_, at| now.duration_since(*at) < COMPLAINT_INTERVAL);
        }
        if said.len() < COMPLAINTS_MAX {
            said.insert(place.clone(), now);
        }
        let error = error.map(ToString::to_string).unwrap_or_default();
        tracing::warn!(%place, reason = reason.label(), %error, "a gap in the recording");
    }
}

/// See the module text.
pub(super) struct Writer<D: Disk> {
    disk: D,
    place: Place,
    queue: Rc<Queue>,
    tally: Rc<Tally>,
    complaints: Rc<Complaints>,
    open: Option<Open<D::Piece>>,
}

struct Open<P> {
    files: P,
    /// Where the next pair goes.
    media_bytes: u64,
    index_bytes: u64,
    synced_at: Instant,
    after_media: bool,
    start_unix_ms: u64,
}

impl<D: Disk> Writer<D> {
    pub(super) fn new(
        disk: D,
        place: Place,
        queue: Rc<Queue>,
        tally: Rc<Tally>,
        complaints: Rc<Complaints>,
    ) -> Self {
        Self { disk, place, queue, tally, complaints, open: None }
    }

    /// Writes until the queue is closed.
    pub(super) async fn run(mut self) {
        while let Some(job) = self.queue.next().await {
            match job {
                Job::Open { header, init } => {
                    self.close().await;
                    if let Err(error) = self.open(header, &init).await {
                        self.fail(&error).await;
                    }
                }
                Job::Pair { pair, bytes } => {
                    let length = bytes.len();
                    let outcome = self.pair(pair, bytes).await;
                    self.queue.done(length);
                    if let Err(error) = outcome {
                        self.fail(&error).await;
                    }
                }
                Job::Gap { reason, unix_ms } => {
                    let outcome = self.append(Entry::Gap { reason, unix_ms }).await;
                    if let Err(error) = outcome {
                        self.fail(&error).await;
                    }
                }
                Job::Close => self.close().await,
            }
        }
        self.close().await;
    }

    async fn open(&mut self, mut header: Header, init: &Bytes) -> io::Result<()> {
        let files = self.disk.create(header.unix_ms).await?;
        header.init_bytes = u32::try_from(init.len()).unwrap_or(u32::MAX);
        let media_bytes = init.len() as u64;
        let synced_at = clock::now();
        // Open from here on: what fails is undone and closed.
        let open = self.open.insert(Open {
            files,
            media_bytes,
            index_bytes: RECORD_BYTES as u64,
            synced_at,
            after_media: false,
            start_unix_ms: header.unix_ms,
        });
        open.files.write(Which::Media, 0, init.to_vec()).await?;
        open.files.write(Which::Index, 0, header.encode().to_vec()).await?;
        self.tally.piece(media_bytes);
        let name = open.files.name();
        let (day, time) = (name.day_text(), name.time_text());
        tracing::debug!(place = %self.place, day, time, "piece begun");
        Ok(())
    }

    async fn pair(&mut self, mut pair: Pair, bytes: Vec<u8>) -> io::Result<()> {
        // Without an open piece this is what was queued before the recorder knew.
        let Some(open) = &mut self.open else { return Ok(()) };
        let length = bytes.len() as u64;
        pair.offset = open.media_bytes;
        open.files.write(Which::Media, open.media_bytes, bytes).await?;
        let record = Entry::Pair(pair).encode().to_vec();
        open.files.write(Which::Index, open.index_bytes, record).await?;
        open.media_bytes += length;
        open.index_bytes += RECORD_BYTES as u64;
        open.after_media = true;
        let fragments = u64::from(pair.video.bytes > 0) + u64::from(pair.audio.bytes > 0);
        self.tally.wrote(fragments, length);
        let now = clock::now();
        if now.duration_since(open.synced_at) >= SYNC_INTERVAL {
            open.synced_at = now;
            open.files.sync().await?;
        }
        Ok(())
    }

    async fn append(&mut self, entry: Entry) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.files.write(Which::Index, open.index_bytes, entry.encode().to_vec()).await?;
        open.index_bytes += RECORD_BYTES as u64;
        Ok(())
    }

    /// Ends the piece as it should end.
    async fn close(&mut self) {
        let Some(open) = &self.open else { return };
        let media_bytes = open.media_bytes;
        if !open.after_media
            && let Some(open) = self.open.take()
        {
            return open.files.discard().await;
        }
        if let Err(error) = self.append(Entry::End { media_bytes }).await {
            return self.fail(&error).await;
        }
        let Some(open) = self.open.take() else { return };
        if let Err(error) = open.files.sync().await {
            self.complain(&error);
        }
        self.tell_of(&open);
        open.files.close().await;
    }

    /// Gives the piece up: what was written of it stays, torn bytes go, if the disk lets us. A
    /// piece without media goes altogether.
    async fn fail(&mut self, error: &io::Error) {
        let reason = self.complain(error);
        let open = self.open.take();
        let after_media = open.as_ref().is_some_and(|open| open.after_media);
        // First, so that the recorder does not go on for as long as a bad disk takes.
        self.queue.fail(Failure { reason, after_media });
        let Some(open) = open else { return };
        if !after_media {
            return open.files.discard().await;
        }
        let media_bytes = open.media_bytes;
        let _ = open.files.truncate(Which::Media, media_bytes).await;
        let _ = open.files.truncate(Which::Index, open.index_bytes).await;
        let mut end = Entry::Gap { reason, unix_ms: clock::unix_millis() }.encode().to_vec();
        end.extend(Entry::End { media_bytes }.encode());
        let _ = open.files.write(Which::Index, open.index_bytes, end).await;
        self.tell_of(&open);
        open.files.close().await;
    }

    fn tell_of(&self, open: &Open<D::Piece>) {
        self.tally.finished(Finished {
            place: self.place.clone(),
            name: open.files.name(),
            bytes: open.media_bytes,
            start_unix_ms: open.start_unix_ms,
            end_unix_ms: clock::unix_millis(),
        });
    }

    fn complain(&self, error: &io::Error) -> GapReason {
        let reason = GapReason::of(error);
        self.tally.gap(reason);
        self.complaints.gap(&self.place, reason, Some(error));
        reason
    }
}
