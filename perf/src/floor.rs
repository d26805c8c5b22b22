//! The floor: the same bytes to N sockets from a bare loop, with no protocol, no refusals and no
//! second stream. What a server cannot be cheaper than, unless it calls the kernel less often.
//!
//! One log for all; each viewer is a cursor into it. With a merge window of M ms a viewer is sent
//! to every M ms, and the viewers are spread over a few slots of the window, since a wake-up per
//! millisecond would be a cost of its own; with 0 each message goes out at once.

use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use protocols::container::flv::{header, write_tag};

use crate::Outcome;
use crate::args::{Args, say};
use crate::clip::{Clip, stamp};
use crate::publish::shape;
use crate::sys::{self, Epoll, SendRing, monotonic_ns};

/// Bytes of the log; must hold more than a GOP.
const LOG_BYTES: usize = 32 << 20;
/// Where a mark begins behind the header of a tag.
const TAG_HEADER: usize = protocols::container::flv::TAG_HEADER_BYTES;
const LISTENER: u64 = u64::MAX;
const SOCKETS_MAX: usize = 32 * 1024;
/// Milliseconds between slots unless said otherwise.
const SLOT_MS: u64 = 10;
const MS: u64 = 1_000_000;

/// A ring of bytes with absolute positions.
struct Log {
    bytes: Vec<u8>,
    end: u64,
    keyframe: u64,
}

impl Log {
    fn append(&mut self, tag: &[u8], keyframe: bool) {
        if keyframe {
            self.keyframe = self.end;
        }
        let at = self.end as usize % LOG_BYTES;
        let first = tag.len().min(LOG_BYTES - at);
        self.bytes[at..at + first].copy_from_slice(&tag[..first]);
        self.bytes[..tag.len() - first].copy_from_slice(&tag[first..]);
        self.end += tag.len() as u64;
    }

    /// Everything behind a position, in at most two slices.
    fn since(&self, position: u64) -> [&[u8]; 2] {
        let length = (self.end - position) as usize;
        let at = position as usize % LOG_BYTES;
        let first = length.min(LOG_BYTES - at);
        [&self.bytes[at..at + first], &self.bytes[..length - first]]
    }

    fn holds(&self, position: u64) -> bool {
        self.end - position < LOG_BYTES as u64
    }
}

struct Viewer {
    socket: TcpStream,
    /// The next byte to send; `None` until it has asked.
    cursor: Option<u64>,
}

struct Floor {
    log: Log,
    epoll: Epoll,
    listener: TcpListener,
    viewers: Vec<Option<Viewer>>,
    free: Vec<usize>,
    ring: Option<SendRing>,
    sockets_max: usize,
    send_buffer: usize,
    preface: Vec<u8>,
    results: Vec<(usize, i32)>,
}

/// Runs until killed.
///
/// # Errors
/// An option is wrong, or the port or the ring is not to be had.
pub fn run(args: &mut Args) -> Outcome<()> {
    let port: u16 = args.need("listen")?;
    let mode: String = args.take("mode", "epoll".to_owned())?;
    let merge_ms: u64 = args.take("merge-ms", 0)?;
    let slots: u64 = args.take("slots", merge_ms / SLOT_MS)?.clamp(1, merge_ms.max(1));
    let send_buffer = args.take("sndbuf", 256 * 1024)?;
    if let Some(cpu) = args.take_maybe("cpu")? {
        sys::pin(cpu)?;
    }
    let clip = Clip::new(shape(args)?);
    args.done()?;
    let sockets_max = (sys::raise_descriptor_limit() as usize).min(SOCKETS_MAX);
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    epoll.add(listener.as_fd(), LISTENER, false)?;
    let ring = match mode.as_str() {
        "epoll" => None,
        "uring" => Some(SendRing::new(sockets_max as u32)?),
        other => return Err(format!("--mode {other} is neither epoll nor uring").into()),
    };
    let mut preface = header(true, true).to_vec();
    for (tag, body) in clip.configuration() {
        write_tag(&mut preface, tag, 0, &[&body]);
    }
    let floor = Floor {
        log: Log { bytes: vec![0; LOG_BYTES], end: 0, keyframe: 0 },
        epoll,
        listener,
        viewers: Vec::new(),
        free: Vec::new(),
        ring,
        sockets_max,
        send_buffer,
        preface,
        results: Vec::new(),
    };
    say(&format!("floor on port {port}, {mode}, {merge_ms} ms\n"));
    floor.serve(&clip, merge_ms, slots)
}

