//! Opus in MPEG-TS: the control header before each access unit (Xiph draft 4.3).

use crate::bits::ByteReader;

/// Eleven bits of prefix.
const PREFIX: [u8; 2] = [0x7f, 0xe0];
const START_TRIM: u8 = 0x10;
const END_TRIM: u8 = 0x08;
const EXTENSION: u8 = 0x04;
/// Largest access unit believed: more than any packet of eight channels takes.
const ACCESS_UNIT_BYTES_MAX: usize = 1 << 15;

/// What a control header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// Bytes of the header and of the access unit behind it.
    Whole { header_bytes: usize, access_unit_bytes: usize },
    /// The header is cut short.
    Truncated,
    /// There is no header.
    Absent,
}

/// Reads the control header at the front of `bytes`. What is to be trimmed is not looked at.
pub(super) fn control(bytes: &[u8]) -> Control {
    let mut reader = ByteReader::new(bytes);
    let Some([first, second]) = reader.array() else { return Control::Truncated };
    if first != PREFIX[0] || second & 0xe0 != PREFIX[1] {
        return Control::Absent;
    }
    let mut access_unit_bytes = 0;
    loop {
        let Some(byte) = reader.u8() else { return Control::Truncated };
        access_unit_bytes += usize::from(byte);
        if access_unit_bytes > ACCESS_UNIT_BYTES_MAX {
            return Control::Absent;
        }
        if byte != 0xff {
            break;
        }
    }
    let trims = [START_TRIM, END_TRIM].into_iter().filter(|trim| second & trim != 0).count();
    let mut behind = reader.bytes(2 * trims).map(|_| ());
    if second & EXTENSION != 0 {
        behind = behind
            .and_then(|()| reader.u8())
            .and_then(|length| reader.bytes(length.into()))
            .map(|_| ());
    }
    match behind {
        Some(()) => Control::Whole { header_bytes: reader.position(), access_unit_bytes },
        None => Control::Truncated,
    }
}

/// The control header of an access unit in pieces: two bytes, so many of 255, one more.
pub(super) fn control_header(access_unit_bytes: usize) -> ([u8; 2], usize, u8) {
    (PREFIX, access_unit_bytes / 255, (access_unit_bytes % 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_back() {
        for length in [1, 254, 255, 256, 510, 4000, ACCESS_UNIT_BYTES_MAX] {
            let (prefix, full, last) = control_header(length);
            let header = [&prefix[..], &vec![0xff; full], &[last]].concat();
            let whole = Control::Whole { header_bytes: header.len(), access_unit_bytes: length };
            assert_eq!(control(&header), whole);
            for end in 0..header.len() {
                assert_eq!(control(&header[..end]), Control::Truncated);
            }
        }
        assert_eq!(control(&[&[0x7f, 0xe0][..], &[0xff; 129]].concat()), Control::Absent);
        assert_eq!(control(&[0x7f, 0xc0, 1]), Control::Absent);
    }

    #[test]
    fn trims_and_extensions_are_passed_over() {
        let header = [0x7f, 0xfc, 9, 0, 1, 0, 2, 3, 7, 7, 7];
        assert_eq!(control(&header), Control::Whole { header_bytes: 11, access_unit_bytes: 9 });
        assert_eq!(control(&header[..10]), Control::Truncated);
    }
}
