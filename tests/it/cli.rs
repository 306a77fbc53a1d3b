//! The commands that ask a running server.

mod replay_wait;
mod streams;
mod terminal;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::server::{FILE_HANDLER, livehook};
use crate::support::target::reserve;
use crate::support::{Settings, TestServer, json_lines, now, signed, signed_with, wait_for};

const REJECTING: &str = "[handlers.picky]\nto = { type = \"exec\", command = [\"sh\", \"-c\", \"echo no >&2; test -e mended || exit 65\"] }\n";

fn server() -> TestServer {
    TestServer::start(&Settings::with_handlers(FILE_HANDLER))
}

fn run(server: &TestServer, arguments: &[&str]) -> Output {
    livehook()
        .args(arguments)
        .args(["--admin", &server.admin_url()])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The output of a command that must succeed.
#[track_caller]
fn lines(server: &TestServer, arguments: &[&str]) -> Vec<String> {
    let output = run(server, arguments);
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{err}");
    assert_eq!(err, "");
    let out = String::from_utf8(output.stdout).unwrap();
    out.lines().map(str::to_owned).collect()
}

/// The exit code and the message of a command that must fail.
fn failed(output: Output) -> (i32, String) {
    assert_eq!(output.stdout, b"");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.starts_with("livehook: ") && message.lines().count() == 1,
        "{message}"
    );
    (output.status.code().unwrap(), message)
}

fn push(server: &TestServer, stream: &str) {
    let body = json!({ "event_type": 1, "app": "push.example.com", "appname": "live", "stream_id": stream });
    assert_eq!(server.post("/css", signed(body)).status, 200);
}

#[test]
fn events_are_listed_newest_last_for_people_and_for_scripts() {
    let server = server();
    for n in 0..30 {
        push(&server, &format!("room-{n}"));
    }
    let record = json!({ "event_type": 100, "stream_id": "\u{1b}[2Jevil\u{202e}" });
    assert_eq!(server.post("/css", signed(record)).status, 200);

    let table = lines(&server, &["events"]);
    assert_eq!(table.len(), 21, "20 and the head");
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        words(&table[0]),
        ["RECEIVED", "KIND", "SOURCE", "STREAM", "ID"]
    );
    let newest = server.events().pop().unwrap();
    let time = newest["receivedtime"].as_str().unwrap();
    let id = newest["id"].as_str().unwrap();
    assert_eq!(
        words(&table[20]),
        [time, "record", "css", "\\u{1b}[2Jevil\\u{202e}", id]
    );
    assert_eq!(words(&table[19])[3], "push.example.com/live/room-29");

    let all = lines(&server, &["events", "--json", "--limit", "5000"]);
    let all: Vec<Value> = all
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(all, server.events());
    for (filter, expected) in [
        (&["--kind", "record"][..], 1),
        (&["--stream", "live/room-7"], 1),
        (&["--domain", "push.example.com", "--limit", "7"], 7),
        (&["--source", "nobody"], 0),
        (&["--from", "1h"], 20),
        (&["--to", "-1h"], 0),
        (&["--to", "2026-01-01T00:00:00Z"], 0),
    ] {
        let arguments = [&["events", "--json"], filter].concat();
        assert_eq!(lines(&server, &arguments).len(), expected, "{filter:?}");
    }
    let whole = lines(&server, &["events", id]).join("\n");
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole["data"]["event_type"], 100);
}

#[test]
fn events_are_followed_across_a_restart_of_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings::with_handlers(FILE_HANDLER).at(reserve(), reserve());
    let server = TestServer::start_in(directory.path(), &settings);
    push(&server, "before");
    let mut child = livehook()
        .args([
            "events",
            "--follow",
            "--json",
            "--admin",
            &server.admin_url(),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let item: Value = serde_json::from_str(&line).unwrap();
        item["streamid"].as_str().unwrap().to_owned()
    };
    assert_eq!(next(), "before");
    push(&server, "a");
    push(&server, "b");
    assert_eq!((next(), next()), ("a".into(), "b".into()));
    assert!(server.stop().success());
    let server = TestServer::start_in(directory.path(), &settings);
    push(&server, "c");
    assert_eq!(next(), "c");
    // Nobody reads any more.
    drop(out);
    wait_for("its end", || {
        push(&server, "d");
        child.try_wait().unwrap()
    });
    assert!(child.wait().unwrap().success());
}

