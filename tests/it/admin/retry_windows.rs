//! What is not taken now, and for how long the platform still repeats it.

use livehook::kind::Kind;
use serde_json::{Value, json};

use crate::support::{Settings, TestServer, now, signed, signed_with};

const REMAINING: &str = "livehook_retry_window_remaining_seconds{source=\"css\"}";

fn windows(server: &TestServer) -> Vec<Value> {
    let list = server.get("/api/retry-windows").json();
    assert_eq!(list["next"], Value::Null);
    list["items"].as_array().unwrap().clone()
}

/// The metric is what is left of a window of `all` seconds that has just begun.
#[track_caller]
fn assert_remaining(server: &TestServer, all: u32) {
    let (remaining, all) = (server.metric(REMAINING), f64::from(all));
    assert!(
        remaining <= all && remaining > all - 60.0,
        "{remaining} of {all}"
    );
}

#[test]
fn every_kind_has_its_own_window_and_strangers_add_no_more() {
    let server = TestServer::start(&Settings::default());
    for round in 0..2 {
        for kind in Kind::all_and_unknown() {
            // The body of a forgery is not believed, so the URL tells the kind.
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
    let told: Vec<_> = windows(&server)
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
    assert_eq!(told, expected);
    // Of that which is lost first, until it is taken.
    assert_remaining(&server, 180);
    for code in [338, 347] {
        let body = signed(json!({ "event_type": code }));
        assert_eq!(server.post("/css", body).status, 200);
    }
    assert_remaining(&server, 600);
    let left = windows(&server);
    let is_left = |slug: &str| left.iter().any(|item| item["kind"] == slug);
    // A forgery at the URL for all kinds may have been any of them.
    for taken in ["subtitle", "smart-erase", "unknown"] {
        assert!(!is_left(taken), "{taken}");
    }
    assert_eq!(left.len(), told.len() - 3);
}

#[test]
fn what_the_store_does_not_take_is_told_by_its_own_kind() {
    let server = TestServer::start(&Settings {
        inbox: "min_free = \"1000PiB\"".into(),
        ..Settings::default()
    });
    // At another kind's URL: it is authentic, so the body tells the kind.
    let screenshot = signed(json!({ "event_type": 200 }));
    assert_eq!(server.post("/css/stream-begin", &screenshot).status, 503);
    let first = windows(&server);
    assert_eq!(first.len(), 1);
    assert_eq!(server.post("/css", &screenshot).status, 503);
    // What is refused meanwhile is another matter, also of the same kind.
    let forged = signed_with("Forged", now() + 600, json!({ "event_type": 200 }));
    assert_eq!(server.post("/css/snapshot", forged).status, 401);
    let items = windows(&server);
    let told: Vec<_> = items
        .iter()
        .map(|item| (item["kind"].as_str(), item["result"].as_str()))
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    for result in ["refused", "failed"] {
        assert!(
            told.contains(&(Some("snapshot"), Some(result))),
            "{result} in {told:?}"
        );
    }
    let failed = items.iter().find(|item| item["result"] == "failed");
    let failed = failed.unwrap();
    assert_eq!(failed["since"], first[0]["since"], "of the first one");
    assert!(failed["last"].as_str() >= first[0]["last"].as_str());
    assert_eq!(failed["window_seconds"], 600);
    assert_remaining(&server, 600);
}
