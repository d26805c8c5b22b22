//! The RTP header (RFC 3550 5.1), read in place.
//!
//! Header extensions are passed over, not parsed: nothing here needs them, and a parser that trusts
//! the lengths inside them would be one more thing for hostile packets to try.

use bytes::Bytes;

use super::RtpError;
use crate::bits::ByteReader;

/// Bytes of a header without contributing sources and extension.
pub const HEADER_BYTES: usize = 12;

/// The fields of a header that a receiver looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Ends an access unit, or begins a talk spurt; the payload format says which.
    pub marker: bool,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Counts packets; wraps.
    pub sequence_number: u16,
    /// Ticks of the payload's clock; wraps.
    pub timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
}

impl Header {
    /// Reads a packet; the payload comes without header extension and padding.
    ///
    /// # Errors
    /// The packet is of another version, is cut short, or its padding makes no sense.
    pub fn parse(packet: &Bytes) -> Result<(Self, Bytes), RtpError> {
        let mut reader = ByteReader::new(packet);
        let [first, second] = reader.array().ok_or(RtpError::Truncated)?;
        if first >> 6 != 2 {
            return Err(RtpError::Version(first >> 6));
        }
        let fields = (reader.u16(), reader.u32(), reader.u32());
        let (Some(sequence_number), Some(timestamp), Some(ssrc)) = fields else {
            return Err(RtpError::Truncated);
        };
        reader.bytes(usize::from(first & 0x0f) * 4).ok_or(RtpError::Truncated)?;
        if first & 0x10 != 0 {
            let words = reader.bytes(2).and_then(|_| reader.u16()).ok_or(RtpError::Truncated)?;
            reader.bytes(usize::from(words) * 4).ok_or(RtpError::Truncated)?;
        }
        let padding = match packet.last() {
            Some(count) if first & 0x20 != 0 => usize::from(*count),
            _ => 0,
        };
        let begin = reader.position();
        if padding > reader.remaining() || (padding == 0 && first & 0x20 != 0) {
            return Err(RtpError::Padding);
        }
        let payload = packet.slice(begin..packet.len() - padding);
        let (marker, payload_type) = (second & 0x80 != 0, second & 0x7f);
        Ok((Self { marker, payload_type, sequence_number, timestamp, ssrc }, payload))
    }

    /// The 12 bytes of a header without contributing sources and extension.
    pub const fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [a, b] = self.sequence_number.to_be_bytes();
        let [c, d, e, f] = self.timestamp.to_be_bytes();
        let [g, h, i, j] = self.ssrc.to_be_bytes();
        let second = (self.marker as u8) << 7 | self.payload_type & 0x7f;
        [0x80, second, a, b, c, d, e, f, g, h, i, j]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        marker: true,
        payload_type: 96,
        sequence_number: 0x1234,
        timestamp: 0x5678_9abc,
        ssrc: 0xdead_beef,
    };

    fn parse(bytes: &[u8]) -> Result<(Header, Bytes), RtpError> {
        Header::parse(&Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn headers_are_written_and_read_back() {
        let packet = [&HEADER.to_bytes()[..], &[1, 2, 3]].concat();
        assert_eq!(parse(&packet), Ok((HEADER, Bytes::from_static(&[1, 2, 3]))));
    }

    #[test]
    fn sources_extension_and_padding_are_passed_over() {
        let mut packet = HEADER.to_bytes().to_vec();
        packet[0] = 0xb2;
        packet.extend_from_slice(&[9; 8]);
        packet.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x1f, 1, 2, 3]);
        packet.extend_from_slice(&[7, 7, 0, 0, 3]);
        assert_eq!(parse(&packet).unwrap().1[..], [7, 7]);
    }

    #[test]
    fn hostile_headers_are_refused() {
        let with = |first: u8, tail: &[u8]| {
            let mut packet = HEADER.to_bytes().to_vec();
            packet[0] = first;
            packet.extend_from_slice(tail);
            parse(&packet)
        };
        assert_eq!(parse(&HEADER.to_bytes()[..11]), Err(RtpError::Truncated));
        assert_eq!(with(0x00, &[]), Err(RtpError::Version(0)));
        assert_eq!(with(0x8f, &[0; 59]), Err(RtpError::Truncated));
        assert_eq!(with(0x90, &[0, 0, 0, 9, 1, 2]), Err(RtpError::Truncated));
        assert_eq!(with(0x90, &[0, 0, 0]), Err(RtpError::Truncated));
        assert_eq!(with(0xa0, &[1, 2, 0]), Err(RtpError::Padding));
        assert_eq!(with(0xa0, &[1, 2, 4]), Err(RtpError::Padding));
        // The last byte of the header is no padding count.
        assert_eq!(with(0xa0, &[]), Err(RtpError::Padding));
        assert_eq!(with(0xa0, &[3, 3, 3]).unwrap().1.len(), 0);
    }
}
