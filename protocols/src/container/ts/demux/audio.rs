//! Sound of an elementary stream: frames found by their own headers, in time, with their
//! configuration.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Damage, Ignored, Output, Stamps};
use crate::codec::{aac, ac3, latm, mp3, opus};
use crate::container::announce::Announcer;
use crate::container::ts::opus::{Control, control};
use crate::container::ts::stream_type::Format;
use crate::media::{AudioInfo, Codec, Frame, FrameKind, Timestamp, Track};

/// Time stamps kept while the frame they belong to is not whole.
const MARKS_MAX: usize = 16;

/// Largest access unit of E-AC-3 with all its substreams; what would exceed it is cut.
const SUBSTREAM_BYTES_MAX: usize = 1 << 15;

/// What stands at the front of the bytes that were not read yet.
enum Step {
    /// A frame of so many bytes, the access units in it, and samples of each.
    Frame { bytes: usize, access_units: Access, samples: u32 },
    /// A frame of so many bytes that is passed over, with its samples.
    Pass { bytes: usize, samples: u32 },
    /// No frame begins here.
    Garbage,
    /// The bytes end before the frame does.
    More,
}

/// The access units of a frame: a range of its bytes, or copies that were aligned.
enum Access {
    Range(std::ops::Range<usize>),
    Copies(Vec<Bytes>),
}

/// Reads the sound of one elementary stream.
#[derive(Debug)]
pub(super) struct AudioReader {
    format: Format,
    latm: latm::Reader,
    /// Bytes of a frame that is not whole.
    rest: Vec<u8>,
    /// Times and from where in `rest` the first frame that begins has them.
    marks: VecDeque<(usize, Timestamp)>,
    /// A frame ended where the next one is looked for.
    in_step: bool,
    /// The time of the frame that had a stamp last, and samples since then.
    anchor: Option<Timestamp>,
    samples: u64,
    track: Option<Track<AudioInfo>>,
    /// Samples per second that `samples` counts; of the core coder with AAC.
    sample_rate: u32,
}

/// Where the frames of one PES packet end, when the first of them begins at `pts`; `None` when they
/// cannot be read by themselves.
pub(in crate::container::ts) fn end_of_pes(
    format: Format,
    pts: Timestamp,
    payload: &[u8],
) -> Option<Timestamp> {
    let mut reader = AudioReader::new(format);
    let mut output = Output {
        announcer: &mut Announcer::default(),
        damage: &mut Damage::default(),
        ignored: &mut Ignored::default(),
        items: &mut VecDeque::new(),
        pes_bytes_max: payload.len(),
    };
    reader.on_pes(Some(Stamps { pts, dts: pts }), payload, &mut output);
    let anchor = reader.anchor.filter(|_| reader.samples > 0 && reader.sample_rate > 0)?;
    Some(anchor.offset_nanos(reader.nanos_since_anchor()))
}

