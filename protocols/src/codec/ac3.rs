//! AC-3 and Enhanced AC-3: the start of a synchronisation frame (ETSI TS 102 366 4.4, E.1.3).

use crate::bits::BitReader;
use crate::media::AudioInfo;

/// Kilobits per second by half of `frmsizecod` (table 4.13).
const KILOBITS: [u16; 19] =
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];
const RATES: [u32; 3] = [48_000, 44_100, 32_000];
/// Full bandwidth channels by `acmod`.
const CHANNELS: [u8; 8] = [2, 1, 2, 3, 3, 4, 4, 5];
const BLOCK_SAMPLES: u32 = 256;
/// Largest `bsid` of AC-3; beyond it the syntax is that of Enhanced AC-3.
const BSID_AC3_MAX: u8 = 10;
const BSID_MAX: u8 = 16;

/// What the start of a synchronisation frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncFrame {
    /// Bytes of the whole frame.
    pub frame_bytes: usize,
    /// Samples per channel.
    pub samples: u32,
    /// Rate and channels, those of low frequency effects included.
    pub info: AudioInfo,
    /// Enhanced AC-3.
    pub enhanced: bool,
    /// The frame belongs to the access unit of the frame before it: a dependent or further
    /// substream.
    pub continues: bool,
}

/// Reads the start of the synchronisation frame at the front of `bytes`; `None` when there is
/// none, when it is cut short or says something reserved.
pub fn sync_frame(bytes: &[u8]) -> Option<SyncFrame> {
    let head = bytes.first_chunk::<8>()?;
    if !head.starts_with(&[0x0b, 0x77]) {
        return None;
    }
    match head[5] >> 3 {
        bsid @ ..=BSID_AC3_MAX => ac3(head, bsid),
        bsid if bsid <= BSID_MAX => enhanced(head),
        _ => None,
    }
}

fn ac3(head: &[u8; 8], bsid: u8) -> Option<SyncFrame> {
    let full_rate = *RATES.get(usize::from(head[4] >> 6))?;
    let size_code = head[4] & 0x3f;
    let kilobits = u32::from(*KILOBITS.get(usize::from(size_code >> 1))?);
    // 1536 samples in words of 16 bits; where that is no whole number, every other code adds one.
    let odd = u32::from(full_rate == 44_100 && size_code & 1 == 1);
    let words = kilobits * 96_000 / full_rate + odd;
    let mut reader = BitReader::new(&head[6..]);
    let mode = reader.bits(3)?;
    let mix_levels = [mode & 1 == 1 && mode != 1, mode & 4 != 0, mode == 2];
    reader.skip(2 * mix_levels.into_iter().filter(|present| *present).count())?;
    let effects = reader.flag()?;
    // The half and quarter rates that `bsid` 9 and 10 stand for.
    let sample_rate = full_rate >> bsid.saturating_sub(8);
    Some(SyncFrame {
        frame_bytes: usize::try_from(words).ok()? * 2,
        samples: 6 * BLOCK_SAMPLES,
        info: info(sample_rate, mode, effects),
        enhanced: false,
        continues: false,
    })
}

fn enhanced(head: &[u8; 8]) -> Option<SyncFrame> {
    let mut reader = BitReader::new(&head[2..]);
    let (stream_type, substream) = (reader.bits(2)?, reader.bits(3)?);
    let words = reader.bits(11)? + 1;
    let (rate, low) = (reader.bits(2)?, reader.bits(2)?);
    let (mode, effects) = (reader.bits(3)?, reader.flag()?);
    let (sample_rate, blocks) = match (rate, low) {
        (3, low) => (RATES.get(low as usize)? / 2, 6),
        (rate, blocks) => (*RATES.get(rate as usize)?, [1, 2, 3, 6][blocks as usize & 3]),
    };
    if stream_type == 3 {
        return None;
    }
    Some(SyncFrame {
        frame_bytes: words as usize * 2,
        samples: blocks * BLOCK_SAMPLES,
        info: info(sample_rate, mode, effects),
        enhanced: true,
        continues: stream_type == 1 || substream != 0,
    })
}

fn info(sample_rate: u32, mode: u32, effects: bool) -> AudioInfo {
    let channels = CHANNELS[mode as usize & 7] + u8::from(effects);
    AudioInfo { sample_rate, channels, sample_bits: 16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(bytes: [u8; 8]) -> Option<(usize, u32, u32, u8)> {
        let frame = sync_frame(&bytes)?;
        Some((frame.frame_bytes, frame.samples, frame.info.sample_rate, frame.info.channels))
    }

    #[test]
    fn sizes_rates_and_channels() {
        // 192 kbit/s stereo, 448 kbit/s 5.1, 44.1 kHz with and without the odd word.
        assert_eq!(facts([0x0b, 0x77, 1, 2, 0x14, 0x40, 0x40, 0]), Some((768, 1536, 48_000, 2)));
        assert_eq!(facts([0x0b, 0x77, 1, 2, 0x1e, 0x40, 0xe1, 0]), Some((1792, 1536, 48_000, 6)));
        assert_eq!(facts([0x0b, 0x77, 1, 2, 0x40, 0x40, 0x20, 0]), Some((138, 1536, 44_100, 1)));
        assert_eq!(facts([0x0b, 0x77, 1, 2, 0x41, 0x40, 0x20, 0]), Some((140, 1536, 44_100, 1)));
        assert_eq!(facts([0x0b, 0x77, 1, 2, 0x14, 0x48, 0x40, 0]), Some((768, 1536, 24_000, 2)));
        // Enhanced: six blocks, one block, half rate.
        assert_eq!(facts([0x0b, 0x77, 0, 0x7f, 0x34, 0x80, 0, 0]), Some((256, 1536, 48_000, 2)));
        assert_eq!(facts([0x0b, 0x77, 0, 0x7f, 0x0f, 0x80, 0, 0]), Some((256, 256, 48_000, 6)));
        assert_eq!(facts([0x0b, 0x77, 0, 0x7f, 0xc2, 0x80, 0, 0]), Some((256, 1536, 24_000, 1)));
        assert_eq!(
            sync_frame(&[0x0b, 0x77, 0x40, 1, 0x34, 0x80, 0, 0]).map(|f| f.continues),
            Some(true)
        );
    }

    #[test]
    fn reserved_and_short_frames_are_refused() {
        for bytes in [
            [0x0b, 0x76, 1, 2, 0x14, 0x40, 0x40, 0],
            [0x0b, 0x77, 1, 2, 0xc0, 0x40, 0x40, 0],
            [0x0b, 0x77, 1, 2, 0x26, 0x40, 0x40, 0],
            [0x0b, 0x77, 1, 2, 0x14, 0x88, 0x40, 0],
            [0x0b, 0x77, 0, 1, 0xf4, 0x80, 0, 0],
            [0x0b, 0x77, 0xc0, 1, 0x34, 0x80, 0, 0],
        ] {
            assert_eq!(sync_frame(&bytes), None, "{bytes:02x?}");
        }
        assert_eq!(sync_frame(&[0x0b, 0x77, 1, 2, 0x14, 0x40, 0x40]), None);
    }
}
