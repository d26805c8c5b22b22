//! RTMP: the wire (handshake, chunk streams, messages, protocol control) and, on top of it, the
//! sessions of both ends.

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
pub mod timeline;
pub mod url;
pub mod wire;

pub use client::Client;
pub use server::{Server, ServerOptions};
