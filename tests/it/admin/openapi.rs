//! The OpenAPI document agrees with the API.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::assert_error;
use crate::support::server::FILE_HANDLER;
use crate::support::{Client, KEY, Settings, TestServer, now, signed, signed_with, wait_for};

const REJECTS: &str =
    "[handlers.rejects]\nto = { type = \"exec\", command = [\"sh\", \"-c\", \"exit 65\"] }\n";

/// A server with an item on every list, its document, and the id of an event.
fn described() -> (TestServer, Value, String) {
    let server = TestServer::start(&Settings::with_handlers(&format!(
        "{FILE_HANDLER}{REJECTS}"
    )));
    let body = json!({
        "event_type": 1, "app": "d", "appname": "live", "stream_id": "room-7", "sequence": "1", "appid": 5, "event_time": now(),
    });
    assert_eq!(server.post("/css", signed(body)).status, 200);
    let late = signed_with(KEY, now() - 3600, json!({ "event_type": 1, "note": "x" }));
    assert_eq!(server.post("/css/stream-begin", late).status, 401);
    for list in ["handlers/rejects/parked", "rejected", "streams"] {
        wait_for(list, || {
            let page = server.get(&format!("/api/{list}")).json();
            (!page["items"].as_array().unwrap().is_empty()).then_some(())
        });
    }
    let document = server.get("/api/openapi.json").json();
    let id = server.events()[0]["id"].as_str().unwrap().to_owned();
    (server, document, id)
}

/// A path with its parameters replaced.
fn filled(path: &str, id: &str) -> String {
    let places = [
        ("{id}", id),
        ("{name}", "rejects"),
        ("{source}", "css"),
        ("{domain}", "d"),
        ("{appname}", "live"),
        ("{streamid}", "room-7"),
    ];
    places.iter().fold(path.to_owned(), |path, (place, value)| {
        path.replace(place, value)
    })
}

/// Path, method and description of each operation.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (path.clone(), method.to_uppercase(), operation))
    });
    operations.collect()
}

