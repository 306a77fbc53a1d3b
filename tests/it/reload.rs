//! Changing the configuration of a running server, by SIGHUP and by watching the file.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::{KEY, Settings, TestServer, json_lines, signed, wait_for};

/// A file handler called `name` that writes `name.jsonl`.
fn to_file(name: &str, more: &str) -> String {
    format!("[handlers.{name}]\n{more}\nto = {{ type = \"file\", path = \"{name}.jsonl\" }}\n")
}

fn write(server: &TestServer, settings: &Settings) {
    fs::write(server.path().join("livehook.toml"), settings.to_toml()).unwrap();
}

pub const RELOADED: &str = "sources and handlers are reloaded";
const REFUSED: &str = "the configuration was not reloaded, the old one stays active";

/// Reloads another configuration, and waits until the log contains `word`.
pub fn reload(server: &TestServer, settings: &Settings, word: &str) {
    let before = server.log().matches(word).count();
    write(server, settings);
    server.signal("HUP");
    wait_for(word, || {
        Some(()).filter(|()| server.log().matches(word).count() > before)
    });
}

fn push(server: &TestServer, stream: &str) {
    let body = signed(json!({ "event_type": 1, "appname": "live", "stream_id": stream }));
    assert_eq!(server.post("/css", body).status, 200);
}

/// Waits for this many events in the handler's file, and returns their streams.
fn streams(directory: &Path, name: &str, count: usize) -> Vec<String> {
    wait_for(name, || {
        let lines = json_lines(&directory.join(format!("{name}.jsonl")));
        let streams: Vec<String> = lines
            .iter()
            .map(|line| line["streamid"].as_str().unwrap().to_owned())
            .collect();
        Some(streams).filter(|streams| streams.len() >= count)
    })
}

