//! Duplicates: at once, later, after a restart and after a crash; and events that must not count as
//! duplicates.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::server::{FILE_HANDLER, preloaded};
use crate::support::{
    KEY, Settings, TestServer, json_lines, now, signed, signed_raw, signed_with, wait_for,
};

fn settings() -> Settings {
    Settings::with_handlers(FILE_HANDLER)
}

/// The series of `livehook_callbacks_total` for pushes.
fn counted(server: &TestServer, result: &str) -> f64 {
    server.metric(&format!(
        "livehook_callbacks_total{{source=\"css\",kind=\"stream-begin\",result=\"{result}\"}}"
    ))
}

/// Waits until the stream `last` is in the file, and returns all lines. With one delivery at a
/// time, no line comes after it.
fn delivered(directory: &Path, last: &str) -> Vec<String> {
    let file = directory.join("events.jsonl");
    wait_for(last, || {
        let streams: Vec<String> = json_lines(&file)
            .iter()
            .map(|line| line["data"]["stream_id"].as_str().unwrap().to_owned())
            .collect();
        Some(streams).filter(|streams| streams.iter().any(|stream| stream == last))
    })
}

fn one_at_a_time() -> Settings {
    Settings::with_handlers(
        "[handlers.file]\nconcurrency = 1\nto = { type = \"file\", path = \"events.jsonl\" }\n",
    )
}

fn push(stream: &str) -> Value {
    json!({ "event_type": 1, "stream_id": stream, "sequence": "6674468118806626493" })
}

#[track_caller]
fn assert_stored(server: &TestServer, body: impl AsRef<[u8]>) {
    let answer = server.post("/css/stream-begin", body);
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "{\"code\":0}")
    );
}

#[test]
fn fifty_at_once_are_one_event() {
    let server = TestServer::start(&one_at_a_time());
    let body = signed(push("room-7"));
    let together = Barrier::new(50);
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let mut client = server.client();
                assert_eq!(client.get("/healthz").unwrap().status, 200);
                together.wait();
                assert_eq!(client.post("/css/stream-begin", &body).unwrap().status, 200);
            });
        }
    });
    assert_eq!(
        (counted(&server, "accepted"), counted(&server, "duplicate")),
        (1.0, 49.0)
    );
    assert_eq!(server.events().len(), 1);
    assert_stored(&server, signed(push("last")));
    assert_eq!(delivered(server.path(), "last"), ["room-7", "last"]);
}

#[test]
fn a_repeat_is_known_after_a_restart_and_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let start = || TestServer::start_in(directory.path(), &one_at_a_time());
    let body = signed(push("room-7"));
    let renewed = || signed_with(KEY, now() + 555, push("room-7"));

    let server = start();
    assert_stored(&server, &body);
    assert_stored(&server, &body);
    assert_stored(&server, renewed());
    assert_eq!(delivered(directory.path(), "room-7").len(), 1);
    assert!(server.stop().success());

    let server = start();
    assert_stored(&server, &body);
    assert_stored(&server, renewed());
    let in_the_crash = signed(push("room-8"));
    assert_stored(&server, &in_the_crash);
    server.kill();

    let server = start();
    for body in [&body, &in_the_crash, &renewed()] {
        assert_stored(&server, body);
    }
    assert_eq!(counted(&server, "duplicate"), 3.0);
    assert_stored(&server, signed(push("last")));
    assert_eq!(server.events().len(), 3);
    let mut times: HashMap<String, usize> = HashMap::new();
    for stream in delivered(directory.path(), "last") {
        *times.entry(stream).or_default() += 1;
    }
    assert_eq!(times["room-7"], 1);
    assert!(
        (1..=2).contains(&times["room-8"]),
        "a crash may repeat what it interrupted: {times:?}"
    );
}

