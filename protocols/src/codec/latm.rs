//! LATM in LOAS: AAC whose configuration travels in band (ISO/IEC 14496-3 1.7).
//!
//! The usual subset: one program, one layer, all payloads of the same time framing and of variable
//! length (`frameLengthType` 0), object types of `GASpecificConfig`.

use bytes::Bytes;

use super::aac;
use crate::bits::BitReader;

/// `syncword` (11 bits) and `audioMuxLengthBytes` (13 bits) of an `AudioSyncStream`.
pub const SYNC_BYTES: usize = 3;

/// Largest configuration in bits: far beyond any `AudioSpecificConfig` of a single layer.
const CONFIG_BITS_MAX: usize = 512;

/// Why an `AudioMuxElement` cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LatmError {
    /// The element ends before what it announces.
    #[error("LATM element is cut short")]
    Truncated,
    /// The element refers to a configuration that has not been seen.
    #[error("LATM element comes before its configuration")]
    NoConfig,
    /// A form outside the subset.
    #[error("LATM form is not supported")]
    Unsupported,
}

/// Bytes of the `AudioSyncStream` frame at the front of `bytes`, its head included; `None` when
/// there is none or the head is cut short. The frame itself may be longer than `bytes`.
pub fn sync_frame_bytes(bytes: &[u8]) -> Option<usize> {
    let [first, second, third] = *bytes.first_chunk::<SYNC_BYTES>()?;
    if first != 0x56 || second & 0xe0 != 0xe0 {
        return None;
    }
    Some(SYNC_BYTES + (usize::from(second & 0x1f) << 8 | usize::from(third)))
}

/// What a `StreamMuxConfig` says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StreamMux {
    config: Bytes,
    sub_frames: u32,
}

/// Reads the `AudioMuxElement`s of one stream; keeps the configuration between them.
#[derive(Debug, Default)]
pub struct Reader {
    mux: Option<StreamMux>,
}

impl Reader {
    /// The `AudioSpecificConfig` of the element read last.
    pub fn config(&self) -> Option<&Bytes> {
        self.mux.as_ref().map(|mux| &mux.config)
    }

    /// Reads an element with its mux configuration present (what follows the head of an
    /// `AudioSyncStream` frame) and appends its access units, at most 64, to `access_units`.
    ///
    /// # Errors
    /// See [`LatmError`]; nothing is appended, a configuration read before the error is kept.
    pub fn read(&mut self, element: &[u8], access_units: &mut Vec<Bytes>) -> Result<(), LatmError> {
        let mut reader = BitReader::new(element);
        let same = reader.flag().ok_or(LatmError::Truncated)?;
        if !same {
            let mux = stream_mux_config(element, &mut reader)?;
            if self.mux.as_ref() != Some(&mux) {
                self.mux = Some(mux);
            }
        }
        let mux = self.mux.as_ref().ok_or(LatmError::NoConfig)?;
        let before = access_units.len();
        for _ in 0..=mux.sub_frames {
            let Some(payload) = payload(element, &mut reader) else {
                access_units.truncate(before);
                return Err(LatmError::Truncated);
            };
            access_units.push(payload);
        }
        Ok(())
    }
}

/// Table 1.42.
fn stream_mux_config(element: &[u8], reader: &mut BitReader<'_>) -> Result<StreamMux, LatmError> {
    let cut = LatmError::Truncated;
    let version = reader.flag().ok_or(cut)?;
    if version {
        if reader.flag().ok_or(cut)? {
            return Err(LatmError::Unsupported);
        }
        // `taraBufferFullness`.
        value(reader).ok_or(cut)?;
    }
    let same_time_framing = reader.flag().ok_or(cut)?;
    let sub_frames = reader.bits(6).ok_or(cut)?;
    let (programs, layers) = (reader.bits(4).ok_or(cut)?, reader.bits(3).ok_or(cut)?);
    if !same_time_framing || programs != 0 || layers != 0 {
        return Err(LatmError::Unsupported);
    }
    let config = if version {
        let bits = value(reader).ok_or(cut)? as usize;
        let config = config_bytes(element, reader, bits)?;
        reader.skip(bits).ok_or(cut)?;
        config
    } else {
        let mut end = reader.clone();
        aac::skip_config(&mut end).ok_or(LatmError::Unsupported)?;
        let config = config_bytes(element, reader, end.position() - reader.position())?;
        *reader = end;
        config
    };
    if reader.bits(3).ok_or(cut)? != 0 {
        return Err(LatmError::Unsupported);
    }
    // `latmBufferFullness`.
    reader.skip(8).ok_or(cut)?;
    // Other data stands behind the payloads, where nothing is looked for.
    if reader.flag().ok_or(cut)? {
        if version { value(reader) } else { other_data_length(reader) }.ok_or(cut)?;
    }
    if reader.flag().ok_or(cut)? {
        reader.skip(8).ok_or(cut)?;
    }
    Ok(StreamMux { config, sub_frames })
}

fn config_bytes(element: &[u8], reader: &BitReader<'_>, bits: usize) -> Result<Bytes, LatmError> {
    if bits > CONFIG_BITS_MAX {
        return Err(LatmError::Unsupported);
    }
    let mut config = aligned(element, reader.position(), bits.div_ceil(8));
    if config.len() < bits.div_ceil(8) {
        return Err(LatmError::Truncated);
    }
    if let Some(last) = config.last_mut() {
        // What follows the configuration is not part of it.
        *last &= 0xffu8 << ((8 - bits % 8) % 8);
    }
    Ok(config.into())
}