impl Floor {
    fn serve(mut self, clip: &Clip, merge_ms: u64, slots: u64) -> Outcome<()> {
        let started = monotonic_ns();
        let (mut video, mut audio) = (0, 0);
        let mut flushed = 0;
        loop {
            let due = clip.next(video, audio);
            let passed = monotonic_ns() - started;
            if due.at_ns <= passed
                && let Some(piece) = clip.piece(due)
            {
                let mut tag = Vec::with_capacity(piece.body.len() + 16);
                write_tag(&mut tag, piece.tag, (due.at_ns / MS) as u32, &[&piece.body]);
                stamp(&mut tag[TAG_HEADER + piece.mark_at..], monotonic_ns(), due.number);
                let picture = due.tag == protocols::container::flv::TagType::Video;
                self.log.append(&tag, picture && clip.index(due) == 0);
                if picture {
                    video += 1
                } else {
                    audio += 1
                }
                if merge_ms == 0 {
                    self.flush(0, 1)?;
                }
                continue;
            }
            let mut next_ns = due.at_ns;
            if let Some(slot_ns) = (merge_ms * MS).checked_div(slots).filter(|&ns| ns > 0) {
                let slot_now = passed / slot_ns;
                for slot in flushed.max(slot_now.saturating_sub(slots))..slot_now {
                    self.flush((slot % slots) as usize, slots as usize)?;
                }
                flushed = slot_now;
                next_ns = (slot_now + 1) * slot_ns;
            }
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
                while let Ok((socket, _)) = self.listener.accept() {
                    self.admit(socket)?;
                }
                continue;
            }
            let index = token as usize;
            let Some(Some(viewer)) = self.viewers.get_mut(index) else { continue };
            match (&viewer.socket).read(&mut [0; 64]) {
                Ok(1..) if viewer.cursor.is_none() => {
                    let _ = (&viewer.socket).write(&self.preface);
                    viewer.cursor = Some(self.log.keyframe);
                }
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => self.dismiss(index)?,
            }
        }
        Ok(())
    }

    fn admit(&mut self, socket: TcpStream) -> Outcome<()> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        sys::set_send_buffer(&socket, self.send_buffer);
        let index = self.free.pop().unwrap_or(self.viewers.len());
        if index >= self.sockets_max {
            return Ok(());
        }
        if index == self.viewers.len() {
            self.viewers.push(None);
        }
        self.epoll.add(socket.as_fd(), index as u64, false)?;
        if let Some(ring) = &self.ring {
            ring.register(index, Some(&socket))?;
        }
        self.viewers[index] = Some(Viewer { socket, cursor: None });
        Ok(())
    }

    fn dismiss(&mut self, index: usize) -> Outcome<()> {
        if let Some(ring) = &self.ring {
            ring.register(index, None)?;
        }
        if self.viewers[index].take().is_some() {
            self.free.push(index);
        }
        Ok(())
    }

    /// Sends what is new to every `step`-th viewer from `first` on.
    fn flush(&mut self, first: usize, step: usize) -> Outcome<()> {
        self.results.clear();
        match &mut self.ring {
            None => {
                for (index, viewer) in self.viewers.iter().enumerate().skip(first).step_by(step) {
                    let Some((viewer, parts)) = pending(&self.log, viewer.as_ref()) else {
                        continue;
                    };
                    let [a, b] = parts.map(IoSlice::new);
                    let slices = if b.is_empty() { &[a][..] } else { &[a, b] };
                    match (&viewer.socket).write_vectored(slices) {
                        Ok(sent) => self.results.push((index, sent as i32)),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => self.results.push((index, -1)),
                    }
                }
            }
            Some(ring) => {
                let mut batch = Vec::with_capacity(SendRing::BATCH_MAX);
                let due = self.viewers.iter().enumerate().skip(first).step_by(step);
                for (index, viewer) in due {
                    if let Some((_, parts)) = pending(&self.log, viewer.as_ref()) {
                        batch.push(sys::Send { socket: index, parts });
                    }
                    if batch.len() == SendRing::BATCH_MAX {
                        submit(ring, &mut batch, &mut self.results)?;
                    }
                }
                submit(ring, &mut batch, &mut self.results)?;
            }
        }
        for (index, result) in std::mem::take(&mut self.results) {
            let cursor = self.viewers[index].as_mut().and_then(|viewer| viewer.cursor.as_mut());
            match (u64::try_from(result), cursor) {
                (Ok(sent), Some(cursor)) => *cursor += sent,
                _ => self.dismiss(index)?,
            }
        }
        let log = &self.log;
        let lags = |viewer: &Viewer| viewer.cursor.is_some_and(|cursor| !log.holds(cursor));
        let behind: Vec<usize> = (first..self.viewers.len())
            .step_by(step)
            .filter(|&index| self.viewers[index].as_ref().is_some_and(lags))
            .collect();
        behind.into_iter().try_for_each(|index| self.dismiss(index))
    }
}

/// A viewer that something waits for, and what.
fn pending<'a>(log: &'a Log, viewer: Option<&'a Viewer>) -> Option<(&'a Viewer, [&'a [u8]; 2])> {
    let viewer = viewer?;
    let cursor = viewer.cursor.filter(|&cursor| cursor < log.end && log.holds(cursor))?;
    Some((viewer, log.since(cursor)))
}

fn submit(
    ring: &mut SendRing,
    batch: &mut Vec<sys::Send<'_>>,
    results: &mut Vec<(usize, i32)>,
) -> Outcome<()> {
    const WOULD_BLOCK: i32 = -11;
    ring.send(batch, |position, result| {
        if result != WOULD_BLOCK {
            results.push((batch[position].socket, result));
        }
    })?;
    batch.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_wraps() {
        let mut log = Log { bytes: vec![0; LOG_BYTES], end: LOG_BYTES as u64 - 3, keyframe: 0 };
        log.append(b"abcdef", true);
        assert_eq!(log.since(log.keyframe), [&b"abc"[..], b"def"]);
        assert_eq!(log.since(log.end - 2), [&b"ef"[..], b""]);
        assert!(log.holds(log.keyframe) && !log.holds(0));
    }
}
