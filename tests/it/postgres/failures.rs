//! Receivers that are killed, and one that is frozen for longer than its leases last.

use std::time::{Duration, Instant};

use super::{Ends, Receiver, TERM, assert_stored, database};
use crate::support::load::Load;

/// Between two events of a sender.
const PACE: Duration = Duration::from_millis(30);

#[test]
fn receivers_that_are_killed_or_frozen_lose_and_reorder_nothing_and_repeat_little() {
    let ends = Ends::new();
    let url = database();
    let mut first = Receiver::start(&url, &ends.handlers());
    let mut second = Receiver::start(&url, &ends.handlers());
    let load = Load::on(&[first.callbacks, second.callbacks], PACE);
    let (acknowledged, times) = load.run(|| {
        let mut times = Vec::new();
        std::thread::sleep(Duration::from_secs(2));
        first.kill();
        times.push(second.wait_to_run(2));
        first.start_again();
        std::thread::sleep(Duration::from_secs(2));
        second.kill();
        times.push(first.wait_to_run(2));
        second.start_again();
        std::thread::sleep(Duration::from_secs(2));

        // The one that has the target's handler in its hands.
        let (cold, warm) = if first.handlers().contains("http") {
            (&first, &second)
        } else {
            (&second, &first)
        };
        let frozen = Instant::now();
        cold.server().signal("STOP");
        times.push(warm.wait_to_run(2));
        // Long after the leases are over it believes that it has them.
        std::thread::sleep((3 * TERM).saturating_sub(frozen.elapsed()));
        cold.server().signal("CONT");
        std::thread::sleep(Duration::from_secs(3));
        times
    });
    let repeats = ends.assert_complete(&acknowledged);
    assert_stored(&[&first, &second], &acknowledged);
    let total: u64 = acknowledged.values().sum();
    println!(
        "{total} events acknowledged, {} refused, {} unanswered; handlers moved after {times:?}; \
         repeats at the target and in the file: {repeats:?}",
        load.refused(),
        load.unanswered()
    );
    assert!(load.unanswered() > 0, "nothing was in the way of a sender");
    // What was under way or not yet written down, three times.
    for repeats in repeats {
        assert!(repeats < 300, "{repeats} repeats");
    }
}
