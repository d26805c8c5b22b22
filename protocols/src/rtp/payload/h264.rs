//! H.264: RFC 6184 in packetization modes 0 and 1.

use bytes::Bytes;

use super::PayloadError;
use super::nal_pictures::Structure;
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

/// The header of a packet of several NAL units: as important as the most important (5.7.1).
pub(super) fn aggregate_header(units: &[Bytes]) -> [u8; 1] {
    let importance = units.iter().filter_map(|unit| unit.first()).map(|byte| byte & 0x60).max();
    [importance.unwrap_or(0) | STAP_A]
}

/// Writes a NAL unit, in fragments where it is too large for a packet (5.6, 5.8).
pub(super) fn write_unit(unit: &[u8], writer: &mut PacketWriter<'_>) {
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
