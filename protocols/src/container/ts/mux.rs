//! From neutral tracks and frames to transport packets.

use super::clock::{TICKS_PER_SECOND, wrapped};
use super::packet::{Adaptation, NULL_PID, Pid, UnitWriter, write_clock};
use super::pcr::{ProgramClock, TIME_BASE_MS};
use super::psi::{self, PmtStream};
use super::stream_type::{Announcement, announcement};
use super::{opus, pes};
use crate::codec::aac::{AdtsForm, adts_form};
use crate::codec::nal::{BadLength, UnitRole, units};
use crate::codec::{ConfigError, h264, h265};
use crate::media::{AudioInfo, Codec, Frame, FrameKind, Timestamp, Track, Tracks, VideoInfo};

/// Tables are due again after this time (ETSI TR 101 290 1.3, 1.5: at most 500 ms).
const TABLES_INTERVAL_MS: i64 = 400;

const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;

const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// Access unit delimiters before any kind of slice.
const H264_DELIMITER: [u8; 6] = [0, 0, 0, 1, 0x09, 0xf0];
const H265_DELIMITER: [u8; 7] = [0, 0, 0, 1, 0x46, 0x01, 0x50];

/// Why a track is not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeftOut {
    /// The codec has no registered form in MPEG-TS.
    #[error("MPEG-TS has no form for the codec")]
    Codec,
    /// The codec configuration cannot be read.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The AAC configuration cannot be said in ADTS headers.
    #[error("the AAC configuration has no ADTS form")]
    NoAdtsForm,
    /// The Opus channel mapping has no channel configuration code.
    #[error("the Opus channel mapping has no form in MPEG-TS")]
    ChannelMapping,
}

/// When the tables were written last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tables {
    Due,
    /// Since then no frame came.
    JustWritten,
    /// Before the frame of this time.
    Written(Timestamp),
}

#[derive(Debug)]
struct Video {
    codec: Codec,
    announcement: Announcement,
    length_size: u8,
    /// Those of the configuration, with start codes.
    parameter_sets: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum AudioForm {
    Adts(AdtsForm),
    Opus,
    Plain,
}

#[derive(Debug)]
struct Audio {
    announcement: Announcement,
    form: AudioForm,
}

/// Frames to transport packets of one program. Continuity counters, the clock and the version of
/// the tables are kept as long as the muxer lives: one per continuous stream, fed in order. Whoever
/// begins to read does so at tables, which belong before every keyframe:
/// [`Muxer::tables_due`].
#[derive(Debug)]
pub struct Muxer {
    pat: Pid,
    pmt: Pid,
    video_pid: Pid,
    audio_pid: Pid,
    video: Option<Video>,
    audio: Option<Audio>,
    left_out: Vec<(Codec, LeftOut)>,
    version: u8,
    pat_section: Vec<u8>,
    pmt_section: Vec<u8>,
    tables: Tables,
    clock: ProgramClock,
}

impl Muxer {
    /// A muxer of these tracks; see [`Muxer::left_out`].
    pub fn new(tracks: &Tracks) -> Self {
        let mut muxer = Self {
            pat: Pid::new(psi::PAT_PID),
            pmt: Pid::new(PMT_PID),
            video_pid: Pid::new(VIDEO_PID),
            audio_pid: Pid::new(AUDIO_PID),
            video: None,
            audio: None,
            left_out: Vec::new(),
            version: 0,
            pat_section: psi::build_pat(PMT_PID),
            pmt_section: Vec::new(),
            tables: Tables::Due,
            clock: ProgramClock::default(),
        };
        muxer.read_tracks(tracks);
        muxer.pmt_section = muxer.build_pmt();
        muxer
    }

    /// Goes on with other tracks. Where that changes what the tables say they get a new version and
    /// are due; parameter sets alone change no table.
    pub fn set_tracks(&mut self, tracks: &Tracks) {
        self.read_tracks(tracks);
        if self.build_pmt() != self.pmt_section {
            self.version = (self.version + 1) & 0x1f;
            self.pmt_section = self.build_pmt();
            self.tables = Tables::Due;
        }
    }

    /// The tracks that are not carried and why; frames of theirs are not written.
    pub fn left_out(&self) -> &[(Codec, LeftOut)] {
        &self.left_out
    }

    /// Tracks of this codec go into the stream.
    pub fn carries(&self, codec: Codec) -> bool {
        self.left_out.iter().all(|(left_out, _)| *left_out != codec)
    }

    /// No track is carried.
    pub fn is_empty(&self) -> bool {
        self.video.is_none() && self.audio.is_none()
    }

