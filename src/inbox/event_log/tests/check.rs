//! A check names every damage, and nothing else.

use std::path::Path;

use super::super::*;
use super::*;

const EVENTS: Seq = 300;

/// A log of several segments that is closed in order, or killed.
fn log_in(path: &Path, in_order: bool) {
    let mut log = open_in(path).unwrap();
    for _ in 0..EVENTS / 10 {
        log.append(10);
    }
    if in_order {
        drop(log);
        drop(open_in(path).unwrap());
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 4;
    std::fs::write(path, &bytes).unwrap();
}

fn damage(path: &Path) -> Vec<String> {
    checked(path, &KnownState::default()).damage
}

#[test]
fn a_whole_log_has_no_damage_whether_it_is_closed_or_not() {
    for in_order in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        log_in(dir.path(), in_order);
        let report = checked(dir.path(), &KnownState::default());
        assert_eq!(report.damage, [""; 0]);
        assert_eq!(report.records, EVENTS as u64);
        assert_eq!(report.segments.last().unwrap().1, EVENTS);
    }
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(damage(empty.path()), [""; 0]);
}

/// Every bit counts, except those behind the records.
#[test]
fn a_flipped_bit_anywhere_is_found() {
    let dir = tempfile::tempdir().unwrap();
    log_in(dir.path(), true);
    let (logs, indexes) = (files(dir.path(), ".log"), files(dir.path(), ".idx"));
    let mut chance = Chance(3);
    for file in [
        &logs[0],
        &logs[1],
        logs.last().unwrap(),
        &indexes[0],
        indexes.last().unwrap(),
    ] {
        let whole = std::fs::read(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        for round in 0..40 {
            let at = (chance.next() % whole.len() as u64) as usize;
            flip(file, at);
            let found = damage(dir.path());
            std::fs::write(file, &whole).unwrap();
            if found.is_empty() {
                let is_padding = is_padding(&whole, at, name);
                assert!(
                    is_padding,
                    "{name}: byte {at} of {}, round {round}",
                    whole.len()
                );
                continue;
            }
            assert!(found[0].starts_with(name), "{found:?}");
        }
    }
    assert_eq!(damage(dir.path()), [""; 0]);
}

/// Whether a byte says nothing: the zeros behind a record, and the spare bytes of heads.
fn is_padding(whole: &[u8], at: usize, name: &str) -> bool {
    if name.ends_with(".idx") {
        return (60..64).contains(&at);
    }
    let mut begin = HEAD_OF_SEGMENT;
    if at < begin {
        return at >= 28;
    }
    while let Some(head) = record::RecordHead::read(&whole[begin..]) {
        let (body, length) = (head.body(), head.length());
        if (begin..begin + length).contains(&at) {
            return at >= begin + body.end;
        }
        begin += length;
    }
    false
}

#[test]
fn damage_is_named_by_its_place() {
    let dir = tempfile::tempdir().unwrap();
    log_in(dir.path(), true);
    let (logs, indexes) = (files(dir.path(), ".log"), files(dir.path(), ".idx"));
    flip(&logs[0], HEAD_OF_SEGMENT + 100);
    flip(&indexes[1], 90);
    let second = std::fs::read(&logs[1]).unwrap();
    let first_record = record::RecordHead::read(&second[HEAD_OF_SEGMENT..]).unwrap();
    flip(&logs[1], HEAD_OF_SEGMENT + 20);
    let found = damage(dir.path());
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], "00000000000000000001.log: event 1 is damaged");
    assert!(found[1].ends_with(".idx: its checksum does not match"));
    let lost = format!(
        ".log: event {} was accepted, but cannot be read",
        first_record.seq
    );
    assert!(found[2].ends_with(&lost), "{found:?}");
}

#[test]
fn a_gap_is_damage_unless_it_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    log_in(dir.path(), true);
    let logs = files(dir.path(), ".log");
    let first_of = |n: usize| segment::first_of(logs[n].file_name().unwrap().to_str().unwrap());
    let (second, third) = (first_of(1).unwrap(), first_of(2).unwrap());
    std::fs::remove_file(&logs[1]).unwrap();
    let missing = format!(
        "log: events {second} to {} were accepted, but no file has them",
        third - 1
    );
    assert_eq!(damage(dir.path()), [missing]);
    let expected = |removed, last| KnownState {
        removed,
        last,
        ..KnownState::default()
    };
    let removed = checked(dir.path(), &expected(vec![(second, third - 1)], EVENTS));
    assert_eq!(removed.damage, [""; 0]);
    // A removal that was interrupted: its file is there still.
    let removed = checked(dir.path(), &expected(vec![(1, third - 1)], EVENTS));
    assert_eq!(removed.damage, [""; 0]);
    assert_eq!(removed.records, (EVENTS - third + 1) as u64);
    let more = checked(
        dir.path(),
        &expected(vec![(second, third - 1)], EVENTS + 10),
    );
    assert_eq!(
        more.damage,
        ["log: events 301 to 310 were accepted, but no file has them"]
    );
}

/// After a crash the last file ends in anything.
#[test]
fn what_was_being_written_is_no_damage_but_what_was_synced_is() {
    let dir = tempfile::tempdir().unwrap();
    log_in(dir.path(), false);
    let logs = files(dir.path(), ".log");
    let file = logs.last().unwrap();
    let whole = std::fs::read(file).unwrap();
    let (mut begin, mut begins) = (HEAD_OF_SEGMENT, Vec::new());
    while let Some(head) = record::RecordHead::read(&whole[begin..]) {
        begins.push((begin, head.seq));
        begin += head.length();
    }
    // One of the last batch.
    let (at, seq) = begins[begins.len() - 3];
    flip(file, at + 100);
    let torn = checked(dir.path(), &KnownState::default());
    assert_eq!(torn.damage, [""; 0]);
    assert_eq!(torn.segments.last().unwrap().1, seq - 1);
    std::fs::write(file, &whole).unwrap();
    // One that the last batch proves.
    let (at, seq) = begins[0];
    for (byte, name) in [
        (100, "is damaged"),
        (20, "was accepted, but cannot be read"),
    ] {
        flip(file, at + byte);
        let found = damage(dir.path());
        std::fs::write(file, &whole).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].ends_with(&format!("event {seq} {name}")),
            "{found:?}"
        );
    }
    // The head of the file: neither a check nor a start takes it for one that was never used.
    flip(file, 10);
    let found = damage(dir.path());
    assert!(found[0].ends_with(": its head is damaged"), "{found:?}");
    let lost = open_in(dir.path()).err().unwrap();
    assert!(
        matches!(lost, LogError::Lost { last: EVENTS, .. }),
        "{lost}"
    );
    assert!(file.exists());
}
