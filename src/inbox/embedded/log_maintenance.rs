//! The thread that maintains the log: it does what no answer has to wait for.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::oneshot;

use super::health::Alive;
use super::health::Health;
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::event_log::{Directory, FullSegment, LogKeeper};
use crate::metrics::Metrics;

enum Command {
    Seal(FullSegment),
    MakeSpare,
    Erase(Vec<Seq>, oneshot::Sender<Result<(), StoreError>>),
    Remove(Seq, oneshot::Sender<Result<(), StoreError>>),
    Close,
}

/// Sends commands to the thread.
#[derive(Clone)]
pub(super) struct LogCommands(Sender<Command>);

impl LogCommands {
    /// Makes a file for the next segment.
    pub(super) fn make_spare(&self) {
        let _ = self.0.send(Command::MakeSpare);
    }

    /// Cuts a full segment to its length and writes its index.
    pub(super) fn seal(&self, full: FullSegment) {
        let _ = self.0.send(Command::Seal(full));
    }

    /// Erases the bodies of events that are not in the segment that is written to.
    pub(super) async fn erase(&self, seqs: Vec<Seq>) -> Result<(), StoreError> {
        self.ask(|reply| Command::Erase(seqs, reply)).await
    }

    /// Removes the segment that begins with this event.
    pub(super) async fn remove(&self, first: Seq) -> Result<(), StoreError> {
        self.ask(|reply| Command::Remove(first, reply)).await
    }

    /// The thread ends after what was sent before.
    pub(super) fn close(&self) {
        let _ = self.0.send(Command::Close);
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), StoreError>>) -> Command,
    ) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(command(reply));
        answer.await.unwrap_or(Err(StoreError::Failed))
    }
}

pub(super) struct LogMaintenance {
    keeper: LogKeeper<Directory>,
    commands: Receiver<Command>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    /// Segments that could not be sealed yet, as on a full disk.
    unsealed: Vec<FullSegment>,
}

pub(super) fn log_maintenance(
    keeper: LogKeeper<Directory>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
) -> (LogCommands, LogMaintenance) {
    let (sender, commands) = channel();
    let maintenance = LogMaintenance {
        keeper,
        commands,
        health,
        metrics,
        unsealed: Vec::new(),
    };
    (LogCommands(sender), maintenance)
}

impl LogMaintenance {
    /// Serves commands until it is closed or nobody is left to send any.
    pub(super) fn run(mut self) {
        let _alive = Alive(self.health.clone());
        while let Ok(command) = self.commands.recv() {
            match command {
                Command::Seal(full) => {
                    self.unsealed.push(full);
                    self.seal();
                }
                Command::MakeSpare => self.make_spare(),
                Command::Erase(seqs, reply) => {
                    let _ = reply.send(failed(
                        "events could not be erased",
                        self.keeper.erase(&seqs),
                    ));
                }
                Command::Remove(first, reply) => {
                    let removed = self.keeper.remove(first);
                    let _ = reply.send(failed("a file of the log could not be removed", removed));
                    self.seal();
                }
                Command::Close => return,
            }
        }
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

    fn make_spare(&self) {
        match self.keeper.make_spare() {
            Ok(bytes) => drop(self.metrics.inbox_preallocated_bytes.inc_by(bytes)),
            // The next file begins empty then, which only makes it slower.
            Err(error) => tracing::debug!(%error, "no file could be made ahead for the log"),
        }
    }
}

fn failed(what: &'static str, result: std::io::Result<()>) -> Result<(), StoreError> {
    result.map_err(|error| {
        tracing::error!(store.error = %error, what);
        StoreError::Failed
    })
}
