//! Moving SQLite's write-ahead log into the file. Only the writer may wait for it, no answer does.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::setpriority_process;

/// From here on the WAL is emptied even if that makes a transaction wait.
pub(super) const WAL_LIMIT_PAGES: i64 = 4096;
/// How often the WAL is moved into the file.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(100);
/// Gives way to the others where processors are short.
const NICE: i32 = 10;
/// While a restart of the WAL waits for a reader, commits wait for it.
pub(super) const RESTART_WAIT: Duration = Duration::from_millis(250);
/// Checkpoints that go by before the next try when a reader stood in the way of a restart.
const RESTART_PAUSE: u32 = 20;

/// Moves on until the writer has ended, which drops the other end of `ended`.
pub(super) fn run(conn: &Connection, ended: &Receiver<()>) {
    // On Linux this is for the thread. Moving a hundred milliseconds' worth takes a few of a processor, which are better had
    // when nobody waits for an answer.
    let _ = setpriority_process(None, NICE);
    let mut pause = 0;
    while ended.recv_timeout(CHECKPOINT_EVERY) == Err(RecvTimeoutError::Timeout) {
        checkpoint(conn, &mut pause);
    }
}

/// Moves what the WAL holds into the file. The writer is not held up, but for a moment when the WAL has grown large: under
/// load it never is empty by itself. `pause` is how many times not to try that.
fn checkpoint(conn: &Connection, pause: &mut u32) {
    let run = |mode: &str| {
        conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
            Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?))
        })
    };
    let result = run("PASSIVE").and_then(|(_, pages)| {
        if *pause > 0 {
            *pause -= 1;
        } else if pages > WAL_LIMIT_PAGES && run("RESTART")?.0 {
            *pause = RESTART_PAUSE;
        }
        Ok(())
    });
    if let Err(error) = result {
        tracing::warn!(store.error = %error, "the write-ahead log could not be moved into the inbox file");
    }
}
