//! Genuine callbacks at a wrong URL or in an unusual form are accepted where that is safe. Others
//! are counted, logged, and kept until the template is corrected. Requests of strangers need no
//! operator.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use css_callbacks::sign;
use rustix::net::sockopt::set_socket_linger;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::{Value, json};

use crate::support::server::{FILE_HANDLER, both_engines};
use crate::support::{KEY, Settings, TestServer, json_lines, now, signed, signed_with, wait_for};

const MISROUTED: &str =
    "livehook_callbacks_total{source=\"unknown\",kind=\"unknown\",result=\"misrouted\"}";
const OF_CSS: &str = "livehook_misrouted_total{source=\"css\"}";
const OTHER: &str = "ForgerForgerForgerForgerForger1";
const BOM: &[u8] = b"\xef\xbb\xbf";

fn push(stream: &str) -> Value {
    json!({ "event_type": 1, "appname": "live", "stream_id": stream })
}

fn listed(server: &TestServer) -> Vec<Value> {
    let answer = server.get("/api/rejected?reason=misrouted");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["items"].as_array().unwrap().clone()
}

/// Waits for the list, because entries are written after the answers.
fn wait_for_listed(server: &TestServer, count: usize) -> Vec<Value> {
    wait_for("the list", || {
        Some(listed(server)).filter(|items| items.len() == count)
    })
}

#[track_caller]
fn recheck(server: &TestServer, body: Value) -> u64 {
    let answer = server.command("/api/rejected/recheck", &body);
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["count"].as_u64().unwrap()
}

/// Log lines with this text.
fn lines(server: &TestServer, text: &str) -> Vec<String> {
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains(text));
    lines.map(str::to_owned).collect()
}

#[test]
fn slashes_too_many_do_no_harm() {
    let server = TestServer::start(&Settings {
        sources: format!("[sources.css]\nkeys = [\"{KEY}\"]\ntoken = \"TheToken\"\n"),
        ..Settings::default()
    });
    let mut client = server.client();
    for (path, kind) in [
        ("/css/summary/", "css.summary"),
        ("//css/summary", "css.summary"),
        ("/css//summary//", "css.summary"),
        ("/css/", "css.unknown"),
        ("//css", "css.unknown"),
    ] {
        let body = signed(json!({ "stream_id": path }));
        let wrong = client.post(&format!("{path}?token=other"), &body).unwrap();
        assert_eq!(wrong.status, 401, "{path}");
        let taken = client.post(&format!("{path}?token=TheToken"), &body);
        assert_eq!(taken.unwrap().status, 200, "{path}");
        assert_eq!(server.events().last().unwrap()["type"], kind, "{path}");
    }
    for path in ["/css/summary/x/", "/css/summary/css", "/", "//"] {
        let answer = client.post(path, signed(push("a"))).unwrap();
        assert_eq!(answer.status, 404, "{path}");
    }
    assert_eq!(server.metric(MISROUTED), 4.0);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_body() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let body = signed(push("room-7"));
    let marked = [BOM, body.as_bytes()].concat();
    assert_eq!(server.post("/css/stream-begin", &marked).status, 200);
    assert_eq!(server.post("/css/stream-begin", &body).status, 200);
    let events = server.events();
    assert_eq!(events.len(), 1, "it is the same event");
    let id = events[0]["id"].as_str().unwrap();
    let stored = server.get(&format!("/api/events/{id}/body"));
    assert_eq!(stored.body, body.as_bytes());
    let file = server.path().join("events.jsonl");
    let line = wait_for("the handler", || json_lines(&file).pop());
    assert_eq!(line["data"]["stream_id"], "room-7", "{line}");
    // Only one mark is ignored, and only before the body.
    let twice = [BOM, &marked].concat();
    assert_eq!(server.post("/css/stream-begin", twice).status, 400);
    let behind = [body.as_bytes(), BOM].concat();
    assert_eq!(server.post("/css/stream-begin", behind).status, 400);
}

/// Ways to mis-type `/css/stream-begin`, or `/css`.
const WRONG: [&str; 6] = [
    "/CSS/stream-begin",
    "/css/streambegin",
    "/ccs/stream-begin",
    "/callback/css/stream-begin",
    "/callback/css",
    "/css/stream-begin/extra",
];

