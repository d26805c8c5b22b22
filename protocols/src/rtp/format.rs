//! How one track travels: what rtpmap and fmtp of SDP say.

use crate::media::{AudioInfo, Codec, Track, VideoInfo};

/// An encoding that cannot be carried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsupported encoding {0}")]
pub struct FormatError(pub String);

/// How one track travels: what rtpmap and fmtp of SDP say (RFC 8866 6.6, 6.15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadFormat {
    /// Payload type.
    pub payload_type: u8,
    /// Codec.
    pub codec: Codec,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// Channels; 0 for video.
    pub channels: u8,
    /// fmtp, names lower case, in order.
    pub parameters: Vec<(Box<str>, Box<str>)>,
}

impl PayloadFormat {
    /// From SDP.
    ///
    /// # Errors
    /// Unsupported encoding.
    pub fn from_sdp(
        payload_type: u8,
        encoding: &str,
        clock_rate: u32,
        channels: u8,
        fmtp: &str,
    ) -> Result<Self, FormatError> {
        let codec = match encoding.to_ascii_uppercase().as_str() {
            "H264" => Codec::H264,
            "H265" => Codec::H265,
            "MPEG4-GENERIC" => Codec::Aac,
            "OPUS" => Codec::Opus,
            "PCMU" => Codec::G711U,
            "PCMA" => Codec::G711A,
            _ => return Err(FormatError(encoding.chars().take(32).collect())),
        };
        if clock_rate == 0 {
            return Err(FormatError("clock rate 0".to_owned()));
        }
        let parameters = fmtp
            .split(';')
            .filter_map(|pair| {
                let (name, value) = pair.trim().split_once('=')?;
                Some((name.to_ascii_lowercase().into(), value.into()))
            })
            .collect();
        Ok(Self { payload_type, codec, clock_rate, channels, parameters })
    }

    /// Static payload types of RFC 3551.
    pub fn from_static(payload_type: u8) -> Option<Self> {
        let codec = match payload_type {
            0 => Codec::G711U,
            8 => Codec::G711A,
            _ => return None,
        };
        Some(Self { payload_type, codec, clock_rate: 8000, channels: 1, parameters: Vec::new() })
    }

    /// For sending a video track.
    pub fn of_video(track: &Track<VideoInfo>) -> Option<Self> {
        let payload_type = match track.codec {
            Codec::H264 => 96,
            Codec::H265 => 98,
            _ => return None,
        };
        let parameters = vec![("packetization-mode".into(), "1".into())];
        Some(Self { payload_type, codec: track.codec, clock_rate: 90_000, channels: 0, parameters })
    }

    /// For sending an audio track.
    pub fn of_audio(track: &Track<AudioInfo>) -> Option<Self> {
        match track.codec {
            Codec::G711U => Self::from_static(0),
            Codec::G711A => Self::from_static(8),
            Codec::Aac => {
                Self::from_sdp(97, "mpeg4-generic", track.info.sample_rate, track.info.channels, "")
                    .ok()
            }
            _ => None,
        }
    }

    /// Name in rtpmap.
    pub fn encoding_name(&self) -> &'static str {
        match self.codec {
            Codec::H264 => "H264",
            Codec::H265 => "H265",
            Codec::Aac => "mpeg4-generic",
            Codec::Opus => "opus",
            Codec::G711A => "PCMA",
            _ => "PCMU",
        }
    }

    /// Text of fmtp.
    pub fn fmtp(&self) -> String {
        let pairs: Vec<_> = self.parameters.iter().map(|(n, v)| format!("{n}={v}")).collect();
        pairs.join(";")
    }

    /// Video or audio.
    pub fn is_video(&self) -> bool {
        matches!(self.codec, Codec::H264 | Codec::H265)
    }
}
