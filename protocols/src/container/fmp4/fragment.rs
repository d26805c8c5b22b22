//! Fragments: `moof` and `mdat` of one track, written in one pass.

use bytes::{BufMut, Bytes};

use super::TrackKind;
use super::boxes::{put_u32s, write_brands};
use crate::media::FrameKind;

/// Most bytes of payload in a fragment; its box sizes have 32 bits.
pub const FRAGMENT_BYTES_MAX: usize = 1 << 30;
/// Most samples of a fragment, which bounds its `moof`.
pub(super) const FRAGMENT_SAMPLES_MAX: usize = 1 << 20;

/// One access unit as a fragment holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Ticks until the next sample is decoded; more than 0.
    pub duration: u32,
    /// Presentation minus decode time in ticks.
    pub composition_offset: i32,
    /// Dependency class.
    pub kind: FrameKind,
    /// Payload.
    pub payload: Bytes,
}

/// What a fragment says of one access unit whose payload is elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleHead {
    /// Ticks until the next sample is decoded; more than 0.
    pub duration: u32,
    /// Presentation minus decode time in ticks.
    pub composition_offset: i32,
    /// Dependency class.
    pub kind: FrameKind,
    /// Bytes of payload.
    pub bytes: u32,
}

impl Sample {
    fn head(&self) -> SampleHead {
        SampleHead {
            duration: self.duration,
            composition_offset: self.composition_offset,
            kind: self.kind,
            bytes: u32::try_from(self.payload.len()).unwrap_or(u32::MAX),
        }
    }
}

/// What a fragment says of all its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentHead {
    /// The track.
    pub track: TrackKind,
    /// Number of the fragment in its output; greater than that of the fragment before (8.8.5).
    pub sequence_number: u32,
    /// Decode time of the first sample in ticks.
    pub base_decode_time: u64,
    /// Wall-clock time of the first sample as NTP time (see [`ntp_timestamp`]): writes a `prft`
    /// in front.
    pub ntp_timestamp: Option<u64>,
}

/// The samples are more, or larger, than one fragment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("fragment too large")]
pub struct FragmentTooLarge;

/// `sample_flags` (8.8.3.1): what the sample depends on, what depends on it, whether decoding can
/// start at it.
pub(super) const fn sample_flags(kind: FrameKind) -> u32 {
    const DEPENDS_ON_OTHERS: u32 = 1 << 24;
    const DEPENDS_ON_NONE: u32 = 2 << 24;
    const NONE_DEPENDS_ON_IT: u32 = 2 << 22;
    match kind {
        FrameKind::Keyframe | FrameKind::Audio | FrameKind::Data => DEPENDS_ON_NONE,
        FrameKind::Inter => DEPENDS_ON_OTHERS | NON_SYNC,
        FrameKind::Disposable => DEPENDS_ON_OTHERS | NONE_DEPENDS_ON_IT | NON_SYNC,
    }
}

/// `sample_is_non_sync_sample`.
pub(super) const NON_SYNC: u32 = 1 << 16;

// Flags of `tfhd` (8.8.7.1) and `trun` (8.8.8.1).
pub(super) const TFHD_DEFAULT_DURATION: u32 = 0x08;
pub(super) const TFHD_DEFAULT_FLAGS: u32 = 0x20;
pub(super) const TFHD_BASE_IS_MOOF: u32 = 0x02_0000;
pub(super) const TRUN_DATA_OFFSET: u32 = 0x01;
pub(super) const TRUN_DURATION: u32 = 0x100;
pub(super) const TRUN_SIZE: u32 = 0x200;
pub(super) const TRUN_FLAGS: u32 = 0x400;
pub(super) const TRUN_COMPOSITION_OFFSET: u32 = 0x800;

/// Appends the fragment of these samples; nothing if there are none.
///
/// Fields that are the same for all samples are written once: the duration if it is, the
/// composition offsets if all are 0, and the flags of sound.
///
/// # Errors
/// More than [`FRAGMENT_BYTES_MAX`] of payload, or more samples than a `moof` holds; nothing is
/// appended.
pub fn write_fragment(
    out: &mut Vec<u8>,
    head: &FragmentHead,
    samples: &[Sample],
) -> Result<(), FragmentTooLarge> {
    let media_bytes: usize = samples.iter().map(|sample| sample.payload.len()).sum();
    if media_bytes <= FRAGMENT_BYTES_MAX {
        // For the head and the payload at once.
        out.reserve(256 + samples.len().min(FRAGMENT_SAMPLES_MAX) * 16 + media_bytes);
    }
    write_fragment_head(out, head, samples.iter().map(Sample::head))?;
    for sample in samples {
        out.put_slice(&sample.payload);
    }
    Ok(())
}

