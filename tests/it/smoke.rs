//! The shortest way from a callback to a handler.

use serde_json::json;

use crate::support::server::FILE_HANDLER;
use crate::support::{Settings, TestServer, json_lines, signed, wait_for};

#[test]
fn a_signed_callback_reaches_the_file() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let body =
        signed(json!({ "event_type": 1, "stream_id": "room-7", "app": "d", "appname": "live" }));
    let answer = server.post("/css/stream-begin", &body);
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "{\"code\":0}")
    );
    let file = server.path().join("events.jsonl");
    let lines = wait_for("the line", || {
        Some(json_lines(&file)).filter(|lines| !lines.is_empty())
    });
    assert_eq!(
        lines[0]["data"],
        serde_json::from_str::<serde_json::Value>(&body).unwrap()
    );
    assert_eq!(server.events().len(), 1);
    assert!(server.stop().success());
}

#[test]
fn the_built_program_has_livehooks_flags_for_sqlite() {
    let server = TestServer::start(&Settings::default());
    let log = server.log();
    assert!(!log.contains("SQLite"), "{log}");
}
