//! AAC: `AudioSpecificConfig` (ISO/IEC 14496-3 1.6.2.1) and the ADTS header (1.A.2.2).

use super::ConfigError;
use crate::bits::BitReader;
use crate::media::AudioInfo;

const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000,
    7350,
];
/// Samples per second beyond which a rate is refused.
const RATE_MAX: u32 = 384_000;
const SBR: u32 = 5;
const PS: u32 = 29;

/// What an `AudioSpecificConfig` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Audio object type of the core coder (2 for AAC-LC).
    pub object_type: u8,
    /// Samples per second of the core coder: an access unit is 1024 (or 960) of these.
    pub core_sample_rate: u32,
    /// Rate and channels that come out of a decoder, spectral band replication and parametric
    /// stereo included where signalled; channels 0 when the bitstream describes them itself.
    pub info: AudioInfo,
    /// Samples of one channel in an access unit, at the rate of `info`; 0 where unknown.
    pub frame_samples: u32,
}

/// Reads an `AudioSpecificConfig`.
///
/// # Errors
/// The config is cut short, or names a reserved rate or object type 0.
pub fn parse_config(config: &[u8]) -> Result<Config, ConfigError> {
    let mut reader = BitReader::new(config);
    let mut object_type = object_type(&mut reader).ok_or(ConfigError::Truncated)?;
    let core_sample_rate = sample_rate(&mut reader)?;
    let channel_configuration = reader.bits(4).ok_or(ConfigError::Truncated)?;
    let mut output_rate = core_sample_rate;
    let mut stereo = false;
    let explicit = object_type == SBR || object_type == PS;
    if explicit {
        stereo = object_type == PS;
        output_rate = sample_rate(&mut reader)?;
        object_type = self::object_type(&mut reader).ok_or(ConfigError::Truncated)?;
    }
    let core_frame_samples = core_frame_samples(reader.clone(), object_type);
    if !explicit
        && let Some((rate, ps)) =
            backward_compatible_extension(&mut reader, object_type, channel_configuration)
    {
        output_rate = rate;
        stereo = ps;
    }
    let object_type = u8::try_from(object_type).map_err(|_| ConfigError::Forbidden)?;
    if object_type == 0 {
        return Err(ConfigError::Forbidden);
    }
    let channels = match channel_configuration {
        1 if stereo => 2,
        count @ 1..=6 => u8::try_from(count).unwrap_or(0),
        7 | 12 | 14 => 8,
        11 => 7,
        _ => 0,
    };
    let info = AudioInfo { sample_rate: output_rate, channels, sample_bits: 16 };
    // Replication at the core's own rate is allowed too, hence the quotient.
    let frame_samples = core_frame_samples * (output_rate / core_sample_rate).max(1);
    Ok(Config { object_type, core_sample_rate, info, frame_samples })
}

/// From `frameLengthFlag`, the first bit of `GASpecificConfig` (4.4.1).
fn core_frame_samples(mut reader: BitReader<'_>, object_type: u32) -> u32 {
    match (object_type, reader.flag()) {
        (1..=4 | 6 | 7 | 17 | 19..=22, Some(short)) => 1024 - 64 * u32::from(short),
        (23, Some(short)) => 512 - 32 * u32::from(short),
        _ => 0,
    }
}

fn object_type(reader: &mut BitReader<'_>) -> Option<u32> {
    match reader.bits(5)? {
        31 => Some(32 + reader.bits(6)?),
        object_type => Some(object_type),
    }
}

fn sample_rate(reader: &mut BitReader<'_>) -> Result<u32, ConfigError> {
    let index = reader.bits(4).ok_or(ConfigError::Truncated)?;
    if index == 15 {
        let rate = reader.bits(24).ok_or(ConfigError::Truncated)?;
        return if (1..=RATE_MAX).contains(&rate) { Ok(rate) } else { Err(ConfigError::Forbidden) };
    }
    RATES.get(index as usize).copied().ok_or(ConfigError::Forbidden)
}

/// The extension after `GASpecificConfig` that older decoders do not see: output rate and whether
/// parametric stereo is present.
fn backward_compatible_extension(
    reader: &mut BitReader<'_>,
    object_type: u32,
    channel_configuration: u32,
) -> Option<(u32, bool)> {
    if !matches!(object_type, 1..=4 | 6 | 7) || channel_configuration == 0 {
        return None;
    }
    reader.skip(1)?;
    if reader.flag()? {
        reader.skip(14)?;
    }
    reader.skip(1)?;
    if object_type == 6 {
        reader.skip(3)?;
    }
    if reader.bits(11)? != 0x2b7 || self::object_type(reader)? != SBR || !reader.flag()? {
        return None;
    }
    let rate = sample_rate(reader).ok()?;
    let stereo = reader.bits(11) == Some(0x548) && reader.flag() == Some(true);
    Some((rate, stereo))
}

