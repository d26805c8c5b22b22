//! A bell: what another thread rings to end a wait for a poller.

// Raw eventfd calls; each block says why it is sound.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::task::Wake;

/// An eventfd. A poller that watches it for edges hears each ring; it need not be read.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A bell that has not been rung.
    ///
    /// # Errors
    /// What `eventfd` says.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Rings it.
    pub fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the eight bytes live for the length of the call.
        let written = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        // The count has room for 2^64 - 2 rings: there is nothing else that could be wrong.
        debug_assert_eq!(written, 8);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sys_epoll::Epoll;
    use std::task::Waker;
    use std::time::Duration;

    #[test]
    fn each_ring_ends_a_wait_and_is_reported_once() {
        const LONG: Duration = Duration::from_secs(60);
        let mut epoll = Epoll::new().unwrap();
        let bell = Arc::new(Bell::new().unwrap());
        epoll.add_bell(&bell, 7).unwrap();
        let mut ready = Vec::new();
        for _ in 0..3 {
            let waker = Waker::from(Arc::clone(&bell));
            let start = crate::clock::now();
            let other = std::thread::spawn(move || waker.wake());
            epoll.wait(LONG);
            assert!(start.elapsed() < LONG / 2);
            other.join().unwrap();
            epoll.poll(&mut ready);
            assert_eq!(ready.drain(..).map(|ready| ready.token).collect::<Vec<_>>(), [7]);
            epoll.wait(Duration::from_micros(1));
            epoll.poll(&mut ready);
            assert!(ready.is_empty(), "nobody has rung again");
        }
    }
}
