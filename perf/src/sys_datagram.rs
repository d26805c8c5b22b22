//! System calls of datagrams: a load that takes what has come for a viewer at once, and a floor
//! that sends many messages at once, each cut into datagrams by the kernel.

// Raw calls; each block says why it is sound.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use crate::sys::{check, set_option};

/// Receive buffer of a viewer's socket: several keyframes.
const RECEIVE_BUFFER: libc::c_int = 1 << 20;
/// Send buffer of a floor.
const SEND_BUFFER: libc::c_int = 8 << 20;
/// Messages thrown away by one call.
const DISCARD_MAX: usize = 16;
/// Messages of one call that sends.
const SEND_MAX: usize = 256;
/// Bytes a control message of one integer needs.
const CONTROL_BYTES: usize = 32;

/// Aligned as a control message must be.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// A socket of a viewer, on a free port. Datagrams that were sent as one message come as one.
///
/// # Errors
/// No descriptor or no port is left.
pub fn viewer_socket(server: SocketAddr) -> io::Result<UdpSocket> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER)?;
    set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    Ok(socket)
}

/// A socket of a floor.
///
/// # Errors
/// No descriptor or no port is left.
pub fn floor_socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER)?;
    Ok(socket)
}

/// Throws away what has arrived without copying it; how many bytes.
///
/// # Errors
/// What the socket says, other than that nothing is there.
pub fn discard(socket: &UdpSocket) -> io::Result<usize> {
    let mut bytes = 0;
    loop {
        // SAFETY: all-zero is a valid mmsghdr: no name, no slices, no control data.
        let mut headers: [libc::mmsghdr; DISCARD_MAX] = unsafe { mem::zeroed() };
        let (room, flags) = (DISCARD_MAX as libc::c_uint, libc::MSG_DONTWAIT | libc::MSG_TRUNC);
        let (fd, no_timeout) = (socket.as_raw_fd(), std::ptr::null_mut());
        // SAFETY: pointer and count describe the live headers, which give the kernel no buffer.
        let count =
            check(unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), room, flags, no_timeout) });
        match count {
            Ok(count) => {
                let taken = &headers[..count as usize];
                // With MSG_TRUNC the length is the one it had.
                bytes += taken.iter().map(|header| header.msg_len as usize).sum::<usize>();
                if taken.len() < DISCARD_MAX {
                    return Ok(bytes);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(bytes),
            Err(error) => return Err(error),
        }
    }
}

/// Receives one message into `buffer`: its bytes, and of how many each datagram in it is but the
/// last.
///
/// # Errors
/// `WouldBlock` when nothing is there, else what the socket says.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, usize)> {
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control::default();
    // SAFETY: all-zero is a valid msghdr.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut slice;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES;
    // SAFETY: the header points at a live slice and live control data, with their sizes.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    let mut segment = count;
    // SAFETY: the kernel has filled the control data of this header.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: the first header is null or lies in `control`, whose size the kernel kept to; a
    // message of this kind holds an int.
    unsafe {
        if let Some(said) = first.as_ref()
            && (said.cmsg_level, said.cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO)
        {
            let size = libc::CMSG_DATA(first).cast::<libc::c_int>().read_unaligned();
            segment = usize::try_from(size).unwrap_or(count);
        }
    }
    Ok((count, segment.max(1)))
}

/// Datagrams of one size, the last one perhaps shorter, that leave as one message.
#[derive(Debug)]
pub struct Train<'a> {
    /// Their bytes.
    pub slices: Vec<IoSlice<'a>>,
    /// Bytes of each but the last.
    pub segment: u16,
    control: Control,
}

impl<'a> Train<'a> {
    /// Of one slice.
    pub fn new(bytes: &'a [u8], segment: u16) -> Self {
        Self { slices: vec![IoSlice::new(bytes)], segment, control: Control::default() }
    }

    /// Writes the control message that names the size; the room it takes.
    fn seal(&mut self) -> usize {
        // SAFETY: computations without memory.
        let (space, length) = unsafe { (libc::CMSG_SPACE(2) as usize, libc::CMSG_LEN(2) as usize) };
        let header = self.control.0.as_mut_ptr().cast::<libc::cmsghdr>();
        // SAFETY: the control data is aligned for a header and has room for it and two bytes.
        unsafe {
            (*header).cmsg_len = length;
            (*header).cmsg_level = libc::SOL_UDP;
            (*header).cmsg_type = libc::UDP_SEGMENT;
            libc::CMSG_DATA(header).cast::<u16>().write_unaligned(self.segment);
        }
        space
    }
}

/// Where datagrams go, as the kernel takes it.
#[derive(Clone, Copy)]
pub struct Place(libc::sockaddr_in);

impl Place {
    /// A port of an address.
    pub fn new(ip: Ipv4Addr, port: u16) -> Self {
        let address = SocketAddrV4::new(ip, port);
        Self(libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: address.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
            sin_zero: [0; 8],
        })
    }
}

/// Sends trains, each by its index, to places. What the socket does not take is lost; how many
/// messages were not, and why the last of the lost ones was.
pub fn send(
    socket: &UdpSocket,
    trains: &mut [Train<'_>],
    messages: &[(usize, Place)],
) -> (usize, Option<io::Error>) {
    let room: Vec<usize> = trains.iter_mut().map(Train::seal).collect();
    let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(SEND_MAX);
    let (mut sent, mut fault) = (0, None);
    for messages in messages.chunks(SEND_MAX) {
        headers.clear();
        headers.extend(messages.iter().map(|(train, place)| {
            // SAFETY: all-zero is a valid mmsghdr.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            let (train, room) = (&trains[*train], room[*train]);
            header.msg_hdr.msg_name = (&raw const place.0).cast_mut().cast();
            header.msg_hdr.msg_namelen = size_of_val(&place.0) as libc::socklen_t;
            // `IoSlice` has the layout of `iovec`; the kernel only reads.
            header.msg_hdr.msg_iov = train.slices.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_iovlen = train.slices.len();
            header.msg_hdr.msg_control = train.control.0.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_controllen = room;
            header
        }));
        let mut done = 0;
        while done < headers.len() {
            let rest = &mut headers[done..];
            let (fd, count) = (socket.as_raw_fd(), rest.len() as libc::c_uint);
            // SAFETY: every header points at a name, slices and control data that outlive the call.
            let taken = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
            match check(taken) {
                Ok(taken) => {
                    sent += taken as usize;
                    done += taken as usize;
                }
                // The first of the rest: the next may go elsewhere.
                Err(error) => {
                    fault = Some(error);
                    done += 1;
                }
            }
        }
    }
    (sent, fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trains_arrive_whole_and_can_be_thrown_away() {
        let (floor, server) = (floor_socket().unwrap(), "127.0.0.1:1".parse().unwrap());
        let viewer = viewer_socket(server).unwrap();
        let place = Place::new(Ipv4Addr::LOCALHOST, viewer.local_addr().unwrap().port());
        let bytes = [7u8; 250];
        let mut trains = [Train::new(&bytes, 100), Train::new(&bytes[..30], 30)];
        let (sent, fault) = send(&floor, &mut trains, &[(0, place), (1, place), (0, place)]);
        assert_eq!((sent, fault.is_none()), (3, true));
        let mut buffer = [0; 65_536];
        assert_eq!(receive(&viewer, &mut buffer).unwrap(), (250, 100));
        assert_eq!(discard(&viewer).unwrap(), 280);
        assert_eq!(discard(&viewer).unwrap(), 0);
        let empty = receive(&viewer, &mut buffer).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    }
}
