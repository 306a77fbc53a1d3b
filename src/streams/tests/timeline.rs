//! The timeline of a stream with many events: most are in blocks of the file.

use super::*;
use crate::stream::StreamRecord;

const EVENTS: Seq = 600;

/// Screenshots, with a push exception at each tenth place, which arrives twice. The times of the
/// events are not in the order of their arrival.
fn facts() -> Vec<StreamFact> {
    let fact = |seq: Seq| {
        let (kind, number) = match seq % 10 {
            0 | 1 => (Kind::PushException, 1 + (seq / 10 % 2) as u8),
            _ => (Kind::Snapshot, 0),
        };
        let mut fact = stream_fact(0, 1, number, seq, kind, seq ^ 1, 0);
        if kind == Kind::PushException {
            fact.fact.id = EventId::from_bytes([(seq / 10) as u8; 16]);
        }
        fact
    };
    (1..=EVENTS).map(fact).collect()
}

async fn record(bench: &Bench, before: Option<Seq>, limit: usize) -> StreamRecord {
    let stream = bench.streams(None).await.remove(0);
    bench.board.record(&stream, before, limit).await.unwrap()
}

fn latest_first(facts: &[StreamFact]) -> Vec<Seq> {
    let mut places: Vec<_> = facts
        .iter()
        .map(|item| (item.fact.at, item.fact.seq))
        .collect();
    places.sort();
    places.into_iter().rev().map(|(_, seq)| seq).collect()
}

async fn a_long_timeline_is_kept(engine: &str) {
    let bench = Bench::of(engine).await;
    let all = facts();
    for part in all.chunks(7) {
        bench.apply(part.to_vec()).await;
        bench.board.flush(true).unwrap();
    }
    let expected = latest_first(&all);
    let found = record(&bench, None, 1000).await;
    assert_eq!(found.timeline, expected);
    let mut exceptions = found.exceptions;
    exceptions.sort();
    let of = |sequence: &str, number| (Some(sequence.to_owned()), number);
    // Their ids are the tens from 0 to 60: the even ones are of push 1.
    assert_eq!(exceptions, [of("1", 31), of("2", 30)]);
    let newest = expected.iter().copied().find(|seq| seq % 10 > 1);
    assert_eq!(found.notable, newest.into_iter().collect::<Vec<_>>());
    let mut pages = Vec::new();
    while let Some(page) = Some(record(&bench, pages.last().copied(), 99).await.timeline)
        .filter(|page| !page.is_empty())
    {
        pages.extend(page.into_iter().take(99));
    }
    assert_eq!(pages, expected);
    // Some are forgotten, in all blocks, and the oldest altogether.
    let is_removed = |seq: Seq| seq <= EVENTS / 3 || seq % 3 == 0;
    let (removed, left): (Vec<_>, Vec<_>) = all
        .iter()
        .cloned()
        .partition(|item| is_removed(item.fact.seq));
    let removed: Vec<Seq> = removed.iter().map(|item| item.fact.seq).collect();
    bench.forget(&removed).await;
    let expected = latest_first(&left);
    assert_eq!(record(&bench, None, 1000).await.timeline, expected);
    // A rebuild changes nothing.
    for part in left.chunks(100) {
        let range = (part[0].fact.seq, part[part.len() - 1].fact.seq);
        bench.board.replace(part.to_vec(), range).await.unwrap();
    }
    assert_eq!(record(&bench, None, 1000).await.timeline, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_timeline_is_kept_on_sqlite() {
    a_long_timeline_is_kept("sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_timeline_is_kept_on_postgres() {
    a_long_timeline_is_kept("postgres").await;
}

/// More pushes than one block holds: 60 begins, a repeat of each, and then their ends, the newest first. Most ends belong to a push
/// that is in an earlier block.
fn many_pushes() -> Vec<StreamFact> {
    let begin = |number: Seq, from: Seq| {
        stream_fact(
            0,
            1,
            number as u8,
            from + number,
            Kind::StreamBegin,
            10 * number,
            0,
        )
    };
    let end = |number: Seq| {
        let seq = 181 - number;
        stream_fact(0, 1, number as u8, seq, Kind::StreamEnd, 10 * number + 5, 5)
    };
    let begins = (1..=60).map(|number| begin(number, 0));
    let repeats = (1..=60).map(|number| begin(number, 60));
    let mut all: Vec<_> = begins
        .chain(repeats)
        .chain((1..=60).rev().map(end))
        .collect();
    // Without a `sequence`: all of these are one push to the store.
    all.extend((0..40).map(|n| stream_fact(0, 1, 0, 181 + n, Kind::StreamBegin, 5 * n, 0)));
    all
}

async fn pushes_are_found_in_all_blocks(engine: &str) {
    let bench = Bench::of(engine).await;
    let all = many_pushes();
    let expected = |facts: &[StreamFact]| {
        let mut sessions = crate::stream::sessions(facts.iter().map(|item| &item.fact));
        sessions.sort_by(|one, other| other.order().cmp(&one.order()));
        sessions
    };
    for (n, part) in all.chunks(7).enumerate() {
        bench.apply(part.to_vec()).await;
        bench.board.flush(true).unwrap();
        let known = &all[..(7 * n + 7).min(all.len())];
        let found = record(&bench, None, 1000).await;
        assert_eq!(found.sessions, expected(known), "after part {n}");
    }
    // The first begin of each push is forgotten, but its repeat stays; of every third push, everything.
    let (removed, left): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|item| {
        let number: Option<Seq> = item
            .fact
            .sequence
            .as_deref()
            .map(|all| all.parse().unwrap());
        number.is_some_and(|number| number % 3 == 1)
    });
    let removed: Vec<Seq> = removed.iter().map(|item| item.fact.seq).collect();
    bench.forget(&removed).await;
    bench.board.flush(true).unwrap();
    let found = record(&bench, None, 1000).await;
    assert_eq!(found.sessions, expected(&left), "what is left");
    let firsts: Vec<Seq> = (1..=60).filter(|number| number % 3 != 1).collect();
    bench.forget(&firsts).await;
    bench.board.flush(true).unwrap();
    let found = record(&bench, None, 1000).await;
    assert_eq!(
        found.sessions,
        expected(&left),
        "each has a fact that is not gone"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_are_found_in_all_blocks_on_sqlite() {
    pushes_are_found_in_all_blocks("sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_are_found_in_all_blocks_on_postgres() {
    pushes_are_found_in_all_blocks("postgres").await;
}
