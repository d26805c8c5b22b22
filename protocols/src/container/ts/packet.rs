//! Transport packets: header and adaptation field read, and one unit of payload written as packets.

/// Bytes of a transport packet (2.4.3.2).
pub const PACKET_BYTES: usize = 188;
/// First byte of every transport packet.
pub const SYNC_BYTE: u8 = 0x47;
/// The packet identifier of packets without meaning.
pub(super) const NULL_PID: u16 = 0x1fff;
/// Ticks of the program clock per tick of time stamps.
pub(super) const CLOCK_RATIO: u64 = 300;

const HEADER_BYTES: usize = 4;
const BODY_BYTES: usize = PACKET_BYTES - HEADER_BYTES;
/// Largest `adaptation_field_length`.
const ADAPTATION_LENGTH_MAX: usize = BODY_BYTES - 1;
const PCR_BYTES: usize = 6;

const UNIT_START: u8 = 0x40;
const ADAPTATION: u8 = 0x20;
const PAYLOAD: u8 = 0x10;
const DISCONTINUITY: u8 = 0x80;
const RANDOM_ACCESS: u8 = 0x40;
const PCR: u8 = 0x10;

/// A transport packet that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) pid: u16,
    pub(super) transport_error: bool,
    /// A PES packet or a section begins in the payload.
    pub(super) unit_start: bool,
    pub(super) scrambled: bool,
    pub(super) continuity_counter: u8,
    pub(super) discontinuity: bool,
    /// `None` where the header says that there is none.
    pub(super) payload: Option<&'a [u8]>,
}

/// Reads a packet. `None` when the sync byte is wrong, the adaptation field does not fit or its
/// presence is reserved.
pub(super) fn parse(bytes: &[u8; PACKET_BYTES]) -> Option<Packet<'_>> {
    let [sync, high, low, control, body @ ..] = bytes;
    if *sync != SYNC_BYTE || control & (ADAPTATION | PAYLOAD) == 0 {
        return None;
    }
    let (mut flags, mut payload) = (0, &body[..]);
    if control & ADAPTATION != 0 {
        let (length, rest) = payload.split_first()?;
        let (field, rest) = rest.split_at_checked(usize::from(*length))?;
        flags = field.first().copied().unwrap_or(0);
        payload = rest;
    }
    Some(Packet {
        pid: u16::from(high & 0x1f) << 8 | u16::from(*low),
        transport_error: high & 0x80 != 0,
        unit_start: high & UNIT_START != 0,
        scrambled: control & 0xc0 != 0,
        continuity_counter: control & 0x0f,
        discontinuity: flags & DISCONTINUITY != 0,
        payload: (control & PAYLOAD != 0).then_some(payload),
    })
}

/// The packets of one identifier, as a writer counts them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pid {
    pub(super) number: u16,
    next_counter: u8,
    /// The next packet says that the counter, or the clock, does not go on from before.
    pub(super) discontinuity: bool,
}

impl Pid {
    pub(super) const fn new(number: u16) -> Self {
        Self { number, next_counter: 0, discontinuity: false }
    }
}

/// What the first packet of a unit says in its adaptation field.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Adaptation {
    /// Ticks of 27 MHz; below 2^33 · 300.
    pub(super) pcr: Option<u64>,
    pub(super) random_access: bool,
}

/// Writes one PES packet or section: `total` bytes of payload, put in pieces, become whole packets
/// of `pid`, the last one stuffed in its adaptation field.
pub(super) struct UnitWriter<'a> {
    out: &'a mut Vec<u8>,
    pid: &'a mut Pid,
    /// Bytes of payload still to be put.
    left: usize,
    /// Bytes of payload still free in the open packet.
    room: usize,
}

impl<'a> UnitWriter<'a> {
    pub(super) fn begin(
        out: &'a mut Vec<u8>,
        pid: &'a mut Pid,
        first: Adaptation,
        total: usize,
    ) -> Self {
        out.reserve((total / (BODY_BYTES - PCR_BYTES - 2) + 1) * PACKET_BYTES);
        let mut writer = Self { out, pid, left: total, room: 0 };
        writer.open(UNIT_START, first);
        writer
    }

    /// Puts the next bytes; the pieces of a unit must add up to its `total`.
    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.left, "more payload than announced");
        while !bytes.is_empty() {
            if self.room == 0 {
                self.open(0, Adaptation::default());
            }
            let (piece, rest) = bytes.split_at(self.room.min(bytes.len()));
            self.out.extend_from_slice(piece);
            self.room -= piece.len();
            self.left = self.left.saturating_sub(piece.len());
            bytes = rest;
        }
    }

    /// The unit is whole.
    pub(super) fn end(self) {
        debug_assert!(self.left == 0 && self.room == 0, "less payload than announced");
    }

    fn open(&mut self, unit_start: u8, adaptation: Adaptation) {
        let counter = self.pid.next_counter;
        self.pid.next_counter = (counter + 1) & 0x0f;
        let discontinuity = std::mem::take(&mut self.pid.discontinuity);
        self.room = write_head(
            self.out,
            self.pid.number,
            (unit_start, PAYLOAD | counter),
            (adaptation, discontinuity),
            self.left,
        );
    }
}

/// A packet without payload that only tells the clock. Its counter is that of the packet before.
pub(super) fn write_clock(out: &mut Vec<u8>, pid: &mut Pid, pcr: u64) {
    let counter = pid.next_counter.wrapping_sub(1) & 0x0f;
    let discontinuity = std::mem::take(&mut pid.discontinuity);
    let adaptation = Adaptation { pcr: Some(pcr), random_access: false };
    write_head(out, pid.number, (0, counter), (adaptation, discontinuity), 0);
}

