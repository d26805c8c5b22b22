//! The index of a piece: what lies where in its MP4 file, as records of one size, appended only.
//!
//! | bytes | header | pair of fragments | gap | end |
//! | ----- | ------ | ----------------- | --- | --- |
//! | 0..4  | `SRIX` | 1, keyframe, 0, 0 | 2, reason, 0, 0 | 3, 0, 0, 0 |
//! | 4..12 | session | offset of its first byte | wall clock | bytes of media |
//! | 12..20 | timeline at time 0, ns | wall clock | 0 | 0 |
//! | 20..28 | wall clock | decode time of video | 0 | 0 |
//! | 28..36 | bytes of `ftyp` and `moov` | decode time of sound | 0 | 0 |
//! | 36..44 | timescales | bytes of video, of sound | 0 | 0 |
//! | 44..48 | delay of video | duration of video | 0 | 0 |
//! | 48..52 | 0 | duration of sound | 0 | 0 |
//! | 60..64 | check | check | check | check |
//!
//! Big endian; wall clocks are Unix milliseconds; the check is FNV-1a of the bytes before it, so
//! that a record that was cut off is told from one that was written. A pair is written when its
//! media has been: the index may be short, but does not promise what is not there. It can be made
//! again from the media alone, see [`super::recovery`].

use super::GapReason;

/// Bytes of a record.
pub(crate) const RECORD_BYTES: usize = 64;
/// Most records of one index that are read: a piece is a day long at most, and a pair takes
/// some half a second at least.
pub(crate) const RECORDS_MAX: usize = 1 << 19;

const MAGIC: [u8; 4] = *b"SRIX";
const PAIR: u8 = 1;
const GAP: u8 = 2;
const END: u8 = 3;

/// What is the same for the whole piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Header {
    /// Number of the publisher's session, 0 if unknown: pieces of one session share a timeline.
    pub(crate) session: u64,
    /// Where time 0 of the piece lies on that timeline, in nanoseconds.
    pub(crate) base_nanos: i64,
    /// Wall clock at time 0, Unix milliseconds.
    pub(crate) unix_ms: u64,
    /// Bytes of `ftyp` and `moov`; the first pair follows.
    pub(crate) init_bytes: u32,
    /// Ticks per second of the video track; 0 if there is none.
    pub(crate) video_timescale: u32,
    /// Ticks per second of the sound track; 0 if there is none.
    pub(crate) audio_timescale: u32,
    /// From decoding the first picture to showing it, in ticks of the video track.
    pub(crate) video_delay: u32,
}

/// The fragment of one track; all 0 if the pair has none of the track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Part {
    /// Decode time of its first sample in ticks.
    pub(crate) time: u64,
    /// Its length in ticks.
    pub(crate) duration: u32,
    /// Its bytes.
    pub(crate) bytes: u32,
}

/// A fragment of video and the fragment of sound that goes with it, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pair {
    /// Where it begins in the file.
    pub(crate) offset: u64,
    /// Wall clock of its first sample, Unix milliseconds.
    pub(crate) unix_ms: u64,
    /// Decoding can start at it.
    pub(crate) keyframe: bool,
    /// The video.
    pub(crate) video: Part,
    /// The sound.
    pub(crate) audio: Part,
}

impl Pair {
    /// Its bytes.
    #[must_use]
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.video.bytes) + u64::from(self.audio.bytes)
    }

    /// Where it ends in the file.
    #[must_use]
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes())
    }
}

/// Something between two pairs was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Index of the pair behind it.
    pub(crate) before: usize,
    /// Why.
    pub(crate) reason: GapReason,
    /// Wall clock at which it began, Unix milliseconds.
    pub(crate) unix_ms: u64,
}

/// One record behind the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Media.
    Pair(Pair),
    /// None.
    Gap {
        /// Why.
        reason: GapReason,
        /// Wall clock at which it began, Unix milliseconds.
        unix_ms: u64,
    },
    /// The piece is closed.
    End {
        /// Bytes of the media file that are whole.
        media_bytes: u64,
    },
}

/// An index as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Index {
    /// The header.
    pub(crate) header: Header,
    /// The pairs, without holes between their bytes.
    pub(crate) pairs: Vec<Pair>,
    /// The gaps.
    pub(crate) gaps: Vec<Gap>,
    /// The piece was closed, and this is all of it.
    pub(crate) ended: bool,
}

impl Index {
    /// Reads an index as far as it holds for a media file of `media_bytes`; `None` without a
    /// header that does.
    #[must_use]
    pub(crate) fn parse(bytes: &[u8], media_bytes: u64) -> Option<Self> {
        let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
        let (first, records) = records.split_first()?;
        let header = Header::decode(first)?;
        let mut index = Self { header, ..Self::default() };
        if u64::from(header.init_bytes) > media_bytes {
            return None;
        }
        index.extend(records, media_bytes);
        Some(index)
    }

    /// Records it holds, the header included: what is appended to it begins behind them.
    #[must_use]
    pub(crate) fn records(&self) -> usize {
        1 + self.pairs.len() + self.gaps.len() + usize::from(self.ended)
    }

