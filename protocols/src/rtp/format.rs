//! How one track travels: what `rtpmap` and `fmtp` of SDP say (RFC 8866 6.6, 6.15).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use bytes::Bytes;

use super::payload::latm;
use crate::codec::{aac, av1, g711, h264, h265, opus, vp};
use crate::media::{AudioInfo, Codec, Track, VideoInfo};
use crate::text::hex;

/// Longest `fmtp` text, and most parameters in it: a profile with many parameter sets takes less.
const FMTP_BYTES_MAX: usize = 8192;
const PARAMETERS_MAX: usize = 64;
/// Longest encoding name repeated in an error.
const NAME_CHARS_MAX: usize = 32;
/// Ticks per second that make sense.
const CLOCK_RATES: std::ops::RangeInclusive<u32> = 1000..=1_000_000;
/// The clock of pictures, and of layer III.
const PICTURE_CLOCK: u32 = 90_000;
/// Channels beyond which no format goes.
const CHANNELS_MAX: u8 = 8;

/// Payload types that this server gives out (RFC 3551 6: 96 to 127 are free).
const H264: u8 = 96;
const AAC: u8 = 97;
const H265: u8 = 98;
const OPUS: u8 = 99;
const AV1: u8 = 100;
const VP8: u8 = 101;
const VP9: u8 = 102;
/// G.711 of other than one channel or 8000 Hz.
const G711: u8 = 103;
/// Static payload types (RFC 3551 table 4).
const PCMU: u8 = 0;
const PCMA: u8 = 8;
const MPA: u8 = 14;

/// Decodes base64 with or without its padding, as senders write either.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Name and value of a format parameter.
pub type Parameter = (Box<str>, Box<str>);

/// Why a description cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Nothing here reads this encoding.
    #[error("encoding {0} is not supported")]
    UnsupportedEncoding(String),
    /// The clock rate makes no sense for the encoding.
    #[error("clock rate {0} makes no sense")]
    ClockRate(u32),
    /// A parameter is missing, has a value that makes no sense, or asks for what is not supported.
    #[error("format parameter {0}")]
    Parameter(&'static str),
    /// The parameters are too many or too long.
    #[error("format parameters exceed their limit")]
    TooLong,
}

/// How one track travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadFormat {
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Codec.
    pub codec: Codec,
    /// Ticks per second of the timestamps.
    pub clock_rate: u32,
    /// Channels as `rtpmap` says them; 0 for video.
    pub channels: u8,
    /// Format parameters in their order, names in lower case.
    pub parameters: Vec<Parameter>,
}

