//! One viewer: from the connection to its first media, and afterwards as careful as it has to be.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use protocols::container::flv::TagType;
use protocols::rtmp::client::Role;
use protocols::rtp::PayloadFormat;
use rustls::ClientConfig;

use crate::Outcome;
use crate::checker::{Checker, Findings, Tag};
use crate::clip::{Clip, Shape};
use crate::clip_rtp::ClipPackets;
use crate::datagrams::Datagrams;
use crate::http_play::HttpPlay;
use crate::link::{Link, is_wait};
use crate::rtmp_peer::RtmpPeer;
use crate::rtp_play::{Arrivals, RtpPlay};
use crate::sys::Epoll;
use crate::target::{Scheme, Target};

/// Receive buffer of a slow viewer, so that the kernel does not read ahead for it.
const SLOW_RECEIVE_BUFFER: usize = 64 * 1024;
/// The sign of life of an RTSP viewer that has no dialogue any more.
const RTSP_OPTIONS: &[u8] = b"OPTIONS * RTSP/1.0\r\nCSeq: 1000\r\n\r\n";

/// What a viewer does with media.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Care {
    /// Throws it away unseen.
    Discards,
    /// Parses it whenever some arrives, and measures latency.
    Probes,
    /// Parses it when its turn comes, and checks it.
    Checks,
    /// As [`Care::Checks`], but takes at most so many bytes per second.
    Slow(f64),
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of thousands are of the largest")]
enum Protocol {
    Rtmp(RtmpPeer),
    Http(HttpPlay),
    Rtp(Box<RtpPlay>),
}

#[derive(Debug)]
struct Parser {
    protocol: Protocol,
    input: BytesMut,
    checker: Checker,
}

/// Space all viewers share while one of them works.
#[derive(Debug)]
pub struct Bench {
    scratch: Vec<u8>,
    out: Vec<u8>,
    tags: Vec<Tag>,
    /// What the viewers that check found.
    pub findings: Findings,
    /// The same for slow viewers.
    pub slow: Findings,
    /// Datagrams of those of them that get datagrams.
    pub arrivals: Arrivals,
    /// Checksums are compared.
    pub checksums: bool,
}

impl Default for Bench {
    fn default() -> Self {
        Self {
            scratch: vec![0; 256 * 1024],
            out: Vec::new(),
            tags: Vec::new(),
            findings: Findings::default(),
            slow: Findings::default(),
            arrivals: Arrivals::default(),
            checksums: true,
        }
    }
}

/// One viewer.
#[derive(Debug)]
pub struct Viewer {
    link: Link,
    /// Where media comes if not over the link.
    datagrams: Option<Box<Datagrams>>,
    /// `None` once everything is thrown away.
    parser: Option<Box<Parser>>,
    /// What it does with media.
    pub care: Care,
    scheme: Scheme,
    /// When it began to connect.
    pub began_ns: u64,
    /// When its first audio or video frame was complete.
    pub first_media_ns: Option<u64>,
    /// When its first picture was complete.
    pub first_video_ns: Option<u64>,
    /// When bytes last came.
    pub last_bytes_ns: u64,
    /// Bytes received over the wire.
    pub received: u64,
    /// It has been counted as stalled and nothing came since.
    pub stalled: bool,
    /// Bytes it has been allowed to take.
    allowance: f64,
    allowed_at_ns: u64,
    acknowledged_at_ns: u64,
}

