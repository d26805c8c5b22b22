//! G.711: constants; a stream of it describes itself by its name alone.

use crate::media::AudioInfo;

/// Samples per second.
pub const SAMPLE_RATE: u32 = 8000;

/// What is known of a G.711 track of this many channels.
pub const fn info(channels: u8) -> AudioInfo {
    AudioInfo { sample_rate: SAMPLE_RATE, channels, sample_bits: 16 }
}
