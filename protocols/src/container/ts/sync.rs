//! Finds the packets in a byte stream, and finds them again after garbage.

use super::TsError;
use super::packet::{PACKET_BYTES, SYNC_BYTE};

/// Sync bytes in a row, a packet apart, that are believed.
const SYNCS: usize = 3;
/// Sizes of packets that are recognised and refused, and how many sync bytes that takes: more,
/// since the error is final.
const OTHER_SIZES: [usize; 2] = [192, 204];
const OTHER_SYNCS: usize = 5;
/// Bytes that are kept while searching: what any of the searches looks ahead.
const LOOK_AHEAD_BYTES: usize = OTHER_SIZES[1] * (OTHER_SYNCS - 1);
/// Bytes searched without a find before the stream is refused.
const SEARCH_BYTES_MAX: usize = 64 * 1024;

/// Cuts a byte stream into packets.
#[derive(Debug, Default)]
pub(super) struct PacketSync {
    /// While in step the beginning of a packet, else what the search has to look at again.
    carry: Vec<u8>,
    in_step: bool,
    searched_bytes: usize,
    /// Where the next byte stands that is neither in a packet passed on nor passed over.
    offset: u64,
    /// Bytes passed over, and how often the step was lost.
    pub(super) skipped_bytes: u64,
    pub(super) losses: u64,
}

impl PacketSync {
    /// Takes the next bytes and passes each whole packet on, with where it begins in the stream.
    ///
    /// # Errors
    /// Packets of another size, or none in 64 KiB. The search goes on with the next bytes.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        mut packet: impl FnMut(u64, &[u8; PACKET_BYTES]),
    ) -> Result<(), TsError> {
        let mut rest = bytes;
        if self.in_step && !self.carry.is_empty() {
            let missing = PACKET_BYTES.saturating_sub(self.carry.len());
            let (head, tail) = rest.split_at(missing.min(rest.len()));
            self.carry.extend_from_slice(head);
            rest = tail;
            let Some(whole) = self.carry.first_chunk() else { return Ok(()) };
            packet(self.offset, whole);
            self.offset += PACKET_BYTES as u64;
            self.carry.clear();
        }
        if self.in_step {
            rest = self.walk(rest, &mut packet);
        }
        if self.in_step {
            self.carry.extend_from_slice(rest);
            return Ok(());
        }
        let mut window = std::mem::take(&mut self.carry);
        window.extend_from_slice(rest);
        self.search(&window, &mut packet)
    }

    /// The stream ends: what is left is no packet.
    pub(super) fn finish(&mut self) {
        self.pass_over(self.carry.len());
        self.carry.clear();
        self.in_step = false;
    }

    fn pass_over(&mut self, bytes: usize) {
        self.skipped_bytes += bytes as u64;
        self.offset += bytes as u64;
    }

    /// Passes packets on as long as they begin with the sync byte; returns what is left.
    fn walk<'a>(
        &mut self,
        mut bytes: &'a [u8],
        packet: &mut impl FnMut(u64, &[u8; PACKET_BYTES]),
    ) -> &'a [u8] {
        while bytes.first().is_some_and(|first| *first == SYNC_BYTE) {
            let Some((whole, rest)) = bytes.split_first_chunk() else { return bytes };
            packet(self.offset, whole);
            self.offset += PACKET_BYTES as u64;
            bytes = rest;
        }
        if !bytes.is_empty() {
            self.in_step = false;
            self.losses += 1;
        }
        bytes
    }

    fn search(
        &mut self,
        mut window: &[u8],
        packet: &mut impl FnMut(u64, &[u8; PACKET_BYTES]),
    ) -> Result<(), TsError> {
        while let Some(at) = find(window, PACKET_BYTES, SYNCS) {
            self.pass_over(at);
            self.searched_bytes = 0;
            self.in_step = true;
            window = self.walk(window.get(at..).unwrap_or_default(), packet);
            if self.in_step {
                self.carry.extend_from_slice(window);
                return Ok(());
            }
        }
        let other = OTHER_SIZES.into_iter().find(|size| find(window, *size, OTHER_SYNCS).is_some());
        let passed = window.len().saturating_sub(LOOK_AHEAD_BYTES);
        self.carry.extend_from_slice(window.get(passed..).unwrap_or_default());
        self.pass_over(passed);
        self.searched_bytes += passed;
        if let Some(size) = other {
            return Err(TsError::PacketBytes(size));
        }
        if self.searched_bytes > SEARCH_BYTES_MAX {
            return Err(TsError::NotTs);
        }
        Ok(())
    }
}

