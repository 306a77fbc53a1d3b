//! `livehook demo`: its output is true, and the commands that it suggests work.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::server::livehook;
use crate::support::{Client, json_lines, wait_for};

/// A demo that runs in a directory of its own. Dropping it kills the process.
struct Demo {
    child: Child,
    directory: TempDir,
    shown: String,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments, livehook())
    }

    /// Waits until everything is shown.
    fn start_in(directory: TempDir, arguments: &[&str], mut livehook: Command) -> Self {
        let file = |name: &str| File::create(directory.path().join(name)).unwrap();
        let mut child = livehook
            .arg("demo")
            .args(arguments)
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(file("out.txt"))
            .stderr(file("err.txt"))
            .spawn()
            .unwrap();
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        let shown = wait_for("the demo", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "it ended with {status}: {}{}",
                    read("out.txt"),
                    read("err.txt")
                );
            }
            let shown = read("out.txt");
            let (_, last) = shown.split_once("The same server without this demo")?;
            let is_whole = last
                .trim_end_matches(['\'', '\n'])
                .ends_with("livehook.toml");
            (is_whole && last.ends_with('\n')).then_some(shown)
        });
        Self {
            child,
            directory,
            shown,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The text between two others.
    #[track_caller]
    fn between(&self, begin: &str, end: &str) -> &str {
        let found = self.shown.split_once(begin);
        let found = found.and_then(|(_, rest)| rest.split_once(end));
        found
            .unwrap_or_else(|| panic!("{begin:?} to {end:?}: {}", self.shown))
            .0
    }

    fn callbacks(&self) -> SocketAddr {
        self.between("POST http://", "/css/stream-begin\n")
            .parse()
            .unwrap()
    }

    fn console(&self) -> SocketAddr {
        self.between("   http://", "/\n").parse().unwrap()
    }

    fn body(&self) -> Value {
        let body = self.between("application/json\n\n", "\n2. The answer");
        serde_json::from_str(body).unwrap()
    }

    /// The commands to try, each in one line.
    fn commands(&self) -> Vec<String> {
        let (_, next) = self.shown.split_once("What to try next").unwrap();
        let next = next.replace(" \\\n       ", " ");
        let commands = next.lines().filter_map(|line| line.strip_prefix("     "));
        commands.map(str::to_owned).collect()
    }

    /// Runs a command as a user would paste it.
    fn shell(&self, command: &str) -> Output {
        Command::new("sh")
            .args(["-c", command])
            .current_dir(self.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn stop(mut self) -> (ExitStatus, TempDir) {
        terminate(&self.child);
        let status = wait_for("its end", || self.child.try_wait().unwrap());
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        (status, directory)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn terminate(child: &Child) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(sent.unwrap().success());
}

#[track_caller]
fn text(output: Output) -> String {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    String::from_utf8(output.stdout).unwrap()
}

/// The exit code and the message of a demo that does not start.
fn failed(directory: &Path, arguments: &[&str]) -> (i32, String) {
    let ran = livehook()
        .arg("demo")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(ran.stdout, b"");
    let said = String::from_utf8(ran.stderr).unwrap();
    let is_plain = said.starts_with("livehook: ") && said.lines().count() == 1;
    assert!(is_plain, "{said}");
    (ran.status.code().unwrap(), said)
}

/// Takes the usual ports, unless another process already has.
fn take_the_usual_ports() -> [Option<TcpListener>; 2] {
    [8080, 9090].map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
}

#[test]
fn the_request_the_answer_and_the_event_are_shown_in_this_order() {
    let demo = Demo::start(&["--port", "0"]);
    let shown = &demo.shown;
    let at = |text: &str| {
        shown
            .find(text)
            .unwrap_or_else(|| panic!("{text}: {shown}"))
    };
    let order = [
        "1. The request",
        "POST http://127.0.0.1:",
        "2. The answer",
        "HTTP/1.1 200 OK\n\n{\"code\":0}\n",
        "3. The event",
        "livehook-demo/events.jsonl\n",
        "4. livehook keeps running until Ctrl-C",
        "What to try next",
    ];
    assert!(order.map(at).is_sorted(), "{shown}");
    assert!(shown.lines().all(|line| line.len() <= 80), "{shown}");

    let event: Value = serde_json::from_str(demo.between("jsonl\n\n", "\n4. livehook")).unwrap();
    assert_eq!(event["data"], demo.body());
    let lines = json_lines(&demo.path().join("livehook-demo/events.jsonl"));
    assert_eq!(lines, [event]);
    let mut console = Client::new(demo.console());
    assert!(console.get("/").unwrap().text().contains("<html"));

    let (status, directory) = demo.stop();
    assert_eq!(status.code(), Some(0));
    let err = fs::read_to_string(directory.path().join("err.txt")).unwrap();
    assert!(!err.contains("INFO"), "{err}");
}

#[test]
fn every_command_that_it_names_works_as_it_stands() {
    let demo = Demo::start(&["--port", "0", "--dir", "my demos/first"]);
    let program = env!("CARGO_BIN_EXE_livehook");
    let commands = demo.commands();
    let names = |word: &str| {
        let found = commands.iter().find(|command| command.contains(word));
        found
            .unwrap_or_else(|| panic!("{word}: {commands:#?}"))
            .as_str()
    };
    assert_eq!(commands.len(), 5, "{commands:#?}");
    assert!(names("simulate").starts_with(program), "it is on no path");

    assert!(text(demo.shell(names("curl"))).starts_with("HTTP/1.1 401 "));
    let report = text(demo.shell(names("simulate")));
    assert!(report.contains("100"), "{report}");
    let events = text(demo.shell(names(" events")));
    assert_eq!(events.lines().count(), 21, "{events}");
    let streams = text(demo.shell(names(" streams")));
    assert!(streams.contains("room-7"), "{streams}");
    let stored = json_lines(&demo.path().join("my demos/first/events.jsonl"));
    assert!(stored.len() > 100, "{}", stored.len());

    let serve = format!("exec {}", names(" serve"));
    let (status, directory) = demo.stop();
    assert_eq!(status.code(), Some(0));
    let log = directory.path().join("log.txt");
    let mut serving = Command::new("sh")
        .args(["-c", &serve])
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    wait_for("the server", || {
        let log = fs::read_to_string(&log).unwrap();
        assert!(serving.try_wait().unwrap().is_none(), "{log}");
        log.contains("accepting callbacks").then_some(())
    });
    terminate(&serving);
    assert_eq!(serving.wait().unwrap().code(), Some(0));
}

#[test]
fn where_the_usual_ports_are_taken_free_ones_are_used() {
    let _taken = take_the_usual_ports();
    // As after an installation: then the commands need no path.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("livehook");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_livehook"), program).unwrap();
    let old = std::env::var("PATH").unwrap();
    let path = format!("{}:{old}", directory.path().display());
    let mut installed = livehook();
    installed.env("PATH", &path);
    let demo = Demo::start_in(directory, &[], installed);

    let ports = [demo.callbacks().port(), demo.console().port()];
    assert!(
        ports.iter().all(|port| ![8080, 9090].contains(port)),
        "{ports:?}"
    );
    let commands = demo.commands();
    let events = "livehook events --config livehook-demo/livehook.toml";
    assert!(
        commands.iter().any(|command| command == events),
        "{commands:#?}"
    );
    let listed = text(demo.shell(&format!("PATH='{path}' {events}")));
    assert_eq!(listed.lines().count(), 2, "{listed}");
}

#[test]
fn a_port_that_is_taken_meanwhile_is_replaced() {
    // The demo does not check whether the address of a variable is free.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut livehook = livehook();
    livehook.env("LIVEHOOK__ADMIN__LISTEN", address.to_string());
    let demo = Demo::start_in(tempfile::tempdir().unwrap(), &["--port", "0"], livehook);
    assert_ne!(demo.console(), address);
    let healthy = Client::new(demo.console()).get("/healthz").unwrap();
    assert_eq!(healthy.status, 200);
}

#[test]
fn a_second_start_goes_on_with_the_same_store_and_key() {
    let key = |directory: &Path| fs::read_to_string(directory.join("livehook-demo/key")).unwrap();
    let first = Demo::start(&["--port", "0"]);
    let (first_key, first_body) = (key(first.path()), first.body());
    let (_, directory) = first.stop();
    let second = Demo::start_in(directory, &["--port", "0"], livehook());
    assert_eq!(key(second.path()), first_key);
    assert_ne!(second.body()["sequence"], first_body["sequence"]);
    let page = Client::new(second.console())
        .get("/api/events")
        .unwrap()
        .json();
    assert_eq!(page["items"].as_array().unwrap().len(), 2, "{page}");
    let stored = json_lines(&second.path().join("livehook-demo/events.jsonl"));
    let bodies = stored.iter().map(|event| event["data"].clone());
    assert_eq!(bodies.collect::<Vec<_>>(), [first_body, second.body()]);
}

#[test]
fn a_server_that_cannot_start_says_why_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, said) = failed(directory.path(), &["--port", &port]);
    assert_eq!(code, 1);
    assert!(
        said.contains(&port) && said.contains("the port is taken"),
        "{said}"
    );
    assert!(!directory.path().join("livehook-demo").exists());

    fs::write(directory.path().join("file"), "").unwrap();
    let (code, said) = failed(directory.path(), &["--dir", "file/demo"]);
    assert_eq!(code, 2);
    assert!(
        said.contains("file/demo") && said.contains("--dir"),
        "{said}"
    );
    let (code, said) = failed(directory.path(), &["--config", "x.toml"]);
    assert_eq!(code, 2);
    assert!(said.contains("--dir"), "{said}");

    // Another demo has the store, so its configuration stays as it is.
    let demo = Demo::start(&["--port", "0"]);
    let file = demo.path().join("livehook-demo/livehook.toml");
    let before = fs::read_to_string(&file).unwrap();
    let (code, said) = failed(demo.path(), &["--port", "0"]);
    assert_eq!(code, 1);
    assert!(said.contains("in use by another livehook"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
}

#[test]
fn without_a_reader_it_ends_with_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = livehook()
        .args(["demo", "--port", "0"])
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(1));
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(
        said.starts_with("livehook: cannot print to standard output: "),
        "{said}"
    );
}
