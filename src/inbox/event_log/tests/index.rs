//! Indexes that are damaged, gone, or of another version.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::disk::SimulatedDisk;
use super::volume::{LogFile, Volume};
use super::*;

const EVENTS: Seq = 60;
const FIRST_INDEX: &str = "00000000000000000001.idx";

/// A log that is closed in order, with the index of its first segment.
fn log_in(path: &Path) -> PathBuf {
    let mut log = open_in(path).unwrap();
    (0..EVENTS / 10).for_each(|_| log.append(10));
    drop(log);
    drop(open_in(path).unwrap());
    files(path, ".idx").remove(0)
}

/// The same on a simulated disk.
fn log_on(disk: &SimulatedDisk) -> EventLog<SimulatedDisk> {
    let known = KnownState::default();
    let mut log = open(Arc::new(disk.clone()), layout(), &known).unwrap();
    for seq in 1..=EVENTS {
        let body = body_of(seq);
        let number = || seq.unsigned_abs();
        let batch = [record(seq, &body)];
        log.appender.append(&batch, Duration::ZERO, number).unwrap();
    }
    log.appender.end();
    let full = log.appender.take_full();
    full.iter().for_each(|full| log.keeper.seal(full).unwrap());
    log
}

/// Checks that all events but these are found: in order, by number, by id, and as repeats.
fn check<V: Volume>(reader: &LogReader<V>, damaged: &[Seq], place: &str) {
    let all = reader.after(0, usize::MAX, usize::MAX).unwrap();
    assert_eq!(all.len(), EVENTS as usize, "{place}");
    for (seq, stored) in (1..).zip(&all) {
        let is_damaged = damaged.contains(&seq);
        assert_eq!(stored.seq(), seq, "{place}");
        match is_damaged {
            true => assert!(matches!(stored, LogEntry::Damaged(..)), "{place}"),
            false => check_event(stored, seq),
        }
        let (id, expected) = (id_of(seq), (!is_damaged).then_some(seq));
        assert_eq!(reader.find(&id).unwrap(), expected, "{place}");
        let (now, window) = (Timestamp::from_seconds(seq + 5), Duration::from_secs(6));
        let repeated = reader.find_within(&id, now, window).unwrap();
        assert_eq!(repeated, expected, "{place}");
    }
    assert_eq!(reader.find(&id_of(EVENTS + 1)).unwrap(), None, "{place}");
}

fn flipped(whole: &[u8], at: usize, bit: u8) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    bytes[at] ^= 1 << bit;
    bytes
}

#[test]
fn a_flipped_bit_in_any_byte_of_an_index_changes_nothing() {
    let disk = SimulatedDisk::default();
    drop(log_on(&disk));
    let known = KnownState::default();
    let content = || {
        let file = disk.open(FIRST_INDEX).unwrap();
        let mut bytes = vec![0; file.length().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    let whole = content();
    for at in 0..whole.len() {
        let flipped = flipped(&whole, at, (at % 8) as u8);
        let damage = || {
            let file = disk.open_to_write(FIRST_INDEX).unwrap();
            file.write_at(&flipped, 0).unwrap();
        };
        damage();
        let log = open(Arc::new(disk.clone()), layout(), &known).unwrap();
        check(&log.reader, &[], &format!("byte {at}, at the start"));
        assert_eq!(content(), whole, "byte {at}");
        damage();
        check(&log.reader, &[], &format!("byte {at}, while it is used"));
        let log = open(Arc::new(disk.clone()), layout(), &known).unwrap();
        check(&log.reader, &[], &format!("byte {at}, at the next start"));
        assert_eq!(content(), whole, "byte {at}");
    }
}

#[test]
fn an_index_that_is_gone_or_short_or_of_another_version_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = log_in(dir.path());
    let whole = std::fs::read(&file).unwrap();
    let mut other = whole.clone();
    other[7] = b'1';
    let crc = crc32fast::hash(&other[..44]);
    other[44..48].copy_from_slice(&crc.to_le_bytes());
    let lengths = (0..whole.len()).step_by(7);
    let short = lengths.map(|length| Some(whole[..length].to_vec()));
    for content in short.chain([None, Some(other)]) {
        match &content {
            Some(content) => std::fs::write(&file, content).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let log = open_in(dir.path()).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), whole);
        check(&log.reader, &[], "after the start");
        std::fs::remove_file(&file).unwrap();
        check(&log.reader, &[], "removed while it is used");
        assert_eq!(std::fs::read(&file).unwrap(), whole);
    }
}

