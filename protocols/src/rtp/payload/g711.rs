//! G.711: RFC 3551 4.5.14. A payload is any number of samples.

use bytes::Bytes;

use super::sound::{Frames, SoundFormat};
use super::{Packet, PayloadError};
use crate::media::{AudioInfo, Track};
use crate::rtp::format::PayloadFormat;
use crate::rtp::packets::PacketWriter;

/// Reads packets.
#[derive(Debug)]
pub(super) struct G711Sound {
    track: Track<AudioInfo>,
}

impl G711Sound {
    pub(super) fn new(format: &PayloadFormat) -> Self {
        let channels = format.channels.max(1);
        let info = AudioInfo { sample_rate: format.clock_rate, channels, sample_bits: 16 };
        Self { track: Track { codec: format.codec, config: Bytes::new(), info } }
    }
}

impl SoundFormat for G711Sound {
    fn push(&mut self, packet: &Packet, out: &mut Frames<'_>) -> Result<(), PayloadError> {
        if packet.payload.len() > out.bytes_max {
            return Err(PayloadError::TooLong);
        }
        out.set_track(&self.track);
        out.push(packet.timestamp, packet.payload.clone());
        Ok(())
    }
}

/// Writes the packets of a frame of so many channels.
pub(in crate::rtp) fn write(frame: &[u8], channels: u8, writer: &mut PacketWriter<'_>) {
    let channels = usize::from(channels.max(1));
    let size = (writer.payload_max() / channels).max(1) * channels;
    for part in frame.chunks(size) {
        writer.packet(&[part]);
        writer.advance(u32::try_from(part.len() / channels).unwrap_or(0));
    }
}
