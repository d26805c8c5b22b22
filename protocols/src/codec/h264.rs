//! H.264: decoder configuration record, sequence parameter set, NAL unit classes.

use h264_reader::nal::sps::{FrameMbsFlags, PicOrderCntType, SeqParameterSet};
use h264_reader::rbsp;

use super::nal::{BadLength, UnitRole, units};
use super::{ConfigError, EDGE_PIXELS_MAX, Reordering, believable};
use crate::bits::{ByteReader, unescape};
use crate::media::VideoInfo;

/// Largest sequence parameter set looked at; VUI and scaling lists stay far below.
const SPS_BYTES_MAX: usize = 4096;

/// Bytes of an SEI NAL unit looked at: a recovery point stands near its front.
const SEI_BYTES_MAX: usize = 512;

const SLICE: u8 = 1;
const IDR_SLICE: u8 = 5;
const SEI: u8 = 6;
const SPS: u8 = 7;
const RECOVERY_POINT: usize = 6;
/// `profile_idc` of the baseline profile.
const BASELINE: u8 = 66;

/// What an `AVCDecoderConfigurationRecord` says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// Bytes of a NAL unit length prefix: 1, 2 or 4.
    pub length_size: u8,
    /// `profile_idc`, `constraint_set` flags and `level_idc`, as in the codec string `avc1.PPCCLL`.
    pub profile: [u8; 3],
    /// Picture size and rate of the first SPS; 0 where it does not say.
    pub info: VideoInfo,
}

/// The NAL units of an `AVCDecoderConfigurationRecord`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParameterSets<'a> {
    /// Sequence parameter sets, NAL header included.
    pub sps: Vec<&'a [u8]>,
    /// Picture parameter sets, NAL header included.
    pub pps: Vec<&'a [u8]>,
}

/// Reads a configuration record (ISO/IEC 14496-15 5.3.3.1). An SPS that cannot be read leaves the
/// size unknown.
///
/// # Errors
/// The record is cut short, of another version, or has a prefix of 3 bytes or no SPS.
pub fn parse_config(record: &[u8]) -> Result<Config, ConfigError> {
    let (length_size, profile, sets) = read_record(record)?;
    if length_size == 3 || sets.sps.is_empty() {
        return Err(ConfigError::Forbidden);
    }
    let info = sets.sps.first().and_then(|sps| sps_info(sps)).unwrap_or_default();
    Ok(Config { length_size, profile, info })
}

/// The parameter sets of a configuration record.
///
/// # Errors
/// As [`parse_config`].
pub fn parameter_sets(record: &[u8]) -> Result<ParameterSets<'_>, ConfigError> {
    read_record(record).map(|(_, _, sets)| sets)
}

fn read_record(record: &[u8]) -> Result<(u8, [u8; 3], ParameterSets<'_>), ConfigError> {
    let mut reader = ByteReader::new(record);
    let version = reader.u8().ok_or(ConfigError::Truncated)?;
    if version != 1 {
        return Err(ConfigError::Version(version));
    }
    let profile = reader.array::<3>().ok_or(ConfigError::Truncated)?;
    let length_size = (reader.u8().ok_or(ConfigError::Truncated)? & 3) + 1;
    let sps_count = reader.u8().ok_or(ConfigError::Truncated)? & 0x1f;
    let sps = read_sets(&mut reader, sps_count)?;
    let pps_count = reader.u8().ok_or(ConfigError::Truncated)?;
    let pps = read_sets(&mut reader, pps_count)?;
    Ok((length_size, profile, ParameterSets { sps, pps }))
}

fn read_sets<'a>(reader: &mut ByteReader<'a>, count: u8) -> Result<Vec<&'a [u8]>, ConfigError> {
    let set = |_| reader.u16().and_then(|length| reader.bytes(length.into()));
    (0..count).map(set).collect::<Option<Vec<_>>>().ok_or(ConfigError::Truncated)
}

