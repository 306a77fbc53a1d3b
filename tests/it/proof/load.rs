//! Many requests at once: reconnecting streams, slow connections, the same callback twice at a
//! time.

use super::{RestartedServer, assert_delivered, assert_proven};
use crate::support::simulation::simulate;

#[test]
fn ten_thousand_streams_reconnect_at_once() {
    let restarted = RestartedServer::start();
    // All begin in the first round and end in the second; everything is due at once.
    let report = simulate(
        &restarted.css(),
        &format!(
            "{} --streams 10000 --kinds stream-begin,stream-end --events 20000 --rate 1000000 --connections 2000 --time-scale 60",
            restarted.arguments()
        ),
    )
    .good();
    assert_proven(&report);
    assert_delivered(restarted.server());
}

#[test]
fn slow_connections_delay_nobody() {
    let restarted = RestartedServer::start();
    // Half of them announce bodies that together are twice `max_inflight`.
    let report = simulate(
        &restarted.css(),
        &format!(
            "{} --slow-connections 1000 --rate 150 --duration 6s --time-scale 600",
            restarted.arguments()
        ),
    )
    .good();
    assert_proven(&report);
    let slow = |at: usize| report["slow_connections"][at].as_u64().unwrap();
    assert!(
        slow(0) >= 1000 && slow(1) > 400,
        "heads are cut off after five seconds, bodies after four: {report}"
    );
    let answers = report["answers"].as_object().unwrap();
    assert_eq!(
        answers.keys().collect::<Vec<_>>(),
        ["200"],
        "no 503 for anybody: {report}"
    );
}

#[test]
fn the_same_callback_twice_at_once_is_stored_once() {
    let restarted = RestartedServer::start();
    let report = simulate(
        &restarted.css(),
        &format!("{} --duplicates 1 --events 3000 --connections 64 --time-scale 600 --kinds stream-begin,record,monitor", restarted.arguments()),
    )
    .good();
    assert_proven(&report);
    assert_eq!(report["duplicates"], 3000);
    assert_eq!(restarted.server().events().len(), 3000);
}
