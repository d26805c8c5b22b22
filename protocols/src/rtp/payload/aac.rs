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
        for at in 0..=FRAMES_MAX {
            if reader.position() >= bits {
                return Ok(());
            }
            if at == FRAMES_MAX {
                break;
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
                    out.set_track(track);
                    out.push(timestamp, access_unit);
                }
                return Ok(());
            }
            out.set_track(track);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::payload::{Depacketizer, Found};

    fn depacketizer(fields: &str) -> Depacketizer {
        let fmtp = format!("config=1190;{fields}");
        let format = PayloadFormat::from_sdp(97, "mpeg4-generic", 48_000, 2, &fmtp).unwrap();
        Depacketizer::new(&format, 1 << 12).unwrap()
    }

    /// Time and bytes of each frame.
    fn push(depacketizer: &mut Depacketizer, gap: bool, payload: &[u8]) -> Vec<(i64, Vec<u8>)> {
        let payload = Bytes::copy_from_slice(payload);
        let mut found = Vec::new();
        depacketizer.push(&Packet { timestamp: 500, marker: true, gap, payload }, &mut found);
        let frame = |found| match found {
            Found::Frame { timestamp, payload, .. } => Some((timestamp, payload.to_vec())),
            _ => None,
        };
        found.into_iter().filter_map(frame).collect()
    }

    const HIGH_RATE: &str = "sizelength=13;indexlength=3;indexdeltalength=3";

    #[test]
    fn access_units_that_share_a_packet_follow_each_other() {
        let mut high = depacketizer(HIGH_RATE);
        let packet = [0, 32, 0, 2 << 3, 0, 1 << 3, 7, 8, 9];
        assert_eq!(push(&mut high, false, &packet), [(500, vec![7, 8]), (1524, vec![9])]);
        let mut low = depacketizer("sizelength=6;indexlength=2;indexdeltalength=2");
        assert_eq!(push(&mut low, false, &[0, 8, 2 << 2, 7, 8]), [(500, vec![7, 8])]);
        let mut stated =
            depacketizer("sizelength=13;indexlength=3;indexdeltalength=3;constantduration=960");
        assert_eq!(push(&mut stated, false, &packet)[1].0, 1460);
    }

    #[test]
    fn a_packet_holds_as_many_as_it_may() {
        let packet = |units: usize| {
            let bits = u16::try_from(16 * units).unwrap().to_be_bytes();
            let headers = [0, 1 << 3].repeat(units);
            [&bits[..], &headers, &vec![7; units]].concat()
        };
        let mut high = depacketizer(HIGH_RATE);
        assert_eq!(push(&mut high, false, &packet(FRAMES_MAX)).len(), FRAMES_MAX);
        assert_eq!(high.malformed(), 0);
        push(&mut high, false, &packet(FRAMES_MAX + 1));
        assert_eq!(high.malformed(), 1);
    }

    #[test]
    fn fragments_are_put_together_or_dropped() {
        let mut high = depacketizer(HIGH_RATE);
        let fragment = |bytes: &[u8]| [&[0, 16, 0, 4 << 3], bytes].concat();
        assert_eq!(push(&mut high, false, &fragment(&[1, 2])), []);
        assert_eq!(push(&mut high, false, &fragment(&[3, 4])), [(500, vec![1, 2, 3, 4])]);
        assert_eq!(push(&mut high, false, &fragment(&[1, 2])), []);
        assert_eq!(push(&mut high, true, &fragment(&[1, 2, 3, 4])), [(500, vec![1, 2, 3, 4])]);
        assert_eq!(push(&mut high, false, &fragment(&[1, 2, 3])), []);
        assert_eq!(push(&mut high, false, &fragment(&[1, 2, 3])), []);
        assert_eq!((high.discarded(), high.malformed()), (2, 1));
    }

    #[test]
    fn headers_that_do_not_add_up_are_refused() {
        let mut high = depacketizer(HIGH_RATE);
        // Nothing, headers cut short, a header cut short, two units of which one is cut, interleaved.
        let wrong: [&[u8]; 6] = [
            &[],
            &[0],
            &[0, 32, 0, 8],
            &[0, 8, 0, 1],
            &[0, 32, 0, 1 << 3, 0, 9 << 3, 1, 2],
            &[0, 32, 0, 1 << 3, 0, 1 << 3 | 2, 1, 2],
        ];
        for (at, payload) in wrong.into_iter().enumerate() {
            let out = push(&mut high, false, payload);
            assert!(out.len() <= 1, "{at}");
            assert_eq!(high.malformed(), at as u64 + 1);
        }
        assert_eq!(push(&mut high, false, &[0, 16, 0xff, 0xf8, 1]), []);
        assert_eq!(high.malformed(), 7);
    }
}