#[test]
fn callbacks_at_a_mistyped_url_are_counted_logged_and_taken_by_a_recheck() {
    for inbox in both_engines() {
        let server = TestServer::start(&Settings {
            inbox,
            ..Settings::with_handlers(FILE_HANDLER)
        });
        assert!(
            server
                .get("/metrics")
                .text()
                .contains(&format!("{MISROUTED} 0\n"))
        );
        let mut client = server.client();
        for path in WRONG {
            // The last one is sent twice, as it is after a minute.
            for _ in 0..2 {
                let body = [BOM, signed(push(path)).as_bytes()].concat();
                assert_eq!(client.post(path, body).unwrap().status, 404, "{path}");
            }
        }
        let forged = signed_with(OTHER, now() + 600, push("forged"));
        let late = signed_with(KEY, now() - 3600, push("late"));
        let form = "event_type=1&stream_id=a";
        for body in [forged.as_str(), &late, form, &signed(push("cut"))[1..]] {
            assert_eq!(client.post("/ccs", body).unwrap().status, 404);
        }
        let items = wait_for_listed(&server, 16);
        assert_eq!(server.metric(MISROUTED), 16.0);
        assert_eq!(server.metric(OF_CSS), 12.0);
        for (at, item) in items.iter().enumerate() {
            assert_eq!(
                (&item["source"], &item["reason"]),
                (&json!("unknown"), &json!("misrouted"))
            );
            let kind = if at < 14 { "stream-begin" } else { "unknown" };
            assert_eq!(item["kind"], kind, "{item}");
            assert!(
                item["body"].is_string() && item["client"] == "127.0.0.1",
                "{item}"
            );
        }
        let logged = wait_for("the log", || {
            Some(lines(&server, "authentic callbacks arrive at a URL"))
                .filter(|lines| !lines.is_empty())
        });
        assert_eq!(logged.len(), 1, "once a minute: {logged:?}");
        for part in [
            "WARN",
            "http.path=\"/CSS/stream-begin\"",
            "url.nearest=\"/css/stream-begin\"",
            "callback.source=\"css\"",
        ] {
            assert!(logged[0].contains(part), "{part} in {logged:?}");
        }

        assert_eq!(recheck(&server, json!({ "dry_run": true })), 6);
        assert!(server.events().is_empty());
        assert_eq!(recheck(&server, json!({ "source": "css" })), 6);
        assert_eq!(recheck(&server, json!({})), 0);
        let events = server.events();
        let streams: BTreeSet<&str> = events
            .iter()
            .map(|event| {
                assert_eq!(event["type"], "css.stream-begin");
                assert_eq!(event["source"], "/css");
                event["streamid"].as_str().unwrap()
            })
            .collect();
        assert_eq!(streams, BTreeSet::from(WRONG));
        let times: Vec<&Value> = items.iter().map(|item| &item["receivedtime"]).collect();
        assert!(
            events
                .iter()
                .all(|event| times.contains(&&event["receivedtime"]))
        );
        let left = listed(&server);
        let left: Vec<&str> = left
            .iter()
            .map(|item| item["body"].as_str().unwrap())
            .collect();
        assert_eq!(left[..3], [&forged, &late, form]);
        assert_eq!(left.len(), 4);
    }
}

