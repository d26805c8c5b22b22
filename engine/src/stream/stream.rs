//! The owner's side of a live stream: who publishes it, who else wants to, which shards are fed.
//!
//! Lives on the owner shard only; no other shard sees any of this.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocols::hops::Hops;
use protocols::media::{Codec, FrameKind, StreamKey, Timestamp, Tracks};

use super::Subscriber;
use crate::config::SecondPublisher;
use crate::conn::ConnId;
use crate::forward::ForwardStatus;
use crate::ring::{ControlMessage, MediaItem, ShardId, Token};
use crate::shard::Feed;

/// From the last frame of one publisher to the first of the next.
const RESUME_STEP: Duration = Duration::from_millis(20);

/// What the API shows of a publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherInfo {
    /// Protocol label.
    pub protocol: &'static str,
    /// Host the publisher addressed.
    pub host: String,
    /// Port the publisher addressed.
    pub port: Option<u16>,
    /// What it calls itself.
    pub agent: String,
    /// Merge window it asked for, in milliseconds.
    pub merge_ms: Option<u16>,
    /// Wall clock at the publish request, milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// Where this server fetches the stream from, without credentials; `None` if it was brought.
    pub source: Option<Arc<str>>,
    /// Servers of our kind that the stream has passed.
    pub hops: Hops,
    /// Its connection, if it has one.
    pub session: Option<ConnId>,
    /// The peer of that.
    pub peer: Option<SocketAddr>,
}

impl PublisherInfo {
    /// Of a stream that this server publishes itself.
    #[must_use]
    pub fn without_peer(protocol: &'static str, source: Option<Arc<str>>) -> Self {
        Self {
            protocol,
            host: String::new(),
            port: None,
            agent: String::new(),
            merge_ms: None,
            since_unix_ms: crate::clock::unix_millis(),
            source,
            hops: Hops::default(),
            session: None,
            peer: None,
        }
    }
}

/// The connection of a publisher that has none.
pub const NO_CONN: Token = Token { index: u32::MAX, generation: u32::MAX };

/// A connection that publishes or wants to.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its shard.
    pub from: ShardId,
    /// Its slot there.
    pub conn: Token,
    /// What the API shows.
    pub info: Arc<PublisherInfo>,
    /// When it asked.
    pub at: Instant,
}

impl Claim {
    /// Same connection.
    #[must_use]
    pub fn is(&self, from: ShardId, conn: Token) -> bool {
        self.from == from && self.conn == conn
    }
}

/// A shard with viewers.
#[derive(Debug, Clone, Copy)]
pub struct SubscriberShard {
    /// The shard.
    pub shard: ShardId,
    /// Its mirror.
    pub mirror: Token,
    /// Its ring was full: nothing but tracks until the next keyframe.
    pub skipping: bool,
}

/// The verdict on a claim.
#[derive(Debug)]
pub enum Verdict {
    /// The claim holds the stream; the deposed publisher, if any, must go.
    Granted {
        /// The publisher it replaces.
        deposed: Option<Claim>,
    },
    /// Wait and see whether the incumbent lives.
    Pending,
    /// Somebody else is publishing.
    Busy,
}

/// See the module text.
#[derive(Debug)]
pub struct Stream {
    /// The stream.
    pub key: StreamKey,
    /// Tells this slot from its predecessors, and a publisher's frames from those of the one it
    /// has replaced, which may still be on a ring.
    pub generation: u32,
    /// The owner's own mirror.
    pub mirror: usize,
    /// Who publishes.
    pub publisher: Option<Claim>,
    /// Who wants to, while the incumbent's life is in doubt.
    pub challenger: Option<Claim>,
    /// Shards with viewers.
    pub subscribers: Vec<SubscriberShard>,
    /// Takers on this shard: recorders, segmenters, forwarders.
    pub takers: Vec<Box<dyn Subscriber>>,
    /// Segmenters, while somebody wants them.
    pub feeds: Vec<Feed>,
    /// What the publisher's shard has been told: somebody waits for the stream.
    pub watched: bool,
    /// Length of the last full GOP in time.
    pub gop: Option<Duration>,
    /// When the last item came from the publisher.
    pub last_item_at: Instant,
    /// When the publisher went.
    pub offline_since: Option<Instant>,
    /// Decode time of the newest frame.
    pub newest: Option<Timestamp>,
    /// Media bytes from the current publisher.
    pub bytes_in: u64,
    /// Media bytes from the one before.
    pub bytes_before: u64,
    /// Frames from the current publisher.
    pub frames_in: u64,
    /// Bytes per second over the last full second.
    pub bytes_per_second: u64,
    /// Pictures in the last full GOP.
    pub gop_frames: u32,
    /// Its forwards are those of this generation under this policy.
    pub forwarded: Option<(u32, u64)>,
    /// Outputs and the codecs they go without.
    left_out: Vec<(super::Output, Codec)>,
    rate: (Option<Instant>, u64),
    gop_counting: u32,
    gop_start: Option<Timestamp>,
}

