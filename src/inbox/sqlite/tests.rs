#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Instant;

use super::*;
use crate::inbox::contract::{authentic, push, settings};
use crate::inbox::settings::StoreSettings;

const BEGIN: Timestamp = Timestamp::from_seconds(1_795_420_800);

fn open(dir: &Path) -> Arc<Store> {
    open_with(&settings(dir), &Clock::manual(BEGIN))
}

fn open_with(settings: &InboxSettings, clock: &Clock) -> Arc<Store> {
    Arc::new(Store::open(settings, own(settings), clock.clone(), Arc::default()).unwrap())
}

fn try_open(settings: &InboxSettings) -> Result<Store, OpenError> {
    Store::open(settings, own(settings), Clock::default(), Arc::default())
}

fn settings_with(dir: &Path, change: impl FnOnce(&mut SqliteSettings)) -> InboxSettings {
    let mut settings = settings(dir);
    if let StoreSettings::Sqlite(own) = &mut settings.store {
        change(own);
    }
    settings
}

fn own(settings: &InboxSettings) -> &SqliteSettings {
    match &settings.store {
        StoreSettings::Sqlite(own) => own,
        StoreSettings::Postgres(_) => panic!("it is embedded"),
    }
}

async fn accept(store: &Store, body: &str) -> Result<Receipt, StoreError> {
    let callback = authentic("css", body.as_bytes(), store.clock.now());
    store.accept(callback, None, false).await
}

/// Keeps the writer busy until the sender is dropped.
async fn busy_writer(store: &Arc<Store>) -> mpsc::Sender<()> {
    let (begun, has_begun) = oneshot::channel();
    let (held, is_held) = mpsc::channel::<()>();
    let store = store.clone();
    tokio::spawn(async move {
        let job = move |_: &Connection| {
            begun.send(()).unwrap();
            let _ = is_held.recv();
            Ok(())
        };
        store.write(job).await.unwrap();
    });
    has_begun.await.unwrap();
    held
}

fn send_accept(store: &Store, body: &str) -> oneshot::Receiver<Result<Receipt, StoreError>> {
    let (reply, answer) = oneshot::channel();
    store.ask(Request::Accept {
        callback: authentic("css", body.as_bytes(), store.clock.now()),
        charge: None,
        reply,
        unless_ever_stored: false,
    });
    answer
}

fn send_sql(store: &Store, sql: &'static str) {
    store.commands.send(Command::Write(Box::new(move |conn| {
        let _ = in_savepoint(conn, |conn| conn.execute_batch(sql));
        Box::new(|_| {})
    })));
}

async fn stored(store: &Store) -> Vec<Seq> {
    let events = store.after(0, 100_000, usize::MAX).await.unwrap();
    events.iter().map(Event::seq).collect()
}

/// What a crash leaves, in another directory.
fn crash(store: &Store) -> (tempfile::TempDir, InboxSettings) {
    let crashed = tempfile::tempdir().unwrap();
    let copy = settings(crashed.path());
    let path = &own(&copy).path;
    std::fs::create_dir(path).unwrap();
    // While somebody reads, the WAL is not begun anew between the copies.
    let reader = connect(&store.path.join("inbox.db")).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM meta")
        .unwrap();
    for file in [
        "inbox.db",
        "inbox.db-wal",
        "accepted.0-wal",
        "accepted.1-wal",
    ] {
        let _ = std::fs::copy(store.path.join(file), path.join(file));
    }
    (crashed, copy)
}

#[tokio::test]
async fn nothing_that_is_accepted_waits_for_the_writer_and_every_reader_does() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let held = busy_writer(&store).await;
    for n in 1..=700 {
        let receipt = accept(&store, &push("room", n)).await.unwrap();
        assert_eq!((receipt.seq(), receipt.is_duplicate()), (n, false));
    }
    for n in [1, 350, 700] {
        let again = accept(&store, &push("room", n)).await.unwrap();
        assert_eq!((again.seq(), again.is_duplicate()), (n, true));
    }
    assert_eq!(store.progress.moved(), 0);
    assert_eq!(*store.committed().borrow(), 700);
    let (_crashed, copy) = crash(&store);
    let reader = tokio::spawn({
        let store = store.clone();
        async move { stored(&store).await }
    });
    tokio::task::yield_now().await;
    assert!(!reader.is_finished());
    drop(held);
    assert_eq!(reader.await.unwrap(), (1..=700).collect::<Vec<_>>());

    let again = open_with(&copy, &Clock::manual(BEGIN));
    assert_eq!(stored(&again).await, (1..=700).collect::<Vec<_>>());
    let repeated = accept(&again, &push("room", 350)).await.unwrap();
    assert_eq!((repeated.seq(), repeated.is_duplicate()), (350, true));
    assert_eq!(accept(&again, &push("room", 0)).await.unwrap().seq(), 701);
}