impl PayloadFormat {
    /// From SDP: encoding name in any case, clock rate and channels of `rtpmap` (0 where it names
    /// none), text of `fmtp` behind the payload type ("" for none).
    ///
    /// # Errors
    /// The encoding is not supported, or its parameters are missing or make no sense.
    pub fn from_sdp(
        payload_type: u8,
        encoding: &str,
        clock_rate: u32,
        channels: u8,
        fmtp: &str,
    ) -> Result<Self, FormatError> {
        let latm = encoding.eq_ignore_ascii_case("MP4A-LATM");
        let names = ENCODINGS.iter().find(|(name, _)| encoding.eq_ignore_ascii_case(name));
        let Some(codec) = names.map(|(_, codec)| *codec) else {
            let name = encoding.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX);
            return Err(FormatError::UnsupportedEncoding(name.collect()));
        };
        if !CLOCK_RATES.contains(&clock_rate) {
            return Err(FormatError::ClockRate(clock_rate));
        }
        if channels > CHANNELS_MAX {
            return Err(FormatError::Parameter("channels: more than 8"));
        }
        let channels = if codec.is_video() { 0 } else { channels.max(1) };
        let mut parameters = read_parameters(fmtp)?;
        parameters.retain(|(name, _)| latm || **name != *"cpresent");
        if latm && !parameters.iter().any(|(name, _)| **name == *"cpresent") {
            parameters.push(("cpresent".into(), "1".into()));
        }
        let format = Self { payload_type, codec, clock_rate, channels, parameters };
        format.check()?;
        Ok(format)
    }

    /// A payload type that needs no `rtpmap` (RFC 3551 table 4); `None` for those not supported.
    pub fn from_static(payload_type: u8) -> Option<Self> {
        let (codec, clock_rate) = match payload_type {
            PCMU => (Codec::G711U, g711::SAMPLE_RATE),
            PCMA => (Codec::G711A, g711::SAMPLE_RATE),
            MPA => (Codec::Mp3, PICTURE_CLOCK),
            _ => return None,
        };
        Some(Self { payload_type, codec, clock_rate, channels: 1, parameters: Vec::new() })
    }

    /// How this server sends a video track; `None` when RTP has no format for it here.
    pub fn of_video(track: &Track<VideoInfo>) -> Option<Self> {
        let (payload_type, parameters) = match track.codec {
            Codec::H264 => (H264, h264_parameters(&track.config)?),
            Codec::H265 => (H265, h265_parameters(&track.config)?),
            Codec::Av1 => (AV1, av1_parameters(&track.config)),
            Codec::Vp8 => (VP8, Vec::new()),
            Codec::Vp9 => (VP9, vp9_parameters(&track.config)),
            _ => return None,
        };
        let (codec, clock_rate) = (track.codec, PICTURE_CLOCK);
        Some(Self { payload_type, codec, clock_rate, channels: 0, parameters })
    }

    /// How this server sends an audio track; `None` when RTP has no format for it here.
    pub fn of_audio(track: &Track<AudioInfo>) -> Option<Self> {
        let codec = track.codec;
        let AudioInfo { sample_rate, channels, .. } = track.info;
        let format = |payload_type, clock_rate, channels, parameters| {
            Some(Self { payload_type, codec, clock_rate, channels, parameters })
        };
        match codec {
            Codec::Aac => {
                let info = aac::parse_config(&track.config).ok()?.info;
                let channels = if info.channels > 0 { info.channels } else { channels.max(1) };
                format(AAC, info.sample_rate, channels, aac_parameters(&track.config))
            }
            Codec::Opus => {
                let channels = opus::layout_channels(&track.config)?;
                let stereo = || vec![parameter("sprop-stereo", "1".to_owned())];
                let parameters = match channels {
                    1 => Vec::new(),
                    2 => stereo(),
                    _ => return None,
                };
                // `rtpmap` always says two channels (RFC 7587 7).
                format(OPUS, opus::SAMPLE_RATE, 2, parameters)
            }
            Codec::G711U | Codec::G711A => {
                let rate = if sample_rate > 0 { sample_rate } else { g711::SAMPLE_RATE };
                let channels = channels.max(1);
                let known = if codec == Codec::G711U { PCMU } else { PCMA };
                let usual = (rate, channels) == (g711::SAMPLE_RATE, 1);
                format(if usual { known } else { G711 }, rate, channels, Vec::new())
            }
            Codec::Mp3 => format(MPA, PICTURE_CLOCK, 1, Vec::new()),
            _ => None,
        }
    }

    /// The name in `rtpmap`.
    pub fn encoding_name(&self) -> &'static str {
        if self.is_latm() {
            return "MP4A-LATM";
        }
        ENCODINGS.iter().find(|(_, codec)| *codec == self.codec).map_or("", |(name, _)| name)
    }

    /// The text of `fmtp` behind the payload type; "" for none.
    pub fn fmtp(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.parameters {
            let separator = if text.is_empty() { "" } else { ";" };
            let equals = if value.is_empty() { "" } else { "=" };
            // Writing to a string cannot fail.
            let _ = write!(text, "{separator}{name}{equals}{value}");
        }
        text
    }

    /// The track is video.
    pub fn is_video(&self) -> bool {
        self.codec.is_video()
    }

    /// The value of a format parameter, by its name in lower case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| **known == *name);
        found.map(|(_, value)| &**value)
    }

    /// AAC as LATM rather than as RFC 3640 has it: only the first has this parameter.
    pub(super) fn is_latm(&self) -> bool {
        self.codec == Codec::Aac && self.parameter("cpresent").is_some()
    }

    /// A format parameter that is a number.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.parameter(name)?.parse().ok()
    }

    /// The parameter `config` in hexadecimal digits.
    pub(super) fn hex_config(&self) -> Option<Vec<u8>> {
        let text = self.parameter("config")?.trim_matches('"').as_bytes();
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte = |pair: &[u8]| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        };
        text.chunks(2).map(byte).collect()
    }

    /// The parameter sets that came with the description.
    pub(super) fn parameter_sets(&self) -> Vec<Bytes> {
        let names: &[&str] = match self.codec {
            Codec::H264 => &["sprop-parameter-sets"],
            Codec::H265 => &["sprop-vps", "sprop-sps", "sprop-pps"],
            _ => &[],
        };
        let texts = names.iter().filter_map(|name| self.parameter(name));
        let sets = texts.flat_map(|text| text.split(',').filter_map(decode_base64));
        sets.filter(|set| !set.is_empty()).map(Bytes::from).collect()
    }

    fn check(&self) -> Result<(), FormatError> {
        let wrong = |what| Err(FormatError::Parameter(what));
        let zero = |name| self.parameter(name).is_none_or(|value| value.trim() == "0");
        let broken = |name| {
            let text = self.parameter(name).unwrap_or("");
            text.split(',').filter(|set| !set.is_empty()).any(|set| decode_base64(set).is_none())
        };
        match self.codec {
            Codec::H264
                if !matches!(self.parameter("packetization-mode"), None | Some("0" | "1")) =>
            {
                wrong("packetization-mode: only 0 and 1 are supported")
            }
            Codec::H264 if broken("sprop-parameter-sets") => {
                wrong("sprop-parameter-sets: not base64")
            }
            Codec::H265 if !zero("sprop-max-don-diff") => {
                wrong("sprop-max-don-diff: decoding order numbers are not supported")
            }
            Codec::H265 if ["sprop-vps", "sprop-sps", "sprop-pps"].into_iter().any(broken) => {
                wrong("sprop-vps, sprop-sps or sprop-pps: not base64")
            }
            Codec::Aac if self.is_latm() => self.check_latm(),
            Codec::Aac => self.check_aac(),
            Codec::Opus if self.clock_rate != opus::SAMPLE_RATE => {
                Err(FormatError::ClockRate(self.clock_rate))
            }
            _ => Ok(()),
        }
    }

    fn check_aac(&self) -> Result<(), FormatError> {
        let wrong = |what| Err(FormatError::Parameter(what));
        let config = self.hex_config().unwrap_or_default();
        if aac::parse_config(&config).is_err() {
            return wrong("config: no AudioSpecificConfig");
        }
        if !matches!(self.number("sizelength"), Some(1..=16)) {
            return wrong("sizelength: missing or not from 1 to 16");
        }
        for name in ["indexlength", "indexdeltalength"] {
            if self.parameter(name).is_some() && self.number(name).is_none_or(|bits| bits > 16) {
                return wrong("indexlength or indexdeltalength: not from 0 to 16");
            }
        }
        let unsupported = [
            "ctsdeltalength",
            "dtsdeltalength",
            "randomaccessindication",
            "streamstateindication",
            "auxiliarydatasizelength",
        ];
        if unsupported.into_iter().any(|name| self.parameter(name).is_some_and(|at| at != "0")) {
            return wrong("fields of the AU header that are not supported");
        }
        Ok(())
    }

    fn check_latm(&self) -> Result<(), FormatError> {
        let out_of_band = self.parameter("cpresent") == Some("0");
        if out_of_band && !latm::is_configured(self) {
            return Err(FormatError::Parameter("config: no StreamMuxConfig that is supported"));
        }
        Ok(())
    }
}

