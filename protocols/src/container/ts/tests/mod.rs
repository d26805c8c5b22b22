//! What the tests of both directions share: files of an encoder, and frames made to order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::container::{Item, flv};
use crate::media::{Codec, Frame, FrameKind, Timestamp, Tracks};

mod access_units;
mod damage;
pub(super) mod hostile;
mod muxer;
mod round_trip;

const TICKS: u32 = 90_000;

/// A file of ffmpeg 5.1 and its packets as ffprobe lists them (stream, pts, dts, flags):
///
/// ```text
/// ffmpeg -f lavfi -i testsrc2=size=160x90:rate=25 -f lavfi -i sine=sample_rate=48000 -t 1 \
///     -c:v libx264 -g 12 -bf 2 -b:v 60k -c:a aac -b:a 48k -ac 2 -f mpegts h264_aac.ts
/// ffprobe -v error -show_entries packet=stream_index,pts,dts,flags -of csv=p=0 h264_aac.ts
/// ```
///
/// The others with `-c:v libx265`, `-bf 0 -c:a libmp3lame`, `-c:a libopus`, `-mpegts_flags latm`,
/// `-c:a ac3`, `-vn -c:a eac3`.
pub(super) struct Golden {
    pub(super) name: &'static str,
    pub(super) file: &'static [u8],
    pub(super) packets: &'static str,
    pub(super) video: Option<Codec>,
    audio: Codec,
    pub(super) audio_info: (u32, u8),
}

macro_rules! golden {
    ($name:literal, $video:expr, $audio:expr, $info:expr) => {
        Golden {
            name: $name,
            file: include_bytes!(concat!("../testdata/", $name, ".ts")),
            packets: include_str!(concat!("../testdata/", $name, ".packets")),
            video: $video,
            audio: $audio,
            audio_info: $info,
        }
    };
}

pub(super) const GOLDEN: [Golden; 7] = [
    golden!("h264_aac", Some(Codec::H264), Codec::Aac, (48_000, 2)),
    golden!("h265_aac", Some(Codec::H265), Codec::Aac, (44_100, 1)),
    golden!("h264_mp3", Some(Codec::H264), Codec::Mp3, (44_100, 1)),
    golden!("h264_opus", Some(Codec::H264), Codec::Opus, (48_000, 2)),
    golden!("h264_latm", Some(Codec::H264), Codec::Aac, (48_000, 2)),
    golden!("h264_ac3", Some(Codec::H264), Codec::Ac3, (48_000, 1)),
    golden!("eac3", None, Codec::Eac3, (48_000, 1)),
];

pub(super) struct Demuxed {
    pub(super) tracks: Vec<Arc<Tracks>>,
    pub(super) frames: Vec<Frame>,
    pub(super) damage: Damage,
    pub(super) ignored: Ignored,
}

impl Demuxed {
    fn pictures(&self) -> Vec<&Frame> {
        self.frames.iter().filter(|frame| frame.kind.is_video()).collect()
    }

    pub(super) fn sounds(&self) -> Vec<&Frame> {
        self.frames.iter().filter(|frame| frame.kind == FrameKind::Audio).collect()
    }
}

pub(super) fn demux_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Demuxed {
    let (mut demuxer, mut items) = (Demuxer::new(PES_BYTES_MAX), VecDeque::new());
    for piece in pieces {
        demuxer.push(piece, &mut items).unwrap();
    }
    demuxer.finish(&mut items);
    let (mut tracks, mut frames) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Tracks(new) => tracks.push(new),
            Item::Frame(frame) => frames.push(frame),
        }
    }
    Demuxed { tracks, frames, damage: demuxer.damage(), ignored: demuxer.ignored() }
}

pub(super) fn demux(bytes: &[u8]) -> Demuxed {
    demux_pieces([bytes])
}

pub(super) fn mux(tracks: &Tracks, frames: &[Frame]) -> Vec<u8> {
    let (mut muxer, mut out) = (Muxer::new(tracks), Vec::new());
    mux_on(&mut muxer, frames, &mut out);
    out
}

fn mux_on(muxer: &mut Muxer, frames: &[Frame], out: &mut Vec<u8>) {
    for frame in frames {
        if muxer.tables_due(frame) {
            muxer.write_tables(out);
        }
        assert!(muxer.write_frame(frame, out), "{:?} at {:?}", frame.kind, frame.dts);
    }
}

/// PTS, DTS and payload with kind, which is what comes through a transport stream.
fn seen(frame: &Frame, moved_ms: i64) -> (i64, i64, FrameKind, Bytes) {
    let base = moved_ms * i64::from(TICKS / 1000);
    let ticks = |time: Timestamp| time.to_ticks(TICKS) + base;
    (ticks(frame.pts()), ticks(frame.dts), frame.kind, frame.payload.clone())
}

