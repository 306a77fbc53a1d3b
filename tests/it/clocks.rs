//! The clock is set forward or back while events wait for a target that is down.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::clock::ServerClock;
use crate::support::server::both_engines;
use crate::support::target::{Reply, Target, reserve};
use crate::support::{KEY, Settings, TestServer, now, signed_with, wait_for, wait_up_to};

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;
const EVENTS: usize = 12;
/// Much less than a step of the clock, and much more than the waits below take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

fn settings(clock: &ServerClock, inbox: &str, target: &Target, retry: &str) -> Settings {
    let handler = format!(
        "[handlers.backend]\nretry = {retry}\nto = {{ type = \"http\", url = \"{}\" }}\n",
        target.url()
    );
    Settings {
        inbox: inbox.to_owned(),
        env: clock.variables().into(),
        ..Settings::with_handlers(&handler)
    }
}

/// Posts a callback of each of many streams. The platform's clock is ahead by as much as the
/// server's.
fn push(server: &TestServer, ahead: i64, streams: usize) {
    for number in 0..streams {
        let stream = format!("room-{number}-{ahead}");
        let body = json!({ "event_type": 200, "stream_id": stream });
        let body = signed_with(KEY, now() + ahead + 600, body);
        assert_eq!(server.post("/css", body).status, 200);
    }
}

fn backend(server: &TestServer) -> Value {
    server.get("/api/handlers").json()["items"][0].clone()
}

fn lag(server: &TestServer) -> f64 {
    backend(server)["lag_seconds"].as_f64().unwrap()
}

/// Lets the target work again. All events must then arrive soon.
fn assert_delivered(server: &TestServer, target: &Target) {
    target.change_to(|_| Reply::Status(200));
    wait_up_to(SOON, "everything to be delivered", || {
        (target.delivered() >= EVENTS).then_some(())
    });
    wait_for("nothing to be owed", || {
        (backend(server)["lag_events"] == 0).then_some(())
    });
}

#[test]
fn a_clock_set_back_neither_stops_deliveries_nor_hides_that_they_wait() {
    for inbox in both_engines() {
        let clock = ServerClock::ahead(0);
        let target = Target::start(|_| Reply::Status(503));
        let retry = "{ initial = \"100ms\", max = \"1s\" }";
        let server = TestServer::start(&settings(&clock, &inbox, &target, retry));
        push(&server, 0, EVENTS);
        wait_for("the handler to be down", || {
            (backend(&server)["state"] == "failing").then_some(())
        });
        clock.set(-2 * HOUR);
        let attempts = target.count();
        wait_up_to(SOON, "probes", || {
            (target.count() > attempts + 3).then_some(())
        });
        let first = lag(&server);
        wait_for("the lag to grow", || {
            (lag(&server) > first.max(0.5)).then_some(())
        });
        assert!(server.metric("livehook_handler_lag_seconds{handler=\"backend\"}") > 0.0);
        let logged = || {
            let log = server.log();
            let lines = log.lines().filter(|line| line.contains("clock.before="));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        wait_for("word of it", || (!logged().is_empty()).then_some(()));
        assert_delivered(&server, &target);
        let logged = logged();
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert!(
            logged[0].contains("WARN") && logged[0].contains("clock.now="),
            "{logged:?}"
        );
    }
}

#[test]
fn a_restart_after_the_clock_was_set_back_waits_for_nothing() {
    for inbox in both_engines() {
        let directory = tempfile::tempdir().unwrap();
        let clock = ServerClock::ahead(8 * HOUR);
        let target = Target::start(|_| Reply::Status(503));
        let settings = settings(
            &clock,
            &inbox,
            &target,
            "{ initial = \"1s\", max = \"2s\" }",
        );
        let server = TestServer::start_in(directory.path(), &settings);
        push(&server, 8 * HOUR, EVENTS);
        wait_for("rows", || {
            (backend(&server)["retrying"].as_u64() >= Some(4)).then_some(())
        });
        server.kill();
        clock.set(0);
        let server = TestServer::start_in(directory.path(), &settings);
        wait_for("the lag to be reported", || {
            (lag(&server) > 0.0).then_some(())
        });
        assert_delivered(&server, &target);
    }
}

#[test]
fn a_receiver_whose_clock_is_ahead_leaves_nothing_stuck_when_it_dies() {
    let [_, inbox] = both_engines();
    let (ahead, right) = (ServerClock::ahead(8 * HOUR), ServerClock::ahead(0));
    let target = Target::start(|_| Reply::Status(503));
    let retry = "{ initial = \"1s\", max = \"2s\" }";
    let first = TestServer::start(&settings(&ahead, &inbox, &target, retry));
    push(&first, 8 * HOUR, EVENTS);
    wait_for("rows", || {
        (backend(&first)["retrying"].as_u64() >= Some(4)).then_some(())
    });
    let second = TestServer::start(&settings(&right, &inbox, &target, retry));
    first.kill();
    wait_up_to(SOON, "the handler to be here", || {
        (backend(&second)["state"] != "elsewhere").then_some(())
    });
    wait_for("the lag to be reported", || {
        (lag(&second) > 0.0).then_some(())
    });
    assert_delivered(&second, &target);
}

#[test]
fn a_stuck_delivery_is_delivered_by_a_replay() {
    for inbox in both_engines() {
        let target = Target::start(|_| Reply::Status(503));
        let clock = ServerClock::ahead(0);
        let retry = "{ initial = \"1h\", max = \"1h\" }";
        let settings = settings(&clock, &inbox, &target, retry).at(reserve(), reserve());
        let server = TestServer::start(&settings);
        push(&server, 0, EVENTS);
        wait_for("the handler to be down", || {
            (backend(&server)["state"] == "failing").then_some(())
        });
        let replay = |body: Value| {
            let answer = server.command("/api/handlers/backend/replay", &body);
            assert_eq!(answer.status, 202);
            answer.json()["count"].as_u64().unwrap()
        };
        let range = json!({ "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z" });
        let mut dry = range.clone();
        dry["dry_run"] = true.into();
        wait_for("all to be counted", || {
            (replay(dry.clone()) == EVENTS as u64).then_some(())
        });
        let attempts = target.count();
        let one = server.events()[EVENTS - 1]["id"].clone();
        assert_eq!(replay(json!({ "event": one })), 1);
        wait_up_to(SOON, "a probe", || {
            (target.count() > attempts).then_some(())
        });
        target.change_to(|_| Reply::Status(200));
        assert_eq!(replay(range.clone()), EVENTS as u64);
        assert_delivered(&server, &target);
        assert_eq!(target.delivered(), EVENTS, "none twice");
    }
}

#[test]
fn events_received_while_the_clock_was_ahead_do_not_stop_retention() {
    for inbox in both_engines() {
        let clock = ServerClock::ahead(0);
        let target = Target::good();
        let inbox = format!("{inbox}\nretention = \"2s\"");
        let settings = settings(&clock, &inbox, &target, "{ initial = \"1s\" }");
        let server = TestServer::start(&settings);
        clock.set(50 * YEAR);
        push(&server, 50 * YEAR, 1);
        clock.set(0);
        push(&server, 0, EVENTS);
        wait_up_to(2 * SOON, "all to be gone", || {
            let events = server.events();
            (target.delivered() > EVENTS && events.is_empty()).then_some(())
        });
    }
}