/// Samples per channel of an access unit, at the core coder's rate.
pub const ACCESS_UNIT_SAMPLES: u32 = 1024;

/// Passes over an `AudioSpecificConfig` that is followed by other bits, as in LATM, where the
/// backward compatible extension does not stand. `None` when it is cut short, or describes its
/// channels itself, or is of an object type other than those of `GASpecificConfig` (4.4.1).
pub(super) fn skip_config(reader: &mut BitReader<'_>) -> Option<()> {
    let mut object_type = object_type(reader)?;
    sample_rate(reader).ok()?;
    let channel_configuration = reader.bits(4)?;
    if object_type == SBR || object_type == PS {
        sample_rate(reader).ok()?;
        object_type = self::object_type(reader)?;
    }
    if channel_configuration == 0 || !matches!(object_type, 1..=4 | 6 | 7 | 17 | 19 | 20 | 23) {
        return None;
    }
    reader.skip(1)?;
    if reader.flag()? {
        reader.skip(14)?;
    }
    let extension = reader.flag()?;
    if matches!(object_type, 6 | 20) {
        reader.skip(3)?;
    }
    if extension {
        reader.skip(if object_type > 16 { 3 } else { 0 } + 1)?;
    }
    // `epConfig` of the error resilient types.
    if object_type > 16 { reader.skip(2) } else { Some(()) }
}

/// The fields that all ADTS headers of a track share; see [`adts_form`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdtsForm([u8; 2]);

/// The ADTS form of an `AudioSpecificConfig`. `None` where ADTS cannot say the same: object types
/// beyond 4, rates without an index, channels the bitstream describes itself or more than 8,
/// access units of 960 samples. Extensions are left to be found by the decoder.
pub fn adts_form(config: &[u8]) -> Option<AdtsForm> {
    let Config { object_type, core_sample_rate, .. } = parse_config(config).ok()?;
    let mut reader = BitReader::new(config);
    let outer_type = self::object_type(&mut reader)?;
    sample_rate(&mut reader).ok()?;
    let channels = u8::try_from(reader.bits(4)?).ok()?;
    if outer_type == SBR || outer_type == PS {
        sample_rate(&mut reader).ok()?;
        self::object_type(&mut reader)?;
    }
    let short = reader.flag() == Some(true);
    let rate = RATES.iter().position(|rate| *rate == core_sample_rate);
    let rate = u8::try_from(rate?).ok()?;
    if short || !(1..=4).contains(&object_type) || !(1..=7).contains(&channels) {
        return None;
    }
    Some(AdtsForm([(object_type - 1) << 6 | rate << 2 | channels >> 2, channels << 6]))
}

impl AdtsForm {
    /// The header of an access unit of so many bytes, without check sum; `None` when the frame
    /// would exceed the 8191 bytes its length field can say.
    pub fn header(self, access_unit_bytes: usize) -> Option<[u8; 7]> {
        let length = u32::try_from(access_unit_bytes.checked_add(7)?).ok()?;
        if length >= 1 << 13 {
            return None;
        }
        let [_, top, middle, bottom] = (length << 5).to_be_bytes();
        let [first, second] = self.0;
        // Buffer fullness: variable rate. One raw data block.
        Some([0xff, 0xf1, first, second | top, middle, bottom | 0x1f, 0xfc])
    }
}

/// What an ADTS header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adts {
    /// Bytes of the header: 7, or 9 with a check sum.
    pub header_bytes: usize,
    /// Bytes of header and access unit together.
    pub frame_bytes: usize,
    /// Raw data blocks in the frame: 1 to 4. Those of more than one cannot be taken apart without
    /// decoding.
    pub raw_data_blocks: u8,
    /// The `AudioSpecificConfig` that says the same.
    pub config: [u8; 2],
}

/// Reads the ADTS header at the front of `bytes`. `None` when there is none, when it is cut short
/// or its length is smaller than the header; the frame itself may be longer than `bytes`.
pub fn adts(bytes: &[u8]) -> Option<Adts> {
    let [sync, flags, a, b, c, d, e] = *bytes.first_chunk::<7>()?;
    if sync != 0xff || flags & 0xf6 != 0xf0 {
        return None;
    }
    let header_bytes = if flags & 1 == 1 { 7 } else { 9 };
    let (object_type, rate_index) = ((a >> 6) + 1, a >> 2 & 0x0f);
    let channels = (a & 1) << 2 | b >> 6;
    let frame_bytes = usize::from(b & 3) << 11 | usize::from(c) << 3 | usize::from(d >> 5);
    if usize::from(rate_index) >= RATES.len() || frame_bytes < header_bytes {
        return None;
    }
    let config = [object_type << 3 | rate_index >> 1, rate_index << 7 | channels << 3];
    Some(Adts { header_bytes, frame_bytes, raw_data_blocks: (e & 3) + 1, config })
}

