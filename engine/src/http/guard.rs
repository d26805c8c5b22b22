//! The one place that decides who may call the API: every path of it asks here.

use std::net::IpAddr;

use hyper::Request;

use super::router::Caller;
use super::{access, origin};
use crate::config::model::Config;

/// What a path of the API gives away or changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Reads what is going on.
    Read,
    /// Changes something, or reads what only the operator should: the configuration, the log.
    Operate,
}

/// Whether a request may do that.
///
/// # Errors
/// Why not.
pub(crate) fn admit<B>(
    guard: Guard,
    caller: Caller,
    request: &Request<B>,
    config: &Config,
) -> Result<(), String> {
    match guard {
        Guard::Read => read(caller.peer.ip(), config),
        Guard::Operate => {
            let authority = request.uri().authority().map(|authority| authority.as_str());
            origin::check(caller.peer.ip(), authority, request.headers())
                .map_err(|stranger| stranger.to_string())
        }
    }
}

/// [`Guard::Read`] for who needs no more than the peer.
pub(crate) fn read(peer: IpAddr, config: &Config) -> Result<(), String> {
    match access::permitted(peer, &config.http.api_allow) {
        true => Ok(()),
        false => {
            Err("this address may not read the API: see http/api_allow in config.xml".to_owned())
        }
    }
}
