//! The worker of a projection: a part of livehook that gets events in arrival order, many at once.
//!
//! It may be late, so that answers stay fast: its thread has the lowest priority, and it prefers
//! events that are in the database already. It has no rows: it repeats a batch until it succeeds.

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

/// The most events in a batch. A long read would keep SQLite from reusing its log.
const PAGE: usize = 512;
const PAGE_BYTES: usize = 1 << 20;
/// The wait for new events, so that a batch has several.
const BATCH_DELAY: Duration = Duration::from_millis(20);
/// Events that are not in the database after this time are read all the same.
const DATABASE_WAIT: Duration = Duration::from_millis(200);
/// The position is written this often. After a crash, events applied since then come again.
const POSITION_EVERY: Duration = Duration::from_millis(500);
/// Above this many events a second the server is busy: answers need the disk and the processors.
const BUSY_RATE: f64 = 1000.0;
/// The rate of events is measured over this time.
const MEASURE: Duration = Duration::from_millis(100);
/// While the server is busy, the pause after a batch is this multiple of the batch's duration, as
/// long as the batch is not older than the age beside it. Older batches need no pause.
const YIELD_FACTORS: [(Duration, u32); 2] =
    [(Duration::from_secs(30), 12), (Duration::from_secs(120), 1)];
const RETRY_DELAY: Duration = Duration::from_secs(1);

pub(super) struct ProjectionWorker {
    id: HandlerId,
    epoch: Option<i64>,
    lease_until: watch::Receiver<Instant>,
    committed: watch::Receiver<Seq>,
    projection: Arc<dyn Projection>,
    inbox: Inbox,
    status: Arc<Status>,
    position: Seq,
    written_position: Seq,
    next_position_write: Instant,
    /// The last measurement: when, the newest event then, and whether the server was busy.
    measured: (Instant, Seq, bool),
    /// Since when the database has none of the next events.
    empty_since: Option<Instant>,
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
            projection,
            inbox,
            status,
            position: registered.position,
            written_position: registered.position,
            next_position_write: Instant::now(),
            measured: (Instant::now(), registered.position, false),
            empty_since: None,
        }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<WorkerCommand>) {
        loop {
            let mut wake = Instant::now() + self.step().await;
            self.publish_status();
            // Everything is applied and written: wait for the next commit.
            let mut idle = self.written_position == *self.committed.borrow();
            loop {
                select! {
                    biased;
                    command = commands.recv() => match command {
                        None | Some(WorkerCommand::Stop { .. }) => {
                            self.write_position().await;
                            return;
                        }
                        // No batch is in work now, so there is nothing to give up.
                        Some(command) => command.answer_nothing(),
                    },
                    Ok(()) = self.committed.changed(), if idle => {
                        idle = false;
                        wake = Instant::now() + BATCH_DELAY;
                    }
                    () = sleep_until(wake), if !idle => break,
                }
            }
        }
    }

    /// Applies the next batch, if there is one. Returns the time until the next step.
    async fn step(&mut self) -> Duration {
        if self.written_position < self.position && Instant::now() >= self.next_position_write {
            self.write_position().await;
        }
        // The batch must end before another process may apply the next one.
        if Instant::now() + RETRY_DELAY >= *self.lease_until.borrow() {
            return RETRY_DELAY;
        }
        let upto = *self.committed.borrow_and_update();
        self.measure(upto);
        if upto <= self.position {
            return BATCH_DELAY;
        }
        match self.read(upto).await {
            Ok(None) => BATCH_DELAY,
            Ok(Some(events)) => self.apply(upto, events).await,
            Err(_) => RETRY_DELAY,
        }
    }

    /// The next events; none if they are not in the database yet.
    async fn read(&mut self, upto: Seq) -> Result<Option<Vec<Event>>, StoreError> {
        let events = self.inbox.after_at_rest(self.position, PAGE, PAGE_BYTES);
        let events = events.await?;
        if !events.is_empty() {
            self.empty_since = None;
            return Ok(Some(events));
        }
        let since = *self.empty_since.get_or_insert_with(Instant::now);
        if since.elapsed() < DATABASE_WAIT {
            return Ok(None);
        }
        self.empty_since = None;
        let events = self.inbox.after(self.position, PAGE, PAGE_BYTES).await?;
        if events.is_empty() {
            self.position = upto; // retention has removed the events
        }
        Ok(Some(events))
    }

    async fn apply(&mut self, upto: Seq, events: Vec<Event>) -> Duration {
        let Some((last, received)) = events.last().map(|event| (event.seq(), event.received()))
        else {
            return BATCH_DELAY;
        };
        let began = Instant::now();
        match self.projection.apply_events(events).await {
            Ok(()) => {
                self.position = last;
                let age = self.inbox.age(last, received);
                let pause = self.yield_time(began.elapsed(), age);
                if last < upto {
                    pause
                } else {
                    pause.max(BATCH_DELAY)
                }
            }
            Err(_) => RETRY_DELAY,
        }
    }

    fn measure(&mut self, upto: Seq) {
        let (since, from, _) = self.measured;
        let elapsed = since.elapsed();
        if elapsed >= MEASURE {
            let rate = (upto - from) as f64 / elapsed.as_secs_f64();
            self.measured = (Instant::now(), upto, rate > BUSY_RATE);
        }
    }

    /// How long to pause for a burst. As the backlog ages, the pauses get shorter.
    fn yield_time(&self, took: Duration, age: Duration) -> Duration {
        if !self.measured.2 {
            return Duration::ZERO;
        }
        let factor = YIELD_FACTORS.iter().find(|(max_age, _)| age < *max_age);
        factor.map_or(Duration::ZERO, |(_, times)| took * *times)
    }

    async fn write_position(&mut self) {
        if self.written_position == self.position {
            return;
        }
        self.next_position_write = Instant::now() + POSITION_EVERY;
        let commit = DeliveryCommit {
            epoch: self.epoch,
            position: Some(self.position),
            changes: Vec::new(),
        };
        // A failure is retried at the next time. Without its lease it fails until the stop command.
        if self.inbox.commit(self.id, commit).await.is_ok() {
            self.written_position = self.position;
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
