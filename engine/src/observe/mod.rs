//! What operators see: counters and histograms per shard, summed at scrape, and the log.

mod counters;
pub mod log;
mod prometheus;

pub use counters::{
    Audience, Counters, DropReason, ForwardReport, Memory, PullReport, ShardReport, Topic, Viewers,
};
pub use prometheus::{Process, render};