/// Its pages are read one by one.
#[test]
fn a_flipped_bit_in_one_page_of_a_large_index_is_noticed_when_that_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Arc::new(Directory::new(dir.path().to_owned()));
    let known = KnownState::default();
    let EventLog {
        mut appender,
        reader,
        keeper,
    } = open(volume, Layout::default(), &known).unwrap();
    let batch: Vec<_> = (1..=3000).map(|seq| record(seq, b"{}")).collect();
    appender.append(&batch, Duration::ZERO, || 1).unwrap();
    appender.end();
    let full = appender.take_full();
    full.iter().for_each(|full| keeper.seal(full).unwrap());
    let file = files(dir.path(), ".idx").remove(0);
    let whole = std::fs::read(&file).unwrap();
    for at in (48..48 + 3000 * 16).step_by(1999) {
        std::fs::write(&file, flipped(&whole, at, 3)).unwrap();
        for seq in 1..=3000 {
            assert_eq!(reader.find(&id_of(seq)).unwrap(), Some(seq), "byte {at}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), whole, "byte {at}");
    }
    assert!(reader.find(&id_of(3001)).unwrap().is_none());
}

#[test]
fn of_a_damaged_segment_with_a_damaged_index_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let index = log_in(dir.path());
    let segment = files(dir.path(), ".log").remove(0);
    let whole = std::fs::read(&segment).unwrap();
    let (mut begins, mut at) = (Vec::new(), HEAD_OF_SEGMENT);
    while let Some(head) = whole.get(at..).and_then(record::RecordHead::read) {
        begins.push(at);
        at += head.length();
    }
    // The head of the segment, the heads of two records that follow each other, and of the last one, and a body.
    let last = begins.len();
    let places = [
        10,
        begins[3] + 30,
        begins[4],
        begins[9] + 100,
        begins[last - 1] + 20,
    ];
    let bytes = places
        .iter()
        .fold(whole, |bytes, at| flipped(&bytes, *at, 2));
    std::fs::write(&segment, bytes).unwrap();
    let damaged = [4, 5, 10, last as Seq];
    check(
        &open_in(dir.path()).unwrap().reader,
        &damaged,
        "with its index",
    );
    let whole = std::fs::read(&index).unwrap();
    std::fs::write(&index, flipped(&whole, 48 + 5 * 16, 0)).unwrap();
    for place in ["with a damaged index", "with the one that was made again"] {
        check(&open_in(dir.path()).unwrap().reader, &damaged, place);
    }
}

#[test]
fn an_index_that_cannot_be_made_again_stays_in_memory_and_many_may_need_it_at_once() {
    for is_full in [true, false] {
        let disk = SimulatedDisk::default();
        let log = log_on(&disk);
        let file = disk.open_to_write(FIRST_INDEX).unwrap();
        file.write_at(&[0x55], 48 + 3).unwrap();
        disk.fail(u64::from(is_full), 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| check(&log.reader, &[], "from several threads"));
            }
        });
        disk.fail(0, 0);
        let is_in_memory = log.reader.segments()[0].sealed.is_none();
        assert_eq!(is_in_memory, is_full);
        let log = open(Arc::new(disk), layout(), &KnownState::default()).unwrap();
        check(&log.reader, &[], "after a start");
    }
}

