//! The order of deliveries per stream, backlogs, and where handlers begin.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::target::{Hit, Reply, Target, number_in_stream, reserve};
use crate::support::{Settings, TestServer, json_lines, signed, wait_for, wait_up_to};

/// As many connections as it takes for callbacks to share a sync.
const CONNECTIONS: usize = 64;

/// Posts numbers to several streams. Each stream has one connection, so that its numbers arrive in
/// order.
fn post(server: &TestServer, streams: usize, numbers: std::ops::Range<u64>) {
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let (mut client, numbers) = (server.client(), numbers.clone());
            scope.spawn(move || {
                for number in numbers {
                    for stream in (connection..streams).step_by(CONNECTIONS) {
                        let body = signed(json!({
                            "event_type": 1, "app": "d", "appname": "live", "stream_id": format!("room-{stream}"), "number": number,
                        }));
                        let answer = client.post("/css/stream-begin", body).unwrap();
                        assert_eq!(answer.status, 200, "{}", answer.text());
                    }
                }
            });
        }
    });
}

/// The largest number of requests that were open at one time.
fn side_by_side(hits: &[Hit]) -> usize {
    let mut moments: Vec<(Instant, bool)> = hits
        .iter()
        .flat_map(|hit| [(hit.began, true), (hit.ended, false)])
        .collect();
    moments.sort(); // an end before a begin of the same moment
    let mut now: usize = 0;
    let counts = moments.iter().map(|(_, begins)| {
        now = if *begins { now + 1 } else { now - 1 };
        now
    });
    counts.max().unwrap_or(0)
}

fn resident(server: &TestServer) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn http_handler(target: &str, more: &str) -> String {
    format!(
        "[handlers.http]\nretry = {{ initial = \"50ms\", max = \"500ms\" }}\n{more}\nto = {{ type = \"http\", url = \"{target}\" }}\n"
    )
}

#[test]
fn a_long_backlog_costs_no_memory_and_comes_in_order_and_one_at_a_time_per_stream() {
    const STREAMS: usize = 200;
    const EACH: u64 = 100;
    let address = reserve();
    let settings = Settings::with_handlers(&http_handler(
        &format!("http://{address}/"),
        "concurrency = 8",
    ));
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::start_in(directory.path(), &settings);
    post(&server, STREAMS, 0..5); // warm, and the target is known to be dead
    let before = resident(&server);
    post(&server, STREAMS, 5..EACH);
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 32 << 20, "grown by {} MiB", grown >> 20);
    let lag = "livehook_handler_lag_events{handler=\"http\"}";
    assert_eq!(server.metric(lag), 20_000.0);
    server.kill();

    let began = Instant::now();
    let server = TestServer::start_in(directory.path(), &settings);
    let started_in = began.elapsed();
    // Delays of 0 to 2 ms that look random.
    let count = AtomicU64::new(0);
    let target = Target::at(address, move |_| {
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        let mixed = count.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let delay = Duration::from_micros(mixed % 2000);
        Reply::After(delay, Box::new(Reply::Status(200)))
    });
    wait_up_to(Duration::from_secs(90), "everything", || {
        (target.count() >= 20_000).then_some(())
    });
    wait_for("no lag", || (server.metric(lag) == 0.0).then_some(()));

    let hits = target.hits();
    assert_eq!(hits.len(), 20_000, "nothing twice");
    let mut streams: BTreeMap<String, Vec<&Hit>> = BTreeMap::new();
    for hit in &hits {
        streams
            .entry(hit.number_in_stream().0)
            .or_default()
            .push(hit);
    }
    for (stream, hits) in &streams {
        assert!(
            hits.iter().map(|hit| hit.number_in_stream().1).eq(0..EACH),
            "{stream} is out of order"
        );
        assert!(
            hits.windows(2).all(|two| two[0].ended <= two[1].began),
            "{stream}: one at a time"
        );
    }
    let most = side_by_side(&hits);
    assert!((2..=8).contains(&most), "{most} side by side");
    println!(
        "grown by {} KiB, started in {started_in:?}, {most} side by side",
        grown >> 10
    );
}

#[test]
fn without_order_one_stream_comes_side_by_side() {
    let target =
        Target::start(|_| Reply::After(Duration::from_millis(100), Box::new(Reply::Status(200))));
    let handlers = http_handler(&target.url(), "order = \"none\"\nconcurrency = 8");
    let server = TestServer::start(&Settings::with_handlers(&handlers));
    post(&server, 1, 0..40);
    wait_for("all", || (target.count() >= 40).then_some(()));
    let most = side_by_side(&target.hits());
    assert!((4..=8).contains(&most), "{most} side by side");
    let mut numbers: Vec<u64> = target
        .hits()
        .iter()
        .map(|hit| hit.number_in_stream().1)
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..40));
}

