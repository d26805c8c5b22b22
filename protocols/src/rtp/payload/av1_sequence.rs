//! The configuration record that a sequence header of AV1 stands for.

use crate::bits::BitReader;

/// `seq_choose_screen_content_tools` and the like: left to each frame.
const SELECT: u32 = 2;
/// `CP_BT_709`, `TC_SRGB` and `MC_IDENTITY`: colours that are always 4:4:4 (5.5.2).
const SRGB: (u32, u32, u32) = (1, 13, 0);

/// The `AV1CodecConfigurationRecord` (AV1 in ISOBMFF 2.3.3) of a sequence header OBU of low overhead
/// with this payload; `None` when it cannot be read.
pub(super) fn config_record(obu: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let mut reader = BitReader::new(payload);
    let profile = reader.bits(3)?;
    reader.skip(1)?;
    let reduced = reader.flag()?;
    let (level, tier) = if reduced { (reader.bits(5)?, 0) } else { operating_points(&mut reader)? };
    let (width_bits, height_bits) = (reader.bits(4)? + 1, reader.bits(4)? + 1);
    reader.skip((width_bits + height_bits) as usize)?;
    if !reduced && reader.flag()? {
        reader.skip(4 + 3)?;
    }
    // `use_128x128_superblock`, `enable_filter_intra`, `enable_intra_edge_filter`.
    reader.skip(3)?;
    if !reduced {
        skip_tools(&mut reader)?;
    }
    // `enable_superres`, `enable_cdef`, `enable_restoration`.
    reader.skip(3)?;
    let color = color_config(&mut reader, profile)?;
    let mut record = vec![0x81, u8::try_from(profile << 5 | level).ok()?];
    record.extend_from_slice(&[u8::try_from(tier << 7).ok()? | color, 0]);
    record.extend_from_slice(obu);
    Some(record)
}

/// Level and tier of the first operating point (5.5.1).
fn operating_points(reader: &mut BitReader<'_>) -> Option<(u32, u32)> {
    let mut delay_bits = None;
    if reader.flag()? {
        reader.skip(64)?;
        if reader.flag()? {
            reader.unsigned_golomb()?;
        }
        if reader.flag()? {
            delay_bits = Some(reader.bits(5)? as usize + 1);
            reader.skip(32 + 5 + 5)?;
        }
    }
    let display_delay = reader.flag()?;
    let mut first = None;
    for _ in 0..=reader.bits(5)? {
        reader.skip(12)?;
        let level = reader.bits(5)?;
        let tier = if level > 7 { reader.bits(1)? } else { 0 };
        if let Some(bits) = delay_bits
            && reader.flag()?
        {
            reader.skip(2 * bits + 1)?;
        }
        if display_delay && reader.flag()? {
            reader.skip(4)?;
        }
        first.get_or_insert((level, tier));
    }
    first
}

/// From `enable_interintra_compound` to `order_hint_bits_minus_1`.
fn skip_tools(reader: &mut BitReader<'_>) -> Option<()> {
    reader.skip(4)?;
    let order_hint = reader.flag()?;
    if order_hint {
        reader.skip(2)?;
    }
    let screen_content = if reader.flag()? { SELECT } else { reader.bits(1)? };
    if screen_content > 0 && !reader.flag()? {
        reader.skip(1)?;
    }
    if order_hint { reader.skip(3) } else { Some(()) }
}

/// The lower seven bits of the third byte of the record (`color_config`, 5.5.2).
fn color_config(reader: &mut BitReader<'_>, profile: u32) -> Option<u8> {
    let high = reader.flag()?;
    let twelve = profile == 2 && high && reader.flag()?;
    let mono = profile != 1 && reader.flag()?;
    let described = reader.flag()?;
    let color =
        if described { (reader.bits(8)?, reader.bits(8)?, reader.bits(8)?) } else { (2, 2, 2) };
    let mut position = 0;
    let (x, y);
    if mono {
        (x, y) = (true, true);
    } else if color == SRGB {
        (x, y) = (false, false);
    } else {
        reader.skip(1)?;
        (x, y) = match profile {
            0 => (true, true),
            1 => (false, false),
            _ if twelve => {
                let x = reader.flag()?;
                (x, x && reader.flag()?)
            }
            _ => (true, false),
        };
        if x && y {
            position = u8::try_from(reader.bits(2)?).ok()?;
        }
    }
    let flags = [high, twelve, mono, x, y];
    let flags = flags.into_iter().fold(0, |bits, flag| bits << 1 | u8::from(flag));
    Some(flags << 2 | position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_an_encoder_is_made_again() {
        // Record of an encoder at 160×90: its head, and its sequence header OBU.
        let record = [
            0x81, 0x00, 0x0c, 0x00, 0x0a, 0x0b, 0x02, 0x00, 0x00, 0x05, 0x1d, 0xa7, 0xec, 0x89,
            0x5f, 0x20, 0x08,
        ];
        let made = config_record(&record[4..], &record[6..]);
        // The reserved bits for the presentation delay aside.
        assert_eq!(made.as_deref(), Some(&record[..]));
        assert_eq!(config_record(&[], &record[6..10]), None);
    }
}
