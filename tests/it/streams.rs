//! The board of streams over the admin API, on both engines, and the events that handlers receive.

mod sharing;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::server::both_engines;
use crate::support::{Client, Settings, TestServer, json_lines, now, signed, wait_for, wait_up_to};

const LIFE_HANDLERS: &str = "[handlers.life]\nkinds = [\"stream-live\", \"stream-offline\"]\n\
    to = { type = \"file\", path = \"life.jsonl\" }\n\
    [handlers.file]\nto = { type = \"file\", path = \"events.jsonl\" }\n\
    [streams]\nsettle = \"300ms\"\n";

fn seconds() -> u64 {
    now().unsigned_abs()
}

fn post(server: &TestServer, body: Value) {
    assert_eq!(server.post("/css", signed(body)).status, 200);
}

/// Posts a begin (1) or an end (0) of a push.
fn push(server: &TestServer, stream: &str, event_type: u8, sequence: u64, time: u64) {
    let mut body = json!({
        "event_type": event_type, "app": "push.example.com", "appname": "live", "stream_id": stream,
        "sequence": sequence.to_string(), "event_time": time, "user_ip": "192.0.2.7", "width": 1280, "height": 720,
    });
    if event_type == 0 {
        body["errcode"] = 1.into();
        body["errmsg"] = "recv rtmp deleteStream".into();
        body["push_duration"] = "60000".into();
    }
    post(server, body);
}

fn streams(server: &TestServer, query: &str) -> Vec<Value> {
    let answer = server.get(&format!("/api/streams{query}"));
    assert_eq!(answer.status, 200, "{query}");
    answer.json()["items"].as_array().unwrap().clone()
}

