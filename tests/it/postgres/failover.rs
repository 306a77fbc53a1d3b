//! The database fails under load: a standby takes over, or it comes back.

use std::time::{Duration, Instant};

use super::{Ends, Receiver, assert_stored, inbox};
use crate::support::load::Load;
use crate::support::postgres::Postgres;
use crate::support::{Settings, wait_for};

const PACE: Duration = Duration::from_millis(20);

/// The deadline plus a second, for a busy machine.
const LATEST: Duration = Duration::from_secs(3);

fn receiver(url: &str, ends: &Ends) -> Receiver {
    Receiver::start_with(Settings {
        server: "drain_delay = \"0s\"\ndeadline = \"2s\"".into(),
        inbox: inbox(url),
        ..Settings::with_handlers(&ends.handlers())
    })
}

fn readiness(receiver: &Receiver) -> u16 {
    receiver.server().client().get("/readyz").unwrap().status
}

/// Waits until this many more events are acknowledged.
fn wait_for_more(load: &Load, more: u64) {
    let before = load.acknowledged();
    wait_for("callbacks to be taken", || {
        (load.acknowledged() >= before + more).then_some(())
    });
}

#[test]
fn a_killed_primary_loses_nothing_and_its_standby_is_followed() {
    let primary = Postgres::start();
    let database = primary.create_database();
    let standby = primary.standby();
    primary.wait_for_sync(&standby);
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", primary.port(), standby.port());
    let url = format!("postgres://postgres@{hosts}/{database}?target_session_attrs=read-write");
    let ends = Ends::new();
    let (first, second) = (receiver(&url, &ends), receiver(&url, &ends));
    let load = Load::on(&[first.callbacks, second.callbacks], PACE);
    let (acknowledged, stall) = load.run(|| {
        wait_for_more(&load, 500);
        primary.kill();
        let killed = Instant::now();
        wait_for("refusals", || (load.refused() > 20).then_some(()));
        wait_for("both not to be ready", || {
            (readiness(&first) == 503 && readiness(&second) == 503).then_some(())
        });
        std::thread::sleep(Duration::from_secs(4).saturating_sub(killed.elapsed()));
        standby.promote();
        let promoted = Instant::now();
        wait_for_more(&load, 1);
        let stall = promoted.elapsed();
        wait_for_more(&load, 500);
        wait_for("both to be ready", || {
            (readiness(&first) == 200 && readiness(&second) == 200).then_some(())
        });
        stall
    });
    let repeats = ends.assert_complete(&acknowledged);
    assert_stored(&[&first, &second], &acknowledged);
    println!(
        "{} events acknowledged, {} refused, the slowest answer after {:?}; taken again {stall:?} after the promotion; repeats: {repeats:?}",
        load.acknowledged(),
        load.refused(),
        load.slowest()
    );
    assert_eq!(load.unanswered(), 0, "every request is answered");
    assert!(load.slowest() < LATEST, "{:?}", load.slowest());
}

#[test]
fn a_restarted_database_is_found_again_and_handlers_go_on() {
    let postgres = Postgres::start();
    let url = postgres.url(&postgres.create_database());
    let ends = Ends::new();
    let (first, second) = (receiver(&url, &ends), receiver(&url, &ends));
    let load = Load::on(&[first.callbacks, second.callbacks], PACE);
    let (acknowledged, ()) = load.run(|| {
        wait_for_more(&load, 300);
        postgres.stop();
        wait_for("refusals", || (load.refused() > 20).then_some(()));
        wait_for("not to be ready", || {
            (readiness(&first) == 503 && readiness(&second) == 503).then_some(())
        });
        let delivered = ends.target.delivered();
        postgres.start_again();
        wait_for_more(&load, 300);
        wait_for("the handlers to go on", || {
            (ends.target.delivered() > delivered + 300).then_some(())
        });
    });
    let repeats = ends.assert_complete(&acknowledged);
    assert_stored(&[&first, &second], &acknowledged);
    assert_eq!(load.unanswered(), 0, "every request is answered");
    assert!(load.slowest() < LATEST, "{:?}", load.slowest());
    println!(
        "{} events acknowledged, {} refused, repeats: {repeats:?}",
        load.acknowledged(),
        load.refused()
    );
}

#[test]
fn a_database_that_hangs_is_answered_503_inside_the_deadline() {
    let postgres = Postgres::start();
    let url = postgres.url(&postgres.create_database());
    let ends = Ends::new();
    let (first, second) = (receiver(&url, &ends), receiver(&url, &ends));
    let load = Load::on(&[first.callbacks, second.callbacks], PACE);
    let (acknowledged, ()) = load.run(|| {
        wait_for_more(&load, 300);
        postgres.freeze();
        wait_for("refusals", || (load.refused() > 40).then_some(()));
        postgres.thaw();
        wait_for_more(&load, 300);
    });
    ends.assert_complete(&acknowledged);
    assert_stored(&[&first, &second], &acknowledged);
    assert_eq!(load.unanswered(), 0, "every request is answered");
    assert!(load.slowest() < LATEST, "{:?}", load.slowest());
}
