//! The sample table of a track: its boxes as they are, and a walk over the samples they describe.

use bytes::Bytes;

use super::boxes::{child, full};
use super::{FileSample, ReadError, TABLE_SAMPLES_MAX};

/// Sizes of the samples (8.7.3).
#[derive(Debug, Clone)]
enum Sizes {
    Same(u32),
    Each(Bytes),
}

/// The boxes of one `stbl`. They stay as they are, so that a table costs no more memory than its
/// file; [`SampleTable::samples`] reads them on the way.
#[derive(Debug, Clone)]
pub struct SampleTable {
    file_bytes: u64,
    count: u32,
    sizes: Sizes,
    /// Pairs of count and duration.
    durations: Bytes,
    /// Pairs of count and offset; empty if all are 0.
    composition_offsets: Bytes,
    /// Triples of first chunk, samples per chunk, description.
    chunks: Bytes,
    /// Positions of chunks in the file, of 4 or 8 bytes each.
    chunk_offsets: Bytes,
    chunk_offset_bytes: usize,
    /// Numbers of the keyframes; `None` if all samples are.
    keyframes: Option<Bytes>,
}

impl SampleTable {
    /// Reads the body of an `stbl`, a slice of `moov`, of a file of `file_bytes`.
    pub(super) fn parse(moov: &Bytes, stbl: &[u8], file_bytes: u64) -> Result<Self, ReadError> {
        let table = |name, entry_bytes| entries(moov, stbl, name, entry_bytes);
        let (size, mut count, sizes) =
            child(stbl, b"stsz").and_then(sample_sizes).ok_or(ReadError::BadBox(*b"stsz"))?;
        let sizes = if size == 0 {
            let sizes = sizes.get(..(count as usize).saturating_mul(4));
            Sizes::Each(moov.slice_ref(sizes.ok_or(ReadError::BadBox(*b"stsz"))?))
        } else {
            Sizes::Same(size)
        };
        if count > TABLE_SAMPLES_MAX {
            return Err(ReadError::TooLarge);
        }
        let durations = table(b"stts", 8)?.ok_or(ReadError::BadBox(*b"stts"))?;
        let chunks = table(b"stsc", 12)?.ok_or(ReadError::BadBox(*b"stsc"))?;
        let (chunk_offset_bytes, chunk_offsets) = match table(b"co64", 8)? {
            Some(offsets) => (8, offsets),
            None => (4, table(b"stco", 4)?.ok_or(ReadError::BadBox(*b"stco"))?),
        };
        if chunks.is_empty() || chunk_offsets.is_empty() {
            count = 0;
        }
        let composition_offsets = table(b"ctts", 8)?.unwrap_or_default();
        let keyframes = table(b"stss", 4)?;
        Ok(Self {
            file_bytes,
            count,
            sizes,
            durations,
            composition_offsets,
            chunks,
            chunk_offsets,
            chunk_offset_bytes,
            keyframes,
        })
    }

    /// Samples the table announces; the walk may end before, where boxes or the file do.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of every sample, if all have as many.
    pub fn same_size(&self) -> Option<u32> {
        match self.sizes {
            Sizes::Same(size) => Some(size),
            Sizes::Each(_) => None,
        }
    }

    /// Walks the samples in decode order. The walk ends where one of the boxes does, or at a sample
    /// beyond the end of the file. A small box may announce [`TABLE_SAMPLES_MAX`] samples: a walk
    /// through all of them belongs into pieces where others wait for the thread.
    pub fn samples(&self) -> Samples<'_> {
        self.samples_from(&SamplePlace::default())
    }

    /// Goes on with a walk of this table at a place where [`Samples::place`] found it.
    pub fn samples_from(&self, place: &SamplePlace) -> Samples<'_> {
        Samples { table: self, place: *place }
    }
}

/// Common size, count, and what follows.
fn sample_sizes(stsz: &[u8]) -> Option<(u32, u32, &[u8])> {
    let (_, _, mut reader) = full(stsz)?;
    Some((reader.u32()?, reader.u32()?, reader.rest()))
}

