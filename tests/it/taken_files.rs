//! Files of the store that are taken away while the server runs: nothing is acknowledged that is
//! written to them, and work continues when they are back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::server::FILE_HANDLER;
use crate::support::{Client, Settings, TestServer, json_lines, signed, wait_for};

fn push(stream: &str) -> serde_json::Value {
    json!({ "event_type": 1, "app": "d", "appname": "live", "stream_id": stream })
}

fn settings() -> Settings {
    Settings {
        inbox: "segment_size = \"1MiB\"".into(),
        ..Settings::with_handlers(FILE_HANDLER)
    }
}

/// Starts a server and posts events until a file of the log is full. Returns how many.
fn filled(directory: &Path) -> (TestServer, usize) {
    let server = TestServer::start_in(directory, &settings());
    let index = directory.join("data/log/00000000000000000001.idx");
    let mut sent = 0;
    wait_for("an index", || {
        sent += 1;
        let mut body = push(&format!("a{sent}"));
        body["more"] = "x".repeat(300_000).into();
        assert_eq!(server.post("/css", signed(body)).status, 200);
        index.exists().then_some(())
    });
    (server, sent)
}

fn readiness(server: &TestServer) -> u16 {
    server.client().get("/readyz").unwrap().status
}

fn newest_segment(data: &Path) -> PathBuf {
    let files = fs::read_dir(data.join("log")).unwrap();
    let names = files.map(|file| file.unwrap().path());
    let segments = names.filter(|path| path.extension().is_some_and(|end| end == "log"));
    segments.max().unwrap()
}

#[test]
fn files_that_are_taken_away_are_noticed_before_anything_is_answered() {
    type Take = fn(&Path);
    let take: [(&str, Take); 3] = [
        ("removed", |data| fs::remove_dir_all(data).unwrap()),
        ("replaced", |data| {
            let aside = data.with_extension("aside");
            fs::rename(data, &aside).unwrap();
            let copied = Command::new("cp").arg("-a").args([&aside, data]).status();
            assert!(copied.unwrap().success());
        }),
        ("one file replaced", |data| {
            let file = data.join("state.db");
            let copy = data.join("copy");
            fs::copy(&file, &copy).unwrap();
            fs::rename(&copy, &file).unwrap();
        }),
    ];
    for (what, take) in take {
        let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
        assert_eq!(server.post("/css", signed(push("a"))).status, 200);
        take(&server.path().join("data"));
        for number in 0..20 {
            let answer = server.post("/css", signed(push(&format!("b{number}"))));
            assert_eq!(answer.status, 503, "{what}");
        }
        let mut client = server.client();
        assert_eq!(client.get("/readyz").unwrap().status, 503, "{what}");
        let logged = server
            .log()
            .matches("the files of the store were taken away")
            .count();
        assert_eq!(logged, 1, "{what}: {}", server.log());
    }
}

/// What is taken away, and whether the next callback notices it.
type Taken = (&'static str, fn(&Path) -> PathBuf, bool);

const TAKEN: [Taken; 6] = [
    ("the directory", |data| data.to_owned(), true),
    ("the state", |data| data.join("state.db"), true),
    ("the lock", |data| data.join("livehook.lock"), true),
    ("the log", |data| data.join("log"), true),
    ("the segment that is written to", newest_segment, true),
    (
        "a full segment",
        |data| data.join("log/00000000000000000001.log"),
        false,
    ),
];

#[test]
fn files_that_are_put_back_have_everything_and_take_more() {
    for (what, file, at_once) in TAKEN {
        let directory = tempfile::tempdir().unwrap();
        let (server, sent) = filled(directory.path());
        let file = file(&directory.path().join("data"));
        let aside = directory.path().join("aside");
        fs::rename(&file, &aside).unwrap();
        if !at_once {
            wait_for("not ready", || (readiness(&server) == 503).then_some(()));
        }
        let bodies: Vec<_> = (0..20)
            .map(|number| signed(push(&format!("b{number}"))))
            .collect();
        let mut admin = Client::new(server.admin);
        for body in &bodies {
            assert_eq!(server.post("/css", body).status, 503, "{what}");
            // Looking at the store makes no new file in place of the one that is missing.
            let _ = admin.get("/api/events");
            let _ = admin.get("/api/handlers/file/parked");
            assert!(!file.exists(), "{what}");
        }
        fs::rename(&aside, &file).unwrap();
        wait_for("ready", || (readiness(&server) == 200).then_some(()));
        for body in &bodies {
            assert_eq!(server.post("/css", body).status, 200, "{what}");
        }
        let delivered = wait_for(&format!("every delivery, {what}"), || {
            let lines = json_lines(&directory.path().join("events.jsonl"));
            (lines.len() >= sent + 20).then_some(lines)
        });
        assert_eq!(server.events().len(), sent + 20, "{what}");
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &delivered {
            *times.entry(line["streamid"].as_str().unwrap()).or_default() += 1;
        }
        assert_eq!(times.len(), sent + 20, "{what}");
        assert!(server.stop().success(), "{what}");
        let server = TestServer::start_in(directory.path(), &settings());
        assert_eq!(server.events().len(), sent + 20, "{what}, after a restart");
    }
}

#[test]
fn files_that_are_taken_away_are_noticed_without_callbacks() {
    let server = TestServer::start(&Settings::default());
    let data = server.path().join("data");
    let aside = server.path().join("aside");
    fs::rename(&data, &aside).unwrap();
    let mut client = server.client();
    wait_for("not ready", || {
        (client.get("/readyz").unwrap().status == 503).then_some(())
    });
    fs::rename(&aside, &data).unwrap();
    wait_for("ready", || {
        (client.get("/readyz").unwrap().status == 200).then_some(())
    });
    assert_eq!(server.post("/css", signed(push("a"))).status, 200);
}
