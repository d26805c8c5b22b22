//! What crosses between shards: media on the rings, everything else on the control queues.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use protocols::hops::Hops;
use protocols::media::{Frame, StreamKey, Timestamp, Tracks};
use protocols::session::Refusal;

use crate::auth::{Answer, Rules, Target};
use crate::net::resolve::Asker;
use crate::observe::{ShardReport, Topic};
use crate::reload::Reconfigured;
use crate::segment::{Packaging, Snapshot};
use crate::shard::sessions::{SessionQuery, SessionSlice};
use crate::shard::{Kick, Kicked, TunnelHalf};
use crate::stream::PublisherInfo;
use crate::timeshift::Refused;

/// Index of a shard, dense from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// As an array index.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A slot of a table on another shard, with the generation that makes a stale one harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// Index in the table.
    pub index: u32,
    /// Generation of the slot.
    pub generation: u32,
}

/// A frame with the moment this process received it.
#[derive(Debug)]
pub struct Ingested {
    /// The access unit.
    pub frame: Frame,
    /// When its last byte was read from the publisher's socket.
    pub at: Instant,
}

/// One step in the life of a stream, in order.
#[derive(Debug, Clone)]
pub enum MediaItem {
    /// A publisher is there; frames follow after its tracks.
    Online {
        /// Merge window it asked for, in milliseconds.
        merge_ms: Option<u16>,
    },
    /// The tracks, first time or changed.
    Tracks(Arc<Tracks>),
    /// One frame; the allocation is shared by every shard.
    Frame(Arc<Ingested>),
    /// The publisher has gone.
    Offline,
}

/// Where a media message belongs on the receiving shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaTarget {
    /// The stream on its owner shard, from the shard of its publisher.
    Stream(Token),
    /// The mirror on a shard with viewers, from the owner.
    Mirror(Token),
}

/// One message on a media ring.
#[derive(Debug, Clone)]
pub struct MediaMessage {
    /// Addressee.
    pub target: MediaTarget,
    /// What happened.
    pub item: MediaItem,
}

/// What a publisher gets when its owner shard grants the stream.
#[derive(Debug, Clone, Copy)]
pub struct Grant {
    /// The stream on its owner shard.
    pub stream: Token,
    /// Where the timeline goes on when viewers are attached since an earlier publisher.
    pub resume_at: Option<Timestamp>,
}

