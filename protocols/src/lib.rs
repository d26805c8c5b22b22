//! Sans-IO media protocols: bytes, a time *value* and a seed go in; bytes, events and a deadline
//! come out. Nothing in this crate reads a clock, opens a socket, spawns a task or logs to a file.
//!
//! # Layers
//! Each module uses only what stands to its left:
//!
//! ```text
//! bits, text, hops → media → codec → container → amf, rtp → rtmp rtsp http_flv hls dash
//! ```
//!
//! # Invariants
//! * No protocol module names another protocol; what they share is [`session`] and [`media`].
//! * No panic is reachable from peer bytes. Every count and length a peer sends is bounded first.
//! * Same inputs in the same order give the same outputs, byte for byte.
//!
//! # Glossary
//! * *access unit*: the coded picture, or the audio frame, of one presentation time.
//! * *keyframe*: an access unit a decoder can start at.
//! * *GOP*: a keyframe and everything up to the next one.
//! * *ingest*, *egress*: towards and away from this server. *publish*, *play*: what a peer asks for.

#![forbid(unsafe_code)]

pub mod amf;
pub mod bits;
pub mod codec;
pub mod container;
pub mod dash;
pub mod fuzzing;
pub mod hls;
pub mod hops;
pub mod http_flv;
pub mod media;
pub mod rtmp;
pub mod rtp;
pub mod rtsp;
pub mod session;
pub mod text;
