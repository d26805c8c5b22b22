//! Which tracks which output cannot carry: for the log and the API.

use bytes::Bytes;
use protocols::container::flv::{self, Dialect};
use protocols::container::fmp4::{self, Selection, TrackKind};
use protocols::container::ts;
use protocols::media::{Codec, Frame, FrameKind, Timestamp, Tracks};
use protocols::rtp::PayloadFormat;

/// Outputs by container: RTMP and FLV; HTTP-TS and HLS; HTTP-MP4, low-latency HLS, DASH and
/// recordings; RTSP.
const OUTPUTS: [&str; 4] = ["flv", "ts", "mp4", "rtp"];

/// The codecs of these tracks that an output leaves out, with the output's name.
#[must_use]
pub fn left_out(tracks: &Tracks) -> Vec<(&'static str, Codec)> {
    let video = tracks.video.as_ref().map(|track| track.codec);
    let audio = tracks.audio.as_ref().map(|track| track.codec);
    let mut found = Vec::new();
    for output in OUTPUTS {
        let (carries_video, carries_audio) = carried(output, tracks);
        found.extend(video.filter(|_| !carries_video).map(|codec| (output, codec)));
        found.extend(audio.filter(|_| !carries_audio).map(|codec| (output, codec)));
    }
    found
}

/// Whether an output carries the video and the audio there is.
fn carried(output: &str, tracks: &Tracks) -> (bool, bool) {
    match output {
        "flv" => (in_flv(tracks, FrameKind::Keyframe), in_flv(tracks, FrameKind::Audio)),
        "ts" => {
            let muxer = ts::Muxer::new(tracks);
            (
                tracks.video.as_ref().is_some_and(|track| muxer.carries(track.codec)),
                tracks.audio.as_ref().is_some_and(|track| muxer.carries(track.codec)),
            )
        }
        "mp4" => match fmp4::init_segment(tracks, Selection::Both) {
            Ok(init) => {
                (init.carried.contains(TrackKind::Video), init.carried.contains(TrackKind::Audio))
            }
            Err(_) => (false, false),
        },
        _ => (
            tracks.video.as_ref().and_then(PayloadFormat::of_video).is_some(),
            tracks.audio.as_ref().and_then(PayloadFormat::of_audio).is_some(),
        ),
    }
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
        assert!(found.contains(&("ts", Codec::Vp8)) && found.contains(&("ts", Codec::G711A)));
        assert!(!found.iter().any(|(output, _)| *output == "rtp"), "{found:?}");
        assert!(!found.contains(&("flv", Codec::G711A)), "{found:?}");
        assert!(left_out(&Tracks::default()).is_empty());
    }
}
