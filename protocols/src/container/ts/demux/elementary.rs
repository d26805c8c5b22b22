//! One elementary stream: continuity of its packets, and the PES packets made of them.

use super::audio::AudioReader;
use super::video::VideoReader;
use super::{Output, Stamps};
use crate::container::ts::clock::Unwrapper;
use crate::container::ts::packet::{PACKET_BYTES, Packet};
use crate::container::ts::pes::{self, Assembler, Progress};
use crate::container::ts::stream_type::Format;

/// What the continuity counter of a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The packet follows the one before.
    Next,
    /// The packet is the one before, sent twice.
    Duplicate,
    /// Packets are missing between the one before and this one.
    Gap,
    /// The stream says that it does not go on from before.
    Announced,
}

/// The continuity counter of one packet identifier.
#[derive(Debug)]
pub(super) struct Continuity {
    counter: Option<u8>,
    /// The payload before, to tell a packet sent twice from sixteen that are missing.
    payload: [u8; PACKET_BYTES],
    payload_bytes: usize,
}

impl Default for Continuity {
    fn default() -> Self {
        Self { counter: None, payload: [0; PACKET_BYTES], payload_bytes: 0 }
    }
}

impl Continuity {
    /// Judges the next packet. The counter of packets without payload is not looked at.
    pub(super) fn check(&mut self, packet: &Packet<'_>) -> Verdict {
        let Some(payload) = packet.payload else {
            if packet.discontinuity {
                self.counter = None;
                return Verdict::Announced;
            }
            return Verdict::Next;
        };
        let before = self.counter.replace(packet.continuity_counter);
        let same_payload = self.payload.get(..self.payload_bytes) == Some(payload);
        if let Some(kept) = self.payload.get_mut(..payload.len()) {
            kept.copy_from_slice(payload);
            self.payload_bytes = payload.len();
        }
        match before {
            _ if packet.discontinuity => Verdict::Announced,
            None => Verdict::Next,
            Some(before) if packet.continuity_counter == (before + 1) & 0x0f => Verdict::Next,
            Some(before) if packet.continuity_counter == before && same_payload => {
                Verdict::Duplicate
            }
            Some(_) => Verdict::Gap,
        }
    }
}

/// What reads the payload of PES packets.
pub(super) trait Reader {
    /// Something was lost before what comes next.
    fn on_damage(&mut self);
    /// Takes the payload of a PES packet; `bounded` when that stated its length.
    fn on_pes(
        &mut self,
        stamps: Option<Stamps>,
        payload: &[u8],
        bounded: bool,
        output: &mut Output<'_>,
    );
    /// The stream ends.
    fn finish(&mut self, output: &mut Output<'_>);
}

impl Reader for VideoReader {
    fn on_damage(&mut self) {
        VideoReader::on_damage(self);
    }

    fn on_pes(
        &mut self,
        stamps: Option<Stamps>,
        payload: &[u8],
        bounded: bool,
        output: &mut Output<'_>,
    ) {
        VideoReader::on_pes(self, stamps, payload, bounded, output);
    }

    fn finish(&mut self, output: &mut Output<'_>) {
        VideoReader::finish(self, output);
    }
}

impl Reader for AudioReader {
    fn on_damage(&mut self) {
        AudioReader::on_damage(self);
    }

    fn on_pes(&mut self, stamps: Option<Stamps>, payload: &[u8], _: bool, output: &mut Output<'_>) {
        AudioReader::on_pes(self, stamps, payload, output);
    }

    fn finish(&mut self, _: &mut Output<'_>) {}
}

/// An elementary stream and the reader behind it.
#[derive(Debug)]
pub(super) struct Elementary<R> {
    pub(super) pid: u16,
    pub(super) format: Format,
    continuity: Continuity,
    pes: Assembler,
    reader: R,
}

impl<R: Reader> Elementary<R> {
    pub(super) fn new(pid: u16, format: Format, reader: R) -> Self {
        let (continuity, pes) = (Continuity::default(), Assembler::default());
        Self { pid, format, continuity, pes, reader }
    }

