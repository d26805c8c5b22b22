//! Pictures made of NAL units, H.264 and H.265: units put together from packets, parameter sets
//! taken out for the decoder configuration.

use bytes::Bytes;

use super::pictures::{Closed, PictureFormat};
use super::{PayloadError, h264, h265};
use crate::bits::ByteReader;
use crate::codec::nal::UnitRole;
use crate::codec::{self, Reordering};
use crate::media::{Codec, FrameKind, Track, VideoInfo};
use crate::rtp::format::PayloadFormat;

/// Largest parameter set kept, and how many.
const SET_BYTES_MAX: usize = 4096;
const SETS_MAX: usize = 64;
/// Bytes of a NAL unit length prefix.
const PREFIX_BYTES: usize = 4;

/// The structure of a payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Structure<'a> {
    /// One NAL unit.
    Single(&'a [u8]),
    /// NAL units, each after its length in 16 bits.
    Aggregate(&'a [u8]),
    /// A part of one.
    Fragment {
        /// The header of the whole unit; one byte of it in H.264.
        header: [u8; 2],
        header_bytes: usize,
        start: bool,
        end: bool,
        body: &'a [u8],
    },
}

/// Puts NAL units together.
#[derive(Debug)]
pub(super) struct NalPictures {
    codec: Codec,
    temporal_layers: u8,
    /// The parameter sets of the configuration.
    sets: Vec<Bytes>,
    configured: bool,
    /// The configuration was not told yet.
    changed: bool,
    info: VideoInfo,
    record: Bytes,
    reordering: Reordering,
    /// Keyframes bring their parameter sets along.
    in_band: bool,
    /// Parameter sets in band since the last picture.
    loose: Vec<Bytes>,
    /// Where the unit of which fragments come begins in the picture.
    fragment: Option<usize>,
    /// Of the open picture: a slice was seen; the first one was; others refer to it; a decoder can
    /// start at it.
    slices: bool,
    first_slice: bool,
    reference: bool,
    keyframe: bool,
}

impl NalPictures {
    pub(super) fn new(format: &PayloadFormat) -> Self {
        let mut pictures = Self {
            codec: format.codec,
            temporal_layers: 1,
            sets: Vec::new(),
            configured: false,
            changed: false,
            info: VideoInfo::default(),
            record: Bytes::new(),
            reordering: Reordering::Unknown,
            in_band: false,
            loose: Vec::new(),
            fragment: None,
            slices: false,
            first_slice: false,
            reference: false,
            keyframe: false,
        };
        let sets = format.parameter_sets();
        pictures.loose = sets.into_iter().filter(|set| set.len() <= SET_BYTES_MAX).collect();
        pictures.loose.truncate(SETS_MAX);
        pictures.configure();
        pictures.loose.clear();
        pictures
    }

    fn role(&self, unit: &[u8]) -> UnitRole {
        match self.codec {
            Codec::H264 => codec::h264::unit_role(unit),
            _ => codec::h265::unit_role(unit),
        }
    }

    fn structure<'a>(&self, payload: &'a [u8]) -> Result<Structure<'a>, PayloadError> {
        match self.codec {
            Codec::H264 => h264::structure(payload),
            _ => h265::structure(payload),
        }
    }

    /// Notes what the head of a slice says of its picture.
    fn on_slice(&mut self, unit: &[u8]) {
        self.slices = true;
        match self.codec {
            Codec::H264 => {
                self.reference |= unit.first().is_some_and(|header| header & 0x60 != 0);
                self.keyframe |= codec::h264::is_idr_slice(unit);
            }
            _ => {
                let nal_type = unit.first().map_or(0, |byte| byte >> 1 & 0x3f);
                let temporal_id_plus1 = unit.get(1).map_or(0, |byte| byte & 7);
                self.reference |=
                    nal_type > 14 || nal_type % 2 == 1 || temporal_id_plus1 < self.temporal_layers;
                self.keyframe |= codec::h265::is_irap_slice(unit);
            }
        }
    }

    /// Judges the unit that stands at the end of the picture from `begin` on, prefix included, and
    /// takes it out again if it does not stay there.
    fn on_unit(&mut self, begin: usize, picture: &mut Vec<u8>) -> Result<(), PayloadError> {
        let body = picture.get(begin + PREFIX_BYTES..).unwrap_or_default();
        match self.role(body) {
            UnitRole::Delimiter | UnitRole::Filler => picture.truncate(begin),
            role if role.is_parameter_set() => {
                let known = self.loose.iter().any(|set| set == body);
                if body.len() > SET_BYTES_MAX || !known && self.loose.len() >= SETS_MAX {
                    return Err(PayloadError::TooLong);
                }
                if !known {
                    self.loose.push(Bytes::copy_from_slice(body));
                }
                picture.truncate(begin);
            }
            role @ (UnitRole::FirstSlice | UnitRole::Slice) => {
                let head: [u8; 3] = std::array::from_fn(|at| body.get(at).copied().unwrap_or(0));
                self.first_slice |= role == UnitRole::FirstSlice;
                self.on_slice(&head);
                set_length(begin, picture);
            }
            _ => {
                self.keyframe |= self.codec == Codec::H264 && codec::h264::is_recovery_point(body);
                set_length(begin, picture);
            }
        }
        Ok(())
    }

    fn push_unit(
        &mut self,
        unit: &[u8],
        picture: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), PayloadError> {
        if self.fragment.is_some() {
            return Err(PayloadError::Fragment);
        }
        let begin = picture.len();
        append(&[&[0; PREFIX_BYTES], unit], picture, bytes_max)?;
        self.on_unit(begin, picture)
    }

    /// Takes the parameter sets that came in band for the configuration. What is missing among them
    /// stays as it was.
    fn configure(&mut self) {
        if self.loose.is_empty() || self.loose == self.sets {
            return;
        }
        let of = |role: UnitRole| -> Vec<Bytes> {
            let of = |sets: &[Bytes]| -> Vec<Bytes> {
                sets.iter().filter(|set| self.role(set) == role).cloned().collect()
            };
            let new = of(&self.loose);
            if new.is_empty() { of(&self.sets) } else { new }
        };
        let vps = of(UnitRole::VideoParameterSet);
        let (sps, pps) = (of(UnitRole::SequenceParameterSet), of(UnitRole::PictureParameterSet));
        let sets = [&vps[..], &sps, &pps].concat();
        if sets == self.sets || sps.is_empty() || pps.is_empty() {
            return;
        }
        if self.build(&vps, &sps, &pps).is_some() {
            self.sets = sets;
        }
    }

    fn build(&mut self, vps: &[Bytes], sps: &[Bytes], pps: &[Bytes]) -> Option<()> {
        let vps: Vec<&[u8]> = vps.iter().map(|set| &set[..]).collect();
        let sps: Vec<&[u8]> = sps.iter().map(|set| &set[..]).collect();
        let pps: Vec<&[u8]> = pps.iter().map(|set| &set[..]).collect();
        let first = sps.first()?;
        if self.codec == Codec::H264 {
            let record = codec::h264::build_config(&sps, &pps)?;
            self.info = codec::h264::parse_config(&record).ok()?.info;
            self.reordering = codec::h264::reordering(first);
            self.record = record.into();
        } else {
            let record = codec::h265::build_config(&vps, &sps, &pps).filter(|_| !vps.is_empty())?;
            let config = codec::h265::parse_config(&record).ok()?;
            (self.info, self.temporal_layers) = (config.info, config.temporal_layers);
            self.reordering = codec::h265::reordering(first);
            self.record = record.into();
        }
        (self.configured, self.changed) = (true, true);
        Some(())
    }

    /// Parameter sets of a picture that is no keyframe stay in band, at its front, if they are new.
    fn put_back_sets(&mut self, picture: &mut Vec<u8>) {
        let mut front = Vec::new();
        for set in self.loose.drain(..).filter(|set| !self.sets.contains(set)) {
            front.extend_from_slice(&u32::try_from(set.len()).unwrap_or(0).to_be_bytes());
            front.extend_from_slice(&set);
        }
        if !front.is_empty() {
            picture.splice(0..0, front);
        }
    }

    fn reset_picture(&mut self) {
        self.fragment = None;
        (self.slices, self.first_slice) = (false, false);
        (self.reference, self.keyframe) = (false, false);
    }
}

