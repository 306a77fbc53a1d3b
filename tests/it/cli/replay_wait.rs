//! `livehook replay --wait`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use super::{failed, lines, push};
use crate::support::server::livehook;
use crate::support::target::{Hit, Reply, Target, reserve};
use crate::support::{Settings, TestServer, wait_for};

/// A target that at first rejects everything.
fn rejecting_target() -> (Target, Settings) {
    let target = Target::start(|_| Reply::Status(400));
    let settings = Settings::with_handlers(&format!(
        "[handlers.backend]\nconcurrency = 1\nto = {{ type = \"http\", url = \"{}\" }}\n",
        target.url()
    ));
    (target, settings)
}

/// The target takes each answer from a channel. When the channel is closed, it answers 200.
fn answer_one_by_one(target: &Target) -> Sender<u16> {
    let (answers, given): (_, Receiver<u16>) = channel();
    let given = Mutex::new(given);
    target.change_to(move |_: &Hit| Reply::Status(given.lock().unwrap().recv().unwrap_or(200)));
    answers
}

fn backend(server: &TestServer) -> Value {
    server.get("/api/handlers?handler=backend").json()["items"][0].clone()
}

fn wait_parked(server: &TestServer, streams: &[&str]) {
    for stream in streams {
        push(server, stream);
    }
    wait_for("all to be parked", || {
        (backend(server)["parked"] == streams.len()).then_some(())
    });
}

fn replay(server: &TestServer) -> Command {
    let mut command = livehook();
    command
        .args(["replay", "backend", "--parked", "--yes", "--wait"])
        .args(["--admin", &server.admin_url()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

fn line(out: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Starts the command, and returns when it waits.
fn start_waiting(mut command: Command, count: usize) -> (Child, BufReader<ChildStdout>) {
    let mut child = command.spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let due = format!("{count} events are due for backend again");
    assert_eq!(line(&mut out), due);
    (child, out)
}

/// A terminal: the side of the user, and the side of a program.
fn terminal() -> (File, File) {
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&user).unwrap();
    unlockpt(&user).unwrap();
    let name = ptsname(&user, Vec::new()).unwrap();
    let program = File::options().write(true).open(name.to_str().unwrap());
    (user.into(), program.unwrap())
}

#[test]
fn a_replay_is_waited_for_and_a_terminal_shows_how_much_is_left() {
    let (target, settings) = rejecting_target();
    let server = TestServer::start(&settings);
    wait_parked(&server, &["a", "b", "c"]);
    assert_eq!(backend(&server)["replaying"], 0);
    let answers = answer_one_by_one(&target);
    lines(&server, &["handlers", "--pause", "backend"]);

    let (mut screen, program) = terminal();
    let mut command = replay(&server);
    command.stderr(program);
    let (mut child, mut out) = start_waiting(command, 3);
    let mut seen = String::new();
    let mut shows = |text: &str| {
        while !seen.contains(text) {
            let mut more = [0; 1024];
            let read = screen.read(&mut more).unwrap();
            seen.push_str(std::str::from_utf8(&more[..read]).unwrap());
        }
    };
    shows("\r\u{1b}[Kbackend: 3 of 3 left (paused)");
    let handlers = lines(&server, &["handlers"]);
    let columns = |line: &str| -> Vec<String> {
        line.split("  ")
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let at = columns(&handlers[0])
        .iter()
        .position(|name| name == "REPLAYING");
    assert_eq!(columns(&handlers[1])[at.unwrap()], "3", "{handlers:?}");

    lines(&server, &["handlers", "--resume", "backend"]);
    for (answer, left) in [(200, 2), (200, 1)] {
        answers.send(answer).unwrap();
        shows(&format!("\r\u{1b}[Kbackend: {left} of 3 left"));
        let backend = backend(&server);
        assert_eq!(
            (&backend["replaying"], &backend["parked"]),
            (&json!(left), &json!(left))
        );
        assert_eq!(child.try_wait().unwrap(), None);
    }
    answers.send(400).unwrap();
    assert_eq!(
        line(&mut out),
        "the replay to backend is over, 1 event is parked"
    );
    assert!(child.wait().unwrap().success());
    assert_eq!(backend(&server)["replaying"], 0);
}

#[test]
fn waiting_survives_a_restart_and_prints_progress_only_on_a_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let (target, settings) = rejecting_target();
    let settings = settings.at(reserve(), reserve());
    let server = TestServer::start_in(directory.path(), &settings);
    wait_parked(&server, &["a", "b"]);
    target.change_to(|_| Reply::Status(200));
    lines(&server, &["handlers", "--pause", "backend"]);
    let mut command = replay(&server);
    command.stderr(Stdio::piped());
    let (child, mut out) = start_waiting(command, 2);
    assert!(server.stop().success());

    let server = TestServer::start_in(directory.path(), &settings);
    assert_eq!(backend(&server)["replaying"], 2);
    lines(&server, &["handlers", "--resume", "backend"]);
    assert_eq!(
        line(&mut out),
        "the replay to backend is over, 0 events are parked"
    );
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn waiting_ends_with_its_handler() {
    let directory = tempfile::tempdir().unwrap();
    let (_target, settings) = rejecting_target();
    let settings = settings.at(reserve(), reserve());
    let server = TestServer::start_in(directory.path(), &settings);
    wait_parked(&server, &["a", "b"]);
    lines(&server, &["handlers", "--pause", "backend"]);
    let mut command = replay(&server);
    command.stderr(Stdio::piped());
    let (mut child, out) = start_waiting(command, 2);
    child.stdout = Some(out.into_inner());
    assert!(server.stop().success());

    let without = Settings {
        handlers: String::new(),
        ..settings
    };
    let _server = TestServer::start_in(directory.path(), &without);
    let (code, message) = failed(child.wait_with_output().unwrap());
    assert_eq!(code, 1);
    assert!(message.contains("no handler backend any more"), "{message}");
}