/// What is accepted and not moved yet is held in memory.
#[tokio::test]
async fn accepting_does_not_run_far_ahead_of_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let held = busy_writer(&store).await;
    let large = "x".repeat(1 << 20);
    let mut accepted = 0;
    let mut waiting = loop {
        let mut answer = send_accept(&store, &push(&large, accepted));
        match tokio::time::timeout(Duration::from_millis(300), &mut answer).await {
            Ok(answer) => assert!(answer.unwrap().is_ok()),
            Err(_) => break answer,
        }
        accepted += 1;
    };
    assert!((8..=16).contains(&accepted), "{accepted} MiB");
    assert!(waiting.try_recv().is_err());
    drop(held);
    assert!(waiting.await.unwrap().is_ok());
    assert_eq!(stored(&store).await.len() as i64, accepted + 1);
}

#[tokio::test]
async fn a_damaged_journal_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let held = busy_writer(&store).await;
    for n in 1..=3 {
        accept(&store, &push("room", n)).await.unwrap();
    }
    let (_crashed, copy) = crash(&store);
    drop(held);
    let file = own(&copy).path.join("accepted.0-wal");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let refused = try_open(&copy).err();
    let Some(OpenError::Broken { reason, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        reason.contains("accepted.0-wal is damaged: event 1 "),
        "{reason}"
    );
}

#[tokio::test]
async fn a_job_that_fails_takes_nothing_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let held = busy_writer(&store).await;
    let before = send_accept(&store, &push("room", 1));
    send_sql(&store, "DELETE FROM events; INSERT INTO nowhere VALUES (1)");
    let answers = [before, send_accept(&store, &push("room", 2))];
    drop(held);
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
    for n in 0..600 {
        accept(&store, &push("room", n)).await.unwrap();
    }
    // The run is written behind what is in it.
    store.probe().await.unwrap();
    let runs = |conn: &Connection| {
        conn.query_row("SELECT count(*) FROM id_runs", [], |row| {
            row.get::<_, i64>(0)
        })
    };
    assert_eq!(store.read(runs).await.unwrap(), 1);
    clock.advance(store.settings.retention + Duration::from_secs(1));
    assert!(store.sweep().await.unwrap(), "there is more to do");
    let left = stored(&store).await;
    assert_eq!(left, (501..=600).collect::<Vec<_>>());
    let failed = store
        .write(|conn| {
            conn.execute("DELETE FROM events", [])?;
            recent::forget_runs(conn, 600)?;
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
    assert_eq!(store.read(runs).await.unwrap(), 0);
    let parts = |conn: &Connection| {
        conn.query_row("SELECT count(*) FROM id_parts", [], |row| {
            row.get::<_, i64>(0)
        })
    };
    let mut rounds = 0;
    while store.read(parts).await.unwrap() > 0 {
        // The writer removes a little after each.
        store.probe().await.unwrap();
        rounds += 1;
        assert!(rounds < 20);
    }
}

#[tokio::test]
async fn a_store_that_fails_loses_nothing_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let outside = connect(&store.path.join("inbox.db")).unwrap();
    outside
        .execute_batch(
            "CREATE TRIGGER trouble BEFORE INSERT ON events WHEN NEW.seq > 20
             BEGIN SELECT RAISE(ROLLBACK, 'as on a full disk'); END",
        )
        .unwrap();
    let mut acknowledged = 0;
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        match accept(&store, &push("room", acknowledged + 1)).await {
            Ok(receipt) => assert_eq!(receipt.seq(), acknowledged + 1),
            Err(error) => {
                assert_eq!(error, StoreError::Failed);
                break;
            }
        }
        acknowledged += 1;
    }
    assert!(acknowledged > 20);
    assert_eq!(store.condition(), Condition::Failing);
    assert_eq!(store.probe().await, Err(StoreError::Failed));
    let all = store.after(0, 100_000, usize::MAX).await;
    assert_eq!(all.err(), Some(StoreError::Failed), "a part is not all");
    let (_crashed, copy) = crash(&store);
    outside.execute_batch("DROP TRIGGER trouble").unwrap();
    store.probe().await.unwrap();
    let next = accept(&store, &push("room", 0)).await.unwrap();
    assert_eq!((next.seq(), next.is_duplicate()), (acknowledged + 1, false));
    assert_eq!(store.condition(), Condition::Accepting);
    let expected: Vec<_> = (1..=acknowledged).collect();
    assert_eq!(stored(&store).await[..expected.len()], expected);
    connect(&own(&copy).path.join("inbox.db"))
        .unwrap()
        .execute_batch("DROP TRIGGER trouble")
        .unwrap();
    let again = open_with(&copy, &Clock::manual(BEGIN));
    assert_eq!(stored(&again).await, expected);
}

