//! AAC in LATM: RFC 6416 6 and RFC 3016, the configuration in the description or in band.

use bytes::Bytes;

use super::sound::{Fragments, Frames, SoundFormat};
use super::{Packet, PayloadError, aac};
use crate::bits::BitReader;
use crate::codec;
use crate::codec::latm::{LatmError, Reader};
use crate::rtp::format::PayloadFormat;

/// `syncExtensionType` (ISO/IEC 14496-3 1.6.2.1), and from where to where its first bit is looked
/// for: 15 bits stand in front of the `AudioSpecificConfig`, which has at least 16 itself.
const EXTENSION: u32 = 0x2b7;
const EXTENSION_BITS_MIN: usize = 15 + 16;
const EXTENSION_BITS_MAX: usize = 15 + 64;

/// Reads packets.
#[derive(Debug)]
pub(super) struct LatmSound {
    format: PayloadFormat,
    /// Elements say themselves whether a configuration is in them.
    config_in_band: bool,
    reader: Reader,
    fragments: Fragments,
}

impl LatmSound {
    pub(super) fn new(format: &PayloadFormat) -> Self {
        let config = format.hex_config().unwrap_or_default();
        let mut reader = configured(&config);
        if reader.config().is_none() {
            reader =
                without_extension(&config).map(|config| configured(&config)).unwrap_or_default();
        }
        let config_in_band = format.parameter("cpresent") != Some("0");
        Self { format: format.clone(), config_in_band, reader, fragments: Fragments::default() }
    }

    fn on_element(
        &mut self,
        timestamp: i64,
        element: &[u8],
        out: &mut Frames<'_>,
    ) -> Result<(), PayloadError> {
        let mut access_units = Vec::new();
        let read = if self.config_in_band {
            self.reader.read(element, &mut access_units)
        } else {
            // As if it said that the configuration is the same.
            self.reader.read(&behind_bit(true, element), &mut access_units)
        };
        read.map_err(|error| match error {
            LatmError::Truncated => PayloadError::Truncated,
            LatmError::NoConfig | LatmError::Unsupported => PayloadError::Unsupported,
        })?;
        let config = self.reader.config().cloned().unwrap_or_default();
        let parsed = codec::aac::parse_config(&config).map_err(|_| PayloadError::Unsupported)?;
        out.set_track(&aac::track(config, parsed));
        let ticks = aac::ticks(Some(parsed), &self.format);
        let mut timestamp = timestamp;
        for access_unit in access_units {
            out.push(timestamp, access_unit);
            timestamp = timestamp.saturating_add(ticks);
        }
        Ok(())
    }
}

/// A reader that knows a configuration, if it can be used.
fn configured(config: &[u8]) -> Reader {
    let mut reader = Reader::default();
    // An element that is a configuration and nothing more: its payloads are missing, which is an
    // error that leaves the configuration read.
    if let Err(error) = reader.read(&behind_bit(false, config), &mut Vec::new()) {
        tracing::trace!(%error, "LATM configuration without payloads");
    }
    reader
}

/// A configuration without the backward compatible extension of its `AudioSpecificConfig`, which has
/// no place there as its length is not told (GStreamer writes it nevertheless), and without what
/// follows: variable length and no other data are put there. `None` when there is none.
fn without_extension(config: &[u8]) -> Option<Vec<u8>> {
    let behind = |at: usize| {
        let mut reader = BitReader::new(config);
        reader.skip(at)?;
        reader.bits(11)
    };
    let end = (EXTENSION_BITS_MIN..EXTENSION_BITS_MAX).find(|at| behind(*at) == Some(EXTENSION))?;
    let mut kept = config.get(..end.div_ceil(8))?.to_vec();
    if let Some(last) = kept.last_mut() {
        // `frameLengthType` 0, the rest zeros, which says nothing.
        *last &= 0xffu8 << ((8 - end % 8) % 8);
    }
    kept.extend_from_slice(&[0; 2]);
    Some(kept)
}

/// The configuration in the description can be used.
pub(in crate::rtp) fn is_configured(format: &PayloadFormat) -> bool {
    let reader = LatmSound::new(format).reader;
    reader.config().is_some_and(|config| codec::aac::parse_config(config).is_ok())
}

