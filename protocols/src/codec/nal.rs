//! The two framings of NAL units: length prefixes (ISO/IEC 14496-15) and start codes (annex B).

/// What a NAL unit is to the access unit around it (H.264 7.4.1.2.3, H.265 7.4.2.4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitRole {
    /// Access unit delimiter: always the first NAL unit of one.
    Delimiter,
    /// Video parameter set (H.265).
    VideoParameterSet,
    /// Sequence parameter set.
    SequenceParameterSet,
    /// Picture parameter set.
    PictureParameterSet,
    /// The first slice of a picture.
    FirstSlice,
    /// Another slice of the same picture.
    Slice,
    /// Stands before the slices; after a slice it begins the next access unit.
    Prefix,
    /// Stands after the slices, or belongs to them.
    Suffix,
    /// Padding without meaning.
    Filler,
}

impl UnitRole {
    /// The NAL unit begins the next access unit when a slice came before it.
    pub const fn begins_access_unit(self) -> bool {
        !matches!(self, Self::Slice | Self::Suffix | Self::Filler)
    }

    /// The NAL unit is a parameter set.
    pub const fn is_parameter_set(self) -> bool {
        use UnitRole::{PictureParameterSet, SequenceParameterSet, VideoParameterSet};
        matches!(self, VideoParameterSet | SequenceParameterSet | PictureParameterSet)
    }
}

/// An access unit whose NAL unit lengths do not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("NAL unit length exceeds the access unit")]
pub struct BadLength;

/// NAL units of a length-prefixed access unit, without their prefixes; see [`units`].
#[derive(Debug, Clone)]
pub struct Units<'a> {
    rest: &'a [u8],
    length_size: usize,
}

/// Walks an access unit whose NAL units are each preceded by their length in `length_size` bytes
/// (1 to 4). The walk ends after the first error. Empty NAL units are passed over.
pub fn units(access_unit: &[u8], length_size: u8) -> Units<'_> {
    Units { rest: access_unit, length_size: usize::from(length_size.clamp(1, 4)) }
}

impl<'a> Units<'a> {
    fn split(&mut self) -> Option<&'a [u8]> {
        let (prefix, rest) = self.rest.split_at_checked(self.length_size)?;
        let length = prefix.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
        let (unit, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(unit)
    }
}

impl<'a> Iterator for Units<'a> {
    type Item = Result<&'a [u8], BadLength>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.split() {
                Some([]) => {}
                Some(unit) => return Some(Ok(unit)),
                None => {
                    self.rest = &[];
                    return Some(Err(BadLength));
                }
            }
        }
        None
    }
}

/// NAL units of an annex B byte stream; see [`split_annex_b`].
#[derive(Debug, Clone)]
pub struct AnnexB<'a> {
    rest: Option<&'a [u8]>,
}

/// Walks a byte stream whose NAL units are preceded by `0 0 1`. Bytes before the first start code
/// and trailing zero bytes of a NAL unit are dropped.
pub fn split_annex_b(stream: &[u8]) -> AnnexB<'_> {
    AnnexB { rest: start_code(stream).and_then(|at| stream.get(at + 3..)) }
}

impl<'a> Iterator for AnnexB<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(rest) = self.rest {
            let mut unit = match start_code(rest) {
                Some(at) => {
                    self.rest = rest.get(at + 3..);
                    rest.get(..at).unwrap_or_default()
                }
                None => {
                    self.rest = None;
                    rest
                }
            };
            while let [head @ .., 0] = unit {
                unit = head;
            }
            if !unit.is_empty() {
                return Some(unit);
            }
        }
        None
    }
}

/// Where `0 0 1` begins. Only the third byte of a candidate is looked at unless it is 0 or 1, so
/// most of a stream is passed in steps of three.
pub(crate) fn start_code(bytes: &[u8]) -> Option<usize> {
    let mut third = 2;
    while let Some(byte) = bytes.get(third) {
        match byte {
            0 => third += 1,
            1 if bytes.get(third - 2..third) == Some(&[0, 0]) => return Some(third - 2),
            _ => third += 3,
        }
    }
    None
}

/// Appends annex B `stream` to `out` with 4-byte length prefixes.
pub fn annex_b_to_length_prefixed(stream: &[u8], out: &mut Vec<u8>) {
    for unit in split_annex_b(stream) {
        let Ok(length) = u32::try_from(unit.len()) else { continue };
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(unit);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn length_prefixes_of_every_size() {
        for size in 1..=4u8 {
            let mut bytes = Vec::new();
            for unit in [&[1u8, 2][..], &[], &[3]] {
                bytes.extend_from_slice(&(unit.len() as u32).to_be_bytes()[4 - size as usize..]);
                bytes.extend_from_slice(unit);
            }
            let found: Vec<_> = units(&bytes, size).collect();
            assert_eq!(found, [Ok(&[1u8, 2][..]), Ok(&[3])]);
        }
    }

    #[test]
    fn lengths_beyond_the_end_are_one_error() {
        let found: Vec<_> = units(&[0, 0, 0, 1, 9, 0xff, 0xff, 0xff, 0xff, 1], 4).collect();
        assert_eq!(found, [Ok(&[9][..]), Err(BadLength)]);
        assert_eq!(units(&[0, 0], 4).collect::<Vec<_>>(), [Err(BadLength)]);
    }

    proptest! {
        #[test]
        fn start_codes_are_found_where_a_plain_search_finds_them(
            stream in prop::collection::vec(0u8..3, 0..64)
        ) {
            let plain = stream.windows(3).position(|window| window == [0, 0, 1]);
            prop_assert_eq!(start_code(&stream), plain);
        }
    }

    #[test]
    fn start_codes_of_both_lengths() {
        let stream = [7, 0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 0, 0, 0, 0, 1, 0x65, 2, 0, 0];
        let found: Vec<_> = split_annex_b(&stream).collect();
        assert_eq!(found, [&[0x67, 1][..], &[0x68], &[0x65, 2]]);
        let mut out = Vec::new();
        annex_b_to_length_prefixed(&stream, &mut out);
        assert_eq!(out, [0, 0, 0, 2, 0x67, 1, 0, 0, 0, 1, 0x68, 0, 0, 0, 2, 0x65, 2]);
        assert_eq!(split_annex_b(&[1, 2, 3]).count(), 0);
    }
}
