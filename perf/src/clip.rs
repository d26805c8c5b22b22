//! The synthetic stream: one GOP of frames as FLV bodies, shaped like H.264 and AAC, with a place
//! in each for the time of its sending.
//!
//! A mark is `SRPF`, the sending time in nanoseconds (16 hex digits), the running number of the
//! frame in its track (8) and a checksum of the filler behind it (8). Text has no start codes.

use protocols::container::flv::TagType;

/// Bytes of a mark.
const MARK_BYTES: usize = 4 + 16 + 8 + 8;
const MAGIC: &[u8; 4] = b"SRPF";
/// A keyframe is so many times as large as another picture.
const KEYFRAME_WEIGHT: f64 = 6.0;
/// AAC: samples in a frame, samples in a second, bits per second.
const AUDIO_SAMPLES: u64 = 1024;
const AUDIO_RATE: u64 = 44_100;
const AUDIO_BITRATE: f64 = 128_000.0;
/// AVC sequence header of a Main profile 3.1 stream of 1280x720 at 30 pictures per second.
const AVC_CONFIG: &str =
    "1700000000014d401fffe10019674d401fd9005005bb0110000003001000000303c0f183248001000568ebc3cb20";
/// AAC-LC, 44.1 kHz, stereo.
const AAC_CONFIG: [u8; 4] = [0xAF, 0, 0x12, 0x10];

/// What a stream looks like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Audio and video together, bits per second.
    pub bitrate: f64,
    /// Pictures per second.
    pub fps: u32,
    /// Seconds from keyframe to keyframe.
    pub gop: f64,
    /// With audio.
    pub audio: bool,
}

/// One frame, ready to be marked.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Audio or video.
    pub tag: TagType,
    /// FLV body.
    pub body: Vec<u8>,
    /// Where the mark is in the body.
    pub mark_at: usize,
}

/// A GOP of pictures and one audio frame, repeated for ever.
#[derive(Debug)]
pub struct Clip {
    /// What it was made of.
    pub shape: Shape,
    /// The pictures of one GOP, the keyframe first.
    pub video: Vec<Piece>,
    /// The audio frame, if there is audio.
    pub audio: Option<Piece>,
}

/// What is due next in one stream, counted from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Audio or video.
    pub tag: TagType,
    /// Running number in its track.
    pub number: u64,
    /// Nanoseconds from the start.
    pub at_ns: u64,
}

impl Clip {
    /// Makes the frames of a shape.
    pub fn new(shape: Shape) -> Self {
        let pictures = (f64::from(shape.fps) * shape.gop).round().max(1.0);
        let audio = if shape.audio { AUDIO_BITRATE } else { 0.0 };
        let gop_bytes = (shape.bitrate - audio).max(0.0) / 8.0 * shape.gop;
        let unit = gop_bytes / (pictures - 1.0 + KEYFRAME_WEIGHT);
        let picture = |number: usize| {
            let key = number == 0;
            let bytes = if key { unit * KEYFRAME_WEIGHT } else { unit };
            video_piece(key, bytes as usize, number as u64)
        };
        let audio_bytes = AUDIO_BITRATE / 8.0 * AUDIO_SAMPLES as f64 / AUDIO_RATE as f64;
        Self {
            shape,
            video: (0..pictures as usize).map(picture).collect(),
            audio: shape.audio.then(|| audio_piece(audio_bytes as usize)),
        }
    }

    /// The frame of a running number.
    pub fn piece(&self, due: Due) -> Option<&Piece> {
        match due.tag {
            TagType::Audio => self.audio.as_ref(),
            _ => self.video.get(self.index(due)),
        }
    }

    /// The place of a picture in its GOP; 0 is the keyframe.
    pub fn index(&self, due: Due) -> usize {
        (due.number % self.video.len() as u64) as usize
    }

    /// What follows when so many frames of each track have been sent.
    pub fn next(&self, video_sent: u64, audio_sent: u64) -> Due {
        let video_ns = video_sent * 1_000_000_000 / u64::from(self.shape.fps.max(1));
        let audio_ns = audio_sent * AUDIO_SAMPLES * 1_000_000_000 / AUDIO_RATE;
        if self.audio.is_some() && audio_ns < video_ns {
            Due { tag: TagType::Audio, number: audio_sent, at_ns: audio_ns }
        } else {
            Due { tag: TagType::Video, number: video_sent, at_ns: video_ns }
        }
    }

