//! Which tracks which output cannot carry: for the log and the API.

use bytes::Bytes;
use protocols::container::flv::{self, Dialect};
use protocols::container::fmp4::{self, Selection, TrackKind};
use protocols::container::ts;
use protocols::media::{Codec, Frame, FrameKind, Timestamp, Tracks};
use protocols::rtp::sdp;

/// Outputs by what their tracks are packed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// RTMP and FLV.
    Flv,
    /// HTTP-TS and HLS.
    Ts,
    /// HTTP-MP4, low-latency HLS, DASH and recordings.
    Mp4,
    /// RTSP.
    Rtp,
}

impl Output {
    const ALL: [Self; 4] = [Self::Flv, Self::Ts, Self::Mp4, Self::Rtp];

    /// Name in the API and the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flv => "flv",
            Self::Ts => "ts",
            Self::Mp4 => "mp4",
            Self::Rtp => "rtp",
        }
    }

    /// Whether it carries the video and the audio there is.
    #[must_use]
    pub fn carries(self, tracks: &Tracks) -> (bool, bool) {
        match self {
            Self::Flv => (in_flv(tracks, FrameKind::Keyframe), in_flv(tracks, FrameKind::Audio)),
            Self::Ts => {
                let muxer = ts::Muxer::new(tracks);
                (
                    tracks.video.as_ref().is_some_and(|track| muxer.carries(track.codec)),
                    tracks.audio.as_ref().is_some_and(|track| muxer.carries(track.codec)),
                )
            }
            Self::Mp4 => match fmp4::init_segment(tracks, Selection::Both) {
                Ok(init) => (
                    init.carried.contains(TrackKind::Video),
                    init.carried.contains(TrackKind::Audio),
                ),
                Err(_) => (false, false),
            },
            Self::Rtp => {
                let (video, audio) = sdp::formats(tracks);
                (video.is_some(), audio.is_some())
            }
        }
    }
}

/// The codecs of these tracks that an output leaves out.
#[must_use]
pub fn left_out(tracks: &Tracks) -> Vec<(Output, Codec)> {
    let video = tracks.video.as_ref().map(|track| track.codec);
    let audio = tracks.audio.as_ref().map(|track| track.codec);
    let mut found = Vec::new();
    for output in Output::ALL {
        let (carries_video, carries_audio) = output.carries(tracks);
        found.extend(video.filter(|_| !carries_video).map(|codec| (output, codec)));
        found.extend(audio.filter(|_| !carries_audio).map(|codec| (output, codec)));
    }
    found
}

/// FLV decides by the codec alone, when a frame is written.
fn in_flv(tracks: &Tracks, kind: FrameKind) -> bool {
    let frame = Frame { kind, dts: Timestamp::ZERO, composition_offset: 0, payload: Bytes::new() };
    let dialect = Dialect { enhanced: true, legacy_h265_id: 12 };
    flv::frame_head(tracks, &frame, dialect).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocols::media::{AudioInfo, Track, VideoInfo};

    #[test]
    fn each_output_says_what_it_lacks() {
        let tracks = Tracks {
            video: Some(Track {
                codec: Codec::Vp8,
                config: Bytes::new(),
                info: VideoInfo::default(),
            }),
            audio: Some(Track {
                codec: Codec::G711A,
                config: Bytes::new(),
                info: AudioInfo { sample_rate: 8000, channels: 1, sample_bits: 16 },
            }),
            ..Tracks::default()
        };
        let found = left_out(&tracks);
        assert!(found.contains(&(Output::Ts, Codec::Vp8)));
        assert!(found.contains(&(Output::Ts, Codec::G711A)));
        assert!(!found.iter().any(|(output, _)| *output == Output::Rtp), "{found:?}");
        assert!(!found.contains(&(Output::Flv, Codec::G711A)), "{found:?}");
        assert!(left_out(&Tracks::default()).is_empty());
    }
}
