#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::inbox::contract::{authentic, push, settings};

const BEGIN: Timestamp = Timestamp::from_seconds(1_795_420_800);

fn open(dir: &Path) -> Arc<Store> {
    open_with(&settings(dir), &Clock::manual(BEGIN))
}

fn open_with(settings: &InboxSettings, clock: &Clock) -> Arc<Store> {
    Arc::new(Store::open(settings, clock.clone(), Arc::default()).unwrap())
}

async fn accept(store: &Store, body: &str) -> Result<Receipt, StoreError> {
    let callback = authentic("css", body.as_bytes(), store.clock.now());
    store.accept(callback, None, false).await
}

/// Sends what `send` sends to a writer that is busy, so that all of it becomes one transaction.
async fn in_one_transaction<T>(store: &Arc<Store>, send: impl FnOnce() -> T) -> T {
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let busy = tokio::spawn({
        let store = store.clone();
        async move {
            let job = move |_: &Connection, _: &mut Recent| {
                begun.send(()).unwrap();
                may_go_on.recv().unwrap();
                Ok(())
            };
            store.write(job).await.unwrap();
        }
    });
    tokio::task::spawn_blocking(move || has_begun.recv().unwrap())
        .await
        .unwrap();
    let sent = send();
    go_on.send(()).unwrap();
    busy.await.unwrap();
    sent
}

fn send_accept(store: &Store, body: &str) -> oneshot::Receiver<Result<Receipt, StoreError>> {
    let (reply, answer) = oneshot::channel();
    store.send(Command::Accept {
        callback: authentic("css", body.as_bytes(), store.clock.now()),
        charge: None,
        reply,
        unless_ever_stored: false,
    });
    answer
}

fn send_sql(store: &Store, sql: &'static str) {
    store.send(Command::Write(Box::new(move |conn, _| {
        let _ = in_savepoint(conn, |conn| conn.execute_batch(sql));
        Box::new(|_| {})
    })));
}

async fn stored(store: &Store) -> Vec<Seq> {
    let events = store.after(0, 100_000, usize::MAX).await.unwrap();
    events.iter().map(Event::seq).collect()
}

#[tokio::test]
async fn a_transaction_that_is_gone_takes_everything_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let answers = in_one_transaction(&store, || {
        let before = send_accept(&store, &push("room", 1));
        send_sql(&store, "ROLLBACK");
        [before, send_accept(&store, &push("room", 2))]
    })
    .await;
    for answer in answers {
        assert_eq!(answer.await.unwrap(), Err(StoreError::Failed));
    }
    assert_eq!(store.condition(), Condition::Failing);
    assert!(stored(&store).await.is_empty());
    for n in 1..4 {
        let receipt = accept(&store, &push("room", n)).await.unwrap();
        assert_eq!((receipt.seq(), receipt.is_duplicate()), (n, false));
    }
    assert_eq!(store.condition(), Condition::Accepting);
    assert_eq!(stored(&store).await, [1, 2, 3]);
}

#[tokio::test]
async fn what_landed_although_it_was_refused_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let answer = in_one_transaction(&store, || {
        let answer = send_accept(&store, &push("room", 1));
        send_sql(&store, "COMMIT");
        answer
    })
    .await;
    assert_eq!(answer.await.unwrap(), Err(StoreError::Failed));
    assert_eq!(*store.committed().borrow(), 1);
    let again = accept(&store, &push("room", 1)).await.unwrap();
    assert_eq!((again.seq(), again.is_duplicate()), (1, true));
    let next = accept(&store, &push("room", 2)).await.unwrap();
    assert_eq!((next.seq(), next.is_duplicate()), (2, false));
}

#[tokio::test]
async fn what_landed_although_it_was_refused_is_read_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store
        .register(vec![("one".to_owned(), Start::Oldest)])
        .await
        .unwrap();
    accept(&store, &push("room", 1)).await.unwrap();
    let answer = in_one_transaction(&store, || {
        let answer = send_accept(&store, &push("room", 2));
        send_sql(&store, "COMMIT");
        answer
    })
    .await;
    assert_eq!(answer.await.unwrap(), Err(StoreError::Failed));
    assert_eq!(stored(&store).await, [1]);
    accept(&store, &push("room", 3)).await.unwrap();
    assert_eq!(stored(&store).await, [1, 2, 3]);
}

