//! H.265: decoder configuration record, start of the sequence parameter set, NAL unit classes.

use super::nal::{BadLength, units};
use super::{ConfigError, believable};
use crate::bits::{BitReader, ByteReader, unescape};
use crate::media::VideoInfo;

/// Bytes of an SPS looked at: more than profile, tier, level and size take.
const SPS_BYTES_MAX: usize = 512;
const SPS: u8 = 33;

/// What an `HEVCDecoderConfigurationRecord` says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// Bytes of a NAL unit length prefix: 1, 2 or 4.
    pub length_size: u8,
    /// `general_profile_idc`.
    pub profile: u8,
    /// `general_tier_flag`: high tier.
    pub high_tier: bool,
    /// `general_level_idc`: 30 times the level.
    pub level: u8,
    /// Temporal sub-layers; at least 1.
    pub temporal_layers: u8,
    /// Picture size of the first SPS; 0 where it does not say. The rate stays 0.
    pub info: VideoInfo,
}

/// Reads a configuration record (ISO/IEC 14496-15 8.3.3.1). An SPS that cannot be read leaves the
/// size unknown; a record without parameter sets is valid (they come in band).
///
/// # Errors
/// The record is cut short, of another version, or has a prefix of 3 bytes.
pub fn parse_config(record: &[u8]) -> Result<Config, ConfigError> {
    let mut reader = ByteReader::new(record);
    let fixed = reader.array::<23>().ok_or(ConfigError::Truncated)?;
    // Some encoders leave the version at 0; the fields are the same.
    if fixed[0] > 1 {
        return Err(ConfigError::Version(fixed[0]));
    }
    let length_size = (fixed[21] & 3) + 1;
    if length_size == 3 {
        return Err(ConfigError::Forbidden);
    }
    let mut config = Config {
        length_size,
        profile: fixed[1] & 0x1f,
        high_tier: fixed[1] & 0x20 != 0,
        level: fixed[12],
        temporal_layers: (fixed[21] >> 3 & 7).max(1),
        info: VideoInfo::default(),
    };
    let mut seen = false;
    for _ in 0..fixed[22] {
        let nal_type = reader.u8().ok_or(ConfigError::Truncated)? & 0x3f;
        let count = reader.u16().ok_or(ConfigError::Truncated)?;
        for _ in 0..count {
            let unit = reader.u16().and_then(|length| reader.bytes(length.into()));
            let unit = unit.ok_or(ConfigError::Truncated)?;
            if nal_type == SPS && !seen {
                seen = true;
                if let Some((info, layers)) = sps_info(unit) {
                    config.info = info;
                    config.temporal_layers = config.temporal_layers.max(layers);
                }
            }
        }
    }
    Ok(config)
}

/// Cropped picture size and number of temporal sub-layers of a sequence parameter set (clause
/// 7.3.2.2, NAL header included). `None` when it cannot be read; 0×0 for a size beyond belief.
pub fn sps_info(sps: &[u8]) -> Option<(VideoInfo, u8)> {
    if sps.first()? >> 1 & 0x3f != SPS {
        return None;
    }
    let payload = unescape(sps.get(2..)?, SPS_BYTES_MAX);
    let mut reader = BitReader::new(&payload);
    reader.skip(4)?;
    let sub_layers_minus1 = reader.bits(3)?;
    reader.skip(1)?;
    skip_profile_tier_level(&mut reader, sub_layers_minus1)?;
    reader.unsigned_golomb()?;
    let chroma_format = reader.unsigned_golomb()?;
    if chroma_format == 3 {
        reader.skip(1)?;
    }
    let (mut width, mut height) = (reader.unsigned_golomb()?, reader.unsigned_golomb()?);
    if reader.flag()? {
        let step_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
        let step_y = if chroma_format == 1 { 2 } else { 1 };
        let mut cropped = |step: u32| {
            let both = reader.unsigned_golomb()?.checked_add(reader.unsigned_golomb()?);
            Some(both.and_then(|sum| sum.checked_mul(step)))
        };
        let (x, y) = (cropped(step_x)?, cropped(step_y)?);
        width = x.and_then(|x| width.checked_sub(x)).unwrap_or(0);
        height = y.and_then(|y| height.checked_sub(y)).unwrap_or(0);
    }
    let (width, height) = believable(width, height);
    let layers = u8::try_from(sub_layers_minus1 + 1).ok()?;
    Some((VideoInfo { width, height, frame_rate: 0.0 }, layers))
}

