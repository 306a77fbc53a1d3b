//! The board on disk: as the rule has it, however facts come and go.

#![allow(clippy::unwrap_used)]

mod announcing;
mod keeping;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use css_callbacks::{EventId, Kind, Timestamp};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::settings::StreamsConfig;
use super::{Board, BoardBackend};
use crate::clock::{Clock, Old};
use crate::event::Seq;
use crate::inbox::Inbox;
use crate::inbox::contract::{postgres_settings, server, settings};
use crate::stream::{Fact, StreamFact, StreamKey, StreamQuery};

/// Between the numbers of two cases on one board.
const APART: Seq = 1000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_764_000_000 + second)
}

/// A board, and the inbox beside it.
struct Bench {
    dir: TempDir,
    clock: Clock,
    inbox: Inbox,
    board: Board,
    /// Numbers and names of the case begin here.
    case: Seq,
}

/// What is shown of a stream: whether it is live, since when, and its sessions with events by their ids.
type Shown = (bool, Option<Timestamp>, Vec<String>);

impl Bench {
    /// The engine by its name.
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

    /// Another case on the same board.
    fn next_case(&mut self) {
        self.case += APART;
    }

    async fn shown(&self, ids: &BTreeMap<Seq, EventId>) -> BTreeMap<String, Shown> {
        let mut shown = BTreeMap::new();
        for stream in self.streams(None).await {
            let found = self.board.details(&stream, None, 1000).await.unwrap();
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

    async fn to_hold(&self) -> Vec<crate::stream::Begin> {
        let case = self.case;
        let (_, hold) = match &self.board.backend {
            BoardBackend::File { shelf, .. } => {
                self.board
                    .write(shelf, move |shelf| shelf.to_hold(case, Old::ALL, 1000))
                    .await
            }
            BoardBackend::Shared(board) => board.to_pin(case, Old::ALL, 1000).await,
        }
        .unwrap();
        hold
    }
}

fn told(
    case: Seq,
    stream: u8,
    number: u8,
    seq: Seq,
    kind: Kind,
    second: i64,
    lasted: u8,
) -> StreamFact {
    let sequence = (number > 0).then(|| number.to_string());
    let mut id = [
        stream,
        number,
        second as u8,
        lasted,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
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

/// Stream, sequence (0 is none), kind, when, how long it lasted.
type Arrival = (u8, u8, Kind, i64, u8);

/// Events as they arrive: stream, sequence (0 is none), kind, when, how long it lasted.
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
            told(
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
        .map(|told| (told.fact.seq, told.fact.id))
        .collect()
}

type Arriving = Vec<Arrival>;
type Order = Vec<(u32, usize)>;

async fn any_order(bench: &mut Bench, (arriving, order, batch): (Arriving, Order, usize)) {
    let first = numbered(bench.case, &arriving);
    bench.board.apply(first.clone(), None).await.unwrap();
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
    for part in second.chunks(batch) {
        bench.board.apply(part.to_vec(), None).await.unwrap();
        // What is fed in twice, as after a crash.
        bench.board.apply(part[..1].to_vec(), None).await.unwrap();
    }
    let other = bench.shown(&ids(&second)).await;
    assert_eq!(one, other);
    // And made again from the same it is the same.
    let all = Some((case + 1, case + second.len() as Seq));
    bench.board.apply(second.clone(), all).await.unwrap();
    assert_eq!(other, bench.shown(&ids(&second)).await);
    bench.next_case();
}

async fn retention(
    bench: &mut Bench,
    (arriving, later, passes): (Arriving, Arriving, Vec<(i64, u64)>),
) {
    let case = bench.case;
    let mut all = numbered(case, &arriving);
    bench.board.apply(all.clone(), None).await.unwrap();
    let mut stored: BTreeSet<Seq> = all.iter().map(|told| told.fact.seq).collect();
    let mut held: HashSet<Seq> = HashSet::new();
    for (pass, (upto, parked)) in passes.iter().enumerate() {
        if pass == 1 {
            let more = more(case, all.len() as Seq, &later);
            bench.board.apply(more.clone(), None).await.unwrap();
            stored.extend(more.iter().map(|told| told.fact.seq));
            all.extend(more);
        }
        let before = bench.live().await;
        let free = bench.board.to_free().await.unwrap();
        held.retain(|seq| !free.contains(seq));
        let hold = bench.to_hold().await;
        held.extend(hold.iter().map(|(seq, _)| *seq));
        bench.board.note_held(hold, free).await.unwrap();
        let goes =
            |seq: &Seq| *seq <= case + upto && !held.contains(seq) && parked >> (seq % 64) & 7 != 0;
        let gone: Vec<Seq> = stored.iter().copied().filter(goes).collect();
        stored.retain(|seq| !gone.contains(seq));
        for part in gone.chunks(3) {
            bench.board.forget(part.to_vec()).await.unwrap();
            assert_eq!(bench.live().await, before);
        }
        // Made again from what is left it is the same.
        let shown = bench.shown(&ids(&all)).await;
        let mut left = all.clone();
        left.retain(|told| stored.contains(&told.fact.seq));
        let everything = Some((case + 1, case + APART - 1));
        bench.board.apply(left, everything).await.unwrap();
        assert_eq!(shown, bench.shown(&ids(&all)).await);
    }
    bench.next_case();
}

/// Of sessions of their own: one whose events are gone would be taken for new.
fn more(case: Seq, from: Seq, arriving: &[Arrival]) -> Vec<StreamFact> {
    let mut more = numbered(case, arriving);
    for told in &mut more {
        let fact = &mut told.fact;
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

/// Runs a property on one board, one case after the other.
fn hold_for<T: std::fmt::Debug>(
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
    hold_for("sqlite", 60, orders(), any_order);
}

#[test]
fn any_order_gives_the_same_board_on_postgres() {
    hold_for("postgres", 30, orders(), any_order);
}

#[test]
fn retention_makes_nothing_live_or_offline() {
    hold_for("sqlite", 60, sweeps(), retention);
}

#[test]
fn retention_makes_nothing_live_or_offline_on_postgres() {
    hold_for("postgres", 30, sweeps(), retention);
}
