//! Payload formats: access units to RTP payloads and back, one specification to a file.
//!
//! | module | specification | read | written |
//! | ------ | ------------- | ---- | ------- |
//! | [`h264`] | RFC 6184, modes 0 and 1 | single, STAP-A, FU-A | single, FU-A; STAP-A for parameter sets |
//! | [`h265`] | RFC 7798 without DON | single, AP, FU | single, FU; AP for parameter sets |
//! | [`av1`] | RTP Payload Format for AV1 1.0 | all but several layers | one OBU or a part to a packet |
//! | [`vp8`], [`vp9`] | RFC 7741; RFC 9628 | all; one spatial layer | the least descriptor |
//! | [`aac`] | RFC 3640, AAC modes | several and fragmented access units | one or a fragment |
//! | [`latm`] | RFC 6416, RFC 3016 | configuration in or out of band | |
//! | [`opus`], [`g711`] | RFC 7587; RFC 3551 4.5.14 | all | all |
//! | [`mp3`] | RFC 2250 3.5 | several and fragmented frames | one or a fragment |

pub(super) mod aac;
pub(super) mod av1;
mod av1_sequence;
pub(super) mod g711;
pub(super) mod h264;
pub(super) mod h265;
pub(super) mod latm;
pub(super) mod mp3;
pub(super) mod nal_pictures;
pub(super) mod opus;
pub(super) mod pictures;
pub(super) mod sound;
pub(super) mod vp8;
pub(super) mod vp9;

use bytes::Bytes;

use self::pictures::{PictureFormat, Pictures};
use self::sound::{Sound, SoundFormat};
use super::format::PayloadFormat;
use crate::codec::Reordering;
use crate::media::{AudioInfo, Codec, FrameKind, Track, VideoInfo};

/// A packet in its place in the sequence.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    /// Timestamp, unwrapped.
    pub(super) timestamp: i64,
    pub(super) marker: bool,
    /// Packets before this one are missing.
    pub(super) gap: bool,
    pub(super) payload: Bytes,
}

/// What a depacketizer finds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    /// The video track as it is from the next frame on.
    VideoTrack(Track<VideoInfo>, Reordering),
    /// The audio track as it is from the next frame on.
    AudioTrack(Track<AudioInfo>),
    /// A whole access unit with its presentation time in ticks.
    Frame { timestamp: i64, kind: FrameKind, payload: Bytes },
    /// Pictures are missing before the next frame.
    Gap,
}

/// Why a payload cannot be used. It is dropped and counted; its access unit is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PayloadError {
    #[error("the payload ends before what it announces")]
    Truncated,
    #[error("a fragment without those before it")]
    Fragment,
    #[error("a form of the payload that is not supported")]
    Unsupported,
    #[error("the access unit exceeds its limit")]
    TooLong,
}

/// Appends parts to an access unit if it stays within `bytes_max`.
fn append(parts: &[&[u8]], unit: &mut Vec<u8>, bytes_max: usize) -> Result<(), PayloadError> {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    if unit.len().saturating_add(bytes) > bytes_max {
        return Err(PayloadError::TooLong);
    }
    parts.iter().for_each(|part| unit.extend_from_slice(part));
    Ok(())
}

/// Reads the payloads of one track.
#[derive(Debug)]
pub(super) enum Depacketizer {
    Pictures(Pictures),
    Sound(Sound),
}

impl Depacketizer {
    /// A reader of access units of at most so many bytes; `None` for formats without one.
    pub(super) fn new(format: &PayloadFormat, frame_bytes: usize) -> Option<Self> {
        let pictures = |format: Box<dyn PictureFormat>| {
            Some(Self::Pictures(Pictures::new(format, frame_bytes)))
        };
        let sound = |of: Box<dyn SoundFormat>| Some(Self::Sound(Sound::new(of, frame_bytes)));
        match format.codec {
            Codec::H264 | Codec::H265 => pictures(Box::new(nal_pictures::NalPictures::new(format))),
            Codec::Av1 => pictures(Box::<av1::Av1Pictures>::default()),
            Codec::Vp8 => pictures(Box::<vp8::Vp8Pictures>::default()),
            Codec::Vp9 => pictures(Box::<vp9::Vp9Pictures>::default()),
            Codec::Aac if format.is_latm() => sound(Box::new(latm::LatmSound::new(format))),
            Codec::Aac => sound(Box::new(aac::AacSound::new(format))),
            Codec::Opus => sound(Box::new(opus::OpusSound::new(format))),
            Codec::G711A | Codec::G711U => sound(Box::new(g711::G711Sound::new(format))),
            Codec::Mp3 => sound(Box::new(mp3::Mp3Sound::new(format))),
            _ => None,
        }
    }

    /// Takes the next packet.
    pub(super) fn push(&mut self, packet: &Packet, out: &mut Vec<Found>) {
        match self {
            Self::Pictures(pictures) => pictures.push(packet, out),
            Self::Sound(sound) => sound.push(packet, out),
        }
    }

    /// Nothing more belongs to the access unit that is open.
    pub(super) fn finish(&mut self, out: &mut Vec<Found>) {
        if let Self::Pictures(pictures) = self {
            pictures.finish(out);
        }
    }

    /// Access units of which something arrived and that were not passed on.
    pub(super) fn discarded(&self) -> u64 {
        match self {
            Self::Pictures(pictures) => pictures.discarded,
            Self::Sound(sound) => sound.discarded,
        }
    }

    /// Payloads that made no sense.
    pub(super) fn malformed(&self) -> u64 {
        match self {
            Self::Pictures(pictures) => pictures.malformed,
            Self::Sound(sound) => sound.malformed,
        }
    }

    /// Pictures were dropped, and only a keyframe helps.
    pub(super) fn wants_keyframe(&self) -> bool {
        matches!(self, Self::Pictures(pictures) if pictures.wants_keyframe())
    }

    /// Bytes held.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Pictures(pictures) => pictures.memory_bytes(),
            Self::Sound(sound) => sound.memory_bytes(),
        }
    }
}
