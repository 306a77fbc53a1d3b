//! The thread that owns the store: many waiting requests, one transaction, one sync.
//!
//! It takes whatever waits, writes it in one transaction, and answers only after the commit returned, which with WAL and
//! synchronous=FULL is after the sync. There is no timer: a lone request is committed at once, and while one commit syncs the
//! next batch gathers. Every job runs in a savepoint of its own, so that one that fails takes nothing else with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::{oneshot, watch};

use super::recent::Recent;
use super::space::Space;
use crate::auth::Authentic;
use crate::budget::Charge;
use crate::clock::Clock;
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
    /// The newest event with an id, if it is not in a run yet.
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

pub(super) struct Writer {
    pub(super) conn: Connection,
    pub(super) recent: Recent,
    pub(super) space: Space,
    pub(super) last: Seq,
    pub(super) dedupe_window: std::time::Duration,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) committed: watch::Sender<Seq>,
    pub(super) condition: Arc<AtomicU8>,
}

/// What is answered after the commit.
enum Pending {
    Accepted {
        callback: Authentic,
        charge: Option<Charge>,
        receipt: Receipt,
        reply: Reply<Receipt>,
    },
    Completed(Completion),
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
        let mut pending = Vec::with_capacity(batch.len());
        let written = self.write(batch, &mut pending);
        let accepted = pending
            .iter()
            .filter(|pending| matches!(pending, Pending::Accepted { .. }))
            .count();
        match written {
            Ok(last) => {
                if accepted > 0 {
                    self.metrics.commit_batch_size.observe(accepted as f64);
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
                self.set_condition(Condition::Failing);
                for pending in pending {
                    match pending {
                        Pending::Accepted { reply, .. } => {
                            let _ = reply.send(Err(StoreError::Failed));
                        }
                        Pending::Completed(complete) => complete(Err(StoreError::Failed)),
                    }
                }
            }
        }
    }

    /// Everything of a batch in one transaction: the last number given to an event.
    fn write(&mut self, batch: Vec<Command>, pending: &mut Vec<Pending>) -> rusqlite::Result<Seq> {
        let short = self.space.is_short(&self.conn);
        let mut last = self.last;
        // Ids of this batch: not in the duplicate check before they are committed.
        let mut fresh: HashMap<EventId, Seq> = HashMap::new();
        let began = self.conn.execute_batch("BEGIN IMMEDIATE");
        let mut failed = began.err();
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
                        None => self.accept(&callback, unless_ever_stored, &mut last, &mut fresh),
                        Some(_) => Ok(Receipt::new(0, true)),
                    };
                    let receipt = receipt.unwrap_or_else(|error| {
                        failed = Some(error);
                        Receipt::new(0, true)
                    });
                    pending.push(Pending::Accepted {
                        callback,
                        charge,
                        receipt,
                        reply,
                    });
                }
                Command::Find { id, reply } => {
                    let found = self.recent.find_ever(&self.conn, &id);
                    let _ = reply.send(found.map_err(|_| StoreError::Failed));
                }
                Command::Write(job) if failed.is_none() => {
                    pending.push(Pending::Completed(job(&self.conn, &mut self.recent)));
                    // A full disk can end the whole transaction. What came after would be written by itself, be refused all
                    // the same, and be in the way of whoever gets its numbers next.
                    if self.conn.is_autocommit() {
                        failed = self.conn.execute_batch("COMMIT").err();
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
        self.conn.execute_batch("COMMIT")?;
        Ok(last)
    }

    fn accept(
        &self,
        callback: &Authentic,
        unless_ever_stored: bool,
        last: &mut Seq,
        fresh: &mut HashMap<EventId, Seq>,
    ) -> rusqlite::Result<Receipt> {
        let id = callback.id();
        let known = match fresh.get(&id) {
            Some(seq) => Some(*seq),
            None if unless_ever_stored => self.recent.find_ever(&self.conn, &id)?,
            None => {
                let cutoff = callback.received().minus(self.dedupe_window);
                self.recent.find_since(&self.conn, &id, cutoff)?
            }
        };
        if let Some(seq) = known {
            return Ok(Receipt::new(seq, true));
        }
        *last += 1;
        self.conn
            .prepare_cached("INSERT INTO events(seq, received, source, kind, id, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                *last,
                callback.received().millis(),
                &**callback.source(),
                callback.kind().code().unwrap_or(-1),
                id.as_bytes(),
                &callback.body()[..],
            ])?;
        fresh.insert(id, *last);
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

    fn committed_all(&mut self, pending: Vec<Pending>, last: Seq) {
        self.recent.written();
        let mut stored_any = false;
        for pending in pending {
            match pending {
                Pending::Accepted {
                    callback,
                    charge,
                    receipt,
                    reply,
                } => {
                    if !receipt.is_duplicate() {
                        self.recent
                            .add(receipt.seq(), &callback.id(), callback.received());
                        stored_any = true;
                    }
                    drop(charge);
                    let _ = reply.send(Ok(receipt));
                }
                Pending::Completed(complete) => complete(Ok(())),
            }
        }
        self.last = last;
        if stored_any {
            self.committed.send_replace(last);
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

    fn set_condition(&self, condition: Condition) -> Condition {
        Condition::from_u8(self.condition.swap(condition.as_u8(), Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests;
