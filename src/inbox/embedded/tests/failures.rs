//! A store that fails loses nothing that was acknowledged.

use super::*;

/// Keeps the thread that writes the state busy until the sender is dropped.
async fn busy_state(bench: &Bench) -> std::sync::mpsc::Sender<()> {
    let (begun, has_begun) = oneshot::channel();
    let (held, is_held) = std::sync::mpsc::channel::<()>();
    let job = move |_: &Connection| {
        begun.send(()).unwrap();
        let _ = is_held.recv();
        Ok(())
    };
    bench.store().state.send(job, |_| {});
    has_begun.await.unwrap();
    held
}

#[tokio::test]
async fn neither_accepting_nor_reading_waits_for_the_state() {
    let bench = Bench::new();
    let held = busy_state(&bench).await;
    for n in 1..=50 {
        bench.try_accept(&body("room", n)).await.unwrap();
    }
    assert!(
        bench
            .try_accept(&body("room", 7))
            .await
            .unwrap()
            .is_duplicate()
    );
    assert_eq!(bench.stored().await.len(), 50);
    let after = bench.crash();
    assert_eq!(after.stored().await, (1..=50).collect::<Vec<_>>());
    assert!(
        after
            .try_accept(&body("room", 7))
            .await
            .unwrap()
            .is_duplicate()
    );
    drop(held);
}

#[tokio::test]
async fn a_crash_at_any_moment_keeps_what_was_acknowledged() {
    let bench = Bench::with(|own| own.segment_size = Some(1 << 20));
    let large = "x".repeat(40_000);
    for n in 1..=120 {
        let stream = if n % 3 == 0 { large.as_str() } else { "room" };
        assert_eq!(bench.try_accept(&body(stream, n)).await.unwrap().seq(), n);
        if n % 10 == 1 {
            let after = bench.crash();
            assert_eq!(after.stored().await, (1..=n).collect::<Vec<_>>());
            assert_eq!(
                after.try_accept(&body("new", 0)).await.unwrap().seq(),
                n + 1
            );
        }
    }
    assert!(bench.log(".log").len() > 1);
}

#[tokio::test]
async fn a_job_that_fails_takes_nothing_with_it() {
    let bench = Bench::new();
    let handler = bench.handler("h", 0).await;
    let held = busy_state(&bench).await;
    let failing = bench.store().write(|conn: &Connection| {
        conn.execute_batch("DELETE FROM handlers; INSERT INTO nowhere VALUES (1)")
    });
    let other = bench.store().pause(handler, true, BEGIN);
    drop(held);
    let (failed, paused) = tokio::join!(failing, other);
    assert!(failed.is_err() && paused.is_ok());
    assert!(bench.store().resume(handler).await.unwrap().paused);
    assert_eq!(bench.store().condition(), Condition::Accepting);
}

#[tokio::test]
async fn below_the_floor_callbacks_are_refused_and_positions_written() {
    let bench = Bench::with(|own| own.min_free = Some(u64::MAX / 2));
    assert_eq!(
        bench.try_accept(&body("room", 1)).await,
        Err(StoreError::Full)
    );
    assert_eq!(bench.store().condition(), Condition::Full);
    let handler = bench.handler("h", 0).await;
    assert_eq!(bench.store().position(handler).await.unwrap(), 0);
    bench.sweep().await;
    assert_eq!(bench.store().probe().await, Err(StoreError::Full));
}

#[tokio::test]
async fn after_a_failed_sync_of_the_state_only_a_new_start_accepts() {
    let mut bench = Bench::new();
    bench.try_accept(&body("room", 1)).await.unwrap();
    let failed = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
    let error = rusqlite::Error::SqliteFailure(failed, None);
    bench.store().condemn_if_not_synced(&error);
    bench.store().until_condemned().await;
    assert_eq!(
        bench.try_accept(&body("room", 2)).await,
        Err(StoreError::Failed)
    );
    assert!(bench.store().probe().await.is_err());
    assert!(bench.store().delete(vec![1]).await.is_err());
    assert_eq!(bench.store().condition(), Condition::Failing);
    bench.reopen();
    assert_eq!(bench.stored().await, [1]);
    assert_eq!(bench.try_accept(&body("room", 2)).await.unwrap().seq(), 2);
}

