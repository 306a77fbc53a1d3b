//! The thread that owns the store: many waiting requests, one transaction, one sync.
//!
//! It takes whatever waits, writes it in one transaction, and answers only after the commit returned, which with WAL and
//! synchronous=FULL is after the sync. There is no timer: a lone request is committed at once, and while one commit syncs the
//! next batch gathers. Every job runs in a savepoint of its own, so that one that fails takes nothing else with it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use rusqlite::{Connection, ErrorCode, Statement, ffi, params};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::recent::{Identity, Recent};
use super::space::Space;
use super::tail::Tail;
use crate::auth::Authentic;
use crate::budget::Charge;
use crate::clock::{Clock, Timestamp};
use crate::event::Seq;
use crate::identity::EventId;
use crate::inbox::{Condition, Receipt, StoreError};
use crate::metrics::Metrics;

/// At most so much goes into one transaction.
const BATCH_COMMANDS: usize = 4096;
const BATCH_BYTES: usize = 8 << 20;

pub(super) enum Command {
    /// Store a callback unless it is a duplicate.
    Accept {
        callback: Authentic,
        charge: Option<Charge>,
        reply: Reply<Receipt>,
        unless_ever_stored: bool,
    },
    /// The newest event with an id, if it is not in a run on disk yet.
    Find {
        id: EventId,
        reply: Reply<Option<Seq>>,
    },
    /// Any other write.
    Write(Job),
    /// Finish what was sent before, then end.
    Close,
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Runs inside the transaction; what it returns is called when the fate of the transaction is known.
pub(super) type Job = Box<dyn FnOnce(&Connection, &mut Recent) -> Completion + Send>;
pub(super) type Completion = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

type FreshIds = HashMap<EventId, Seq, BuildHasherDefault<Identity>>;

pub(super) struct Writer {
    pub(super) conn: Connection,
    pub(super) recent: Recent,
    pub(super) space: Space,
    pub(super) last: Seq,
    pub(super) dedupe_window: std::time::Duration,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) committed: watch::Sender<Seq>,
    pub(super) tail: Arc<Tail>,
    pub(super) condition: Arc<AtomicU8>,
    /// Where those run who wait for answers, if it is a runtime.
    pub(super) runtime: Option<Handle>,
}

/// What is answered after the commit.
#[derive(Default)]
struct Pending {
    accepted: Vec<Accepted>,
    completions: Vec<Completion>,
}

struct Accepted {
    callback: Authentic,
    charge: Option<Charge>,
    receipt: Receipt,
    reply: Reply<Receipt>,
}

