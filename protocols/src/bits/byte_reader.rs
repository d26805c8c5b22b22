//! Big-endian integers and slices from a byte slice; every read is checked and none panics.

/// A cursor over bytes of a peer. Every read returns `None`, and consumes nothing, when fewer
/// bytes are left than it needs.
#[derive(Debug, Clone, Copy)]
pub struct ByteReader<'a> {
    rest: &'a [u8],
    total: usize,
}

impl<'a> ByteReader<'a> {
    /// A reader at the first byte of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, total: bytes.len() }
    }

    /// Bytes not read yet.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Bytes read so far.
    pub const fn position(&self) -> usize {
        self.total - self.rest.len()
    }

    /// Everything not read yet, without consuming it.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte without consuming it.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(count)?;
        self.rest = tail;
        Some(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.rest.split_first_chunk::<N>()?;
        self.rest = tail;
        Some(*head)
    }

    /// Unsigned 8 bits.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Unsigned 16 bits.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Unsigned 24 bits.
    pub fn u24(&mut self) -> Option<u32> {
        self.array::<3>().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// Signed 24 bits, two's complement.
    pub fn i24(&mut self) -> Option<i32> {
        self.array::<3>().map(|[a, b, c]| i32::from_be_bytes([a, b, c, 0]) >> 8)
    }

    /// Unsigned 32 bits.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// IEEE 754 binary64.
    pub fn f64(&mut self) -> Option<f64> {
        self.array().map(f64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_big_endian_and_stops_at_the_end() {
        let mut reader = ByteReader::new(&[1, 0, 2, 0, 0, 3, 0xff, 0xff, 0xfe, 0, 0, 0, 4, 9]);
        assert_eq!(reader.u8(), Some(1));
        assert_eq!(reader.u16(), Some(2));
        assert_eq!(reader.u24(), Some(3));
        assert_eq!(reader.i24(), Some(-2));
        assert_eq!(reader.u32(), Some(4));
        assert_eq!(reader.u16(), None);
        assert_eq!((reader.peek(), reader.position(), reader.remaining()), (Some(9), 13, 1));
        assert_eq!(reader.bytes(2), None);
        assert_eq!(reader.bytes(1), Some(&[9][..]));
        assert_eq!(reader.bytes(usize::MAX), None);
        assert_eq!(reader.u8(), None);
    }
}
