//! H.265: decoder configuration record, start of the sequence parameter set, NAL unit classes.

use super::nal::{BadLength, UnitRole, units};
use super::{ConfigError, Reordering, believable};
use crate::bits::{BitReader, ByteReader, unescape};
use crate::media::VideoInfo;

/// Bytes of an SPS looked at: more than profile, tier, level and size take.
const SPS_BYTES_MAX: usize = 512;
/// General profile, tier, level and their flags (clause 7.3.3).
const PROFILE_TIER_LEVEL_BYTES: usize = 12;
const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;

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
    let mut first_sps = None;
    let mut keep = |nal_type, unit| {
        if nal_type == SPS && first_sps.is_none() {
            first_sps = Some(unit);
        }
    };
    let mut config = read_record(record, &mut keep)?;
    if let Some((info, layers)) = first_sps.and_then(sps_info) {
        config.info = info;
        config.temporal_layers = config.temporal_layers.max(layers);
    }
    Ok(config)
}

/// Reads the fields and passes type and bytes of each NAL unit on.
fn read_record<'a>(
    record: &'a [u8],
    unit: &mut impl FnMut(u8, &'a [u8]),
) -> Result<Config, ConfigError> {
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
    for _ in 0..fixed[22] {
        let nal_type = reader.u8().ok_or(ConfigError::Truncated)? & 0x3f;
        let count = reader.u16().ok_or(ConfigError::Truncated)?;
        for _ in 0..count {
            let bytes = reader.u16().and_then(|length| reader.bytes(length.into()));
            unit(nal_type, bytes.ok_or(ConfigError::Truncated)?);
        }
    }
    Ok(Config {
        length_size,
        profile: fixed[1] & 0x1f,
        high_tier: fixed[1] & 0x20 != 0,
        level: fixed[12],
        temporal_layers: (fixed[21] >> 3 & 7).max(1),
        info: VideoInfo::default(),
    })
}

/// The parameter sets of a configuration record in its own order, NAL headers included.
///
/// # Errors
/// As [`parse_config`].
pub fn parameter_sets(record: &[u8]) -> Result<Vec<&[u8]>, ConfigError> {
    let mut sets = Vec::new();
    let mut keep = |_, unit| sets.push(unit);
    read_record(record, &mut keep)?;
    Ok(sets)
}

/// Builds a configuration record with 4-byte length prefixes. `None` when the first SPS cannot be
/// read or a count or length does not fit the record.
pub fn build_config(vps: &[&[u8]], sps: &[&[u8]], pps: &[&[u8]]) -> Option<Vec<u8>> {
    let fields = read_sps(sps.first()?)?;
    let (chroma_format, depth_luma, depth_chroma) = fields.samples?;
    let mut record = vec![1];
    record.extend_from_slice(&fields.profile_tier_level);
    // Segmentation, parallelism and rate unknown (8.3.3.1.3).
    record.extend_from_slice(&[0xf0, 0, 0xfc]);
    record.extend_from_slice(&[0xfc | chroma_format, 0xf8 | depth_luma, 0xf8 | depth_chroma, 0, 0]);
    record.push(fields.temporal_layers << 3 | u8::from(fields.temporal_nesting) << 2 | 3);
    let arrays = [(VPS, vps), (SPS, sps), (PPS, pps)];
    let arrays = arrays.into_iter().filter(|(_, sets)| !sets.is_empty());
    record.push(u8::try_from(arrays.clone().count()).ok()?);
    for (nal_type, sets) in arrays {
        // No parameter sets are left to the access units.
        record.push(0x80 | nal_type);
        record.extend_from_slice(&u16::try_from(sets.len()).ok()?.to_be_bytes());
        for set in sets {
            record.extend_from_slice(&u16::try_from(set.len()).ok()?.to_be_bytes());
            record.extend_from_slice(set);
        }
    }
    Some(record)
}

/// Cropped picture size and number of temporal sub-layers of a sequence parameter set (clause
/// 7.3.2.2, NAL header included). `None` when it cannot be read; 0×0 for a size beyond belief.
pub fn sps_info(sps: &[u8]) -> Option<(VideoInfo, u8)> {
    read_sps(sps).map(|fields| (fields.info, fields.temporal_layers))
}

/// What a sequence parameter set tells of reordering (`sps_max_num_reorder_pics` of all sub-layers,
/// 7.4.3.2.1).
pub fn reordering(sps: &[u8]) -> Reordering {
    read_sps(sps).map_or(Reordering::Unknown, |fields| fields.reordering)
}

/// What is read of a sequence parameter set.
struct Sps {
    info: VideoInfo,
    profile_tier_level: [u8; PROFILE_TIER_LEVEL_BYTES],
    temporal_layers: u8,
    temporal_nesting: bool,
    /// `chroma_format_idc` and the bit depths minus 8; `None` when cut short before or forbidden.
    samples: Option<(u8, u8, u8)>,
    reordering: Reordering,
}

fn read_sps(sps: &[u8]) -> Option<Sps> {
    if sps.first()? >> 1 & 0x3f != SPS {
        return None;
    }
    let payload = unescape(sps.get(2..)?, SPS_BYTES_MAX);
    let profile_tier_level = *payload.get(1..)?.first_chunk()?;
    let mut reader = BitReader::new(&payload);
    reader.skip(4)?;
    let sub_layers_minus1 = reader.bits(3)?;
    let temporal_nesting = reader.flag()?;
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
    let mut depth =
        || reader.unsigned_golomb().and_then(|depth| u8::try_from(depth).ok()).filter(|at| *at < 8);
    let samples = match (u8::try_from(chroma_format), depth(), depth()) {
        (Ok(format @ 0..=3), Some(luma), Some(chroma)) => Some((format, luma, chroma)),
        _ => None,
    };
    let reordering = sub_layer_reordering(&mut reader, sub_layers_minus1)
        .and_then(|pictures| u8::try_from(pictures).ok())
        .map_or(Reordering::Unknown, Reordering::Pictures);
    Some(Sps {
        info: VideoInfo { width, height, frame_rate: 0.0 },
        profile_tier_level,
        temporal_layers: u8::try_from(sub_layers_minus1 + 1).ok()?,
        temporal_nesting,
        samples,
        reordering,
    })
}

