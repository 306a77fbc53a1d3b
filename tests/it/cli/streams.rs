//! `livehook streams`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use super::{failed, lines, run};
use crate::support::server::livehook;
use crate::support::target::reserve;
use crate::support::{Settings, TestServer, signed, wait_for};

/// The time at which the first push begins.
const BEGIN: i64 = 1_795_420_800;

fn server() -> TestServer {
    TestServer::start(&Settings::default())
}

/// Posts a begin (1) or an end (0) of a session, this many seconds after [`BEGIN`].
fn push(server: &TestServer, event_type: i64, stream: &str, sequence: i64, after: i64) {
    post(
        server,
        json!({
            "event_type": event_type, "app": "push.example.com", "appname": "live", "stream_id": stream,
            "sequence": sequence.to_string(), "event_time": BEGIN + after, "user_ip": "198.51.100.7",
            "width": 1280, "height": 720, "errcode": 2 - 2 * event_type, "errmsg": "recv rtmp deleteStream",
        }),
    );
}

fn post(server: &TestServer, body: Value) {
    assert_eq!(server.post("/css", signed(body)).status, 200);
}

/// Waits until the board has all stored events.
fn caught_up(server: &TestServer) {
    wait_for("the board", || {
        (server.metric("livehook_streams_lag_events") == 0.0).then_some(())
    });
}

fn json_of(lines: &[String]) -> Vec<Value> {
    let read = |line: &String| serde_json::from_str(line).unwrap();
    lines.iter().map(read).collect()
}

/// The names of the streams that are listed.
#[track_caller]
fn listed(server: &TestServer, more: &[&str]) -> Vec<String> {
    let items = json_of(&lines(server, &[&["streams", "--json"], more].concat()));
    let name = |item: &Value| item["streamid"].as_str().unwrap().to_owned();
    items.iter().map(name).collect()
}

#[test]
fn streams_are_filtered_by_state_and_listed_newest_last() {
    let server = server();
    // Their first events arrive in another order than they begin.
    for (stream, after) in [("Carl", 20), ("anna", 0), ("bert", 10)] {
        push(&server, 1, stream, after, after);
    }
    push(&server, 0, "bert", 10, 30);
    post(
        &server,
        json!({ "event_type": 100, "stream_id": "\u{1b}[2Jevil" }),
    );
    caught_up(&server);

    let table = lines(&server, &["streams"]);
    let words =
        |line: &String| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(
        words(&table[0]),
        ["STATE", "SINCE", "SOURCE", "STREAM", "LAST"]
    );
    let carl = words(&table[2]);
    assert_eq!(
        carl,
        [
            "live",
            "2026-11-23T08:00:20.000Z",
            "css",
            "push.example.com/live/Carl",
            "2026-11-23T08:00:20.000Z",
        ]
    );
    assert_eq!(table.len(), 3, "{table:?}");
    let offline = lines(&server, &["streams", "--offline"]);
    assert!(
        offline[1]
            .starts_with("offline  2026-11-23T08:00:30.000Z  css     push.example.com/live/bert"),
        "{offline:?}"
    );
    assert_eq!(
        words(&offline[2])[..4],
        ["offline", "-", "css", "\\u{1b}[2Jevil"]
    );

    assert_eq!(listed(&server, &["--limit", "1"]), ["Carl"]);
    assert_eq!(listed(&server, &["--all", "--limit", "2"])[0], "bert");
    for (filter, expected) in [
        (&[][..], &["anna", "Carl"][..]),
        (&["--all", "--stream", "live/bert"], &["bert"]),
        (&["--stream", "bert"], &[]),
        (&["--offline", "--domain", "push.example.com"], &["bert"]),
        (&["--source", "css"], &["anna", "Carl"]),
        (&["--source", "nobody"], &[]),
        (&["--search", "CAR"], &["Carl"]),
        (&["--search", "live/a"], &["anna"]),
    ] {
        assert_eq!(listed(&server, filter), expected, "{filter:?}");
    }
    let mut all = json_of(&lines(&server, &["streams", "--all", "--json"]));
    let mut items = server.get("/api/streams").json()["items"].take();
    let items = items.as_array_mut().unwrap();
    for list in [&mut all, items] {
        list.sort_by_key(|item| item["streamid"].to_string());
    }
    assert_eq!(&all, items);
}

