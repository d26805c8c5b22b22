//! Synthetic publishers, all on one thread: every frame carries the time just before its write.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use protocols::container::flv::TagType;
use protocols::rtmp::client::Role;
use protocols::rtmp::wire;
use rustls::ClientConfig;
use serde_json::json;

use crate::args::{Args, say};
use crate::clip::{Clip, Due, Shape, stamp};
use crate::link::{Link, is_wait, tls_config};
use crate::machine::{self, Pids};
use crate::rtmp_peer::RtmpPeer;
use crate::sys::{self, monotonic_ns};
use crate::target::Target;
use crate::{Outcome, report};

/// Publishers in the middle of their commands at one time.
const JOINERS_MAX: usize = 64;
/// A publisher with so much unsent leaves frames out.
const PENDING_MAX: usize = 4 << 20;
/// How often what servers say to publishers is read.
const DRAIN_NS: u64 = 100_000_000;
/// Longest sleep, so that joiners and ends are seen.
const SLEEP_NS: u64 = 1_000_000;
const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;
const SECOND: f64 = 1e9;
/// A type 0 chunk header with a one-byte basic header: where its fields are.
const TIMESTAMP_AT: usize = 1;
const STREAM_AT: usize = 8;
const HEADER_BYTES: usize = 12;
const STREAM_ID: u32 = 1;

/// Reads the shape of a stream from the options all programs share.
///
/// # Errors
/// An option is wrong.
pub fn shape(args: &mut Args) -> Outcome<Shape> {
    args.flag("audio");
    Ok(Shape {
        bitrate: args.take("bitrate", 2000.0)? * 1000.0,
        fps: args.take("fps", 30)?,
        gop: args.take("gop", 2.0)?,
        audio: !args.flag("no-audio"),
    })
}

/// Messages as they go over the wire but for time, stream and mark.
struct Wire {
    clip: Clip,
    video: Vec<Vec<u8>>,
    audio: Vec<u8>,
    headers: Vec<u8>,
}

impl Wire {
    fn new(clip: Clip, chunk_size: u32) -> Self {
        let write = |out: &mut Vec<u8>, tag: TagType, body: &[u8]| {
            let chunk_stream_id = if tag == TagType::Audio { 4 } else { 6 };
            let tag = tag as u8;
            wire::write_message(out, chunk_size, true, chunk_stream_id, tag, STREAM_ID, 0, &[body]);
        };
        let message = |tag, body: &[u8]| {
            let mut out = Vec::new();
            write(&mut out, tag, body);
            out
        };
        let mut headers = Vec::new();
        for (tag, body) in clip.configuration() {
            write(&mut headers, tag, &body);
        }
        let audio = clip.audio.as_ref().map(|piece| message(piece.tag, &piece.body));
        Self {
            video: clip.video.iter().map(|piece| message(piece.tag, &piece.body)).collect(),
            audio: audio.unwrap_or_default(),
            headers,
            clip,
        }
    }

    /// One message, marked with the time it is asked for.
    fn message(&mut self, due: Due, message_stream_id: u32) -> &[u8] {
        let mark_at = self.clip.piece(due).map_or(0, |piece| piece.mark_at) + HEADER_BYTES;
        let message = match due.tag {
            TagType::Audio => &mut self.audio,
            _ => {
                let index = self.clip.index(due);
                &mut self.video[index]
            }
        };
        let [_, time @ ..] = ((due.at_ns / 1_000_000) as u32 & 0xFF_FFFF).to_be_bytes();
        message[TIMESTAMP_AT..TIMESTAMP_AT + 3].copy_from_slice(&time);
        message[STREAM_AT..STREAM_AT + 4].copy_from_slice(&message_stream_id.to_le_bytes());
        stamp(&mut message[mark_at..], monotonic_ns(), due.number);
        message
    }
}

struct Publisher {
    link: Link,
    peer: Option<RtmpPeer>,
    input: BytesMut,
    message_stream_id: u32,
    started_ns: u64,
    video_sent: u64,
    audio_sent: u64,
}

struct Studio {
    target: Target,
    raw: bool,
    chunk_size: u32,
    tls: Arc<ClientConfig>,
    wire: Wire,
    publishers: Vec<Option<Publisher>>,
    /// Publishers that have not been told to start.
    joining: Vec<usize>,
    /// When each publisher's next frame is due.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    scratch: Vec<u8>,
    sent_bytes: u64,
    dropped: u64,
    lost: u64,
    late_ns: u64,
    fault: Option<String>,
}

