//! Opus: the identification header (RFC 7845 5.1).

use super::ConfigError;
use crate::media::AudioInfo;

/// Samples per second that come out of every Opus decoder.
pub const SAMPLE_RATE: u32 = 48_000;

/// Reads an identification header (`OpusHead`).
///
/// # Errors
/// The header is cut short, of another version, or without magic or channels.
pub fn parse_config(header: &[u8]) -> Result<AudioInfo, ConfigError> {
    let fixed = header.first_chunk::<19>().ok_or(ConfigError::Truncated)?;
    if !fixed.starts_with(b"OpusHead") {
        return Err(ConfigError::Forbidden);
    }
    // The upper half is the version that breaks readers.
    if fixed[8] > 15 {
        return Err(ConfigError::Version(fixed[8]));
    }
    match fixed[9] {
        0 => Err(ConfigError::Forbidden),
        channels => Ok(AudioInfo { sample_rate: SAMPLE_RATE, channels, sample_bits: 16 }),
    }
}

/// The identification header of a mono or stereo stream without gain.
pub fn build_config(channels: u8, pre_skip_samples: u16, input_sample_rate: u32) -> [u8; 19] {
    let mut header = *b"OpusHead\x01\0\0\0\0\0\0\0\0\0\0";
    header[9] = channels;
    header[10..12].copy_from_slice(&pre_skip_samples.to_le_bytes());
    header[12..16].copy_from_slice(&input_sample_rate.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_built_and_read_back() {
        let header = build_config(2, 312, 44_100);
        let expected = AudioInfo { sample_rate: 48_000, channels: 2, sample_bits: 16 };
        assert_eq!(parse_config(&header), Ok(expected));
        assert_eq!(parse_config(&header[..18]), Err(ConfigError::Truncated));
        assert_eq!(parse_config(&build_config(0, 0, 0)), Err(ConfigError::Forbidden));
        assert_eq!(parse_config(&[0; 19]), Err(ConfigError::Forbidden));
    }
}
