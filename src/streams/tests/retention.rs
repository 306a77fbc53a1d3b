//! The board after retention, deletion, damage and power cuts.

use super::*;
use crate::inbox::contract::authentic;
use crate::inbox::delivery::{DeliveryCommit, HandlerId, Start};
use crate::inbox::query::EventFilter;
use crate::inbox::{Condition, StoreError};
use crate::streams::NAME;

const DAY: Duration = Duration::from_secs(24 * 3600);
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

impl Bench {
    /// Registers the board and returns its number in the inbox.
    pub(super) async fn register(&self) -> HandlerId {
        let registered = self.inbox.register(vec![(NAME.to_owned(), Start::Oldest)]);
        registered.await.unwrap()[0].id
    }

    /// Stores a begin or an end of session `n`, and applies it to the board.
    pub(super) async fn callback(&self, handler: HandlerId, stream: &str, event_type: u8, n: i64) {
        let second = at(n).seconds();
        let body = format!(
            r#"{{"event_type":{event_type},"app":"push-0.example.com","appname":"live","stream_id":"{stream}","sequence":"{n}","event_time":{second}}}"#
        );
        let callback = authentic("css", body.as_bytes(), self.clock.now());
        let receipt = self.inbox.accept(callback, None).await.unwrap();
        // Each event has a file of its own, so that retention removes exactly what is old.
        self.inbox.end_segment().await;
        let events = self.inbox.by_seq(vec![receipt.seq()]).await.unwrap();
        let facts = events.iter().filter_map(StreamFact::of).collect();
        self.apply(facts).await;
        let commit = DeliveryCommit {
            position: Some(receipt.seq()),
            ..DeliveryCommit::default()
        };
        let lease = self.inbox.lease(&[(handler, DAY)]).await.unwrap()[0];
        let epoch = lease.epoch;
        let commit = DeliveryCommit { epoch, ..commit };
        self.inbox.commit(handler, commit).await.unwrap();
    }

    async fn sweep(&self, handler: HandlerId) {
        if !self.board.before_sweep(handler, RETENTION).await.unwrap() {
            return;
        }
        while self.inbox.sweep().await.unwrap() {}
        self.board.after_sweep(RETENTION).await.unwrap();
    }

    async fn stream_ids(&self) -> Vec<String> {
        let streams = self.streams(None).await;
        streams
            .into_iter()
            .map(|stream| stream.key.streamid)
            .collect()
    }

    async fn stored(&self) -> usize {
        self.inbox.after(0, 1000, usize::MAX).await.unwrap().len()
    }
}

