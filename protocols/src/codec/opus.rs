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

/// Streams, coupled streams and mapping of 1 to 8 channels in the order of Vorbis (RFC 7845
/// 5.1.1.2): `FAMILY_1[channels - 1]`.
const FAMILY_1: [&[u8]; 8] = [
    &[1, 0, 0],
    &[1, 1, 0, 1],
    &[2, 1, 0, 2, 1],
    &[2, 2, 0, 1, 2, 3],
    &[3, 2, 0, 4, 1, 2, 3],
    &[4, 2, 0, 4, 1, 2, 3, 5],
    &[4, 3, 0, 4, 1, 2, 3, 5, 6],
    &[5, 3, 0, 6, 1, 2, 3, 4, 5, 7],
];

/// The identification header of 1 to 8 channels in their usual order, without gain or pre-skip.
/// `None` for any other number.
pub fn build_layout_config(channels: u8) -> Option<Vec<u8>> {
    let mapping = FAMILY_1.get(usize::from(channels).checked_sub(1)?)?;
    let mut header = build_config(channels, 0, SAMPLE_RATE).to_vec();
    if channels > 2 {
        header[18] = 1;
        header.extend_from_slice(mapping);
    }
    Some(header)
}

/// Channels of an identification header whose channels are in their usual order, as
/// [`build_layout_config`] writes it; `None` for other mappings.
pub fn layout_channels(header: &[u8]) -> Option<u8> {
    let channels = parse_config(header).ok()?.channels;
    let usual = match header.get(18)? {
        0 => channels <= 2,
        1 => header.get(19..) == FAMILY_1.get(usize::from(channels) - 1).copied(),
        _ => false,
    };
    usual.then_some(channels)
}

/// Samples at 48 kHz that the packet of one stream decodes to (RFC 6716 3.1, 3.2); `None` for an
/// empty packet or one beyond the 120 ms a packet may last.
pub fn packet_samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame_samples = match toc >> 3 {
        config @ 0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        config @ 12..=15 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    let samples = frame_samples * frames;
    (1..=5760).contains(&samples).then_some(samples)
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

    #[test]
    fn layouts_are_built_and_recognised() {
        for channels in 1..=8 {
            let header = build_layout_config(channels).unwrap();
            assert_eq!(parse_config(&header).unwrap().channels, channels);
            assert_eq!(layout_channels(&header), Some(channels));
        }
        assert_eq!((build_layout_config(0), build_layout_config(9)), (None, None));
        let mut header = build_layout_config(6).unwrap();
        header[22] ^= 1;
        assert_eq!(layout_channels(&header), None);
        header[18] = 255;
        assert_eq!(layout_channels(&header), None);
        assert_eq!(layout_channels(&build_config(3, 0, 48_000)), None);
    }

    #[test]
    fn durations_of_packets() {
        assert_eq!(packet_samples(&[0xfc, 1]), Some(960));
        assert_eq!(packet_samples(&[0x18]), Some(2880));
        assert_eq!(packet_samples(&[0x6b, 3]), Some(2880));
        assert_eq!(packet_samples(&[0x80]), Some(120));
        assert_eq!(packet_samples(&[0x61]), Some(960));
        for packet in [&[][..], &[0xff], &[0xff, 0], &[0xff, 7], &[0x1a | 3, 3]] {
            assert_eq!(packet_samples(packet), None, "{packet:02x?}");
        }
    }
}