fn live(server: &TestServer) -> Vec<String> {
    let names = streams(server, "?live=true").into_iter();
    let mut names: Vec<String> = names
        .map(|stream| stream["streamid"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn wait_until_live(server: &TestServer, expected: &[&str]) {
    wait_for("the board", || (live(server) == expected).then_some(()));
}

fn state_events(server: &TestServer) -> Vec<(String, String)> {
    let lines = json_lines(&server.path().join("life.jsonl")).into_iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines
        .map(|line| (text(&line["type"]), text(&line["streamid"])))
        .collect()
}

#[test]
fn the_board_lists_live_streams() {
    for inbox in both_engines() {
        let server = TestServer::start(&Settings {
            inbox,
            ..Settings::with_handlers(
                "[streams]\ndomains = [\"push.example.com\", \"idle.example.com\"]\n",
            )
        });
        let now = seconds();
        push(&server, "a", 1, 1, now - 50);
        push(&server, "b", 0, 2, now - 10);
        push(&server, "b", 1, 2, now - 70); // after its own end
        push(&server, "c", 1, 4, now - 5);
        push(&server, "c", 0, 3, now - 6); // of an old session
        post(
            &server,
            json!({ "event_type": 200, "app": "push.example.com", "stream_id": "pictured", "create_time": now }),
        );
        wait_until_live(&server, &["a", "c"]);
        wait_for("the other", || {
            (streams(&server, "").len() == 4).then_some(())
        });
        let all = streams(&server, "?stream=live/a");
        assert_eq!(all.len(), 1);
        let a = &all[0];
        assert_eq!((&a["source"], &a["live"]), (&json!("/css"), &json!(true)));
        assert_eq!(
            (&a["domain"], &a["appname"]),
            (&json!("push.example.com"), &json!("live"))
        );
        assert_eq!(
            (&a["pushsequence"], a["since"].is_string()),
            (&json!("1"), true)
        );
        let b = &streams(&server, "?search=LIVE/b&live=false")[0];
        assert!(b["since"].as_str() > a["since"].as_str(), "since its end");
        let pictured = &streams(&server, "?stream=pictured")[0];
        assert_eq!(
            (&pictured["live"], &pictured["since"]),
            (&json!(false), &json!(null))
        );
        assert!(pictured.get("appname").is_none());
        for (query, number) in [
            ("?source=css", 4),
            ("?source=other", 0),
            ("?domain=push.example.com", 4),
            ("?domain=other.example.com", 0),
            ("?live=false", 2),
            ("?stream=b", 1),
        ] {
            assert_eq!(streams(&server, query).len(), number, "{query}");
        }
        // Page by page, in the order of their first events.
        let first = server.get("/api/streams?limit=3").json();
        let next = first["next"].as_str().unwrap();
        let rest = server
            .get(&format!("/api/streams?limit=3&after={next}"))
            .json();
        let names = |page: &Value| -> Vec<Value> {
            let items = page["items"].as_array().unwrap().iter();
            items.map(|item| item["streamid"].clone()).collect()
        };
        assert_eq!(
            [names(&first), names(&rest)].concat(),
            ["a", "b", "c", "pictured"]
        );
        assert_eq!(rest["next"], json!(null));
        for (query, field) in [
            ("live=maybe", "live"),
            ("limit=0", "limit"),
            ("after=x", "after"),
            ("kind=record", "kind"),
        ] {
            let answer = server.get(&format!("/api/streams?{query}"));
            assert_eq!(answer.status, 400, "{query}");
            let message = answer.json()["message"].as_str().unwrap().to_owned();
            assert!(message.contains(field), "{message}");
        }
        for (series, value) in [
            ("livehook_streams_live{domain=\"push.example.com\"}", 2.0),
            ("livehook_streams_live{domain=\"idle.example.com\"}", 0.0),
            ("livehook_streams_live{domain=\"other\"}", 0.0),
            ("livehook_streams_stale", 0.0),
            ("livehook_streams_lag_events", 0.0),
        ] {
            assert!((server.metric(series) - value).abs() < 0.1, "{series}");
        }
    }
}

#[test]
fn a_stream_has_a_detail_page() {
    for inbox in both_engines() {
        let server = TestServer::start(&Settings {
            inbox,
            ..Settings::default()
        });
        let now = seconds();
        let of = |mut body: Value| {
            body["appname"] = "live".into();
            body["stream_id"] = "room 7/ü".into();
            post(&server, body);
        };
        for (kind, sequence, time) in [(1, "1", 90), (0, "1", 30), (1, "2", 20)] {
            of(json!({
                "event_type": kind, "app": "push.example.com", "sequence": sequence, "event_time": now - time,
                "user_ip": "192.0.2.7", "width": 1280, "height": 720, "errcode": 1, "errmsg": "closed", "push_duration": "60000",
            }));
        }
        for picture in ["one", "two"] {
            let url = format!("https://pictures.example.com/{picture}.jpg");
            let age = if picture == "one" { 80 } else { 10 };
            of(
                json!({ "event_type": 200, "app": "push.example.com", "create_time": now - age, "pic_full_url": url }),
            );
        }
        of(
            json!({ "event_type": 321, "domain": "push.example.com", "sequence": "2", "data_time": (now - 15) * 1000 }),
        );
        for (session, event, age) in [
            ("31", "record_start_succeeded", 89),
            ("31", "record_ended", 29),
            ("32", "record_start_succeeded", 19),
        ] {
            of(json!({
                "event_type": 332, "domain": "push.example.com", "session_id": session, "record_event": event, "event_time": now - age,
            }));
        }
        of(json!({
            "event_type": 100, "app": "push.example.com", "file_id": "f1", "start_time": now - 89, "end_time": now - 29,
            "video_url": "https://vod.example.com/f1.mp4",
        }));
        of(json!({
            "event_type": 315, "domain": "push.example.com", "suggestion": "Block", "label": "Abuse", "request_id": "r",
        }));
        let path = "/api/streams/css/push.example.com/live/room%207%2F%C3%BC";
        // An answer reads the row of the stream before its events, and PostgreSQL has the events
        // before the sessions that follow from them.
        let detail = wait_for("all of it", || {
            let detail = server.get(path).json();
            let length = |part: &str| detail[part].as_array().map(Vec::len);
            let is_whole = length("timeline") == Some(11)
                && length("sessions") == Some(2)
                && detail["live"] == true;
            is_whole.then_some(detail)
        });
        assert_eq!(detail["streamid"], "room 7/ü");
        let sessions = detail["sessions"].as_array().unwrap();
        assert_eq!(
            (&sessions[0]["pushsequence"], &sessions[0]["end"]),
            (&json!("2"), &json!(null))
        );
        assert_eq!(sessions[0]["push_exceptions"], 1);
        let ended = &sessions[1];
        assert_eq!(ended["end_reason"], "the push client ended the stream");
        assert_eq!(
            (&ended["errcode"], &ended["pusher"]),
            (&json!(1), &json!("192.0.2.7"))
        );
        assert_eq!(
            (&ended["width"], &ended["height"]),
            (&json!(1280), &json!(720))
        );
        assert_eq!(
            (&ended["duration_seconds"], &ended["superseded"]),
            (&json!(60.0), &json!(false))
        );
        assert_eq!(detail["push_exceptions"], 1);
        assert_eq!(
            detail["last_snapshot"]["url"],
            "https://pictures.example.com/two.jpg"
        );
        let recordings = detail["recordings"].as_array().unwrap();
        let of_recording = |id: &str| recordings.iter().find(|one| one["id"] == *id).unwrap();
        assert_eq!(
            (&of_recording("31")["open"], &of_recording("32")["open"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(of_recording("f1")["url"], "https://vod.example.com/f1.mp4");
        assert_eq!(
            (
                &detail["audits"][0]["suggestion"],
                &detail["audits"][0]["label"]
            ),
            (&json!("Block"), &json!("Abuse"))
        );
        // Page by page, the latest first.
        let mut seen = Vec::new();
        let mut after = String::new();
        loop {
            let part = server.get(&format!("{path}?limit=4{after}")).json();
            seen.extend(part["timeline"].as_array().unwrap().clone());
            match part["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(json!(seen), detail["timeline"]);
        for unknown in [
            "/api/streams/css/push.example.com/live/other",
            "/api/streams/css/-/-/-",
        ] {
            assert_eq!(server.get(unknown).status, 404);
        }
        post(&server, json!({ "event_type": 1, "stream_id": "bare" }));
        wait_for("a stream that has only a name", || {
            (server.get("/api/streams/css/-/-/bare").status == 200).then_some(())
        });
    }
}

#[test]
fn handlers_get_lasting_changes_once_if_they_name_the_kinds() {
    for inbox in both_engines() {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            inbox,
            ..Settings::with_handlers(LIFE_HANDLERS)
        };
        let server = TestServer::start_in(directory.path(), &settings);
        let now = seconds();
        push(&server, "a", 1, 1, now - 50);
        wait_for("word of it", || {
            (state_events(&server).len() == 1).then_some(())
        });
        // A reconnect, and a crash.
        push(&server, "a", 0, 1, now - 40);
        push(&server, "a", 1, 2, now - 39);
        push(&server, "b", 1, 3, now - 30);
        wait_until_live(&server, &["a", "b"]);
        server.kill();
        let server = TestServer::start_in(directory.path(), &settings);
        push(&server, "a", 0, 2, now - 5);
        let of = |kind: &str, stream: &str| (format!("css.stream-{kind}"), stream.to_owned());
        let expected = [
            of("live", "a"),
            of("live", "b"),
            of("offline", "a"),
            of("live", "last"),
        ];
        wait_up_to(Duration::from_secs(60), "word of all", || {
            (state_events(&server).len() >= 3).then_some(())
        });
        // When a newer change was delivered, earlier ones were delivered too.
        push(&server, "last", 1, 9, now);
        wait_for("word of the last", || {
            let events = state_events(&server);
            events
                .iter()
                .any(|(_, stream)| stream == "last")
                .then_some(())
        });
        let mut events = state_events(&server);
        events.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(events, expected);
        let lines = json_lines(&directory.path().join("life.jsonl"));
        let first = &lines[0];
        assert_eq!(
            (&first["source"], &first["subject"]),
            (&json!("/css"), &json!("push.example.com/live/a"))
        );
        assert_eq!(
            (&first["data"]["live"], &first["pushsequence"]),
            (&json!(true), &json!("1"))
        );
        // A handler that does not name the kinds receives none.
        let events = json_lines(&directory.path().join("events.jsonl"));
        assert!(
            events
                .iter()
                .all(|event| !event["type"].as_str().unwrap().contains("stream-live"))
        );
        // They are stored like other events.
        let listed = server.get("/api/events?kind=stream-live").json();
        assert_eq!(listed["items"].as_array().unwrap().len(), 3);
        assert_eq!(server.post("/css/stream-live", "{}").status, 404);
    }
}

#[test]
fn a_rebuilt_board_is_the_same_and_a_deleted_stream_is_none() {
    for inbox in both_engines() {
        let server = TestServer::start(&Settings {
            inbox,
            ..Settings::default()
        });
        let now = seconds();
        for (stream, sequence) in [("a", 1), ("b", 2), ("c", 3)] {
            push(&server, stream, 1, sequence, now - 50);
        }
        push(&server, "b", 0, 2, now - 10);
        wait_until_live(&server, &["a", "c"]);
        let before = streams(&server, "");
        let answer = server.command("/api/streams/rebuild", &json!({}));
        assert_eq!((answer.status, &answer.json()["count"]), (202, &json!(4)));
        assert_eq!(streams(&server, ""), before);
        assert_eq!(
            server
                .command("/api/streams/rebuild", &json!({"x": 1}))
                .status,
            400
        );
        let mut client = Client::new(server.admin);
        let deleted = client
            .request("DELETE", "/api/events?stream=c", &[], None)
            .unwrap();
        assert_eq!((deleted.status, &deleted.json()["count"]), (202, &json!(1)));
        assert_eq!(live(&server), ["a"]);
        assert_eq!(
            server
                .get("/api/streams/css/push.example.com/live/c")
                .status,
            404
        );
    }
}

#[test]
fn a_stream_that_is_deleted_at_once_does_not_come_back() {
    for inbox in both_engines() {
        let server = TestServer::start(&Settings {
            inbox,
            ..Settings::default()
        });
        let now = seconds();
        let mut client = Client::new(server.admin);
        for n in 0..20 {
            let stream = format!("s{n}");
            push(&server, &stream, 1, 100 + n, now - 50);
            let path = format!("/api/events?stream=live/{stream}");
            let deleted = client.request("DELETE", &path, &[], None).unwrap();
            assert_eq!(deleted.json(), json!({ "count": 1 }));
        }
        push(&server, "kept", 1, 1, now - 50);
        wait_until_live(&server, &["kept"]);
        assert_eq!(streams(&server, "").len(), 1);
    }
}
