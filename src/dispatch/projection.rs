//! The loop of a part of livehook that gets events in arrival order, many at once, and is never in a hurry.
//!
//! It has a thread of its own that steps back behind all others, reads only what has come to rest in the store, and has no
//! rows: what could not be taken is tried again until it can.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::select;
use tokio::time::{Instant, sleep_until};

use super::status::{HandlerState, Status, WorkerView};
use super::worker::{LeasedHandler, WorkerCommand};
use super::*;
use crate::handler::Projection;
use crate::inbox::delivery::DeliveryCommit;

/// Events taken at once. A long look at the store would keep its log from being taken up again.
const PAGE: usize = 512;
const PAGE_BYTES: usize = 1 << 20;
/// More comes together meanwhile.
const BATCH_DELAY: Duration = Duration::from_millis(20);
/// What has not come to rest after so long is fetched.
const DATABASE_WAIT: Duration = Duration::from_millis(200);
/// The position is written this often: after a crash, what was taken since comes again.
const POSITION_EVERY: Duration = Duration::from_millis(500);
/// Above so many events a second it is busy here, and whoever answers senders needs the disk and the processors.
const BUSY_RATE: f64 = 1000.0;
/// The arrival of events is measured over this time.
const MEASURE: Duration = Duration::from_millis(100);
/// While it is busy: for each time that taking took, how many are left to others, as long as what is taken is not older.
const YIELD_FACTORS: [(Duration, u32); 2] =
    [(Duration::from_secs(30), 12), (Duration::from_secs(120), 1)];
/// Between tries of what failed.
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
    /// When it was measured how fast events arrive, up to where they had come, and whether that was fast.
    measured: (Instant, Seq, bool),
    /// Since when nothing was found that has come to rest, though there is something.
    empty_since: Option<Instant>,
}

/// Takes events until it is told to stop.
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

/// What answers senders goes first.
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
            // Nothing is left to take or to write: until there is, nothing need be looked at.
            let mut idle = self.written_position == *self.committed.borrow();
            loop {
                select! {
                    biased;
                    command = commands.recv() => match command {
                        None | Some(WorkerCommand::Stop { .. }) => {
                            self.write_position().await;
                            return;
                        }
                        // Between two parts; nothing is held back that was read before.
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

    /// Takes a part, if there is one: when to look again.
    async fn step(&mut self) -> Duration {
        if self.written_position < self.position && Instant::now() >= self.next_position_write {
            self.write_position().await;
        }
        // A part has to be over before somebody else may take the next.
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

    /// The next events; nothing if they have not come to rest yet.
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
            self.position = upto; // retention has removed whatever was there
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

    /// A burst has the machine to itself; if it does not end, the backlog is worked off all the same.
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
        // What fails is tried again; a receiver that has lost its lease fails until it is told to stop.
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
