//! Deletes the events of a stream everywhere.

use serde_json::{Value, json};

use super::{assert_error, two_sources};
use crate::support::server::{FILE_HANDLER, both_engines};
use crate::support::{Answer, Client, Settings, TestServer, json_lines, signed, wait_for};

fn delete(server: &TestServer, query: &str) -> Answer {
    let path = format!("/api/events?{query}");
    let mut client = Client::new(server.admin);
    client.request("DELETE", &path, &[], None).unwrap()
}

#[track_caller]
fn deleted(server: &TestServer, query: &str) -> Value {
    let answer = delete(server, query);
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.json().as_object().unwrap().len(), 1);
    answer.json()["count"].clone()
}

fn push(stream: &str, sequence: u32) -> String {
    signed(json!({
        "event_type": 1, "app": "push.example.com", "appname": "live", "stream_id": stream, "sequence": sequence.to_string(),
    }))
}

fn post(server: &TestServer, body: &str) {
    assert_eq!(server.post("/css", body).status, 200, "{}", server.log());
}

fn streams(server: &TestServer) -> String {
    let events = server.events();
    let each = events.iter().map(|event| event["streamid"].as_str());
    each.map(Option::unwrap).collect::<Vec<_>>().join(" ")
}

/// The due, waiting and parked deliveries of a handler, and its lag.
fn rows(server: &TestServer, handler: &str) -> [u64; 4] {
    let page = server
        .get(&format!("/api/handlers?handler={handler}"))
        .json();
    let names = ["retrying", "waiting", "parked", "lag_events"];
    names.map(|name| page["items"][0][name].as_u64().unwrap())
}

#[test]
fn a_stream_is_deleted_with_its_pending_and_parked_deliveries() {
    for inbox in both_engines() {
        let exec = |command: &str| {
            format!("to = {{ type = \"exec\", command = [\"sh\", \"-c\", \"{command}\"] }}\n")
        };
        let settings = Settings {
            inbox,
            ..Settings::with_handlers(&format!(
                "{FILE_HANDLER}[handlers.fails]\nretry = {{ initial = \"1h\", max = \"1h\" }}\n{}[handlers.rejects]\n{}[handlers.stands]\n{}",
                exec("exit 1"),
                exec("exit 65"),
                exec("exit 0"),
            ))
        };
        let directory = tempfile::tempdir().unwrap();
        let server = TestServer::start_in(directory.path(), &settings);
        let paused = server.command("/api/handlers/stands/pause", &json!({}));
        assert_eq!(paused.status, 200);
        let again = push("anna", 1);
        post(&server, &again);
        for (stream, sequence) in [("anna", 2), ("bert", 1), ("anna", 3), ("bert", 2)] {
            post(&server, &push(stream, sequence));
        }
        wait_for("the rows", || {
            let rows = [rows(&server, "fails"), rows(&server, "rejects")];
            (rows == [[2, 3, 0, 5], [0, 0, 5, 0]]).then_some(())
        });

        assert_eq!(deleted(&server, "stream=anna&dry_run=true"), 3);
        assert_eq!(deleted(&server, "stream=anna&domain=elsewhere"), 0);
        assert_eq!(deleted(&server, "stream=anna&source=elsewhere"), 0);
        assert_eq!(deleted(&server, "stream=other/anna"), 0);
        assert_eq!(streams(&server), "anna anna bert anna bert");
        let query = "stream=live/anna&domain=push.example.com&source=css&dry_run=false";
        assert_eq!(deleted(&server, query), 3);
        assert_eq!(deleted(&server, "stream=anna"), 0);
        assert_eq!(streams(&server), "bert bert");
        assert_eq!(rows(&server, "fails")[..3], [1, 1, 0]);
        assert_eq!(rows(&server, "rejects")[..3], [0, 0, 2]);
        assert!(!server.log().contains("anna"));

        // Sent again, it is new, and deleted deliveries do not block its stream.
        post(&server, &again);
        assert_eq!(streams(&server), "bert bert anna");
        wait_for("an attempt of it", || {
            (rows(&server, "fails")[..2] == [2, 1]).then_some(())
        });
        assert_eq!(deleted(&server, "stream=anna"), 1);

        server.kill();
        let server = TestServer::start_in(directory.path(), &settings);
        assert_eq!(streams(&server), "bert bert");
        assert_eq!(rows(&server, "fails")[..3], [1, 1, 0]);
        let resumed = server.command("/api/handlers/stands/resume", &json!({}));
        assert_eq!(resumed.status, 200);
        wait_for("it to be done", || {
            (rows(&server, "stands") == [0, 0, 0, 0]).then_some(())
        });
        post(&server, &again);
        assert_eq!(streams(&server), "bert bert anna");
        let file = directory.path().join("events.jsonl");
        wait_for("the file", || {
            let lines = json_lines(&file);
            (lines.last()?["streamid"] == "anna").then_some(())
        });
    }
}

#[test]
fn what_was_just_accepted_does_not_come_back_after_a_crash() {
    for inbox in both_engines() {
        let settings = Settings {
            inbox,
            ..Settings::default()
        };
        let directory = tempfile::tempdir().unwrap();
        for round in 0..5 {
            let server = TestServer::start_in(directory.path(), &settings);
            assert_eq!(streams(&server), ["kept"].repeat(round as usize).join(" "));
            post(&server, &push("kept", round));
            let bodies: Vec<_> = (0..20).map(|sequence| push("gone", sequence)).collect();
            bodies.iter().for_each(|body| post(&server, body));
            assert_eq!(deleted(&server, "stream=gone"), 20);
            bodies.iter().for_each(|body| post(&server, body));
            assert_eq!(deleted(&server, "stream=gone"), 20);
            server.kill();
        }
        let server = TestServer::start_in(directory.path(), &settings);
        assert_eq!(streams(&server), "kept kept kept kept kept");
    }
}