impl PictureFormat for NalPictures {
    fn push(
        &mut self,
        payload: &[u8],
        picture: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), PayloadError> {
        match self.structure(payload)? {
            Structure::Single(unit) => self.push_unit(unit, picture, bytes_max),
            Structure::Aggregate(units) => {
                let mut reader = ByteReader::new(units);
                while reader.remaining() > 0 {
                    let unit = reader.u16().and_then(|length| reader.bytes(length.into()));
                    match unit.ok_or(PayloadError::Truncated)? {
                        [] => {}
                        unit => self.push_unit(unit, picture, bytes_max)?,
                    }
                }
                Ok(())
            }
            Structure::Fragment { header, header_bytes, start, end, body } => {
                if start == self.fragment.is_some() {
                    return Err(PayloadError::Fragment);
                }
                if start {
                    self.fragment = Some(picture.len());
                    let header = header.get(..header_bytes).unwrap_or_default();
                    append(&[&[0; PREFIX_BYTES], header], picture, bytes_max)?;
                    if matches!(self.role(header), UnitRole::Slice | UnitRole::FirstSlice) {
                        self.on_slice(header);
                    }
                }
                append(&[body], picture, bytes_max)?;
                match self.fragment.filter(|_| end) {
                    Some(begin) => {
                        self.fragment = None;
                        self.on_unit(begin, picture)
                    }
                    None => Ok(()),
                }
            }
        }
    }

