//! One file per service: how a listener's connections become sessions, and nothing else.

pub mod rtmp;
pub mod rtsp;
