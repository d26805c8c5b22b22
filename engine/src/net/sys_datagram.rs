//! UDP sockets: bind a pair, receive many, send many, with segmentation left to the kernel.

// Raw socket calls; each block says why it is sound.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::sys_socket::{check, from_storage, set_option, to_storage};

/// Datagrams taken from a socket at a time.
const RECEIVE_MAX: usize = 32;
/// Largest datagram taken; RTP keeps below the MTU.
const DATAGRAM_BYTES: usize = 2048;
/// Messages of one system call.
const SEND_MAX: usize = 256;
/// Datagrams the kernel cuts one message into at most (`UDP_MAX_SEGMENTS` of older kernels), and
/// bytes it takes.
pub const SEGMENTS_MAX: usize = 64;
/// See [`SEGMENTS_MAX`].
pub const RUN_BYTES_MAX: usize = 60_000;

/// Room for the control message that names a segment size.
const CONTROL_BYTES: usize = 32;

/// A UDP socket bound to an address; IPv6 sockets carry IPv4 too.
///
/// # Errors
/// What the system says, `AddrInUse` above all.
pub fn bind(addr: SocketAddr, buffer_bytes: i32) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers; the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(check(libc::socket(family, kind, 0))?) };
    if addr.is_ipv6() {
        set_option(fd.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    for option in [libc::SO_RCVBUF, libc::SO_SNDBUF] {
        // The kernel cuts to its own bound; less than asked for still works.
        if let Err(error) = set_option(fd.as_raw_fd(), libc::SOL_SOCKET, option, buffer_bytes) {
            tracing::debug!(option, %error, "socket buffer refused");
        }
    }
    let (storage, length) = to_storage(addr);
    // SAFETY: the address lives for the call and its length is given.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), length) })?;
    Ok(fd)
}

/// How packets to multicast groups leave the socket.
///
/// # Errors
/// No interface has that address, or there is no multicast here.
pub fn send_to_groups(fd: BorrowedFd<'_>, ttl: u8, interface: Option<Ipv4Addr>) -> io::Result<()> {
    // They hold for IPv4 on IPv6 sockets too.
    set_option(fd.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, ttl.into())?;
    let Some(interface) = interface else { return Ok(()) };
    // An address as it stands on the wire.
    let address = i32::from_ne_bytes(interface.octets());
    set_option(fd.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MULTICAST_IF, address)
}

/// Whether the kernel cuts messages into datagrams (`UDP_SEGMENT`, Linux 4.18).
#[must_use]
pub fn segments(fd: BorrowedFd<'_>) -> bool {
    set_option(fd.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok()
}

/// Buffers to receive into, used anew for each call.
pub struct Inbox {
    bytes: Box<[[u8; DATAGRAM_BYTES]]>,
    names: Box<[libc::sockaddr_storage]>,
}

impl Default for Inbox {
    fn default() -> Self {
        // SAFETY: all-zero is a valid sockaddr_storage.
        let name: libc::sockaddr_storage = unsafe { mem::zeroed() };
        Self {
            bytes: vec![[0; DATAGRAM_BYTES]; RECEIVE_MAX].into_boxed_slice(),
            names: vec![name; RECEIVE_MAX].into_boxed_slice(),
        }
    }
}

impl Inbox {
    /// Takes what waits at a socket and hands out each datagram with its sender; the number taken
    /// and whether there may be more. Datagrams that do not fit are left out.
    ///
    /// # Errors
    /// What the socket says, other than that nothing waits.
    pub fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        mut each: impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<bool> {
        let mut slices: [libc::iovec; RECEIVE_MAX] = std::array::from_fn(|index| libc::iovec {
            iov_base: self.bytes[index].as_mut_ptr().cast(),
            iov_len: DATAGRAM_BYTES,
        });
        // SAFETY: all-zero is a valid mmsghdr.
        let mut headers: [libc::mmsghdr; RECEIVE_MAX] = unsafe { mem::zeroed() };
        for (index, header) in headers.iter_mut().enumerate() {
            header.msg_hdr.msg_iov = &raw mut slices[index];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut self.names[index]).cast();
            header.msg_hdr.msg_namelen = name_bytes();
        }
        // SAFETY: every header points at a slice, a buffer and a name of this inbox, which the
        // kernel fills within the lengths given.
        let count = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr(),
                RECEIVE_MAX as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(false) } else { Err(error) };
        };
        for (index, header) in headers.iter().enumerate().take(count) {
            let whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            if let Some(from) = from_storage(&self.names[index])
                && whole
            {
                each(from, &self.bytes[index][..header.msg_len as usize]);
            }
        }
        Ok(count == RECEIVE_MAX)
    }
}

