//! Program specific information (2.4.4): sections in packets, the check sum, PAT and PMT.

use super::packet::{Adaptation, Pid, UnitWriter};
use crate::bits::ByteReader;

/// The packet identifier of the program association table.
pub(super) const PAT_PID: u16 = 0;

const PAT_TABLE: u8 = 0x00;
const PMT_TABLE: u8 = 0x02;
/// Table id and `section_length`.
const SECTION_HEAD_BYTES: usize = 3;
/// Largest `section_length` of PAT and PMT.
const SECTION_LENGTH_MAX: usize = 1021;
const CRC_BYTES: usize = 4;
/// Fields between `section_length` and the table's own.
const COMMON_BYTES: usize = 5;
/// The one program a writer makes.
const PROGRAM_NUMBER: u16 = 1;

/// CRC-32 of annex A: polynomial 0x04c11db7, no reflection, all ones first.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| crc << 8 ^ CRC_TABLE[usize::from((crc >> 24) as u8 ^ byte)];
    bytes.iter().fold(u32::MAX, step)
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 << 31 != 0 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// Puts the sections of one packet identifier together.
#[derive(Debug, Default)]
pub(super) struct SectionReader {
    buffer: Vec<u8>,
    /// A section began, so that what follows belongs to it.
    open: bool,
}

impl SectionReader {
    /// Forgets the section in progress.
    pub(super) fn abandon(&mut self) {
        self.buffer.clear();
        self.open = false;
    }

    /// Takes the payload of the next packet and passes each section that ends in it on, head and
    /// check sum included, and whether it is the end of one in front of the first that begins in a
    /// packet with `unit_start`. Returns how many were unusable: longer than a PAT or PMT may be, or
    /// ended by the beginning of the next.
    pub(super) fn push(
        &mut self,
        unit_start: bool,
        payload: &[u8],
        mut section: impl FnMut(&[u8], bool),
    ) -> u64 {
        if !unit_start {
            return if self.open { self.append(payload, |whole| section(whole, false)) } else { 0 };
        }
        let Some((pointer, rest)) = payload.split_first() else { return 0 };
        let Some((tail, rest)) = rest.split_at_checked(usize::from(*pointer)) else {
            self.abandon();
            return 1;
        };
        let mut faults = 0;
        if self.open {
            faults += self.append(tail, |whole| section(whole, true));
            faults += u64::from(!self.buffer.is_empty());
        }
        self.abandon();
        self.open = true;
        faults + self.append(rest, |whole| section(whole, false))
    }

    fn append(&mut self, bytes: &[u8], mut section: impl FnMut(&[u8])) -> u64 {
        self.buffer.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some([table, high, low, ..]) = self.buffer.get(taken..) {
            // Stuffing: nothing more in this packet.
            if *table == 0xff {
                self.abandon();
                return 0;
            }
            let length = usize::from(high & 0x0f) << 8 | usize::from(*low);
            if length > SECTION_LENGTH_MAX {
                self.abandon();
                return 1;
            }
            let end = taken + SECTION_HEAD_BYTES + length;
            let Some(whole) = self.buffer.get(taken..end) else { break };
            section(whole);
            taken = end;
        }
        self.buffer.drain(..taken);
        if self.buffer.first() == Some(&0xff) {
            self.abandon();
        }
        0
    }
}

/// The check sum of the section is right.
pub(super) fn is_intact(section: &[u8]) -> bool {
    // Over itself it leaves nothing.
    crc(section) == 0
}

/// The programs of a PAT: program number and packet identifier of its PMT. `None` when the section
/// is another table, cut short or not valid yet. The check sum is the caller's to look at.
pub(super) fn parse_pat(section: &[u8]) -> Option<impl Iterator<Item = (u16, u16)>> {
    let (_, body) = body(section, PAT_TABLE)?;
    let (entries, _) = body.as_chunks::<4>();
    let entry = |[a, b, c, d]: &[u8; 4]| {
        (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c & 0x1f, *d]))
    };
    // Program 0 names the network information table.
    Some(entries.iter().map(entry).filter(|(program, _)| *program != 0))
}

/// One elementary stream of a PMT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PmtStream<'a> {
    pub(super) stream_type: u8,
    pub(super) pid: u16,
    pub(super) descriptors: &'a [u8],
}

