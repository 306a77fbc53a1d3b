//! The end of the process: in order, within its time, or at once.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::read_answer;
use crate::support::server::FILE_HANDLER;
use crate::support::{Settings, TestServer, json_lines, signed, wait_for};

fn push(stream: &str) -> String {
    signed(json!({ "event_type": 1, "stream_id": stream }))
}

fn draining_for(delay: &str, handlers: &str) -> Settings {
    Settings {
        server: format!("drain_delay = \"{delay}\""),
        ..Settings::with_handlers(handlers)
    }
}

/// A handler that posts to a target that never answers, and that target.
fn stuck() -> (TcpListener, String) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", silent.local_addr().unwrap());
    let handler = format!(
        "[handlers.stuck]\ntimeout = \"60s\"\nto = {{ type = \"http\", url = \"{url}\" }}\n"
    );
    (silent, handler)
}

#[test]
fn after_sigterm_callbacks_are_still_taken_while_it_is_not_ready() {
    let mut server = TestServer::start(&draining_for("1500ms", FILE_HANDLER));
    let mut client = server.client();
    assert_eq!(client.get("/readyz").unwrap().status, 200);
    let began = Instant::now();
    server.signal("TERM");
    let unready = wait_for("readyz to notice", || {
        Some(client.get("/readyz").unwrap()).filter(|answer| answer.status == 503)
    });
    assert!(began.elapsed() < Duration::from_millis(1000), "at once");
    assert_eq!(
        unready.json(),
        json!({ "code": 503, "message": "shutting down" })
    );
    assert_eq!(server.get("/readyz").status, 503);
    assert_eq!(client.get("/healthz").unwrap().status, 200);
    assert_eq!(client.post("/css", push("a")).unwrap().status, 200);
    assert_eq!(
        server.post("/css", push("b")).status,
        200,
        "on a new connection too"
    );
    assert_eq!(server.wait(Duration::from_secs(15)).code(), Some(0));
    assert!(began.elapsed() >= Duration::from_millis(1500));
    assert_eq!(json_lines(&server.path().join("events.jsonl")).len(), 2);
    assert!(TcpStream::connect(server.addr).is_err());
}

#[test]
fn a_request_under_way_is_answered_before_the_end() {
    let mut server = TestServer::start(&draining_for("0s", ""));
    let body = push("a");
    let mut connection = BufReader::new(TcpStream::connect(server.addr).unwrap());
    let head = format!(
        "POST /css HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection
        .get_mut()
        .write_all((head + &body[..20]).as_bytes())
        .unwrap();
    // The head is read when another request behind it was answered.
    assert_eq!(server.client().get("/healthz").unwrap().status, 200);
    server.signal("TERM");
    wait_for("the listener to close", || {
        TcpStream::connect(server.addr).is_err().then_some(())
    });
    connection
        .get_mut()
        .write_all(&body.as_bytes()[20..])
        .unwrap();
    assert_eq!(read_answer(&mut connection).unwrap().status, 200);
    assert_eq!(server.wait(Duration::from_secs(15)).code(), Some(0));
}

#[test]
fn a_stuck_handler_delays_the_end_by_less_than_15_s_and_loses_nothing() {
    let (silent, handler) = stuck();
    let directory = tempfile::tempdir().unwrap();
    let settings = draining_for("0s", &format!("{handler}{FILE_HANDLER}"));
    let mut server = TestServer::start_in(directory.path(), &settings);
    assert_eq!(server.post("/css", push("a")).status, 200);
    let (mut held, _) = silent.accept().unwrap();
    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(15)).code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(15));
    held.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let server = TestServer::start_in(directory.path(), &settings);
    let (again, _) = silent.accept().unwrap();
    let mut again = BufReader::new(again);
    // An answer that is sent before its request does not count.
    assert!(!again.fill_buf().unwrap().is_empty());
    again
        .get_mut()
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    wait_for("the delivery", || {
        Some(()).filter(|()| {
            server.metric("livehook_deliveries_total{handler=\"stuck\",outcome=\"done\"}") == 1.0
        })
    });
    let _ = held.write_all(b"");
    assert_eq!(json_lines(&directory.path().join("events.jsonl")).len(), 1);
}

#[test]
fn a_second_signal_ends_it_at_once_with_1() {
    let (silent, handler) = stuck();
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "INT")] {
        let mut server = TestServer::start(&draining_for("8s", &handler));
        assert_eq!(server.post("/css", push("a")).status, 200);
        let _held = silent.accept().unwrap();
        let began = Instant::now();
        server.signal(first);
        wait_for("the first to be noticed", || {
            Some(()).filter(|()| server.get("/readyz").status == 503)
        });
        server.signal(second);
        assert_eq!(server.wait(Duration::from_secs(15)).code(), Some(1));
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{:?}",
            began.elapsed()
        );
    }
}

#[test]
fn a_program_that_runs_is_killed_with_its_children_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("program.sh");
    std::fs::write(
        &script,
        "#!/bin/sh\nsleep 300 &\necho $! > \"$1\".new\nmv \"$1\".new \"$1\"\nwait\n",
    )
    .unwrap();
    let child = directory.path().join("child");
    let command = format!("[\"/bin/sh\", {:?}, {:?}]", script, child);
    let handler = format!(
        "[handlers.program]\ntimeout = \"60s\"\nto = {{ type = \"exec\", command = {command} }}\n"
    );
    let mut server = TestServer::start_in(directory.path(), &draining_for("0s", &handler));
    assert_eq!(server.post("/css", push("a")).status, 200);
    let pid = wait_for("the child", || std::fs::read_to_string(&child).ok());
    let alive = || {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        // A zombie counts as ended.
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
    };
    assert!(alive());
    server.signal("TERM");
    server.signal("TERM");
    server.wait(Duration::from_secs(15));
    wait_for("the child to be gone", || Some(()).filter(|()| !alive()));
}
