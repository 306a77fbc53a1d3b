//! The admin listener from outside: who may use it, lists and their filters, parked deliveries,
//! replay and discard.

mod deletion;
mod event_stream;
mod events;
mod openapi;
mod rejected;
mod retry_windows;
mod wrong_tokens;

use serde_json::json;

use crate::support::server::FILE_HANDLER;
use crate::support::{
    Answer, Client, KEY, Settings, TestServer, now, signed, signed_with, wait_for,
};

#[track_caller]
fn assert_error(answer: &Answer, status: u16, part: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    assert_eq!(body["code"], status);
    assert!(
        body["message"].as_str().unwrap().contains(part),
        "{part} in {body}"
    );
    assert_eq!(body.as_object().unwrap().len(), 2);
}

fn two_sources() -> String {
    format!("[sources.css]\nkeys = [\"{KEY}\"]\n[sources.other]\nkeys = [\"{KEY}\"]\n")
}

/// Pages that need authorization, with their methods.
const PAGES: [(&str, &str); 18] = [
    ("GET", "/metrics"),
    ("GET", "/api/events"),
    ("DELETE", "/api/events?stream=room-7"),
    ("GET", "/api/events/stream?colour=red"),
    ("GET", "/api/events/00000000000000000000000000000000"),
    ("GET", "/api/events/00000000000000000000000000000000/body"),
    (
        "GET",
        "/api/events/00000000000000000000000000000000/deliveries",
    ),
    ("GET", "/api/handlers"),
    ("GET", "/api/handlers/file/parked"),
    ("POST", "/api/handlers/file/replay"),
    ("POST", "/api/handlers/file/discard"),
    ("POST", "/api/handlers/file/pause"),
    ("POST", "/api/handlers/file/resume"),
    ("GET", "/api/retry-windows"),
    ("GET", "/api/openapi.json"),
    ("GET", "/api/rejected"),
    ("POST", "/api/rejected/recheck"),
    ("GET", "/no/such/page"),
];

#[test]
fn with_a_token_every_page_wants_it() {
    let server = TestServer::start(&Settings {
        admin: "token = \"AdminTokenItself\"".into(),
        ..Settings::with_handlers(FILE_HANDLER)
    });
    let mut client = Client::new(server.admin);
    let mut ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        client.request(method, path, headers, Some(b"{}")).unwrap()
    };
    for (method, path) in PAGES {
        for value in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Basic AdminTokenItself"),
            Some("AdminTokenItself"),
        ] {
            let headers: Vec<_> = value
                .map(|value| ("authorization", value))
                .into_iter()
                .collect();
            let answer = ask(method, path, &headers);
            assert_error(&answer, 401, "token");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        let sign = if path.contains('?') { '&' } else { '?' };
        assert_error(
            &ask(method, &format!("{path}{sign}token=AdminTokenItself"), &[]),
            401,
            "token",
        );
        for value in ["Bearer AdminTokenItself", "bearer AdminTokenItself"] {
            let headers = [("authorization", value), ("host", "livehook.example.com")];
            assert_ne!(ask(method, path, &headers).status, 401, "{path}");
            assert_ne!(ask(method, path, &headers).status, 403, "{path}");
        }
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask("GET", path, &[]).text(), "{\"code\":0}");
    }
    assert!(!server.log().contains("AdminTokenItself"));
}

#[test]
fn without_a_token_the_host_must_be_this_machine() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let mut client = Client::new(server.admin);
    for (method, path) in PAGES {
        let mut ask =
            |headers: &[(&str, &str)]| client.request(method, path, headers, Some(b"{}")).unwrap();
        for host in [
            "evil.example.com",
            "localhost.example.com:9090",
            "10.0.0.1",
            "",
        ] {
            assert_error(&ask(&[("host", host)]), 403, "Host");
        }
        for host in ["localhost", "LocalHost:9090", "127.0.0.1", "[::1]:9090"] {
            assert_ne!(ask(&[("host", host)]).status, 403, "{host}");
        }
        let own = [
            ("host", "localhost:9090"),
            ("origin", "http://localhost:9090"),
        ];
        assert_ne!(ask(&own).status, 403);
        for origin in ["https://evil.example.com", "null", "http://localhost:9091"] {
            assert_error(
                &ask(&[("host", "localhost:9090"), ("origin", origin)]),
                403,
                "other sites",
            );
        }
    }
}

