//! RTSP: publish, play and pull over one connection, media within it or beside it.
//!
//! | specification | clauses | here |
//! |---|---|---|
//! | RFC 2326 | 4–9, 15: messages, their limits | [`message`], [`reader`] |
//! | RFC 2326 | 7.1.1, 11: status codes | [`status`] |
//! | RFC 2326 | 10, A: methods and states | [`server`], [`client`] |
//! | RFC 2326 | 10.12: interleaved data | [`reader`], both ends |
//! | RFC 2326 | 12.39: `Transport` | [`transport`] |
//! | RFC 2326 | 12.39, multicast: one group for all players of a stream | [`server`], the engine |
//! | RFC 2617, 7616 | Basic; Digest with MD5 and SHA-256, `auth` or no `qop` | [`auth`] |
//! | QuickTime's RTSP over HTTP | the two heads, the base64 of requests | [`tunnel`] |
//!
//! Session descriptions are in [`crate::rtp::sdp`].
//!
//! # Tolerated deviations
//! * Bare LF line ends; empty lines between messages; unquoted and upper-case `mode`; `RTP/AVP/UDP`;
//!   `interleaved` missing or with one number; `client_port` with one number.
//! * Control URLs absolute, relative to a base with or without slash, before or behind a query.
//! * `SETUP` without `DESCRIBE`; a second `SETUP` without `Session` before the first `PLAY`.
//! * `Range` and `Scale` of a live stream mean nothing and are answered with what is played.

pub mod auth;
pub mod client;
pub mod fuzzing;
mod ingest;
pub mod message;
pub mod reader;
pub mod server;
pub mod status;
pub mod transport;
pub mod tunnel;
pub mod url;

pub use client::{Client, ClientOptions};
pub use server::{Server, ServerOptions};

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Control attribute of a track this server describes: `trackID=0` video, `trackID=1` audio.
pub const CONTROL_PREFIX: &str = "trackID=";

/// Numbers nobody can guess who does not know the seed: session ids, nonces.
#[derive(Debug)]
struct Random {
    seed: u64,
    count: u64,
}

impl Random {
    fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }

    fn next(&mut self) -> u128 {
        self.count += 1;
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.seed.to_be_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(&self.count.to_be_bytes());
        let bytes = mac.finalize().into_bytes();
        bytes.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
    }

    fn next_u64(&mut self) -> u64 {
        // The upper half is dropped.
        self.next() as u64
    }
}
