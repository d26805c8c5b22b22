//! The HTTP service of a shard: pages, API, metrics, and the door to HTTP-FLV and WebSocket-FLV.
//!
//! `v1` is the API; [`api`] and `legacy` have the shapes of the older one. Whoever calls either
//! has passed `admit`.
//!
//! [`server::serve`] drives one connection as a task of the shard that accepted it. A request for
//! live media ends that task: the socket goes back to the media plane as a
//! [`server::MediaHandoff`], so no endless body ever runs through here.

mod admit;
pub mod api;
mod body;
mod conditional;
mod delay;
mod direct;
mod direct_reply;
mod file_body;
mod files;
#[cfg(test)]
mod fuzzing;
pub mod io;
mod legacy;
pub mod live;
mod live_head;
mod metrics_route;
mod multipart;
mod origin;
mod range;
mod rec;
mod rec_media;
mod rec_url;
mod respond;
mod router;
mod segment_body;
mod segments;
pub mod server;
mod text_cache;
mod urls;
mod v1;
mod variants;
mod vod;
mod watch;
pub mod websocket;

use std::rc::Rc;

use crate::http::api::Backend;

/// What every HTTP connection of a shard shares.
#[derive(Clone)]
pub struct HttpContext {
    /// Where answers come from.
    pub backend: Rc<dyn Backend>,
    /// Playlists as they were rendered.
    texts: Rc<text_cache::TextCache>,
    /// What is known of the files on demand.
    vod: Rc<vod::Shelf>,
}

impl HttpContext {
    /// For the connections of one shard.
    #[must_use]
    pub fn new(backend: Rc<dyn Backend>) -> Self {
        Self { backend, texts: Rc::default(), vod: Rc::default() }
    }
}
