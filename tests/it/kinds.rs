//! Every kind on its way from the URL to the handlers: the fixtures of
//! `crates/css-callbacks/tests/fixtures`, and bodies that do not say what their URL says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use css_callbacks::Kind;
use serde_json::{Value, json};

use crate::support::server::FILE_HANDLER;
use crate::support::{
    Client, KEY, Settings, TestServer, json_lines, signed, signed_raw, signed_with, wait_for,
};

/// A second file beside [`FILE_HANDLER`]'s, with the typed form.
const TYPED: &str =
    "[handlers.typed]\npayload = \"typed\"\nto = { type = \"file\", path = \"typed.jsonl\" }\n";

struct Fixture {
    name: String,
    kind: Kind,
    body: String,
    typed: Value,
}

/// All fixtures; `relay.task-exit.json` is a second one of the kind `relay`.
fn fixtures() -> Vec<Fixture> {
    let directory =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/css-callbacks/tests/fixtures");
    let read = |name: String| fs::read_to_string(directory.join(name)).unwrap();
    let mut all = Vec::new();
    for entry in fs::read_dir(&directory).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file
            .strip_suffix(".json")
            .filter(|name| !name.ends_with(".typed"))
        else {
            continue;
        };
        all.push(Fixture {
            name: name.to_owned(),
            kind: Kind::from_slug(name.split('.').next().unwrap()).unwrap(),
            body: read(file.clone()),
            typed: serde_json::from_str(&read(format!("{name}.typed.json"))).unwrap(),
        });
    }
    let kinds: BTreeSet<Kind> = all.iter().map(|fixture| fixture.kind).collect();
    assert!(
        Kind::ALL.iter().all(|kind| kinds.contains(kind)),
        "a fixture for each kind"
    );
    all
}

/// The `data` of a line as text. It is the last member.
fn data_text(line: &str) -> &str {
    let (_, data) = line.split_once(",\"data\":").unwrap();
    data.strip_suffix('}').unwrap()
}