/// The access unit inside one ADTS frame; `None` when `frame` is not exactly that.
pub fn strip_adts(frame: &[u8]) -> Option<&[u8]> {
    let header = adts(frame)?;
    if header.frame_bytes == frame.len() { frame.get(header.header_bytes..) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(config: &[u8]) -> (u32, u8) {
        let info = parse_config(config).unwrap().info;
        (info.sample_rate, info.channels)
    }

    #[test]
    fn configs_with_and_without_extensions() {
        assert_eq!(output(&[0x12, 0x10]), (44_100, 2));
        assert_eq!(output(&[0x11, 0x88, 0x56, 0xe5, 0x00]), (48_000, 1));
        // HE-AAC: implicit extension, explicit SBR, explicit PS.
        assert_eq!(output(&[0x13, 0x10, 0x56, 0xe5, 0x98]), (48_000, 2));
        assert_eq!(output(&[0x2b, 0x11, 0x88, 0x00]), (48_000, 2));
        assert_eq!(output(&[0xeb, 0x09, 0x88, 0x00]), (48_000, 2));
        let he_aac = parse_config(&[0x2b, 0x11, 0x88, 0x00]).unwrap();
        assert_eq!((he_aac.core_sample_rate, he_aac.frame_samples), (24_000, 2048));
        // Explicit frequency of 50,000 Hz.
        assert_eq!(output(&[0x17, 0x80, 0x61, 0xa8, 0x10]), (50_000, 2));
    }

    #[test]
    fn samples_of_an_access_unit() {
        let samples = |config: &[u8]| parse_config(config).unwrap().frame_samples;
        assert_eq!(samples(&[0x12, 0x10]), 1024);
        assert_eq!(samples(&[0x12, 0x14]), 960);
        assert_eq!(samples(&[0x13, 0x10, 0x56, 0xe5, 0x98]), 2048);
        // ER AAC LD, and ELD whose frame length is elsewhere.
        assert_eq!(samples(&[0xb9, 0x90]), 512);
        assert_eq!(samples(&[0xf8, 0xe6, 0x20, 0x00]), 0);
    }

    #[test]
    fn short_and_forbidden_configs_are_refused() {
        assert_eq!(parse_config(&[]), Err(ConfigError::Truncated));
        assert_eq!(parse_config(&[0x12]), Err(ConfigError::Truncated));
        assert_eq!(parse_config(&[0x17, 0x00]), Err(ConfigError::Forbidden));
        assert_eq!(parse_config(&[0x02, 0x10]), Err(ConfigError::Forbidden));
        assert_eq!(parse_config(&[0x17, 0x80, 0, 0, 0x10]), Err(ConfigError::Forbidden));
    }

    #[test]
    fn adts_headers_are_stripped() {
        let frame = [0xff, 0xf1, 0x50, 0x80, 0x01, 0x3f, 0xfc, 1, 2];
        let header = adts(&frame).unwrap();
        assert_eq!((header.header_bytes, header.frame_bytes), (7, 9));
        assert_eq!(output(&header.config), (44_100, 2));
        assert_eq!(strip_adts(&frame), Some(&[1, 2][..]));
        assert_eq!(strip_adts(&frame[..8]), None);
        assert_eq!(adts(&[0xff, 0xf1, 0x50, 0x80, 0, 0, 0]), None);
    }

    #[test]
    fn adts_headers_say_what_the_config_says() {
        for (config, said) in [
            (&[0x12, 0x10][..], [0x12, 0x10]),
            (&[0x11, 0x88, 0x56, 0xe5, 0x00], [0x11, 0x88]),
            (&[0x2b, 0x11, 0x88, 0x00], [0x13, 0x10]),
            (&[0xeb, 0x09, 0x88, 0x00], [0x13, 0x08]),
            (&[0x17, 0x80, 0x3e, 0x80, 0x10], [0x12, 0x90]),
        ] {
            for length in [1, 500, 8184] {
                let header = adts(&adts_form(config).unwrap().header(length).unwrap()).unwrap();
                assert_eq!((header.header_bytes, header.frame_bytes), (7, length + 7));
                assert_eq!((header.config, header.raw_data_blocks), (said, 1));
            }
        }
        let form = adts_form(&[0x12, 0x10]).unwrap();
        assert_eq!([8185, 65_529, usize::MAX].map(|length| form.header(length)), [None; 3]);
        // 960 samples, 50,000 Hz, own channel description, 11 channels, error resilient.
        for config in [
            &[0x12, 0x14][..],
            &[0x17, 0x80, 0x61, 0xa8, 0x10],
            &[0x12, 0x00],
            &[0x12, 0x58],
            &[0xba, 0x10, 0x00],
            &[],
        ] {
            assert_eq!(adts_form(config), None, "{config:02x?}");
        }
    }
}
