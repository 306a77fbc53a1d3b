//! Power cuts at any moment lose no acknowledged event.
//!
//! The server runs once, and all its file operations are recorded. A simulated disk then computes
//! what a power cut at some moment could have left: any part of the data that was not synced. The
//! server is started again on each such directory.

mod cuts;
mod disk;
mod recording;
mod run;

use self::cuts::{cut, cut_in};
use self::recording::{Op, Record};
use self::run::{After, Beside, Run};

/// The server is recorded beside something, and the power is cut at many moments.
fn cut_beside(name: &str, beside: Beside) -> Run {
    let run = Run::record(beside);
    cut(name, &run);
    run
}

#[test]
fn power_cuts_lose_nothing_that_was_acknowledged() {
    let run = cut_beside("no failure", Beside::default());

    // The same run of a server that does not sync its log.
    let recording = run.recording();
    let mut records = recording::read(&recording);
    let segments: Vec<u64> = records
        .iter()
        .filter_map(|record| match &record.op {
            Op::Rename { inode, to, .. } if to.extension().is_some_and(|end| end == "log") => {
                Some(*inode)
            }
            _ => None,
        })
        .collect();
    let is_kept = |record: &Record| match &record.op {
        Op::SyncBegin { inode } | Op::SyncEnd { inode, .. } => !segments.contains(inode),
        _ => true,
    };
    records.retain(is_kept);
    // The server refuses the directory, or has lost events.
    let noticed = std::panic::catch_unwind(|| cut_in(&records, 20, &run).unwrap());
    assert!(
        noticed.is_err(),
        "a server that does not sync is not noticed"
    );
}

#[test]
fn power_cuts_beside_a_reader_lose_nothing() {
    cut_beside(
        "a reader",
        Beside {
            reader: true,
            ..Beside::default()
        },
    );
}

/// What fails, as `record.c` wants it, and goes on by itself.
const FAILURES: [&str; 12] = [
    "sync inbox-accept/*.log 1 3000000",
    "sync inbox-log/*.log 1 2000000",
    "sync inbox-accept/log 1 2000000",
    "sync inbox-log/log 1 2000000",
    "sync spare.new 1 1500000",
    "sync index.new 1 1500000",
    "short inbox-accept/*.log 1 3000000",
    "write inbox-accept/*.log 1 3000000",
    "full inbox-accept/*.log 1 3000000",
    "full spare.new 1 1500000",
    "full index.new 1 1500000",
    "full state.db-wal 1 1500000",
];

#[test]
fn power_cuts_after_a_failure_in_the_log_lose_nothing() {
    for fail in FAILURES {
        let beside = Beside {
            fail: Some(fail),
            ..Beside::default()
        };
        cut_beside(fail, beside);
    }
}

/// A start finds in memory what is not on the disk, as if it were.
#[test]
fn power_cuts_after_failed_syncs_and_a_kill_lose_nothing() {
    for fail in [
        "syncs inbox-accept/*.log 1 3000000",
        "syncs inbox-accept/log 1 2000000",
        "syncs inbox-accept/*log 1 3000000",
        "write inbox-accept/*.log 1 3000000",
    ] {
        let beside = Beside {
            fail: Some(fail),
            after: After::Kill,
            ..Beside::default()
        };
        cut_beside(&format!("{fail}, then a kill"), beside);
    }
}

#[test]
fn power_cuts_after_a_failed_sync_of_sqlites_log_lose_nothing() {
    let beside = Beside {
        fail: Some("sync state.db-wal 1 2000000"),
        after: After::End,
        reader: true,
        ..Beside::default()
    };
    cut_beside("a failed sync of state.db-wal", beside);
}

#[test]
fn power_cuts_after_a_failed_sync_of_the_state_lose_nothing() {
    let beside = Beside {
        fail: Some("sync state.db 1 2000000"),
        after: After::End,
        ..Beside::default()
    };
    cut_beside("a failed sync of state.db", beside);
}

#[test]
fn power_cuts_beside_a_deletion_lose_nothing_else_and_bring_nothing_back() {
    cut_beside(
        "a deletion",
        Beside {
            deletion: true,
            ..Beside::default()
        },
    );
}

#[test]
fn power_cuts_beside_retention_lose_only_what_has_expired() {
    cut_beside(
        "retention",
        Beside {
            retention: Some(2),
            ..Beside::default()
        },
    );
}