/// Program number and elementary streams of a PMT. `None` as for [`parse_pat`], or when lengths
/// inside do not add up.
pub(super) fn parse_pmt(section: &[u8]) -> Option<(u16, Vec<PmtStream<'_>>)> {
    let (program, body) = body(section, PMT_TABLE)?;
    let mut reader = ByteReader::new(body);
    reader.u16()?;
    let program_info = reader.u16()? & 0x0fff;
    reader.bytes(program_info.into())?;
    let mut streams = Vec::new();
    while reader.remaining() > 0 {
        let stream_type = reader.u8()?;
        let pid = reader.u16()? & 0x1fff;
        let info = reader.u16()? & 0x0fff;
        streams.push(PmtStream { stream_type, pid, descriptors: reader.bytes(info.into())? });
    }
    Some((program, streams))
}

/// Tag and content of each descriptor; ends at the first that does not fit.
pub(super) fn descriptors(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut reader = ByteReader::new(bytes);
    std::iter::from_fn(move || {
        let (tag, length) = (reader.u8()?, reader.u8()?);
        Some((tag, reader.bytes(length.into())?))
    })
}

/// Table id extension and own fields of a section of `table` that is valid now.
fn body(section: &[u8], table: u8) -> Option<(u16, &[u8])> {
    let mut reader = ByteReader::new(section);
    let head = reader.array::<{ SECTION_HEAD_BYTES }>()?;
    if head[0] != table || head[1] & 0x80 == 0 {
        return None;
    }
    let common = reader.array::<COMMON_BYTES>()?;
    let body = reader.bytes(reader.remaining().checked_sub(CRC_BYTES)?)?;
    let valid_now = common[2] & 1 != 0;
    valid_now.then_some((u16::from_be_bytes([common[0], common[1]]), body))
}

/// The section of a PAT whose one program has its PMT at `pmt_pid`.
pub(super) fn build_pat(pmt_pid: u16) -> Vec<u8> {
    let mut body = PROGRAM_NUMBER.to_be_bytes().to_vec();
    body.extend_from_slice(&(0xe000 | pmt_pid).to_be_bytes());
    build(PAT_TABLE, 0, &body)
}

