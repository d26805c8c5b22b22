//! Frames out of FLV, a transport stream or MP4 fragments, all as FLV tags, so that one checker
//! looks at every container.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use protocols::codec::nal;
use protocols::container::Item;
use protocols::container::flv::{TagReader, TagType};
use protocols::container::fmp4::read::{Scanner, Step, TrackFragment};
use protocols::container::ts;
use protocols::media::{Frame, FrameKind};

use crate::checker::Tag;

/// Largest tag, access unit or fragment accepted.
const FRAME_BYTES_MAX: usize = 8 << 20;
/// Bytes of a box header without a large size.
const BOX_HEADER: usize = 8;
/// `track_ID` of sound in files of the server.
const AUDIO_TRACK: u32 = 2;
/// Ticks per second of video tracks in files of the server.
const VIDEO_TIMESCALE: u64 = 90_000;

/// What the bytes of a body are.
#[derive(Debug)]
pub enum MediaReader {
    /// FLV.
    Flv(TagReader),
    /// A transport stream.
    Ts(Box<ts::Demuxer>),
    /// An initialization segment and fragments without end.
    Mp4,
}

impl MediaReader {
    /// By the extension of a path; FLV if it has none that is known.
    pub fn of_path(path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        match path.rsplit_once('.') {
            Some((_, "ts")) => Self::Ts(Box::new(ts::Demuxer::new(FRAME_BYTES_MAX))),
            Some((_, "mp4")) => Self::Mp4,
            _ => Self::Flv(TagReader::new(FRAME_BYTES_MAX)),
        }
    }

    /// Takes what is whole from `input`.
    ///
    /// # Errors
    /// The bytes are not what they should be.
    pub fn take(&mut self, input: &mut BytesMut, tags: &mut Vec<Tag>) -> Result<(), String> {
        match self {
            Self::Flv(reader) => {
                while let Some((tag, timestamp, body)) =
                    reader.next_tag(input).map_err(|error| error.to_string())?
                {
                    tags.push(Tag { tag, timestamp, body });
                }
                Ok(())
            }
            Self::Ts(demuxer) => {
                let mut items = VecDeque::new();
                demuxer.push(&input.split(), &mut items).map_err(|error| error.to_string())?;
                tags.extend(items.into_iter().filter_map(|item| match item {
                    Item::Frame(frame) => tag_of_frame(&frame),
                    Item::Tracks(_) => None,
                }));
                Ok(())
            }
            Self::Mp4 => take_fragments(input, tags),
        }
    }
}

/// A frame as the FLV tag a checker looks at; none of data.
pub fn tag_of_frame(frame: &Frame) -> Option<Tag> {
    let timestamp = frame.dts.to_millis() as u32;
    match frame.kind {
        FrameKind::Data => None,
        FrameKind::Audio => Some(audio_tag(timestamp, &frame.payload)),
        kind => Some(video_tag(timestamp, kind == FrameKind::Keyframe, &frame.payload)),
    }
}

/// An AAC frame.
fn audio_tag(timestamp: u32, payload: &[u8]) -> Tag {
    let body = Bytes::from([&[0xAF, 1], payload].concat());
    Tag { tag: TagType::Audio, timestamp, body }
}

/// The slice of an H.264 access unit, without what stands before it.
fn video_tag(timestamp: u32, keyframe: bool, payload: &[u8]) -> Tag {
    let is_slice = |unit: &&[u8]| unit.first().is_some_and(|first| matches!(first & 31, 1 | 5));
    let slice = nal::units(payload, 4).flatten().find(is_slice).unwrap_or_default();
    let first = if keyframe { 0x17 } else { 0x27 };
    let head = [first, 1, 0, 0, 0];
    let length = u32::try_from(slice.len()).unwrap_or(u32::MAX).to_be_bytes();
    let body = Bytes::from([&head[..], &length, slice].concat());
    Tag { tag: TagType::Video, timestamp, body }
}

/// Takes whole fragments, and passes over every other box.
fn take_fragments(input: &mut BytesMut, tags: &mut Vec<Tag>) -> Result<(), String> {
    while let Some((name, size)) = box_header(input)? {
        let mut whole = size;
        if &name == b"moof" {
            let Some((_, media)) = box_header(input.get(size..).unwrap_or_default())? else {
                break;
            };
            whole += media;
        }
        if input.len() < whole {
            break;
        }
        let bytes = input.split_to(whole).freeze();
        if &name == b"moof" {
            take_fragment(&bytes, tags)?;
        }
    }
    Ok(())
}

fn take_fragment(bytes: &Bytes, tags: &mut Vec<Tag>) -> Result<(), String> {
    let Step::Fragment(found) = Scanner::new(bytes.len() as u64).step(0, bytes) else {
        return Err("a fragment that cannot be read".to_owned());
    };
    for track in &found.tracks {
        take_samples(track, bytes, tags)?;
    }
    Ok(())
}

