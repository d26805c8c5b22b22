//! Directories as handles: what is opened through one lies beneath it, whatever a path says.
//!
//! Everything here may wait for a disk: not on a shard, but for [`buffered`] files.

// As `sys`: raw calls behind small safe functions; each block says why it is sound.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;

use glommio::GlommioError;
use glommio::io::BufferedFile;

use super::sys::{BENEATH, openat2, retry};

/// Who may read what is made here: the owner, and the group files.
const FILE_MODE: libc::mode_t = 0o640;
const DIRECTORY_MODE: libc::mode_t = 0o750;

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// It is a directory; else a regular file.
    pub is_directory: bool,
}

/// An open directory.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// Opens a directory by its path; symbolic links in it are followed.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = libc::O_DIRECTORY | libc::O_CLOEXEC;
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        Ok(Self(file.into()))
    }

    /// Opens a directory strictly beneath another one; an empty path is that one itself.
    ///
    /// # Errors
    /// It does not exist, is no directory, or the path tries to leave.
    pub fn beneath(path: &Path, relative: &str) -> io::Result<Self> {
        let top = Self::open(path)?;
        if relative.is_empty() { Ok(top) } else { top.descend(relative) }
    }

    /// Makes a directory if there is none of that name; missing parents are not made.
    ///
    /// # Errors
    /// What the system says.
    pub fn make(path: &Path) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        match std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// As [`Directory::open`]; makes what is missing of the path.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(DIRECTORY_MODE).create(path)?;
        Self::open(path)
    }

    /// A directory beneath this one; no symbolic link is followed.
    ///
    /// # Errors
    /// What the system says; the path may not leave this directory.
    pub fn descend(&self, relative: &str) -> io::Result<Self> {
        self.open_at(relative, libc::O_RDONLY | libc::O_DIRECTORY).map(Self)
    }

    /// As [`Directory::descend`]; makes what is missing of the path.
    ///
    /// # Errors
    /// As [`Directory::descend`].
    pub fn descend_or_create(&self, relative: &str) -> io::Result<Self> {
        let mut parts = relative.split('/');
        let mut here = self.child_or_create(parts.next().unwrap_or_default())?;
        for part in parts {
            here = here.child_or_create(part)?;
        }
        Ok(here)
    }

    fn child_or_create(&self, name: &str) -> io::Result<Self> {
        let path = text(name)?;
        // SAFETY: the path is a live C string; the call takes nothing else but integers.
        let made = unsafe { libc::mkdirat(self.0.as_raw_fd(), path.as_ptr(), DIRECTORY_MODE) };
        let exists = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
        check(made).or_else(|error| if exists(&error) { Ok(()) } else { Err(error) })?;
        self.descend(name)
    }

    /// Opens a file beneath this directory for reading; never waits for a FIFO.
    ///
    /// # Errors
    /// As [`Directory::descend`]; also when it is no regular file.
    pub fn open_file(&self, relative: &str) -> io::Result<File> {
        let file = File::from(self.open_at(relative, libc::O_RDONLY | libc::O_NONBLOCK)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// Makes a file in this directory and opens it for writing.
    ///
    /// # Errors
    /// `AlreadyExists`, and what the system says.
    pub fn create_file(&self, name: &str) -> io::Result<File> {
        self.open_at(name, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL).map(File::from)
    }

    /// Gives a file of this directory another name in it, in one step; what had that name is gone.
    ///
    /// # Errors
    /// What the system says.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename_with(from, to, 0)
    }

    /// As [`Directory::rename`], but a file that has the name stays as it is.
    ///
    /// # Errors
    /// `AlreadyExists`, and what the system says.
    pub fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        match self.rename_with(from, to, libc::RENAME_NOREPLACE) {
            // A file system without the flag: a second name cannot replace anything either.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                let (one, other) = (plain(from)?, plain(to)?);
                let fd = self.0.as_raw_fd();
                // SAFETY: both names are live C strings; the rest are integers.
                check(unsafe { libc::linkat(fd, one.as_ptr(), fd, other.as_ptr(), 0) })?;
                self.unlink(from, 0)
            }
            other => other,
        }
    }

    fn rename_with(&self, from: &str, to: &str, flags: libc::c_uint) -> io::Result<()> {
        let (from, to) = (plain(from)?, plain(to)?);
        let fd = self.0.as_raw_fd();
        // SAFETY: both names are live C strings; the rest are integers.
        retry(|| unsafe {
            libc::syscall(libc::SYS_renameat2, fd, from.as_ptr(), fd, to.as_ptr(), flags) as isize
        })
        .map(drop)
    }

    /// Whether there is an entry of this name, whatever it is.
    ///
    /// # Errors
    /// What the system says.
    pub fn exists(&self, name: &str) -> io::Result<bool> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        match openat2(self.0.as_raw_fd(), name, flags, 0, libc::RESOLVE_BENEATH) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes a file of this directory.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_file(&self, name: &str) -> io::Result<()> {
        self.unlink(name, 0)
    }

    /// Removes an empty directory of this one.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_directory(&self, name: &str) -> io::Result<()> {
        self.unlink(name, libc::AT_REMOVEDIR)
    }

    fn unlink(&self, name: &str, flags: libc::c_int) -> io::Result<()> {
        let name = plain(name)?;
        // SAFETY: the path is a live C string; the call takes nothing else but integers.
        check(unsafe { libc::unlinkat(self.0.as_raw_fd(), name.as_ptr(), flags) })
    }

    /// The directories and regular files in this one, at most `max`, in no order. Names that are
    /// not UTF-8 or begin with a dot are left out.
    ///
    /// # Errors
    /// What the system says.
    pub fn entries(&self, max: usize) -> io::Result<Vec<Entry>> {
        // A description of its own: reading moves its position.
        let fd = self.open_at(".", libc::O_RDONLY | libc::O_DIRECTORY)?;
        // SAFETY: the descriptor is a directory of ours; the stream takes it over if it succeeds.
        let stream = unsafe { libc::fdopendir(fd.as_raw_fd()) };
        if stream.is_null() {
            return Err(io::Error::last_os_error());
        }
        let _ = fd.into_raw_fd();
        let mut entries = Vec::new();
        while entries.len() < max {
            // SAFETY: the stream is open; nobody else reads it.
            let entry = unsafe { libc::readdir64(stream) };
            if entry.is_null() {
                break;
            }
            // SAFETY: a non-null entry is valid until the next call; its name is a C string.
            let (name, kind) =
                unsafe { (CStr::from_ptr((*entry).d_name.as_ptr()), (*entry).d_type) };
            let Ok(name) = name.to_str() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let is_directory = match kind {
                libc::DT_DIR => true,
                libc::DT_REG => false,
                // Some file systems do not say.
                libc::DT_UNKNOWN => match self.descend(name) {
                    Ok(_) => true,
                    Err(_) if self.open_file(name).is_ok() => false,
                    Err(_) => continue,
                },
                _ => continue,
            };
            entries.push(Entry { name: name.to_owned(), is_directory });
        }
        // SAFETY: the stream was opened above and is not used any more.
        unsafe { libc::closedir(stream) };
        Ok(entries)
    }

    fn open_at(&self, relative: &str, flags: libc::c_int) -> io::Result<OwnedFd> {
        let mode = if flags & libc::O_CREAT != 0 { FILE_MODE } else { 0 };
        openat2(self.0.as_raw_fd(), relative, flags | libc::O_CLOEXEC, mode, BENEATH)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Hands a file to the executor of this shard, whose reads and writes do not wait.
pub fn buffered(file: File) -> BufferedFile {
    // SAFETY: the descriptor is open, and from here on owned by the new file alone.
    unsafe { BufferedFile::from_raw_fd(file.into_raw_fd()) }
}

/// Writes all of `bytes` at that offset of a file of this shard's executor.
///
/// # Errors
/// Those of the write; [`io::ErrorKind::StorageFull`] when the system takes less than all, which it
/// does of a file only for want of room.
pub async fn write_all(file: &BufferedFile, at: u64, bytes: Vec<u8>) -> io::Result<()> {
    let length = bytes.len();
    let written = file.write_at(bytes, at).await.map_err(system_error)?;
    if written == length { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
}

/// The system's own error, whose number says more than its kind.
pub fn system_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::EnhancedIoError { source, .. } => source,
        other => other.into(),
    }
}

