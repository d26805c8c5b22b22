//! Sample entries: codec, configuration record and what else `stsd` says of a track.

use bytes::Bytes;

use super::boxes::{child, children, full};
use crate::bits::ByteReader;
use crate::codec::{aac, ac3_config, av1, flac, g711, h264, h265, opus};
use crate::media::{AudioInfo, Codec, Track, VideoInfo};

/// Name and body of the first entry of an `stsd`.
pub(super) fn first_entry(stsd: &[u8]) -> Option<([u8; 4], &[u8])> {
    let (_, _, mut reader) = full(stsd)?;
    reader.u32()?;
    children(reader.rest()).next()
}

/// Bytes of `VisualSampleEntry` before its boxes.
const VISUAL_BYTES: usize = 78;
/// Bytes of `AudioSampleEntry` before its boxes.
const SOUND_BYTES: usize = 28;
/// What versions 1 and 2 of the QuickTime sound description append.
const SOUND_EXTRA_BYTES: [usize; 3] = [0, 16, 36];

/// The track of a video entry. `None` for what is not carried, or without a usable record.
pub(super) fn video(name: [u8; 4], entry: &[u8]) -> Option<Track<VideoInfo>> {
    let (fixed, boxes) = entry.split_at_checked(VISUAL_BYTES)?;
    let record = |name| child(boxes, name).map(Bytes::copy_from_slice);
    let (codec, config, info) = match &name {
        b"avc1" | b"avc3" => {
            let config = record(b"avcC")?;
            let info = h264::parse_config(&config).ok()?.info;
            (Codec::H264, config, info)
        }
        b"hvc1" | b"hev1" => {
            let config = record(b"hvcC")?;
            let info = h265::parse_config(&config).ok()?.info;
            (Codec::H265, config, info)
        }
        b"av01" => {
            let config = record(b"av1C")?;
            let info = av1::parse_config(&config).ok()?.info;
            (Codec::Av1, config, info)
        }
        b"vp09" => (Codec::Vp9, record(b"vpcC")?, VideoInfo::default()),
        b"vp08" => (Codec::Vp8, record(b"vpcC").unwrap_or_default(), VideoInfo::default()),
        _ => return None,
    };
    let mut track = Track { codec, config, info };
    if track.info.width == 0 || track.info.height == 0 {
        let mut edges = ByteReader::new(fixed.get(24..)?);
        (track.info.width, track.info.height) = (edges.u16()?.into(), edges.u16()?.into());
    }
    Some(track)
}

/// The track of a sound entry. `None` for what is not carried, or without a usable record.
pub(super) fn audio(name: [u8; 4], entry: &[u8]) -> Option<Track<AudioInfo>> {
    let (fixed, rest) = entry.split_at_checked(SOUND_BYTES)?;
    let mut reader = ByteReader::new(fixed.get(8..)?);
    let version = reader.u16()?;
    reader.bytes(6)?;
    let (channels, bits) = (reader.u16()?, reader.u16()?);
    reader.bytes(4)?;
    let rate = reader.u16()?;
    // ISO files use version 1 as well, for an entry that appends nothing (12.2.3.2).
    let extra_bytes = SOUND_EXTRA_BYTES.get(usize::from(version)).copied().unwrap_or(0);
    let appended = rest.get(extra_bytes..).filter(|boxes| children(boxes).next().is_some());
    let boxes = appended.unwrap_or(rest);
    let small = |value| u8::try_from(value).unwrap_or(0);
    let entry_info =
        AudioInfo { sample_rate: rate.into(), channels: small(channels), sample_bits: small(bits) };
    let record = |name| child(boxes, name).map(Bytes::copy_from_slice);
    let (codec, config, info) = match &name {
        b"mp4a" => return mpeg4(boxes, entry_info),
        b".mp3" => (Codec::Mp3, Bytes::new(), entry_info),
        b"Opus" => {
            let config = opus_header(child(boxes, b"dOps")?)?;
            let info = opus::parse_config(&config).ok()?;
            (Codec::Opus, config.into(), info)
        }
        b"fLaC" => {
            let (_, _, blocks) = full(child(boxes, b"dfLa")?)?;
            let config = flac::header_of_streaminfo(blocks.rest().get(4..38)?)?;
            let info = flac::parse_config(&config).ok()?;
            (Codec::Flac, config.into(), info)
        }
        b"ac-3" => {
            let config = record(b"dac3")?;
            let info = ac3_config::parse_config(Codec::Ac3, &config).ok()?;
            (Codec::Ac3, config, info)
        }
        b"ec-3" => {
            let config = record(b"dec3")?;
            let info = ac3_config::parse_config(Codec::Eac3, &config).ok()?;
            (Codec::Eac3, config, info)
        }
        b"alaw" | b"ulaw" => {
            let codec = if name == *b"alaw" { Codec::G711A } else { Codec::G711U };
            let sample_rate = if rate == 0 { g711::SAMPLE_RATE } else { rate.into() };
            (codec, Bytes::new(), AudioInfo { sample_rate, ..g711::info(small(channels)) })
        }
        _ => return None,
    };
    Some(Track { codec, config, info })
}

