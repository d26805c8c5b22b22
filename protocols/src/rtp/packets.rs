//! Writes the RTP packets of one frame, framed, into a byte buffer that grows by them only.

use super::header::{HEADER_BYTES, Header};
use super::interleaved::{FRAMING_BYTES, MAGIC};

/// Where one track of a sender stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) ssrc: u32,
    /// Of the next packet.
    pub(super) sequence_number: u16,
    pub(super) payload_type: u8,
    /// Channel of the interleaved framing.
    pub(super) channel: u8,
    /// Packets and payload bytes so far, as sender reports count them.
    pub(super) packets: u32,
    pub(super) payload_bytes: u32,
}

/// The packets of one frame. All but the last of a run of packets are of the largest size.
#[derive(Debug)]
pub(super) struct PacketWriter<'a> {
    source: &'a mut Source,
    out: &'a mut Vec<u8>,
    timestamp: u32,
    payload_max: usize,
    /// Where the framing of the packet written last begins.
    last: Option<usize>,
}

impl<'a> PacketWriter<'a> {
    /// Packets of at most `packet_bytes`, RTP header included, behind what is in `out`.
    pub(super) fn new(
        source: &'a mut Source,
        out: &'a mut Vec<u8>,
        timestamp: u32,
        packet_bytes: usize,
    ) -> Self {
        let payload_max = packet_bytes.saturating_sub(HEADER_BYTES).max(1);
        Self { source, out, timestamp, payload_max, last: None }
    }

    /// Most payload bytes of a packet.
    pub(super) fn payload_max(&self) -> usize {
        self.payload_max
    }

    /// Moves the timestamp for the packets from here on.
    pub(super) fn advance(&mut self, ticks: u32) {
        self.timestamp = self.timestamp.wrapping_add(ticks);
    }

    /// Writes a packet of these parts.
    pub(super) fn packet(&mut self, parts: &[&[u8]]) {
        self.open();
        parts.iter().for_each(|part| self.append(part));
    }

    /// Begins a packet; [`PacketWriter::append`] fills it.
    pub(super) fn open(&mut self) {
        self.seal();
        self.last = Some(self.out.len());
        let source = &mut *self.source;
        let header = Header {
            marker: false,
            payload_type: source.payload_type,
            sequence_number: source.sequence_number,
            timestamp: self.timestamp,
            ssrc: source.ssrc,
        };
        source.sequence_number = source.sequence_number.wrapping_add(1);
        source.packets = source.packets.wrapping_add(1);
        self.out.extend_from_slice(&[MAGIC, source.channel, 0, 0]);
        self.out.extend_from_slice(&header.to_bytes());
    }

    /// Appends to the packet opened last.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Writes the length of the packet opened last into its framing.
    fn seal(&mut self) {
        let Some(begin) = self.last else { return };
        let length = self.out.len() - begin - FRAMING_BYTES;
        let payload = u32::try_from(length - HEADER_BYTES).unwrap_or(u32::MAX);
        self.source.payload_bytes = self.source.payload_bytes.wrapping_add(payload);
        // No packet is larger than the framing can say: the sender bounds its size.
        let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        if let Some(at) = self.out.get_mut(begin + 2..begin + FRAMING_BYTES) {
            at.copy_from_slice(&length);
        }
    }

    /// Ends the frame; its last packet is marked if `marker`. `false` when there was no packet.
    pub(super) fn finish(mut self, marker: bool) -> bool {
        self.seal();
        let second = self.last.and_then(|begin| self.out.get_mut(begin + FRAMING_BYTES + 1));
        if let Some(byte) = second {
            *byte |= u8::from(marker) << 7;
        }
        self.last.is_some()
    }
}
