#![allow(clippy::unwrap_used)]

mod check;
mod cuts;
mod disk;
mod erasing;
mod index;

use std::sync::Arc;
use std::time::Duration;

use css_callbacks::{EventId, Timestamp};

use self::disk::Chance;
use super::*;

/// Small segments, so that a few events fill several.
fn layout() -> Layout {
    Layout {
        segment: 16 << 10,
        room: 0,
        ..Layout::default()
    }
}

/// A log on a directory.
struct Log {
    appender: LogAppender<Directory>,
    reader: LogReader<Directory>,
    keeper: LogKeeper<Directory>,
    chance: Chance,
}

fn open_in(path: &std::path::Path) -> Result<Log, LogError> {
    open_knowing(path, &KnownState::default())
}

fn open_knowing(path: &std::path::Path, known: &KnownState) -> Result<Log, LogError> {
    let volume = Arc::new(Directory::new(path.to_owned()));
    let EventLog {
        appender,
        reader,
        keeper,
    } = open(volume, layout(), known)?;
    Ok(Log {
        appender,
        reader,
        keeper,
        chance: Chance(7),
    })
}

fn checked(path: &std::path::Path, expected: &KnownState) -> LogReport {
    check(&Directory::new(path.to_owned()), Some(expected)).unwrap()
}

fn id_of(seq: Seq) -> EventId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&Chance(seq.unsigned_abs()).next().to_be_bytes());
    bytes[8..].copy_from_slice(&seq.to_be_bytes());
    EventId::from_bytes(bytes)
}

fn body_of(seq: Seq) -> Vec<u8> {
    format!("{seq} ")
        .repeat(40 + (seq % 60) as usize)
        .into_bytes()
}

fn record(seq: Seq, body: &[u8]) -> LogRecord<'_> {
    LogRecord {
        seq,
        received: Timestamp::from_seconds(seq),
        id: id_of(seq),
        code: 1,
        source: "css",
        body,
    }
}

impl Log {
    /// Appends so many events as a batch.
    fn append(&mut self, count: usize) {
        self.append_at(count, Duration::ZERO);
    }

    fn append_at(&mut self, count: usize, now: Duration) {
        let first = self.appender.last() + 1;
        let seqs = first..first + count as Seq;
        let bodies: Vec<_> = seqs.clone().map(body_of).collect();
        let batch: Vec<_> = seqs
            .zip(&bodies)
            .map(|(seq, body)| record(seq, body))
            .collect();
        let number = self.chance.next();
        self.appender.append(&batch, now, || number).unwrap();
        for full in self.appender.take_full() {
            self.keeper.seal(&full).unwrap();
            self.keeper.begin_spare().unwrap();
            while self.keeper.write_spare().unwrap() > 0 {}
        }
    }

    /// Checks that exactly the events up to `last` are there, read in parts of `limit`.
    fn check(&self, last: Seq, limit: usize) {
        let mut next = 1;
        loop {
            let found = self.reader.after(next - 1, limit, 8000).unwrap();
            if found.is_empty() {
                break;
            }
            assert!(found.len() <= limit);
            for stored in found {
                check_event(&stored, next);
                next += 1;
            }
        }
        assert_eq!(next, last + 1);
    }

    fn damaged(&self) -> Vec<Seq> {
        let all = self.reader.after(0, usize::MAX, usize::MAX).unwrap();
        all.iter()
            .filter(|stored| matches!(stored, LogEntry::Damaged(..)))
            .map(LogEntry::seq)
            .collect()
    }
}

fn check_event(stored: &LogEntry, seq: Seq) {
    let LogEntry::Event(event) = stored else {
        panic!("event {seq} is damaged");
    };
    assert_eq!(event.seq(), seq);
    assert_eq!(&event.body()[..], &body_of(seq)[..]);
    assert_eq!(event.id(), id_of(seq));
    assert_eq!(&**event.source(), "css");
    assert_eq!(event.received(), Timestamp::from_seconds(seq));
}

fn files(path: &std::path::Path, ending: &str) -> Vec<std::path::PathBuf> {
    let names = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = names
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    names.sort();
    names
}

