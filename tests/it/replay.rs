//! Parked deliveries: replay and discard.

use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use serde_json::{Value, json};

use crate::support::server::both_engines;
use crate::support::target::{Reply, Target};
use crate::support::{Answer, Settings, TestServer, json_lines, signed, wait_for};

/// A handler that rejects everything until a file `mended` is there, and then writes its standard
/// input to `out`.
const MENDABLE: &str = "[handlers.picky]\nkinds = [\"stream-begin\", \"stream-end\"]\nconcurrency = 1\nto = { type = \"exec\", command = [\"sh\", \"-c\", \"\
    test -e DIR/mended || exit 65; cat >> DIR/out; echo >> DIR/out\"] }\n";

fn start(directory: &Path) -> TestServer {
    let handler = MENDABLE.replace("DIR", directory.to_str().unwrap());
    let file =
        "[handlers.file]\nconcurrency = 1\nto = { type = \"file\", path = \"events.jsonl\" }\n";
    TestServer::start_in(
        directory,
        &Settings::with_handlers(&format!("{handler}{file}")),
    )
}

fn push(server: &TestServer, stream: &str) -> Value {
    let body = signed(json!({ "event_type": 1, "appname": "live", "stream_id": stream }));
    assert_eq!(server.post("/css", &body).status, 200);
    serde_json::from_str(&body).unwrap()
}

fn parked(server: &TestServer) -> Vec<Value> {
    let page = server.get("/api/handlers/picky/parked").json();
    page["items"].as_array().unwrap().clone()
}

fn streams(items: &[Value]) -> Vec<&str> {
    items
        .iter()
        .map(|item| item["streamid"].as_str().unwrap())
        .collect()
}

/// Waits for this many parked deliveries, and returns them.
fn wait_parked(server: &TestServer, count: usize) -> Vec<Value> {
    wait_for("the parked list", || {
        Some(parked(server)).filter(|items| items.len() == count)
    })
}

fn handled(directory: &Path, count: usize) -> Vec<Value> {
    wait_for("the handled events", || {
        Some(json_lines(&directory.join("out"))).filter(|lines| lines.len() >= count)
    })
}

/// The answer to a replay whose range begins before the first of these events.
#[track_caller]
fn assert_count_from(answer: &Answer, count: u64, events: &[Value]) {
    assert_eq!(
        (answer.status, answer.json()),
        (
            202,
            json!({ "count": count, "oldest": events[0]["receivedtime"] })
        )
    );
}

#[track_caller]
fn assert_count(answer: &Answer, count: u64) {
    assert_eq!(
        (answer.status, answer.json()),
        (202, json!({ "count": count }))
    );
}

#[test]
fn what_is_parked_is_listed_replayed_and_gone_when_it_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    for stream in ["a", "b", "c"] {
        push(&server, stream);
    }
    let items = wait_parked(&server, 3);
    assert_eq!(streams(&items), ["a", "b", "c"]);
    for item in &items {
        assert_eq!(
            (&item["type"], &item["source"]),
            (&json!("css.stream-begin"), &json!("/css"))
        );
        assert_eq!(
            (&item["attempts"], &item["replaying"]),
            (&json!(1), &json!(false))
        );
        assert_eq!(item["error"], "exit code 65");
        assert!(item["parked_at"].as_str() >= item["first_attempt"].as_str());
    }
    let first = server.get("/api/handlers/picky/parked?limit=2").json();
    assert_eq!(streams(first["items"].as_array().unwrap()), ["a", "b"]);
    let next = first["next"].as_str().unwrap();
    let second = server
        .get(&format!("/api/handlers/picky/parked?limit=2&after={next}"))
        .json();
    assert_eq!(streams(second["items"].as_array().unwrap()), ["c"]);
    assert_eq!(second["next"], Value::Null);
    let newest = server
        .get("/api/handlers/picky/parked?limit=2&order=newest")
        .json();
    assert_eq!(streams(newest["items"].as_array().unwrap()), ["c", "b"]);
    let next = newest["next"].as_str().unwrap();
    let rest = server
        .get(&format!(
            "/api/handlers/picky/parked?order=newest&after={next}"
        ))
        .json();
    assert_eq!(streams(rest["items"].as_array().unwrap()), ["a"]);
    assert_eq!(rest["next"], Value::Null);
    let of_b = server
        .get("/api/handlers/picky/parked?stream=b&limit=1")
        .json();
    assert_eq!(streams(of_b["items"].as_array().unwrap()), ["b"]);
    let refused = server.get("/api/handlers/picky/parked?kind=nonsense");
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(server.metric("livehook_parked{handler=\"picky\"}"), 3.0);
    let listed = |query: &str| {
        let page = server.get(&format!("/api/handlers/picky/parked?{query}"));
        let page = page.json();
        (
            page["items"].as_array().unwrap().len(),
            page["next"].clone(),
        )
    };
    assert_eq!(listed("stream=b"), (1, Value::Null));
    assert_eq!(listed("kind=stream-begin&limit=3"), (3, Value::Null));
    assert_eq!(listed("kind=relay"), (0, Value::Null));
    assert_eq!(listed("to=2020-01-01T00:00:00Z"), (0, Value::Null));
    let bad = server.get("/api/handlers/picky/parked?kind=nonsense");
    assert_eq!(bad.status, 400);

    // The target still fails, so the event is tried and parked again.
    let replay = "/api/handlers/picky/replay";
    let one = json!({ "event": items[1]["id"] });
    assert_count(&server.command(replay, &one), 1);
    let attempts = "livehook_deliveries_total{handler=\"picky\",outcome=\"parked\"}";
    wait_for("the attempt", || {
        Some(()).filter(|()| server.metric(attempts) == 4.0)
    });
    wait_for("it to be parked again", || {
        Some(()).filter(|()| {
            parked(&server)
                .iter()
                .all(|item| item["replaying"] == false)
        })
    });
    assert_eq!(parked(&server).len(), 3);

    std::fs::write(directory.path().join("mended"), "").unwrap();
    assert_count(&server.command(replay, &one), 1);
    assert_eq!(streams(&wait_parked(&server, 2)), ["a", "c"]);
    assert_count(
        &server.command(replay, &json!({ "parked": true, "dry_run": true })),
        2,
    );
    assert_eq!(parked(&server).len(), 2, "only counted");
    assert_count(&server.command(replay, &json!({ "parked": true })), 2);
    wait_parked(&server, 0);
    let handled = handled(directory.path(), 3);
    assert_eq!(streams(&handled), ["b", "a", "c"]);
    assert_eq!(handled[0]["id"], items[1]["id"]);
    assert_count(&server.command(replay, &json!({ "parked": true })), 0);
    assert_eq!(
        json_lines(&directory.path().join("events.jsonl")).len(),
        3,
        "the other handler does not notice"
    );
}