/// `bytes` after one bit, filled up with zeros.
fn behind_bit(bit: bool, bytes: &[u8]) -> Vec<u8> {
    let mut carry = u8::from(bit) << 7;
    let mut shifted = Vec::with_capacity(bytes.len() + 1);
    for byte in bytes {
        shifted.push(carry | byte >> 1);
        carry = byte << 7;
    }
    shifted.push(carry);
    shifted
}

impl SoundFormat for LatmSound {
    fn push(&mut self, packet: &Packet, out: &mut Frames<'_>) -> Result<(), PayloadError> {
        if packet.marker && self.fragments.is_empty() && packet.payload.len() <= out.bytes_max {
            return self.on_element(packet.timestamp, &packet.payload, out);
        }
        if !self.fragments.is_empty() && self.fragments.timestamp() != packet.timestamp {
            return Err(PayloadError::Fragment);
        }
        self.fragments.push(packet.timestamp, &packet.payload, out.bytes_max)?;
        if !packet.marker {
            return Ok(());
        }
        let element: Bytes = self.fragments.take();
        self.on_element(packet.timestamp, &element, out)
    }

    fn abandon(&mut self) -> bool {
        self.fragments.clear()
    }

    fn memory_bytes(&self) -> usize {
        self.fragments.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::payload::{Depacketizer, Found};

    fn run(fmtp: &str, packets: &[(i64, bool, bool, &[u8])]) -> (Vec<(i64, Vec<u8>)>, u64, u64) {
        let format = PayloadFormat::from_sdp(97, "MP4A-LATM", 48_000, 1, fmtp).unwrap();
        let mut depacketizer = Depacketizer::new(&format, 64).unwrap();
        let mut found = Vec::new();
        for (timestamp, marker, gap, payload) in packets {
            let (timestamp, marker, gap) = (*timestamp, *marker, *gap);
            let payload = Bytes::copy_from_slice(payload);
            depacketizer.push(&Packet { timestamp, marker, gap, payload }, &mut found);
        }
        let frame = |found| match found {
            Found::Frame { timestamp, payload, .. } => Some((timestamp, payload.to_vec())),
            _ => None,
        };
        let frames = found.into_iter().filter_map(frame).collect();
        (frames, depacketizer.malformed(), depacketizer.discarded())
    }

    const OUT_OF_BAND: &str = "cpresent=0;config=400023103fc0";

    #[test]
    fn the_configuration_is_in_either_place() {
        let (frames, malformed, _) = run(OUT_OF_BAND, &[(7, true, false, &[2, 8, 9])]);
        assert_eq!((frames, malformed), (vec![(7, vec![8, 9])], 0));
        // The same in band: one bit that says so, then the configuration.
        let config = [0x40, 0x00, 0x23, 0x10, 0x3f, 0xc0];
        let element = behind_bit(false, &[&config[..], &[0x80, 0x40]].concat());
        // The configuration ends in the middle of a byte; what follows does too.
        let same = behind_bit(true, &[1, 5]);
        let (frames, _, _) = run(
            "",
            &[(0, true, false, &same), (1, true, false, &element), (2, true, false, &same)],
        );
        assert_eq!(frames.last(), Some(&(2, vec![5])));
    }

    #[test]
    fn elements_may_be_spread_and_must_not_be_endless() {
        let spread =
            [(7, false, false, &[4, 1][..]), (7, false, false, &[2]), (7, true, false, &[3, 4])];
        assert_eq!(run(OUT_OF_BAND, &spread), (vec![(7, vec![1, 2, 3, 4])], 0, 0));
        let gap =
            [(7, false, false, &[4, 1][..]), (7, true, true, &[3, 4]), (8, true, false, &[1, 6])];
        let (frames, malformed, discarded) = run(OUT_OF_BAND, &gap);
        assert_eq!((frames, malformed, discarded), (vec![(8, vec![6])], 1, 1));
        let endless = [
            (7, false, false, &[9; 60][..]),
            (7, false, false, &[9; 60]),
            (9, true, false, &[1, 6]),
        ];
        let (frames, malformed, discarded) = run(OUT_OF_BAND, &endless);
        assert_eq!((frames, malformed, discarded), (vec![(9, vec![6])], 1, 1));
    }
}
