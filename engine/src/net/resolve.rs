//! Names to addresses, on threads of their own: a resolver that hangs holds no shard up.

use std::net::{SocketAddr, ToSocketAddrs};

use crossbeam_channel::{Receiver, Sender};

use crate::ring::{ControlMessage, Remote, ShardId};

/// Questions that may wait.
const QUERIES_MAX: usize = 1024;
/// Names looked up at the same time.
const THREADS: usize = 4;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// What a shard has a name looked up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A pull, by its place.
    Pull(usize),
    /// A forward, by its place.
    Forward(usize),
    /// Questions to the authorisation server.
    Hook,
}

/// One question.
#[derive(Debug)]
pub struct Query {
    /// Who asks.
    pub shard: ShardId,
    /// What it is for.
    pub asker: Asker,
    /// Tells a late answer from the one that is awaited.
    pub attempt: u64,
    /// Name.
    pub host: String,
    /// Port that the addresses get.
    pub port: u16,
}

/// The way to the threads.
#[derive(Debug, Clone)]
pub struct Resolver(Sender<Query>);

impl Resolver {
    /// Starts the threads; they end with the last way to them.
    ///
    /// # Errors
    /// A thread cannot be made.
    pub fn start(remote: &Remote) -> std::io::Result<Self> {
        let (queries, waiting) = crossbeam_channel::bounded(QUERIES_MAX);
        for index in 0..THREADS {
            let (waiting, remote) = (waiting.clone(), remote.clone());
            let name = format!("resolver-{index}");
            std::thread::Builder::new().name(name).spawn(move || serve(&waiting, &remote))?;
        }
        Ok(Self(queries))
    }

    /// Asks; the answer comes as a control message. False when too many questions wait.
    #[must_use]
    pub fn ask(&self, query: Query) -> bool {
        self.0.try_send(query).is_ok()
    }
}

fn serve(waiting: &Receiver<Query>, remote: &Remote) {
    for Query { shard, asker, attempt, host, port } in waiting {
        let addresses: Vec<SocketAddr> = match (host.as_str(), port).to_socket_addrs() {
            Ok(found) => found.take(ADDRESSES_MAX).collect(),
            Err(error) => {
                tracing::warn!(%host, %error, "a name is not known");
                Vec::new()
            }
        };
        // A shard whose queue is full gives the attempt up when its time is over.
        remote.send(shard, ControlMessage::Resolved { asker, attempt, addresses });
    }
}