/// Names in `rtpmap`; the first of a codec is the one written.
const ENCODINGS: [(&str, Codec); 11] = [
    ("H264", Codec::H264),
    ("H265", Codec::H265),
    ("AV1", Codec::Av1),
    ("VP8", Codec::Vp8),
    ("VP9", Codec::Vp9),
    ("mpeg4-generic", Codec::Aac),
    ("MP4A-LATM", Codec::Aac),
    ("opus", Codec::Opus),
    ("PCMU", Codec::G711U),
    ("PCMA", Codec::G711A),
    ("MPA", Codec::Mp3),
];

/// `name=value` pairs between semicolons.
fn read_parameters(fmtp: &str) -> Result<Vec<Parameter>, FormatError> {
    if fmtp.len() > FMTP_BYTES_MAX {
        return Err(FormatError::TooLong);
    }
    let mut parameters = Vec::new();
    for part in fmtp.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        if parameters.len() >= PARAMETERS_MAX {
            return Err(FormatError::TooLong);
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name = name.trim().to_ascii_lowercase();
        if name.is_empty() {
            return Err(FormatError::Parameter("without a name"));
        }
        parameters.push((name.into(), value.trim().into()));
    }
    Ok(parameters)
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.trim()).ok()
}

fn parameter(name: &str, value: String) -> Parameter {
    (name.into(), value.into())
}

