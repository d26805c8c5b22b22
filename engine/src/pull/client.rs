//! The session that fetches a source: which client, with which options.

use std::sync::Arc;
use std::time::Instant;

use protocols::hops::Hops;
use protocols::http_flv;
use protocols::rtmp::chunk::Limits;
use protocols::rtmp::client as rtmp;
use protocols::rtsp::client as rtsp;
use protocols::session::{AccessRequest, ErrorClass, Session, SessionError};
use protocols::text::{split_url, split_user};

use super::{Entry, PullSession, Remote, Scheme, Transport};
use crate::config::Config;
use crate::stream::SERVER_NAME;

/// Chunk streams a server may use at a time.
const CHUNK_STREAMS_MAX: usize = 64;
/// Size of the chunks this side writes; it writes commands only.
const CHUNK_SIZE: u32 = 4096;
/// Largest message of a server: a keyframe of a very high rate stream.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The session of a fresh connection to `remote`, which becomes the stream of `entry`. `hops`: the
/// servers of our kind that the request for it has passed, if it was one of theirs.
///
/// # Errors
/// The URL is not one of its protocol after all.
pub fn client(
    now: Instant,
    seed: u64,
    entry: &Entry,
    remote: &Remote,
    hops: Hops,
    config: &Config,
) -> Result<Box<dyn Session>, SessionError> {
    let unfit = || SessionError::new(ErrorClass::Internal, "bad_url", "not a URL of its scheme");
    let message_bytes = MESSAGE_BYTES_MAX.min(config.limits.rtmp_reassembly_bytes);
    let client: Box<dyn Session> = match remote.scheme {
        Scheme::Rtsp => {
            let mut options = rtsp::ClientOptions::new(&remote.url).ok_or_else(unfit)?;
            SERVER_NAME.clone_into(&mut options.agent);
            options.receiver.frame_bytes = message_bytes;
            options.hops = hops;
            options.preference = match entry.transport {
                Transport::Auto => rtsp::Preference::Any,
                Transport::Tcp => rtsp::Preference::Interleaved,
                Transport::Udp => rtsp::Preference::Datagram,
            };
            Box::new(rtsp::Client::new(now, seed, Arc::new(options)))
        }
        Scheme::Rtmp => {
            let options = rtmp_options(remote, hops, config, message_bytes).ok_or_else(unfit)?;
            Box::new(rtmp::Client::new(now, seed, Arc::new(options)))
        }
        Scheme::HttpFlv => {
            let options = http_flv::ClientOptions {
                url: remote.url.clone(),
                agent: SERVER_NAME.to_owned(),
                legacy_h265_id: config.rtmp.legacy_h265_id,
                tag_bytes: message_bytes,
                hops,
            };
            Box::new(http_flv::Client::new(options))
        }
    };
    let request = AccessRequest {
        host: entry.vhost.clone(),
        app: entry.app.clone(),
        name: entry.name.clone(),
        ..AccessRequest::default()
    };
    Ok(Box::new(PullSession::new(now, client, request)))
}

fn rtmp_options(
    remote: &Remote,
    hops: Hops,
    config: &Config,
    message_bytes: usize,
) -> Option<rtmp::ClientOptions> {
    let (authority, path, query) = split_url(&remote.url);
    let (app, stream) = path.trim_start_matches('/').split_once('/')?;
    let (_, authority) = split_user(authority);
    let stream = if query.is_empty() { stream.to_owned() } else { format!("{stream}?{query}") };
    Some(rtmp::ClientOptions {
        app: app.to_owned(),
        tc_url: format!("{}://{authority}/{app}", if remote.tls { "rtmps" } else { "rtmp" }),
        stream,
        role: rtmp::Role::Play,
        chunk_size: CHUNK_SIZE,
        type3_extended_timestamp: config.rtmp.type3_extended_timestamp,
        enhanced: true,
        flash_ver: SERVER_NAME.to_owned(),
        limits: Limits {
            reassembly_bytes: config.limits.rtmp_reassembly_bytes,
            chunk_streams: CHUNK_STREAMS_MAX,
            message_bytes,
        },
        legacy_h265_id: config.rtmp.legacy_h265_id,
        credentials: None,
        auth: None,
        hops,
        start_timeout: None,
    })
}
