//! The thread that accepts callbacks: it makes one batch of all that wait, and writes and syncs it at once.
//!
//! It leaves out duplicates and answers only when the sync has returned. A lone request is written at once, and while one batch
//! is synced the next one gathers ([`batcher`](super::batcher)).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use css_callbacks::EventId;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::batcher::Queue;
use super::disk_space::DiskSpace;
use super::event_cache::EventCache;
use super::health::{Alive, Health, Trouble};
use super::log_maintenance::LogJobs;
use crate::auth::Authentic;
use crate::budget::Charge;
use crate::clock::Clock;
use crate::event::Seq;
use crate::inbox::event_log::{Directory, LogAppender, LogReader, LogRecord};
use crate::inbox::{Receipt, StoreError};
use crate::metrics::Metrics;

pub(super) enum Request {
    /// Store a callback unless it is a duplicate.
    Accept {
        callback: Authentic,
        charge: Option<Charge>,
        reply: Reply<Receipt>,
        /// Not only within the duplicate window.
        unless_ever_stored: bool,
    },
    /// Find out whether callbacks can be accepted again.
    Probe { reply: Reply<()> },
    /// End the segment that is written to, if it was begun so long ago.
    EndSegment { age: Duration, reply: Reply<()> },
    /// Erase the bodies of events in the segment that is written to. Replies with the other events.
    Erase {
        seqs: Vec<Seq>,
        reply: Reply<Vec<Seq>>,
    },
    /// Finish what was sent before, then end.
    Close,
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) struct Acceptor {
    pub(super) log: LogAppender<Directory>,
    pub(super) reader: LogReader<Directory>,
    pub(super) disk_space: DiskSpace,
    pub(super) dedupe_window: Duration,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) committed: watch::Sender<Seq>,
    pub(super) cache: Arc<EventCache>,
    pub(super) health: Arc<Health>,
    pub(super) maintenance: LogJobs,
    /// The runtime of those who wait for answers, if there is one.
    pub(super) runtime: Option<Handle>,
}

/// What a batch of requests leads to.
#[derive(Default)]
struct Batch {
    /// What is written.
    fresh: Vec<(Seq, Authentic)>,
    /// What is answered when it is on the disk.
    answers: Vec<Answer>,
    probes: Vec<Reply<()>>,
    others: Vec<Request>,
}

struct Answer {
    receipt: Receipt,
    reply: Reply<Receipt>,
    charge: Option<Charge>,
}

impl Acceptor {
    /// Serves requests until it is told to close or nobody is left to send any.
    pub(super) fn run(mut self, mut queue: Queue) {
        let _alive = Alive(self.health.clone());
        while let Some(requests) = queue.next() {
            self.serve(requests);
        }
        self.log.end();
        self.hand_over_maintenance();
    }

    fn serve(&mut self, requests: Vec<Request>) {
        let began = Instant::now();
        if self.health.take_found_full() {
            self.disk_space.found_full();
        }
        let refusal = match self.health.has(Trouble::Condemned) {
            true => Some(StoreError::Failed),
            false => self.disk_space.is_short().then_some(StoreError::Full),
        };
        if refusal == Some(StoreError::Full) {
            // Before the first 503: its receiver may ask at once whether livehook is ready.
            self.show_full(true);
        }
        let mut batch = self.batch(requests, refusal);
        let has_work = !batch.fresh.is_empty() || (!batch.probes.is_empty() && refusal.is_none());
        let written = self.write(&batch, has_work);
        let probes = std::mem::take(&mut batch.probes);
        let others = std::mem::take(&mut batch.others);
        let written = match written {
            Ok(()) => {
                self.show_written(refusal, has_work);
                self.finish(batch, began, has_work);
                refusal.map_or(Ok(()), Err)
            }
            Err(error) => Err(self.fail(batch, &error)),
        };
        for probe in probes {
            let _ = probe.send(written);
        }
        for request in others {
            self.serve_other(request);
        }
        self.hand_over_maintenance();
    }

