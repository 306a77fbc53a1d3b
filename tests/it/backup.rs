//! `livehook backup` and `livehook check --store`.

mod check;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::load::Load;
use crate::support::server::{FILE_HANDLER, livehook};
use crate::support::{Settings, TestServer, json_lines, signed, wait_for};

/// A handler that writes everything, and one that parks everything of one stream. Small files, so that there are several.
fn settings() -> Settings {
    let picky = "[handlers.picky]\nstreams = [\"live/gone\"]\n\
        to = { type = \"exec\", command = [\"sh\", \"-c\", \"exit 65\"] }\n";
    Settings {
        inbox: "segment_size = \"1MiB\"".into(),
        ..Settings::with_handlers(&format!("{FILE_HANDLER}{picky}"))
    }
}

fn push(stream: &str, n: usize) -> String {
    signed(
        json!({ "event_type": 1, "app": "push.example.com", "appname": "live", "stream_id": stream, "number": n }),
    )
}

/// Runs the command with the configuration of the server in this directory, and its addresses if it runs.
fn run(directory: &Path, server: Option<&TestServer>, arguments: &[&str]) -> Output {
    let mut command = livehook();
    command
        .args(arguments)
        .arg("--config")
        .arg(directory.join("livehook.toml"));
    if let Some(server) = server {
        command.env("LIVEHOOK__ADMIN__LISTEN", server.admin.to_string());
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The result of a backup that must succeed.
#[track_caller]
fn back_up(directory: &Path, server: Option<&TestServer>, to: &Path) -> Value {
    let output = run(
        directory,
        server,
        &["backup", to.to_str().unwrap(), "--json"],
    );
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn parked(server: &TestServer) -> usize {
    let items = server.get("/api/handlers/picky/parked").json();
    items["items"].as_array().unwrap().len()
}

fn ids(items: &[Value]) -> BTreeSet<String> {
    let ids = items
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned());
    ids.collect()
}

#[test]
fn a_backup_under_load_goes_on_where_the_server_was() {
    let (running, restored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = TestServer::start_in(running.path(), &settings());
    for n in 0..3 {
        assert_eq!(server.post("/css", push("gone", n)).status, 200);
    }
    wait_for("the parked ones", || (parked(&server) == 3).then_some(()));
    let load = Load::on(&[server.addr], Duration::from_millis(1));
    let (_, (acknowledged, before, summary)) = load.run(|| {
        wait_for("events", || (load.acknowledged() > 3000).then_some(()));
        let acknowledged = load.acknowledged();
        let before = server.events();
        let summary = back_up(running.path(), Some(&server), &restored.path().join("data"));
        let after = load.acknowledged();
        wait_for("more events", || {
            (load.acknowledged() > after + 300).then_some(())
        });
        (acknowledged, before, summary)
    });
    assert_eq!((load.refused(), load.unanswered()), (0, 0));
    server.kill();
    assert!(before.len() as u64 >= acknowledged + 3);
    let delivered = ids(&json_lines(&running.path().join("events.jsonl")));

    let check = run(
        running.path(),
        None,
        &[
            "check",
            "--store",
            restored.path().join("data").to_str().unwrap(),
        ],
    );
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stdout));
    let server = TestServer::start_in(restored.path(), &settings());
    let events = server.events();
    let stored = ids(&events);
    assert_eq!(stored.len(), events.len(), "nothing is there twice");
    assert_eq!(summary["events"], events.len());
    let missing: Vec<_> = ids(&before).difference(&stored).cloned().collect();
    assert_eq!(missing, [""; 0]);
    assert_eq!(parked(&server), 3);
    // What the old server had delivered when the backup was made is not delivered again, but for the last moments.
    let lines = wait_for("the rest", || {
        let lines = json_lines(&server.path().join("events.jsonl"));
        let all: BTreeSet<_> = ids(&lines).union(&delivered).cloned().collect();
        stored.is_subset(&all).then_some(lines)
    });
    assert_eq!(ids(&lines).len(), lines.len(), "nothing is delivered twice");
    let first = &before[0]["id"];
    assert!(
        lines.iter().all(|line| line["id"] != *first),
        "it goes on from the position"
    );
    // A repeat is known, and what is new is new.
    let repeats =
        "livehook_callbacks_total{source=\"css\",kind=\"stream-begin\",result=\"duplicate\"}";
    assert_eq!(server.post("/css", push("gone", 0)).status, 200);
    assert_eq!(server.metric(repeats), 1.0);
    assert_eq!(server.post("/css", push("gone", 9)).status, 200);
    wait_for("the new one", || (parked(&server) == 4).then_some(()));
}

#[test]
fn the_command_opens_the_store_itself_if_no_server_runs() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let server = TestServer::start_in(directory.path(), &settings());
    for n in 0..20 {
        assert_eq!(server.post("/css", push("room", n)).status, 200);
    }
    // A crash leaves nothing sealed.
    server.kill();
    let summary = back_up(directory.path(), None, &path("backup"));
    assert_eq!(summary["events"], 20);
    assert_eq!(summary["dir"], path("backup").to_str().unwrap());
    let output = run(
        directory.path(),
        None,
        &["backup", path("again").to_str().unwrap()],
    );
    let line = text(&output.stdout);
    let begin = format!("{}: 20 events, ", path("again").display());
    assert!(line.starts_with(&begin) && line.ends_with(" s\n"), "{line}");
    let server = TestServer::start_in(directory.path(), &settings());
    assert_eq!(server.events().len(), 20);
}

