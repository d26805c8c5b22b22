//! The files that were seen as HLS lately, and those that were opened a moment ago. Each shard has
//! its own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::FutureExt as _;
use glommio::sync::Semaphore;

use super::off_shard;
use super::opened::OpenedFiles;
use super::presentation::Unplayable;
use super::source::{Container, Slice, View, Walk};
use crate::http::file_body::{DiskFile, Stamp};

/// Most views kept.
const ENTRIES_MAX: usize = 256;
/// Most memory of those kept; a larger one is made for each request.
const BYTES_MAX: usize = 64 << 20;

/// What a view was made of: the name only tells files apart that look the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    below: String,
    stamp: Stamp,
    target: Duration,
}

type Made = Result<Arc<View>, Unplayable>;

/// See the module text.
pub(crate) struct Shelf {
    /// The one used last is at the back.
    entries: RefCell<VecDeque<(Key, Made)>>,
    /// One file at a time is walked over; who waits for the same file finds it made. A movie, whose
    /// index is read, does not wait for a transport stream, all of which is.
    walking_movies: Rc<Semaphore>,
    walking_transport: Rc<Semaphore>,
    opened: Rc<OpenedFiles>,
}

impl Default for Shelf {
    fn default() -> Self {
        let one = || Rc::new(Semaphore::new(1));
        let (walking_movies, walking_transport) = (one(), one());
        let entries = RefCell::default();
        Self { entries, walking_movies, walking_transport, opened: Rc::default() }
    }
}

impl Shelf {
    /// The files that were opened a moment ago.
    pub(super) fn opened(&self) -> &Rc<OpenedFiles> {
        &self.opened
    }

    /// An open file seen as HLS, with segments of at least `target`. A walk that has begun goes on
    /// when nobody waits for it any more: whoever asks again finds it made.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(super) async fn view(
        self: &Rc<Self>,
        below: &str,
        container: Container,
        file: &Rc<DiskFile>,
        target: Duration,
    ) -> Made {
        let key = Key { below: below.to_owned(), stamp: file.stamp(), target };
        if let Some(made) = self.find(&key) {
            return made;
        }
        let walking = match container {
            Container::Mp4 => &self.walking_movies,
            Container::Ts => &self.walking_transport,
        };
        let permit = walking.acquire_static_permit(1).await;
        let permit = permit.map_err(|_| Unplayable::NotRead)?;
        if let Some(made) = self.find(&key) {
            return made;
        }
        let again = file.file().try_clone().map_err(|_| Unplayable::NotRead)?;
        let walk = Walk::new(container, again, key.stamp.len, target);
        let shelf = Rc::clone(self);
        let walking = glommio::spawn_local(async move {
            let _permit = permit;
            let walked = AssertUnwindSafe(shelf.walk(key, walk)).catch_unwind().await;
            walked.unwrap_or_else(|_| {
                tracing::error!("the walk over a file panicked");
                Err(Unplayable::NotRead)
            })
        });
        walking.detach().await.unwrap_or(Err(Unplayable::NotRead))
    }

    async fn walk(&self, key: Key, mut walk: Walk) -> Made {
        let made = loop {
            match off_shard(move || walk.advance()).await {
                Slice::More(more) => walk = more,
                Slice::Done(made) => break made.map(Arc::new),
            }
        };
        tracing::debug!(file = key.below, "a file was walked over");
        let left_out_bytes = made.as_ref().map_or(0, |made| made.left_out_bytes());
        if left_out_bytes > 0 {
            tracing::warn!(
                file = key.below,
                left_out_bytes,
                "a damaged file is listed without what cannot be played of it"
            );
        }
        // A disk that failed once may do better.
        if made.as_ref().err() != Some(&Unplayable::NotRead) {
            self.keep(key, made.clone());
        }
        made
    }

    fn find(&self, key: &Key) -> Option<Made> {
        let mut entries = self.entries.borrow_mut();
        let at = entries.iter().position(|(known, _)| known == key)?;
        let entry = entries.remove(at)?;
        let made = entry.1.clone();
        entries.push_back(entry);
        Some(made)
    }

    fn keep(&self, key: Key, made: Made) {
        let cost = |made: &Made| made.as_ref().map_or(0, |made| made.cost_bytes());
        if cost(&made) > BYTES_MAX {
            return;
        }
        let mut entries = self.entries.borrow_mut();
        // An older version of the same file is of no more use.
        entries.retain(|(known, _)| known.below != key.below || known.target != key.target);
        entries.push_back((key, made));
        while entries.len() > ENTRIES_MAX
            || entries.iter().map(|(_, made)| cost(made)).sum::<usize>() > BYTES_MAX
        {
            entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shelf_keeps_what_was_used_last_and_one_version_of_each() {
        let shelf = Shelf::default();
        let key = |name: usize, len| Key {
            below: name.to_string(),
            stamp: Stamp { len, modified_s: 0, modified_ns: 0, inode: 0 },
            target: Duration::from_secs(4),
        };
        for name in 0..ENTRIES_MAX {
            shelf.keep(key(name, 1), Err(Unplayable::NotMp4));
        }
        assert!(shelf.find(&key(0, 1)).is_some());
        shelf.keep(key(ENTRIES_MAX, 1), Err(Unplayable::NotMp4));
        assert!(shelf.find(&key(0, 1)).is_some() && shelf.find(&key(1, 1)).is_none());
        shelf.keep(key(0, 2), Err(Unplayable::NoTrack));
        assert!(shelf.find(&key(0, 1)).is_none() && shelf.find(&key(0, 2)).is_some());
        assert_eq!(shelf.entries.borrow().len(), ENTRIES_MAX);
    }
}
