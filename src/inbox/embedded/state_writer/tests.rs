#![allow(clippy::unwrap_used)]

use std::path::Path;

use tokio::sync::oneshot;

use super::super::directory::connect;
use super::super::files::Files;
use super::super::schema;
use super::*;

fn writer(directory: &Path) -> (StateWrites, StateWriter) {
    let mut conn = connect(&directory.join("state.db")).unwrap();
    schema::migrate(&mut conn).unwrap();
    state_writer(conn, Arc::new(Health::new(Files::default(), false)))
}

/// A job that runs this, and what it will be told of its transaction.
fn send(writes: &StateWrites, sql: &'static str) -> oneshot::Receiver<Result<(), StoreError>> {
    let (reply, answer) = oneshot::channel();
    let done = move |result| assert_eq!(reply.send(result), Ok(()));
    writes.send(move |conn| conn.execute_batch(sql), done);
    answer
}

/// Takes what was sent into one transaction.
fn take(writer: &mut StateWriter) {
    let command = writer.commands.try_recv().unwrap();
    writer.take(command);
}

fn value(writer: &StateWriter) -> i64 {
    let select = "SELECT value FROM meta WHERE name = 'readable_by'";
    let value = writer.conn.query_row(select, [], |row| row.get(0));
    value.unwrap()
}

const FAILED: Result<(), StoreError> = Err(StoreError::Failed);

#[test]
fn jobs_that_wait_share_a_transaction_and_one_that_fails_is_undone() {
    let directory = tempfile::tempdir().unwrap();
    let (writes, mut writer) = writer(directory.path());
    let mut first = send(&writes, "UPDATE meta SET value = value + 10");
    let mut fails = send(
        &writes,
        "UPDATE meta SET value = value + 100; INSERT INTO nowhere VALUES (1)",
    );
    let mut last = send(&writes, "UPDATE meta SET value = value + 1000");
    take(&mut writer);
    assert_eq!(writer.transactions, 1);
    assert_eq!(value(&writer), 1011);
    assert_eq!(first.try_recv(), Ok(Ok(())));
    assert_eq!(fails.try_recv(), Ok(FAILED));
    assert_eq!(last.try_recv(), Ok(Ok(())));
    assert!(!writer.health.has(Trouble::State), "the store works");
}

#[test]
fn what_comes_after_the_end_of_a_transaction_is_not_written_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let (writes, mut writer) = writer(directory.path());
    let mut before = send(&writes, "UPDATE meta SET value = 2");
    // As SQLite does when the disk is full in the middle of a statement.
    let mut ends = send(&writes, "ROLLBACK");
    let mut after = send(&writes, "UPDATE meta SET value = 3");
    take(&mut writer);
    assert_eq!(before.try_recv(), Ok(FAILED));
    assert_eq!(ends.try_recv(), Ok(FAILED));
    assert!(after.try_recv().is_err(), "its reply is dropped");
    assert_eq!(value(&writer), 1);
    assert!(writer.health.has(Trouble::State));

    let mut again = send(&writes, "UPDATE meta SET value = 4");
    take(&mut writer);
    assert_eq!(again.try_recv(), Ok(Ok(())));
    assert_eq!(value(&writer), 4);
    assert!(!writer.health.has(Trouble::State));
}

#[test]
fn a_commit_that_fails_is_told_to_all_and_leaves_nothing_open() {
    let directory = tempfile::tempdir().unwrap();
    let (writes, mut writer) = writer(directory.path());
    writer
        .conn
        .execute_batch(
            "PRAGMA foreign_keys = ON; CREATE TABLE parent(id INTEGER PRIMARY KEY);
             CREATE TABLE child(id REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)",
        )
        .unwrap();
    let mut first = send(&writes, "UPDATE meta SET value = 2");
    // Only the commit finds out.
    let mut second = send(&writes, "INSERT INTO child VALUES (1)");
    take(&mut writer);
    assert_eq!(first.try_recv(), Ok(FAILED));
    assert_eq!(second.try_recv(), Ok(FAILED));
    assert!(writer.conn.is_autocommit());
    assert_eq!(value(&writer), 1);
    assert!(writer.health.has(Trouble::State));
}

