//! Forwards: live streams that this server publishes to others, as `policy.xml` says.
//!
//! A rule names streams by the RTMP form of their URL, whatever they came in by, and where they
//! go. The owner shard of a stream dials each target as a connection of the plane whose session is
//! an RTMP client; once the target takes the stream, the connection is a viewer like any other, on
//! an RTMP wire it shares with them. What is here is pure: which targets a stream has, and when
//! one is dialled. `shard::forward` does it.

mod client;
mod forwarder;
mod status;
mod target;

pub use crate::pull::Action;
pub use client::client;
pub use forwarder::{Forwarder, State};
pub use status::ForwardStatus;
pub use target::{StreamUrl, Target, targets};
