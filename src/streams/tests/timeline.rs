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
