//! The worker of a handler: it starts attempts and stores their outcomes.
//!
//! # When an attempt starts, and who decides
//!
//! The worker decides, and nobody else. In each step (`Worker::step`) it starts every attempt that
//! may start. A step follows each command, each ended task, each commit of the inbox, each renewal
//! of the lease, and the time that `Worker::next_wake` names. An attempt starts if:
//!
//! - the handler is not paused,
//! - the lease will outlast the attempt's timeout, so that no two processes deliver the same event,
//! - fewer attempts run than `concurrency` allows; while the handler is down ([`HandlerHealth`]),
//!   one attempt at a time may run, as a probe, and only when the next probe is due,
//! - there is an event: one with a due row, or a new one from the [`ReadAhead`] (they take turns),
//! - no attempt runs for the same stream, and no earlier event of the stream has a due or waiting
//!   row. A new event behind such a row gets a waiting row. An event without a stream is a
//!   stream of its own; so is every event if `order` is `none`.
//!
//! # What has a row
//!
//! An event that succeeds in order has no row: it only moves the position, which is written now and
//! then. A failed event has a row, and so has each event that waits behind it. A row is attempted
//! only when the store has confirmed the last change to it. The store does one thing at a time for
//! a handler. So the rows that the worker reads are never older than what the worker knows.
//!
//! # Times
//!
//! Due times are steady times of the [`Clock`], in rows too: setting the system clock delays
//! nothing. A row from before a restart, or from another process, may have a due time of another
//! clock. If it lies further ahead than the longest pause, the row is due now.

mod attempts;
mod commands;
mod outcomes;
mod store;

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::{pending, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use css_callbacks::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet, yield_now};
use tokio::time::{Instant, sleep_until, timeout};

use self::attempts::panicked;
use self::commands::{Discard, Discarded, Pause, Replay};
use self::store::STORE_RETRY_DELAY;
use super::health::HandlerHealth;
use super::read_ahead::ReadAhead;
use super::settings::HandlerSettings;
use super::status::{HandlerState, Status, WorkerView};
use crate::clock::Clock;
use crate::event::{Event, Seq};
use crate::handler::{Handler, Outcome};
use crate::inbox::delivery::{
    Attempts, DeliveryChange, DeliveryCommit, HandlerId, Lane, Owed, Registered, Selection,
    replay_lane, stream_lane,
};
use crate::inbox::{Inbox, StoreError};
use crate::metrics::DeliveryMetrics;

/// How long one step may start attempts, which may end at once, before other tasks run.
const STEP_LIMIT: Duration = Duration::from_micros(500);

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
    /// Give up these events: they are about to be deleted.
    Forget {
        seqs: Vec<Seq>,
        reply: oneshot::Sender<Result<u64, StoreError>>,
    },
    /// Start no more attempts, or start them again.
    Pause {
        paused: bool,
        reply: oneshot::Sender<Result<u64, StoreError>>,
    },
    /// Start no more attempts, wait up to `grace` for the running ones, store their outcomes, end.
    Stop { grace: Duration },
}

/// The result of a task that the worker started.
enum TaskOutput {
    Attempted(Outcome),
    /// The highest event in the inbox when reading began, and the events that were read.
    Read(Seq, Result<Vec<Event>, StoreError>),
    /// Due rows, and when the next row is due.
    Due(Result<(Vec<Owed>, Option<Timestamp>), StoreError>),
    Committed(Result<(), StoreError>),
    Discarded(Discarded),
    /// Whether the handler is paused now.
    Paused(bool),
    /// Whether the replay made rows due.
    Replayed(bool),
}

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

struct Attempt {
    event: Event,
    lane: Lane,
    has_row: bool,
    /// The attempts of this delivery before this one.
    attempts: Attempts,
    began: Timestamp,
    /// Whether the handler was down when the attempt began.
    is_probe: bool,
    timer: Instant,
}

/// An attempt that has a task, because it did not end at once.
struct Running {
    attempt: Attempt,
    task: AbortHandle,
}

/// The right to deliver for a handler, and where to continue.
pub(super) struct LeasedHandler {
    pub(super) registered: Registered,
    pub(super) epoch: Option<i64>,
    /// The end of the lease: until then no other process delivers.
    pub(super) until: watch::Receiver<Instant>,
}