/// `sps_max_num_reorder_pics` of the highest sub-layer, behind the bit depths.
fn sub_layer_reordering(reader: &mut BitReader<'_>, sub_layers_minus1: u32) -> Option<u32> {
    // `log2_max_pic_order_cnt_lsb_minus4`.
    reader.unsigned_golomb()?;
    let of_each = reader.flag()?;
    let mut pictures = 0;
    for _ in 0..=if of_each { sub_layers_minus1 } else { 0 } {
        reader.unsigned_golomb()?;
        pictures = reader.unsigned_golomb()?;
        reader.unsigned_golomb()?;
    }
    Some(pictures)
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
        found |= is_irap_slice(unit?);
    }
    Ok(found)
}

/// The NAL unit is a slice of an IRAP picture.
pub fn is_irap_slice(nal_unit: &[u8]) -> bool {
    nal_unit.first().is_some_and(|header| (16..=23).contains(&(header >> 1 & 0x3f)))
}

/// Other pictures may refer to that of the slice: it is no sub-layer non-reference picture (even NAL
/// types to 14, table 7-1), or of a layer below the highest of `temporal_layers`.
pub fn is_reference(slice: &[u8], temporal_layers: u8) -> bool {
    let nal_type = slice.first().map_or(0, |byte| byte >> 1 & 0x3f);
    let temporal_id_plus1 = slice.get(1).map_or(0, |byte| byte & 7);
    nal_type > 14 || nal_type % 2 == 1 || temporal_id_plus1 < temporal_layers
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
            slices = true;
            references |= is_reference(unit, temporal_layers);
        }
    }
    Ok(slices && !references)
}

/// What a NAL unit is to its access unit (table 7-1, 7.4.2.4.4).
pub fn unit_role(nal_unit: &[u8]) -> UnitRole {
    match nal_unit.first().map_or(63, |header| header >> 1 & 0x3f) {
        // `first_slice_segment_in_pic_flag`.
        0..=31 if nal_unit.get(2).is_some_and(|byte| byte & 0x80 != 0) => UnitRole::FirstSlice,
        0..=31 => UnitRole::Slice,
        VPS => UnitRole::VideoParameterSet,
        SPS => UnitRole::SequenceParameterSet,
        PPS => UnitRole::PictureParameterSet,
        35 => UnitRole::Delimiter,
        38 => UnitRole::Filler,
        39 | 41..=44 | 48..=55 => UnitRole::Prefix,
        _ => UnitRole::Suffix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameter sets of an encoder: 160×90, 4:2:0 of 8 bits, main profile.
    const VPS_160: &[u8] = &[
        0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00,
        0x03, 0x00, 0x00, 0x03, 0x00, 0x1e, 0x95, 0x90, 0x09,
    ];
    const SPS_160: &[u8] = &[
        0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00,
        0x03, 0x00, 0x1e, 0xa0, 0x14, 0x20, 0x61, 0xf2, 0x65, 0x95, 0x92, 0x49, 0x32, 0xbc, 0x05,
        0xa0, 0x20, 0x00, 0x00, 0x03, 0x00, 0x20, 0x00, 0x00, 0x03, 0x03, 0x21,
    ];
    const PPS_160: &[u8] = &[0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40];

    #[test]
    fn a_record_is_built_and_read_back() {
        let record = build_config(&[VPS_160], &[SPS_160], &[PPS_160]).unwrap();
        let config = parse_config(&record).unwrap();
        assert_eq!((config.length_size, config.profile, config.level), (4, 1, 30));
        assert_eq!((config.high_tier, config.temporal_layers), (false, 1));
        assert_eq!((config.info.width, config.info.height), (160, 90));
        assert_eq!(record[16..22], [0xfd, 0xf8, 0xf8, 0, 0, 0x0f]);
        assert_eq!(parameter_sets(&record).unwrap(), [VPS_160, SPS_160, PPS_160]);
        for end in 0..record.len() {
            assert!(parse_config(&record[..end]).is_err(), "{end}");
        }
        assert_eq!(reordering(SPS_160), Reordering::Pictures(2));
        assert_eq!(reordering(&SPS_160[..24]), Reordering::Unknown);
        assert_eq!(build_config(&[], &[], &[PPS_160]), None);
        assert_eq!(build_config(&[], &[&SPS_160[..20]], &[]), None);
    }

    #[test]
    fn roles_of_nal_units() {
        use UnitRole::*;
        let role = |nal_type: u8, third| unit_role(&[nal_type << 1, 1, third]);
        assert_eq!(
            [role(1, 0x80), role(19, 0x80), role(19, 0x40)],
            [FirstSlice, FirstSlice, Slice]
        );
        assert_eq!([32, 33, 34].map(|nal_type| role(nal_type, 0).is_parameter_set()), [true; 3]);
        let roles = [35, 36, 38, 39, 40, 48].map(|nal_type| role(nal_type, 0));
        assert_eq!(roles, [Delimiter, Suffix, Filler, Prefix, Suffix, Prefix]);
        assert_eq!(unit_role(&[]), Suffix);
    }

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