/// Publishes until the time is over, then prints the row.
///
/// # Errors
/// An option is wrong, or no publisher is left.
pub fn run(args: &mut Args) -> Outcome<()> {
    let raw: Option<String> = args.take_maybe("raw")?;
    let url = match &raw {
        Some(raw) => raw.clone(),
        None => args.need("url")?,
    };
    if let Some(cpu) = args.take_maybe("cpu")? {
        sys::pin(cpu)?;
    }
    let streams: usize = args.take("streams", 1)?;
    let seconds: f64 = args.take("seconds", 0.0)?;
    let warmup: f64 = args.take("warmup", 1.0)?;
    let chunk_size = args.take("chunk-size", 4096)?;
    let pids = Pids::parse(&args.take("server-pid", String::new())?)?;
    let clip = Clip::new(shape(args)?);
    let sink = args.sink()?;
    sys::raise_descriptor_limit();
    let mut studio = Studio {
        target: Target::parse(&url)?,
        raw: raw.is_some(),
        chunk_size,
        tls: tls_config()?,
        wire: Wire::new(clip, chunk_size),
        publishers: Vec::new(),
        joining: Vec::new(),
        due: BinaryHeap::new(),
        scratch: vec![0; 64 * 1024],
        sent_bytes: 0,
        dropped: 0,
        lost: 0,
        late_ns: 0,
        fault: None,
    };
    studio.join(streams)?;
    say(&format!("publishing {} streams\n", studio.live()));
    if seconds == 0.0 {
        return studio.run_until(u64::MAX);
    }
    studio.run_until(monotonic_ns() + (warmup * SECOND) as u64)?;
    let before = (monotonic_ns(), pids.cpu_seconds(), machine::own_cpu_seconds());
    let sent = studio.sent_bytes;
    studio.late_ns = 0;
    studio.run_until(before.0 + (seconds * SECOND) as u64)?;
    let seconds = (monotonic_ns() - before.0) as f64 / SECOND;
    let server_cpu = pids.cpu_seconds() - before.1;
    let own_cpu = machine::own_cpu_seconds() - before.2;
    let gigabytes = (studio.sent_bytes - sent) as f64 / 1e9;
    sink.put(json!({
        "kind": "publish",
        "url": url,
        "viewers": streams,
        "joined": studio.live(),
        "lost": studio.lost,
        "dropped_frames": studio.dropped,
        "first_fault": studio.fault,
        "latest_frame_ms": report::round(studio.late_ns as f64 / 1e6),
        "seconds": report::round(seconds),
        "delivered_bytes": studio.sent_bytes - sent,
        "mbit_per_s": report::round(gigabytes * 8e3 / seconds),
        "server_cpu_s": report::round(server_cpu),
        "server_share": report::round(server_cpu / seconds),
        "load_cpu_s": report::round(own_cpu),
        "load_share": report::round(own_cpu / seconds),
        "cpu_s_per_gb": report::round(server_cpu / gigabytes),
        "cpu_s_per_gb_with_load": report::round((server_cpu + own_cpu) / gigabytes),
        "rss_end_kib": pids.resident_kib(),
        "server_alive": pids.alive(),
    }))
}

impl Studio {
    fn live(&self) -> usize {
        self.publishers.iter().flatten().count() - self.joining.len()
    }

    /// Brings all publishers to their start; those that are there publish meanwhile.
    fn join(&mut self, streams: usize) -> Outcome<()> {
        while self.publishers.len() < streams || !self.joining.is_empty() {
            while self.publishers.len() < streams && self.joining.len() < JOINERS_MAX {
                self.connect(self.publishers.len())?;
            }
            self.turn()?;
        }
        match self.live() {
            0 => Err(format!("no publisher was let in: {:?}", self.fault).into()),
            _ => Ok(()),
        }
    }

    fn connect(&mut self, index: usize) -> Outcome<()> {
        let mut link = Link::connect(&self.target, &self.tls, None)?;
        let mut hello = Vec::new();
        let peer = (!self.raw).then(|| {
            let names = self.target.rtmp_names(index);
            let authority = &self.target.authority;
            let peer = RtmpPeer::new(Role::Publish, authority, names, &mut hello);
            peer.with_chunk_size(self.chunk_size)
        });
        link.send(&hello)?;
        self.publishers.push(Some(Publisher {
            link,
            peer,
            input: BytesMut::new(),
            message_stream_id: STREAM_ID,
            started_ns: 0,
            video_sent: 0,
            audio_sent: 0,
        }));
        self.joining.push(index);
        Ok(())
    }