    /// Takes the records that follow, as far as they hold for a media file of `media_bytes`.
    pub(crate) fn extend(&mut self, records: &[[u8; RECORD_BYTES]], media_bytes: u64) {
        let room = RECORDS_MAX.saturating_sub(self.pairs.len() + self.gaps.len());
        for record in records.iter().take(room) {
            match Entry::decode(record) {
                Some(Entry::Pair(pair)) if self.follows(&pair, media_bytes) => {
                    self.pairs.push(pair);
                }
                Some(Entry::Gap { reason, unix_ms }) => {
                    self.gaps.push(Gap { before: self.pairs.len(), reason, unix_ms });
                }
                Some(Entry::End { media_bytes }) if media_bytes == self.media_bytes() => {
                    self.ended = true;
                    return;
                }
                _ => return,
            }
        }
    }

    fn follows(&self, pair: &Pair, media_bytes: u64) -> bool {
        let later = |part: Part, of: fn(&Pair) -> Part| {
            let last = self.pairs.last().map_or(0, |pair| of(pair).time);
            part.bytes == 0 || part.time >= last
        };
        pair.offset == self.media_bytes()
            && pair.bytes() > 0
            && pair.end() <= media_bytes
            && later(pair.video, |pair| pair.video)
            && later(pair.audio, |pair| pair.audio)
    }

    /// Bytes of the media file that the index covers.
    #[must_use]
    pub(crate) fn media_bytes(&self) -> u64 {
        self.pairs.last().map_or(u64::from(self.header.init_bytes), Pair::end)
    }

    /// The index as bytes.
    #[must_use]
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity((self.pairs.len() + self.gaps.len() + 2) * RECORD_BYTES);
        out.extend(self.header.encode());
        let mut gaps = self.gaps.iter().peekable();
        for (number, pair) in self.pairs.iter().enumerate() {
            while let Some(gap) = gaps.next_if(|gap| gap.before <= number) {
                out.extend(Entry::Gap { reason: gap.reason, unix_ms: gap.unix_ms }.encode());
            }
            out.extend(Entry::Pair(*pair).encode());
        }
        for gap in gaps {
            out.extend(Entry::Gap { reason: gap.reason, unix_ms: gap.unix_ms }.encode());
        }
        if self.ended {
            out.extend(Entry::End { media_bytes: self.media_bytes() }.encode());
        }
        out
    }
}

impl Header {
    /// The record.
    #[must_use]
    pub(crate) fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut record = Writer::new(MAGIC);
        record.put(&self.session.to_be_bytes());
        record.put(&self.base_nanos.to_be_bytes());
        record.put(&self.unix_ms.to_be_bytes());
        record.put(&u64::from(self.init_bytes).to_be_bytes());
        record.put(&self.video_timescale.to_be_bytes());
        record.put(&self.audio_timescale.to_be_bytes());
        record.put(&self.video_delay.to_be_bytes());
        record.finish()
    }

    /// The header in a record.
    pub(crate) fn decode(record: &[u8; RECORD_BYTES]) -> Option<Self> {
        let mut reader = Reader::new(record).filter(|reader| reader.head == MAGIC)?;
        Some(Self {
            session: reader.u64(),
            base_nanos: reader.u64().cast_signed(),
            unix_ms: reader.u64(),
            init_bytes: u32::try_from(reader.u64()).ok()?,
            video_timescale: reader.u32(),
            audio_timescale: reader.u32(),
            video_delay: reader.u32(),
        })
    }
}

impl Entry {
    /// The record.
    #[must_use]
    pub(crate) fn encode(&self) -> [u8; RECORD_BYTES] {
        match self {
            Self::Pair(pair) => {
                let mut record = Writer::new([PAIR, pair.keyframe.into(), 0, 0]);
                record.put(&pair.offset.to_be_bytes());
                record.put(&pair.unix_ms.to_be_bytes());
                record.put(&pair.video.time.to_be_bytes());
                record.put(&pair.audio.time.to_be_bytes());
                record.put(&pair.video.bytes.to_be_bytes());
                record.put(&pair.audio.bytes.to_be_bytes());
                record.put(&pair.video.duration.to_be_bytes());
                record.put(&pair.audio.duration.to_be_bytes());
                record.finish()
            }
            Self::Gap { reason, unix_ms } => {
                let mut record = Writer::new([GAP, *reason as u8, 0, 0]);
                record.put(&unix_ms.to_be_bytes());
                record.finish()
            }
            Self::End { media_bytes } => {
                let mut record = Writer::new([END, 0, 0, 0]);
                record.put(&media_bytes.to_be_bytes());
                record.finish()
            }
        }
    }

