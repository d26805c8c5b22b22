//! MPEG-1, MPEG-2 and MPEG-2.5 layer III: the frame header (ISO/IEC 11172-3 2.4.2.3).

use crate::media::AudioInfo;

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
}