    fn run_until(&mut self, end_ns: u64) -> Outcome<()> {
        while monotonic_ns() < end_ns {
            self.turn()?;
            if self.live() == 0 {
                return Err(format!("no publisher is left: {:?}", self.fault).into());
            }
        }
        Ok(())
    }

    /// Sends what is due, moves joiners on, sleeps until there is more to do.
    fn turn(&mut self) -> Outcome<()> {
        loop {
            let now = monotonic_ns();
            match self.due.peek() {
                Some(&Reverse((at, index))) if at <= now => {
                    self.due.pop();
                    self.late_ns = self.late_ns.max(now - at);
                    if let Err(error) = self.send_next(index) {
                        self.drop_publisher(index, &error.to_string());
                    }
                }
                Some(&Reverse((at, _))) if self.joining.is_empty() => {
                    std::thread::sleep(Duration::from_nanos((at - now).min(SLEEP_NS)));
                    return Ok(());
                }
                _ => break,
            }
        }
        for index in std::mem::take(&mut self.joining) {
            match self.step_joiner(index) {
                Ok(true) => {}
                Ok(false) => self.joining.push(index),
                Err(error) => self.drop_publisher(index, &error.to_string()),
            }
        }
        std::thread::sleep(Duration::from_nanos(SLEEP_NS / 4));
        Ok(())
    }

    /// True once the publisher may publish.
    fn step_joiner(&mut self, index: usize) -> Outcome<bool> {
        let Some(publisher) = &mut self.publishers[index] else { return Ok(true) };
        publisher.link.flush()?;
        publisher.read(&mut self.scratch)?;
        if let Some(peer) = &publisher.peer {
            match peer.ready() {
                Some(id) => publisher.message_stream_id = id,
                None => return Ok(false),
            }
        } else if publisher.link.pending() > 0 {
            return Ok(false);
        }
        publisher.link.send(&self.wire.headers)?;
        // Publishers do not beat in time with each other, nor do their keyframes: the golden ratio
        // spreads any number of them evenly.
        let phase = (index as f64 * GOLDEN_RATIO).fract() * self.wire.clip.shape.gop * SECOND;
        publisher.started_ns = monotonic_ns() + phase as u64;
        self.due.push(Reverse((publisher.started_ns, index)));
        Ok(true)
    }

    /// Sends the next frame of a publisher and says when the one after is due.
    fn send_next(&mut self, index: usize) -> Outcome<()> {
        let Some(publisher) = &mut self.publishers[index] else { return Ok(()) };
        let (video, audio) = (publisher.video_sent, publisher.audio_sent);
        let due = self.wire.clip.next(video, audio);
        match due.tag {
            TagType::Audio => publisher.audio_sent += 1,
            _ => publisher.video_sent += 1,
        }
        if publisher.link.pending() > 0 {
            publisher.link.flush()?;
        }
        if publisher.link.pending() > PENDING_MAX {
            self.dropped += 1;
        } else {
            let message = self.wire.message(due, publisher.message_stream_id);
            publisher.link.send(message)?;
            self.sent_bytes += message.len() as u64;
        }
        let next = self.wire.clip.next(publisher.video_sent, publisher.audio_sent);
        self.due.push(Reverse((publisher.started_ns + next.at_ns, index)));
        if next.at_ns / DRAIN_NS != due.at_ns / DRAIN_NS {
            publisher.read(&mut self.scratch)?;
        }
        Ok(())
    }

    fn drop_publisher(&mut self, index: usize, fault: &str) {
        self.publishers[index] = None;
        self.lost += 1;
        self.fault.get_or_insert(fault.to_owned());
    }
}

impl Publisher {
    /// Reads what the server says; its answers matter only before the start.
    fn read(&mut self, scratch: &mut [u8]) -> Outcome<()> {
        loop {
            match self.link.receive(scratch, &mut self.input) {
                Ok(0) => return Err("closed by the server".into()),
                Ok(_) => {}
                Err(error) if is_wait(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let Some(peer) = &mut self.peer else {
                self.input.clear();
                continue;
            };
            let mut out = Vec::new();
            peer.take(&mut self.input, &mut out, &mut Vec::new())?;
            self.link.send(&out)?;
        }
    }
}
