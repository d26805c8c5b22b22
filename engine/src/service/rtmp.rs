//! RTMP: session options from the configuration.

use std::sync::Arc;
use std::time::Instant;

use protocols::hops::NodeId;
use protocols::rtmp::chunk;
use protocols::rtmp::server::{Server, ServerOptions};
use protocols::session::Session;

use crate::config::Config;

/// Chunk streams one connection may use at a time.
const CHUNK_STREAMS_MAX: usize = 64;
/// Largest message a peer may send: a keyframe of a very high rate stream.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Acknowledgement window announced to peers.
const WINDOW_ACK_SIZE: u32 = 2_500_000;

/// What all sessions of a shard share.
#[derive(Debug, Clone)]
pub struct RtmpOptions(Arc<ServerOptions>);

impl RtmpOptions {
    /// From the configuration, the port HTTP was bound to, and what this process is to others.
    #[must_use]
    pub fn new(config: &Config, http_port: Option<u16>, node: NodeId) -> Self {
        let rtmp = &config.rtmp;
        Self(Arc::new(ServerOptions {
            chunk_size: rtmp.chunk_size,
            live_apps: [rtmp.live_app.clone(), rtmp.rec_app.clone()].into(),
            legacy_h265_id: rtmp.legacy_h265_id,
            limits: chunk::Limits {
                reassembly_bytes: config.limits.rtmp_reassembly_bytes,
                chunk_streams: CHUNK_STREAMS_MAX,
                message_bytes: MESSAGE_BYTES_MAX.min(config.limits.rtmp_reassembly_bytes),
            },
            handshake_timeout: rtmp.handshake_timeout,
            window_ack_size: WINDOW_ACK_SIZE,
            type3_extended_timestamp: rtmp.type3_extended_timestamp,
            http_port,
            node: Some(node),
        }))
    }
}

/// The session of a new connection.
#[must_use]
pub fn session(options: &RtmpOptions, seed: u64, now: Instant) -> Box<dyn Session> {
    Box::new(Server::new(now, seed, Arc::clone(&options.0)))
}
