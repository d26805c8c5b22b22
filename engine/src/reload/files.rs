//! The two files and the certificates on the disk: whether they have changed, and writing one so
//! that nobody ever sees half of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What tells that a file is another one than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

/// The state of several files; a file that is not there has one too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stamps(Vec<Option<Stamp>>);

impl Stamps {
    pub(super) fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Self {
        let stamp = |path: &Path| {
            let meta = fs::metadata(path).ok()?;
            let modified = (meta.mtime(), meta.mtime_nsec());
            Some(Stamp { inode: meta.ino(), bytes: meta.len(), modified })
        };
        Self(paths.into_iter().map(stamp).collect())
    }
}

/// Replaces a file by one with this text and keeps the old one beside it, its name with `.bak`
/// behind, which is given back. Readers see the old or the new text, also after a power cut.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<PathBuf> {
    // Where the name is a link, the file it leads to is the one to replace.
    let path = fs::canonicalize(path).or_else(|_| std::path::absolute(path))?;
    let backup = beside(&path, ".bak");
    let mode = fs::metadata(&path).map_or(0o640, |meta| meta.mode() & 0o777);
    match fs::read(&path) {
        Ok(old) => write_new(&backup, &old, mode)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    write_new(&path, text.as_bytes(), mode)?;
    Ok(backup)
}

/// Writes a file beside the one it then replaces.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let fresh = beside(path, ".new");
    // One that a crash has left would keep its mode.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_the_old_one_kept() {
        let folder = std::env::temp_dir().join(format!("replace-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.xml");
        let before = Stamps::of([path.as_path()]);
        replace(&path, "one").unwrap();
        assert_ne!(before, Stamps::of([path.as_path()]));
        let backup = replace(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_to_string(&backup).unwrap(), "one");
        let names = fs::read_dir(&folder).unwrap().count();
        assert_eq!(names, 2, "nothing else is left");
        let missing = folder.join("no/a.xml");
        assert!(replace(&missing, "x").is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
