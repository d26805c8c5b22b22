//! Ending sessions on request: one by its name, or all of a stream.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use protocols::media::StreamKey;
use protocols::session::Refusal;

use super::ask::gather;
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

/// Ends sessions on all shards; how many have ended, as far as is known after half a second.
///
/// A viewer of segments has no connection of its own: what it was let in for is forgotten, so that
/// its next request is judged.
pub async fn kick(shard: &Rc<RefCell<Shard>>, kick: Kick) -> usize {
    let question = {
        let mut this = shard.borrow_mut();
        let (from, shards) = (this.id, this.mesh.shards());
        let Some(question) = this.kicks.open(Vec::new(), shards) else { return 0 };
        for to in 0..shards {
            let to = ShardId(u16::try_from(to).expect("shards are counted in u16"));
            this.mesh.send(to, ControlMessage::KickSessions { kick: kick.clone(), from, question });
        }
        this.mesh.kick();
        this.mesh.kick_self();
        question
    };
    gather(shard, question, |shard| &mut shard.kicks).await.into_iter().sum()
}

impl Shard {
    /// Ends sessions of this shard; how many have ended.
    pub(super) fn kick(&mut self, kick: &Kick, now: Instant) -> usize {
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
            (named && conn.draining.is_none()).then(|| self.plane.token(slot))
        };
        let tokens: Vec<Token> = self.plane.conns.iter().filter_map(meant).collect();
        for token in &tokens {
            self.dismiss(*token, Refusal::Kicked, now);
        }
        tokens.len()
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
        // A forward is no viewer: it ends with its stream, or by the policy.
        if conn.protocol == Protocol::Forward {
            return false;
        }
        let meant = match role {
            None => true,
            Some(Wanted::Publisher) => publishes,
            Some(_) => !publishes,
        };
        here && meant
    }
}
