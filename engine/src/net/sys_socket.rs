//! Listening and accepted sockets: options, accept, and the fan-out's send on a bare descriptor.

// Raw socket calls; each block says why it is sound.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use bytes::BytesMut;

/// Connections that may wait in the kernel for `accept`.
const BACKLOG: libc::c_int = 4096;

/// A non-blocking TCP listener that shares its port with the other shards of this process.
///
/// # Errors
/// What `socket`, `bind` or `listen` say.
pub fn listen(addr: SocketAddr) -> io::Result<OwnedFd> {
    let domain = if addr.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked.
    let fd = check(unsafe { libc::socket(domain, kind, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    set_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    set_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    if addr.is_ipv6() {
        set_option(fd.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    let (storage, length) = to_storage(addr);
    // SAFETY: the storage holds an address of `length` bytes for the length of the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), length) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) })?;
    Ok(fd)
}

/// Somebody else, not this process, listens on the port: `SO_REUSEPORT` would hide it.
///
/// # Errors
/// `AddrInUse` if so, else what the system says.
pub fn probe_free(addr: SocketAddr) -> io::Result<()> {
    if addr.port() == 0 {
        return Ok(());
    }
    let domain = if addr.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: no pointers; the result is checked.
    let fd = check(unsafe { libc::socket(domain, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // Without SO_REUSEPORT the bind fails if any other socket listens, whatever its options.
    set_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    let (storage, length) = to_storage(addr);
    // SAFETY: as in `listen`.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), length) })?;
    Ok(())
}

/// The next waiting connection, non-blocking and close-on-exec.
///
/// # Errors
/// `WouldBlock` when none waits, else what `accept4` says.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut length = socklen::<libc::sockaddr_storage>();
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: storage and length live for the call and describe each other.
    let fd = check(unsafe {
        libc::accept4(listener.as_raw_fd(), (&raw mut storage).cast(), &raw mut length, flags)
    })?;
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let peer = from_storage(&storage).ok_or(io::ErrorKind::Unsupported)?;
    Ok((fd, peer))
}

/// A non-blocking socket on its way to a peer: it becomes writable when it is there, or hangs up.
///
/// # Errors
/// What `socket` or `connect` say at once.
pub fn connect(addr: SocketAddr) -> io::Result<OwnedFd> {
    let domain = if addr.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked.
    let fd = check(unsafe { libc::socket(domain, kind, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let (storage, length) = to_storage(addr);
    // SAFETY: the storage holds an address of `length` bytes for the length of the call.
    let connected =
        check(unsafe { libc::connect(fd.as_raw_fd(), (&raw const storage).cast(), length) });
    match connected {
        Ok(_) => Ok(fd),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(fd),
        Err(error) => Err(error),
    }
}

/// Where a socket is bound.
///
/// # Errors
/// What `getsockname` says.
pub fn local_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut length = socklen::<libc::sockaddr_storage>();
    // SAFETY: storage and length live for the call and describe each other.
    check(unsafe {
        libc::getsockname(fd.as_raw_fd(), (&raw mut storage).cast(), &raw mut length)
    })?;
    from_storage(&storage).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Options of every accepted connection: no Nagle, keep-alive, a bound on unacknowledged data, and
/// the configured buffers (0 leaves one to the kernel).
pub fn tune(fd: BorrowedFd<'_>, recv_kib: usize, send_kib: usize, dead_after: Duration) {
    let fd = fd.as_raw_fd();
    let dead_ms = i32::try_from(dead_after.as_millis()).unwrap_or(i32::MAX);
    let mut options = vec![
        (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 15),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 5),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, dead_ms),
    ];
    let bytes = |kib: usize| i32::try_from(kib.saturating_mul(1024)).unwrap_or(i32::MAX);
    if recv_kib > 0 {
        options.push((libc::SOL_SOCKET, libc::SO_RCVBUF, bytes(recv_kib)));
    }
    if send_kib > 0 {
        options.push((libc::SOL_SOCKET, libc::SO_SNDBUF, bytes(send_kib)));
    }
    for (level, name, value) in options {
        if let Err(error) = set_option(fd, level, name, value) {
            tracing::debug!(level, name, value, %error, "socket option refused");
        }
    }
}

/// Receives into the spare capacity of a buffer, without waiting; 0 means the peer has ended its
/// direction. The buffer must have spare capacity.
///
/// # Errors
/// `WouldBlock` when nothing is there, else what the socket says.
pub fn recv_into(fd: BorrowedFd<'_>, buffer: &mut BytesMut) -> io::Result<usize> {
    let spare = buffer.spare_capacity_mut();
    debug_assert!(!spare.is_empty(), "a full buffer would look like the end of the stream");
    // SAFETY: the pointer and length describe the spare capacity, which the kernel only writes.
    let received = unsafe {
        libc::recv(fd.as_raw_fd(), spare.as_mut_ptr().cast(), spare.len(), libc::MSG_DONTWAIT)
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has initialised the first `received` bytes of the spare capacity.
    unsafe { buffer.set_len(buffer.len() + received) };
    Ok(received)
}

/// As `sys::sendmsg`, for the fan-out loop, which keeps bare descriptors next to its offsets.
///
/// # Errors
/// `WouldBlock` when the socket takes nothing, else what the socket says.
pub fn sendmsg_raw(fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all-zero is a valid msghdr (no name, no control data, no slices).
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    // `IoSlice` is documented to have the layout of `iovec`; the kernel only reads through it.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points at live slices for the call; a descriptor that were closed
    // meanwhile would give EBADF: slots are removed from their wire before their socket closes.
    let sent = unsafe { libc::sendmsg(fd, &raw const message, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

pub(super) fn set_option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the value lives for the call and its size is given.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), socklen::<i32>()) })
        .map(drop)
}

pub(super) fn check(rc: libc::c_int) -> io::Result<libc::c_int> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

fn socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("socket addresses are small")
}

pub(super) fn to_storage(addr: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    match addr {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage has room and alignment for every socket address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(raw) };
            (storage, socklen::<libc::sockaddr_in>())
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(raw) };
            (storage, socklen::<libc::sockaddr_in6>())
        }
    }
}

/// IPv4 peers of a dual-stack socket come out as IPv4.
pub(super) fn from_storage(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel wrote a sockaddr_in.
            let raw = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
            Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(raw.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the kernel wrote a sockaddr_in6.
            let raw = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr).to_canonical();
            Some(SocketAddr::new(ip, u16::from_be(raw.sin6_port)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn several_shards_share_a_port_but_a_stranger_is_noticed() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = listen(any).unwrap();
        let addr = local_addr(first.as_fd()).unwrap();
        let second = listen(addr).unwrap();
        assert_eq!(local_addr(second.as_fd()).unwrap(), addr);
        assert_eq!(probe_free(addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(accept(first.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
