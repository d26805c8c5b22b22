//! When the tracks are announced: once all that are expected are known, or have been waited for.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Item;
use crate::media::{AudioInfo, Frame, Track, Tracks, VideoInfo};

/// Frames are held back this long for a track that has not shown its configuration, so that the
/// first announcement is usually the only one.
const HOLD_MS: i64 = 1000;
/// Bounds on what is held back.
const HOLD_FRAMES_MAX: usize = 256;
const HOLD_BYTES_MAX: usize = 8 << 20;

/// The last step of a demuxer: frames go through here, tracks before them.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    expects_video: bool,
    expects_audio: bool,
    tracks: Tracks,
    dirty: bool,
    announced: Option<Arc<Tracks>>,
    held: VecDeque<Frame>,
    held_bytes: usize,
}

impl Announcer {
    /// What the description of the stream lists, and which of it is not the stream that was there before.
    pub(crate) fn expect(&mut self, video: (bool, bool), audio: (bool, bool)) {
        let (video_new, audio_new);
        ((self.expects_video, video_new), (self.expects_audio, audio_new)) = (video, audio);
        if video_new {
            self.dirty |= self.tracks.video.take().is_some();
        }
        if audio_new {
            self.dirty |= self.tracks.audio.take().is_some();
        }
    }

    /// The video track as it is from the next frame on.
    pub(crate) fn set_video(&mut self, track: Track<VideoInfo>, out: &mut VecDeque<Item>) {
        if self.tracks.video.is_some() {
            self.release(out);
        }
        self.tracks.video = Some(track);
        self.dirty = true;
    }

    /// The audio track as it is from the next frame on.
    pub(crate) fn set_audio(&mut self, track: Track<AudioInfo>, out: &mut VecDeque<Item>) {
        if self.tracks.audio.is_some() {
            self.release(out);
        }
        self.tracks.audio = Some(track);
        self.dirty = true;
    }

    /// Passes a frame of a known track on, or holds it back.
    pub(crate) fn frame(&mut self, frame: Frame, out: &mut VecDeque<Item>) {
        let incomplete = self.expects_video && self.tracks.video.is_none()
            || self.expects_audio && self.tracks.audio.is_none();
        if self.announced.is_none() && incomplete {
            let waited = self.held.front().map_or(0, |first| frame.dts - first.dts);
            self.held_bytes += frame.payload.len();
            self.held.push_back(frame);
            if waited.saturating_abs() >= HOLD_MS * 1_000_000
                || self.held.len() >= HOLD_FRAMES_MAX
                || self.held_bytes >= HOLD_BYTES_MAX
            {
                self.release(out);
            }
            return;
        }
        self.release(out);
        self.announce(out);
        out.push_back(Item::Frame(frame));
    }

    /// Passes on what is held back.
    pub(crate) fn release(&mut self, out: &mut VecDeque<Item>) {
        if self.held.is_empty() {
            return;
        }
        self.announce(out);
        self.held_bytes = 0;
        out.extend(self.held.drain(..).map(Item::Frame));
    }

    /// Bytes held back.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn announce(&mut self, out: &mut VecDeque<Item>) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let same = self.announced.as_ref().is_some_and(|tracks| **tracks == self.tracks);
        if !same {
            let tracks = self.tracks.clone().shared();
            self.announced = Some(Arc::clone(&tracks));
            out.push_back(Item::Tracks(tracks));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{Codec, FrameKind, Timestamp};

    fn audio(channels: u8) -> Track<AudioInfo> {
        let info = AudioInfo { channels, ..AudioInfo::default() };
        Track { codec: Codec::Mp3, config: Bytes::new(), info }
    }

    fn video() -> Track<VideoInfo> {
        Track { codec: Codec::H264, config: Bytes::new(), info: VideoInfo::default() }
    }

    fn frame(kind: FrameKind, ms: i64) -> Frame {
        let dts = Timestamp::from_millis(ms);
        Frame { kind, dts, composition_offset: 0, payload: Bytes::from_static(b"x") }
    }

    /// The items as text: T with the tracks present, A and V with the time.
    fn told(out: &VecDeque<Item>) -> String {
        let text = |item: &Item| match item {
            Item::Tracks(tracks) => {
                format!(
                    "T{}{} ",
                    u8::from(tracks.video.is_some()),
                    u8::from(tracks.audio.is_some())
                )
            }
            Item::Frame(frame) => {
                let letter = if frame.kind == FrameKind::Audio { 'A' } else { 'V' };
                format!("{letter}{} ", frame.dts.to_millis())
            }
        };
        out.iter().map(text).collect()
    }

    #[test]
    fn frames_wait_for_the_other_track_but_not_for_ever() {
        let (mut announcer, mut out) = (Announcer::default(), VecDeque::new());
        announcer.expect((true, true), (true, true));
        announcer.set_audio(audio(1), &mut out);
        announcer.frame(frame(FrameKind::Audio, 0), &mut out);
        announcer.frame(frame(FrameKind::Audio, 999), &mut out);
        assert_eq!(told(&out), "");
        let mut late = Announcer::default();
        std::mem::swap(&mut late, &mut announcer);
        late.frame(frame(FrameKind::Audio, 1000), &mut out);
        assert_eq!(told(&out), "T01 A0 A999 A1000 ");
        late.set_video(video(), &mut out);
        late.frame(frame(FrameKind::Keyframe, 5), &mut out);
        assert_eq!(told(&out), "T01 A0 A999 A1000 T11 V5 ");

        out.clear();
        announcer.expect((true, true), (true, true));
        announcer.set_audio(audio(1), &mut out);
        announcer.frame(frame(FrameKind::Audio, 0), &mut out);
        announcer.set_video(video(), &mut out);
        announcer.frame(frame(FrameKind::Keyframe, 5), &mut out);
        assert_eq!(told(&out), "T11 A0 V5 ");
    }

    #[test]
    fn changes_come_before_their_first_frame() {
        let (mut announcer, mut out) = (Announcer::default(), VecDeque::new());
        announcer.expect((true, true), (true, true));
        announcer.set_audio(audio(1), &mut out);
        announcer.frame(frame(FrameKind::Audio, 0), &mut out);
        // What is held belongs to the track as it was.
        announcer.set_audio(audio(2), &mut out);
        assert_eq!(told(&out), "T01 A0 ");
        announcer.frame(frame(FrameKind::Audio, 1), &mut out);
        announcer.set_audio(audio(2), &mut out);
        announcer.frame(frame(FrameKind::Audio, 2), &mut out);
        assert_eq!(told(&out), "T01 A0 T01 A1 A2 ");
        announcer.set_video(video(), &mut out);
        announcer.expect((false, true), (true, false));
        announcer.frame(frame(FrameKind::Audio, 3), &mut out);
        assert_eq!(told(&out), "T01 A0 T01 A1 A2 A3 ");
        announcer.release(&mut out);
        assert_eq!(out.len(), 6);
    }
}