#[test]
fn what_was_done_is_replayed_through_the_filters_and_past_the_duplicate_check() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    std::fs::write(directory.path().join("mended"), "").unwrap();
    let body = push(&server, "a");
    assert_eq!(
        server
            .post(
                "/css",
                signed(json!({ "event_type": 314, "stream_id": "b", "event_time": 1 }))
            )
            .status,
        200
    );
    push(&server, "c");
    assert_eq!(streams(&handled(directory.path(), 2)), ["a", "c"]);
    let replay = "/api/handlers/picky/replay";
    let range = json!({ "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z" });
    let mut dry = range.clone();
    dry["dry_run"] = true.into();
    // The worker learns of the success a moment after the program has ended.
    wait_for("both to be settled", || {
        Some(()).filter(|()| server.command(replay, &dry).json()["count"] == 2)
    });
    let stored = server.events();
    assert_count_from(&server.command(replay, &range), 2, &stored);
    let exact = json!({ "from": stored[0]["receivedtime"], "to": stored[0]["receivedtime"] });
    assert_count(&server.command(replay, &exact), 0);
    let mut all = handled(directory.path(), 4);
    let mut again = streams(&all.split_off(2)).join(" ");
    assert!(again == "a c" || again == "c a", "{again}");
    let events = server.events();
    let relay = events
        .iter()
        .find(|event| event["type"] == "css.relay")
        .unwrap();
    assert_count(&server.command(replay, &json!({ "event": relay["id"] })), 0);
    wait_for("the replay to be settled", || {
        Some(()).filter(|()| server.command(replay, &dry).json()["count"] == 2)
    });
    assert_count(
        &server.command(replay, &json!({ "event": events[0]["id"] })),
        1,
    );
    all = handled(directory.path(), 5);
    again = all[4]["streamid"].as_str().unwrap().to_owned();
    assert_eq!((again.as_str(), &all[4]["data"]), ("a", &body));
    let nothing = json!({ "from": "2020-01-01T00:00:00Z", "to": "2021-01-01T00:00:00Z" });
    assert_count_from(&server.command(replay, &nothing), 0, &stored);
    // A handler that accepts everything receives the relay, too.
    wait_for("the file to be settled", || {
        Some(()).filter(|()| server.command("/api/handlers/file/replay", &dry).json()["count"] == 3)
    });
    let file = "/api/handlers/file/replay";
    assert_count_from(&server.command(file, &range), 3, &stored);
    wait_for("the file", || {
        Some(()).filter(|()| json_lines(&directory.path().join("events.jsonl")).len() == 6)
    });
}

