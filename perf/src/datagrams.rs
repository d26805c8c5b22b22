//! The sockets of one viewer whose media comes by datagrams: two of each track.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use crate::link::is_wait;
use crate::rtp_play::Ports;
use crate::sys_datagram;

/// Of video, then of audio.
#[derive(Debug)]
pub struct Datagrams {
    rtp: [UdpSocket; 2],
    /// Reports stay in their sockets: they are few.
    rtcp: [UdpSocket; 2],
}

impl Datagrams {
    /// Sockets on free ports, to receive from a server.
    ///
    /// # Errors
    /// No descriptor or no port is left.
    pub fn bind(server: SocketAddr) -> io::Result<Self> {
        let pair = || -> io::Result<[UdpSocket; 2]> {
            Ok([sys_datagram::viewer_socket(server)?, sys_datagram::viewer_socket(server)?])
        };
        Ok(Self { rtp: pair()?, rtcp: pair()? })
    }

    /// The ports of both tracks.
    ///
    /// # Errors
    /// What the sockets say.
    pub fn ports(&self) -> io::Result<[Ports; 2]> {
        let port = |socket: &UdpSocket| socket.local_addr().map(|address| address.port());
        let [video, audio] = &self.rtp;
        let [video_reports, audio_reports] = &self.rtcp;
        Ok([(port(video)?, port(video_reports)?), (port(audio)?, port(audio_reports)?)])
    }

    /// Where media arrives, for an epoll set.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.rtp.iter().map(AsFd::as_fd)
    }

    /// Throws away what has arrived; how many bytes.
    ///
    /// # Errors
    /// What a socket says.
    pub fn discard(&self) -> io::Result<usize> {
        let [video, audio] = &self.rtp;
        Ok(sys_datagram::discard(video)? + sys_datagram::discard(audio)?)
    }

    /// Hands out each datagram that has arrived, of video (0) and of audio (1); how many bytes.
    ///
    /// # Errors
    /// What a socket says, or `each`.
    pub fn receive(
        &self,
        buffer: &mut [u8],
        mut each: impl FnMut(usize, &[u8]) -> Result<(), String>,
    ) -> io::Result<usize> {
        let mut bytes = 0;
        for (index, socket) in self.rtp.iter().enumerate() {
            loop {
                let (count, segment) = match sys_datagram::receive(socket, buffer) {
                    Ok(received) => received,
                    Err(error) if is_wait(&error) => break,
                    Err(error) => return Err(error),
                };
                bytes += count;
                let mut datagrams = buffer[..count].chunks(segment);
                datagrams.try_for_each(|data| each(index, data)).map_err(io::Error::other)?;
            }
        }
        Ok(bytes)
    }
}
