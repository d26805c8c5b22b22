//! The harness of the end-to-end tests: starts the built server as a black box, drives real clients
//! against it and judges what they get with parsers that share no code with the server.
//!
//! A test starts its own [`server::Server`], publishes a clip of [`media`] with one of
//! [`clients`], and judges. Rules: wait on conditions ([`wait`]), never sleep; a client that is
//! not installed skips the test loudly and fails it under `STRICT=1`; every adversarial test runs
//! beside a [`canary`].

pub mod auth_stub;
pub mod canary;
pub mod certificates;
pub mod clients;
pub mod crowd;
pub mod digest;
pub mod flv;
pub mod hls_rules;
pub mod hooks;
pub mod http;
pub mod media;
pub mod pace;
pub mod process;
pub mod rtmp;
pub mod rtsp;
pub mod rtsp_relay;
pub mod server;
pub mod signpost;
pub mod sys;
pub mod tcp_relay;
pub mod wait;

use std::path::{Path, PathBuf};

/// The top folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_path_buf()
}

/// Whether a missing client fails the test instead of skipping it (`STRICT=1`).
pub fn strict() -> bool {
    std::env::var("STRICT").is_ok_and(|value| value == "1")
}

/// Says that a test cannot run here; panics under `STRICT=1`.
pub fn skip(reason: &str) {
    assert!(!strict(), "STRICT=1 and {reason}");
    eprintln!("SKIP {reason}");
}
