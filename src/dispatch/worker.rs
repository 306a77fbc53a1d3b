//! One handler's deliveries: a loop that starts attempts, takes their outcomes, and has them remembered.
//!
//! What is in order lives in the [`ReadAhead`] and costs the store nothing but a position now and then. What failed, and what
//! waits behind it, has a row. A row is never attempted while the store has not confirmed its last change, and the store does
//! one thing at a time for a handler, so that a row that was read is never older than what is known here.
//!
//! Times to wait for are steady ones of the [`Clock`], in rows as well: a clock that is set delays nothing. After a restart, or at
//! another receiver, what a row says counts only as far as anybody may have to wait.

mod commands;
mod outcomes;
mod store;

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use css_callbacks::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet, yield_now};
use tokio::time::{Instant, sleep_until, timeout};

use self::commands::{Discard, Discarded, Pause, Replay};
use super::health::{HandlerHealth, backoff};
use super::read_ahead::ReadAhead;
use super::settings::{DeliveryOrder, HandlerSettings};
use super::status::{HandlerState, Status, WorkerView};
use crate::clock::Clock;
use crate::event::{Event, Seq};
use crate::handler::{Failure, Handler, Outcome};
use crate::inbox::delivery::{
    Attempts, DeliveryChange, DeliveryCommit, HandlerId, InHand, Lane, Owed, Registered, Selection,
    replay_lane, stream_lane,
};
use crate::inbox::{Inbox, StoreError};
use crate::metrics::{DeliveryMetrics, DeliveryOutcome};

/// A position alone is written this often: after a crash, what was finished since comes again.
const POSITION_EVERY: Duration = Duration::from_millis(100);
/// Between tries to write to a store that fails.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Failed deliveries are told of this often.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// So long one step may start attempts, most of which may be over at once; then others have their turn.
const STEP_LIMIT: Duration = Duration::from_micros(500);
/// Events read in one go.
const READ_EVENTS: usize = 512;
const READ_BYTES: usize = 1 << 20;
/// With so many outcomes to write nothing more is read.
const MAX_UNWRITTEN: usize = 1024;
/// With so many streams in trouble nothing more is read: what is remembered of them is held in memory.
const MAX_BLOCKED_LANES: usize = 10_000;

pub(super) enum WorkerCommand {
    Replay {
        selection: Selection,
        dry_run: bool,
        reply: oneshot::Sender<Result<u64, StoreError>>,
    },
    Discard {
        selection: Selection,
        dry_run: bool,
        reply: oneshot::Sender<Result<u64, StoreError>>,
    },
    /// Give up for good what is about to be deleted.
    Forget {
        seqs: Vec<Seq>,
        reply: oneshot::Sender<Result<u64, StoreError>>,
    },
    /// Begin no more attempts, or go on.
    Pause {
        paused: bool,
        reply: oneshot::Sender<Result<u64, StoreError>>,
    },
    /// Start nothing more, let what runs finish for so long, remember everything, end.
    Stop { grace: Duration },
}

/// What a task of the loop ended with.
enum TaskOutput {
    Attempted(Outcome),
    /// What was read, and up to where there was something to read.
    Read(Seq, Result<Vec<Event>, StoreError>),
    Due(Result<(Vec<Owed>, Option<Timestamp>), StoreError>),
    Committed(Result<(), StoreError>),
    Discarded(Discarded),
    /// Whether it is paused now.
    Paused(bool),
    /// Whether something is due now that was not.
    Replayed(bool),
}

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An attempt and what it belongs to.
struct Attempt {
    event: Event,
    lane: Lane,
    /// Whether the delivery has a row.
    has_row: bool,
    /// What was known before.
    attempts: Attempts,
    began: Timestamp,
    /// Whether the handler was down when it began.
    is_probe: bool,
    timer: Instant,
}

/// An attempt that was not over at once.
struct Running {
    attempt: Attempt,
    task: AbortHandle,
}

/// The right to deliver, and where to go on.
pub(super) struct LeasedHandler {
    pub(super) registered: Registered,
    /// Of the lease.
    pub(super) epoch: Option<i64>,
    /// Nobody else delivers until then.
    pub(super) until: watch::Receiver<Instant>,
}

