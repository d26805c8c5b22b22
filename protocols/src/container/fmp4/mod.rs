//! Fragmented MP4: one set of fragments for HLS, DASH, live `.mp4` and recordings; and a reader of
//! fragmented and progressive files.
//!
//! | specification | done |
//! | ------------- | ---- |
//! | ISO/IEC 14496-12:2022 8.1 to 8.7 | `ftyp`, `moov` without samples; read: also with |
//! | ISO/IEC 14496-12:2022 8.8, 8.16 | `moof`, `mdat`, `styp`, `prft`, `sidx`, `mfra` |
//! | ISO/IEC 23000-19 (CMAF) 7.3 | headers, chunks and segments of one track |
//! | ISO/IEC 14496-14, 14496-15 | `mp4a` (AAC, MP3), `avc1`, `hvc1`, `hev1` |
//! | AV1 in ISOBMFF 1.2; VP binding 1.0 | `av01`, `vp08`, `vp09` |
//! | Opus, FLAC in ISOBMFF; ETSI TS 102 366 F | `Opus`, `fLaC`, `ac-3`, `ec-3` |
//! | QuickTime File Format | `alaw`, `ulaw`; read: sound descriptions 1 and 2, `wave` |
//!
//! # Shape
//! Video is track 1 and sound is track 2, always. A fragment is one `moof` and one `mdat` of
//! exactly one track. A multiplexed output is the initialisation segment of both tracks followed
//! by video and sound fragments in turn; an output of one track is that track's own initialisation
//! segment followed by its fragments. The fragments are the same bytes in each.
//!
//! Tolerated when reading: no `tfdt` (times continue), signed offsets in `ctts` version 0, several
//! sample descriptions (the first counts), edits after the first, unknown boxes. Not read: `stz2`,
//! encryption, data in other files, sample tables of single G.711 samples. Not written: edit lists,
//! encryption, pixel aspect and colour boxes (decoders read them from the parameter sets).

mod boxes;
mod builder;
mod fragment;
pub mod fuzzing;
mod index;
mod init;
mod join;
pub mod read;
mod sample_entry;

pub use builder::{BuilderCounts, Fragment, FragmentBuilder};
pub use fragment::{
    FRAGMENT_BYTES_MAX, FragmentHead, FragmentTooLarge, Sample, SampleHead, ntp_timestamp,
    write_fragment, write_fragment_head, write_segment_type,
};
pub use index::{
    RandomAccessPoint, SegmentIndex, SegmentReference, write_random_access, write_segment_index,
};
pub use init::{Init, LeftOut, NothingCarried, Reason, Selection, codecs, init_segment};
pub use join::{Joined, join_fragments};

use crate::media::{AudioInfo, FrameKind, Track};

/// Ticks per second of every video track: the frame intervals of all broadcast rates are whole.
pub const VIDEO_TIMESCALE: u32 = 90_000;

/// Ticks per second of a sound track: its sample rate, so that every frame has a whole duration.
pub fn audio_timescale(track: &Track<AudioInfo>) -> u32 {
    match track.info.sample_rate {
        0 => 48_000,
        sample_rate => sample_rate,
    }
}

/// Which of the two tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrackKind {
    /// The pictures.
    Video,
    /// The sound.
    Audio,
}

impl TrackKind {
    /// The `track_ID`.
    pub const fn id(self) -> u32 {
        match self {
            Self::Video => 1,
            Self::Audio => 2,
        }
    }

    /// The track a frame belongs to; `None` for timed data, which has none.
    pub const fn of(kind: FrameKind) -> Option<Self> {
        match kind {
            FrameKind::Keyframe | FrameKind::Inter | FrameKind::Disposable => Some(Self::Video),
            FrameKind::Audio => Some(Self::Audio),
            FrameKind::Data => None,
        }
    }

    /// The `sample_flags` a sample has unless it says otherwise (8.8.3.1).
    const fn default_flags(self) -> u32 {
        match self {
            Self::Video => fragment::sample_flags(FrameKind::Inter),
            Self::Audio => fragment::sample_flags(FrameKind::Audio),
        }
    }
}

#[cfg(test)]
mod builder_tests;
#[cfg(test)]
mod tests;