#[test]
fn the_rest_of_a_replay_is_reported() {
    for inbox in both_engines() {
        let target = Target::good();
        let handler = format!(
            "[handlers.slow]\nconcurrency = 1\nto = {{ type = \"http\", url = \"{}\" }}\n",
            target.url()
        );
        let settings = Settings {
            inbox,
            ..Settings::with_handlers(&handler)
        };
        let server = TestServer::start(&settings);
        let slow = || server.get("/api/handlers").json()["items"][0].clone();
        for stream in ["a", "b", "c"] {
            push(&server, stream);
        }
        wait_for("all to be done", || {
            (slow()["lag_events"] == 0).then_some(())
        });
        // Each answer waits until it may be given.
        let (allow, allowed) = channel();
        let allowed = Mutex::new(allowed);
        target.change_to(move |_| {
            let _ = allowed.lock().unwrap().recv();
            Reply::Status(200)
        });
        let counts = || {
            let slow = slow();
            ["replaying", "parked", "lag_events"].map(|name| slow[name].as_u64().unwrap())
        };
        let range = json!({ "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z" });
        let answer = server.command("/api/handlers/slow/replay", &range);
        assert_count_from(&answer, 3, &server.events());
        assert_eq!(counts(), [3, 0, 3]);
        // Events that arrive in the meantime are not replayed.
        push(&server, "d");
        wait_for("the new one", || (counts() == [3, 0, 4]).then_some(()));
        allow.send(()).unwrap();
        wait_for("one to be done", || (counts()[2] == 3).then_some(()));
        drop(allow);
        wait_for("all to be done", || (counts() == [0, 0, 0]).then_some(()));
        assert_eq!(target.count(), 3 + 3 + 1);
    }
}

#[test]
fn what_is_discarded_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    for stream in ["a", "b", "c"] {
        push(&server, stream);
    }
    let items = wait_parked(&server, 3);
    let discard = "/api/handlers/picky/discard";
    assert_count(
        &server.command(
            discard,
            &json!({ "event": items[0]["id"], "dry_run": true }),
        ),
        1,
    );
    assert_eq!(parked(&server).len(), 3);
    assert_count(
        &server.command(discard, &json!({ "event": items[0]["id"] })),
        1,
    );
    assert_count(
        &server.command(discard, &json!({ "event": items[0]["id"] })),
        0,
    );
    assert_eq!(streams(&parked(&server)), ["b", "c"]);
    let past = json!({ "from": "2020-01-01T00:00:00Z", "to": "2021-01-01T00:00:00Z" });
    assert_count(&server.command(discard, &past), 0);
    assert_count(
        &server.command(discard, &json!({ "parked": true, "dry_run": true })),
        2,
    );
    let range = json!({ "from": items[0]["receivedtime"], "to": "2100-01-01T00:00:00Z" });
    assert_count(&server.command(discard, &range), 2);
    assert_eq!(parked(&server).len(), 0);
    assert_eq!(server.events().len(), 3, "the events themselves stay");
    drop(server);
    let server = start(directory.path());
    assert_eq!(parked(&server).len(), 0);
}

#[test]
fn parked_deliveries_survive_a_crash_and_a_delivery_that_is_tried_again_can_be_discarded() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    push(&server, "a");
    wait_parked(&server, 1);
    server.kill();
    let failing = "[handlers.picky]\nretry = { initial = \"1h\", max = \"1h\" }\nto = { type = \"exec\", command = [\"false\"] }\n";
    let server = TestServer::start_in(directory.path(), &Settings::with_handlers(failing));
    assert_eq!(streams(&parked(&server)), ["a"]);
    push(&server, "b");
    push(&server, "b2");
    let handler = || server.get("/api/handlers").json()["items"][0].clone();
    wait_for("two retries", || {
        Some(()).filter(|()| handler()["retrying"] == 2)
    });
    assert_eq!(
        (&handler()["parked"], &handler()["lag_events"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(handler()["last_failure"]["error"], "exit code 1");
    let id = server.events()[1]["id"].clone();
    assert_count(
        &server.command("/api/handlers/picky/discard", &json!({ "event": id })),
        1,
    );
    assert_eq!(handler()["retrying"], 1);
    assert_eq!(streams(&parked(&server)), ["a"]);
}

#[test]
fn a_request_that_is_not_understood_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    push(&server, "a");
    let items = wait_parked(&server, 1);
    let id = items[0]["id"].as_str().unwrap();
    for what in ["replay", "discard"] {
        let path = format!("/api/handlers/picky/{what}");
        for body in [
            "",
            "x",
            "{}",
            "[]",
            "null",
            r#"{"parked":false}"#,
            r#"{"parked":"true"}"#,
            r#"{"parked":true,"dry_run":1}"#,
            r#"{"parked":true,"colour":"red"}"#,
            r#"{"parked":true}x"#,
            &format!(r#"{{"parked":true,"event":"{id}"}}"#),
            &format!(
                r#"{{"event":"{id}","from":"2020-01-01T00:00:00Z","to":"2100-01-01T00:00:00Z"}}"#
            ),
            r#"{"from":"2020-01-01T00:00:00Z"}"#,
            r#"{"to":"2100-01-01T00:00:00Z"}"#,
            r#"{"from":"yesterday","to":"2100-01-01T00:00:00Z"}"#,
            r#"{"from":"2100-01-01T00:00:00Z","to":"2020-01-01T00:00:00Z"}"#,
            r#"{"dry_run":true}"#,
        ] {
            let answer = crate::support::Client::new(server.admin)
                .post(&path, body)
                .unwrap();
            assert_eq!(answer.status, 400, "{body}: {}", answer.text());
            assert_eq!(answer.json()["code"], 400);
        }
        for event in ["nonsense", "00000000000000000000000000000000"] {
            assert_eq!(
                server.command(&path, &json!({ "event": event })).status,
                404
            );
        }
    }
    assert_eq!(parked(&server), items);
}