/// RFC 6184 8.1.
fn h264_parameters(config: &[u8]) -> Option<Vec<Parameter>> {
    let sets = h264::parameter_sets(config).ok()?;
    let profile = h264::parse_config(config).ok()?.profile;
    let encoded: Vec<_> =
        sets.sps.iter().chain(&sets.pps).map(|set| STANDARD.encode(set)).collect();
    Some(vec![
        parameter("packetization-mode", "1".to_owned()),
        parameter("sprop-parameter-sets", encoded.join(",")),
        parameter("profile-level-id", hex(&profile).to_ascii_uppercase()),
    ])
}

/// RFC 7798 7.1.
fn h265_parameters(config: &[u8]) -> Option<Vec<Parameter>> {
    let sets = h265::parameter_sets(config).ok()?;
    let of = |nal_type: u8| -> Vec<String> {
        let is = |set: &&&[u8]| set.first().is_some_and(|byte| byte >> 1 & 0x3f == nal_type);
        sets.iter().filter(is).map(|set| STANDARD.encode(set)).collect()
    };
    let named = [("sprop-vps", of(32)), ("sprop-sps", of(33)), ("sprop-pps", of(34))];
    let named = named.into_iter().filter(|(_, sets)| !sets.is_empty());
    Some(named.map(|(name, sets)| parameter(name, sets.join(","))).collect())
}

/// RTP Payload Format For AV1 7.1.
fn av1_parameters(config: &[u8]) -> Vec<Parameter> {
    let Ok(config) = av1::parse_config(config) else { return Vec::new() };
    vec![
        parameter("profile", config.profile.to_string()),
        parameter("level-idx", config.level.to_string()),
        parameter("tier", u8::from(config.high_tier).to_string()),
    ]
}

/// RFC 9628 6.
fn vp9_parameters(config: &[u8]) -> Vec<Parameter> {
    let config = vp::parse_config(config).ok();
    config.into_iter().map(|config| parameter("profile-id", config.profile.to_string())).collect()
}