#[tokio::test]
async fn what_was_rolled_back_is_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store
        .register(vec![("one".to_owned(), Start::Oldest)])
        .await
        .unwrap();
    accept(&store, &push("room", 1)).await.unwrap();
    let answer = in_one_transaction(&store, || {
        let answer = send_accept(&store, &push("room", 2));
        send_sql(&store, "ROLLBACK");
        answer
    })
    .await;
    assert_eq!(answer.await.unwrap(), Err(StoreError::Failed));
    assert_eq!(stored(&store).await, [1]);
    accept(&store, &push("room", 3)).await.unwrap();
    let events = store.after(1, 10, usize::MAX).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].body(), push("room", 3).as_bytes());
}

#[tokio::test]
async fn a_job_that_fails_takes_nothing_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let answers = in_one_transaction(&store, || {
        let before = send_accept(&store, &push("room", 1));
        send_sql(&store, "DELETE FROM events; INSERT INTO nowhere VALUES (1)");
        [before, send_accept(&store, &push("room", 2))]
    })
    .await;
    for answer in answers {
        assert!(answer.await.unwrap().is_ok());
    }
    assert_eq!(stored(&store).await, [1, 2]);
}

#[tokio::test]
async fn a_sweep_that_is_rolled_back_forgets_no_ids() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(BEGIN);
    let store = open_with(&settings(dir.path()), &clock);
    let answers = in_one_transaction(&store, || {
        (0..600)
            .map(|n| send_accept(&store, &push("room", n)))
            .collect::<Vec<_>>()
    })
    .await;
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    // Enough commits for the first run to be complete.
    for _ in 0..40 {
        store.probe().await.unwrap();
    }
    clock.advance(store.settings.retention + Duration::from_secs(1));
    assert!(store.sweep().await.unwrap(), "there is more to do");
    let left = stored(&store).await;
    assert_eq!(left, (501..=600).collect::<Vec<_>>());
    let failed = store
        .write(|conn, recent| {
            conn.execute("DELETE FROM events", [])?;
            recent.forget(conn, 600, BEGIN)?;
            conn.execute_batch("ROLLBACK")
        })
        .await;
    assert_eq!(failed, Err(StoreError::Failed));
    for n in 500..600 {
        let callback = authentic("css", push("room", n).as_bytes(), clock.now());
        let receipt = store.accept(callback, None, true).await.unwrap();
        assert_eq!((receipt.seq(), receipt.is_duplicate()), (n + 1, true));
    }
    while store.sweep().await.unwrap() {}
    assert!(stored(&store).await.is_empty());
    let runs = |conn: &Connection| {
        conn.query_row(
            "SELECT (SELECT count(*) FROM id_runs) + (SELECT count(*) FROM id_parts)",
            [],
            |row| row.get::<_, i64>(0),
        )
    };
    assert_eq!(store.read(runs).await.unwrap(), 0);
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let limit = |pages: i64| {
        store.write(move |conn, _| {
            conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
        })
    };
    limit(200).await.unwrap();
    let body = |n: i64| push(&"x".repeat(50_000), n);
    let mut acknowledged = 0;
    while acknowledged < 100 {
        match accept(&store, &body(acknowledged + 1)).await {
            Ok(receipt) => assert_eq!(receipt.seq(), acknowledged + 1),
            Err(error) => {
                assert_eq!(error, StoreError::Failed);
                break;
            }
        }
        acknowledged += 1;
    }
    assert!((1..100).contains(&acknowledged));
    assert_eq!(store.condition(), Condition::Failing);
    // Many at once, so that the failure strikes in the middle of a transaction.
    let answers = in_one_transaction(&store, || {
        [1, 2, 3].map(|n| send_accept(&store, &body(1000 + n)))
    })
    .await;
    for answer in answers {
        assert_eq!(answer.await.unwrap(), Err(StoreError::Failed));
    }
    limit(1 << 30).await.unwrap();
    for n in 1001..1004 {
        assert!(!accept(&store, &body(n)).await.unwrap().is_duplicate());
    }
    assert_eq!(store.condition(), Condition::Accepting);
    store.close();
    let store = open(dir.path());
    assert_eq!(
        stored(&store).await,
        (1..=acknowledged + 3).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn below_the_floor_callbacks_are_refused_and_positions_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.min_free = Some(u64::MAX / 4);
    let store = open_with(&settings, &Clock::manual(BEGIN));
    let refused = accept(&store, &push("room", 1)).await;
    assert_eq!(refused, Err(StoreError::Full));
    assert_eq!(store.condition(), Condition::Full);
    let handlers = vec![("one".to_owned(), Start::Now)];
    let handler = store.register(handlers).await.unwrap()[0].id;
    store.settle(handler, Settlement::default()).await.unwrap();
    store.sweep().await.unwrap();
    assert_eq!(store.condition(), Condition::Full);
}

