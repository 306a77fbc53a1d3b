//! Effects of refused callbacks: the clock offset, the rejected list, and no secrets in the log.

use std::fs;

use rusqlite::Connection;
use serde_json::json;

use super::{assert_refused, assert_taken, push, settings};
use crate::support::{KEY, Settings, TestServer, now, signed, signed_with};

#[test]
fn the_offset_of_the_clocks_is_shown_and_a_large_one_logged() {
    let server = TestServer::start(&Settings::default());
    let mut client = server.client();
    let series = "livehook_clock_offset_seconds{source=\"css\"}";
    assert!(!server.get("/metrics").text().contains(series));
    for _ in 0..3 {
        client
            .post("/css", signed_with("wrong", now() - 9000, push()))
            .unwrap();
        client.post("/css", signed(push())).unwrap();
    }
    assert!(server.metric(series).abs() <= 2.0);
    assert!(!server.log().contains("clock.offset_seconds"));
    for _ in 0..8 {
        client
            .post("/css", signed_with(KEY, now() + 600 - 5000, push()))
            .unwrap();
    }
    assert!(
        (server.metric(series) + 5000.0).abs() <= 2.0,
        "expired ones count"
    );
    let log = server.log();
    let logged: Vec<_> = log
        .lines()
        .filter(|line| line.contains("clock.offset_seconds"))
        .collect();
    assert_eq!(logged.len(), 1, "{log}");
    assert!(
        logged[0].contains("ERROR")
            && logged[0].contains("clock.here=")
            && logged[0].contains("clock.sender="),
        "{log}"
    );
}

#[test]
fn what_is_refused_is_kept_and_nothing_secret_is_logged() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(&format!(
        "[log]\nlevel = \"trace\"\n[sources.css]\nkeys = [\"{KEY}\"]\ntoken = \"TheTokenItself\"\nallow_from = [\"127.0.0.1\"]\n"
    ));
    settings.server += "\ntrusted_proxies = [\"127.0.0.1\"]";
    settings.handlers = "[handlers.log]\nto = { type = \"log\" }\n".into();
    let server = TestServer::start_in(directory.path(), &settings);
    let mut client = server.client();
    let long = "BodyText".repeat(9000);
    let mut secrets = vec![
        KEY.to_owned(),
        "TheTokenItself".into(),
        "PresentedToken".into(),
        "BodyText".into(),
    ];
    let mut send = |path: &str, t: i64, key: &str, from: &str, text: &str| {
        let mut body = push();
        body["text"] = json!(text);
        let body = signed_with(key, t, body);
        secrets.push(css_callbacks::sign(key, &t.to_string()));
        let headers = [("x-forwarded-for", from)];
        client
            .request("POST", path, &headers, Some(body.as_bytes()))
            .unwrap()
            .status
    };
    let good = "/css/stream-begin?token=TheTokenItself";
    assert_eq!(send(good, now() + 600, KEY, "127.0.0.1", "BodyText"), 200);
    assert_eq!(
        send(
            "/css?token=PresentedToken",
            now() + 600,
            KEY,
            "127.0.0.1",
            "BodyText"
        ),
        401
    );
    assert_eq!(
        send("/css/stream-end", now() + 600, KEY, "127.0.0.1", "BodyText"),
        401
    );
    assert_eq!(
        send(good, now() + 600, "WrongKey", "127.0.0.1", "BodyText"),
        401
    );
    assert_eq!(send(good, now() + 600, "WrongKey", "127.0.0.1", &long), 401);
    assert_eq!(send(good, now() - 5000, KEY, "127.0.0.1", "BodyText"), 401);
    assert_eq!(send(good, now() + 600, KEY, "203.0.113.9", "BodyText"), 401);
    let unsigned = json!({ "event_type": 0, "text": "BodyText" }).to_string();
    assert_refused(
        &mut client,
        "/css/stream-begin?token=TheTokenItself",
        unsigned,
    );
    let half = json!({ "event_type": 0, "t": 1, "text": "BodyText" }).to_string();
    assert_refused(&mut client, good, half);
    assert_eq!(
        server
            .metric("livehook_callbacks_total{source=\"css\",kind=\"unknown\",result=\"refused\"}"),
        8.0
    );
    for reason in [
        "token",
        "signature",
        "expired",
        "address",
        "unsigned",
        "half-signed",
    ] {
        assert!(
            server.log().contains(&format!("reason=\"{reason}\"")),
            "{reason}:\n{}",
            server.log()
        );
    }
    let first_log = server.log();
    assert!(server.stop().success());
    let restarted = TestServer::start_in(directory.path(), &settings);
    let log = first_log + &restarted.log();
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} is in the log:\n{log}");
    }
    drop(restarted);
    check_rejected(&directory.path().join("data/rejected.db"));
}

fn check_rejected(file: &std::path::Path) {
    let conn = Connection::open(file).unwrap();
    type Row = (
        String,
        String,
        i64,
        Option<i64>,
        String,
        bool,
        i64,
        bool,
        i64,
    );
    let rows: Vec<Row> = conn
        .prepare("SELECT source, reason, kind, url_kind, client, token_hash IS NULL, size, body IS NULL, received FROM rejected ORDER BY id")
        .unwrap()
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?, row.get(8)?))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let reasons: Vec<&str> = rows.iter().map(|row| row.1.as_str()).collect();
    let expected = [
        "token",
        "token",
        "signature",
        "signature",
        "expired",
        "address",
        "unsigned",
        "half-signed",
    ];
    assert_eq!(reasons, expected);
    for (source, reason, kind, url_kind, client, no_token, size, no_body, received) in &rows {
        assert_eq!(source, "css");
        assert!((now() - received / 1000).abs() < 60);
        assert_eq!(
            client,
            if reason == "address" {
                "203.0.113.9"
            } else {
                "127.0.0.1"
            }
        );
        assert_eq!(*no_body, *size > 65_536);
        assert!([0, 1].contains(kind) && [None, Some(0), Some(1)].contains(url_kind));
        assert_eq!(*no_token, *url_kind == Some(0), "only that URL had none");
    }
    assert!(rows[3].7 && rows[3].6 > 72_000);
    assert_eq!(rows[0].3, None);
    let held: Vec<u8> = fs::read(file).unwrap();
    let held = String::from_utf8_lossy(&held).into_owned();
    assert!(!held.contains("PresentedToken") && !held.contains("TheTokenItself"));
}

#[test]
fn a_flood_of_forgeries_does_not_push_out_other_reasons() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::start_in(directory.path(), &Settings::default());
    let mut client = server.client();
    assert_refused(&mut client, "/css", signed_with(KEY, now() - 5000, push()));
    for _ in 0..300 {
        assert_refused(
            &mut client,
            "/css",
            signed_with("forged", now() + 600, push()),
        );
    }
    assert_taken(&mut client, "/css", signed(push()));
    let dropped = server.metric("livehook_rejected_dropped_total");
    assert!(server.stop().success());
    let conn = Connection::open(directory.path().join("data/rejected.db")).unwrap();
    let count = |reason: &str| {
        conn.query_row(
            "SELECT count(*) FROM rejected WHERE reason = ?1",
            [reason],
            |row| row.get::<_, i64>(0),
        )
        .unwrap()
    };
    assert_eq!(count("expired"), 1);
    assert_eq!(count("signature") + dropped as i64, 300);
    assert!(count("signature") >= 1);
}
