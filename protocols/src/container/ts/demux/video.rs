//! Pictures of an H.264 or H.265 elementary stream: annex B to access units and their parameter
//! sets to a configuration record.

use bytes::Bytes;

use super::{Output, Stamps};
use crate::codec::nal::{UnitRole, split_annex_b};
use crate::codec::{h264, h265};
use crate::media::{Codec, Frame, FrameKind, Timestamp, Track, VideoInfo};

/// NAL units of one PES packet looked at: more than any picture of many slices has.
const NAL_UNITS_MAX: usize = 4096;
/// Largest parameter set kept, and how many.
const PARAMETER_SET_BYTES_MAX: usize = 4096;
const PARAMETER_SETS_MAX: usize = 64;
/// A PES packet of bounded length with this much payload may end inside a picture that did not fit:
/// then the next one has no time stamps.
const SPLIT_BYTES_MIN: usize = 60_000;
/// Bytes of a NAL unit length prefix.
const LENGTH_SIZE: u8 = 4;
/// Duration of a picture whose rate nobody tells, and the durations believed.
const PICTURE_MS: i64 = 40;
const PICTURE_MS_RANGE: std::ops::RangeInclusive<i64> = 1..=1000;

/// Time stamps unwrapped: presentation and decode time.
type Times = (Timestamp, Timestamp);

/// Reads the pictures of one elementary stream.
#[derive(Debug)]
pub(super) struct VideoReader {
    codec: Codec,
    /// The parameter sets of the configuration record that was announced.
    sets: Vec<Bytes>,
    temporal_layers: u8,
    /// Parameter sets that came without a picture of their own.
    loose_sets: Vec<Bytes>,
    /// Nothing but a keyframe is let through.
    waits_for_keyframe: bool,
    last: Option<Times>,
    picture_ms: i64,
    /// Pictures may be fields, two of which share a PES packet and its time stamp.
    fields: bool,
    /// Pictures were seen to go on in further PES packets whatever the size of these.
    spans: bool,
    /// The beginning of a picture that may go on in the next PES packet, and its time.
    unfinished: Vec<u8>,
    unfinished_times: Option<Times>,
}