    fn close(&mut self, picture: &mut Vec<u8>) -> Option<Closed> {
        if !self.slices {
            self.fragment = None;
            return None;
        }
        let kind = match (self.keyframe, self.reference) {
            (true, _) => FrameKind::Keyframe,
            (false, true) => FrameKind::Inter,
            (false, false) => FrameKind::Disposable,
        };
        let whole = self.fragment.is_none();
        let sets = !self.loose.is_empty();
        let has_beginning = whole && self.first_slice && (sets || !self.in_band || !self.keyframe);
        if self.keyframe {
            self.in_band |= sets;
            self.configure();
            self.loose.clear();
        } else {
            self.put_back_sets(picture);
        }
        let told = std::mem::take(&mut self.changed) && self.keyframe;
        let track = told.then(|| {
            let track = Track { codec: self.codec, config: self.record.clone(), info: self.info };
            (track, self.reordering)
        });
        let configured = self.configured && whole;
        self.reset_picture();
        Some(Closed { kind, has_beginning, configured, track })
    }

    fn abandon(&mut self) -> bool {
        let disposable = self.slices && !self.reference;
        self.reset_picture();
        self.loose.clear();
        disposable
    }

    fn continues(&self, payload: &[u8]) -> bool {
        match self.structure(payload) {
            Ok(Structure::Single(unit)) => self.role(unit) == UnitRole::Slice,
            Ok(Structure::Fragment { start, header, header_bytes, body, .. }) => {
                let mut head = [0; 3];
                let bytes = header.iter().take(header_bytes).chain(body);
                head.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                !start || self.role(&head) == UnitRole::Slice
            }
            _ => false,
        }
    }

    fn memory_bytes(&self) -> usize {
        self.sets.iter().chain(&self.loose).map(Bytes::len).sum::<usize>() + self.record.len()
    }
}

/// Appends parts if the picture stays within `bytes_max`.
fn append(parts: &[&[u8]], picture: &mut Vec<u8>, bytes_max: usize) -> Result<(), PayloadError> {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    if picture.len().saturating_add(bytes) > bytes_max {
        return Err(PayloadError::TooLong);
    }
    parts.iter().for_each(|part| picture.extend_from_slice(part));
    Ok(())
}

/// Writes the length of the unit that ends the picture into its prefix.
fn set_length(begin: usize, picture: &mut [u8]) {
    let length = picture.len().saturating_sub(begin + PREFIX_BYTES);
    // A picture is bounded far below 4 GiB.
    let prefix = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(at) = picture.get_mut(begin..begin + PREFIX_BYTES) {
        at.copy_from_slice(&prefix);
    }
}
