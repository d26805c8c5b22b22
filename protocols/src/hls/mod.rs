//! HLS: media and multivariant playlists as text, and the delivery directives of low latency.
//! Plain data in, text out: what the playlist says is the caller's, how it is said is decided here.
//!
//! | specification | done |
//! | ------------- | ---- |
//! | draft-pantos-hls-rfc8216bis 4.4.1-4.4.3 | all but `EXT-X-DEFINE`, `EXT-X-I-FRAMES-ONLY` |
//! | 4.4.4 | segments, parts, `MAP`, `GAP`, byte ranges; no `KEY`, no `BITRATE` |
//! | 4.4.5 | `SKIP`, `PRELOAD-HINT`, `RENDITION-REPORT`; no `DATERANGE` |
//! | 4.4.6 | `STREAM-INF`, `MEDIA` of audio |
//! | 6.2.1, 6.2.2 | sliding window, discontinuity sequence, three target durations kept |
//! | 6.2.5 | `_HLS_msn`, `_HLS_part`, `_HLS_skip` |
//!
//! Tolerated: `_HLS_` directives unknown to this server, and an unknown value of `_HLS_skip`, are
//! ignored (the full playlist is always a right answer). Written although nothing demands it:
//! `EXT-X-MAP` after `EXT-X-SKIP`, for clients that do not carry it over from the older playlist.

mod delivery;
mod media;
mod multivariant;
mod render;

pub use delivery::{
    Decision, DirectiveError, Directives, LiveEdge, WAIT_TARGET_DURATIONS_MAX, decide,
    without_directives,
};
pub use media::{
    ByteRange, Kind, LowLatency, Map, MediaPlaylist, OpenSegment, Part, RenditionReport, Segment,
    SegmentHead,
};
pub use multivariant::{AudioRendition, MultivariantPlaylist, Variant};

/// The media type of both kinds of playlist (4).
pub const MEDIA_TYPE: &str = "application/vnd.apple.mpegurl";

#[cfg(test)]
mod tests;
