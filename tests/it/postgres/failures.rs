//! Receivers that are killed, and one that is frozen for longer than its leases last.

use std::time::{Duration, Instant};

use super::{Ends, Receiver, TERM, assert_stored, database};
use crate::support::load::Load;

/// The pause between two events of a sender.
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

        // The receiver that runs the target's handler.
        let (cold, warm) = if first.handlers().contains("http") {
            (&first, &second)
        } else {
            (&second, &first)
        };
        let frozen = Instant::now();
        cold.server().signal("STOP");
        times.push(warm.wait_to_run(2));
        // When it continues, it still believes that it has the leases.
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
    // Deliveries that were open or not yet recorded, three times.
    for repeats in repeats {
        assert!(repeats < 300, "{repeats} repeats");
    }
}