impl AudioReader {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            latm: latm::Reader::default(),
            rest: Vec::new(),
            marks: VecDeque::new(),
            in_step: false,
            anchor: None,
            samples: 0,
            track: None,
            sample_rate: 0,
        }
    }

    /// Something was lost: the frame that is not whole goes, and time is told anew.
    pub(super) fn on_damage(&mut self) {
        self.rest.clear();
        self.marks.clear();
        self.in_step = false;
        self.anchor = None;
    }

    /// Takes the payload of a PES packet.
    pub(super) fn on_pes(
        &mut self,
        stamps: Option<Stamps>,
        payload: &[u8],
        output: &mut Output<'_>,
    ) {
        if let Some(stamps) = stamps {
            if self.marks.len() >= MARKS_MAX {
                self.marks.pop_front();
            }
            self.marks.push_back((self.rest.len(), stamps.pts));
        }
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(payload);
        let bytes = Bytes::from(bytes);
        let mut at = 0;
        while at < bytes.len() {
            let step = self.step(&bytes[at..], output);
            match step {
                Step::Frame { bytes: length, access_units, samples } => {
                    self.tell_time(at);
                    match access_units {
                        Access::Range(range) => {
                            let range = at + range.start..at + range.end;
                            self.emit(bytes.slice(range), samples, output);
                        }
                        Access::Copies(copies) => {
                            copies.into_iter().for_each(|copy| self.emit(copy, samples, output));
                        }
                    }
                    self.in_step = true;
                    at += length;
                }
                Step::Pass { bytes: length, samples } => {
                    self.tell_time(at);
                    self.samples += u64::from(samples);
                    self.in_step = true;
                    at += length;
                }
                Step::Garbage => {
                    self.in_step = false;
                    output.damage.skipped_audio_bytes += 1;
                    at += 1;
                }
                Step::More => break,
            }
        }
        self.rest.extend_from_slice(bytes.get(at..).unwrap_or_default());
        for (from, _) in &mut self.marks {
            *from = from.saturating_sub(at);
        }
    }

    /// The time of a frame that begins at `at`, if a stamp belongs to it.
    fn tell_time(&mut self, at: usize) {
        while let Some((_, time)) = self.marks.front().filter(|(from, _)| *from <= at) {
            (self.anchor, self.samples) = (Some(*time), 0);
            self.marks.pop_front();
        }
    }

    fn nanos_since_anchor(&self) -> i64 {
        let nanos = u128::from(self.samples) * 1_000_000_000 / u128::from(self.sample_rate.max(1));
        i64::try_from(nanos).unwrap_or(i64::MAX)
    }

    fn emit(&mut self, payload: Bytes, samples: u32, output: &mut Output<'_>) {
        let since = self.nanos_since_anchor();
        self.samples += u64::from(samples);
        let Some(anchor) = self.anchor else {
            output.ignored.untimed += 1;
            return;
        };
        if payload.is_empty() {
            output.ignored.empty += 1;
            return;
        }
        let dts = anchor.offset_nanos(since);
        let frame = Frame { kind: FrameKind::Audio, dts, composition_offset: 0, payload };
        output.announcer.frame(frame, output.items);
    }

    fn step(&mut self, bytes: &[u8], output: &mut Output<'_>) -> Step {
        match self.format {
            Format::Adts => self.adts(bytes, output),
            Format::Latm => self.latm(bytes, output),
            Format::Mp3 => self.mp3(bytes, output),
            Format::Opus(channels) => self.opus(bytes, channels, output),
            Format::Ac3 => self.ac3(bytes, output),
            // Not sound.
            Format::H264 | Format::H265 => Step::Garbage,
        }
    }

    /// Whether a frame of `length` bytes is not whole, or looks like one by chance: out of step, or
    /// when it does not say the `same` as the one before, what follows must begin with the same
    /// `sync` bits as far as it is there.
    fn doubted(
        &self,
        bytes: &[u8],
        length: usize,
        same: bool,
        sync: fn(&[u8]) -> bool,
    ) -> Option<Step> {
        if bytes.len() < length {
            return Some(Step::More);
        }
        let next = bytes.get(length..).unwrap_or_default();
        let chance = !(self.in_step && same) && next.len() >= 2 && !sync(next);
        chance.then_some(Step::Garbage)
    }

    /// The frame before said the same of rate and channels.
    fn same_info(&self, info: AudioInfo) -> bool {
        self.track.as_ref().is_some_and(|track| track.info == info)
    }

    fn adts(&mut self, bytes: &[u8], output: &mut Output<'_>) -> Step {
        let sync = |bytes: &[u8]| matches!(bytes, [0xff, second, ..] if second & 0xf6 == 0xf0);
        if bytes.len() < 7 {
            return if begins(bytes, sync) { Step::More } else { Step::Garbage };
        }
        let Some(header) = aac::adts(bytes) else { return Step::Garbage };
        let length = header.frame_bytes;
        let same = self.track.as_ref().is_some_and(|track| track.config == header.config[..]);
        if let Some(step) = self.doubted(bytes, length, same, sync) {
            return step;
        }
        let samples = aac::ACCESS_UNIT_SAMPLES;
        if header.raw_data_blocks != 1 {
            output.ignored.unsupported += 1;
            let samples = samples * u32::from(header.raw_data_blocks);
            return Step::Pass { bytes: length, samples };
        }
        if !self.set_aac(&header.config, output) {
            return Step::Pass { bytes: length, samples };
        }
        let access_units = Access::Range(header.header_bytes..length);
        Step::Frame { bytes: length, access_units, samples }
    }

    fn latm(&mut self, bytes: &[u8], output: &mut Output<'_>) -> Step {
        let sync = |bytes: &[u8]| matches!(bytes, [0x56, second, ..] if second & 0xe0 == 0xe0);
        if bytes.len() < latm::SYNC_BYTES {
            return if begins(bytes, sync) { Step::More } else { Step::Garbage };
        }
        let Some(length) = latm::sync_frame_bytes(bytes) else { return Step::Garbage };
        if let Some(step) = self.doubted(bytes, length, true, sync) {
            return step;
        }
        let element = bytes.get(latm::SYNC_BYTES..length).unwrap_or_default();
        let samples = aac::ACCESS_UNIT_SAMPLES;
        let mut copies = Vec::new();
        if self.latm.read(element, &mut copies).is_err() {
            output.ignored.unsupported += 1;
            return Step::Pass { bytes: length, samples };
        }
        let config = self.latm.config().cloned().unwrap_or_default();
        if !self.set_aac(&config, output) {
            return Step::Pass { bytes: length, samples };
        }
        Step::Frame { bytes: length, access_units: Access::Copies(copies), samples }
    }

    fn mp3(&mut self, bytes: &[u8], output: &mut Output<'_>) -> Step {
        let sync = |bytes: &[u8]| matches!(bytes, [0xff, second, ..] if second & 0xe6 == 0xe2);
        if bytes.len() < 4 {
            return if begins(bytes, sync) { Step::More } else { Step::Garbage };
        }
        let Some(header) = mp3::header(bytes) else { return Step::Garbage };
        if let Some(step) =
            self.doubted(bytes, header.frame_bytes, self.same_info(header.info), sync)
        {
            return step;
        }
        self.set_track(Codec::Mp3, Bytes::new, header.info, header.info.sample_rate, output);
        let access_units = Access::Range(0..header.frame_bytes);
        Step::Frame { bytes: header.frame_bytes, access_units, samples: header.samples }
    }

    fn opus(&mut self, bytes: &[u8], channel_code: u8, output: &mut Output<'_>) -> Step {
        let sync = |bytes: &[u8]| matches!(bytes, [0x7f, second, ..] if second & 0xe0 == 0xe0);
        let (head, length) = match control(bytes) {
            Control::Whole { header_bytes, access_unit_bytes } => {
                (header_bytes, header_bytes + access_unit_bytes)
            }
            Control::Truncated if begins(bytes, sync) => return Step::More,
            Control::Truncated | Control::Absent => return Step::Garbage,
        };
        if let Some(step) = self.doubted(bytes, length, true, sync) {
            return step;
        }
        let samples = bytes.get(head..length).and_then(opus::packet_samples);
        let (Some(samples), Some(config)) = (samples, opus_config(channel_code)) else {
            output.ignored.unsupported += 1;
            return Step::Pass { bytes: length, samples: samples.unwrap_or(0) };
        };
        let channels = config.get(9).copied().unwrap_or(0);
        let info = AudioInfo { sample_rate: opus::SAMPLE_RATE, channels, sample_bits: 16 };
        self.set_track(Codec::Opus, || config.into(), info, opus::SAMPLE_RATE, output);
        Step::Frame { bytes: length, access_units: Access::Range(head..length), samples }
    }

    /// A synchronisation frame and those that belong to its access unit, as far as they are there.
    fn ac3(&mut self, bytes: &[u8], output: &mut Output<'_>) -> Step {
        const HEAD_BYTES: usize = 8;
        let sync = |bytes: &[u8]| bytes.starts_with(&[0x0b, 0x77]);
        if bytes.len() < HEAD_BYTES {
            return if begins(bytes, sync) { Step::More } else { Step::Garbage };
        }
        let Some(first) = ac3::sync_frame(bytes) else { return Step::Garbage };
        let mut length = first.frame_bytes;
        // A dependent substream has channels of its own.
        let same = first.continues || self.same_info(first.info);
        if let Some(step) = self.doubted(bytes, length, same, sync) {
            return step;
        }
        if first.continues {
            output.ignored.unsupported += 1;
            return Step::Pass { bytes: length, samples: 0 };
        }
        while let Some(next) = bytes.get(length..).filter(|next| !next.is_empty()) {
            match ac3::sync_frame(next) {
                Some(frame) if frame.continues && length < SUBSTREAM_BYTES_MAX => {
                    length += frame.frame_bytes;
                }
                None if next.len() < HEAD_BYTES && begins(next, sync) => return Step::More,
                _ => break,
            }
        }
        if bytes.len() < length {
            return Step::More;
        }
        let codec = if first.enhanced { Codec::Eac3 } else { Codec::Ac3 };
        self.set_track(codec, Bytes::new, first.info, first.info.sample_rate, output);
        Step::Frame {
            bytes: length,
            access_units: Access::Range(0..length),
            samples: first.samples,
        }
    }

    /// `false` when the configuration cannot be read.
    fn set_aac(&mut self, config: &[u8], output: &mut Output<'_>) -> bool {
        if self.track.as_ref().is_some_and(|track| track.config == config) {
            return true;
        }
        let Ok(read) = aac::parse_config(config) else {
            output.ignored.unsupported += 1;
            return false;
        };
        let config = || Bytes::copy_from_slice(config);
        self.set_track(Codec::Aac, config, read.info, read.core_sample_rate, output);
        true
    }

    fn set_track(
        &mut self,
        codec: Codec,
        config: impl FnOnce() -> Bytes,
        info: AudioInfo,
        sample_rate: u32,
        output: &mut Output<'_>,
    ) {
        let same = |track: &Track<AudioInfo>| track.codec == codec && track.info == info;
        if codec != Codec::Aac && self.track.as_ref().is_some_and(same) {
            return;
        }
        // Samples passed over before any rate was known have the first one.
        if self.sample_rate != sample_rate && self.sample_rate != 0 {
            let since = self.nanos_since_anchor();
            self.anchor = self.anchor.map(|anchor| anchor.offset_nanos(since));
            self.samples = 0;
        }
        self.sample_rate = sample_rate;
        let track = Track { codec, config: config(), info };
        self.track = Some(track.clone());
        output.announcer.set_audio(track, output.items);
    }
}

/// `bytes`, too short for a header, are the beginning of something with these sync bits.
fn begins(bytes: &[u8], sync: impl Fn(&[u8]) -> bool) -> bool {
    match bytes {
        [first] => (0..=u8::MAX).any(|second| sync(&[*first, second])),
        _ => sync(bytes),
    }
}

/// The identification header that a channel configuration code stands for.
fn opus_config(channel_code: u8) -> Option<Vec<u8>> {
    match channel_code {
        // Two mono streams, each for a channel of its own.
        0 => {
            let mut header = opus::build_config(2, 0, opus::SAMPLE_RATE).to_vec();
            header[18] = 255;
            header.extend_from_slice(&[2, 0, 0, 1]);
            Some(header)
        }
        channels => opus::build_layout_config(channels),
    }
}
