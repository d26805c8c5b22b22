//! FLAC: the STREAMINFO block (RFC 9639 8.2).

use super::ConfigError;
use crate::bits::BitReader;
use crate::media::AudioInfo;

/// Reads a native stream header: `fLaC`, then STREAMINFO as the first metadata block.
///
/// # Errors
/// The header is cut short, or does not begin with magic and STREAMINFO.
pub fn parse_config(header: &[u8]) -> Result<AudioInfo, ConfigError> {
    let block = header.get(8..42).ok_or(ConfigError::Truncated)?;
    if !header.starts_with(b"fLaC") || header[4] & 0x7f != 0 {
        return Err(ConfigError::Forbidden);
    }
    let mut reader = BitReader::new(block);
    let mut fields = || {
        reader.skip(16 + 16 + 24 + 24)?;
        Some((reader.bits(20)?, reader.bits(3)? + 1, reader.bits(5)? + 1))
    };
    let (sample_rate, channels, bits) = fields().ok_or(ConfigError::Truncated)?;
    let small = |value| u8::try_from(value).unwrap_or(0);
    Ok(AudioInfo { sample_rate, channels: small(channels), sample_bits: small(bits) })
}

/// Bytes of a STREAMINFO block without its header.
const STREAMINFO_BYTES: usize = 34;

/// The native stream header of a bare STREAMINFO block, which some encoders send in its place.
/// `None` when `config` is not of that size.
pub fn header_of_streaminfo(config: &[u8]) -> Option<Vec<u8>> {
    let magic_and_block = [&b"fLaC\x80\0\0\x22"[..], config].concat();
    (config.len() == STREAMINFO_BYTES).then_some(magic_and_block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_channels_and_bits_of_streaminfo() {
        let mut header = vec![0; 42];
        header[..4].copy_from_slice(b"fLaC");
        // 48,000 << 12 | 1 channel << 9 | 16 bits << 4 over 20 + 3 + 5 bits.
        header[18..22].copy_from_slice(&(48_000u32 << 12 | 1 << 9 | 15 << 4).to_be_bytes());
        let expected = AudioInfo { sample_rate: 48_000, channels: 2, sample_bits: 16 };
        assert_eq!(parse_config(&header), Ok(expected));
        assert_eq!(parse_config(&header_of_streaminfo(&header[8..]).unwrap()), Ok(expected));
        assert_eq!(header_of_streaminfo(&header), None);
        assert_eq!(parse_config(&header[..41]), Err(ConfigError::Truncated));
        assert_eq!(parse_config(&[0; 42]), Err(ConfigError::Forbidden));
    }
}
