//! AC-3 and E-AC-3: the records ISO files keep of a sync frame's header (ETSI TS 102 366).

use super::ConfigError;
use crate::bits::BitReader;
use crate::media::{AudioInfo, Codec};

const SYNC_WORD: u32 = 0x0b77;
const RATES: [u32; 3] = [48_000, 44_100, 32_000];
/// Kilobits per second of AC-3 by half of `frmsizecod` (table 4.13).
const AC3_KILOBITS: [u32; 19] =
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];
/// Samples of one channel in an audio block; a frame has up to six.
const BLOCK_SAMPLES: u32 = 256;

/// Samples of one channel in every frame of AC-3.
pub const AC3_FRAME_SAMPLES: u32 = 6 * BLOCK_SAMPLES;
/// Most sync frames of an access unit looked at: 8 substreams, each of up to six frames.
const FRAMES_MAX: usize = 48;

/// What a sync frame says of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// [`Codec::Ac3`] or [`Codec::Eac3`].
    pub codec: Codec,
    /// Rate and channels.
    pub info: AudioInfo,
    /// Samples of one channel in the frame.
    pub frame_samples: u32,
    /// Bytes of the frame.
    pub frame_bytes: u32,
    /// Number of the independent substream; 0 in AC-3.
    substream: u32,
    fields: Fields,
}

/// The fields both kinds of record copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fields {
    rate_code: u32,
    stream_id: u32,
    mode: u32,
    channel_mode: u32,
    low_frequency: u32,
    /// AC-3: the code; E-AC-3: kilobits per second.
    bit_rate: u32,
}

/// Reads the header of the sync frame at the front of `frame` (4.4.1, E.1.3.1). `None` when there
/// is none, or it begins with a dependent substream, or with a code that is reserved.
pub fn parse(frame: &[u8]) -> Option<Header> {
    let mut reader = BitReader::new(frame);
    if reader.bits(16)? != SYNC_WORD {
        return None;
    }
    // Both syntaxes keep the stream identification at the same place.
    match frame.get(5)? >> 3 {
        0..=10 => parse_ac3(&mut reader),
        11..=16 => parse_eac3(&mut reader),
        _ => None,
    }
}

/// Samples of one channel in an access unit: those of the frames of its first substream, as far as
/// the first dependent one. `None` when it does not begin with a frame.
pub fn access_unit_samples(access_unit: &[u8]) -> Option<u32> {
    let first = parse(access_unit)?;
    let (mut samples, mut rest) = (first.frame_samples, access_unit);
    let mut frame_bytes = first.frame_bytes;
    for _ in 1..FRAMES_MAX {
        rest = rest.get(frame_bytes as usize..).unwrap_or_default();
        let Some(next) = parse(rest) else { break };
        samples += if next.substream == 0 { next.frame_samples } else { 0 };
        frame_bytes = next.frame_bytes;
    }
    Some(samples)
}

fn parse_ac3(reader: &mut BitReader<'_>) -> Option<Header> {
    reader.skip(16)?;
    let (rate_code, size_code) = (reader.bits(2)?, reader.bits(6)?);
    let sample_rate = *RATES.get(rate_code as usize)?;
    let kilobits = *AC3_KILOBITS.get(size_code as usize / 2)?;
    let (stream_id, mode, channel_mode) = (reader.bits(5)?, reader.bits(3)?, reader.bits(3)?);
    if channel_mode & 1 != 0 && channel_mode != 1 {
        reader.skip(2)?;
    }
    if channel_mode & 4 != 0 {
        reader.skip(2)?;
    }
    if channel_mode == 2 {
        reader.skip(2)?;
    }
    let low_frequency = reader.bits(1)?;
    let frame_samples = AC3_FRAME_SAMPLES;
    // Only 44.1 kHz needs the odd codes, for a frame one word longer.
    let words = kilobits * 1000 / 16 * frame_samples / sample_rate;
    let frame_bytes = 2 * (words + if rate_code == 1 { size_code & 1 } else { 0 });
    let bit_rate = size_code / 2;
    let fields = Fields { rate_code, stream_id, mode, channel_mode, low_frequency, bit_rate };
    let info = info(sample_rate, channel_mode, low_frequency);
    Some(Header { codec: Codec::Ac3, info, frame_samples, frame_bytes, substream: 0, fields })
}

fn parse_eac3(reader: &mut BitReader<'_>) -> Option<Header> {
    let stream_type = reader.bits(2)?;
    if !matches!(stream_type, 0 | 2) {
        return None;
    }
    let substream = reader.bits(3)?;
    let frame_bytes = 2 * (reader.bits(11)? + 1);
    let (rate_code, second_code) = (reader.bits(2)?, reader.bits(2)?);
    let (sample_rate, blocks) = if rate_code == 3 {
        (RATES.get(second_code as usize)? / 2, 6)
    } else {
        (*RATES.get(rate_code as usize)?, [1, 2, 3, 6][second_code as usize & 3])
    };
    let (channel_mode, low_frequency) = (reader.bits(3)?, reader.bits(1)?);
    let stream_id = reader.bits(5)?;
    let frame_samples = blocks * BLOCK_SAMPLES;
    let bit_rate = frame_bytes * 8 * (sample_rate / 100) / (frame_samples * 10);
    // The service kind stands far behind and is optional there; 0 is the complete main service.
    let fields = Fields { rate_code, stream_id, mode: 0, channel_mode, low_frequency, bit_rate };
    let info = info(sample_rate, channel_mode, low_frequency);
    Some(Header { codec: Codec::Eac3, info, frame_samples, frame_bytes, substream, fields })
}

