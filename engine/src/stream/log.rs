//! The bounded log of a stream on one shard: everything from the newest join point on.
//!
//! It feeds formats that get their first viewer late and mirrors that are opened late. Viewers
//! themselves read the packaged bytes of a [`super::Wire`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use protocols::media::{FrameKind, Timestamp, Tracks};

use crate::net::sys_heap;
use crate::ring::Ingested;

/// A stream without video can be joined at a frame every so often.
const AUDIO_JOIN_INTERVAL: Duration = Duration::from_millis(500);

/// Of each frame beside its payload: itself with its two counts, and its place in the log.
const FRAME_BYTES: usize = size_of::<Ingested>() + 2 * size_of::<usize>() + size_of::<usize>();

/// Bounds of one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Payload bytes.
    pub bytes: usize,
    /// Media time.
    pub span: Duration,
}

/// Frames from the newest join point on, and the tracks in force.
#[derive(Debug)]
pub struct FrameLog {
    frames: VecDeque<Arc<Ingested>>,
    /// Decode time of the first frame: that has long left the cache when the next one comes.
    begin: Timestamp,
    bytes: usize,
    /// What the allocator has given for all of them.
    held: usize,
    tracks: Arc<Tracks>,
    /// The tracks have pictures: looked up for every sound.
    has_video: bool,
    /// The first frame of the log is a join point. False after an eviction inside a GOP.
    joinable: bool,
    last_join: Option<Timestamp>,
    limits: LogLimits,
    /// GOPs given up because they outgrew the limits.
    pub evicted: u64,
}

impl FrameLog {
    /// An empty log.
    #[must_use]
    pub fn new(limits: LogLimits) -> Self {
        Self {
            frames: VecDeque::new(),
            begin: Timestamp::default(),
            bytes: 0,
            held: 0,
            tracks: Arc::default(),
            has_video: false,
            joinable: false,
            last_join: None,
            limits,
            evicted: 0,
        }
    }

    /// The tracks in force.
    #[must_use]
    pub fn tracks(&self) -> &Arc<Tracks> {
        &self.tracks
    }

    /// Memory of the frames, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held
    }

    /// Frames from the newest join point on; empty when there is none.
    pub fn joinable(&self) -> impl Iterator<Item = &Arc<Ingested>> {
        self.frames.iter().filter(|_| self.joinable)
    }

    /// Replaces the tracks. A new picture configuration makes older frames useless.
    pub fn set_tracks(&mut self, tracks: Arc<Tracks>) {
        if self.tracks.video != tracks.video && self.tracks.video.is_some() {
            self.clear();
        }
        self.has_video = tracks.video.is_some();
        self.tracks = tracks;
    }

    /// Forgets all frames (publisher change); the tracks stay until new ones come.
    pub fn clear(&mut self) {
        self.forget_frames();
        self.last_join = None;
    }

    /// Appends one frame and says whether a viewer can start at it.
    pub fn append(&mut self, frame: Arc<Ingested>) -> bool {
        let join = self.is_join_point(&frame);
        if join {
            self.clear();
            self.joinable = true;
            self.last_join = Some(frame.frame.dts);
        }
        let at = frame.frame.dts;
        if self.frames.is_empty() {
            self.begin = at;
        }
        let payload = frame.frame.payload.len();
        self.bytes += payload;
        self.held += sys_heap::rounded(payload) + FRAME_BYTES;
        self.frames.push_back(frame);
        self.enforce_limits(at);
        join
    }

    /// Whether a viewer can start at a frame that is to come next.
    #[must_use]
    pub fn is_join_point(&self, frame: &Ingested) -> bool {
        match frame.frame.kind {
            FrameKind::Keyframe => true,
            FrameKind::Audio if !self.has_video => match self.last_join {
                Some(last) => frame.frame.dts - last >= AUDIO_JOIN_INTERVAL.as_nanos() as i64,
                None => true,
            },
            FrameKind::Audio | FrameKind::Inter | FrameKind::Disposable | FrameKind::Data => false,
        }
    }

    fn forget_frames(&mut self) {
        self.frames.clear();
        (self.bytes, self.held) = (0, 0);
        self.joinable = false;
    }

    fn enforce_limits(&mut self, newest: Timestamp) {
        let span = newest.saturating_since(self.begin);
        if self.bytes > self.limits.bytes || span > self.limits.span {
            // The GOP alone is over the budget: nobody can start in it. Its rest is still passed
            // on to those who watch; the log begins again at the next join point.
            self.forget_frames();
            self.evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use protocols::media::Frame;

    fn frame(kind: FrameKind, millis: i64, size: usize) -> Arc<Ingested> {
        Arc::new(Ingested {
            frame: Frame {
                kind,
                dts: Timestamp::from_millis(millis),
                composition_offset: 0,
                payload: Bytes::from(vec![0; size]),
            },
            at: crate::clock::now(),
        })
    }

    fn log() -> FrameLog {
        FrameLog::new(LogLimits { bytes: 1000, span: Duration::from_secs(10) })
    }

    fn with_video(log: &mut FrameLog) {
        use protocols::media::{Codec, Track, VideoInfo};
        let video = Track { codec: Codec::H264, config: Bytes::new(), info: VideoInfo::default() };
        log.set_tracks(Tracks { video: Some(video), ..Tracks::default() }.shared());
    }

    #[test]
    fn holds_exactly_the_newest_gop() {
        let mut log = log();
        with_video(&mut log);
        assert!(!log.append(frame(FrameKind::Inter, 0, 10)));
        assert_eq!(log.joinable().count(), 0, "no keyframe yet");
        assert!(log.append(frame(FrameKind::Keyframe, 40, 10)));
        log.append(frame(FrameKind::Audio, 50, 10));
        log.append(frame(FrameKind::Inter, 80, 10));
        assert_eq!(log.joinable().count(), 3);
        assert!(log.append(frame(FrameKind::Keyframe, 120, 10)));
        assert_eq!(log.joinable().count(), 1);
    }

    #[test]
    fn a_gop_over_the_budget_is_given_up_until_the_next_keyframe() {
        let mut log = log();
        with_video(&mut log);
        log.append(frame(FrameKind::Keyframe, 0, 600));
        log.append(frame(FrameKind::Inter, 40, 600));
        assert_eq!((log.joinable().count(), log.evicted), (0, 1));
        log.append(frame(FrameKind::Inter, 80, 10));
        assert_eq!(log.joinable().count(), 0);
        log.append(frame(FrameKind::Keyframe, 120, 10));
        assert_eq!(log.joinable().count(), 1);
    }

    #[test]
    fn sound_alone_can_be_joined_twice_a_second() {
        let mut log = log();
        let joins = (0..50).filter(|n| log.append(frame(FrameKind::Audio, n * 20, 4))).count();
        assert_eq!(joins, 2);
    }
}
