//! PES packets (2.4.3.6): the header in both directions, and putting a packet together.

use super::stream_type::VIDEO_STREAM;
use crate::bits::ByteReader;

/// Start code, `stream_id`, `PES_packet_length`.
const START_BYTES: usize = 6;
/// Largest header a writer makes: both time stamps.
pub(super) const HEADER_BYTES_MAX: usize = START_BYTES + 3 + 2 * STAMP_BYTES;
const STAMP_BYTES: usize = 5;
const PTS_ONLY: u8 = 0x80;
const PTS_AND_DTS: u8 = 0xc0;

/// The header of a PES packet and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pes<'a> {
    pub(super) scrambled: bool,
    /// Presentation and decode time stamp of 33 bits, of the first access unit that begins in the
    /// packet; the latter is the former where only that is coded.
    pub(super) stamps: Option<(u64, u64)>,
    pub(super) payload: &'a [u8],
}

/// Reads a whole PES packet. `None` when it does not begin with a start code, is of a kind without
/// time stamps, or its header does not fit.
pub(super) fn parse(packet: &[u8]) -> Option<Pes<'_>> {
    let mut reader = ByteReader::new(packet);
    let [0, 0, 1, stream_id, _, _] = reader.array::<START_BYTES>()? else { return None };
    // Maps, padding, private data 2 and such begin with their data at once.
    if !(0xbd..=0xef).contains(&stream_id) && stream_id != 0xfd || matches!(stream_id, 0xbe | 0xbf)
    {
        return None;
    }
    let [first, flags, header_bytes] = reader.array()?;
    if first & 0xc0 != 0x80 {
        return None;
    }
    let mut header = ByteReader::new(reader.bytes(header_bytes.into())?);
    let stamps = match flags & PTS_AND_DTS {
        PTS_ONLY => header.array().map(stamp).map(|pts| (pts, pts)),
        PTS_AND_DTS => match (header.array(), header.array()) {
            (Some(pts), Some(dts)) => Some((stamp(pts), stamp(dts))),
            _ => None,
        },
        _ => None,
    };
    Some(Pes { scrambled: first & 0x30 != 0, stamps, payload: reader.rest() })
}

/// The packet only fills the rate up.
pub(super) fn is_padding(packet: &[u8]) -> bool {
    packet.starts_with(&[0, 0, 1, 0xbe])
}

/// 33 bits in three groups, each followed by a marker bit.
fn stamp(bytes: [u8; STAMP_BYTES]) -> u64 {
    let [a, b, c, d, e] = bytes.map(u64::from);
    (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1
}

fn coded_stamp(prefix: u8, ticks: u64) -> [u8; STAMP_BYTES] {
    let group = |shift: u32| (ticks >> shift) as u8;
    [prefix << 4 | (group(30) & 7) << 1 | 1, group(22), group(14) | 1, group(7), group(0) << 1 | 1]
}

/// The header of a PES packet that begins with an access unit, and how many of the bytes it takes.
/// `pts` and `dts` have 33 bits; the latter is coded where it differs. A length that does not fit
/// is left open, which is allowed to video only (2.4.3.7): `None` for anything else.
pub(super) fn header(
    stream_id: u8,
    pts: u64,
    dts: u64,
    payload_bytes: usize,
) -> Option<([u8; HEADER_BYTES_MAX], usize)> {
    let both = pts != dts;
    let stamp_bytes = if both { 2 * STAMP_BYTES } else { STAMP_BYTES };
    let length = match u16::try_from(3 + stamp_bytes + payload_bytes) {
        Ok(length) => length,
        Err(_) if stream_id == VIDEO_STREAM => 0,
        Err(_) => return None,
    };
    let mut header = [0; HEADER_BYTES_MAX];
    let [length_high, length_low] = length.to_be_bytes();
    let flags = if both { PTS_AND_DTS } else { PTS_ONLY };
    // 0x84: the marker bits, and the payload begins with an access unit.
    let fixed = [0, 0, 1, stream_id, length_high, length_low, 0x84, flags, stamp_bytes as u8];
    header[..9].copy_from_slice(&fixed);
    header[9..14].copy_from_slice(&coded_stamp(if both { 3 } else { 2 }, pts));
    if both {
        header[14..].copy_from_slice(&coded_stamp(1, dts));
    }
    Some((header, 9 + stamp_bytes))
}

/// What became of the bytes put into an [`Assembler`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The packet goes on.
    Open,
    /// The packet has all the bytes it announced.
    Complete,
    /// The packet is larger than accepted and was dropped.
    TooLarge,
}

/// One PES packet in the making.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    buffer: Vec<u8>,
    open: bool,
}

impl Assembler {
    /// A packet began and has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// The packet announced no length: it ends where the next one begins.
    pub(super) fn is_unbounded(&self) -> bool {
        self.bytes_announced() == Some(0)
    }

