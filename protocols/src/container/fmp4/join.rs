//! Two fragments of one track each as one fragment of both, without touching their payload: some
//! players of muxed media expect the tracks of a moment in one `moof`.

use std::ops::Range;

use bytes::BufMut;

use super::boxes::put_u32s;

/// A joined fragment: `head`, then the payload of the first fragment, then that of the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// `moof` of both tracks and the header of `mdat`.
    pub head: Vec<u8>,
    /// Where the payload is in the first fragment.
    pub first: Range<usize>,
    /// Where the payload is in the second.
    pub second: Range<usize>,
}

/// The parts of a fragment as [`super::write_fragment`] writes it.
struct Parts<'a> {
    mfhd: &'a [u8],
    traf: &'a [u8],
    payload: Range<usize>,
}

/// Joins two fragments of different tracks that [`super::write_fragment`] has written; `None` for
/// anything else. The sequence number is that of the first; a `prft` is left out.
pub fn join_fragments(first: &[u8], second: &[u8]) -> Option<Joined> {
    let (one, other) = (parts(first)?, parts(second)?);
    let moof_bytes = 8 + one.mfhd.len() + one.traf.len() + other.traf.len();
    let media_bytes = one.payload.len() + other.payload.len();
    let mut head = Vec::with_capacity(moof_bytes + 8);
    put_u32s(&mut head, &[u32::try_from(moof_bytes).ok()?, u32::from_be_bytes(*b"moof")]);
    head.put_slice(one.mfhd);
    let data_at = u32::try_from(moof_bytes + 8).ok()?;
    put_traf(&mut head, one.traf, data_at)?;
    put_traf(&mut head, other.traf, data_at + u32::try_from(one.payload.len()).ok()?)?;
    put_u32s(&mut head, &[u32::try_from(8 + media_bytes).ok()?, u32::from_be_bytes(*b"mdat")]);
    Some(Joined { head, first: one.payload, second: other.payload })
}

/// The next box: name, content, and where it ends.
fn next_box(bytes: &[u8], at: usize) -> Option<([u8; 4], Range<usize>)> {
    let head = bytes.get(at..at.checked_add(8)?)?;
    let (size, name) = head.split_first_chunk::<4>()?;
    let size = u32::from_be_bytes(*size) as usize;
    let end = at.checked_add(size).filter(|end| size >= 8 && *end <= bytes.len())?;
    Some((name.try_into().ok()?, at + 8..end))
}

fn parts(fragment: &[u8]) -> Option<Parts<'_>> {
    let (mut name, mut content) = next_box(fragment, 0)?;
    if &name == b"prft" {
        (name, content) = next_box(fragment, content.end)?;
    }
    let (mdat, payload) = next_box(fragment, content.end)?;
    let (mfhd, mfhd_content) = next_box(fragment, content.start)?;
    let (traf, traf_content) = next_box(fragment, mfhd_content.end)?;
    let named = (&name, &mdat, &mfhd, &traf) == (b"moof", b"mdat", b"mfhd", b"traf");
    let whole = traf_content.end == content.end && payload.end == fragment.len();
    (named && whole).then(|| Parts {
        mfhd: &fragment[content.start..mfhd_content.end],
        traf: &fragment[mfhd_content.end..traf_content.end],
        payload,
    })
}

/// Copies a `traf` with one `trun` whose data begins elsewhere.
fn put_traf(out: &mut Vec<u8>, traf: &[u8], data_offset: u32) -> Option<()> {
    let mut at = 8;
    loop {
        let (name, content) = next_box(traf, at)?;
        if &name == b"trun" {
            // Flags and sample count stand before the offset (8.8.8.2).
            let offset_at = content.start + 8;
            out.put_slice(traf.get(..offset_at)?);
            out.put_u32(data_offset);
            out.put_slice(traf.get(offset_at + 4..)?);
            return Some(());
        }
        at = content.end;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FragmentHead, Sample, TrackKind, read, write_fragment};
    use super::*;
    use crate::media::FrameKind;
    use bytes::Bytes;

    fn fragment(track: TrackKind, kind: FrameKind, fill: u8, count: u32) -> Vec<u8> {
        let samples: Vec<_> = (0..count)
            .map(|n| Sample {
                duration: 10 + n,
                composition_offset: if track == TrackKind::Video { n as i32 } else { 0 },
                kind,
                payload: Bytes::from(vec![fill; 5 + n as usize]),
            })
            .collect();
        let ntp_timestamp = Some(1);
        let head =
            FragmentHead { track, sequence_number: 7, base_decode_time: 1000, ntp_timestamp };
        let mut out = Vec::new();
        write_fragment(&mut out, &head, &samples).unwrap();
        out
    }

    #[test]
    fn both_tracks_find_their_payload() {
        let video = fragment(TrackKind::Video, FrameKind::Keyframe, 1, 3);
        let audio = fragment(TrackKind::Audio, FrameKind::Audio, 2, 2);
        let joined = join_fragments(&video, &audio).unwrap();
        let bytes = [&joined.head[..], &video[joined.first.clone()], &audio[joined.second.clone()]]
            .concat();
        let mut scanner = read::Scanner::new(bytes.len() as u64);
        let (mut found, mut at) = (None, (0, 0));
        loop {
            let window = &bytes[at.0..at.0 + at.1];
            match scanner.step(at.0 as u64, window) {
                read::Step::Read { offset, bytes: count } => {
                    at = (offset as usize, count.min(bytes.len() - offset as usize));
                }
                read::Step::Fragment(fragment) => found = Some(fragment),
                read::Step::Movie { .. } => panic!("no movie here"),
                read::Step::Done { whole_bytes, .. } => {
                    assert_eq!(whole_bytes, bytes.len() as u64);
                    break;
                }
            }
        }
        let tracks = found.unwrap().tracks;
        assert_eq!(tracks.len(), 2);
        for (track, fill) in tracks.iter().zip([1, 2]) {
            for sample in &track.samples {
                let start = sample.offset as usize;
                let payload = &bytes[start..start + sample.size as usize];
                assert!(payload.iter().all(|byte| *byte == fill), "{payload:?}");
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let video = fragment(TrackKind::Video, FrameKind::Keyframe, 1, 3);
        for cut in 0..video.len() {
            assert_eq!(join_fragments(&video[..cut], &video), None);
        }
        assert_eq!(join_fragments(&[video.clone(), video.clone()].concat(), &video), None);
    }
}