/// One message on a control queue.
#[derive(Debug)]
pub enum ControlMessage {
    /// A shard has viewers for a stream: feed its mirror.
    Subscribe {
        /// The stream.
        key: StreamKey,
        /// Who asks.
        from: ShardId,
        /// Its mirror.
        mirror: Token,
    },
    /// A shard has no viewers for the stream any more.
    Unsubscribe {
        /// The stream.
        key: StreamKey,
        /// Who asks.
        from: ShardId,
        /// Its mirror.
        mirror: Token,
    },
    /// A connection wants to publish.
    Publish {
        /// The stream.
        key: StreamKey,
        /// Shard of the connection.
        from: ShardId,
        /// The connection there.
        conn: Token,
        /// What the API shows of it.
        info: Arc<PublisherInfo>,
    },
    /// The answer to [`ControlMessage::Publish`].
    PublishAnswer {
        /// The connection that asked.
        conn: Token,
        /// Granted or refused.
        answer: Result<Grant, Refusal>,
    },
    /// A publisher has gone; what it sent before is already on the media ring.
    Unpublish {
        /// The stream on its owner shard.
        stream: Token,
        /// Shard of the connection.
        from: ShardId,
        /// The connection there: a superseded publisher must not end its successor.
        conn: Token,
    },
    /// A connection gives its claim up, granted meanwhile or not.
    Withdraw {
        /// The stream.
        key: StreamKey,
        /// Shard of the connection.
        from: ShardId,
        /// The connection there.
        conn: Token,
    },
    /// Somebody, or nobody, waits for what a connection publishes.
    Watched {
        /// The connection.
        conn: Token,
        /// What it published when this was said: it may publish something else by now.
        stream: Token,
        /// Whether somebody does.
        watched: bool,
    },
    /// End this connection.
    Kick {
        /// The connection.
        conn: Token,
        /// Why.
        refusal: Refusal,
    },
    /// Report counters and streams.
    Ask {
        /// Who asks.
        from: ShardId,
        /// Its question number.
        question: u64,
        /// What about.
        topic: Topic,
    },
    /// The answer to [`ControlMessage::Ask`].
    Answer {
        /// The question number.
        question: u64,
        /// The report.
        report: Box<ShardReport>,
    },
    /// Report some of your sessions.
    AskSessions {
        /// Who asks.
        from: ShardId,
        /// Its question number.
        question: u64,
        /// Which.
        query: Box<SessionQuery>,
    },
    /// The answer to [`ControlMessage::AskSessions`].
    SessionsAnswer {
        /// The question number.
        question: u64,
        /// Some of them.
        slice: Box<SessionSlice>,
    },
    /// A shard has been asked for segments of a stream: make them and keep it posted.
    WantSegments {
        /// The stream.
        key: StreamKey,
        /// Which.
        packaging: Packaging,
        /// Who asks.
        from: ShardId,
    },
    /// It needs no more news.
    DropSegments {
        /// The stream.
        key: StreamKey,
        /// Which.
        packaging: Packaging,
        /// Who asked.
        from: ShardId,
    },
    /// What there is now.
    Segments {
        /// The stream.
        key: StreamKey,
        /// Which.
        packaging: Packaging,
        /// `None`: nobody publishes it.
        snapshot: Option<Arc<Snapshot>>,
    },
    /// A shard has been asked for a stream that is played later than live: begin with it.
    WantShift {
        /// The delayed stream.
        key: StreamKey,
        /// Who asks.
        from: ShardId,
        /// Its question number.
        question: u64,
    },
    /// The answer to [`ControlMessage::WantShift`].
    ShiftAnswer {
        /// The question number.
        question: u64,
        /// It plays, or cannot.
        answer: Result<(), Refused>,
    },
    /// One half of a tunnel of RTSP through HTTP, for the shard its cookie names.
    TunnelHalf(Box<TunnelHalf>),
    /// A shard has a question for the authorisation server.
    AskHook {
        /// The question.
        target: Target,
        /// The rules that it is put by.
        rules: Arc<Rules>,
        /// The answer of a moment ago will do.
        keep: bool,
        /// Who asks.
        from: ShardId,
        /// Its question number.
        id: u64,
    },
    /// It does not wait for the answer any more.
    LeaveHook {
        /// The question.
        target: Target,
        /// Who asked.
        from: ShardId,
        /// Its question number.
        id: u64,
    },
    /// The answer to [`ControlMessage::AskHook`], or from the thread that compares passwords.
    Judged {
        /// The question number.
        id: u64,
        /// What came of it.
        answer: Answer,
        /// It is good until then.
        fresh_until: Option<Instant>,
    },
    /// End these sessions.
    KickSessions {
        /// Which.
        kick: Kick,
        /// Who asks.
        from: ShardId,
        /// Its question number.
        question: u64,
    },
    /// The answer to [`ControlMessage::KickSessions`].
    Kicked {
        /// The question number.
        question: u64,
        /// Those that have ended.
        kicked: Kicked,
    },
    /// Somebody waits for a stream that origins may have.
    WantStream {
        /// The stream.
        key: StreamKey,
        /// Who asks.
        from: ShardId,
        /// Servers of our kind that the request has passed.
        hops: Hops,
    },
    /// No origin has the stream.
    NotFound {
        /// The stream.
        key: StreamKey,
    },
    /// A name has been looked up; from a thread of the resolver.
    Resolved {
        /// What for.
        asker: Asker,
        /// Its attempt.
        attempt: u64,
        /// What was found; nothing if the name is not known.
        addresses: Vec<SocketAddr>,
    },
    /// Go by other files.
    Reconfigure(Arc<Reconfigured>),
    /// Stop: close listeners, tell peers, drain, return.
    Stop,
    /// Fault injection for the supervisor's tests: panic or hang on purpose.
    #[doc(hidden)]
    Fault(Fault),
}

/// See [`ControlMessage::Fault`].
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Panic outside any connection.
    ShardPanic,
    /// Block the shard.
    ShardHang,
}
