//! `GET /api/openapi.json`: the API in words that programs understand, made from [`ENDPOINTS`].

use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::Problem;
use super::api::json_text;
use super::endpoints::{Answer, Body, ENDPOINTS, Endpoint};
use super::query::{DEFAULT_LIMIT, Fields, MAX_LIMIT};
use crate::dispatch::{Progress, State};
use crate::kind::Kind;
use crate::metrics::CallbackResult;
use crate::rejected::Reason;

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
            "description": "The admin API. Lists come in parts: `after` takes the `next` of the part before.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    for part in endpoint.path.split('/') {
        if let Some(name) = part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        {
            parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
        }
    }
    for name in endpoint.query {
        let (description, schema) = field(name);
        let required = endpoint.required.contains(name);
        parameters.push(json!({
            "name": name, "in": "query", "description": description, "required": required, "schema": schema,
        }));
    }
    let json_of = |schema: Value| json!({ "application/json": { "schema": schema } });
    let list_of = |name: &str| {
        json!({
            "type": "object",
            "properties": {
                "items": { "type": "array", "items": reference(name) },
                "next": { "type": ["string", "null"], "description": "where the next part begins" },
            },
            "required": ["items", "next"],
        })
    };
    let (status, content) = match endpoint.answer {
        Answer::List(name) => ("200", json_of(list_of(name))),
        Answer::One(name) => ("200", json_of(reference(name))),
        Answer::Count => ("202", json_of(reference("Count"))),
        Answer::Bytes => ("200", json!({ "application/octet-stream": {} })),
        Answer::Stream => ("200", json!({ "text/event-stream": {} })),
    };
    let mut operation = json!({
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": {
            status: { "description": "as asked", "content": content },
            "default": { "description": "why not", "content": json_of(reference("Error")) },
        },
    });
    if let Some(body) = endpoint.body {
        let name = match body {
            Body::Selection => "Selection",
            Body::Recheck => "Recheck",
            Body::Nothing => "Nothing",
        };
        operation["requestBody"] =
            json!({ "required": body == Body::Selection, "content": json_of(reference(name)) });
    }
    operation
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn one_of(values: impl IntoIterator<Item = &'static str>) -> Value {
    json!({ "type": "string", "enum": values.into_iter().collect::<Vec<_>>() })
}

/// What a field of a query means, and what it may be.
fn field(name: &str) -> (&'static str, Value) {
    let text = json!({ "type": "string" });
    let time = json!({ "type": "string", "format": "date-time" });
    match name {
        "limit" => (
            "at most so many items",
            json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT }),
        ),
        "after" => ("the `next` of the part before", text),
        "order" => ("which come first", one_of(["oldest", "newest"])),
        "kind" => ("of this kind", one_of(Kind::every().map(Kind::slug))),
        "source" => ("of this source", text),
        "domain" => ("of this domain", text),
        "stream" => (
            "of this stream: `streamid`, or `appname/streamid`; an event without an appname is found by its `streamid` alone",
            text,
        ),
        "from" => ("received then or later", time),
        "to" => ("received before then", time),
        "handler" => ("of this handler", text),
        "state" => ("in this state", one_of(State::ALL.map(State::slug))),
        "reason" => (
            "refused for this reason",
            one_of(Reason::all().map(Reason::slug)),
        ),
        "live" => ("live, or not", json!({ "type": "boolean" })),
        "search" => (
            "with this text in `domain/appname/streamid`, in any case",
            text,
        ),
        "dry_run" => ("only count", json!({ "type": "boolean" })),
        "payload" => ("the form of `data`", one_of(["original", "typed"])),
        _ => ("", text),
    }
}