fn name_bytes() -> libc::socklen_t {
    size_of::<libc::sockaddr_storage>() as libc::socklen_t
}

/// An address in the form a socket takes: IPv6, or IPv4 in the same room. Small, since each message
/// of a fan-out carries one.
#[derive(Clone, Copy)]
pub struct Destination {
    name: libc::sockaddr_in6,
    length: libc::socklen_t,
}

impl Destination {
    /// `to`, for an IPv4 socket or an IPv6 one.
    #[must_use]
    pub fn new(to: SocketAddr, ipv6: bool) -> Self {
        let to = match to {
            SocketAddr::V4(v4) if ipv6 => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            other => other,
        };
        let (storage, length) = to_storage(to);
        // SAFETY: a sockaddr_storage is larger than a sockaddr_in6 and aligned for it, and any
        // bytes are valid for one.
        let name = unsafe { (&raw const storage).cast::<libc::sockaddr_in6>().read() };
        Self { name, length }
    }

    fn storage(&self) -> libc::sockaddr_storage {
        // SAFETY: all-zero is a valid sockaddr_storage.
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        // SAFETY: as in `new`.
        unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(self.name) };
        storage
    }
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", from_storage(&self.storage()))
    }
}

/// A message: bytes that the kernel cuts into datagrams of `segment` bytes, the last one shorter;
/// one datagram when `segment` is all there is.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// All bytes.
    pub bytes: &'a [u8],
    /// Bytes of each datagram but the last.
    pub segment: u16,
}

/// A run as the kernel takes it.
struct Sealed {
    slice: libc::iovec,
    control: Control,
    control_length: usize,
}

/// Aligned as a control message must be.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

impl Run<'_> {
    fn seal(&self) -> Sealed {
        let mut control = Control([0; CONTROL_BYTES]);
        let slice = libc::iovec {
            iov_base: self.bytes.as_ptr().cast_mut().cast(),
            iov_len: self.bytes.len(),
        };
        if self.bytes.len() <= usize::from(self.segment) {
            return Sealed { slice, control, control_length: 0 };
        }
        // SAFETY: computations without memory.
        let (space, length) = unsafe { (libc::CMSG_SPACE(2) as usize, libc::CMSG_LEN(2) as usize) };
        debug_assert!(space <= CONTROL_BYTES);
        let header = control.0.as_mut_ptr().cast::<libc::cmsghdr>();
        // SAFETY: the buffer is aligned for a header and has room for it and two bytes of data.
        unsafe {
            (*header).cmsg_len = length;
            (*header).cmsg_level = libc::SOL_UDP;
            (*header).cmsg_type = libc::UDP_SEGMENT;
            libc::CMSG_DATA(header).cast::<u16>().write_unaligned(self.segment);
        }
        Sealed { slice, control, control_length: space }
    }
}

/// What came of [`send`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Messages the socket took, and their bytes.
    pub messages: u64,
    /// See `messages`.
    pub bytes: u64,
    /// Messages it did not take.
    pub refused: u64,
}

impl Sent {
    /// Adds another.
    pub fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.refused += other.refused;
    }
}