#[test]
fn only_what_one_source_claims_by_its_key_or_token_is_taken() {
    let server = TestServer::start(&Settings {
        sources: format!(
            "[sources.one]\nkeys = [\"{KEY}\"]\n\
             [sources.two]\nkeys = [\"{KEY}\", \"{OTHER}\"]\n\
             [sources.hush]\nkeys = [\"{OTHER}x\"]\ntoken = \"TheToken\"\n\
             [sources.keyless]\ntoken = \"AnotherToken\"\n\
             [sources.elsewhere]\nkeys = [\"{OTHER}y\"]\nallow_from = [\"203.0.113.9\"]\n\
             [sources.open]\nallow_unsigned = true\n"
        ),
        ..Settings::default()
    });
    let other =
        |end: &str, stream: &str| signed_with(&format!("{OTHER}{end}"), now() + 600, push(stream));
    let relay = json!({ "event_type": 314, "stream_id": "relayed" }).to_string();
    for (path, body) in [
        ("/bad", signed(push("of two"))),
        ("/bad", other("", "of the second")),
        ("/bad", other("x", "without token")),
        ("/bad?token=AnotherToken", other("x", "with another token")),
        ("/bad?token=TheToken", other("x", "with key and token")),
        ("/bad?token=TheToken", other("z", "with the token alone")),
        ("/bad?token=TheToken", relay),
        ("/bad", other("y", "from elsewhere")),
        ("/bad", push("of the open one").to_string()),
        (
            "/bad/Stream-End",
            signed_with(OTHER, now() + 600, json!({ "stream_id": "of a URL" })),
        ),
    ] {
        assert_eq!(server.post(path, body).status, 404);
    }
    wait_for_listed(&server, 10);
    for (source, count) in [("one", 0), ("open", 0), ("elsewhere", 0), ("hush", 2)] {
        assert_eq!(
            recheck(&server, json!({ "source": source })),
            count,
            "{source}"
        );
    }
    assert_eq!(recheck(&server, json!({})), 3);
    let taken: BTreeSet<(String, String, String)> = server
        .events()
        .iter()
        .map(|event| {
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            (text("source"), text("type"), text("streamid"))
        })
        .collect();
    let expected = [
        ("/hush", "css.relay", "relayed"),
        ("/hush", "css.stream-begin", "with key and token"),
        ("/keyless", "css.stream-begin", "with another token"),
        ("/two", "css.stream-begin", "of the second"),
        ("/two", "css.stream-end", "of a URL"),
    ];
    let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(taken, BTreeSet::from(expected));
    let of =
        |source: &str| server.metric(&format!("livehook_misrouted_total{{source=\"{source}\"}}"));
    let counted = ["one", "two", "hush", "keyless", "elsewhere", "open"].map(of);
    assert_eq!(counted, [1.0, 3.0, 2.0, 1.0, 0.0, 0.0]);
}