#[tokio::test]
async fn files_that_were_taken_away_accept_no_callbacks() {
    for name in ["state.db", "state.db-wal", "livehook.lock", "log"] {
        let bench = Bench::new();
        bench.segment("room", 3).await;
        bench.try_accept(&body("room", 4)).await.unwrap();
        check_taken(&bench, &bench.path().join(name)).await;
    }
    // The file that is written to, and one that is full.
    for n in [0, 1] {
        let bench = Bench::new();
        bench.segment("room", 3).await;
        bench.try_accept(&body("room", 4)).await.unwrap();
        let file = bench.log(".log")[n].clone();
        check_taken(&bench, &file).await;
    }
}

async fn check_taken(bench: &Bench, file: &Path) {
    let away = bench.dir.path().join("away");
    std::fs::rename(file, &away).unwrap();
    let _ = bench.store().check_files().await;
    let refused = bench.try_accept(&body("room", 5)).await;
    assert_eq!(refused, Err(StoreError::Failed), "{}", file.display());
    let repeat = bench.try_accept(&body("room", 4)).await;
    assert_eq!(repeat, Err(StoreError::Failed));
    assert_eq!(bench.store().condition(), Condition::Failing);
    assert!(bench.store().probe().await.is_err());
    std::fs::rename(&away, file).unwrap();
    bench.store().probe().await.unwrap();
    assert_eq!(bench.store().condition(), Condition::Accepting);
    assert!(bench.try_accept(&body("room", 6)).await.is_ok());
    assert!(
        bench
            .try_accept(&body("room", 4))
            .await
            .unwrap()
            .is_duplicate()
    );
}

#[tokio::test]
async fn a_store_that_is_closed_in_order_is_small_and_whole() {
    let mut bench = Bench::new();
    bench.handler("h", 0).await;
    for n in 1..=5 {
        bench.try_accept(&body("room", n)).await.unwrap();
    }
    bench.store = None;
    assert!(!bench.path().join("state.db-wal").exists());
    let log = &bench.log(".log")[0];
    assert!(std::fs::metadata(log).unwrap().len() < 20_000);
    assert_eq!(bench.log(".idx").len(), 1);
    bench.open();
    assert_eq!(bench.stored().await, [1, 2, 3, 4, 5]);
}

#[test]
fn what_cannot_be_opened_is_told_apart() {
    let mut bench = Bench::new();
    assert!(matches!(bench.try_open(), Err(OpenError::Locked { .. })));
    bench.store = None;
    let state = |sql: &str| {
        let conn = directory::connect(&bench.path().join("state.db")).unwrap();
        conn.execute_batch(sql).unwrap();
    };
    let reason = || match bench.try_open().err() {
        Some(OpenError::Broken { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    state("PRAGMA user_version = 9; UPDATE meta SET value = 9 WHERE name = 'readable_by'");
    assert!(reason().contains("newer livehook"), "{}", reason());
    state("PRAGMA application_id = 7");
    assert!(reason().contains("not a livehook store"), "{}", reason());
    let _ = std::fs::remove_file(bench.path().join("state.db-wal"));
    std::fs::write(
        bench.path().join("state.db"),
        "this is no database, whatever its name says",
    )
    .unwrap();
    assert!(reason().contains("not a database"), "{}", reason());
    let file = tempfile::NamedTempFile::new().unwrap();
    let beside = Bench::closed();
    let own = SqliteSettings {
        path: file.path().to_owned(),
        ..beside.own().clone()
    };
    let opened = EmbeddedStore::open(&beside.settings, &own, Clock::default(), Arc::default());
    assert!(matches!(opened.err(), Some(OpenError::Unwritable { .. })));
}