#[test]
fn events_are_read_as_they_were_written_before_and_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path()).unwrap();
    log.check(0, 10);
    assert_eq!(log.reader.range(), None);
    for batch in [1, 1, 2, 30, 60, 40, 100, 3, 1, 91] {
        log.append(batch);
    }
    for limit in [1, 7, 1000] {
        log.check(329, limit);
    }
    assert!(files(dir.path(), ".log").len() >= 2);
    assert!(!files(dir.path(), ".idx").is_empty());
    drop(log);
    let mut log = open_in(dir.path()).unwrap();
    log.check(329, 50);
    assert_eq!(log.reader.range(), Some((1, 329)));
    log.append(2);
    log.append(5);
    log.check(336, 50);
    let Some(LogEntry::Event(event)) = log.reader.get(17).unwrap() else {
        panic!("event 17 is not there");
    };
    assert_eq!(event.seq(), 17);
    assert!(log.reader.get(337).unwrap().is_none());
}

#[test]
fn a_lone_event_takes_no_block_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path()).unwrap();
    let one = record(1, &body_of(1)).stored_length() as u64;
    for _ in 0..20 {
        log.append(1);
    }
    log.appender.end();
    let full = log.appender.take_full().pop().unwrap();
    assert!(full.end < 20 * one * 3);
    log.keeper.seal(&full).unwrap();
    let length = files(dir.path(), ".log")[0].metadata().unwrap().len();
    assert_eq!(length, full.end);
    log.check(20, 3);
}

#[test]
fn a_start_without_events_leaves_no_files() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let mut log = open_in(dir.path()).unwrap();
        log.appender.end();
        assert!(log.appender.take_full().is_empty());
    }
    assert!(files(dir.path(), "").is_empty());
}

#[test]
fn a_segment_ends_when_it_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path()).unwrap();
    log.append_at(1, Duration::from_secs(10));
    log.append_at(1, Duration::from_secs(3000));
    assert_eq!(files(dir.path(), ".log").len(), 1);
    log.append_at(1, Duration::from_secs(10 + 3600));
    assert_eq!(files(dir.path(), ".log").len(), 2);
    log.check(3, 10);
}

#[test]
fn ids_are_found_in_memory_and_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path()).unwrap();
    for _ in 0..40 {
        log.append(10);
    }
    let check = |log: &Log| {
        for seq in 1..=400 {
            assert_eq!(log.reader.find(&id_of(seq)).unwrap(), Some(seq));
        }
        for seq in 401..=2000 {
            assert_eq!(log.reader.find(&id_of(seq)).unwrap(), None);
        }
        let within = |seq, now, window| {
            let window = Duration::from_secs(window);
            let now = Timestamp::from_seconds(now);
            log.reader.find_within(&id_of(seq), now, window).unwrap()
        };
        assert_eq!(within(5, 10, 6), Some(5));
        assert_eq!(within(5, 10, 5), None, "it is older");
        assert_eq!(within(390, 10, 6), None, "it arrived in the future");
    };
    check(&log);
    drop(log);
    let mut log = open_in(dir.path()).unwrap();
    check(&log);
    // Without any filter in memory, too.
    let volume = Arc::new(Directory::new(dir.path().to_owned()));
    let layout = Layout {
        filters: 0,
        ..layout()
    };
    let opened = open(volume, layout, &KnownState::default()).unwrap();
    (log.appender, log.reader, log.keeper) = (opened.appender, opened.reader, opened.keeper);
    check(&log);
}

#[test]
fn a_bit_that_flips_in_a_full_segment_damages_one_event_and_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path()).unwrap();
    for _ in 0..12 {
        log.append(10);
    }
    drop(log);
    drop(open_in(dir.path()).unwrap());
    let paths = files(dir.path(), ".log");
    let mut chance = Chance(3);
    for _ in 0..300 {
        let path = &paths[chance.below(paths.len() as u64) as usize];
        let whole = std::fs::read(path).unwrap();
        let mut bytes = whole.clone();
        let at = chance.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << chance.below(8);
        std::fs::write(path, &bytes).unwrap();
        let log = open_in(dir.path()).unwrap();
        let damaged = log.damaged();
        assert!(damaged.len() <= 1, "{damaged:?}");
        let all = log.reader.after(0, usize::MAX, usize::MAX).unwrap();
        assert_eq!(all.len(), 120);
        for (seq, stored) in (1..).zip(&all) {
            assert_eq!(stored.seq(), seq);
            if !damaged.contains(&seq) {
                check_event(stored, seq);
            }
        }
        std::fs::write(path, &whole).unwrap();
    }
}

#[test]
fn damage_before_something_that_was_synced_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path()).unwrap();
    for _ in 0..6 {
        log.append(3);
    }
    drop(log);
    let path = &files(dir.path(), ".log")[0];
    let mut bytes = std::fs::read(path).unwrap();
    let at = HEAD_OF_SEGMENT
        + (1..5)
            .map(|seq| record(seq, &body_of(seq)).stored_length())
            .sum::<usize>();
    bytes[at + 100] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    let Err(LogError::Lost {
        first,
        last,
        path: named,
    }) = open_in(dir.path())
    else {
        panic!("it was opened");
    };
    assert_eq!((first, last), (5, 15), "the last batch may have been torn");
    assert_eq!(&named, path);
}