fn names(operation: &Value, place: &str) -> Vec<String> {
    let parameters = operation["parameters"].as_array().unwrap().iter();
    let there = parameters.filter(|parameter| parameter["in"] == place);
    there
        .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_path_exists_and_takes_the_fields_of_the_document() {
    let (server, document, id) = described();
    assert_eq!(document["openapi"], "3.1.0");
    let operations = operations(&document);
    assert!(operations.len() >= 15);
    let example = |name: &str, schema: &Value| match schema["enum"][0].as_str() {
        Some(first) => first.to_owned(),
        None if schema["format"] == "date-time" => "2026-11-23T08:00:00Z".to_owned(),
        None if matches!(name, "limit" | "after") => "1".to_owned(),
        None if schema["type"] == "boolean" => "true".to_owned(),
        None => "x".to_owned(),
    };
    for (path, method, operation) in operations {
        let at = filled(&path, &id);
        assert!(!at.contains('{'), "{at}");
        if path.ends_with("s/stream") {
            continue; // it does not end; its fields are tried in its own tests
        }
        let mut client = Client::new(server.admin);
        if method == "POST" {
            let answer = client.request(&method, &at, &[], Some(b"[]")).unwrap();
            assert_eq!(answer.status, 400, "{path}");
            continue;
        }
        let required: String = operation["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|parameter| parameter["in"] == "query" && parameter["required"] == true)
            .map(|parameter| format!("{}=nobody&", parameter["name"].as_str().unwrap()))
            .collect();
        let mut ask = |query: &str| {
            let at = format!("{at}?{query}");
            client.request(&method, &at, &[], None).unwrap()
        };
        let good = if method == "DELETE" { 202 } else { 200 };
        assert_eq!(ask(&required).status, good, "{path}");
        if !required.is_empty() {
            assert_eq!(ask("").status, 400, "{path}");
        }
        let known = names(operation, "query");
        for parameter in operation["parameters"].as_array().unwrap() {
            let name = parameter["name"].as_str().unwrap();
            if parameter["in"] == "query" {
                assert!(
                    !parameter["description"].as_str().unwrap().is_empty(),
                    "{name}"
                );
                let others = required.replace(&format!("{name}=nobody&"), "");
                let value = example(name, &parameter["schema"]);
                let answer = ask(&format!("{others}{name}={value}"));
                assert_eq!(answer.status, good, "{path}: {name}: {}", answer.text());
            }
        }
        for name in [
            "limit", "after", "order", "kind", "source", "domain", "stream", "from", "to",
            "handler", "state", "reason", "payload", "dry_run",
        ] {
            if !known.iter().any(|known| known == name) {
                let answer = ask(&format!("{required}{name}=1"));
                assert_error(&answer, 400, &format!("`{name}`"));
            }
        }
    }
}

#[test]
fn answers_have_the_members_of_the_document() {
    let (server, document, id) = described();
    let properties = |schema: &Value| -> BTreeSet<String> {
        let name = schema["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        let schema = &document["components"]["schemas"][name];
        assert!(schema.is_object(), "{name}");
        let properties = schema["properties"].as_object();
        properties
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    };
    let members = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    // Members that exist only in some cases.
    let seldom = ["body_base64", "data_base64", "untyped"];
    let mut lists = 0;
    for (path, method, operation) in operations(&document) {
        for response in operation["responses"].as_object().unwrap().values() {
            if let Some(content) = response["content"].get("application/json") {
                let schema = &content["schema"];
                let item = &schema["properties"]["items"]["items"];
                properties(if item.is_null() { schema } else { item });
            }
        }
        let item = &operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]
            ["items"]["items"];
        if method != "GET" || item.is_null() {
            continue;
        }
        let at = filled(&path, &id);
        let page = server.get(&at).json();
        let (said, is) = (properties(item), members(&page["items"][0]));
        let missing: Vec<_> = said
            .difference(&is)
            .filter(|name| !seldom.contains(&name.as_str()))
            .collect();
        assert!(
            is.is_subset(&said) && missing.is_empty(),
            "{path}: said {said:?}, is {is:?}"
        );
        lists += 1;
    }
    assert_eq!(lists, 7);
    let detail = server.get("/api/streams/css/d/live/room-7").json();
    let said = properties(&json!({ "$ref": "#/components/schemas/Story" }));
    assert!(members(&detail).is_subset(&said) && detail["sessions"][0].is_object());
    let event = server.get(&format!("/api/events/{id}")).json();
    let said = properties(&json!({ "$ref": "#/components/schemas/CloudEvent" }));
    assert!(members(&event).is_subset(&said));
}

/// Every schema below a value of the document, with its path.
fn schemas<'a>(place: &str, schema: &'a Value, all: &mut Vec<(String, &'a Value)>) {
    all.push((place.to_owned(), schema));
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        schemas(&format!("{place}.{name}"), below, all);
    }
    if let Some(items) = schema.get("items") {
        schemas(&format!("{place}[]"), items, all);
    }
}

#[test]
fn the_document_has_what_client_generators_need() {
    let server = TestServer::start(&Settings::default());
    let document = server.get("/api/openapi.json").json();
    assert!(document["servers"][0]["url"].is_string());
    let tags = document["tags"].as_array().unwrap().iter();
    let tags: BTreeSet<_> = tags.map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut all = Vec::new();
    let mut names = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name), "{name} twice");
        let [tag] = &operation["tags"].as_array().unwrap()[..] else {
            panic!("{path} has not one tag");
        };
        assert!(tags.contains(tag.as_str().unwrap()), "{tag}");
        for parameter in operation["parameters"].as_array().unwrap() {
            assert!(!parameter["description"].as_str().unwrap().is_empty());
            schemas(&path, &parameter["schema"], &mut all);
        }
        let responses = operation["responses"].as_object().unwrap().values();
        for content in responses.chain(operation.get("requestBody")) {
            for (kind, content) in content["content"].as_object().unwrap() {
                schemas(
                    &format!("{method} {path} {kind}"),
                    &content["schema"],
                    &mut all,
                );
            }
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        schemas(name, schema, &mut all);
    }
    assert!(all.len() > 200);
    for (place, schema) in all {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{place}"
            );
            continue;
        }
        // One type, or two or three possible types.
        assert!(!types(schema).is_empty(), "{place} has no type: {schema}");
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(
                schema["properties"][name.as_str().unwrap()].is_object(),
                "{place}: {name}"
            );
        }
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one],
        several => several
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect(),
    }
}

