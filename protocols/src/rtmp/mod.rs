//! RTMP: the wire (handshake, chunk streams, messages, protocol control) and, on top of it, the
//! sessions of both ends.
//!
//! | specification | done |
//! | ------------- | ---- |
//! | Adobe RTMP 1.0 | all of it but shared objects (ignored) and seeking (refused) |
//! | Digest handshake | taken by the server when the client asks for it |
//! | FMS commands | `releaseStream`, the `FC` commands, `getStreamLength`, bandwidth checks |
//! | Adobe and Limelight authentication | answered by the client; not asked for by the server |
//! | Enhanced RTMP v2 | capabilities in `connect`, reconnect requests; media: see `container::flv` |
//! | `ex.redirect` | of a rejected `connect`, as some servers have it: followed by the client |
//!
//! Tolerated: a C2 that echoes nothing, media on any message stream of a publishing connection,
//! AMF3 framing around AMF0, messages of unknown type, calls of unknown procedures. Not done:
//! RTMPE, RTMPT, RTMFP, playlists.

#[cfg(test)]
mod bench;
pub mod chunk;
pub mod client;
pub mod command;
pub mod control;
pub mod egress;
pub mod fuzzing;
pub mod handshake;
mod ingest;
mod link;
pub mod message;
pub mod server;
#[cfg(test)]
mod simulation;
pub mod status;
pub mod url;
pub mod wire;

pub use client::Client;
pub use server::{Server, ServerOptions};