#[test]
fn pages_of_other_sites_get_nothing_but_a_link_to_the_console() {
    let token = "token = \"AdminTokenItself\"";
    for admin in ["", token] {
        let server = TestServer::start(&Settings {
            admin: admin.into(),
            ..Settings::with_handlers(FILE_HANDLER)
        });
        let mut client = Client::new(server.admin);
        let mut ask = |method: &str, path: &str, site: &str, mode: &str, dest: &str| {
            let mut headers = vec![("authorization", "Bearer AdminTokenItself")];
            let fetch = [
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", dest),
            ];
            headers.extend(fetch.into_iter().filter(|(_, value)| !value.is_empty()));
            client.request(method, path, &headers, Some(b"{}")).unwrap()
        };
        let more = [
            ("GET", "/"),
            ("GET", "/console/app.js"),
            ("GET", "/healthz"),
            ("GET", "/readyz"),
            ("POST", "/login"),
            ("POST", "/logout"),
        ];
        for (method, path) in PAGES.into_iter().chain(more) {
            for site in ["cross-site", "same-site"] {
                for (mode, dest) in [
                    ("", ""),
                    ("cors", "empty"),
                    ("no-cors", "script"),
                    ("navigate", "iframe"),
                ] {
                    let answer = ask(method, path, site, mode, dest);
                    assert_error(&answer, 403, "other sites");
                }
                if path != "/" {
                    let answer = ask(method, path, site, "navigate", "document");
                    assert_error(&answer, 403, "other sites");
                }
            }
            for site in ["", "same-origin", "none"] {
                assert_ne!(ask(method, path, site, "", "").status, 403, "{path}");
            }
        }
        for site in ["cross-site", "same-site"] {
            let link = ask("GET", "/", site, "navigate", "document");
            assert_eq!(link.status, 200);
            assert!(link.text().starts_with("<!"), "{}", link.text());
            let form = ask("POST", "/", site, "navigate", "document");
            assert_error(&form, 403, "other sites");
        }
    }
}

#[test]
fn unknown_pages_and_methods_are_answered_in_json() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let mut client = Client::new(server.admin);
    let mut ask = |method: &str, path: &str, body: &[u8]| {
        client.request(method, path, &[], Some(body)).unwrap()
    };
    for path in [
        "/api",
        "/api/",
        "/api/event",
        "/api/handlers/file",
        "/css/stream-begin",
    ] {
        assert_error(&ask("GET", path, b""), 404, "no such page");
    }
    assert_error(&ask("DELETE", "/api/handlers", b""), 405, "method");
    assert_error(&ask("GET", "/api/handlers/file/replay", b""), 405, "method");
    for path in [
        "/api/events/xyz",
        "/api/events/00000000000000000000000000000000",
    ] {
        assert_error(&ask("GET", path, b""), 404, "no such event");
    }
    assert_error(
        &ask("GET", "/api/handlers/nobody/parked", b""),
        404,
        "no such handler",
    );
    for path in ["/api/events/%FF", "/api/handlers/%FF/parked"] {
        assert_error(&ask("GET", path, b""), 400, "the path");
    }
    for what in ["replay", "discard"] {
        assert_error(
            &ask(
                "POST",
                &format!("/api/handlers/nobody/{what}"),
                br#"{"parked":true}"#,
            ),
            404,
            "no such handler",
        );
    }
    let huge = vec![b' '; 3_000_000];
    assert_eq!(
        Client::new(server.admin)
            .post("/api/handlers/file/replay", huge)
            .unwrap()
            .json()["code"],
        413
    );
}