/// Fails unless a value matches a schema: its type, its required members, and no others.
#[track_caller]
fn assert_fits(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return assert_fits(
            document,
            &document["components"]["schemas"][name],
            value,
            place,
        );
    }
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
    };
    let types = types(schema);
    let fits = types.contains(&is) || (is == "integer" && types.contains(&"number"));
    assert!(fits, "{place} is {value}, said to be {types:?}");
    if let (Some(known), Value::String(_)) = (schema["enum"].as_array(), value) {
        assert!(known.contains(value), "{place} is {value}");
    }
    for item in value.as_array().into_iter().flatten() {
        assert_fits(document, &schema["items"], item, &format!("{place}[]"));
    }
    let (Some(members), Some(known)) = (value.as_object(), schema["properties"].as_object()) else {
        return;
    };
    for required in schema["required"].as_array().into_iter().flatten() {
        let name = required.as_str().unwrap();
        assert!(members.contains_key(name), "{place} has no {name}");
    }
    for (name, value) in members {
        assert!(known.contains_key(name), "{place} has {name}");
        assert_fits(document, &known[name], value, &format!("{place}.{name}"));
    }
}

#[test]
fn answers_have_the_types_of_the_document() {
    let (server, document, id) = described();
    // Besides the event with all members, some with few members or rare ones.
    let more = [
        json!({ "event_type": 1 }),
        json!({ "event_type": 1, "stream_id": "alone" }),
        json!({ "event_type": 0, "app": "d", "appname": "live", "stream_id": "room-7", "sequence": "1", "errcode": 3,
            "event_time": now(), "push_duration": "1000" }),
        json!({ "event_type": 100, "app": "d", "appname": "live", "stream_id": "room-7", "file_id": "f", "video_url": "http://x/",
            "start_time": now(), "end_time": now() }),
        json!({ "event_type": 200, "app": "d", "appname": "live", "stream_id": "room-7", "create_time": now(), "width": 640 }),
        json!({ "event_type": 317, "app": "d", "appname": "live", "streamId": "room-7", "label": "Porn", "suggestion": "Block" }),
    ];
    for body in more {
        assert_eq!(server.post("/css", signed(body)).status, 200);
    }
    let raw = crate::support::signed_raw(b"\"event_type\":1,\"stream_id\":\"\xFF\"");
    assert_eq!(server.post("/css", raw).status, 200);
    let of_binary = server.events().pop().unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let detail = "/api/streams/css/d/live/room-7";
    wait_for("the detail", || {
        let detail = server.get(detail).json();
        let filled = |list: &str| !detail[list].as_array().unwrap().is_empty();
        (filled("recordings") && filled("audits") && detail["last_snapshot"].is_object())
            .then_some(())
    });
    for id in [id.as_str(), &of_binary] {
        for (path, method, operation) in operations(&document) {
            let content = &operation["responses"]["200"]["content"]["application/json"];
            if method != "GET" || content.is_null() {
                continue;
            }
            for query in ["", "?limit=1", "?payload=typed"] {
                let answer = server.get(&format!("{}{query}", filled(&path, id)));
                let schema = match answer.status {
                    200 => &content["schema"],
                    _ => {
                        &operation["responses"]["default"]["content"]["application/json"]["schema"]
                    }
                };
                assert!(query.is_empty() || matches!(answer.status, 200 | 400));
                assert_fits(&document, schema, &answer.json(), &path);
            }
        }
    }
    let commands = [
        (
            "/api/handlers/rejects/replay",
            json!({ "from": "2026-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "dry_run": true }),
        ),
        (
            "/api/handlers/rejects/discard",
            json!({ "parked": true, "dry_run": true }),
        ),
        (
            "/api/rejected/recheck",
            json!({ "source": "css", "dry_run": true }),
        ),
        ("/api/streams/rebuild", json!({})),
    ];
    for (path, command) in commands {
        let answer = server.command(path, &command);
        assert_eq!(answer.status, 202, "{path}: {}", answer.text());
        assert_fits(
            &document,
            &json!({ "$ref": "/Count" }),
            &answer.json(),
            path,
        );
    }
}