/// `LatmGetValue` (table 1.43).
fn value(reader: &mut BitReader<'_>) -> Option<u32> {
    let bytes = reader.bits(2)? + 1;
    reader.bits(8 * bytes)
}

/// `otherDataLenBits` of version 0: bytes, each preceded by a flag whether another follows.
fn other_data_length(reader: &mut BitReader<'_>) -> Option<u32> {
    let mut length = 0u32;
    for _ in 0..4 {
        let more = reader.flag()?;
        length = length << 8 | reader.bits(8)?;
        if !more {
            return Some(length);
        }
    }
    None
}

/// `PayloadLengthInfo` and `PayloadMux` of the one layer there is.
fn payload(element: &[u8], reader: &mut BitReader<'_>) -> Option<Bytes> {
    let mut length = 0usize;
    loop {
        let byte = reader.bits(8)?;
        length += byte as usize;
        if byte != 0xff {
            break;
        }
    }
    let at = reader.position();
    reader.skip(length.checked_mul(8)?)?;
    Some(aligned(element, at, length).into())
}

/// `length` bytes from bit `position` on, less at the end of `bytes`; the last byte may be filled
/// up with zeros.
fn aligned(bytes: &[u8], position: usize, length: usize) -> Vec<u8> {
    let (first, shift) = (position / 8, position % 8);
    let source = bytes.get(first..).unwrap_or_default();
    let pair = |at: usize| {
        let high = *source.get(at)?;
        let low = source.get(at + 1).copied().unwrap_or(0);
        Some((u16::from_be_bytes([high, low]) << shift).to_be_bytes()[0])
    };
    (0..length).map_while(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits in the order given, as (value, count).
    fn pack(fields: &[(u32, u32)]) -> Vec<u8> {
        let mut bits = Vec::new();
        for (value, count) in fields {
            bits.extend((0..*count).rev().map(|at| value >> at & 1));
        }
        let byte =
            |chunk: &[u32]| (0..8).fold(0, |byte, at| byte << 1 | chunk.get(at).unwrap_or(&0));
        bits.chunks(8).map(|chunk| byte(chunk) as u8).collect()
    }

    /// Version 0, one program and layer, two sub-frames, AAC-LC 48 kHz stereo, no other data.
    const HEAD: [(u32, u32); 11] = [
        (0, 1),
        (0, 1),
        (1, 1),
        (1, 6),
        (0, 4),
        (0, 3),
        (0x1190, 16),
        (0, 3),
        (0xff, 8),
        (0, 1),
        (0, 1),
    ];

    fn read(reader: &mut Reader, element: &[u8]) -> Result<Vec<Bytes>, LatmError> {
        let mut access_units = Vec::new();
        reader.read(element, &mut access_units).map(|()| access_units)
    }

    #[test]
    fn sub_frames_and_a_kept_configuration() {
        let mut fields = HEAD.to_vec();
        fields.extend([(2, 8), (0xabcd, 16), (1, 8), (0x12, 8)]);
        let mut reader = Reader::default();
        let element = pack(&fields);
        let expected = [Bytes::from_static(b"\xab\xcd"), Bytes::from_static(b"\x12")];
        assert_eq!(read(&mut reader, &element).unwrap(), expected);
        assert_eq!(reader.config().unwrap()[..], [0x11, 0x90]);
        let same = pack(&[(1, 1), (0, 8), (1, 8), (7, 8)]);
        assert_eq!(read(&mut reader, &same).unwrap(), [Bytes::new(), Bytes::from_static(b"\x07")]);
        assert_eq!(read(&mut reader, &same[..2]), Err(LatmError::Truncated));
        assert_eq!(read(&mut Reader::default(), &same), Err(LatmError::NoConfig));
        for end in 0..element.len() - 1 {
            assert!(read(&mut Reader::default(), &element[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn version_1_states_the_length_of_the_configuration() {
        // HE-AAC with explicit signalling, other data of 4 bits, a check sum.
        let element = pack(&[
            (0, 1),
            (0b10, 2),
            (0, 2),
            (7, 8),
            (1, 1),
            (0, 6 + 4 + 3),
            (0, 2),
            (25, 8),
            (0x2b11_8800 >> 7, 25),
            (0, 3),
            (0xff, 8),
            (1, 1),
            (0, 2),
            (4, 8),
            (1, 1),
            (0x55, 8),
            (1, 8),
            (0x99, 8),
        ]);
        let mut reader = Reader::default();
        assert_eq!(read(&mut reader, &element).unwrap(), [Bytes::from_static(b"\x99")]);
        assert_eq!(reader.config().unwrap()[..], [0x2b, 0x11, 0x88, 0x00]);
    }

    #[test]
    fn other_forms_are_refused() {
        let with = |at: usize, value: u32| {
            let mut fields = HEAD.to_vec();
            fields[at].0 = value;
            read(&mut Reader::default(), &pack(&fields))
        };
        // Other framing, two programs, two layers, channels in the bitstream, fixed length.
        for (at, value) in [(2, 0), (4, 1), (5, 1), (6, 0x1180), (7, 1)] {
            assert_eq!(with(at, value), Err(LatmError::Unsupported), "{at}");
        }
        assert_eq!(sync_frame_bytes(&[0x56, 0xe1, 0x02]), Some(261));
        assert_eq!(sync_frame_bytes(&[0x56, 0xc1, 0x02]), None);
        assert_eq!(sync_frame_bytes(&[0x56, 0xe1]), None);
    }
}
