//! The two files and those they name on the disk: whether they have changed, and writing one so
//! that nobody ever sees half of it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use crate::config::model::Config;
use crate::net::tls::Certificate;
use crate::policy::Policy;

/// So much of a file is looked at: far more than any of these is long.
const BYTES_MAX: u64 = 16 << 20;

/// What stands in several files. Times and sizes would not do: a file may be written twice within
/// what a clock of the disk can tell apart. One that is not there, or cannot be read, holds
/// nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents(BTreeMap<PathBuf, [u8; 32]>);

impl Contents {
    /// The files as they are now.
    pub(super) fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let of = |path: PathBuf| {
            let digest = Sha256::digest(read(&path).unwrap_or_default());
            (path, digest.into())
        };
        Self(paths.into_iter().map(of).collect())
    }

    /// The files of keys, certificates and authorities that a configuration and a policy name, as
    /// they are now. `tls`: the server shows a certificate.
    #[must_use]
    pub fn of_named(config: &Config, policy: &Policy, tls: bool) -> Self {
        // Half a pair is refused where it is read.
        let shown = tls.then(|| Certificate::files(&config.ssl, &config.base_dir).ok());
        let mut files: Vec<PathBuf> = shown.flatten().into_iter().flatten().collect();
        files.extend(config.ssl.client_files().map(Path::to_path_buf));
        files.push(config.auth.token_file.clone());
        files.extend(config.auth.jwt_file().map(Path::to_path_buf));
        files.extend(config.auth.hook.as_ref().and_then(|hook| hook.ca.clone()));
        files.extend(config.events.ca.clone());
        let forwards = policy.vhosts.iter().chain(&policy.urls).flat_map(|rule| &rule.forward);
        let authorities = forwards
            .map(|forward| &forward.ca)
            .chain(policy.pulls.iter().map(|entry| &entry.ca))
            .chain(policy.origins.iter().map(|origins| &origins.ca));
        files.extend(authorities.flatten().map(|ca| config.base_dir.join(ca)));
        Self::of(files)
    }

    /// The same files as they are now.
    pub(super) fn again(&self) -> Self {
        Self::of(self.0.keys().cloned())
    }

    /// A file has been read or written, and this is what stood in it.
    pub(super) fn set(&mut self, path: &Path, text: &str) {
        self.0.insert(path.to_path_buf(), Sha256::digest(text).into());
    }

    /// Those that held nothing are looked at again: they have been made meanwhile, by whoever found
    /// them missing.
    pub(super) fn with_made(self) -> Self {
        let nothing: [u8; 32] = Sha256::digest([]).into();
        let missing = self.0.iter().filter(|(_, digest)| **digest == nothing);
        let made = Self::of(missing.map(|(path, _)| path.clone()));
        Self(self.0.into_iter().chain(made.0).collect())
    }

    /// These files and others; of those in both, as they are in the others.
    pub(super) fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Those of these files, and the others.
    pub(super) fn with(&self, kept: [&Path; 2], mut others: Self) -> Self {
        let ours = self.0.iter().filter(|(path, _)| kept.contains(&path.as_path()));
        others.0.extend(ours.map(|(path, digest)| (path.clone(), *digest)));
        others
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // To open a pipe may take for ever.
    if fs::metadata(path)?.is_file() {
        File::open(path)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// What came of replacing a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replaced {
    /// It holds another text meanwhile: nothing is written.
    Foreign,
    /// The new text is the old one: nothing is written.
    Same,
    /// It holds the new text; the old one, if there was a file, is kept.
    Written { backup: bool },
}

/// Replaces a file that still holds the old text by one with the new, and keeps the old one beside
/// it, its name with `.bak` behind. Readers see the old or the new text, also after a power cut.
/// One that is not there holds no text.
pub(super) fn replace(path: &Path, old: &str, new: &str) -> io::Result<Replaced> {
    // Where the name is a link, the file it leads to is the one to replace.
    let path = fs::canonicalize(path).or_else(|_| std::path::absolute(path))?;
    let there = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        there => Some(there?),
    };
    if there.as_deref().unwrap_or_default() != old.as_bytes() {
        return Ok(Replaced::Foreign);
    }
    if old == new {
        return Ok(Replaced::Same);
    }
    let mode = fs::metadata(&path).map_or(0o640, |meta| meta.mode() & 0o777);
    let backup = there.is_some();
    if let Some(there) = there {
        write_new(&beside(&path, ".bak"), &there, mode)?;
    }
    write_new(&path, new.as_bytes(), mode)?;
    Ok(Replaced::Written { backup })
}

/// Writes a file beside the one it then replaces, under a name that nobody else has given.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let fresh = beside(path, &format!(".{nanos:x}.tmp"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    let written = (|| {
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
        let replaced = |path: &Path, old, new| replace(path, old, new).unwrap();
        assert_eq!(replaced(&path, "", "one"), Replaced::Written { backup: false });
        assert_eq!(replaced(&path, "one", "two"), Replaced::Written { backup: true });
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!((read("a.xml"), read("a.xml.bak")), ("two".to_owned(), "one".to_owned()));
        assert_eq!(replaced(&path, "one", "three"), Replaced::Foreign);
        assert_eq!(replaced(&path, "one", "one"), Replaced::Foreign);
        assert_eq!(replaced(&path, "two", "two"), Replaced::Same);
        assert_eq!((read("a.xml"), read("a.xml.bak")), ("two".to_owned(), "one".to_owned()));
        let names = fs::read_dir(&folder).unwrap().count();
        assert_eq!(names, 2, "nothing else is left");
        let missing = folder.join("no/a.xml");
        assert!(replace(&missing, "", "x").is_err());
        assert_eq!(replaced(&missing, "was there", "x"), Replaced::Foreign);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_change_that_time_and_size_do_not_tell_is_seen() {
        let path = std::env::temp_dir().join(format!("contents-{}", std::process::id()));
        let missing = Contents::of([path.clone()]);
        fs::write(&path, "one").unwrap();
        let one = Contents::of([path.clone()]);
        assert_ne!(one, missing);
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        // In place: the same inode.
        fs::write(&path, "two").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let two = one.again();
        assert_ne!(two, one);
        let mut told = one;
        told.set(&path, "two");
        assert_eq!(told, two, "what was read says as much");
        fs::remove_file(&path).unwrap();
        assert_eq!(two.again(), missing);
    }
}
