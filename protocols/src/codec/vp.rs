//! VP8 and VP9: the codec configuration record (VP Codec ISO Media File Format Binding 1.0, 2).

use super::ConfigError;

/// Bytes of a record without codec initialisation data, which neither codec has.
const RECORD_BYTES: usize = 8;
/// Version and flags of the box around the record: FLV writers put them in front of it.
const VERSION_1: [u8; 4] = [1, 0, 0, 0];

/// What a `VPCodecConfigurationRecord` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Profile: 0 to 3.
    pub profile: u8,
    /// Ten times the level; 0 where unknown.
    pub level: u8,
    /// Bits per sample: 8, 10 or 12.
    pub bit_depth: u8,
}

/// Reads a record, with or without the version and flags of its box in front.
///
/// # Errors
/// The record is cut short, or its bit depth is none of VP9.
pub fn parse_config(record: &[u8]) -> Result<Config, ConfigError> {
    let [profile, level, depths, ..] =
        *self::record(record).first_chunk::<RECORD_BYTES>().ok_or(ConfigError::Truncated)?;
    let bit_depth = depths >> 4;
    if profile > 3 || !matches!(bit_depth, 8 | 10 | 12) {
        return Err(ConfigError::Forbidden);
    }
    Ok(Config { profile, level, bit_depth })
}

/// The record without version and flags. No record begins like them: a bit depth of 0 is none.
pub fn record(config: &[u8]) -> &[u8] {
    config.strip_prefix(&VERSION_1).unwrap_or(config)
}

/// A record of 8 bits, 4:2:0, unspecified colours: what VP8 always is.
pub const fn build_config(profile: u8, level: u8) -> [u8; RECORD_BYTES] {
    [profile, level, 0x82, 2, 2, 2, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_with_and_without_version() {
        let record = build_config(1, 31);
        let expected = Ok(Config { profile: 1, level: 31, bit_depth: 8 });
        assert_eq!(parse_config(&record), expected);
        assert_eq!(parse_config(&[&VERSION_1[..], &record].concat()), expected);
        assert_eq!(parse_config(&record[..7]), Err(ConfigError::Truncated));
        assert_eq!(
            parse_config(&[&VERSION_1[..], &record[..7]].concat()),
            Err(ConfigError::Truncated)
        );
        assert_eq!(parse_config(&[0; 8]), Err(ConfigError::Forbidden));
    }
}