/// Clause 7.3.3.
fn skip_profile_tier_level(reader: &mut BitReader<'_>, sub_layers_minus1: u32) -> Option<()> {
    reader.skip(88 + 8)?;
    if sub_layers_minus1 == 0 {
        return Some(());
    }
    let mut bits = 0;
    for layer in 0..8 {
        let (profile, level) = (reader.flag()?, reader.flag()?);
        if layer < sub_layers_minus1 {
            bits += if profile { 88 } else { 0 } + if level { 8 } else { 0 };
        }
    }
    reader.skip(bits)
}

/// The access unit holds an IRAP picture (NAL types 16 to 23).
///
/// # Errors
/// A NAL unit length exceeds the access unit.
pub fn is_keyframe(access_unit: &[u8], length_size: u8) -> Result<bool, BadLength> {
    let mut found = false;
    for unit in units(access_unit, length_size) {
        found |= (16..=23).contains(&(unit?[0] >> 1 & 0x3f));
    }
    Ok(found)
}

/// The access unit holds slices, all of sub-layer non-reference pictures (even NAL types to 14)
/// of the highest of `temporal_layers`: no other picture depends on it.
///
/// # Errors
/// A NAL unit length exceeds the access unit.
pub fn is_disposable(
    access_unit: &[u8],
    length_size: u8,
    temporal_layers: u8,
) -> Result<bool, BadLength> {
    let (mut slices, mut references) = (false, false);
    for unit in units(access_unit, length_size) {
        let unit = unit?;
        let nal_type = unit[0] >> 1 & 0x3f;
        if nal_type < 32 {
            let temporal_id_plus1 = unit.get(1).map_or(0, |byte| byte & 7);
            slices = true;
            references |= nal_type > 14 || nal_type % 2 == 1 || temporal_id_plus1 < temporal_layers;
        }
    }
    Ok(slices && !references)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_apart_by_nal_type() {
        let unit = |nal_type: u8, temporal_id_plus1| [0, 2, nal_type << 1, temporal_id_plus1];
        assert_eq!(is_keyframe(&unit(19, 1), 2), Ok(true));
        assert_eq!(is_keyframe(&unit(21, 1), 2), Ok(true));
        assert_eq!(is_keyframe(&unit(1, 1), 2), Ok(false));
        assert_eq!(is_disposable(&unit(0, 1), 2, 1), Ok(true));
        assert_eq!(is_disposable(&unit(0, 1), 2, 2), Ok(false));
        assert_eq!(is_disposable(&unit(2, 2), 2, 2), Ok(true));
        assert_eq!(is_disposable(&unit(1, 1), 2, 1), Ok(false));
        assert_eq!(is_disposable(&unit(39, 1), 2, 1), Ok(false));
        assert_eq!(is_keyframe(&[0, 9, 1], 2), Err(BadLength));
    }

    #[test]
    fn short_records_are_refused() {
        assert_eq!(parse_config(&[1; 22]), Err(ConfigError::Truncated));
        assert_eq!(parse_config(&[2; 23]), Err(ConfigError::Version(2)));
        let mut record = [0; 26];
        (record[0], record[21], record[22]) = (1, 0xf, 1);
        assert_eq!(parse_config(&record).map(|config| config.length_size), Ok(4));
        (record[24], record[25]) = (0xff, 0xff);
        assert_eq!(parse_config(&record), Err(ConfigError::Truncated));
        assert_eq!(sps_info(&[0x42, 1, 0, 0]), None);
    }
}
