//! Many files of the log: events of all sizes, and a clock that is set while the server runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::clock::ServerClock;
use crate::support::server::FILE_HANDLER;
use crate::support::{KEY, Settings, TestServer, json_lines, now, signed, signed_with, wait_for};

const SENDERS: usize = 8;
const EVENTS: usize = 10_000;
const DAY: i64 = 24 * 3600;

fn settings(more: &str) -> Settings {
    Settings {
        inbox: format!("segment_size = \"1MiB\"\n{more}"),
        ..Settings::with_handlers(FILE_HANDLER)
    }
}

/// The length of what an event carries: most are short, some are nearly as long as a callback may be.
fn length(number: usize) -> usize {
    match number {
        n if n % 500 == 250 => (1 << 20) - 300,
        n if n % 100 == 50 => 100_000 + n,
        n => n * 37 % 1500,
    }
}

/// Waits until each event was delivered, and checks that it is as it was sent.
fn assert_delivered(directory: &Path) {
    let lines = wait_for("every delivery", || {
        let lines = json_lines(&directory.join("events.jsonl"));
        (lines.len() >= EVENTS).then_some(lines)
    });
    let mut found: BTreeMap<usize, &Value> = BTreeMap::new();
    for line in &lines {
        let number = line["data"]["number"].as_u64().unwrap() as usize;
        found.insert(number, &line["data"]);
    }
    assert_eq!(found.len(), EVENTS);
    for (number, data) in found {
        let more = data["more"].as_str().unwrap();
        assert_eq!(more.len(), length(number), "event {number}");
        let letter = char::from(b'a' + (number % 26) as u8);
        assert!(more.chars().all(|other| other == letter), "event {number}");
    }
}

#[test]
fn events_of_all_sizes_fill_many_segments_and_each_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::start_in(directory.path(), &settings(""));
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (mut client, server) = (server.client(), &server);
            scope.spawn(move || {
                for number in (sender..EVENTS).step_by(SENDERS) {
                    let letter = char::from(b'a' + (number % 26) as u8).to_string();
                    let body = json!({
                        "event_type": 1, "stream_id": format!("room-{sender}"), "number": number,
                        "more": letter.repeat(length(number)),
                    });
                    let body = signed(body);
                    // A busy machine may not store it in time.
                    wait_for("an event to be stored", || {
                        let answer = client.post("/css", &body).ok()?;
                        let in_time = answer.json()["message"] != "it could not be stored";
                        assert!(in_time, "{}", server.log());
                        (answer.status == 200).then_some(())
                    });
                }
            });
        }
    });
    assert_delivered(directory.path());
    let stored = server.events();
    assert_eq!(stored.len(), EVENTS);
    server.kill();

    // A new handler reads all of it from the files.
    std::fs::remove_file(directory.path().join("events.jsonl")).unwrap();
    let again = Settings {
        handlers: FILE_HANDLER.replace("file]", "again]\nstart = \"oldest\""),
        ..settings("")
    };
    let server = TestServer::start_in(directory.path(), &again);
    assert_delivered(directory.path());
    assert_eq!(server.events(), stored);
    for event in stored.iter().step_by(97) {
        let id = event["id"].as_str().unwrap();
        assert_eq!(server.get(&format!("/api/events/{id}")).status, 200, "{id}");
    }
    let segments = std::fs::read_dir(directory.path().join("data/log")).unwrap();
    assert!(segments.count() > 40);
}

#[test]
fn a_directory_that_is_removed_under_load_acknowledges_nothing_more() {
    let server = TestServer::start(&settings(""));
    let mut client = server.client();
    let mut push = |number: usize| {
        let body = json!({ "event_type": 1, "number": number, "more": "x".repeat(length(number)) });
        client.post("/css", signed(body)).unwrap().status
    };
    assert!((0..100).all(|number| push(number) == 200));
    let removed = Command::new("rm")
        .arg("-rf")
        .arg(server.path().join("data"))
        .status();
    assert!(removed.unwrap().success());
    assert!((100..200).all(|number| push(number) == 503));
    assert_eq!(server.client().get("/readyz").unwrap().status, 503);
    assert!(server.stop().success());
}

#[test]
fn a_clock_that_is_set_by_weeks_loses_and_removes_nothing() {
    let clock = ServerClock::ahead(0);
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        env: clock.variables().into(),
        ..settings("retention = \"30d\"")
    };
    let mut server = TestServer::start_in(directory.path(), &settings);
    let mut sent = 0;
    for ahead in [0, 20 * DAY, 0, -20 * DAY, 3 * DAY, 0] {
        clock.set(ahead);
        for _ in 0..10 {
            let body = json!({ "event_type": 1, "number": sent, "more": "x".repeat(60_000) });
            let body = signed_with(KEY, now() + ahead + 600, body);
            for _ in 0..2 {
                assert_eq!(server.post("/css", &body).status, 200);
            }
            sent += 1;
        }
        assert_eq!(server.events().len(), sent);
        // A start begins with retention.
        assert!(server.stop().success());
        server = TestServer::start_in(directory.path(), &settings);
        assert_eq!(server.events().len(), sent, "{ahead}");
    }
    let lines = wait_for("every delivery", || {
        let lines = json_lines(&directory.path().join("events.jsonl"));
        (lines.len() >= sent).then_some(lines)
    });
    let numbers: Vec<_> = lines
        .iter()
        .map(|line| line["data"]["number"].as_u64().unwrap() as usize)
        .collect();
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
}