#[test]
fn requests_of_scanners_are_not_listed() {
    let server = TestServer::start(&Settings {
        sources: format!(
            "[log]\nlevel = \"debug\"\n[sources.css]\nkeys = [\"{KEY}\"]\ntoken = \"TheToken\"\n"
        ),
        ..Settings::default()
    });
    let mut client = server.client();
    for path in [
        "/",
        "/wp-login.php",
        "/.env",
        "/css/streambegin",
        "/cgi-bin/%2e%2e/x",
    ] {
        for method in ["GET", "HEAD", "PUT", "OPTIONS", "PROPFIND"] {
            if method != "HEAD" {
                let answer = client.request(method, path, &[], None).unwrap();
                assert!([404, 405].contains(&answer.status), "{method} {path}");
            }
        }
        for body in [None, Some(&b""[..]), Some(b" \r\n"), Some(BOM)] {
            let answer = client.request("POST", path, &[], body).unwrap();
            assert_eq!(answer.status, 404, "{path}");
        }
    }
    let secret = "/css%3Ftoken=TheToken/%22%0aWARN";
    assert_eq!(client.post(secret, "a=b").unwrap().status, 404);
    wait_for_listed(&server, 1);
    assert_eq!(server.metric(OF_CSS), 0.0);
    assert!(
        server.get("/api/retry-windows").json()["items"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let logged = wait_for("the log", || {
        lines(&server, "unsigned requests arrive at a URL").pop()
    });
    assert!(
        logged.contains("DEBUG") && logged.contains("token=***"),
        "{logged}"
    );
    let log = server.log();
    assert!(!log.contains("TheToken"), "{log}");
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");
}

#[test]
fn bodies_at_unknown_urls_count_towards_the_limits() {
    let server = TestServer::start(&Settings {
        server: "drain_delay = \"0s\"\nmax_body = \"128KiB\"".into(),
        ..Settings::default()
    });
    let sized = |size: usize| {
        let mut body = push("long");
        body["fill"] = "x".repeat(size).into();
        signed(body)
    };
    assert_eq!(server.post("/ccs", sized(200_000)).status, 404);
    let mut stalled = TcpStream::connect(server.addr).unwrap();
    let patience = Some(std::time::Duration::from_secs(60));
    stalled.set_read_timeout(patience).unwrap();
    let head = "POST /ccs HTTP/1.1\r\nhost: a\r\ncontent-length: 900\r\n\r\n{";
    stalled.write_all(head.as_bytes()).unwrap();
    let answer = crate::support::client::read_answer(&mut std::io::BufReader::new(stalled));
    assert_eq!(answer.unwrap().status, 404);
    assert_eq!(server.metric(MISROUTED), 2.0);
    assert_eq!(server.post("/ccs", sized(100_000)).status, 404);
    let item = wait_for_listed(&server, 1).remove(0);
    assert!(
        item["body"].is_null() && item["size"].as_u64() > Some(100_000),
        "{item}"
    );
    assert_eq!(recheck(&server, json!({})), 0);
}

#[test]
fn wrong_bodies_at_right_urls_are_logged_once_a_minute() {
    let server = TestServer::start(&Settings {
        server: "drain_delay = \"0s\"\nmax_body = \"4KiB\"".into(),
        ..Settings::default()
    });
    let cut = &signed(push("secret-room"))[..40];
    for _ in 0..3 {
        for body in ["event_type=1&stream_id=secret-room", cut] {
            assert_eq!(server.post("/css/stream-begin", body).status, 400);
        }
        assert_eq!(server.post("/css", "x".repeat(5000)).status, 413);
    }
    let logged = wait_for("the log", || {
        Some(lines(&server, "requests to this source are invalid")).filter(|lines| lines.len() == 2)
    });
    assert!(
        logged[0].contains("WARN") && logged[0].contains("url.kind=\"stream-begin\""),
        "{logged:?}"
    );
    assert!(
        logged[0].contains("requests to this source are invalid: the body is not one JSON object")
    );
    assert!(logged[1].contains("requests to this source are invalid: the body is too long"));
    assert!(!server.log().contains("secret-room"));
    let invalid = "livehook_callbacks_total{source=\"css\",kind=\"unknown\",result=\"invalid\"}";
    assert_eq!(server.metric(invalid), 9.0);
    assert_eq!(server.metric(MISROUTED), 0.0);
    assert!(
        !server
            .log()
            .contains(&sign(KEY, &(now() + 600).to_string()))
    );
}

#[test]
fn what_is_no_http_is_counted_and_logged() {
    let server = TestServer::start(&Settings::default());
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice();
    for (at, begin) in [
        hello,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PROXY TCP4 203.0.113.9 203.0.113.1 1234 8080\r\nPOST /css HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c",
    ]
    .into_iter()
    .enumerate()
    {
        let mut connection = TcpStream::connect(server.addr).unwrap();
        connection.write_all(begin).unwrap();
        // Some requests look incomplete until the client closes.
        connection.shutdown(std::net::Shutdown::Write).unwrap();
        wait_for("the counter", || {
            let counted = server.metric("livehook_unreadable_requests_total");
            (counted == at as f64 + 1.0).then_some(())
        });
    }
    assert_eq!(server.post("/css", signed(push("a"))).status, 200);
    assert_eq!(
        lines(&server, "received something that is not HTTP/1.1").len(),
        1
    );
    assert_eq!(server.metric("livehook_unreadable_requests_total"), 4.0);
}

#[test]
fn a_client_that_wants_tls_is_counted_also_if_it_resets_the_connection() {
    let server = TestServer::start(&Settings::default());
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let config = Arc::new(config);
    for count in 1..=3 {
        let name = "localhost".try_into().unwrap();
        let mut tls = ClientConnection::new(config.clone(), name).unwrap();
        let mut connection = TcpStream::connect(server.addr).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        // Dropping it sends no TLS close message.
        set_socket_linger(&connection, Some(Duration::ZERO)).unwrap();
        let refused = tls.complete_io(&mut connection).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData, "{refused}");
        drop(connection);
        wait_for("the counter", || {
            let counted = server.metric("livehook_unreadable_requests_total");
            (counted == f64::from(count)).then_some(())
        });
    }
    assert_eq!(
        lines(&server, "received something that is not HTTP/1.1").len(),
        1
    );
}
