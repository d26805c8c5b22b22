//! The table of routes: dispatch and document come from it, so they cannot differ.

use hyper::Method;
use protocols::text::percent_decode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::model;
use super::page::{LIMIT_MAX, NAME_CURSOR, NUMBER_MAX, PLACE_CURSOR};
use super::problem::Problem;
use crate::http::admit::Guard;
use crate::observe::log::KEPT_LINES;

/// What is done; the name is the `operationId` of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    OpenApi,
    ListStreams,
    GetStream,
    GetTracks,
    ListViewers,
    EndStream,
    ListSessions,
    GetSession,
    EndSession,
    ListPulls,
    ListForwards,
    ListRecordings,
    ListDays,
    ListPieces,
    GetConfig,
    PutConfig,
    GetPolicy,
    PutPolicy,
    GetReload,
    Reload,
    GetLog,
    GetSystem,
    GetStatistics,
}

/// How a route is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Put,
    Post,
    Delete,
}

impl Verb {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }

    fn is_of(self, method: &Method) -> bool {
        method.as_str() == self.name() || (self == Self::Get && *method == Method::HEAD)
    }
}

/// What a parameter may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    Limit(usize),
    NameCursor,
    PlaceCursor,
    Vhost,
    App,
    Role,
    From,
}

/// One route.
pub(super) struct Route {
    pub(super) method: Verb,
    /// Below `/api/v1`; `{name}` is a parameter.
    pub(super) path: &'static str,
    pub(super) operation: Operation,
    pub(super) guard: Guard,
    pub(super) summary: &'static str,
    pub(super) query: &'static [Parameter],
    /// Schema of the body, if it takes one.
    pub(super) body: Option<SchemaOf>,
    /// Schema of the answer; without it there is none to say (204).
    pub(super) answer: Option<SchemaOf>,
}

/// Gives the schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn any(_: &mut SchemaGenerator) -> Schema {
    Schema::from(true)
}

const NAMES: &[Parameter] = &[Parameter::Limit(LIMIT_MAX), Parameter::NameCursor];
const STREAM: &str = "/streams/{vhost}/{app}/{name}";

const fn read(
    path: &'static str,
    operation: Operation,
    answer: SchemaOf,
    query: &'static [Parameter],
    summary: &'static str,
) -> Route {
    let (method, guard) = (Verb::Get, Guard::Read);
    Route { method, path, operation, guard, summary, query, body: None, answer: Some(answer) }
}

const fn operate(
    method: Verb,
    path: &'static str,
    operation: Operation,
    answer: Option<SchemaOf>,
    summary: &'static str,
) -> Route {
    let guard = Guard::Operate;
    Route { method, path, operation, guard, summary, query: &[], body: None, answer }
}

/// All routes.
pub(super) static ROUTES: &[Route] = &[
    read("/openapi.json", Operation::OpenApi, any, &[], "This document."),
    read(
        "/streams",
        Operation::ListStreams,
        of::<model::StreamPage>,
        &[Parameter::Limit(LIMIT_MAX), Parameter::NameCursor, Parameter::Vhost, Parameter::App],
        "Live streams, sorted by vhost, app and name.",
    ),
    read(STREAM, Operation::GetStream, of::<model::Stream>, &[], "One live stream."),
    operate(
        Verb::Delete,
        STREAM,
        Operation::EndStream,
        Some(of::<model::Ended>),
        "Ends a stream: its publisher and its viewers are told to go. They may come back, and a \
         pull does.",
    ),
    read(
        "/streams/{vhost}/{app}/{name}/tracks",
        Operation::GetTracks,
        of::<model::Tracks>,
        &[],
        "What a live stream consists of.",
    ),
    read(
        "/streams/{vhost}/{app}/{name}/viewers",
        Operation::ListViewers,
        of::<model::SessionPage>,
        &[Parameter::Limit(LIMIT_MAX), Parameter::PlaceCursor],
        "Sessions that play a stream or wait for it.",
    ),
    read(
        "/sessions",
        Operation::ListSessions,
        of::<model::SessionPage>,
        &[Parameter::Limit(LIMIT_MAX), Parameter::PlaceCursor, Parameter::Role],
        "Sessions, in the order of their places; a page may be shorter than its limit although \
         more follow.",
    ),
    read("/sessions/{id}", Operation::GetSession, of::<model::Session>, &[], "One session."),
    operate(
        Verb::Delete,
        "/sessions/{id}",
        Operation::EndSession,
        None,
        "Ends a session: its peer is told to go.",
    ),
    read(
        "/pulls",
        Operation::ListPulls,
        of::<model::PullPage>,
        NAMES,
        "Streams that this server fetches itself.",
    ),
    read(
        "/forwards",
        Operation::ListForwards,
        of::<model::ForwardPage>,
        NAMES,
        "Streams that this server sends to others.",
    ),
    read(
        "/recordings/{vhost}",
        Operation::ListRecordings,
        of::<model::RecordingPage>,
        NAMES,
        "Names under which something is recorded.",
    ),
    read(
        "/recordings/{vhost}/{name}",
        Operation::ListDays,
        of::<model::DayPage>,
        NAMES,
        "Days on which something was recorded.",
    ),
    read(
        "/recordings/{vhost}/{name}/{day}",
        Operation::ListPieces,
        of::<model::PiecePage>,
        NAMES,
        "Pieces of the recording of a day.",
    ),
    operate(
        Verb::Get,
        "/config",
        Operation::GetConfig,
        Some(of::<model::Configuration>),
        "config.xml as it was last accepted.",
    ),
    Route {
        body: Some(of::<model::ConfigurationChange>),
        ..operate(
            Verb::Put,
            "/config",
            Operation::PutConfig,
            Some(of::<model::ReloadReport>),
            "Writes options into config.xml and puts them in force; comments stay. Nothing is \
             written that would be refused.",
        )
    },
    operate(
        Verb::Get,
        "/policy",
        Operation::GetPolicy,
        Some(of::<model::PolicyDocument>),
        "policy.xml as it was last accepted.",
    ),
    Route {
        body: Some(of::<model::PolicyDocument>),
        ..operate(
            Verb::Put,
            "/policy",
            Operation::PutPolicy,
            Some(of::<model::ReloadReport>),
            "Writes policy.xml and puts it in force; rules that stay are not touched.",
        )
    },
    operate(
        Verb::Get,
        "/reload",
        Operation::GetReload,
        Some(of::<model::ReloadReport>),
        "What the last reload has come to.",
    ),
    operate(
        Verb::Post,
        "/reload",
        Operation::Reload,
        Some(of::<model::ReloadReport>),
        "Reads both files and the certificates again and puts in force what differs.",
    ),
    Route {
        query: &[Parameter::Limit(KEPT_LINES), Parameter::From],
        ..operate(
            Verb::Get,
            "/log",
            Operation::GetLog,
            Some(of::<model::Log>),
            "The last lines of the log, or those from a number on.",
        )
    },
    operate(
        Verb::Get,
        "/system",
        Operation::GetSystem,
        Some(of::<model::System>),
        "The machine and the process.",
    ),
    read(
        "/statistics",
        Operation::GetStatistics,
        of::<model::Statistics>,
        &[],
        "Sums over all shards.",
    ),
];

