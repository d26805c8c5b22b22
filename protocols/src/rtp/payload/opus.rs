//! Opus: RFC 7587. A packet is a frame.

use bytes::Bytes;

use super::sound::{Frames, SoundFormat};
use super::{Packet, PayloadError};
use crate::codec::opus;
use crate::media::{AudioInfo, Codec, Track};
use crate::rtp::format::PayloadFormat;
use crate::rtp::packets::PacketWriter;

/// Reads packets.
#[derive(Debug)]
pub(super) struct OpusSound {
    /// The sender says, or one of its packets showed, that it is stereo.
    stereo: bool,
    /// As long as `stereo` is as it was.
    track: Option<Track<AudioInfo>>,
}

impl OpusSound {
    pub(super) fn new(format: &PayloadFormat) -> Self {
        Self { stereo: format.parameter("sprop-stereo") == Some("1"), track: None }
    }

    fn build_track(&self) -> Option<Track<AudioInfo>> {
        let header = opus::build_config(1 + u8::from(self.stereo), 0, opus::SAMPLE_RATE);
        let info = opus::parse_config(&header).ok()?;
        Some(Track { codec: Codec::Opus, config: Bytes::copy_from_slice(&header), info })
    }
}

impl SoundFormat for OpusSound {
    fn push(&mut self, packet: &Packet, out: &mut Frames<'_>) -> Result<(), PayloadError> {
        let payload = &packet.payload;
        opus::packet_samples(payload).ok_or(PayloadError::Truncated)?;
        if payload.len() > out.bytes_max {
            return Err(PayloadError::TooLong);
        }
        // The stereo bit of the table of contents (RFC 6716 3.1).
        let stereo = self.stereo || payload.first().is_some_and(|contents| contents & 4 != 0);
        if stereo != self.stereo || self.track.is_none() {
            self.stereo = stereo;
            self.track = self.build_track();
        }
        if let Some(track) = &self.track {
            out.set_track(track);
        }
        out.push(packet.timestamp, payload.clone());
        Ok(())
    }
}

/// Writes the packet of a frame.
pub(in crate::rtp) fn write(frame: &[u8], writer: &mut PacketWriter<'_>) {
    if frame.len() <= writer.payload_max() {
        writer.packet(&[frame]);
    }
}
