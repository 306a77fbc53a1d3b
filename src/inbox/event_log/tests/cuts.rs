//! Power cuts and failures at any moment, on a simulated disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::disk::{Chance, SimulatedDisk};
use super::*;

/// More with `LIVEHOOK_LOG_CUTS=20000`.
const RUNS: u64 = 60;

/// What was given to a log, and what it has acknowledged.
#[derive(Default)]
struct Truth {
    /// The bodies that were ever given a number; a number that was not acknowledged is given again.
    given: BTreeMap<Seq, Vec<Vec<u8>>>,
    acknowledged: BTreeMap<Seq, Vec<u8>>,
    bodies: u64,
}

impl Truth {
    fn body(&mut self, seq: Seq, chance: &mut Chance) -> Vec<u8> {
        self.bodies += 1;
        let long = if chance.is(20) { 9000 } else { 700 };
        let length = chance.below(long) as usize;
        let mut body = format!("{} {seq} ", self.bodies).into_bytes();
        body.resize(length.max(body.len()), b'a' + (seq % 26) as u8);
        self.given.entry(seq).or_default().push(body.clone());
        body
    }

    /// Checks what a log holds: everything that was acknowledged, nothing that was never given, each number once. What it holds
    /// beyond that counts as acknowledged from now on: it was read.
    fn check(&mut self, reader: &LogReader<SimulatedDisk>) {
        let mut found = BTreeMap::new();
        let mut seq = 0;
        loop {
            let events = reader.after(seq, 40, 20_000).unwrap();
            for stored in &events {
                let LogEntry::Event(event) = stored else {
                    panic!("event {} is damaged", stored.seq());
                };
                assert_eq!(event.seq(), seq + 1);
                seq += 1;
                let given = &self.given[&seq];
                let body = event.body().to_vec();
                assert!(given.contains(&body), "event {seq} is forged");
                found.insert(seq, body);
            }
            if events.is_empty() {
                break;
            }
        }
        for (seq, body) in &self.acknowledged {
            assert_eq!(found.get(seq), Some(body), "event {seq} is lost");
        }
        self.acknowledged = found;
    }
}

/// One process that uses the log, until it ends or is cut off: the disk that is left.
fn process(
    disk: SimulatedDisk,
    truth: &mut Truth,
    chance: &mut Chance,
    faults: u64,
) -> SimulatedDisk {
    let opened = open(Arc::new(disk.clone()), layout(), &KnownState::default());
    let EventLog {
        mut appender,
        reader,
        mut keeper,
    } = opened.unwrap_or_else(|error| panic!("{error}"));
    truth.check(&reader);
    let next = truth
        .acknowledged
        .keys()
        .next_back()
        .map_or(1, |last| last + 1);
    assert_eq!(appender.last() + 1, next);
    disk.fail(faults, chance.next());
    let mut now = Duration::ZERO;
    for _ in 0..chance.below(60) {
        if chance.is(50) {
            now += Duration::from_secs(4000);
        }
        let first = appender.last() + 1;
        let count = if chance.is(10) { 40 } else { 4 };
        let bodies: Vec<_> = (first..=first + chance.below(count) as Seq)
            .map(|seq| (seq, truth.body(seq, chance)))
            .collect();
        let batch: Vec<_> = bodies
            .iter()
            .map(|(seq, body)| record(*seq, body))
            .collect();
        let number = chance.next();
        if appender.append(&batch, now, || number).is_ok() {
            truth.acknowledged.extend(bodies);
        }
        for full in appender.take_full() {
            if !chance.is(4) {
                let _ = keeper.seal(&full);
            }
        }
        if chance.is(3) {
            let _ = keeper.begin_spare();
            while keeper.write_spare().is_ok_and(|bytes| bytes > 0) {}
        }
    }
    disk.fail(0, 0);
    truth.check(&reader);
    if chance.is(4) {
        appender.end();
        for full in appender.take_full() {
            keeper.seal(&full).unwrap();
        }
    }
    disk.cut(chance)
}

fn run(seed: u64, faults: u64) {
    let mut chance = Chance(seed);
    let mut truth = Truth::default();
    let mut disk = SimulatedDisk::default();
    for _ in 0..6 {
        disk = process(disk, &mut truth, &mut chance, faults);
    }
    process(disk, &mut truth, &mut chance, 0);
}

fn runs() -> u64 {
    std::env::var("LIVEHOOK_LOG_CUTS").map_or(RUNS, |runs| runs.parse().unwrap())
}

#[test]
fn power_cuts_lose_nothing() {
    (0..runs()).for_each(|seed| run(seed, 0));
}

#[test]
fn power_cuts_after_failed_writes_and_syncs_lose_nothing() {
    (0..runs()).for_each(|seed| run(seed, 2 + seed % 40));
}

/// The test notices a log that does not sync.
#[test]
#[should_panic(expected = "event")]
fn a_log_that_does_not_sync_is_noticed() {
    let mut chance = Chance(1);
    let mut truth = Truth::default();
    let mut disk = SimulatedDisk::default();
    for _ in 0..50 {
        disk.ignore_syncs();
        disk = process(disk, &mut truth, &mut chance, 0);
    }
}