#[tokio::test]
async fn below_the_floor_callbacks_are_refused_and_positions_written() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings_with(dir.path(), |own| own.min_free = Some(u64::MAX / 4));
    let store = open_with(&settings, &Clock::manual(BEGIN));
    let refused = accept(&store, &push("room", 1)).await;
    assert_eq!(refused, Err(StoreError::Full));
    assert_eq!(store.condition(), Condition::Full);
    let handlers = vec![("one".to_owned(), Start::Now)];
    let handler = store.register(handlers).await.unwrap()[0].id;
    store
        .commit(handler, DeliveryCommit::default())
        .await
        .unwrap();
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
        let (_crashed, copy) = crash(&store);
        let again = open_with(&copy, &Clock::manual(BEGIN));
        assert_eq!(stored(&again).await, (1..=700 * round).collect::<Vec<_>>());
        for n in (0..700).step_by(13) {
            let repeated = accept(&again, &push("room", round * 1000 + n)).await;
            assert!(repeated.unwrap().is_duplicate());
        }
    }
}

/// Runs of ids are merged while callbacks arrive, and whenever it is killed all of them are known.
#[tokio::test]
async fn merging_hides_no_id() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let merged = |conn: &Connection| {
        conn.query_row("SELECT count(*) FROM id_runs WHERE run < 0", [], |row| {
            row.get::<_, i64>(0)
        })
    };
    let mut newest = 0;
    let mut crashes = 0;
    while store.read(merged).await.unwrap() < 2 {
        let answers: Vec<_> = (newest..newest + 100)
            .map(|n| send_accept(&store, &push("room", n)))
            .collect();
        for answer in answers {
            assert!(!answer.await.unwrap().unwrap().is_duplicate());
        }
        newest += 100;
        assert!(newest < 50_000, "nothing is merged");
        for n in (0..newest).step_by(97) {
            let repeated = accept(&store, &push("room", n)).await.unwrap();
            assert_eq!((repeated.seq(), repeated.is_duplicate()), (n + 1, true));
        }
        if newest > 2000 * (crashes + 1) {
            crashes += 1;
            let (_crashed, copy) = crash(&store);
            let again = open_with(&copy, &Clock::manual(BEGIN));
            for n in (0..newest).step_by(31) {
                let repeated = accept(&again, &push("room", n)).await.unwrap();
                assert_eq!((repeated.seq(), repeated.is_duplicate()), (n + 1, true));
            }
        }
    }
    assert!(crashes > 0);
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
    let limit = wal::WAL_LIMIT_PAGES as u64 * 8192;
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
    let waiting = |wait: Duration| settings_with(dir.path(), |own| own.lock_wait = wait);
    let wait = Duration::from_millis(120);
    let began = Instant::now();
    let refused = try_open(&waiting(wait));
    assert!(matches!(
        refused.err(),
        Some(OpenError::Locked { waited, .. }) if waited == wait
    ));
    assert!(began.elapsed() >= wait);
    let patient = waiting(Duration::from_secs(60));
    let second = std::thread::spawn(move || try_open(&patient).map(drop));
    first.close();
    second.join().unwrap().unwrap();
}

#[test]
fn what_cannot_be_opened_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: PathBuf| try_open(&settings_with(dir.path(), |own| own.path = path)).err();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    assert!(matches!(
        open(dir.path().join("file/inbox")),
        Some(OpenError::Unwritable { .. })
    ));
    std::fs::create_dir_all(dir.path().join("taken/inbox.db")).unwrap();
    let file = dir.path().join("taken/inbox.db");
    assert!(matches!(
        open(dir.path().join("taken")),
        Some(OpenError::Unwritable { path, .. }) if path == file
    ));
    std::fs::create_dir(dir.path().join("foreign")).unwrap();
    std::fs::write(dir.path().join("foreign/inbox.db"), "no database at all").unwrap();
    assert!(matches!(
        open(dir.path().join("foreign")),
        Some(OpenError::Broken { .. })
    ));
    assert!(open(dir.path().join("new/and/deep")).is_none());
}

/// What SQLite says when a sync fails.
fn failed_sync() -> rusqlite::Error {
    let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
    rusqlite::Error::SqliteFailure(error, None)
}

