//! One viewer: from the connection to its first media, and afterwards as careful as it has to be.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::BytesMut;
use protocols::container::flv::TagType;
use protocols::rtmp::client::Role;
use rustls::ClientConfig;

use crate::Outcome;
use crate::checker::{Checker, Findings, Tag};
use crate::http_play::HttpPlay;
use crate::link::{Link, is_wait};
use crate::rtmp_peer::RtmpPeer;
use crate::target::{Scheme, Target};

/// Receive buffer of a slow viewer, so that the kernel does not read ahead for it.
const SLOW_RECEIVE_BUFFER: usize = 64 * 1024;

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
enum Protocol {
    Rtmp(RtmpPeer),
    Http(HttpPlay),
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
            checksums: true,
        }
    }
}

/// One viewer.
#[derive(Debug)]
pub struct Viewer {
    link: Link,
    /// `None` once everything is thrown away.
    parser: Option<Box<Parser>>,
    /// What it does with media.
    pub care: Care,
    rtmp: bool,
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
        let protocol = match target.scheme {
            Scheme::Rtmp => {
                let names = target.rtmp_names(stream);
                Protocol::Rtmp(RtmpPeer::new(Role::Play, &target.authority, names, &mut out))
            }
            _ => Protocol::Http(HttpPlay::new(target, &target.path_of(stream), &mut out)),
        };
        // The socket takes nothing yet, so this only queues.
        link.send(&out)?;
        let parser = Parser { protocol, input: BytesMut::new(), checker: Checker::default() };
        Ok(Self {
            link,
            parser: Some(Box::new(parser)),
            care,
            rtmp: target.scheme == Scheme::Rtmp,
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

    /// The socket, for an epoll set.
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

    /// Throws away what has arrived.
    fn discard(&mut self, now_ns: u64) -> Outcome<()> {
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
        }
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

    /// Acknowledges what came, as RTMP players do, if the last time was long enough ago.
    ///
    /// # Errors
    /// The connection is over.
    pub fn acknowledge(&mut self, now_ns: u64, every_ns: u64) -> Outcome<()> {
        if self.rtmp && now_ns.saturating_sub(self.acknowledged_at_ns) > every_ns {
            self.acknowledged_at_ns = now_ns;
            self.link.send(&RtmpPeer::acknowledgement(self.received))?;
        }
        Ok(())
    }
}
