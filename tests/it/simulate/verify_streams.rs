//! `--verify-streams`: the board agrees with the sender, and differences are found.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::server::both_engines;
use crate::support::simulation::{Ended, Simulation, simulate};
use crate::support::target::{Reply, Target, reserve};
use crate::support::{Client, Settings, TestServer, wait_for};

/// The arguments for this many events of a thousand streams, with duplicates and disorder.
fn day(events: u64) -> String {
    format!(
        "--streams 1000 --events {events} --connections 64 --reorder --duplicates 0.1 --time-scale 6000"
    )
}

/// Simulates, and asks the server which streams are live.
fn asked(server: &TestServer, more: &str) -> Ended {
    let more = format!("{more} --verify-streams {}", server.admin_url());
    simulate(&server.css(), &more)
}

/// The numbers of compared, undecided, other and wrong streams in the report.
fn counts(report: &Value) -> [u64; 4] {
    let compared = &report["streams_verified"];
    let number = |name: &str| compared[name].as_u64().unwrap();
    let wrong = compared["differences"].as_array().unwrap().len() as u64;
    [
        number("compared"),
        number("undecided"),
        number("others"),
        wrong,
    ]
}

/// The board when it has caught up, without the times of the last events.
fn board(server: &TestServer) -> BTreeMap<String, Value> {
    wait_for("the board", || {
        (server.metric("livehook_streams_lag_events") == 0.0).then_some(())
    });
    let mut board = BTreeMap::new();
    let mut after = String::new();
    loop {
        let page = server
            .get(&format!("/api/streams?limit=1000{after}"))
            .json();
        for item in page["items"].as_array().unwrap() {
            let name = ["source", "domain", "appname", "streamid"].map(|part| item[part].clone());
            let state = json!([item["live"], item["since"], item["pushsequence"]]);
            assert!(
                board.insert(json!(name).to_string(), state).is_none(),
                "{item} is listed twice"
            );
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return board,
        }
    }
}

fn rebuild(server: &TestServer) {
    let answer = server.command("/api/streams/rebuild", &json!({}));
    assert_eq!(answer.status, 202, "{}", answer.text());
}

fn live(board: &BTreeMap<String, Value>) -> u64 {
    board.values().filter(|state| state[0] == true).count() as u64
}

#[test]
fn the_board_is_as_a_thousand_streams_were_left() {
    for inbox in both_engines() {
        let settings = Settings {
            inbox: inbox.clone(),
            ..Settings::default()
        };
        let directory = tempfile::tempdir().unwrap();
        let server = TestServer::start_in(directory.path(), &settings);
        let report = asked(&server, &day(8000)).good();
        assert_eq!(counts(&report), [1000, 0, 0, 0], "{report}");
        let streams = &report["streams"];
        let number = |name: &str| streams[name].as_u64().unwrap();
        assert!(number("live") > 100 && number("offline") > 100, "{streams}");
        let left = board(&server);
        assert_eq!(live(&left), number("live"));

        rebuild(&server);
        assert_eq!(board(&server), left, "made again, it is the same");
        // With PostgreSQL, the killed process keeps the board until its lease ends.
        let server = if inbox.is_empty() {
            server.kill();
            let server = TestServer::start_in(directory.path(), &settings);
            assert_eq!(board(&server), left, "after a kill");
            rebuild(&server);
            assert_eq!(board(&server), left, "made again after a kill");
            server
        } else {
            server
        };
        // Later events find the earlier board.
        let report = asked(&server, &day(2500)).good();
        let [compared, undecided, others, wrong] = counts(&report);
        assert_eq!([compared + undecided, others, wrong], [1000, 0, 0]);
        assert!(compared > 900, "{report}");
    }
}

