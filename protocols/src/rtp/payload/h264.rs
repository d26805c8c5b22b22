//! H.264: RFC 6184 in packetization modes 0 and 1.

use super::PayloadError;
use super::nal_pictures::Structure;
use crate::codec::h264;
use crate::codec::nal::{self, UnitRole};
use crate::rtp::packets::PacketWriter;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Takes a payload apart (5.2 table 1). Modes with a decoding order of their own are refused.
pub(super) fn structure(payload: &[u8]) -> Result<Structure<'_>, PayloadError> {
    let (indicator, rest) = payload.split_first().ok_or(PayloadError::Truncated)?;
    match indicator & 0x1f {
        1..=23 => Ok(Structure::Single(payload)),
        STAP_A => Ok(Structure::Aggregate(rest)),
        FU_A => {
            let (header, body) = rest.split_first().ok_or(PayloadError::Truncated)?;
            let (start, end) = (header & 0x80 != 0, header & 0x40 != 0);
            let header = [indicator & 0xe0 | header & 0x1f, 0];
            Ok(Structure::Fragment { header, header_bytes: 1, start, end, body })
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
        if !matches!(h264::unit_role(unit), UnitRole::Delimiter | UnitRole::Filler) {
            write_unit(unit, writer);
        }
    }
}

/// Parameter sets in one packet if they fit (5.7.1).
fn write_sets(sets: &[impl AsRef<[u8]>], writer: &mut PacketWriter<'_>) {
    let sets = sets.iter().map(AsRef::as_ref);
    let bytes: usize = 1 + sets.clone().map(|set| 2 + set.len()).sum::<usize>();
    if sets.len() < 2 || bytes > writer.payload_max() {
        sets.for_each(|set| write_unit(set, writer));
        return;
    }
    let importance = sets.clone().filter_map(<[u8]>::first).map(|byte| byte & 0x60).max();
    writer.open();
    writer.append(&[importance.unwrap_or(0) | STAP_A]);
    for set in sets {
        writer.append(&u16::try_from(set.len()).unwrap_or(0).to_be_bytes());
        writer.append(set);
    }
}

fn write_unit(unit: &[u8], writer: &mut PacketWriter<'_>) {
    if unit.len() <= writer.payload_max() {
        writer.packet(&[unit]);
        return;
    }
    let Some((header, body)) = unit.split_first() else { return };
    let indicator = header & 0xe0 | FU_A;
    let size = writer.payload_max().saturating_sub(2).max(1);
    let last = body.len().div_ceil(size) - 1;
    for (at, part) in body.chunks(size).enumerate() {
        let flags = u8::from(at == 0) << 7 | u8::from(at == last) << 6;
        writer.packet(&[&[indicator, flags | header & 0x1f], part]);
    }
}