/// The attributes that must exist. All others must not.
fn expected_attributes(kind: Kind, body: &Value) -> BTreeMap<&'static str, String> {
    let text = |names: &[&str]| {
        names.iter().find_map(|name| match &body[*name] {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    let domain = match body["event_type"].as_i64().unwrap() {
        0 | 1 | 100 | 200 | 317 => text(&["app"]),
        _ => text(&["domain"]),
    };
    let to_url = text(&["to_url"]).unwrap_or_default();
    let target: Vec<&str> = to_url.split(['/', '?']).collect();
    let target = |at: usize| target.get(at).map(|part| (*part).to_owned());
    let domain = domain.or_else(|| target(2));
    let appname = text(&["appname", "path"]).or_else(|| target(3));
    let streamid = text(&["stream_id", "streamId"]);
    let subject = match (&domain, &appname, &streamid) {
        (Some(domain), Some(app), Some(stream)) => Some(format!("{domain}/{app}/{stream}")),
        _ => None,
    };
    let all = [
        ("specversion", Some("1.0".to_owned())),
        ("source", Some("/css".to_owned())),
        ("type", Some(format!("css.{}", kind.slug()))),
        ("datacontenttype", Some("application/json".to_owned())),
        ("subject", subject),
        ("appid", text(&["appid", "appId"])),
        ("domain", domain),
        ("appname", appname),
        ("streamid", streamid),
        ("pushsequence", text(&["sequence"])),
    ];
    all.into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

#[test]
fn every_fixture_arrives_as_it_was_sent_and_as_its_typed_form() {
    let server = TestServer::start(&Settings::with_handlers(&format!("{FILE_HANDLER}{TYPED}")));
    let mut client = server.client();
    let mut sent = BTreeMap::new();
    for fixture in fixtures() {
        for path in [format!("/css/{}", fixture.kind.slug()), "/css".to_owned()] {
            let marker = format!("{} to {path}", fixture.name);
            let body = fixture.body.trim_end();
            let members = body.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
            let body = signed_raw(format!("{members},\"marker\":{}", json!(marker)).as_bytes());
            let body = String::from_utf8(body).unwrap();
            let answer = client.post(&path, &body).unwrap();
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, "{\"code\":0}"),
                "{marker}"
            );
            let mut typed = fixture.typed.clone();
            let received: Value = serde_json::from_str(&body).unwrap();
            for added in ["marker", "t", "sign"] {
                typed[added] = received[added].clone();
            }
            sent.insert(marker, (fixture.kind, body, typed));
        }
    }
    let original = lines(&server, "events.jsonl", sent.len());
    for line in &original {
        let event: Value = serde_json::from_str(line).unwrap();
        let marker = event["data"]["marker"].as_str().unwrap();
        let (kind, body, _) = &sent[marker];
        assert_eq!(data_text(line), body.replace('\n', ""), "{marker}");
        check_attributes(&event, *kind);
    }
    let typed = lines(&server, "typed.jsonl", sent.len());
    for line in &typed {
        let event: Value = serde_json::from_str(line).unwrap();
        let marker = event["data"]["marker"].as_str().unwrap();
        let (kind, _, typed) = &sent[marker];
        assert_eq!(event["type"], format!("css.{}", kind.slug()));
        assert_eq!(&event["data"], typed, "{marker}");
        assert_eq!(event.get("untyped"), None, "{marker}");
    }
    let ids: BTreeSet<String> = original.iter().map(|line| id_of(line)).collect();
    assert_eq!(ids.len(), sent.len());
    assert_eq!(ids, typed.iter().map(|line| id_of(line)).collect());
}

fn lines(server: &TestServer, file: &str, count: usize) -> Vec<String> {
    let path = server.path().join(file);
    wait_for("all lines", || {
        Some(json_lines(&path).len()).filter(|found| *found >= count)
    });
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), count);
    lines
}

fn id_of(line: &str) -> String {
    let event: Value = serde_json::from_str(line).unwrap();
    let id = event["id"].as_str().unwrap().to_owned();
    assert!(
        id.len() == 32
            && id
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    );
    id
}

