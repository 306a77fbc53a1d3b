//! One handler's deliveries: a loop that starts attempts, takes their outcomes, and has them remembered.
//!
//! What is in order lives in the [`Window`] and costs the store nothing but a position now and then. What failed, and what
//! waits behind it, has a row. A row is never attempted while the store has not confirmed its last change, and the store does
//! one thing at a time for a handler, so that a row that was read is never older than what is known here.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

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
/// Events read in one go.
const READ: usize = 128;
const READ_BYTES: usize = 1 << 20;
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
    Read(Result<Vec<Event>, StoreError>),
    Due(Result<(Vec<Owed>, Option<Timestamp>), StoreError>),
    Settled(Result<(), StoreError>),
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
    /// Whether the next probe of a handler that is down is an event that was never tried, if there is one: the rows may all be
    /// those of poisoned streams.
    probe_fresh: bool,
    /// Whether a handler that is down may be read something for.
    read_for_probe: bool,

    /// Lanes of streams (not of replays) that have due or waiting rows, counted.
    blocked: HashMap<Lane, u64>,
    /// Events beyond the position that have rows from before the last start.
    settled_before: HashSet<Seq>,
    /// Rows that are due and were read.
    due: Vec<Owed>,
    /// Rows that are due in memory, under way, or whose last change is not confirmed.
    in_doubt: HashSet<Seq>,
    /// Deliveries to forget however their running attempt ends.
    discarded: HashSet<Seq>,
    next_due: Option<Timestamp>,
    look_for_due: bool,

    /// Outcomes that are not written yet.
    unwritten: Settlement,
    written_position: Seq,
    next_position: Instant,
    reading: bool,
    /// Due rows are being read.
    looking: bool,
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
            probe_fresh: true,
            read_for_probe: false,
            blocked: registered.blocked.into_iter().collect(),
            settled_before: registered.beyond.into_iter().collect(),
            due: Vec::new(),
            in_doubt: HashSet::new(),
            discarded: HashSet::new(),
            next_due: None,
            look_for_due: true,
            unwritten: Settlement::default(),
            written_position: registered.position,
            next_position: Instant::now(),
            reading: false,
            looking: false,
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
                    Some(command) => self.obey(command).await,
                    None => break Duration::ZERO,
                },
                Ok(()) = self.committed.changed() => {}
                () = until(wake) => {}
            }
        };
        self.finish(grace).await;
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
            .filter(|_| self.writing.is_none() && !self.looking);
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
            let busy = |lane: Lane| self.busy.contains(&stream_lane(lane));
            let is_due = self.due.iter().position(|owed| !busy(owed.lane));
            let fresh_first = self.health.is_down() && self.probe_fresh;
            let fresh = match is_due {
                Some(_) if !fresh_first => None,
                _ => self.window.next(busy),
            };
            self.probe_fresh = fresh.is_none();
            if let Some((lane, event)) = fresh {
                self.start(event, lane, false, Attempts::default(), now);
            } else if let Some(at) = is_due {
                let owed = self.due.remove(at);
                self.start(owed.event, owed.lane, true, owed.attempts, now);
            } else {
                return;
            }
        }
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
                timer: Instant::now(),
                task: task.clone(),
            },
        );
    }

    /// If the window is full of events behind running ones, gives all of them rows, so that other streams go on.
    fn spill(&mut self) {
        if self.window.room() > 0
            || self.health.is_down()
            || self.attempts.len() >= self.settings.concurrency
        {
            return;
        }
        for lane in self.window.lanes() {
            if !self.busy.contains(&stream_lane(lane)) {
                continue;
            }
            // What is running comes first, also after a crash.
            let running = self
                .attempts
                .values_mut()
                .find(|running| running.lane == lane);
            if let Some(running) = running.filter(|running| !running.has_row) {
                let seq = running.event.seq();
                running.has_row = true;
                self.window.settle(seq);
                self.in_doubt.insert(seq);
                self.unwritten.changes.push(Change::Wait { seq, lane });
                *self.blocked.entry(lane).or_default() += 1;
            }
            self.make_wait(lane);
        }
    }

    /// Gives rows to what is queued in a lane.
    fn make_wait(&mut self, lane: Lane) {
        for seq in self.window.take_lane(lane) {
            self.unwritten.changes.push(Change::Wait { seq, lane });
            *self.blocked.entry(lane).or_default() += 1;
        }
    }

    /// Has the store write outcomes, or else look for due rows.
    fn use_store(&mut self, now: Timestamp) {
        if self.store_is_busy() || self.store_pause.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.store_pause = None;
        let inbox = self.inbox.clone();
        let id = self.id;
        if let Some(settlement) = self.settlement(false) {
            self.writing = Some(settlement.clone());
            self.tasks
                .spawn(async move { Report::Settled(inbox.settle(id, settlement).await) });
        } else if self.wants_due(now) {
            // Twice what can run: a stream has at most two due rows.
            let limit = 2 * self.settings.concurrency + 2;
            let until = if self.health.is_down() {
                Timestamp::from_millis(i64::MAX)
            } else {
                now
            };
            self.look_for_due = false;
            self.looking = true;
            self.tasks
                .spawn(async move { Report::Due(inbox.due(id, until, limit).await) });
        }
    }

    fn store_is_busy(&self) -> bool {
        self.writing.is_some() || self.looking
    }

    fn wants_due(&self, now: Timestamp) -> bool {
        let timer = self.next_due.is_some_and(|due| due <= now);
        let probe = self.health.next_probe().is_some_and(|next| next <= now);
        (self.look_for_due || timer || probe)
            && self.due.is_empty()
            && self.attempts.len() < self.settings.concurrency
    }

    /// What is to be written now.
    fn settlement(&mut self, position_at_once: bool) -> Option<Settlement> {
        let position = self.window.position();
        let moved = position > self.written_position;
        let timely = position_at_once || Instant::now() >= self.next_position;
        if self.unwritten.changes.is_empty() && !(moved && timely) {
            return None;
        }
        self.next_position = Instant::now() + POSITION_EVERY;
        let changes = std::mem::take(&mut self.unwritten.changes);
        Some(Settlement {
            position: moved.then_some(position),
            changes,
        })
    }

    fn read(&mut self) {
        let wanted = self.window.room().min(READ);
        // A little for every probe that failed: it may be only the streams read so far that fail.
        let may_probe = self.read_for_probe || self.blocked.is_empty();
        let stuck = self.health.is_down() && (self.window.len() > 0 || !may_probe);
        let held_up = self.reading || self.store_pause.is_some();
        if held_up || wanted == 0 || stuck || self.blocked.len() >= BLOCKED_LANES {
            return;
        }
        // Registered before looking: what is committed from here on wakes the loop.
        if *self.committed.borrow_and_update() <= self.window.read_to() {
            return;
        }
        self.reading = true;
        self.read_for_probe = false;
        let inbox = self.inbox.clone();
        let after = self.window.read_to();
        self.tasks
            .spawn(async move { Report::Read(inbox.after(after, wanted, READ_BYTES).await) });
    }

    fn take(&mut self, ended: Result<(Id, Report), JoinError>) {
        match ended {
            Ok((id, Report::Attempted(outcome))) => self.attempted(id, outcome),
            Ok((_, Report::Read(events))) => self.took_events(events),
            Ok((_, Report::Due(rows))) => self.took_due(rows),
            Ok((_, Report::Settled(result))) => self.settled(result),
            Ok((_, Report::RowsChanged)) => self.look_for_due = true,
            // Released: it stays as it was, and comes again.
            Err(error) if error.is_cancelled() => drop(self.attempts.remove(&error.id())),
            Err(error) if self.attempts.contains_key(&error.id()) => {
                self.attempted(error.id(), Err(Failure::retry("the handler panicked")));
            }
            Err(_) => self.recover(),
        }
    }

    fn took_events(&mut self, events: Result<Vec<Event>, StoreError>) {
        self.reading = false;
        let Ok(events) = events else {
            self.pause_store();
            return;
        };
        for event in events {
            let seq = event.seq();
            self.window.read(seq);
            if self.settled_before.remove(&seq) || !self.settings.wants(&event) {
                continue;
            }
            let lane = match self.settings.order {
                Order::Stream => event.lane(),
                Order::None => seq.unsigned_abs() << 1,
            };
            if let Some(rows) = self.blocked.get_mut(&lane) {
                *rows += 1;
                self.unwritten.changes.push(Change::Wait { seq, lane });
            } else {
                self.window.push(lane, event);
            }
        }
    }

    fn took_due(&mut self, rows: Result<(Vec<Owed>, Option<Timestamp>), StoreError>) {
        self.looking = false;
        let Ok((rows, next)) = rows else {
            self.look_for_due = true;
            self.pause_store();
            return;
        };
        self.next_due = next;
        let found = rows.len();
        for owed in rows {
            if self.in_doubt.insert(owed.event.seq()) {
                self.due.push(owed);
            }
        }
        // There may be more; whatever ends next looks again.
        self.look_for_due |= found > 2 * self.settings.concurrency;
        let nothing_left = found == 0
            && self.window.len() == 0
            && self.attempts.is_empty()
            // What failed while this was being read has its row there.
            && self.unwritten.changes.is_empty();
        if nothing_left && self.health.is_down() {
            self.health.nothing_to_probe_with();
        }
    }

    fn settled(&mut self, result: Result<(), StoreError>) {
        let Some(settlement) = self.writing.take() else {
            return;
        };
        if result.is_err() {
            let newer = std::mem::replace(&mut self.unwritten.changes, settlement.changes);
            self.unwritten.changes.extend(newer);
            self.pause_store();
            return;
        }
        self.written_position = settlement.position.unwrap_or(self.written_position);
        for change in settlement.changes {
            self.look_for_due = true;
            match change {
                // No row that was read, or that of a running attempt.
                Change::Wait { .. } => {}
                Change::Done { seq, .. } | Change::Park { seq, .. } | Change::Retry { seq, .. } => {
                    self.in_doubt.remove(&seq);
                }
            }
        }
    }

    /// A task that was no attempt panicked: whatever it was, it did not do its work.
    fn recover(&mut self) {
        tracing::error!(
            handler.name = self.name,
            "a task of the dispatcher panicked"
        );
        self.reading = false;
        self.looking = false;
        self.look_for_due = true;
        self.settled(Err(StoreError::Failed));
        self.pause_store();
    }

    fn pause_store(&mut self) {
        self.store_pause = Some(Instant::now() + STORE_PAUSE);
    }

    fn attempted(&mut self, id: Id, outcome: Outcome) {
        let Some(mut attempt) = self.attempts.remove(&id) else {
            return;
        };
        self.busy.remove(&stream_lane(attempt.lane));
        let now = self.clock.now();
        attempt.attempts.count += 1;
        let first = *attempt.attempts.first.get_or_insert(attempt.began);
        let discarded = self.discarded.remove(&attempt.event.seq());
        let result = match outcome {
            Ok(()) => {
                if self.health.succeeded(attempt.lane) {
                    tracing::info!(handler.name = self.name, "the handler works again");
                    self.look_for_due = true;
                }
                self.status.succeeded(now);
                self.done(&attempt);
                DeliveryOutcome::Done
            }
            Err(failure) => {
                attempt.attempts.error = failure.reason().chars().take(500).collect();
                self.status.failed(now, &attempt.attempts.error);
                let (rejected, after) = match &failure {
                    Failure::Reject { .. } => (self.health.believes_reject(), None),
                    Failure::Retry { after, .. } => (false, *after),
                };
                if !rejected {
                    self.note_failure(&attempt, now, after);
                }
                if discarded {
                    self.done(&attempt);
                    DeliveryOutcome::Parked
                } else if rejected || now.since(first) >= self.settings.retry.max_age {
                    self.park(&attempt, now);
                    DeliveryOutcome::Parked
                } else {
                    self.retry(&attempt, now, after);
                    DeliveryOutcome::Retry
                }
            }
        };
        self.metrics
            .count_delivery(&self.name, result, attempt.timer.elapsed());
    }

    fn note_failure(&mut self, attempt: &Attempt, now: Timestamp, after: Option<Duration>) {
        let retry = &self.settings.retry;
        let after = after.unwrap_or_default().min(retry.max);
        let chance = rand::random::<f64>();
        let went_down = self.health.failed(attempt.lane, now, after, retry, chance);
        self.read_for_probe = true;
        if went_down {
            tracing::warn!(
                handler.name = self.name,
                error = attempt.attempts.error,
                "the handler fails for everything: it is probed until it works again, its backlog stays in the inbox"
            );
        }
    }

    fn done(&mut self, attempt: &Attempt) {
        let seq = attempt.event.seq();
        if attempt.has_row {
            self.unwritten.changes.push(Change::Done {
                seq,
                lane: attempt.lane,
            });
            self.unblock(attempt.lane);
        } else {
            self.window.settle(seq);
        }
    }

    fn park(&mut self, attempt: &Attempt, at: Timestamp) {
        let seq = attempt.event.seq();
        tracing::warn!(
            handler.name = self.name,
            event.id = %attempt.event.id(),
            attempts = attempt.attempts.count,
            error = attempt.attempts.error,
            "a delivery is parked"
        );
        let change = Change::Park {
            seq,
            lane: attempt.lane,
            attempts: attempt.attempts.clone(),
            at,
        };
        self.unwritten.changes.push(change);
        if attempt.has_row {
            self.unblock(attempt.lane);
        } else {
            self.window.settle(seq);
        }
    }

    fn retry(&mut self, attempt: &Attempt, now: Timestamp, after: Option<Duration>) {
        let retry = &self.settings.retry;
        let pause = backoff(retry, attempt.attempts.count, rand::random());
        let due = now.plus(pause.max(after.unwrap_or_default().min(retry.max)));
        let (seq, lane) = (attempt.event.seq(), attempt.lane);
        tracing::debug!(
            handler.name = self.name,
            event.id = %attempt.event.id(),
            attempts = attempt.attempts.count,
            error = attempt.attempts.error,
            "a delivery failed and is tried again"
        );
        self.unwritten.changes.push(Change::Retry {
            seq,
            lane,
            attempts: attempt.attempts.clone(),
            due,
        });
        if !attempt.has_row {
            self.window.settle(seq);
            *self.blocked.entry(lane).or_default() += 1;
            self.make_wait(lane);
        }
    }

    /// A lane has one row less that is due or waiting.
    fn unblock(&mut self, lane: Lane) {
        if let Some(rows) = self.blocked.get_mut(&lane) {
            *rows -= 1;
            if *rows == 0 {
                self.blocked.remove(&lane);
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Replay {
                selection,
                dry_run,
                reply,
            } => {
                let read_to = self.window.read_to();
                let mut owed: HashSet<Seq> = self
                    .window
                    .unsettled()
                    .chain(self.in_doubt.iter().copied())
                    .collect();
                owed.extend(self.unwritten.changes.iter().map(|change| match change {
                    Change::Wait { seq, .. }
                    | Change::Done { seq, .. }
                    | Change::Park { seq, .. }
                    | Change::Retry { seq, .. } => seq,
                }));
                let owes = Arc::new(move |seq: Seq| seq > read_to || owed.contains(&seq));
                let settings = self.settings.clone();
                let wants = Arc::new(move |event: &Event| settings.wants(event));
                let (inbox, id) = (self.inbox.clone(), self.id);
                self.tasks.spawn(async move {
                    let _ = reply.send(inbox.replay(id, selection, wants, owes, dry_run).await);
                    Report::RowsChanged
                });
            }
            Command::Discard {
                selection,
                dry_run,
                reply,
            } => {
                let result = self.inbox.discard(self.id, selection, dry_run).await;
                if let (Ok((_, lanes)), false) = (&result, dry_run) {
                    lanes.iter().for_each(|lane| self.unblock(*lane));
                    self.forget(selection);
                }
                self.look_for_due = true;
                let _ = reply.send(result.map(|(count, _)| count));
            }
            Command::Stop { .. } => {}
        }
    }

    /// A discarded delivery may be on its way.
    fn forget(&mut self, selection: Selection) {
        let Selection::Event(seq) = selection else {
            return;
        };
        if let Some(at) = self.due.iter().position(|owed| owed.event.seq() == seq) {
            self.due.remove(at);
            self.in_doubt.remove(&seq);
        }
        if self
            .attempts
            .values()
            .any(|attempt| attempt.has_row && attempt.event.seq() == seq)
        {
            self.discarded.insert(seq);
        }
    }

    /// Lets what runs finish, releases what does not, and has everything remembered.
    async fn finish(mut self, grace: Duration) {
        let until = Instant::now() + grace;
        let mut released = false;
        while !self.tasks.is_empty() {
            tokio::select! {
                Some(ended) = self.tasks.join_next_with_id() => self.take(ended),
                () = sleep_until(until), if !released => {
                    self.attempts.values().for_each(|attempt| attempt.task.abort());
                    released = true;
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
            tracing::warn!(
                handler.name = self.name,
                "the last outcomes could not be stored, some events will come again"
            );
        }
    }

    fn show(&self) {
        let state = if self.health.is_down() {
            State::Failing
        } else {
            State::Running
        };
        self.status.show(InMemory {
            state,
            read_to: self.window.read_to(),
            oldest: self.window.oldest(),
            unsettled: self.window.len() as u64,
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