/// RFC 3640 4.1, `AAC-hbr`.
fn aac_parameters(config: &[u8]) -> Vec<Parameter> {
    let fixed = [
        ("streamtype", "5"),
        ("profile-level-id", "1"),
        ("mode", "AAC-hbr"),
        ("sizelength", "13"),
        ("indexlength", "3"),
        ("indexdeltalength", "3"),
    ];
    let fixed = fixed.into_iter().map(|(name, value)| parameter(name, value.to_owned()));
    fixed.chain([parameter("config", hex(config))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(encoding: &str, rate: u32, fmtp: &str) -> Result<PayloadFormat, FormatError> {
        PayloadFormat::from_sdp(96, encoding, rate, 2, fmtp)
    }

    #[test]
    fn descriptions_of_encoders_are_read() {
        let h264 = "packetization-mode=1; sprop-parameter-sets=Z0LAHtkAoC/5cBEAAAMAAQAAAwAyDxYuSA==,aMuDyyA=; profile-level-id=42C01E";
        let format = from("h264", 90_000, h264).unwrap();
        assert_eq!((format.codec, format.channels, format.is_video()), (Codec::H264, 0, true));
        assert_eq!(format.parameter_sets().len(), 2);
        let aac = "profile-level-id=1;mode=AAC-hbr;sizeLength=13;indexLength=3;indexDeltaLength=3; config=1190";
        let format = from("MPEG4-GENERIC", 48_000, aac).unwrap();
        assert_eq!(format.hex_config(), Some(vec![0x11, 0x90]));
        assert_eq!(
            (format.number("sizelength"), format.encoding_name()),
            (Some(13), "mpeg4-generic")
        );
        let latm = from("MP4A-LATM", 48_000, "cpresent=0;config=400023103fc0").unwrap();
        assert_eq!(latm.encoding_name(), "MP4A-LATM");
        assert_eq!(from("MP4A-LATM", 48_000, "").unwrap().parameter("cpresent"), Some("1"));
        assert_eq!(from("OPUS", 48_000, "sprop-stereo=1").unwrap().encoding_name(), "opus");
    }

    #[test]
    fn descriptions_that_make_no_sense_are_refused() {
        let wrong = |encoding, rate, fmtp| from(encoding, rate, fmtp).unwrap_err();
        assert!(matches!(wrong("L16", 44_100, ""), FormatError::UnsupportedEncoding(_)));
        assert_eq!(wrong("H264", 0, ""), FormatError::ClockRate(0));
        assert_eq!(wrong("H264", u32::MAX, ""), FormatError::ClockRate(u32::MAX));
        assert_eq!(wrong("VP8", 90_000, "=1"), FormatError::Parameter("without a name"));
        assert_eq!(wrong("opus", 44_100, ""), FormatError::ClockRate(44_100));
        let refused = [
            ("H264", "packetization-mode=2"),
            ("H264", "sprop-parameter-sets=Z0L!"),
            ("H265", "sprop-max-don-diff=2"),
            ("H265", "sprop-sps=(no)"),
            ("mpeg4-generic", "sizelength=13"),
            ("mpeg4-generic", "config=1190"),
            ("mpeg4-generic", "config=119;sizelength=13"),
            ("mpeg4-generic", "config=1190;sizelength=99"),
            ("mpeg4-generic", "config=1190;sizelength=13;indexlength=x"),
            ("mpeg4-generic", "config=1190;sizelength=13;ctsdeltalength=2"),
            ("MP4A-LATM", "cpresent=0"),
            ("MP4A-LATM", "cpresent=0;config=zz"),
        ];
        for (encoding, fmtp) in refused {
            assert!(matches!(wrong(encoding, 48_000, fmtp), FormatError::Parameter(_)), "{fmtp}");
        }
        let (many, long) = ("a;".repeat(65), "a".repeat(8193));
        assert_eq!(from("H264", 90_000, &many), Err(FormatError::TooLong));
        assert_eq!(from("H264", 90_000, &long), Err(FormatError::TooLong));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let track = |codec, config: &'static [u8]| {
            let info = AudioInfo { sample_rate: 8000, channels: 1, sample_bits: 16 };
            Track { codec, config: Bytes::from_static(config), info }
        };
        let aac = PayloadFormat::of_audio(&track(Codec::Aac, &[0x12, 0x10])).unwrap();
        assert_eq!((aac.payload_type, aac.clock_rate, aac.channels), (97, 44_100, 2));
        let read = |format: &PayloadFormat| {
            let (name, rate) = (format.encoding_name(), format.clock_rate);
            let (channels, fmtp) = (format.channels, format.fmtp());
            PayloadFormat::from_sdp(format.payload_type, name, rate, channels, &fmtp).unwrap()
        };
        assert_eq!(read(&aac), aac);
        for (codec, payload_type) in [(Codec::G711U, 0), (Codec::G711A, 8), (Codec::Mp3, 14)] {
            let format = PayloadFormat::of_audio(&track(codec, &[])).unwrap();
            assert_eq!(PayloadFormat::from_static(payload_type).as_ref(), Some(&format));
            assert_eq!((read(&format), format.payload_type), (format.clone(), payload_type));
        }
        assert_eq!(PayloadFormat::of_audio(&track(Codec::Speex, &[])), None);
        assert_eq!(PayloadFormat::of_audio(&track(Codec::Aac, &[])), None);
        assert_eq!(PayloadFormat::from_static(3), None);
    }
}