impl Writer {
    /// Serves commands until it is told to close or nobody is left to send any.
    pub(super) fn run(mut self, commands: Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let mut batch = vec![first];
            let mut bytes = 0;
            let mut closing = false;
            while batch.len() < BATCH_COMMANDS && bytes < BATCH_BYTES {
                match commands.try_recv() {
                    Ok(command) => {
                        if let Command::Accept { callback, .. } = &command {
                            bytes += callback.body().len();
                        }
                        batch.push(command);
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            if let Some(at) = batch
                .iter()
                .position(|command| matches!(command, Command::Close))
            {
                batch.truncate(at);
                closing = true;
            }
            self.commit(batch);
            if closing {
                break;
            }
        }
    }

    fn commit(&mut self, batch: Vec<Command>) {
        let began = Instant::now();
        let mut pending = Pending::default();
        let written = self.write(batch, &mut pending);
        match written {
            Ok(last) => {
                if !pending.accepted.is_empty() {
                    self.metrics
                        .commit_batch_size
                        .observe(pending.accepted.len() as f64);
                    self.metrics
                        .commit_duration
                        .observe(began.elapsed().as_secs_f64());
                }
                self.committed_all(pending, last);
            }
            Err(error) => {
                tracing::error!(store.error = %error, "the store failed, what was waiting is refused");
                if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
                    self.space.found_full();
                }
                // Without this a transaction that failed half-way would swallow everything after it.
                if !self.conn.is_autocommit()
                    && let Err(error) = self.conn.execute_batch("ROLLBACK")
                {
                    tracing::error!(store.error = %error, "the failed transaction could not be rolled back");
                }
                self.recent.rolled_back();
                if let Err(error) = self.catch_up() {
                    tracing::error!(store.error = %error, "the store could not be read after it failed");
                }
                self.set_condition(Condition::Failing);
                for accepted in pending.accepted {
                    let _ = accepted.reply.send(Err(StoreError::Failed));
                }
                for complete in pending.completions {
                    complete(Err(StoreError::Failed));
                }
            }
        }
    }

    /// Everything of a batch in one transaction: the last number given to an event.
    fn write(&mut self, batch: Vec<Command>, pending: &mut Pending) -> rusqlite::Result<Seq> {
        let short = self.space.is_short(&self.conn);
        let mut last = self.last;
        // Ids of this batch: not in the duplicate check before they are committed.
        let mut fresh = FreshIds::with_capacity_and_hasher(batch.len(), BuildHasherDefault::new());
        pending.accepted.reserve(batch.len());
        let mut failed = self.run_cached("BEGIN IMMEDIATE").err();
        let mut insert = self.conn.prepare_cached(
            "INSERT INTO events(seq, received, source, kind, id, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for command in batch {
            match command {
                Command::Accept {
                    callback,
                    charge,
                    reply,
                    unless_ever_stored,
                } => {
                    if failed.is_none() && matches!(short, Ok(true)) {
                        self.refuse_for_space(reply);
                        continue;
                    }
                    let receipt = match &failed {
                        None => self.accept(
                            &callback,
                            unless_ever_stored,
                            &mut last,
                            &mut fresh,
                            &mut insert,
                        ),
                        Some(_) => Ok(Receipt::new(0, true)),
                    };
                    let receipt = receipt.unwrap_or_else(|error| {
                        failed = Some(error);
                        Receipt::new(0, true)
                    });
                    pending.accepted.push(Accepted {
                        callback,
                        charge,
                        receipt,
                        reply,
                    });
                }
                Command::Find { id, reply } => {
                    let found = self.recent.find_in_memory(&self.conn, &id);
                    let _ = reply.send(found.map_err(|_| StoreError::Failed));
                }
                Command::Write(job) if failed.is_none() => {
                    pending.completions.push(job(&self.conn, &mut self.recent));
                    // A job that failed badly enough, as on a full disk, took the whole transaction with it; what came
                    // after it would be committed one by one.
                    if self.conn.is_autocommit() {
                        failed = Some(rolled_back());
                    }
                }
                Command::Write(_) | Command::Close => {} // the reply that is dropped says that it failed
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        short?;
        self.recent.write_some(&self.conn)?;
        self.run_cached("COMMIT")?;
        Ok(last)
    }

    /// Runs a statement that is needed for every batch.
    fn run_cached(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Takes notice of what is stored although its commit was reported as failed: its numbers are taken, its senders will
    /// come again.
    fn catch_up(&mut self) -> rusqlite::Result<()> {
        let mut select = self
            .conn
            .prepare_cached("SELECT seq, id, received FROM events WHERE seq > ?1 ORDER BY seq")?;
        let mut rows = select.query([self.last])?;
        while let Some(row) = rows.next()? {
            self.last = row.get(0)?;
            let received = Timestamp::from_millis(row.get(2)?);
            let id = EventId::from_bytes(row.get(1)?);
            self.recent.add(self.last, &id, received);
            self.committed.send_replace(self.last);
        }
        Ok(())
    }

    fn accept(
        &self,
        callback: &Authentic,
        unless_ever_stored: bool,
        last: &mut Seq,
        fresh: &mut FreshIds,
        insert: &mut Statement,
    ) -> rusqlite::Result<Receipt> {
        let id = callback.id();
        let place = match fresh.entry(id) {
            Entry::Occupied(seq) => return Ok(Receipt::new(*seq.get(), true)),
            Entry::Vacant(place) => place,
        };
        let known = if unless_ever_stored {
            self.recent.find_ever(&self.conn, &id)?
        } else {
            let cutoff = callback.received().minus(self.dedupe_window);
            self.recent.find_since(&self.conn, &id, cutoff)?
        };
        if let Some(seq) = known {
            return Ok(Receipt::new(seq, true));
        }
        *last += 1;
        insert.execute(params![
            *last,
            callback.received().millis(),
            &**callback.source(),
            callback.kind().code().unwrap_or(-1),
            id.as_bytes(),
            &callback.body()[..],
        ])?;
        place.insert(*last);
        Ok(Receipt::new(*last, false))
    }

    fn refuse_for_space(&self, reply: Reply<Receipt>) {
        if self.set_condition(Condition::Full) != Condition::Full {
            tracing::error!(
                "the disk is nearly full: callbacks are refused until there is room again"
            );
        }
        let _ = reply.send(Err(StoreError::Full));
    }

    fn committed_all(&mut self, pending: Pending, last: Seq) {
        self.recent.written();
        // First of all: whoever has a receipt finds its event counted.
        if last > self.last {
            self.last = last;
            self.tail.push(pending.iter().filter_map(stored));
            self.committed.send_replace(last);
        }
        for Accepted {
            callback, receipt, ..
        } in &pending.accepted
        {
            if !receipt.is_duplicate() {
                self.recent
                    .add(receipt.seq(), &callback.id(), callback.received());
            }
        }
        self.answer(pending.accepted);
        for complete in pending.completions {
            complete(Ok(()));
        }
        let condition = if self.space.was_short() {
            Condition::Full
        } else {
            Condition::Accepting
        };
        let before = self.set_condition(condition);
        if condition == Condition::Accepting && before != condition {
            tracing::info!(at = %self.clock.now(), "the store takes callbacks again");
        }
    }

    /// Answers all of a batch, in the runtime: from here each answer would have to wake one of its threads.
    fn answer(&self, accepted: Vec<Accepted>) {
        let answer = move || {
            for accepted in accepted {
                drop(accepted.charge);
                let _ = accepted.reply.send(Ok(accepted.receipt));
            }
        };
        match &self.runtime {
            Some(runtime) => drop(runtime.spawn(async move { answer() })),
            None => answer(),
        }
    }

    fn set_condition(&self, condition: Condition) -> Condition {
        Condition::from_u8(self.condition.swap(condition.as_u8(), Ordering::Relaxed))
    }
}

/// What is new of a batch.
fn stored(pending: &Pending) -> Option<(Seq, &Authentic)> {
    match pending {
        Pending::Accepted {
            callback, receipt, ..
        } if !receipt.is_duplicate() => Some((receipt.seq(), callback)),
        _ => None,
    }
}

fn rolled_back() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK), None)
}
