//! What is deleted: the oldest recordings, by their age and by the size of all together.

use std::io;
use std::time::Duration;

use super::library::{Library, Stored};
use super::name::PieceName;
use super::piece::is_being_written;
use crate::net::sys_file::Directory;

/// For how long and how much recordings are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Keep {
    /// Age at which a piece goes.
    pub(super) age_max: Option<Duration>,
    /// Bytes of all pieces beyond which the oldest go.
    pub(super) bytes_max: Option<u64>,
}

impl Keep {
    /// Nothing is ever deleted.
    pub(super) fn is_for_ever(&self) -> bool {
        self.age_max.is_none() && self.bytes_max.is_none()
    }
}

/// Has everything removed that is too old or too much, oldest first. `remove` says whether the
/// piece has gone; one that is being written does not go, and the next one is tried. Gives the
/// number of pieces that went.
pub(super) fn apply(
    mut stored: Vec<Stored>,
    keep: Keep,
    now_unix_ms: u64,
    mut remove: impl FnMut(&Stored) -> bool,
) -> usize {
    stored.sort_by(|a, b| (a.name, &a.folder).cmp(&(b.name, &b.folder)));
    let mut bytes: u64 = stored.iter().map(|piece| piece.bytes).sum();
    let age = keep.age_max.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let oldest = age.map(|age| PieceName::at(now_unix_ms.saturating_sub(age)));
    let mut removed = 0;
    for piece in &stored {
        let too_old = oldest.is_some_and(|oldest| piece.name < oldest);
        let too_much = keep.bytes_max.is_some_and(|max| bytes > max);
        if !too_old && !too_much {
            break;
        }
        if remove(piece) {
            bytes -= piece.bytes;
            removed += 1;
        }
    }
    removed
}

/// Deletes a piece that is not being written, and its folders if they are empty then.
pub(super) fn delete(library: &Library, piece: &Stored) -> io::Result<bool> {
    let root = library.root()?;
    let folder = root.descend(&piece.folder)?;
    let day_text = piece.name.day_text();
    let day = folder.descend(&day_text)?;
    let media = piece.name.media_file();
    if is_being_written(&day.open_file(&media)?) {
        return Ok(false);
    }
    // The index first: media without one can still be played.
    let _ = day.remove_file(&piece.name.index_file());
    day.remove_file(&media)?;
    if folder.remove_directory(&day_text).is_ok() {
        remove_empty(&root, &piece.folder);
    }
    Ok(true)
}

/// Removes a folder and those above it, as far as they are empty.
fn remove_empty(root: &Directory, path: &str) {
    let mut path = path;
    while let Some((above, name)) = path.rsplit_once('/') {
        let removed = root.descend(above).and_then(|folder| folder.remove_directory(name));
        if removed.is_err() {
            return;
        }
        path = above;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(folder: &str, day: &str, time: &str, bytes: u64) -> Stored {
        Stored { folder: folder.into(), name: PieceName::parse(day, time).unwrap(), bytes }
    }

    fn pieces() -> Vec<Stored> {
        vec![
            stored("default/b", "2024-05-02", "10-00-00", 40),
            stored("default/a", "2024-05-01", "10-00-00", 10),
            stored("default/a", "2024-05-03", "00-00-00", 30),
            stored("default/b", "2024-05-01", "09-00-00", 20),
        ]
    }

    fn order(keep: Keep, now: &str, held: &[u64]) -> Vec<u64> {
        let now = PieceName::parse(now, "12-00-00").unwrap().unix_ms();
        let mut gone = Vec::new();
        let removed = apply(pieces(), keep, now, |piece| {
            let goes = !held.contains(&piece.bytes);
            if goes {
                gone.push(piece.bytes);
            }
            goes
        });
        assert_eq!(removed, gone.len());
        gone
    }

    #[test]
    fn the_oldest_go_first_until_the_rest_fits() {
        let keep = |bytes| Keep { bytes_max: Some(bytes), age_max: None };
        assert_eq!(order(keep(100), "2024-05-03", &[]), [0u64; 0]);
        assert_eq!(order(keep(99), "2024-05-03", &[]), [20]);
        assert_eq!(order(keep(79), "2024-05-03", &[]), [20, 10]);
        assert_eq!(order(keep(0), "2024-05-03", &[]), [20, 10, 40, 30]);
        // What is being written stays, and the next one goes in its place.
        assert_eq!(order(keep(80), "2024-05-03", &[20]), [10, 40]);
    }

    #[test]
    fn the_old_go_whatever_the_size() {
        let days =
            |days: u64| Keep { age_max: Some(Duration::from_secs(days * 86_400)), bytes_max: None };
        assert_eq!(order(days(3), "2024-05-03", &[]), [0u64; 0]);
        assert_eq!(order(days(1), "2024-05-03", &[]), [20, 10, 40]);
        assert_eq!(order(days(1), "2024-05-03", &[10]), [20, 40]);
        assert_eq!(order(days(1), "2024-05-09", &[]), [20, 10, 40, 30]);
    }

    #[test]
    fn deleting_leaves_no_empty_folders_and_nothing_that_is_being_written() {
        let root = std::env::temp_dir().join(format!("retention-{}", std::process::id()));
        let library = Library::new(&root);
        let top = Directory::create(&root).unwrap();
        let make = |folder: &str, time: &str| {
            let day = top.descend_or_create(&format!("{folder}/2024-05-01")).unwrap();
            day.create_file(&format!("{time}.idx")).unwrap();
            day.create_file(&format!("{time}.mp4")).unwrap()
        };
        make("default/a/b", "10-00-00");
        let held = make("default/a/c", "10-00-00");
        held.try_lock().unwrap();
        let found = library.stored();
        assert_eq!(found.len(), 2);
        for piece in &found {
            let goes = delete(&library, piece).unwrap();
            assert_eq!(goes, piece.folder == "default/a/b");
        }
        assert!(!root.join("default/a/b").exists());
        assert!(root.join("default/a/c/2024-05-01/10-00-00.mp4").exists());
        drop(held);
        let left = library.stored();
        assert!(delete(&library, &left[0]).unwrap());
        assert!(!root.join("default/a").exists(), "empty folders go");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