fn info(sample_rate: u32, channel_mode: u32, low_frequency: u32) -> AudioInfo {
    let full_band = [2, 1, 2, 3, 3, 4, 4, 5][channel_mode as usize & 7];
    let channels = full_band + u8::from(low_frequency == 1);
    AudioInfo { sample_rate, channels, sample_bits: 16 }
}

impl Header {
    /// The record of the stream: body of `AC3SpecificBox` (F.4) or `EC3SpecificBox` (F.6).
    /// One independent substream of E-AC-3 is described, without what depends on it.
    pub fn record(&self) -> Vec<u8> {
        let Fields { rate_code, stream_id, mode, channel_mode, low_frequency, bit_rate } =
            self.fields;
        if self.codec == Codec::Ac3 {
            let bits = rate_code << 22
                | stream_id << 17
                | mode << 14
                | channel_mode << 11
                | low_frequency << 10
                | bit_rate << 5;
            return bits.to_be_bytes()[1..].to_vec();
        }
        let rate = (bit_rate.min(0x1fff) << 3).to_be_bytes();
        let substream =
            rate_code << 22 | stream_id << 17 | mode << 12 | channel_mode << 9 | low_frequency << 8;
        [&rate[2..], &substream.to_be_bytes()[1..]].concat()
    }
}

/// Rate and channels of a record of `codec`: the body of `AC3SpecificBox` or `EC3SpecificBox`, of
/// the latter its first independent substream.
///
/// # Errors
/// The record is cut short, or holds a reserved rate.
pub fn parse_config(codec: Codec, record: &[u8]) -> Result<AudioInfo, ConfigError> {
    let mut reader = BitReader::new(record);
    let mut fields = || {
        if codec == Codec::Ac3 {
            let rate_code = reader.bits(2)?;
            reader.skip(5 + 3)?;
            return Some((rate_code, reader.bits(3)?, reader.bits(1)?));
        }
        reader.skip(13 + 3)?;
        let rate_code = reader.bits(2)?;
        reader.skip(5 + 1 + 1 + 3)?;
        Some((rate_code, reader.bits(3)?, reader.bits(1)?))
    };
    let (rate_code, channel_mode, low_frequency) = fields().ok_or(ConfigError::Truncated)?;
    if record.len() < if codec == Codec::Ac3 { 3 } else { 5 } {
        return Err(ConfigError::Truncated);
    }
    match RATES.get(rate_code as usize) {
        Some(rate) => Ok(info(*rate, channel_mode, low_frequency)),
        // Half rates are told apart by frames only; 24 kHz is the one in use.
        None if codec == Codec::Eac3 => Ok(info(24_000, channel_mode, low_frequency)),
        None => Err(ConfigError::Forbidden),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From an encoder: mono, 48 kHz, 32 kbit/s.
    const AC3: [u8; 8] = [0x0b, 0x77, 0, 0, 0x00, 0x40, 0x21, 0];

    #[test]
    fn an_ac3_frame_and_its_record() {
        let header = parse(&AC3).unwrap();
        let mono = AudioInfo { sample_rate: 48_000, channels: 1, sample_bits: 16 };
        assert_eq!((header.codec, header.info), (Codec::Ac3, mono));
        assert_eq!((header.frame_samples, header.frame_bytes), (1536, 128));
        assert_eq!(header.record(), [0x10, 0x08, 0x00]);
        assert_eq!(parse_config(Codec::Ac3, &header.record()), Ok(mono));
        assert_eq!(parse_config(Codec::Ac3, &[0x10, 0x08]), Err(ConfigError::Truncated));
        // 44.1 kHz, 448 kbit/s, odd code; 3/2 channels with low frequency effects.
        let header = parse(&[0x0b, 0x77, 0, 0, 1 << 6 | 31, 8 << 3, 0b1110_0001, 0]).unwrap();
        assert_eq!((header.info.channels, header.frame_bytes), (6, 2 * (975 + 1)));
        assert_eq!(parse_config(Codec::Ac3, &header.record()), Ok(header.info));
    }

    #[test]
    fn an_eac3_frame_and_its_record() {
        // Independent, 384 words, 48 kHz, 6 blocks, 3/2 channels with low frequency effects.
        let frame = [0x0b, 0x77, 0x01, 0x7f, 0x3f, 0x80];
        let header = parse(&frame).unwrap();
        assert_eq!((header.codec, header.info.channels), (Codec::Eac3, 6));
        assert_eq!((header.frame_samples, header.frame_bytes), (1536, 768));
        assert_eq!(header.record(), [0x06, 0x00, 0x20, 0x0f, 0x00]);
        assert_eq!(parse_config(Codec::Eac3, &header.record()), Ok(header.info));
        // Dependent substream; no sync word; every cut.
        assert_eq!(parse(&[0x0b, 0x77, 0x41, 0x7f, 0x3f, 0x80]), None);
        assert_eq!(parse(&[0x0b, 0x78, 0x01, 0x7f, 0x3f, 0x80]), None);
        assert!((0..6).all(|end| parse(&frame[..end]).is_none()));
    }
}