fn all_seen<'a>(
    frames: impl IntoIterator<Item = &'a Frame>,
    moved_ms: i64,
) -> Vec<(i64, i64, FrameKind, Bytes)> {
    frames.into_iter().map(|frame| seen(frame, moved_ms)).collect()
}

fn flv_file(file: &[u8]) -> (Arc<Tracks>, Vec<Frame>) {
    let (mut reader, mut demuxer) = (flv::TagReader::new(1 << 20), flv::Demuxer::new(12));
    let (mut input, mut items) = (BytesMut::from(file), VecDeque::new());
    while let Some((tag, timestamp_ms, body)) = reader.next_tag(&mut input).unwrap() {
        demuxer.push(tag, Timestamp::from_millis(timestamp_ms.into()), body, &mut items).unwrap();
    }
    let (mut tracks, mut frames) = (Arc::default(), Vec::new());
    for item in items {
        match item {
            Item::Tracks(new) => tracks = new,
            Item::Frame(frame) => frames.push(frame),
        }
    }
    (tracks, frames)
}

/// Tracks of H.264 and AAC with the parameter sets of a real file.
pub(super) fn tracks() -> Tracks {
    Tracks::clone(&demux(GOLDEN[0].file).tracks[0])
}

fn frame(kind: FrameKind, ms: i64, payload: impl Into<Bytes>) -> Frame {
    let dts = Timestamp::from_millis(ms);
    Frame { kind, dts, composition_offset: 0, payload: payload.into() }
}

/// A picture of one slice of so many bytes, without anything that looks like a start code.
fn picture(kind: FrameKind, ms: i64, bytes: usize) -> Frame {
    let header = match kind {
        FrameKind::Keyframe => 0x65,
        FrameKind::Inter => 0x41,
        _ => 0x01,
    };
    let mut payload = u32::try_from(bytes + 2).unwrap().to_be_bytes().to_vec();
    payload.extend_from_slice(&[header, 0x88]);
    payload.extend((0..bytes).map(|at| (at % 250) as u8 + 1));
    frame(kind, ms, payload)
}

/// A second of pictures every 40 ms and sound every 20 ms.
pub(super) fn second(from_ms: i64) -> Vec<Frame> {
    let mut frames = Vec::new();
    for at in 0..25 {
        let ms = from_ms + at * 40;
        let kind = if at == 0 { FrameKind::Keyframe } else { FrameKind::Inter };
        frames.push(picture(kind, ms, if at == 0 { 3000 } else { 500 }));
        frames.push(frame(FrameKind::Audio, ms, vec![at as u8; 80]));
        frames.push(frame(FrameKind::Audio, ms + 20, vec![at as u8; 90]));
    }
    frames
}

/// PES packets as they are, cut into transport packets of one identifier.
fn packets(pid: &mut packet::Pid, pes: &[u8], out: &mut Vec<u8>) {
    let none = packet::Adaptation::default();
    packet::UnitWriter::begin(out, pid, none, pes.len()).put(pes);
}

pub(super) fn tables(streams: &[(u8, u16)], out: &mut Vec<u8>) {
    let streams: Vec<_> = streams
        .iter()
        .map(|(stream_type, pid)| psi::PmtStream {
            stream_type: *stream_type,
            pid: *pid,
            descriptors: &[],
        })
        .collect();
    psi::write_section(out, &mut packet::Pid::new(0), &psi::build_pat(0x20));
    psi::write_section(out, &mut packet::Pid::new(0x20), &psi::build_pmt(0, 0x30, &streams));
}

fn pes_packet(stream_id: u8, ms: Option<u64>, payload: &[u8]) -> Vec<u8> {
    let ticks = ms.unwrap_or(0) * 90;
    let (mut header, length) = pes::header(stream_id, ticks, ticks, payload.len()).unwrap();
    if ms.is_none() {
        // The bytes of the stamp stay as stuffing.
        header[7] = 0;
    }
    [&header[..length], payload].concat()
}

/// A picture in annex B with the parameter sets of a real file before a keyframe.
fn annex_b(frame: &Frame) -> Vec<u8> {
    let config = tracks().video.unwrap().config;
    let sets = crate::codec::h264::parameter_sets(&config).unwrap();
    let sets = [sets.sps, sets.pps].concat();
    let own = [&frame.payload[4..]];
    let keyframe = frame.kind == FrameKind::Keyframe;
    let units = sets.into_iter().filter(|_| keyframe).chain(own);
    units.flat_map(|unit| [&[0, 0, 1][..], unit].concat()).collect()
}
