//! Measures live media servers: publishers, viewers, the bare loops they are compared with, and
//! the table of it all. Everything runs on one thread per process; nothing here is the server.
//!
//! * [`publish`] sends synthetic streams whose every frame carries the time of its sending.
//! * [`load`] plays them with thousands of connections; [`churn`] plays their first frames only.
//! * [`llhls`] plays low-latency HLS with thousands of players.
//! * [`floor`], [`datagram_floor`] and [`ingest_floor`] move the same bytes with no protocol at all.
//! * [`nodelay`] has another server send at its own expense.
//! * [`report`] turns the rows the others print into a table and a picture.

pub mod args;
pub mod checker;
pub mod churn;
pub mod clip;
pub mod clip_rtp;
pub mod cost;
pub mod datagram_floor;
pub mod datagrams;
pub mod fetch;
pub mod floor;
pub mod http_play;
pub mod ingest_floor;
pub mod link;
pub mod ll_playlist;
pub mod llhls;
pub mod load;
pub mod machine;
pub mod media_reader;
pub mod nodelay;
pub mod publish;
pub mod report;
pub mod rtmp_peer;
pub mod rtp_play;
pub mod sys;
pub mod sys_datagram;
pub mod sys_process;
pub mod target;
pub mod viewer;

/// What can go wrong, in words for the person at the terminal.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