impl Viewer {
    /// A viewer of one of the target's streams that begins to connect now.
    ///
    /// # Errors
    /// No connection can be begun.
    pub fn connect(
        target: &Target,
        tls: &Arc<ClientConfig>,
        stream: usize,
        care: Care,
        now_ns: u64,
    ) -> Outcome<Self> {
        let slow = matches!(care, Care::Slow(_));
        let mut link = Link::connect(target, tls, slow.then_some(SLOW_RECEIVE_BUFFER))?;
        let mut out = Vec::new();
        let datagrams =
            target.is_datagrams().then(|| Datagrams::bind(target.address)).transpose()?;
        let ports = datagrams.as_ref().map(Datagrams::ports).transpose()?;
        let protocol = match (target.scheme, ports) {
            (Scheme::Rtmp, _) => {
                let names = target.rtmp_names(stream);
                Protocol::Rtmp(RtmpPeer::new(Role::Play, &target.authority, names, &mut out))
            }
            (Scheme::Rtsp | Scheme::RtspDatagram, _) => {
                let play = RtpPlay::rtsp(&target.rtsp_url(stream), ports, &mut out)?;
                Protocol::Rtp(Box::new(play))
            }
            (Scheme::Datagram, Some(ports)) => {
                Protocol::Rtp(Box::new(RtpPlay::floor(floor_formats()?, ports, &mut out)))
            }
            _ => Protocol::Http(HttpPlay::new(target, &target.path_of(stream), &mut out)),
        };
        // The socket takes nothing yet, so this only queues.
        link.send(&out)?;
        let parser = Parser { protocol, input: BytesMut::new(), checker: Checker::default() };
        Ok(Self {
            link,
            datagrams: datagrams.map(Box::new),
            parser: Some(Box::new(parser)),
            care,
            scheme: target.scheme,
            began_ns: now_ns,
            first_media_ns: None,
            first_video_ns: None,
            last_bytes_ns: now_ns,
            received: 0,
            stalled: false,
            allowance: 0.0,
            allowed_at_ns: now_ns,
            acknowledged_at_ns: now_ns,
        })
    }

