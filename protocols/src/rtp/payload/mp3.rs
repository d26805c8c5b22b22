//! Layer III of MPEG audio: RFC 2250 3.5. The clock is 90 kHz whatever the sample rate.

use bytes::Bytes;

use super::sound::{FRAMES_MAX, Fragments, Frames, SoundFormat};
use super::{Packet, PayloadError};
use crate::bits::ByteReader;
use crate::codec::mp3::{self, Header};
use crate::media::{Codec, Track};
use crate::rtp::format::PayloadFormat;
use crate::rtp::packets::PacketWriter;

/// Bytes in front of the frames: 16 of zero, and the offset of a fragment (3.5).
const HEADER_BYTES: usize = 4;

/// Reads packets.
#[derive(Debug)]
pub(super) struct Mp3Sound {
    clock_rate: u32,
    fragments: Fragments,
}

impl Mp3Sound {
    pub(super) fn new(format: &PayloadFormat) -> Self {
        Self { clock_rate: format.clock_rate, fragments: Fragments::default() }
    }

    fn emit(&self, timestamp: i64, header: Header, frame: Bytes, out: &mut Frames<'_>) {
        out.set_track(&Track { codec: Codec::Mp3, config: Bytes::new(), info: header.info });
        out.push(timestamp, frame);
    }

    fn ticks(&self, header: Header) -> i64 {
        let ticks = u64::from(header.samples) * u64::from(self.clock_rate);
        (ticks / u64::from(header.info.sample_rate.max(1))).cast_signed()
    }

    /// Frames one after the other; the last one may go on in the next packet.
    fn on_frames(
        &mut self,
        packet: &Packet,
        mut rest: Bytes,
        out: &mut Frames<'_>,
    ) -> Result<(), PayloadError> {
        let mut timestamp = packet.timestamp;
        for at in 0..=FRAMES_MAX {
            if rest.is_empty() {
                return Ok(());
            }
            if at == FRAMES_MAX {
                break;
            }
            let header = mp3::header(&rest).ok_or(PayloadError::Unsupported)?;
            if header.frame_bytes > rest.len() {
                return self.fragments.push(timestamp, &rest, out.bytes_max);
            }
            let frame = rest.split_to(header.frame_bytes);
            self.emit(timestamp, header, frame, out);
            timestamp = timestamp.saturating_add(self.ticks(header));
        }
        Err(PayloadError::Unsupported)
    }
}

impl SoundFormat for Mp3Sound {
    fn push(&mut self, packet: &Packet, out: &mut Frames<'_>) -> Result<(), PayloadError> {
        let mut reader = ByteReader::new(&packet.payload);
        let (Some(_), Some(offset)) = (reader.u16(), reader.u16()) else {
            return Err(PayloadError::Truncated);
        };
        let body = packet.payload.slice(HEADER_BYTES..);
        if offset == 0 {
            if self.fragments.clear() {
                return Err(PayloadError::Fragment);
            }
            return self.on_frames(packet, body, out);
        }
        if self.fragments.len() != usize::from(offset) {
            return Err(PayloadError::Fragment);
        }
        self.fragments.push(packet.timestamp, &body, out.bytes_max)?;
        let Some(header) = mp3::header(self.fragments.bytes()) else {
            return Err(PayloadError::Unsupported);
        };
        match header.frame_bytes.cmp(&self.fragments.len()) {
            std::cmp::Ordering::Greater => Ok(()),
            std::cmp::Ordering::Less => Err(PayloadError::Fragment),
            std::cmp::Ordering::Equal => {
                let timestamp = self.fragments.timestamp();
                let frame = self.fragments.take();
                self.emit(timestamp, header, frame, out);
                Ok(())
            }
        }
    }

    fn abandon(&mut self) -> bool {
        self.fragments.clear()
    }

    fn memory_bytes(&self) -> usize {
        self.fragments.memory_bytes()
    }
}

/// Writes the packets of a frame.
pub(in crate::rtp) fn write(frame: &[u8], writer: &mut PacketWriter<'_>) {
    let size = writer.payload_max().saturating_sub(HEADER_BYTES).max(1);
    for (at, part) in frame.chunks(size).enumerate() {
        let [high, low] = u16::try_from(at * size).unwrap_or(u16::MAX).to_be_bytes();
        writer.packet(&[&[0, 0, high, low], part]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::payload::{Depacketizer, Found};

    #[test]
    fn a_packet_holds_as_many_frames_as_it_may() {
        let format = PayloadFormat::from_sdp(14, "MPA", 90_000, 1, "").unwrap();
        // 8 kbit/s at 24 kHz (MPEG-2): 24 bytes a frame.
        let head = [0xFF, 0xF3, 0x14, 0xC4];
        let frame = [&head[..], &[0; 20]].concat();
        assert_eq!(mp3::header(&frame).map(|header| header.frame_bytes), Some(frame.len()));
        for (frames, malformed) in [(1, 0), (FRAMES_MAX, 0), (FRAMES_MAX + 1, 1)] {
            let mut depacketizer = Depacketizer::new(&format, 1 << 16).unwrap();
            let payload = Bytes::from([&[0; HEADER_BYTES][..], &frame.repeat(frames)].concat());
            let mut found = Vec::new();
            let packet = Packet { timestamp: 0, marker: true, gap: false, payload };
            depacketizer.push(&packet, &mut found);
            let count = found.iter().filter(|found| matches!(found, Found::Frame { .. })).count();
            assert_eq!((count, depacketizer.malformed()), (frames.min(FRAMES_MAX), malformed));
        }
    }
}
