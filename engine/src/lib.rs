//! The smart-rtmpd server: shards, streams, the media plane and the services on it.
//!
//! # Who owns what
//! One pinned io_uring executor per allowed CPU runs one [`shard::Shard`]. A shard owns its
//! connections ([`plane`], [`conn`]), the streams whose key hashes to it, and a mirror of every
//! stream it has viewers for ([`stream`]). Shards meet only in [`ring`].
//!
//! ```text
//! publisher's shard ──ring──▶ owner shard ──ring──▶ every shard with viewers (once per frame)
//!   session, timeline          stream, log            mirror: log, wires ──▶ sockets
//! ```
//!
//! # Code map
//! * [`auth`]: who may do what.
//! * [`config`], [`policy`]: the two files, parsed and checked before anything starts.
//! * [`server`]: starts the shards, watches them, stops them.
//! * [`shard`]: the loop and the control plane. [`ring`]: what crosses between shards.
//! * [`stream`]: logs, wires, owners, timelines; no sockets. [`plane`]: the sockets; no protocols.
//! * [`conn`]: one connection. [`service`]: how a listener's connections become sessions.
//! * [`pull`]: streams this server fetches itself: entries, retries, clients, files.
//! * [`edge`]: which origin an unknown stream is fetched from. [`forward`]: where live streams go.
//! * [`record`]: recordings: files of live streams, and what of them is played.
//! * [`timeshift`]: streams played later than live, from recordings or segments.
//! * [`segment`]: what HLS and DASH list, cut on the owner shard, read by every shard.
//! * [`http`]: pages, API, metrics, playlists and segments, files, and the door of endless bodies.
//! * [`reload`]: both files again, as a difference. [`events`]: callbacks to other servers.
//! * [`net`]: system calls, TLS, pre-flight. [`observe`]: counters and the log.
//!
//! # Invariants
//! * No lock and no wait between shards on the media path; the owner never waits for a mirror.
//! * No state of a stream is visible from two shards but the frames, which are immutable.
//! * A frame crosses to a shard once, however many viewers sit there; it is packaged once per
//!   format and shard.
//! * Per viewer and frame there is no copy, no allocation, no atomic operation and no lock.
//! * A connection stays on the shard that accepted it, but for the halves of an RTSP tunnel, which
//!   have to meet: they move once, before anything is played.
//! * Every queue, table, buffer and wait has a bound, and every overflow is counted.
//! * The stream core does not know which protocols exist. Only [`clock`] reads the time.
//! * No panic is reachable from peer bytes; one that happens all the same ends one connection.

#![deny(unsafe_code)]

mod alarm;
pub mod auth;
pub mod clock;
pub mod config;
pub mod conn;
pub mod edge;
pub mod events;
pub mod forward;
pub mod http;
pub mod net;
pub mod observe;
pub mod plane;
pub mod policy;
pub mod pull;
pub mod record;
pub mod reload;
pub mod ring;
pub mod segment;
pub mod server;
pub mod service;
pub mod shard;
pub mod stream;
pub mod timeshift;
