//! The messages of the simulator for wrong usage, and its output.

use std::process::Command;

use crate::support::simulation::Simulation;
use crate::support::target::{Hit, Reply, Target, reserve};
use crate::support::{KEY, Settings, TestServer};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let ended = Simulation::start(arguments).wait();
    (ended.code, ended.stdout, ended.stderr)
}

#[test]
fn contradictory_arguments_are_refused_in_one_line_with_exit_code_2() {
    let good = ["--url", "http://127.0.0.1:9/css", "--key", KEY];
    let cases: &[(&[&str], &str)] = &[
        (
            &["--url", "127.0.0.1:8080/css", "--key", KEY],
            "--url: `127.0.0.1:8080/css` is no",
        ),
        (
            &["--url", "ftp://h/css", "--key", KEY],
            "is neither http nor https",
        ),
        (&["--url", "http://", "--key", KEY], "--url: `http://`"),
        (
            &["--url", "http://127.0.0.1:9/css"],
            "name the key to sign with: --key or --key-file",
        ),
        (
            &["--url", "http://127.0.0.1:9/css", "--key", ""],
            "--key: is empty",
        ),
        (
            &["--url", "http://127.0.0.1:9/css", "--key", "replace-me"],
            "placeholder",
        ),
        (
            &[
                "--url",
                "http://127.0.0.1:9/css",
                "--key-file",
                "/nowhere/key",
            ],
            "cannot read /nowhere/key",
        ),
        (
            &[
                "--url",
                "http://127.0.0.1:9",
                "--key",
                KEY,
                "--verify",
                "http://127.0.0.1:9",
            ],
            "--url names no source",
        ),
        (
            &[
                "--url",
                "http://127.0.0.1:9/css",
                "--key",
                KEY,
                "--verify",
                "127.0.0.1",
            ],
            "--verify: `127.0.0.1`",
        ),
    ];
    for (arguments, expected) in cases {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!((code, &*stdout), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(
            stderr.contains(expected) && stderr.lines().count() == 1,
            "{arguments:?}: {stderr}"
        );
    }
    for (more, expected) in [
        (["--rate", "0"], "events per second from 0.001"),
        (["--rate", "1e-300"], "events per second from 0.001"),
        (["--connections", "0"], "1..=60000"),
        (["--duplicates", "1.5"], "a share from 0 to 1"),
        (["--time-scale", "0.5"], "a factor from 1"),
        (["--duration", "fast"], "a time such as 10s"),
        (
            ["--kinds", "stream-begn"],
            "unknown kind `stream-begn`, did you mean `stream-begin`?",
        ),
        (
            ["--kinds", "stream-started"],
            "unknown kind `stream-started`; known: stream-begin, ",
        ),
        (["--events", "0"], "0 is not in"),
        (["--admin-token-file", "x"], "--verify"),
    ] {
        let arguments: Vec<&str> = good.into_iter().chain(more).collect();
        let (code, _, stderr) = run(&arguments);
        assert_eq!(code, Some(2), "{more:?}: {stderr}");
        assert!(stderr.contains(expected), "{more:?}: {stderr}");
    }
}

#[test]
fn secrets_in_wrong_urls_are_not_repeated() {
    for url in [
        "http:/x?token=hush",
        "http://me:hush@h/css",
        "ftp://me:hush@h/",
    ] {
        let (code, _, stderr) = run(&["--url", url, "--key", KEY]);
        // A lenient parser would read the first one as the host x.
        assert!(code == Some(2) || url.contains("token"), "{stderr}");
        assert!(!stderr.contains("hush"), "{stderr}");
        let good = "http://127.0.0.1:9/css";
        let (code, _, stderr) = run(&["--url", good, "--key", KEY, "--verify", url]);
        assert!(code == Some(2) || url.contains("token"), "{stderr}");
        assert!(!stderr.contains("hush"), "{stderr}");
    }
}

#[test]
fn slow_connections_are_no_tls() {
    let https = [
        "--url",
        "https://127.0.0.1:9/css",
        "--key",
        KEY,
        "--slow-connections",
        "1",
    ];
    let (code, _, stderr) = run(&https);
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("--slow-connections: works only with receivers without TLS"),
        "{stderr}"
    );
}

#[test]
fn nobody_listening_is_exit_code_1() {
    let nobody = reserve();
    let url = format!("http://{nobody}/css");
    let (code, stdout, stderr) = run(&["--url", &url, "--key", KEY]);
    assert_eq!((code, &*stdout), (Some(1), ""));
    assert!(
        stderr.contains(&format!("nobody listens at {nobody}")),
        "{stderr}"
    );

    let server = TestServer::start(&Settings::default());
    let admin = format!("http://{nobody}");
    let (code, _, stderr) = run(&["--url", &server.css(), "--key", KEY, "--verify", &admin]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("no answer from the admin listener"),
        "{stderr}"
    );
    assert!(server.events().is_empty(), "nothing was sent");
}

#[test]
fn the_admin_listener_may_want_a_token() {
    let server = TestServer::start(&Settings {
        admin: "token = \"admins only\"".into(),
        ..Settings::default()
    });
    let (url, admin) = (server.css(), server.admin_url());
    let common = [
        "--url",
        &url,
        "--key",
        KEY,
        "--events",
        "5",
        "--connections",
        "1",
        "--verify",
        &admin,
    ];
    let (code, _, stderr) = run(&common);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--admin-token-file"), "{stderr}");
    let file = server.path().join("admin-token");
    std::fs::write(&file, "admins only\n").unwrap();
    let with: Vec<&str> = common
        .into_iter()
        .chain(["--admin-token-file", file.to_str().unwrap()])
        .collect();
    let (code, stdout, stderr) = run(&with);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("lost          0"), "{stdout}");
}

#[test]
fn the_text_report_says_what_the_json_report_says() {
    let signed = |hit: &Hit| hit.body.windows(6).any(|part| part == b"\"sign\"");
    let target = Target::start(move |hit| Reply::Status(if signed(hit) { 200 } else { 401 }));
    let url = target.url();
    let (code, stdout, stderr) = run(&[
        "--url",
        &url,
        "--key",
        KEY,
        "--events",
        "30",
        "--connections",
        "3",
        "--bad",
        "0.5",
        "--kinds",
        "stream-begin",
        "--seed",
        "7",
    ]);
    assert_eq!(code, Some(1), "it takes every signature");
    assert!(stderr.contains("bad requests were accepted"), "{stderr}");
    for line in [
        "sent          30 events in ",
        ", seed 7",
        "acknowledged  30 (",
        "accepted: ",
        "lost          not known",
    ] {
        assert!(stdout.contains(line), "{line}: {stdout}");
    }
    assert!(!stdout.contains(KEY) && !stderr.contains(KEY));
}

#[test]
fn on_a_terminal_there_is_a_bar() {
    let target = Target::good();
    let command = format!(
        "{} simulate --url {} --key {KEY} --rate 20 --duration 2s",
        env!("CARGO_BIN_EXE_livehook"),
        target.url()
    );
    let out = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("█") && text.contains(" s: "), "{text}");
    assert!(text.contains("acknowledged  40"), "{text}");
}
