//! Errors at the start: wrong configurations, unwritable directories, wrong usage.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{run, text};
use crate::support::server::{FILE_HANDLER, livehook};
use crate::support::{KEY, Settings};

#[test]
fn a_bad_configuration_ends_with_2_and_one_message_before_anything_is_begun() {
    let css = format!("[sources.css]\nkeys = [\"{KEY}\"]\n");
    let with = |more: &str| format!("{css}{more}\n");
    let cases = [
        (with("[server\n"), &["livehook.toml:3:"][..]),
        (
            "sources:\n  css:\n    keys: [a]\n".into(),
            &["livehook.toml:1:", "this is YAML, livehook reads TOML"],
        ),
        (
            "[sources.css]\nkeys = [\"a]\n".into(),
            &["livehook.toml:2:", "quote"],
        ),
        (
            "[sources.css]\nkeys = \"a\"\n".into(),
            &[
                "livehook.toml:2:1: sources.css.keys: ",
                "; write keys = [\"\u{2026}\"]",
            ],
        ),
        (
            with("[server]\nlisten = 8080"),
            &["livehook.toml:4:1: server.listen"],
        ),
        (
            with("[server]\nlisten = \"here\""),
            &["server.listen", "0.0.0.0:8080"],
        ),
        (
            with("[server]\nmax_bodi = \"1MiB\""),
            &["server.max_bodi", "max_body"],
        ),
        (
            with("[server]\nmax_body = \"2MiB\"\nmax_inflight = \"1MiB\""),
            &["server.max_inflight", "max_body"],
        ),
        (
            with("[server]\ndeadline = \"25s\""),
            &["server.deadline", "20s"],
        ),
        (with("[server]\ndeadline = 4"), &["server.deadline", "10s"]),
        (with("[serwer]"), &["serwer", "server"]),
        (
            with("[admin]\nlisten = \"0.0.0.0:9090\""),
            &["admin.listen", "token"],
        ),
        (
            with("[admin]\nlisten = \"127.0.0.1:8080\""),
            &["admin.listen", "server.listen", "8080"],
        ),
        (with("[admin]\ntoken = \"\""), &["admin.token", "empty"]),
        (with("[log]\nlevel = \"lots\""), &["log.level", "info"]),
        (with("[log]\nformat = \"jason\""), &["log.format", "json"]),
        (
            with("[inbox]\nengine = \"sqlight\""),
            &["inbox.engine", "sqlite"],
        ),
        (
            with(
                "[inbox]\nengine = \"postgres\"\nurl = \"postgres://a@127.0.0.1:1\"\npath = \"data\"",
            ),
            &["inbox.path", "sqlite", "postgres"],
        ),
        (
            with("[inbox]\nretention = \"7\""),
            &["inbox.retention", "7d"],
        ),
        (
            with("[inbox]\ndedupe_window = \"5m\""),
            &["inbox.dedupe_window", "30m"],
        ),
        ("".into(), &["sources"]),
        ("[sources.css]\n".into(), &["sources.css", "keys", "token"]),
        (
            "[sources.css]\nkeys = []\n".into(),
            &["sources.css", "keys", "token"],
        ),
        (
            "[sources.css]\nkeys = [\"\"]\n".into(),
            &["sources.css.keys", "empty"],
        ),
        (
            "[sources.css]\nkeys = [\"replace-me\"]\n".into(),
            &["sources.css.keys", "replace-me"],
        ),
        (
            "[sources.css]\nkeys_env = \"NOWHERE\"\n".into(),
            &["sources.css.keys_env", "NOWHERE"],
        ),
        (
            "[sources.css]\nkey_file = \"nowhere\"\n".into(),
            &["sources.css.key_file", "nowhere"],
        ),
        (
            "[sources.css]\ntoken = \"a\"\ntoken_env = \"A\"\n".into(),
            &["sources.css", "token_env"],
        ),
        (
            "[sources.css]\ntoken_env = \"A\"\n".into(),
            &["sources.css.token_env", "A"],
        ),
        (
            "[sources.css]\ntokn = \"a\"\n".into(),
            &["sources.css.tokn", "token"],
        ),
        (
            "[sources.healthz]\ntoken = \"a\"\n".into(),
            &["sources.healthz"],
        ),
        (
            "[sources.CSS]\ntoken = \"a\"\n".into(),
            &["sources.CSS", "lower-case"],
        ),
        (
            with("allow_unsigned = [\"relais\"]"),
            &["allow_unsigned", "relay"],
        ),
        (
            with("allow_unsigned = [\"stream-end\"]"),
            &["allow_unsigned", "stream-end"],
        ),
        (
            with("allow_from = [\"10.0.0.0/40\"]"),
            &["allow_from", "10.0.0.0/40"],
        ),
        (with("[handlers.a]"), &["handlers.a.to"]),
        (
            with("[handlers.A]\nto = { type = \"log\" }"),
            &["handlers.A", "lower-case"],
        ),
        (
            with("[handlers.a]\nto = { type = \"logg\" }"),
            &["handlers.a.to", "log"],
        ),
        (
            with("[handlers.a]\nto = { type = \"log\", path = \"x\" }"),
            &["handlers.a.to", "path"],
        ),
        (
            with("[handlers.a]\nto = { type = \"file\" }"),
            &["handlers.a.to", "path"],
        ),
        (
            with("[handlers.a]\nto = { type = \"http\", url = \"cb\" }"),
            &["handlers.a.to.url"],
        ),
        (
            with("[handlers.a]\nkinds = [\"stream-start\"]\nto = { type = \"log\" }"),
            &["handlers.a.kinds", "stream-start"],
        ),
        (
            with("[handlers.a]\nsources = [\"cs\"]\nto = { type = \"log\" }"),
            &["handlers.a.sources", "css"],
        ),
        (
            with("[handlers.a]\nstreams = [\"[\"]\nto = { type = \"log\" }"),
            &["handlers.a.streams"],
        ),
        (
            with("[handlers.a]\nretry = { initail = \"1s\" }\nto = { type = \"log\" }"),
            &["handlers.a.retry.initail", "initial"],
        ),
    ];
    let directory = tempfile::tempdir().unwrap();
    for (toml, parts) in cases {
        for command in ["serve", "check"] {
            let began = Instant::now();
            let output = run(directory.path(), &toml, &[command]);
            let (out, message) = (text(&output.stdout), text(&output.stderr));
            assert_eq!(output.status.code(), Some(2), "{toml}: {message}");
            assert_eq!(
                (out.as_str(), message.lines().count()),
                ("", 1),
                "{toml}: {message}"
            );
            assert!(message.contains("livehook.toml"), "{toml}: {message}");
            for part in parts {
                assert!(message.contains(part), "{part} in {message}");
            }
            assert!(!message.contains(KEY), "{message}");
            assert!(began.elapsed() < Duration::from_secs(5));
        }
        assert!(!directory.path().join("data").exists(), "{toml}");
    }
}

