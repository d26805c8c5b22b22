//! H.264: decoder configuration record, sequence parameter set, NAL unit classes.

use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::rbsp;

use super::nal::{BadLength, units};
use super::{ConfigError, EDGE_PIXELS_MAX, believable};
use crate::bits::{ByteReader, unescape};
use crate::media::VideoInfo;

/// Largest sequence parameter set looked at; VUI and scaling lists stay far below.
const SPS_BYTES_MAX: usize = 4096;

const SLICE: u8 = 1;
const IDR_SLICE: u8 = 5;
const SPS: u8 = 7;

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
        found |= unit?[0] & 0x1f == IDR_SLICE;
    }
    Ok(found)
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
            references |= header & 0x60 != 0;
        }
    }
    Ok(slices && !references)
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
}
