//! Raw system calls of the measuring programs but those of datagrams, each behind a small safe
//! function.

// Raw calls are allowed here; each block says why it is sound.
#![allow(unsafe_code)]

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use io_uring::{IoUring, opcode, squeue, types};

/// Nanoseconds of the monotonic clock, the same in all processes of a machine.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Keeps this thread on one CPU.
///
/// # Errors
/// The CPU is not there or not allowed.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: all-zero is the empty CPU set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` was checked against the size of the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: pointer and size describe one live set.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }).map(drop)
}

/// Lets this process open as many descriptors as it is allowed to ask for; how many that is.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit; on failure the second call is left out.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: as above, read only.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
    limit.rlim_cur
}

/// Begins to connect without waiting; writable once it has succeeded or failed.
///
/// # Errors
/// No descriptor, no route, or a refusal that is known at once.
pub fn connect(address: SocketAddr, receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the descriptor is new and owned by nobody else.
    let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    if let Some(bytes) = receive_buffer {
        set_buffer(&stream, libc::SO_RCVBUF, bytes);
    }
    stream.set_nodelay(true)?;
    let result = match address {
        SocketAddr::V4(v4) => {
            let name = libc::sockaddr_in {
                sin_family: family as _,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: pointer and size describe one live address.
            unsafe { libc::connect(fd, (&raw const name).cast(), size_of_val(&name) as _) }
        }
        SocketAddr::V6(v6) => {
            let name = libc::sockaddr_in6 {
                sin6_family: family as _,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: pointer and size describe one live address.
            unsafe { libc::connect(fd, (&raw const name).cast(), size_of_val(&name) as _) }
        }
    };
    match check(result) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(stream),
    }
}

/// Sets the send buffer of a socket; the kernel doubles the figure.
pub fn set_send_buffer(stream: &TcpStream, bytes: usize) {
    set_buffer(stream, libc::SO_SNDBUF, bytes);
}

fn set_buffer(stream: &TcpStream, option: libc::c_int, bytes: usize) {
    // A refusal leaves the default.
    let _ = set_option(stream, libc::SOL_SOCKET, option, bytes as libc::c_int);
}

pub(crate) fn set_option(
    socket: &impl AsRawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let size = size_of_val(&value) as libc::socklen_t;
    let pointer = (&raw const value).cast();
    // SAFETY: pointer and size describe one live int.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, pointer, size) }).map(drop)
}

/// Throws received bytes away without copying them; how many, 0 at the end of the stream.
///
/// # Errors
/// `WouldBlock` when nothing is there, else what the socket says.
pub fn discard(stream: &TcpStream, bytes_max: usize) -> io::Result<usize> {
    let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    // SAFETY: TCP with MSG_TRUNC writes nothing through the pointer (tcp(7)).
    let count = unsafe { libc::recv(stream.as_raw_fd(), std::ptr::null_mut(), bytes_max, flags) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// One readiness report.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    /// What the descriptor was registered with.
    pub token: u64,
    /// It can be written.
    pub writable: bool,
    /// It can be read, or has ended.
    pub readable: bool,
}

/// An epoll set.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// An empty set that reports up to 1024 descriptors at once.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed; the descriptor is new and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 1024] })
    }

    /// Watches a descriptor, for reading and if asked for writing too.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, write: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, write)
    }

    /// Changes whether writing is watched.
    ///
    /// # Errors
    /// The descriptor is not in the set.
    pub fn modify(&self, fd: BorrowedFd<'_>, token: u64, write: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, write)
    }

    /// Watches a descriptor no more.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, false);
    }

    fn control(&self, what: i32, fd: BorrowedFd<'_>, token: u64, write: bool) -> io::Result<()> {
        let write = if write { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | write) as u32, u64: token };
        let (set, fd) = (self.fd.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: both descriptors are open and the event outlives the call.
        check(unsafe { libc::epoll_ctl(set, what, fd, &raw mut event) }).map(drop)
    }

    /// Waits for at most `timeout_ms` and calls `each` for what is ready.
    ///
    /// # Errors
    /// What the kernel says; an interrupted wait is no error.
    pub fn wait(&mut self, timeout_ms: i32, mut each: impl FnMut(Ready)) -> io::Result<()> {
        let (fd, room) = (self.fd.as_raw_fd(), self.events.len() as i32);
        // SAFETY: the pointer and `room` describe the live events.
        let count = unsafe { libc::epoll_wait(fd, self.events.as_mut_ptr(), room, timeout_ms) };
        let count = match check(count) {
            Ok(count) => count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        for event in &self.events[..count] {
            let bits = event.events as i32;
            each(Ready {
                token: event.u64,
                writable: bits & libc::EPOLLOUT != 0,
                readable: bits & !libc::EPOLLOUT != 0,
            });
        }
        Ok(())
    }
}