#[test]
fn changes_are_followed_across_a_restart_of_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings::default().at(reserve(), reserve());
    let server = TestServer::start_in(directory.path(), &settings);
    push(&server, 1, "anna", 1, 0);
    push(&server, 1, "bert", 1, 1);
    push(&server, 0, "bert", 1, 2);
    caught_up(&server);
    let mut child = livehook()
        .args(["streams", "--follow", "--json"])
        .args(["--admin", &server.admin_url()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let item: Value = serde_json::from_str(&line).unwrap();
        let name = item["streamid"].as_str().unwrap().to_owned();
        (name, item["live"].as_bool().unwrap())
    };
    assert_eq!(next(), ("anna".into(), true));
    push(&server, 0, "anna", 1, 5);
    assert_eq!(next(), ("anna".into(), false));
    push(&server, 1, "bert", 2, 6);
    assert_eq!(next(), ("bert".into(), true));
    assert!(server.stop().success());
    let server = TestServer::start_in(directory.path(), &settings);
    push(&server, 1, "anna", 2, 7);
    assert_eq!(next(), ("anna".into(), true));
    // Nobody reads any more.
    drop(out);
    let mut sequence = 2;
    wait_for("its end", || {
        sequence += 1;
        push(&server, 1, "anna", sequence, sequence + 10);
        child.try_wait().unwrap()
    });
    assert!(child.wait().unwrap().success());
}

#[test]
fn one_stream_is_shown_in_detail() {
    let server = server();
    let of = |mut body: Value| {
        body["stream_id"] = "room-7".into();
        post(&server, body);
    };
    push(&server, 1, "room-7", 1, 0);
    push(&server, 0, "room-7", 1, 3600);
    push(&server, 1, "room-7", 2, 4000);
    push(&server, 1, "room-7", 3, 5000);
    of(json!({
        "event_type": 321, "domain": "push.example.com", "path": "live", "sequence": "1", "data_time": 1_795_420_900_000_i64,
        "report_interval": 5000, "abnormal_event": [],
    }));
    of(json!({
        "event_type": 200, "app": "push.example.com", "appname": "live", "create_time": BEGIN + 5001, "width": 640, "height": 360,
        "file_size": 1, "pic_url": "/live/room-7.jpg", "pic_full_url": "http://cdn.example.com/live/room-7.jpg",
    }));
    of(json!({
        "event_type": 100, "app": "push.example.com", "appname": "live", "file_id": "f-1", "start_time": BEGIN, "end_time": BEGIN + 60,
        "video_url": "http://vod.example.com/f-1.flv",
    }));
    caught_up(&server);

    let shown = lines(&server, &["streams", "css/push.example.com/live/room-7"]);
    assert_eq!(
        shown[0],
        "push.example.com/live/room-7 of css: live since 2026-11-23T09:23:20.000Z"
    );
    assert_eq!(shown[2], "exceptions    1");
    let part = |head: &str| -> Vec<String> {
        let lines = shown.iter().skip_while(|line| !line.starts_with(head));
        lines
            .skip(1)
            .take_while(|line| !line.is_empty())
            .cloned()
            .collect()
    };
    let sessions = part("START");
    assert_eq!(sessions.len(), 3, "{shown:#?}");
    let first = &sessions[0];
    assert!(
        first.starts_with("2026-11-23T08:00:00.000Z  2026-11-23T09:00:00.000Z  1h        1           198.51.100.7  1280x720  1        2, "),
        "{first}"
    );
    assert!(first.ends_with(", recv rtmp deleteStream"), "{first}");
    assert!(
        sessions[1].ends_with("2        end unknown, a newer session began"),
        "{sessions:#?}"
    );
    assert!(sessions[2].ends_with("3        live"), "{sessions:#?}");
    assert_eq!(
        part("RECORDING"),
        [
            "file       2026-11-23T08:00:00.000Z  2026-11-23T08:01:00.000Z  f-1  http://vod.example.com/f-1.flv"
        ]
    );
    assert_eq!(
        part("SNAPSHOT"),
        ["2026-11-23T09:23:21.000Z  640x360  http://cdn.example.com/live/room-7.jpg"]
    );
    let events = part("TIME");
    assert_eq!(events.len(), 7, "{shown:#?}");
    assert!(
        events[6].starts_with("2026-11-23T09:23:21Z  snapshot  "),
        "{events:#?}"
    );
    let few = lines(
        &server,
        &[
            "streams",
            "css/push.example.com/live/room-7",
            "--limit",
            "2",
        ],
    );
    let ids = |lines: &[String]| -> Vec<String> {
        let last = |line: &String| line.rsplit(' ').next().unwrap().to_owned();
        lines.iter().map(last).collect()
    };
    assert!(few[few.len() - 3].starts_with("TIME"), "{few:#?}");
    assert_eq!(ids(&few[few.len() - 2..]), ids(&events[5..]));

    let json = lines(
        &server,
        &["streams", "/css/push.example.com/live/room-7", "--json"],
    );
    let detail = server.get("/api/streams/css/push.example.com/live/room-7?limit=20");
    assert_eq!(json_of(&json), [detail.json()]);
}