    pub(super) fn on_packet(
        &mut self,
        packet: &Packet<'_>,
        clock: &mut Unwrapper,
        output: &mut Output<'_>,
    ) {
        match self.continuity.check(packet) {
            Verdict::Next => {}
            Verdict::Duplicate => {
                output.ignored.duplicate_packets += 1;
                return;
            }
            Verdict::Gap => {
                output.damage.continuity_errors += 1;
                self.on_loss(output);
            }
            Verdict::Announced => {
                output.ignored.discontinuities += 1;
                self.on_end(clock, output);
            }
        }
        let Some(payload) = packet.payload else { return };
        if packet.scrambled {
            output.damage.scrambled_packets += 1;
            self.on_loss(output);
            return;
        }
        if packet.unit_start {
            self.on_end(clock, output);
            self.pes.begin();
        } else if !self.pes.is_open() {
            // The rest of what was lost, or bytes beyond a packet's length.
            return;
        }
        match self.pes.put(payload, output.pes_bytes_max) {
            Progress::Open => {}
            Progress::Complete => self.on_complete(true, clock, output),
            Progress::TooLarge => {
                output.damage.oversized_pes += 1;
                self.reader.on_damage();
            }
        }
    }

    pub(super) fn finish(&mut self, clock: &mut Unwrapper, output: &mut Output<'_>) {
        self.on_end(clock, output);
        self.reader.finish(output);
    }

    /// The packet in progress, if there is one, gets no more bytes.
    fn on_end(&mut self, clock: &mut Unwrapper, output: &mut Output<'_>) {
        if self.pes.is_open() {
            if self.pes.is_unbounded() {
                self.on_complete(false, clock, output);
            } else {
                self.on_loss(output);
            }
        }
    }

    fn on_loss(&mut self, output: &mut Output<'_>) {
        output.damage.damaged_pes += u64::from(self.pes.is_open());
        self.pes.abandon();
        self.reader.on_damage();
    }

    fn on_complete(&mut self, bounded: bool, clock: &mut Unwrapper, output: &mut Output<'_>) {
        let packet = self.pes.take();
        match pes::parse(&packet) {
            _ if pes::is_padding(&packet) => {}
            Some(pes) if !pes.scrambled => {
                let stamps = pes.stamps.map(|(pts, dts)| {
                    let dts = clock.unwrap(dts);
                    Stamps { pts: clock.unwrap(pts), dts }
                });
                self.reader.on_pes(stamps, pes.payload, bounded, output);
            }
            scrambled => {
                output.damage.scrambled_packets += u64::from(scrambled.is_some());
                output.damage.damaged_pes += 1;
                self.reader.on_damage();
            }
        }
        self.pes.give_back(packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_tell_what_is_missing() {
        let mut continuity = Continuity::default();
        let mut check = |counter, payload: Option<&'static [u8]>, discontinuity| {
            continuity.check(&Packet {
                pid: 0,
                transport_error: false,
                unit_start: false,
                scrambled: false,
                continuity_counter: counter,
                discontinuity,
                payload,
            })
        };
        assert_eq!(check(14, Some(b"a"), false), Verdict::Next);
        assert_eq!(check(15, Some(b"b"), false), Verdict::Next);
        assert_eq!(check(15, None, false), Verdict::Next);
        assert_eq!(check(0, Some(b"c"), false), Verdict::Next);
        assert_eq!(check(0, Some(b"c"), false), Verdict::Duplicate);
        assert_eq!(check(0, Some(b"d"), false), Verdict::Gap);
        assert_eq!(check(2, Some(b"e"), false), Verdict::Gap);
        assert_eq!(check(9, Some(b"f"), true), Verdict::Announced);
        assert_eq!(check(9, None, true), Verdict::Announced);
        assert_eq!(check(3, Some(b"g"), false), Verdict::Next);
    }
}