#[test]
fn check_finds_what_stops_a_server_at_its_start() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    fs::create_dir_all(at("store/state.db")).unwrap();
    fs::create_dir(at("other")).unwrap();
    fs::write(at("other/log"), "").unwrap();
    fs::write(at("plain"), "#!/bin/sh\n").unwrap();
    let handler = |to: &str| format!("[handlers.a]\nto = {{ {to} }}\n");
    let program = |name: &str| handler(&format!("type = \"exec\", command = [\"{name}\"]"));
    let cases = [
        (
            handler("type = \"file\", path = \"folder\""),
            "handlers.a.to.path: ",
            "folder is a directory",
        ),
        (
            program("/nowhere/program"),
            "handlers.a.to.command: ",
            "cannot find /nowhere/program",
        ),
        (
            program("no-such-program"),
            "handlers.a.to.command: ",
            "there is no no-such-program in PATH",
        ),
        (program("./folder"), "handlers.a.to.command: ", "is no file"),
        (program("./plain"), "handlers.a.to.command: ", "cannot run "),
        (
            "[inbox]\npath = \"store\"\n".into(),
            "inbox.path: ",
            "state.db is a directory",
        ),
        (
            "[inbox]\npath = \"other\"\n".into(),
            "inbox.path: ",
            "log is no directory",
        ),
    ];
    for (more, place, problem) in cases {
        let listen = "listen = \"127.0.0.1:0\"";
        let toml = format!(
            "[server]\n{listen}\n[admin]\n{listen}\n[sources.css]\nkeys = [\"{KEY}\"]\n{more}"
        );
        let [serve, check] = ["serve", "check"].map(|command| {
            let output = run(directory.path(), &toml, &[command]);
            let message = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command} {more}: {message}");
            assert!(
                message.contains(place) && message.contains(problem),
                "{message}"
            );
            message
        });
        assert_eq!(serve, check);
    }
    assert!(!at("data").exists());
}

