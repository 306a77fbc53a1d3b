//! The receivers in `examples`, as processes: each gets the same callbacks over TCP and must give the same answers.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};

use css_callbacks::{Timestamp, sign};

const KEY: &str = "the-key-of-the-template";

/// Generous: an answer that takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(120);

struct Receiver {
    process: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Receiver {
    fn start(example: &str) -> Self {
        let mut process = Command::new(built(example))
            .arg("127.0.0.1:0")
            .env("CALLBACK_KEY", KEY)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on http://");
        let address = address.and_then(|url| url.strip_suffix("/css"));
        let address = address.unwrap_or_else(|| panic!("{example} said {line:?}"));
        Self {
            process,
            stdout,
            address: address.parse().unwrap(),
        }
    }

    /// Posts a body and gives the status and the body of the answer.
    fn post(&self, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = format!(
            "POST /css HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        // A receiver may answer and close before it has read a body that is too large.
        let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat());
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let whole = answer.split_once("\r\n\r\n");
        let (head, body) = whole.unwrap_or_else(|| panic!("{answer:?}, then {end:?}"));
        let status = head.split(' ').nth(1).unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// Ends the process and gives what it has printed since the start.
    fn end(mut self) -> String {
        self.process.kill().unwrap();
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The built example. `cargo test` builds it; with `--test receivers` cargo does not, so it is built here.
fn built(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap().join("examples");
    let path = folder.join(example);
    if !path.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--locked", "--example", example]);
        // Variables that cargo set for this test would make cargo build the dependencies again.
        for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_")) {
            if !["CARGO_HOME", "CARGO_TARGET_DIR"].contains(&variable.as_str()) {
                build.env_remove(variable);
            }
        }
        assert!(build.status().unwrap().success());
    }
    path
}

/// The members with `t` and `sign`. `t` is this many seconds from now.
fn signed(key: &str, t: i64, members: &str) -> String {
    #[allow(
        clippy::disallowed_methods,
        reason = "the receivers ask for the time of day, too"
    )]
    let now = Timestamp::from(SystemTime::now());
    let t = (now.seconds() + t).to_string();
    format!(r#"{{{members},"t":{t},"sign":"{}"}}"#, sign(key, &t))
}

#[test]
fn both_receivers_answer_alike() {
    let begin = r#""event_type":1,"app":"push.example.com","appname":"live","stream_id":"room-7""#;
    let padding = format!(r#"{begin},"padding":"{}""#, "x".repeat(1 << 20));
    let cases = [
        ("signed", signed(KEY, 600, begin), 200),
        // The platform may sign again what it repeats.
        ("repeated", signed(KEY, 660, begin), 200),
        ("late, within the grace", signed(KEY, -300, begin), 200),
        (
            "of an unknown kind",
            signed(KEY, 600, r#""event_type":318"#),
            200,
        ),
        ("unsigned", format!("{{{begin}}}"), 401),
        ("half signed", format!(r#"{{{begin},"t":1}}"#), 401),
        ("forged", signed("another key", 600, begin), 401),
        ("expired", signed(KEY, -3600, begin), 401),
        ("too large", signed(KEY, 600, &padding), 413),
        ("not an object", "[]".to_owned(), 400),
        ("two objects", signed(KEY, 600, begin) + "{}", 400),
    ];
    let printed = ["axum", "hyper"].map(|example| {
        let receiver = Receiver::start(example);
        for (what, body, status) in &cases {
            let expected = match status {
                200 => r#"{"code":0}"#,
                _ => "",
            };
            let answer = receiver.post(body);
            assert_eq!(answer, (*status, expected.to_owned()), "{example}: {what}");
        }
        receiver.end()
    });
    let [axum, hyper] = printed;
    assert_eq!(axum, hyper);
    let lines: Vec<&str> = axum.lines().collect();
    let [first, again, late, unknown] = lines[..] else {
        panic!("{axum}");
    };
    let id = first.strip_prefix("new ").unwrap();
    let id = id.strip_suffix(r#" live Some("room-7")"#).unwrap();
    let repeat = format!("repeat {id}");
    assert_eq!([again, late], [&repeat, &repeat]);
    assert!(
        unknown.starts_with("new ") && unknown.ends_with(" unknown"),
        "{unknown}"
    );
}