#[test]
fn limit_0_shows_only_new_events() {
    let server = server();
    push(&server, "before");
    let mut child = livehook()
        .args(["events", "--follow", "--limit", "0", "--json"])
        .args(["--admin", &server.admin_url()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    // The command does not show when it begins to follow.
    let pushing = std::sync::atomic::AtomicBool::new(true);
    let first = std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if !pushing.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                push(&server, &format!("after-{n}"));
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        });
        let mut line = String::new();
        let read = out.read_line(&mut line);
        pushing.store(false, std::sync::atomic::Ordering::Relaxed);
        read.unwrap();
        line
    });
    let first: Value = serde_json::from_str(&first).unwrap();
    assert!(
        first["streamid"].as_str().unwrap().starts_with("after-"),
        "{first}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_was_refused_is_listed_and_rechecked() {
    let server = server();
    for n in 0..3 {
        let body = json!({ "event_type": 1, "stream_id": "room", "sequence": n });
        let body = signed_with("Forged", now() + 600, body);
        assert_eq!(server.post("/css/stream-begin", body).status, 401);
    }
    let listed = || lines(&server, &["rejected", "--json", "--reason", "signature"]);
    wait_for("the list", || (listed().len() == 3).then_some(()));
    let table = lines(&server, &["rejected", "--limit", "2"]);
    assert_eq!(table.len(), 3);
    assert!(table[0].starts_with("RECEIVED"), "{table:?}");
    assert!(
        table[2].contains("  signature  stream-begin  css     127.0.0.1"),
        "{table:?}"
    );
    let recheck = lines(
        &server,
        &["rejected", "--recheck", "--source", "css", "--dry-run"],
    );
    assert_eq!(
        recheck,
        ["0 callbacks would be accepted: authentic with the current keys"]
    );
    let recheck = lines(&server, &["rejected", "--recheck"]);
    assert_eq!(
        recheck,
        ["0 callbacks accepted: authentic with the current keys"]
    );
}

#[test]
fn what_is_parked_is_listed_and_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let mended = directory.path().join("mended");
    let picky = REJECTING.replace("-e mended", &format!("-e {}", mended.display()));
    let server = TestServer::start(&Settings::with_handlers(&format!("{FILE_HANDLER}{picky}")));
    push(&server, "a");
    push(&server, "b");
    let parked = || lines(&server, &["parked", "--json"]);
    wait_for("the list", || (parked().len() == 2).then_some(()));
    let item: Value = serde_json::from_str(&parked()[1]).unwrap();
    assert_eq!(
        (&item["handler"], &item["streamid"]),
        (&json!("picky"), &json!("b"))
    );
    let table = lines(&server, &["parked", "picky"]);
    assert!(
        table[0].starts_with("PARKED") && table.len() == 3,
        "{table:?}"
    );
    assert!(
        table[1].contains("push.example.com/live/a") && table[1].contains("65"),
        "{table:?}"
    );
    let newest = lines(&server, &["parked", "--json", "--limit", "1"]);
    assert_eq!(newest, parked()[1..]);
    let of_a = lines(&server, &["parked", "--json", "--stream", "live/a"]);
    assert_eq!(of_a, parked()[..1]);
    let handlers = lines(&server, &["handlers"]);
    assert!(
        handlers[2].starts_with("picky  exec  running  0"),
        "{handlers:?}"
    );

    fs::write(&mended, "").unwrap();
    let replay = |more: &[&str]| run(&server, &[&["replay", "picky"], more].concat());
    let (code, message) = failed(replay(&["--parked"]));
    assert_eq!(code, 2);
    assert!(
        message.contains("2 events will be delivered to picky again. Confirm with --yes"),
        "{message}"
    );
    let dry = lines(&server, &["replay", "picky", "--parked", "--dry-run"]);
    assert_eq!(dry, ["2 events would be delivered to picky again"]);
    let done = lines(&server, &["replay", "picky", "--parked", "--yes"]);
    assert_eq!(done, ["2 events are due for picky again"]);
    wait_for("them to be done", || parked().is_empty().then_some(()));
    let id = item["id"].as_str().unwrap();
    let one = lines(&server, &["replay", "file", "--event", id, "-y"]);
    assert_eq!(
        one,
        ["1 event are due for file again"].map(|line| line.replace("event are", "event is"))
    );
    // One that is still due is not due again.
    let range = || lines(&server, &["replay", "file", "--from", "1h", "--dry-run"]);
    let oldest = format!(
        "; the oldest stored event was received at {}",
        server.events()[0]["receivedtime"].as_str().unwrap()
    );
    let both = [format!("2 events would be delivered to file again{oldest}")];
    wait_for("it to be done", || (range() == both).then_some(()));
    let (_, message) = failed(run(&server, &["replay", "file", "--from", "1h"]));
    assert!(
        message.contains(&format!("again{oldest}. Confirm")),
        "{message}"
    );
    let file = server.path().join("events.jsonl");
    wait_for("the file", || (json_lines(&file).len() == 3).then_some(()));
}

