//! The folder of the files on demand, which a shard keeps open for a moment: most requests find it
//! open.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::clock;
use crate::net::sys_serve;

/// A folder that was put in the place of another one is noticed after so long at the latest.
const OPEN_FOR: Duration = Duration::from_secs(1);

struct Open {
    path: PathBuf,
    fd: OwnedFd,
    since: Instant,
}

/// See the module text.
#[derive(Default)]
pub(crate) struct Folder(RefCell<Option<Open>>);

impl Folder {
    /// Opens a file beneath the folder at `root` as far as that needs no disk.
    ///
    /// # Errors
    /// As [`sys_serve::open_beneath_cached`].
    pub(super) fn open_cached(&self, root: &Path, below: &str) -> io::Result<Option<File>> {
        let mut place = self.0.borrow_mut();
        let now = clock::now();
        if let Some(open) = &*place
            && open.path == root
            && now.saturating_duration_since(open.since) < OPEN_FOR
            && let Ok(Some(file)) = sys_serve::open_beneath_cached(open.fd.as_fd(), below)
        {
            return Ok(Some(file));
        }
        // What is not there may be in another folder of the same name by now.
        *place = None;
        let Some(fd) = sys_serve::open_folder_cached(root)? else { return Ok(None) };
        let found = sys_serve::open_beneath_cached(fd.as_fd(), below);
        *place = Some(Open { path: root.to_path_buf(), fd, since: now });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn another_folder_under_the_name_is_found_when_a_file_is_missing() {
        let root = std::env::temp_dir().join(format!("vod-folder-{}", std::process::id()));
        let other = root.with_extension("other");
        for folder in [&root, &other] {
            let _ = std::fs::remove_dir_all(folder);
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(root.join("a"), b"one").unwrap();
        std::fs::write(other.join("b"), b"two").unwrap();
        let folder = Folder::default();
        let read = |name| {
            let mut text = String::new();
            let mut file = folder.open_cached(&root, name).unwrap().expect("just written");
            file.read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!((read("a"), read("a")), ("one".to_owned(), "one".to_owned()));
        assert!(!matches!(folder.open_cached(&root, "b"), Ok(Some(_))));
        std::fs::remove_dir_all(&root).unwrap();
        std::fs::rename(&other, &root).unwrap();
        assert_eq!(read("b"), "two");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
