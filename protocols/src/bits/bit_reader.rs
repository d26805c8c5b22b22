//! Bits, Exp-Golomb codes (H.264 clause 9.1) and the emulation prevention of NAL units.

/// A cursor over the bits of a byte slice, most significant first. Every read returns `None` when
/// fewer bits are left than it needs.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    /// A reader at the first bit of `bytes`. For a NAL unit, pass what [`unescape`] returns.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bits not read yet.
    pub const fn remaining(&self) -> usize {
        self.bytes.len().saturating_mul(8).saturating_sub(self.position)
    }

    /// Bits read so far.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// One bit.
    pub fn flag(&mut self) -> Option<bool> {
        let byte = *self.bytes.get(self.position / 8)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Some(bit == 1)
    }

    /// `count` bits as an unsigned number; `None` also for more than 32.
    pub fn bits(&mut self, count: u32) -> Option<u32> {
        if count > 32 || self.remaining() < count as usize {
            return None;
        }
        let mut value = 0u64;
        for _ in 0..count {
            value = value << 1 | u64::from(self.flag()?);
        }
        u32::try_from(value).ok()
    }

    /// Passes over `count` bits.
    pub fn skip(&mut self, count: usize) -> Option<()> {
        if self.remaining() < count {
            return None;
        }
        self.position += count;
        Some(())
    }

    /// `ue(v)`: unsigned Exp-Golomb. `None` for a code of 32 or more leading zeros, whose value
    /// would not fit 32 bits.
    pub fn unsigned_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0u32;
        while !self.flag()? {
            zeros += 1;
            if zeros >= 32 {
                return None;
            }
        }
        let suffix = self.bits(zeros)?;
        u32::try_from((1u64 << zeros) - 1 + u64::from(suffix)).ok()
    }

    /// `se(v)`: signed Exp-Golomb; bounds as [`BitReader::unsigned_golomb`].
    pub fn signed_golomb(&mut self) -> Option<i64> {
        let code = i64::from(self.unsigned_golomb()?);
        Some(if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) })
    }
}

/// The payload of a NAL unit without emulation prevention bytes (the 3 of `0 0 3`; H.264 and
/// H.265 clause 7.3.1.1). Only the first `bytes_max` bytes of `nal_unit` are looked at.
pub fn unescape(nal_unit: &[u8], bytes_max: usize) -> Vec<u8> {
    let source = &nal_unit[..nal_unit.len().min(bytes_max)];
    let mut out = Vec::with_capacity(source.len());
    let mut zeros = 0;
    for &byte in source {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_of_the_specification_table() {
        // 1 | 010 | 011 | 00100 | 00111 padded.
        let mut reader = BitReader::new(&[0b1010_0110, 0b0100_0011, 0b1000_0000]);
        let values: Vec<_> = (0..5).map(|_| reader.unsigned_golomb()).collect();
        assert_eq!(values, [Some(0), Some(1), Some(2), Some(3), Some(6)]);
        let mut reader = BitReader::new(&[0b0100_1100, 0b1000_0101, 0]);
        let values: Vec<_> = (0..4).map(|_| reader.signed_golomb()).collect();
        assert_eq!(values, [Some(1), Some(-1), Some(2), Some(-2)]);
    }

    #[test]
    fn endless_zeros_and_short_input_end_in_none() {
        assert_eq!(BitReader::new(&[0; 64]).unsigned_golomb(), None);
        assert_eq!(BitReader::new(&[]).unsigned_golomb(), None);
        assert_eq!(BitReader::new(&[0, 1]).unsigned_golomb(), None);
        assert_eq!(BitReader::new(&[0xff; 8]).bits(33), None);
        assert_eq!(BitReader::new(&[0xff; 4]).bits(32), Some(u32::MAX));
        assert_eq!(BitReader::new(&[0xff; 4]).skip(33), None);
        // 31 zeros is the longest code accepted.
        assert_eq!(
            BitReader::new(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).unsigned_golomb(),
            Some(u32::MAX - 1)
        );
    }

    #[test]
    fn emulation_prevention_goes_and_the_rest_stays() {
        assert_eq!(unescape(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 3], 64), [0, 0, 1, 0, 0, 0, 0, 3]);
        assert_eq!(unescape(&[1, 2, 3, 4], 2), [1, 2]);
    }
}
