//! The simulator against scripted receivers: it behaves like the platform, and reports errors.

mod usage;
mod verify;
mod verify_streams;
mod wire;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use css_callbacks::{Kind, sign};
use serde_json::Value;

use crate::support::simulation::{Simulation, simulate};
use crate::support::target::{Hit, Reply, Target};
use crate::support::{KEY, Settings, TestServer, now, wait_for};

/// `t` of a body.
fn t(hit: &Hit) -> i64 {
    let t = &hit.json()["t"];
    t.as_i64()
        .unwrap_or_else(|| t.as_str().unwrap().parse().unwrap())
}

#[test]
fn a_day_of_all_kinds_is_taken_stored_and_verified() {
    let server = TestServer::start(&Settings {
        sources: format!("[sources.css]\nkeys = [\"{KEY}\"]\ntoken = \"hush hush+\"\n"),
        ..Settings::default()
    });
    let token = server.path().join("token");
    std::fs::write(&token, "hush hush+\n").unwrap();
    let report = simulate(
        &server.css(),
        &format!(
            "--token-file {} --events 800 --connections 16 --duplicates 0.1 --bad 0.1 --reorder --unsigned --time-scale 600 --verify {}",
            token.display(),
            server.admin_url()
        ),
    )
    .good();
    let number = |name: &str| report[name].as_u64().unwrap();
    assert_eq!((number("sent"), number("acknowledged")), (800, 800));
    assert_eq!(
        (number("lost"), number("retried"), number("given_up")),
        (0, 0, 0)
    );
    assert!(number("duplicates") > 20);
    assert!(number("refused") > 20 && number("refused") == number("bad"));
    assert!(report["rate"].as_f64().unwrap() > 0.0);
    let latency = |name: &str| report["latency_ms"][name].as_f64().unwrap();
    let rising = ["p50", "p90", "p99", "p999", "max"].map(latency);
    assert!(rising[0] > 0.0 && rising.is_sorted(), "{rising:?}");
    let stored = server.events();
    // Relays without a time are never merged, so repeated ones are stored again.
    let relays_again = stored.len() as u64 - 800;
    assert!(relays_again < 10, "{relays_again}");
    for kind in Kind::ALL {
        let kind = kind.event_type();
        assert!(
            stored.iter().any(|event| event["type"] == kind),
            "no {kind}"
        );
    }
    assert_eq!(
        server.metric(
            "livehook_callbacks_total{source=\"css\",kind=\"unknown\",result=\"accepted\"}"
        ),
        0.0
    );
}

#[test]
fn an_open_loop_sends_as_many_as_are_due() {
    let target = Target::good();
    let began = Instant::now();
    let report = simulate(&target.url(), "--rate 150 --duration 2s --streams 3").good();
    assert_eq!(report["sent"], 300);
    assert_eq!(target.count(), 300);
    assert!(began.elapsed() >= Duration::from_millis(1990));
    assert_eq!(report["lost"], Value::Null, "nobody asked");
}

#[test]
fn an_open_loop_counts_from_when_a_request_was_due() {
    // One connection and 50 ms per answer: 20 a second, although 100 a second are due.
    let target =
        Target::start(|_| Reply::After(Duration::from_millis(50), Box::new(Reply::Status(200))));
    let report = simulate(&target.url(), "--rate 100 --events 40 --connections 1").good();
    let longest = report["latency_ms"]["max"].as_f64().unwrap();
    assert!(
        longest > 1000.0,
        "the last one waits for all before it: {longest}"
    );
}

#[test]
fn what_is_not_answered_200_comes_again_by_its_schedule_and_is_given_up() {
    for (kind, retries, interval) in [
        (Kind::StreamBegin, 12, 100),
        (Kind::Snapshot, 5, 200),
        (Kind::Subtitle, 3, 100),
    ] {
        let answers = [201, 204, 302, 400, 401, 500, 503];
        let target = Target::start(move |hit| match t(hit) {
            _ if hit.path.ends_with("elsewhere") => Reply::Status(200),
            t => match answers[t as usize % answers.len()] {
                302 => Reply::With(302, "location", "/elsewhere".to_owned()),
                status => Reply::Status(status),
            },
        });
        // A minute takes a tenth of a second.
        let report = simulate(
            &target.url(),
            &format!("--kinds {kind} --events 4 --connections 4 --time-scale 600"),
        )
        .bad();
        assert_eq!(report["given_up"], 4);
        assert_eq!(report["acknowledged"], 0);
        assert_eq!(report["retried"], 4 * retries);
        let mut attempts: HashMap<String, Vec<Hit>> = HashMap::new();
        for hit in target.hits() {
            assert!(!hit.path.ends_with("elsewhere"), "a redirect was followed");
            let mut body = hit.json();
            body["t"].take();
            body["sign"].take();
            attempts.entry(body.to_string()).or_default().push(hit);
        }
        assert_eq!(
            attempts.len(),
            4,
            "the same event is the same but for t and sign"
        );
        for hits in attempts.values() {
            assert_eq!(hits.len(), 1 + retries);
            for pair in hits.windows(2) {
                assert!(pair[1].began - pair[0].ended >= Duration::from_millis(interval - 1));
            }
        }
    }
}