/// The same id again and again, as after the duplicate window.
#[test]
fn of_events_with_one_id_the_newest_that_is_still_there_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path()).unwrap();
    let again = |log: &mut Log| {
        let seq = log.appender.last() + 1;
        let record = LogRecord {
            id: id_of(1),
            ..record(seq, b"a body")
        };
        log.appender
            .append(&[record], Duration::ZERO, || 1)
            .unwrap();
        log.append(2);
        seq
    };
    let seqs: Vec<Seq> = (0..4).map(|_| again(&mut log)).collect();
    let find = |log: &Log| log.reader.find(&id_of(1)).unwrap();
    let (first, newest) = (seqs[0], seqs[3]);
    assert_eq!(find(&log), Some(newest));
    let others = log.appender.erase(&[newest]).unwrap();
    assert_eq!((find(&log), others), (Some(seqs[2]), Vec::new()));
    log.appender.end();
    let full = log.appender.take_full();
    full.iter().for_each(|full| log.keeper.seal(full).unwrap());
    assert_eq!(find(&log), Some(seqs[2]));
    log.keeper.erase(&seqs[1..3]).unwrap();
    assert_eq!(find(&log), Some(first));
    let log = open_in(dir.path()).unwrap();
    assert_eq!(find(&log), Some(first));
    log.keeper.erase(&[first]).unwrap();
    assert_eq!(find(&log), None);
}

#[test]
fn a_flipped_bit_in_an_erased_body_is_no_damage_if_the_event_is_known_to_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let index = log_in(dir.path());
    let log = open_in(dir.path()).unwrap();
    log.keeper.erase(&[2]).unwrap();
    drop(log);
    let segment = files(dir.path(), ".log").remove(0);
    let whole = std::fs::read(&segment).unwrap();
    let place = whole.windows(8).position(|part| part == b"-erased-");
    std::fs::write(&segment, flipped(&whole, place.unwrap() + 9, 1)).unwrap();
    std::fs::remove_file(&index).unwrap();
    assert!(open_in(dir.path()).is_err(), "it is known to nobody");
    let known = KnownState {
        erased: [2].into(),
        ..KnownState::default()
    };
    let log = open_knowing(dir.path(), &known).unwrap();
    assert_eq!(log.reader.find(&id_of(2)).unwrap(), None);
    let LogEntry::Damaged(2, Some(head)) = log.reader.get(2).unwrap().unwrap() else {
        panic!("its head is whole");
    };
    assert_eq!(head.id(), id_of(2));
    check_event(&log.reader.get(3).unwrap().unwrap(), 3);
    let damage = checked(dir.path(), &known).damage;
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert!(
        damage[0].ends_with("event 2 is deleted, but its body is not overwritten as it should be")
    );
}

#[test]
fn a_copy_from_a_wrong_clock_does_not_hide_an_earlier_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path()).unwrap();
    let add = |log: &mut Log, second: i64| {
        let seq = log.appender.last() + 1;
        let record = LogRecord {
            id: id_of(1),
            received: Timestamp::from_seconds(second),
            ..record(seq, b"a body")
        };
        log.appender
            .append(&[record], Duration::ZERO, || 1)
            .unwrap();
        seq
    };
    let first = add(&mut log, 100);
    add(&mut log, 1_000_000);
    let repeated = |log: &Log| {
        let (now, window) = (Timestamp::from_seconds(110), Duration::from_secs(60));
        log.reader.find_within(&id_of(1), now, window).unwrap()
    };
    assert_eq!(repeated(&log), Some(first));
    log.appender.end();
    let full = log.appender.take_full();
    full.iter().for_each(|full| log.keeper.seal(full).unwrap());
    assert_eq!(repeated(&log), Some(first));
}

#[test]
fn a_segment_that_is_not_there_is_not_blamed_on_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path()).unwrap();
    (0..30).for_each(|_| log.append(10));
    drop(log);
    drop(open_in(dir.path()).unwrap());
    let (gone, kept) = (&files(dir.path(), ".log")[1], dir.path().join("kept"));
    std::fs::rename(gone, &kept).unwrap();
    let problem = open_in(dir.path()).err().unwrap().to_string();
    let expected = format!("{} lacks a file: event", dir.path().display());
    assert!(problem.starts_with(&expected), "{problem}");
    assert!(!problem.contains("move this file away"), "{problem}");
    std::fs::rename(&kept, gone).unwrap();
    open_in(dir.path()).unwrap().check(300, 50);
}