pub(super) struct Worker {
    name: String,
    id: HandlerId,
    epoch: Option<i64>,
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
    /// The stream lanes that have a running attempt.
    busy: HashSet<Lane>,
    read_ahead: ReadAhead,
    health: HandlerHealth,
    /// When the worker last read the time.
    step_time: Instant,
    /// Whether an attempt succeeded in this step.
    succeeded: bool,

    /// How many due or waiting rows each stream lane has. Replay lanes are not counted.
    blocked: HashMap<Lane, u64>,
    /// Events beyond the position that already had rows when the worker started.
    rows_ahead: HashSet<Seq>,
    due: Vec<Owed>,
    /// Events whose rows were read, and the last change of the row is not confirmed yet.
    unconfirmed: HashSet<Seq>,
    /// Events with a running attempt whose outcome must not be stored.
    discarded: HashSet<Seq>,
    /// Events beyond the read-ahead that are being deleted.
    deleted_ahead: HashSet<Seq>,
    /// Commands that have not started.
    replays: Vec<Replay>,
    discards: VecDeque<Discard>,
    pauses: VecDeque<Pause>,
    paused: bool,
    failure_logged_at: Option<Timestamp>,
    next_due: Option<Timestamp>,
    look_for_due: bool,
    /// Whether a new event goes first if a due row could start too.
    prefer_new: bool,
    /// Whether a probe failed after events were last read.
    probe_failed: bool,

    unwritten: Vec<DeliveryChange>,
    written_position: Seq,
    next_position_write: Instant,
    reading: bool,
    reading_due: bool,
    /// Whether the store discards rows, or pauses or resumes the handler.
    changing_rows: bool,
    replay_tasks: Vec<AbortHandle>,
    /// Events without rows whose attempts were aborted when the worker stopped.
    aborted: Vec<(Seq, Lane)>,
    /// Whether the store wrote last: writing and other work take turns.
    wrote_last: bool,
    /// The commit that is being written. It is kept until the store confirms it.
    writing: Option<DeliveryCommit>,
    commits_started: u64,
    /// After a failure the store is not used until then.
    store_retry_at: Option<Instant>,
}

impl WorkerCommand {
    /// Answers that there was nothing to do.
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

    /// Delivers until a stop command.
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

    /// Starts everything that can start now. `true`: the time was over before the work was.
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

    /// When time alone lets a step do more. The last step did what was possible at `now`. Work that
    /// waits for the store or for a running attempt continues when that task ends.
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

    fn task_ended(&mut self, ended: Result<(Id, TaskOutput), JoinError>) {
        match ended {
            Ok((id, TaskOutput::Attempted(outcome))) => self.attempt_ended(id, outcome),
            Ok((_, TaskOutput::Read(upto, events))) => self.events_read(upto, events),
            Ok((_, TaskOutput::Due(rows))) => self.due_read(rows),
            Ok((_, TaskOutput::Committed(result))) => self.commit_ended(result),
            Ok((_, TaskOutput::Discarded(discarded))) => self.rows_discarded(discarded),
            Ok((_, TaskOutput::Paused(paused))) => self.pause_written(paused),
            Ok((_, TaskOutput::Replayed(is_due))) => self.replay_ended(is_due),
            // Its delivery is unchanged, and is attempted again after the restart.
            Err(error) if error.is_cancelled() => self.attempt_aborted(error.id()),
            Err(error) if self.running.contains_key(&error.id()) => {
                self.attempt_ended(error.id(), Err(panicked()));
            }
            Err(_) => self.recover(),
        }
    }

    /// Waits up to `grace` for running attempts, aborts the rest, and stores all outcomes. A second
    /// stop can only shorten the wait.
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
                    // Later changes must not be written without the commit that did not end.
                    self.warn_not_stored();
                    return;
                }
            }
        }
        self.store_gaps();
        // One transaction: the position needs the rows of the events below it.
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
            "the last outcomes could not be stored, some events will be delivered again"
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

/// A stream's live and replayed events never run side by side: their stream lane is one.
const _: () = assert!(stream_lane(replay_lane(2)) == 2);

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => pending().await,
    }
}
