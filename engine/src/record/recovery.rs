//! What a killed process or a power cut leaves: an index that ends early or is not there, and
//! media whose last bytes are torn. The index is made again from what is whole in the media.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use protocols::container::fmp4::TrackKind;
use protocols::container::fmp4::read::{FoundFragment, Movie, Scanner, Step};

use super::index::{Header, Index, Pair, Part, RECORDS_MAX};
use super::name::PieceName;
use super::piece::{is_being_written, read_at_most, read_header, read_index};
use crate::net::sys_file::Directory;

/// Bytes read at once: the `moof` of a fragment and what stands around it.
const READ_BYTES: usize = 4096;
/// An empty file this old is nobody's any more.
const EMPTY_AGE: Duration = Duration::from_secs(60);
/// Bytes of a `prft` box of version 1 (ISO/IEC 14496-12 8.16.5).
const PRFT_BYTES: usize = 32;

/// What was done about a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovered {
    /// It is whole, or being written, or not ours.
    Untouched,
    /// Its index was made again.
    Rebuilt,
    /// There was no media in it; it is gone.
    Removed,
}

/// Makes the index of a piece again unless it is whole.
pub(super) fn recover(day: &Directory, name: PieceName) -> io::Result<Recovered> {
    let media = day.open_file(&name.media_file())?;
    if is_being_written(&media) {
        return Ok(Recovered::Untouched);
    }
    let media_bytes = media.metadata()?.len();
    let found = read_index(day, name, media_bytes);
    if found.as_ref().is_some_and(|index| index.ended) {
        return Ok(Recovered::Untouched);
    }
    // That one is ours shows even if the media does not reach as far as its own beginning.
    let header = found.map(|index| index.header).or_else(|| read_header(day, name));
    match rebuild(&media, media_bytes, header, name.unix_ms()) {
        Some(mut index) if !index.pairs.is_empty() => {
            index.ended = true;
            write_index(day, name, &index)?;
            Ok(Recovered::Rebuilt)
        }
        // Ours, by its index, or not even begun; anything else is somebody's file. One that was made
        // a moment ago is about to be begun.
        _ if header.is_some() || (media_bytes == 0 && is_older(&media, EMPTY_AGE)) => {
            day.remove_file(&name.media_file())?;
            let _ = day.remove_file(&name.index_file());
            Ok(Recovered::Removed)
        }
        _ => Ok(Recovered::Untouched),
    }
}

fn is_older(media: &File, age: Duration) -> bool {
    let modified = media.metadata().and_then(|meta| meta.modified());
    modified.ok().and_then(|at| at.elapsed().ok()).is_some_and(|since| since > age)
}

fn write_index(day: &Directory, name: PieceName, index: &Index) -> io::Result<()> {
    let new = format!(".{}.new", name.index_file());
    let _ = day.remove_file(&new);
    let mut file = day.create_file(&new)?;
    file.write_all(&index.encode())?;
    file.sync_data()?;
    day.rename(&new, &name.index_file())
}

/// Where the bytes of a piece come from.
pub(super) trait Media {
    /// Fills as much of the buffer as there is from `offset` on.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl Media for File {
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_at_most(self, buffer, offset)
    }
}

/// The index of what is whole in a media file of this server; `None` if that is not even its
/// beginning. What `known` says of session and timeline is kept; a piece without any wall clock
/// in it is taken to begin at `named_unix_ms`.
pub(super) fn rebuild(
    media: &impl Media,
    media_bytes: u64,
    known: Option<Header>,
    named_unix_ms: u64,
) -> Option<Index> {
    let mut scanner = Scanner::new(media_bytes);
    let (mut offset, mut bytes) = (0, Vec::new());
    let mut built: Option<Builder> = None;
    loop {
        match scanner.step(offset, &bytes) {
            Step::Read { offset: wanted, bytes: count } => {
                offset = wanted;
                bytes.resize(count.max(READ_BYTES), 0);
                let read = media.read(&mut bytes, offset).ok()?;
                bytes.truncate(read);
            }
            Step::Movie { offset: at, size } => {
                if built.is_some() {
                    break;
                }
                let mut moov = vec![0; usize::try_from(size).ok()?];
                if media.read(&mut moov, at).ok()? < moov.len() {
                    break;
                }
                let movie = Movie::parse(&Bytes::from(moov), media_bytes).ok()?;
                scanner.set_defaults(&movie.defaults);
                built = Some(Builder::new(&movie, at + size, known, named_unix_ms)?);
            }
            Step::Fragment(found) => {
                let builder = built.as_mut()?;
                if !builder.add(&found, media) || builder.index.pairs.len() >= RECORDS_MAX {
                    break;
                }
            }
            Step::Done { .. } => break,
        }
    }
    built.map(|builder| builder.index)
}

