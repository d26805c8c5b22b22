//! The document that describes the API (OpenAPI 3.1), rendered from the table of routes.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::problem::{Document, Problem};
use super::route::{Operation, ROUTES, Route};
use super::{Answer, PREFIX};

/// An answer that holds what another operation needs (OpenAPI 3.1, 4.8.20).
struct Link {
    from: Operation,
    to: Operation,
    /// Parameters, and where they stand.
    parameters: &'static [(&'static str, &'static str)],
}

const LINKS: &[Link] = &[
    Link { from: Operation::ListStreams, to: Operation::GetStream, parameters: OF_STREAM },
    Link { from: Operation::ListStreams, to: Operation::GetTracks, parameters: OF_STREAM },
    Link { from: Operation::ListStreams, to: Operation::ListViewers, parameters: OF_STREAM },
    Link {
        from: Operation::ListSessions,
        to: Operation::GetSession,
        parameters: &[("id", "$response.body#/sessions/0/id")],
    },
    Link {
        from: Operation::ListRecordings,
        to: Operation::ListDays,
        parameters: &[("vhost", "$request.path.vhost"), ("name", "$response.body#/recordings/0")],
    },
    Link {
        from: Operation::ListDays,
        to: Operation::ListPieces,
        parameters: &[
            ("vhost", "$request.path.vhost"),
            ("name", "$request.path.name"),
            ("day", "$response.body#/days/0"),
        ],
    },
];

const OF_STREAM: &[(&str, &str)] = &[
    ("vhost", "$response.body#/streams/0/vhost"),
    ("app", "$response.body#/streams/0/app"),
    ("name", "$response.body#/streams/0/name"),
];

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

pub(super) fn answer() -> Result<Answer, Problem> {
    Ok(Answer::Json(DOCUMENT.clone()))
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Document>();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let mut operation = json!({
            "operationId": format!("{:?}", route.operation),
            "summary": route.summary,
            "parameters": parameters(route),
            "responses": {
                "default": {
                    "description": "It could not be done.",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
        });
        let (status, answer) = match route.answer {
            Some(schema) => {
                let content = json!({ "application/json": { "schema": schema(&mut generator) } });
                ("200", json!({ "description": "Done.", "content": content }))
            }
            None => ("204", json!({ "description": "Done." })),
        };
        operation["responses"][status] = answer;
        for link in LINKS.iter().filter(|link| link.from == route.operation) {
            let name = format!("{:?}", link.to);
            let of = |(name, place): &(&str, &str)| ((*name).to_owned(), json!(place));
            let parameters: Map<String, Value> = link.parameters.iter().map(of).collect();
            operation["responses"][status]["links"][&name] =
                json!({ "operationId": name, "parameters": parameters });
        }
        if let Some(schema) = route.body {
            let content = json!({ "application/json": { "schema": schema(&mut generator) } });
            operation["requestBody"] = json!({ "required": true, "content": content });
        }
        let path = paths.entry(format!("{PREFIX}{}", route.path)).or_insert_with(|| json!({}));
        path[route.method.name().to_ascii_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "smart-rtmpd",
            "version": "1",
            "description": "What goes on in the server, and what can be changed while it does. \
                This machine may ask for everything, and others with a credential of role api, \
                such as the administrator's token. The addresses of http/api_allow need none for \
                what changes nothing, the configuration, the policy, the reloads, the log and the \
                machine left out.",
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) },
    })
}

fn parameters(route: &Route) -> Vec<Value> {
    let of_path = route.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        let schema = match name {
            "id" => json!({ "type": "string", "pattern": "^[0-9]{1,5}-[0-9]{1,19}$" }),
            "day" => json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" }),
            // That of a recording has the app in front.
            "name" => json!({ "type": "string", "minLength": 1, "maxLength": 511 }),
            _ => json!({ "type": "string", "minLength": 1, "maxLength": 255 }),
        };
        Some(json!({ "name": name, "in": "path", "required": true, "schema": schema }))
    });
    let of_query = route.query.iter().map(|parameter| {
        let (name, schema, description) = parameter.described();
        json!({ "name": name, "in": "query", "schema": schema, "description": description })
    });
    of_path.chain(of_query).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let mut described: Vec<(String, String)> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys().cloned();
                methods.map(move |method| (path.clone(), method))
            })
            .collect();
        let mut routes: Vec<(String, String)> = ROUTES
            .iter()
            .map(|route| {
                (format!("{PREFIX}{}", route.path), route.method.name().to_ascii_lowercase())
            })
            .collect();
        described.sort();
        routes.sort();
        assert_eq!(described, routes);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let known = document["components"]["schemas"].as_object().unwrap();
        for reference in text.split("\"$ref\":\"").skip(1) {
            let reference = reference.split('"').next().unwrap();
            let name = reference.strip_prefix("#/components/schemas/").unwrap_or_else(|| {
                panic!("{reference}");
            });
            assert!(known.contains_key(name), "{name}");
        }
    }
}
