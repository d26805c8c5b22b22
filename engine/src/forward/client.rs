//! The session that publishes a stream to a target.

use std::sync::Arc;
use std::time::Instant;

use protocols::hops::Hops;
use protocols::rtmp::chunk::Limits;
use protocols::rtmp::client::{Client, ClientOptions, Role};

use super::Target;
use crate::config::Config;
use crate::stream::SERVER_NAME;

/// Chunk streams a target may use at a time.
const CHUNK_STREAMS_MAX: usize = 32;
/// Bytes of incomplete messages a target may have us hold: it has commands to say and no media.
const REASSEMBLY_BYTES: usize = 256 * 1024;

/// The session of a fresh connection to `target`. `auth`: what it wanted to be asked with.
#[must_use]
pub fn client(
    now: Instant,
    seed: u64,
    target: &Target,
    auth: Option<Box<str>>,
    hops: Hops,
    config: &Config,
) -> Client {
    let options = ClientOptions {
        app: target.app.clone(),
        tc_url: target.tc_url.clone(),
        stream: target.stream.clone(),
        role: Role::Publish,
        // That of the wires, whose bytes follow on the same connection.
        chunk_size: config.rtmp.chunk_size,
        type3_extended_timestamp: config.rtmp.type3_extended_timestamp,
        enhanced: true,
        // What platforms take for an encoder begins like this.
        flash_ver: format!("FMLE/3.0 (compatible; {SERVER_NAME})"),
        limits: Limits {
            reassembly_bytes: REASSEMBLY_BYTES,
            chunk_streams: CHUNK_STREAMS_MAX,
            message_bytes: REASSEMBLY_BYTES,
        },
        legacy_h265_id: config.rtmp.legacy_h265_id,
        credentials: target.credentials.clone(),
        auth,
        hops,
        start_timeout: Some(config.rtmp.forward_timeout),
    };
    Client::new(now, seed, Arc::new(options))
}