#[test]
fn what_cannot_be_done_is_said_and_nothing_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let server = TestServer::start_in(directory.path(), &settings());
    fs::create_dir(path("full")).unwrap();
    fs::write(path("full/mine"), "mine").unwrap();
    let full = path("full");
    let output = run(
        directory.path(),
        Some(&server),
        &["backup", full.to_str().unwrap()],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("full: the directory is not empty"));
    assert_eq!(fs::read_to_string(path("full/mine")).unwrap(), "mine");
    let ask = |body: Value| {
        let answer = server.command("/api/backup", &body);
        (
            answer.status,
            answer.json()["message"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let (status, message) = ask(json!({ "dir": "relative" }));
    assert_eq!(status, 400);
    assert!(message.contains("an absolute path"), "{message}");
    assert_eq!(ask(json!({ "to": "/x" })).0, 400);
    let idle = json!({ "running": false, "bytes": 0, "total_bytes": 0 });
    assert_eq!(server.get("/api/backup").json(), idle);
    assert_eq!(server.stop().code(), Some(0));

    // A volume that is too small, half a backup, no store, and another engine.
    let run_with = |variable: (&str, &str), arguments: &[&str]| {
        let mut command = livehook();
        let config = path("livehook.toml");
        command
            .args(arguments)
            .arg("--config")
            .arg(config)
            .env(variable.0, variable.1);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let to = path("backup");
    let to = to.to_str().unwrap();
    let (code, message) = run_with(("LIVEHOOK__INBOX__MIN_FREE", "1000PiB"), &["backup", to]);
    assert!(
        code == 1 && message.contains("1000.0 PiB of the store's own volume"),
        "{message}"
    );
    let (code, message) = run_with(
        ("LIVEHOOK__INBOX__PATH", path("none").to_str().unwrap()),
        &["backup", to],
    );
    assert!(code == 2 && message.contains("has no store"), "{message}");
    assert!(!path("none").exists() && !path("backup").exists());
    fs::create_dir(path("half")).unwrap();
    fs::write(path("half/state.db.unfinished"), "").unwrap();
    let (code, message) = run_with(
        ("LIVEHOOK__INBOX__PATH", path("half").to_str().unwrap()),
        &["serve"],
    );
    assert!(
        code == 1 && message.contains("a backup that was not finished"),
        "{message}"
    );
    fs::write(
        path("livehook.toml"),
        "[inbox]\nengine = \"postgres\"\nurl = \"postgres://a@127.0.0.1:1/b\"\n[sources.css]\nkeys = [\"abc\"]\n",
    )
    .unwrap();
    let (code, message) = run_with(("X", ""), &["backup", to]);
    assert!(code == 2 && message.contains("pg_dump"), "{message}");
    let (code, message) = run_with(("X", ""), &["check", "--store"]);
    assert!(code == 2 && message.contains("PostgreSQL"), "{message}");
}
