//! Unwraps the 32-bit millisecond timestamps of FLV tags, in files and RTMP messages, into 64-bit
//! media time.

use super::TagType;
use crate::media::Timestamp;

/// The timeline of one byte stream, or of one direction of a connection (RTMP 1.0, 5.3.1: timestamps
/// roll over).
///
/// A tag nearer than 2^31 ms in either direction is taken to be there: small backward steps
/// (audio interleaved late) stay backward steps, a jump back by more than 2^31 is a roll-over.
/// Nothing else is normalised.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeline {
    last: Option<i64>,
}

impl Timeline {
    /// The 64-bit time of the next tag. Script data, which many senders stamp 0 at any time, is
    /// placed and is no step.
    pub fn of_tag(&mut self, tag: TagType, millis: u32) -> Timestamp {
        if tag == TagType::Script { self.nearest(millis) } else { self.unwrap(millis) }
    }

    /// The 64-bit time of the next tag of media.
    pub fn unwrap(&mut self, millis: u32) -> Timestamp {
        let time = self.nearest(millis);
        self.last = Some(time.to_millis());
        time
    }

    /// The 64-bit time of a tag that is no step of the timeline.
    pub fn nearest(&self, millis: u32) -> Timestamp {
        Timestamp::from_millis(match self.last {
            None => i64::from(millis),
            Some(last) => {
                // Truncation keeps the low 32 bits: the position of `last` on the 32-bit circle.
                let step = millis.wrapping_sub(last as u32).cast_signed();
                last.saturating_add(i64::from(step))
            }
        })
    }

    /// The 32-bit form of a time, as it goes on the wire.
    pub fn wrap(time: Timestamp) -> u32 {
        time.to_millis() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwrapped(millis: &[u32]) -> Vec<i64> {
        let mut timeline = Timeline::default();
        millis.iter().map(|&value| timeline.unwrap(value).to_millis()).collect()
    }

    #[test]
    fn rolls_over_at_two_to_the_32() {
        assert_eq!(
            unwrapped(&[0xFFFF_FFF0, 4, 0xFFFF_FFFE, 20]),
            [0xFFFF_FFF0, 0x1_0000_0004, 0xFFFF_FFFE, 0x1_0000_0014]
        );
    }

    #[test]
    fn is_continuous_at_two_to_the_24_and_31() {
        assert_eq!(
            unwrapped(&[0xFF_FFFE, 0xFF_FFFF, 0x100_0000]),
            [0xFF_FFFE, 0xFF_FFFF, 0x100_0000]
        );
        assert_eq!(unwrapped(&[0x7FFF_FFFF, 0x8000_0001]), [0x7FFF_FFFF, 0x8000_0001]);
    }

    #[test]
    fn small_steps_back_stay_steps_back() {
        assert_eq!(unwrapped(&[100, 60, 0, 0xFFFF_FFFF]), [100, 60, 0, -1]);
        assert_eq!(unwrapped(&[5_000, 0, 40]), [5_000, 0, 40]);
    }

    #[test]
    fn wrap_undoes_unwrap() {
        let mut timeline = Timeline::default();
        for millis in [0xFFFF_FFF0, 4, 90_000, 0x7000_0000, 0xF000_0000, 1] {
            assert_eq!(Timeline::wrap(timeline.unwrap(millis)), millis);
        }
    }
}
