//! Receivers that reach their database through a transaction pooler. Each statement may run on
//! another connection.

use std::time::Duration;

use super::{Ends, Receiver, assert_stored};
use crate::support::load::Load;
use crate::support::postgres::pooler::{Pooler, SERVER_CONNECTIONS};
use crate::support::postgres::shared;

#[test]
fn receivers_work_through_a_pooler_and_one_takes_over_from_the_other() {
    let name = shared().create_database();
    let pooler = Pooler::of_transactions(shared());
    let url = pooler.url(&name);
    let ends = Ends::new();
    let mut first = Receiver::start(&url, &ends.handlers());
    let second = Receiver::start(&url, &ends.handlers());
    let load = Load::on(
        &[first.callbacks, second.callbacks],
        Duration::from_millis(30),
    );
    let (acknowledged, moved) = load.run(|| {
        std::thread::sleep(Duration::from_secs(2));
        first.kill();
        let moved = second.wait_to_run(2);
        std::thread::sleep(Duration::from_secs(1));
        moved
    });
    let connections = shared().sql(
        "postgres",
        &format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"),
    );
    let connections: u32 = connections.parse().unwrap();
    assert!(
        (1..=SERVER_CONNECTIONS).contains(&connections),
        "{connections}"
    );
    let repeats = ends.assert_complete(&acknowledged);
    assert_stored(&[&second], &acknowledged);
    println!(
        "{} events acknowledged, handlers moved after {moved:?}, repeats {repeats:?}",
        load.acknowledged()
    );
    for repeats in repeats {
        assert!(
            repeats < 200,
            "{repeats} repeats of what one had in its hands"
        );
    }
}
