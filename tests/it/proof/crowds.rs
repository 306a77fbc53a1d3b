//! Many at once: streams that reconnect together, connections that never end, the same callback from all sides.

use super::{Phoenix, assert_delivered, assert_proven};
use crate::support::simulation::simulate;

#[test]
fn ten_thousand_streams_reconnect_at_once() {
    let phoenix = Phoenix::start();
    // All begin in the first round and end in the second; everything is due at once.
    let report = simulate(
        &phoenix.css(),
        &format!(
            "{} --streams 10000 --kinds stream-begin,stream-end --events 20000 --rate 1000000 --connections 2000 --time-scale 60",
            phoenix.arguments()
        ),
    )
    .good();
    assert_proven(&report);
    assert_delivered(phoenix.server());
}

#[test]
fn slow_connections_hold_nobody_up() {
    let phoenix = Phoenix::start();
    // The bodies that half of them announce would be twice `max_inflight`.
    let report = simulate(
        &phoenix.css(),
        &format!(
            "{} --slow-connections 1000 --rate 150 --duration 6s --time-scale 600",
            phoenix.arguments()
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
    let phoenix = Phoenix::start();
    let report = simulate(
        &phoenix.css(),
        &format!("{} --duplicates 1 --events 3000 --connections 64 --time-scale 600 --kinds stream-begin,record,monitor", phoenix.arguments()),
    )
    .good();
    assert_proven(&report);
    assert_eq!(report["duplicates"], 3000);
    assert_eq!(phoenix.server().events().len(), 3000);
}