    /// Puts its sockets into an epoll set.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn watch(&self, epoll: &Epoll, token: u64) -> Outcome<()> {
        epoll.add(self.link.fd(), token, true)?;
        for fd in self.datagrams.iter().flat_map(|datagrams| datagrams.fds()) {
            epoll.add(fd, token, false)?;
        }
        Ok(())
    }

    /// Takes its sockets out of an epoll set.
    pub fn unwatch(&self, epoll: &Epoll) {
        epoll.remove(self.link.fd());
        self.datagrams.iter().flat_map(|datagrams| datagrams.fds()).for_each(|fd| epoll.remove(fd));
    }

    /// The socket of its connection, for an epoll set.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.link.fd()
    }

    /// Whether bytes wait to be sent.
    pub fn wants_write(&self) -> bool {
        self.link.pending() > 0
    }

    /// Whether it has joined and needs no parser.
    pub fn is_discarding(&self) -> bool {
        self.parser.is_none()
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// The connection is over.
    pub fn flush(&mut self) -> Outcome<()> {
        Ok(self.link.flush()?)
    }

    /// Receives and parses until nothing is left, or until its share is used up.
    ///
    /// # Errors
    /// The connection is over.
    pub fn receive(&mut self, bench: &mut Bench, clock: impl Fn() -> u64) -> Outcome<()> {
        self.receive_datagrams(bench, &clock)?;
        loop {
            let now_ns = clock();
            let room = self.room(bench.scratch.len(), now_ns);
            let Some(parser) = &mut self.parser else { return self.discard(now_ns) };
            if room == 0 {
                return Ok(());
            }
            let space = &mut bench.scratch[..room];
            let count = match self.link.receive(space, &mut parser.input) {
                Ok(0) => return Err("closed by the server".into()),
                Ok(count) => count,
                Err(error) if is_wait(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.on_bytes(count, now_ns);
            self.parse(bench, clock())?;
            if count < room {
                return Ok(());
            }
        }
    }

    fn receive_datagrams(&mut self, bench: &mut Bench, clock: impl Fn() -> u64) -> Outcome<()> {
        let (Some(datagrams), Some(parser)) = (&self.datagrams, &mut self.parser) else {
            return Ok(());
        };
        let Protocol::Rtp(play) = &mut parser.protocol else { return Ok(()) };
        bench.tags.clear();
        bench.out.clear();
        let (out, tags, arrivals) = (&mut bench.out, &mut bench.tags, &mut bench.arrivals);
        let count = datagrams.receive(&mut bench.scratch, |index, data| {
            play.take_datagram(index, data, arrivals, out, tags)
        })?;
        let now_ns = clock();
        if count > 0 {
            self.on_bytes(count, now_ns);
        }
        self.note(bench, now_ns)
    }

    /// Throws away what has arrived.
    fn discard(&mut self, now_ns: u64) -> Outcome<()> {
        if let Some(datagrams) = &self.datagrams {
            let count = datagrams.discard()?;
            if count > 0 {
                self.on_bytes(count, now_ns);
            }
        }
        match self.link.discard() {
            Ok(0) => return Err("closed by the server".into()),
            Ok(count) => self.on_bytes(count, now_ns),
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn on_bytes(&mut self, count: usize, now_ns: u64) {
        self.received += count as u64;
        self.allowance -= count as f64;
        self.last_bytes_ns = now_ns;
        self.stalled = false;
    }

    /// Bytes it may take now.
    fn room(&mut self, most: usize, now_ns: u64) -> usize {
        let (Care::Slow(rate), Some(_)) = (self.care, self.first_video_ns) else { return most };
        let passed = now_ns.saturating_sub(self.allowed_at_ns) as f64 / 1e9;
        self.allowed_at_ns = now_ns;
        // Not more than a second saved up.
        self.allowance = (self.allowance + passed * rate).min(rate);
        (self.allowance.max(0.0) as usize).min(most)
    }

    fn parse(&mut self, bench: &mut Bench, now_ns: u64) -> Outcome<()> {
        let Some(parser) = &mut self.parser else { return Ok(()) };
        bench.tags.clear();
        bench.out.clear();
        match &mut parser.protocol {
            Protocol::Rtmp(rtmp) => {
                rtmp.take(&mut parser.input, &mut bench.out, &mut bench.tags)?
            }
            Protocol::Http(http) => http.take(&mut parser.input, &mut bench.tags)?,
            Protocol::Rtp(play) => play.take(&mut parser.input, &mut bench.out, &mut bench.tags)?,
        }
        self.note(bench, now_ns)
    }

    /// Looks at the frames that have come and says what the dialogue asks for.
    fn note(&mut self, bench: &mut Bench, now_ns: u64) -> Outcome<()> {
        let Some(parser) = &mut self.parser else { return Ok(()) };
        let slow = matches!(self.care, Care::Slow(_));
        let found = if slow { &mut bench.slow } else { &mut bench.findings };
        for tag in bench.tags.iter().filter(|tag| tag.is_frame()) {
            self.first_media_ns.get_or_insert(now_ns);
            if tag.tag == TagType::Video {
                self.first_video_ns.get_or_insert(now_ns);
            }
            if self.care != Care::Discards {
                parser.checker.look(tag, now_ns, bench.checksums, found);
            }
        }
        if !bench.out.is_empty() {
            self.link.send(&bench.out)?;
        }
        if self.care == Care::Discards && self.first_media_ns.is_some() {
            self.parser = None;
        }
        Ok(())
    }

    /// Says that it lives, as players do, if the last time was long enough ago: RTMP acknowledges
    /// what came, RTSP asks for something.
    ///
    /// # Errors
    /// The connection is over.
    pub fn acknowledge(&mut self, now_ns: u64, every_ns: u64) -> Outcome<()> {
        if now_ns.saturating_sub(self.acknowledged_at_ns) <= every_ns {
            return Ok(());
        }
        self.acknowledged_at_ns = now_ns;
        let protocol = self.parser.as_mut().map(|parser| &mut parser.protocol);
        match (self.scheme, protocol) {
            (Scheme::Rtmp, _) => self.link.send(&RtmpPeer::acknowledgement(self.received))?,
            (Scheme::Rtsp | Scheme::RtspDatagram, None) => self.link.send(RTSP_OPTIONS)?,
            (_, Some(Protocol::Rtp(play))) => {
                let mut out = Vec::new();
                play.handle_timeout(&mut out)?;
                self.link.send(&out)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// How the tracks of the floor travel, whatever its bit rate.
fn floor_formats() -> Outcome<Vec<PayloadFormat>> {
    static FORMATS: OnceLock<Vec<PayloadFormat>> = OnceLock::new();
    if let Some(formats) = FORMATS.get() {
        return Ok(formats.clone());
    }
    let clip = Clip::new(Shape { bitrate: 1e6, fps: 30, gop: 1.0, audio: true });
    let formats = ClipPackets::formats(&clip)?;
    Ok(FORMATS.get_or_init(|| formats).clone())
}