#[test]
fn every_acknowledged_callback_survives_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let server = TestServer::start_in(directory.path(), &settings());
        let pid = server.pid();
        let acknowledged: Vec<String> = thread::scope(|scope| {
            let senders: Vec<_> = (0..8)
                .map(|sender| {
                    let mut client = server.client();
                    scope.spawn(move || {
                        let names = (0..).map(|number| format!("{round}-{sender}-{number}"));
                        names
                            .take_while(|name| {
                                client
                                    .post("/css", signed(push(name)))
                                    .is_ok_and(|answer| answer.status == 200)
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            wait_for("some callbacks", || {
                Some(()).filter(|()| counted(&server, "accepted") > 50.0)
            });
            let killed = std::process::Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .status();
            assert!(killed.unwrap().success());
            senders
                .into_iter()
                .flat_map(|sender| sender.join().unwrap())
                .collect()
        });
        drop(server);
        assert!(acknowledged.len() >= 40);
        let server = TestServer::start_in(directory.path(), &settings());
        let stored: Vec<Value> = server.events();
        let stored: std::collections::HashSet<&str> = stored
            .iter()
            .map(|event| event["streamid"].as_str().unwrap())
            .collect();
        assert!(
            acknowledged
                .iter()
                .all(|name| stored.contains(name.as_str()))
        );
        let file = directory.path().join("events.jsonl");
        wait_for("every delivery", || {
            let lines = json_lines(&file);
            let found: std::collections::HashSet<&str> = lines
                .iter()
                .map(|line| line["streamid"].as_str().unwrap())
                .collect();
            Some(()).filter(|()| {
                acknowledged
                    .iter()
                    .all(|name| found.contains(name.as_str()))
            })
        });
        server.kill();
    }
}

#[test]
fn an_event_stored_after_a_503_is_known_when_it_is_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let hold = directory.path().join("hold");
    let library = preloaded("support/hold.c", directory.path());
    let mut settings = Settings {
        server: "drain_delay = \"0s\"\ndeadline = \"300ms\"".into(),
        ..one_at_a_time()
    };
    for (name, path) in [("LD_PRELOAD", &library), ("TEST_HOLD", &hold)] {
        let path = path.to_str().unwrap().to_owned();
        settings.env.push((name.into(), path));
    }
    let server = TestServer::start_in(directory.path(), &settings);
    let body = signed(push("room-7"));
    std::fs::write(&hold, "").unwrap();
    for _ in 0..2 {
        let answer = server.post("/css/stream-begin", &body);
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json()["message"], "it could not be stored in time");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(
        counted(&server, "failed"),
        2.0,
        "the page comes all the same"
    );
    assert_eq!(server.events().len(), 0, "it is not on the disk yet");
    std::fs::remove_file(&hold).unwrap();
    for body in [&body, &signed(push("last"))] {
        wait_for("the store to go on", || {
            (server.post("/css/stream-begin", body).status == 200).then_some(())
        });
    }
    assert_eq!(delivered(server.path(), "last"), ["room-7", "last"]);
    assert_eq!(server.events().len(), 2);
}

#[test]
fn a_member_more_or_another_source_or_kind_is_another_event() {
    let server = TestServer::start(&Settings {
        sources: format!(
            "[sources.css]\nkeys = [\"{KEY}\"]\n[sources.other]\nkeys = [\"{KEY}\"]\n"
        ),
        ..Settings::default()
    });
    let mut client = server.client();
    let mut expect = |path: &str, body: Value, stored: usize| {
        assert_eq!(client.post(path, signed(body)).unwrap().status, 200);
        assert_eq!(server.events().len(), stored, "{path}");
    };
    expect("/css", push("a"), 1);
    expect("/css/snapshot", push("a"), 1);
    expect("/other", push("a"), 2);
    expect(
        "/css",
        json!({ "event_type": 0, "stream_id": "a", "sequence": "6674468118806626493" }),
        3,
    );
    expect(
        "/css",
        json!({ "event_type": 1, "stream_id": "a", "sequence": "6674468118806626493", "x": null }),
        4,
    );
    let audit = |sent: i64, shot: i64| json!({ "event_type": 317, "streamId": "a", "screenshotTime": shot, "sendTime": sent });
    expect("/css", audit(1, 1), 5);
    expect("/css", audit(2, 1), 5);
    expect("/css", audit(2, 2), 6);
    expect("/css", json!({ "event_type": 200, "sendTime": 1 }), 7);
    expect("/css", json!({ "event_type": 200, "sendTime": 2 }), 8);
}

#[test]
fn a_relay_without_its_time_is_never_merged() {
    let server = TestServer::start(&Settings::default());
    let mut client = server.client();
    for (body, stored) in [
        (json!({ "event_type": 314, "task_id": "1" }), 3),
        (
            json!({ "event_type": 314, "task_id": "2", "event_time": "" }),
            6,
        ),
        (
            json!({ "event_type": 314, "task_id": "3", "event_time": null }),
            9,
        ),
        (
            json!({ "event_type": 314, "task_id": "4", "event_time": "1795420899" }),
            10,
        ),
        (
            json!({ "event_type": 314, "task_id": "5", "event_time": 1795420899 }),
            11,
        ),
    ] {
        let body = signed(body);
        for _ in 0..3 {
            assert_eq!(client.post("/css/relay", &body).unwrap().status, 200);
        }
        assert_eq!(server.events().len(), stored, "{body}");
    }
}

#[test]
fn a_forged_sequence_does_not_suppress_the_genuine_event() {
    let server = TestServer::start(&one_at_a_time());
    // The signature covers only key and t: with one callback, anybody can sign any body until t.
    let seen = signed(push("seen"));
    let junk = seen.replacen("\"seen\"", "\"room-7\",\"errmsg\":\"junk\"", 1);
    assert_ne!(junk, seen);
    assert_stored(&server, &junk);
    let genuine = signed(push("room-7"));
    assert_stored(&server, &genuine);
    assert_eq!(counted(&server, "accepted"), 2.0);
    assert_stored(&server, signed(push("last")));
    assert_eq!(
        delivered(server.path(), "last"),
        ["room-7", "room-7", "last"]
    );
    let lines = json_lines(&server.path().join("events.jsonl"));
    assert_eq!(
        lines[1]["data"],
        serde_json::from_str::<Value>(&genuine).unwrap()
    );
    assert_ne!(lines[0]["id"], lines[1]["id"]);
}

#[test]
fn odd_bytes_are_stored_and_delivered_as_they_came() {
    let server = TestServer::start(&settings());
    let gbk = signed_raw(
        b"\"event_type\":1,\"stream_id\":\"room-1\",\"errmsg\":\"\xD6\xB1\xB2\xA5\x8F\\\"",
    );
    let bodies = [
        gbk.clone(),
        signed_raw(br#""event_type":1,"stream_id":"room-2","errmsg":"\ud800 \udc00\ud800""#),
        signed_raw(br#""event_type":1,"stream_id":"lost","stream_id":"room-3","event_type":0"#),
        signed_raw(br#""event_type":1,"stream_id":"room-4","n":[1e999,-0.0,123456789012345678901234567890]"#),
        signed_raw("\"event_type\":1 ,\r\n\t\"stream_id\" : \"room-5\u{2028}\\n\"".as_bytes()),
        signed_raw(br#""event_type":1,"stream_id":"room-\ud800""#),
    ];
    for body in bodies.iter().chain(&bodies) {
        assert_stored(&server, body);
    }
    let file = server.path().join("events.jsonl");
    let text = wait_for("all lines", || {
        let text = std::fs::read(&file).unwrap_or_default();
        Some(text).filter(|text| text.iter().filter(|byte| **byte == b'\n').count() >= bodies.len())
    });
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.lines().count(), bodies.len());
    let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap();
    for (body, stream) in
        bodies[1..]
            .iter()
            .zip(["room-2", "room-3", "room-4", "room-5", "room-\\ud800"])
    {
        let body: Vec<u8> = body
            .iter()
            .copied()
            .filter(|byte| !b"\r\n".contains(byte))
            .collect();
        let data = format!(",\"data\":{}}}", String::from_utf8(body).unwrap());
        assert!(line(stream).ends_with(&data), "{}", line(stream));
    }
    let event: Value = serde_json::from_str(line("room-1")).unwrap();
    assert_eq!(event.get("data"), None);
    assert_eq!(
        STANDARD
            .decode(event["data_base64"].as_str().unwrap())
            .unwrap(),
        gbk
    );
    assert_eq!(event["streamid"], "room-1");
    let event: Value = serde_json::from_str(line("room-3")).unwrap();
    assert_eq!(
        (&event["streamid"], &event["type"]),
        (&json!("room-3"), &json!("css.stream-end"))
    );
    assert!(line("room-\\ud800").contains("\"streamid\":\"room-\u{FFFD}\""));
    assert_eq!(server.events().len(), bodies.len());
    for event in server.events() {
        let one = server.get(&format!("/api/events/{}", event["id"].as_str().unwrap()));
        assert_eq!(one.status, 200);
    }
}
