//! The stored board agrees with the rule, in whatever order facts are added and removed.

#![allow(clippy::unwrap_used)]

mod announce;
mod retention;
mod timeline;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use css_callbacks::{EventId, Kind, Timestamp};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::settings::StreamsConfig;
use super::store::EventsOfStreams;
use super::{Board, BoardBackend};
use crate::clock::{AgeCutoff, Clock};
use crate::event::Seq;
use crate::handler::Projection;
use crate::inbox::Inbox;
use crate::inbox::contract::{postgres_settings, server, settings};
use crate::stream::{Fact, StreamFact, StreamKey, StreamQuery};

/// The distance between the event numbers of two cases on one board.
const APART: Seq = 1000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_764_000_000 + second)
}

/// A board and its inbox.
struct Bench {
    dir: TempDir,
    clock: Clock,
    inbox: Inbox,
    board: Board,
    /// The first event number of the case. It is also part of the domain's name.
    case: Seq,
}

/// A stream as the board shows it: `live`, `since`, and its sessions with the ids of their events.
type Shown = (bool, Option<Timestamp>, Vec<String>);

impl Bench {
    async fn of(engine: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = match engine {
            "sqlite" => settings(dir.path()),
            _ => postgres_settings(&server::shared().create_database()),
        };
        let clock = Clock::manual(at(0));
        let inbox = Inbox::open(&settings, clock.clone(), Arc::default());
        let inbox = inbox.await.unwrap();
        let board = Self::open(&dir, &inbox, &clock);
        Self {
            dir,
            clock,
            inbox,
            board,
            case: 0,
        }
    }

    fn open(dir: &TempDir, inbox: &Inbox, clock: &Clock) -> Board {
        let settings = StreamsConfig::default().validate("streams").unwrap();
        let (inbox, clock) = (inbox.clone(), clock.clone());
        Board::open(dir.path(), inbox, clock, Arc::default(), settings).unwrap()
    }

    /// Removes the file of the board.
    fn lose(&self) {
        for ending in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(self.dir.path().join(format!("streams.db{ending}")));
        }
    }

    /// As after a start: the board continues from the file.
    fn reopen(&mut self) {
        self.board = Self::open(&self.dir, &self.inbox, &self.clock);
    }

    /// Passes the events to the board that it has not applied.
    async fn read_on(&self) {
        let cursor = self.board.cursor().unwrap();
        let events = self.inbox.after(cursor, 1000, usize::MAX).await.unwrap();
        self.board.apply_events(events).await.unwrap();
    }

    fn next_case(&mut self) {
        self.case += APART;
    }

    async fn shown(&self, ids: &BTreeMap<Seq, EventId>) -> BTreeMap<String, Shown> {
        let mut shown = BTreeMap::new();
        for stream in self.streams(None).await {
            let found = self.board.record(&stream, None, 1000).await.unwrap();
            let id = |seq: &Seq| ids[seq].to_string();
            let sessions = found.sessions.iter().map(|session| {
                let begin = session.begin.as_ref().map(id);
                let end = session.end.as_ref().map(|(at, seq)| (at, id(seq)));
                format!("{} {} {begin:?} {end:?}", session.key, session.start)
            });
            let of_stream = (stream.live, stream.since, sessions.collect());
            shown.insert(stream.key.streamid, of_stream);
        }
        shown
    }

    async fn live(&self) -> BTreeSet<String> {
        let streams = self.streams(Some(true)).await;
        streams
            .into_iter()
            .map(|stream| stream.key.streamid)
            .collect()
    }

    async fn streams(&self, live: Option<bool>) -> Vec<crate::stream::StreamRow> {
        let wanted = StreamQuery {
            live,
            domain: Some(format!("push-{}.example.com", self.case)),
            ..StreamQuery::default()
        };
        self.board.list(wanted, 0, 1000).await.unwrap().items
    }

    async fn apply(&self, facts: Vec<StreamFact>) {
        let upto = facts.last().map_or(0, |last| last.fact.seq);
        self.board.apply(&facts, &[], upto).await.unwrap();
    }

    /// Forgets events that are removed.
    async fn forget(&self, removed: &[Seq]) {
        match &self.board.backend {
            BoardBackend::File { store, .. } => {
                for stream in self.streams(None).await {
                    let gone = EventsOfStreams::from([(stream.no, removed.to_vec())]);
                    self.board.forget(store, gone).await.unwrap();
                }
            }
            BoardBackend::Shared(board) => {
                let debounce_until = self.board.debounce_until();
                board.forget(removed, debounce_until).await.unwrap();
            }
        }
    }

    async fn to_pin(&self) -> Vec<crate::stream::Begin> {
        let case = self.case;
        let (_, pin) = match &self.board.backend {
            BoardBackend::File { store, .. } => {
                self.board
                    .write(store, move |store| {
                        store.begins_to_pin(case, AgeCutoff::ALL, 1000)
                    })
                    .await
            }
            BoardBackend::Shared(board) => board.to_pin(case, AgeCutoff::ALL, 1000).await,
        }
        .unwrap();
        pin
    }
}

