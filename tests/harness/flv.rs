//! FLV as an independent judge reads it: tags, times and keyframes, for files, HTTP bodies and
//! RTMP messages. Shares no code with the server.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};

/// An audio, video or script tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// 8 audio, 9 video, 18 script.
    pub kind: u8,
    /// Decoding time in milliseconds.
    pub timestamp: u32,
    /// The tag body.
    pub data: Vec<u8>,
}

/// Audio tag.
pub const AUDIO: u8 = 8;
/// Video tag.
pub const VIDEO: u8 = 9;
/// Script tag.
pub const SCRIPT: u8 = 18;

impl Tag {
    /// Whether the tag uses a FourCC (enhanced RTMP).
    pub fn is_enhanced(&self) -> bool {
        let first = self.first();
        match self.kind {
            VIDEO => first & 0x80 != 0,
            AUDIO => first >> 4 == 9,
            _ => false,
        }
    }

    /// The FourCC, or the legacy codec id as text.
    pub fn codec(&self) -> String {
        let first = self.first();
        match self.kind {
            _ if self.is_enhanced() => {
                String::from_utf8_lossy(self.data.get(1..5).unwrap_or_default()).into_owned()
            }
            VIDEO => format!("{}", first & 0x0F),
            AUDIO => format!("{}", first >> 4),
            _ => String::new(),
        }
    }

    /// Packet type: 0 = decoder configuration in every format that has one.
    pub fn packet_type(&self) -> u8 {
        if self.is_enhanced() {
            self.first() & 0x0F
        } else {
            self.data.get(1).copied().unwrap_or(0xFF)
        }
    }

    /// Whether the tag carries a decoder configuration rather than media.
    pub fn is_configuration(&self) -> bool {
        match self.kind {
            SCRIPT => false,
            _ if self.is_enhanced() => self.packet_type() == 0,
            VIDEO => matches!(self.first() & 0x0F, 7 | 12) && self.packet_type() == 0,
            _ => self.first() >> 4 == 10 && self.packet_type() == 0,
        }
    }

    /// Whether this is a coded picture (no configuration, no end of sequence, no metadata).
    pub fn is_picture(&self) -> bool {
        let coded = if self.is_enhanced() {
            matches!(self.packet_type(), 1 | 3)
        } else {
            !matches!(self.first() & 0x0F, 7 | 12) || self.packet_type() == 1
        };
        self.kind == VIDEO && coded && self.frame_type() != 5
    }

    /// Whether this is coded sound.
    pub fn is_sound(&self) -> bool {
        let coded = !self.is_enhanced() || self.packet_type() == 1;
        self.kind == AUDIO && coded && !self.is_configuration()
    }

    /// Whether this is a picture that needs no other.
    pub fn is_keyframe(&self) -> bool {
        self.is_picture() && self.frame_type() == 1
    }

    /// The coded bytes behind the tag's own header.
    pub fn payload(&self) -> &[u8] {
        let header = match (self.kind, self.is_enhanced()) {
            // Enhanced coded frames of AVC and HEVC carry a composition time, the others none.
            (VIDEO, true) if self.packet_type() == 1 && self.has_composition_time() => 8,
            (VIDEO, false) | (_, true) => 5,
            (AUDIO, false) => 2,
            _ => 0,
        };
        self.data.get(header..).unwrap_or_default()
    }

    /// A digest of the coded bytes.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.payload().hash(&mut hasher);
        hasher.finish()
    }

    fn has_composition_time(&self) -> bool {
        matches!(self.codec().as_str(), "avc1" | "hvc1")
    }

    fn frame_type(&self) -> u8 {
        self.first() >> 4 & 0x07
    }

    fn first(&self) -> u8 {
        self.data.first().copied().unwrap_or(0)
    }
}

/// Reads tags one after the other and checks the back pointers.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    previous_size: u32,
}

impl<R: Read> Reader<R> {
    /// Reads the file header.
    pub fn new(mut input: R) -> io::Result<Reader<R>> {
        let mut header = [0; 9];
        input.read_exact(&mut header)?;
        if &header[..4] != b"FLV\x01" || header[5..9] != [0, 0, 0, 9] {
            return Err(io::Error::other(format!("not an FLV header: {header:02x?}")));
        }
        Ok(Reader { input, previous_size: 0 })
    }