#[test]
fn handlers_come_and_go_and_come_back_to_where_they_were() {
    let one_at_a_time = "concurrency = 1";
    let with = |names: &[&str]| {
        Settings::with_handlers(
            &names
                .iter()
                .map(|name| to_file(name, one_at_a_time))
                .collect::<String>(),
        )
    };
    let server = TestServer::start(&with(&["stays", "leaves"]));
    let at = server.path();
    push(&server, "a");
    assert_eq!(streams(at, "stays", 1), ["a"]);
    assert_eq!(streams(at, "leaves", 1), ["a"]);
    reload(&server, &with(&["stays", "comes"]), RELOADED);
    push(&server, "b");
    push(&server, "c");
    assert_eq!(streams(at, "stays", 3), ["a", "b", "c"]);
    assert_eq!(streams(at, "comes", 2), ["b", "c"], "a new one begins now");
    assert_eq!(server.get("/api/handlers/leaves/parked").status, 404);
    let oldest = to_file("oldest", "concurrency = 1\nstart = \"oldest\"");
    let mut all = with(&["stays", "comes", "leaves"]);
    all.handlers += &oldest;
    reload(&server, &all, RELOADED);
    push(&server, "d");
    assert_eq!(
        streams(at, "leaves", 4),
        ["a", "b", "c", "d"],
        "back, it resumes"
    );
    assert_eq!(streams(at, "comes", 3), ["b", "c", "d"]);
    assert_eq!(streams(at, "oldest", 4), ["a", "b", "c", "d"]);
    let names: Vec<String> = server.get("/api/handlers").json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|handler| handler["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["comes", "leaves", "oldest", "stays"]);
    assert!(server.stop().success());
}

#[test]
fn a_changed_handler_goes_on_under_its_new_settings() {
    let server = TestServer::start(&Settings::with_handlers(&to_file(
        "file",
        "concurrency = 1",
    )));
    push(&server, "a");
    streams(server.path(), "file", 1);
    let changed = to_file(
        "file",
        "concurrency = 1\npayload = \"typed\"\nstreams = [\"live/b*\"]",
    );
    reload(&server, &Settings::with_handlers(&changed), RELOADED);
    for stream in ["c", "b1", "b2"] {
        push(&server, stream);
    }
    assert_eq!(streams(server.path(), "file", 3), ["a", "b1", "b2"]);
}

#[test]
fn a_bad_configuration_leaves_the_old_one_in_force() {
    let good = Settings::with_handlers(&to_file("file", ""));
    let server = TestServer::start(&good);
    let log_only = || "[handlers.new]\nto = { type = \"log\" }\n".to_owned();
    let bad = [
        Settings {
            sources: "[sources.other]\n".into(),
            handlers: log_only(),
            ..Settings::default()
        },
        Settings {
            sources: "[[".into(),
            ..Settings::default()
        },
        Settings::with_handlers(&format!("{}[handlers.none]\n", log_only())),
        // All or nothing: one handler cannot be built, so the other one is not started either.
        Settings::with_handlers(&format!(
            "{}[handlers.z]\nto = {{ type = \"file\", path = \"livehook.toml/x\" }}\n",
            log_only()
        )),
    ];
    for (round, settings) in bad.iter().enumerate() {
        reload(&server, settings, REFUSED);
        push(&server, &format!("room-{round}"));
        streams(server.path(), "file", round + 1);
        assert_eq!(
            server
                .post("/other", signed(json!({ "event_type": 1 })))
                .status,
            404
        );
        assert_eq!(server.get("/api/handlers/new/parked").status, 404);
    }
    assert!(!server.log().contains(RELOADED));
    reload(&server, &good, RELOADED);
    push(&server, "good");
    assert_eq!(
        streams(server.path(), "file", bad.len() + 1).len(),
        bad.len() + 1
    );
}

#[test]
fn sources_change_and_other_sections_ask_for_a_restart() {
    let server = TestServer::start(&Settings::default());
    let changed = Settings {
        server: "drain_delay = \"0s\"\nmax_body = \"1KiB\"".into(),
        sources: format!("[sources.other]\nkeys = [\"{KEY}\"]\n"),
        ..Settings::default()
    };
    reload(&server, &changed, RELOADED);
    let log = server.log();
    assert!(
        log.contains("this section has changed, which needs a restart section=\"server\""),
        "{log}"
    );
    let long = signed(json!({ "event_type": 1, "fill": "x".repeat(2000) }));
    assert_eq!(server.post("/css", &long).status, 404);
    assert_eq!(
        server.post("/other", &long).status,
        200,
        "max_body is what it was"
    );
    let events = server.events();
    assert_eq!(events[0]["source"], "/other");
}

#[test]
fn a_watched_secret_is_reloaded_too() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    fs::write(&keys, "FirstKey").unwrap();
    let settings = Settings {
        server: "drain_delay = \"0s\"\nwatch = true".into(),
        sources: "[sources.css]\nkey_file = \"keys\"\n".into(),
        ..Settings::default()
    };
    let server = TestServer::start_in(directory.path(), &settings);
    let body = signed(json!({ "event_type": 1 }));
    assert_eq!(server.post("/css", &body).status, 401);
    fs::write(&keys, format!("FirstKey\n{KEY}\n")).unwrap();
    wait_for("the second key", || {
        Some(()).filter(|()| server.post("/css", &body).status == 200)
    });
}

#[test]
fn a_watched_file_is_reloaded_without_a_signal() {
    let settings = |handlers: &str| Settings {
        server: "drain_delay = \"0s\"\nwatch = true".into(),
        ..Settings::with_handlers(handlers)
    };
    let server = TestServer::start(&settings(""));
    write(&server, &settings(&to_file("file", "start = \"oldest\"")));
    push(&server, "a");
    assert_eq!(streams(server.path(), "file", 1), ["a"]);
    write(
        &server,
        &Settings {
            sources: "[".into(),
            ..Settings::default()
        },
    );
    wait_for("the complaint", || {
        server.log().contains(REFUSED).then_some(())
    });
    push(&server, "b");
    assert_eq!(streams(server.path(), "file", 2), ["a", "b"]);
}
