//! RTMP on the wire: handshake, chunk streams, messages and protocol control.

pub mod chunk;
pub mod control;
pub mod fuzzing;
pub mod handshake;
pub mod message;
pub mod wire;
