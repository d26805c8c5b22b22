//! Ending sessions on request: one by its name, or all of a stream.

use std::cell::RefCell;
use std::iter::Sum;
use std::rc::Rc;
use std::time::Instant;

use protocols::media::StreamKey;
use protocols::session::Refusal;

use crate::auth::{Role as Wanted, session_prefix};
use crate::conn::{Conn, ConnId, Protocol, Role};
use crate::ring::{ControlMessage, ShardId, Token};
use crate::shard::Shard;

/// Which sessions are to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kick {
    /// The connection of that name, as logs and the API show it.
    Session(ConnId),
    /// Those of a stream.
    Stream {
        /// The stream.
        key: StreamKey,
        /// Only those who publish, or only those who play; `None`: both.
        role: Option<Wanted>,
    },
}

/// Sessions that were told to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kicked {
    /// Those that published, or were about to.
    pub publishers: usize,
    /// Those that played, or waited for what they would play.
    pub viewers: usize,
    /// Those that did nothing yet.
    pub idle: usize,
}

impl Kicked {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.publishers + self.viewers + self.idle
    }
}

impl Sum for Kicked {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            publishers: a.publishers + b.publishers,
            viewers: a.viewers + b.viewers,
            idle: a.idle + b.idle,
        })
    }
}

/// Ends sessions on all shards; those that have ended, as far as is known after half a second.
/// `None` if none has, as far as is known, but not all shards have answered.
///
/// A viewer of segments has no connection of its own: what it was let in for is forgotten, so that
/// its next request is judged.
pub async fn kick(shard: &Rc<RefCell<Shard>>, kick: Kick) -> Option<Kicked> {
    let (question, asked) = {
        let mut this = shard.borrow_mut();
        let shards = 0..u16::try_from(this.mesh.shards()).expect("shards are counted in u16");
        // The name of a session says where it is.
        let asked = match &kick {
            Kick::Session(id) if shards.contains(&id.shard.0) => id.shard.0..id.shard.0 + 1,
            Kick::Session(_) => return Some(Kicked::default()),
            Kick::Stream { .. } => shards,
        };
        let count = asked.len();
        let question = this.kicks.open(Vec::new(), count).ok()?;
        let (from, number) = (this.id, question.number);
        for to in asked {
            let kick = kick.clone();
            let message = ControlMessage::KickSessions { kick, from, question: number };
            this.mesh.send(ShardId(to), message);
        }
        this.mesh.kick();
        this.mesh.kick_self();
        (question, count)
    };
    let answers = question.answers().await;
    let all = answers.len() == asked;
    let kicked: Kicked = answers.into_iter().sum();
    (all || kicked.total() > 0).then_some(kicked)
}

impl Shard {
    /// Ends sessions of this shard; those that have ended.
    pub(super) fn kick(&mut self, kick: &Kick, now: Instant) -> Kicked {
        if let Kick::Stream { key, role } = kick
            && *role != Some(Wanted::Publisher)
        {
            let stream = format!("{}/{}", key.app(), key.name());
            let about = session_prefix(Wanted::Player, &stream);
            self.auth.sessions.expel_all(|session| session.starts_with(&about));
            self.auth.desk.forget();
        }
        let meant = |(slot, conn): (usize, &Conn)| {
            let named = match kick {
                Kick::Session(id) => conn.id == *id,
                Kick::Stream { key, role } => self.takes_part(conn, key, *role),
            };
            // A forward is no session: it ends with its stream, or by the policy.
            let is_session = conn.draining.is_none() && conn.protocol != Protocol::Forward;
            (named && is_session).then(|| (self.plane.token(slot), count(&conn.role)))
        };
        let (tokens, kicked): (Vec<Token>, Vec<Kicked>) =
            self.plane.conns.iter().filter_map(meant).unzip();
        for token in tokens {
            self.dismiss(token, Refusal::Kicked, now);
        }
        kicked.into_iter().sum()
    }

    fn takes_part(&self, conn: &Conn, key: &StreamKey, role: Option<Wanted>) -> bool {
        let of_mirror = |mirror: usize| self.mirrors[mirror].key.delayed(0) == *key;
        let (publishes, here) = match &conn.role {
            Role::Publisher(publishing) => (true, publishing.key == *key),
            Role::Claiming { key: claimed } => (true, claimed == key),
            Role::Waiting { mirror, .. } | Role::Viewer { mirror, .. } => {
                (false, of_mirror(*mirror))
            }
            Role::Idle | Role::Applying(_) => return false,
        };
        let meant = match role {
            None => true,
            Some(Wanted::Publisher) => publishes,
            Some(_) => !publishes,
        };
        here && meant
    }
}

/// One session of this role.
fn count(role: &Role) -> Kicked {
    let mut kicked = Kicked::default();
    match role {
        Role::Publisher(_) | Role::Claiming { .. } => kicked.publishers = 1,
        Role::Waiting { .. } | Role::Viewer { .. } => kicked.viewers = 1,
        Role::Idle | Role::Applying(_) => kicked.idle = 1,
    }
    kicked
}