    /// The next packet of each identifier says that it does not go on from before, and the clock is
    /// told anew: for a publisher that began again.
    pub fn mark_discontinuity(&mut self) {
        for pid in [&mut self.pat, &mut self.pmt, &mut self.video_pid, &mut self.audio_pid] {
            pid.discontinuity = true;
        }
        self.clock.restart();
        self.tables = Tables::Due;
    }

    /// Tables belong before this frame: none were written yet or they changed, it is a keyframe at
    /// which somebody may begin, or the last ones are 400 ms old.
    pub fn tables_due(&self, frame: &Frame) -> bool {
        match self.tables {
            Tables::Due => true,
            Tables::JustWritten => false,
            Tables::Written(at) => {
                let fresh = 0..TABLES_INTERVAL_MS * 1_000_000;
                frame.kind == FrameKind::Keyframe || !fresh.contains(&(frame.dts - at))
            }
        }
    }

    /// Appends PAT and PMT: two packets.
    pub fn write_tables(&mut self, out: &mut Vec<u8>) {
        psi::write_section(out, &mut self.pat, &self.pat_section);
        psi::write_section(out, &mut self.pmt, &self.pmt_section);
        self.tables = Tables::JustWritten;
    }

    /// Appends the packets of a frame. `false`, with nothing appended, when its track is not
    /// carried or its payload has no form here: empty, NAL unit lengths that do not add up, sound
    /// beyond the length of a PES packet.
    pub fn write_frame(&mut self, frame: &Frame, out: &mut Vec<u8>) -> bool {
        let written = match frame.kind {
            FrameKind::Keyframe | FrameKind::Inter | FrameKind::Disposable => {
                self.write_picture(frame, out)
            }
            FrameKind::Audio => self.write_sound(frame, out),
            FrameKind::Data => None,
        };
        if written.is_some() && self.tables == Tables::JustWritten {
            self.tables = Tables::Written(frame.dts);
        }
        written.is_some()
    }

    fn read_tracks(&mut self, tracks: &Tracks) {
        self.left_out.clear();
        let (video, audio) = (tracks.video.as_ref(), tracks.audio.as_ref());
        self.video = video.and_then(|track| {
            read_video(track).map_err(|why| self.left_out.push((track.codec, why))).ok()
        });
        self.audio = audio.and_then(|track| {
            read_audio(track).map_err(|why| self.left_out.push((track.codec, why))).ok()
        });
    }

    fn build_pmt(&self) -> Vec<u8> {
        let video = self.video.as_ref().map(|video| (&video.announcement, VIDEO_PID));
        let audio = self.audio.as_ref().map(|audio| (&audio.announcement, AUDIO_PID));
        let streams: Vec<_> = video
            .into_iter()
            .chain(audio)
            .map(|(announcement, pid)| {
                let stream_type = announcement.stream_type;
                PmtStream { stream_type, pid, descriptors: announcement.descriptors() }
            })
            .collect();
        let pcr_pid = streams.first().map_or(NULL_PID, |stream| stream.pid);
        psi::build_pmt(self.version, pcr_pid, &streams)
    }

