//! Bodies that come from an open file: which bytes, in which order, and the pieces in which they
//! are read where `sendfile` cannot be used. Lives on the shard of its connection.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use glommio::io::BufferedFile;

use crate::http::conditional::Version;
use crate::net::{sys_file, sys_serve};

/// Bytes read at once, and so what a transfer keeps in memory at most.
pub(crate) const PIECE_BYTES: usize = 256 * 1024;
/// The same where pieces pass through the HTTP library, which may hold one for each of the many
/// requests of a connection; the encryption takes as much at once.
const PULLED_BYTES: u64 = 64 * 1024;

/// An open regular file, and what it looked like when it was opened.
pub(crate) struct DiskFile {
    file: File,
    /// The same file for reads that wait; made when the first one does.
    waiting: OnceCell<BufferedFile>,
    stamp: Stamp,
    version: OnceCell<Rc<Version>>,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    /// Bytes.
    pub(crate) len: u64,
    /// Modification time in seconds since 1970.
    pub(crate) modified_s: i64,
    /// Its nanoseconds.
    pub(crate) modified_ns: i64,
    /// Number within its file system.
    pub(crate) inode: u64,
}

impl Stamp {
    /// Looks at an open file; `None` if it is not a regular one.
    pub(crate) fn of(file: &File) -> io::Result<Option<Self>> {
        let meta = file.metadata()?;
        Ok(meta.is_file().then(|| Self {
            len: meta.len(),
            modified_s: meta.mtime(),
            modified_ns: meta.mtime_nsec(),
            inode: meta.ino(),
        }))
    }

    /// What answers say of it; `suffix` tells things made of the same file apart.
    pub(crate) fn version(&self, suffix: &str) -> Version {
        let Self { len, modified_s, modified_ns, inode } = self;
        let etag = format!("\"{modified_s:x}-{modified_ns:x}-{len:x}-{inode:x}{suffix}\"");
        Version::new(etag, *modified_s)
    }
}

/// How to get at the next bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warmth {
    /// They are in the page cache.
    Warm,
    /// A disk would be waited for, or nobody can tell.
    Cold,
}

impl DiskFile {
    /// Takes an open file; `None` if it is not a regular one.
    ///
    /// # Errors
    /// What the system says of it.
    pub(crate) fn new(file: File) -> io::Result<Option<Self>> {
        let stamp = Stamp::of(&file)?;
        Ok(stamp.map(|stamp| Self {
            file,
            waiting: OnceCell::new(),
            stamp,
            version: OnceCell::new(),
        }))
    }

    /// What it looked like when it was opened.
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// What answers say of it; made once.
    pub(crate) fn version(&self) -> Rc<Version> {
        Rc::clone(self.version.get_or_init(|| Rc::new(self.stamp.version(""))))
    }

    /// The file itself.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The file is still what was announced. One that has only grown is: what was announced of it
    /// is there.
    ///
    /// # Errors
    /// It has changed.
    pub(crate) fn check_unchanged(&self) -> io::Result<()> {
        let changed = || io::Error::other("the file changed under its transfer");
        let now = Stamp::of(&self.file)?.ok_or_else(changed)?;
        if now == self.stamp || now.len > self.stamp.len { Ok(()) } else { Err(changed()) }
    }

    /// Whether these bytes can be sent without waiting for a disk.
    pub(crate) fn warmth(&self, offset: u64, count: u64) -> Warmth {
        if count == 0 {
            return Warmth::Warm;
        }
        // Pages that are still being read count as cached; reads go in order, so that the last
        // page tells of those before it, and the first one of a read that has just begun.
        let at_hand = |at| match sys_serve::is_at_hand(&self.file, at) {
            Ok(at_hand) => at_hand,
            Err(e) => e.kind() == io::ErrorKind::Unsupported,
        };
        let cached = sys_serve::is_cached(&self.file, offset, count).unwrap_or(false);
        if cached && at_hand(offset + count - 1) && at_hand(offset) {
            Warmth::Warm
        } else {
            Warmth::Cold
        }
    }

    /// Up to [`PIECE_BYTES`] as far as they are in the page cache; `None` if none of them is.
    fn read_cached(&self, offset: u64, count: u64) -> io::Result<Option<Bytes>> {
        let count = usize::try_from(count).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let mut bytes = Vec::new();
        match sys_serve::read_cached(&self.file, &mut bytes, offset, count) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(Some(bytes.into())),
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Unsupported) =>
            {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Reads up to [`PIECE_BYTES`], waiting for the disk without holding the shard up.
    ///
    /// # Errors
    /// `UnexpectedEof` beyond the end, `Other` if the file has changed, else what the system says.
    pub(crate) async fn read(&self, offset: u64, count: u64) -> io::Result<Bytes> {
        self.check_unchanged()?;
        if let Some(bytes) = self.read_cached(offset, count)? {
            return Ok(bytes);
        }
        let count = usize::try_from(count).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let waiting = match self.waiting.get() {
            Some(waiting) => waiting,
            None => {
                let again = self.file.try_clone()?;
                self.waiting.get_or_init(|| sys_file::buffered(again))
            }
        };
        let read = waiting.read_at(offset, count).await.map_err(io::Error::from)?;
        if read.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Bytes::copy_from_slice(&read))
    }
}

/// A part of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// These bytes.
    Bytes(Bytes),
    /// Bytes of the file.
    File(Range<u64>),
}

