use std::time::Duration;

use super::*;
use crate::inbox::sqlite::schema;

fn writer(directory: &std::path::Path) -> Writer {
    let mut conn = Connection::open(directory.join("inbox.db")).unwrap();
    schema::migrate(&mut conn).unwrap();
    let clock = Clock::system();
    Writer {
        recent: Recent::load(&conn, clock.now()).unwrap(),
        conn,
        space: Space::new(directory, Some(0)),
        last: 0,
        dedupe_window: Duration::from_secs(1800),
        clock,
        metrics: Arc::default(),
        committed: watch::channel(0).0,
        tail: Arc::default(),
        condition: Arc::default(),
    }
}

/// A job that runs this, and what it will be told of its transaction.
fn job(sql: &'static str) -> (Command, oneshot::Receiver<Result<(), StoreError>>) {
    let (reply, answer) = oneshot::channel();
    let job: Job = Box::new(move |conn, _| {
        let _ = conn.execute_batch(sql);
        Box::new(move |committed| assert_eq!(reply.send(committed), Ok(())))
    });
    (Command::Write(job), answer)
}

#[test]
fn what_comes_after_the_end_of_a_transaction_is_not_written_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    let (before, mut told_before) = job("UPDATE meta SET value = 1 WHERE name = 'last_seq'");
    // As SQLite does when the disk is full in the middle of a statement.
    let (ends, mut told_ends) = job("ROLLBACK");
    let (after, mut told_after) = job("UPDATE meta SET value = 2 WHERE name = 'last_seq'");
    writer.commit(vec![before, ends, after]);
    assert_eq!(told_before.try_recv(), Ok(Err(StoreError::Failed)));
    assert_eq!(told_ends.try_recv(), Ok(Err(StoreError::Failed)));
    assert!(told_after.try_recv().is_err(), "its reply is dropped");
    let value = |writer: &Writer| {
        let sql = "SELECT value FROM meta WHERE name = 'last_seq'";
        writer.conn.query_row(sql, [], |row| row.get::<_, i64>(0))
    };
    assert_eq!(value(&writer), Ok(0));

    let (again, mut told_again) = job("UPDATE meta SET value = 3 WHERE name = 'last_seq'");
    writer.commit(vec![again]);
    assert_eq!(told_again.try_recv(), Ok(Ok(())));
    assert_eq!(value(&writer), Ok(3));
}
