//! The thread that writes to `state.db`.
//!
//! It takes all jobs that wait into one transaction, which is synced with its commit. Each job has a savepoint of its own, so a
//! job that fails takes nothing else with it. Between transactions the thread moves SQLite's WAL into the file.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, ffi};

use super::acceptor::Reply;
use super::ask;
use super::directory::{checkpoint, checkpoint_whole, close};
use super::health::{Alive, Health, Trouble};
use crate::inbox::StoreError;

/// The most jobs in a transaction.
const MAX_JOBS: usize = 4096;
/// So many transactions go by before the WAL is moved, unless there is nothing else to do for [`IDLE`].
const CHECKPOINT_EVERY: u32 = 64;
const IDLE: Duration = Duration::from_secs(2);
/// A WAL with more pages is emptied, even if a transaction then has to wait for a reader.
const WAL_LIMIT_PAGES: i64 = 4096;
/// The WAL file is not longer at rest. In bytes.
pub(super) const WAL_LIMIT: i64 = WAL_LIMIT_PAGES * 4096;

/// Changes a row, but no value.
pub(super) const TOUCH: &str = "UPDATE meta SET value = value WHERE name = 'readable_by'";

/// Runs inside the transaction. What it returns is called when the fate of the transaction is known.
type Job = Box<dyn FnOnce(&Connection) -> (rusqlite::Result<()>, Completion) + Send>;
type Completion = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

enum Command {
    Write(Job),
    /// Move the whole WAL into the file and empty it: nothing that was deleted stays there.
    EmptyWal(Reply<()>),
    Close,
}

/// Sends jobs to the writer.
#[derive(Clone)]
pub(super) struct StateWrites(Sender<Command>);

impl StateWrites {
    /// Runs a job in a transaction. It returns when the transaction is on the disk. Cancelling the future does not cancel the job.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        ask(|reply| self.send(job, |result| drop(reply.send(result)))).await
    }

    /// As [`write`](Self::write), but nobody waits for it.
    pub(super) fn send<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        done: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) {
        let job = move |conn: &Connection| -> (rusqlite::Result<()>, Completion) {
            let (value, result) = match in_savepoint(conn, job) {
                Ok(value) => (Ok(value), Ok(())),
                Err(error) => (Err(StoreError::Failed), Err(error)),
            };
            let complete = move |committed: Result<(), _>| done(committed.and(value));
            (result, Box::new(complete))
        };
        let _ = self.0.send(Command::Write(Box::new(job)));
    }

    /// Moves the whole WAL into the file and empties it.
    pub(super) async fn empty_wal(&self) -> Result<(), StoreError> {
        ask(|reply| drop(self.0.send(Command::EmptyWal(reply)))).await
    }

    /// The thread ends after what was sent before.
    pub(super) fn close(&self) {
        let _ = self.0.send(Command::Close);
    }
}

pub(super) struct StateWriter {
    conn: Connection,
    health: Arc<Health>,
    commands: Receiver<Command>,
    transactions: u32,
}

/// A writer and what sends it jobs.
pub(super) fn state_writer(conn: Connection, health: Arc<Health>) -> (StateWrites, StateWriter) {
    let (sender, commands) = std::sync::mpsc::channel();
    let writer = StateWriter {
        conn,
        health,
        commands,
        transactions: 0,
    };
    (StateWrites(sender), writer)
}

impl StateWriter {
    /// Runs jobs until it is closed or nobody is left to send any.
    pub(super) fn run(mut self) {
        let _alive = Alive(self.health.clone());
        let mut is_open = true;
        while is_open {
            let next = match self.transactions {
                0 => self.commands.recv().map_err(RecvTimeoutError::from),
                _ => self.commands.recv_timeout(IDLE),
            };
            match next {
                Ok(command) => is_open = self.take(command),
                Err(RecvTimeoutError::Timeout) => self.checkpoint(),
                Err(RecvTimeoutError::Disconnected) => is_open = false,
            }
            if self.transactions >= CHECKPOINT_EVERY {
                self.checkpoint();
            }
        }
        if !self.health.is_in_doubt() && self.health.check_state_files().is_ok() {
            close(self.conn);
        }
    }

    /// Runs a command together with the jobs that wait behind it. Returns whether more may come.
    fn take(&mut self, command: Command) -> bool {
        let mut jobs = Vec::new();
        let mut last = None;
        let waiting = std::iter::from_fn(|| self.commands.try_recv().ok());
        for command in std::iter::once(command).chain(waiting) {
            match command {
                Command::Write(job) => jobs.push(job),
                other => last = Some(other),
            }
            if last.is_some() || jobs.len() == MAX_JOBS {
                break;
            }
        }
        if !jobs.is_empty() {
            self.write(jobs);
        }
        match last {
            Some(Command::EmptyWal(reply)) => drop(reply.send(self.empty_wal())),
            Some(Command::Close) => return false,
            Some(Command::Write(_)) | None => {}
        }
        true
    }

