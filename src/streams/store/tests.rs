//! What is written and read again is what was in memory, whenever that was, and if a write failed.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use css_callbacks::{EventId, Kind};

use super::*;
use crate::stream::{Fact, Session, StreamFact, StreamQuery};

/// Changes of one run.
const STEPS: usize = 60;
/// In no order: a push of each may be in any block.
const SEQUENCES: [&str; 8] = ["9", "10", "100", "2", "~~", "\u{e9}", "z", "\u{4f60}"];

/// Chance that repeats.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit).cast_signed()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_764_000_000 + second)
}

fn fact(stream: i64, seq: Seq, kind: Kind, second: i64, sequence: Option<String>) -> StreamFact {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&[stream as u8, second as u8, kind.stored() as u8, 1]);
    StreamFact {
        stream: StreamKey {
            streamid: format!("room-{stream}"),
            ..StreamKey::default()
        },
        fact: Fact {
            seq,
            id: EventId::from_bytes(id),
            kind,
            at: at(second),
            received: at(1000 + seq),
            sequence,
            lasted: (kind == Kind::StreamEnd).then(|| Duration::from_secs(5)),
        },
    }
}

/// A fact of any stream and push.
fn any_fact(chance: &mut Chance, seq: Seq) -> StreamFact {
    let kind = match chance.below(10) {
        0..5 => Kind::StreamBegin,
        5..8 => Kind::StreamEnd,
        8 => Kind::PushException,
        _ => Kind::Snapshot,
    };
    let sequence = match chance.below(4) {
        0 => None,
        1 => Some(format!("{}", 10_000 - seq)),
        2 => Some(format!("{}", chance.below(60))),
        _ => Some(SEQUENCES[chance.below(8) as usize].to_owned()),
    };
    fact(chance.below(3), seq, kind, chance.below(40), sequence)
}

enum Change {
    Applied(Vec<StreamFact>),
    Forgotten(Vec<Seq>),
    Replaced(Vec<StreamFact>, (Seq, Seq)),
}

impl Change {
    /// `left`: all facts that are not forgotten.
    fn any(chance: &mut Chance, left: &mut Vec<StreamFact>, last: &mut Seq) -> Self {
        match chance.below(10) {
            0..7 => {
                let first = *last + 1;
                *last += 1 + chance.below(12);
                let facts: Vec<_> = (first..=*last).map(|seq| any_fact(chance, seq)).collect();
                left.extend(facts.iter().cloned());
                Self::Applied(facts)
            }
            7 | 8 => {
                let (gone, stay) = left.drain(..).partition(|_| chance.below(6) == 0);
                *left = stay;
                Self::Forgotten(gone.iter().map(|gone| gone.fact.seq).collect())
            }
            _ => {
                let first = chance.below(last.unsigned_abs().max(1));
                let range = first..=first + 30;
                let mut there = left.clone();
                there.retain(|item| range.contains(&item.fact.seq));
                Self::Replaced(there, (first, first + 30))
            }
        }
    }

    fn make(&self, store: &mut Store) {
        match self {
            Self::Applied(facts) => {
                let upto = facts.last().unwrap().fact.seq;
                store.apply(facts, &[], upto, at(0)).unwrap();
            }
            Self::Forgotten(gone) => {
                let numbers = 1..=store.meta.streams;
                let gone = numbers.map(|no| (no, gone.clone())).collect();
                store.forget(&gone, at(0)).unwrap();
            }
            Self::Replaced(facts, range) => {
                store.replace(facts, *range, at(0)).unwrap();
            }
        }
    }
}

/// Whether a write fails if the file may have only so many more pages.
fn fails_to_flush(store: &mut Store, more: i64) -> bool {
    let limit = |store: &Store, pages: i64| {
        let limit = format!("PRAGMA max_page_count = {pages}");
        store.conn.query_row(&limit, [], |_| Ok(())).unwrap();
    };
    let pages = "PRAGMA page_count";
    let pages: i64 = store.conn.query_row(pages, [], |row| row.get(0)).unwrap();
    limit(store, pages + more);
    let failed = store.flush().is_err();
    limit(store, i64::from(u32::MAX) - 1);
    failed
}

/// What the file has of a stream: its name, `live`, since when, its sessions, and its timeline.
type Shown = (String, bool, Option<Timestamp>, Vec<Session>, Vec<Seq>);

fn shown(store: &mut Store, file: &Path) -> BTreeSet<String> {
    store.flush().unwrap();
    let reader = Reader::open(file).unwrap();
    let rows = reader.list(&StreamQuery::default(), 0, 100).unwrap();
    let shown = rows.into_iter().map(|row| {
        let mut found = reader.record(row.no, None, 10_000).unwrap();
        found.sessions.sort_by(|one, other| one.key.cmp(&other.key));
        let mut keys: Vec<_> = found.sessions.iter().map(|session| &session.key).collect();
        keys.dedup();
        assert_eq!(keys.len(), found.sessions.len(), "a push is there twice");
        let name = row.key.streamid;
        let shown: Shown = (name, row.live, row.since, found.sessions, found.timeline);
        format!("{shown:?}")
    });
    shown.collect()
}

/// One store is written and opened again at any time, and some writes fail. The other is written at the end.
#[test]
fn whenever_it_is_written_the_board_is_the_same() {
    let mut failed = 0;
    for run in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let files = [dir.path().join("one"), dir.path().join("other")];
        let [mut one, mut other] = files.each_ref().map(|file| Store::open(file, 0).unwrap());
        let mut chance = Chance(run);
        let (mut left, mut last) = (Vec::new(), 0);
        let mut unwritten = Vec::new();
        for _ in 0..STEPS {
            let change = Change::any(&mut chance, &mut left, &mut last);
            change.make(&mut other);
            change.make(&mut one);
            unwritten.push(change);
            match chance.below(6) {
                0 | 1 => one.flush().unwrap(),
                2 => failed += usize::from(fails_to_flush(&mut one, chance.below(3))),
                3 => {
                    // After a crash, what was not written comes again.
                    drop(one);
                    one = Store::open(&files[0], Seq::MAX).unwrap();
                    unwritten.iter().for_each(|change| change.make(&mut one));
                }
                _ => {}
            }
            if one.changed.is_empty() && one.removed.is_empty() {
                unwritten.clear();
            }
        }
        let [one, other] =
            [(one, &files[0]), (other, &files[1])].map(|(mut store, file)| shown(&mut store, file));
        assert_eq!(one, other, "run {run}");
    }
    assert!(failed > 0, "no write has failed");
}

/// All begins and ends without a `sequence` are one push, which is longer than a tail.
#[test]
fn a_long_push_leaves_few_blocks_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&dir.path().join("streams.db"), 0).unwrap();
    for seq in 1..=400 {
        let begin = fact(1, seq, Kind::StreamBegin, seq, None);
        store.apply(&[begin], &[], seq, at(0)).unwrap();
        store.flush().unwrap();
    }
    let count = "SELECT count(*) FROM blocks";
    let blocks: i64 = store.conn.query_row(count, [], |row| row.get(0)).unwrap();
    assert!(blocks < 40, "{blocks} blocks");
}