fn check_attributes(event: &Value, kind: Kind) {
    let own = ["id", "time", "receivedtime", "data"];
    let found: BTreeMap<&str, String> = event
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(found, expected_attributes(kind, &event["data"]));
    assert!(event["receivedtime"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn the_time_is_the_events_own() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let cases = [
        (
            json!({ "event_type": 1, "event_time": 1795420800 }),
            Some("2026-11-23T08:00:00Z"),
        ),
        (
            json!({ "event_type": 314, "event_time": "1795420800" }),
            Some("2026-11-23T08:00:00Z"),
        ),
        (
            json!({ "event_type": 328, "event_time": 1795420800123i64 }),
            Some("2026-11-23T08:00:00.123Z"),
        ),
        (
            json!({ "event_type": 341, "timestamp": 1795420800 }),
            Some("2026-11-23T08:00:00Z"),
        ),
        (
            json!({ "event_type": 321, "data_time": 1795420800000i64 }),
            Some("2026-11-23T08:00:00Z"),
        ),
        (
            json!({ "event_type": 200, "create_time": 1795420800 }),
            Some("2026-11-23T08:00:00Z"),
        ),
        (
            json!({ "event_type": 317, "screenshotTime": 1795420800 }),
            Some("2026-11-23T08:00:00Z"),
        ),
        (
            json!({ "event_type": 100, "end_time": 1795420800 }),
            Some("2026-11-23T08:00:00Z"),
        ),
        (
            json!({ "event_type": 348, "end_time": 1795420800 }),
            Some("2026-11-23T08:00:00Z"),
        ),
        (json!({ "event_type": 349, "end_time": 1795420800 }), None),
        (
            json!({ "event_type": 349, "items": [{ "end_time": 1795420800 }, { "end_time": 1795420700 }] }),
            Some("2026-11-23T08:00:00Z"),
        ),
        (json!({ "event_type": 338 }), None),
        (
            json!({ "event_type": 338, "data": { "subtitle_tmp_res": [{ "end_unix_time": 1795420799 }, { "end_unix_time": 1795420800 }] } }),
            Some("2026-11-23T08:00:00Z"),
        ),
        (
            json!({ "event_type": 347, "data": { "subtitle_tmp_res": [{ "end_unix_time": "1795420800" }] } }),
            Some("2026-11-23T08:00:00Z"),
        ),
        (
            json!({ "event_type": 347, "data": { "subtitle_tmp_res": [{ "end_unix_time": "soon" }] } }),
            None,
        ),
        (
            json!({ "event_type": 315, "data": { "asr_tmp_full_results": [{ "create_time": 1795420800 }] } }),
            Some("2026-11-23T08:00:00Z"),
        ),
        (
            json!({ "event_type": 315, "create_time": 1795420800 }),
            Some("2026-11-23T08:00:00Z"),
        ),
        (json!({ "event_type": 329 }), None),
    ];
    let mut client = server.client();
    for (case, (body, _)) in cases.iter().enumerate() {
        let mut body = body.clone();
        body["case"] = case.into();
        assert_eq!(client.post("/css", signed(body)).unwrap().status, 200);
    }
    for line in lines(&server, "events.jsonl", cases.len()) {
        let event: Value = serde_json::from_str(&line).unwrap();
        let (body, time) = &cases[event["data"]["case"].as_u64().unwrap() as usize];
        assert_eq!(event["time"].as_str(), *time, "{body}");
    }
}

/// Posts a signed body and gives the type of the event it became.
fn type_of(server: &TestServer, client: &mut Client, path: &str, mut body: Value) -> String {
    let before = server.events().len();
    body["case"] = before.into();
    let answer = client.post(path, signed(body)).unwrap();
    assert_eq!(answer.status, 200, "{path}");
    let events = server.events();
    assert_eq!(events.len(), before + 1);
    events[before]["type"].as_str().unwrap().to_owned()
}

#[test]
fn the_body_decides_on_the_kind_whatever_the_url_says() {
    let server = TestServer::start(&Settings::default());
    let mut client = server.client();
    let mut check = |path: &str, body: Value, expected: &str| {
        let found = type_of(&server, &mut client, path, body.clone());
        assert_eq!(found, expected, "{body} at {path}");
    };
    for _ in 0..2 {
        check(
            "/css/stream-begin",
            json!({ "event_type": 0 }),
            "css.stream-end",
        );
    }
    check(
        "/css/snapshot",
        json!({ "event_type": 1 }),
        "css.stream-begin",
    );
    check(
        "/css/stream-end",
        json!({ "event_type": "100" }),
        "css.record",
    );
    check(
        "/css?action=streamEnd",
        json!({ "event_type": 0 }),
        "css.stream-end",
    );
    check(
        "/css/stream-begin?action=streamBegin&x=%zz",
        json!({ "event_type": 1 }),
        "css.stream-begin",
    );
    for path in [
        "/css",
        "/css/relay",
        "/css/assessment-threshold",
        "/css/assessment-average",
    ] {
        let average = json!({ "event_type": 344, "average_score": 60.5 });
        check(path, average, "css.assessment-average");
        check(
            path,
            json!({ "event_type": 344, "score": 1 }),
            "css.assessment-threshold",
        );
        check(path, json!({ "event_type": 345 }), "css.assessment-average");
    }
    check("/css/summary", json!({ "stream_id": "a" }), "css.summary");
    check("/css", json!({ "stream_id": "a" }), "css.unknown");
    check(
        "/css/stream-begin",
        json!({ "event_type": 318 }),
        "css.unknown",
    );
    check("/css", json!({ "event_type": 330 }), "css.streamlive-end");
    check("/css", json!({ "event_type": 331 }), "css.unknown");
    check("/css", json!({ "event_type": [1] }), "css.unknown");
    let mixed_up = "livehook_mixed_up_urls_total{source=\"css\",url=\"stream-begin\"}";
    assert_eq!(server.metric(mixed_up), 2.0);
    let logged = server
        .log()
        .lines()
        .filter(|line| line.contains("callback.kind=\"stream-end\" url.kind=\"stream-begin\""))
        .count();
    assert_eq!(
        logged,
        1,
        "logged once per source and pair:\n{}",
        server.log()
    );
}

#[test]
fn what_does_not_fit_is_named_and_all_else_is_typed() {
    let server = TestServer::start(&Settings::with_handlers(&format!("{FILE_HANDLER}{TYPED}")));
    let untyped = "livehook_untyped_members_total{kind=\"stream-end\"}";
    assert!(server.get("/metrics").text().contains(untyped));
    let body = json!({
        "event_type": 0, "app": "d", "appname": "live", "stream_id": "room-7", "sequence": 7,
        "errcode": { "not": "a number" }, "push_duration": "long", "width": "154.5", "event_time": 1795420800
    });
    let bodies = [
        body,
        json!({ "event_type": 100, "duration": 154.5, "callback_ext": "" }),
        json!({ "event_type": 348, "key_words": "", "key_points": "[\"a\"]" }),
        json!({ "event_type": 999 }),
    ];
    for body in bodies {
        let body = signed_with(KEY, crate::support::now() + 600, body);
        assert_eq!(server.post("/css", &body).status, 200);
    }
    let events = lines(&server, "typed.jsonl", 4);
    let events: Vec<Value> = events
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &str| {
        let is = |event: &&Value| event["type"] == format!("css.{kind}");
        events.iter().find(is).unwrap()
    };
    let end = of("stream-end");
    assert_eq!(end["untyped"], "errcode,push_duration");
    assert_eq!(end["subject"], "d/live/room-7");
    assert_eq!(end["pushsequence"], "7");
    assert_eq!(end["time"], "2026-11-23T08:00:00Z");
    assert_eq!(end["data"]["errcode"], json!({ "not": "a number" }));
    assert_eq!(end["data"]["push_duration"], "long");
    assert_eq!(end["data"]["width"], 154.5);
    assert_eq!(end["data"]["sequence"], "7");
    assert_eq!(end["data"]["domain"], "d");
    let record = of("record");
    assert_eq!(record.get("untyped"), None);
    assert_eq!(record["data"]["duration"], 154.5);
    let summary = of("summary");
    assert_eq!(summary["untyped"], "key_words");
    assert_eq!(summary["data"]["key_words"], "");
    assert_eq!(summary["data"]["key_points"], json!(["a"]));
    assert_eq!(of("unknown")["untyped"], true);
    wait_for("the counts", || {
        let summaries = "livehook_untyped_members_total{kind=\"summary\"}";
        (server.metric(untyped) == 2.0 && server.metric(summaries) == 1.0).then_some(())
    });
    let records = "livehook_untyped_members_total{kind=\"record\"}";
    assert_eq!(server.metric(records), 0.0);
}

#[test]
fn only_exact_names_are_endpoints() {
    let server = TestServer::start(&Settings::default());
    let mut client = server.client();
    for path in [
        "/css/unknown",
        "/css/streambegin",
        "/css/Stream-Begin",
        "/css/stream-begin/css",
        "/CSS",
        "/other",
    ] {
        let answer = client
            .post(path, signed(json!({ "event_type": 1 })))
            .unwrap();
        assert_eq!(answer.status, 404, "{path}");
        let body = json!({ "code": 404, "message": "no such source or kind" });
        assert_eq!(answer.json(), body, "{path}");
    }
    assert!(server.events().is_empty());
}