/// As [`write_fragment`], but leaves out the payload: the fragment is whole once the payloads of
/// the samples follow what is appended, in their order and without anything between them.
///
/// # Errors
/// As there.
pub fn write_fragment_head(
    out: &mut Vec<u8>,
    head: &FragmentHead,
    samples: impl ExactSizeIterator<Item = SampleHead> + Clone,
) -> Result<(), FragmentTooLarge> {
    let Some(first) = samples.clone().next() else { return Ok(()) };
    let count = samples.len();
    let media_bytes = samples
        .clone()
        .try_fold(0usize, |sum, sample| sum.checked_add(sample.bytes as usize))
        .filter(|sum| *sum <= FRAGMENT_BYTES_MAX && count <= FRAGMENT_SAMPLES_MAX)
        .ok_or(FragmentTooLarge)?;

    let (tfhd, trun) = field_flags(head.track, first.duration, samples.clone());
    let same_duration = tfhd & TFHD_DEFAULT_DURATION != 0;
    let sample_bytes = 4 * (trun >> 8 & 0x0f).count_ones() as usize;
    let tfhd_bytes = if same_duration { 24 } else { 20 };
    let trun_bytes = 20 + count * sample_bytes;
    let traf_bytes = 8 + tfhd_bytes + 20 + trun_bytes;
    let moof_bytes = 8 + 16 + traf_bytes;

    out.reserve(32 + moof_bytes + 8);
    if let Some(ntp_timestamp) = head.ntp_timestamp {
        write_reference_time(out, head, ntp_timestamp);
    }
    put_header(out, moof_bytes, b"moof");
    put_header(out, 16, b"mfhd");
    put_u32s(out, &[0, head.sequence_number]);
    put_header(out, traf_bytes, b"traf");
    put_header(out, tfhd_bytes, b"tfhd");
    put_u32s(out, &[tfhd, head.track.id()]);
    if same_duration {
        out.put_u32(first.duration);
    }
    out.put_u32(head.track.default_flags());
    put_header(out, 20, b"tfdt");
    out.put_u32(1 << 24);
    out.put_u64(head.base_decode_time);
    put_header(out, trun_bytes, b"trun");
    // Version 1: composition offsets are signed. The data begins behind the header of `mdat`.
    put_u32s(out, &[1 << 24 | trun, field(count), field(moof_bytes + 8)]);
    for sample in samples {
        if trun & TRUN_DURATION != 0 {
            out.put_u32(sample.duration);
        }
        out.put_u32(sample.bytes);
        if trun & TRUN_FLAGS != 0 {
            out.put_u32(sample_flags(sample.kind));
        }
        if trun & TRUN_COMPOSITION_OFFSET != 0 {
            out.put_i32(sample.composition_offset);
        }
    }
    put_header(out, 8 + media_bytes, b"mdat");
    Ok(())
}

/// Which fields `tfhd` and `trun` hold.
fn field_flags(
    track: TrackKind,
    duration: u32,
    samples: impl Iterator<Item = SampleHead> + Clone,
) -> (u32, u32) {
    let mut tfhd = TFHD_BASE_IS_MOOF | TFHD_DEFAULT_FLAGS;
    let mut trun = TRUN_DATA_OFFSET | TRUN_SIZE;
    if samples.clone().all(|sample| sample.duration == duration) {
        tfhd |= TFHD_DEFAULT_DURATION;
    } else {
        trun |= TRUN_DURATION;
    }
    if track == TrackKind::Video {
        trun |= TRUN_FLAGS;
    }
    let mut samples = samples;
    if samples.any(|sample| sample.composition_offset != 0) {
        trun |= TRUN_COMPOSITION_OFFSET;
    }
    (tfhd, trun)
}

fn put_header(out: &mut Vec<u8>, bytes: usize, name: &[u8; 4]) {
    out.put_u32(field(bytes));
    out.put_slice(name);
}

/// Everything measured here lies below [`FRAGMENT_BYTES_MAX`] and the size of a `moof`.
fn field(value: usize) -> u32 {
    debug_assert!(u32::try_from(value).is_ok());
    value as u32
}

/// `prft` (8.16.5): when the sample at the front of the fragment was received.
fn write_reference_time(out: &mut Vec<u8>, head: &FragmentHead, ntp_timestamp: u64) {
    // The server's clock, consistent over the tracks of the stream; not the camera's.
    const CONSISTENT: u32 = 8;
    put_header(out, 32, b"prft");
    put_u32s(out, &[1 << 24 | CONSISTENT, head.track.id()]);
    out.put_u64(ntp_timestamp);
    out.put_u64(head.base_decode_time);
}

/// NTP time of nanoseconds since 1970: seconds since 1900 in the upper half, their fraction in the
/// lower (RFC 5905 6); wraps in 2036 as NTP does.
pub fn ntp_timestamp(unix_nanos: u64) -> u64 {
    const SECONDS_1900_TO_1970: u64 = 2_208_988_800;
    const NANOS: u64 = 1_000_000_000;
    let seconds = (unix_nanos / NANOS).wrapping_add(SECONDS_1900_TO_1970);
    let fraction = ((unix_nanos % NANOS) << 32) / NANOS;
    seconds << 32 | fraction
}

/// Appends the `styp` that goes before the first fragment of a segment of one track (DASH; CMAF
/// 7.3.3.1). HLS needs none.
pub fn write_segment_type(out: &mut Vec<u8>) {
    write_brands(out, b"styp", &[*b"msdh", *b"cmfs"]);
}
