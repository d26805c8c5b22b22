//! Initialisation segments: `ftyp` and a `moov` without samples.

use bytes::{BufMut, Bytes};

use super::boxes::{put_u16s, put_u32s, write_box, write_brands, write_full_box, write_plain};
use super::sample_entry::{self, SampleEntry};
use super::{TrackKind, VIDEO_TIMESCALE, audio_timescale};
use crate::codec::ConfigError;
use crate::codec::rfc6381::{self, Manifest};
use crate::media::{Codec, Tracks};

/// Which tracks an output has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Selection {
    /// Video and sound, in turn in one file.
    Both,
    /// Video alone.
    Video,
    /// Sound alone.
    Audio,
}

impl Selection {
    /// The selection holds the track.
    pub const fn contains(self, track: TrackKind) -> bool {
        match self {
            Self::Both => true,
            Self::Video => matches!(track, TrackKind::Video),
            Self::Audio => matches!(track, TrackKind::Audio),
        }
    }
}

/// Why a track is not in an initialisation segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// MP4 has no form of the codec.
    #[error("MP4 does not carry the codec")]
    Codec,
    /// The codec needs a configuration record and there is none.
    #[error("no configuration was seen")]
    NoConfig,
    /// The configuration record cannot be used.
    #[error("{0}")]
    BadConfig(#[from] ConfigError),
    /// The sample rate is not known, which is the timescale.
    #[error("the sample rate is not known")]
    NoSampleRate,
}

/// A track that is not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    /// Its codec.
    pub codec: Codec,
    /// Why.
    pub reason: Reason,
}

/// An initialisation segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// `ftyp` and `moov`.
    pub bytes: Bytes,
    /// The tracks in it. Fragments of no other may follow: readers stop at one of a track they do
    /// not know.
    pub carried: Selection,
    /// The tracks that were selected and exist but are not carried.
    pub left_out: Vec<LeftOut>,
}

/// None of the selected tracks exists and can be carried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no track that MP4 carries")]
pub struct NothingCarried {
    /// The tracks that were selected and exist.
    pub left_out: Vec<LeftOut>,
}

/// The initialisation segment of the selected tracks.
///
/// # Errors
/// No selected track can be carried.
pub fn init_segment(tracks: &Tracks, selection: Selection) -> Result<Init, NothingCarried> {
    let (entries, left_out) = sample_entries(tracks, selection);
    if entries.is_empty() {
        return Err(NothingCarried { left_out });
    }
    let carried = match entries.first().filter(|_| entries.len() == 1).map(|entry| entry.track) {
        None => Selection::Both,
        Some(TrackKind::Video) => Selection::Video,
        Some(TrackKind::Audio) => Selection::Audio,
    };
    let mut bytes = Vec::with_capacity(2048);
    let av1 = entries.iter().any(|entry| entry.name == *b"av01");
    // A CMAF header has one track (CMAF 7.3.1).
    let cmaf = carried != Selection::Both;
    let brands = [(true, *b"iso6"), (true, *b"mp41"), (cmaf, *b"cmfc"), (av1, *b"av01")];
    let brands: Vec<_> = brands.iter().filter(|(set, _)| *set).map(|(_, brand)| *brand).collect();
    write_brands(&mut bytes, b"ftyp", &brands);
    write_box(&mut bytes, b"moov", |out| {
        write_movie_header(out);
        for entry in &entries {
            write_track(out, entry);
        }
        write_box(out, b"mvex", |out| {
            for entry in &entries {
                write_track_extends(out, entry.track);
            }
        });
    });
    Ok(Init { bytes: bytes.into(), carried, left_out })
}

/// The `codecs` parameter of the selected tracks that [`init_segment`] carries, separated by
/// commas; empty if it carries none.
pub fn codecs(tracks: &Tracks, selection: Selection, manifest: Manifest) -> String {
    let (entries, _) = sample_entries(tracks, selection);
    let names = entries.iter().filter_map(|entry| match entry.track {
        TrackKind::Video => rfc6381::video(tracks.video.as_ref()?),
        TrackKind::Audio => rfc6381::audio(tracks.audio.as_ref()?, manifest),
    });
    names.collect::<Vec<_>>().join(",")
}