#[test]
fn the_metrics_have_their_names_and_no_text_of_requests() {
    let server = TestServer::start(&Settings {
        sources: two_sources(),
        ..Settings::with_handlers(&format!(
            "{FILE_HANDLER}[handlers.rejects]\nto = {{ type = \"exec\", command = [\"sh\", \"-c\", \"exit 65\"] }}\n\
             [handlers.fails]\nretry = {{ initial = \"1h\", max = \"1h\" }}\nto = {{ type = \"exec\", command = [\"false\"] }}\n"
        ))
    });
    let mut client = server.client();
    let good = signed(
        json!({ "event_type": 1, "stream_id": "Stranger", "app": "Stranger", "sequence": "Stranger" }),
    );
    for _ in 0..2 {
        assert_eq!(
            client
                .post("/css/stream-end?Stranger=Stranger", &good)
                .unwrap()
                .status,
            200
        );
    }
    assert_eq!(
        client.post("/Stranger/Stranger", &good).unwrap().status,
        404
    );
    assert_eq!(client.post("/Stranger", &good).unwrap().status, 404);
    assert_eq!(
        client.post("/css/stream-begin", "Stranger").unwrap().status,
        400
    );
    let late = signed_with(KEY, now() - 3600, json!({ "event_type": 314 }));
    assert_eq!(client.post("/css/relay", late).unwrap().status, 401);
    for series in [
        "livehook_callbacks_total{source=\"css\",kind=\"stream-begin\",result=\"accepted\"} 1",
        "livehook_callbacks_total{source=\"css\",kind=\"stream-begin\",result=\"duplicate\"} 1",
        "livehook_callbacks_total{source=\"css\",kind=\"unknown\",result=\"refused\"} 1",
        "livehook_callbacks_total{source=\"css\",kind=\"unknown\",result=\"invalid\"} 1",
        "livehook_deliveries_total{handler=\"file\",outcome=\"done\"} 1",
        "livehook_deliveries_total{handler=\"rejects\",outcome=\"parked\"} 1",
        "livehook_deliveries_total{handler=\"fails\",outcome=\"retry\"} 1",
        "livehook_delivery_duration_seconds_count{handler=\"file\"} 1",
        "livehook_handler_lag_events{handler=\"file\"} 0",
        "livehook_handler_lag_events{handler=\"fails\"} 1",
        "livehook_handler_lag_seconds{handler=\"fails\"} ",
        "livehook_parked{handler=\"rejects\"} 1",
        "livehook_parked{handler=\"file\"} 0",
        "livehook_callback_duration_seconds_count ",
        "livehook_commit_duration_seconds_count ",
        "livehook_commit_batch_size_sum ",
        "livehook_retry_window_remaining_seconds{source=\"css\"} ",
        "livehook_clock_offset_seconds{source=\"css\"} ",
        "livehook_inbox_bytes ",
    ] {
        wait_for(series, || {
            Some(()).filter(|()| {
                server
                    .get("/metrics")
                    .text()
                    .lines()
                    .any(|line| line.starts_with(series))
            })
        });
    }
    let metrics = server.get("/metrics").text();
    assert!(!metrics.contains("Stranger"), "{metrics}");
    let relay = signed(json!({ "event_type": 314 }));
    assert_eq!(client.post("/css/relay", relay).unwrap().status, 200);
    let metrics = server.get("/metrics").text();
    assert!(
        !metrics.contains("livehook_retry_window_remaining_seconds{"),
        "only while something is failing"
    );
}

#[test]
fn metrics_come_in_the_format_that_is_asked_for() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let mut client = Client::new(server.admin);
    let mut ask = |accept: &str| {
        let headers = [("accept", accept)];
        let answer = client.request("GET", "/metrics", &headers, None).unwrap();
        assert_eq!(answer.status, 200);
        (
            answer.header("content-type").unwrap().to_owned(),
            answer.text(),
        )
    };
    let (kind, text) = ask("*/*");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.contains("# TYPE livehook_callbacks_total counter\n") && !text.contains("# EOF"));
    // Counters exist before anything is counted.
    for series in [
        "livehook_callbacks_total{source=\"css\",kind=\"record\",result=\"failed\"} 0\n",
        "livehook_callbacks_total{source=\"css\",kind=\"unknown\",result=\"refused\"} 0\n",
        "livehook_deliveries_total{handler=\"file\",outcome=\"parked\"} 0\n",
        "livehook_forgeries_total{source=\"css\",reason=\"signature\"} 0\n",
        "livehook_mixed_up_urls_total{source=\"css\",url=\"stream-mix\"} 0\n",
        "livehook_source_deaf{source=\"css\"} 0\n",
    ] {
        assert!(text.contains(series), "{series} in {text}");
    }
    // The header that Prometheus sends.
    let (kind, text) = ask(
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
         text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    );
    assert_eq!(
        kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(text.contains("# TYPE livehook_callbacks counter\n") && text.ends_with("# EOF\n"));
}