impl Part {
    /// Bytes in it.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(range) => range.end.saturating_sub(range.start),
        }
    }

    /// Those of its bytes that lie in `wanted`.
    fn cut(&self, wanted: &Range<u64>) -> Self {
        let start = wanted.start.min(self.len());
        let end = wanted.end.clamp(start, self.len());
        match self {
            // Both are at most the length of the bytes.
            Self::Bytes(bytes) => Self::Bytes(bytes.slice(start as usize..end as usize)),
            Self::File(range) => Self::File(range.start + start..range.start + end),
        }
    }
}

/// Bytes of a body in order; see [`Part`].
pub(crate) fn length_of<'a>(parts: impl IntoIterator<Item = &'a Part>) -> u64 {
    parts.into_iter().map(Part::len).sum()
}

/// The parts that make up `wanted` of the body the parts make up.
pub(crate) fn slice(parts: &[Part], wanted: &Range<u64>) -> Vec<Part> {
    let mut begin = 0u64;
    let mut out = Vec::new();
    for part in parts {
        let end = begin + part.len();
        if end > wanted.start && begin < wanted.end {
            let start = wanted.start.saturating_sub(begin);
            out.push(part.cut(&(start..wanted.end - begin)));
        }
        begin = end;
    }
    out
}

type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>>>>;

/// A body made of parts of one file and bytes between them.
pub(crate) struct FileBody {
    file: Rc<DiskFile>,
    parts: VecDeque<Part>,
    remaining: u64,
    reading: Option<Reading>,
}

impl FileBody {
    /// A body of these parts of the file.
    pub(crate) fn new(file: Rc<DiskFile>, parts: impl IntoIterator<Item = Part>) -> Self {
        let parts: VecDeque<Part> = parts.into_iter().filter(|part| part.len() > 0).collect();
        let remaining = length_of(&parts);
        Self { file, parts, remaining, reading: None }
    }

    /// The file.
    pub(crate) fn file(&self) -> &Rc<DiskFile> {
        &self.file
    }

    /// Bytes still to come.
    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// What comes next.
    pub(crate) fn front(&self) -> Option<&Part> {
        self.parts.front()
    }

    /// Takes `count` bytes, at most those of the front part, as sent.
    pub(crate) fn advance(&mut self, count: u64) {
        let Some(front) = self.parts.pop_front() else { return };
        let count = count.min(front.len());
        self.remaining -= count;
        if count < front.len() {
            self.parts.push_front(front.cut(&(count..u64::MAX)));
        }
    }

    /// All of it at once, if it is in memory, or short and in the page cache.
    pub(crate) fn at_hand(&self, bytes_max: u64) -> Option<Bytes> {
        match self.parts.front() {
            None => Some(Bytes::new()),
            Some(Part::Bytes(bytes)) if self.parts.len() == 1 => Some(bytes.clone()),
            Some(Part::File(range)) if self.parts.len() == 1 && self.remaining <= bytes_max => {
                let bytes = self.file.read_cached(range.start, self.remaining).ok().flatten()?;
                (bytes.len() as u64 == self.remaining).then_some(bytes)
            }
            _ => None,
        }
    }

    /// The next piece for a peer that cannot be sent files.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let read = ready!(reading.as_mut().poll(cx));
                self.reading = None;
                return Poll::Ready(Some(read.inspect(|bytes| self.advance(bytes.len() as u64))));
            }
            match self.parts.front() {
                None => return Poll::Ready(None),
                Some(Part::Bytes(bytes)) => {
                    let bytes = bytes.clone();
                    self.advance(bytes.len() as u64);
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Some(Part::File(range)) => {
                    let (file, range) = (Rc::clone(&self.file), range.clone());
                    let count = (range.end - range.start).min(PULLED_BYTES);
                    let reading = async move { file.read(range.start, count).await };
                    self.reading = Some(Box::pin(reading));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn materialise(parts: &[Part], file: &[u8]) -> Vec<u8> {
        let bytes = |part: &Part| match part {
            Part::Bytes(bytes) => bytes.to_vec(),
            Part::File(range) => file[range.start as usize..range.end as usize].to_vec(),
        };
        parts.iter().flat_map(bytes).collect()
    }

    fn any_part() -> impl Strategy<Value = Part> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..9)
                .prop_map(|bytes| Part::Bytes(bytes.into())),
            (0u64..90, 0u64..10).prop_map(|(start, count)| Part::File(start..start + count)),
        ]
    }

    proptest! {
        #[test]
        fn slices_and_advances_agree_with_the_whole(
            parts in proptest::collection::vec(any_part(), 0..6),
            start in 0u64..40,
            count in 0u64..40,
            step in 1u64..7,
        ) {
            let content: Vec<u8> = (0..100).collect();
            let whole = materialise(&parts, &content);
            let end = (start + count).min(whole.len() as u64);
            let start = start.min(end);
            let cut = slice(&parts, &(start..end));
            let expected = &whole[start as usize..end as usize];
            prop_assert_eq!(materialise(&cut, &content), expected);
            prop_assert_eq!(length_of(&cut), end - start);

            let file = Rc::new(DiskFile {
                file: File::open("/dev/null").unwrap(),
                waiting: OnceCell::new(),
                stamp: Stamp { len: 0, modified_s: 0, modified_ns: 0, inode: 0 },
                version: OnceCell::new(),
            });
            let mut body = FileBody::new(file, parts);
            let mut out = Vec::new();
            while let Some(front) = body.front() {
                let now = front.cut(&(0..step));
                out.extend(materialise(std::slice::from_ref(&now), &content));
                body.advance(step);
                prop_assert_eq!(body.remaining() as usize, whole.len() - out.len());
            }
            prop_assert_eq!(out, whole);
        }
    }
}
