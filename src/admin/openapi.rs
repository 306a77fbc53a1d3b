//! `GET /api/openapi.json`: the OpenAPI document, built from [`ENDPOINTS`].

use std::collections::BTreeSet;
use std::sync::LazyLock;

use axum::Json;
use css_callbacks::Kind;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::body::JsonResult;
use super::endpoints::{AnswerForm, Body, ENDPOINTS, Endpoint};
use super::query::{DEFAULT_LIMIT, Fields, MAX_LIMIT};
use crate::api::{CountAnswer, ErrorAnswer};
use crate::dispatch::HandlerState;
use crate::rejected::Reason;

#[derive(Serialize, JsonSchema)]
pub(super) struct Document(Map<String, Value>);

static DOCUMENT: LazyLock<Document> = LazyLock::new(describe);

/// `GET /api/openapi.json`
pub(super) async fn document(fields: Fields) -> JsonResult<&'static Document> {
    fields.end()?;
    Ok(Json(&DOCUMENT))
}

fn describe() -> Document {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings
        .with_transform(RecursiveTransform(never_null_if_optional))
        .into_generator();
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method] = operation(endpoint, &mut generator);
    }
    let document = json!({
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
            "schemas": generator.take_definitions(true),
        },
    });
    Document(document.as_object().cloned().unwrap_or_default())
}

/// A member that may be absent is absent instead of null.
fn never_null_if_optional(schema: &mut Schema) {
    let required = schema.get("required").cloned().unwrap_or_default();
    let required = required.as_array().map_or(&[][..], Vec::as_slice);
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    for (name, property) in properties {
        if let Some(types) = property.get_mut("type")
            && !required.contains(&json!(name))
            && let Some([one, null]) = types.as_array().map(Vec::as_slice)
            && null == "null"
        {
            *types = one.clone();
        }
    }
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

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
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
    let json_of = |schema: Schema| json!({ "application/json": { "schema": schema } });
    let (status, content) = match endpoint.answer {
        AnswerForm::Object(schema) => ("200", json_of(schema(generator))),
        AnswerForm::Count => ("202", json_of(generator.subschema_for::<CountAnswer>())),
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
            "default": { "description": "the reason for the failure", "content": json_of(generator.subschema_for::<ErrorAnswer>()) },
        },
    });
    let (schema, required) = match endpoint.body {
        Body::None => return operation,
        Body::Optional(schema) => (schema, false),
        Body::Required(schema) => (schema, true),
    };
    operation["requestBody"] =
        json!({ "required": required, "content": json_of(schema(generator)) });
    operation
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
