//! The receivers in docs/verify.md accept each event from livehook once, and refuse everything
//! else.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;

use crate::clients::{NODE, PYTHON, run};
use crate::docs::page::blocks;
use crate::support::receiver::{Receiver, SECRET};
use crate::support::target::reserve;
use crate::support::{Client, Settings, TestServer, now, signed, wait_for};

/// Starts a program of the page. `prepare` gets the folder and the text, and returns the command.
fn start(language: &str, prepare: impl Fn(&Path, &str) -> Command) -> Receiver {
    let folder = tempfile::tempdir().unwrap();
    let programs = blocks("docs/verify.md", language);
    let [program] = &programs[..] else {
        panic!("{} programs in {language}", programs.len());
    };
    let address = reserve();
    let mut program = prepare(folder.path(), program);
    program
        .env("WEBHOOK_SECRET", SECRET)
        .env("HOST", address.ip().to_string())
        .env("PORT", address.port().to_string());
    Receiver::start(program, folder, address)
}

/// Posts an event like livehook, signed at this time. Returns the status.
fn post(receiver: &Receiver, signature: &str, timestamp: i64, body: &[u8]) -> u16 {
    let timestamp = timestamp.to_string();
    let headers = [
        ("content-type", "application/cloudevents+json"),
        ("webhook-id", ID),
        ("webhook-timestamp", &timestamp),
        ("webhook-signature", signature),
    ];
    let mut client = Client::new(receiver.address);
    client
        .request("POST", "/", &headers, Some(body))
        .unwrap()
        .status
}

/// The id of the event that the test makes.
const ID: &str = "0123456789abcdef0123456789abcdef";

fn signature(timestamp: i64, body: &[u8]) -> String {
    let key = STANDARD
        .decode(SECRET.strip_prefix("whsec_").unwrap())
        .unwrap();
    let mut code = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    code.update(format!("{ID}.{timestamp}.").as_bytes());
    code.update(body);
    format!("v1,{}", STANDARD.encode(code.finalize().into_bytes()))
}

fn receives_and_verifies(receiver: &Receiver) {
    let event =
        json!({ "specversion": "1.0", "id": ID, "source": "/css", "type": "css.stream-end" });
    let event = event.to_string().into_bytes();
    let time = now();
    let good = signature(time, &event);
    // None of these may be stored, else the genuine event would look like a duplicate.
    let mut changed = event.clone();
    changed.extend_from_slice(b" ");
    let stale = time - 3600;
    for (why, signature, timestamp, body) in [
        ("no signature", "", time, &event),
        ("garbage", "v1,Z2FyYmFnZQ==", time, &event),
        ("another body", &*good, time, &changed),
        ("another time", &*good, time + 1, &event),
        ("an old one", &*signature(stale, &event), stale, &event),
    ] {
        let status = post(receiver, signature, timestamp, body);
        assert_eq!(status, 401, "{why}");
    }
    assert_eq!(post(receiver, &good, time, &event), 204);
    let mut expected = vec!["new: css.stream-end".to_owned()];
    let trimmed = || -> Vec<String> {
        let said = receiver.said();
        let lines = said.split_inclusive('\n');
        let complete = lines.filter_map(|line| line.strip_suffix('\n'));
        complete.map(|line| line.trim_end().to_owned()).collect()
    };
    wait_for("the event", || (trimmed() == expected).then_some(()));

    let server = TestServer::start(&Settings::with_handlers(&format!(
        "[handlers.backend]\nto = {{ type = \"http\", url = \"http://{}/\", secret = \"{SECRET}\" }}\n",
        receiver.address
    )));
    let body = signed(json!({
        "event_type": 1, "app": "push.example.com", "appname": "live", "stream_id": "房间 7",
    }));
    assert_eq!(server.post("/css", body).status, 200);
    expected.push("new: css.stream-begin push.example.com/live/房间 7".into());
    let done = "livehook_deliveries_total{handler=\"backend\",outcome=\"done\"}";
    wait_for("the event", || (trimmed() == expected).then_some(()));
    wait_for("the answer", || (server.metric(done) == 1.0).then_some(()));
    // It comes again and is answered 200, but is not new.
    let id = server.events()[0]["id"].as_str().unwrap().to_owned();
    let replay = server.command("/api/handlers/backend/replay", &json!({ "event": id }));
    assert_eq!(replay.json(), json!({ "count": 1 }));
    wait_for("the repeat", || (server.metric(done) == 2.0).then_some(()));
    assert_eq!(trimmed(), expected);
}

#[test]
fn the_receiver_in_python_verifies_and_takes_each_event_once() {
    receives_and_verifies(&start("python", |folder, program| {
        std::fs::write(folder.join("receiver.py"), program).unwrap();
        let mut python = Command::new(PYTHON.join("bin/python"));
        python.arg("receiver.py");
        python
    }));
}

#[test]
fn the_receiver_in_javascript_verifies_and_takes_each_event_once() {
    receives_and_verifies(&start("js", |folder, program| {
        std::fs::write(folder.join("receiver.js"), program).unwrap();
        let mut node = Command::new("node");
        node.arg("receiver.js");
        node.env("NODE_PATH", NODE.join("node_modules"));
        node
    }));
}

#[test]
fn the_receiver_in_go_verifies_and_takes_each_event_once() {
    receives_and_verifies(&start("go", |folder, program| {
        std::fs::write(folder.join("receiver.go"), program).unwrap();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
        let mut go = Command::new("go");
        go.args(["build", "-o", "receiver", "receiver.go"]);
        run(go.current_dir(folder).env("GOCACHE", cache));
        Command::new(folder.join("receiver"))
    }));
}