/// Builds a configuration record with 4-byte length prefixes. `None` when there is no SPS of at
/// least 4 bytes or a count or length does not fit the record.
pub fn build_config(sps: &[&[u8]], pps: &[&[u8]]) -> Option<Vec<u8>> {
    let [_, profile, compatibility, level, ..] = *sps.first()? else { return None };
    let mut record = vec![1, *profile, *compatibility, *level, 0xff];
    let sps_count = u8::try_from(sps.len()).ok().filter(|count| *count <= 31)?;
    for (count, sets) in [(0xe0 | sps_count, sps), (u8::try_from(pps.len()).ok()?, pps)] {
        record.push(count);
        for set in sets {
            record.extend_from_slice(&u16::try_from(set.len()).ok()?.to_be_bytes());
            record.extend_from_slice(set);
        }
    }
    if matches!(profile, 100 | 110 | 122 | 144) {
        // The high profiles append chroma format and bit depths (5.3.3.1.2).
        let sps = read_sps(sps.first()?)?;
        let chroma = &sps.chroma_info;
        let depths = [chroma.bit_depth_luma_minus8, chroma.bit_depth_chroma_minus8];
        let format = u8::try_from(chroma.chroma_format.to_u32()).ok()?;
        record.extend_from_slice(&[0xfc | format, 0xf8 | depths[0], 0xf8 | depths[1], 0]);
    }
    Some(record)
}

/// Picture size and rate of a sequence parameter set (NAL header included). `None` when it cannot
/// be read; 0 for edges beyond [`EDGE_PIXELS_MAX`] and rates that make no sense.
pub fn sps_info(sps: &[u8]) -> Option<VideoInfo> {
    let sps = read_sps(sps)?;
    // Checked before any arithmetic on macroblocks.
    let macroblocks_max = EDGE_PIXELS_MAX / 16;
    let sane = sps.pic_width_in_mbs_minus1 < macroblocks_max
        && sps.pic_height_in_map_units_minus1 < macroblocks_max;
    let (width, height) = if sane { sps.pixel_dimensions().unwrap_or_default() } else { (0, 0) };
    let (width, height) = believable(width, height);
    let frame_rate = sps.fps().filter(|rate| rate.is_finite() && *rate <= 1000.0).unwrap_or(0.0);
    Some(VideoInfo { width, height, frame_rate })
}

/// The sequence may hold pictures that are one field only (`frame_mbs_only_flag` 0); `false` also
/// for a parameter set that cannot be read.
pub fn may_have_fields(sps: &[u8]) -> bool {
    read_sps(sps).is_some_and(|sps| sps.frame_mbs_flags != FrameMbsFlags::Frames)
}

/// What a sequence parameter set tells of reordering (`max_num_reorder_frames`, E.2.1). Without
/// that field it is nothing for the baseline profile, for pictures that are shown as they are
/// decoded (`pic_order_cnt_type` 2), and where only one picture can be referred to.
pub fn reordering(sps: &[u8]) -> Reordering {
    let Some(sps) = read_sps(sps) else { return Reordering::Unknown };
    let in_order = u8::from(sps.profile_idc) == BASELINE
        || matches!(sps.pic_order_cnt, PicOrderCntType::TypeTwo)
        || sps.max_num_ref_frames < 2;
    let restrictions = sps.vui_parameters.and_then(|vui| vui.bitstream_restrictions);
    match restrictions.map(|restrictions| u8::try_from(restrictions.max_num_reorder_frames)) {
        Some(Ok(pictures)) => Reordering::Pictures(pictures),
        None if in_order => Reordering::Pictures(0),
        _ => Reordering::Unknown,
    }
}

fn read_sps(sps: &[u8]) -> Option<SeqParameterSet> {
    let (header, payload) = sps.split_first()?;
    if header & 0x1f != SPS {
        return None;
    }
    let payload = unescape(payload, SPS_BYTES_MAX);
    SeqParameterSet::from_bits(rbsp::BitReader::new(payload.as_slice())).ok()
}