#[test]
fn handlers_are_a_list_like_the_others() {
    let server = TestServer::start(&Settings::with_handlers(
        "[handlers.a]\nto = { type = \"log\" }\n[handlers.b]\nto = { type = \"log\" }\n[handlers.c]\nto = { type = \"log\" }\n",
    ));
    let list = |query: &str| {
        let page = server.get(&format!("/api/handlers{query}")).json();
        let names = page["items"].as_array().unwrap().iter();
        let names: String = names.map(|item| item["name"].as_str().unwrap()).collect();
        (names, page["next"].as_str().map(str::to_owned))
    };
    let (first, next) = list("?limit=2");
    assert_eq!(first, "ab");
    assert_eq!(
        list(&format!("?limit=2&after={}", next.unwrap())),
        ("c".to_owned(), None)
    );
    assert_eq!(list("?handler=b").0, "b");
    assert_eq!(list("?state=running").0, "abc");
    assert_eq!(list("?state=failing").0, "");
    assert_error(&server.get("/api/handlers?state=asleep"), 400, "state");
    assert_error(&server.get("/api/handlers?limit=0"), 400, "limit");
    assert_error(&server.get("/api/handlers?kind=relay"), 400, "kind");
}

#[test]
fn a_command_is_an_object() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let mut client = Client::new(server.admin);
    for body in ["", "[null,true,null,null,false]", "true"] {
        let answer = client.post("/api/handlers/file/replay", body).unwrap();
        assert_error(&answer, 400, "must be a JSON object");
    }
}

#[test]
fn a_handler_is_paused_and_resumed() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let state = || server.get("/api/handlers").json()["items"][0]["state"].clone();
    let ask = |what: &str| server.command(&format!("/api/handlers/file/{what}"), &json!({}));
    let answer = ask("pause");
    assert_eq!(
        (answer.status, answer.text()),
        (200, r#"{"state":"paused"}"#.into())
    );
    assert_eq!(state(), "paused");
    let paused = server.get("/api/handlers?state=paused").json();
    assert_eq!(paused["items"].as_array().unwrap().len(), 1);
    let body = signed(json!({ "event_type": 1, "stream_id": "room-7" }));
    assert_eq!(server.post("/css", body).status, 200);
    assert_eq!(
        server.get("/api/handlers").json()["items"][0]["lag_events"],
        1
    );
    assert!(crate::support::json_lines(&server.path().join("events.jsonl")).is_empty());

    let answer = ask("resume");
    assert_eq!(
        (answer.status, answer.text()),
        (200, r#"{"state":"running"}"#.into())
    );
    wait_for("the event", || {
        let lines = crate::support::json_lines(&server.path().join("events.jsonl"));
        (lines.len() == 1).then_some(())
    });
    assert_eq!(state(), "running");
    let nobody = server.command("/api/handlers/nobody/pause", &json!({}));
    assert_error(&nobody, 404, "handler");
    let fields = server.command("/api/handlers/file/pause", &json!({ "for": "1h" }));
    assert_error(&fields, 400, "no fields");
    assert_eq!(server.get("/api/handlers/file/pause").status, 405);
}

#[test]
fn what_is_not_taken_now_is_listed_until_it_is_taken() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let windows = || server.get("/api/retry-windows").json()["items"].clone();
    assert_eq!(windows(), json!([]));
    assert_error(&server.get("/api/retry-windows?kind=relay"), 400, "`kind`");
    for (kind, path) in [(1, "/css/stream-begin"), (200, "/css/snapshot")] {
        let body = json!({ "event_type": kind });
        let body = crate::support::signed_with("Forged", crate::support::now() + 600, body);
        assert_eq!(server.post(path, body).status, 401);
    }
    let items = windows();
    let window = |at: usize| {
        let item = &items[at];
        assert_eq!(
            (&item["source"], &item["result"]),
            (&json!("css"), &json!("refused"))
        );
        assert_eq!(item["since"], item["last"]);
        let (all, left) = (&item["window_seconds"], &item["remaining_seconds"]);
        assert!(all.as_u64().unwrap() - left.as_u64().unwrap() < 5, "{item}");
        (
            item["kind"].as_str().unwrap().to_owned(),
            all.as_u64().unwrap(),
        )
    };
    assert_eq!(items.as_array().unwrap().len(), 2);
    assert_eq!(
        (window(0), window(1)),
        (("stream-begin".into(), 720), ("snapshot".into(), 600))
    );
    assert_eq!(
        server
            .post("/css", signed(json!({ "event_type": 1 })))
            .status,
        200
    );
    assert_eq!(windows().as_array().unwrap().len(), 1);
    assert_eq!(
        server
            .post("/css", signed(json!({ "event_type": 200 })))
            .status,
        200
    );
    assert_eq!(windows(), json!([]));
}