fn file_handler(name: &str, start: &str) -> String {
    format!(
        "[handlers.{name}]\nstart = \"{start}\"\nto = {{ type = \"file\", path = \"{name}.jsonl\" }}\n"
    )
}

/// Waits for this many numbers in a handler's file, and returns them sorted.
fn numbers(directory: &Path, name: &str, count: usize) -> Vec<u64> {
    let file = directory.join(format!("{name}.jsonl"));
    let lines = wait_for(name, || {
        Some(json_lines(&file)).filter(|lines| lines.len() >= count)
    });
    let mut numbers: Vec<u64> = lines.iter().map(|line| number_in_stream(line).1).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_new_handler_begins_at_its_start_and_a_returning_one_resumes() {
    let directory = tempfile::tempdir().unwrap();
    let start = |handlers: &[String]| {
        TestServer::start_in(
            directory.path(),
            &Settings::with_handlers(&handlers.concat()),
        )
    };
    let (steady, oldest, now) = (
        file_handler("steady", "now"),
        file_handler("oldest", "oldest"),
        file_handler("now", "now"),
    );
    let server = start(std::slice::from_ref(&steady));
    post(&server, 1, 0..10);
    assert!(
        numbers(directory.path(), "steady", 10)
            .into_iter()
            .eq(0..10)
    );
    assert!(server.stop().success());

    let server = start(&[steady.clone(), oldest.clone(), now.clone()]);
    post(&server, 1, 10..20);
    assert!(
        numbers(directory.path(), "oldest", 20)
            .into_iter()
            .eq(0..20)
    );
    assert!(numbers(directory.path(), "now", 10).into_iter().eq(10..20));
    assert!(
        numbers(directory.path(), "steady", 20)
            .into_iter()
            .eq(0..20)
    );
    assert!(server.stop().success());

    let server = start(std::slice::from_ref(&steady));
    post(&server, 1, 20..30);
    assert!(server.stop().success());

    // `start` is only for a new handler name. Both names are known, so they continue where they
    // stopped.
    let server = start(&[steady, oldest, now]);
    post(&server, 1, 30..40);
    assert!(
        numbers(directory.path(), "oldest", 40)
            .into_iter()
            .eq(0..40)
    );
    assert!(numbers(directory.path(), "now", 30).into_iter().eq(10..40));
    assert!(
        numbers(directory.path(), "steady", 40)
            .into_iter()
            .eq(0..40)
    );
}

/// The numbers of a stream in the order of their delivery. The first attempt lasts until more
/// events wait than are read ahead, and then fails: the target fails, or the server is killed.
fn delivered_behind_a_long_attempt(killed: bool) -> Vec<u64> {
    let released = Arc::new(AtomicBool::new(false));
    let tried = AtomicBool::new(false);
    let target = {
        let released = released.clone();
        Target::start(move |hit| {
            if hit.number_in_stream() != ("room-0".to_owned(), 0)
                || tried.swap(true, Ordering::SeqCst)
            {
                return Reply::Status(200);
            }
            wait_for("the release", || {
                released.load(Ordering::SeqCst).then_some(())
            });
            Reply::Status(500)
        })
    };
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings::with_handlers(&http_handler(&target.url(), "timeout = \"1m\""));
    let mut server = TestServer::start_in(directory.path(), &settings);
    post(&server, 1, 0..700);
    wait_for("rows", || {
        let handler = server.get("/api/handlers").json()["items"][0].clone();
        (handler["waiting"].as_u64()? >= 500 && handler["retrying"] == 1).then_some(())
    });
    let body = signed(
        json!({ "event_type": 1, "app": "d", "appname": "live", "stream_id": "other", "number": 0 }),
    );
    assert_eq!(server.post("/css/stream-begin", body).status, 200);
    wait_for("another stream", || (target.delivered() == 1).then_some(()));
    if killed {
        server.kill();
        server = TestServer::start_in(directory.path(), &settings);
    }
    released.store(true, Ordering::SeqCst);
    wait_for("no lag", || {
        let lag = server.metric("livehook_handler_lag_events{handler=\"http\"}");
        (target.delivered() >= 701 && lag == 0.0).then_some(())
    });
    let hits = target.hits();
    let places = hits
        .iter()
        .filter(|hit| hit.status == 200)
        .map(Hit::number_in_stream);
    places
        .filter(|(stream, _)| stream == "room-0")
        .map(|(_, number)| number)
        .collect()
}

#[test]
fn what_waits_behind_a_long_attempt_does_not_overtake_it_when_it_fails() {
    let numbers = delivered_behind_a_long_attempt(false);
    assert!(numbers.iter().copied().eq(0..700), "{:?}", &numbers[..5]);
}

#[test]
fn what_waits_behind_a_long_attempt_does_not_overtake_it_after_a_crash() {
    let numbers = delivered_behind_a_long_attempt(true);
    assert!(numbers.iter().copied().eq(0..700), "{:?}", &numbers[..5]);
}