/// One send of a batch: a registered socket and at most two slices.
#[derive(Debug, Clone, Copy)]
pub struct Send<'a> {
    /// Index of [`SendRing::register`].
    pub socket: usize,
    /// What to send, in order.
    pub parts: [&'a [u8]; 2],
}

/// An `io_uring` that does nothing but batches of `sendmsg`.
pub struct SendRing {
    ring: IoUring,
    headers: Vec<(libc::msghdr, [libc::iovec; 2])>,
}

impl SendRing {
    /// Sends one batch holds at most.
    pub const BATCH_MAX: usize = 1024;

    /// A ring for up to `sockets` sockets.
    ///
    /// # Errors
    /// The kernel has no `io_uring` with deferred task work (Linux 6.1) or does not allow it.
    pub fn new(sockets: u32) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        let ring = builder.build(Self::BATCH_MAX as u32)?;
        ring.submitter().register_files_sparse(sockets)?;
        // SAFETY: all-zero is valid for both: no name, no control data, no slices.
        let headers = (0..Self::BATCH_MAX).map(|_| unsafe { std::mem::zeroed() }).collect();
        Ok(Self { ring, headers })
    }

    /// Puts a socket, or nothing, at an index.
    ///
    /// # Errors
    /// The index is out of range.
    pub fn register(&self, index: usize, stream: Option<&TcpStream>) -> io::Result<()> {
        let fd: RawFd = stream.map_or(-1, AsRawFd::as_raw_fd);
        self.ring.submitter().register_files_update(index as u32, &[fd]).map(drop)
    }

    /// Sends up to [`Self::BATCH_MAX`] at once, waits for all, and calls `each` with the position
    /// in the batch and the bytes sent or the negative error number.
    ///
    /// # Errors
    /// The ring itself fails.
    pub fn send(&mut self, batch: &[Send<'_>], mut each: impl FnMut(usize, i32)) -> io::Result<()> {
        let batch = &batch[..batch.len().min(Self::BATCH_MAX)];
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32;
        for (position, send) in batch.iter().enumerate() {
            let (header, slices) = &mut self.headers[position];
            for (slice, part) in slices.iter_mut().zip(send.parts) {
                *slice =
                    libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
            }
            header.msg_iov = slices.as_mut_ptr();
            header.msg_iovlen = if send.parts[1].is_empty() { 1 } else { 2 };
            let entry: squeue::Entry =
                opcode::SendMsg::new(types::Fixed(send.socket as u32), &raw const *header)
                    .flags(flags)
                    .build()
                    .user_data(position as u64);
            // SAFETY: headers, slices and parts live until every completion has been taken below.
            unsafe { self.ring.submission().push(&entry) }
                .map_err(|_| io::Error::other("submission queue is full"))?;
        }
        let mut left = batch.len();
        while left > 0 {
            self.wait(left);
            for done in self.ring.completion() {
                each(done.user_data() as usize, done.result());
                left -= 1;
            }
        }
        Ok(())
    }

    /// Waits for `count` completions. The buffers of a batch must not be given back before the
    /// kernel is done with them, so there is no way out but the end of the process.
    fn wait(&self, count: usize) {
        if let Err(error) = self.ring.submit_and_wait(count)
            && error.kind() != io::ErrorKind::Interrupted
        {
            eprintln!("perf: io_uring: {error}");
            std::process::abort();
        }
    }
}

pub(crate) fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
