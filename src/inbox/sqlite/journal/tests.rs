#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::ops::Range;

use css_callbacks::Timestamp;

use super::*;
use crate::inbox::contract::{authentic, push};

fn batch(seqs: Range<Seq>) -> Vec<Numbered> {
    seqs.map(|seq| {
        let body = push("room", seq);
        let callback = authentic("css", body.as_bytes(), Timestamp::from_seconds(seq));
        Numbered { seq, callback }
    })
    .collect()
}

fn append(journal: &mut Journal, seqs: Range<Seq>) {
    journal.append(seqs.start, &batch(seqs), || Ok(())).unwrap();
}

fn recovered(dir: &Path, last: Seq) -> Result<Vec<Seq>, Damage> {
    let mut found = Vec::new();
    recover(dir, last, |event| {
        let expected = push("room", event.seq);
        assert_eq!(event.body, expected.as_bytes());
        assert_eq!((event.source, event.code), ("css", 1));
        assert_eq!(event.received, Timestamp::from_seconds(event.seq));
        found.push(event.seq);
        Ok(())
    })?;
    Ok(found)
}

fn all(seqs: Range<Seq>) -> Vec<Seq> {
    seqs.collect()
}

/// Changes one byte of a file.
fn damage(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    File::create(path).unwrap().write_all(&bytes).unwrap();
}

#[test]
fn what_was_appended_is_recovered_from_any_number_on() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(recovered(dir.path(), 0).unwrap(), all(0..0));
    let mut journal = Journal::open(dir.path(), None).unwrap();
    append(&mut journal, 1..4);
    append(&mut journal, 4..4);
    append(&mut journal, 4..5);
    append(&mut journal, 5..50);
    for last in 0..50 {
        assert_eq!(recovered(dir.path(), last).unwrap(), all(last + 1..50));
    }
    clear(dir.path());
    assert_eq!(recovered(dir.path(), 0).unwrap(), all(0..0));
}

/// At every length that a crash can leave of the last batch, and with every kind of page that did not make it.
#[test]
fn a_torn_end_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(NAMES[0]);
    let mut journal = Journal::open(dir.path(), None).unwrap();
    append(&mut journal, 1..3);
    let whole = std::fs::read(&file).unwrap();
    append(&mut journal, 3..6);
    let both = std::fs::read(&file).unwrap();
    let end = both.iter().rposition(|byte| *byte != 0).unwrap();
    for length in whole.len()..end - 8 {
        std::fs::write(&file, &both[..length]).unwrap();
        assert_eq!(recovered(dir.path(), 0).unwrap(), all(1..3), "{length}");
        let mut holes = both.clone();
        holes[length..length + 8].fill(0);
        if holes != both {
            std::fs::write(&file, &holes).unwrap();
            assert_eq!(recovered(dir.path(), 0).unwrap(), all(1..3), "{length}");
        }
    }
    std::fs::write(&file, &both).unwrap();
    assert_eq!(recovered(dir.path(), 0).unwrap(), all(1..6));
}

#[test]
fn files_have_their_length_from_the_begin() {
    let dir = tempfile::tempdir().unwrap();
    let lengths = || NAMES.map(|name| std::fs::metadata(dir.path().join(name)).unwrap().len());
    let mut journal = Journal::open(dir.path(), None).unwrap();
    assert_eq!(lengths(), [LENGTH; 2]);
    assert_eq!(recovered(dir.path(), 0).unwrap(), all(0..0));
    append(&mut journal, 1..9);
    drop(journal);
    // What is there stays.
    let _journal = Journal::open(dir.path(), None).unwrap();
    assert_eq!(lengths(), [LENGTH; 2]);
    assert_eq!(recovered(dir.path(), 0).unwrap(), all(1..9));
}

#[test]
fn damage_in_the_middle_is_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(NAMES[0]);
    let mut journal = Journal::open(dir.path(), None).unwrap();
    append(&mut journal, 1..3);
    let first = journal.halves[0].end as usize;
    append(&mut journal, 3..6);
    append(&mut journal, 6..8);
    for at in [0, 9, 20, 24, HEAD + 5, HEAD + 200, first, first + 25] {
        damage(&file, at);
        let expected = if at < first { 1 } else { 3 };
        match recovered(dir.path(), 0) {
            Err(Damage::Gap {
                expected: found, ..
            }) => assert_eq!(found, expected),
            other => panic!("{other:?} after damage at {at}"),
        }
        // What SQLite has is not needed.
        assert_eq!(recovered(dir.path(), 5).unwrap(), all(6..8));
        damage(&file, at);
    }
}

/// Files are used in turns; what is left of older use is not taken for anything.
#[test]
fn old_content_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), None).unwrap();
    let mut next = 1;
    let mut turns = 0;
    let mut synced = 0;
    while turns < 5 {
        append(&mut journal, next..next + 7);
        next += 7;
        if let Some(needed) = journal.wants_synced() {
            assert!(needed <= synced, "it would go over what is not synced");
            journal.turn();
            turns += 1;
            synced = next - 1;
        }
        let last = (next - 8).max(0);
        assert_eq!(recovered(dir.path(), last).unwrap(), all(last + 1..next));
        assert_eq!(
            recovered(dir.path(), synced).unwrap(),
            all(synced + 1..next)
        );
    }
    // Torn at the very begin of a file that is used again.
    append(&mut journal, next..next + 1);
    let file = dir.path().join(NAMES[journal.active]);
    damage(&file, HEAD + 3);
    assert_eq!(recovered(dir.path(), next - 1).unwrap(), all(0..0));
}

#[test]
fn an_append_that_failed_is_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), None).unwrap();
    append(&mut journal, 1..5);
    let writable = std::mem::replace(
        &mut journal.halves[0].file,
        File::open(dir.path().join(NAMES[0])).unwrap(),
    );
    assert!(journal.append(5, &batch(5..300), || Ok(())).is_err());
    assert_eq!(journal.wants_synced(), None);
    journal.halves[0].file = writable;
    append(&mut journal, 5..6);
    append(&mut journal, 6..9);
    assert_eq!(recovered(dir.path(), 0).unwrap(), all(1..9));
}

#[test]
fn what_a_burst_took_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), None).unwrap();
    let mut next = 1;
    while journal.halves[0].end <= 2 * LENGTH {
        append(&mut journal, next..next + 50);
        next += 50;
    }
    assert_eq!(journal.wants_shortened(), None, "it is written to");
    journal.turn();
    assert_eq!(journal.wants_shortened(), Some(next - 1));
    journal.shorten();
    assert_eq!(journal.wants_shortened(), None);
    append(&mut journal, next..next + 5);
    assert_eq!(Journal::size(dir.path()), 2 * LENGTH);
    assert_eq!(
        recovered(dir.path(), next - 1).unwrap(),
        all(next..next + 5)
    );
}

#[test]
fn what_is_kept_stays_before_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), None).unwrap();
    append(&mut journal, 1..9);
    drop(journal);
    let mut journal = Journal::open(dir.path(), Some(8)).unwrap();
    append(&mut journal, 9..12);
    append(&mut journal, 12..15);
    assert_eq!(recovered(dir.path(), 0).unwrap(), all(1..15));
    // It is given up only when all of it is in SQLite.
    assert_eq!(journal.wants_synced(), Some(8));
    drop(journal);
    let mut journal = Journal::open(dir.path(), Some(14)).unwrap();
    append(&mut journal, 15..16);
    assert_eq!(recovered(dir.path(), 0).unwrap(), all(1..16));
}