/// The section of a PMT with so many elementary streams: type, identifier, descriptors.
pub(super) fn build_pmt(version: u8, pcr_pid: u16, streams: &[PmtStream<'_>]) -> Vec<u8> {
    let mut body = (0xe000 | pcr_pid).to_be_bytes().to_vec();
    body.extend_from_slice(&0xf000u16.to_be_bytes());
    for stream in streams {
        body.push(stream.stream_type);
        body.extend_from_slice(&(0xe000 | stream.pid).to_be_bytes());
        body.extend_from_slice(&[0xf0, stream.descriptors.len() as u8]);
        body.extend_from_slice(stream.descriptors);
    }
    build(PMT_TABLE, version, &body)
}

fn build(table: u8, version: u8, body: &[u8]) -> Vec<u8> {
    let length = COMMON_BYTES + body.len() + CRC_BYTES;
    debug_assert!(length <= SECTION_LENGTH_MAX, "a section of our own is too long");
    let [high, low] = (length as u16).to_be_bytes();
    // The transport stream has the program's number; sections 0 to 0.
    let [id_high, id_low] = PROGRAM_NUMBER.to_be_bytes();
    let mut section = vec![table, 0xb0 | high, low, id_high, id_low];
    section.extend_from_slice(&[0xc1 | (version & 0x1f) << 1, 0, 0]);
    section.extend_from_slice(body);
    section.extend_from_slice(&crc(&section).to_be_bytes());
    section
}

/// Writes a section as packets of its own, the last one filled up with 0xff.
pub(super) fn write_section(out: &mut Vec<u8>, pid: &mut Pid, section: &[u8]) {
    const STUFFING: [u8; 184] = [0xff; 184];
    let filled = section.len() + 1;
    // A discontinuity takes two bytes of the first packet.
    let head = if pid.discontinuity { 2 } else { 0 };
    let stuffing = (184 - (filled + head) % 184) % 184;
    let total = filled + stuffing;
    let mut writer = UnitWriter::begin(out, pid, Adaptation::default(), total);
    writer.put(&[0]);
    writer.put(section);
    writer.put(&STUFFING[..stuffing]);
    writer.end();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::container::ts::packet;

    fn sections(payloads: &[(bool, &[u8])]) -> (Vec<Vec<u8>>, u64) {
        let (mut reader, mut found, mut faults) = (SectionReader::default(), Vec::new(), 0);
        for (unit_start, payload) in payloads {
            faults += reader.push(*unit_start, payload, |section, _| found.push(section.to_vec()));
        }
        (found, faults)
    }

    #[test]
    fn the_check_sum_is_that_of_annex_a() {
        assert_eq!(crc(b"123456789"), 0x0376_e6e7);
        assert_eq!(crc(&build_pat(0x1000)), 0);
    }

    #[test]
    fn tables_are_built_and_read_back() {
        let programs: Vec<_> = parse_pat(&build_pat(0x1000)).unwrap().collect();
        assert_eq!(programs, [(1, 0x1000)]);
        let streams = [
            PmtStream { stream_type: 0x1b, pid: 0x100, descriptors: &[] },
            PmtStream {
                stream_type: 0x06,
                pid: 0x101,
                descriptors: b"\x05\x04Opus\x7f\x02\x80\x02",
            },
        ];
        let pmt = build_pmt(3, 0x100, &streams);
        assert_eq!(parse_pmt(&pmt), Some((1, streams.to_vec())));
        let found: Vec<_> = descriptors(streams[1].descriptors).collect();
        assert_eq!(found, [(5, &b"Opus"[..]), (0x7f, &[0x80, 2])]);
        assert_eq!(descriptors(&[5, 4, 1]).count(), 0);
        assert!(parse_pat(&pmt).is_none() && parse_pmt(&build_pat(1)).is_none());
        for at in 0..pmt.len() {
            let mut damaged = pmt.clone();
            damaged[at] ^= 0x10;
            assert!(!is_intact(&damaged), "{at}");
        }
        assert!(is_intact(&pmt));
    }

    #[test]
    fn a_table_that_is_not_valid_yet_is_passed_over() {
        let mut pmt = build_pmt(0, 0x100, &[]);
        assert!(parse_pmt(&pmt).is_some());
        pmt[5] &= !1;
        assert_eq!(parse_pmt(&pmt), None);
    }

    #[test]
    fn sections_across_packets_and_several_in_one() {
        let (first, second) = (build_pat(0x20), build_pmt(0, 0x30, &[]));
        let two = [&[0][..], &first, &second, &[0xff; 9]].concat();
        assert_eq!(sections(&[(true, &two)]).0, [first.clone(), second.clone()]);
        // The tail of a section stands before the pointer's target.
        let start = [&[0][..], &first[..5]].concat();
        let rest = [&[first.len() as u8 - 7][..], &first[7..], &second].concat();
        let pieces: [(bool, &[u8]); 3] = [(true, &start), (false, &first[5..7]), (true, &rest)];
        assert_eq!(sections(&pieces), (vec![first.clone(), second.clone()], 0));
        // What does not begin is passed over, what does not end is one fault.
        assert_eq!(sections(&[(false, &first), (true, &start), (true, &two)]).1, 1);
        // A pointer or a length that leads too far.
        assert_eq!(sections(&[(true, &[9, 1])]).1, 1);
        assert_eq!(sections(&[(true, &[0, 2, 0xbf, 0xff])]).1, 1);
        assert_eq!(sections(&[(true, &[])]), (vec![], 0));
    }

    proptest! {
        #[test]
        fn written_sections_are_read_back(
            length in 0usize..600,
            discontinuity: bool,
        ) {
            let body: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let section = build(PMT_TABLE, 1, &body);
            let mut pid = Pid::new(0x1000);
            pid.discontinuity = discontinuity;
            let mut out = Vec::new();
            write_section(&mut out, &mut pid, &section);
            let (packets, rest) = out.as_chunks();
            prop_assert!(rest.is_empty());
            let packets: Vec<_> =
                packets.iter().map(|packet| packet::parse(packet).unwrap()).collect();
            prop_assert_eq!(packets[0].discontinuity, discontinuity);
            let payloads: Vec<_> = packets
                .iter()
                .map(|packet| (packet.unit_start, packet.payload.unwrap()))
                .collect();
            prop_assert_eq!(sections(&payloads), (vec![section], 0));
        }
    }
}
