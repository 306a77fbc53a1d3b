//! One handler's deliveries: a loop that starts attempts, takes their outcomes, and has them remembered.
//!
//! What is in order lives in the [`Window`] and costs the store nothing but a position now and then. What failed, and what
//! waits behind it, has a row. A row is never attempted while the store has not confirmed its last change, and the store does
//! one thing at a time for a handler, so that a row that was read is never older than what is known here.

mod commands;
mod outcomes;
mod store;

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use self::commands::{Discard, Discarded};
use super::Built;
use super::health::{Health, backoff};
use super::settings::{HandlerSettings, Order};
use super::status::{InMemory, State, Status};
use super::window::Window;
use crate::clock::{Clock, Timestamp};
use crate::event::{Event, Seq};
use crate::handler::{Failure, Handler, Outcome};
use crate::inbox::delivery::{
    Attempts, Change, HandlerId, Lane, Owed, Registered, Selection, Settlement, replay_lane,
    stream_lane,
};
use crate::inbox::{Inbox, StoreError};
use crate::metrics::{DeliveryOutcome, Metrics};

/// A position alone is written this often: after a crash, what was finished since comes again.
const POSITION_EVERY: Duration = Duration::from_millis(100);
/// Between tries to write to a store that fails.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Failed deliveries are told of this often.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Events read in one go.
const READ: usize = 128;
const READ_BYTES: usize = 1 << 20;
/// With so many outcomes to write nothing more is read.
const UNWRITTEN: usize = 1024;
/// With so many streams in trouble nothing more is read: what is remembered of them is held in memory.
const BLOCKED_LANES: usize = 10_000;

pub(super) enum Command {
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
    /// Start nothing more, let what runs finish for so long, remember everything, end.
    Stop { grace: Duration },
}

/// What a task of the loop ended with.
enum Report {
    Attempted(Outcome),
    /// What was read, and up to where there was something to read.
    Read(Seq, Result<Vec<Event>, StoreError>),
    Due(Result<(Vec<Owed>, Option<Timestamp>), StoreError>),
    Settled(Result<(), StoreError>),
    Discarded(Discarded),
    RowsChanged,
}

/// An attempt under way.
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
    task: AbortHandle,
}

pub(super) struct Runner {
    name: String,
    id: HandlerId,
    settings: Arc<HandlerSettings>,
    handler: Arc<dyn Handler>,
    inbox: Inbox,
    clock: Clock,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    committed: watch::Receiver<Seq>,

    tasks: JoinSet<Report>,
    attempts: HashMap<Id, Attempt>,
    busy: HashSet<Lane>,
    window: Window,
    health: Health,

    /// Lanes of streams (not of replays) that have due or waiting rows, counted.
    blocked: HashMap<Lane, u64>,
    /// Events beyond the position that have rows from before the last start.
    settled_before: HashSet<Seq>,
    /// Rows that are due and were read.
    due: Vec<Owed>,
    /// Rows that were read and whose last change is not confirmed.
    in_doubt: HashSet<Seq>,
    /// Deliveries to forget however their running attempt ends.
    discarded: HashSet<Seq>,
    /// Asked for, and not begun.
    discards: VecDeque<Discard>,
    told_failure: Option<Timestamp>,
    next_due: Option<Timestamp>,
    look_for_due: bool,
    /// Whose turn it is when both a due row and a new event could be started.
    new_first: bool,
    /// A probe failed, and nothing was read since.
    probed: bool,

    /// Outcomes that are not written yet.
    unwritten: Settlement,
    written_position: Seq,
    next_position: Instant,
    reading: bool,
    /// Due rows are being read.
    looking: bool,
    /// Rows are being discarded.
    discarding: bool,
    replays: Vec<AbortHandle>,
    /// Whose turn it is when there is something to write and something to look for.
    wrote_last: bool,
    /// What is being written: kept until it is confirmed.
    writing: Option<Settlement>,
    /// The store failed: it is left alone until then.
    store_pause: Option<Instant>,
}

