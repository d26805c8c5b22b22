//! H.265: RFC 7798 without decoding order numbers.

use super::PayloadError;
use super::nal_pictures::Structure;
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

/// The header of a packet of parameter sets (4.4.2), whose layer and temporal identifier are 0.
pub(super) const AGGREGATE_HEADER: [u8; HEADER_BYTES] = [AGGREGATION << 1, 1];

/// Writes a NAL unit, in fragments where it is too large for a packet (4.4.1, 4.4.3).
pub(super) fn write_unit(unit: &[u8], writer: &mut PacketWriter<'_>) {
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
