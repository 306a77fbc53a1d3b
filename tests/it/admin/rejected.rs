//! The rejected list, and its recheck after a key was corrected.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::assert_error;
use crate::reload::{RELOADED, reload};
use crate::support::server::{FILE_HANDLER, both_engines};
use crate::support::{KEY, Settings, TestServer, json_lines, now, signed, signed_with, wait_for};

const WRONG: &str = "MisMisMisMisMisMisMisMisMisMis12";
const OTHER: &str = "ForgerForgerForgerForgerForger12";

/// Servers with this key, on the embedded store and on PostgreSQL.
fn on_both_engines(key: &str) -> [Settings; 2] {
    both_engines().map(|inbox| Settings {
        inbox,
        sources: format!("[sources.css]\nkeys = [\"{key}\"]\n"),
        ..Settings::with_handlers(FILE_HANDLER)
    })
}

fn items(server: &TestServer, query: &str) -> Vec<Value> {
    let answer = server.get(&format!("/api/rejected{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["items"].as_array().unwrap().clone()
}

/// Waits for the list, because entries are written after the answers.
fn wait_for_items(server: &TestServer, count: usize) -> Vec<Value> {
    wait_for("the list", || {
        Some(items(server, "")).filter(|items| items.len() == count)
    })
}

#[track_caller]
fn recheck(server: &TestServer, body: Value) -> u64 {
    let answer = server.command("/api/rejected/recheck", &body);
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["count"].as_u64().unwrap()
}

fn push(key: &str, t: i64, n: u32) -> String {
    signed_with(
        key,
        t,
        json!({ "event_type": 1, "appname": "live", "stream_id": "room-7", "sequence": n.to_string() }),
    )
}

#[test]
fn what_a_mistyped_key_refused_is_accepted_once_after_the_fix() {
    for settings in on_both_engines(WRONG) {
        let server = TestServer::start(&settings);
        let t = now() + 600;
        let genuine: Vec<String> = (0..20).map(|n| push(KEY, t, n)).collect();
        let late = push(KEY, t - 3600, 100);
        // A relay without times: nothing distinguishes two of its callbacks.
        let song = signed_with(KEY, t, json!({ "event_type": 314, "stream_id": "song" }));
        let forged: Vec<String> = (0..5).map(|n| push(OTHER, t, n)).collect();
        for body in genuine.iter().chain([&late, &song]).chain(&forged) {
            let path = match body.contains("314") {
                true => "/css/relay",
                false => "/css/stream-begin",
            };
            assert_eq!(server.post(path, body).status, 401);
        }
        let listed = wait_for_items(&server, 27);
        let received: BTreeSet<String> = listed[..20]
            .iter()
            .map(|item| item["receivedtime"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(recheck(&server, json!({})), 0, "the key is still wrong");

        reload(
            &server,
            &Settings {
                inbox: settings.inbox.clone(),
                ..Settings::with_handlers(FILE_HANDLER)
            },
            RELOADED,
        );
        // Meanwhile the sender repeats one, with a new signature.
        assert_eq!(server.post("/css", push(KEY, t + 60, 7)).status, 200);
        assert_eq!(recheck(&server, json!({ "dry_run": true })), 20);
        assert_eq!(items(&server, "").len(), 27, "it was only counted");
        // Twice at the same time.
        let counts = std::thread::scope(|scope| {
            let both =
                [(); 2].map(|()| scope.spawn(|| recheck(&server, json!({ "source": "css" }))));
            both.map(|count| count.join().unwrap())
        });
        assert_eq!(counts.iter().sum::<u64>(), 20, "{counts:?}");
        assert_eq!(recheck(&server, json!({})), 0);

        let left = items(&server, "");
        let left: Vec<&str> = left
            .iter()
            .map(|item| item["body"].as_str().unwrap())
            .collect();
        let mut expected = vec![late.as_str()];
        expected.extend(forged.iter().map(String::as_str));
        assert_eq!(left, expected);
        let events = server.events();
        assert_eq!(events.len(), 21);
        let ids: BTreeSet<_> = events.iter().map(|event| event["id"].to_string()).collect();
        assert_eq!(ids.len(), 21);
        let times: BTreeSet<String> = events[1..20]
            .iter()
            .map(|event| event["receivedtime"].as_str().unwrap().to_owned())
            .collect();
        assert!(times.is_subset(&received), "{times:?} {received:?}");
        let file = server.path().join("events.jsonl");
        wait_for("the handler", || {
            (json_lines(&file).len() == 21).then_some(())
        });
    }
}

/// Otherwise a forger could fill the list, and the forgeries would be accepted when the key is
/// removed.
#[test]
fn without_a_key_a_recheck_accepts_nothing() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    assert_eq!(server.post("/css", push(OTHER, now() + 600, 1)).status, 401);
    wait_for_items(&server, 1);
    reload(
        &server,
        &Settings {
            sources: "[sources.css]\ntoken = \"TokenOfTheSource\"\n".into(),
            ..Settings::with_handlers(FILE_HANDLER)
        },
        RELOADED,
    );
    assert_eq!(recheck(&server, json!({})), 0);
    assert!(server.events().is_empty());
    assert_eq!(items(&server, "").len(), 1);
}

#[test]
fn the_list_is_shown_page_by_page_and_filtered() {
    for settings in on_both_engines(KEY) {
        let server = TestServer::start(&settings);
        for n in 0..7 {
            assert_eq!(server.post("/css", push(OTHER, now() + 600, n)).status, 401);
        }
        let record = signed_with(OTHER, now() + 600, json!({ "event_type": 100 }));
        assert_eq!(server.post("/css", record).status, 401);
        assert_eq!(server.post("/css", push(KEY, now() - 3600, 7)).status, 401);
        let long = json!({ "event_type": 1, "note": "x".repeat(70_000) });
        let long = signed_with(OTHER, now() + 600, long);
        assert_eq!(server.post("/css/stream-begin", &long).status, 401);
        let odd = b"{\"event_type\":1,\"note\":\"\xff\"}";
        assert_eq!(server.post("/css", odd).status, 401);

        let all = wait_for_items(&server, 11);
        let first = &all[0];
        assert_eq!(first["reason"], "signature");
        assert_eq!(
            (&first["source"], &first["kind"]),
            (&json!("css"), &json!("stream-begin"))
        );
        assert_eq!(first["client"], "127.0.0.1");
        assert_eq!(first["token_sha256"], Value::Null);
        assert_eq!(first["size"], first["body"].as_str().unwrap().len());
        assert_eq!(
            (&all[9]["body"], &all[9]["size"]),
            (&Value::Null, &json!(long.len()))
        );
        assert_eq!(
            (&all[10]["body"], &all[10]["reason"]),
            (&Value::Null, &json!("unsigned"))
        );
        assert_eq!(
            all[10]["body_base64"],
            "eyJldmVudF90eXBlIjoxLCJub3RlIjoi/yJ9"
        );

        let mut pages = Vec::new();
        let mut after = String::new();
        loop {
            let page = server.get(&format!("/api/rejected?limit=4{after}")).json();
            let part = page["items"].as_array().unwrap();
            assert!(part.len() <= 4);
            pages.extend(part.clone());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(pages, all);
        let mut newest = items(&server, "?order=newest&limit=1000");
        newest.reverse();
        assert_eq!(newest, all);
        let time = all[4]["receivedtime"].as_str().unwrap();
        let before = all
            .iter()
            .filter(|item| item["receivedtime"].as_str().unwrap() < time);
        for (query, expected) in [
            ("?reason=expired".to_owned(), 1),
            ("?reason=signature&kind=record".to_owned(), 1),
            ("?kind=stream-begin".to_owned(), 10),
            ("?source=css".to_owned(), 11),
            ("?source=other".to_owned(), 0),
            (format!("?to={time}"), before.count()),
            ("?from=2999-01-01T00:00:00Z".to_owned(), 0),
        ] {
            assert_eq!(items(&server, &query).len(), expected, "{query}");
        }
    }
}

/// Half of the list's capacity is much more than an answer should hold.
#[test]
fn long_bodies_make_short_pages() {
    for settings in on_both_engines(KEY) {
        let server = TestServer::start(&settings);
        let note = "x".repeat(65_000);
        let mut sent = 0;
        while sent < 80 {
            let body = json!({ "event_type": 1, "note": note, "sequence": sent });
            let body = signed_with(OTHER, now() + 600, body);
            assert_eq!(server.post("/css", body).status, 401);
            sent += 1;
            if sent == 40 {
                // At most 50 are added per second.
                let second = now();
                wait_for("the next second", || (now() > second + 1).then_some(()));
            }
        }
        wait_for("all of them", || {
            let newest = &items(&server, "?order=newest&limit=1")[0];
            newest["body"]
                .as_str()
                .unwrap()
                .contains("\"sequence\":79")
                .then_some(())
        });
        let page = server.get("/api/rejected?limit=1000").json();
        let first = page["items"].as_array().unwrap().len();
        assert!((60..70).contains(&first), "{first}");
        let next = page["next"].as_str().unwrap();
        assert_eq!(
            items(&server, &format!("?limit=1000&after={next}")).len(),
            80 - first
        );
    }
}

#[test]
fn what_is_not_understood_is_named() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    for (query, name) in [
        ("reason=nonsense", "reason"),
        ("kind=push", "kind"),
        ("from=yesterday", "from"),
        ("order=random", "order"),
        ("stream=room-7", "stream"),
        ("domain=d", "domain"),
        ("limit=0", "limit"),
        ("after=x", "after"),
    ] {
        let answer = server.get(&format!("/api/rejected?{query}"));
        assert_error(&answer, 400, &format!("`{name}`"));
    }
    let command = |body: Value| server.command("/api/rejected/recheck", &body);
    assert_error(&command(json!({ "colour": "red" })), 400, "colour");
    assert_error(&command(json!([])), 400, "JSON object");
    assert_error(&command(json!({ "source": 5 })), 400, "string");
    assert_error(&command(json!({ "source": "nobody" })), 404, "source");
    assert_eq!(
        server
            .post("/css", signed(json!({ "event_type": 1 })))
            .status,
        200
    );
    assert!(items(&server, "").is_empty());
}
