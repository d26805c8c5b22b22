//! Descriptors of other processes.

// Raw calls are allowed here; each block says why it is sound.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Another process.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// Takes hold of a process.
    ///
    /// # Errors
    /// It is not there.
    pub fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: no memory is passed.
        own(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map(Self)
    }

    /// One of its descriptors, as one of ours.
    ///
    /// # Errors
    /// It has none of this number, or may not be touched.
    pub fn descriptor(&self, number: RawFd) -> io::Result<OwnedFd> {
        // SAFETY: no memory is passed.
        own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.0.as_raw_fd(), number, 0) })
    }
}

fn own(result: libc::c_long) -> io::Result<OwnedFd> {
    let number = RawFd::try_from(result).ok().filter(|number| *number >= 0);
    // SAFETY: the descriptor is new and owned by nobody else.
    number
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .ok_or_else(io::Error::last_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_descriptor_is_the_same_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = Process::open(std::process::id()).unwrap();
        let copy = TcpListener::from(own.descriptor(listener.as_raw_fd()).unwrap());
        assert_eq!(copy.local_addr().unwrap(), listener.local_addr().unwrap());
        assert!(own.descriptor(1 << 20).is_err());
    }
}