impl Stream {
    /// A stream nobody publishes yet.
    #[must_use]
    pub fn new(key: StreamKey, generation: u32, mirror: usize, now: Instant) -> Self {
        Self {
            key,
            generation,
            mirror,
            publisher: None,
            challenger: None,
            subscribers: Vec::new(),
            takers: Vec::new(),
            feeds: Vec::new(),
            watched: true,
            gop: None,
            gop_start: None,
            last_item_at: now,
            offline_since: Some(now),
            newest: None,
            bytes_in: 0,
            bytes_before: 0,
            frames_in: 0,
            bytes_per_second: 0,
            gop_frames: 0,
            forwarded: None,
            left_out: Vec::new(),
            rate: (None, 0),
            gop_counting: 0,
        }
    }

    /// A connection wants to publish.
    pub fn claim(
        &mut self,
        claim: Claim,
        policy: SecondPublisher,
        dead_after: Duration,
    ) -> Verdict {
        let now = claim.at;
        let Some(incumbent) = &self.publisher else {
            self.install(claim);
            return Verdict::Granted { deposed: None };
        };
        let silent = now.saturating_duration_since(self.last_item_at) >= dead_after;
        if policy == SecondPublisher::Takeover || silent {
            let deposed = Some(incumbent.clone());
            self.install(claim);
            return Verdict::Granted { deposed };
        }
        if self.challenger.is_some() {
            return Verdict::Busy;
        }
        self.challenger = Some(claim);
        Verdict::Pending
    }

    /// The deadline has passed without a sign of life of the incumbent: the challenger wins.
    pub fn settle(&mut self, now: Instant, dead_after: Duration) -> Option<(Claim, Option<Claim>)> {
        if now.saturating_duration_since(self.last_item_at) < dead_after {
            return None;
        }
        let challenger = self.challenger.take()?;
        let deposed = self.publisher.take();
        self.install(challenger.clone());
        Some((challenger, deposed))
    }

    fn install(&mut self, claim: Claim) {
        self.last_item_at = claim.at;
        self.offline_since = None;
        self.bytes_before = std::mem::take(&mut self.bytes_in);
        self.frames_in = 0;
        self.gop_start = None;
        self.rate = (Some(claim.at), 0);
        self.publisher = Some(claim);
    }

    /// The publisher has gone. False if it was not the publisher any more.
    pub fn release(&mut self, from: ShardId, conn: Token, now: Instant) -> bool {
        if self.challenger.as_ref().is_some_and(|claim| claim.is(from, conn)) {
            self.challenger = None;
        }
        if !self.publisher.as_ref().is_some_and(|claim| claim.is(from, conn)) {
            return false;
        }
        self.publisher = None;
        self.offline_since = Some(now);
        self.bytes_per_second = 0;
        true
    }

    /// Where the timeline of a new publisher goes on: right behind the last frame, so that players
    /// meet neither a step back nor a hole of the length of the outage.
    #[must_use]
    pub fn resume_at(&self) -> Option<Timestamp> {
        self.newest.map(|newest| newest + RESUME_STEP)
    }

    /// Notes an item of the publisher; a frame shows the incumbent alive.
    pub fn note(&mut self, item: &MediaItem, now: Instant) {
        self.last_item_at = now;
        if let MediaItem::Tracks(tracks) = item {
            self.note_left_out(tracks);
        }
        let MediaItem::Frame(ingested) = item else { return };
        let frame = &ingested.frame;
        self.newest = Some(self.newest.map_or(frame.dts, |newest| newest.max(frame.dts)));
        self.bytes_in += frame.payload.len() as u64;
        self.frames_in += 1;
        if frame.kind == FrameKind::Keyframe {
            self.gop_frames = std::mem::take(&mut self.gop_counting);
            let start = self.gop_start.replace(frame.dts);
            self.gop = start.map(|start| frame.dts.saturating_since(start)).or(self.gop);
        }
        self.gop_counting += u32::from(frame.kind.is_video());
        let (since, bytes) = &mut self.rate;
        *bytes += frame.payload.len() as u64;
        let start = *since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(start);
        if elapsed >= Duration::from_secs(1) {
            let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
            self.bytes_per_second = *bytes * 1000 / millis;
            self.rate = (Some(now), 0);
        }
    }

