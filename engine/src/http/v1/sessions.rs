//! Sessions: all, one, its end.

use super::model::{Session, SessionPage, StreamName};
use super::page::{LIMIT, LIMIT_MAX};
use super::problem::Problem;
use super::streams::shown_vhost;
use super::{Answer, Call, json};
use crate::conn::ConnId;
use crate::ring::ShardId;
use crate::shard::Kick;
use crate::shard::sessions::{SessionQuery, SessionRole, SessionSnapshot};

pub(super) async fn list(call: &Call<'_>) -> Result<Answer, Problem> {
    let role = match call.query("role").as_deref() {
        None => None,
        Some("publish") => Some(SessionRole::Publish),
        Some("play") => Some(SessionRole::Play),
        Some("idle") => Some(SessionRole::Idle),
        Some(_) => return Err(Problem::bad_request("role is publish, play or idle")),
    };
    answer(call, SessionQuery { role, ..SessionQuery::default() }).await
}

/// The page of a query that the request asks for.
pub(super) async fn answer(call: &Call<'_>, mut query: SessionQuery) -> Result<Answer, Problem> {
    query.limit = call.limit(LIMIT, LIMIT_MAX)?;
    query.from = call.place()?;
    let page = call.ctx.backend.sessions(query).await;
    let next = page.next.map(|(shard, place)| format!("{shard}-{place}"));
    json(&SessionPage { sessions: page.sessions.iter().map(shown).collect(), next })
}

pub(super) async fn one(call: &Call<'_>) -> Result<Answer, Problem> {
    json(&shown(&find(call).await?))
}

pub(super) async fn end(call: &Call<'_>) -> Result<Answer, Problem> {
    let id = named(call)?;
    let kicked = call.ctx.backend.kick(Kick::Session(id)).await.ok_or_else(Problem::late)?;
    if kicked.total() == 0 {
        return Err(missing());
    }
    tracing::info!(conn = %id, "ended by the API");
    Ok(Answer::NoContent)
}

fn missing() -> Problem {
    Problem::not_found("no such session")
}

/// The session that the path names.
fn named(call: &Call<'_>) -> Result<ConnId, Problem> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = call.parameter(0).split_once('-');
    let parts = parts.filter(|(shard, serial)| digits(shard) && digits(serial));
    let id = parts.and_then(|(shard, serial)| {
        Some(ConnId { shard: ShardId(shard.parse().ok()?), serial: serial.parse().ok()? })
    });
    id.ok_or_else(missing)
}

async fn find(call: &Call<'_>) -> Result<SessionSnapshot, Problem> {
    let query = SessionQuery { id: Some(named(call)?), limit: 1, ..Default::default() };
    let found = call.ctx.backend.sessions(query).await;
    found.sessions.into_iter().next().ok_or_else(missing)
}

fn shown(session: &SessionSnapshot) -> Session {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Session {
        id: session.id.to_string(),
        peer: session.peer.to_string(),
        protocol: session.protocol.to_owned(),
        secure: session.secure,
        role: session.role.name().to_owned(),
        stream: session.stream.as_ref().map(|key| StreamName {
            vhost: shown_vhost(key.vhost()),
            app: key.app().to_owned(),
            name: key.name().to_owned(),
        }),
        agent: session.agent.to_string(),
        age_ms: millis(session.age),
        role_age_ms: millis(session.role_age),
        bytes_in: session.bytes_in,
        bytes_out: session.bytes_out,
        lag_ms: session.lag.map(millis),
    }
}