/// What a `kill -9` leaves is what is in the files.
#[tokio::test]
async fn the_files_hold_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for round in 1..4 {
        let answers: Vec<_> = (0..700)
            .map(|n| send_accept(&store, &push("room", round * 1000 + n)))
            .collect();
        for answer in answers {
            answer.await.unwrap().unwrap();
        }
        let crashed = tempfile::tempdir().unwrap();
        let copy = settings(crashed.path());
        std::fs::create_dir(&copy.path).unwrap();
        for file in ["inbox.db", "inbox.db-wal"] {
            std::fs::copy(store.path.join(file), copy.path.join(file)).unwrap();
        }
        let again = open_with(&copy, &Clock::manual(BEGIN));
        assert_eq!(stored(&again).await, (1..=700 * round).collect::<Vec<_>>());
        for n in (0..700).step_by(13) {
            let repeated = accept(&again, &push("room", round * 1000 + n)).await;
            assert!(repeated.unwrap().is_duplicate());
        }
    }
}

/// A long read keeps the WAL from being restarted; nobody may wait for it.
#[tokio::test]
async fn a_long_read_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let reader = connect(&store.path.join("inbox.db")).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM events")
        .unwrap();
    let limit = wal::WAL_LIMIT_PAGES as u64 * 4096;
    let large = "x".repeat(1 << 20);
    let mut slowest = Duration::ZERO;
    let mut n = 0;
    let until = Instant::now() + Duration::from_secs(1);
    while store.size() < limit * 5 / 4 || Instant::now() < until {
        n += 1;
        let body = match store.size() < limit * 5 / 4 {
            true => push(&large, n),
            false => push("room", n),
        };
        let began = Instant::now();
        accept(&store, &body).await.unwrap();
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "one took {slowest:?}");
}

#[test]
fn a_second_one_waits_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let mut settings = settings(dir.path());
    settings.lock_wait = Duration::from_millis(120);
    let began = Instant::now();
    let refused = Store::open(&settings, Clock::default(), Arc::default());
    assert!(matches!(
        refused.err(),
        Some(OpenError::Locked { waited, .. }) if waited == settings.lock_wait
    ));
    assert!(began.elapsed() >= settings.lock_wait);
    settings.lock_wait = Duration::from_secs(60);
    let second = std::thread::spawn(move || {
        Store::open(&settings, Clock::default(), Arc::default()).map(drop)
    });
    first.close();
    second.join().unwrap().unwrap();
}

#[test]
fn what_cannot_be_opened_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: PathBuf| {
        let settings = InboxSettings {
            path,
            ..settings(dir.path())
        };
        Store::open(&settings, Clock::default(), Arc::default()).err()
    };
    std::fs::write(dir.path().join("file"), "x").unwrap();
    assert!(matches!(
        open(dir.path().join("file/inbox")),
        Some(OpenError::Unwritable { .. })
    ));
    std::fs::create_dir_all(dir.path().join("taken/inbox.db")).unwrap();
    assert!(matches!(
        open(dir.path().join("taken")),
        Some(OpenError::Unwritable { .. })
    ));
    std::fs::create_dir(dir.path().join("foreign")).unwrap();
    std::fs::write(dir.path().join("foreign/inbox.db"), "no database at all").unwrap();
    assert!(matches!(
        open(dir.path().join("foreign")),
        Some(OpenError::Broken { .. })
    ));
    assert!(open(dir.path().join("new/and/deep")).is_none());
}