    /// Says once which outputs go without which track.
    fn note_left_out(&mut self, tracks: &Tracks) {
        let left_out = super::left_out(tracks);
        if left_out == self.left_out {
            return;
        }
        for (output, codec) in &left_out {
            let (output, codec) = (output.name(), codec.name());
            tracing::info!(key = %self.key, output, codec, "left out: not carried");
        }
        self.left_out = left_out;
    }

    /// Duration of a picture, from the last full GOP.
    #[must_use]
    pub fn frame_duration(&self) -> Option<Duration> {
        (self.gop_frames > 0).then(|| self.gop.map(|gop| gop / self.gop_frames))?
    }

    /// News for the publisher's shard, if it is any: whether somebody waits for this `stream`, which
    /// has an audience on this shard or not.
    #[must_use]
    pub fn tell_publisher(
        &self,
        stream: Token,
        audience: bool,
    ) -> Option<(ShardId, ControlMessage)> {
        let publisher = self.publisher.as_ref()?;
        let elsewhere = !self.subscribers.is_empty();
        let watched = audience || elsewhere || !self.takers.is_empty() || !self.feeds.is_empty();
        let news = ControlMessage::Watched { conn: publisher.conn, stream, watched };
        (watched != self.watched).then_some((publisher.from, news))
    }

    /// Nobody publishes, watches or may come back soon.
    #[must_use]
    pub fn is_idle(&self, now: Instant, grace: Duration) -> bool {
        self.publisher.is_none()
            && self.challenger.is_none()
            && self.subscribers.is_empty()
            && self.offline_since.is_some_and(|since| now.saturating_duration_since(since) > grace)
    }
}

/// A live stream as the API shows it.
#[derive(Debug, Clone)]
pub struct StreamSnapshot {
    /// The stream.
    pub key: StreamKey,
    /// Its publisher.
    pub publisher: Arc<PublisherInfo>,
    /// Its tracks.
    pub tracks: Arc<Tracks>,
    /// Media bytes since the publisher came.
    pub bytes_in: u64,
    /// Frames since the publisher came.
    pub frames_in: u64,
    /// Media bytes per second.
    pub bytes_per_second: u64,
    /// Pictures in the last full GOP.
    pub gop_frames: u32,
    /// Where it is forwarded.
    pub forwards: Vec<ForwardStatus>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: Duration = Duration::from_secs(1);

    fn claim(conn: u32, at: Instant) -> Claim {
        let info = PublisherInfo {
            protocol: "rtmp",
            host: String::new(),
            port: None,
            agent: String::new(),
            merge_ms: None,
            since_unix_ms: 0,
            source: None,
            hops: Hops::default(),
            session: None,
            peer: None,
        };
        let conn = Token { index: conn, generation: 0 };
        Claim { from: ShardId(0), conn, info: Arc::new(info), at }
    }

    fn stream(now: Instant) -> Stream {
        let key = StreamKey::new("", "live", "x").unwrap();
        Stream::new(key, 0, 0, now)
    }

    #[test]
    fn a_living_incumbent_keeps_its_stream() {
        let t0 = crate::clock::now();
        let mut stream = stream(t0);
        let first = stream.claim(claim(1, t0), SecondPublisher::Reject, DEAD);
        assert!(matches!(first, Verdict::Granted { deposed: None }));
        let t1 = t0 + DEAD / 2;
        let second = stream.claim(claim(2, t1), SecondPublisher::Reject, DEAD);
        assert!(matches!(second, Verdict::Pending));
        let third = stream.claim(claim(3, t1), SecondPublisher::Reject, DEAD);
        assert!(matches!(third, Verdict::Busy));
        assert!(stream.settle(t1, DEAD).is_none());
    }

    #[test]
    fn a_silent_incumbent_is_replaced_when_its_second_is_over() {
        let t0 = crate::clock::now();
        let mut stream = stream(t0);
        stream.claim(claim(1, t0), SecondPublisher::Reject, DEAD);
        stream.claim(claim(2, t0 + DEAD / 2), SecondPublisher::Reject, DEAD);
        let (winner, deposed) = stream.settle(t0 + DEAD, DEAD).unwrap();
        assert_eq!((winner.conn.index, deposed.unwrap().conn.index), (2, 1));
        assert!(!stream.release(ShardId(0), claim(1, t0).conn, t0), "no longer the publisher");
        assert!(stream.release(ShardId(0), claim(2, t0).conn, t0));
    }

    #[test]
    fn takeover_is_immediate() {
        let t0 = crate::clock::now();
        let mut stream = stream(t0);
        stream.claim(claim(1, t0), SecondPublisher::Takeover, DEAD);
        match stream.claim(claim(2, t0), SecondPublisher::Takeover, DEAD) {
            Verdict::Granted { deposed: Some(deposed) } => assert_eq!(deposed.conn.index, 1),
            other => panic!("{other:?}"),
        }
    }
}