    fn decode(record: &[u8; RECORD_BYTES]) -> Option<Self> {
        let mut reader = Reader::new(record)?;
        let [kind, detail, _, _] = reader.head;
        match kind {
            PAIR => {
                let (offset, unix_ms) = (reader.u64(), reader.u64());
                let times = [reader.u64(), reader.u64()];
                let bytes = [reader.u32(), reader.u32()];
                let durations = [reader.u32(), reader.u32()];
                let [video, audio] = [0, 1].map(|n: usize| Part {
                    time: times[n],
                    duration: durations[n],
                    bytes: bytes[n],
                });
                Some(Self::Pair(Pair { offset, unix_ms, keyframe: detail != 0, video, audio }))
            }
            GAP => Some(Self::Gap { reason: GapReason::of_code(detail), unix_ms: reader.u64() }),
            END => Some(Self::End { media_bytes: reader.u64() }),
            _ => None,
        }
    }
}

struct Writer {
    record: [u8; RECORD_BYTES],
    at: usize,
}

impl Writer {
    fn new(head: [u8; 4]) -> Self {
        let mut record = [0; RECORD_BYTES];
        record[..4].copy_from_slice(&head);
        Self { record, at: 4 }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.record[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn finish(mut self) -> [u8; RECORD_BYTES] {
        let check = check(&self.record);
        self.record[RECORD_BYTES - 4..].copy_from_slice(&check);
        self.record
    }
}

struct Reader<'a> {
    head: [u8; 4],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `None` for a record whose check does not hold.
    fn new(record: &'a [u8; RECORD_BYTES]) -> Option<Self> {
        if record[RECORD_BYTES - 4..] != check(record) {
            return None;
        }
        let (head, rest) = record.split_first_chunk::<4>()?;
        Some(Self { head: *head, rest })
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else { return [0; N] };
        self.rest = rest;
        *taken
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }
}

fn check(record: &[u8; RECORD_BYTES]) -> [u8; 4] {
    let fnv = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    record[..RECORD_BYTES - 4].iter().fold(0x811c_9dc5, fnv).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index() -> Index {
        let header = Header {
            session: 7,
            base_nanos: -5,
            unix_ms: 1_700_000_000_123,
            init_bytes: 1000,
            video_timescale: 90_000,
            audio_timescale: 48_000,
            video_delay: 7_200,
        };
        let mut index = Index { header, ..Index::default() };
        for n in 0..10u32 {
            let part = |scale: u32| Part {
                time: u64::from(n * scale),
                duration: scale,
                bytes: 100 + scale % 7 + n,
            };
            let pair = Pair {
                offset: index.media_bytes(),
                unix_ms: header.unix_ms + u64::from(n) * 1000,
                keyframe: n % 2 == 0,
                video: part(90_000),
                audio: if n == 5 { Part::default() } else { part(48_000) },
            };
            index.pairs.push(pair);
        }
        index.gaps.push(Gap { before: 4, reason: GapReason::QueueFull, unix_ms: 9 });
        index.ended = true;
        index
    }

    #[test]
    fn an_index_survives_the_round_trip() {
        let index = index();
        let bytes = index.encode();
        assert_eq!(bytes.len(), 13 * RECORD_BYTES);
        assert_eq!(Index::parse(&bytes, index.media_bytes()), Some(index));
    }

    #[test]
    fn every_cut_leaves_whole_records_only() {
        let whole = index();
        let bytes = whole.encode();
        for cut in 0..bytes.len() {
            let parsed = Index::parse(&bytes[..cut], whole.media_bytes());
            let Some(parsed) = parsed else {
                assert!(cut < RECORD_BYTES, "{cut}");
                continue;
            };
            assert!(!parsed.ended);
            assert_eq!(parsed.pairs, whole.pairs[..parsed.pairs.len()]);
            let records = 1 + parsed.pairs.len() + parsed.gaps.len();
            assert_eq!(records, cut / RECORD_BYTES);
        }
    }

    #[test]
    fn pairs_beyond_the_media_are_not_believed() {
        let whole = index();
        let bytes = whole.encode();
        for media_bytes in 0..=whole.media_bytes() {
            let Some(parsed) = Index::parse(&bytes, media_bytes) else {
                assert!(media_bytes < 1000);
                continue;
            };
            assert!(parsed.media_bytes() <= media_bytes);
            let left_out = whole.pairs.get(parsed.pairs.len());
            assert!(left_out.is_none_or(|pair| pair.end() > media_bytes));
            assert_eq!(parsed.ended, left_out.is_none());
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_found(at in 0usize..13 * RECORD_BYTES, xor in 1u8..) {
            let whole = index();
            let mut bytes = whole.encode();
            bytes[at] ^= xor;
            match Index::parse(&bytes, whole.media_bytes()) {
                None => prop_assert!(at < RECORD_BYTES),
                Some(parsed) => {
                    let records = 1 + parsed.pairs.len() + parsed.gaps.len();
                    prop_assert_eq!(records, (at / RECORD_BYTES).min(12));
                    prop_assert_eq!(&parsed.pairs[..], &whole.pairs[..parsed.pairs.len()]);
                }
            }
        }

        #[test]
        fn any_bytes_give_a_sound_index_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(index) = Index::parse(&bytes, 10_000) {
                prop_assert!(index.media_bytes() <= 10_000);
            }
        }
    }
}