pub(super) struct Worker {
    name: String,
    id: HandlerId,
    /// Of the lease under which it delivers.
    epoch: Option<i64>,
    /// Until then nobody else delivers.
    lease_until: watch::Receiver<Instant>,
    settings: Arc<HandlerSettings>,
    handler: Arc<dyn Handler>,
    inbox: Inbox,
    clock: Clock,
    metrics: DeliveryMetrics,
    status: Arc<Status>,
    committed: watch::Receiver<Seq>,

    tasks: JoinSet<TaskOutput>,
    running: HashMap<Id, Running>,
    busy: HashSet<Lane>,
    read_ahead: ReadAhead,
    health: HandlerHealth,
    /// When the clock was last looked at.
    step_time: Instant,
    /// An attempt was done in this step.
    succeeded: bool,

    /// Lanes of streams (not of replays) that have due or waiting rows, counted.
    blocked: HashMap<Lane, u64>,
    /// Events beyond the position that have rows from before the last start.
    rows_ahead: HashSet<Seq>,
    /// Rows that are due and were read.
    due: Vec<Owed>,
    /// Rows that were read and whose last change is not confirmed.
    unconfirmed: HashSet<Seq>,
    /// Deliveries to forget however their running attempt ends.
    discarded: HashSet<Seq>,
    /// Events beyond what was read that are being deleted.
    deleted_ahead: HashSet<Seq>,
    /// Asked for, and not begun.
    replays: Vec<Replay>,
    discards: VecDeque<Discard>,
    pauses: VecDeque<Pause>,
    /// No attempt is begun.
    paused: bool,
    failure_logged_at: Option<Timestamp>,
    next_due: Option<Timestamp>,
    look_for_due: bool,
    /// Whose turn it is when both a due row and a new event could be started.
    prefer_new: bool,
    /// A probe failed, and nothing was read since.
    probe_failed: bool,

    /// Outcomes that are not written yet.
    unwritten: Vec<DeliveryChange>,
    written_position: Seq,
    next_position_write: Instant,
    reading: bool,
    /// Due rows are being read.
    reading_due: bool,
    /// Rows are being discarded, or the handler paused or resumed.
    changing_rows: bool,
    replay_tasks: Vec<AbortHandle>,
    /// Without rows, and not to be finished here.
    aborted: Vec<(Seq, Lane)>,
    /// Whose turn it is when there is something to write and something to look for.
    wrote_last: bool,
    /// What is being written: kept until it is confirmed.
    writing: Option<DeliveryCommit>,
    /// How often that has begun.
    commits_started: u64,
    /// The store failed: it is left alone until then.
    store_retry_at: Option<Instant>,
}

impl WorkerCommand {
    /// Tells who asked that nothing was to be done.
    pub(super) fn answer_nothing(self) {
        match self {
            Self::Replay { reply, .. }
            | Self::Discard { reply, .. }
            | Self::Forget { reply, .. }
            | Self::Pause { reply, .. } => drop(reply.send(Ok(0))),
            Self::Stop { .. } => {}
        }
    }
}

impl Worker {
    #[expect(clippy::too_many_arguments, reason = "what a handler needs to deliver")]
    pub(super) fn new(
        name: String,
        leased: LeasedHandler,
        settings: Arc<HandlerSettings>,
        handler: Arc<dyn Handler>,
        inbox: Inbox,
        clock: Clock,
        metrics: DeliveryMetrics,
        status: Arc<Status>,
    ) -> Self {
        let registered = leased.registered;
        Self {
            metrics,
            name,
            id: registered.id,
            epoch: leased.epoch,
            lease_until: leased.until,
            settings,
            handler,
            committed: inbox.committed(),
            inbox,
            clock,
            status,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            busy: HashSet::new(),
            read_ahead: ReadAhead::starting_at(registered.position),
            health: HandlerHealth::default(),
            step_time: Instant::now(),
            succeeded: false,
            blocked: registered.blocked.into_iter().collect(),
            rows_ahead: registered.beyond.into_iter().collect(),
            due: Vec::new(),
            unconfirmed: HashSet::new(),
            discarded: HashSet::new(),
            deleted_ahead: HashSet::new(),
            replays: Vec::new(),
            discards: VecDeque::new(),
            pauses: VecDeque::new(),
            paused: registered.paused,
            failure_logged_at: None,
            next_due: None,
            look_for_due: true,
            prefer_new: false,
            probe_failed: false,
            unwritten: Vec::new(),
            written_position: registered.position,
            next_position_write: Instant::now(),
            reading: false,
            reading_due: false,
            changing_rows: false,
            replay_tasks: Vec::new(),
            aborted: Vec::new(),
            wrote_last: false,
            writing: None,
            commits_started: 0,
            store_retry_at: None,
        }
    }

