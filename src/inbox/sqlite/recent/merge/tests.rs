#![allow(clippy::unwrap_used)]

use super::super::tests::{Bench, id, parts as count};
use super::*;

const IDS: u64 = (RUN * MERGED) as u64;
/// It looks, merges the groups, and puts the run in its place.
const STEPS: usize = MERGED_GROUPS as usize + 2;

/// Has enough runs on disk, all known to be there, for a merge that has not begun.
fn due() -> Bench {
    let mut bench = Bench::new(1);
    let ids: Vec<_> = (0..IDS).map(id).collect();
    for ids in ids.chunks(RUN) {
        bench.store(ids, true);
        bench.write_runs();
        bench.take_in();
    }
    bench
}

fn merged(bench: &Bench) -> usize {
    let runs = bench.recent.runs.iter();
    runs.filter(|run| run.number < 0).count()
}

fn all_are_known(bench: &Bench) {
    for n in (0..IDS).step_by(17) {
        assert!(bench.check(id(n)));
        bench.check_ever(id(n));
    }
    for n in IDS..IDS + 100 {
        assert!(!bench.check(id(n)));
        bench.check_ever(id(n));
    }
}

fn is_clean(bench: &Bench, runs: i64) {
    assert_eq!(bench.count("SELECT count(*) FROM id_runs"), runs);
    bench.no_parts_are_left_over();
    assert_eq!(bench.recent.runs.len() as i64, runs);
}

#[test]
fn all_ids_are_known_at_every_step() {
    let mut bench = due();
    all_are_known(&bench);
    for _ in 0..STEPS {
        assert!(bench.keep_house(false));
        all_are_known(&bench);
    }
    assert_eq!(bench.count("SELECT count(*) FROM id_runs"), 1);
    assert_eq!(merged(&bench), 0, "the check was not told");
    // However long that takes, what the check asks stays.
    while bench.keep_house(false) {}
    all_are_known(&bench);
    let parts = bench.count("SELECT count(*) FROM id_parts");
    assert_eq!(parts, count(-1) + MERGED as i64 * count(0));
    bench.take_in();
    assert_eq!(merged(&bench), 1);
    all_are_known(&bench);
    while bench.keep_house(false) {
        all_are_known(&bench);
    }
    is_clean(&bench, 1);
}

#[test]
fn a_crash_or_a_failure_at_any_step_loses_nothing_and_leaves_nothing() {
    let mut steps = 0;
    loop {
        for crashes in [true, false] {
            let mut bench = due();
            let mut taken = 0;
            while taken < steps && bench.keep_house(false) {
                taken += 1;
                bench.take_in();
            }
            if crashes {
                bench.restart();
            } else {
                bench.keep_house(true);
                all_are_known(&bench);
                assert!(!bench.upkeep.is_due(), "it waits until there is more");
                bench.upkeep.look();
            }
            all_are_known(&bench);
            bench.come_to_rest();
            all_are_known(&bench);
            is_clean(&bench, 1);
            assert_eq!(merged(&bench), 1);
            if taken < steps {
                assert!(steps > STEPS, "{steps} steps");
                return;
            }
        }
        steps += 1;
    }
}

/// The filter that was stored is the one that is used after a restart.
#[test]
fn a_restart_reads_the_filter_of_a_merged_run() {
    let mut bench = due();
    bench.come_to_rest();
    let stored = |bench: &Bench| {
        let filter = bench.recent.runs[0].filter.as_ref().unwrap();
        filter.stored().to_vec()
    };
    let before = stored(&bench);
    bench.restart();
    assert_eq!(stored(&bench), before);
    // As the previous release would have written it.
    bench
        .conn
        .execute("UPDATE id_runs SET filter = NULL", [])
        .unwrap();
    bench.restart();
    assert_ne!(stored(&bench), before);
    all_are_known(&bench);
}

#[test]
fn retention_may_take_runs_away_while_they_are_merged() {
    for swept in 1..=MERGED {
        for at in (0..=STEPS).step_by(swept) {
            for word in [true, false] {
                let mut bench = due();
                for _ in 0..at {
                    bench.keep_house(false);
                }
                let kept = (swept * RUN) as i64;
                bench.sweep(kept, i64::MAX, word);
                let check = |bench: &Bench| {
                    for n in (0..IDS).step_by(23) {
                        assert_eq!(bench.check(id(n)), n >= kept as u64, "{n}");
                        bench.check_ever(id(n));
                    }
                };
                check(&bench);
                while bench.keep_house(false) {
                    bench.take_in();
                    check(&bench);
                }
                if !word {
                    bench.restart();
                }
                bench.come_to_rest();
                check(&bench);
                let runs = bench.count("SELECT count(*) FROM id_runs");
                is_clean(&bench, runs);
                assert!(runs as usize <= MERGED - swept.min(MERGED - 1));
                assert_eq!(runs == 0, swept == MERGED);
            }
        }
    }
}

/// The same id is stored again after the window: in a merged run it is there twice.
#[test]
fn of_an_id_that_a_run_holds_twice_the_newest_is_found() {
    let mut bench = Bench::new(1);
    for round in 0..MERGED as u64 {
        let ids = (0..RUN as u64).map(|n| match n {
            0..100 => id(n),
            _ => id(round << 32 | n),
        });
        let ids: Vec<_> = ids.collect();
        bench.store(&ids, true);
        bench.come_to_rest();
        bench.pass_the_window();
    }
    is_clean(&bench, 1);
    for n in 0..100 {
        bench.check_ever(id(n));
    }
}
