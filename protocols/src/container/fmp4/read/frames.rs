//! Whole fragments in memory back to frames.

use bytes::Bytes;

use super::{MOOF_SAMPLES_MAX, Movie, ReadError, Scanner, Step, Stop};
use crate::container::fmp4::TrackKind;
use crate::media::Frame;

impl Movie {
    /// The frames of the fragments in `bytes`, which are whole and lie one behind the other, in
    /// the order in which they are decoded; of what is decoded at the same time, the earlier
    /// fragment's first. Payloads are slices of `bytes`. Tracks this movie lacks are passed over;
    /// times and kinds are those of [`Movie::frame`].
    ///
    /// # Errors
    /// A fragment is cut short, is no fragment, or points beyond `bytes`; they hold more than
    /// [`MOOF_SAMPLES_MAX`] samples together.
    pub fn frames(&self, bytes: &Bytes) -> Result<Vec<Frame>, ReadError> {
        const BAD: ReadError = ReadError::BadBox(*b"moof");
        let mut scanner = Scanner::new(bytes.len() as u64);
        scanner.set_defaults(&self.defaults);
        let mut frames = Vec::new();
        loop {
            let found = match scanner.step(0, bytes) {
                Step::Fragment(found) => found,
                Step::Movie { .. } => continue,
                Step::Done { stop: Stop::End, .. } => break,
                Step::Done { stop: Stop::Bad(error), .. } => return Err(error),
                // All the bytes there are were given.
                Step::Done { .. } | Step::Read { .. } => return Err(BAD),
            };
            let samples: usize = found.tracks.iter().map(|track| track.samples.len()).sum();
            if frames.len() + samples > MOOF_SAMPLES_MAX as usize {
                return Err(ReadError::TooLarge);
            }
            for track in &found.tracks {
                let Some(kind) = self.kind(track.track_id) else { continue };
                for sample in &track.samples {
                    let start = usize::try_from(sample.offset).map_err(|_| BAD)?;
                    let end = start.checked_add(sample.size as usize).ok_or(BAD)?;
                    if end > bytes.len() {
                        return Err(BAD);
                    }
                    frames.extend(self.frame(kind, sample, bytes.slice(start..end)));
                }
            }
        }
        frames.sort_by_key(|frame| frame.dts);
        Ok(frames)
    }

    fn kind(&self, track_id: u32) -> Option<TrackKind> {
        let is = |track: &Option<super::MovieTrack>| {
            track.as_ref().is_some_and(|track| track.track_id == track_id)
        };
        match (is(&self.video), is(&self.audio)) {
            (true, _) => Some(TrackKind::Video),
            (false, true) => Some(TrackKind::Audio),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::fmp4::tests::{h264_aac, package};
    use crate::container::fmp4::{Selection, VIDEO_TIMESCALE, init_segment};
    use crate::media::FrameKind;

    /// A movie, and the fragments that belong to it.
    fn packaged() -> (Movie, Bytes) {
        let source = h264_aac();
        let file = Bytes::from(package(&source, Selection::Both));
        let init = init_segment(&source.tracks, Selection::Both).unwrap().bytes;
        let at = init.windows(4).position(|name| name == b"moov").unwrap() - 4;
        let movie = Movie::parse(&init.slice(at..), file.len() as u64).unwrap();
        (movie, file.slice(init.len()..))
    }

    #[test]
    fn frames_come_back_from_memory() {
        let source = h264_aac();
        let (movie, fragments) = packaged();
        let frames = movie.frames(&fragments).unwrap();
        assert!(frames.windows(2).all(|pair| pair[0].dts <= pair[1].dts));
        for video in [true, false] {
            let went_in = source.frames.iter().filter(|frame| frame.kind.is_video() == video);
            let went_in: Vec<_> = went_in.filter(|frame| frame.kind != FrameKind::Data).collect();
            let came_out: Vec<_> =
                frames.iter().filter(|frame| frame.kind.is_video() == video).collect();
            assert_eq!(went_in.len(), came_out.len());
            for (one, other) in went_in.iter().zip(&came_out) {
                assert_eq!(one.payload, other.payload);
                assert_eq!(one.kind == FrameKind::Keyframe, other.kind == FrameKind::Keyframe);
                if video {
                    let ticks = |frame: &Frame| frame.pts().to_ticks(VIDEO_TIMESCALE);
                    assert_eq!(ticks(one), ticks(other));
                }
            }
        }
    }

    #[test]
    fn what_is_cut_or_damaged_is_an_error_and_never_a_frame_of_other_bytes() {
        let (movie, fragments) = packaged();
        let whole = movie.frames(&fragments).unwrap().len();
        for cut in 1..fragments.len().min(3000) {
            if let Ok(frames) = movie.frames(&fragments.slice(..cut)) {
                assert!(frames.len() < whole, "{cut}");
            }
        }
        let head = fragments.len().min(600);
        for at in 0..head {
            for xor in [0x01, 0x80, 0xff] {
                let mut damaged = fragments.to_vec();
                damaged[at] ^= xor;
                let damaged = Bytes::from(damaged);
                for frame in movie.frames(&damaged).unwrap_or_default() {
                    let within = damaged.as_ptr_range();
                    let payload = frame.payload.as_ptr_range();
                    assert!(frame.payload.is_empty() || within.start <= payload.start);
                    assert!(frame.payload.is_empty() || payload.end <= within.end);
                }
            }
        }
    }
}
