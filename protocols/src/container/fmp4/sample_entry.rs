//! Sample entries: what `stsd` says of a track's codec.

use bytes::BufMut;

use super::TrackKind;
use super::boxes::{put_u16s, put_u32s, write_box, write_full_box, write_plain};
use super::init::Reason;
use crate::codec::{ConfigError, aac, ac3_config, av1, flac, h264, h265, opus, vp};
use crate::media::{AudioInfo, Codec, Track, VideoInfo};

/// A sample entry and what the boxes around it need to know.
#[derive(Debug)]
pub(super) struct SampleEntry {
    pub(super) track: TrackKind,
    pub(super) timescale: u32,
    /// Pixels; 0 for sound.
    pub(super) width: u16,
    /// Pixels; 0 for sound.
    pub(super) height: u16,
    pub(super) name: [u8; 4],
    /// The entry without size and name.
    pub(super) body: Vec<u8>,
}

pub(super) fn video(track: &Track<VideoInfo>, timescale: u32) -> Result<SampleEntry, Reason> {
    let record = &track.config[..];
    if record.is_empty()
        && matches!(track.codec, Codec::H264 | Codec::H265 | Codec::Av1 | Codec::Vp9)
    {
        return Err(Reason::NoConfig);
    }
    let vp_default = vp::build_config(0, 10);
    let (name, config_name, record, version_1) = match track.codec {
        Codec::H264 => {
            h264::parse_config(record)?;
            (*b"avc1", b"avcC", record, false)
        }
        Codec::H265 => {
            h265::parse_config(record)?;
            // Without parameter sets in the record they come in band, which has its own name.
            let name = if record.get(22) == Some(&0) { *b"hev1" } else { *b"hvc1" };
            (name, b"hvcC", record, false)
        }
        Codec::Av1 => {
            av1::parse_config(record)?;
            (*b"av01", b"av1C", record, false)
        }
        Codec::Vp8 if record.is_empty() => (*b"vp08", b"vpcC", &vp_default[..], true),
        Codec::Vp8 | Codec::Vp9 => {
            vp::parse_config(record)?;
            let name = if track.codec == Codec::Vp8 { *b"vp08" } else { *b"vp09" };
            (name, b"vpcC", vp::record(record), true)
        }
        _ => return Err(Reason::Codec),
    };
    let edge = |pixels| u16::try_from(pixels).unwrap_or(u16::MAX);
    let (width, height) = (edge(track.info.width), edge(track.info.height));
    let mut body = Vec::with_capacity(96 + record.len());
    write_visual(&mut body, width, height);
    if version_1 {
        write_full_box(&mut body, config_name, 1, 0, |out| out.put_slice(record));
    } else {
        write_box(&mut body, config_name, |out| out.put_slice(record));
    }
    Ok(SampleEntry { track: TrackKind::Video, timescale, width, height, name, body })
}

/// The fields of `VisualSampleEntry` (12.1.3.2).
fn write_visual(out: &mut Vec<u8>, width: u16, height: u16) {
    out.put_bytes(0, 6);
    out.put_u16(1);
    out.put_bytes(0, 16);
    put_u16s(out, &[width, height]);
    // 72 dots per inch both ways, one frame per sample, no compressor name, depth 24.
    put_u32s(out, &[0x0048_0000, 0x0048_0000, 0]);
    out.put_u16(1);
    out.put_bytes(0, 32);
    put_u16s(out, &[0x0018, 0xffff]);
}

