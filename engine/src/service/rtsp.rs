//! RTSP: session options from the configuration.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocols::rtp::ReceiverLimits;
use protocols::rtsp::auth::server::{Access, Secret};
use protocols::rtsp::server::{Addresses, Server, ServerOptions};
use protocols::session::Session;

use crate::auth::{Rules, Via};
use crate::config::Config;
use crate::stream::SERVER_NAME;

/// Realm of the challenge.
const REALM: &str = "smart-rtmpd";
/// Largest access unit.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A time-out of zero means none; a session cannot say so, but this comes to the same.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// What all sessions of a shard share.
#[derive(Debug, Clone)]
pub struct RtspOptions {
    session: Arc<ServerOptions>,
    /// Public address of UDP media.
    public: Option<IpAddr>,
}

impl RtspOptions {
    /// From the configuration, the rules made of it, and the port HTTP was bound to.
    #[must_use]
    pub fn new(config: &Config, rules: &Rules, http_port: Option<u16>) -> Self {
        let (rtmp, rtsp) = (&config.rtmp, &config.rtsp);
        let session = ServerOptions {
            live_apps: vec![rtmp.live_app.clone(), rtmp.rec_app.clone()],
            access: access(rules),
            receiver: ReceiverLimits {
                frame_bytes: FRAME_BYTES_MAX.min(config.limits.rtmp_reassembly_bytes),
                ..ReceiverLimits::default()
            },
            setup_timeout: rtmp.handshake_timeout,
            session_timeout: if rtsp.idle.is_zero() { NEVER } else { rtsp.idle },
            name: SERVER_NAME.to_owned(),
            http_port,
            ..ServerOptions::default()
        };
        Self { session: Arc::new(session), public: config.nat.rtp }
    }

    fn addresses(&self, local: IpAddr, peer: SocketAddr) -> Addresses {
        Addresses { local: self.public.unwrap_or(local), peer: peer.ip() }
    }
}

/// What a session judges itself. It knows the users whose passwords it can compare, and hands on
/// what it cannot judge.
fn access(rules: &Rules) -> Access {
    let users = rules.plain_users(Via::Rtsp);
    let user = |(name, password): (&str, &crate::config::model::Secret)| {
        (name.to_owned(), Secret::Password(password.0.clone()))
    };
    Access {
        realm: REALM.to_owned(),
        users: users.map(user).collect(),
        optional: rules.rtsp_is_open(),
        judged_elsewhere: rules.has_hashes(),
    }
}

/// The session of a new connection between `local` and `peer`.
#[must_use]
pub fn session(
    options: &RtspOptions,
    seed: u64,
    local: IpAddr,
    peer: SocketAddr,
    now: Instant,
) -> Box<dyn Session> {
    let addresses = options.addresses(local, peer);
    Box::new(Server::new(now, seed, Arc::clone(&options.session), addresses))
}

/// The session of a tunnel whose `GET` came from `peer` to `local`.
#[must_use]
pub fn tunnelled(
    options: &RtspOptions,
    seed: u64,
    local: IpAddr,
    peer: SocketAddr,
    now: Instant,
) -> Box<dyn Session> {
    let addresses = options.addresses(local, peer);
    Box::new(Server::tunnelled(now, seed, Arc::clone(&options.session), addresses))
}
