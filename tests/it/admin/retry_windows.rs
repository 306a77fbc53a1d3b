//! Retry windows: what is not accepted now, and how long the platform still repeats it.

use css_callbacks::Kind;
use serde_json::{Value, json};

use crate::reload::{RELOADED, reload};
use crate::support::{KEY, Settings, TestServer, now, signed, signed_with};

const REMAINING: &str = "livehook_retry_window_remaining_seconds{source=\"css\"}";
const DEAF_METRIC: &str = "livehook_source_deaf{source=\"css\"}";

fn windows(server: &TestServer) -> Vec<Value> {
    let list = server.get("/api/retry-windows").json();
    assert_eq!(list["next"], Value::Null);
    list["items"].as_array().unwrap().clone()
}

/// Fails unless the metric shows the rest of a window of `all` seconds that has just begun.
#[track_caller]
fn assert_remaining(server: &TestServer, all: u32) {
    let (remaining, all) = (server.metric(REMAINING), f64::from(all));
    assert!(
        remaining <= all && remaining > all - 60.0,
        "{remaining} of {all}"
    );
}

#[test]
fn each_kind_of_a_source_with_a_wrong_key_has_its_own_window() {
    let server = TestServer::start(&Settings::default());
    for round in 0..2 {
        for kind in Kind::all_and_unknown() {
            // The body of a forgery is not trusted, so the URL decides the kind.
            let members = json!({ "event_type": 1, "stream_id": format!("{kind}-{round}") });
            let forged = signed_with("Forged", now() + 600, members);
            let path = match kind {
                Kind::Unknown => "/css".to_owned(),
                _ => format!("/css/{kind}"),
            };
            assert_eq!(server.post(&path, &forged).status, 401, "{kind}");
            assert_eq!(server.post(&format!("/other-{kind}"), forged).status, 404);
        }
    }
    assert_eq!(server.metric(DEAF_METRIC), 1.0);
    let listed: Vec<_> = windows(&server)
        .iter()
        .map(|item| {
            assert_eq!(item["source"], "css", "{item}");
            assert_eq!(item["result"], "refused", "{item}");
            let kind = item["kind"].as_str().unwrap().to_owned();
            (kind, item["window_seconds"].as_u64().unwrap())
        })
        .collect();
    let expected: Vec<_> = Kind::all_and_unknown()
        .map(|kind| {
            let seconds = match kind {
                Kind::Snapshot => 5 * 120,
                Kind::Subtitle | Kind::SmartErase => 3 * 60,
                _ => 12 * 60,
            };
            (kind.slug().to_owned(), seconds)
        })
        .collect();
    assert_eq!(listed, expected);
    // The metric shows the window that ends first, until that kind is accepted.
    assert_remaining(&server, 180);
    for code in [338, 347] {
        let body = signed(json!({ "event_type": code }));
        assert_eq!(server.post("/css", body).status, 200);
    }
    assert_remaining(&server, 600);
    let left = windows(&server);
    let is_left = |slug: &str| left.iter().any(|item| item["kind"] == slug);
    // A forgery at the URL for all kinds may be of any kind.
    for taken in ["subtitle", "smart-erase", "unknown"] {
        assert!(!is_left(taken), "{taken}");
    }
    assert_eq!(left.len(), listed.len() - 3);
    assert_eq!(server.metric(DEAF_METRIC), 0.0);
}

#[test]
fn what_the_store_does_not_take_is_listed_under_its_own_kind() {
    let server = TestServer::start(&Settings {
        inbox: "min_free = \"1000PiB\"".into(),
        ..Settings::default()
    });
    // It comes to the URL of another kind, but is authentic, so the body decides the kind.
    let screenshot = signed(json!({ "event_type": 200 }));
    assert_eq!(server.post("/css/stream-begin", &screenshot).status, 503);
    let first = windows(&server);
    assert_eq!(first.len(), 1);
    assert_eq!(server.post("/css", &screenshot).status, 503);
    // Refusals meanwhile are counted separately, also of the same kind.
    let late = signed_with(KEY, now() - 3600, json!({ "event_type": 200 }));
    assert_eq!(server.post("/css/snapshot", late).status, 401);
    let items = windows(&server);
    let listed: Vec<_> = items
        .iter()
        .map(|item| (item["kind"].as_str(), item["result"].as_str()))
        .collect();
    assert_eq!(listed.len(), 2, "{listed:?}");
    for result in ["refused", "failed"] {
        assert!(
            listed.contains(&(Some("snapshot"), Some(result))),
            "{result} in {listed:?}"
        );
    }
    let failed = items.iter().find(|item| item["result"] == "failed");
    let failed = failed.unwrap();
    assert_eq!(failed["since"], first[0]["since"], "of the first one");
    assert!(failed["last"].as_str() >= first[0]["last"].as_str());
    assert_eq!(failed["window_seconds"], 600);
    assert_remaining(&server, 600);
}