/// The access unit holds an IDR slice.
///
/// # Errors
/// A NAL unit length exceeds the access unit.
pub fn is_keyframe(access_unit: &[u8], length_size: u8) -> Result<bool, BadLength> {
    let mut found = false;
    for unit in units(access_unit, length_size) {
        found |= is_idr_slice(unit?);
    }
    Ok(found)
}

/// The NAL unit is a slice of an IDR picture.
pub fn is_idr_slice(nal_unit: &[u8]) -> bool {
    nal_unit.first().is_some_and(|header| header & 0x1f == IDR_SLICE)
}

/// Other pictures may refer to that of a slice with this header (`nal_ref_idc`, 7.4.1).
pub fn is_reference(header: u8) -> bool {
    header & 0x60 != 0
}

/// The access unit holds slices and none may be referred to (`nal_ref_idc` 0, clause 7.4.1).
///
/// # Errors
/// A NAL unit length exceeds the access unit.
pub fn is_disposable(access_unit: &[u8], length_size: u8) -> Result<bool, BadLength> {
    let (mut slices, mut references) = (false, false);
    for unit in units(access_unit, length_size) {
        let header = unit?[0];
        if (SLICE..=IDR_SLICE).contains(&(header & 0x1f)) {
            slices = true;
            references |= is_reference(header);
        }
    }
    Ok(slices && !references)
}

/// What a NAL unit is to its access unit (table 7-1). A slice whose `first_mb_in_slice` is 0 counts
/// as the first of a picture: arbitrary slice order is not supported.
pub fn unit_role(nal_unit: &[u8]) -> UnitRole {
    match nal_unit.first().map_or(0, |header| header & 0x1f) {
        // `first_mb_in_slice` 0 is the one code that begins with a set bit.
        1 | 2 | 5 if nal_unit.get(1).is_some_and(|byte| byte & 0x80 != 0) => UnitRole::FirstSlice,
        1..=5 => UnitRole::Slice,
        SEI | 14..=18 => UnitRole::Prefix,
        SPS => UnitRole::SequenceParameterSet,
        8 => UnitRole::PictureParameterSet,
        9 => UnitRole::Delimiter,
        12 => UnitRole::Filler,
        _ => UnitRole::Suffix,
    }
}

/// The NAL unit is supplemental enhancement information with a recovery point (D.1.8): a decoder
/// can start at its access unit although that is no IDR picture, as open GOPs have it.
pub fn is_recovery_point(nal_unit: &[u8]) -> bool {
    let Some((header, payload)) = nal_unit.split_first() else { return false };
    if header & 0x1f != SEI {
        return false;
    }
    let payload = unescape(payload, SEI_BYTES_MAX);
    let mut reader = ByteReader::new(&payload);
    // Each message is at least two bytes; the trailing bits are one.
    while reader.remaining() > 2 {
        let (Some(message), Some(length)) = (sei_number(&mut reader), sei_number(&mut reader))
        else {
            return false;
        };
        if message == RECOVERY_POINT {
            return true;
        }
        if reader.bytes(length).is_none() {
            return false;
        }
    }
    false
}