#[test]
fn a_deletion_must_name_a_stream() {
    let server = TestServer::start(&Settings {
        sources: two_sources(),
        ..Settings::default()
    });
    for source in ["css", "other"] {
        let answer = server.post(&format!("/{source}"), push("anna", 1));
        assert_eq!(answer.status, 200);
    }
    for (query, part) in [
        ("", "`stream`"),
        ("stream=", "`stream`"),
        ("domain=push.example.com&source=css", "`stream`"),
        ("stream=anna&colour=red", "`colour`"),
        ("stream=anna&stream=bert", "`stream`"),
        ("stream=anna&limit=1", "`limit`"),
        ("stream=anna&dry_run=perhaps", "`dry_run`"),
        ("stream=anna&from=yesterday", "`from`"),
        ("stream=anna&kind=push", "`kind`"),
    ] {
        assert_error(&delete(&server, query), 400, part);
    }
    assert_eq!(server.events().len(), 2);
    assert_eq!(deleted(&server, "stream=anna&kind=stream-end"), 0);
    assert_eq!(deleted(&server, "stream=anna&to=2026-01-01T00:00:00Z"), 0);
    assert_eq!(deleted(&server, "stream=anna&source=other"), 1);
    assert_eq!(server.events()[0]["source"], "/css");
}

#[test]
fn what_has_no_appname_is_found_by_its_streamid_alone() {
    for inbox in both_engines() {
        let streams_of = "[handlers.live]\nstreams = [\"live/*\"]\nto = { type = \"file\", path = \"live.jsonl\" }\n";
        let server = TestServer::start(&Settings {
            inbox,
            sources: two_sources(),
            ..Settings::with_handlers(streams_of)
        });
        let words = |stream: &str, task: u32| {
            signed(json!({ "event_type": 338, "stream_id": stream, "task_id": task.to_string() }))
        };
        let relay = |to: &str| {
            signed(
                json!({ "event_type": 314, "stream_id": "bert", "to_url": to, "event_time": "1795420800" }),
            )
        };
        let of_app = |app: &str, stream: &str| {
            signed(
                json!({ "event_type": 1, "app": "push.example.com", "appname": app, "stream_id": stream }),
            )
        };
        for (path, body) in [
            ("/css", of_app("live", "anna")),
            ("/css", words("anna", 1)),
            ("/css", of_app("live", "bert")),
            ("/css", words("bert", 1)),
            ("/css", words("bert", 2)),
            ("/css", relay("rtmp://push.example.com/live/bert?a=b")),
            ("/css", relay("rtmp://push.example.com/vod/bert")),
            // A stream of another source is another stream, even in the same app.
            ("/other", of_app("vod", "anna")),
            ("/other", words("bert", 1)),
        ] {
            assert_eq!(server.post(path, body).status, 200, "{}", server.log());
        }
        let file = server.path().join("live.jsonl");
        wait_for("what is of live or may be", || {
            (json_lines(&file).len() == 7).then_some(())
        });
        let vod = json_lines(&file)
            .iter()
            .any(|event| event["appname"] == "vod");
        assert!(!vod);
        wait_for("the board", || {
            (server.metric("livehook_streams_lag_events") == 0.0).then_some(())
        });

        let counted = |query: &str| delete(&server, &format!("{query}&dry_run=true")).json();
        let nobody = json!({ "count": 2, "without_appname": 1, "maybe_another_app": 0 });
        assert_eq!(counted("stream=live/anna"), nobody);
        // The relay to vod shows that source css has a stream bert in another app, too. For the
        // source other, nothing is known.
        let some = json!({ "count": 5, "without_appname": 3, "maybe_another_app": 2 });
        assert_eq!(counted("stream=live/bert"), some);
        let one = json!({ "count": 1, "without_appname": 1, "maybe_another_app": 0 });
        assert_eq!(counted("stream=live/bert&source=other"), one);
        // Without an app, or with a domain, no event can belong to another app's stream.
        assert_eq!(counted("stream=bert"), json!({ "count": 6 }));
        let domain = "stream=live/bert&domain=push.example.com";
        assert_eq!(counted(domain), json!({ "count": 2 }));
        let listed = server.get("/api/events?stream=live/bert").json();
        assert_eq!(listed["items"].as_array().unwrap().len(), 5);

        assert_eq!(deleted(&server, "stream=live/bert"), 5);
        let left = server.get("/api/events?stream=bert").json();
        assert_eq!(left["items"].as_array().unwrap().len(), 1);
        assert_eq!(left["items"][0]["appname"], "vod");
        let board = server.get("/api/streams").json();
        let names: Vec<_> = (board["items"].as_array().unwrap().iter())
            .map(|stream| format!("{} {}", stream["appname"], stream["streamid"]))
            .collect();
        let expected = [
            r#""live" "anna""#,
            r#"null "anna""#,
            r#""vod" "bert""#,
            r#""vod" "anna""#,
        ];
        assert_eq!(names, expected);
    }
}
