//! What operators see of a forward.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One forward of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardStatus {
    /// Where to, without credentials and keys.
    pub target: Arc<str>,
    /// Who is connected to, if anybody is.
    pub address: Option<SocketAddr>,
    /// `resting`, `connecting`, `live` or `waiting`.
    pub state: &'static str,
    /// How long it has been live.
    pub live_for: Option<Duration>,
    /// When it is tried again.
    pub retry_in: Option<Duration>,
    /// Times the target was dialled for this publisher.
    pub attempts: u64,
    /// Bytes sent for this publisher.
    pub bytes_out: u64,
    /// Present bit rate.
    pub bits_per_second: u64,
    /// Why it was not live the last time.
    pub last_error: Option<Arc<str>>,
}
