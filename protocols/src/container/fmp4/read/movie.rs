//! A `moov`: the tracks of a file, and the samples of each where they are not in fragments.

use bytes::Bytes;

use super::boxes::{child, children, full, header, versioned};
use super::fragment::defaults;
use super::sample_entry::{audio, first_entry, video};
use super::sample_table::SampleTable;
use super::{FileSample, MOOV_BYTES_MAX, ReadError, TRACKS_MAX, TrackDefaults};
use crate::container::fmp4::TrackKind;
use crate::media::{AudioInfo, Codec, Frame, FrameKind, Timestamp, Track, Tracks, VideoInfo};

/// A track of a file beyond what its codec says.
#[derive(Debug, Clone)]
pub struct MovieTrack {
    /// `track_ID`, as fragments name it.
    pub track_id: u32,
    /// Ticks per second.
    pub timescale: u32,
    /// Ticks to add to every time: what the first edit inserts, minus what it cuts off.
    pub edit_offset: i64,
    /// The samples; none in a file of fragments.
    pub table: SampleTable,
}

/// The first video track and the first sound track of a file that this server carries.
#[derive(Debug, Clone)]
pub struct Movie {
    /// Their codecs, as the rest of the server knows them.
    pub tracks: Tracks,
    /// The video track.
    pub video: Option<MovieTrack>,
    /// The sound track.
    pub audio: Option<MovieTrack>,
    /// What fragments leave out, by track; empty if the file says that it has no fragments.
    pub defaults: Vec<TrackDefaults>,
    /// The file has, or may have, fragments.
    pub fragmented: bool,
    /// Names of the sample entries of video and sound tracks that were passed over.
    pub passed_over: Vec<[u8; 4]>,
    /// Added to every time, so that no track begins before 0.
    shift_nanos: i64,
}

enum Found {
    Video(Track<VideoInfo>, MovieTrack),
    Audio(Track<AudioInfo>, MovieTrack),
    PassedOver([u8; 4]),
}

impl Movie {
    /// Reads a whole `moov` box, header included, of a file of `file_bytes`. Slices of `moov` are
    /// kept.
    ///
    /// # Errors
    /// The box is no `moov`, is too large, or the tables of a track contradict themselves. A movie
    /// without a track that can be carried is no error.
    pub fn parse(moov: &Bytes, file_bytes: u64) -> Result<Self, ReadError> {
        const BAD: ReadError = ReadError::BadBox(*b"moov");
        if moov.len() as u64 > MOOV_BYTES_MAX {
            return Err(ReadError::TooLarge);
        }
        let moov_header = header(moov).filter(|header| header.name == *b"moov").ok_or(BAD)?;
        let body = moov.get(usize::from(moov_header.header_bytes)..).ok_or(BAD)?;
        let movie_timescale = child(body, b"mvhd").and_then(after_times).unwrap_or(0);
        let mvex = child(body, b"mvex");
        let mut movie = Self {
            tracks: Tracks::default(),
            video: None,
            audio: None,
            defaults: mvex.map(defaults).unwrap_or_default(),
            fragmented: mvex.is_some(),
            passed_over: Vec::new(),
            shift_nanos: 0,
        };
        for (_, trak) in children(body).filter(|(name, _)| name == b"trak").take(TRACKS_MAX) {
            match parse_track(moov, trak, movie_timescale, file_bytes)? {
                Some(Found::Video(track, found)) if movie.video.is_none() => {
                    (movie.tracks.video, movie.video) = (Some(track), Some(found));
                }
                Some(Found::Audio(track, found)) if movie.audio.is_none() => {
                    (movie.tracks.audio, movie.audio) = (Some(track), Some(found));
                }
                Some(Found::PassedOver(name)) => movie.passed_over.push(name),
                _ => {}
            }
        }
        let starts = [&movie.video, &movie.audio]
            .into_iter()
            .flatten()
            .map(|track| Timestamp::from_ticks(track.edit_offset, track.timescale).nanos());
        movie.shift_nanos = starts.min().map_or(0, |start| start.min(0).saturating_neg());
        Ok(movie)
    }

    /// The frame of a sample, whose payload was read from the file. Times are those the file
    /// presents, edits applied, moved so that no track begins before 0. `None` if the movie lacks
    /// the track. The kind tells keyframes from others and no more.
    pub fn frame(&self, track: TrackKind, sample: &FileSample, payload: Bytes) -> Option<Frame> {
        let (found, kind) = match track {
            TrackKind::Video if sample.keyframe => (self.video.as_ref()?, FrameKind::Keyframe),
            TrackKind::Video => (self.video.as_ref()?, FrameKind::Inter),
            TrackKind::Audio => (self.audio.as_ref()?, FrameKind::Audio),
        };
        let decode = i64::try_from(sample.decode_time).ok()?.checked_add(found.edit_offset)?;
        let presentation = decode.checked_add(sample.composition_offset.into())?;
        let at =
            |ticks| Timestamp::from_ticks(ticks, found.timescale).offset_nanos(self.shift_nanos);
        // The difference of what both times round to.
        let (dts, pts) = (at(decode), at(presentation));
        Some(Frame { kind, dts, composition_offset: pts - dts, payload })
    }
}

