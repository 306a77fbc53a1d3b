//! Several receivers: the same callback at two of them, and handlers that move when receivers come
//! and go.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Ends, Receiver, TAKE_OVER, TERM, assert_stored, database};
use crate::support::load::Load;
use crate::support::{signed, wait_up_to};

#[test]
fn a_callback_at_two_receivers_at_the_same_instant_is_stored_once() {
    const PAIRS: usize = 4;
    const ROUNDS: usize = 100;
    let url = database();
    let receivers = [Receiver::start(&url, ""), Receiver::start(&url, "")];
    std::thread::scope(|scope| {
        for pair in 0..PAIRS {
            let bodies: Vec<_> = (0..ROUNDS)
                .map(|round| {
                    signed(json!({ "event_type": 1, "stream_id": pair, "sequence": round }))
                })
                .collect();
            let together = std::sync::Arc::new((Barrier::new(2), bodies));
            for receiver in &receivers {
                let (together, mut client) = (together.clone(), receiver.server().client());
                scope.spawn(move || {
                    for body in &together.1 {
                        together.0.wait();
                        let answer = client.post("/css/stream-begin", body).unwrap();
                        assert_eq!(answer.status, 200, "{}", answer.text());
                    }
                });
            }
        }
    });
    let counted = |result: &str| {
        let series = format!(
            "livehook_callbacks_total{{source=\"css\",kind=\"stream-begin\",result=\"{result}\"}}"
        );
        receivers
            .each_ref()
            .map(|receiver| receiver.server().metric(&series))
    };
    let (accepted, duplicate) = (counted("accepted"), counted("duplicate"));
    let events = receivers[0].server().events();
    assert_eq!(events.len(), PAIRS * ROUNDS);
    let expected = (PAIRS * ROUNDS) as f64;
    assert_eq!(
        (accepted.iter().sum(), duplicate.iter().sum()),
        (expected, expected)
    );
    println!("first at each receiver: {accepted:?}");
    assert!(
        accepted.iter().all(|first| *first > 0.0),
        "one was always first: {accepted:?}"
    );
}

#[test]
fn handlers_move_when_receivers_come_and_go_under_load() {
    let ends = Ends::new();
    let url = database();
    let mut first = Receiver::start(&url, &ends.handlers());
    first.wait_to_run(2);
    // The second address answers only later, so the senders skip it.
    let mut second = Receiver::start(&url, &ends.handlers());
    second.server.take().unwrap().stop();
    let load = Load::on(
        &[first.callbacks, second.callbacks],
        Duration::from_millis(30),
    );
    let (acknowledged, (shared, moved)) = load.run(|| {
        std::thread::sleep(Duration::from_secs(1));
        second.start_again();
        let added = Instant::now();
        wait_up_to(TAKE_OVER, "each to have one", || {
            let (one, other) = (first.handlers(), second.handlers());
            (one.len() == 1 && other.len() == 1 && one != other).then_some(())
        });
        let shared = added.elapsed();
        std::thread::sleep(Duration::from_secs(1));
        let stopping = Instant::now();
        assert!(first.server.take().unwrap().stop().success());
        second.wait_to_run(2);
        (shared, stopping.elapsed())
    });
    let repeats = ends.assert_complete(&acknowledged);
    assert_stored(&[&second], &acknowledged);
    println!(
        "{} events acknowledged, shared {shared:?} after the second came, moved {moved:?} after the first was stopped, repeats {repeats:?}",
        load.acknowledged()
    );
    assert!(
        moved < TERM,
        "who is stopped gives up its leases: {moved:?}"
    );
    for repeats in repeats {
        assert!(
            repeats < 100,
            "{repeats} repeats although nobody was killed"
        );
    }
}