/// Sends each listed run to its destination, in order, without waiting: what the socket does not
/// take is dropped, as the network drops. Pairs are (index of the run, destination).
pub fn send(fd: BorrowedFd<'_>, runs: &[Run<'_>], pairs: &[(usize, Destination)]) -> Sent {
    let mut sent = Sent::default();
    if pairs.is_empty() {
        return sent;
    }
    let sealed: Vec<_> = runs.iter().map(Run::seal).collect();
    let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(pairs.len().min(SEND_MAX));
    for pairs in pairs.chunks(SEND_MAX) {
        headers.clear();
        headers.extend(pairs.iter().map(|(run, to)| {
            let run = &sealed[*run];
            // SAFETY: all-zero is a valid mmsghdr.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            // The kernel only reads through these.
            header.msg_hdr.msg_name = (&raw const to.name).cast_mut().cast();
            header.msg_hdr.msg_namelen = to.length;
            header.msg_hdr.msg_iov = (&raw const run.slice).cast_mut();
            header.msg_hdr.msg_iovlen = 1;
            if run.control_length > 0 {
                header.msg_hdr.msg_control = run.control.0.as_ptr().cast_mut().cast();
                header.msg_hdr.msg_controllen = run.control_length;
            }
            header
        }));
        let mut done = 0;
        while done < headers.len() {
            let rest = &mut headers[done..];
            let count = libc::c_uint::try_from(rest.len()).unwrap_or(libc::c_uint::MAX);
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: every header points at a name, a slice and control data that live for the
            // call.
            let taken = unsafe { libc::sendmmsg(fd.as_raw_fd(), rest.as_mut_ptr(), count, flags) };
            let Ok(taken @ 1..) = usize::try_from(taken) else {
                // The first of the rest was refused: the next may go elsewhere.
                let error = io::Error::last_os_error();
                let (run, to) = pairs[done];
                sent.add(match rest[0].msg_hdr.msg_controllen > 0 && is_uncuttable(&error) {
                    true => send_singly(fd, &runs[run], to),
                    false => Sent { refused: 1, ..Sent::default() },
                });
                done += 1;
                continue;
            };
            sent.messages += taken as u64;
            sent.bytes += rest[..taken].iter().map(|header| u64::from(header.msg_len)).sum::<u64>();
            done += taken;
        }
    }
    sent
}

/// The kernel does not cut for this path, of a small MTU or through a device without checksums. It
/// fragments the same datagrams when they come one by one.
fn is_uncuttable(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::EINVAL | libc::EIO))
}

fn send_singly(fd: BorrowedFd<'_>, run: &Run<'_>, to: Destination) -> Sent {
    let segment = run.segment;
    let pieces = run.bytes.chunks(usize::from(segment).max(1));
    let pieces: Vec<_> = pieces.map(|bytes| Run { bytes, segment }).collect();
    let pairs: Vec<_> = (0..pieces.len()).map(|index| (index, to)).collect();
    // None of these is cut, so this ends here.
    send(fd, &pieces, &pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sys_socket::local_addr;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_sent_arrives_cut_into_datagrams() {
        for any in ["127.0.0.1:0", "[::]:0"] {
            let Ok(from) = bind(any.parse().unwrap(), 1 << 18) else { continue };
            let to = bind("127.0.0.1:0".parse().unwrap(), 1 << 18).unwrap();
            let ipv6 = any.starts_with('[');
            let place = Destination::new(local_addr(to.as_fd()).unwrap(), ipv6);
            assert!(segments(from.as_fd()), "a kernel since 4.18");
            let runs =
                [Run { bytes: &[1; 240], segment: 100 }, Run { bytes: &[2; 40], segment: 40 }];
            let sent = send(from.as_fd(), &runs, &[(0, place), (1, place)]);
            assert_eq!(sent, Sent { messages: 2, bytes: 280, refused: 0 });
            let mut lengths = Vec::new();
            let more = Inbox::default()
                .receive(to.as_fd(), |from, bytes| lengths.push((from.is_ipv4(), bytes.len())))
                .unwrap();
            assert!(!more);
            assert_eq!(lengths, [(true, 100), (true, 100), (true, 40), (true, 40)]);
        }
    }

    #[test]
    fn what_the_kernel_does_not_cut_goes_one_by_one() {
        let from = bind("127.0.0.1:0".parse().unwrap(), 1 << 18).unwrap();
        let to = bind("127.0.0.1:0".parse().unwrap(), 1 << 18).unwrap();
        let place = Destination::new(local_addr(to.as_fd()).unwrap(), false);
        // More pieces than the kernel cuts at once is what it refuses on the loopback too.
        let bytes = vec![1; 200 * 8];
        let sent = send(from.as_fd(), &[Run { bytes: &bytes, segment: 8 }], &[(0, place)]);
        assert_eq!((sent.bytes, sent.refused), (1600, 0), "{sent:?}");
        let (mut inbox, mut count) = (Inbox::default(), 0);
        while inbox.receive(to.as_fd(), |_, bytes| count += usize::from(bytes.len() == 8)).unwrap()
        {
        }
        assert_eq!(count, 200);
    }
}