#[test]
fn a_segment_that_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path()).unwrap();
    for _ in 0..20 {
        log.append(10);
    }
    drop(log);
    let paths = files(dir.path(), ".log");
    let first = segment::first_of(&paths[1].file_name().unwrap().to_string_lossy()).unwrap();
    let next = segment::first_of(&paths[2].file_name().unwrap().to_string_lossy()).unwrap();
    std::fs::remove_file(&paths[1]).unwrap();
    let error = open_in(dir.path()).err().unwrap().to_string();
    assert!(
        error.contains(&format!("events {first} to {} were accepted", next - 1)),
        "{error}"
    );
}

const HEAD_OF_SEGMENT: usize = record::HEAD;

#[test]
fn old_segments_are_removed_whole_and_a_start_goes_on_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path()).unwrap();
    for _ in 0..30 {
        log.append(10);
    }
    let before = files(dir.path(), ".log");
    let oldest = std::fs::read(&before[0]).unwrap();
    let segments = log.reader.segments();
    assert!(segments.len() >= 4 && segments.last().unwrap().sealed.is_none());
    // The oldest two, and one in the middle.
    let removed = [segments[0], segments[1], segments[3]];
    let ranges: Vec<_> = removed.iter().map(|one| (one.first, one.last)).collect();
    removed
        .iter()
        .for_each(|one| log.keeper.remove(one.first).unwrap());
    let left: Vec<Seq> = (1..=300)
        .filter(|seq| !ranges.iter().any(|(from, to)| (from..=to).contains(&seq)))
        .collect();
    let check = |log: &LogReader<Directory>| {
        let found = log.after(0, usize::MAX, usize::MAX).unwrap();
        assert_eq!(found.iter().map(LogEntry::seq).collect::<Vec<_>>(), left);
        assert_eq!(log.find(&id_of(3)).unwrap(), None);
        assert!(!log.contains(3) && log.contains(segments[2].first));
    };
    check(&log.reader);
    assert_eq!(files(dir.path(), ".log").len(), before.len() - 3);
    assert_eq!(files(dir.path(), ".idx").len(), before.len() - 4);
    drop(log);
    assert!(
        open_in(dir.path()).is_err(),
        "the files in between are missing"
    );
    // A removal that a power cut interrupted: a file came back.
    std::fs::write(&before[0], &oldest).unwrap();
    let volume = Arc::new(Directory::new(dir.path().to_owned()));
    let known = KnownState {
        removed: vec![(1, removed[1].last), ranges[2]],
        ..KnownState::default()
    };
    let EventLog { reader, .. } = open(volume, layout(), &known).unwrap();
    check(&reader);
    assert!(!before[0].exists());
}

#[test]
fn events_of_a_time_are_found_among_many() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Arc::new(Directory::new(dir.path().to_owned()));
    let EventLog {
        mut appender,
        reader,
        keeper,
    } = open(volume, Layout::default(), &KnownState::default()).unwrap();
    // Three groups in each of two segments.
    for first in [1, 3001] {
        let batch: Vec<_> = (first..first + 3000)
            .map(|seq| record(seq, b"{}"))
            .collect();
        appender
            .append(&batch, Duration::ZERO, || first.unsigned_abs())
            .unwrap();
        appender.end();
    }
    let at = Timestamp::from_seconds;
    let of_time =
        |from: Seq, to: Seq| move |span: TimeSpan| span.newest >= at(from) && span.oldest < at(to);
    let check = || {
        assert_eq!(reader.skip(1, false, of_time(1, 2)), Some(1));
        assert_eq!(reader.skip(1, false, of_time(2000, 2001)), Some(1025));
        assert_eq!(reader.skip(1, false, of_time(3000, 3001)), Some(2049));
        assert_eq!(
            reader.skip(1, false, of_time(5900, 9000)),
            Some(3001 + 2048)
        );
        assert_eq!(reader.skip(1500, false, of_time(1, 1400)), Some(1500));
        assert_eq!(reader.skip(3000, false, of_time(1, 1400)), None);
        assert_eq!(reader.skip(6000, true, of_time(1, 2)), Some(1024));
        assert_eq!(reader.skip(6000, true, of_time(3000, 3001)), Some(3000));
        assert_eq!(reader.skip(2500, true, of_time(2400, 9000)), Some(2500));
        assert_eq!(reader.skip(6000, true, of_time(7000, 9000)), None);
    };
    check();
    let full = appender.take_full();
    assert_eq!(full.len(), 2);
    full.iter().for_each(|full| keeper.seal(full).unwrap());
    check();
}

