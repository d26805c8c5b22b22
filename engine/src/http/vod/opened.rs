//! Files that were opened a moment ago. A player asks for range after range of the same file, and
//! opening it beneath its folder takes longer than sending a short range. Each shard has its own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::{media_type, off_shard};
use crate::http::file_body::DiskFile;
use crate::net::{sys, sys_serve};

/// Most files kept open for nobody.
const FILES_MAX: usize = 64;
/// A file that was put in the place of another, or removed, is still served for so long: shorter
/// than any cache may keep it.
const AGE_MAX: Duration = Duration::from_secs(1);

struct Entry {
    root: PathBuf,
    below: String,
    file: Rc<DiskFile>,
    opened_at: Instant,
}

/// See the module text.
#[derive(Default)]
pub(crate) struct OpenedFiles {
    /// The one opened last is at the back.
    entries: RefCell<VecDeque<Entry>>,
}

impl OpenedFiles {
    /// Opens a regular file strictly beneath the folder; `None` if it is something else.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn open(
        self: &Rc<Self>,
        root: &Path,
        below: &str,
    ) -> io::Result<Option<Rc<DiskFile>>> {
        let now = Instant::now();
        if let Some(file) = self.find(root, below, now) {
            return Ok(Some(file));
        }
        let file = match sys_serve::open_beneath_cached(root, below)? {
            Some(file) => file,
            None => {
                let (root, below) = (root.to_path_buf(), below.to_owned());
                off_shard(move || sys::open_beneath(&root, &below)).await?
            }
        };
        let file = DiskFile::new(file)?.map(Rc::new);
        // A playlist is asked for to see what is new in it.
        if let Some(file) =
            file.as_ref().filter(|_| !media_type::is_volatile(media_type::of(below)))
        {
            self.keep(root, below, Rc::clone(file), now);
        }
        Ok(file)
    }

    fn find(&self, root: &Path, below: &str, now: Instant) -> Option<Rc<DiskFile>> {
        let entries = self.entries.borrow();
        let found =
            entries.iter().rev().find(|entry| entry.below == below && entry.root == root)?;
        let fresh = now.saturating_duration_since(found.opened_at) < AGE_MAX;
        (fresh && found.file.check_unchanged().is_ok()).then(|| Rc::clone(&found.file))
    }

    fn keep(self: &Rc<Self>, root: &Path, below: &str, file: Rc<DiskFile>, now: Instant) {
        let mut entries = self.entries.borrow_mut();
        // Whoever comes first starts the clock that closes what nobody asks for.
        if entries.is_empty() {
            glommio::spawn_local(expire(Rc::downgrade(self))).detach();
        }
        entries.retain(|entry| entry.below != below || entry.root != root);
        if entries.len() == FILES_MAX {
            entries.pop_front();
        }
        let (root, below) = (root.to_path_buf(), below.to_owned());
        entries.push_back(Entry { root, below, file, opened_at: now });
    }

    /// Forgets what is too old; whether anything is left.
    fn sweep(&self, now: Instant) -> bool {
        let mut entries = self.entries.borrow_mut();
        entries.retain(|entry| now.saturating_duration_since(entry.opened_at) < AGE_MAX);
        !entries.is_empty()
    }
}

/// Closes files that have been open for long enough, until none is left.
async fn expire(files: Weak<OpenedFiles>) {
    loop {
        glommio::timer::sleep(AGE_MAX).await;
        match files.upgrade() {
            Some(files) if files.sweep(Instant::now()) => {}
            Some(_) | None => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn run(test: impl AsyncFnOnce(Rc<OpenedFiles>, PathBuf) + Send + 'static) {
        let name = format!("opened-files-{}-{:p}", std::process::id(), &raw const test);
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let root = folder.clone();
        let executor = glommio::LocalExecutorBuilder::default()
            .spawn(move || async move { test(Rc::default(), root).await })
            .expect("an executor");
        executor.join().expect("the test");
        fs::remove_dir_all(folder).expect("the folder goes");
    }

    #[test]
    fn a_file_is_opened_once_while_it_is_what_it_was() {
        run(async |files, root| {
            fs::write(root.join("a.mp4"), b"one").expect("written");
            let open = || files.open(&root, "a.mp4");
            let first = open().await.expect("opens").expect("a file");
            let second = open().await.expect("opens").expect("a file");
            assert!(Rc::ptr_eq(&first, &second));

            fs::write(root.join("a.mp4"), b"2").expect("written");
            let changed = open().await.expect("opens").expect("a file");
            assert_eq!(changed.stamp().len, 1, "a shorter one is another one");

            fs::remove_file(root.join("a.mp4")).expect("removed");
            while files.sweep(Instant::now()) {
                glommio::timer::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(open().await.err().map(|e| e.kind()), Some(io::ErrorKind::NotFound));
        });
    }

    #[test]
    fn playlists_and_all_beyond_the_limit_are_not_kept() {
        run(async |files, root| {
            fs::write(root.join("a.m3u8"), b"#EXTM3U").expect("written");
            files.open(&root, "a.m3u8").await.expect("opens").expect("a file");
            assert!(files.entries.borrow().is_empty());
            for number in 0..=FILES_MAX {
                let name = format!("{number}.mp4");
                fs::write(root.join(&name), b"x").expect("written");
                files.open(&root, &name).await.expect("opens").expect("a file");
            }
            let now = Instant::now();
            assert_eq!(files.entries.borrow().len(), FILES_MAX);
            assert!(files.find(&root, "0.mp4", now).is_none(), "the oldest went");
            assert!(files.find(Path::new("/elsewhere"), "1.mp4", now).is_none());
        });
    }
}