fn parse_track(
    moov: &Bytes,
    trak: &[u8],
    movie_timescale: u32,
    file_bytes: u64,
) -> Result<Option<Found>, ReadError> {
    let Some(mdia) = child(trak, b"mdia") else { return Ok(None) };
    let handler = child(mdia, b"hdlr").and_then(handler);
    if !matches!(handler.as_ref(), Some(b"vide" | b"soun")) {
        return Ok(None);
    }
    let stbl = child(mdia, b"minf").and_then(|minf| child(minf, b"stbl"));
    let stbl = stbl.ok_or(ReadError::BadBox(*b"stbl"))?;
    let entry = child(stbl, b"stsd").and_then(first_entry);
    let (name, entry) = entry.ok_or(ReadError::BadBox(*b"stsd"))?;
    let track_id = child(trak, b"tkhd").and_then(after_times).ok_or(ReadError::BadBox(*b"tkhd"))?;
    let timescale = child(mdia, b"mdhd").and_then(after_times).filter(|timescale| *timescale > 0);
    let timescale = timescale.ok_or(ReadError::BadBox(*b"mdhd"))?;
    let edits = child(trak, b"edts").and_then(|edts| child(edts, b"elst"));
    let edit_offset = edits.and_then(|elst| edit_offset(elst, movie_timescale, timescale));
    let edit_offset = edit_offset.unwrap_or(0);
    let table = || SampleTable::parse(moov, stbl, file_bytes);
    let found = |table| MovieTrack { track_id, timescale, edit_offset, table };
    Ok(Some(if handler == Some(*b"vide") {
        match video(name, entry) {
            Some(track) => Found::Video(track, found(table()?)),
            None => Found::PassedOver(name),
        }
    } else {
        match audio(name, entry) {
            Some(track) => {
                let table = table()?;
                // A sample of G.711 may be that of one moment, a frame is not to be had then.
                let g711 = matches!(track.codec, Codec::G711A | Codec::G711U);
                let moments = table.same_size().is_some_and(|size| size <= 16);
                if g711 && moments && table.count() > 0 {
                    Found::PassedOver(name)
                } else {
                    Found::Audio(track, found(table))
                }
            }
            None => Found::PassedOver(name),
        }
    }))
}

/// The field behind creation and modification time: the timescale of `mvhd` and `mdhd`, the track
/// of `tkhd`.
fn after_times(body: &[u8]) -> Option<u32> {
    let (version, _, mut reader) = full(body)?;
    versioned(&mut reader, version)?;
    versioned(&mut reader, version)?;
    reader.u32()
}

fn handler(hdlr: &[u8]) -> Option<[u8; 4]> {
    let (_, _, mut reader) = full(hdlr)?;
    reader.u32()?;
    reader.array()
}

/// What the first edit that shows media does to its times (8.6.6): empty edits before it push them
/// back, its media time pulls them forward.
fn edit_offset(elst: &[u8], movie_timescale: u32, timescale: u32) -> Option<i64> {
    let (version, _, mut reader) = full(elst)?;
    let mut empty = 0u64;
    for _ in 0..reader.u32()? {
        let duration = versioned(&mut reader, version)?;
        let media_time = versioned(&mut reader, version)?;
        reader.u32()?;
        let media_time = match version {
            1 => media_time.cast_signed(),
            _ => i64::from((media_time as u32).cast_signed()),
        };
        if media_time >= 0 {
            let ticks =
                u128::from(empty) * u128::from(timescale) / u128::from(movie_timescale.max(1));
            return i64::try_from(ticks).ok()?.checked_sub(media_time);
        }
        empty = empty.checked_add(duration)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_push_back_and_pull_forward() {
        let offset = |version: u8, fields: &[u32]| {
            let fields: Vec<u8> = fields.iter().flat_map(|field| field.to_be_bytes()).collect();
            edit_offset(&[&[version, 0, 0, 0][..], &fields].concat(), 1000, 48_000)
        };
        const NONE: u32 = u32::MAX;
        const RATE: u32 = 0x1_0000;
        assert_eq!(offset(0, &[1, 5000, 1024, RATE]), Some(-1024));
        // Half a second of nothing first; what comes after the first edit of media is ignored.
        let edits = [3, 500, NONE, RATE, 5000, 1024, RATE, 100, 9, RATE];
        assert_eq!(offset(0, &edits), Some(24_000 - 1024));
        assert_eq!(
            offset(1, &[2, 0, 500, NONE, NONE, RATE, 0, 9, 1, 0, RATE]),
            Some(24_000 - (1 << 32))
        );
        // Only empty edits, or fewer than announced.
        assert_eq!(offset(0, &[1, 500, NONE, RATE]), None);
        assert_eq!(offset(0, &[NONE, 500, NONE, RATE]), None);
    }
}