/// `mp4a`: what the elementary stream descriptor says it is.
fn mpeg4(boxes: &[u8], entry_info: AudioInfo) -> Option<Track<AudioInfo>> {
    let esds = child(boxes, b"esds").or_else(|| child(child(boxes, b"wave")?, b"esds"))?;
    let (_, _, reader) = full(esds)?;
    let (object_type, specific) = elementary_stream(reader)?;
    match object_type {
        // MPEG-4 audio, and MPEG-2 AAC in three profiles.
        0x40 | 0x66..=0x68 => {
            let config = aac::parse_config(specific).ok()?;
            // Object types of MPEG-4 audio that are no AAC: layers 1 to 3.
            if matches!(config.object_type, 32..=34) {
                let is_layer3 = config.object_type == 34;
                let track = Track { codec: Codec::Mp3, config: Bytes::new(), info: config.info };
                return is_layer3.then_some(track);
            }
            let mut info = config.info;
            if info.channels == 0 {
                info.channels = entry_info.channels;
            }
            Some(Track { codec: Codec::Aac, config: Bytes::copy_from_slice(specific), info })
        }
        0x69 | 0x6b => Some(Track { codec: Codec::Mp3, config: Bytes::new(), info: entry_info }),
        _ => None,
    }
}

/// Object type indication and decoder specific information of an `ES_Descriptor` (ISO/IEC 14496-1
/// 7.2.6.5).
fn elementary_stream(mut reader: ByteReader<'_>) -> Option<(u8, &[u8])> {
    let mut stream = descriptor(&mut reader, 3)?;
    stream.u16()?;
    let flags = stream.u8()?;
    if flags & 0x80 != 0 {
        stream.u16()?;
    }
    if flags & 0x40 != 0 {
        let length = stream.u8()?;
        stream.bytes(length.into())?;
    }
    if flags & 0x20 != 0 {
        stream.u16()?;
    }
    let mut decoder = descriptor(&mut stream, 4)?;
    let object_type = decoder.u8()?;
    decoder.bytes(12)?;
    let specific = descriptor(&mut decoder, 5).map_or(&[][..], |specific| specific.rest());
    Some((object_type, specific))
}

/// The body of the descriptor at the front, if it has this tag.
fn descriptor<'a>(reader: &mut ByteReader<'a>, tag: u8) -> Option<ByteReader<'a>> {
    if reader.u8()? != tag {
        return None;
    }
    let mut length = 0usize;
    // At most four digits (ISO/IEC 14496-1 8.3.3).
    for _ in 0..4 {
        let digit = reader.u8()?;
        length = length << 7 | usize::from(digit & 0x7f);
        if digit & 0x80 == 0 {
            break;
        }
    }
    reader.bytes(length).map(ByteReader::new)
}

/// The identification header a `dOps` stands for (Opus in ISOBMFF 4.3.2): big-endian there,
/// little-endian here.
fn opus_header(dops: &[u8]) -> Option<Vec<u8>> {
    let (fixed, mapping) = dops.split_first_chunk::<11>()?;
    let [version, channels, s0, s1, r0, r1, r2, r3, g0, g1, family] = *fixed;
    if version != 0 {
        return None;
    }
    let mut header = b"OpusHead\x01".to_vec();
    header.extend_from_slice(&[channels, s1, s0, r3, r2, r1, r0, g1, g0, family]);
    header.extend_from_slice(if family == 0 { &[] } else { mapping });
    Some(header)
}
