//! Names of the files that playlists and manifests point at, beneath the name of their stream.
//!
//! | name | what |
//! | ---- | ---- |
//! | `seg-EPOCH-N.ts` | a transport stream segment |
//! | `seg-EPOCH-N.m4s`, `part-EPOCH-N-P.m4s`, `init-EPOCH-I.mp4` | both tracks of a CMAF segment, of a part of it, and their configuration |
//! | `v-EPOCH-N.m4s`, `a-EPOCH-N.m4s`, `vinit-EPOCH-I.mp4`, `ainit-EPOCH-I.mp4` | the same of one track |

use std::fmt;

use super::store::{Packaging, Track};

/// One file of a segmenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileName {
    /// The segmenter.
    pub epoch: u64,
    /// Which of its files.
    pub file: File,
}

/// See the module text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// A transport stream segment.
    Ts(u64),
    /// A CMAF segment, of both tracks or of one.
    Segment(Option<Track>, u64),
    /// A part of a CMAF segment: both tracks.
    Part(u64, u64),
    /// A configuration, for both tracks or one.
    Init(Option<Track>, u32),
}

impl FileName {
    /// The packaging the file belongs to.
    #[must_use]
    pub fn packaging(self) -> Packaging {
        match self.file {
            File::Ts(_) => Packaging::Ts,
            File::Segment(..) | File::Part(..) | File::Init(..) => Packaging::Cmaf,
        }
    }

    /// The media type of its bytes.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self.file {
            File::Ts(_) => "video/mp2t",
            File::Segment(Some(Track::Audio), _) | File::Init(Some(Track::Audio), _) => "audio/mp4",
            File::Segment(..) | File::Part(..) | File::Init(..) => "video/mp4",
        }
    }

    /// Reads the last component of a path; `None` when it is not one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (stem, extension) = name.rsplit_once('.')?;
        let mut fields = stem.split('-');
        let (prefix, epoch) = (fields.next()?, number(fields.next()?)?);
        let first = number(fields.next()?)?;
        let second = fields.next().map(number);
        if fields.next().is_some() {
            return None;
        }
        let id = || u32::try_from(first).ok();
        let file = match (prefix, extension, second) {
            ("seg", "ts", None) => File::Ts(first),
            ("seg", "m4s", None) => File::Segment(None, first),
            ("v", "m4s", None) => File::Segment(Some(Track::Video), first),
            ("a", "m4s", None) => File::Segment(Some(Track::Audio), first),
            ("part", "m4s", Some(second)) => File::Part(first, second?),
            ("init", "mp4", None) => File::Init(None, id()?),
            ("vinit", "mp4", None) => File::Init(Some(Track::Video), id()?),
            ("ainit", "mp4", None) => File::Init(Some(Track::Audio), id()?),
            _ => return None,
        };
        Some(Self { epoch, file })
    }
}

/// A decimal number as we write it: no sign, no leading zero.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epoch = self.epoch;
        let letter = |track: Option<Track>| match track {
            None => "",
            Some(Track::Video) => "v",
            Some(Track::Audio) => "a",
        };
        match self.file {
            File::Ts(n) => write!(f, "seg-{epoch}-{n}.ts"),
            File::Segment(None, n) => write!(f, "seg-{epoch}-{n}.m4s"),
            File::Segment(track, n) => write!(f, "{}-{epoch}-{n}.m4s", letter(track)),
            File::Part(n, part) => write!(f, "part-{epoch}-{n}-{part}.m4s"),
            File::Init(track, id) => write!(f, "{}init-{epoch}-{id}.mp4", letter(track)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back_and_nothing_else_is_one() {
        let files = [
            File::Ts(0),
            File::Segment(None, 7),
            File::Segment(Some(Track::Video), u64::MAX),
            File::Segment(Some(Track::Audio), 1),
            File::Part(3, 12),
            File::Init(None, 0),
            File::Init(Some(Track::Video), 2),
            File::Init(Some(Track::Audio), u32::MAX),
        ];
        for file in files {
            let name = FileName { epoch: 1_700_000_000_123, file };
            assert_eq!(FileName::parse(&name.to_string()), Some(name));
        }
        for other in [
            "seg-1-2.mp4",
            "seg-1.ts",
            "seg-01-2.ts",
            "seg--2.ts",
            "part-1-2.m4s",
            "seg-1-2-3.ts",
            "init-1-4294967296.mp4",
            "x-1-2.m4s",
            "seg-1-+2.ts",
            "seg-1-99999999999999999999.ts",
            "",
        ] {
            assert_eq!(FileName::parse(other), None, "{other}");
        }
    }
}
