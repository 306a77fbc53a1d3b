//! The process and its operator: commands, ports and directories in use, logs.

mod setup;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::server::{FILE_HANDLER, livehook};
use crate::support::{KEY, Settings, TestServer, signed, wait_for};

/// Runs the program to its end in a directory with this configuration.
fn run(directory: &Path, toml: &str, arguments: &[&str]) -> Output {
    fs::write(directory.join("livehook.toml"), toml).unwrap();
    livehook()
        .args(arguments)
        .arg("--config")
        .arg(directory.join("livehook.toml"))
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_port_in_use_ends_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for section in ["server", "admin"] {
        let directory = tempfile::tempdir().unwrap();
        let listen = format!("[{section}]\nlisten = \"127.0.0.1:0\"");
        let toml = Settings::default()
            .to_toml()
            .replace(&listen, &format!("[{section}]\nlisten = \"{address}\""));
        let output = run(directory.path(), &toml, &["serve"]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        let last = message.lines().last().unwrap();
        assert!(
            last.contains(&format!("{section}.listen")) && last.contains(&address),
            "{message}"
        );
        assert!(!message.contains("accepting callbacks"));
    }
}

#[test]
fn a_second_server_on_a_directory_waits_and_then_gives_up() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        inbox: "lock_wait = \"300ms\"".into(),
        ..Settings::default()
    };
    let first = TestServer::start_in(directory.path(), &settings);
    let began = Instant::now();
    let output = run(directory.path(), &settings.to_toml(), &["serve"]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(
        message
            .lines()
            .last()
            .unwrap()
            .contains("is in use by another livehook (waited 300ms)"),
        "{message}"
    );
    assert_eq!(
        first
            .post("/css", signed(json!({ "event_type": 1 })))
            .status,
        200,
        "the first does not notice"
    );
}

#[test]
fn a_second_server_takes_over_when_the_first_one_ends() {
    let directory = tempfile::tempdir().unwrap();
    let first = TestServer::start_in(directory.path(), &Settings::default());
    assert_eq!(
        first
            .post("/css", signed(json!({ "event_type": 1 })))
            .status,
        200
    );
    let second = std::thread::scope(|scope| {
        let second = scope.spawn(|| TestServer::start_in(directory.path(), &Settings::default()));
        assert!(first.stop().success());
        second.join().unwrap()
    });
    assert_eq!(second.events().len(), 1);
}

