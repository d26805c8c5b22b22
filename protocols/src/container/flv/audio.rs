//! Audio tag bodies: the legacy header (annex E.4.2.1) and the extended one (Enhanced RTMP v2).

use bytes::Bytes;

use super::FlvError;
use super::extended::{FourCc, Selection, cut, read_prefix};
use super::video::{Packet, Parsed, cut_head};
use crate::bits::ByteReader;
use crate::codec::g711;
use crate::media::{AudioInfo, Codec};

const FORMAT_MP3: u8 = 2;
const FORMAT_G711_A: u8 = 7;
const FORMAT_G711_U: u8 = 8;
pub(super) const FORMAT_EXTENDED: u8 = 9;
pub(super) const FORMAT_AAC: u8 = 10;
const FORMAT_SPEEX: u8 = 11;
const FORMAT_MP3_8K: u8 = 14;

pub(super) const PACKET_SEQUENCE_START: u8 = 0;
pub(super) const PACKET_CODED_FRAMES: u8 = 1;
const PACKET_SEQUENCE_END: u8 = 2;
const PACKET_MULTICHANNEL_CONFIG: u8 = 4;
const PACKET_MULTITRACK: u8 = 5;

/// Reads an audio tag body of at least 2 bytes.
pub(super) fn parse(body: Bytes, selection: &mut Selection) -> Result<Parsed, FlvError> {
    let mut reader = ByteReader::new(&body);
    let first = reader.u8().ok_or(FlvError::Truncated)?;
    if first >> 4 == FORMAT_EXTENDED {
        return parse_extended(body, first & 0x0f, selection);
    }
    selection.take_default();
    let codec = match first >> 4 {
        FORMAT_AAC => {
            let packet_type = reader.u8().ok_or(FlvError::Truncated)?;
            let rest = cut_head(body, 2);
            return Ok(match packet_type {
                0 => Packet::Config(Codec::Aac, rest),
                1 => coded(Codec::Aac, 0, rest),
                other => return Err(FlvError::UnknownPacketType(other)),
            }
            .into());
        }
        FORMAT_MP3 | FORMAT_MP3_8K => Codec::Mp3,
        FORMAT_G711_A => Codec::G711A,
        FORMAT_G711_U => Codec::G711U,
        FORMAT_SPEEX => Codec::Speex,
        format @ (12 | 13) => return Err(FlvError::UnknownSoundFormat(format)),
        _ => Codec::LegacyAudio(first),
    };
    Ok(coded(codec, 0, cut_head(body, 1)).into())
}

fn coded(codec: Codec, nanos: u32, payload: Bytes) -> Packet {
    Packet::Coded { codec, frame_type: 0, composition_ms: 0, nanos, payload }
}

fn parse_extended(
    body: Bytes,
    packet_type: u8,
    selection: &mut Selection,
) -> Result<Parsed, FlvError> {
    let mut reader = ByteReader::new(&body);
    reader.u8().ok_or(FlvError::Truncated)?;
    let prefix = read_prefix(&mut reader, packet_type)?;
    let selected = selection.read(&mut reader, prefix.packet_type, PACKET_MULTITRACK)?;
    let mut parsed = Parsed { packet: Packet::Nothing, other_tracks: selected.others };
    let Some(part) = selected.part else { return Ok(parsed) };
    let (four_cc, range) = (part.four_cc, part.offset..part.offset + part.data.len());
    parsed.packet = match selected.packet_type {
        PACKET_SEQUENCE_START => Packet::Config(codec(four_cc)?, cut(body, range)),
        PACKET_CODED_FRAMES => coded(codec(four_cc)?, prefix.nanos, cut(body, range)),
        PACKET_SEQUENCE_END => Packet::Nothing,
        PACKET_MULTICHANNEL_CONFIG => Packet::Ignored,
        other => return Err(FlvError::UnknownPacketType(other)),
    };
    Ok(parsed)
}

fn codec(four_cc: FourCc) -> Result<Codec, FlvError> {
    match &four_cc {
        b"Opus" => Ok(Codec::Opus),
        b"fLaC" => Ok(Codec::Flac),
        b"ac-3" => Ok(Codec::Ac3),
        b"ec-3" => Ok(Codec::Eac3),
        b".mp3" => Ok(Codec::Mp3),
        b"mp4a" => Ok(Codec::Aac),
        _ => Err(FlvError::UnknownFourCc(four_cc)),
    }
}

/// The FourCC of an audio codec that has no legacy form.
pub(super) fn four_cc(codec: Codec) -> Option<FourCc> {
    match codec {
        Codec::Opus => Some(*b"Opus"),
        Codec::Flac => Some(*b"fLaC"),
        Codec::Ac3 => Some(*b"ac-3"),
        Codec::Eac3 => Some(*b"ec-3"),
        _ => None,
    }
}

/// What the first byte of a legacy body says of a codec without sequence header.
pub(super) fn legacy_info(codec: Codec, first: u8) -> AudioInfo {
    let channels = 1 + (first & 1);
    match codec {
        Codec::G711A | Codec::G711U => g711::info(channels),
        Codec::Speex => AudioInfo { sample_rate: 16_000, channels: 1, sample_bits: 16 },
        _ => {
            let sample_rate = match (first >> 4, first >> 2 & 3) {
                (4, _) => 16_000,
                (5 | FORMAT_MP3_8K, _) => 8000,
                (_, 0) => 5512,
                (_, rate) => 11_025 << (rate - 1),
            };
            let sample_bits = if first & 2 == 0 { 8 } else { 16 };
            AudioInfo { sample_rate, channels, sample_bits }
        }
    }
}

/// The first byte of a legacy body; `None` for a codec that has no legacy form.
pub(super) fn legacy_byte(codec: Codec, info: AudioInfo) -> Option<u8> {
    const BITS_16: u8 = 2;
    let stereo = u8::from(info.channels >= 2);
    match codec {
        // Fixed by E.4.2.1 whatever the stream holds.
        Codec::Aac => Some(FORMAT_AAC << 4 | 0x0f),
        Codec::Mp3 => {
            let (format, rate) = match info.sample_rate {
                8000 => (FORMAT_MP3_8K, 0),
                11_025 => (FORMAT_MP3, 1),
                22_050 => (FORMAT_MP3, 2),
                _ => (FORMAT_MP3, 3),
            };
            Some(format << 4 | rate << 2 | BITS_16 | stereo)
        }
        Codec::G711A => Some(FORMAT_G711_A << 4 | BITS_16 | stereo),
        Codec::G711U => Some(FORMAT_G711_U << 4 | BITS_16 | stereo),
        Codec::Speex => Some(FORMAT_SPEEX << 4 | BITS_16),
        Codec::LegacyAudio(first) => Some(first),
        _ => None,
    }
}