async fn a_live_stream_outlives_retention(engine: &str) {
    let bench = Bench::of(engine).await;
    let handler = bench.register().await;
    bench.callback(handler, "on", 1, 1).await;
    bench.callback(handler, "over", 1, 2).await;
    bench.callback(handler, "over", 0, 2).await;
    for _ in 0..8 {
        bench.clock.advance(DAY);
        bench.sweep(handler).await;
    }
    assert_eq!(bench.stream_ids().await, ["on"]);
    assert_eq!(bench.stored().await, 1, "only its begin");
    let live = bench.live().await;
    bench.board.rebuild().await.unwrap();
    assert_eq!(bench.live().await, live);
    assert_eq!(live.len(), 1);
    // After its end it is removed like any other stream.
    bench.callback(handler, "on", 0, 1).await;
    assert!(bench.live().await.is_empty());
    for _ in 0..30 {
        bench.clock.advance(DAY);
        bench.sweep(handler).await;
    }
    assert_eq!(
        (bench.stream_ids().await.len(), bench.stored().await),
        (0, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_stream_outlives_retention_on_sqlite() {
    a_live_stream_outlives_retention("sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_stream_outlives_retention_on_postgres() {
    a_live_stream_outlives_retention("postgres").await;
}

/// Events that arrived while the clock was ahead are kept as long as they must be, and no longer.
async fn begins_from_ahead_are_kept_and_forgotten(engine: &str) {
    let day = DAY.as_millis() as i64;
    for ahead in [day, 50 * 365 * day] {
        let bench = Bench::of(engine).await;
        let handler = bench.register().await;
        bench.callback(handler, "early", 1, 1).await;
        bench.callback(handler, "early", 0, 1).await;
        bench.clock.set_by(ahead);
        bench.callback(handler, "on", 1, 2).await;
        bench.callback(handler, "over", 1, 3).await;
        bench.callback(handler, "over", 0, 3).await;
        bench.clock.set_by(-ahead);
        bench.callback(handler, "late", 1, 4).await;
        bench.callback(handler, "late", 0, 4).await;
        let sweep_for = async |days| {
            for _ in 0..days {
                bench.clock.advance(DAY);
                for _ in 0..10 {
                    bench.sweep(handler).await;
                }
            }
        };
        sweep_for(20).await;
        assert_eq!(bench.stream_ids().await, ["on"]);
        assert_eq!(bench.stored().await, 1, "only its begin");
        bench.callback(handler, "on", 0, 2).await;
        sweep_for(10).await;
        assert_eq!(
            (bench.stream_ids().await.len(), bench.stored().await),
            (0, 0)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn begins_from_ahead_are_kept_and_forgotten_on_sqlite() {
    begins_from_ahead_are_kept_and_forgotten("sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn begins_from_ahead_are_kept_and_forgotten_on_postgres() {
    begins_from_ahead_are_kept_and_forgotten("postgres").await;
}

async fn a_stream_live_since_the_far_future_is_stale(engine: &str) {
    let bench = Bench::of(engine).await;
    let handler = bench.register().await;
    bench.callback(handler, "a", 1, 1).await;
    bench.callback(handler, "b", 1, 3600 * 24 * 365).await;
    bench.board.measure().await.unwrap();
    assert_eq!(bench.board.metrics.streams_stale.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_live_since_the_far_future_is_stale_on_both_engines() {
    a_stream_live_since_the_far_future_is_stale("sqlite").await;
    a_stream_live_since_the_far_future_is_stale("postgres").await;
}

async fn deleted_events_are_forgotten(engine: &str) {
    let bench = Bench::of(engine).await;
    let handler = bench.register().await;
    for stream in ["a", "b"] {
        bench.callback(handler, stream, 1, 1).await;
        bench.callback(handler, stream, 0, 1).await;
        bench.callback(handler, stream, 1, 2).await;
    }
    bench.inbox.delete(vec![1, 2, 3]).await.unwrap();
    let filter = EventFilter {
        stream: Some("live/a".to_owned()),
        ..EventFilter::default()
    };
    bench.board.forget_deleted(&filter).await.unwrap();
    assert_eq!(bench.stream_ids().await, ["b"]);
    let found = bench
        .board
        .list(StreamQuery::default(), 0, 10)
        .await
        .unwrap();
    let detail = bench
        .board
        .detail(found.items[0].clone(), None, 10)
        .await
        .unwrap();
    assert_eq!((detail.sessions.len(), detail.timeline.len()), (2, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_events_are_forgotten_on_sqlite() {
    deleted_events_are_forgotten("sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_events_are_forgotten_on_postgres() {
    deleted_events_are_forgotten("postgres").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_or_damaged_board_is_rebuilt() {
    let mut bench = Bench::of("sqlite").await;
    let handler = bench.register().await;
    for stream in ["a", "b", "c"] {
        bench.callback(handler, stream, 1, 1).await;
    }
    bench.callback(handler, "b", 0, 1).await;
    let live = bench.live().await;
    let file = bench.dir.path().join("streams.db");
    for damage in ["", "this text is not a database"] {
        bench.lose();
        if !damage.is_empty() {
            std::fs::write(&file, damage).unwrap();
        }
        bench.reopen();
        assert!(bench.live().await.is_empty());
        bench.read_on().await;
        assert_eq!(bench.live().await, live);
    }
    // Opening an intact board again changes nothing.
    bench.reopen();
    assert_eq!(bench.live().await, live);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_waits_until_a_lost_board_is_made_again() {
    let mut bench = Bench::of("sqlite").await;
    let handler = bench.register().await;
    bench.callback(handler, "on", 1, 1).await;
    // It was stopped before the begin was old enough to be pinned.
    bench.lose();
    bench.reopen();
    bench.clock.advance(2 * RETENTION);
    bench.sweep(handler).await;
    bench.read_on().await;
    bench.sweep(handler).await;
    assert_eq!(bench.stored().await, 1);
    assert_eq!(bench.live().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_board_of_a_later_inbox_is_rebuilt() {
    let mut bench = Bench::of("sqlite").await;
    let handler = bench.register().await;
    bench.callback(handler, "a", 1, 1).await;
    let beyond = stream_fact(0, 9, 1, 99, Kind::StreamBegin, 1, 0);
    bench.apply(vec![beyond]).await;
    assert_eq!(bench.stream_ids().await, ["a", "room-9"]);
    bench.reopen();
    bench.read_on().await;
    assert_eq!(bench.stream_ids().await, ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_board_reads_on_after_a_crash() {
    let mut bench = Bench::of("sqlite").await;
    let handler = bench.register().await;
    bench.callback(handler, "a", 1, 1).await;
    bench.callback(handler, "c", 1, 1).await;
    let flushed = bench.board.flush(true).unwrap();
    bench.callback(handler, "a", 0, 1).await;
    bench.callback(handler, "b", 1, 1).await;
    assert_eq!(bench.board.flush(false).unwrap(), flushed, "not yet");
    bench.reopen();
    assert_eq!(bench.live().await.iter().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(bench.board.cursor(), flushed);
    bench.read_on().await;
    assert_eq!(bench.live().await.iter().collect::<Vec<_>>(), ["b", "c"]);
    assert!(bench.board.flush(true).unwrap() > flushed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_of_the_board_condemns_the_store() {
    let bench = Bench::of("sqlite").await;
    let failed = |code| -> rusqlite::Result<()> {
        let error = rusqlite::ffi::Error::new(code);
        Err(rusqlite::Error::SqliteFailure(error, None))
    };
    let full = failed(rusqlite::ffi::SQLITE_FULL);
    assert_eq!(bench.board.check_sync(full), Err(StoreError::Failed));
    assert_eq!(bench.inbox.condition(), Condition::Accepting);
    let not_synced = failed(rusqlite::ffi::SQLITE_IOERR_FSYNC);
    assert_eq!(bench.board.check_sync(not_synced), Err(StoreError::Failed));
    assert_eq!(bench.inbox.condition(), Condition::Failing);
    bench.inbox.until_condemned().await;
}
