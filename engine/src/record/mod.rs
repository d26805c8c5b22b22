//! Recordings: from a live stream to files, and from files to what a player asks for.
//!
//! ```text
//! owner shard:  stream ──▶ Recorder ──bounded queue──▶ writer (task of its own queue) ──▶ files
//! HTTP task:    URL ──▶ Library (names, indexes) ──▶ playlist, manifest, or bytes of files
//! time shift:   Library ──▶ Follower (index, file) ──▶ frames, while they are being recorded
//! own thread:   recovery at the start, then retention
//! ```
//!
//! # On disk
//! `DIR/VHOST/NAME/YYYY-MM-DD/hh-mm-ss.mp4`, local time, `default` for the default vhost: a piece
//! is an initialisation segment of both tracks and then, about once a second, the fragment of
//! video and the fragment of sound of that second, a *pair*. It plays as it is. Beside it lies
//! `hh-mm-ss.idx` with a record of 64 bytes per pair, see `index.rs`: whatever is played is found
//! by it. The time of a piece begins at 0; where that lies on the wall clock stands in the index,
//! and in the media too (`prft`), so that the index can be made again.
//!
//! # What can go wrong
//! Nothing here waits or stops a stream. A disk that is full, slow, read-only or gone makes a gap
//! that is counted, logged once a minute, and marked in the index; recording goes on at the next
//! keyframe once the queue has room, or in a new piece after a pause when the file cannot be
//! written. A process that is killed loses the pair in the making. Bytes that were written in part
//! are never played: nothing is believed that the index does not cover, and the index is checked
//! against the file.

mod disk;
mod follow;
mod hub;
mod index;
mod join;
mod library;
mod manifest;
mod name;
mod piece;
mod playlist;
mod queue;
mod recorder;
mod recovery;
mod retention;
mod segment;
mod tally;
#[cfg(test)]
mod tests;
mod upkeep;
mod writer;

pub use follow::{Follower, Stretch, Unreached};
pub use hub::Hub;
pub use join::{JoinError, Joined, JoinedPart, Patch, Shift, join};
pub use library::{Library, LoadError};
pub use manifest::manifest;
pub use name::{DEFAULT_VHOST, PieceName, Place, day_text, looks_like_day, parse_day, parse_time};
pub(crate) use piece::read_at_most;
pub use piece::{Piece, Span, movie_of_init};
pub use playlist::{Tail, playlist};
pub use recorder::Recorder;
pub use segment::Segment;
pub use tally::{Counts, Finished, GapReason};
pub use upkeep::{Upkeep, UpkeepCounts};
