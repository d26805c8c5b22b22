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

/// Samples of one channel in a frame (9.1.1, 9.1.5, 9.1.6). `None` when the header is cut short or
/// uses a reserved code.
pub fn frame_samples(frame: &[u8]) -> Option<u32> {
    let [0xff, 0xf8..=0xf9, codes, _, number] = *frame.first_chunk::<5>()? else { return None };
    // The coded number takes as many bytes as its first one has leading ones.
    let after_number = 4 + (number.leading_ones() as usize).max(1);
    match codes >> 4 {
        1 => Some(192),
        code @ 2..=5 => Some(576 << (code - 2)),
        6 => Some(u32::from(*frame.get(after_number)?) + 1),
        7 => {
            let [high, low] = *frame.get(after_number..)?.first_chunk::<2>()?;
            Some(u32::from(u16::from_be_bytes([high, low])) + 1)
        }
        code @ 8.. => Some(256 << (code - 8)),
        0 => None,
    }
}

/// The STREAMINFO block, without its header, of a native stream header that [`parse_config`] read.
pub fn streaminfo(header: &[u8]) -> Option<&[u8; STREAMINFO_BYTES]> {
    header.get(8..)?.first_chunk()
}

/// Bytes of a STREAMINFO block without its header.
pub const STREAMINFO_BYTES: usize = 34;

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

    #[test]
    fn samples_of_frames() {
        let frame = |codes: u8, rest: &[u8]| [&[0xff, 0xf8, codes, 0][..], rest].concat();
        assert_eq!(frame_samples(&frame(0x1a, &[0])), Some(192));
        assert_eq!(frame_samples(&frame(0x5a, &[0])), Some(4608));
        assert_eq!(frame_samples(&frame(0xca, &[0])), Some(4096));
        assert_eq!(frame_samples(&frame(0x6a, &[0, 99])), Some(100));
        // A frame number of three bytes, then 1152 - 1.
        assert_eq!(frame_samples(&frame(0x7a, &[0xe0, 0x80, 0x80, 0x04, 0x7f])), Some(1152));
        assert_eq!(frame_samples(&frame(0x7a, &[0, 4])), None);
        assert_eq!(frame_samples(&frame(0x0a, &[0])), None);
        assert_eq!(frame_samples(&[0xff, 0xf8, 0x1a]), None);
    }
}