fn forgeries(server: &TestServer, reason: &str) -> f64 {
    server.metric(&format!(
        "livehook_forgeries_total{{source=\"css\",reason=\"{reason}\"}}"
    ))
}

#[test]
fn forgeries_without_a_source_token_open_no_window() {
    let server = TestServer::start(&Settings::default());
    let push = json!({ "event_type": 1, "stream_id": "room-7" });
    let unsigned = push.to_string();
    let forged = || signed_with("Forged", now() + 600, push.clone());
    let late = || signed_with(KEY, now() - 3600, push.clone());
    let half = json!({ "event_type": 1, "t": now() + 600 }).to_string();
    let refused = |body: &str| assert_eq!(server.post("/css/stream-begin", body).status, 401);
    let quiet = |when: &str| {
        assert_eq!(windows(&server).len(), 0, "{when}");
        let metrics = server.get("/metrics").text();
        assert!(!metrics.contains(REMAINING), "{when}");
        assert_eq!(server.metric(DEAF_METRIC), 0.0, "{when}");
    };
    // An unsigned push opens no window, even at a source that has had no authentic callback.
    refused(&unsigned);
    refused(&half);
    quiet("unsigned");
    assert_eq!(server.post("/css", signed(push.clone())).status, 200);
    for _ in 0..5 {
        refused(&unsigned);
        refused(&forged());
    }
    quiet("while genuine ones arrive");
    assert_eq!(forgeries(&server, "unsigned"), 6.0);
    assert_eq!(forgeries(&server, "half-signed"), 1.0);
    assert_eq!(forgeries(&server, "signature"), 5.0);
    // Authentic except that it has expired: a clock is wrong, or it came too late.
    refused(&late());
    let items = windows(&server);
    assert_eq!(items.len(), 1);
    assert_eq!(
        (&items[0]["kind"], &items[0]["result"]),
        (&json!("stream-begin"), &json!("refused"))
    );
    assert_remaining(&server, 720);
    assert_eq!(
        (forgeries(&server, "expired"), server.metric(DEAF_METRIC)),
        (0.0, 0.0)
    );
    assert_eq!(server.post("/css", signed(push)).status, 200);
    quiet("it is taken");
}

#[test]
fn a_new_key_clears_the_windows_of_its_source() {
    let server = TestServer::start(&Settings::default());
    let push = json!({ "event_type": 1, "stream_id": "room-7" });
    assert_eq!(server.post("/css", signed(push.clone())).status, 200);
    let with = |key: &str, handlers: &str| Settings {
        sources: format!("[sources.css]\nkeys = [\"{key}\"]\n"),
        handlers: handlers.to_owned(),
        ..Settings::default()
    };
    // A reload that does not change the source keeps the window.
    let log = "[handlers.log]\nto = { type = \"log\" }\n";
    reload(&server, &with(KEY, log), RELOADED);
    let forged = signed_with("Forged", now() + 600, push.clone());
    assert_eq!(server.post("/css", &forged).status, 401);
    assert_eq!(
        (server.metric(DEAF_METRIC), windows(&server).len()),
        (0.0, 0)
    );

    reload(
        &server,
        &with("MisMisMisMisMisMisMisMisMisMis12", log),
        RELOADED,
    );
    assert_eq!(server.metric(DEAF_METRIC), 0.0);
    assert_eq!(server.post("/css/stream-begin", signed(push)).status, 401);
    assert_eq!(server.metric(DEAF_METRIC), 1.0);
    assert_eq!(windows(&server)[0]["kind"], "stream-begin");
    assert_remaining(&server, 720);
}
