//! Callbacks are answered whatever hangs: a log that nobody reads, a secret file without data, an
//! endless attempt.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::reload::{RELOADED, reload};
use crate::support::server::livehook;
use crate::support::target::{Target, reserve};
use crate::support::{
    Client, KEY, Settings, TestServer, json_lines, now, signed, signed_with, wait_for, wait_up_to,
};

fn push(stream: &str) -> serde_json::Value {
    json!({ "event_type": 1, "app": "d", "appname": "live", "stream_id": stream })
}

/// A process that is killed at the end of the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_log_that_nobody_reads_blocks_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (callbacks, admin) = (reserve(), reserve());
    let settings = Settings::with_handlers(
        "[handlers.log]\ntimeout = \"1s\"\nto = { type = \"log\" }\n[log]\nlevel = \"debug\"\n",
    )
    .at(callbacks, admin);
    let file = directory.path().join("livehook.toml");
    fs::write(&file, settings.to_toml()).unwrap();
    let mut serve = livehook();
    serve.args(["serve", "--config"]).arg(file);
    serve.envs(settings.env).stderr(Stdio::piped());
    let mut server = Process(serve.spawn().unwrap());
    let mut client = Client::new(callbacks);
    wait_for("the server", || client.get("/readyz").ok());
    // More lines than the pipe, the queue of the log and that of the handler hold.
    let mut sent = 0;
    wait_up_to(Duration::from_secs(300), "lines that are dropped", || {
        for _ in 0..100 {
            sent += 1;
            let body = signed(push(&format!("room-{sent}")));
            assert_eq!(client.post("/css", body).unwrap().status, 200);
            assert_eq!(client.get("/healthz").unwrap().status, 200);
            // A request that is not HTTP is logged at this level.
            for _ in 0..10 {
                let client = TcpStream::connect(callbacks);
                let _ = client.and_then(|mut client| client.write_all(b"no HTTP at all\r\n\r\n"));
            }
        }
        let metrics = Client::new(admin).get("/metrics").unwrap().text();
        let dropped = metrics
            .lines()
            .find_map(|line| line.strip_prefix("livehook_log_lines_dropped_total "));
        (dropped.unwrap() != "0").then_some(())
    });
    let signal = Command::new("kill").arg(server.0.id().to_string()).status();
    assert!(signal.unwrap().success());
    let status = wait_up_to(Duration::from_secs(60), "the end", || {
        server.0.try_wait().unwrap()
    });
    assert_eq!(status.code(), Some(0));
}

#[test]
fn lines_of_a_log_handler_are_not_subject_to_the_level() {
    let settings = Settings::with_handlers(
        "[handlers.log]\nto = { type = \"log\" }\n[log]\nlevel = \"warn\"\nformat = \"json\"\n",
    );
    let server = TestServer::launch(settings, reserve(), reserve());
    let mut client = server.client();
    wait_for("the server", || client.get("/readyz").ok());
    for number in 0..3 {
        let body = signed(push(&format!("room-{number}")));
        assert_eq!(server.post("/css", body).status, 200);
    }
    wait_for("the lines", || {
        let lines = json_lines(&server.path().join("log.txt"));
        let all_are = lines
            .iter()
            .all(|line| line["message"] == "event received" || line["level"] != "INFO");
        assert!(all_are, "{lines:?}");
        (lines.len() >= 3).then_some(())
    });
}

#[test]
fn a_secret_file_that_hangs_is_logged_and_blocks_nothing() {
    let with_key = |key: &str| Settings {
        server: "drain_delay = \"0s\"\nwatch = true".into(),
        sources: format!("[sources.css]\n{key}\n"),
        ..Settings::default()
    };
    let good = with_key(&format!("keys = [\"{KEY}\"]"));
    let server = TestServer::start(&good);
    let pipe = server.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    fs::write(
        server.path().join("livehook.toml"),
        with_key("key_file = \"pipe\"").to_toml(),
    )
    .unwrap();
    let mut sent = 0;
    wait_up_to(Duration::from_secs(120), "the complaint", || {
        sent += 1;
        assert_eq!(
            server
                .post("/css", signed(push(&format!("r{sent}"))))
                .status,
            200
        );
        assert_eq!(server.get("/healthz").status, 200);
        server
            .log()
            .contains("sources.css.key_file: cannot read")
            .then_some(())
    });
    assert!(server.log().contains("nothing came from it for 5s"));
    // A changed configuration can still be loaded.
    fs::write(server.path().join("livehook.toml"), good.to_toml()).unwrap();
    wait_for("the reload", || {
        server.log().contains(RELOADED).then_some(())
    });
    assert!(server.stop().success());
}

#[test]
fn a_reload_waits_for_no_running_attempt() {
    let attempts = Arc::new(AtomicU64::new(0));
    let begun = attempts.clone();
    // The target never answers.
    let target = Target::start(move |_| {
        begun.fetch_add(1, Ordering::Relaxed);
        loop {
            std::thread::park();
        }
    });
    let count = || attempts.load(Ordering::Relaxed);
    let slow = |concurrency: u32| {
        format!(
            "[handlers.slow]\ntimeout = \"10m\"\nconcurrency = {concurrency}\nto = {{ type = \"http\", url = \"{}\" }}\n",
            target.url()
        )
    };
    let settings = |key: &str, concurrency| Settings {
        sources: format!("[sources.css]\nkeys = [\"{KEY}\", \"{key}\"]\n"),
        ..Settings::with_handlers(&slow(concurrency))
    };
    let server = TestServer::start(&settings("First", 1));
    assert_eq!(server.post("/css", signed(push("a"))).status, 200);
    wait_for("the attempt", || (count() == 1).then_some(()));
    reload(&server, &settings("Second", 2), RELOADED);
    reload(&server, &settings("Third", 3), RELOADED);
    let body = signed_with("Third", now() + 600, push("b"));
    assert_eq!(server.post("/css", body).status, 200);
    assert_eq!(count(), 1, "the attempt still runs, and none beside");
}
