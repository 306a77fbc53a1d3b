//! The vectors in `vectors` are true of this crate. `vectors/check.py` reads them with code of its own.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use css_callbacks::{Callback, EventId, Kind, Secret, Timestamp, VerifyError, sign, verify};
use serde_json::{Value, json};

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(file)
}

fn vectors(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path(file)).unwrap();
    let vectors: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(!vectors.is_empty());
    vectors
}

fn text<'a>(vector: &'a Value, member: &str) -> &'a str {
    vector[member].as_str().unwrap()
}

#[test]
fn signatures_are_made_as_they_stand() {
    for vector in vectors("signatures.json") {
        let made = sign(text(&vector, "key"), text(&vector, "t"));
        assert_eq!(made, text(&vector, "sign"), "{vector}");
    }
}

#[test]
fn callbacks_get_their_verdicts() {
    for vector in vectors("verdicts.json") {
        let keys = vector["keys"].as_array().unwrap().iter();
        let keys: Vec<Secret> = keys.map(|key| Secret::new(key.as_str().unwrap())).collect();
        let callback = Callback::parse(text(&vector, "body").as_bytes()).unwrap();
        let now = Timestamp::from_seconds(vector["now"].as_i64().unwrap());
        let grace = Duration::from_secs(vector["grace"].as_u64().unwrap());
        let expected = match text(&vector, "verdict") {
            "ok" => Ok(()),
            "unsigned" => Err(VerifyError::Unsigned),
            "malformed" => Err(VerifyError::Malformed),
            "signature" => Err(VerifyError::Signature),
            "expired" => Err(VerifyError::Expired),
            other => panic!("no verdict is called {other}"),
        };
        let verdict = verify(&keys, &callback, now, grace);
        assert_eq!(verdict, expected, "{vector}");
    }
}

/// A change here makes every repeat that crosses an upgrade a second delivery.
#[test]
fn events_have_their_kinds_and_ids() {
    for vector in vectors("events.json") {
        let callback = Callback::parse(text(&vector, "body").as_bytes()).unwrap();
        let url_kind = vector["url_kind"].as_str();
        let kind = callback.kind(url_kind.map(|slug| Kind::from_slug(slug).unwrap()));
        assert_eq!(kind.slug(), text(&vector, "kind"), "{vector}");
        let random = || {
            *EventId::from_hex(text(&vector, "random"))
                .unwrap()
                .as_bytes()
        };
        let id = EventId::derive(text(&vector, "source"), kind, callback.members(), random);
        assert_eq!(id.to_string(), text(&vector, "id"), "{vector}");
    }
}

#[test]
fn kinds_are_those_of_the_table() {
    let rows = Kind::ALL.map(|kind| {
        let retries = kind.retry_schedule();
        json!({
            "event_type": kind.code(),
            "kind": kind.slug(),
            "meaning": kind.meaning(),
            "may_be_unsigned": kind.may_be_unsigned(),
            "retries": retries.retries,
            "retry_interval": retries.interval.as_secs(),
            "url_field": kind.url_field().unwrap().name(),
        })
    });
    let lines = rows.map(|row| format!("  {row}")).join(",\n");
    let made = format!("[\n{lines}\n]\n");
    if std::env::var_os("LIVEHOOK_BLESS").is_some() {
        std::fs::write(path("kinds.json"), made).unwrap();
        return;
    }
    let written = std::fs::read_to_string(path("kinds.json")).unwrap();
    assert_eq!(written, made, "LIVEHOOK_BLESS=1 writes it anew");
}
