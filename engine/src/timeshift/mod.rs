//! Time shift: a live stream played a number of seconds behind live, `?delay=SECONDS`.
//!
//! A stream with a delay is a stream of its own, see [`StreamKey::delayed`]: its owner shard reads
//! what was recorded, or what the segment window holds, as frames, and publishes each when it is
//! due, on the timeline it had. Mirrors, wires, segmenters and viewers are those of any stream, so
//! every output plays it, and one reader serves all who want the same delay. [`Source`] is where
//! the frames come from, [`Schedule`] when they go out; the shard's part is in `shard/shift.rs`.

mod schedule;
mod window;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use protocols::media::StreamKey;

use crate::record::{Follower, Library, Place, Stretch, Unreached};
use crate::shard::Shard;

pub use schedule::{Due, Schedule};
pub use window::Window;

/// Longest delay: a day.
pub const DELAY_S_MAX: u32 = 86_400;
/// Why a delay cannot be one.
pub const BAD_DELAY: &str = "delay is a whole number of seconds, at most 86400";

/// The delay that a query asks for in seconds, 0 without one.
///
/// # Errors
/// It is none; the sentence says what it should be.
pub fn delay_of_query(query: &str) -> Result<u32, &'static str> {
    let Some(text) = query.split('&').find_map(|pair| pair.strip_prefix("delay=")) else {
        return Ok(0);
    };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let delay = text.parse().ok().filter(|delay| digits && *delay <= DELAY_S_MAX);
    delay.ok_or(BAD_DELAY)
}

/// Why a stream cannot be played so late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Nobody publishes it, and nothing of then is recorded.
    NotFound,
    /// It reaches back only so many seconds.
    Reach(u64),
    /// Too many delays are in use on its shard.
    Overloaded,
    /// The owner has not answered in time.
    Late,
}

/// Where the frames of a delayed stream come from.
#[derive(Debug)]
pub enum Source {
    /// The recording; it is away while the disk is waited for.
    Recording(Option<Box<Follower>>),
    /// Segments in memory.
    Window(Box<Window>),
}

impl Source {
    /// Whichever reaches back to where the delay of the stream leads at `now_ms` (Unix
    /// milliseconds); the recording if both do.
    ///
    /// # Errors
    /// Neither does.
    pub async fn open(
        shard: &Rc<RefCell<Shard>>,
        key: &StreamKey,
        now_ms: u64,
    ) -> Result<Self, Refused> {
        let from_ms = now_ms.saturating_sub(u64::from(key.delay_s()) * 1000);
        let config = std::sync::Arc::clone(&shard.borrow().config);
        let live = key.delayed(0);
        let (library, place) =
            (Library::new(&config.record.dir), Place::of(&live, &config.rtmp.rec_app));
        let open = move || Follower::open(&library, &place, from_ms, now_ms);
        let recorded = match glommio::executor().spawn_blocking(open).await {
            Ok(follower) => return Ok(Self::Recording(Some(Box::new(follower)))),
            Err(unreached) => unreached,
        };
        let held = match Window::open(shard, live, from_ms, now_ms).await {
            Ok(window) => return Ok(Self::Window(Box::new(window))),
            Err(Some(unreached)) => unreached,
            Err(None) => return Err(Refused::NotFound),
        };
        let since = [recorded, held].into_iter().filter_map(|unreached| match unreached {
            Unreached::Since(unix_ms) => Some(unix_ms),
            Unreached::Nothing => None,
        });
        let reach_ms = since.min().map_or(0, |since| now_ms.saturating_sub(since));
        Err(Refused::Reach(reach_ms / 1000))
    }

    /// The next stretch, if it is there already.
    ///
    /// # Errors
    /// The recording cannot be read any more.
    pub async fn read_on(&mut self, shard: &Rc<RefCell<Shard>>) -> io::Result<Option<Stretch>> {
        match self {
            Self::Recording(away) => {
                let mut follower = away.take().ok_or(io::ErrorKind::BrokenPipe)?;
                let read = move || {
                    let next = follower.read_on();
                    (follower, next)
                };
                let (follower, next) = glommio::executor().spawn_blocking(read).await;
                *away = Some(follower);
                next
            }
            Self::Window(window) => window.read_on(shard).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_a_whole_number_of_seconds() {
        assert_eq!(delay_of_query(""), Ok(0));
        assert_eq!(delay_of_query("token=x&delay=30"), Ok(30));
        assert_eq!(delay_of_query("delay=0"), Ok(0));
        assert_eq!(delay_of_query("delay=86400"), Ok(86_400));
        for bad in ["", "-1", "+1", "1.5", "x", "86401", "99999999999999999999", "3 ", "%33"] {
            assert_eq!(delay_of_query(&format!("delay={bad}")), Err(BAD_DELAY), "{bad}");
        }
    }
}