    /// The next tag; `None` at a clean end.
    pub fn next_tag(&mut self) -> io::Result<Option<Tag>> {
        let mut header = [0; 15];
        let mut filled = 0;
        while filled < header.len() {
            match self.input.read(&mut header[filled..])? {
                0 if filled == 0 || filled == 4 => return Ok(None),
                0 => return Err(io::Error::other("cut inside a tag header")),
                count => filled += count,
            }
        }
        let back = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        if back != self.previous_size {
            let expected = self.previous_size;
            return Err(io::Error::other(format!("previous tag size {back}, not {expected}")));
        }
        let size = u32::from_be_bytes([0, header[5], header[6], header[7]]);
        let timestamp = u32::from_be_bytes([header[11], header[8], header[9], header[10]]);
        let mut data = vec![0; size as usize];
        self.input.read_exact(&mut data)?;
        self.previous_size = size + 11;
        Ok(Some(Tag { kind: header[4], timestamp, data }))
    }
}

/// All tags of a file or a recording that may be cut at its end.
pub fn parse(bytes: &[u8]) -> io::Result<Vec<Tag>> {
    let mut reader = Reader::new(bytes)?;
    let mut tags = Vec::new();
    loop {
        match reader.next_tag() {
            Ok(Some(tag)) => tags.push(tag),
            Ok(None) => return Ok(tags),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(tags),
            Err(error) => return Err(error),
        }
    }
}

/// What must hold for every stream a viewer gets; panics with `who` when it does not.
///
/// Configuration before media, the first picture a keyframe, decoding times never backwards
/// within a kind.
pub fn check_integrity(who: &str, tags: &[Tag]) {
    let (mut configured, mut pictures) = ([false; 2], 0);
    let mut last = [None::<u32>; 2];
    for (number, tag) in tags.iter().enumerate().filter(|(_, tag)| tag.kind != SCRIPT) {
        assert!(tag.kind == AUDIO || tag.kind == VIDEO, "{who}: tag {number} of kind {}", tag.kind);
        let kind = usize::from(tag.kind - AUDIO);
        configured[kind] |= tag.is_configuration();
        if !tag.is_picture() && !tag.is_sound() {
            continue;
        }
        assert!(configured[kind], "{who}: media before configuration at tag {number}");
        if tag.is_picture() {
            assert!(pictures > 0 || tag.is_keyframe(), "{who}: the first picture is no keyframe");
            pictures += 1;
        }
        if let Some(last) = last[kind] {
            let now = tag.timestamp;
            assert!(now >= last, "{who}: tag {number} goes back from {last} to {now} ms");
        }
        last[kind] = Some(tag.timestamp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tags: &[(u8, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        for (kind, timestamp, data) in tags {
            let size = u32::try_from(data.len()).unwrap();
            let time = timestamp.to_be_bytes();
            bytes.push(*kind);
            bytes.extend(&size.to_be_bytes()[1..]);
            bytes.extend([time[1], time[2], time[3], time[0], 0, 0, 0]);
            bytes.extend(*data);
            bytes.extend((size + 11).to_be_bytes());
        }
        bytes
    }

    #[test]
    fn tags_are_classified() {
        let bytes = file(&[
            (9, 0, &[0x17, 0, 0, 0, 0, 1]),
            (9, 0x0102_0304, &[0x17, 1, 0, 0, 40, 7, 8]),
            (9, 0x0102_0305, &[0x93, b'h', b'v', b'c', b'1', 9]),
            (8, 0x0102_0305, &[0xAF, 1, 5]),
        ]);
        let tags = parse(&bytes).unwrap();
        assert_eq!(tags.len(), 4);
        assert!(tags[0].is_configuration() && !tags[0].is_picture());
        assert!(tags[1].is_keyframe() && tags[1].payload() == [7, 8]);
        assert_eq!(tags[1].timestamp, 0x0102_0304);
        assert!(tags[2].is_keyframe() && tags[2].codec() == "hvc1" && tags[2].payload() == [9]);
        assert!(tags[3].is_sound() && tags[3].payload() == [5]);
        let cut = parse(&bytes[..bytes.len() - 6]).unwrap();
        assert_eq!(cut.len(), 3);
    }
}
