//! The store's directory and its SQLite file: created so that a power failure does not take them back, used by one process at a
//! time.
//!
//! No other code of this process opens `state.db` or its WAL: POSIX drops all of a process's locks on a file when the process
//! closes any descriptor of it. SQLite would lose its locks, and another program could take the file for unused.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ffi};

use crate::inbox::OpenError;

/// How long SQLite waits for another program that has the file locked.
const PATIENCE: Duration = Duration::from_secs(10);
/// A checkpoint waits no longer for a reader.
const READER_PATIENCE: Duration = Duration::from_millis(250);

/// Opens the file as every connection to it is opened.
pub(super) fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open(file)?;
    conn.busy_timeout(PATIENCE)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    // What is deleted is overwritten with zeros.
    conn.pragma_update(None, "secure_delete", true)?;
    // The last connection would move the WAL into the file when it closes, also after a sync that failed: see `close`.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

/// Closes the last connection, and has it move the WAL into the file and remove it.
pub(super) fn close(conn: Connection) {
    let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
    drop(conn);
}

/// Moves the whole WAL into the file, written anew and synced: whether it was done, or a reader stood in the way.
pub(super) fn checkpoint_whole(conn: &Connection) -> rusqlite::Result<bool> {
    checkpoint(conn, "TRUNCATE").map(|(is_busy, ..)| !is_busy)
}

/// Whether a reader stood in the way, how many pages the WAL has, and how many of them are in the file.
pub(super) fn checkpoint(conn: &Connection, mode: &str) -> rusqlite::Result<(bool, i64, i64)> {
    conn.busy_timeout(READER_PATIENCE)?;
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let done = conn.query_row(&sql, [], |row| row.try_into());
    conn.busy_timeout(PATIENCE)?;
    done
}

/// Whether SQLite failed to sync a file. The kernel may have dropped what was to be synced and call the next sync good, so
/// nothing that SQLite says of the file afterwards is a proof.
pub(super) fn is_failed_sync(error: &rusqlite::Error) -> bool {
    const FAILED_SYNCS: [i32; 2] = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC];
    let code = error.sqlite_error().map(|error| error.extended_code);
    code.is_some_and(|code| FAILED_SYNCS.contains(&code))
}

/// Creates the directory. What is above it must know it after a power failure as well.
pub(super) fn create_durably(path: &Path) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    if let Some(parent) = parent {
        create_durably(parent)?;
    }
    std::fs::create_dir_all(path)?;
    sync(parent.unwrap_or(Path::new(".")))
}

/// Makes a file, or the names in a directory, survive a power cut.
pub(super) fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whether a process uses the store in this directory. If that cannot be found out, one probably does.
pub(crate) fn is_in_use(path: &Path) -> bool {
    match File::open(path.join("livehook.lock")) {
        Ok(file) => file.try_lock().is_err(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// Takes the directory for this process. The lock goes with the process, however it ends.
pub(super) fn lock(path: &Path, wait: Duration) -> Result<File, OpenError> {
    let unwritable = |error| OpenError::unwritable(path, error);
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path.join("livehook.lock"))
        .map_err(unwritable)?;
    let until = Instant::now() + wait;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(OpenError::Locked {
                    path: path.to_owned(),
                    waited: wait,
                });
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(unwritable(error)),
        }
    }
}
