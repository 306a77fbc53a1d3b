//! Server-sent events of the admin API.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::assert_error;
use crate::support::server::{FILE_HANDLER, both_engines};
use crate::support::{Settings, TestServer, signed};

/// A client that watches events.
struct Watcher(BufReader<TcpStream>);

/// A message: its `event`, `id` and data.
type Message = (String, String, Value);

impl Watcher {
    fn of(server: &TestServer, query: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(server.admin).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let request = format!(
            "GET /api/events/stream{query} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n",
            server.admin
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut watcher = Self(BufReader::new(stream));
        assert!(watcher.line().starts_with("HTTP/1.1 200 "));
        while !watcher.line().is_empty() {}
        watcher
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "it ended");
        line.trim_end().to_owned()
    }

    /// The next message with this `event`.
    fn next(&mut self, sort: &str) -> Message {
        loop {
            let message = self.any();
            if message.0 == sort {
                return message;
            }
        }
    }

    /// The next message. Lines with chunk sizes in between are skipped.
    fn any(&mut self) -> Message {
        let mut message = Message::default();
        loop {
            let line = self.line();
            match line.split_once(": ") {
                Some(("event", value)) => message.0 = value.to_owned(),
                Some(("id", value)) => message.1 = value.to_owned(),
                Some(("data", value)) => message.2 = serde_json::from_str(value).unwrap(),
                _ if line.is_empty() && !message.0.is_empty() => return message,
                _ => {}
            }
        }
    }
}

fn push(server: &TestServer, stream: &str) {
    let body = json!({ "event_type": 1, "app": "d", "appname": "live", "stream_id": stream });
    assert_eq!(server.post("/css", signed(body)).status, 200);
}

#[test]
fn a_watcher_sees_what_arrives_and_resumes_where_it_ended() {
    for inbox in both_engines() {
        let server = TestServer::start(&Settings {
            inbox,
            ..Settings::with_handlers(FILE_HANDLER)
        });
        push(&server, "before");
        let mut all = Watcher::of(&server, "", "");
        let mut some = Watcher::of(&server, "?stream=live/room-7&kind=stream-begin", "");
        let (_, begin, handlers) = all.next("handlers");
        assert_eq!(handlers["items"][0]["name"], "file");
        push(&server, "room-6");
        push(&server, "room-7");
        let (_, first, event) = all.next("event");
        assert_eq!(event["streamid"], "room-6");
        assert_eq!(event, server.events()[1]);
        assert_eq!(all.next("event").2["streamid"], "room-7");
        assert_eq!(some.next("event").2["streamid"], "room-7");
        drop((all, some));
        // Cut off before the first event.
        let mut early = Watcher::of(&server, "", &format!("Last-Event-ID: {begin}\r\n"));
        assert_eq!(early.next("event").2["streamid"], "room-6");
        drop(early);
        push(&server, "room-8");
        let mut again = Watcher::of(&server, "", &format!("Last-Event-ID: {first}\r\n"));
        for stream in ["room-7", "room-8"] {
            assert_eq!(again.next("event").2["streamid"], stream);
        }
        // A position from another store.
        let mut lost = Watcher::of(&server, "", "Last-Event-ID: 999999\r\n");
        push(&server, "room-9");
        assert_eq!(lost.next("event").2["streamid"], "room-9");

        let stopping = Instant::now();
        assert!(server.stop().success());
        assert!(
            stopping.elapsed() < Duration::from_secs(5),
            "watchers hold up nobody"
        );
    }
}

#[test]
fn many_events_reach_a_watcher_in_order_and_watchers_are_limited() {
    const WATCHERS: usize = 16;
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let mut watchers: Vec<_> = (0..WATCHERS)
        .map(|_| Watcher::of(&server, "", ""))
        .collect();
    assert_error(&server.get("/api/events/stream"), 503, "too many");
    for n in 0..300 {
        push(&server, &format!("room-{n}"));
    }
    for watcher in &mut watchers[..2] {
        for n in 0..300 {
            assert_eq!(watcher.next("event").2["streamid"], format!("room-{n}"));
        }
    }
    drop(watchers);
    // A client that has disconnected frees its place, at the latest when something is sent to it.
    crate::support::wait_for("room", || {
        push(&server, "another");
        let taken = TcpStream::connect(server.admin).ok()?;
        let mut reader = BufReader::new(taken.try_clone().ok()?);
        (&taken)
            .write_all(
                format!(
                    "GET /api/events/stream HTTP/1.1\r\nHost: {}\r\n\r\n",
                    server.admin
                )
                .as_bytes(),
            )
            .ok()?;
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        line.starts_with("HTTP/1.1 200 ").then_some(())
    });
}

#[test]
fn handler_states_are_sent_while_events_never_end() {
    const BEFORE: usize = 250;
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    for n in 0..BEFORE {
        push(&server, &format!("room-{n}"));
    }
    let mut watcher = Watcher::of(&server, "", "Last-Event-ID: 0\r\n");
    let mut handlers_said = 0;
    for n in 0..BEFORE {
        let mut message = watcher.any();
        while message.0 == "handlers" {
            handlers_said += 1;
            message = watcher.any();
        }
        assert_eq!(message.2["streamid"], format!("room-{n}"));
    }
    assert_ne!(handlers_said, 0, "before the last of what was missed");

    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    push(&server, "another");
                }
            });
        }
        // If one of them fails, the others end.
        let message = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            watcher.next("event");
            assert_eq!(
                server
                    .command("/api/handlers/file/pause", &json!({}))
                    .status,
                200
            );
            let until = Instant::now() + Duration::from_secs(20);
            loop {
                let (sort, _, data) = watcher.any();
                if sort == "handlers" && data["items"][0]["state"] == "paused" {
                    return;
                }
                assert!(Instant::now() < until, "nothing but events");
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        message.unwrap();
    });
}

#[test]
fn what_is_not_understood_is_named() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    for (query, name) in [
        ("kind=push", "kind"),
        ("limit=5", "limit"),
        ("colour=red", "colour"),
    ] {
        let answer = server.get(&format!("/api/events/stream?{query}"));
        assert_error(&answer, 400, &format!("`{name}`"));
    }
    let mut client = crate::support::Client::new(server.admin);
    for id in ["x", "-1"] {
        let headers = [("last-event-id", id)];
        let answer = client
            .request("GET", "/api/events/stream", &headers, None)
            .unwrap();
        assert_error(&answer, 400, "Last-Event-ID");
    }
}
