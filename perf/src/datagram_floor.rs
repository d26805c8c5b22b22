//! The floor of datagrams: the RTP packets of the clip to N pairs of ports from a bare loop of
//! `sendmmsg`, each frame cut into its packets by the kernel.
//!
//! A viewer opens a connection and says `PLAY`, its port for video and its port for audio; it is
//! sent what comes from then on until it closes. The merge window is that of [`crate::floor`]:
//! viewers are spread over slots, one per 10 ms. Reports of RTCP are not sent.

use std::collections::VecDeque;
use std::io::{IoSlice, Read};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;

use protocols::container::flv::TagType;

use crate::Outcome;
use crate::args::{Args, say};
use crate::clip::Clip;
use crate::clip_rtp::{ClipPackets, Packets};
use crate::publish::shape;
use crate::sys::{self, Epoll, monotonic_ns};
use crate::sys_datagram::{self, Place, Train};

const LISTENER: u64 = u64::MAX;
const SLOT_MS: u64 = 10;
const MS: u64 = 1_000_000;
/// Slices one message may have, and bytes.
const SLICES_MAX: usize = 64;
const TRAIN_BYTES_MAX: usize = 60_000;

struct Viewer {
    control: TcpStream,
    /// Ports of video and audio, once it has asked.
    places: Option<[Place; 2]>,
}

struct DatagramFloor {
    /// Frames that some slot has not sent yet, and the number of the first.
    frames: VecDeque<Packets>,
    first: u64,
    /// Number of the next frame of each slot.
    next: Vec<u64>,
    epoll: Epoll,
    listener: TcpListener,
    viewers: Vec<Option<Viewer>>,
    socket: UdpSocket,
}

/// Runs until killed.
///
/// # Errors
/// An option is wrong, or the port is not to be had.
pub fn run(args: &mut Args) -> Outcome<()> {
    let port: u16 = args.need("listen")?;
    let merge_ms: u64 = args.take("merge-ms", 50)?;
    if let Some(cpu) = args.take_maybe("cpu")? {
        sys::pin(cpu)?;
    }
    let clip = Clip::new(shape(args)?);
    args.done()?;
    sys::raise_descriptor_limit();
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    epoll.add(listener.as_fd(), LISTENER, false)?;
    let slots = (merge_ms / SLOT_MS).max(1);
    let floor = DatagramFloor {
        frames: VecDeque::new(),
        first: 0,
        next: vec![0; slots as usize],
        epoll,
        listener,
        viewers: Vec::new(),
        socket: sys_datagram::floor_socket()?,
    };
    say(&format!("floor of datagrams on port {port}, {merge_ms} ms\n"));
    floor.serve(&clip, (merge_ms * MS / slots).max(MS))
}

impl DatagramFloor {
    fn serve(mut self, clip: &Clip, slot_ns: u64) -> Outcome<()> {
        let mut packets = ClipPackets::new(clip)?;
        let started = monotonic_ns();
        let (mut video, mut audio, mut flushed) = (0, 0, 0);
        loop {
            let due = clip.next(video, audio);
            let passed = monotonic_ns() - started;
            if due.at_ns <= passed {
                self.frames.extend(packets.frame(clip, due, monotonic_ns())?);
                if due.tag == TagType::Video {
                    video += 1
                } else {
                    audio += 1
                }
                continue;
            }
            let (slot_now, slots) = (passed / slot_ns, self.next.len() as u64);
            for slot in flushed.max(slot_now.saturating_sub(slots))..slot_now {
                self.flush((slot % slots) as usize);
            }
            flushed = slot_now;
            let next_ns = due.at_ns.min((slot_now + 1) * slot_ns);
            let wait_ms = next_ns.saturating_sub(monotonic_ns() - started).div_ceil(MS);
            self.attend(wait_ms as i32)?;
        }
    }

    /// Accepts, hears what viewers ask for, and sees them leave.
    fn attend(&mut self, wait_ms: i32) -> Outcome<()> {
        let mut ready = Vec::new();
        self.epoll.wait(wait_ms, |event| ready.push(event.token))?;
        for token in ready {
            if token == LISTENER {
                while let Ok((control, _)) = self.listener.accept() {
                    control.set_nonblocking(true)?;
                    self.epoll.add(control.as_fd(), self.viewers.len() as u64, false)?;
                    self.viewers.push(Some(Viewer { control, places: None }));
                }
                continue;
            }
            let Some(place) = self.viewers.get_mut(token as usize) else { continue };
            if place.as_mut().is_some_and(|viewer| !viewer.listen()) {
                *place = None;
            }
        }
        Ok(())
    }