fn stream_fact(
    case: Seq,
    stream: u8,
    number: u8,
    seq: Seq,
    kind: Kind,
    second: i64,
    lasted: u8,
) -> StreamFact {
    let sequence = (number > 0).then(|| number.to_string());
    let mut id = [0; 16];
    id[..4].copy_from_slice(&[stream, number, second as u8, lasted]);
    id[15] = kind.stored() as u8;
    StreamFact {
        stream: StreamKey {
            source: "css".to_owned(),
            domain: format!("push-{case}.example.com"),
            appname: "live".to_owned(),
            streamid: format!("room-{stream}"),
        },
        fact: Fact {
            seq: case + seq,
            id: EventId::from_bytes(id),
            kind,
            at: at(second),
            received: at(1000 + seq),
            sequence,
            lasted: (kind == Kind::StreamEnd).then(|| Duration::from_secs(lasted.into())),
        },
    }
}

/// Stream, `sequence` (0 means none), kind, second, push duration in seconds.
type Arrival = (u8, u8, Kind, i64, u8);

fn arriving() -> impl Strategy<Value = Vec<Arrival>> {
    let kind = prop_oneof![
        5 => Just(Kind::StreamBegin),
        5 => Just(Kind::StreamEnd),
        1 => Just(Kind::PushException),
    ];
    proptest::collection::vec((0..3u8, 0..5u8, kind, 0..30i64, 0..15u8), 1..24)
}

fn numbered(case: Seq, arriving: &[Arrival]) -> Vec<StreamFact> {
    arriving
        .iter()
        .enumerate()
        .map(|(at, (stream, number, kind, second, lasted))| {
            stream_fact(
                case,
                *stream,
                *number,
                at as Seq + 1,
                *kind,
                *second,
                *lasted,
            )
        })
        .collect()
}

fn ids<'a>(all: impl IntoIterator<Item = &'a StreamFact>) -> BTreeMap<Seq, EventId> {
    all.into_iter()
        .map(|item| (item.fact.seq, item.fact.id))
        .collect()
}

type Arriving = Vec<Arrival>;
type Order = Vec<(u32, usize)>;

async fn any_order(bench: &mut Bench, (arriving, order, batch): (Arriving, Order, usize)) {
    let first = numbered(bench.case, &arriving);
    bench.apply(first.clone()).await;
    let one = bench.shown(&ids(&first)).await;
    let mut shuffled: Vec<(u32, Arrival)> = Vec::new();
    for (event, (key, times)) in arriving.iter().zip(&order) {
        for time in 0..*times {
            shuffled.push((key.rotate_left(time as u32 * 11), *event));
        }
    }
    shuffled.sort_by_key(|(key, _)| *key);
    let shuffled: Vec<_> = shuffled.into_iter().map(|(_, event)| event).collect();
    bench.next_case();
    let case = bench.case;
    let second = numbered(case, &shuffled);
    for (number, part) in second.chunks(batch).enumerate() {
        bench.apply(part.to_vec()).await;
        if number.is_multiple_of(2) {
            bench.board.flush(true).unwrap();
        }
        // After a crash the board reads an event twice.
        bench.apply(part[..1].to_vec()).await;
    }
    let other = bench.shown(&ids(&second)).await;
    assert_eq!(one, other);
    // A reindex from the same facts changes nothing.
    let all = (case + 1, case + second.len() as Seq);
    bench.board.replace(second.clone(), all).await.unwrap();
    assert_eq!(other, bench.shown(&ids(&second)).await);
    bench.next_case();
}

