//! `GET /api/openapi.json`: the OpenAPI document, built from [`ENDPOINTS`].

use std::collections::BTreeSet;
use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::response::Response;
use css_callbacks::Kind;
use serde_json::{Map, Value, json};

use super::Problem;
use super::api::json_text;
use super::endpoints::{AnswerForm, Body, ENDPOINTS, Endpoint};
use super::query::{DEFAULT_LIMIT, Fields, MAX_LIMIT};
use crate::dispatch::HandlerState;
use crate::rejected::Reason;

mod schemas;

use schemas::schemas;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| describe().to_string());

/// `GET /api/openapi.json`
pub(super) async fn document(fields: Fields) -> Result<Response, Problem> {
    fields.end()?;
    Ok(json_text(StatusCode::OK, DOCUMENT.clone().into_bytes()))
}

fn describe() -> Value {
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "livehook",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The admin API. Lists come in pages: `after` takes the `next` of the page before.",
        },
        "servers": [{ "url": "/", "description": "the admin listener that serves this document" }],
        "tags": tags(),
        "security": [{ "token": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
        },
    })
}

/// The tag of an endpoint: the segment of its path after `/api/`.
fn tag(endpoint: &Endpoint) -> &'static str {
    let part = endpoint.path.split('/').nth(2).unwrap_or_default();
    part.trim_end_matches(".json")
}

fn tags() -> Value {
    let all: BTreeSet<_> = ENDPOINTS.iter().map(tag).collect();
    all.into_iter().map(|tag| json!({ "name": tag })).collect()
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    for part in endpoint.path.split('/') {
        if let Some(name) = part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        {
            parameters.push(json!({
                "name": name, "in": "path", "description": path_parameter(name), "required": true, "schema": { "type": "string" },
            }));
        }
    }
    for name in endpoint.query {
        let (description, schema) = query_parameter(name);
        let required = endpoint.required.contains(name);
        parameters.push(json!({
            "name": name, "in": "query", "description": description, "required": required, "schema": schema,
        }));
    }
    let json_of = |schema: Value| json!({ "application/json": { "schema": schema } });
    let list_of = |name: &str| {
        json!({
            "title": format!("{name}List"),
            "type": "object",
            "properties": {
                "items": { "type": "array", "items": schema_ref(name) },
                "next": { "type": ["string", "null"], "description": "the `after` of the next page" },
            },
            "required": ["items", "next"],
        })
    };
    let (status, content) = match endpoint.answer {
        AnswerForm::List(name) => ("200", json_of(list_of(name))),
        AnswerForm::One(name) => ("200", json_of(schema_ref(name))),
        AnswerForm::Count => ("202", json_of(schema_ref("Count"))),
        AnswerForm::Bytes => {
            let bytes = json!({ "type": "string", "format": "binary" });
            (
                "200",
                json!({ "application/octet-stream": { "schema": bytes } }),
            )
        }
        AnswerForm::Stream => (
            "200",
            json!({ "text/event-stream": { "schema": { "type": "string" } } }),
        ),
    };
    let mut operation = json!({
        "operationId": endpoint.name,
        "tags": [tag(endpoint)],
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": {
            status: { "description": "success", "content": content },
            "default": { "description": "the reason for the failure", "content": json_of(schema_ref("Error")) },
        },
    });
    if let Some(body) = endpoint.body {
        let name = match body {
            Body::Selection => "Selection",
            Body::Recheck => "Recheck",
            Body::Backup => "BackupRequest",
            Body::Nothing => "Nothing",
        };
        let required = matches!(body, Body::Selection | Body::Backup);
        operation["requestBody"] =
            json!({ "required": required, "content": json_of(schema_ref(name)) });
    }
    operation
}

fn schema_ref(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn one_of(values: impl IntoIterator<Item = &'static str>) -> Value {
    json!({ "type": "string", "enum": values.into_iter().collect::<Vec<_>>() })
}

/// The description of a path parameter.
fn path_parameter(name: &str) -> &'static str {
    match name {
        "id" => "an event's id",
        "name" => "a handler's name",
        "source" => "the name of the source",
        _ => "as in the stream's name; `-` stands for an empty one",
    }
}

/// The description and the schema of a query parameter.
fn query_parameter(name: &str) -> (&'static str, Value) {
    let text = json!({ "type": "string" });
    let time = json!({ "type": "string", "format": "date-time" });
    match name {
        "limit" => (
            "the largest number of items in the answer",
            json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT }),
        ),
        "after" => ("the `next` of the page before", text),
        "order" => ("which items come first", one_of(["oldest", "newest"])),
        "kind" => ("only this kind", one_of(Kind::every().map(Kind::slug))),
        "source" => ("only this source", text),
        "domain" => ("only this domain", text),
        "stream" => (
            "only this stream: `streamid`, or `appname/streamid`; an event without an appname is found by its `streamid` alone",
            text,
        ),
        "from" => ("only items received at this time or later", time),
        "to" => ("only items received before this time", time),
        "handler" => ("only this handler", text),
        "state" => (
            "only handlers in this state",
            one_of(HandlerState::ALL.map(HandlerState::slug)),
        ),
        "reason" => (
            "only callbacks rejected for this reason",
            one_of(Reason::all().map(Reason::slug)),
        ),
        "live" => (
            "`true`: only live streams; `false`: only others",
            json!({ "type": "boolean" }),
        ),
        "search" => (
            "only streams with this text in `domain/appname/streamid`; upper and lower case are equal",
            text,
        ),
        "dry_run" => ("only count, change nothing", json!({ "type": "boolean" })),
        "payload" => ("the form of `data`", one_of(["original", "typed"])),
        _ => ("", text),
    }
}
