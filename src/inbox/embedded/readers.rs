//! Connections for reading: beside the writer's, so that no look makes a commit wait.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::directory::connect;

/// Connections for reading, as many as are used at once; those that are not used now, none once it is closed.
pub(super) struct Readers {
    file: PathBuf,
    idle: Mutex<Option<Vec<Connection>>>,
}

/// More idle ones than this are closed.
const IDLE_READERS: usize = 4;

impl Readers {
    pub(super) fn new(file: PathBuf) -> Self {
        Self {
            file,
            idle: Mutex::new(Some(Vec::new())),
        }
    }

    /// A connection for reading.
    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        let conn = connect(&self.file)?;
        conn.pragma_update(None, "cache_size", -512)?;
        conn.pragma_update(None, "query_only", true)?;
        Ok(conn)
    }

    pub(super) fn with<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let idle = match &mut *self.idle() {
            Some(idle) => idle.pop(),
            None => return Err(rusqlite::Error::InvalidPath(self.file.clone())),
        };
        let conn = match idle {
            Some(conn) => conn,
            None => self.connect()?,
        };
        // One that asks twice sees the same both times.
        let result = conn.unchecked_transaction().and_then(|snapshot| {
            let result = query(&snapshot)?;
            snapshot.commit()?;
            Ok(result)
        });
        if let Some(idle) = &mut *self.idle()
            && idle.len() < IDLE_READERS
        {
            idle.push(conn);
        }
        result
    }

    /// Gives nobody a connection from now on: those that nobody uses.
    pub(super) fn close(&self) -> Vec<Connection> {
        self.idle().take().unwrap_or_default()
    }

    fn idle(&self) -> MutexGuard<'_, Option<Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
