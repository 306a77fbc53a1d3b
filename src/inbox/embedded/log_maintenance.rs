//! The thread that maintains the log: it does what no answer has to wait for.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::ask;
use super::health::{Alive, Health};
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::event_log::{Directory, FullSegment, LogKeeper};
use crate::metrics::Metrics;

/// The pause after a piece of a spare file, as a multiple of the time that it took: answers wait for the same disk.
const PAUSE: u32 = 3;

type LogJob = Box<dyn FnOnce(&mut LogMaintenance) + Send>;

/// Sends jobs to the thread. It does them in their order.
#[derive(Clone)]
pub(super) struct LogJobs(Sender<LogJob>);

impl LogJobs {
    /// Makes a file for the next segment, while there is nothing else to do.
    pub(super) fn make_spare(&self) {
        self.send(|maintenance| {
            let begun = maintenance.keeper.begin_spare();
            begun.unwrap_or_else(|error| no_spare(&error));
        });
    }

    /// Cuts a full segment to its length and writes its index.
    pub(super) fn seal(&self, full: FullSegment) {
        self.send(|maintenance| {
            maintenance.unsealed.push(full);
            maintenance.seal();
        });
    }

    /// Erases the bodies of events that are not in the segment that is written to.
    pub(super) async fn erase(&self, seqs: Vec<Seq>) -> Result<(), StoreError> {
        self.wait(move |maintenance| {
            let erased = maintenance.keeper.erase(&seqs);
            failed("events could not be erased", erased)
        })
        .await
    }

    /// Removes the segment that begins with this event.
    pub(super) async fn remove(&self, first: Seq) -> Result<(), StoreError> {
        self.wait(move |maintenance| {
            let removed = maintenance.keeper.remove(first);
            maintenance.seal();
            failed("a file of the log could not be removed", removed)
        })
        .await
    }

    /// Waits until what was sent before is done.
    pub(super) async fn finish(&self) -> Result<(), StoreError> {
        self.wait(|_| Ok(())).await
    }

    /// The thread ends after what was sent before.
    pub(super) fn close(&self) {
        self.send(|maintenance| maintenance.is_open = false);
    }

    async fn wait(
        &self,
        job: impl FnOnce(&mut LogMaintenance) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        ask(|reply| {
            self.send(|maintenance| {
                let _ = reply.send(job(maintenance));
            });
        })
        .await
    }

    fn send(&self, job: impl FnOnce(&mut LogMaintenance) + Send + 'static) {
        let _ = self.0.send(Box::new(job));
    }
}

pub(super) struct LogMaintenance {
    keeper: LogKeeper<Directory>,
    jobs: Receiver<LogJob>,
    is_open: bool,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    /// Before the next piece of a spare file is written.
    pause: Duration,
    /// Segments that could not be sealed yet, as on a full disk.
    unsealed: Vec<FullSegment>,
}

pub(super) fn log_maintenance(
    keeper: LogKeeper<Directory>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
) -> (LogJobs, LogMaintenance) {
    let (sender, jobs) = channel();
    let maintenance = LogMaintenance {
        keeper,
        jobs,
        is_open: true,
        pause: Duration::ZERO,
        health,
        metrics,
        unsealed: Vec::new(),
    };
    (LogJobs(sender), maintenance)
}

impl LogMaintenance {
    /// Does what is sent until it is closed or nobody is left to send anything.
    pub(super) fn run(mut self) {
        let _alive = Alive(self.health.clone());
        while self.is_open {
            let next = match self.keeper.is_making_spare() {
                true => self.jobs.recv_timeout(self.pause),
                false => self.jobs.recv().map_err(RecvTimeoutError::from),
            };
            match next {
                Ok(job) => job(&mut self),
                Err(RecvTimeoutError::Timeout) => self.write_spare(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write_spare(&mut self) {
        let began = Instant::now();
        match self.keeper.write_spare() {
            Ok(bytes) => drop(self.metrics.inbox_preallocated_bytes.inc_by(bytes)),
            Err(error) => no_spare(&error),
        }
        self.pause = began.elapsed() * PAUSE;
    }

    fn seal(&mut self) {
        let keeper = &self.keeper;
        self.unsealed.retain(|full| {
            let sealed = keeper.seal(full);
            if let Err(error) = &sealed {
                tracing::warn!(store.error = %error, "a file of the log could not be finished, it is tried again later");
            }
            sealed.is_err()
        });
    }
}

/// The next file begins empty then, which only makes it slower.
fn no_spare(error: &io::Error) {
    tracing::debug!(%error, "no file could be made ahead for the log");
}

fn failed(what: &'static str, result: std::io::Result<()>) -> Result<(), StoreError> {
    result.map_err(|error| {
        tracing::error!(store.error = %error, what);
        StoreError::Failed
    })
}