    fn write_picture(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Option<()> {
        let video = self.video.as_ref()?;
        let keyframe = frame.kind == FrameKind::Keyframe;
        let delimiter: &[u8] =
            if video.codec == Codec::H264 { &H264_DELIMITER } else { &H265_DELIMITER };
        let survey = video.survey(&frame.payload).ok().filter(|survey| survey.bytes > 0)?;
        let sets: &[u8] =
            if keyframe && !survey.has_sets { &video.parameter_sets } else { Default::default() };
        let payload_bytes = delimiter.len() + sets.len() + survey.bytes;
        let (pts, dts) = stamps(frame);
        let (header, header_bytes) =
            pes::header(video.announcement.stream_id, pts, dts, payload_bytes)?;
        let pcr = self.clock.at_frame(&mut self.video_pid, frame.dts, keyframe);
        let adaptation = Adaptation { pcr, random_access: keyframe };
        let total = header_bytes + payload_bytes;
        let mut writer = UnitWriter::begin(out, &mut self.video_pid, adaptation, total);
        writer.put(header.get(..header_bytes)?);
        writer.put(delimiter);
        writer.put(sets);
        for unit in video.units(&frame.payload).flatten() {
            writer.put(&START_CODE);
            writer.put(unit);
        }
        writer.end();
        Some(())
    }

    fn write_sound(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Option<()> {
        let audio = self.audio.as_ref().filter(|_| !frame.payload.is_empty())?;
        let bytes = frame.payload.len();
        let (mut adts, mut control) = (None, None);
        let head_bytes = match audio.form {
            AudioForm::Adts(form) => adts.insert(form.header(bytes)?).len(),
            AudioForm::Opus => {
                let (prefix, full, _) = control.insert(opus::control_header(bytes));
                prefix.len() + *full + 1
            }
            AudioForm::Plain => 0,
        };
        let (pts, _) = stamps(frame);
        let stream_id = audio.announcement.stream_id;
        let (header, header_bytes) = pes::header(stream_id, pts, pts, head_bytes + bytes)?;
        let mut adaptation = Adaptation::default();
        if self.video.is_none() {
            adaptation.pcr = self.clock.at_frame(&mut self.audio_pid, frame.dts, false);
            adaptation.random_access = adaptation.pcr.is_some();
        } else if let Some(pcr) = self.clock.between(frame.dts) {
            write_clock(out, &mut self.video_pid, pcr);
        }
        let total = header_bytes + head_bytes + bytes;
        let mut writer = UnitWriter::begin(out, &mut self.audio_pid, adaptation, total);
        writer.put(header.get(..header_bytes)?);
        writer.put(adts.as_ref().map_or(&[][..], |header| header));
        if let Some((prefix, full, last)) = control {
            writer.put(&prefix);
            (0..full).for_each(|_| writer.put(&[0xff]));
            writer.put(&[last]);
        }
        writer.put(&frame.payload);
        writer.end();
        Some(())
    }
}

/// What a picture consists of.
#[derive(Debug, Default)]
struct Survey {
    /// With start codes, without delimiters.
    bytes: usize,
    /// It brings its own parameter sets.
    has_sets: bool,
}

impl Video {
    /// The NAL units of a picture but for delimiters, of which it gets one of its own.
    fn units<'a>(
        &self,
        payload: &'a [u8],
    ) -> impl Iterator<Item = Result<&'a [u8], BadLength>> + use<'a> {
        let role = role(self.codec);
        let delimiter = move |unit: &Result<&[u8], BadLength>| {
            unit.is_ok_and(|unit| role(unit) == UnitRole::Delimiter)
        };
        units(payload, self.length_size).filter(move |unit| !delimiter(unit))
    }

    fn survey(&self, payload: &[u8]) -> Result<Survey, BadLength> {
        let role = role(self.codec);
        let (mut bytes, mut sequence, mut picture) = (0, false, false);
        for unit in self.units(payload) {
            let unit = unit?;
            bytes += START_CODE.len() + unit.len();
            sequence |= role(unit) == UnitRole::SequenceParameterSet;
            picture |= role(unit) == UnitRole::PictureParameterSet;
        }
        Ok(Survey { bytes, has_sets: sequence && picture })
    }
}

fn role(codec: Codec) -> fn(&[u8]) -> UnitRole {
    if codec == Codec::H264 { h264::unit_role } else { h265::unit_role }
}

fn read_video(track: &Track<VideoInfo>) -> Result<Video, LeftOut> {
    let announcement = announcement(track.codec, 0, 0).ok_or(LeftOut::Codec)?;
    let (length_size, sets) = match track.codec {
        Codec::H264 => {
            let sets = h264::parameter_sets(&track.config)?;
            let length_size = h264::parse_config(&track.config)?.length_size;
            (length_size, [sets.sps, sets.pps].concat())
        }
        Codec::H265 => {
            let length_size = h265::parse_config(&track.config)?.length_size;
            (length_size, h265::parameter_sets(&track.config)?)
        }
        _ => return Err(LeftOut::Codec),
    };
    let mut parameter_sets = Vec::new();
    for set in sets {
        parameter_sets.extend_from_slice(&START_CODE);
        parameter_sets.extend_from_slice(set);
    }
    Ok(Video { codec: track.codec, announcement, length_size, parameter_sets })
}

fn read_audio(track: &Track<AudioInfo>) -> Result<Audio, LeftOut> {
    let mut channels = track.info.channels;
    let form = match track.codec {
        Codec::Aac => AudioForm::Adts(adts_form(&track.config).ok_or(LeftOut::NoAdtsForm)?),
        Codec::Opus => {
            use crate::codec::opus::layout_channels;
            if track.config.is_empty() {
                channels = if channels == 1 { 1 } else { 2 };
            } else {
                channels = layout_channels(&track.config).ok_or(LeftOut::ChannelMapping)?;
            }
            AudioForm::Opus
        }
        _ => AudioForm::Plain,
    };
    let announcement =
        announcement(track.codec, channels, track.info.sample_rate).ok_or(LeftOut::Codec)?;
    Ok(Audio { announcement, form })
}

/// PTS and DTS of a frame. A presentation before the decode, which only broken publishers send, is
/// moved to it.
fn stamps(frame: &Frame) -> (u64, u64) {
    let stamp = |time| wrapped(time, TIME_BASE_MS, TICKS_PER_SECOND);
    (stamp(frame.pts().max(frame.dts)), stamp(frame.dts))
}
