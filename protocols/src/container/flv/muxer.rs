//! From neutral tracks and frames to the bodies of FLV tags and RTMP messages.

use std::ops::Deref;

use super::{TagType, audio, script, video};
use crate::amf::{self, Value};
use crate::media::{AudioInfo, Codec, Frame, FrameKind, MetaValue, Track, Tracks, VideoInfo};

/// How codecs beyond legacy FLV are written. AV1, VP8, VP9, Opus, FLAC, AC-3 and E-AC-3 have a
/// FourCC form only and take it in every dialect; everything older has its legacy form always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dialect {
    /// H.265 by FourCC (Enhanced RTMP) instead of by legacy codec id.
    pub enhanced: bool,
    /// The unofficial legacy codec id of H.265, usually 12; 4 bits.
    pub legacy_h265_id: u8,
}

/// The bytes of a tag body before the payload; at most 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    bytes: [u8; 16],
    length: u8,
}

impl Head {
    fn push(mut self, bytes: &[u8]) -> Self {
        let start = usize::from(self.length);
        if let Some(space) = self.bytes.get_mut(start..start + bytes.len()) {
            space.copy_from_slice(bytes);
            self.length += bytes.len() as u8;
        }
        self
    }

    fn of(bytes: &[u8]) -> Self {
        Self::default().push(bytes)
    }
}

impl Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// The tag type of a frame and the bytes to put before its payload. `None` when FLV cannot carry
/// it or the tracks do not hold its track.
pub fn frame_head(tracks: &Tracks, frame: &Frame, dialect: Dialect) -> Option<(TagType, Head)> {
    match frame.kind {
        FrameKind::Data => Some((TagType::Script, Head::default())),
        FrameKind::Audio => Some((TagType::Audio, audio_head(tracks.audio.as_ref()?)?)),
        _ => {
            let codec = tracks.video.as_ref()?.codec;
            Some((TagType::Video, video_head(codec, frame, dialect)?))
        }
    }
}

fn audio_head(track: &Track<AudioInfo>) -> Option<Head> {
    if let Some(four_cc) = audio::four_cc(track.codec) {
        let first = audio::FORMAT_EXTENDED << 4 | audio::PACKET_CODED_FRAMES;
        return Some(Head::of(&[first]).push(&four_cc));
    }
    let head = Head::of(&[audio::legacy_byte(track.codec, track.info)?]);
    Some(if track.codec == Codec::Aac { head.push(&[1]) } else { head })
}

fn video_head(codec: Codec, frame: &Frame, dialect: Dialect) -> Option<Head> {
    let frame_type = match frame.kind {
        FrameKind::Keyframe => video::FRAME_KEY,
        // The specification keeps "disposable" for H.263; NAL headers say it for H.264 and H.265.
        FrameKind::Disposable if !matches!(codec, Codec::H264 | Codec::H265) => {
            video::FRAME_DISPOSABLE
        }
        _ => video::FRAME_INTER,
    };
    let high = frame_type << 4;
    // The difference of what both times round to, so that neither drifts.
    let composition_ms = frame.pts().to_millis().saturating_sub(frame.dts.to_millis());
    let [.., a, b, c] = composition_ms.clamp(-0x80_0000, 0x7f_ffff).to_be_bytes();
    match form(codec, dialect)? {
        Form::Legacy(id) => {
            let head = Head::of(&[high | id]);
            let timed = matches!(codec, Codec::H264 | Codec::H265);
            Some(if timed { head.push(&[1, a, b, c]) } else { head })
        }
        Form::Extended(four_cc) => {
            let first = video::EXTENDED | high;
            Some(match codec {
                Codec::H265 if composition_ms == 0 => {
                    Head::of(&[first | video::PACKET_CODED_FRAMES_X]).push(&four_cc)
                }
                Codec::H265 => {
                    Head::of(&[first | video::PACKET_CODED_FRAMES]).push(&four_cc).push(&[a, b, c])
                }
                _ => Head::of(&[first | video::PACKET_CODED_FRAMES]).push(&four_cc),
            })
        }
    }
}

enum Form {
    Legacy(u8),
    Extended([u8; 4]),
}

fn form(codec: Codec, dialect: Dialect) -> Option<Form> {
    match codec {
        Codec::H264 => Some(Form::Legacy(video::CODEC_AVC)),
        Codec::H265 if !dialect.enhanced => Some(Form::Legacy(dialect.legacy_h265_id & 0x0f)),
        Codec::LegacyVideo(id) => Some(Form::Legacy(id & 0x0f)),
        _ => video::four_cc(codec).map(Form::Extended),
    }
}