impl Runner {
    pub(super) fn new(
        name: String,
        registered: Registered,
        built: Built,
        inbox: Inbox,
        clock: Clock,
        metrics: Arc<Metrics>,
        status: Arc<Status>,
    ) -> Self {
        Self {
            name,
            id: registered.id,
            settings: built.settings,
            handler: built.handler,
            committed: inbox.committed(),
            inbox,
            clock,
            metrics,
            status,
            tasks: JoinSet::new(),
            attempts: HashMap::new(),
            busy: HashSet::new(),
            window: Window::starting_at(registered.position),
            health: Health::default(),
            blocked: registered.blocked.into_iter().collect(),
            settled_before: registered.beyond.into_iter().collect(),
            due: Vec::new(),
            in_doubt: HashSet::new(),
            discarded: HashSet::new(),
            discards: VecDeque::new(),
            told_failure: None,
            next_due: None,
            look_for_due: true,
            new_first: false,
            probed: false,
            unwritten: Settlement::default(),
            written_position: registered.position,
            next_position: Instant::now(),
            reading: false,
            looking: false,
            discarding: false,
            replays: Vec::new(),
            wrote_last: false,
            writing: None,
            store_pause: None,
        }
    }

    /// Delivers until it is told to stop.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let grace = loop {
            let now = self.clock.now();
            self.step(now);
            let wake = self.next_wake(now);
            tokio::select! {
                Some(ended) = self.tasks.join_next_with_id() => self.take(ended),
                command = commands.recv() => match command {
                    Some(Command::Stop { grace }) => break grace,
                    Some(command) => self.obey(command),
                    None => break Duration::ZERO,
                },
                Ok(()) = self.committed.changed() => {}
                () = until(wake) => {}
            }
        };
        self.finish(grace, commands).await;
    }

    /// Everything that can be begun now.
    fn step(&mut self, now: Timestamp) {
        self.start_attempts(now);
        self.spill();
        self.use_store(now);
        self.read();
        self.show();
    }

    /// When a step can do more though nothing has ended until then. What was possible at `now` the step has done; what the
    /// store or running attempts hold up goes on when they end.
    fn next_wake(&self, now: Timestamp) -> Option<Instant> {
        let later = |time: &Timestamp| *time > now;
        let at = |time: Timestamp| Instant::now() + time.since(now);
        let due = self
            .next_due
            .filter(later)
            .filter(|_| !self.health.is_down())
            .map(at);
        let probe = self.health.next_probe().filter(later).map(at);
        let moved = self.window.position() > self.written_position;
        let store = self
            .store_pause
            .or(moved.then_some(self.next_position))
            .filter(|_| !self.store_is_busy());
        [due, probe, store].into_iter().flatten().min()
    }

    fn start_attempts(&mut self, now: Timestamp) {
        loop {
            let limit = match self.health.next_probe() {
                None => self.settings.concurrency,
                Some(next) if next <= now => 1,
                Some(_) => 0,
            };
            if self.attempts.len() >= limit {
                return;
            }
            let started = (self.new_first && self.start_new(now))
                || self.start_due(now)
                || self.start_new(now);
            if !started {
                return;
            }
            self.new_first = !self.new_first;
        }
    }

    fn start_due(&mut self, now: Timestamp) -> bool {
        let Some(at) = self.due.iter().position(|owed| !self.is_busy(owed.lane)) else {
            return false;
        };
        let owed = self.due.remove(at);
        self.start(owed.event, owed.lane, true, owed.attempts, now);
        true
    }

    fn start_new(&mut self, now: Timestamp) -> bool {
        let busy = |lane: Lane| self.busy.contains(&stream_lane(lane));
        let Some((lane, event)) = self.window.next(busy) else {
            return false;
        };
        self.start(event, lane, false, Attempts::default(), now);
        true
    }

    fn is_busy(&self, lane: Lane) -> bool {
        self.busy.contains(&stream_lane(lane))
    }

    fn start(
        &mut self,
        event: Event,
        lane: Lane,
        has_row: bool,
        attempts: Attempts,
        began: Timestamp,
    ) {
        self.busy.insert(stream_lane(lane));
        let handler = self.handler.clone();
        let limit = self.settings.timeout;
        let task = {
            let event = event.clone();
            self.tasks.spawn(async move {
                let outcome = timeout(limit, handler.handle(&event)).await;
                Report::Attempted(outcome.unwrap_or_else(|_| {
                    Err(Failure::retry(format_args!(
                        "no answer within {}",
                        humantime::format_duration(limit)
                    )))
                }))
            })
        };
        self.attempts.insert(
            task.id(),
            Attempt {
                event,
                lane,
                has_row,
                attempts,
                began,
                is_probe: self.health.is_down(),
                timer: Instant::now(),
                task: task.clone(),
            },
        );
    }

    /// If the window is full of events behind running ones, gives all of these rows, so that other streams go on. The running
    /// one comes first in its lane: after a crash, too, nothing overtakes it.
    fn spill(&mut self) {
        if self.window.room() > 0
            || self.health.is_down()
            || self.attempts.len() >= self.settings.concurrency
        {
            return;
        }
        let lanes = self.window.lanes();
        let now = self.clock.now();
        for attempt in self.attempts.values_mut() {
            if !attempt.has_row && lanes.contains(&attempt.lane) {
                let seq = attempt.event.seq();
                attempt.has_row = true;
                attempt.attempts.first = Some(attempt.began);
                self.window.settle(seq);
                self.in_doubt.insert(seq);
                *self.blocked.entry(attempt.lane).or_default() += 1;
                self.unwritten.changes.push(Change::Retry {
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
                self.make_wait(lane);
            }
        }
    }

    fn take(&mut self, ended: Result<(Id, Report), JoinError>) {
        match ended {
            Ok((id, Report::Attempted(outcome))) => self.attempted(id, outcome),
            Ok((_, Report::Read(upto, events))) => self.took_events(upto, events),
            Ok((_, Report::Due(rows))) => self.took_due(rows),
            Ok((_, Report::Settled(result))) => self.settled(result),
            Ok((_, Report::Discarded(discarded))) => self.took_discarded(discarded),
            Ok((_, Report::RowsChanged)) => self.look_for_due = true,
            // Released: it stays as it was, and comes again.
            Err(error) if error.is_cancelled() => drop(self.attempts.remove(&error.id())),
            Err(error) if self.attempts.contains_key(&error.id()) => {
                self.attempted(error.id(), Err(Failure::retry("the handler panicked")));
            }
            Err(_) => self.recover(),
        }
    }

    /// Lets what runs finish, releases what does not, and has everything remembered. A second stop can only hurry it.
    async fn finish(mut self, grace: Duration, mut commands: mpsc::Receiver<Command>) {
        let mut until = Instant::now() + grace;
        let mut released = false;
        loop {
            tokio::select! {
                ended = self.tasks.join_next_with_id() => match ended {
                    Some(ended) => self.take(ended),
                    None => break,
                },
                Some(Command::Stop { grace }) = commands.recv(), if !released => {
                    until = until.min(Instant::now() + grace);
                }
                () = sleep_until(until), if !released => {
                    let running = self.attempts.values().map(|attempt| &attempt.task);
                    running.chain(&self.replays).for_each(AbortHandle::abort);
                    until = Instant::now() + STORE_PAUSE;
                    released = true;
                }
                () = sleep_until(until), if released => {
                    // What is being written holds together; what comes after it must not go without it.
                    self.could_not_remember();
                    return;
                }
            }
        }
        // One transaction: a position never goes without the rows of what lies below it.
        if let Some(settlement) = self.settlement(true)
            && !matches!(
                timeout(STORE_PAUSE, self.inbox.settle(self.id, settlement)).await,
                Ok(Ok(()))
            )
        {
            self.could_not_remember();
        }
    }

    fn could_not_remember(&self) {
        tracing::warn!(
            handler.name = self.name,
            "the last outcomes could not be stored, some events will come again"
        );
    }

    fn show(&self) {
        let state = if self.health.is_down() {
            State::Failing
        } else {
            State::Running
        };
        let writing = self.writing.iter().flat_map(|writing| &writing.changes);
        let owed = || {
            let changes = writing.clone().chain(&self.unwritten.changes);
            changes
                .filter(|change| matches!(change, Change::Wait { .. } | Change::Retry { .. }))
                .map(Change::seq)
        };
        self.status.show(InMemory {
            state,
            read_to: self.window.read_to(),
            oldest: self.window.oldest().into_iter().chain(owed().min()).min(),
            unsettled: (self.window.len() + owed().count()) as u64,
        });
    }
}

/// Replayed deliveries and live ones of a stream exclude each other, but do not wait in one line.
const _: () = assert!(stream_lane(replay_lane(2)) == 2);

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => pending().await,
    }
}
