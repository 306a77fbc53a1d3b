//! Events listed, filtered and shown.

use serde_json::{Value, json};

use super::{assert_error, two_sources};
use crate::support::server::{FILE_HANDLER, both_engines};
use crate::support::{Client, Settings, TestServer, json_lines, signed, wait_for};

fn post(server: &TestServer, client: &mut Client, source: &str, body: Value) {
    let answer = client.post(&format!("/{source}"), signed(body)).unwrap();
    assert_eq!(answer.status, 200, "{}", server.log());
}

#[test]
fn events_are_listed_by_every_filter_and_page_by_page() {
    let server = TestServer::start(&Settings {
        sources: two_sources(),
        ..Settings::default()
    });
    let mut client = server.client();
    for number in 0..250 {
        let body = json!({
            "event_type": number % 2, "app": format!("d{}", number % 5), "appname": format!("app{}", number % 3),
            "stream_id": format!("s{}", number % 10), "number": number
        });
        post(
            &server,
            &mut client,
            if number % 25 == 0 { "other" } else { "css" },
            body,
        );
    }
    let numbers = |items: &[Value]| -> Vec<i64> {
        let mut admin = Client::new(server.admin);
        let number = |item: &Value| {
            assert_eq!(item.get("data"), None, "a list has attributes only");
            let one = admin
                .get(&format!("/api/events/{}", item["id"].as_str().unwrap()))
                .unwrap()
                .json();
            one["data"]["number"].as_i64().unwrap()
        };
        items.iter().map(number).collect()
    };
    let list = |query: &str| -> (Vec<Value>, Option<String>) {
        let page = server.get(&format!("/api/events{query}"));
        assert_eq!(page.status, 200, "{query}: {}", page.text());
        let page = page.json();
        assert_eq!(page.as_object().unwrap().len(), 2);
        (
            page["items"].as_array().unwrap().clone(),
            page["next"].as_str().map(str::to_owned),
        )
    };
    // Pages of the default size.
    let (mut all, mut next) = list("");
    assert_eq!(all.len(), 100);
    while let Some(after) = next {
        let (more, then) = list(&format!("?after={after}"));
        all.extend(more);
        next = then;
    }
    assert_eq!(numbers(&all), (0..250).collect::<Vec<_>>());
    let (newest, next) = list("?order=newest&limit=7");
    assert_eq!(numbers(&newest), (243..250).rev().collect::<Vec<_>>());
    let (then, _) = list(&format!("?order=newest&limit=3&after={}", next.unwrap()));
    assert_eq!(numbers(&then), [242, 241, 240]);
    assert_eq!(list("?limit=250").1, None, "nothing is behind the last one");
    assert_eq!(list("?limit=1000").0.len(), 250);

    let count = |query: &str| {
        let (mut items, mut next) = list(&format!("?limit=60&{query}"));
        while let Some(after) = next {
            let (more, then) = list(&format!("?limit=60&{query}&after={after}"));
            items.extend(more);
            next = then;
        }
        items.len()
    };
    for (query, expected) in [
        ("kind=stream-end", 125),
        ("kind=record", 0),
        ("source=other", 10),
        ("source=css", 240),
        ("source=nobody", 0),
        ("domain=d3", 50),
        ("stream=s4", 25),
        ("stream=app1/s4", 9),
        ("stream=app1%2Fs4", 9),
        ("stream=s", 0),
        ("kind=stream-begin&domain=d1&stream=s1", 25),
        ("kind=stream-begin&stream=s2", 0),
        ("from=2020-01-01T00:00:00Z", 250),
        ("to=2020-01-01T00:00:00Z", 0),
        (
            "from=2020-01-01T08:00:00%2B08:00&to=2100-01-01T00:00:00.5Z",
            250,
        ),
        ("from=2100-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(count(query), expected, "{query}");
    }
    // from ≤ receivedtime < to
    let times: Vec<&str> = all
        .iter()
        .map(|item| item["receivedtime"].as_str().unwrap())
        .collect();
    let (from, to) = (times[50], times[200]);
    let within = times
        .iter()
        .filter(|time| (from..to).contains(*time))
        .count();
    assert_eq!(count(&format!("from={from}&to={to}")), within);
    assert_eq!(
        list("?order=newest&limit=1000&from=2020-01-01T00:00:00Z")
            .0
            .len(),
        250
    );
}

#[test]
fn a_filter_that_is_not_understood_is_named() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    for (query, name) in [
        ("kind=push", "kind"),
        ("kind=", "kind"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=many", "limit"),
        ("limit=", "limit"),
        ("after=x", "after"),
        ("after=-1", "after"),
        ("after=99999999999999999999", "after"),
        ("from=yesterday", "from"),
        ("from=2026-11-23", "from"),
        ("to=1795420800", "to"),
        ("order=random", "order"),
        ("colour=red", "colour"),
        ("kind=relay&kind=record", "kind"),
        ("Kind=relay", "Kind"),
    ] {
        assert_error(
            &server.get(&format!("/api/events?{query}")),
            400,
            &format!("`{name}`"),
        );
    }
    for query in ["limit=0", "after=x", "kind=nonsense", "colour=red"] {
        assert_error(
            &server.get(&format!("/api/handlers/file/parked?{query}")),
            400,
            query.split('=').next().unwrap(),
        );
    }
    assert_error(&server.get("/api/handlers?colour=red"), 400, "colour");
    assert_error(
        &server.get("/api/events/00000000000000000000000000000000?colour=red"),
        400,
        "colour",
    );
}

#[test]
fn an_event_is_shown_whole_by_its_id() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let body = signed(
        json!({ "event_type": 1, "app": "d", "appname": "live", "stream_id": "room-7", "event_time": 1795420800 }),
    );
    assert_eq!(server.post("/css", &body).status, 200);
    let id = server.events()[0]["id"].as_str().unwrap().to_owned();
    let answer = server.get(&format!("/api/events/{id}"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.text().ends_with(&format!(",\"data\":{body}}}")));
    let lines = wait_for("the line", || {
        Some(json_lines(&server.path().join("events.jsonl"))).filter(|lines| lines.len() == 1)
    });
    assert_eq!(answer.json(), lines[0]);
    assert_eq!(
        server
            .get(&format!("/api/events/{}", id.to_uppercase()))
            .status,
        200
    );
}

#[test]
fn an_event_is_shown_typed_and_byte_for_byte() {
    let server = TestServer::start(&Settings::default());
    let body = crate::support::signed_raw(
        b"\"event_type\" : 1 , \"sequence\":\"7\",\n\"width\":\"1280\",\"note\":\"\\u0041\"",
    );
    assert_eq!(server.post("/css", &body).status, 200);
    let id = server.events()[0]["id"].as_str().unwrap().to_owned();
    let raw = server.get(&format!("/api/events/{id}/body"));
    assert_eq!((raw.status, raw.body.as_slice()), (200, body.as_slice()));
    assert_eq!(raw.header("content-type"), Some("application/octet-stream"));
    let form = |payload: &str| server.get(&format!("/api/events/{id}?payload={payload}"));
    assert_eq!(form("original").json()["data"]["width"], "1280");
    assert_eq!(form("typed").json()["data"]["width"], 1280);
    assert_error(&form("both"), 400, "`payload`");
    for page in ["body", "deliveries"] {
        let of = |id: &str, query: &str| server.get(&format!("/api/events/{id}/{page}{query}"));
        assert_error(
            &of("00000000000000000000000000000000", ""),
            404,
            "no such event",
        );
        assert_error(&of("x", ""), 404, "no such event");
        assert_error(&of(&id, "?colour=red"), 400, "`colour`");
    }
}

#[test]
fn the_deliveries_of_an_event_name_each_handler() {
    for inbox in both_engines() {
        let exec = |command: &str| {
            format!("to = {{ type = \"exec\", command = [\"sh\", \"-c\", \"{command}\"] }}\n")
        };
        let server = TestServer::start(&Settings {
            inbox,
            ..Settings::with_handlers(&format!(
                "{FILE_HANDLER}[handlers.other]\nkinds = [\"record\"]\n{}[handlers.rejects]\n{}\
                 [handlers.fails]\nretry = {{ initial = \"1h\", max = \"1h\" }}\n{}[handlers.stands]\n{}",
                exec("exit 0"),
                exec("exit 65"),
                exec("exit 1"),
                exec("exit 0")
            ))
        });
        assert_eq!(
            server
                .command("/api/handlers/stands/pause", &json!({}))
                .status,
            200
        );
        for sequence in ["1", "2"] {
            let body = json!({ "event_type": 1, "stream_id": "room-7", "sequence": sequence });
            assert_eq!(server.post("/css", signed(body)).status, 200);
        }
        let items = |event: usize| {
            let id = server.events()[event]["id"].as_str().unwrap().to_owned();
            server.get(&format!("/api/events/{id}/deliveries")).json()["items"].clone()
        };
        let states = |event: usize| {
            let items = items(event);
            let items = items.as_array().unwrap().iter();
            items
                .map(|item| {
                    format!(
                        "{} {}",
                        item["handler"].as_str().unwrap(),
                        item["state"].as_str().unwrap()
                    )
                })
                .collect::<Vec<_>>()
        };
        let expected = [
            "fails retrying",
            "file done",
            "other not wanted",
            "rejects parked",
            "stands ahead",
        ];
        wait_for("the first", || (states(0) == expected).then_some(()));
        let waiting = "fails waiting";
        wait_for("the second", || (states(1)[0] == waiting).then_some(()));
        let failing = &items(0)[0];
        assert_eq!(failing["attempts"], 1);
        assert!(failing["error"] == "exit code 1", "{failing}");
        assert!(
            failing["due"].is_string() && failing["first_attempt"].is_string(),
            "{failing}"
        );
        assert_eq!(failing["parked_at"], Value::Null);
        let parked = &items(0)[3];
        assert!(
            parked["parked_at"].is_string() && parked["due"].is_null(),
            "{parked}"
        );
        assert_eq!(items(0)[1]["attempts"], Value::Null);
    }
}
