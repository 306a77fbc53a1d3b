//! The recoveries that docs/operate describes: backups, another machine, and callbacks that a wrong
//! key refused.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::support::server::FILE_HANDLER;
use crate::support::{Settings, TestServer, json_lines, signed, wait_for};

/// A handler that parks all events, and one that accepts all.
fn settings() -> Settings {
    let picky =
        "[handlers.picky]\nto = { type = \"exec\", command = [\"sh\", \"-c\", \"exit 65\"] }\n";
    Settings::with_handlers(&format!("{FILE_HANDLER}{picky}"))
}

fn push(stream: &str) -> String {
    signed(json!({ "event_type": 1, "stream_id": stream, "sequence": stream }))
}

fn read_only(file: &Path) -> Connection {
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// Waits until both handlers have processed all events.
fn settled(server: &TestServer, parked: usize, written: usize) {
    wait_for("the handlers", || {
        let items = server.get("/api/handlers/picky/parked").json();
        let lines = json_lines(&server.path().join("events.jsonl"));
        (items["items"].as_array().unwrap().len() == parked && lines.len() == written).then_some(())
    });
}

#[test]
fn a_backup_of_a_running_server_is_a_whole_store() {
    let (running, restored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = TestServer::start_in(running.path(), &settings());
    let before = push("before");
    assert_eq!(server.post("/css", &before).status, 200);
    settled(&server, 1, 1);
    fs::create_dir(restored.path().join("data")).unwrap();
    let backup = restored.path().join("data/inbox.db");
    read_only(&running.path().join("data/inbox.db"))
        .execute("VACUUM INTO ?1", [backup.to_str().unwrap()])
        .unwrap();
    assert_eq!(server.post("/css", push("later")).status, 200);
    settled(&server, 2, 2);
    server.kill();

    let server = TestServer::start_in(restored.path(), &settings());
    assert_eq!(server.post("/css", &before).status, 200);
    assert_eq!(server.post("/css", push("after")).status, 200);
    // The backup may lack the note that the first one was written.
    wait_for("the handlers", || {
        let items = server.get("/api/handlers/picky/parked").json();
        let lines = json_lines(&server.path().join("events.jsonl"));
        let after = lines.iter().any(|line| line["streamid"] == "after");
        (items["items"].as_array().unwrap().len() == 2 && after).then_some(())
    });
    let streams: Vec<_> = server
        .events()
        .iter()
        .map(|event| event["streamid"].clone())
        .collect();
    assert_eq!(streams, ["before", "after"]);
    let repeats =
        "livehook_callbacks_total{source=\"css\",kind=\"stream-begin\",result=\"duplicate\"}";
    assert_eq!(server.metric(repeats), 1.0);
}

#[test]
fn a_directory_moves_to_another_machine() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = TestServer::start_in(old.path(), &settings());
    let body = push("moved");
    assert_eq!(server.post("/css", &body).status, 200);
    settled(&server, 1, 1);
    assert_eq!(server.stop().code(), Some(0));
    fs::create_dir(new.path().join("data")).unwrap();
    for entry in fs::read_dir(old.path().join("data")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(
            entry.path(),
            new.path().join("data").join(entry.file_name()),
        )
        .unwrap();
    }

    let server = TestServer::start_in(new.path(), &settings());
    assert_eq!(server.post("/css", &body).status, 200);
    assert_eq!(server.events().len(), 1, "the repeat is known");
    settled(&server, 1, 0);
}