#[test]
fn the_board_is_as_the_streams_were_left_when_the_server_is_killed_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings::default().at(reserve(), reserve());
    let mut server = TestServer::start_in(directory.path(), &settings);
    let more = format!(
        "{} --verify-streams {}",
        day(8000).replace("6000", "60"),
        server.admin_url()
    );
    let mut simulation = Simulation::of(&server.css(), &more);
    for _ in 0..3 {
        let series =
            "livehook_callbacks_total{source=\"css\",kind=\"stream-begin\",result=\"accepted\"}";
        wait_for("some pushes", || {
            (server.metric(series) > 150.0).then_some(())
        });
        assert!(simulation.is_running(), "it is over already");
        server.kill();
        server = TestServer::start_in(directory.path(), &settings);
    }
    let report = simulation.wait().good();
    assert!(report["retried"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(counts(&report), [1000, 0, 0, 0], "{report}");
    assert_eq!(live(&board(&server)), report["streams"]["live"]);
}

/// A receiver that passes callbacks on to the server, except those for which `keeps` returns true.
/// It answers all of them 200. `number` counts them.
fn in_front_of(
    server: &TestServer,
    keeps: impl Fn(usize, &Value) -> bool + Send + Sync + 'static,
    after: impl Fn(usize) + Send + Sync + 'static,
) -> Target {
    let (address, number) = (server.addr, AtomicUsize::new(0));
    Target::start(move |hit| {
        let number = number.fetch_add(1, Ordering::Relaxed) + 1;
        if !keeps(number, &hit.json()) {
            let answer = Client::new(address).post(&hit.path, &hit.body).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        after(number);
        Reply::Status(200)
    })
}

/// Simulates against the target, and checks the server behind it.
fn asked_behind(target: &Target, server: &TestServer, more: &str) -> Ended {
    let more = format!(
        "--connections 1 {more} --verify-streams {}",
        server.admin_url()
    );
    simulate(&format!("{}/css", target.base()), &more)
}

#[test]
fn a_board_that_misses_a_stream_is_reported() {
    let server = TestServer::start(&Settings::default());
    let admin = server.admin;
    // The last begin is stored, then all of a stream is deleted.
    let target = in_front_of(
        &server,
        |_, _| false,
        move |number| {
            if number == 20 {
                // Events that reach the board during the deletion are tested elsewhere.
                let caught_up = |text: String| text.contains("livehook_streams_lag_events 0\n");
                wait_for("the board", || {
                    let metrics = Client::new(admin).get("/metrics").unwrap();
                    caught_up(metrics.text()).then_some(())
                });
                let path = "/api/events?stream=live/room-0";
                let deleted = Client::new(admin).request("DELETE", path, &[], None);
                assert_eq!(deleted.unwrap().json()["count"], 1);
            }
        },
    );
    let day = "--kinds stream-begin --streams 20 --events 20";
    let ended = asked_behind(&target, &server, day);
    let fault = "1 streams are not on the board as they were left";
    assert!(ended.stderr.contains(fault), "{}", ended.stderr);
    let report = ended.bad();
    assert_eq!(counts(&report), [20, 0, 0, 1], "{report}");
    let wrong = &report["streams_verified"]["differences"][0];
    assert_eq!(wrong["stream"], "push.example.com/live/room-0");
    assert_eq!(wrong["expected"]["live"], true);
    // From then on, the board does not know it, or knows no push of it.
    assert!(wrong["found"]["since"].is_null(), "{wrong}");
}

#[test]
fn an_end_that_is_not_on_the_board_is_reported() {
    let server = TestServer::start(&Settings::default());
    let is_lost = |_, body: &Value| body["event_type"] == 0 && body["stream_id"] == "room-3";
    let target = in_front_of(&server, is_lost, |_| {});
    // Each stream begins and ends, or ends and begins, and both events were answered.
    let day = "--kinds stream-begin,stream-end --streams 10 --events 20";
    let report = asked_behind(&target, &server, day).bad();
    assert_eq!(counts(&report), [10, 0, 0, 1], "{report}");
    assert_eq!(report["streams"]["offline"], 10);
    let wrong = &report["streams_verified"]["differences"][0];
    assert_eq!(wrong["stream"], "push2.example.com/live/room-3");
    assert_eq!(
        (&wrong["expected"]["live"], &wrong["found"]["live"]),
        (&false.into(), &true.into())
    );
    let sequence = &wrong["expected"]["pushsequence"];
    assert_eq!(&wrong["found"]["pushsequence"], sequence);
}

#[test]
fn what_was_not_acknowledged_may_be_on_the_board_or_not() {
    for is_stored in [false, true] {
        let server = TestServer::start(&Settings::default());
        let address = server.addr;
        // No begin is ever answered 200.
        let target = Target::start(move |hit| {
            let is_begin = hit.json()["event_type"] == 1;
            if is_stored || !is_begin {
                let answer = Client::new(address).post(&hit.path, &hit.body).unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            Reply::Status(if is_begin { 503 } else { 200 })
        });
        let day = "--kinds stream-begin,stream-end --streams 10 --events 15 --time-scale 60000";
        let report = asked_behind(&target, &server, day).bad();
        assert_eq!(report["given_up"], 10, "{report}");
        let streams = json!({ "live": 0, "offline": 5, "uncertain": 5 });
        assert_eq!(report["streams"], streams);
        assert_eq!(counts(&report), [10, 0, 0, 0], "{report}");
        let expected = if is_stored { 5 } else { 0 };
        assert_eq!(live(&board(&server)), expected);
    }
}

#[test]
fn a_server_without_a_board_is_reported_before_sending() {
    let receiver = Target::good();
    for (answer, problem) in [
        (Reply::Status(404), "(it answers 404 Not Found)"),
        (
            Reply::Page("hello".to_owned()),
            "(it tells no livehook_streams_lag_events)",
        ),
        (
            Reply::Page("livehook_streams_lag_events 0\n".to_owned()),
            "(it answers 200 OK: ",
        ),
    ] {
        let other = Target::start(move |_| answer.clone());
        let more = format!("--events 5 --verify-streams {}", other.base());
        let ended = simulate(&format!("{}/css", receiver.base()), &more);
        assert_eq!(ended.code, Some(1));
        let expected = "what answers at --verify-streams is no admin listener of a livehook";
        assert!(
            ended.stderr.contains(expected) && ended.stderr.contains(problem),
            "{}",
            ended.stderr
        );
    }
    assert_eq!(receiver.count(), 0);
}
