//! Segments and parts of live streams: muxed once on the owner shard of a stream, while somebody
//! asks, and read by every shard from the same immutable snapshots.
//!
//! A [`Segmenter`] takes the items of a stream and cuts them. Every change makes a new
//! [`Snapshot`], which goes to each shard that has been asked for the stream; playlists and
//! manifests are views of it ([`playlist`], [`manifest`]). Two packagings exist side by side, each
//! made only while it is wanted: transport stream segments, and CMAF, whose fragments serve HLS,
//! low-latency HLS, DASH and low-latency DASH alike.

mod cmaf;
mod cut;
pub mod files;
pub mod manifest;
pub mod playlist;
pub mod rendition;
mod segmenter;
mod store;
#[cfg(test)]
mod tests;
mod transport;

pub use segmenter::{Options, Segmenter};
pub use store::{Era, Init, Packaging, Part, Piece, Segment, Snapshot, Targets, Track};
