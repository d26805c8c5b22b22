//! One `moof`: the samples of its tracks, with where they lie in the file.

use super::boxes::{child, children, full, versioned};
use super::{FileSample, MOOF_SAMPLES_MAX, ReadError, TRACKS_MAX};
use crate::bits::ByteReader;
use crate::container::fmp4::fragment::{
    NON_SYNC, TFHD_BASE_IS_MOOF, TFHD_DEFAULT_DURATION, TFHD_DEFAULT_FLAGS,
    TRUN_COMPOSITION_OFFSET, TRUN_DATA_OFFSET, TRUN_DURATION, TRUN_FLAGS, TRUN_SIZE,
};

const TFHD_BASE_OFFSET: u32 = 0x01;
const TFHD_DESCRIPTION: u32 = 0x02;
const TFHD_DEFAULT_SIZE: u32 = 0x10;
const TRUN_FIRST_FLAGS: u32 = 0x04;

/// What a track's samples have unless a fragment says otherwise: its `trex` (8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrackDefaults {
    /// `track_ID`.
    pub track_id: u32,
    /// Duration in ticks.
    pub duration: u32,
    /// Bytes of a sample.
    pub size: u32,
    /// `sample_flags`.
    pub flags: u32,
}

/// The samples one `moof` holds of one track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFragment {
    /// `track_ID`: in files of this server 1 for video and 2 for sound.
    pub track_id: u32,
    /// Decode time of the first sample in ticks.
    pub base_decode_time: u64,
    /// Sum of the durations in ticks.
    pub duration: u64,
    /// The samples; perhaps none.
    pub samples: Vec<FileSample>,
}

impl TrackFragment {
    /// Decoding can start at the first sample.
    pub fn starts_with_keyframe(&self) -> bool {
        self.samples.first().is_some_and(|sample| sample.keyframe)
    }
}

/// Where the time of each track has come to, for fragments that do not say.
#[derive(Debug, Clone, Default)]
pub(super) struct Clocks(Vec<(u32, u64)>);

impl Clocks {
    fn of(&self, track_id: u32) -> u64 {
        self.0.iter().find(|(id, _)| *id == track_id).map_or(0, |(_, time)| *time)
    }

    fn set(&mut self, track_id: u32, time: u64) {
        if let Some((_, at)) = self.0.iter_mut().find(|(id, _)| *id == track_id) {
            *at = time;
        } else if self.0.len() < TRACKS_MAX {
            self.0.push((track_id, time));
        }
    }
}

/// The `trex` boxes of an `mvex`.
pub(super) fn defaults(mvex: &[u8]) -> Vec<TrackDefaults> {
    let trex = children(mvex).filter(|(name, _)| name == b"trex").take(TRACKS_MAX);
    trex.filter_map(|(_, body)| {
        let (_, _, mut reader) = full(body)?;
        let (track_id, _) = (reader.u32()?, reader.u32()?);
        let (duration, size, flags) = (reader.u32()?, reader.u32()?, reader.u32()?);
        Some(TrackDefaults { track_id, duration, size, flags })
    })
    .collect()
}

/// Reads the body of the `moof` that begins at `moof_offset`.
pub(super) fn parse(
    moof: &[u8],
    moof_offset: u64,
    defaults: &[TrackDefaults],
    clocks: &mut Clocks,
) -> Result<Vec<TrackFragment>, ReadError> {
    let mut fragments = Vec::new();
    // Where data goes on for a track that does not say where it begins (8.8.7.1).
    let mut data_end = moof_offset;
    let mut samples_left = MOOF_SAMPLES_MAX;
    for (_, traf) in children(moof).filter(|(name, _)| name == b"traf").take(TRACKS_MAX) {
        let mut track =
            Track::new(traf, moof_offset, data_end, defaults).ok_or(ReadError::BadBox(*b"tfhd"))?;
        let time = match child(traf, b"tfdt") {
            Some(tfdt) => decode_time(tfdt).ok_or(ReadError::BadBox(*b"tfdt"))?,
            None => clocks.of(track.defaults.track_id),
        };
        let mut fragment = TrackFragment {
            track_id: track.defaults.track_id,
            base_decode_time: time,
            duration: 0,
            samples: Vec::new(),
        };
        for (_, trun) in children(traf).filter(|(name, _)| name == b"trun") {
            track.read_run(trun, &mut samples_left, &mut fragment)?;
        }
        data_end = track.position;
        clocks.set(fragment.track_id, time.saturating_add(fragment.duration));
        fragments.push(fragment);
    }
    Ok(fragments)
}

