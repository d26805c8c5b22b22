//! What touches the operating system and the wire below any protocol: raw system calls and TLS.

pub mod sys;
pub mod tls;
