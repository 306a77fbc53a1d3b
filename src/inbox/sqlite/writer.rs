//! The thread that writes to SQLite: it moves there what the journal holds, and does every other write.
//!
//! What was accepted gathers for a moment, because a large transaction costs little more than a small one; a reader or
//! another write ends the wait. A transaction that only moves is not synced: the journal has what is in it. Every other write
//! is synced with its commit, and runs in a savepoint of its own, so that one that fails takes nothing else with it. Between
//! those transactions runs of ids are merged, a little in each of its own: nobody waits for that.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Statement, ffi, params};

use super::journal::{self, Damage, Numbered, Record};
use super::progress::{Alive, Progress, Trouble};
use super::recent::{Change, Sealed, Upkeep, write_run};
use crate::event::Seq;
use crate::inbox::StoreError;

/// How long what was accepted gathers.
const GATHER: Duration = Duration::from_millis(5);
/// At most so much is moved in one transaction.
const BATCH_BYTES: usize = 4 << 20;
/// At most so many other writes go into one transaction.
const BATCH_JOBS: usize = 4096;
/// Between tries to move what could not be moved.
const RETRY: Duration = Duration::from_millis(200);

/// What was moved by a commit that only seemed to fail is there already.
const INSERT_EVENT: &str = "INSERT OR IGNORE INTO events(seq, received, source, kind, id, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
/// Writes, and changes nothing.
pub(super) const TOUCH: &str = "UPDATE meta SET value = value WHERE name = 'last_seq'";

/// A batch that the journal holds and SQLite is to get.
pub(super) struct Moved {
    pub(super) callbacks: Vec<Numbered>,
    /// What it takes in memory.
    pub(super) bytes: usize,
}

impl Moved {
    pub(super) fn new(callbacks: Vec<Numbered>) -> Self {
        let each = |numbered: &Numbered| 256 + numbered.callback.body().len();
        Self {
            bytes: callbacks.iter().map(each).sum(),
            callbacks,
        }
    }
}

pub(super) enum Command {
    /// Move what is in the journal.
    Move(Arc<Moved>),
    /// Write a run of ids.
    Run(Arc<Sealed>),
    /// Nobody asks any more the runs of ids that were merged.
    Swapped,
    /// Remove what is left of runs of ids.
    Remove(Vec<i64>),
    /// Any other write.
    Write(Job),
    /// Somebody waits for what was sent before.
    Hurry,
    /// What was sent before has to be synced.
    Sync,
    /// Finish what was sent before, then end.
    Close,
}

/// Where commands are given to the writer.
#[derive(Clone)]
pub(super) struct Commands {
    sender: mpsc::Sender<Command>,
    writer: Thread,
}

impl Commands {
    pub(super) fn new(sender: mpsc::Sender<Command>, writer: Thread) -> Self {
        Self { sender, writer }
    }

    /// A command that finds no writer is dropped with its reply, which says that it failed. What is only to be moved does
    /// not wake a writer that gathers.
    pub(super) fn send(&self, command: Command) {
        let waits = matches!(command, Command::Write(_) | Command::Hurry | Command::Close);
        if self.sender.send(command).is_ok() && waits {
            self.writer.unpark();
        }
    }
}

/// Runs inside the transaction; what it returns is called when the fate of the transaction is known.
pub(super) type Job = Box<dyn FnOnce(&Connection) -> Completion + Send>;
pub(super) type Completion = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

pub(super) struct Writer {
    conn: Connection,
    progress: Arc<Progress>,
    /// What is to be moved and written before anything else, until it is.
    moves: Vec<Arc<Moved>>,
    runs: Vec<Arc<Sealed>>,
    jobs: Vec<Job>,
    /// The bytes of the moves.
    gathered: usize,
    sync: bool,
    syncs_commits: Option<bool>,
    upkeep: Upkeep,
}

impl Writer {
    pub(super) fn new(conn: Connection, progress: Arc<Progress>, upkeep: Upkeep) -> Self {
        Self {
            conn,
            progress,
            moves: Vec::new(),
            runs: Vec::new(),
            jobs: Vec::new(),
            gathered: 0,
            sync: false,
            syncs_commits: None,
            upkeep,
        }
    }