    /// Sends the viewers of a slot what is new.
    fn flush(&mut self, slot: usize) {
        let (from, step) = (self.next[slot], self.next.len());
        let skip = from.saturating_sub(self.first) as usize;
        let (mut trains, of_video) = trains(self.frames.iter().skip(skip));
        self.next[slot] = self.first + self.frames.len() as u64;
        let viewers = self.viewers.iter().skip(slot).step_by(step).flatten();
        let mut messages = Vec::new();
        for [video, audio] in viewers.filter_map(|viewer| viewer.places) {
            let place = |video_wanted| if video_wanted { video } else { audio };
            messages.extend(of_video.iter().enumerate().map(|(at, video)| (at, place(*video))));
        }
        if let (_, Some(error)) = sys_datagram::send(&self.socket, &mut trains, &messages) {
            eprintln!("perf: datagrams not sent: {error}");
        }
        drop(trains);
        let oldest = self.next.iter().copied().min().unwrap_or(0);
        self.frames.drain(..(oldest - self.first) as usize);
        self.first = oldest;
    }
}

impl Viewer {
    /// Hears what it wants; false when it has left.
    fn listen(&mut self) -> bool {
        let mut buffer = [0; 64];
        let count = match self.control.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
            Ok(count @ 1..) => count,
            _ => return false,
        };
        let line = String::from_utf8_lossy(&buffer[..count]);
        let mut ports = line.split_whitespace().skip(1).filter_map(|port| port.parse().ok());
        if let (Some(video), Some(audio)) = (ports.next(), ports.next())
            && let Ok(IpAddr::V4(ip)) = self.control.peer_addr().map(|peer| peer.ip())
        {
            self.places = Some([video, audio].map(|port| Place::new(ip, port)));
        }
        true
    }
}

/// Frames as messages: frames of whole packets of one size go with the next of their track. Beside
/// them whether each is of video.
fn trains<'a>(frames: impl Iterator<Item = &'a Packets>) -> (Vec<Train<'a>>, Vec<bool>) {
    let (mut trains, mut of_video): (Vec<Train<'a>>, Vec<bool>) = (Vec::new(), Vec::new());
    for frame in frames.filter(|frame| !frame.bytes.is_empty()) {
        let before = of_video.iter().rposition(|video| *video == frame.video);
        let joined = before.and_then(|at| trains.get_mut(at)).filter(|train| {
            let bytes: usize = train.slices.iter().map(|slice| slice.len()).sum();
            let whole = bytes.is_multiple_of(train.segment.into());
            let fits =
                train.slices.len() < SLICES_MAX && bytes + frame.bytes.len() <= TRAIN_BYTES_MAX;
            whole && fits && frame.segment <= train.segment
        });
        match joined {
            // A smaller packet ends the message, so it must be the only one.
            Some(train)
                if frame.segment == train.segment
                    || frame.bytes.len() <= usize::from(frame.segment) =>
            {
                train.slices.push(IoSlice::new(&frame.bytes));
            }
            _ => {
                trains.push(Train::new(&frame.bytes, frame.segment));
                of_video.push(frame.video);
            }
        }
    }
    (trains, of_video)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_one_size_travel_together() {
        let frame = |video, segment, bytes| Packets { video, segment, bytes: vec![0; bytes] };
        let frames = [
            frame(true, 100, 250),
            frame(false, 40, 40),
            frame(true, 100, 300),
            frame(false, 40, 40),
            frame(true, 50, 50),
            frame(true, 50, 50),
            frame(false, 30, 30),
            frame(false, 30, 30),
        ];
        let (trains, of_video) = trains(frames.iter());
        let slices: Vec<_> = trains.iter().map(|train| train.slices.len()).collect();
        assert_eq!(slices, [1, 3, 2, 1, 1]);
        assert_eq!(of_video, [true, false, true, true, false]);
    }
}
