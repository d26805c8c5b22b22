//! The part Enhanced RTMP video and audio headers share: ModEx, multitrack, FourCC.

use std::ops::Range;

use bytes::{Buf, Bytes};

use super::FlvError;
use crate::bits::ByteReader;

/// `ModEx`, the same value in video and audio.
const MOD_EX: u8 = 7;
/// `TimestampOffsetNano`.
const TIMESTAMP_OFFSET_NANO: u8 = 0;
/// A nanosecond offset refines a millisecond.
const NANOS_MAX: u32 = 999_999;

const ONE_TRACK: u8 = 0;
const MANY_TRACKS: u8 = 1;
const MANY_TRACKS_MANY_CODECS: u8 = 2;

/// A FourCC as it is on the wire.
pub(super) type FourCc = [u8; 4];

/// What stands before the FourCC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    /// Packet type once every ModEx is taken off.
    pub packet_type: u8,
    /// Nanoseconds to add to the timestamp.
    pub nanos: u32,
}

/// One track of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// Track id; 0 for a packet that is not multitrack.
    pub track_id: u8,
    pub four_cc: FourCc,
    /// Where `data` begins in the tag body.
    pub offset: usize,
    pub data: &'a [u8],
}

/// A range of a body that nothing else is needed of: a slice would share the memory, and sharing
/// has a cost of its own.
pub(super) fn cut(mut body: Bytes, range: Range<usize>) -> Bytes {
    if range.end < body.len() {
        body.truncate(range.end);
    }
    body.advance(range.start.min(body.len()));
    body
}

/// Takes every ModEx off. Each takes 3 bytes or more, so the walk ends with the body.
pub(super) fn read_prefix(
    reader: &mut ByteReader<'_>,
    packet_type: u8,
) -> Result<Prefix, FlvError> {
    let mut prefix = Prefix { packet_type, nanos: 0 };
    while prefix.packet_type == MOD_EX {
        let mut size = usize::from(reader.u8().ok_or(FlvError::Truncated)?) + 1;
        if size == 256 {
            size = usize::from(reader.u16().ok_or(FlvError::Truncated)?) + 1;
        }
        let data = reader.bytes(size).ok_or(FlvError::Truncated)?;
        let byte = reader.u8().ok_or(FlvError::Truncated)?;
        if byte >> 4 == TIMESTAMP_OFFSET_NANO
            && let Some(nanos) = ByteReader::new(data).u24()
        {
            prefix.nanos = nanos.min(NANOS_MAX);
        }
        prefix.packet_type = byte & 0x0f;
    }
    Ok(prefix)
}

/// Which track of a multitrack publication is carried: 0, or the first one seen until 0 appears.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Selection(Option<u8>);

/// What a packet holds of the selected track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Selected<'a> {
    /// Packet type inside a multitrack packet, else that of the packet.
    pub packet_type: u8,
    /// The selected track; `None` when the packet holds only others.
    pub part: Option<Part<'a>>,
    /// Tracks of the packet that are not carried.
    pub others: u64,
}

impl Selection {
    /// Reads the FourCC of a packet and, when `packet_type` is `multitrack`, picks one track.
    pub(super) fn read<'a>(
        &mut self,
        reader: &mut ByteReader<'a>,
        packet_type: u8,
        multitrack: u8,
    ) -> Result<Selected<'a>, FlvError> {
        let (mut zero, mut current, mut first, mut count) = (None, None, None, 0u64);
        let packet_type = read_parts(reader, packet_type, multitrack, |part| {
            count += 1;
            if part.track_id == 0 {
                zero = zero.or(Some(part));
            }
            if self.0 == Some(part.track_id) {
                current = current.or(Some(part));
            }
            first = first.or(Some(part));
        })?;
        let part = zero.or(current).or(if self.0.is_none() { first } else { None });
        if let Some(part) = part {
            self.0 = Some(part.track_id);
        }
        let others = count - u64::from(part.is_some());
        Ok(Selected { packet_type, part, others })
    }

    /// A body without track ids was seen: it is of track 0.
    pub(super) fn take_default(&mut self) {
        self.0 = Some(0);
    }

    /// The selection moved from one track to another since it was `before`.
    pub(super) fn moved_since(self, before: Self) -> bool {
        before.0.is_some() && before != self
    }
}

