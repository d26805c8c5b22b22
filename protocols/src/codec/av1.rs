//! AV1: codec configuration record and the start of the sequence header OBU.

use super::{ConfigError, believable};
use crate::bits::BitReader;
use crate::media::VideoInfo;

/// Most OBUs of a configuration record looked at.
const OBUS_MAX: usize = 16;
const SEQUENCE_HEADER: u8 = 1;

/// What an `AV1CodecConfigurationRecord` says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// `seq_profile`.
    pub profile: u8,
    /// `seq_level_idx_0`.
    pub level: u8,
    /// `seq_tier_0`: high tier.
    pub high_tier: bool,
    /// Bits per sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// Largest frame size of the sequence header, if the record holds one; 0 where unknown.
    pub info: VideoInfo,
}

/// Reads a configuration record (AV1 in ISOBMFF 2.3.3). A record without a sequence header, or
/// with one that cannot be read, leaves the size unknown.
///
/// # Errors
/// The record is shorter than 4 bytes or of another version.
pub fn parse_config(record: &[u8]) -> Result<Config, ConfigError> {
    let Some(([first, second, third, _], obus)) = record.split_first_chunk::<4>() else {
        return Err(ConfigError::Truncated);
    };
    if *first != 0x81 {
        return Err(ConfigError::Version(*first & 0x7f));
    }
    let info = sequence_header(obus).and_then(sequence_info).unwrap_or_default();
    let bit_depth = match third >> 5 & 3 {
        0 | 1 => 8,
        2 => 10,
        _ => 12,
    };
    let (profile, level, high_tier) = (second >> 5, second & 0x1f, third & 0x80 != 0);
    Ok(Config { profile, level, high_tier, bit_depth, info })
}

/// The payload of the first sequence header among low-overhead OBUs (5.3).
fn sequence_header(mut obus: &[u8]) -> Option<&[u8]> {
    for _ in 0..OBUS_MAX {
        let (header, mut rest) = obus.split_first()?;
        if header & 0x04 != 0 {
            rest = rest.get(1..)?;
        }
        let size = if header & 0x02 != 0 {
            let (size, bytes) = leb128(rest)?;
            rest = rest.get(bytes..)?;
            size
        } else {
            rest.len()
        };
        let (payload, next) = rest.split_at_checked(size)?;
        if header >> 3 & 0x0f == SEQUENCE_HEADER {
            return Some(payload);
        }
        obus = next;
    }
    None
}

/// A little-endian base 128 number of at most 4 bytes, and its size in bytes (4.10.5).
pub(crate) fn leb128(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// Largest frame size and, when the header carries timing, the rate (5.5.1).
fn sequence_info(payload: &[u8]) -> Option<VideoInfo> {
    let mut reader = BitReader::new(payload);
    let mut frame_rate = 0.0;
    reader.skip(3 + 1)?;
    if reader.flag()? {
        reader.skip(5)?;
    } else {
        let mut delay_bits = None;
        if reader.flag()? {
            let (units, scale) = (reader.bits(32)?, reader.bits(32)?);
            if reader.flag()? {
                let ticks = f64::from(reader.unsigned_golomb()?) + 1.0;
                let rate = f64::from(scale) / (f64::from(units) * ticks);
                frame_rate = if rate.is_finite() && rate <= 1000.0 { rate } else { 0.0 };
            }
            if reader.flag()? {
                delay_bits = Some(reader.bits(5)? + 1);
                reader.skip(32 + 5 + 5)?;
            }
        }
        skip_operating_points(&mut reader, delay_bits)?;
    }
    let (width_bits, height_bits) = (reader.bits(4)? + 1, reader.bits(4)? + 1);
    let (width, height) = (reader.bits(width_bits)? + 1, reader.bits(height_bits)? + 1);
    let (width, height) = believable(width, height);
    Some(VideoInfo { width, height, frame_rate })
}

fn skip_operating_points(reader: &mut BitReader<'_>, delay_bits: Option<u32>) -> Option<()> {
    let display_delay = reader.flag()?;
    for _ in 0..=reader.bits(5)? {
        reader.skip(12)?;
        if reader.bits(5)? > 7 {
            reader.skip(1)?;
        }
        if let Some(bits) = delay_bits
            && reader.flag()?
        {
            reader.skip(2 * bits as usize + 1)?;
        }
        if display_delay && reader.flag()? {
            reader.skip(4)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From an encoder at 160×90.
    const RECORD: &[u8] = &[
        0x81, 0x00, 0x0c, 0x00, 0x0a, 0x0b, 0x02, 0x00, 0x00, 0x05, 0x1d, 0xa7, 0xec, 0x89, 0x5f,
        0x20, 0x08,
    ];

    #[test]
    fn a_record_of_an_encoder() {
        let info = parse_config(RECORD).unwrap().info;
        assert_eq!((info.width, info.height), (160, 90));
        for end in 4..RECORD.len() {
            assert_eq!(parse_config(&RECORD[..end]).unwrap().info, VideoInfo::default(), "{end}");
        }
        assert_eq!(parse_config(&[0x81, 0, 0]), Err(ConfigError::Truncated));
        assert_eq!(parse_config(&[0x82, 0, 0, 0]), Err(ConfigError::Version(2)));
    }

    #[test]
    fn endless_sizes_end() {
        let obus = [&[0x81, 0, 0, 0][..], &[0x12, 0x00].repeat(1000)].concat();
        assert_eq!(parse_config(&obus).unwrap().info, VideoInfo::default());
        assert_eq!(leb128(&[0xff; 9]), None);
    }
}
