//! A transport stream file seen as HLS: every segment is pieces of the file, the tables in front. The
//! walk reads and waits: it runs on the blocking thread, in slices.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use protocols::container::ts::scan::{Cuts, ScanError, Scanner};
use protocols::hls::{Kind, MediaPlaylist, Segment, SegmentHead};

use super::presentation::Unplayable;
use super::source::Slice;
use crate::http::file_body::Part;
use crate::http::urls;

/// The media type of the segments.
pub(super) const MEDIA_TYPE: &str = "video/mp2t";
/// Bytes of one slice: a few milliseconds of parsing, or a seek of a disk.
const SLICE_BYTES: u64 = 4 << 20;
/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;
/// Largest file that is walked over, every byte of it: minutes of a fast disk.
const FILE_BYTES_MAX: u64 = 64 << 30;

/// A walk that is not over yet.
pub(super) struct Walk {
    file: File,
    file_bytes: u64,
    /// Bytes the scanner has.
    offset: u64,
    scanner: Scanner,
    buffer: Vec<u8>,
}

impl Walk {
    /// A walk over a file of that length; segments shall be at least `target` long.
    pub(super) fn new(file: File, file_bytes: u64, target: Duration) -> Self {
        let (scanner, buffer) = (Scanner::new(target), vec![0; READ_BYTES]);
        Self { file, file_bytes, offset: 0, scanner, buffer }
    }

    /// Does one slice.
    pub(super) fn advance(mut self: Box<Self>) -> Slice<Box<Self>, Pieces> {
        if self.file_bytes > FILE_BYTES_MAX {
            return Slice::Done(Err(Unplayable::TooLong));
        }
        let end = self.file_bytes.min(self.offset + SLICE_BYTES);
        while self.offset < end {
            let count = usize::try_from(end - self.offset).unwrap_or(READ_BYTES).min(READ_BYTES);
            let bytes = self.buffer.get_mut(..count).unwrap_or_default();
            if self.file.read_exact_at(bytes, self.offset).is_err() {
                return Slice::Done(Err(Unplayable::NotRead));
            }
            if let Err(error) = self.scanner.push(bytes) {
                return Slice::Done(Err(refused(error)));
            }
            self.offset += count as u64;
        }
        if self.offset < self.file_bytes {
            return Slice::More(self);
        }
        Slice::Done(self.scanner.finish().map(|cuts| Pieces { cuts }).map_err(refused))
    }
}

fn refused(error: ScanError) -> Unplayable {
    match error {
        ScanError::TooLong => Unplayable::TooLong,
        ScanError::NoTrack => Unplayable::NoTrack,
        other => Unplayable::NotCut(other),
    }
}

/// See the module text.
#[derive(Debug)]
pub(super) struct Pieces {
    cuts: Cuts,
}

impl Pieces {
    /// Bytes of memory, roughly.
    pub(super) fn cost_bytes(&self) -> usize {
        let segments = &self.cuts.segments;
        let ranges: usize = segments.iter().map(|segment| segment.ranges.capacity()).sum();
        size_of_val(segments.as_slice()) + ranges * size_of::<std::ops::Range<u64>>()
    }

    /// Bytes of the file that are in no segment.
    pub(super) fn left_out_bytes(&self) -> u64 {
        self.cuts.skipped_bytes + self.cuts.unreachable_bytes
    }

    /// The playlist of a file of this name; every URI is relative to a playlist beside the file.
    pub(super) fn playlist(&self, name: &str, query: &str) -> String {
        let folder = urls::percent_encode(name);
        let segments = self.cuts.segments.iter().enumerate().map(|(number, segment)| Segment {
            head: SegmentHead { discontinuity: segment.discontinuity, ..SegmentHead::default() },
            uri: format!("{folder}/seg-{number}.ts"),
            duration: segment.duration,
            ..Segment::default()
        });
        let playlist = MediaPlaylist {
            kind: Kind::Vod,
            independent_segments: true,
            ended: true,
            segments: segments.collect(),
            ..MediaPlaylist::default()
        };
        playlist.render(false, query)
    }

    /// The parts of the file that a segment is made of; `None` if there is no such segment.
    pub(super) fn segment(&self, number: usize) -> Option<Vec<Part>> {
        let segment = self.cuts.segments.get(number)?;
        Some(segment.ranges.iter().cloned().map(Part::File).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::vod::scan::tests::open;

    const FILE: &[u8] =
        include_bytes!(concat!("../../../../protocols/src/container/ts/testdata/", "h264_aac.ts"));

    fn walk(content: &[u8]) -> Result<Pieces, Unplayable> {
        let file = open(content);
        let mut walk = Box::new(Walk::new(file, content.len() as u64, Duration::from_millis(400)));
        loop {
            match walk.advance() {
                Slice::More(more) => walk = more,
                Slice::Done(made) => return made,
            }
        }
    }

    #[test]
    fn a_file_is_its_segments() {
        // More than a slice has: the second one is a timeline of its own.
        let twice = [FILE, FILE].concat();
        for content in [FILE, &twice] {
            let made = walk(content).expect("a sound file");
            let parts = (0..).map_while(|number| made.segment(number)).flatten();
            let bytes = parts.map(|part| match part {
                Part::File(range) => content[range.start as usize..range.end as usize].to_vec(),
                Part::Bytes(_) => panic!("every byte is of the file"),
            });
            // The tables that are put in front of some segments add to it.
            assert!(bytes.flatten().count() >= content.len());
            let playlist = made.playlist("a b.ts", "t=1");
            assert!(playlist.contains("\na%20b.ts/seg-1.ts?t=1\n"), "{playlist}");
            assert!(playlist.contains("INDEPENDENT-SEGMENTS") && playlist.ends_with("ENDLIST\n"));
            let discontinuities = playlist.matches("#EXT-X-DISCONTINUITY\n").count();
            assert_eq!(discontinuities, content.len() / FILE.len() - 1, "{playlist}");
            assert!(made.cost_bytes() > 0 && made.left_out_bytes() == 0);
        }
    }

    #[test]
    fn long_files_are_walked_in_slices() {
        let content = FILE.repeat(400);
        assert!(content.len() as u64 > 2 * SLICE_BYTES);
        let made = walk(&content).expect("a sound file");
        assert_eq!(made.playlist("x.ts", "").matches("#EXT-X-DISCONTINUITY\n").count(), 399);
    }

    #[test]
    fn what_cannot_be_played_says_why() {
        let why = |content: &[u8]| walk(content).unwrap_err().to_string();
        assert!(why(b"").contains("not an MPEG-TS stream"));
        assert!(why(&[7; 100_000]).contains("not an MPEG-TS stream"));
        let wide: Vec<u8> = FILE.chunks(188).flat_map(|p| [&[0; 4][..], p].concat()).collect();
        assert!(why(&wide).contains("packets of 192 bytes are not supported"));
        // A file that is shorter than it was is read no further.
        let walk = Box::new(Walk::new(open(FILE), FILE.len() as u64 + 1, Duration::ZERO));
        assert!(matches!(walk.advance(), Slice::Done(Err(Unplayable::NotRead))));
    }
}