/// The entries of a box that begins with their count. `None` if there is no such box.
fn entries(
    moov: &Bytes,
    stbl: &[u8],
    name: &[u8; 4],
    entry_bytes: usize,
) -> Result<Option<Bytes>, ReadError> {
    let Some(body) = child(stbl, name) else { return Ok(None) };
    let entries = full(body).and_then(|(_, _, mut reader)| {
        let count = usize::try_from(reader.u32()?).ok()?;
        reader.bytes(count.checked_mul(entry_bytes)?)
    });
    let entries = entries.ok_or(ReadError::BadBox(*name))?;
    Ok(Some(moov.slice_ref(entries)))
}

/// The 32-bit field at this place of this entry.
fn field(entries: &[u8], entry_bytes: usize, index: usize, at: usize) -> Option<u32> {
    let start = index.checked_mul(entry_bytes)?.checked_add(at)?;
    entries.get(start..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// A place in a table of pairs of count and value.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    index: usize,
    left: u32,
    value: u32,
}

impl Run {
    /// The value of the next sample; passes over runs of no samples.
    fn next(&mut self, pairs: &[u8]) -> Option<u32> {
        while self.left == 0 {
            self.left = field(pairs, 8, self.index, 0)?;
            self.value = field(pairs, 8, self.index, 4)?;
            self.index += 1;
        }
        self.left -= 1;
        Some(self.value)
    }
}

/// Where a walk has come to.
#[derive(Debug, Clone, Copy, Default)]
pub struct SamplePlace {
    index: u32,
    decode_time: u64,
    duration: Run,
    composition_offset: Run,
    /// Chunks begun.
    chunk: usize,
    /// Entry of `stsc` that holds for the chunk.
    chunk_run: usize,
    chunk_samples_left: u32,
    position: u64,
    /// Place in `stss`.
    keyframe: usize,
}

/// The walk of [`SampleTable::samples`].
#[derive(Debug, Clone)]
pub struct Samples<'a> {
    table: &'a SampleTable,
    place: SamplePlace,
}

impl Samples<'_> {
    /// Where the walk has come to: the next sample is the first one of a walk that goes on there.
    pub fn place(&self) -> SamplePlace {
        self.place
    }

    /// Begins the next chunk that holds samples.
    fn next_chunk(&mut self) -> Option<()> {
        let SampleTable { chunks, chunk_offsets, chunk_offset_bytes, .. } = self.table;
        while self.place.chunk_samples_left == 0 {
            let high = if *chunk_offset_bytes == 8 {
                field(chunk_offsets, 8, self.place.chunk, 0)?
            } else {
                0
            };
            let low = field(
                chunk_offsets,
                *chunk_offset_bytes,
                self.place.chunk,
                chunk_offset_bytes - 4,
            )?;
            self.place.position = u64::from(high) << 32 | u64::from(low);
            self.place.chunk += 1;
            // Chunks count from 1.
            while field(chunks, 12, self.place.chunk_run + 1, 0)
                .is_some_and(|first| first as usize <= self.place.chunk)
            {
                self.place.chunk_run += 1;
            }
            self.place.chunk_samples_left = field(chunks, 12, self.place.chunk_run, 4)?;
        }
        self.place.chunk_samples_left -= 1;
        Some(())
    }

    fn is_keyframe(&mut self) -> bool {
        let Some(keyframes) = &self.table.keyframes else { return true };
        // Samples count from 1, and `index` was counted on already.
        while let Some(number) = field(keyframes, 4, self.place.keyframe, 0) {
            if number >= self.place.index {
                return number == self.place.index;
            }
            self.place.keyframe += 1;
        }
        false
    }
}

