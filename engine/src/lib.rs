//! The smart-rtmpd server: shards, streams, the media plane and the services on it.

/// The configuration.
pub mod config {
    pub mod model;
}
pub mod http;
pub mod net;