/// The route of a request.
pub(super) struct Found {
    pub(super) route: &'static Route,
    /// Decoded parameters of the path, in order.
    pub(super) parameters: Vec<String>,
}

/// Finds the route of a method and a path below `/api/v1`, as sent.
pub(super) fn find(method: &Method, path: &str) -> Result<Found, Problem> {
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or_default().split('/').collect();
    let mut allow: Vec<&str> = Vec::new();
    for route in ROUTES {
        let Some(raw) = matched(route.path, &segments) else { continue };
        if route.method.is_of(method) {
            let decoded: Option<Vec<String>> = raw.into_iter().map(percent_decode).collect();
            let parameters = decoded
                .ok_or_else(|| Problem::bad_request("the path is not UTF-8 in percent coding"))?;
            return Ok(Found { route, parameters });
        }
        allow.push(route.method.name());
        if route.method == Verb::Get {
            allow.push("HEAD");
        }
    }
    match allow.is_empty() {
        true => Err(Problem::not_found("no such path: see /api/v1/openapi.json")),
        false => Err(Problem::method(&allow.join(", "))),
    }
}

fn matched<'p>(template: &str, segments: &[&'p str]) -> Option<Vec<&'p str>> {
    let mut parts = template.strip_prefix('/')?.split('/');
    let mut parameters = Vec::new();
    for segment in segments {
        let part = parts.next()?;
        match part.starts_with('{') {
            true if !segment.is_empty() => parameters.push(*segment),
            false if part == *segment => {}
            _ => return None,
        }
    }
    parts.next().is_none().then_some(parameters)
}

impl Parameter {
    /// Its name, schema and meaning.
    pub(super) fn described(self) -> (&'static str, Value, &'static str) {
        match self {
            Self::Limit(max) => (
                "limit",
                json!({ "type": "integer", "minimum": 1, "maximum": max }),
                "Most items of the answer.",
            ),
            Self::NameCursor => (
                "cursor",
                json!({ "type": "string", "pattern": NAME_CURSOR }),
                "`next` of the page before.",
            ),
            Self::PlaceCursor => (
                "cursor",
                json!({ "type": "string", "pattern": PLACE_CURSOR }),
                "`next` of the page before.",
            ),
            Self::Vhost => ("vhost", json!({ "type": "string" }), "Only of this virtual host."),
            Self::App => ("app", json!({ "type": "string" }), "Only of this app."),
            Self::Role => (
                "role",
                json!({ "type": "string", "enum": ["publish", "play", "idle"] }),
                "Only with this role.",
            ),
            Self::From => (
                "from",
                json!({ "type": "integer", "minimum": 0, "maximum": NUMBER_MAX }),
                "Number of the first line; behind the last one there are none, and next is their end.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart_and_parameters_decoded() {
        let found = find(&Method::GET, "/streams/default/live/a%2Fb").unwrap();
        assert_eq!(found.route.operation, Operation::GetStream);
        assert_eq!(found.parameters, ["default", "live", "a/b"]);
        let found = find(&Method::HEAD, "/streams/default/live/x/viewers").unwrap();
        assert_eq!(found.route.operation, Operation::ListViewers);
        for path in ["", "/", "/streams/", "/streams//live/x", "/nothing", "/streams/a/b/c/d/e"] {
            assert!(find(&Method::GET, path).is_err(), "{path}");
        }
        assert!(find(&Method::GET, "/sessions/%ff").is_err());
    }

    #[test]
    fn each_operation_has_one_route() {
        let mut seen = Vec::new();
        for route in ROUTES {
            assert!(!seen.contains(&route.operation), "{:?}", route.operation);
            seen.push(route.operation);
            let path = route.path.replace(['{', '}'], "");
            let method = Method::from_bytes(route.method.name().as_bytes()).unwrap();
            let found = find(&method, &path).unwrap();
            assert_eq!(found.route.operation, route.operation, "{path}");
            // What changes something is for the operator.
            assert!(route.method == Verb::Get || route.guard == Guard::Operate, "{path}");
        }
    }
}