    /// The sequence headers to send first.
    pub fn configuration(&self) -> Vec<(TagType, Vec<u8>)> {
        let digits = AVC_CONFIG.as_bytes().chunks(2);
        let config = digits.filter_map(|pair| hex(pair).map(|byte| byte as u8));
        let mut headers = vec![(TagType::Video, config.collect())];
        if self.audio.is_some() {
            headers.push((TagType::Audio, AAC_CONFIG.to_vec()));
        }
        headers
    }
}

fn video_piece(key: bool, bytes: usize, seed: u64) -> Piece {
    let nal_bytes = bytes.max(MARK_BYTES + 16).saturating_sub(9) as u32;
    let (frame, nal) = if key { (0x17, 0x65) } else { (0x27, 0x41) };
    let mut body = vec![frame, 1, 0, 0, 0];
    body.extend_from_slice(&nal_bytes.to_be_bytes());
    // The first bits of a slice header: macroblock 0, an I or a P slice.
    body.extend_from_slice(&[nal, if key { 0x88 } else { 0x9A }, 0x84]);
    fill(TagType::Video, body, nal_bytes as usize - 3, seed)
}

fn audio_piece(bytes: usize) -> Piece {
    fill(TagType::Audio, vec![0xAF, 1, 0x21, 0x10], bytes.max(MARK_BYTES + 16), 99)
}

/// Appends a mark and filler, `room` bytes together.
fn fill(tag: TagType, mut body: Vec<u8>, room: usize, seed: u64) -> Piece {
    let mark_at = body.len();
    body.resize(mark_at + MARK_BYTES, b'0');
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    body.extend((MARK_BYTES..room).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Never zero, so that no start code appears.
        (state >> 32) as u8 | 1
    }));
    let sum = checksum(&body[mark_at + MARK_BYTES..]);
    body[mark_at..mark_at + 4].copy_from_slice(MAGIC);
    write_hex(&mut body[mark_at + 28..mark_at + 36], u64::from(sum));
    Piece { tag, body, mark_at }
}

/// Writes sending time and running number at a mark.
pub fn stamp(mark: &mut [u8], now_ns: u64, number: u64) {
    if let Some(place) = mark.get_mut(4..20) {
        write_hex(place, now_ns);
    }
    if let Some(place) = mark.get_mut(20..28) {
        write_hex(place, number & 0xFFFF_FFFF);
    }
}

/// A mark found in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// When it was sent.
    pub sent_ns: u64,
    /// Running number in its track.
    pub number: u32,
    /// The filler is as it was.
    pub intact: bool,
}

/// Finds and checks the mark of a coded frame; `None` for frames of other publishers.
pub fn read_mark(tag: TagType, body: &[u8], with_checksum: bool) -> Option<Mark> {
    let mark_at = if tag == TagType::Video { 12 } else { 4 };
    let mark = body.get(mark_at..mark_at + MARK_BYTES)?;
    if &mark[..4] != MAGIC {
        return None;
    }
    let filler = &body[mark_at + MARK_BYTES..];
    Some(Mark {
        sent_ns: hex(&mark[4..20])?,
        number: hex(&mark[20..28])? as u32,
        intact: !with_checksum || u64::from(checksum(filler)) == hex(&mark[28..36])?,
    })
}

/// FNV-1a over words of eight bytes, folded.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x100_0000_01B3);
    }
    (hash ^ hash >> 32) as u32
}

fn write_hex(place: &mut [u8], mut value: u64) {
    for byte in place.iter_mut().rev() {
        *byte = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { bitrate: 2e6, fps: 30, gop: 2.0, audio: true };

    #[test]
    fn a_gop_has_the_bitrate() {
        let clip = Clip::new(SHAPE);
        let (mut video, mut audio, mut bytes) = (0, 0, 0);
        while video < 60 {
            let due = clip.next(video, audio);
            bytes += clip.piece(due).unwrap().body.len();
            match due.tag {
                TagType::Audio => audio += 1,
                _ => video += 1,
            }
        }
        assert!((85..=87).contains(&audio), "{audio}");
        assert!((490_000..510_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn marks_survive_and_damage_shows() {
        let clip = Clip::new(SHAPE);
        for piece in clip.video.iter().chain(&clip.audio) {
            let mut body = piece.body.clone();
            stamp(&mut body[piece.mark_at..], 0x0123_4567_89AB, 7);
            let mark = Mark { sent_ns: 0x0123_4567_89AB, number: 7, intact: true };
            assert_eq!(read_mark(piece.tag, &body, true), Some(mark));
            *body.last_mut().unwrap() ^= 2;
            assert!(!read_mark(piece.tag, &body, true).unwrap().intact);
        }
    }
}