    /// Serves commands until it is told to close or nobody is left to send any.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let _alive = Alive(self.progress.clone());
        let mut closing = false;
        while !closing {
            closing = self.gather(commands);
            self.sync |= closing;
            self.write();
            if !closing && !self.failed() {
                self.keep_house();
            }
        }
        if !self.moves.is_empty() {
            tracing::error!(
                "what was accepted last could not be moved into the store, the journal keeps it for the next start"
            );
        }
    }

    /// Takes what belongs into the next transaction: whether it is the last one.
    fn gather(&mut self, commands: &Receiver<Command>) -> bool {
        let pause = match self.failed() {
            true => Some(RETRY),
            false => self.upkeep.is_due().then_some(GATHER),
        };
        let mut until = pause.map(|pause| Instant::now() + pause);
        let mut hurry = false;
        loop {
            let command = match until {
                None => commands.recv().map_err(|_| TryRecvError::Disconnected),
                Some(_) => commands.try_recv(),
            };
            match command {
                Ok(Command::Move(moved)) => self.hold(moved),
                Ok(Command::Run(run)) => self.runs.push(run),
                Ok(Command::Swapped) => self.upkeep.swapped(),
                Ok(Command::Remove(runs)) => self.upkeep.remove(runs),
                Ok(Command::Write(job)) => {
                    self.jobs.push(job);
                    hurry = true;
                }
                Ok(Command::Hurry) => hurry = true,
                Ok(Command::Sync) => self.sync = true,
                Ok(Command::Close) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) if hurry => return false,
                Err(TryRecvError::Empty) => {
                    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                    match left.filter(|left| !left.is_zero()) {
                        Some(left) => std::thread::park_timeout(left),
                        None => return false,
                    }
                    continue;
                }
            }
            if self.gathered >= BATCH_BYTES || self.jobs.len() >= BATCH_JOBS {
                return false;
            }
            until.get_or_insert_with(|| Instant::now() + GATHER);
        }
    }

    /// Something could not be moved or written and still is to be.
    fn failed(&self) -> bool {
        !self.moves.is_empty() || !self.runs.is_empty()
    }

    fn hold(&mut self, moved: Arc<Moved>) {
        self.gathered += moved.bytes;
        self.moves.push(moved);
    }

    fn write(&mut self) {
        if self.progress.has(Trouble::Condemned) {
            self.jobs.clear(); // the replies that are dropped say that it failed
            return;
        }
        let mut completions = Vec::new();
        let jobs = std::mem::take(&mut self.jobs);
        let had_jobs = !jobs.is_empty();
        if !had_jobs && !self.sync && self.moves.is_empty() && self.runs.is_empty() {
            return;
        }
        let mut written = self.transaction(jobs, &mut completions);
        if let Err(error) = &written
            && had_jobs
            && !self.progress.condemn_if_not_synced(error)
        {
            self.give_up(written, &mut completions);
            // What failed may have been one of them.
            written = self.transaction(Vec::new(), &mut completions);
        }
        match &written {
            Ok(()) => {
                if self.progress.set(Trouble::Writer, false) {
                    tracing::info!("the store can be written again");
                }
                let there = match completions.is_empty() {
                    true => Ok(()),
                    false => self.progress.check_files(),
                };
                for complete in completions {
                    complete(there);
                }
            }
            Err(error) => {
                if !self.progress.condemn_if_not_synced(error)
                    && !self.progress.set(Trouble::Writer, true)
                {
                    tracing::error!(store.error = %error, "the store failed: callbacks are refused, what was accepted stays in the journal");
                }
                self.give_up(written, &mut completions);
            }
        }
    }

    /// Ends a transaction that failed, and tells those who wait.
    fn give_up(&mut self, written: rusqlite::Result<()>, completions: &mut Vec<Completion>) {
        let Err(error) = written else { return };
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            self.progress.finds_full();
        }
        // Without this a transaction that failed half-way would swallow everything after it.
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::error!(store.error = %error, "the failed transaction could not be rolled back");
        }
        if !completions.is_empty() {
            tracing::error!(store.error = %error, "a transaction of the store failed, what was waiting is refused");
        }
        for complete in completions.drain(..) {
            complete(Err(StoreError::Failed));
        }
    }

    fn transaction(
        &mut self,
        jobs: Vec<Job>,
        completions: &mut Vec<Completion>,
    ) -> rusqlite::Result<()> {
        let sync = self.sync || !jobs.is_empty();
        let mut moved = None;
        let mut written = Vec::new();
        let mut result = self.begin(sync).and_then(|()| {
            moved = self.insert_moves()?;
            for run in &self.runs {
                written.push(write_run(&self.conn, run)?);
            }
            if self.sync && moved.is_none() {
                // A commit that changes nothing would sync nothing.
                self.conn.prepare_cached(TOUCH)?.execute([])?;
            }
            Ok(())
        });
        for job in jobs {
            if result.is_ok() {
                completions.push(job(&self.conn));
                // A job that failed badly enough, as on a full disk, took the whole transaction with it; what came after
                // it would be committed one by one.
                if self.conn.is_autocommit() {
                    result = Err(rolled_back());
                }
            } // else the reply that is dropped says that it failed
        }
        result?;
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        // Whatever else there was may have changed nothing.
        let synced = self.sync || (sync && moved.is_some());
        let upto = moved.unwrap_or_else(|| self.progress.moved());
        self.moves.clear();
        self.runs.clear();
        for run in written {
            self.progress.changes(Change::Written(run));
            self.upkeep.look();
        }
        self.sync = false;
        self.progress.has_moved(upto, synced);
        self.progress.takes(std::mem::take(&mut self.gathered));
        Ok(())
    }

    /// Does a little of what nobody waits for.
    fn keep_house(&mut self) {
        if !self.upkeep.is_due() {
            return;
        }
        let kept = self.begin(false).and_then(|()| {
            let change = self.upkeep.step(&self.conn)?;
            self.conn.prepare_cached("COMMIT")?.execute([])?;
            Ok(change)
        });
        match kept {
            Ok(change) => {
                self.upkeep.committed();
                if let Some(change) = change {
                    self.progress.changes(change);
                }
            }
            Err(error) => {
                tracing::warn!(store.error = %error, "runs of ids could not be merged or removed, it is tried again later");
                self.upkeep.failed();
                self.progress.condemn_if_not_synced(&error);
                self.give_up(Err(error), &mut Vec::new());
            }
        }
    }

    /// Begins a transaction whose commit is synced or not.
    fn begin(&mut self, sync: bool) -> rusqlite::Result<()> {
        if self.syncs_commits != Some(sync) {
            let mode = if sync { "FULL" } else { "NORMAL" };
            self.conn.pragma_update(None, "synchronous", mode)?;
            self.syncs_commits = Some(sync);
        }
        self.conn
            .prepare_cached("BEGIN IMMEDIATE")?
            .execute([])
            .map(drop)
    }

    /// The number of the last one.
    fn insert_moves(&self) -> rusqlite::Result<Option<Seq>> {
        let mut statement = self.conn.prepare_cached(INSERT_EVENT)?;
        let mut last = None;
        for numbered in self.moves.iter().flat_map(|moved| &moved.callbacks) {
            insert(&mut statement, &numbered.record())?;
            last = Some(numbered.seq);
        }
        Ok(last)
    }
}

fn insert(statement: &mut Statement, event: &Record) -> rusqlite::Result<()> {
    let values = params![
        event.seq,
        event.received.millis(),
        event.source,
        event.code,
        event.id.as_bytes(),
        event.body,
    ];
    statement.execute(values).map(drop)
}

/// Moves what the journal has beyond `last` after a crash, synced: the newest number.
pub(super) fn recover(conn: &Connection, dir: &Path, last: Seq) -> Result<Seq, Damage> {
    let mut newest = last;
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let mut statement = conn.prepare(INSERT_EVENT)?;
    let recovered = journal::recover(dir, last, |event| {
        newest = event.seq;
        insert(&mut statement, event)
    });
    conn.execute_batch(if recovered.is_ok() {
        "COMMIT"
    } else {
        "ROLLBACK"
    })?;
    recovered.map(|()| newest)
}

fn rolled_back() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK), None)
}

#[cfg(test)]
mod tests;
