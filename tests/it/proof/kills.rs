//! Kills under load, and the longest outage that loses nothing.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{RestartedServer, assert_delivered, assert_proven, repeated_for};
use crate::support::simulation::Simulation;

/// The number of kills. `LIVEHOOK_CRASHES=100` makes more.
const KILLS: u64 = 8;

#[test]
fn many_kills_lose_nothing() {
    let kills = std::env::var("LIVEHOOK_CRASHES").map_or(KILLS, |kills| kills.parse().unwrap());
    let mut restarted = RestartedServer::start();
    let mut simulation = Simulation::of(
        &restarted.css(),
        &format!(
            "{} --rate 400 --duration {}ms --time-scale 60 --duplicates 0.1 --bad 0.05 --unsigned --reorder --kinds {}",
            restarted.arguments(),
            kills * 900,
            repeated_for(Duration::from_secs(5 * 60))
        ),
    );
    restarted.wait_for_callbacks();
    for kill in 0..kills {
        // Moments that look random and are the same every time.
        sleep(Duration::from_millis(200 + (kill * 7919) % 500));
        assert!(simulation.is_running(), "kill {kill} is too late");
        restarted.kill();
        restarted.start_again();
    }
    let report = simulation.wait().good();
    assert_proven(&report);
    assert!(report["failed"].as_u64().unwrap() > 0 && report["retried"].as_u64().unwrap() >= kills);
    assert_delivered(restarted.server());
    println!("{kills} kills: {report}");
}

#[test]
fn after_eleven_minutes_of_outage_everything_is_accepted_at_last() {
    // A minute takes a second. Kinds that the platform repeats for less than eleven minutes are
    // left out.
    let mut restarted = RestartedServer::start();
    let mut simulation = Simulation::of(
        &restarted.css(),
        &format!(
            "{} --rate 100 --duration 12s --time-scale 60 --kinds {}",
            restarted.arguments(),
            repeated_for(Duration::from_secs(11 * 60))
        ),
    );
    restarted.wait_for_callbacks();
    let outage = Instant::now();
    restarted.kill();
    sleep(Duration::from_secs(11)); // the outage itself
    assert!(simulation.is_running());
    restarted.start_again();
    let away = outage.elapsed();
    let report = simulation.wait().good();
    assert_proven(&report);
    // Some hundred events came in the first second of the outage. Each was repeated a dozen times.
    assert!(report["retried"].as_u64().unwrap() > 3000, "{report}");
    assert!(
        away < Duration::from_secs(12),
        "it was away for longer than the platform waits"
    );
    assert_delivered(restarted.server());
}

/// Kills, bad requests and disorder together, for a given time.
#[test]
#[ignore = "takes as long as LIVEHOOK_SOAK says"]
fn soak() {
    let time = std::env::var("LIVEHOOK_SOAK").unwrap_or_else(|_| "1m".to_owned());
    let mut restarted = RestartedServer::start();
    let mut simulation = Simulation::of(
        &restarted.css(),
        &format!(
            "{} --rate 300 --duration {time} --time-scale 60 --duplicates 0.1 --bad 0.05 --unsigned --streams 2000 --slow-connections 200 --kinds {}",
            restarted.arguments(),
            repeated_for(Duration::from_secs(5 * 60))
        ),
    );
    restarted.wait_for_callbacks();
    let mut kills = 0;
    while simulation.is_running() {
        sleep(Duration::from_millis(1000 + (kills * 7919) % 9000));
        restarted.kill();
        if kills % 20 == 19 {
            sleep(Duration::from_secs(4));
        }
        restarted.start_again();
        kills += 1;
    }
    let report = simulation.wait().good();
    for name in ["lost", "given_up", "accepted_bad"] {
        assert_eq!(report[name], 0, "{name}: {report}");
    }
    assert_delivered(restarted.server());
    println!("{kills} kills in {time}: {report}");
}
