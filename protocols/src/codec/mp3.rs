//! MPEG-1, MPEG-2 and MPEG-2.5 layer III: the frame header (ISO/IEC 11172-3 2.4.2.3).

use crate::media::AudioInfo;

/// Kilobits per second by `bitrate_index`: MPEG-1, then MPEG-2 and MPEG-2.5 (13818-3 2.4.2.3).
const KILOBITS: [[u16; 15]; 2] = [
    [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// What a frame header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole frame.
    pub frame_bytes: usize,
    /// Samples per channel.
    pub samples: u32,
    /// Rate and channels.
    pub info: AudioInfo,
}

/// Reads the frame header at the front of `bytes`; `None` when there is none of layer III, or its
/// bit rate is free, so that only the next header tells where the frame ends.
pub fn header(bytes: &[u8]) -> Option<Header> {
    let info = info(bytes)?;
    let [_, version, rate, _] = *bytes.first_chunk::<4>()?;
    let older = version & 0x08 == 0;
    let kilobits = KILOBITS[usize::from(older)].get(usize::from(rate >> 4)).copied()?;
    let padding = usize::from(rate >> 1 & 1);
    let samples = if older { 576 } else { 1152 };
    let per_second = u64::from(samples) / 8 * u64::from(kilobits) * 1000;
    let frame_bytes = usize::try_from(per_second / u64::from(info.sample_rate)).ok()? + padding;
    if kilobits == 0 { None } else { Some(Header { frame_bytes, samples, info }) }
}

/// Rate and channels of the frame at the front of `frame`; `None` when there is no valid header.
pub fn info(frame: &[u8]) -> Option<AudioInfo> {
    let [sync, version, rate, mode] = *frame.first_chunk::<4>()?;
    // Sync word, a version that is not reserved, layer III, a bit rate that is not forbidden.
    if sync != 0xff || version & 0xe6 != 0xe2 || rate & 0xf0 == 0xf0 {
        return None;
    }
    let rates = [44_100, 48_000, 32_000];
    let base: u32 = *rates.get(usize::from(rate >> 2 & 3))?;
    let sample_rate = match version >> 3 & 3 {
        0 => base / 4,
        2 => base / 2,
        3 => base,
        _ => return None,
    };
    let channels = if mode >> 6 == 3 { 1 } else { 2 };
    Some(AudioInfo { sample_rate, channels, sample_bits: 16 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_modes() {
        let found = |header: [u8; 4]| info(&header).map(|info| (info.sample_rate, info.channels));
        assert_eq!(found([0xff, 0xfb, 0x90, 0x00]), Some((44_100, 2)));
        assert_eq!(found([0xff, 0xf3, 0x94, 0xc0]), Some((24_000, 1)));
        assert_eq!(found([0xff, 0xe3, 0x98, 0x00]), Some((8000, 2)));
        assert_eq!(found([0xff, 0xeb, 0x90, 0x00]), None);
        assert_eq!(found([0xff, 0xfb, 0x9c, 0x00]), None);
        assert_eq!(found([0xff, 0xfb, 0xf0, 0x00]), None);
        assert_eq!(found([0xff, 0xf1, 0x50, 0x80]), None);
        assert_eq!(info(&[0xff, 0xfb]), None);
    }

    #[test]
    fn frame_lengths() {
        let found =
            |bytes: [u8; 4]| header(&bytes).map(|header| (header.frame_bytes, header.samples));
        assert_eq!(found([0xff, 0xfb, 0x90, 0x00]), Some((417, 1152)));
        assert_eq!(found([0xff, 0xfb, 0x92, 0x00]), Some((418, 1152)));
        assert_eq!(found([0xff, 0xf3, 0x94, 0xc0]), Some((240, 576)));
        assert_eq!(found([0xff, 0xe3, 0x98, 0x00]), Some((720, 576)));
        assert_eq!(found([0xff, 0xfb, 0x00, 0x00]), None);
    }
}
