//! Frame → bytes of one format, with what the format must remember from frame to frame. One per
//! wire: its viewers share every byte, so they share the counters of a transport stream and the
//! numbers of fragments too.

use bytes::Bytes;
use protocols::container::fmp4::{self, FragmentBuilder, Selection, TrackKind};
use protocols::container::ts;
use protocols::media::{Frame, FrameKind, Tracks};
use protocols::rtp;

use super::carriage::Output;
use super::format::{Container, Format, PackagerOptions};

/// See the module text.
#[derive(Debug)]
pub struct Packager {
    format: Format,
    /// Those in force when it was made: what has begun one way goes on so.
    options: PackagerOptions,
    state: State,
}

#[derive(Debug)]
enum State {
    /// FLV and RTMP: a frame says everything.
    Stateless,
    Ts(Box<ts::Muxer>),
    Fmp4(Box<Fragments>),
    Rtp(Box<rtp::Sender>),
}

impl Packager {
    /// For tracks that are live now.
    #[must_use]
    pub fn new(format: Format, tracks: &Tracks, options: PackagerOptions) -> Self {
        let state = match format.container {
            Container::Rtmp { .. } | Container::Flv => State::Stateless,
            Container::Ts => State::Ts(Box::new(ts::Muxer::new(tracks))),
            Container::Fmp4 => State::Fmp4(Box::new(Fragments::new(tracks))),
            Container::Rtp { channels, .. } => State::Rtp(Box::new(rtp::Sender::new(
                options.rtp_seed,
                options.ntp_at_zero,
                tracks,
                channels,
                options.rtp_packet_bytes,
            ))),
        };
        Self { format, options, state }
    }

    /// A frame is written when the next one of its track comes, whose time its duration needs: a
    /// join point begins behind what appending its frame has written, not before.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        matches!(self.state, State::Fmp4(_))
    }

    /// Pictures nobody depends on can be left out without a trace.
    #[must_use]
    pub fn may_thin(&self) -> bool {
        matches!(self.state, State::Stateless)
    }

    /// What a viewer gets before its first frame.
    #[must_use]
    pub fn joining(&self, tracks: &Tracks, millis: u32) -> Vec<u8> {
        let mut bytes = self.format.preamble(tracks);
        self.catch_up(tracks, millis, &mut bytes);
        bytes
    }

    /// What a viewer gets that has missed a change of the tracks.
    pub fn catch_up(&self, tracks: &Tracks, millis: u32, out: &mut Vec<u8>) {
        match &self.state {
            State::Stateless => self.format.write_configuration(tracks, millis, self.options, out),
            // Tables stand before every keyframe.
            // So do parameter sets; the rest has been described.
            State::Ts(_) | State::Rtp(_) => {}
            State::Fmp4(fragments) => out.extend_from_slice(&fragments.init),
        }
    }

    /// The tracks have changed: what everybody who watches gets. False when those who watch can not
    /// be told and have to come again.
    pub fn configure(&mut self, tracks: &Tracks, millis: u32, out: &mut Vec<u8>) -> bool {
        match &mut self.state {
            State::Stateless => self.format.write_configuration(tracks, millis, self.options, out),
            State::Ts(muxer) => muxer.set_tracks(tracks),
            State::Rtp(sender) => return sender.set_tracks(tracks),
            State::Fmp4(fragments) => {
                fragments.finish(out);
                **fragments = Fragments {
                    sequence_number: fragments.sequence_number,
                    ..Fragments::new(tracks)
                };
                out.extend_from_slice(&fragments.init);
            }
        }
        true
    }

    /// Takes one frame; false when this format does not carry it.
    pub fn frame(&mut self, tracks: &Tracks, frame: &Frame, out: &mut Vec<u8>) -> bool {
        match &mut self.state {
            State::Stateless => self.format.write_frame(tracks, frame, self.options, out),
            State::Ts(muxer) => {
                let start = out.len();
                if muxer.tables_due(frame) {
                    muxer.write_tables(out);
                }
                let written = muxer.write_frame(frame, out);
                if !written {
                    out.truncate(start);
                }
                written
            }
            State::Fmp4(fragments) => fragments.push(frame, out),
            State::Rtp(sender) => sender.write_frame(frame, out),
        }
    }

    /// What makes RTP packets, if that is what this makes.
    #[must_use]
    pub fn rtp(&self) -> Option<&rtp::Sender> {
        match &self.state {
            State::Rtp(sender) => Some(sender),
            State::Stateless | State::Ts(_) | State::Fmp4(_) => None,
        }
    }
}

impl Format {
    /// This format carries something of these tracks.
    #[must_use]
    pub fn carries(self, tracks: &Tracks) -> bool {
        let output = self.container.output();
        let (video, audio) = output.carries(tracks);
        // Metadata too are something.
        output == Output::Flv || (self.video && video) || (self.audio && audio)
    }
}

/// A continuous fragmented MP4: one fragment per frame.
#[derive(Debug)]
struct Fragments {
    init: Bytes,
    video: Option<FragmentBuilder>,
    audio: Option<FragmentBuilder>,
    sequence_number: u32,
}

impl Fragments {
    fn new(tracks: &Tracks) -> Self {
        let (init, carried) = match fmp4::init_segment(tracks, Selection::Both) {
            Ok(init) => (init.bytes, Some(init.carried)),
            Err(_) => (Bytes::new(), None),
        };
        let carries = |kind| carried.is_some_and(|carried| carried.contains(kind));
        let video = tracks.video.as_ref().filter(|_| carries(TrackKind::Video));
        let audio = tracks.audio.as_ref().filter(|_| carries(TrackKind::Audio));
        Self {
            init,
            video: video.map(FragmentBuilder::video),
            audio: audio.map(FragmentBuilder::audio),
            sequence_number: 1,
        }
    }

    fn push(&mut self, frame: &Frame, out: &mut Vec<u8>) -> bool {
        let builder = match frame.kind {
            FrameKind::Audio => &mut self.audio,
            FrameKind::Data => return false,
            FrameKind::Keyframe | FrameKind::Inter | FrameKind::Disposable => &mut self.video,
        };
        let Some(builder) = builder else { return false };
        builder.push(frame);
        if builder.cut(out, self.sequence_number, None).is_some() {
            self.sequence_number = self.sequence_number.wrapping_add(1);
        }
        true
    }

    /// Writes what is held back.
    fn finish(&mut self, out: &mut Vec<u8>) {
        for builder in [&mut self.video, &mut self.audio].into_iter().flatten() {
            if builder.finish(None, out, self.sequence_number, None).is_some() {
                self.sequence_number = self.sequence_number.wrapping_add(1);
            }
        }
    }
}