/// The bodies that go before the first frame and after every change of tracks, in order:
/// `onMetaData` signed with `server`, video sequence header, audio sequence header (each if there
/// is one).
pub fn configuration(tracks: &Tracks, dialect: Dialect, server: &str) -> Vec<(TagType, Vec<u8>)> {
    let mut bodies = vec![(TagType::Script, metadata_body(tracks, dialect, server))];
    if let Some(track) = tracks.video.as_ref().filter(|track| !track.config.is_empty()) {
        let first = video::FRAME_KEY << 4;
        let head = match form(track.codec, dialect) {
            Some(Form::Legacy(id)) => Some(Head::of(&[first | id, 0, 0, 0, 0])),
            Some(Form::Extended(four_cc)) => {
                let first = video::EXTENDED | first | video::PACKET_SEQUENCE_START;
                Some(Head::of(&[first]).push(&four_cc))
            }
            None => None,
        };
        bodies.extend(head.map(|head| (TagType::Video, [&head[..], &track.config[..]].concat())));
    }
    // AC-3 and E-AC-3 have no sequence header: their frames say what their records repeat.
    let headed = |track: &&Track<AudioInfo>| {
        !track.config.is_empty() && !matches!(track.codec, Codec::Ac3 | Codec::Eac3)
    };
    if let Some(track) = tracks.audio.as_ref().filter(headed) {
        let head = match audio::four_cc(track.codec) {
            Some(four_cc) => {
                let first = audio::FORMAT_EXTENDED << 4 | audio::PACKET_SEQUENCE_START;
                Some(Head::of(&[first]).push(&four_cc))
            }
            None if track.codec == Codec::Aac => {
                Some(Head::of(&[audio::FORMAT_AAC << 4 | 0x0f, 0]))
            }
            None => None,
        };
        bodies.extend(head.map(|head| (TagType::Audio, [&head[..], &track.config[..]].concat())));
    }
    bodies
}

/// Names this server writes itself, and those that only make sense in a file.
const OWN_NAMES: [&str; 23] = [
    "width",
    "height",
    "framerate",
    "fps",
    "videocodecid",
    "videodatarate",
    "audiocodecid",
    "audiodatarate",
    "audiosamplerate",
    "audiosamplesize",
    "audiochannels",
    "stereo",
    "server",
    "duration",
    "filesize",
    "keyframes",
    "hasKeyframes",
    "hasVideo",
    "hasAudio",
    "hasMetadata",
    "canSeekToEnd",
    "lasttimestamp",
    "lastkeyframetimestamp",
];

fn metadata_body(tracks: &Tracks, dialect: Dialect, server: &str) -> Vec<u8> {
    let mut properties = Vec::new();
    if let Some(track) = &tracks.video {
        video_properties(track, tracks, dialect, &mut properties);
    }
    if let Some(track) = &tracks.audio {
        audio_properties(track, tracks, &mut properties);
    }
    for (name, value) in &tracks.metadata {
        if !OWN_NAMES.contains(&&**name) {
            let value = match value {
                MetaValue::Number(number) => Value::Number(*number),
                MetaValue::Bool(value) => Value::Bool(*value),
                MetaValue::Text(text) => Value::Text(text.to_string()),
            };
            properties.push((name.to_string(), value));
        }
    }
    properties.push(("server".to_owned(), server.into()));
    let mut body = Vec::with_capacity(512);
    amf::encode(&["onMetaData".into(), Value::EcmaArray(properties)], &mut body);
    body
}

fn push_known(properties: &mut Vec<(String, Value)>, name: &str, number: f64) {
    if number > 0.0 {
        properties.push((name.to_owned(), number.into()));
    }
}

fn video_properties(
    track: &Track<VideoInfo>,
    tracks: &Tracks,
    dialect: Dialect,
    properties: &mut Vec<(String, Value)>,
) {
    push_known(properties, "width", track.info.width.into());
    push_known(properties, "height", track.info.height.into());
    push_known(properties, "framerate", track.info.frame_rate);
    let id = match form(track.codec, dialect) {
        Some(Form::Legacy(id)) => f64::from(id),
        Some(Form::Extended(four_cc)) => f64::from(u32::from_be_bytes(four_cc)),
        None => 0.0,
    };
    push_known(properties, "videocodecid", id);
    let rate = script::positive(&tracks.metadata, "videodatarate").unwrap_or(0.0);
    push_known(properties, "videodatarate", rate);
}

fn audio_properties(
    track: &Track<AudioInfo>,
    tracks: &Tracks,
    properties: &mut Vec<(String, Value)>,
) {
    let four_cc = audio::four_cc(track.codec).map(u32::from_be_bytes).map(f64::from);
    let legacy = || audio::legacy_byte(track.codec, track.info).map(|byte| f64::from(byte >> 4));
    if let Some(id) = four_cc.or_else(legacy) {
        properties.push(("audiocodecid".to_owned(), id.into()));
    }
    let rate = script::positive(&tracks.metadata, "audiodatarate").unwrap_or(0.0);
    push_known(properties, "audiodatarate", rate);
    push_known(properties, "audiosamplerate", track.info.sample_rate.into());
    push_known(properties, "audiosamplesize", track.info.sample_bits.into());
    push_known(properties, "audiochannels", track.info.channels.into());
    if track.info.channels > 0 {
        properties.push(("stereo".to_owned(), (track.info.channels >= 2).into()));
    }
}