#[test]
fn a_stream_is_deleted_when_the_operator_agrees() {
    let server = server();
    for stream in ["anna", "bert", "anna"] {
        let body = json!({
            "event_type": 1, "app": "push.example.com", "appname": "live", "stream_id": stream, "sequence": server.events().len(),
        });
        assert_eq!(server.post("/css", signed(body)).status, 200);
    }
    fn anna<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&["events", "--delete", "--stream", "anna"], more].concat()
    }
    let dry = lines(&server, &anna(&["--dry-run"]));
    assert_eq!(dry, ["2 events would be deleted (stream anna)"]);
    let dry = lines(
        &server,
        &anna(&["--dry-run", "--domain", "other", "--json"]),
    );
    assert_eq!(dry, [r#"{"count":0}"#]);
    let (code, message) = failed(run(&server, &anna(&["--source", "css"])));
    assert_eq!(code, 2);
    let question =
        "2 events will be deleted for good (source css, stream anna). Confirm with --yes";
    assert!(message.contains(question), "{message}");
    assert_eq!(server.events().len(), 3);

    let domain = ["--domain", "push.example.com", "--yes"];
    let done = lines(&server, &anna(&domain));
    assert_eq!(
        done,
        ["2 events deleted (domain push.example.com, stream anna)"]
    );
    assert_eq!(server.events().len(), 1);
    let words = json!({ "event_type": 338, "stream_id": "bert" });
    assert_eq!(server.post("/css", signed(words)).status, 200);
    let of_bert = ["events", "--delete", "--stream", "live/bert"];
    let nameless = "; 1 of them have no appname, 0 of these may belong to another app's stream";
    let dry = lines(&server, &[&of_bert[..], &["--dry-run"]].concat());
    assert_eq!(
        dry,
        [format!(
            "2 events would be deleted (stream live/bert){nameless}"
        )]
    );
    let (_, message) = failed(run(&server, &of_bert));
    assert!(
        message.contains(&format!("{nameless}. Confirm")),
        "{message}"
    );
    let bert = [
        "events",
        "--delete",
        "--stream",
        "live/bert",
        "-y",
        "--json",
    ];
    assert_eq!(lines(&server, &bert), [r#"{"count":2}"#]);
    assert!(server.events().is_empty());

    for arguments in [
        &["events", "--delete", "-y"][..],
        &["events", "--delete", "--domain", "push.example.com", "-y"],
        &["events", "--stream", "anna", "--dry-run"],
        &["events", "--stream", "anna", "--yes"],
        &anna(&["--follow"]),
        &anna(&["--limit", "5"]),
        &anna(&["0123"]),
    ] {
        let code = run(&server, arguments).status.code();
        assert_eq!(code, Some(2), "{arguments:?}");
    }
    let (code, message) = failed(run(&server, &["events", "--delete", "--stream", "", "-y"]));
    assert_eq!(code, 2);
    assert!(message.contains("`stream`"), "{message}");
}

#[test]
fn a_handler_is_paused_and_resumed() {
    let server = server();
    assert_eq!(
        lines(&server, &["handlers", "--pause", "file"]),
        ["file: paused"]
    );
    let handlers = lines(&server, &["handlers", "--json"]);
    let item: Value = serde_json::from_str(&handlers[0]).unwrap();
    assert_eq!(item["state"], "paused");
    assert_eq!(
        lines(&server, &["handlers", "--resume", "file"]),
        ["file: running"]
    );
}

#[test]
fn the_configuration_gives_address_and_token_of_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let admin = reserve();
    let settings = Settings {
        admin: "token = \"AdminTokenItself\"".into(),
        ..Settings::default()
    };
    let settings = settings.at(reserve(), admin);
    let server = TestServer::start_in(directory.path(), &settings);
    let body = json!({ "event_type": 1 });
    assert_eq!(server.post("/css", signed(body)).status, 200);
    // The configuration needs only [admin].
    let file = directory.path().join("admin.toml");
    fs::write(
        &file,
        format!("[admin]\nlisten = \"{admin}\"\ntoken = \"AdminTokenItself\"\n"),
    )
    .unwrap();
    let with_config = |command: &str| {
        let mut livehook = livehook();
        livehook
            .args([command, "--json", "--config"])
            .arg(&file)
            .output()
            .unwrap()
    };
    let output = with_config("events");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        output.stdout.iter().filter(|byte| **byte == b'\n').count(),
        1
    );

    let (code, message) = failed(run(&server, &["events"]));
    assert_eq!(code, 1);
    assert!(
        message.contains("token") && !message.contains("AdminTokenItself"),
        "{message}"
    );
    let token = directory.path().join("token");
    fs::write(&token, "AdminTokenItself\n").unwrap();
    let listed = lines(
        &server,
        &[
            "events",
            "--json",
            "--admin-token-file",
            token.to_str().unwrap(),
        ],
    );
    assert_eq!(listed.len(), 1);

    assert!(server.stop().success());
    let (code, message) = failed(with_config("events"));
    assert_eq!(code, 1);
    assert!(
        message.contains(&admin.to_string()) && message.contains("is the server running?"),
        "{message}"
    );
}

#[test]
fn errors_are_one_line() {
    let server = server();
    for (arguments, code, part) in [
        (&["events", "0123"][..], 1, "no such event"),
        (&["parked", "nobody"], 1, "no such handler"),
        (
            &["replay", "nobody", "--parked", "-y"],
            1,
            "no such handler",
        ),
        (&["handlers", "--pause", "no/body"], 1, "no such handler"),
        (
            &[
                "replay",
                "file",
                "--event",
                "00000000000000000000000000000000",
                "-y",
            ],
            1,
            "retention",
        ),
        (
            &["replay", "file", "--from", "1h", "--to", "2h", "-y"],
            2,
            "`from`",
        ),
    ] {
        let (is, message) = failed(run(&server, arguments));
        assert_eq!(is, code, "{message}");
        assert!(message.contains(part), "{message}");
    }
    for arguments in [
        &["events", "--kind", "push"][..],
        &["events", "--from", "yesterday"],
        &["replay", "file"],
        &["rejected", "--reason", "nonsense"],
        &["rejected", "--dry-run"],
        &["events", "--limit", "0"],
        &["rejected", "--limit", "0"],
        &["parked", "--limit", "0"],
        &["streams", "--limit", "0"],
    ] {
        assert_eq!(
            run(&server, arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", other.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in other.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
        }
    });
    let output = livehook()
        .args(["handlers", "--admin", &url])
        .output()
        .unwrap();
    let (code, message) = failed(output);
    assert_eq!(code, 1);
    assert!(
        message.contains("not an admin listener of livehook"),
        "{message}"
    );
    for url in ["ftp://a", "nonsense", "http://"] {
        let output = livehook()
            .args(["handlers", "--admin", url])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{url}");
    }
}