fn text(path: &str) -> io::Result<CString> {
    CString::new(path).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// One component: calls that do not resolve beneath must not get more.
fn plain(name: &str) -> io::Result<CString> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    text(name)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn nothing_outside_is_made_renamed_or_removed() {
        let root = std::env::temp_dir().join(format!("beneath-{}", std::process::id()));
        let inside = Directory::create(&root.join("in/side")).unwrap();
        std::fs::write(root.join("secret"), b"s").unwrap();
        std::os::unix::fs::symlink(&root, root.join("in/side/link")).unwrap();
        for path in ["..", "../x", "/tmp", "link", "link/in", "a\0b", ""] {
            assert!(inside.descend(path).is_err(), "{path:?}");
            assert!(inside.descend_or_create(path).is_err(), "{path:?}");
            assert!(inside.create_file(path).is_err(), "{path:?}");
            assert!(inside.open_file(path).is_err(), "{path:?}");
        }
        assert!(inside.open_file("../../secret").is_err());
        assert!(inside.remove_file("../../secret").is_err());
        assert!(inside.rename("../../secret", "x").is_err());
        assert_eq!(std::fs::read(root.join("secret")).unwrap(), b"s");
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn files_come_and_go() {
        let root = std::env::temp_dir().join(format!("come-and-go-{}", std::process::id()));
        let top = Directory::create(&root).unwrap();
        let day = top.descend_or_create("a/b/day").unwrap();
        day.create_file("x").unwrap().write_all(b"abc").unwrap();
        assert_eq!(day.create_file("x").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        day.create_file(".hidden").unwrap();
        day.descend_or_create("folder").unwrap();
        std::os::unix::fs::symlink("x", root.join("a/b/day/link")).unwrap();
        let mut entries = day.entries(10).unwrap();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let seen: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.is_directory)).collect();
        assert_eq!(seen, [("folder", true), ("x", false)]);
        assert_eq!(day.entries(1).unwrap().len(), 1, "bounded");
        day.rename("x", "y").unwrap();
        assert_eq!(day.open_file("y").unwrap().metadata().unwrap().len(), 3);
        assert!(day.open_file("folder").is_err(), "not a regular file");
        day.remove_file("y").unwrap();
        day.remove_directory("folder").unwrap();
        assert!(top.remove_directory("a").is_err(), "not empty");
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn new_files_never_replace_old_ones_unasked() {
        let root = std::env::temp_dir().join(format!("replace-{}", std::process::id()));
        Directory::make(&root).unwrap();
        std::fs::write(root.join("old"), b"old").unwrap();
        let folder = Directory::beneath(&root, "").unwrap();
        folder.create_file("new").unwrap();
        assert_eq!(folder.create_file("new").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(folder.exists("new").unwrap() && !folder.exists("none").unwrap());
        let refused = folder.rename_new("new", "old").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(root.join("old")).unwrap(), b"old");
        folder.rename("new", "old").unwrap();
        assert_eq!(std::fs::read(root.join("old")).unwrap(), b"");
        assert!(folder.create_file("../out").is_err());
        folder.remove_file("old").unwrap();
        assert!(folder.remove_file("old").is_err());
        std::fs::remove_dir_all(&root).unwrap();
    }
}
