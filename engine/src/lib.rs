//! The smart-rtmpd engine.

pub mod config;
pub mod net;
pub mod policy;