#[test]
fn bodies_are_erased_in_the_segment_that_is_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path()).unwrap();
    let mut erased = Vec::new();
    for last in (5..=120).step_by(5) {
        log.append(5);
        // One in the unfinished block, one before it, and one of an earlier segment.
        let wanted = [last, (last - 7).max(1), 1];
        let others = log.appender.erase(&wanted).unwrap();
        log.keeper.erase(&others).unwrap();
        erased.extend(wanted);
    }
    let check = |log: &Log| {
        for seq in 1..=120 {
            let stored = log.reader.get(seq).unwrap().unwrap();
            match erased.contains(&seq) {
                true => assert!(matches!(stored, LogEntry::Erased(_)), "{seq}"),
                false => check_event(&stored, seq),
            }
        }
    };
    assert!(files(dir.path(), ".log").len() > 1);
    check(&log);
    drop(log);
    check(&open_in(dir.path()).unwrap());
    for file in files(dir.path(), ".log") {
        let bytes = std::fs::read(file).unwrap();
        for seq in &erased {
            let body = body_of(*seq);
            assert!(!bytes.windows(30).any(|part| part == &body[..30]), "{seq}");
        }
    }
}

#[test]
fn an_erased_body_is_gone_from_the_files_also_if_it_was_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path()).unwrap();
    for _ in 0..20 {
        log.append(10);
    }
    let seqs = [3, 4, 77, 150, 9999];
    log.appender.end();
    let full = log.appender.take_full();
    full.iter().for_each(|full| log.keeper.seal(full).unwrap());
    log.keeper.erase(&seqs).unwrap();
    log.append(1);
    let check = |log: &Log| {
        for seq in 1..=201 {
            let stored = log.reader.get(seq).unwrap().unwrap();
            if seqs.contains(&seq) {
                assert!(matches!(stored, LogEntry::Erased(_)));
                assert_eq!(log.reader.find(&id_of(seq)).unwrap(), None);
            } else {
                check_event(&stored, seq);
            }
        }
        assert_eq!(
            log.reader.after(0, usize::MAX, usize::MAX).unwrap().len(),
            201
        );
    };
    check(&log);
    let erased = KnownState {
        erased: [3, 4, 77, 150].into(),
        ..KnownState::default()
    };
    let damage = checked(dir.path(), &erased).damage;
    assert!(damage.is_empty(), "{damage:?}");
    drop(log);
    check(&open_in(dir.path()).unwrap());
    // What is noted and what is there differ.
    let damage = checked(dir.path(), &KnownState::default()).damage;
    assert_eq!(damage.len(), 4, "{damage:?}");
    assert!(damage[0].ends_with("event 3 is overwritten, but was never deleted"));
    let other = KnownState {
        erased: [3, 4, 5, 77, 150].into(),
        ..KnownState::default()
    };
    let damage = checked(dir.path(), &other).damage;
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert!(damage[0].ends_with("event 5 is deleted, but its body is still there"));
    for file in files(dir.path(), ".log") {
        let bytes = std::fs::read(file).unwrap();
        for seq in [3, 4, 77, 150] {
            let body = body_of(seq);
            assert!(!bytes.windows(20).any(|part| part == &body[..20]), "{seq}");
        }
    }
    // Half a body of a segment that has no index yet.
    let dir = tempfile::tempdir().unwrap();
    let mut log = open_in(dir.path()).unwrap();
    log.append(5);
    drop(log);
    let path = &files(dir.path(), ".log")[0];
    let mut bytes = std::fs::read(path).unwrap();
    let at = HEAD_OF_SEGMENT + record(1, &body_of(1)).stored_length() + record::HEAD + 3;
    bytes[at..at + 20].copy_from_slice(&record::erased(20));
    std::fs::write(path, &bytes).unwrap();
    let volume = Arc::new(Directory::new(dir.path().to_owned()));
    let known = KnownState {
        erasing: [2].into(),
        ..KnownState::default()
    };
    let EventLog { reader, keeper, .. } = open(volume, layout(), &known).unwrap();
    keeper.erase(&[2]).unwrap();
    assert!(matches!(reader.get(2).unwrap(), Some(LogEntry::Erased(event)) if event.seq() == 2));
    check_event(&reader.get(5).unwrap().unwrap(), 5);
}
