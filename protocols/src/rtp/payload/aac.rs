//! AAC: RFC 3640 in its AAC modes. Access units may share a packet or be spread over several;
//! interleaving is refused.

use bytes::Bytes;

use super::sound::{FRAMES_MAX, Fragments, Frames, SoundFormat};
use super::{Packet, PayloadError};
use crate::bits::BitReader;
use crate::codec::aac;
use crate::media::{AudioInfo, Codec, Track};
use crate::rtp::format::PayloadFormat;
use crate::rtp::packets::PacketWriter;

/// Bits of the fields of the `AAC-hbr` mode that is written (3.3.6).
const SIZE_BITS: u32 = 13;
/// The largest access unit that can be said in them.
pub(in crate::rtp) const ACCESS_UNIT_BYTES_MAX: usize = (1 << SIZE_BITS) - 1;
/// `AU-headers-length` and one header.
const HEADER_BYTES: usize = 4;

/// Reads packets.
#[derive(Debug)]
pub(super) struct AacSound {
    track: Option<Track<AudioInfo>>,
    size_bits: u32,
    index_bits: u32,
    index_delta_bits: u32,
    /// Ticks of an access unit.
    ticks: i64,
    fragments: Fragments,
}

impl AacSound {
    pub(super) fn new(format: &PayloadFormat) -> Self {
        let config = format.hex_config().unwrap_or_default();
        let parsed = aac::parse_config(&config).ok();
        Self {
            track: parsed.map(|read| track(config.into(), read)),
            size_bits: format.number("sizelength").unwrap_or(0),
            index_bits: format.number("indexlength").unwrap_or(0),
            index_delta_bits: format.number("indexdeltalength").unwrap_or(0),
            ticks: ticks(parsed, format),
            fragments: Fragments::default(),
        }
    }
}

/// The track of a configuration that was read.
pub(super) fn track(config: Bytes, read: aac::Config) -> Track<AudioInfo> {
    Track { codec: Codec::Aac, config, info: read.info }
}

/// Ticks of the payload's clock that an access unit lasts.
pub(super) fn ticks(config: Option<aac::Config>, format: &PayloadFormat) -> i64 {
    let stated = format.number("constantduration").filter(|ticks| *ticks > 0);
    let known = config.filter(|read| read.frame_samples > 0).map(|read| {
        let ticks = u64::from(read.frame_samples) * u64::from(format.clock_rate);
        (ticks / u64::from(read.info.sample_rate.max(1))).cast_signed()
    });
    let usual = i64::from(aac::ACCESS_UNIT_SAMPLES);
    stated.map(i64::from).or(known).unwrap_or(usual)
}

impl SoundFormat for AacSound {
    fn push(&mut self, packet: &Packet, out: &mut Frames<'_>) -> Result<(), PayloadError> {
        let payload = &packet.payload;
        let head = payload.first_chunk().ok_or(PayloadError::Truncated)?;
        let bits = usize::from(u16::from_be_bytes(*head));
        let data_at = 2 + bits.div_ceil(8);
        let headers = payload.get(2..data_at).ok_or(PayloadError::Truncated)?;
        let mut data = payload.slice(data_at..);
        let Some(track) = &self.track else { return Err(PayloadError::Unsupported) };
        let mut reader = BitReader::new(headers);
        let mut timestamp = packet.timestamp;
        for at in 0..FRAMES_MAX {
            if reader.position() >= bits {
                return Ok(());
            }
            let index_bits = if at == 0 { self.index_bits } else { self.index_delta_bits };
            let (Some(size), Some(index)) = (reader.bits(self.size_bits), reader.bits(index_bits))
            else {
                return Err(PayloadError::Truncated);
            };
            if at > 0 && index != 0 {
                return Err(PayloadError::Unsupported);
            }
            let size = size as usize;
            if size > out.bytes_max {
                return Err(PayloadError::TooLong);
            }
            if size > data.len() || !self.fragments.is_empty() {
                // A fragment is alone in its packet and says the size of the whole (3.2.3).
                if at > 0 || reader.position() < bits {
                    return Err(PayloadError::Truncated);
                }
                self.fragments.push(packet.timestamp, &data, size)?;
                if self.fragments.len() == size {
                    let timestamp = self.fragments.timestamp();
                    let access_unit = self.fragments.take();
                    out.set_track(track.clone());
                    out.push(timestamp, access_unit);
                }
                return Ok(());
            }
            out.set_track(track.clone());
            out.push(timestamp, data.split_to(size));
            timestamp = timestamp.saturating_add(self.ticks);
        }
        Err(PayloadError::Unsupported)
    }

    fn abandon(&mut self) -> bool {
        self.fragments.clear()
    }

    fn memory_bytes(&self) -> usize {
        self.fragments.memory_bytes()
    }
}

/// Writes the packets of an access unit of at most [`ACCESS_UNIT_BYTES_MAX`] bytes.
pub(in crate::rtp) fn write(access_unit: &[u8], writer: &mut PacketWriter<'_>) {
    let size = access_unit.len().min(ACCESS_UNIT_BYTES_MAX);
    let [high, low] = u16::try_from(size << 3).unwrap_or(0).to_be_bytes();
    let room = writer.payload_max().saturating_sub(HEADER_BYTES).max(1);
    for part in access_unit.chunks(room) {
        writer.packet(&[&[0, 16, high, low], part]);
    }
}
