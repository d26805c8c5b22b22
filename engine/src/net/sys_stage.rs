//! Bytes laid out once in pages of the kernel, to be sent to many sockets by reference.
//!
//! `sendfile` from a file in memory makes a socket hold the file's own pages: nothing is copied
//! per socket. A socket may hold a page long after the call (until its peer has acknowledged, or
//! on the loopback until the peer has read), so a page that was sent is never written to again:
//! clearing takes all pages out of the file, and whoever holds one keeps it as it was.

// As `sys`: raw calls behind small safe functions; each block says why it is sound.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use super::sys::retry;
use super::sys_serve::send_file;

/// A file in memory that holds the bytes of one batch.
#[derive(Debug)]
pub struct Stage {
    file: File,
    bytes: usize,
}

impl Stage {
    /// An empty one.
    ///
    /// # Errors
    /// The kernel knows no files in memory, or refuses one.
    pub fn new() -> io::Result<Self> {
        let create = |flags| {
            // SAFETY: the name is a live C string.
            retry(|| unsafe { libc::memfd_create(c"egress".as_ptr(), flags) as isize })
        };
        // Some systems want it said that nothing in it will be run; older ones do not know how.
        let flags = libc::MFD_CLOEXEC;
        let fd = create(flags | libc::MFD_NOEXEC_SEAL).or_else(|_| create(flags))?;
        let fd = RawFd::try_from(fd).map_err(|_| io::ErrorKind::Other)?;
        // SAFETY: the descriptor is new and owned by nobody else.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self { file, bytes: 0 })
    }

    /// Lays bytes out in pages of their own; how many.
    ///
    /// # Errors
    /// No memory; what was laid out is cleared again.
    pub fn put(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.bytes > 0 {
            self.clear()?;
        }
        for slice in slices {
            if let Err(error) = self.file.write_all_at(slice, self.bytes as u64) {
                self.clear()?;
                return Err(error);
            }
            self.bytes += slice.len();
        }
        Ok(self.bytes)
    }

    /// Sends what is laid out to a non-blocking socket, from the beginning; how much it took.
    ///
    /// # Errors
    /// `WouldBlock` when the socket takes nothing, else what the system says.
    pub fn send_raw(&self, socket: RawFd) -> io::Result<usize> {
        // SAFETY: slots are removed from their wire before their socket closes, so it is open.
        let socket = unsafe { BorrowedFd::borrow_raw(socket) };
        send_file(socket, &self.file, 0, self.bytes)
    }

    /// Takes all pages out.
    ///
    /// # Errors
    /// The pages are still in place; the stage cannot be used again.
    pub fn clear(&mut self) -> io::Result<()> {
        self.bytes = 0;
        self.file.set_len(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_a_socket_holds_stays_as_it_was_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        near.set_nonblocking(true).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let mut stage = Stage::new().unwrap();
        let mut expected = Vec::new();
        // Pages are used again at once by whoever asks next: each round would overwrite the last.
        for round in 0..40 {
            let (head, body) = (vec![round; 777], vec![round ^ 0xff; 9000]);
            let slices = [IoSlice::new(&head), IoSlice::new(&body)];
            assert_eq!(stage.put(&slices).unwrap(), 9777);
            assert_eq!(stage.send_raw(near.as_raw_fd()).unwrap(), 9777);
            stage.clear().unwrap();
            expected.extend([head, body].concat());
        }
        let mut got = vec![0; expected.len()];
        far.read_exact(&mut got).unwrap();
        assert!(got == expected, "the peer read what was laid out after the sends");
    }

    #[test]
    fn a_full_socket_takes_nothing_and_a_closed_one_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        near.set_nonblocking(true).unwrap();
        let (far, _) = listener.accept().unwrap();
        let mut stage = Stage::new().unwrap();
        let bytes = vec![7; 1 << 20];
        stage.put(&[IoSlice::new(&bytes)]).unwrap();
        let mut partial = false;
        let full = loop {
            match stage.send_raw(near.as_raw_fd()) {
                Ok(sent) => partial |= sent < bytes.len(),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(partial, "the last send was cut");
        near.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stage.send_raw(near.as_raw_fd()).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        drop(far);
    }
}