fn sample_entries(tracks: &Tracks, selection: Selection) -> (Vec<SampleEntry>, Vec<LeftOut>) {
    let (mut entries, mut left_out) = (Vec::new(), Vec::new());
    let video = tracks.video.as_ref().filter(|_| selection.contains(TrackKind::Video));
    let audio = tracks.audio.as_ref().filter(|_| selection.contains(TrackKind::Audio));
    let video = video.map(|track| (track.codec, sample_entry::video(track, VIDEO_TIMESCALE)));
    let audio =
        audio.map(|track| (track.codec, sample_entry::audio(track, audio_timescale(track))));
    for (codec, entry) in [video, audio].into_iter().flatten() {
        match entry {
            Ok(entry) => entries.push(entry),
            Err(reason) => left_out.push(LeftOut { codec, reason }),
        }
    }
    (entries, left_out)
}

/// The unity matrix of movie and track headers (6.2.2).
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
/// "und" as three times five bits.
const LANGUAGE_UNDETERMINED: u16 = 0x55c4;

fn write_movie_header(out: &mut Vec<u8>) {
    write_full_box(out, b"mvhd", 0, 0, |out| {
        // No creation time, no modification time, a timescale nothing here is measured in, and
        // no duration: that of the fragments counts.
        put_u32s(out, &[0, 0, 1000, 0, 0x0001_0000]);
        out.put_u16(0x0100);
        out.put_bytes(0, 10);
        put_u32s(out, &MATRIX);
        out.put_bytes(0, 24);
        out.put_u32(TrackKind::Audio.id() + 1);
    });
}

fn write_track(out: &mut Vec<u8>, entry: &SampleEntry) {
    let video = entry.track == TrackKind::Video;
    write_box(out, b"trak", |out| {
        // Enabled, in the movie, in its preview.
        write_full_box(out, b"tkhd", 0, 7, |out| {
            put_u32s(out, &[0, 0, entry.track.id(), 0, 0, 0, 0]);
            put_u16s(out, &[0, 0, if video { 0 } else { 0x0100 }, 0]);
            put_u32s(out, &MATRIX);
            put_u32s(out, &[entry.width, entry.height].map(|edge| u32::from(edge) << 16));
        });
        write_box(out, b"mdia", |out| {
            write_full_box(out, b"mdhd", 0, 0, |out| {
                put_u32s(out, &[0, 0, entry.timescale, 0]);
                put_u16s(out, &[LANGUAGE_UNDETERMINED, 0]);
            });
            write_full_box(out, b"hdlr", 0, 0, |out| {
                out.put_u32(0);
                out.put_slice(if video { b"vide" } else { b"soun" });
                out.put_bytes(0, 12);
                out.put_slice(if video { b"VideoHandler\0" } else { b"SoundHandler\0" });
            });
            write_box(out, b"minf", |out| {
                if video {
                    write_full_box(out, b"vmhd", 0, 1, |out| out.put_bytes(0, 8));
                } else {
                    write_plain(out, b"smhd", &[0; 4]);
                }
                write_box(out, b"dinf", |out| {
                    write_full_box(out, b"dref", 0, 0, |out| {
                        out.put_u32(1);
                        // The media is in this file.
                        write_full_box(out, b"url ", 0, 1, |_| {});
                    });
                });
                write_sample_table(out, entry);
            });
        });
    });
}

/// The sample description, and the mandatory tables with nothing in them.
fn write_sample_table(out: &mut Vec<u8>, entry: &SampleEntry) {
    write_box(out, b"stbl", |out| {
        write_full_box(out, b"stsd", 0, 0, |out| {
            out.put_u32(1);
            write_box(out, &entry.name, |out| out.put_slice(&entry.body));
        });
        write_plain(out, b"stts", &[0; 4]);
        write_plain(out, b"stsc", &[0; 4]);
        write_plain(out, b"stsz", &[0; 8]);
        write_plain(out, b"stco", &[0; 4]);
    });
}

fn write_track_extends(out: &mut Vec<u8>, track: TrackKind) {
    write_full_box(out, b"trex", 0, 0, |out| {
        // Sample description 1, no default duration, no default size.
        put_u32s(out, &[track.id(), 1, 0, 0, track.default_flags()]);
    });
}