impl Iterator for Samples<'_> {
    type Item = FileSample;

    fn next(&mut self) -> Option<FileSample> {
        if self.place.index >= self.table.count {
            return None;
        }
        let size = match &self.table.sizes {
            Sizes::Same(size) => *size,
            Sizes::Each(sizes) => field(sizes, 4, self.place.index as usize, 0)?,
        };
        let duration = self.place.duration.next(&self.table.durations)?;
        // Where the box ends before the samples do, the rest has none.
        let composition_offset =
            self.place.composition_offset.next(&self.table.composition_offsets).unwrap_or(0);
        self.next_chunk()?;
        self.place.index += 1;
        let (offset, decode_time) = (self.place.position, self.place.decode_time);
        let end = offset.checked_add(size.into()).filter(|end| *end <= self.table.file_bytes);
        let Some(end) = end else {
            self.place.index = self.table.count;
            return None;
        };
        self.place.position = end;
        // At most 2^24 durations of 32 bits.
        self.place.decode_time += u64::from(duration);
        Some(FileSample {
            offset,
            size,
            decode_time,
            duration,
            // Signed in version 1; writers of version 0 mean it so as well.
            composition_offset: composition_offset.cast_signed(),
            keyframe: self.is_keyframe(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full_box(name: &[u8; 4], version: u8, fields: &[u32]) -> Vec<u8> {
        let fields: Vec<u8> = fields.iter().flat_map(|field| field.to_be_bytes()).collect();
        let size = u32::try_from(12 + fields.len()).unwrap().to_be_bytes();
        [&size[..], name, &[version, 0, 0, 0], &fields].concat()
    }

    fn samples(boxes: &[Vec<u8>], file_bytes: u64) -> Vec<FileSample> {
        let stbl = Bytes::from(boxes.concat());
        SampleTable::parse(&stbl, &stbl, file_bytes).unwrap().samples().collect()
    }

    #[test]
    fn chunks_runs_and_wide_offsets() {
        let boxes = [
            full_box(b"stsz", 0, &[0, 6, 10, 20, 30, 40, 50, 60]),
            full_box(b"stts", 0, &[3, 2, 5, 0, 9, 4, 7]),
            full_box(b"ctts", 1, &[2, 3, 1, 2, (-4i32).cast_unsigned()]),
            // Chunk 1 has two samples, chunks 2 and 3 have one, chunk 4 none, chunk 5 two.
            full_box(b"stsc", 0, &[4, 1, 2, 1, 2, 1, 1, 4, 0, 1, 5, 2, 1]),
            full_box(b"co64", 0, &[5, 0, 100, 1, 0, 0, 200, 0, 0, 0, 300]),
            full_box(b"stss", 0, &[2, 1, 4]),
        ];
        let found = samples(&boxes, 1 << 40);
        let offsets: Vec<_> = found.iter().map(|sample| sample.offset).collect();
        assert_eq!(offsets, [100, 110, 1 << 32, 200, 300, 350]);
        let times: Vec<_> = found.iter().map(|sample| sample.decode_time).collect();
        assert_eq!(times, [0, 5, 10, 17, 24, 31]);
        let presented: Vec<_> = found.iter().map(|sample| sample.composition_offset).collect();
        assert_eq!(presented, [1, 1, 1, -4, -4, 0]);
        let keyframes: Vec<_> = found.iter().map(|sample| sample.keyframe).collect();
        assert_eq!(keyframes, [true, false, false, true, false, false]);
        // A walk that goes on at each place of another one finds the same.
        let stbl = Bytes::from(boxes.concat());
        let table = SampleTable::parse(&stbl, &stbl, 1 << 40).unwrap();
        let mut walk = table.samples();
        for count in 0..=found.len() {
            assert_eq!(table.samples_from(&walk.place()).collect::<Vec<_>>(), found[count..]);
            assert_eq!(walk.next(), found.get(count).copied());
        }
        // A file that ends before the third sample does.
        assert_eq!(samples(&boxes, 1 << 32).len(), 2);
    }

    #[test]
    fn without_keyframe_and_offset_boxes_all_are_keyframes_on_time() {
        let boxes = [
            full_box(b"stsz", 0, &[4, 3]),
            full_box(b"stts", 0, &[1, 3, 5]),
            full_box(b"stsc", 0, &[1, 1, 3, 1]),
            full_box(b"stco", 0, &[1, 8]),
        ];
        let found = samples(&boxes, 20);
        assert!(found.iter().all(|one| one.keyframe && one.composition_offset == 0));
        assert_eq!(found.iter().map(|one| one.offset).collect::<Vec<_>>(), [8, 12, 16]);
        // A chunk too few.
        let (mut few, mut none) = (boxes.clone(), boxes);
        few[2] = full_box(b"stsc", 0, &[1, 1, 1, 1]);
        assert_eq!(samples(&few, 20).len(), 1);
        none[3] = full_box(b"stco", 0, &[0]);
        assert_eq!(samples(&none, 20).len(), 0);
    }
}