async fn retention(
    bench: &mut Bench,
    (arriving, later, passes): (Arriving, Arriving, Vec<(i64, u64)>),
) {
    let case = bench.case;
    let mut all = numbered(case, &arriving);
    bench.apply(all.clone()).await;
    let mut stored: BTreeSet<Seq> = all.iter().map(|item| item.fact.seq).collect();
    let mut pinned: HashSet<Seq> = HashSet::new();
    for (pass, (upto, parked)) in passes.iter().enumerate() {
        if pass == 1 {
            let more = more(case, all.len() as Seq, &later);
            bench.apply(more.clone()).await;
            stored.extend(more.iter().map(|item| item.fact.seq));
            all.extend(more);
        }
        let before = bench.live().await;
        let unpin = bench.board.to_unpin().await.unwrap();
        pinned.retain(|seq| !unpin.contains(seq));
        let pin = bench.to_pin().await;
        pinned.extend(pin.iter().map(|(seq, _)| *seq));
        bench.board.note_pinned(pin, unpin).await.unwrap();
        let is_removed = |seq: &Seq| {
            *seq <= case + upto && !pinned.contains(seq) && parked >> (seq % 64) & 7 != 0
        };
        let removed: Vec<Seq> = stored.iter().copied().filter(is_removed).collect();
        stored.retain(|seq| !removed.contains(seq));
        for part in removed.chunks(3) {
            bench.forget(part).await;
            assert_eq!(bench.live().await, before);
        }
        // A reindex from the remaining events changes nothing.
        let shown = bench.shown(&ids(&all)).await;
        let mut left = all.clone();
        left.retain(|item| stored.contains(&item.fact.seq));
        let everything = (case + 1, case + APART - 1);
        bench.board.replace(left, everything).await.unwrap();
        assert_eq!(shown, bench.shown(&ids(&all)).await);
    }
    bench.next_case();
}

/// More facts, in sessions of their own. A fact of a session that was forgotten would start it anew.
fn more(case: Seq, from: Seq, arriving: &[Arrival]) -> Vec<StreamFact> {
    let mut more = numbered(case, arriving);
    for item in &mut more {
        let fact = &mut item.fact;
        fact.seq += from;
        fact.sequence = fact
            .sequence
            .as_ref()
            .map(|sequence| format!("9{sequence}"));
        fact.at = fact.at.plus(Duration::from_secs(40));
        let mut id = *fact.id.as_bytes();
        id[14] = 1;
        fact.id = EventId::from_bytes(id);
    }
    more
}

/// Runs all cases of a property on one board, one after the other: opening boards is slow.
fn check_property<T: std::fmt::Debug>(
    engine: &str,
    cases: u32,
    strategy: impl Strategy<Value = T>,
    property: impl AsyncFn(&mut Bench, T),
) {
    let runtime = Runtime::new().unwrap();
    let bench = std::cell::RefCell::new(runtime.block_on(Bench::of(engine)));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(cases));
    let result = runner.run(&strategy, |values| {
        let mut bench = bench.borrow_mut();
        bench.next_case();
        runtime.block_on(property(&mut bench, values));
        Ok(())
    });
    result.unwrap();
}

fn orders() -> impl Strategy<Value = (Arriving, Order, usize)> {
    let order = proptest::collection::vec((any::<u32>(), 1..3usize), 24);
    (arriving(), order, 1..6usize)
}

fn sweeps() -> impl Strategy<Value = (Arriving, Arriving, Vec<(i64, u64)>)> {
    let passes = proptest::collection::vec((0..50i64, any::<u64>()), 1..5);
    (arriving(), arriving(), passes)
}

#[test]
fn any_order_gives_the_same_board() {
    check_property("sqlite", 60, orders(), any_order);
}

#[test]
fn any_order_gives_the_same_board_on_postgres() {
    check_property("postgres", 30, orders(), any_order);
}

#[test]
fn retention_makes_nothing_live_or_offline() {
    check_property("sqlite", 60, sweeps(), retention);
}

#[test]
fn retention_makes_nothing_live_or_offline_on_postgres() {
    check_property("postgres", 30, sweeps(), retention);
}
