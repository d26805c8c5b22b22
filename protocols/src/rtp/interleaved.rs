//! Framing of RTP and RTCP in the connection of RTSP (RFC 2326 10.12).

/// Bytes of `$`, channel and 16-bit length in front of each packet.
pub const FRAMING_BYTES: usize = 4;

/// The first byte of the framing.
pub const MAGIC: u8 = b'$';

/// Packets of a byte slice in interleaved framing; see [`packets`].
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

/// Walks framed packets as (channel, packet). Ends at the first byte that begins no frame, or where
/// a frame is cut short.
pub const fn packets(framed: &[u8]) -> Packets<'_> {
    Packets { rest: framed }
}

/// Appends one framed packet. False: it is longer than its length field can say; nothing is written.
pub fn write(channel: u8, packet: &[u8], out: &mut Vec<u8>) -> bool {
    let Ok(length) = u16::try_from(packet.len()) else { return false };
    let [high, low] = length.to_be_bytes();
    out.extend_from_slice(&[MAGIC, channel, high, low]);
    out.extend_from_slice(packet);
    true
}

impl<'a> Iterator for Packets<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let ([MAGIC, channel, high, low], rest) = self.rest.split_first_chunk()? else {
            return None;
        };
        let (packet, rest) = rest.split_at_checked(u16::from_be_bytes([*high, *low]).into())?;
        self.rest = rest;
        Some((*channel, packet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_whole_frames_only() {
        let framed = [b'$', 0, 0, 2, 7, 8, b'$', 3, 0, 0, b'$', 1, 0, 3, 1, 2];
        let found: Vec<_> = packets(&framed).collect();
        assert_eq!(found, [(0, &[7u8, 8][..]), (3, &[])]);
        assert_eq!(packets(b"RTSP/1.0").count(), 0);
        assert_eq!(packets(b"$").count(), 0);
    }

    #[test]
    fn what_is_written_is_walked() {
        let mut out = Vec::new();
        assert!(write(9, &[1, 2], &mut out) && write(0, &[], &mut out));
        assert!(!write(1, &[0; 1 << 16], &mut out));
        assert_eq!(packets(&out).collect::<Vec<_>>(), [(9, &[1u8, 2][..]), (0, &[])]);
    }
}
