//! Moving SQLite's write-ahead log into the file. Only the writer may wait for it, no answer does.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::setpriority_process;

use super::progress::Progress;

/// From here on the WAL is emptied even if that makes a transaction wait.
pub(super) const WAL_LIMIT_PAGES: i64 = 4096;
/// How often the WAL is moved into the file while events arrive, and while hardly any do. A sync of the journal waits for
/// what else the disk is to write: little at a time, under load, is waited for the least.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(15);
const CHECKPOINT_AT_EASE: Duration = Duration::from_millis(100);
/// From so many pages at a time on it is load.
const LOAD: i64 = 16;
/// Gives way to the others where processors are short.
const NICE: i32 = 10;
/// While a restart of the WAL waits for a reader, commits wait for it.
pub(super) const RESTART_WAIT: Duration = Duration::from_millis(250);
/// Checkpoints that go by before the next try when a reader stood in the way of a restart.
const RESTART_PAUSE: u32 = 100;

/// Moves on until the writer has ended, which drops the other end of `ended`.
pub(super) fn run(conn: &Connection, progress: &Progress, ended: &Receiver<()>) {
    // On Linux this is for the thread. What it takes of a processor is better had when nobody waits for an answer.
    let _ = setpriority_process(None, NICE);
    let mut pause = 0;
    let mut before = 0;
    let mut every = CHECKPOINT_AT_EASE;
    while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        let after = {
            let _syncs = progress.checkpoint();
            match checkpoint(conn, &mut pause) {
                Ok((after, pages)) => {
                    if after == pages {
                        progress.doubt(false); // all that the WAL held is in the file, written by this process and synced
                    }
                    after
                }
                Err(error) if progress.condemn_if_not_synced(&error) => return,
                Err(error) => {
                    tracing::warn!(store.error = %error, "the write-ahead log could not be moved into the inbox file");
                    0
                }
            }
        };
        // Fewer than before: the WAL was begun anew.
        let moved = if after < before {
            after
        } else {
            after - before
        };
        before = after;
        every = if moved < LOAD {
            CHECKPOINT_AT_EASE
        } else {
            CHECKPOINT_EVERY
        };
    }
}

/// Moves what the WAL holds into the file: how many of its pages are there now, and how many it has. The writer is not held up,
/// but for a moment when the WAL has grown large: under load it never is empty by itself. `pause` is how many times not to try
/// that.
fn checkpoint(conn: &Connection, pause: &mut u32) -> rusqlite::Result<(i64, i64)> {
    let run = |mode: &str| {
        conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
            Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?, row.get(2)?))
        })
    };
    let (_, pages, moved) = run("PASSIVE")?;
    if *pause > 0 {
        *pause -= 1;
    } else if pages > WAL_LIMIT_PAGES && run("RESTART")?.0 {
        *pause = RESTART_PAUSE;
    }
    Ok((moved, pages))
}