impl VideoReader {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            codec,
            sets: Vec::new(),
            temporal_layers: 1,
            loose_sets: Vec::new(),
            waits_for_keyframe: true,
            last: None,
            picture_ms: PICTURE_MS,
            fields: false,
            spans: false,
            unfinished: Vec::new(),
            unfinished_times: None,
        }
    }

    fn role(&self, nal_unit: &[u8]) -> UnitRole {
        match self.codec {
            Codec::H264 => h264::unit_role(nal_unit),
            _ => h265::unit_role(nal_unit),
        }
    }

    /// Something was lost: what is unfinished goes, and so does everything up to a keyframe.
    pub(super) fn on_damage(&mut self) {
        self.unfinished.clear();
        self.loose_sets.clear();
        self.waits_for_keyframe = true;
        self.last = None;
    }

    /// Takes the payload of a PES packet.
    pub(super) fn on_pes(
        &mut self,
        stamps: Option<Stamps>,
        payload: &[u8],
        bounded: bool,
        output: &mut Output<'_>,
    ) {
        let may_go_on = self.spans || bounded && payload.len() >= SPLIT_BYTES_MIN;
        let times = stamps.map(|stamps| (stamps.pts, stamps.dts));
        let goes_on = times.is_none() || self.spans && times == self.unfinished_times;
        if !goes_on {
            self.finish(output);
        }
        if self.unfinished.is_empty() && !may_go_on {
            self.on_stream(times, payload, output);
            return;
        }
        if self.unfinished.is_empty() {
            self.unfinished_times = times;
        }
        if self.unfinished.len() + payload.len() > output.pes_bytes_max {
            output.damage.oversized_pes += 1;
            self.on_damage();
            return;
        }
        self.unfinished.extend_from_slice(payload);
        if !may_go_on {
            self.finish(output);
        }
    }

    /// Nothing more belongs to what is unfinished.
    pub(super) fn finish(&mut self, output: &mut Output<'_>) {
        if self.unfinished.is_empty() {
            return;
        }
        let stream = std::mem::take(&mut self.unfinished);
        let times = self.unfinished_times.take();
        self.on_stream(times, &stream, output);
    }

    /// Cuts a piece of byte stream into access units. The time is that of the first. Where pictures
    /// may be fields the piece is taken for one frame.
    fn on_stream(&mut self, times: Option<Times>, stream: &[u8], output: &mut Output<'_>) {
        let units: Vec<&[u8]> = split_annex_b(stream).take(NAL_UNITS_MAX + 1).collect();
        if units.len() > NAL_UNITS_MAX {
            output.damage.damaged_pes += 1;
            self.on_damage();
            return;
        }
        let is_sps = |unit: &&&[u8]| self.role(unit) == UnitRole::SequenceParameterSet;
        if let Some(sps) = units.iter().find(is_sps) {
            self.fields = self.codec == Codec::H264 && h264::may_have_fields(sps);
        }
        let mut times = times;
        let (mut begin, mut slices) = (0, false);
        for (at, unit) in units.iter().enumerate() {
            let role = self.role(unit);
            if slices && role.begins_access_unit() && !self.fields {
                self.on_access_unit(times.take(), units.get(begin..at).unwrap_or_default(), output);
                (begin, slices) = (at, false);
            }
            slices |= matches!(role, UnitRole::FirstSlice | UnitRole::Slice);
        }
        self.on_access_unit(times, units.get(begin..).unwrap_or_default(), output);
    }

    fn on_access_unit(&mut self, times: Option<Times>, units: &[&[u8]], output: &mut Output<'_>) {
        let mut roles = units.iter().map(|unit| self.role(unit));
        match roles.find(|role| matches!(role, UnitRole::FirstSlice | UnitRole::Slice)) {
            Some(UnitRole::FirstSlice) => {}
            Some(_) => {
                // The rest of a picture whose beginning was passed on; the next one is waited for.
                self.spans = true;
                output.damage.damaged_pes += 1;
                self.on_damage();
                return;
            }
            None => {
                self.keep_sets(units, output);
                return;
            }
        }
        let Some((pts, dts)) = times.or_else(|| self.interpolated()) else {
            output.ignored.untimed += 1;
            return;
        };
        self.note_times((pts, dts));
        let keyframe = self.is_keyframe(units);
        if self.waits_for_keyframe && !keyframe {
            if self.sets.is_empty() {
                self.keep_sets(units, output);
            }
            output.ignored.before_keyframe += 1;
            return;
        }
        if keyframe {
            self.keep_sets(units, output);
            self.configure(output);
        }
        if self.sets.is_empty() {
            output.ignored.before_keyframe += 1;
            return;
        }
        self.waits_for_keyframe = false;
        let payload = self.length_prefixed(units);
        let disposable = match self.codec {
            Codec::H264 => h264::is_disposable(&payload, LENGTH_SIZE),
            _ => h265::is_disposable(&payload, LENGTH_SIZE, self.temporal_layers),
        };
        let kind = match disposable {
            _ if keyframe => FrameKind::Keyframe,
            Ok(true) => FrameKind::Disposable,
            _ => FrameKind::Inter,
        };
        let frame = Frame { kind, dts, composition_offset: pts - dts, payload: payload.into() };
        output.announcer.frame(frame, output.items);
    }

    fn is_keyframe(&self, units: &[&[u8]]) -> bool {
        units.iter().any(|unit| match self.codec {
            Codec::H264 => h264::is_idr_slice(unit) || h264::is_recovery_point(unit),
            _ => h265::is_irap_slice(unit),
        })
    }

    /// The time of a picture that has none of its own: one picture after the one before.
    fn interpolated(&self) -> Option<Times> {
        let (pts, dts) = self.last?;
        let step = self.picture_ms * 1_000_000;
        Some((pts.offset_nanos(step), dts.offset_nanos(step)))
    }

    fn note_times(&mut self, times: Times) {
        if let Some((_, before)) = self.last {
            let step_ms = (times.1 - before) / 1_000_000;
            if PICTURE_MS_RANGE.contains(&step_ms) {
                self.picture_ms = step_ms;
            }
        }
        self.last = Some(times);
    }

    /// Keeps the parameter sets among `units` for the next configuration record.
    fn keep_sets(&mut self, units: &[&[u8]], output: &mut Output<'_>) {
        for unit in units {
            if !self.role(unit).is_parameter_set() {
                continue;
            }
            if self.loose_sets.iter().any(|set| set == unit) {
                continue;
            }
            if unit.len() > PARAMETER_SET_BYTES_MAX || self.loose_sets.len() >= PARAMETER_SETS_MAX {
                output.ignored.unsupported += 1;
                continue;
            }
            self.loose_sets.push(Bytes::copy_from_slice(unit));
        }
    }

    /// Takes the parameter sets that came with a keyframe, or since the picture before it, for the
    /// configuration if they are complete. Otherwise they stay in band.
    fn configure(&mut self, output: &mut Output<'_>) {
        let sets = std::mem::take(&mut self.loose_sets);
        if sets.is_empty() || sets == self.sets {
            return;
        }
        let of = |role| -> Vec<&[u8]> {
            sets.iter().map(|set| &set[..]).filter(|set| self.role(set) == role).collect()
        };
        let vps = of(UnitRole::VideoParameterSet);
        let sps = of(UnitRole::SequenceParameterSet);
        let pps = of(UnitRole::PictureParameterSet);
        if sps.is_empty() || pps.is_empty() {
            return;
        }
        let record = match self.codec {
            Codec::H264 => h264::build_config(&sps, &pps),
            _ if vps.is_empty() => return,
            _ => h265::build_config(&vps, &sps, &pps),
        };
        let Some((record, info, layers)) = record.and_then(|record| self.read_record(record))
        else {
            output.ignored.unsupported += 1;
            return;
        };
        self.temporal_layers = layers;
        self.sets = sets;
        if info.frame_rate > 0.0 {
            // Believed only within the range, and replaced by what time stamps tell.
            let ms = (1000.0 / info.frame_rate) as i64;
            self.picture_ms = ms.clamp(*PICTURE_MS_RANGE.start(), *PICTURE_MS_RANGE.end());
        }
        let track = Track { codec: self.codec, config: record.into(), info };
        output.announcer.set_video(track, output.items);
    }

    fn read_record(&self, record: Vec<u8>) -> Option<(Vec<u8>, VideoInfo, u8)> {
        let (info, layers) = match self.codec {
            Codec::H264 => (h264::parse_config(&record).ok()?.info, 1),
            _ => {
                let config = h265::parse_config(&record).ok()?;
                (config.info, config.temporal_layers)
            }
        };
        Some((record, info, layers))
    }

    /// The access unit in the neutral form: without delimiters, filler, and the parameter sets that
    /// the configuration has.
    fn length_prefixed(&self, units: &[&[u8]]) -> Vec<u8> {
        let carried = |unit: &&&[u8]| match self.role(unit) {
            UnitRole::Delimiter | UnitRole::Filler => false,
            role if role.is_parameter_set() => !self.sets.iter().any(|set| set == *unit),
            _ => true,
        };
        let bytes = units.iter().map(|unit| usize::from(LENGTH_SIZE) + unit.len()).sum();
        let mut payload = Vec::with_capacity(bytes);
        for unit in units.iter().filter(carried) {
            // A PES packet is far below 4 GiB.
            let Ok(length) = u32::try_from(unit.len()) else { continue };
            payload.extend_from_slice(&length.to_be_bytes());
            payload.extend_from_slice(unit);
        }
        payload
    }
}