#[test]
fn a_directory_that_holds_no_usable_inbox_ends_with_1() {
    let toml = Settings::default().to_toml();
    let fails = |directory: &Path, words: &str| {
        let output = run(directory, &toml, &["serve"]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        let last = message.lines().last().unwrap();
        assert!(
            last.contains("inbox.path") && last.contains(words),
            "{message}"
        );
    };
    let foreign = tempfile::tempdir().unwrap();
    fs::create_dir(foreign.path().join("data")).unwrap();
    let file = foreign.path().join("data/state.db");
    fs::write(&file, "no database at all ".repeat(100)).unwrap();
    fails(foreign.path(), "not a database");
    assert_eq!(
        fs::read_to_string(&file).unwrap().len(),
        1900,
        "it is left alone"
    );
    fs::remove_file(&file).unwrap();
    Connection::open(&file)
        .unwrap()
        .execute_batch("CREATE TABLE somebodys(x)")
        .unwrap();
    fails(foreign.path(), "not a livehook store");

    let newer = tempfile::tempdir().unwrap();
    assert!(
        TestServer::start_in(newer.path(), &Settings::default())
            .stop()
            .success()
    );
    let conn = Connection::open(newer.path().join("data/state.db")).unwrap();
    conn.execute_batch("PRAGMA user_version = 99").unwrap();
    // Schema changes only add, so livehook still reads a newer file that says so.
    assert!(
        TestServer::start_in(newer.path(), &Settings::default())
            .stop()
            .success()
    );
    conn.execute("UPDATE meta SET value = 99 WHERE name = 'readable_by'", [])
        .unwrap();
    drop(conn);
    fails(newer.path(), "newer livehook");
}

#[test]
fn a_server_that_waits_for_the_directory_can_be_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let _first = TestServer::start_in(directory.path(), &Settings::default());
    let mut second = livehook()
        .args(["serve", "--config"])
        .arg(directory.path().join("livehook.toml"))
        .env("LIVEHOOK__INBOX__LOCK_WAIT", "1h")
        .spawn()
        .unwrap();
    // Signals are handled before the lock file is opened.
    let waits = || {
        let files = fs::read_dir(format!("/proc/{}/fd", second.id())).ok()?;
        let mut links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        links.find(|link| link.ends_with("livehook.lock"))
    };
    wait_for("it to wait", waits);
    let began = Instant::now();
    let killed = std::process::Command::new("kill")
        .arg(second.id().to_string())
        .status();
    assert!(killed.unwrap().success());
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn requests_cannot_forge_log_lines() {
    let server = TestServer::start(&Settings::with_handlers(
        "[handlers.log]\nto = { type = \"log\" }\n",
    ));
    let odd = "room\u{1b}[31m\r\n2026-11-23T08:00:00Z ERROR forged";
    let body =
        json!({ "event_type": 1, "stream_id": odd, "app": odd, "appname": odd, "sequence": odd });
    assert_eq!(server.post("/css", signed(body)).status, 200);
    wait_for("the event's line", || {
        server.log().contains("forged").then_some(())
    });
    let log = server.log();
    assert!(!log.contains(['\u{1b}', '\r']), "{log}");
    assert!(
        !log.lines()
            .any(|line| line.starts_with("2026-11-23T08:00:00Z")),
        "{log}"
    );
}

#[test]
fn check_prints_the_url_for_every_field_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        server: "public_url = \"https://cb.example.com/\"".into(),
        sources: format!("[sources.css]\nkeys = [\"{KEY}\"]\ntoken = \"a b&c\"\n"),
        ..Settings::with_handlers(FILE_HANDLER)
    };
    let output = run(directory.path(), &settings.to_toml(), &["check"]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for kind in css_callbacks::Kind::ALL {
        let url = format!("https://cb.example.com/css/{kind}?token=a%20b%26c");
        let line = report
            .lines()
            .find(|line| line.ends_with(&url))
            .unwrap_or_else(|| panic!("{url} in\n{report}"));
        assert!(line.contains(kind.url_field().unwrap().name()), "{line}");
    }
    assert!(!report.contains(KEY));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn key_prints_a_fresh_key() {
    let keys: Vec<String> = (0..2)
        .map(|_| text(&livehook().arg("key").output().unwrap().stdout))
        .collect();
    for key in &keys {
        let key = key.strip_suffix('\n').unwrap();
        assert!(
            key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "{key}"
        );
    }
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn health_reports_liveness_and_readiness() {
    let ill = TestServer::start(&Settings {
        inbox: "min_free = \"1000PiB\"".into(),
        ..Settings::default()
    });
    let health = |arguments: &[&str], address: &str| {
        let url = format!("http://{address}");
        let output = livehook()
            .arg("health")
            .args(arguments)
            .args(["--url", &url])
            .output()
            .unwrap();
        assert_eq!(output.stderr.is_empty(), output.status.success());
        output.status.code().unwrap()
    };
    for address in [ill.addr, ill.admin] {
        assert_eq!(
            ill.post("/css", signed(json!({ "event_type": 1 }))).status,
            503
        );
        assert_eq!(health(&[], &address.to_string()), 0);
        assert_eq!(health(&["--ready"], &address.to_string()), 1);
    }
    // From the configuration, with the address from the environment.
    let well = TestServer::start(&Settings::default());
    let by_config = |arguments: &[&str]| {
        let mut command = livehook();
        command
            .arg("health")
            .args(arguments)
            .arg("--config")
            .arg(well.path().join("livehook.toml"));
        command
            .env("LIVEHOOK__SERVER__LISTEN", well.addr.to_string())
            .status()
            .unwrap()
            .code()
    };
    assert_eq!(
        (by_config(&[]), by_config(&["--ready"])),
        (Some(0), Some(0))
    );
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    assert_eq!(health(&[], &nobody), 1);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(health(&[], &silent.local_addr().unwrap().to_string()), 1);
    let wrong = livehook()
        .args(["health", "--url", "nonsense"])
        .status()
        .unwrap();
    assert_eq!(wrong.code(), Some(2));
}

#[test]
fn json_logs_are_one_object_per_line() {
    let server = TestServer::start(&Settings {
        sources: format!(
            "[log]\nformat = \"json\"\nlevel = \"debug\"\n[sources.css]\nkeys = [\"{KEY}\"]\n"
        ),
        ..Settings::with_handlers("[handlers.log]\nto = { type = \"log\" }\n")
    });
    let odd = "\u{1b}[31m\"quoted\"\nnew line";
    assert_eq!(
        server
            .post(
                "/css/snapshot",
                signed(json!({ "event_type": 1, "stream_id": odd }))
            )
            .status,
        200
    );
    assert_eq!(server.post("/css", "{}").status, 401);
    wait_for("the event's line", || {
        server.log().contains("quoted").then_some(())
    });
    let log = server.log();
    for line in log.lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            line["message"].is_string()
                && line["level"].is_string()
                && line["timestamp"].is_string(),
            "{line}"
        );
    }
}
