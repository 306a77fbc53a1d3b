//! The thread that accepts: many waiting requests, one batch in the journal, one sync.
//!
//! It takes whatever waits, leaves out what is a duplicate, and answers only after the journal's sync returned. A lone request
//! is written at once, and while one batch syncs the next one gathers (`queue`). What it has written it hands to the store's
//! writer before anybody hears of it, so that whatever is said about an event comes there after the event.

pub(super) mod queue;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use css_callbacks::EventId;
use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use self::queue::Queue;
use super::journal::{Journal, Numbered};
use super::progress::{Alive, Progress, Trouble};
use super::recent::{Change, Identity, Recent};
use super::space::Space;
use super::tail::Tail;
use super::writer::{Command, Commands, Moved};
use crate::auth::Authentic;
use crate::budget::Charge;
use crate::clock::Clock;
use crate::event::Seq;
use crate::inbox::{Receipt, StoreError};
use crate::metrics::Metrics;

/// Accepting waits while the writer has so many bytes to move: they are held in memory.
const UNMOVED_BYTES: usize = 8 << 20;
/// How often it is looked at whether the writer has come on.
const LOOK: Duration = Duration::from_millis(50);

pub(super) enum Request {
    /// Store a callback unless it is a duplicate.
    Accept {
        callback: Authentic,
        charge: Option<Charge>,
        reply: Reply<Receipt>,
        unless_ever_stored: bool,
    },
    /// The newest event with an id, if it is in no run on disk yet.
    Find {
        id: EventId,
        reply: Reply<Option<Seq>>,
    },
    /// Find out whether callbacks can be taken again.
    Probe { reply: Reply<()> },
    /// Finish what was sent before, then end, and the writer as well.
    Close,
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) struct Intake {
    /// For reading.
    pub(super) conn: Connection,
    pub(super) journal: Journal,
    pub(super) recent: Recent,
    pub(super) space: Space,
    pub(super) last: Seq,
    pub(super) dedupe_window: Duration,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) committed: watch::Sender<Seq>,
    pub(super) tail: Arc<Tail>,
    pub(super) progress: Arc<Progress>,
    pub(super) writer: Commands,
    /// Where those run who wait for answers, if it is a runtime.
    pub(super) runtime: Option<Handle>,
}

/// What a batch comes to.
#[derive(Default)]
struct Batch {
    /// What is to be written.
    fresh: Vec<Numbered>,
    /// What is answered when it is written.
    answers: Vec<Answer>,
}

struct Answer {
    receipt: Receipt,
    reply: Reply<Receipt>,
    charge: Option<Charge>,
}

/// The ids of a batch: not in the duplicate check before they are written.
type FreshIds = HashMap<EventId, Seq, BuildHasherDefault<Identity>>;

impl Intake {
    /// Serves requests until it is told to close or nobody is left to send any.
    pub(super) fn run(mut self, mut queue: Queue) {
        let _alive = Alive(self.progress.clone());
        while let Some(batch) = queue.next() {
            self.take(batch);
        }
        self.writer.send(Command::Close);
    }

    fn take(&mut self, requests: Vec<Request>) {
        let began = Instant::now();
        // What was deleted since is looked for where it is no more: nothing is a duplicate of it.
        self.recent.moved(self.progress.moved());
        if self.progress.take_found_full() {
            self.space.found_full();
        }
        let refusal = match self.space.is_short(&self.conn) {
            Ok(true) => Some(StoreError::Full),
            Ok(false) => None,
            Err(error) => {
                tracing::error!(store.error = %error, "the store could not be read, what was waiting is refused");
                Some(StoreError::Failed)
            }
        };
        let refusal = refusal.or_else(|| self.wait_for_writer().err());
        if refusal == Some(StoreError::Full) {
            // Before the first 503: whoever gets it may ask at once whether livehook is ready.
            self.show(refusal, false);
        }
        let mut batch = Batch::default();
        batch.answers.reserve(requests.len());
        let mut ids = FreshIds::with_capacity_and_hasher(requests.len(), BuildHasherDefault::new());
        let mut probes = Vec::new();
        for request in requests {
            match request {
                Request::Accept { reply, .. } if let Some(error) = refusal => {
                    let _ = reply.send(Err(error));
                }
                Request::Accept {
                    callback,
                    charge,
                    reply,
                    unless_ever_stored,
                } => match self.receipt(callback, unless_ever_stored, &mut batch.fresh, &mut ids) {
                    Ok(receipt) => batch.answers.push(Answer {
                        receipt,
                        reply,
                        charge,
                    }),
                    Err(error) => {
                        tracing::error!(store.error = %error, "the duplicate check failed, a callback is refused");
                        let _ = reply.send(Err(StoreError::Failed));
                    }
                },
                Request::Find { id, reply } => {
                    let found = self.recent.find_in_memory(&self.conn, &id);
                    let _ = reply.send(found.map_err(|_| StoreError::Failed));
                }
                Request::Probe { reply } => probes.push(reply),
                Request::Close => {}
            }
        }
        let writes = !batch.fresh.is_empty() || (!probes.is_empty() && refusal.is_none());
        let progress = &self.progress;
        let there = || progress.check_files().map_err(io::Error::other);
        let written = if writes {
            self.journal.append(self.last + 1, &batch.fresh, there)
        } else if !batch.answers.is_empty() {
            there() // a duplicate is on the disk as long as the files are
        } else {
            Ok(())
        };
        let written = match written {
            Ok(()) => {
                self.show(refusal, writes);
                self.accepted(batch, began);
                refusal.map_or(Ok(()), Err)
            }
            Err(error) => Err(self.failed(batch, &error)),
        };
        for probe in probes {
            let _ = probe.send(written);
        }
        self.keep_house();
    }

