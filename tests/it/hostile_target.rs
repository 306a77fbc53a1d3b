//! Failing targets: nothing is lost, other streams do not wait, and targets are not flooded with
//! requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::server::FILE_HANDLER;
use crate::support::target::{Hit, Reply, Target, number_in_stream, reserve};
use crate::support::{Settings, TestServer, json_lines, signed, wait_for};

/// An `http` handler for this URL with short pauses between retries, and additional options.
fn http_handler(url: &str, more: &str) -> String {
    format!(
        "[handlers.http]\nretry = {{ initial = \"100ms\", max = \"300ms\" }}\n{more}\nto = {{ type = \"http\", url = \"{url}\" }}\n"
    )
}

/// Posts the numbers `from..to` of each of these streams, one stream after the other for each
/// number.
fn post(server: &TestServer, streams: &[&str], numbers: std::ops::Range<u64>) {
    let mut client = server.client();
    for number in numbers {
        for stream in streams {
            let body = signed(json!({
                "event_type": 1, "app": "d", "appname": "live", "stream_id": stream, "number": number,
            }));
            let answer = client.post("/css/stream-begin", body).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{prefix}-{number}"))
        .collect()
}

fn strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// The numbers of each stream in the order in which they were first delivered.
fn delivered(hits: &[Hit]) -> BTreeMap<String, Vec<u64>> {
    let mut streams: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for hit in hits.iter().filter(|hit| hit.status / 100 == 2) {
        let (stream, number) = hit.number_in_stream();
        let numbers = streams.entry(stream).or_default();
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    streams
}

fn parked(server: &TestServer) -> Vec<Value> {
    let page = server.get("/api/handlers/http/parked?limit=1000").json();
    page["items"].as_array().unwrap().clone()
}

#[test]
fn every_kind_of_trouble_delays_parks_or_repeats_but_loses_nothing() {
    let seen: Mutex<HashMap<(String, u64), u32>> = Mutex::default();
    let target = Target::start(move |hit| {
        let (stream, number) = hit.number_in_stream();
        let attempts = {
            let mut seen = seen.lock().unwrap();
            let attempts = seen.entry((stream.clone(), number)).or_default();
            *attempts += 1;
            *attempts
        };
        match (number, attempts) {
            (2, 1 | 2) => Reply::Status(500),
            (4, 1) => Reply::With(429, "retry-after", "1".into()),
            (6, 1) => Reply::Torn,
            (8, 1) => Reply::With(302, "location", "http://127.0.0.1:9/".into()),
            (10, 1) => Reply::After(Duration::from_millis(700), Box::new(Reply::Status(200))),
            (12, _) if stream.ends_with('1') => Reply::Status(422),
            (12, _) if stream.ends_with('2') => Reply::Status(400),
            _ => Reply::Status(204),
        }
    });
    let handlers = http_handler(&target.url(), "timeout = \"300ms\"") + FILE_HANDLER;
    let server = TestServer::start(&Settings::with_handlers(&handlers));
    let streams = names("room", 10);
    post(&server, &strs(&streams), 0..15);
    let began = Instant::now();
    let file = server.path().join("events.jsonl");
    wait_for("the file", || {
        (json_lines(&file).len() >= 150).then_some(())
    });
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "the file waited for the target"
    );

    let complete = |hits: &[Hit]| delivered(hits).values().map(Vec::len).sum::<usize>() >= 148;
    wait_for("the target", || {
        (complete(&target.hits()) && parked(&server).len() == 2).then_some(())
    });
    let logged = server
        .log()
        .matches("a delivery failed and is tried again")
        .count();
    assert_eq!(logged, 1, "once a minute:\n{}", server.log());
    for (stream, numbers) in delivered(&target.hits()) {
        let rejected = stream.ends_with('1') || stream.ends_with('2');
        let expected: Vec<u64> = (0..15)
            .filter(|number| *number != 12 || !rejected)
            .collect();
        // A request that timed out has arrived, but counts only when it is answered in time.
        assert_eq!(numbers, expected, "{stream}");
    }
    let mut errors: Vec<_> = parked(&server)
        .iter()
        .map(|item| {
            (
                item["streamid"].to_string(),
                item["error"].to_string(),
                item["attempts"].as_u64(),
            )
        })
        .collect();
    errors.sort();
    let expected =
        |stream: &str, error: &str| (format!("\"{stream}\""), format!("\"{error}\""), Some(1));
    assert_eq!(
        errors,
        [
            expected("room-1", "HTTP 422"),
            expected("room-2", "HTTP 400")
        ]
    );

    target.change_to(|_| Reply::Status(200));
    let answer = server.command("/api/handlers/http/replay", &json!({ "parked": true }));
    assert_eq!(
        (answer.status, answer.json()["count"].as_u64()),
        (202, Some(2))
    );
    wait_for("the replay", || parked(&server).is_empty().then_some(()));
    assert_eq!(
        delivered(&target.hits())
            .values()
            .map(Vec::len)
            .sum::<usize>(),
        150
    );
}

#[test]
fn a_dead_target_is_probed_and_gets_everything_in_order_later() {
    let address = reserve();
    let target = Target::at(address, |_| Reply::Status(503));
    let server = TestServer::start(&Settings::with_handlers(&http_handler(
        &target.url(),
        "concurrency = 8",
    )));
    let streams = names("room", 20);
    post(&server, &strs(&streams), 0..10);
    wait_for("probes", || (target.count() >= 24).then_some(()));
    // First come as many attempts as run at once, and those that started before four streams had
    // failed. Then come pauses of 150 ms on average.
    let probes = &target.hits()[12..24];
    let lasted = probes[11].began - probes[0].began;
    assert!(lasted > Duration::from_millis(500), "hammered: {lasted:?}");
    let apart = |two: &[Hit]| two[0].ended <= two[1].began;
    assert!(probes.windows(2).all(apart), "one probe at a time");
    let state = || server.get("/api/handlers").json()["items"][0]["state"].clone();
    assert_eq!(state(), "failing");
    // A row that is being written is counted a moment later.
    wait_for("the lag", || {
        (server.get("/api/handlers").json()["items"][0]["lag_events"] == 200).then_some(())
    });

    drop(target); // now nobody even listens
    post(&server, &strs(&streams), 10..12);
    let retries = "livehook_deliveries_total{handler=\"http\",outcome=\"retry\"}";
    let before = server.metric(retries);
    wait_for("refused connections", || {
        (server.metric(retries) > before + 3.0).then_some(())
    });
    let target = Target::at(address, |_| Reply::Status(200));
    wait_for("all", || (target.delivered() >= 240).then_some(()));
    assert!(
        delivered(&target.hits())
            .values()
            .all(|numbers| numbers.iter().copied().eq(0..12))
    );
    assert!(parked(&server).is_empty());
    wait_for("the state", || (state() == "running").then_some(()));
}

#[test]
fn streams_that_are_rejected_do_not_block_others() {
    // More streams than are needed for the target to count as down.
    let target = Target::start(
        |hit| match hit.number_in_stream().0.starts_with("poisoned") {
            true => Reply::Status(500),
            false => Reply::Status(200),
        },
    );
    let server = TestServer::start(&Settings::with_handlers(&http_handler(&target.url(), "")));
    let poisoned = names("poisoned", 6);
    let well = names("well", 5);
    for round in 0..4 {
        post(&server, &strs(&poisoned), round * 5..round * 5 + 5);
        wait_for("poison to be tried", || {
            let failed = target.hits().iter().filter(|hit| hit.status == 500).count();
            (failed >= 6 * (round as usize + 1)).then_some(())
        });
        post(&server, &strs(&well), round * 5..round * 5 + 5);
        let expected = 25 * (round as usize + 1);
        wait_for("the others", || {
            (target.delivered() >= expected).then_some(())
        });
    }
    let delivered = delivered(&target.hits());
    assert!(
        delivered
            .values()
            .all(|numbers| numbers.iter().copied().eq(0..20))
    );
    let tried: BTreeSet<u64> = target
        .hits()
        .iter()
        .map(Hit::number_in_stream)
        .filter(|(stream, _)| stream == "poisoned-0")
        .map(|(_, number)| number)
        .collect();
    assert!(
        tried.iter().copied().eq([0]),
        "nothing overtakes a stream's own trouble: {tried:?}"
    );
}

#[test]
fn after_fifty_rejects_in_a_row_nothing_more_is_parked_until_one_succeeds() {
    let target = Target::start(|_| Reply::Status(400));
    let server = TestServer::start(&Settings::with_handlers(&http_handler(&target.url(), "")));
    let streams = names("room", 60);
    post(&server, &strs(&streams), 0..1);
    wait_for("fifty", || (parked(&server).len() >= 50).then_some(()));
    wait_for("more tries", || (target.count() >= 62).then_some(()));
    assert_eq!(parked(&server).len(), 50);
    target.change_to(|_| Reply::Status(200));
    wait_for("the rest", || (target.delivered() >= 10).then_some(()));
    assert_eq!(parked(&server).len(), 50);
    assert_eq!(
        server
            .command("/api/handlers/http/replay", &json!({ "parked": true }))
            .json()["count"],
        50
    );
    wait_for("the parked ones", || {
        (target.delivered() >= 60).then_some(())
    });
    let places: BTreeSet<(String, u64)> = target
        .hits()
        .iter()
        .filter(|hit| hit.status == 200)
        .map(|hit| number_in_stream(&hit.json()))
        .collect();
    assert_eq!(places.len(), 60);
}