/// A type or size of an SEI message: bytes of 255 and a last one, added up (7.3.2.3.1).
fn sei_number(reader: &mut ByteReader<'_>) -> Option<usize> {
    let mut number = 0;
    loop {
        let byte = reader.u8()?;
        number += usize::from(byte);
        if byte != 0xff {
            return Some(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 640×360 at 25 frames per second, constrained baseline, with a cropped height.
    const SPS_640: &[u8] = &[
        0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00,
        0x01, 0x00, 0x00, 0x03, 0x00, 0x32, 0x0f, 0x16, 0x2e, 0x48,
    ];

    #[test]
    fn a_record_is_built_and_read_back() {
        let pps = [0x68, 0xcb, 0x83, 0xcb, 0x20];
        let record = build_config(&[SPS_640], &[&pps]).unwrap();
        let config = parse_config(&record).unwrap();
        assert_eq!((config.length_size, config.profile), (4, [0x42, 0xc0, 0x1e]));
        assert_eq!(config.info.width, 640);
        assert_eq!(parameter_sets(&record).unwrap().pps, [&pps[..]]);
        for end in 0..record.len() {
            assert!(parse_config(&record[..end]).is_err(), "{end}");
        }
        assert_eq!(parse_config(&[0; 16]), Err(ConfigError::Version(0)));
        assert_eq!(parse_config(&[1, 1, 1, 1, 0xff, 0xe0, 0]), Err(ConfigError::Forbidden));
        assert_eq!(build_config(&[], &[]), None);
    }

    #[test]
    fn reordering_is_told_or_not() {
        assert_eq!(reordering(SPS_640), Reordering::Pictures(0));
        // Main profile of an encoder that reorders two pictures, and without the field.
        let main = [
            0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00,
            0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x32, 0x0f, 0x16, 0x2d, 0x96,
        ];
        assert_eq!(reordering(&main), Reordering::Pictures(2));
        assert_eq!(reordering(&main[..12]), Reordering::Unknown);
        assert_eq!(reordering(&[]), Reordering::Unknown);
    }

    #[test]
    fn parameter_sets_of_nonsense_have_no_size() {
        assert_eq!(sps_info(&[]), None);
        assert_eq!(sps_info(&[0x67]), None);
        assert_eq!(sps_info(&[0x67; 4]), None);
        assert_eq!(sps_info(&[&[0x67, 0x42, 0, 30][..], &[0; 60]].concat()), None);
        // 16,385 macroblocks wide: profile 66, then ue(0) ×3, ue(0), flag, ue(65536), ue(0).
        let info = sps_info(&[0x67, 0x42, 0x00, 0x1e, 0xf4, 0x00, 0x00, 0x80, 0x00, 0xfc, 0x80]);
        assert!(info.is_none_or(|info| (info.width, info.height) == (0, 0)), "{info:?}");
    }

    #[test]
    fn slices_decide_on_keyframes_and_disposables() {
        let unit = |headers: &[u8]| {
            headers.iter().flat_map(|header| [0, 0, 0, 2, *header, 0x80]).collect::<Vec<u8>>()
        };
        assert_eq!(is_keyframe(&unit(&[9, 0x67, 0x68, 0x65]), 4), Ok(true));
        assert_eq!(is_keyframe(&unit(&[9, 0x41]), 4), Ok(false));
        assert_eq!(is_disposable(&unit(&[9, 0x01, 0x01]), 4), Ok(true));
        assert_eq!(is_disposable(&unit(&[9, 0x01, 0x41]), 4), Ok(false));
        assert_eq!(is_disposable(&unit(&[9, 6]), 4), Ok(false));
        assert_eq!(is_disposable(&[0, 0, 0, 9, 1], 4), Err(BadLength));
    }

    #[test]
    fn roles_of_nal_units() {
        use UnitRole::*;
        let roles = [1, 1, 5, 6, 7, 8, 9, 10, 12, 19, 20].map(|nal_type| unit_role(&[nal_type, 0]));
        let tail = [PictureParameterSet, Delimiter, Suffix, Filler, Suffix, Suffix];
        assert_eq!(roles[..5], [Slice, Slice, Slice, Prefix, SequenceParameterSet]);
        assert_eq!(roles[5..], tail);
        assert_eq!(unit_role(&[0x41, 0x9a]), FirstSlice);
        assert_eq!(unit_role(&[]), Suffix);
        assert!(Prefix.begins_access_unit() && !Slice.begins_access_unit());
    }

    #[test]
    fn recovery_points_are_found_behind_other_messages() {
        assert!(is_recovery_point(&[6, 6, 1, 0x84, 0x80]));
        let mut sei = vec![6, 5, 0xff, 2];
        sei.extend_from_slice(&[7; 257]);
        sei.extend_from_slice(&[6, 1, 0xc4, 0x80]);
        assert!(is_recovery_point(&sei));
        assert!(!is_recovery_point(&sei[..200]));
        assert!(!is_recovery_point(&[6, 1, 1, 6, 0x80]));
        assert!(!is_recovery_point(&[0x65, 6, 1, 0x84, 0x80]));
        assert!(!is_recovery_point(&[]));
    }
}
