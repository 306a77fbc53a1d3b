//! The worker of a projection: a part of livehook that gets events in arrival order, many at once.
//!
//! It may be late, so that answers stay fast. Its pace has three rules: its thread has the lowest
//! priority; it waits a moment for more events; and behind a backlog it rests as long as it works.
//! It has no rows: it repeats a batch until it succeeds.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::select;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::status::{HandlerState, Status, WorkerView};
use super::worker::{LeasedHandler, WorkerCommand};
use crate::event::{Event, Seq};
use crate::handler::Projection;
use crate::inbox::delivery::{DeliveryCommit, HandlerId};
use crate::inbox::{Inbox, StoreError};

/// The most events in a batch.
const PAGE: usize = 128;
const PAGE_BYTES: usize = 1 << 20;
/// The wait for new events, so that a batch has several.
const BATCH_DELAY: Duration = Duration::from_millis(20);
/// The pause after a batch behind which there are more, as a multiple of the time that it took.
const REST: u32 = 1;
/// How often the projection is asked whether it is time to write, and its position is written.
const FLUSH_CHECK: Duration = Duration::from_millis(500);
/// The wait for a commit if everything is applied and written.
const IDLE: Duration = Duration::from_secs(3600);
const RETRY_DELAY: Duration = Duration::from_secs(1);

pub(super) struct ProjectionWorker {
    id: HandlerId,
    epoch: Option<i64>,
    lease_until: watch::Receiver<Instant>,
    committed: watch::Receiver<Seq>,
    projection: Arc<dyn Projection>,
    inbox: Inbox,
    status: Arc<Status>,
    /// The last event that was applied.
    position: Seq,
    /// The position in the inbox: what is behind it comes again after a crash.
    written_position: Seq,
    next_flush: Instant,
}

/// Applies events until a stop command.
pub(super) fn spawn(
    name: &str,
    worker: ProjectionWorker,
    commands: mpsc::Receiver<WorkerCommand>,
) -> JoinHandle<()> {
    let (ended, end) = oneshot::channel::<()>();
    let runtime = Handle::current();
    let spawned = std::thread::Builder::new()
        .name("projection".to_owned())
        .spawn(move || {
            let _ended = ended;
            lower_priority();
            runtime.block_on(worker.run(commands));
        });
    if let Err(error) = spawned {
        tracing::error!(%error, handler.name = name, "a thread could not be started");
    }
    tokio::spawn(async move {
        let _ = end.await;
    })
}

/// Threads that answer senders go first.
fn lower_priority() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), 19) {
        tracing::debug!(%error, "a thread runs with the priority of all others");
    }
}

impl ProjectionWorker {
    pub(super) fn new(
        leased: LeasedHandler,
        projection: Arc<dyn Projection>,
        inbox: Inbox,
        status: Arc<Status>,
    ) -> Self {
        let registered = leased.registered;
        Self {
            id: registered.id,
            epoch: leased.epoch,
            lease_until: leased.until,
            committed: inbox.committed(),
            position: registered.position,
            written_position: registered.position,
            next_flush: Instant::now(),
            projection,
            inbox,
            status,
        }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<WorkerCommand>) {
        self.position = self.projection.cursor().unwrap_or(self.position);
        loop {
            let mut wake = Instant::now() + self.step().await;
            self.publish_status();
            let mut wants_events = self.position >= *self.committed.borrow();
            loop {
                select! {
                    biased;
                    command = commands.recv() => match command {
                        None | Some(WorkerCommand::Stop { .. }) => {
                            self.flush(true).await;
                            return;
                        }
                        // No batch is in work now, so there is nothing to give up.
                        Some(command) => command.answer_nothing(),
                    },
                    Ok(()) = self.committed.changed(), if wants_events => {
                        wants_events = false;
                        wake = wake.min(Instant::now() + BATCH_DELAY);
                    }
                    () = sleep_until(wake) => break,
                }
            }
        }
    }

    /// Applies the next batch, if there is one. Returns the time until the next step.
    async fn step(&mut self) -> Duration {
        if Instant::now() >= self.next_flush {
            self.flush(false).await;
        }
        // The batch must end before another process may apply the next one.
        if Instant::now() + RETRY_DELAY >= *self.lease_until.borrow() {
            return RETRY_DELAY;
        }
        let upto = *self.committed.borrow_and_update();
        let began = Instant::now();
        if self.position < upto && self.apply_next(upto).await.is_err() {
            return RETRY_DELAY;
        }
        if self.position < upto {
            began.elapsed() * REST
        } else if self.written_position < self.position {
            FLUSH_CHECK
        } else {
            IDLE
        }
    }

    /// Applies the next events, of which `upto` is the last one.
    async fn apply_next(&mut self, upto: Seq) -> Result<(), StoreError> {
        let inbox = &self.inbox;
        let mut events = inbox.after_at_rest(self.position, PAGE, PAGE_BYTES).await?;
        if events.is_empty() {
            events = inbox.after(self.position, PAGE, PAGE_BYTES).await?;
        }
        // If there are none, retention has removed them.
        let last = events.last().map_or(upto, Event::seq);
        if !events.is_empty() {
            self.projection.apply_events(events).await?;
        }
        self.position = last;
        Ok(())
    }

    /// Has the projection write what it applied, if it is time, and writes how far that is.
    async fn flush(&mut self, at_once: bool) {
        self.next_flush = Instant::now() + FLUSH_CHECK;
        // A failure is retried at the next time. Without its lease it fails until the stop command.
        let Ok(flushed) = self.projection.flush(at_once) else {
            return;
        };
        let position = flushed.unwrap_or(self.position);
        if position <= self.written_position {
            return;
        }
        let commit = DeliveryCommit {
            epoch: self.epoch,
            position: Some(position),
            changes: Vec::new(),
        };
        if self.inbox.commit(self.id, commit).await.is_ok() {
            self.written_position = position;
        }
    }

    fn publish_status(&self) {
        self.status.publish(WorkerView {
            state: HandlerState::Running,
            read_to: self.position,
            ..WorkerView::default()
        });
    }
}
