//! The poller of a shard's sockets: one edge-triggered epoll, itself awaited by the executor.

// Raw epoll calls; each block says why it is sound.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::sys_bell::Bell;

/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 64;

/// One readiness report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// What the socket was registered with.
    pub token: u64,
    /// Bytes, a connection or the end can be read.
    pub readable: bool,
    /// The socket takes bytes again.
    pub writable: bool,
    /// The peer has ended its direction, or the connection is broken: read to the end, no further
    /// report will come.
    pub hung_up: bool,
}

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
    /// The events are those a wait ended with, if any, and nobody has asked for them yet.
    waited: bool,
}

impl Epoll {
    /// A new instance.
    ///
    /// # Errors
    /// What `epoll_create1` says.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self::of(fd))
    }

    fn of(fd: OwnedFd) -> Self {
        Self { fd, events: Vec::with_capacity(EVENTS_MAX), waited: false }
    }

    /// A second descriptor of the instance, for the executor to wait on.
    ///
    /// # Errors
    /// What `dup` says.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// The same instance once more.
    ///
    /// # Errors
    /// What `dup` says.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::of(self.try_clone_fd()?))
    }

    /// Reports edges of a connection, both directions, under `token`.
    ///
    /// # Errors
    /// What `epoll_ctl` says.
    pub fn add_connection(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let interest = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), interest, token)
    }

    /// Reports a listener for as long as connections wait, under `token`.
    ///
    /// # Errors
    /// What `epoll_ctl` says.
    pub fn add_listener(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), libc::EPOLLIN, token)
    }

    /// Reports each ring of a bell, under `token`.
    ///
    /// # Errors
    /// What `epoll_ctl` says.
    pub fn add_bell(&self, bell: &Bell, token: u64) -> io::Result<()> {
        let interest = libc::EPOLLIN | libc::EPOLLET;
        self.control(libc::EPOLL_CTL_ADD, bell.as_fd().as_raw_fd(), interest, token)
    }

    /// Forgets a descriptor that goes on living elsewhere.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        // Failing means that it was not registered, which is what is wanted.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd.as_raw_fd(), 0, 0);
    }

    fn control(&self, op: libc::c_int, fd: RawFd, interest: i32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.cast_unsigned(), u64: token };
        // SAFETY: the event lives for the length of the call; both descriptors are borrowed.
        let rc = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), op, fd, &raw mut event) };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits until something is ready or so much time has passed; a signal may end it before. What
    /// is ready is kept for the next [`Epoll::poll`].
    pub fn wait(&mut self, most: Duration) {
        let seconds = libc::time_t::try_from(most.as_secs()).unwrap_or(libc::time_t::MAX);
        let timeout = libc::timespec { tv_sec: seconds, tv_nsec: most.subsec_nanos().into() };
        self.take(&timeout);
        self.waited = true;
    }

    fn take(&mut self, timeout: &libc::timespec) {
        let capacity = EVENTS_MAX as libc::c_int;
        let (fd, events) = (self.fd.as_raw_fd(), self.events.as_mut_ptr());
        // SAFETY: the vector has room for EVENTS_MAX events, of which the kernel writes at most
        // that many; the time lives for the call; no signal mask is given.
        let count = unsafe {
            libc::syscall(libc::SYS_epoll_pwait2, fd, events, capacity, timeout, 0usize, 0usize)
        };
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: the kernel has initialised `count` events, `count` ≤ EVENTS_MAX = capacity.
        unsafe { self.events.set_len(count) };
    }

    /// Appends what is ready now; true when there may be more.
    pub fn poll(&mut self, ready: &mut Vec<Ready>) -> bool {
        if !std::mem::take(&mut self.waited) {
            self.take(&libc::timespec { tv_sec: 0, tv_nsec: 0 });
        }
        for event in &self.events {
            let bits = event.events.cast_signed();
            let hung_up = bits & (libc::EPOLLERR | libc::EPOLLHUP | libc::EPOLLRDHUP) != 0;
            ready.push(Ready {
                token: event.u64,
                readable: hung_up || bits & libc::EPOLLIN != 0,
                writable: bits & libc::EPOLLOUT != 0,
                hung_up,
            });
        }
        self.events.len() == EVENTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_ends_a_wait_is_reported_once() {
        let mut epoll = Epoll::new().unwrap();
        let (mut far, near) = UnixStream::pair().unwrap();
        epoll.add_connection(near.as_fd(), 7).unwrap();
        let reports = |epoll: &mut Epoll| {
            let mut ready = Vec::new();
            assert!(!epoll.poll(&mut ready), "there is no more");
            ready.into_iter().map(|report| (report.token, report.readable)).collect::<Vec<_>>()
        };
        assert_eq!(reports(&mut epoll), [(7, false)]);
        far.write_all(b"a").unwrap();
        epoll.wait(Duration::from_secs(60));
        assert_eq!(reports(&mut epoll), [(7, true)]);
        assert!(reports(&mut epoll).is_empty());
        epoll.wait(Duration::from_micros(1));
        assert!(reports(&mut epoll).is_empty());
        far.write_all(b"b").unwrap();
        assert_eq!(reports(&mut epoll), [(7, true)]);
    }
}
