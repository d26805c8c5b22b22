//! Every raw system call of the engine, each behind a small safe function.

// The one place where raw calls are allowed; each block says why it is sound.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Slices one `sendmsg` takes at most (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

/// Which half of a connection [`shutdown`] ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// No more bytes will be sent; the peer sees the end of the stream.
    Write,
    /// Both directions.
    Both,
}

/// Receives what is there without waiting; 0 means the peer has ended its direction.
///
/// # Errors
/// `WouldBlock` when nothing is there, else what the socket says.
pub fn recv(fd: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length describe one live, writable slice.
    retry(|| unsafe {
        libc::recv(fd.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT)
    })
}

/// Sends what the socket takes without waiting and never raises `SIGPIPE`.
///
/// # Errors
/// `WouldBlock` when the socket takes nothing, else what the socket says.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and length describe one live slice that is only read.
    retry(|| unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// As [`send`], from several slices in order; slices beyond `IOV_MAX` wait for the next call.
///
/// # Errors
/// As [`send`].
pub fn sendmsg(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: all-zero is a valid msghdr (no name, no control data, no slices).
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // `IoSlice` is documented to have the layout of `iovec`; the kernel only reads through it.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len().min(SLICES_MAX) as _;
    // SAFETY: the header points at live slices for the length of the call.
    retry(|| unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) })
}

/// Ends one or both directions of a connection. Called before a socket is dropped, because a
/// pending readiness request of the executor would otherwise hold the end of stream back.
pub fn shutdown(fd: BorrowedFd<'_>, half: Half) {
    let how = match half {
        Half::Write => libc::SHUT_WR,
        Half::Both => libc::SHUT_RDWR,
    };
    // SAFETY: no memory is passed; a socket that is already gone only yields an ignored error.
    unsafe { libc::shutdown(fd.as_raw_fd(), how) };
}

/// Opens a file for reading strictly beneath a directory: no `..` out of it, no absolute path, no
/// symbolic link anywhere in `relative`, no mount of `/proc` tricks; never waits for a FIFO.
///
/// # Errors
/// The directory or file cannot be opened, or the path tries to leave the directory.
pub fn open_beneath(directory: &Path, relative: &str) -> io::Result<File> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let directory = OpenOptions::new().read(true).custom_flags(flags).open(directory)?;
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    openat2(directory.as_raw_fd(), relative, flags, 0, BENEATH).map(File::from)
}

/// Strictly beneath the directory: no `..` out of it, no symbolic link, no tricks of `/proc`.
pub(super) const BENEATH: u64 =
    libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;

/// `openat2`: `flags` and `mode` as for `open`, `resolve` bounds what the path may do.
pub(super) fn openat2(
    directory: RawFd,
    path: impl Into<Vec<u8>>,
    flags: i32,
    mode: u32,
    resolve: u64,
) -> io::Result<OwnedFd> {
    let path = CString::new(path).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: all-zero is a valid open_how.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    // The flags are a small positive number.
    how.flags = flags as u64;
    how.mode = mode.into();
    how.resolve = resolve;
    let fd = retry(|| {
        // SAFETY: path and open_how are live for the call and the size is that of open_how.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                directory,
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        fd as isize
    })?;
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just returned this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The addresses of all network interfaces, loopback included; empty when they cannot be read.
pub fn interface_addresses() -> Vec<IpAddr> {
    let mut found = Vec::new();
    for (_, address) in super::sys_host::interfaces() {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

pub(super) fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(n) = usize::try_from(call()) {
            return Ok(n);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Resident size of this process in bytes; 0 when the system does not say.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    // SAFETY: no pointers; the page size is a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn bytes_cross_a_socket_and_nothing_waits() {
        let (a, b) = UnixStream::pair().unwrap();
        let mut buffer = [0; 16];
        let none = recv(b.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(send(a.as_fd(), b"ab").unwrap(), 2);
        let slices = [IoSlice::new(b"cd"), IoSlice::new(b""), IoSlice::new(b"ef")];
        assert_eq!(sendmsg(a.as_fd(), &slices).unwrap(), 4);
        assert_eq!(recv(b.as_fd(), &mut buffer).unwrap(), 6);
        assert_eq!(&buffer[..6], b"abcdef");
        shutdown(a.as_fd(), Half::Write);
        assert_eq!(recv(b.as_fd(), &mut buffer).unwrap(), 0);
        shutdown(b.as_fd(), Half::Both);
        assert!(send(b.as_fd(), b"x").is_err());
    }

    #[test]
    fn nothing_outside_a_directory_can_be_opened() {
        let root = std::env::temp_dir().join(format!("open-beneath-{}", std::process::id()));
        let inside = root.join("in");
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::write(root.join("secret"), b"s").unwrap();
        std::fs::write(inside.join("page"), b"p").unwrap();
        let _ = std::os::unix::fs::symlink(root.join("secret"), inside.join("link"));
        assert!(open_beneath(&inside, "page").is_ok());
        for path in ["../secret", "/etc/passwd", "link", "./../in/../secret", "a\0b"] {
            assert!(open_beneath(&inside, path).is_err(), "{path:?}");
        }
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn loopback_is_among_the_interface_addresses() {
        assert!(interface_addresses().iter().any(IpAddr::is_loopback));
    }
}