fn decode_time(tfdt: &[u8]) -> Option<u64> {
    let (version, _, mut reader) = full(tfdt)?;
    versioned(&mut reader, version)
}

/// One `traf` while its runs are read.
struct Track {
    defaults: TrackDefaults,
    /// What data offsets of runs count from.
    base: u64,
    /// Where the data of the last run ended.
    position: u64,
}

impl Track {
    fn new(
        traf: &[u8],
        moof_offset: u64,
        data_end: u64,
        defaults: &[TrackDefaults],
    ) -> Option<Self> {
        let (_, flags, mut reader) = full(child(traf, b"tfhd")?)?;
        let track_id = reader.u32()?;
        let known = defaults.iter().find(|defaults| defaults.track_id == track_id);
        let mut defaults = TrackDefaults { track_id, ..known.copied().unwrap_or_default() };
        let mut base = if flags & TFHD_BASE_IS_MOOF != 0 { moof_offset } else { data_end };
        if flags & TFHD_BASE_OFFSET != 0 {
            base = versioned(&mut reader, 1)?;
        }
        if flags & TFHD_DESCRIPTION != 0 {
            reader.u32()?;
        }
        if flags & TFHD_DEFAULT_DURATION != 0 {
            defaults.duration = reader.u32()?;
        }
        if flags & TFHD_DEFAULT_SIZE != 0 {
            defaults.size = reader.u32()?;
        }
        if flags & TFHD_DEFAULT_FLAGS != 0 {
            defaults.flags = reader.u32()?;
        }
        Some(Self { defaults, base, position: base })
    }

    fn read_run(
        &mut self,
        trun: &[u8],
        samples_left: &mut u32,
        fragment: &mut TrackFragment,
    ) -> Result<(), ReadError> {
        const BAD: ReadError = ReadError::BadBox(*b"trun");
        let (_, flags, mut reader) = full(trun).ok_or(BAD)?;
        let count = reader.u32().ok_or(BAD)?;
        *samples_left = samples_left.checked_sub(count).ok_or(ReadError::TooLarge)?;
        if flags & TRUN_DATA_OFFSET != 0 {
            let offset = reader.u32().ok_or(BAD)?.cast_signed();
            self.position = self.base.checked_add_signed(offset.into()).ok_or(BAD)?;
        }
        let mut first_flags =
            if flags & TRUN_FIRST_FLAGS != 0 { Some(reader.u32().ok_or(BAD)?) } else { None };
        for _ in 0..count {
            let sample = self.sample(flags, first_flags.take(), &mut reader).ok_or(BAD)?;
            let decode_time = fragment.base_decode_time.saturating_add(fragment.duration);
            self.position = self.position.saturating_add(sample.size.into());
            fragment.duration = fragment.duration.saturating_add(sample.duration.into());
            fragment.samples.push(FileSample { decode_time, ..sample });
        }
        Ok(())
    }

    fn sample(
        &self,
        flags: u32,
        first_flags: Option<u32>,
        reader: &mut ByteReader<'_>,
    ) -> Option<FileSample> {
        let mut field =
            |flag, default| if flags & flag != 0 { reader.u32() } else { Some(default) };
        let duration = field(TRUN_DURATION, self.defaults.duration)?;
        let size = field(TRUN_SIZE, self.defaults.size)?;
        let sample_flags = field(TRUN_FLAGS, first_flags.unwrap_or(self.defaults.flags))?;
        // Version 0 says unsigned; writers of it mean small or negative numbers all the same.
        let composition_offset = field(TRUN_COMPOSITION_OFFSET, 0)?.cast_signed();
        let keyframe = sample_flags & NON_SYNC == 0;
        let offset = self.position;
        Some(FileSample { offset, size, decode_time: 0, duration, composition_offset, keyframe })
    }
}
