//! `/api/v1/`: what goes on, and what can be changed while it does. JSON in and out; errors are
//! problem documents (RFC 9457); lists come in pages.
//!
//! [`route::ROUTES`] is the one table: it says which paths there are, what each takes and gives,
//! and who may call it. Requests are dispatched by it, and [`openapi`] renders it as the document
//! under `/api/v1/openapi.json`, with schemas made from the types of [`model`].

mod body;
mod configuration;
mod model;
mod openapi;
mod page;
mod policy;
mod policy_rule;
mod problem;
mod recordings;
mod route;
mod sessions;
mod streams;
mod system;
mod transfers;

use bytes::Bytes;
use hyper::body::Body;
use hyper::{Method, Request, StatusCode, header};
use serde::Serialize;

use self::problem::Problem;
use self::route::{Found, Operation};
use super::HttpContext;
use super::admit::Door;
use super::respond::{self, Reply};
use super::router::Caller;
use super::urls::{self, Addressed};
use crate::config::model::Config;

pub(crate) use self::body::BODY_BYTES_MAX;
pub(crate) use self::configuration::status_of;
pub(crate) use self::model::{Object, PolicyDocument, Statistics};
pub(crate) use self::policy::{edited as edited_policy, shown as shown_policy};

const PREFIX: &str = "/api/v1";

/// Whether a path, as sent, is one of this API.
pub(crate) fn owns(path: &str) -> bool {
    path.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a request may carry a body that is read here; `path` as sent.
pub(crate) fn takes_body(method: &Method, path: &str) -> bool {
    owns(path) && matches!(*method, Method::PUT | Method::POST)
}

/// Reads the body of a request that changes something; the answer that says why not.
pub(crate) async fn read_body<B>(request: &mut Request<B>) -> Result<Bytes, Reply>
where
    B: Body<Data = Bytes> + Unpin,
{
    body::read(request).await.map_err(Problem::into_reply)
}

/// What an operation gives.
enum Answer {
    /// A document.
    Json(serde_json::Value),
    /// Nothing.
    NoContent,
}

fn json(value: &impl Serialize) -> Result<Answer, Problem> {
    serde_json::to_value(value).map(Answer::Json).map_err(|error| {
        tracing::error!(%error, "an answer of the API cannot be written");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written")
    })
}

/// One request with what its path holds.
struct Call<'a> {
    ctx: &'a HttpContext,
    config: &'a Config,
    at: &'a Addressed,
    /// Decoded parameters of the path, in order.
    path: Vec<String>,
    query: &'a str,
}

impl Call<'_> {
    /// A parameter of the path; the table says how many there are.
    fn parameter(&self, index: usize) -> &str {
        self.path.get(index).map_or("", String::as_str)
    }

    fn query(&self, name: &str) -> Option<String> {
        urls::query_value(self.query, name)
    }
}

/// Answers a request below `/api/v1`.
pub(crate) async fn answer<B>(
    ctx: &HttpContext,
    caller: Caller,
    request: &mut Request<B>,
    config: &Config,
    at: &Addressed,
) -> Reply
where
    B: Body<Data = Bytes> + Unpin,
{
    let reply = match perform(ctx, caller, request, config, at).await {
        Ok(Answer::Json(value)) => respond::json(StatusCode::OK, &value),
        Ok(Answer::NoContent) => respond::empty(StatusCode::NO_CONTENT),
        Err(problem) => problem.into_reply(),
    };
    private(reply)
}

/// Nobody keeps what the API says.
fn private(mut reply: Reply) -> Reply {
    respond::set(&mut reply, header::CACHE_CONTROL, "no-store");
    reply
}

async fn perform<B>(
    ctx: &HttpContext,
    caller: Caller,
    request: &mut Request<B>,
    config: &Config,
    at: &Addressed,
) -> Result<Answer, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let path = request.uri().path().to_owned();
    let below = path.strip_prefix(PREFIX).unwrap_or_default();
    let Found { route, parameters } = route::find(request.method(), below)?;
    let query = request.uri().query().unwrap_or_default().to_owned();
    let door = Door::of_api(&path, caller, request).guarding(route.guard);
    let admitted = door.open(ctx, caller, &query, request.headers()).await;
    admitted.map_err(|reply| Problem::of_refusal(&reply))?;
    let body = match route.body {
        Some(_) => body::read(request).await?,
        None => Bytes::new(),
    };
    let call = Call { ctx, config, at, path: parameters, query: &query };
    match route.operation {
        Operation::OpenApi => openapi::answer(),
        Operation::ListStreams => streams::list(&call).await,
        Operation::GetStream => streams::one(&call).await,
        Operation::GetTracks => streams::tracks(&call).await,
        Operation::ListViewers => streams::viewers(&call).await,
        Operation::EndStream => streams::end(&call).await,
        Operation::ListSessions => sessions::list(&call).await,
        Operation::GetSession => sessions::one(&call).await,
        Operation::EndSession => sessions::end(&call).await,
        Operation::ListPulls => transfers::pulls(&call).await,
        Operation::ListForwards => transfers::forwards(&call).await,
        Operation::ListRecordings => recordings::streams(&call).await,
        Operation::ListDays => recordings::days(&call).await,
        Operation::ListPieces => recordings::pieces(&call).await,
        Operation::GetConfig => configuration::get(&call),
        Operation::PutConfig => configuration::put(&call, &body).await,
        Operation::GetPolicy => policy::get(&call),
        Operation::PutPolicy => policy::put(&call, &body).await,
        Operation::GetReload => configuration::last_reload(&call),
        Operation::Reload => configuration::reload(&call).await,
        Operation::GetLog => system::log(&call),
        Operation::GetSystem => system::system(&call).await,
        Operation::GetStatistics => system::statistics(&call).await,
    }
}
