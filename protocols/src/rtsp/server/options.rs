//! What all sessions of a listener share, and what one knows of its connection.

use std::net::IpAddr;
use std::time::Duration;

use crate::rtp::ReceiverLimits;
use crate::rtsp::auth::server::Access;
use crate::rtsp::reader::Limits;

/// What all server sessions of a listener share.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Apps that may be addressed.
    pub live_apps: Vec<String>,
    /// Who may come in.
    pub access: Access,
    /// Bounds of messages.
    pub limits: Limits,
    /// Bounds of what a publisher's packets wait in.
    pub receiver: ReceiverLimits,
    /// From the first byte, or the end of the last session, until something plays or records.
    pub setup_timeout: Duration,
    /// How long a session may be silent: no request, RTCP or media. A play within the connection may
    /// for ever; there the connection tells.
    pub session_timeout: Duration,
    /// What the server calls itself.
    pub name: String,
    /// Where HTTP is served, for those who ask this port for a page.
    pub http_port: Option<u16>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            live_apps: vec!["live".to_owned()],
            access: Access { realm: "smart-rtmpd".to_owned(), ..Access::default() },
            limits: Limits::default(),
            receiver: ReceiverLimits::default(),
            setup_timeout: Duration::from_secs(10),
            session_timeout: Duration::from_secs(60),
            name: "smart-rtmpd".to_owned(),
            http_port: None,
        }
    }
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// This server as the peer knows it, after the mapping of a NAT.
    pub local: IpAddr,
    /// The peer: media go to no other address.
    pub peer: IpAddr,
}
