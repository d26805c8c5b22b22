//! What operators see: counters and histograms per shard, summed at scrape, and the log.

mod access;
mod counters;
pub mod log;
mod prometheus;

pub use access::AccessCounts;
pub use counters::{
    Audience, Counters, DropReason, Memory, PullReport, ShardReport, Topic, Viewers,
};
pub use prometheus::{Process, render};