/// Header, adaptation field and stuffing, such that up to `payload_bytes` fill the packet. Returns
/// how many bytes of payload the packet takes.
fn write_head(
    out: &mut Vec<u8>,
    pid: u16,
    (unit_start, control): (u8, u8),
    (adaptation, discontinuity): (Adaptation, bool),
    payload_bytes: usize,
) -> usize {
    let flags = if discontinuity { DISCONTINUITY } else { 0 }
        | if adaptation.random_access { RANDOM_ACCESS } else { 0 }
        | if adaptation.pcr.is_some() { PCR } else { 0 };
    // What the field needs, its length byte included.
    let needed = match (flags, adaptation.pcr) {
        (0, _) => 0,
        (_, None) => 2,
        (_, Some(_)) => 2 + PCR_BYTES,
    };
    let room = (BODY_BYTES - needed).min(payload_bytes);
    let field = BODY_BYTES - room;
    let [high, low] = pid.to_be_bytes();
    let present = if field > 0 { ADAPTATION } else { 0 };
    out.extend_from_slice(&[SYNC_BYTE, unit_start | high & 0x1f, low, present | control]);
    if field == 0 {
        return room;
    }
    let length = u8::try_from(field - 1).unwrap_or(ADAPTATION_LENGTH_MAX as u8);
    out.push(length);
    if field == 1 {
        return room;
    }
    out.push(flags);
    let mut written = 2;
    if let Some(pcr) = adaptation.pcr {
        let (base, extension) = (pcr / CLOCK_RATIO, pcr % CLOCK_RATIO);
        // 33 bits of base, 6 reserved bits, 9 bits of extension.
        let coded = base << 15 | 0x3f << 9 | extension;
        out.extend_from_slice(&coded.to_be_bytes()[2..]);
        written += PCR_BYTES;
    }
    const STUFFING: [u8; BODY_BYTES] = [0xff; BODY_BYTES];
    out.extend_from_slice(&STUFFING[..field - written]);
    room
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packets(bytes: &[u8]) -> Vec<Packet<'_>> {
        let (packets, rest) = bytes.as_chunks::<PACKET_BYTES>();
        assert!(rest.is_empty());
        packets.iter().map(|packet| parse(packet).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn a_unit_of_any_length_and_cut_fills_whole_packets(
            total in 1usize..1200,
            cuts in prop::collection::vec(1usize..300, 0..12),
            pcr in prop::option::of(0..(1u64 << 33) * 300),
            random_access: bool,
            counter in 0u8..16,
        ) {
            let unit: Vec<u8> = (0..total).map(|at| at as u8).collect();
            let mut pid = Pid { next_counter: counter, ..Pid::new(0x123) };
            let mut out = Vec::new();
            let mut writer =
                UnitWriter::begin(&mut out, &mut pid, Adaptation { pcr, random_access }, total);
            let mut rest = &unit[..];
            for cut in cuts {
                let (piece, next) = rest.split_at(cut.min(rest.len()));
                writer.put(piece);
                rest = next;
            }
            writer.put(rest);
            writer.end();
            let found = packets(&out);
            let payload: Vec<u8> =
                found.iter().flat_map(|packet| packet.payload.unwrap()).copied().collect();
            prop_assert_eq!(payload, unit);
            for (at, packet) in found.iter().enumerate() {
                prop_assert_eq!(packet.pid, 0x123);
                prop_assert_eq!(packet.unit_start, at == 0);
                prop_assert_eq!(packet.continuity_counter, (counter + at as u8) & 15);
            }
            let flagged = out[3] & ADAPTATION != 0 && out[4] > 0 && out[5] & RANDOM_ACCESS != 0;
            prop_assert_eq!(flagged, random_access);
            if let Some(pcr) = pcr {
                let shift = |coded: u64, byte: &u8| coded << 8 | u64::from(*byte);
                let coded = out[6..12].iter().fold(0, shift);
                prop_assert_eq!(coded >> 15, pcr / 300);
                prop_assert_eq!(coded & 0x1ff, pcr % 300);
            }
        }
    }

    #[test]
    fn a_clock_packet_keeps_the_counter_and_takes_the_discontinuity() {
        let mut pid = Pid::new(256);
        let mut out = Vec::new();
        UnitWriter::begin(&mut out, &mut pid, Adaptation::default(), 1).put(&[1]);
        pid.discontinuity = true;
        write_clock(&mut out, &mut pid, 12_345);
        UnitWriter::begin(&mut out, &mut pid, Adaptation::default(), 184).put(&[2; 184]);
        let found = packets(&out);
        let counters: Vec<_> = found.iter().map(|packet| packet.continuity_counter).collect();
        assert_eq!(counters, [0, 0, 1]);
        assert_eq!((found[1].payload, found[1].discontinuity), (None, true));
        assert_eq!((found[2].payload, found[2].discontinuity), (Some(&[2; 184][..]), false));
    }

    #[test]
    fn fields_that_do_not_fit_are_refused() {
        let mut packet = [0; PACKET_BYTES];
        (packet[0], packet[3], packet[4]) = (SYNC_BYTE, 0x30, 183);
        assert_eq!(parse(&packet).unwrap().payload, Some(&[][..]));
        packet[4] = 184;
        assert_eq!(parse(&packet), None);
        packet[3] = 0x00;
        assert_eq!(parse(&packet), None);
        (packet[0], packet[3]) = (0x48, 0x10);
        assert_eq!(parse(&packet), None);
    }
}