    /// Sorts requests. What is refused is answered at once.
    fn batch(&self, requests: Vec<Request>, refusal: Option<StoreError>) -> Batch {
        let mut batch = Batch::default();
        let mut ids = HashMap::with_capacity(requests.len());
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
                Request::Probe { reply } => batch.probes.push(reply),
                other => batch.others.push(other),
            }
        }
        batch
    }

    /// The receipt that a callback gets if the batch is written.
    fn receipt(
        &self,
        callback: Authentic,
        unless_ever_stored: bool,
        fresh: &mut Vec<(Seq, Authentic)>,
        ids: &mut HashMap<EventId, Seq>,
    ) -> io::Result<Receipt> {
        let id = callback.id();
        let place = match ids.entry(id) {
            Entry::Occupied(seq) => return Ok(Receipt::new(*seq.get(), true)),
            Entry::Vacant(place) => place,
        };
        let known = if unless_ever_stored {
            self.reader.find(&id)?
        } else {
            self.reader
                .find_within(&id, callback.received(), self.dedupe_window)?
        };
        if let Some(seq) = known {
            return Ok(Receipt::new(seq, true));
        }
        let seq = self.log.last() + 1 + fresh.len() as Seq;
        place.insert(seq);
        fresh.push((seq, callback));
        Ok(Receipt::new(seq, false))
    }

    /// Writes and syncs the new callbacks of a batch. With `has_work` but without callbacks it writes nothing and checks the files.
    fn write(&mut self, batch: &Batch, has_work: bool) -> io::Result<()> {
        let records: Vec<LogRecord> = batch.fresh.iter().map(record).collect();
        if !records.is_empty() {
            let now = steady(&self.clock);
            self.log.append(&records, now, rand::random)?;
        } else if has_work {
            self.log.probe(steady(&self.clock), rand::random)?;
        }
        // What was written to a file that was taken away is lost. So is the event of a duplicate.
        if has_work || !batch.answers.is_empty() {
            let checked = self.log.check_file();
            let checked = self.health.check_files(checked, !batch.probes.is_empty());
            checked.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Publishes and answers a batch that is on the disk.
    fn finish(&mut self, batch: Batch, began: Instant, has_work: bool) {
        if !batch.answers.is_empty() {
            let metrics = &self.metrics;
            metrics
                .commit_batch_size
                .observe(batch.answers.len() as f64);
            metrics
                .commit_duration
                .observe(began.elapsed().as_secs_f64());
        }
        if !batch.fresh.is_empty() {
            self.cache
                .push(batch.fresh.iter().map(|(seq, callback)| (*seq, callback)));
        }
        if has_work || !batch.answers.is_empty() {
            // Before the answers: whoever has a receipt finds its event counted. That may be the event of an earlier batch which
            // was refused after it was written, because files seemed to be gone.
            let last = self.log.last();
            self.committed
                .send_if_modified(|known| std::mem::replace(known, last) != last);
        }
        if batch.answers.is_empty() {
            return;
        }
        let answers = batch.answers;
        let answer = move || {
            for answer in answers {
                drop(answer.charge);
                let _ = answer.reply.send(Ok(answer.receipt));
            }
        };
        // From this thread, each answer would have to wake a thread of the runtime.
        match &self.runtime {
            Some(runtime) => drop(runtime.spawn(async move { answer() })),
            None => answer(),
        }
    }

    fn fail(&mut self, batch: Batch, error: &io::Error) -> StoreError {
        // Files that were taken away were logged already.
        let is_logged = self.health.has(Trouble::Files);
        if !is_logged && !self.health.set(Trouble::Log, true) {
            tracing::error!(store.error = %error, "the log of events could not be written: callbacks are refused");
        }
        if error.kind() == io::ErrorKind::StorageFull {
            self.disk_space.found_full();
        }
        for answer in batch.answers {
            let _ = answer.reply.send(Err(StoreError::Failed));
        }
        StoreError::Failed
    }

    fn serve_other(&mut self, request: Request) {
        match request {
            Request::EndSegment { age, reply } => {
                self.log.end_if_older(age, steady(&self.clock));
                self.hand_over_maintenance();
                let _ = reply.send(Ok(()));
            }
            Request::Erase { seqs, reply } => {
                let erased = self.log.erase(&seqs).map_err(|error| {
                    tracing::error!(store.error = %error, "events could not be erased from the log");
                    StoreError::Failed
                });
                let _ = reply.send(erased);
            }
            Request::Accept { .. } | Request::Probe { .. } | Request::Close => {}
        }
    }

    fn show_full(&self, full: bool) -> bool {
        let was_full = self.health.set(Trouble::Full, full);
        if full && !was_full {
            tracing::error!(
                "the disk is nearly full: callbacks are refused until there is room again"
            );
        }
        was_full
    }

    /// Updates the condition. `has_written`: the log has just shown that it works.
    fn show_written(&self, refusal: Option<StoreError>, has_written: bool) {
        let was_full = self.show_full(refusal == Some(StoreError::Full));
        let had_failed = has_written && self.health.set(Trouble::Log, false);
        if refusal.is_none() && (was_full || had_failed) {
            tracing::info!(at = %self.clock.now(), "the store accepts callbacks again");
        }
    }

    fn hand_over_maintenance(&mut self) {
        for full in self.log.take_full() {
            self.maintenance.seal(full);
        }
        if self.log.take_wants_spare() {
            self.maintenance.make_spare();
        }
    }
}

/// The time since some moment, by the clock that only goes forward.
fn steady(clock: &Clock) -> Duration {
    Duration::from_millis(clock.steady().millis().unsigned_abs())
}

fn record((seq, callback): &(Seq, Authentic)) -> LogRecord<'_> {
    LogRecord {
        seq: *seq,
        received: callback.received(),
        id: callback.id(),
        code: callback.kind().stored(),
        source: callback.source(),
        body: callback.body(),
    }
}
