//! Pictures made of NAL units, H.264 and H.265: units put together from packets, parameter sets
//! taken out for the decoder configuration.

use bytes::Bytes;

use super::pictures::{Closed, PictureFormat};
use super::{PayloadError, append, h264, h265};
use crate::bits::ByteReader;
use crate::codec::nal::{UnitRole, units};
use crate::codec::{self, Reordering};
use crate::media::{Codec, FrameKind, Track, VideoInfo};
use crate::rtp::format::PayloadFormat;
use crate::rtp::packets::PacketWriter;

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
                self.reference |=
                    unit.first().is_some_and(|header| codec::h264::is_reference(*header));
                self.keyframe |= codec::h264::is_idr_slice(unit);
            }
            _ => {
                self.reference |= codec::h265::is_reference(unit, self.temporal_layers);
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

/// Writes the packets of an access unit; `sets`, in one packet if they fit, stand in front of it.
pub(in crate::rtp) fn write(
    codec: Codec,
    access_unit: &[u8],
    length_size: u8,
    sets: &[Bytes],
    writer: &mut PacketWriter<'_>,
) {
    let h264 = codec == Codec::H264;
    let write_unit = if h264 { h264::write_unit } else { h265::write_unit };
    let role = if h264 { codec::h264::unit_role } else { codec::h265::unit_role };
    if h264 {
        write_sets(&h264::aggregate_header(sets), write_unit, sets, writer);
    } else {
        write_sets(&h265::AGGREGATE_HEADER, write_unit, sets, writer);
    }
    for unit in units(access_unit, length_size).map_while(Result::ok) {
        if !matches!(role(unit), UnitRole::Delimiter | UnitRole::Filler) {
            write_unit(unit, writer);
        }
    }
}

fn write_sets(
    header: &[u8],
    write_unit: fn(&[u8], &mut PacketWriter<'_>),
    sets: &[Bytes],
    writer: &mut PacketWriter<'_>,
) {
    let bytes = header.len() + sets.iter().map(|set| 2 + set.len()).sum::<usize>();
    if sets.len() < 2 || bytes > writer.payload_max() {
        sets.iter().for_each(|set| write_unit(set, writer));
        return;
    }
    writer.packet(&[header]);
    for set in sets {
        // What fits a packet has a length of 16 bits.
        writer.append(&u16::try_from(set.len()).unwrap_or(0).to_be_bytes());
        writer.append(set);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::payload::{Depacketizer, Found, Packet};

    const SPS: &[u8] = &[
        0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00,
        0x01, 0x00, 0x00, 0x03, 0x00, 0x32, 0x0f, 0x16, 0x2e, 0x48,
    ];
    const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
    /// First slices: of an IDR picture, of one that others refer to, of one that none does.
    const IDR: &[u8] = &[0x65, 0x88, 1];
    const INTER: &[u8] = &[0x41, 0x9a, 2];
    const DISPOSABLE: &[u8] = &[0x01, 0x9a, 3];
    /// The second slice of an IDR picture.
    const MORE: &[u8] = &[0x65, 0x08, 4];

    /// A depacketizer and the packets it gets, each as timestamp, marker and payload; an empty
    /// payload is a lost packet.
    struct Run {
        depacketizer: Depacketizer,
        gap: bool,
        tracks: usize,
    }

    impl Run {
        fn new(bytes_max: usize) -> Self {
            let format = PayloadFormat::from_sdp(96, "H264", 90_000, 0, "").unwrap();
            let depacketizer = Depacketizer::new(&format, bytes_max).unwrap();
            Self { depacketizer, gap: false, tracks: 0 }
        }

        /// Payloads of the pictures that come out.
        fn push(&mut self, packets: &[(i64, bool, &[u8])]) -> Vec<Vec<u8>> {
            let mut found = Vec::new();
            for (timestamp, marker, payload) in packets {
                if payload.is_empty() {
                    self.gap = true;
                    continue;
                }
                let (gap, payload) =
                    (std::mem::take(&mut self.gap), Bytes::copy_from_slice(payload));
                let packet = Packet { timestamp: *timestamp, marker: *marker, gap, payload };
                self.depacketizer.push(&packet, &mut found);
            }
            let tracks = found.iter().filter(|found| matches!(found, Found::VideoTrack(..)));
            self.tracks += tracks.count();
            let frame = |found| match found {
                Found::Frame { payload, .. } => Some(payload.to_vec()),
                _ => None,
            };
            found.into_iter().filter_map(frame).collect()
        }

        /// A configured depacketizer after its first keyframe.
        fn started() -> Self {
            let mut run = Self::new(1 << 16);
            let first = run.push(&[(0, false, SPS), (0, false, PPS), (0, true, IDR)]);
            assert_eq!((first, run.tracks), (vec![prefixed(&[IDR])], 1));
            run
        }
    }

    fn prefixed(units: &[&[u8]]) -> Vec<u8> {
        let one = |unit: &&[u8]| [&(unit.len() as u32).to_be_bytes()[..], unit].concat();
        units.iter().flat_map(one).collect()
    }

    /// A fragment of a unit with this header; bit 7 of `flags` starts it, bit 6 ends it.
    fn fragment(header: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        [&[header & 0xe0 | 28, flags | header & 0x1f], body].concat()
    }

    #[test]
    fn fragments_that_do_not_fit_break_one_picture_only() {
        let mut run = Run::started();
        let (start, end) = (fragment(0x41, 0x80, &[0x9a, 1]), fragment(0x41, 0x40, &[2]));
        assert_eq!(
            run.push(&[(1, false, &start), (1, true, &end)]),
            [prefixed(&[&[0x41, 0x9a, 1, 2]])]
        );
        // An end, a header alone, a start and a start, a unit inside of a fragmented one.
        let header = fragment(0x41, 0, &[]);
        let wrong: [&[(i64, bool, &[u8])]; 5] = [
            &[(2, true, &end)],
            &[(2, true, &header)],
            &[(2, false, &start), (2, true, &start)],
            &[(2, false, &start), (2, true, INTER)],
            &[(2, false, &start), (2, false, &[]), (2, true, &end)],
        ];
        for packets in wrong {
            assert_eq!(run.push(packets), Vec::<Vec<u8>>::new());
            assert_eq!(run.push(&[(3, true, INTER)]), Vec::<Vec<u8>>::new());
            assert_eq!(run.push(&[(4, true, IDR)]), [prefixed(&[IDR])]);
        }
        assert!(run.push(&[(5, false, &start), (6, true, IDR)]).len() == 1);
        // Each wrong picture and the one after it.
        assert_eq!(run.depacketizer.discarded(), 11);
    }

    #[test]
    fn what_never_ends_is_bounded() {
        let mut run = Run::new(10_000);
        let (start, middle) = (fragment(0x65, 0x80, &[0x88; 900]), fragment(0x65, 0, &[7; 900]));
        for _ in 0..1000 {
            run.push(&[(0, false, &start)]);
        }
        for _ in 0..1000 {
            run.push(&[(1, false, &start), (1, false, &middle), (1, false, &middle)]);
        }
        for set in 0..1000u16 {
            let [high, low] = set.to_be_bytes();
            run.push(&[(2, false, &[0x67, 0x42, high, low])]);
        }
        assert!(run.depacketizer.memory_bytes() < 32_000, "{}", run.depacketizer.memory_bytes());
        assert_eq!(run.push(&[(3, false, SPS), (3, false, PPS), (3, true, IDR)]).len(), 1);
    }

    #[test]
    fn aggregates_are_taken_apart() {
        let mut run = Run::started();
        let aggregate = |units: &[&[u8]]| {
            let one = |unit: &&[u8]| [&(unit.len() as u16).to_be_bytes()[..], unit].concat();
            [&[0x78][..], &units.iter().flat_map(one).collect::<Vec<u8>>()].concat()
        };
        let whole = aggregate(&[&[0x09, 0xf0], SPS, PPS, IDR, MORE]);
        assert_eq!(run.push(&[(1, true, &whole)]), [prefixed(&[IDR, MORE])]);
        assert_eq!(run.push(&[(2, true, &whole[..whole.len() - 1])]).len(), 0);
        assert_eq!(run.push(&[(3, true, &[0x79, 0, 0]), (3, true, &[0x7a, 1])]).len(), 0);
        assert_eq!(run.depacketizer.malformed(), 3);
        assert_eq!(run.tracks, 1);
    }

    #[test]
    fn the_loss_of_what_nobody_refers_to_costs_no_more() {
        let mut run = Run::started();
        let (start, end) = (fragment(0x01, 0x80, &[0x9a, 1]), fragment(0x01, 0x40, &[2]));
        let lost = run.push(&[(1, false, &start), (1, false, &[]), (1, true, &end)]);
        assert_eq!((lost.len(), run.depacketizer.wants_keyframe()), (0, false));
        assert_eq!(run.push(&[(2, true, DISPOSABLE), (3, true, INTER)]).len(), 2);
        // Nobody knows what is lost between two pictures.
        assert_eq!(run.push(&[(4, true, &[]), (5, true, INTER), (6, true, DISPOSABLE)]).len(), 0);
        assert!(run.depacketizer.wants_keyframe());
        // What is shown before the keyframe may refer to what is lost; the rest does not.
        let again = run.push(&[(10, true, IDR), (8, true, DISPOSABLE), (12, true, INTER)]);
        assert_eq!((again.len(), run.depacketizer.wants_keyframe()), (2, false));
    }

    #[test]
    fn a_keyframe_without_its_beginning_is_none() {
        let mut run = Run::started();
        assert_eq!(run.push(&[(1, false, &[]), (1, true, MORE)]).len(), 0);
        // This one came with its parameter sets before: they, or others, are missing.
        assert_eq!(run.push(&[(2, false, &[]), (2, true, IDR)]).len(), 0);
        assert_eq!(run.push(&[(3, false, SPS), (3, false, PPS), (3, true, IDR)]).len(), 1);
    }

    #[test]
    fn markers_inside_of_pictures_are_learned() {
        let mut run = Run::started();
        // The first time a part is out before it shows; nothing that refers to it follows.
        assert_eq!(run.push(&[(1, true, IDR), (1, true, MORE), (2, true, INTER)]).len(), 1);
        let rest = run.push(&[(3, true, IDR), (3, true, MORE), (4, true, INTER), (5, true, INTER)]);
        assert_eq!(rest, [prefixed(&[IDR, MORE]), prefixed(&[INTER])]);
    }

    #[test]
    fn parameter_sets_change_with_a_keyframe() {
        let mut run = Run::started();
        // In packets that end in markers, with a time of their own, and again the same.
        let same = [(1, true, SPS), (1, true, PPS), (2, true, IDR)];
        assert_eq!((run.push(&same), run.tracks), (vec![prefixed(&[IDR])], 1));
        let other = &[0x68, 0xcb, 0x83, 0xcb, 0x21][..];
        // In front of another picture they stay in band until the next keyframe.
        let within = run.push(&[(3, false, other), (3, true, INTER)]);
        assert_eq!((within, run.tracks), (vec![prefixed(&[other, INTER])], 1));
        let changed = run.push(&[(4, false, SPS), (4, false, other), (4, true, IDR)]);
        assert_eq!((changed, run.tracks), (vec![prefixed(&[IDR])], 2));
        // One of two is enough, the other stays.
        let changed = run.push(&[(5, false, PPS), (5, true, IDR)]);
        assert_eq!((changed, run.tracks), (vec![prefixed(&[IDR])], 3));
    }

    #[test]
    fn nothing_comes_out_before_parameter_sets() {
        let mut run = Run::new(1 << 16);
        assert_eq!(run.push(&[(1, true, IDR), (2, true, INTER)]).len(), 0);
        assert!(run.depacketizer.wants_keyframe());
    }
}