    /// The writer may be behind, but not by more than fits into memory. If it cannot write at all, nothing is accepted.
    fn wait_for_writer(&self) -> Result<(), StoreError> {
        loop {
            if self.progress.has(Trouble::Writer) || self.progress.has(Trouble::Condemned) {
                return Err(StoreError::Failed);
            }
            if self.progress.waits_for_room(UNMOVED_BYTES, LOOK) {
                return Ok(());
            }
        }
    }

    /// The receipt that a callback gets if the batch is written.
    fn receipt(
        &self,
        callback: Authentic,
        unless_ever_stored: bool,
        fresh: &mut Vec<Numbered>,
        ids: &mut FreshIds,
    ) -> rusqlite::Result<Receipt> {
        let id = callback.id();
        let place = match ids.entry(id) {
            Entry::Occupied(seq) => return Ok(Receipt::new(*seq.get(), true)),
            Entry::Vacant(place) => place,
        };
        let known = if unless_ever_stored {
            self.recent.find_ever(&self.conn, &id)?
        } else {
            let (now, window) = (callback.received(), self.dedupe_window);
            self.recent.find_within(&self.conn, &id, now, window)?
        };
        if let Some(seq) = known {
            return Ok(Receipt::new(seq, true));
        }
        let seq = self.last + 1 + fresh.len() as Seq;
        place.insert(seq);
        fresh.push(Numbered { seq, callback });
        Ok(Receipt::new(seq, false))
    }

    fn accepted(&mut self, batch: Batch, began: Instant) {
        if !batch.answers.is_empty() {
            self.metrics
                .commit_batch_size
                .observe(batch.answers.len() as f64);
            self.metrics
                .commit_duration
                .observe(began.elapsed().as_secs_f64());
        }
        if let Some(newest) = batch.fresh.last() {
            self.last = newest.seq;
            let moved = Arc::new(Moved::new(batch.fresh));
            self.progress.adds(moved.bytes);
            self.writer.send(Command::Move(moved.clone()));
            let fresh = moved.callbacks.iter();
            self.tail
                .push(fresh.map(|fresh| (fresh.seq, &fresh.callback)));
            for Numbered { seq, callback } in &moved.callbacks {
                self.recent.add(*seq, &callback.id(), callback.received());
            }
            // Whoever has a receipt finds its event counted.
            self.committed.send_replace(self.last);
        }
        self.answer(batch.answers);
    }

    /// Answers all of a batch, in the runtime: from here each answer would have to wake one of its threads.
    fn answer(&self, answers: Vec<Answer>) {
        if answers.is_empty() {
            return;
        }
        let answer = move || {
            for answer in answers {
                drop(answer.charge);
                let _ = answer.reply.send(Ok(answer.receipt));
            }
        };
        match &self.runtime {
            Some(runtime) => drop(runtime.spawn(async move { answer() })),
            None => answer(),
        }
    }

    fn failed(&mut self, batch: Batch, error: &io::Error) -> StoreError {
        // Files that were taken away have been told of.
        let is_told = self.progress.has(Trouble::Files);
        if !is_told && !self.progress.set(Trouble::Journal, true) {
            tracing::error!(store.error = %error, "the journal could not be written: callbacks are refused");
        }
        if error.kind() == io::ErrorKind::StorageFull {
            self.space.found_full();
        }
        for answer in batch.answers {
            let _ = answer.reply.send(Err(StoreError::Failed));
        }
        StoreError::Failed
    }

    /// Has the condition say what was found. `written`: the journal has just shown that it works.
    fn show(&self, refusal: Option<StoreError>, written: bool) {
        let full = refusal == Some(StoreError::Full);
        let had_been_full = self.progress.set(Trouble::Full, full);
        if full && !had_been_full {
            tracing::error!(
                "the disk is nearly full: callbacks are refused until there is room again"
            );
        }
        let had_failed = written && self.progress.set(Trouble::Journal, false);
        if refusal.is_none() && (had_been_full || had_failed) {
            tracing::info!(at = %self.clock.now(), "the store takes callbacks again");
        }
    }

    /// What needs not be done before anything is answered.
    fn keep_house(&mut self) {
        let cutoff = self.clock.now().minus(self.dedupe_window);
        for change in self.progress.take_changes() {
            let merged = matches!(change, Change::Merged(..));
            self.recent.take_in(change, cutoff);
            if merged {
                self.writer.send(Command::Swapped);
            }
        }
        if let Some(sealed) = self.recent.seal() {
            self.writer.send(Command::Run(sealed));
        }
        if let Some(needed) = self.journal.wants_shortened()
            && self.progress.is_surely_synced(needed)
        {
            self.journal.shorten();
        }
        if let Some(needed) = self.journal.wants_synced() {
            if self.progress.is_surely_synced(needed) {
                self.journal.turn();
            }
            // What is in the file that is left, or cannot be left yet.
            self.writer.send(Command::Sync);
        }
    }
}