/// Reads the FourCC of a packet and, when `packet_type` is `multitrack`, splits it into tracks.
/// `each` is called for every track in wire order; the packet type inside is returned.
pub(super) fn read_parts<'a>(
    reader: &mut ByteReader<'a>,
    packet_type: u8,
    multitrack: u8,
    mut each: impl FnMut(Part<'a>),
) -> Result<u8, FlvError> {
    if packet_type != multitrack {
        let four_cc = reader.array().ok_or(FlvError::Truncated)?;
        let (offset, data) = (reader.position(), reader.rest());
        each(Part { track_id: 0, four_cc, offset, data });
        return Ok(packet_type);
    }
    let byte = reader.u8().ok_or(FlvError::Truncated)?;
    let (kind, packet_type) = (byte >> 4, byte & 0x0f);
    if kind > MANY_TRACKS_MANY_CODECS || packet_type == multitrack || packet_type == MOD_EX {
        return Err(FlvError::BadMultitrack);
    }
    let mut four_cc = [0; 4];
    if matches!(kind, ONE_TRACK | MANY_TRACKS) {
        four_cc = reader.array().ok_or(FlvError::Truncated)?;
    }
    while reader.remaining() > 0 {
        if kind == MANY_TRACKS_MANY_CODECS {
            four_cc = reader.array().ok_or(FlvError::Truncated)?;
        }
        let track_id = reader.u8().ok_or(FlvError::Truncated)?;
        let size = match kind {
            ONE_TRACK => reader.remaining(),
            _ => reader.u24().ok_or(FlvError::Truncated)? as usize,
        };
        let offset = reader.position();
        let data = reader.bytes(size).ok_or(FlvError::Truncated)?;
        each(Part { track_id, four_cc, offset, data });
    }
    Ok(packet_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mod_ex_of_both_sizes_is_taken_off() {
        let mut reader = ByteReader::new(&[2, 0x01, 0xe2, 0x40, 0x01]);
        assert_eq!(read_prefix(&mut reader, 7), Ok(Prefix { packet_type: 1, nanos: 123_456 }));
        let long = [&[255, 1, 0x2b][..], &[0; 300], &[0x17, 2, 0, 0, 1, 0x03]].concat();
        let mut reader = ByteReader::new(&long);
        assert_eq!(read_prefix(&mut reader, 7), Ok(Prefix { packet_type: 3, nanos: 1 }));
        let endless = [0, 0, 7].repeat(10_000);
        assert_eq!(read_prefix(&mut ByteReader::new(&endless), 7), Err(FlvError::Truncated));
    }

    #[test]
    fn tracks_are_split_and_sizes_checked() {
        let read = |bytes: &[u8]| {
            let mut ids = Vec::new();
            let kind = read_parts(&mut ByteReader::new(bytes), 6, 6, |part| {
                ids.push((part.track_id, part.data.len()));
            });
            (kind, ids)
        };
        assert_eq!(read(b"\x01avc1\x05abc"), (Ok(1), vec![(5, 3)]));
        assert_eq!(read(b"\x11avc1\x05\0\0\x01a\x00\0\0\x02bc"), (Ok(1), vec![(5, 1), (0, 2)]));
        assert_eq!(read(b"\x21avc1\x05\0\0\x01ahvc1\x06\0\0\0").1, [(5, 1), (6, 0)]);
        assert_eq!(read(b"\x11avc1\x05\0\0\x09a").0, Err(FlvError::Truncated));
        assert_eq!(read(b"\x16avc1").0, Err(FlvError::BadMultitrack));
        assert_eq!(read(b"\x31avc1").0, Err(FlvError::BadMultitrack));
        assert_eq!(read(b"").0, Err(FlvError::Truncated));
    }

    #[test]
    fn track_0_wins_over_the_first_one_seen() {
        let mut selection = Selection::default();
        let mut read = |bytes: &'static [u8]| {
            let before = selection;
            let selected = selection.read(&mut ByteReader::new(bytes), 6, 6).unwrap();
            let track_id = selected.part.map(|part| part.track_id);
            (track_id, selected.others, selection.moved_since(before))
        };
        assert_eq!(read(b"\x11avc1\x05\0\0\0\x06\0\0\0"), (Some(5), 1, false));
        assert_eq!(read(b"\x11avc1\x06\0\0\0\x07\0\0\0"), (None, 2, false));
        assert_eq!(read(b"\x11avc1\x05\0\0\0\x00\0\0\0"), (Some(0), 1, true));
        assert_eq!(read(b"\x01avc1\x05a"), (None, 1, false));
    }
}