#[test]
fn a_signature_that_is_not_renewed_expires_as_it_would_in_twelve_minutes() {
    let target = Target::start(|_| Reply::Status(503));
    simulate(
        &target.url(),
        "--kinds stream-begin --events 12 --connections 12 --time-scale 240 --seed 1",
    )
    .bad();
    let mut by_event: HashMap<String, Vec<i64>> = HashMap::new();
    for hit in target.hits() {
        let body = hit.json();
        let t = t(&hit);
        assert_eq!(
            body["sign"],
            sign(KEY, &t.to_string()),
            "always a good signature"
        );
        by_event
            .entry(body["sequence"].to_string())
            .or_default()
            .push(t - now());
    }
    // At the end the first attempt is twelve minutes old, and its `t` expired two minutes ago,
    // although the clock ran for three seconds.
    let last: Vec<i64> = by_event
        .values()
        .map(|times| *times.last().unwrap())
        .collect();
    assert!(
        last.iter().any(|left| (-150..-90).contains(left)),
        "{last:?}"
    );
    assert!(
        last.iter().any(|left| *left > 590),
        "others are signed anew: {last:?}"
    );
}

#[test]
fn the_platform_waits_five_seconds_for_a_push_exception() {
    let first = Mutex::new(true);
    let target = Target::start(move |_| {
        if std::mem::take(&mut *first.lock().unwrap()) {
            Reply::After(Duration::from_secs(7), Box::new(Reply::Status(200)))
        } else {
            Reply::Status(200)
        }
    });
    let ended = simulate(
        &target.url(),
        "--kinds push-exception --events 1 --time-scale 600",
    );
    assert!(
        ended
            .stderr
            .contains("5 s: 1 sent, 0 acknowledged, 1 under way"),
        "{}",
        ended.stderr
    );
    let report = ended.good();
    assert_eq!(
        (&report["timed_out"], &report["retried"]),
        (&1.into(), &1.into())
    );
    let longest = report["latency_ms"]["max"].as_f64().unwrap();
    assert!(
        (5000.0..6900.0).contains(&longest),
        "a timeout counts with its time: {longest}"
    );
}

#[test]
fn an_interrupted_simulation_reports_what_was_so_far() {
    let target = Target::start(|hit| match hit.json()["event_type"].as_i64() {
        Some(1) => Reply::Status(200),
        _ => Reply::Status(503),
    });
    let simulation = Simulation::of(
        &target.url(),
        "--rate 200 --kinds stream-begin,stream-end --streams 5",
    );
    wait_for("some callbacks", || (target.count() > 20).then_some(()));
    simulation.signal("INT");
    let report = simulation.wait().good();
    let number = |name: &str| report[name].as_u64().unwrap();
    assert!(number("pending") > 0, "{report}");
    assert_eq!(number("sent"), number("acknowledged") + number("pending"));
    assert_eq!(number("given_up"), 0);
}

/// The least time between two signals that count as two.
const APART: Duration = Duration::from_millis(400);

#[test]
fn a_second_signal_leaves_what_is_open_and_still_reports() {
    let target =
        Target::start(|_| Reply::After(Duration::from_secs(15), Box::new(Reply::Status(200))));
    let began = Instant::now();
    let simulation = Simulation::of(&target.url(), "--rate 100 --connections 2");
    wait_for("the connection", || {
        (target.connections() > 1).then_some(())
    });
    simulation.signal("TERM");
    simulation.signal("TERM"); // as `timeout` does; they are one
    std::thread::sleep(APART);
    simulation.signal("TERM");
    let ended = simulation.wait();
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(
        ended.stderr.contains("again to stop at once"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("second signal"), "{}", ended.stderr);
    let report = ended.bad();
    assert_eq!(report["sent"], report["pending"], "{report}");
    assert_eq!(report["latency_ms"]["p99"], Value::Null);
}

#[test]
fn what_waits_for_a_connection_does_not_hold_an_interrupted_simulation() {
    let target =
        Target::start(|_| Reply::After(Duration::from_millis(500), Box::new(Reply::Status(200))));
    let simulation = Simulation::of(&target.url(), "--rate 1000 --duration 60s --connections 2");
    wait_for("some answers", || (target.count() >= 2).then_some(()));
    let began = Instant::now();
    simulation.signal("INT");
    let report = simulation.wait().good();
    assert!(began.elapsed() < Duration::from_secs(5), "{report}");
    assert!(report["pending"].as_u64().unwrap() > 100, "{report}");
    assert_eq!(
        (&report["given_up"], &report["retried"]),
        (&0.into(), &0.into())
    );
}