#[test]
fn placeholders_end_with_2_and_secrets_are_not_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let eighty = "x7".repeat(40);
    for value in [
        "${CSS_KEY}",
        "$CSS_KEY",
        "<your-key>",
        "{{ .Values.key }}",
        "'quoted'",
        "\u{200B}invisible",
        "mid\u{FEFF}dle",
        "with blank",
        &eighty,
    ] {
        // The secret is in the text, in a file, in a variable.
        fs::write(directory.path().join("key"), format!("\u{FEFF}{value}\r\n")).unwrap();
        for (way, place) in [
            (format!("keys = [\"{value}\"]"), "sources.css.keys"),
            ("key_file = \"key\"".to_owned(), "sources.css.key_file"),
            ("keys_env = \"KEY\"".to_owned(), "sources.css.keys_env"),
        ] {
            // Words in a variable, separated by spaces, are several keys.
            if value == "with blank" && place.ends_with("_env") {
                continue;
            }
            let toml = format!("[sources.css]\n{way}\n");
            fs::write(directory.path().join("livehook.toml"), &toml).unwrap();
            for command in ["serve", "check"] {
                let output = livehook()
                    .arg(command)
                    .env("KEY", value)
                    .arg("--config")
                    .arg(directory.path().join("livehook.toml"))
                    .output()
                    .unwrap();
                let message = text(&output.stderr);
                assert_eq!(output.status.code(), Some(2), "{toml}: {message}");
                assert!(message.contains(place), "{message}");
                let inner = value.trim_matches(|c: char| !c.is_ascii_alphanumeric());
                assert!(!message.contains(inner), "{message}");
            }
        }
    }
    assert!(!directory.path().join("data").exists());
}

#[test]
fn bad_usage_and_missing_files_end_with_2() {
    for arguments in [
        &[][..],
        &["surf"],
        &["serve", "--colour"],
        &["serve", "--config", "/nowhere/livehook.toml"],
    ] {
        let output = livehook().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
    let directory = tempfile::tempdir().unwrap();
    let by_variable = livehook()
        .arg("check")
        .env("LIVEHOOK_CONFIG", directory.path().join("x.toml"))
        .output()
        .unwrap();
    assert_eq!(by_variable.status.code(), Some(2));
    assert!(text(&by_variable.stderr).contains("x.toml"));
    for (name, command) in [
        ("LIVEHOOK__SERVER__LISTN", "check"),
        ("LIVEHOOK_SERVER_LISTEN", "check"),
        ("LIVEHOOK_SERVER_LISTEN", "serve"),
    ] {
        let unknown = livehook()
            .arg(command)
            .env(name, "127.0.0.1:0")
            .arg("--config")
            .arg(config(directory.path()))
            .output()
            .unwrap();
        assert_eq!(unknown.status.code(), Some(2));
        let message = text(&unknown.stderr);
        assert!(message.contains("LIVEHOOK__SERVER__LISTEN"), "{message}");
    }
}

fn config(directory: &Path) -> std::path::PathBuf {
    let file = directory.join("livehook.toml");
    fs::write(&file, Settings::with_handlers(FILE_HANDLER).to_toml()).unwrap();
    file
}

#[test]
fn an_unwritable_directory_ends_with_2() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    // Nobody can write below a file, not even root. The same is true in /proc, but there only the
    // attempt shows it.
    for (path, commands) in [
        ("file/data", &["serve", "check"][..]),
        ("file", &["serve", "check"]),
        ("/proc/livehook", &["serve"]),
    ] {
        let toml = Settings::default()
            .to_toml()
            .replace("path = \"data\"", &format!("path = \"{path}\""));
        for command in commands {
            let output = run(directory.path(), &toml, &[command]);
            let message = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command} {path}: {message}");
            assert!(
                message.contains("inbox.path") && message.contains(path.trim_end_matches("/data")),
                "{message}"
            );
        }
    }
    let toml = Settings::with_handlers(
        "[handlers.a]\nto = { type = \"file\", path = \"file/events.jsonl\" }\n",
    )
    .to_toml();
    let output = run(directory.path(), &toml, &["serve"]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(
        message.contains("handlers.a") && message.contains("/file"),
        "{message}"
    );
}