fn schemas() -> Value {
    let text = || json!({ "type": "string" });
    let maybe = || json!({ "type": ["string", "null"] });
    let time = || json!({ "type": "string", "format": "date-time" });
    let maybe_time = || json!({ "type": ["string", "null"], "format": "date-time" });
    let number = || json!({ "type": "integer" });
    let maybe_number = || json!({ "type": ["integer", "null"] });
    let flag = || json!({ "type": "boolean" });
    let attributes = || {
        json!({
            "specversion": text(), "id": text(), "source": text(), "type": text(), "subject": text(), "time": time(),
            "datacontenttype": text(), "appid": text(), "domain": text(), "appname": text(), "streamid": text(),
            "pushsequence": text(), "receivedtime": time(),
        })
    };
    let stream = || {
        json!({
            "source": text(), "domain": text(), "appname": text(), "streamid": text(), "pushsequence": text(), "live": flag(),
            "since": maybe_time(), "last": time(),
        })
    };
    let with = |mut properties: Value, more: Value| {
        if let (Some(all), Value::Object(more)) = (properties.as_object_mut(), more) {
            all.extend(more);
        }
        json!({ "type": "object", "properties": properties })
    };
    let object = |properties: Value| with(properties, json!({}));
    let results = [
        CallbackResult::Refused,
        CallbackResult::Overloaded,
        CallbackResult::Failed,
    ];
    json!({
        "Event": object(attributes()),
        "CloudEvent": with(attributes(), json!({ "data": {}, "data_base64": text(), "untyped": { "type": ["boolean", "string"] } })),
        "Parked": with(attributes(), json!({
            "attempts": number(), "first_attempt": maybe_time(), "parked_at": time(), "error": text(), "replaying": flag(),
        })),
        "Delivery": object(json!({
            "handler": text(), "state": one_of(Progress::ALL.map(Progress::slug)), "attempts": maybe_number(), "first_attempt": maybe_time(),
            "due": maybe_time(), "parked_at": maybe_time(), "error": maybe(),
        })),
        "Handler": object(json!({
            "name": text(), "type": text(), "state": one_of(State::ALL.map(State::slug)), "lag_events": number(),
            "lag_seconds": { "type": "number" }, "retrying": number(), "waiting": number(), "parked": number(), "replaying": number(),
            "last_success": maybe_time(), "last_failure": { "type": ["object", "null"], "properties": { "time": time(), "error": text() } },
        })),
        "Stream": object(stream()),
        "Story": with(stream(), json!({
            "sessions": { "type": "array", "items": { "type": "object", "properties": {
                "pushsequence": maybe(), "start": time(), "begin_known": flag(), "end": maybe_time(),
                "duration_seconds": { "type": ["number", "null"] }, "superseded": flag(), "pusher": maybe(), "width": maybe_number(),
                "height": maybe_number(), "errcode": maybe_number(), "end_reason": maybe(), "errmsg": maybe(), "push_exceptions": number(),
            } } },
            "push_exceptions": number(),
            "last_snapshot": { "type": ["object", "null"], "properties": {
                "id": text(), "time": maybe_time(), "url": maybe(), "width": maybe_number(), "height": maybe_number(),
            } },
            "recordings": { "type": "array", "items": { "type": "object", "properties": {
                "id": text(), "state": text(), "open": flag(), "start": maybe_time(), "end": maybe_time(), "url": maybe(),
            } } },
            "audits": { "type": "array", "items": { "type": "object", "properties": {
                "id": text(), "type": text(), "time": maybe_time(), "suggestion": maybe(), "label": maybe(),
            } } },
            "timeline": { "type": "array", "items": reference("Event") },
            "next": maybe(),
        })),
        "RetryWindow": object(json!({
            "source": text(), "kind": text(), "result": one_of(results.map(CallbackResult::slug)), "since": time(),
            "last": time(), "window_seconds": number(), "remaining_seconds": number(),
        })),
        "Rejected": object(json!({
            "id": text(), "reason": one_of(Reason::all().map(Reason::slug)), "receivedtime": time(), "source": text(), "kind": text(),
            "url_kind": maybe(), "client": maybe(), "token_sha256": maybe(), "size": number(), "body": maybe(), "body_base64": text(),
        })),
        "Selection": object(json!({
            "event": text(), "parked": { "const": true }, "from": time(), "to": time(), "dry_run": flag(),
        })),
        "Recheck": object(json!({ "source": text(), "dry_run": flag() })),
        "Nothing": { "type": "object", "maxProperties": 0 },
        "State": object(json!({ "state": text() })),
        "Count": object(json!({ "count": number(), "without_appname": number(), "maybe_another_app": number() })),
        "Document": { "type": "object" },
        "Error": object(json!({ "code": number(), "message": text() })),
    })
}
