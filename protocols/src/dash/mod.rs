//! DASH: media presentation descriptions (MPD) as text. Plain data in, text out.
//!
//! | specification | done |
//! | ------------- | ---- |
//! | ISO/IEC 23009-1:2022 5.3 | periods, adaptation sets, representations |
//! | 5.3.9 | templates with numbers or a timeline, lists of byte ranges; no single index |
//! | 5.8.4.11 | UTC timing: direct, http-iso |
//! | annex K | service description: latency, playback rate |
//! | 5.12 | producer reference time |
//! | DASH-IF low latency (IOP part 4 annex) | time offset, incomplete availability |
//!
//! # Numbers or a timeline
//! [`Addressing::Numbers`] (`$Number$` and one duration) is the form for live streams whose
//! segments are of one length, low latency above all: a player finds the segment in the making by
//! the clock, without a new MPD per segment. dash.js 5 and Shaka 5 derive the live edge from it,
//! and it is the only live form ffmpeg plays: its demuxer never waits for a segment, so the server has
//! to hold a request for the next one, and with a timeline it restarts the window at each update
//! (`$Number$`), or asks for the last segment over and over (`$Time$`); seen with ffmpeg 5.1. It
//! reads one period only, and takes its start for that of the presentation.
//!
//! [`Addressing::Timeline`] is for segments of different length and for recordings. Its template
//! uses `$Number$` too: one name per segment in both forms, known while the segment is being made.
//! A segment in the making may be announced with the longest it can become, never less: Shaka
//! takes a segment whose end has moved for a new one, dash.js asks again for one whose end was
//! announced too early.
//!
//! Written although nothing demands it: `Role` main, for players that choose by it.

mod mpd;
mod render;
mod xml;

pub use mpd::{
    AdaptationSet, Addressing, ByteRange, Dynamic, Latency, ListedSegment, Media, Mpd, Period,
    Presentation, ProducerReferenceTime, Representation, Segments, TimelineSegment, UtcTiming,
};

/// The media type of an MPD.
pub const MEDIA_TYPE: &str = "application/dash+xml";

#[cfg(test)]
mod tests;
