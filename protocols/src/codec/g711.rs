//! G.711: constants; a stream of it describes itself by its name alone.

use crate::media::AudioInfo;

/// Samples per second.
pub const SAMPLE_RATE: u32 = 8000;

/// What is known of a G.711 track of this many channels.
pub const fn info(channels: u8) -> AudioInfo {
    AudioInfo { sample_rate: SAMPLE_RATE, channels, sample_bits: 16 }
}

/// Samples of one channel in a frame of at least one byte.
pub fn frame_samples(frame: &[u8], channels: u8) -> Option<u32> {
    let samples = frame.len() / usize::from(channels.max(1));
    u32::try_from(samples).ok().filter(|samples| *samples > 0)
}
