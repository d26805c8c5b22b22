//! RTMP on the wire: handshake, chunk streams, messages and protocol control.

pub mod chunk;
pub mod message;
pub mod wire;
