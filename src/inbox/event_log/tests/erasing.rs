//! Erasing in a segment whose last write failed.

use std::sync::Arc;
use std::time::Duration;

use super::disk::SimulatedDisk;
use super::*;

fn append(log: &mut EventLog<SimulatedDisk>, number: u64) -> io::Result<()> {
    let seq = log.appender.last() + 1;
    let body = body_of(seq);
    log.appender
        .append(&[record(seq, &body)], Duration::ZERO, || number)
}

fn erase(log: &mut EventLog<SimulatedDisk>, seqs: &[Seq]) -> io::Result<()> {
    let others = log.appender.erase(seqs)?;
    log.keeper.erase(&others)
}

fn open_on(disk: &SimulatedDisk) -> EventLog<SimulatedDisk> {
    open(Arc::new(disk.clone()), layout(), &KnownState::default()).unwrap()
}

fn check(reader: &LogReader<SimulatedDisk>, erased: Seq, last: Seq) {
    for seq in 1..=last {
        let stored = reader.get(seq).unwrap().unwrap();
        match seq == erased {
            true => assert!(matches!(stored, LogEntry::Erased(_)), "{stored:?}"),
            false => check_event(&stored, seq),
        }
    }
}

/// The records of the unfinished block are written again, to a new segment.
#[test]
fn what_is_erased_after_a_failed_write_does_not_come_back() {
    for erased in 1..=3 {
        let disk = SimulatedDisk::default();
        let mut log = open_on(&disk);
        (1..=3).for_each(|number| append(&mut log, number).unwrap());
        disk.fail(1, 0);
        assert!(append(&mut log, 4).is_err());
        disk.fail(0, 0);
        erase(&mut log, &[erased]).unwrap();
        check(&log.reader, erased, 3);
        append(&mut log, 5).unwrap();
        check(&log.reader, erased, 4);
        append(&mut log, 6).unwrap();
        check(&open_on(&disk).reader, erased, 5);
    }
}

#[test]
fn an_erasure_that_failed_can_be_repeated_before_and_after_the_next_event() {
    for is_before in [true, false] {
        let disk = SimulatedDisk::default();
        let mut log = open_on(&disk);
        (1..=3).for_each(|number| append(&mut log, number).unwrap());
        disk.fail(1, 0);
        assert!(erase(&mut log, &[2]).is_err());
        disk.fail(0, 0);
        if is_before {
            erase(&mut log, &[2]).unwrap();
            append(&mut log, 4).unwrap();
        } else {
            append(&mut log, 4).unwrap();
            erase(&mut log, &[2]).unwrap();
        }
        check(&log.reader, 2, 4);
        check(&open_on(&disk).reader, 2, 4);
    }
}
