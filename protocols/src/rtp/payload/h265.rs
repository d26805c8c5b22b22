//! H.265: RFC 7798 without decoding order numbers.

use super::PayloadError;
use super::nal_pictures::Structure;
use crate::codec::h265;
use crate::codec::nal::{self, UnitRole};
use crate::rtp::packets::PacketWriter;

const AGGREGATION: u8 = 48;
const FRAGMENTATION: u8 = 49;
/// Bytes of a NAL unit header.
const HEADER_BYTES: usize = 2;

/// Takes a payload apart (4.4).
pub(super) fn structure(payload: &[u8]) -> Result<Structure<'_>, PayloadError> {
    let ([first, second], rest) = payload.split_first_chunk().ok_or(PayloadError::Truncated)?;
    match first >> 1 & 0x3f {
        0..=47 => Ok(Structure::Single(payload)),
        AGGREGATION => Ok(Structure::Aggregate(rest)),
        FRAGMENTATION => {
            let (header, body) = rest.split_first().ok_or(PayloadError::Truncated)?;
            let (start, end) = (header & 0x80 != 0, header & 0x40 != 0);
            let header = [first & 0x81 | (header & 0x3f) << 1, *second];
            Ok(Structure::Fragment { header, header_bytes: HEADER_BYTES, start, end, body })
        }
        _ => Err(PayloadError::Unsupported),
    }
}

/// Writes the packets of an access unit; `sets` stand in front of it.
pub(in crate::rtp) fn write(
    access_unit: &[u8],
    length_size: u8,
    sets: &[impl AsRef<[u8]>],
    writer: &mut PacketWriter<'_>,
) {
    write_sets(sets, writer);
    for unit in nal::units(access_unit, length_size).map_while(Result::ok) {
        if !matches!(h265::unit_role(unit), UnitRole::Delimiter | UnitRole::Filler) {
            write_unit(unit, writer);
        }
    }
}

/// Parameter sets in one packet if they fit (4.4.2). Their layer and temporal identifier are 0.
fn write_sets(sets: &[impl AsRef<[u8]>], writer: &mut PacketWriter<'_>) {
    let bytes: usize = HEADER_BYTES + sets.iter().map(|set| 2 + set.as_ref().len()).sum::<usize>();
    if sets.len() < 2 || bytes > writer.payload_max() {
        sets.iter().for_each(|set| write_unit(set.as_ref(), writer));
        return;
    }
    writer.open();
    writer.append(&[AGGREGATION << 1, 1]);
    for set in sets.iter().map(AsRef::as_ref) {
        writer.append(&u16::try_from(set.len()).unwrap_or(0).to_be_bytes());
        writer.append(set);
    }
}

fn write_unit(unit: &[u8], writer: &mut PacketWriter<'_>) {
    if unit.len() <= writer.payload_max() {
        writer.packet(&[unit]);
        return;
    }
    let Some(([first, second], body)) = unit.split_first_chunk() else { return };
    let size = writer.payload_max().saturating_sub(3).max(1);
    let last = body.len().div_ceil(size) - 1;
    for (at, part) in body.chunks(size).enumerate() {
        let flags = u8::from(at == 0) << 7 | u8::from(at == last) << 6;
        let header = [first & 0x81 | FRAGMENTATION << 1, *second, flags | first >> 1 & 0x3f];
        writer.packet(&[&header, part]);
    }
}
