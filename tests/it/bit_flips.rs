//! A bit that flips in a file of the log gives nobody a wrong event, and what is lost is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::server::FILE_HANDLER;
use crate::support::{Client, Settings, TestServer, json_lines, signed, wait_for};

const EVENTS: usize = 300;
const FLIPS: u64 = 60;

/// What was sent, by number.
type Sent = BTreeMap<usize, Value>;

fn settings() -> Settings {
    Settings {
        inbox: "segment_size = \"1MiB\"".into(),
        ..Settings::with_handlers(&FILE_HANDLER.replace("file]", "file]\nstart = \"oldest\""))
    }
}

/// A store with several segments, and what is in it.
fn filled() -> (TempDir, Sent) {
    let directory = tempfile::tempdir().unwrap();
    let without_handlers = Settings {
        handlers: String::new(),
        ..settings()
    };
    let server = TestServer::start_in(directory.path(), &without_handlers);
    let mut client = server.client();
    let mut sent = Sent::new();
    for number in 0..EVENTS {
        // Short ones as well, so that heads and indexes are a part of the files that flips hit.
        let more = "x".repeat(if number % 3 == 0 { 30_000 } else { number });
        let body = signed(json!({
            "event_type": 1, "app": "d", "appname": "live", "stream_id": "room", "number": number, "more": more,
        }));
        assert_eq!(client.post("/css", &body).unwrap().status, 200);
        sent.insert(number, serde_json::from_str(&body).unwrap());
    }
    assert!(server.stop().success());
    (directory, sent)
}

/// The files of the log, without the spare one.
fn files(data: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(data.join("log")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some());
    files.sort();
    files
}

/// Pseudo-random numbers, the same in each run.
fn mixed(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 8
}

/// Flips a bit: every second time in the first bytes, where the head of the file and of its first record are.
fn flip(file: &Path, number: u64) -> String {
    let mut content = fs::read(file).unwrap();
    let length = match number % 2 {
        0 => content.len() as u64,
        _ => 400.min(content.len() as u64),
    };
    let (at, bit) = ((mixed(number) % length) as usize, mixed(number + 1000) % 8);
    content[at] ^= 1 << bit;
    fs::write(file, content).unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    format!("bit {bit} of byte {at} of {name}")
}

/// Starts a server, or returns why it refuses the directory.
fn start(directory: &Path) -> Result<TestServer, String> {
    let started = std::panic::catch_unwind(|| TestServer::start_in(directory, &settings()));
    started.map_err(|_| fs::read_to_string(directory.join("log.txt")).unwrap())
}

/// How many events are parked.
fn parked(server: &TestServer) -> usize {
    let page = server.get("/api/handlers/file/parked?limit=1000");
    assert_eq!(page.status, 200, "{}", page.text());
    page.json()["items"].as_array().unwrap().len()
}

/// Checks that each event is delivered as it was sent, or parked and named in the log.
/// Returns how many are parked.
fn check(server: &TestServer, sent: &Sent) -> usize {
    wait_for("the handler", || {
        (server.metric("livehook_handler_lag_events{handler=\"file\"}") == 0.0).then_some(())
    });
    let mut found = BTreeSet::new();
    for line in json_lines(&server.path().join("events.jsonl")) {
        let number = line["data"]["number"].as_u64().unwrap() as usize;
        assert_eq!(line["data"], sent[&number], "event {number}");
        assert!(found.insert(number), "event {number} came twice");
    }
    let missing = EVENTS - found.len();
    assert_eq!(parked(server), missing, "{}", server.log());
    for number in (0..EVENTS).filter(|number| !found.contains(number)) {
        // They were sent one after the other.
        let name = format!("event.seq={}", number + 1);
        let log = server.log();
        let mut lines = log.lines();
        assert!(
            lines.any(|line| line.contains(&name) && line.contains("damaged")),
            "{log}"
        );
    }
    let events = server.events();
    assert_eq!(events.len(), EVENTS - missing);
    let mut admin = Client::new(server.admin);
    for event in events.iter().step_by(29) {
        let id = event["id"].as_str().unwrap();
        assert_eq!(admin.get(&format!("/api/events/{id}")).unwrap().status, 200);
    }
    let new = signed(json!({ "event_type": 0, "stream_id": "new" }));
    assert_eq!(server.post("/css", new).status, 200);
    missing
}

#[test]
fn a_flipped_bit_is_never_delivered_and_what_is_lost_is_named() {
    let (origin, sent) = filled();
    let data = origin.path().join("data");
    let files = files(&data);
    assert!(files.len() >= 6, "{files:?}");
    let (mut refused, mut damaged, mut harmless) = (0, 0, 0);
    for number in 0..FLIPS {
        let copy = tempfile::tempdir().unwrap();
        let copied = Command::new("cp")
            .arg("-a")
            .args([&data, &copy.path().join("data")])
            .status();
        assert!(copied.unwrap().success());
        let file = files[number as usize % files.len()].file_name().unwrap();
        let log = copy.path().join("data/log");
        let what = flip(&log.join(file), number);
        // Without its index a segment is read at the start. Of the last one only that tells what was acknowledged.
        if number % 8 == 3 && file != files[files.len() - 1] {
            let _ = fs::remove_file(log.join(file).with_extension("idx"));
        }
        println!("{what}");
        let server = match start(copy.path()) {
            Ok(server) => server,
            Err(message) => {
                let name = file.to_str().unwrap();
                assert!(
                    message.contains(name) && message.contains("event"),
                    "{message}"
                );
                refused += 1;
                continue;
            }
        };
        match check(&server, &sent) {
            0 => harmless += 1,
            1 => damaged += 1,
            more => panic!("{what}: {more} events are lost"),
        }
    }
    println!("{refused} refused, {damaged} with a damaged event, {harmless} without");
    assert!(refused > 0 && damaged > 0 && harmless > 0);
}