#[test]
fn a_stream_may_have_a_slash_or_lack_a_part() {
    let server = server();
    post(
        &server,
        json!({
            "event_type": 0, "stream_id": "a/b 直\u{1b}", "sequence": "9", "event_time": BEGIN, "push_duration": "90000",
        }),
    );
    caught_up(&server);
    for name in ["css/-/-/a%2Fb%20%E7%9B%B4%1B", "css///a%2fb 直\u{1b}"] {
        let shown = lines(&server, &["streams", name]);
        assert_eq!(
            shown[0],
            "a/b 直\\u{1b} of css: offline since 2026-11-23T08:00:00.000Z"
        );
        // Only its end is known.
        let session = shown.iter().find(|line| line.starts_with('~')).unwrap();
        let start = "~2026-11-23T07:58:30.000Z  2026-11-23T08:00:00.000Z  1m 30s";
        assert!(session.starts_with(start), "{session}");
    }
    for (name, code, part) in [
        ("css/-/-/a", 1, "there is no such stream on the board"),
        ("css/-/-/a/b", 2, "source/domain/app/stream"),
        ("room-7", 2, "source/domain/app/stream"),
    ] {
        let (is, message) = failed(run(&server, &["streams", name]));
        assert_eq!(is, code, "{message}");
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_board_is_rebuilt_after_confirmation() {
    let server = server();
    push(&server, 1, "anna", 1, 0);
    push(&server, 1, "bert", 1, 0);
    caught_up(&server);
    let (code, message) = failed(run(&server, &["streams", "--rebuild"]));
    assert_eq!(code, 2);
    let question =
        "The board of streams will be rebuilt from the stored events. Confirm with --yes";
    assert!(message.contains(question), "{message}");
    let done = lines(&server, &["streams", "--rebuild", "--yes"]);
    assert_eq!(done, ["the board of streams was rebuilt from 2 events"]);
    let done = lines(&server, &["streams", "--rebuild", "-y", "--json"]);
    assert_eq!(done, [r#"{"count":2}"#]);
    assert_eq!(listed(&server, &[]).len(), 2);

    for arguments in [
        &["streams", "--yes"][..],
        &["streams", "--rebuild", "--follow", "-y"],
        &["streams", "--rebuild", "--stream", "anna", "-y"],
        &["streams", "--rebuild", "css/a/b/c", "-y"],
        &["streams", "--all", "--offline"],
        &["streams", "css/a/b/c", "--all"],
        &["streams", "css/a/b/c", "--follow"],
        &["streams", "css/a/b/c", "--search", "a"],
    ] {
        let code = run(&server, arguments).status.code();
        assert_eq!(code, Some(2), "{arguments:?}");
    }
}
