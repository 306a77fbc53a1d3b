#![allow(clippy::unwrap_used)]

use css_callbacks::Timestamp;
use tokio::sync::oneshot;

use super::*;
use crate::inbox::contract::{authentic, push};
use crate::inbox::sqlite::identity::Files;
use crate::inbox::sqlite::schema;

fn writer(directory: &Path) -> Writer {
    let mut conn = Connection::open(directory.join("inbox.db")).unwrap();
    schema::migrate(&mut conn).unwrap();
    let upkeep = Upkeep::load(&conn).unwrap();
    Writer::new(conn, Arc::new(Progress::new(0, Files::default())), upkeep)
}

/// A job that runs this, and what it will be told of its transaction.
fn job(sql: &'static str) -> (Job, oneshot::Receiver<Result<(), StoreError>>) {
    let (reply, answer) = oneshot::channel();
    let job: Job = Box::new(move |conn| {
        let _ = conn.execute_batch(sql);
        Box::new(move |committed| assert_eq!(reply.send(committed), Ok(())))
    });
    (job, answer)
}

/// As the intake tells of it and the writer takes it.
fn accepted(writer: &mut Writer, seq: Seq) {
    let body = push("room", seq);
    let callback = authentic("css", body.as_bytes(), Timestamp::default());
    let moved = Moved::new(vec![Numbered { seq, callback }]);
    writer.progress.adds(moved.bytes);
    writer.hold(Arc::new(moved));
}

fn number(writer: &Writer, sql: &str) -> i64 {
    writer.conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

const VALUE: &str = "SELECT value FROM meta WHERE name = 'last_seq'";
const EVENTS: &str = "SELECT count(*) FROM events";

#[test]
fn what_comes_after_the_end_of_a_transaction_is_not_written_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    let (before, mut told_before) = job("UPDATE meta SET value = 1 WHERE name = 'last_seq'");
    // As SQLite does when the disk is full in the middle of a statement.
    let (ends, mut told_ends) = job("ROLLBACK");
    let (after, mut told_after) = job("UPDATE meta SET value = 2 WHERE name = 'last_seq'");
    writer.jobs = vec![before, ends, after];
    writer.write();
    assert_eq!(told_before.try_recv(), Ok(Err(StoreError::Failed)));
    assert_eq!(told_ends.try_recv(), Ok(Err(StoreError::Failed)));
    assert!(told_after.try_recv().is_err(), "its reply is dropped");
    assert_eq!(number(&writer, VALUE), 0);

    let (again, mut told_again) = job("UPDATE meta SET value = 3 WHERE name = 'last_seq'");
    writer.jobs = vec![again];
    writer.write();
    assert_eq!(told_again.try_recv(), Ok(Ok(())));
    assert_eq!(number(&writer, VALUE), 3);
}

#[test]
fn a_job_that_ends_the_transaction_does_not_keep_events_from_being_moved() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    for (seq, sql) in [(1, "ROLLBACK"), (2, "COMMIT")] {
        let (ends, mut told) = job(sql);
        accepted(&mut writer, seq);
        writer.jobs = vec![ends];
        writer.write();
        assert_eq!(told.try_recv(), Ok(Err(StoreError::Failed)));
        assert_eq!(number(&writer, EVENTS), seq);
        assert_eq!(writer.progress.moved(), seq);
        assert!(!writer.progress.has(Trouble::Writer));
    }
}

#[test]
fn what_cannot_be_moved_is_kept_and_moved_later() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    writer
        .conn
        .execute_batch("ALTER TABLE events RENAME TO away")
        .unwrap();
    accepted(&mut writer, 1);
    writer.write();
    assert!(writer.progress.has(Trouble::Writer));
    assert_eq!(writer.progress.moved(), 0);
    writer
        .conn
        .execute_batch("ALTER TABLE away RENAME TO events")
        .unwrap();
    writer.write();
    assert!(!writer.progress.has(Trouble::Writer));
    assert_eq!(writer.progress.moved(), 1);
    assert!(writer.progress.waits_for_room(1, Duration::ZERO));
}

/// The journal's files are used again only when this says so.
#[test]
fn only_what_was_committed_with_a_sync_counts_as_synced() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    let moves = |writer: &mut Writer, seq| {
        accepted(writer, seq);
        writer.write();
    };
    moves(&mut writer, 1);
    assert_eq!((writer.progress.moved(), writer.progress.synced()), (1, 0));
    // It changes nothing, so its commit syncs nothing.
    let (idle, _told) = job("SELECT 1");
    writer.jobs = vec![idle];
    writer.write();
    assert_eq!(writer.progress.synced(), 0);
    writer.sync = true;
    writer.write();
    assert_eq!(writer.progress.synced(), 1);
    let (touches, _told) = job("UPDATE meta SET value = 3 WHERE name = 'last_seq'");
    writer.jobs = vec![touches];
    moves(&mut writer, 2);
    assert_eq!((writer.progress.moved(), writer.progress.synced()), (2, 2));
}