struct Builder {
    index: Index,
    /// The last pair may still get its sound.
    awaits_audio: bool,
}

impl Builder {
    fn new(
        movie: &Movie,
        init_bytes: u64,
        known: Option<Header>,
        named_unix_ms: u64,
    ) -> Option<Self> {
        let timescale = |track: &Option<protocols::container::fmp4::read::MovieTrack>| {
            track.as_ref().map_or(0, |track| track.timescale)
        };
        let unknown = Header { unix_ms: named_unix_ms, ..Header::default() };
        let header = Header {
            init_bytes: u32::try_from(init_bytes).ok()?,
            video_timescale: timescale(&movie.video),
            audio_timescale: timescale(&movie.audio),
            video_delay: 0,
            ..known.unwrap_or(unknown)
        };
        Some(Self { index: Index { header, ..Index::default() }, awaits_audio: false })
    }

    /// Adds a fragment; false when it is not one of ours, or makes no sense after the last.
    fn add(&mut self, found: &FoundFragment, media: &impl Media) -> bool {
        let [track] = found.tracks.as_slice() else { return false };
        let (kind, timescale) = match track.track_id {
            1 => (TrackKind::Video, self.index.header.video_timescale),
            2 => (TrackKind::Audio, self.index.header.audio_timescale),
            _ => return false,
        };
        let inside = |sample: &protocols::container::fmp4::read::FileSample| {
            let end = sample.offset.saturating_add(sample.size.into());
            sample.offset >= found.offset && end <= found.offset + found.size
        };
        if timescale == 0 || track.samples.is_empty() || !track.samples.iter().all(inside) {
            return false;
        }
        let begin = self.index.media_bytes();
        let Some(before) = found.offset.checked_sub(begin) else { return false };
        let Ok(bytes) = u32::try_from(before + found.size) else { return false };
        let duration = u32::try_from(track.duration).unwrap_or(u32::MAX);
        let part = Part { time: track.base_decode_time, duration, bytes };
        let last = self.index.pairs.iter().rev().map(|pair| super::piece::part(pair, kind));
        let last = last.filter(|part| part.bytes > 0).map(|part| part.time).next().unwrap_or(0);
        if part.time < last {
            return false;
        }
        if kind == TrackKind::Audio && self.awaits_audio {
            self.awaits_audio = false;
            if let Some(pair) = self.index.pairs.last_mut() {
                pair.audio = part;
                return true;
            }
        }
        let no_video_yet = self.index.pairs.iter().all(|pair| pair.video.bytes == 0);
        if kind == TrackKind::Video && no_video_yet {
            let delay = track.samples.first().map_or(0, |sample| sample.composition_offset);
            self.index.header.video_delay = u32::try_from(delay).unwrap_or(0);
        }
        let played_ms = super::piece::nanos(part.time, timescale) / 1_000_000;
        let expected = self.index.header.unix_ms.saturating_add_signed(played_ms);
        let mut pair = Pair { offset: begin, ..Pair::default() };
        pair.unix_ms = wall_clock(media, begin, before).unwrap_or(expected);
        pair.keyframe = track.starts_with_keyframe()
            && (kind == TrackKind::Video || self.index.header.video_timescale == 0);
        match kind {
            TrackKind::Video => pair.video = part,
            TrackKind::Audio => pair.audio = part,
        }
        self.awaits_audio = kind == TrackKind::Video;
        self.index.pairs.push(pair);
        true
    }
}

/// The wall clock in the `prft` that stands in front of a pair, as Unix milliseconds.
fn wall_clock(media: &impl Media, offset: u64, before: u64) -> Option<u64> {
    let mut prft = [0; PRFT_BYTES];
    if before < PRFT_BYTES as u64 || media.read(&mut prft, offset).ok()? < PRFT_BYTES {
        return None;
    }
    let ntp = prft.get(16..24).filter(|_| prft.get(4..9) == Some(b"prft\x01"))?;
    unix_ms_of_ntp(u64::from_be_bytes(ntp.try_into().ok()?))
}

/// Unix milliseconds of an NTP time (RFC 5905 6) of this century.
fn unix_ms_of_ntp(ntp: u64) -> Option<u64> {
    const SECONDS_1900_TO_1970: u64 = 2_208_988_800;
    let seconds = ntp >> 32;
    // The era that began in 2036.
    let era = if seconds < SECONDS_1900_TO_1970 { 1 << 32 } else { 0 };
    let seconds = (seconds + era).checked_sub(SECONDS_1900_TO_1970)?;
    let ms = ((ntp & 0xffff_ffff) * 1000 + (1 << 31)) >> 32;
    Some(seconds * 1000 + ms)
}
