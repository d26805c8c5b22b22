//! Video tag bodies: the legacy header (annex E.4.3.1) and the extended one (Enhanced RTMP v2).

use bytes::Bytes;

use super::FlvError;
use super::extended::{FourCc, Selection, cut, read_prefix};
use crate::bits::ByteReader;
use crate::media::Codec;

pub(super) const FRAME_KEY: u8 = 1;
pub(super) const FRAME_INTER: u8 = 2;
pub(super) const FRAME_DISPOSABLE: u8 = 3;
pub(super) const FRAME_GENERATED_KEY: u8 = 4;
const FRAME_COMMAND: u8 = 5;

pub(super) const CODEC_AVC: u8 = 7;

/// Bit of the first byte: an extended header follows.
pub(super) const EXTENDED: u8 = 0x80;
pub(super) const PACKET_SEQUENCE_START: u8 = 0;
pub(super) const PACKET_CODED_FRAMES: u8 = 1;
const PACKET_SEQUENCE_END: u8 = 2;
pub(super) const PACKET_CODED_FRAMES_X: u8 = 3;
const PACKET_METADATA: u8 = 4;
const PACKET_MPEG2TS_SEQUENCE_START: u8 = 5;
const PACKET_MULTITRACK: u8 = 6;

/// What a video or audio body holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Packet {
    /// Nothing to carry, as intended by the publisher.
    Nothing,
    /// Something this server does not carry.
    Ignored,
    /// A sequence header; may be empty.
    Config(Codec, Bytes),
    /// An access unit.
    Coded {
        codec: Codec,
        /// FLV frame type; 0 for sound.
        frame_type: u8,
        composition_ms: i32,
        /// To add to the timestamp.
        nanos: u32,
        payload: Bytes,
    },
}

/// A parsed body and what else the parser saw.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parsed {
    pub packet: Packet,
    /// Tracks of the body that are not carried.
    pub other_tracks: u64,
}

impl From<Packet> for Parsed {
    fn from(packet: Packet) -> Self {
        Self { packet, other_tracks: 0 }
    }
}

/// Reads a video tag body of at least 2 bytes. `legacy_h265_id` is the unofficial legacy codec id
/// of H.265.
pub(super) fn parse(
    body: Bytes,
    legacy_h265_id: u8,
    selection: &mut Selection,
) -> Result<Parsed, FlvError> {
    let mut reader = ByteReader::new(&body);
    let first = reader.u8().ok_or(FlvError::Truncated)?;
    let frame_type = first >> 4 & 7;
    if first & EXTENDED != 0 {
        return parse_extended(body, first & 0x0f, frame_type, selection);
    }
    if frame_type == FRAME_COMMAND {
        return Ok(Packet::Nothing.into());
    }
    selection.take_default();
    let codec = match first & 0x0f {
        CODEC_AVC => Codec::H264,
        id if id == legacy_h265_id => Codec::H265,
        id @ 2..=6 => {
            let (codec, payload) = (Codec::LegacyVideo(id), cut_head(body, 1));
            let (composition_ms, nanos) = (0, 0);
            return Ok(Packet::Coded { codec, frame_type, composition_ms, nanos, payload }.into());
        }
        id => return Err(FlvError::UnknownVideoCodec(id)),
    };
    let packet_type = reader.u8().ok_or(FlvError::Truncated)?;
    let composition_ms = match (packet_type, reader.i24()) {
        (_, Some(composition_ms)) => composition_ms,
        // Some encoders end a sequence with two bytes only.
        (2, None) => 0,
        (_, None) => return Err(FlvError::Truncated),
    };
    let head_bytes = reader.position();
    let rest = cut_head(body, head_bytes);
    Ok(match packet_type {
        0 => Packet::Config(codec, rest),
        1 => Packet::Coded { codec, frame_type, composition_ms, nanos: 0, payload: rest },
        2 => Packet::Nothing,
        other => return Err(FlvError::UnknownPacketType(other)),
    }
    .into())
}

fn parse_extended(
    body: Bytes,
    packet_type: u8,
    frame_type: u8,
    selection: &mut Selection,
) -> Result<Parsed, FlvError> {
    let mut reader = ByteReader::new(&body);
    reader.u8().ok_or(FlvError::Truncated)?;
    let prefix = read_prefix(&mut reader, packet_type)?;
    if prefix.packet_type != PACKET_METADATA && frame_type == FRAME_COMMAND {
        return Ok(Packet::Nothing.into());
    }
    let selected = selection.read(&mut reader, prefix.packet_type, PACKET_MULTITRACK)?;
    let mut parsed = Parsed { packet: Packet::Nothing, other_tracks: selected.others };
    let Some(part) = selected.part else { return Ok(parsed) };
    let (four_cc, start, end) = (part.four_cc, part.offset, part.offset + part.data.len());
    parsed.packet = match selected.packet_type {
        PACKET_SEQUENCE_START => Packet::Config(codec(four_cc)?, cut(body, start..end)),
        PACKET_CODED_FRAMES | PACKET_CODED_FRAMES_X => {
            let codec = codec(four_cc)?;
            let timed = selected.packet_type == PACKET_CODED_FRAMES
                && matches!(codec, Codec::H264 | Codec::H265);
            let mut inner = ByteReader::new(part.data);
            let composition_ms = if timed { inner.i24().ok_or(FlvError::Truncated)? } else { 0 };
            let start = start + inner.position();
            let payload = cut(body, start..end);
            Packet::Coded { codec, frame_type, composition_ms, nanos: prefix.nanos, payload }
        }
        PACKET_SEQUENCE_END => Packet::Nothing,
        PACKET_METADATA | PACKET_MPEG2TS_SEQUENCE_START => Packet::Ignored,
        other => return Err(FlvError::UnknownPacketType(other)),
    };
    Ok(parsed)
}

fn codec(four_cc: FourCc) -> Result<Codec, FlvError> {
    match &four_cc {
        b"avc1" => Ok(Codec::H264),
        b"hvc1" => Ok(Codec::H265),
        b"av01" => Ok(Codec::Av1),
        b"vp08" => Ok(Codec::Vp8),
        b"vp09" => Ok(Codec::Vp9),
        _ => Err(FlvError::UnknownFourCc(four_cc)),
    }
}

/// A body without its head.
pub(super) fn cut_head(body: Bytes, bytes: usize) -> Bytes {
    let end = body.len();
    cut(body, bytes..end)
}

/// The FourCC of a video codec, if Enhanced RTMP gives it one.
pub(super) fn four_cc(codec: Codec) -> Option<FourCc> {
    match codec {
        Codec::H264 => Some(*b"avc1"),
        Codec::H265 => Some(*b"hvc1"),
        Codec::Av1 => Some(*b"av01"),
        Codec::Vp8 => Some(*b"vp08"),
        Codec::Vp9 => Some(*b"vp09"),
        _ => None,
    }
}