#[tokio::test]
async fn after_a_failed_sync_only_a_new_start_takes_callbacks() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    accept(&store, &push("a", 1)).await.unwrap();
    assert_eq!(stored(&store).await, [1]);
    assert!(store.progress.condemn_if_not_synced(&failed_sync()));
    store.until_condemned().await;
    assert_eq!(store.condition(), Condition::Failing);
    assert_eq!(accept(&store, &push("a", 2)).await, Err(StoreError::Failed));
    assert_eq!(store.probe().await, Err(StoreError::Failed));
    store.close();
    // What SQLite was told to be on the disk may not be there: the journal must still have it.
    assert!(!journal::is_empty(&store.path));
    assert!(store.path.join("inbox.db-wal").exists());
    let store = open(dir.path());
    assert_eq!(stored(&store).await, [1]);
    assert_eq!(store.condition(), Condition::Accepting);
    accept(&store, &push("a", 2)).await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_closed_in_order_leaves_no_wal() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    accept(&store, &push("a", 1)).await.unwrap();
    assert_eq!(stored(&store).await, [1]);
    store.close();
    assert!(journal::is_empty(&store.path));
    assert!(!store.path.join("inbox.db-wal").exists());
}

#[tokio::test]
async fn files_that_were_taken_away_take_no_callbacks() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    accept(&store, &push("a", 1)).await.unwrap();
    let hidden = store.path.join("hidden");
    let files = std::fs::read_dir(&store.path).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    for (number, file) in (2..).zip(files) {
        std::fs::rename(&file, &hidden).unwrap();
        for replaced in [false, true] {
            if replaced {
                std::fs::copy(&hidden, &file).unwrap();
            }
            let refused = accept(&store, &push("a", number)).await;
            assert_eq!(refused, Err(StoreError::Failed), "{}", file.display());
            let repeated = accept(&store, &push("a", 1)).await;
            assert_eq!(repeated, Err(StoreError::Failed), "{}", file.display());
            assert_eq!(store.condition(), Condition::Failing);
            let paused = store.pause(1, true, BEGIN).await;
            assert_eq!(paused, Err(StoreError::Failed), "{}", file.display());
        }
        std::fs::rename(&hidden, &file).unwrap();
        store.probe().await.unwrap();
        assert_eq!(store.condition(), Condition::Accepting);
        accept(&store, &push("a", number)).await.unwrap();
        // Without any callback, too.
        std::fs::rename(&file, &hidden).unwrap();
        store.check_files().await;
        assert_eq!(store.condition(), Condition::Failing);
        std::fs::rename(&hidden, &file).unwrap();
        store.check_files().await;
        assert_eq!(store.condition(), Condition::Accepting);
    }
    let all = stored(&store).await;
    store.close();
    assert_eq!(stored(&open(dir.path())).await, all, "those, once each");
}

/// Whether another process sees locks on a file. One look at the system's table may miss some, as it changes meanwhile.
fn is_locked(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(":{} ", std::fs::metadata(file).unwrap().ino());
    (0..200).any(|_| {
        let found = std::fs::read_to_string("/proc/locks")
            .unwrap()
            .contains(&inode);
        if !found {
            std::thread::sleep(Duration::from_millis(10));
        }
        found
    })
}

#[tokio::test]
async fn sqlite_keeps_its_locks_on_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    accept(&store, &push("a", 1)).await.unwrap();
    assert_eq!(stored(&store).await, [1]);
    assert!(store.size() > 0);
    assert!(is_locked(&store.path.join("inbox.db")));
    store.close();
    // Also after a start that had something to recover.
    let store = open(dir.path());
    assert!(store.progress.condemn_if_not_synced(&failed_sync()));
    store.close();
    let store = open(dir.path());
    assert_eq!(stored(&store).await, [1]);
    assert!(is_locked(&store.path.join("inbox.db")));
}

/// Another program may read for as long as it likes, also across a crash.
#[tokio::test]
async fn a_start_beside_a_reader_keeps_the_journal_until_all_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    accept(&store, &push("a", 1)).await.unwrap();
    let reader = connect(&store.path.join("inbox.db")).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM events")
        .unwrap();
    accept(&store, &push("a", 2)).await.unwrap();
    assert_eq!(stored(&store).await, [1, 2]);
    // As good as a crash: nothing is put in order.
    store.progress.condemn_if_not_synced(&failed_sync());
    store.close();
    let store = open(dir.path());
    assert!(!store.progress.is_surely_synced(1), "SQLite cannot move it");
    accept(&store, &push("a", 3)).await.unwrap();
    assert_eq!(stored(&store).await, [1, 2, 3]);
    let recovered = || {
        let mut seqs = Vec::new();
        journal::recover(&store.path, 0, |event| {
            seqs.push(event.seq);
            Ok(())
        })
        .unwrap();
        seqs
    };
    assert_eq!(recovered(), [1, 2, 3]);
    drop(reader);
    let until = Instant::now() + Duration::from_secs(60);
    while !store.progress.is_surely_synced(2) {
        assert!(Instant::now() < until, "it is never sure");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.close();
    assert!(journal::is_empty(&store.path));
}
