//! Files that are served: opened and read without waiting where they can be, sent to sockets.

// Raw file calls; each block says why it is sound.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::sys::{BENEATH, openat2, retry};

/// `cachestat`: the same number on every architecture, and not yet in the C library.
const SYS_CACHESTAT: libc::c_long = 451;
/// The kernel counts the cache in pages of this size on every machine this server is built for;
/// where they are larger, a range that is cached looks as if it were not.
const PAGE_BYTES: u64 = 4096;

/// As [`super::sys::open_beneath`], but never waits for a disk: `None` when it would have to, or
/// when the kernel cannot tell.
///
/// # Errors
/// As there.
pub fn open_beneath_cached(directory: &Path, relative: &str) -> io::Result<Option<File>> {
    use std::os::unix::ffi::OsStrExt;
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let path = directory.as_os_str().as_bytes();
    let opened = openat2(libc::AT_FDCWD, path, flags, 0, libc::RESOLVE_CACHED);
    let Some(directory) = unless_it_waits(opened)? else { return Ok(None) };
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let resolve = BENEATH | libc::RESOLVE_CACHED;
    let opened = openat2(directory.as_raw_fd(), relative, flags, 0, resolve);
    Ok(unless_it_waits(opened)?.map(File::from))
}

fn unless_it_waits(opened: io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match opened {
        Ok(fd) => Ok(Some(fd)),
        // Kernels before 5.12 do not know the flag.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINVAL)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Appends up to `count` bytes of a file at `offset` as far as they can be had without waiting
/// for a disk; the number of bytes, 0 at the end of the file.
///
/// # Errors
/// `WouldBlock` when not even the first byte is at hand, `Unsupported` when the file system cannot
/// tell, else what the system says.
pub fn read_cached(
    file: &File,
    into: &mut Vec<u8>,
    offset: u64,
    count: usize,
) -> io::Result<usize> {
    into.reserve(count);
    let spare = into.spare_capacity_mut();
    let vector =
        libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: spare.len().min(count) };
    let read = pread_nowait(file, &vector, offset)?;
    // SAFETY: the kernel has initialised the first `read` bytes of the spare capacity.
    unsafe { into.set_len(into.len() + read) };
    Ok(read)
}

/// Whether the byte at `offset` can be had without waiting for a disk.
///
/// # Errors
/// `Unsupported` when the file system cannot tell, else what the system says.
pub fn is_at_hand(file: &File, offset: u64) -> io::Result<bool> {
    let mut byte = 0u8;
    let vector = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    match pread_nowait(file, &vector, offset) {
        Ok(read) => Ok(read == 1),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e),
    }
}

/// The vector must describe memory that may be written.
fn pread_nowait(file: &File, vector: &libc::iovec, offset: u64) -> io::Result<usize> {
    let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: both callers describe live memory of their own, which the kernel only writes.
    let read =
        retry(|| unsafe { libc::preadv2(file.as_raw_fd(), vector, 1, offset, libc::RWF_NOWAIT) });
    read.map_err(|e| match e.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => io::ErrorKind::Unsupported.into(),
        _ => e,
    })
}

/// Whether all pages of a range are in the page cache; some may still be on their way there.
///
/// # Errors
/// The kernel does not know the call, or keeps the answer from us.
pub fn is_cached(file: &File, offset: u64, count: u64) -> io::Result<bool> {
    let range: [u64; 2] = [offset, count];
    let mut counts = [0u64; 5];
    // SAFETY: both arrays have the layout of the structures the call takes, and live for it.
    retry(|| unsafe {
        let (range, counts) = (range.as_ptr(), counts.as_mut_ptr());
        libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), range, counts, 0) as isize
    })?;
    let first = offset / PAGE_BYTES;
    let end = offset.saturating_add(count).div_ceil(PAGE_BYTES);
    let [in_cache, ..] = counts;
    Ok(in_cache >= end - first)
}

/// Sends up to `count` bytes of a file at `offset` to a non-blocking socket; 0 at the end of the
/// file. Waits for a disk where the bytes are not in the page cache.
///
/// # Errors
/// `WouldBlock` when the socket takes nothing, else what the system says.
pub fn send_file(
    socket: BorrowedFd<'_>,
    file: &File,
    offset: u64,
    count: usize,
) -> io::Result<usize> {
    let mut offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the offset lives for the call.
    retry(|| unsafe {
        libc::sendfile(socket.as_raw_fd(), file.as_raw_fd(), &raw mut offset, count)
    })
}

/// Sends what the socket takes without waiting, and tells the kernel that more follows at once, so
/// that the end of it need not travel alone.
///
/// # Errors
/// As [`super::sys::send`].
pub fn send_more(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE;
    // SAFETY: the pointer and length describe one live slice that is only read.
    retry(|| unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("sys-file-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_file_just_written_is_at_hand_and_reaches_a_socket() {
        let root = folder("send");
        std::fs::write(root.join("file"), b"0123456789").unwrap();
        let file = open_beneath_cached(&root, "file").unwrap().expect("it was just written");
        let mut bytes = Vec::new();
        match read_cached(&file, &mut bytes, 4, 3) {
            Ok(3) => assert_eq!(bytes, b"456"),
            other => assert_eq!(other.unwrap_err().kind(), io::ErrorKind::Unsupported),
        }
        // Old kernels lack the call, and files of others may keep it to themselves.
        assert!(is_cached(&file, 0, 10).unwrap_or(true));
        let (near, mut far) = UnixStream::pair().unwrap();
        assert_eq!(send_more(near.as_fd(), b"ab").unwrap(), 2);
        assert_eq!(send_file(near.as_fd(), &file, 8, 100).unwrap(), 2);
        assert_eq!(send_file(near.as_fd(), &file, 10, 100).unwrap(), 0);
        drop(near);
        let mut got = String::new();
        far.read_to_string(&mut got).unwrap();
        assert_eq!(got, "ab89");
        for path in ["../etc", "none", "/etc/passwd"] {
            assert!(!matches!(open_beneath_cached(&root, path), Ok(Some(_))), "{path}");
        }
        std::fs::remove_dir_all(&root).unwrap();
    }
}