    /// Delivers until it is told to stop.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<WorkerCommand>) {
        let grace = loop {
            let now = self.clock.steady();
            let more = self.step(now);
            if more {
                yield_now().await;
            }
            let wake = self.next_wake(now);
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(WorkerCommand::Stop { grace }) => break grace,
                    Some(command) => self.execute(command),
                    None => break Duration::ZERO,
                },
                Some(ended) = self.tasks.join_next_with_id() => {
                    self.task_ended(ended);
                    while let Some(ended) = self.tasks.try_join_next_with_id() {
                        self.task_ended(ended);
                    }
                }
                () = ready(()), if more => {}
                Ok(()) = self.committed.changed() => {}
                Ok(()) = self.lease_until.changed() => {}
                () = until(wake) => {}
            }
        };
        self.finish(grace, commands).await;
    }

    /// Everything that can be begun now; `true` if its time was over before that was all.
    fn step(&mut self, now: Timestamp) -> bool {
        self.step_time = Instant::now();
        let until = self.step_time + STEP_LIMIT;
        let more = loop {
            let all = self.start_attempts(now, until);
            if all {
                self.store_blocked_lanes();
            }
            self.start_store_work(now);
            if !self.read() || !all {
                break !all;
            }
        };
        self.publish_status();
        more
    }

    /// When a step can do more though nothing has ended until then. What was possible at `now` the step has done; what the
    /// store or running attempts hold up goes on when they end.
    fn next_wake(&self, now: Timestamp) -> Option<Instant> {
        let later = |time: &Timestamp| *time > now;
        let at = |time: Timestamp| Instant::now() + time.since(now);
        let due = self
            .next_due
            .filter(later)
            .filter(|_| !self.health.is_down() && !self.paused)
            .map(at);
        let probe = self.health.next_probe().filter(later);
        let probe = probe.filter(|_| !self.paused).map(at);
        let moved = self.read_ahead.position() > self.written_position;
        let store = self
            .store_retry_at
            .or(moved.then_some(self.next_position_write))
            .filter(|_| !self.store_is_busy());
        [due, probe, store].into_iter().flatten().min()
    }

    /// `false` if it was time to stop before all that can be started was started.
    fn start_attempts(&mut self, now: Timestamp, until: Instant) -> bool {
        if self.paused {
            return true;
        }
        loop {
            let limit = match self.health.next_probe() {
                None => self.settings.concurrency,
                Some(next) if next <= now => 1,
                Some(_) => 0,
            };
            // An attempt has to be over before somebody else may begin one.
            let deadline = self.step_time + self.settings.timeout;
            if self.running.len() >= limit || deadline >= *self.lease_until.borrow() {
                return true;
            }
            if self.step_time >= until {
                return false;
            }
            let started = (self.prefer_new && self.start_new(now))
                || self.start_due(now)
                || self.start_new(now);
            if !started {
                return true;
            }
            self.prefer_new = !self.prefer_new;
        }
    }

    fn start_due(&mut self, now: Timestamp) -> bool {
        let Some(at) = self.due.iter().position(|owed| !self.is_busy(owed.lane)) else {
            return false;
        };
        let owed = self.due.remove(at);
        self.start(owed.event, Some(owed.lane), true, owed.attempts, now);
        true
    }

    fn start_new(&mut self, now: Timestamp) -> bool {
        self.assign_lanes();
        if let Some(event) = self.read_ahead.next_unassigned() {
            self.start(event, None, false, Attempts::default(), now);
            return true;
        }
        let busy = |lane: Lane| self.busy.contains(&stream_lane(lane));
        let Some((lane, event)) = self.read_ahead.next(busy) else {
            return false;
        };
        self.start(event, Some(lane), false, Attempts::default(), now);
        true
    }

    fn is_busy(&self, lane: Lane) -> bool {
        self.busy.contains(&stream_lane(lane))
    }

    /// Nothing runs, waits, or is in trouble: nothing can be in the way of an event, so its lane need not be known. To know
    /// it takes longer than many a handler.
    fn has_no_conflicts(&self) -> bool {
        self.busy.is_empty()
            && self.blocked.is_empty()
            && !self.read_ahead.has_queues()
            && self.health.is_healthy()
    }

    /// Puts what was read into its lanes, unless nothing can be in its way.
    fn assign_lanes(&mut self) {
        if !self.read_ahead.has_unassigned() || self.has_no_conflicts() {
            return;
        }
        while let Some(event) = self.read_ahead.next_unassigned() {
            let (seq, lane) = (event.seq(), self.lane(&event));
            if let Some(rows) = self.blocked.get_mut(&lane) {
                *rows += 1;
                self.read_ahead.close(seq);
                self.unwritten.push(DeliveryChange::Wait { seq, lane });
            } else {
                self.read_ahead.queue(lane, event);
            }
        }
    }

    fn lane(&self, event: &Event) -> Lane {
        match self.settings.order {
            DeliveryOrder::Stream => event.lane(),
            DeliveryOrder::None => event.seq().unsigned_abs() << 1,
        }
    }

    fn start(
        &mut self,
        event: Event,
        lane: Option<Lane>,
        has_row: bool,
        attempts: Attempts,
        began: Timestamp,
    ) {
        let timer = self.step_time;
        let polled = self.poll_once(&event);
        self.step_time = Instant::now();
        let took = self.step_time - timer;
        if let (None, Ok(Ok(()))) = (lane, &polled) {
            self.read_ahead.close(event.seq());
            self.succeeded = true;
            self.count_untyped(&event);
            self.metrics.count(DeliveryOutcome::Done, took);
            return;
        }
        let attempt = Attempt {
            lane: lane.unwrap_or_else(|| self.lane(&event)),
            event,
            has_row,
            attempts,
            began,
            is_probe: self.health.is_down(),
            timer,
        };
        match polled {
            Ok(outcome) => self.finish_attempt(attempt, outcome, took),
            Err(pending) => self.spawn_attempt(attempt, pending),
        }
    }

    /// An attempt's outcome if it is over at once, as most are of a handler that waits for nothing: a task with a timer would
    /// cost more than all the rest.
    fn poll_once(&self, event: &Event) -> Result<Outcome, Pending<Outcome>> {
        let (handler, event) = (self.handler.clone(), event.clone());
        let attempt = Box::pin(async move { handler.handle(&event).await });
        let polled = catch_unwind(AssertUnwindSafe(|| ready_now(attempt)));
        polled.unwrap_or_else(|_| Ok(Err(panicked())))
    }

    /// An attempt takes longer.
    fn spawn_attempt(&mut self, attempt: Attempt, pending: Pending<Outcome>) {
        self.busy.insert(stream_lane(attempt.lane));
        let limit = self.settings.timeout;
        let task = self.tasks.spawn(async move {
            let outcome = timeout(limit, pending).await;
            TaskOutput::Attempted(outcome.unwrap_or_else(|_| {
                Err(Failure::retry(format_args!(
                    "no answer within {}",
                    humantime::format_duration(limit)
                )))
            }))
        });
        self.running.insert(task.id(), Running { attempt, task });
    }

    /// If the window is full of events behind running ones, gives all of these rows, so that other streams go on. The running
    /// one comes first in its lane: after a crash, too, nothing overtakes it.
    fn store_blocked_lanes(&mut self) {
        if self.read_ahead.room() > 0
            || self.health.is_down()
            || self.running.len() >= self.settings.concurrency
        {
            return;
        }
        let lanes = self.read_ahead.lanes();
        let now = self.clock.steady();
        for Running { attempt, .. } in self.running.values_mut() {
            if !attempt.has_row && lanes.contains(&attempt.lane) {
                let seq = attempt.event.seq();
                attempt.has_row = true;
                attempt.attempts.first = Some(attempt.began);
                self.read_ahead.close(seq);
                self.unconfirmed.insert(seq);
                *self.blocked.entry(attempt.lane).or_default() += 1;
                self.unwritten.push(DeliveryChange::Retry {
                    seq,
                    lane: attempt.lane,
                    attempts: attempt.attempts.clone(),
                    due: now,
                });
            }
        }
        // What waits behind a replay of its stream gets a row as well.
        for lane in lanes {
            if self.busy.contains(&stream_lane(lane)) {
                self.store_lane(lane);
            }
        }
    }

    fn task_ended(&mut self, ended: Result<(Id, TaskOutput), JoinError>) {
        match ended {
            Ok((id, TaskOutput::Attempted(outcome))) => self.attempt_ended(id, outcome),
            Ok((_, TaskOutput::Read(upto, events))) => self.events_read(upto, events),
            Ok((_, TaskOutput::Due(rows))) => self.due_read(rows),
            Ok((_, TaskOutput::Committed(result))) => self.commit_ended(result),
            Ok((_, TaskOutput::Discarded(discarded))) => self.rows_discarded(discarded),
            Ok((_, TaskOutput::Paused(paused))) => self.pause_written(paused),
            Ok((_, TaskOutput::Replayed(is_due))) => self.replay_ended(is_due),
            // Released: it stays as it was, and comes again.
            Err(error) if error.is_cancelled() => self.attempt_aborted(error.id()),
            Err(error) if self.running.contains_key(&error.id()) => {
                self.attempt_ended(error.id(), Err(panicked()));
            }
            Err(_) => self.recover(),
        }
    }

    /// Lets what runs finish, releases what does not, and has everything remembered. A second stop can only hurry it.
    async fn finish(mut self, grace: Duration, mut commands: mpsc::Receiver<WorkerCommand>) {
        let mut until = Instant::now() + grace;
        let mut released = false;
        loop {
            tokio::select! {
                ended = self.tasks.join_next_with_id() => match ended {
                    Some(ended) => self.task_ended(ended),
                    None => break,
                },
                Some(WorkerCommand::Stop { grace }) = commands.recv(), if !released => {
                    until = until.min(Instant::now() + grace);
                }
                () = sleep_until(until), if !released => {
                    let running = self.running.values().map(|running| &running.task);
                    running.chain(&self.replay_tasks).for_each(AbortHandle::abort);
                    until = Instant::now() + STORE_RETRY_DELAY;
                    released = true;
                }
                () = sleep_until(until), if released => {
                    // What is being written holds together; what comes after it must not go without it.
                    self.warn_not_stored();
                    return;
                }
            }
        }
        self.store_gaps();
        // One transaction: a position never goes without the rows of what lies below it.
        if let Some(commit) = self.next_commit(true)
            && !matches!(
                timeout(STORE_RETRY_DELAY, self.inbox.commit(self.id, commit)).await,
                Ok(Ok(()))
            )
        {
            self.warn_not_stored();
        }
    }

    fn warn_not_stored(&self) {
        tracing::warn!(
            handler.name = self.name,
            "the last outcomes could not be stored, some events will come again"
        );
    }

    fn publish_status(&mut self) {
        if std::mem::take(&mut self.succeeded) {
            self.status.succeeded(self.clock.now());
        }
        let state = if self.paused {
            HandlerState::Paused
        } else if self.health.is_down() {
            HandlerState::Failing
        } else {
            HandlerState::Running
        };
        let writing = self.writing.iter().flat_map(|writing| &writing.changes);
        let unwritten_rows = || {
            let changes = writing.clone().chain(&self.unwritten);
            changes
                .filter(|change| {
                    matches!(
                        change,
                        DeliveryChange::Wait { .. } | DeliveryChange::Retry { .. }
                    )
                })
                .map(DeliveryChange::seq)
        };
        self.status.publish(WorkerView {
            state,
            read_to: self.read_ahead.read_to(),
            oldest: self
                .read_ahead
                .oldest()
                .into_iter()
                .chain(unwritten_rows().min())
                .min(),
            open: (self.read_ahead.len() + unwritten_rows().count()) as u64,
        });
    }
}

/// Replayed deliveries and live ones of a stream exclude each other, but do not wait in one line.
const _: () = assert!(stream_lane(replay_lane(2)) == 2);

/// What a future gives if it is ready at once. Otherwise it has to be polled again: nobody is woken by it.
fn ready_now<T>(mut future: Pending<T>) -> Result<T, Pending<T>> {
    let mut context = Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => Err(future),
    }
}

fn panicked() -> Failure {
    Failure::retry("the handler panicked")
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => pending().await,
    }
}
