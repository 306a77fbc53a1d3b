//! The move to another machine that docs/operate describes.

use std::fs;
use std::path::Path;

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

/// Copies a directory with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (file, target) = (
            entry.as_ref().unwrap().path(),
            to.join(entry.unwrap().file_name()),
        );
        match file.is_dir() {
            true => copy(&file, &target),
            false => drop(fs::copy(file, target).unwrap()),
        }
    }
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
fn a_directory_moves_to_another_machine() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = TestServer::start_in(old.path(), &settings());
    let body = push("moved");
    assert_eq!(server.post("/css", &body).status, 200);
    settled(&server, 1, 1);
    assert_eq!(server.stop().code(), Some(0));
    copy(&old.path().join("data"), &new.path().join("data"));

    let server = TestServer::start_in(new.path(), &settings());
    assert_eq!(server.post("/css", &body).status, 200);
    assert_eq!(server.events().len(), 1, "the repeat is known");
    settled(&server, 1, 0);
}