    /// Forgets the packet.
    pub(super) fn abandon(&mut self) {
        self.buffer.clear();
        self.open = false;
    }

    /// Begins a packet.
    pub(super) fn begin(&mut self) {
        self.buffer.clear();
        self.open = true;
    }

    /// Puts the next bytes of an open packet; those beyond its announced length are dropped.
    pub(super) fn put(&mut self, bytes: &[u8], bytes_max: usize) -> Progress {
        self.buffer.extend_from_slice(bytes);
        if let Some(length @ 1..) = self.bytes_announced()
            && self.buffer.len() >= START_BYTES + length
        {
            self.buffer.truncate(START_BYTES + length);
            return Progress::Complete;
        }
        if self.buffer.len() > bytes_max {
            self.abandon();
            return Progress::TooLarge;
        }
        Progress::Open
    }

    /// The packet so far; afterwards none is open. Its buffer is to come back with
    /// [`Assembler::give_back`].
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.open = false;
        std::mem::take(&mut self.buffer)
    }

    /// Takes the buffer of the packet before for the next.
    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.buffer = buffer;
    }

    /// `PES_packet_length`, once it is there.
    fn bytes_announced(&self) -> Option<usize> {
        let [_, _, _, _, high, low] = self.buffer.first_chunk::<START_BYTES>()?;
        Some(u16::from_be_bytes([*high, *low]).into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_are_read_back(
            pts in 0u64..1 << 33,
            dts in 0u64..1 << 33,
            same: bool,
            bytes in 0usize..70_000,
        ) {
            let dts = if same { pts } else { dts };
            let (written, length) = header(VIDEO_STREAM, pts, dts, bytes).unwrap();
            let packet = [&written[..length], &vec![7; bytes]].concat();
            let pes = parse(&packet).unwrap();
            prop_assert_eq!(pes.stamps, Some((pts, dts)));
            prop_assert_eq!((pes.payload.len(), pes.scrambled), (bytes, false));
            let mut assembler = Assembler::default();
            assembler.begin();
            let progress = assembler.put(&packet, usize::MAX);
            let bounded = packet.len() - 6 <= 65_535;
            prop_assert_eq!(progress == Progress::Complete, bounded);
            prop_assert_eq!(assembler.is_unbounded(), !bounded);
        }
    }

    #[test]
    fn only_video_may_leave_its_length_open() {
        assert!(header(0xc0, 1, 1, 65_527).is_some());
        assert_eq!(header(0xc0, 1, 1, 65_528), None);
        assert_eq!(header(VIDEO_STREAM, 1, 1, 65_528).unwrap().0[4..6], [0, 0]);
    }

    #[test]
    fn packets_of_other_kinds_and_cut_headers_are_refused() {
        let packet = |stream_id, first, header_bytes| {
            [0, 0, 1, stream_id, 0, 0, first, 0x80, header_bytes, 0x21, 0, 1, 0, 1]
        };
        assert_eq!(parse(&packet(0xc0, 0x80, 5)).unwrap().stamps, Some((0, 0)));
        assert!(parse(&packet(0xc0, 0xb0, 5)).unwrap().scrambled);
        // A header too short for its own flags: no stamps.
        assert_eq!(parse(&packet(0xc0, 0x80, 2)).unwrap().stamps, None);
        for refused in [packet(0xbe, 0x80, 5), packet(0xbc, 0x80, 5), packet(0xc0, 0x40, 5)] {
            assert_eq!(parse(&refused), None);
        }
        assert_eq!(parse(&packet(0xc0, 0x80, 6)), None);
        assert_eq!(parse(&[0, 0, 2, 0xc0, 0, 0, 0x80, 0, 0]), None);
        assert_eq!(parse(&[0, 0, 1, 0xc0]), None);
    }

    #[test]
    fn a_packet_ends_at_its_length_and_at_the_limit() {
        let mut assembler = Assembler::default();
        assembler.begin();
        assert_eq!(assembler.put(&[0, 0, 1, 0xe0, 0], 64), Progress::Open);
        assert_eq!(assembler.put(&[4, 1, 2, 3], 64), Progress::Open);
        assert_eq!(assembler.put(&[4, 5, 6], 64), Progress::Complete);
        assert_eq!(assembler.take(), [0, 0, 1, 0xe0, 0, 4, 1, 2, 3, 4]);
        assembler.begin();
        assert_eq!(assembler.put(&[0, 0, 1, 0xe0, 0, 0], 64), Progress::Open);
        assert!(assembler.is_unbounded() && assembler.is_open());
        assert_eq!(assembler.put(&[0; 59], 64), Progress::TooLarge);
        assert!(!assembler.is_open());
    }
}