fn take_samples(track: &TrackFragment, bytes: &Bytes, tags: &mut Vec<Tag>) -> Result<(), String> {
    for sample in &track.samples {
        let start = usize::try_from(sample.offset).map_err(|error| error.to_string())?;
        let payload = bytes.get(start..start + sample.size as usize);
        let payload = payload.ok_or("a sample outside of its fragment")?;
        // Milliseconds only have to rise; the rate of sound is not known here.
        let millis = (sample.decode_time * 1000 / VIDEO_TIMESCALE) as u32;
        tags.push(match track.track_id {
            AUDIO_TRACK => audio_tag(millis, payload),
            _ => video_tag(millis, sample.keyframe, payload),
        });
    }
    Ok(())
}

/// Name and size of the box at the front.
fn box_header(input: &[u8]) -> Result<Option<([u8; 4], usize)>, String> {
    let Some(&[a, b, c, d, ref name @ ..]) = input.first_chunk::<BOX_HEADER>() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes([a, b, c, d]) as usize;
    match size {
        BOX_HEADER..=FRAME_BYTES_MAX => Ok(Some((*name, size))),
        _ => Err(format!("a box of {size} bytes")),
    }
}

/// The frames of a body of whole fragments.
///
/// # Errors
/// It is none.
pub fn fragments_of(body: &[u8]) -> Result<Vec<Tag>, String> {
    let (mut input, mut tags) = (BytesMut::from(body), Vec::new());
    take_fragments(&mut input, &mut tags)?;
    if !input.is_empty() { Err("an incomplete fragment".to_owned()) } else { Ok(tags) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::{Checker, Findings};
    use crate::clip::{Clip, Shape, stamp};
    use protocols::container::flv;
    use protocols::container::fmp4::FragmentBuilder;
    use protocols::media::{Timestamp, Tracks};

    /// Pictures and sounds of a clip as the server hands them on.
    fn frames(count: usize) -> (Tracks, Vec<Frame>) {
        let clip = Clip::new(Shape { bitrate: 1e6, fps: 10, gop: 1.0, audio: true });
        let (mut demuxer, mut items) = (flv::Demuxer::new(12), VecDeque::new());
        let mut push = |tag, millis, body: Vec<u8>| {
            demuxer.push(tag, Timestamp::from_millis(millis), body.into(), &mut items).unwrap();
        };
        for (tag, body) in clip.configuration() {
            push(tag, 0, body);
        }
        let (mut video, mut audio) = (0, 0);
        for _ in 0..count {
            let due = clip.next(video, audio);
            let piece = clip.piece(due).unwrap();
            let mut body = piece.body.clone();
            stamp(&mut body[piece.mark_at..], 1_000_000, due.number);
            push(due.tag, (due.at_ns / 1_000_000) as i64, body);
            if due.tag == TagType::Audio { audio += 1 } else { video += 1 }
        }
        let mut tracks = Tracks::default();
        let mut frames = Vec::new();
        for item in items {
            match item {
                Item::Tracks(found) => tracks = (*found).clone(),
                Item::Frame(frame) => frames.push(frame),
            }
        }
        (tracks, frames)
    }

    fn check(path: &str, wire: &[u8], least: u64) {
        for step in [333, wire.len()] {
            let (mut reader, mut input) = (MediaReader::of_path(path), BytesMut::new());
            let (mut tags, mut found) = (Vec::new(), Findings::default());
            let mut checker = Checker::default();
            for part in wire.chunks(step) {
                input.extend_from_slice(part);
                reader.take(&mut input, &mut tags).unwrap();
            }
            tags.iter().for_each(|tag| checker.look(tag, 3_000_000, true, &mut found));
            assert!(found.frames >= least, "{path}: {} frames", found.frames);
            assert!(found.latency.len() > 15 && found.latency.max() == 2000, "{path}");
            let faults = (found.damaged, found.backwards, found.bad_starts, found.jumps);
            assert_eq!((faults, found.audio_gaps), ((0, 0, 0, 0), 0), "{path}");
        }
    }

    #[test]
    fn marks_come_through_every_container() {
        let (tracks, frames) = frames(100);
        let mut packets = Vec::new();
        let mut muxer = ts::Muxer::new(&tracks);
        for frame in &frames {
            if muxer.tables_due(frame) {
                muxer.write_tables(&mut packets);
            }
            assert!(muxer.write_frame(frame, &mut packets));
        }
        check("/live/x.ts?a=b", &packets, 98);
        let mut fragments = b"\0\0\0\x0cftypabcd".to_vec();
        let mut video = FragmentBuilder::video(tracks.video.as_ref().unwrap());
        let mut audio = FragmentBuilder::audio(tracks.audio.as_ref().unwrap());
        for (number, frame) in (1..).zip(&frames) {
            let builder = if frame.kind == FrameKind::Audio { &mut audio } else { &mut video };
            builder.push(frame);
            builder.cut(&mut fragments, number, None);
        }
        check("/live/x.mp4", &fragments, 98);
    }
}