    fn write(&mut self, jobs: Vec<Job>) {
        if self.health.has(Trouble::Condemned) {
            return; // the replies that are dropped tell that it failed
        }
        let mut completions = Vec::with_capacity(jobs.len());
        let result = match self.transaction(jobs, &mut completions) {
            Ok(()) => {
                self.transactions += 1;
                if self.health.set(Trouble::State, false) {
                    tracing::info!("the store can be written again");
                }
                self.health.check_state_files()
            }
            Err(error) => {
                self.give_up(&error);
                Err(StoreError::Failed)
            }
        };
        for complete in completions {
            complete(result);
        }
    }

    fn transaction(
        &self,
        jobs: Vec<Job>,
        completions: &mut Vec<Completion>,
    ) -> rusqlite::Result<()> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for job in jobs {
            let (result, complete) = job(&self.conn);
            completions.push(complete);
            if let Err(error) = result {
                // A statement may sync, too. SQLite then ends the transaction with another error.
                self.judge(&error);
                tracing::error!(store.error = %error, "a write to the store failed");
            }
            // A job that failed badly, as on a full disk, ended the whole transaction. What comes after it would be committed by
            // itself. The replies of jobs that are dropped tell that they failed.
            if self.conn.is_autocommit() {
                let code = ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK);
                return Err(rusqlite::Error::SqliteFailure(code, None));
            }
        }
        self.conn.prepare_cached("COMMIT")?.execute([]).map(drop)
    }

    /// Ends a transaction that failed.
    fn give_up(&self, error: &rusqlite::Error) {
        // Otherwise a transaction that failed half-way would take in everything after it.
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::error!(store.error = %error, "the failed transaction could not be rolled back");
        }
        if !self.judge(error) && !self.health.set(Trouble::State, true) {
            tracing::error!(store.error = %error, "the store failed: positions and deliveries are not written, after a restart events may be delivered again");
        }
    }

    /// Notes what the error of a write tells of the disk. Returns whether it condemns the store.
    fn judge(&self, error: &rusqlite::Error) -> bool {
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            self.health.found_full();
        }
        self.health.condemn_if_not_synced(error)
    }

    /// Moves what the WAL holds into the file. A large WAL is emptied, because under load that never happens by itself.
    fn checkpoint(&mut self) {
        self.transactions = 0;
        let mut done = checkpoint(&self.conn, "PASSIVE");
        if let Ok((_, pages, _)) = done
            && pages > WAL_LIMIT_PAGES
        {
            done = checkpoint(&self.conn, "RESTART");
        }
        match done {
            Ok((_, pages, moved)) if pages == moved => self.health.end_doubt(),
            Ok(_) => {}
            Err(error) => {
                if !self.health.condemn_if_not_synced(&error) {
                    tracing::warn!(store.error = %error, "SQLite's write-ahead log could not be moved into state.db, it is tried again later");
                }
            }
        }
    }

    fn empty_wal(&mut self) -> Result<(), StoreError> {
        if self.health.has(Trouble::Condemned) {
            return Err(StoreError::Failed);
        }
        match checkpoint_whole(&self.conn) {
            Ok(true) => {
                self.health.end_doubt();
                return Ok(());
            }
            Ok(false) => tracing::warn!(
                "another program reads state.db: SQLite's write-ahead log cannot be emptied until it ends"
            ),
            Err(error) => {
                self.health.condemn_if_not_synced(&error);
                tracing::error!(store.error = %error, "SQLite's write-ahead log could not be emptied");
            }
        }
        Err(StoreError::Failed)
    }
}

fn in_savepoint<T>(
    conn: &Connection,
    job: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    conn.execute_batch("SAVEPOINT job")?;
    let result = job(conn);
    let ended = conn.execute_batch(match result {
        Ok(_) => "RELEASE job",
        Err(_) => "ROLLBACK TO job; RELEASE job",
    });
    if ended.is_err() && !conn.is_autocommit() {
        // What the job did must not be committed with the others.
        conn.execute_batch("ROLLBACK")?;
    }
    // The first error is the cause: after some, SQLite has ended the transaction, and there is no savepoint to go back to.
    let value = result?;
    ended.map(|()| value)
}

#[cfg(test)]
mod tests;