/// Where the first of `count` sync bytes stands that are `size` apart.
fn find(window: &[u8], size: usize, count: usize) -> Option<usize> {
    let last = window.len().checked_sub(size * (count - 1) + 1)?;
    let fits = |at: &usize| {
        (0..count).all(|index| window.get(at + index * size).is_some_and(|byte| *byte == SYNC_BYTE))
    };
    (0..=last).find(fits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Packets of `size` bytes whose second byte counts them; the rest is zero.
    fn stream(count: u8, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(count) * size];
        for (at, packet) in bytes.chunks_mut(size).enumerate() {
            (packet[0], packet[1]) = (SYNC_BYTE, at as u8);
        }
        bytes
    }

    fn read(bytes: &[u8], piece: usize) -> (Vec<u8>, PacketSync, Result<(), TsError>) {
        let (mut sync, mut found) = (PacketSync::default(), Vec::new());
        let mut result = Ok(());
        for piece in bytes.chunks(piece) {
            result = result.and(sync.push(piece, |offset, packet| {
                assert_eq!(bytes.get(offset as usize..).unwrap().first_chunk(), Some(packet));
                found.push(packet[1]);
            }));
        }
        (found, sync, result)
    }

    proptest! {
        #[test]
        fn garbage_costs_no_packet_but_those_it_stands_in(
            garbage in prop::collection::vec(0u8..0x47, 0..300),
            at in 0u8..10,
            piece in 1usize..900,
        ) {
            let mut bytes = stream(10, PACKET_BYTES);
            let cut = usize::from(at) * PACKET_BYTES;
            bytes.splice(cut..cut, garbage.iter().copied());
            let (found, mut sync, result) = read(&bytes, piece);
            prop_assert_eq!(result, Ok(()));
            // One or two packets alone cannot be told from chance.
            let (from, to) = match at {
                _ if garbage.is_empty() => (0, 10),
                1 | 2 => (at, 10),
                8 | 9 => (0, at),
                _ => (0, 10),
            };
            prop_assert_eq!(found, (from..to).collect::<Vec<_>>());
            sync.finish();
            let missed = u64::from(10 - (to - from)) * PACKET_BYTES as u64;
            prop_assert_eq!(sync.skipped_bytes, garbage.len() as u64 + missed);
        }
    }

    #[test]
    fn a_damaged_sync_byte_costs_one_packet() {
        let mut bytes = stream(8, PACKET_BYTES);
        bytes[3 * PACKET_BYTES] = 0;
        let (found, sync, _) = read(&bytes, 1316);
        assert_eq!(found, [0, 1, 2, 4, 5, 6, 7]);
        assert_eq!((sync.losses, sync.skipped_bytes), (1, PACKET_BYTES as u64));
    }

    #[test]
    fn other_sizes_and_streams_are_refused() {
        for size in OTHER_SIZES {
            let bytes = [&[1; 7][..], &stream(9, size)].concat();
            for piece in [1, 500, 4000] {
                assert_eq!(read(&bytes, piece).2, Err(TsError::PacketBytes(size)));
            }
        }
        assert_eq!(read(&[0; 60_000], 1000).2, Ok(()));
        let (_, sync, result) = read(&[0; 70_000], 1000);
        assert_eq!(result, Err(TsError::NotTs));
        assert!(sync.carry.len() <= LOOK_AHEAD_BYTES);
    }
}
