//! The neutral media model every protocol is translated to and from: keys, tracks, frames, time.

mod frame;
mod key;
mod time;
mod track;

pub use frame::{Frame, FrameKind};
pub use key::{KeyError, StreamKey};
pub use time::Timestamp;
pub use track::{AudioInfo, Codec, MetaValue, Metadata, Track, Tracks, VideoInfo};