#[test]
fn a_condemned_store_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let (writes, mut writer) = writer(directory.path());
    let code = ffi::Error::new(ffi::SQLITE_IOERR_FSYNC);
    let error = rusqlite::Error::SqliteFailure(code, None);
    let (reply, mut answer) = oneshot::channel();
    // SQLite ends the transaction when a statement could not sync.
    let job = |conn: &Connection| conn.execute_batch("ROLLBACK").and(Err::<(), _>(error));
    writes.send(job, |told| reply.send(told).unwrap());
    take(&mut writer);
    assert_eq!(answer.try_recv(), Ok(FAILED));
    assert!(writer.health.has(Trouble::Condemned));
    let mut refused = send(&writes, "UPDATE meta SET value = 2");
    take(&mut writer);
    assert!(refused.try_recv().is_err(), "its reply is dropped");
    assert_eq!(value(&writer), 1);
    assert_eq!(writer.empty_wal(), FAILED);
}

#[test]
fn a_job_that_finds_the_disk_full_is_noted_for_those_who_accept() {
    let directory = tempfile::tempdir().unwrap();
    let (writes, mut writer) = writer(directory.path());
    let limit = |writer: &StateWriter, pages: i64| {
        let pragma = format!("PRAGMA max_page_count = {pages}");
        writer.conn.query_row(&pragma, [], |_| Ok(())).unwrap();
    };
    // No more than it has: SQLite says the same of a full volume.
    limit(&writer, 1);
    let large = "INSERT INTO meta VALUES (hex(zeroblob(100000)), 1)";
    let mut before = send(&writes, "UPDATE meta SET value = 2");
    let mut fills = send(&writes, large);
    take(&mut writer);
    assert_eq!(before.try_recv(), Ok(FAILED), "SQLite has undone it, too");
    assert_eq!(fills.try_recv(), Ok(FAILED));
    assert!(writer.conn.is_autocommit());
    assert!(writer.health.take_found_full());
    limit(&writer, 1_000_000);
    let mut fits = send(&writes, large);
    take(&mut writer);
    assert_eq!(fits.try_recv(), Ok(Ok(())));
    assert!(!writer.health.has(Trouble::State) && !writer.health.take_found_full());
    assert_eq!(value(&writer), 1);
}

#[test]
fn commands_keep_their_order_and_the_end_is_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (writes, writer) = writer(directory.path());
    let file = directory.path().join("state.db");
    let mut first = send(&writes, "UPDATE meta SET value = 7");
    let (reply, mut emptied) = oneshot::channel();
    writes.0.send(Command::EmptyWal(reply)).unwrap();
    let mut second = send(&writes, "UPDATE meta SET value = 8");
    writes.close();
    let mut late = send(&writes, "UPDATE meta SET value = 9");
    writer.run();
    assert_eq!(first.try_recv(), Ok(Ok(())));
    assert_eq!(emptied.try_recv(), Ok(Ok(())));
    assert_eq!(second.try_recv(), Ok(Ok(())));
    assert!(late.try_recv().is_err());
    assert!(!directory.path().join("state.db-wal").exists());
    let (_, writer) = state_writer(
        connect(&file).unwrap(),
        Arc::new(Health::new(Files::default(), false)),
    );
    assert_eq!(value(&writer), 8);
}

/// The doubt ends only when the whole WAL was written by this process.
#[test]
fn a_reader_of_an_old_state_keeps_the_doubt() {
    let directory = tempfile::tempdir().unwrap();
    let (writes, mut writer) = writer(directory.path());
    writer.health = Arc::new(Health::new(Files::default(), true));
    let reader = connect(&directory.path().join("state.db")).unwrap();
    let _first = send(&writes, "UPDATE meta SET value = 2");
    take(&mut writer);
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM meta")
        .unwrap();
    let _second = send(&writes, "UPDATE meta SET value = 3");
    take(&mut writer);
    writer.checkpoint();
    assert!(writer.health.is_in_doubt());
    drop(reader);
    writer.checkpoint();
    assert!(!writer.health.is_in_doubt());
}
