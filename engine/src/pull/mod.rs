//! Pulled sources: streams that this server fetches itself, as `policy.xml` says.
//!
//! An entry names a source and the stream it becomes. The owner shard of the stream pulls it, as
//! a connection of the plane whose session is a client, or as a task that reads a file; either
//! publishes as any publisher does. What is here is pure: the entries, when to try again, what a
//! pull does next, and the session that turns a client into a publisher. `shard::pull` does it.

mod backoff;
mod client;
mod entry;
pub mod file;
mod puller;
mod session;

pub use backoff::{Backoff, Schedule};
pub use client::client;
pub use entry::{Entry, EntryError, Remote, Scheme, Source, Transport, masked};
pub use puller::{Action, Demand, Puller};
pub use session::PullSession;
