//! Kills under load lose no acknowledged event, also while another program uses the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use serde_json::Value;

use crate::support::load::{Load, StopOnDrop, counts_in_order, whole_lines};
use crate::support::target::{Hit, Target, number_in_stream, reserve};
use crate::support::{Client, Settings, TestServer, wait_up_to};

/// The number of kills. `LIVEHOOK_CRASHES=100` makes more.
const CRASHES: u64 = 12;
/// The pause between two events of a sender.
const PACE: Duration = Duration::from_millis(3);

#[test]
fn kills_under_load_lose_double_or_reorder_nothing_that_was_acknowledged() {
    let crashes = std::env::var("LIVEHOOK_CRASHES").map_or(CRASHES, |crashes| {
        crashes.parse().expect("LIVEHOOK_CRASHES is a number")
    });
    let target = Target::good();
    let handlers = format!(
        "[handlers.file]\nconcurrency = 64\nto = {{ type = \"file\", path = \"events.jsonl\" }}\n\
         [handlers.http]\nconcurrency = 64\nretry = {{ initial = \"50ms\", max = \"1s\" }}\nto = {{ type = \"http\", url = \"{}\" }}\n",
        target.url()
    );
    let addresses = [reserve(), reserve()];
    // Small files, so that kills also hit the end of one, its index and the file made ahead for the next.
    let settings = Settings {
        inbox: "segment_size = \"1MiB\"".into(),
        ..Settings::with_handlers(&handlers)
    }
    .at(addresses[0], addresses[1]);
    let directory = tempfile::tempdir().unwrap();
    let mut server = Some(TestServer::start_in(directory.path(), &settings));
    let load = Load::on(&addresses[..1], PACE);
    let other_program = OtherProgram::default();
    let (acknowledged, ()) = load.run(|| {
        std::thread::scope(|scope| {
            let over = StopOnDrop(&other_program.over);
            scope.spawn(|| other_program.run(&directory.path().join("data/state.db")));
            for crash in 0..crashes {
                std::thread::sleep(moment(crash));
                server.take().unwrap().kill();
                server = Some(TestServer::start_in(directory.path(), &settings));
            }
            drop(over);
        });
    });
    assert!(other_program.used.load(Ordering::Relaxed) >= crashes);
    let server = server.unwrap();
    let total: u64 = acknowledged.values().sum();
    let retries = load.refused() + load.unanswered();
    assert!(retries >= crashes, "no kill hit a sender");

    let file = directory.path().join("events.jsonl");
    let in_file = wait_up_to(
        Duration::from_secs(60),
        "the file to have everything",
        || {
            let (lines, torn) = whole_lines(&file);
            let complete = counts_in_order(lines.iter().map(number_in_stream))
                .values()
                .sum::<u64>()
                >= total;
            complete.then_some((lines, torn))
        },
    );
    wait_up_to(
        Duration::from_secs(60),
        "the target to have everything",
        || {
            (target.delivered() as u64 >= total).then_some(())?;
            let hits = target.hits();
            (counts_in_order(hits.iter().map(Hit::number_in_stream))
                .values()
                .sum::<u64>()
                >= total)
                .then_some(())
        },
    );
    let (lines, torn) = in_file;
    let in_target = counts_in_order(target.hits().iter().map(Hit::number_in_stream));
    assert_eq!(
        counts_in_order(lines.iter().map(number_in_stream)),
        acknowledged,
        "the file"
    );
    assert_eq!(in_target, acknowledged, "the target");
    assert!(torn <= crashes, "{torn} broken lines after {crashes} kills");

    let stored = server.events();
    let ids: BTreeSet<&str> = stored
        .iter()
        .map(|event| event["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        stored.len() as u64,
        total,
        "nothing is stored twice or missing"
    );
    let delivered: BTreeMap<&str, &Value> = lines
        .iter()
        .map(|line| (line["id"].as_str().unwrap(), line))
        .collect();
    assert_eq!(ids, delivered.keys().copied().collect(), "one id per event");
    let mut admin = Client::new(server.admin);
    for (id, line) in delivered.iter().step_by(7) {
        assert_eq!(
            &admin.get(&format!("/api/events/{id}")).unwrap().json(),
            *line
        );
    }
    println!(
        "{crashes} kills, {total} events acknowledged, {} retries, {} lines ({torn} torn), {} requests to the target",
        retries,
        lines.len(),
        target.count(),
    );
}

/// Another program that repeatedly opens the store, reads, writes and closes it.
#[derive(Default)]
struct OtherProgram {
    over: AtomicBool,
    used: AtomicU64,
}

impl OtherProgram {
    fn run(&self, file: &Path) {
        while !self.over.load(Ordering::Relaxed) {
            let used = Connection::open(file).and_then(|conn| {
                conn.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
                conn.execute_batch(
                    "BEGIN IMMEDIATE; UPDATE meta SET value = value WHERE name = 'readable_by'; COMMIT",
                )
            });
            match used {
                Ok(()) => drop(self.used.fetch_add(1, Ordering::Relaxed)),
                // The store is locked while a server starts or runs.
                Err(error) => assert!(
                    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy),
                    "{error}"
                ),
            }
            std::thread::sleep(PACE);
        }
    }
}

/// Pseudo-random times from 30 to 730 ms, the same in each run.
fn moment(crash: u64) -> Duration {
    let mixed = (crash + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    Duration::from_millis(30 + mixed % 700)
}