pub(super) fn audio(track: &Track<AudioInfo>, timescale: u32) -> Result<SampleEntry, Reason> {
    let record = &track.config[..];
    if record.is_empty()
        && matches!(track.codec, Codec::Aac | Codec::Flac | Codec::Ac3 | Codec::Eac3)
    {
        return Err(Reason::NoConfig);
    }
    let mut info = track.info;
    let mut config = Vec::with_capacity(64);
    let name = match track.codec {
        Codec::Aac => {
            // Object types of MPEG-4 audio that are layers 1 to 3, not AAC.
            if matches!(aac::parse_config(record)?.object_type, 32..=34) {
                return Err(ConfigError::Forbidden.into());
            }
            write_esds(&mut config, OBJECT_AAC, record);
            *b"mp4a"
        }
        Codec::Mp3 => {
            let object =
                if info.sample_rate >= 32_000 { OBJECT_MP3_MPEG1 } else { OBJECT_MP3_MPEG2 };
            write_esds(&mut config, object, &[]);
            *b"mp4a"
        }
        Codec::Opus => {
            write_opus(&mut config, record, info.channels)?;
            *b"Opus"
        }
        Codec::Flac => {
            flac::parse_config(record)?;
            // The one mandatory metadata block, marked as the last.
            let block = flac::streaminfo(record).into_iter().flatten().copied();
            let blocks: Vec<u8> = [0x80, 0, 0, 34].into_iter().chain(block).collect();
            write_plain(&mut config, b"dfLa", &blocks);
            *b"fLaC"
        }
        Codec::Ac3 => {
            info = ac3_config::parse_config(Codec::Ac3, record)?;
            write_box(&mut config, b"dac3", |out| out.put_slice(record));
            *b"ac-3"
        }
        Codec::Eac3 => {
            info = ac3_config::parse_config(Codec::Eac3, record)?;
            write_box(&mut config, b"dec3", |out| out.put_slice(record));
            *b"ec-3"
        }
        Codec::G711A => *b"alaw",
        Codec::G711U => *b"ulaw",
        _ => return Err(Reason::Codec),
    };
    if track.info.sample_rate == 0 {
        return Err(Reason::NoSampleRate);
    }
    let mut body = Vec::with_capacity(28 + config.len());
    write_sound(&mut body, info, if track.codec == Codec::Flac { info.sample_bits } else { 16 });
    body.extend_from_slice(&config);
    let track = TrackKind::Audio;
    Ok(SampleEntry { track, timescale, width: 0, height: 0, name, body })
}

/// The fields of `AudioSampleEntry` (12.2.3.2).
fn write_sound(out: &mut Vec<u8>, info: AudioInfo, sample_bits: u8) {
    out.put_bytes(0, 6);
    out.put_u16(1);
    out.put_bytes(0, 8);
    let channels = if info.channels == 0 { 2 } else { info.channels };
    put_u16s(out, &[channels.into(), sample_bits.into(), 0, 0]);
    // 16.16; a rate beyond that is told by the codec's own record alone.
    out.put_u32(u16::try_from(info.sample_rate).map_or(0, u32::from) << 16);
}

// Object type indications of ISO/IEC 14496-1 (registered by MPEG-4 RA).
const OBJECT_AAC: u8 = 0x40;
const OBJECT_MP3_MPEG2: u8 = 0x69;
const OBJECT_MP3_MPEG1: u8 = 0x6b;

/// `esds`: an elementary stream descriptor (ISO/IEC 14496-1 7.2.6.5) around `specific`.
fn write_esds(out: &mut Vec<u8>, object_type: u8, specific: &[u8]) {
    let [es, decoder_config, decoder_specific, sync_layer] = [3, 4, 5, 6];
    // Audio stream, upstream no, reserved bit set; buffer size and bit rates not known.
    let mut decoder = vec![object_type, 5 << 2 | 1];
    decoder.put_bytes(0, 3 + 4 + 4);
    if !specific.is_empty() {
        write_descriptor(&mut decoder, decoder_specific, specific);
    }
    // No stream number: files use 0 (ISO/IEC 14496-14 3.1.2).
    let mut stream = vec![0, 0, 0];
    write_descriptor(&mut stream, decoder_config, &decoder);
    write_descriptor(&mut stream, sync_layer, &[2]);
    write_full_box(out, b"esds", 0, 0, |out| write_descriptor(out, es, &stream));
}

/// A tag, a length in base 128, a body (ISO/IEC 14496-1 8.3.3).
fn write_descriptor(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    for shift in [21, 14, 7] {
        let digit = (body.len() >> shift) as u8 & 0x7f;
        if body.len() >> shift != 0 {
            out.push(0x80 | digit);
        }
    }
    out.push(body.len() as u8 & 0x7f);
    out.extend_from_slice(body);
}

/// `dOps` from an identification header; without one, that of a mono or stereo stream whose
/// encoder's delay is not known.
fn write_opus(out: &mut Vec<u8>, header: &[u8], channels: u8) -> Result<(), Reason> {
    let channels = if channels == 0 { 2 } else { channels };
    if header.is_empty() && channels > 2 {
        return Err(Reason::NoConfig);
    }
    let built = opus::build_config(channels, 0, opus::SAMPLE_RATE);
    let header = if header.is_empty() { &built[..] } else { header };
    opus::parse_config(header)?;
    let Some(([.., channels, skip_low, skip_high, r0, r1, r2, r3, g0, g1, family], mapping)) =
        header.split_first_chunk::<19>()
    else {
        return Err(Reason::NoConfig);
    };
    // Little-endian there, big-endian here (Opus in ISOBMFF 4.3.2).
    write_box(out, b"dOps", |out| {
        out.put_slice(&[0, *channels, *skip_high, *skip_low, *r3, *r2, *r1, *r0, *g1, *g0]);
        out.push(*family);
        if *family != 0 {
            out.put_slice(mapping);
        }
    });
    Ok(())
}
