//! FLV as an endless HTTP body: the client that pulls one stream.
//!
//! | specification | done |
//! | ------------- | ---- |
//! | RFC 9112 (HTTP/1.1) 4, 5, 6.3, 7.1 | one GET, its answer, chunked bodies and such to the end |
//! | RFC 9110 11, 15.4 | Basic authentication; redirects are told to the engine |
//! | Adobe FLV 10.1, Enhanced RTMP | by [`crate::container::flv`] |
//!
//! Not done: Digest authentication, compressed bodies, bodies with a length (a file is no stream;
//! its end ends the session as any end does).

mod body;
mod client;
pub mod fuzzing;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientOptions};
