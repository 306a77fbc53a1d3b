//! The store's directory and file: made so that a power failure does not take them back, and one process's at a time.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::inbox::OpenError;

/// Opens the file as every connection to it is opened.
pub(super) fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open(file)?;
    conn.busy_timeout(Duration::from_secs(10))?;
    // Of a new file: events are appended by the hundred, in fewer and larger pieces than SQLite's default.
    conn.pragma_update(None, "page_size", 8192)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
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
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Has what was written to these files by anybody be on the disk. Those that are missing hold nothing.
pub(super) fn sync(files: &[&Path]) -> std::io::Result<()> {
    for file in files {
        match File::open(file) {
            Ok(file) => file.sync_all()?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes the directory for this process. The lock goes with the process, however it ends.
pub(super) fn lock(path: &Path, wait: Duration) -> Result<File, OpenError> {
    let unwritable = |error| OpenError::Unwritable {
        path: path.to_owned(),
        error,
    };
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
