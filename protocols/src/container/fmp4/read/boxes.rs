//! Boxes as they are read: headers, and the boxes inside one that is in memory.

use crate::bits::ByteReader;

/// Bytes of the longest box header.
pub(super) const HEADER_BYTES_MAX: usize = 16;

/// The header of a box (4.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: [u8; 4],
    /// 8, or 16 with a size of 64 bits.
    pub(super) header_bytes: u8,
    /// Bytes of header and body; `None` if the box takes what is left of its container.
    pub(super) size: Option<u64>,
}

/// Reads the header at the front of `bytes`. `None` when it is cut short or its size is smaller
/// than itself.
pub(super) fn header(bytes: &[u8]) -> Option<Header> {
    let mut reader = ByteReader::new(bytes);
    let (size, name) = (reader.u32()?, reader.array::<4>()?);
    let (header_bytes, size) = match size {
        0 => (8, None),
        1 => (16, Some(u64::from(reader.u32()?) << 32 | u64::from(reader.u32()?))),
        size => (8, Some(u64::from(size))),
    };
    if size.is_some_and(|size| size < u64::from(header_bytes)) {
        return None;
    }
    Some(Header { name, header_bytes, size })
}

/// The boxes in a body, one after the other; ends at the first that is not whole.
#[derive(Debug, Clone)]
pub(super) struct Children<'a> {
    rest: &'a [u8],
}

/// Walks the boxes in `body`.
pub(super) fn children(body: &[u8]) -> Children<'_> {
    Children { rest: body }
}

impl<'a> Iterator for Children<'a> {
    type Item = ([u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = header(self.rest)?;
        let size = match header.size {
            Some(size) => usize::try_from(size).ok()?,
            None => self.rest.len(),
        };
        let (whole, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        Some((header.name, whole.get(usize::from(header.header_bytes)..)?))
    }
}

/// The body of the first box of this name in `body`.
pub(super) fn child<'a>(body: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    children(body).find(|(found, _)| found == name).map(|(_, body)| body)
}

/// The version, the flags and the rest of a full box.
pub(super) fn full(body: &[u8]) -> Option<(u8, u32, ByteReader<'_>)> {
    let mut reader = ByteReader::new(body);
    let [version, flags @ ..] = reader.array::<4>()?;
    Some((version, u32::from_be_bytes([0, flags[0], flags[1], flags[2]]), reader))
}

/// 64 bits in version 1, else 32.
pub(super) fn versioned(reader: &mut ByteReader<'_>, version: u8) -> Option<u64> {
    let high = if version == 1 { reader.u32()? } else { 0 };
    Some(u64::from(high) << 32 | u64::from(reader.u32()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_both_lengths() {
        let found = header(b"\0\0\0\x08free").unwrap();
        assert_eq!((found.header_bytes, found.size), (8, Some(8)));
        let found = header(b"\0\0\0\x01mdat\0\0\0\x01\0\0\0\0").unwrap();
        assert_eq!((found.header_bytes, found.size), (16, Some(1 << 32)));
        assert_eq!(header(b"\0\0\0\0mdat").unwrap().size, None);
        for short in [&b"\0\0\0\x07free"[..], b"\0\0\0\x01free\0\0\0\0\0\0\0\x0f", b"\0\0\0\x08fre"]
        {
            assert_eq!(header(short), None);
        }
    }

    #[test]
    fn a_walk_ends_at_a_box_that_is_cut_short() {
        let body = b"\0\0\0\x09aaaa\x01\0\0\0\x08bbbb\0\0\0\x09cccc";
        let found: Vec<_> = children(body).map(|(name, body)| (name, body.len())).collect();
        assert_eq!(found, [(*b"aaaa", 1), (*b"bbbb", 0)]);
        assert_eq!(child(b"\0\0\0\x08aaaa\0\0\0\0bbbb12", b"bbbb"), Some(&b"12"[..]));
    }
}
