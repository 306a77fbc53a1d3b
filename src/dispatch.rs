//! Hands what the inbox holds to the handlers, each at its own pace.
//!
//! Every handler has a loop of its own (`runner`), so that a slow or broken one is nobody else's business. Order per stream,
//! at least once: an event is remembered as done only after its handler said so. What one handler cannot do now is tried again
//! with pauses; what it refuses, or could not do for too long, is parked.
//!
//! Where several processes share an inbox, each handler is at work in one of them (`leases`).

mod deletion;
mod health;
mod leases;
mod parts;
mod runner;
pub(crate) mod settings;
mod status;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use self::leases::{Held, Ordered};
use self::parts::Taking;
use self::runner::{Command, Leased, Runner};
use self::settings::HandlerSettings;
use self::status::{InMemory, Status};
pub(crate) use self::status::{Last, State};
use crate::clock::Clock;
use crate::event::{Event, Seq};
use crate::handler::Taker;
use crate::inbox::delivery::{HandlerId, OutOfLine, RowCounts, RowState, Selection};
use crate::inbox::{Inbox, StoreError};
use crate::metrics::{HandlerLabel, Metrics};

/// Between tries to have handlers begin that a failing store kept from it.
const ARRANGE_AGAIN: Duration = Duration::from_secs(1);

/// A handler that is ready to take events.
#[derive(Clone)]
pub(crate) struct Built {
    /// Its section of the configuration.
    pub settings: Arc<HandlerSettings>,
    /// The handler itself.
    pub handler: Taker,
}

/// All handlers at work.
pub(crate) struct Dispatch {
    inbox: Inbox,
    clock: Clock,
    metrics: Arc<Metrics>,
    at_work: Mutex<BTreeMap<String, AtWork>>,
    /// The leases of those at work and of those that leave.
    held: Mutex<HashMap<HandlerId, Held>>,
    /// The loops that were told to stop and have not ended. Nothing else delivers for their handlers before they have.
    leaving: watch::Sender<HashMap<HandlerId, Leaving>>,
    /// One change of the handlers at a time.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// One deletion at a time.
    deleting: tokio::sync::Mutex<()>,
    stopping: AtomicBool,
}

/// A handler that is configured.
struct AtWork {
    id: HandlerId,
    built: Built,
    /// None while another receiver delivers for it.
    work: Option<Work>,
}

impl AtWork {
    fn is_internal(&self) -> bool {
        matches!(self.built.handler, Taker::Parts(_))
    }
}

struct Work {
    id: HandlerId,
    epoch: Option<i64>,
    timeout: Duration,
    status: Arc<Status>,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

struct Leaving {
    status: Arc<Status>,
    commands: mpsc::Sender<Command>,
}

/// How a handler is doing.
#[derive(Debug, Clone)]
pub(crate) struct HandlerReport {
    /// Its name.
    pub name: String,
    /// The `type` of its target; none if it is code.
    pub target_type: Option<&'static str>,
    /// Whether it works.
    pub state: State,
    /// Events it has not finished; those that were not read yet count even if its filters will not let them through.
    pub lag_events: u64,
    /// The age of the oldest of them.
    pub lag: Duration,
    /// Its deliveries that are out of line.
    pub rows: RowCounts,
    /// Its last outcomes.
    pub last: Last,
}

/// What became of an event at a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeliveryReport {
    /// Its name.
    pub handler: String,
    /// How far it is.
    pub progress: Progress,
    /// What is known of a delivery that is out of line.
    pub row: Option<OutOfLine>,
}

/// How far a handler is with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Its filters do not let it through.
    NotWanted,
    /// It is done, was discarded, or had been stored when the handler began.
    Done,
    /// It was read, and may be done in a moment or be so already.
    AtWork,
    /// The handler has not come so far.
    Ahead,
    /// It failed, or waits behind one that did.
    OutOfLine(RowState),
}

impl Progress {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::NotWanted,
        Self::Done,
        Self::AtWork,
        Self::Ahead,
        Self::OutOfLine(RowState::Due),
        Self::OutOfLine(RowState::Waiting),
        Self::OutOfLine(RowState::Parked),
    ];

    /// It in one word or two.
    pub(crate) fn slug(self) -> &'static str {
        match self {
            Self::NotWanted => "not wanted",
            Self::Done => "done",
            Self::AtWork => "at work",
            Self::Ahead => "ahead",
            Self::OutOfLine(RowState::Due) => "retrying",
            Self::OutOfLine(RowState::Waiting) => "waiting",
            Self::OutOfLine(RowState::Parked) => "parked",
        }
    }
}

/// Why a handler did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ControlError {
    /// There is no handler of this name.
    #[error("there is no such handler")]
    NoSuchHandler,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Dispatch {
    /// Nothing is handed out before [`Dispatch::change_to`].
    pub(crate) fn new(inbox: Inbox, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self {
            inbox,
            clock,
            metrics,
            at_work: Mutex::default(),
            held: Mutex::default(),
            leaving: watch::Sender::default(),
            changing: Arc::default(),
            deleting: tokio::sync::Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Has exactly these handlers at work: new ones begin, missing ones stop, the others do not notice. A changed one finishes
    /// what it is at under its old settings and goes on under the new ones then; nothing else waits for that.
    pub(crate) async fn change_to(
        self: &Arc<Self>,
        handlers: BTreeMap<String, Built>,
    ) -> Result<(), StoreError> {
        let _changing = self.changing.lock().await;
        let starts = handlers
            .iter()
            .map(|(name, built)| (name.clone(), built.settings.start));
        // If the store does not work now, nothing has been stopped.
        let registered = self.inbox.register(starts.collect()).await?;
        let leaving = self.take_out(|name, at_work| {
            handlers
                .get(name)
                .is_none_or(|built| built.settings != at_work.built.settings)
        });
        for work in leaving {
            self.retire(work, None);
        }
        {
            let mut at_work = self.at_work();
            for ((name, built), registered) in handlers.into_iter().zip(registered) {
                if let Taker::Handler(_) = built.handler {
                    // Its counters begin at 0 here, also while it is at work elsewhere.
                    self.metrics.of_handler(&name);
                }
                at_work.entry(name).or_insert(AtWork {
                    id: registered.id,
                    built,
                    work: None,
                });
            }
        }
        // The change is made. What cannot begin now does so as soon as the store lets it.
        if self.renew_and_arrange().await.is_err() {
            tokio::spawn(self.clone().begin_later());
        }
        Ok(())
    }

    /// Has a loop stop, and takes up its handler again when it has ended. Without a grace it may use the time that an attempt
    /// may take.
    fn retire(self: &Arc<Self>, work: Work, grace: Option<Duration>) {
        let leaving = Leaving {
            status: work.status,
            commands: work.commands.clone(),
        };
        self.leaving.send_modify(|all| {
            all.insert(work.id, leaving);
        });
        let dispatch = self.clone();
        tokio::spawn(async move {
            let grace = grace.unwrap_or(work.timeout);
            let _ = work.commands.send(Command::Stop { grace }).await;
            if work.task.await.is_err() {
                tracing::error!("the loop of a handler had panicked");
            }
            dispatch.take_up(work.id).await;
        });
    }

    /// A loop has ended. If its handler is configured, the next loop begins.
    async fn take_up(self: Arc<Self>, ended: HandlerId) {
        let begun = {
            let _changing = self.changing.lock().await;
            self.leaving.send_modify(|all| {
                all.remove(&ended);
            });
            self.have_begun().await
        };
        if !begun {
            self.begin_later().await;
        }
    }

    /// Has those begin that are configured and do not run, as soon as the store lets them.
    async fn begin_later(self: Arc<Self>) {
        loop {
            sleep(ARRANGE_AGAIN).await;
            let _changing = self.changing.lock().await;
            if self.have_begun().await {
                return;
            }
        }
    }

    /// Has those begin that are configured: whether all that may have, which are none once it stops.
    async fn have_begun(self: &Arc<Self>) -> bool {
        self.stopping.load(Ordering::SeqCst) || self.renew_and_arrange().await.is_ok()
    }

    fn begin(&self, name: &str, built: &Built, leased: Leased) -> Work {
        let status = Arc::new(Status::starting_at(
            leased.registered.position,
            leased.registered.paused,
        ));
        let (commands, received) = mpsc::channel(16);
        let (id, epoch) = (leased.registered.id, leased.epoch);
        let task = match &built.handler {
            Taker::Handler(handler) => {
                let runner = Runner::new(
                    name.to_owned(),
                    leased,
                    built.settings.clone(),
                    handler.clone(),
                    self.inbox.clone(),
                    self.clock.clone(),
                    self.metrics.of_handler(name),
                    status.clone(),
                );
                tokio::spawn(runner.run(received))
            }
            Taker::Parts(parts) => {
                let taking = Taking {
                    name: name.to_owned(),
                    leased,
                    parts: parts.clone(),
                    inbox: self.inbox.clone(),
                    status: status.clone(),
                };
                parts::spawn(taking, received)
            }
        };
        Work {
            id,
            epoch,
            timeout: built.settings.timeout,
            status,
            commands,
            task,
        }
    }

    /// Stops all handlers; what runs may finish for so long.
    pub(crate) async fn stop(self: &Arc<Self>, grace: Duration) {
        self.stopping.store(true, Ordering::SeqCst);
        {
            let _changing = self.changing.lock().await;
            for leaving in self.leaving.borrow().values() {
                let _ = leaving.commands.try_send(Command::Stop { grace });
            }
            for work in self.take_out(|_, _| true) {
                self.retire(work, Some(grace));
            }
        }
        let _ = self.leaving.subscribe().wait_for(HashMap::is_empty).await;
    }

    fn at_work(&self) -> MutexGuard<'_, BTreeMap<String, AtWork>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_out(&self, leaves: impl Fn(&str, &AtWork) -> bool) -> Vec<Work> {
        self.at_work()
            .extract_if(.., |name, at_work| leaves(name, at_work))
            .filter_map(|(_, at_work)| at_work.work)
            .collect()
    }

    /// The number of a handler in the inbox.
    pub(crate) fn id(&self, name: &str) -> Result<HandlerId, ControlError> {
        let at_work = self.at_work();
        let at_work = at_work.get(name).filter(|at_work| !at_work.is_internal());
        Ok(at_work.ok_or(ControlError::NoSuchHandler)?.id)
    }

    /// The number of a part of livehook, if it is here that events are delivered to it.
    pub(crate) fn internal_here(&self, name: &str) -> Option<HandlerId> {
        let at_work = self.at_work();
        let at_work = at_work.get(name).filter(|at_work| at_work.work.is_some())?;
        Some(at_work.id)
    }

    /// The number of a part of livehook, wherever events are delivered to it.
    pub(crate) fn internal_id(&self, name: &str) -> Option<HandlerId> {
        Some(self.at_work().get(name)?.id)
    }

    /// Makes deliveries due again, as far as the handler's filters let them through: how many. A dry run only counts.
    pub(crate) async fn replay(
        &self,
        name: &str,
        selection: Selection,
        dry_run: bool,
    ) -> Result<u64, ControlError> {
        self.id(name)?;
        let ordered = Ordered::Replay { selection, dry_run };
        self.ask(name, ordered).await
    }

    /// Gives deliveries up for good: how many. A dry run only counts.
    pub(crate) async fn discard(
        &self,
        name: &str,
        selection: Selection,
        dry_run: bool,
    ) -> Result<u64, ControlError> {
        self.id(name)?;
        let ordered = Ordered::Discard { selection, dry_run };
        self.ask(name, ordered).await
    }

    /// What became of an event at each handler, by name.
    pub(crate) async fn deliveries(
        &self,
        event: &Event,
    ) -> Result<Vec<DeliveryReport>, StoreError> {
        let handlers: Vec<_> = {
            let at_work = self.at_work();
            let handlers = at_work.iter().filter(|(_, at_work)| !at_work.is_internal());
            let shown = handlers.map(|(name, at_work)| {
                let read_to = at_work
                    .work
                    .as_ref()
                    .map(|work| work.status.shown().read_to);
                let wants = at_work.built.settings.wants(event);
                (name.clone(), at_work.id, wants, read_to)
            });
            shown.collect()
        };
        let mut reports = Vec::with_capacity(handlers.len());
        for (handler, id, wants, read_to) in handlers {
            // In this order: what fails meanwhile is out of line rather than done.
            let position = self.inbox.position(id).await?;
            let mut row = self.inbox.out_of_line(id, event.seq()).await?;
            if let Some(row) = row.as_mut().filter(|row| row.state != RowState::Parked) {
                let shown = |steady| self.clock.shown(steady);
                row.attempts.first = row.attempts.first.map(shown);
                row.due = row.due.map(shown);
            }
            let progress = match &row {
                // Replayed, or its turn has just come.
                Some(row) if row.state == RowState::Due && row.attempts.count == 0 => {
                    Progress::OutOfLine(RowState::Waiting)
                }
                Some(row) => Progress::OutOfLine(row.state),
                None if !wants => Progress::NotWanted,
                None if event.seq() <= position => Progress::Done,
                None if read_to.is_some_and(|read_to| event.seq() <= read_to) => Progress::AtWork,
                None => Progress::Ahead,
            };
            reports.push(DeliveryReport {
                handler,
                progress,
                row,
            });
        }
        Ok(reports)
    }

    /// Has a handler begin no more attempts, or go on; also after a restart.
    pub(crate) async fn pause(&self, name: &str, paused: bool) -> Result<(), ControlError> {
        self.id(name)?;
        self.ask(name, Ordered::Pause { paused }).await.map(drop)
    }

    /// Asks whoever delivers for the handler, here or elsewhere.
    async fn ask(&self, name: &str, ordered: Ordered) -> Result<u64, ControlError> {
        let (id, is_here) = {
            let at_work = self.at_work();
            let at_work = at_work.get(name).ok_or(ControlError::NoSuchHandler)?;
            (at_work.id, at_work.work.is_some())
        };
        if is_here || !self.inbox.is_shared() {
            Ok(self.ask_here(name, ordered).await?)
        } else {
            self.send_command(id, ordered).await
        }
    }

    /// How every handler is doing, by name.
    pub(crate) async fn report(&self) -> Result<Vec<HandlerReport>, StoreError> {
        self.report_of(|at_work| !at_work.is_internal()).await
    }

    async fn report_of(
        &self,
        wanted: impl Fn(&AtWork) -> bool,
    ) -> Result<Vec<HandlerReport>, StoreError> {
        let handlers: Vec<_> = {
            let at_work = self.at_work();
            let leaving = self.leaving.borrow();
            let shown = |at_work: &AtWork| {
                let work = at_work.work.as_ref().map(|work| &work.status);
                let leaving = || leaving.get(&at_work.id).map(|leaving| &leaving.status);
                (
                    at_work.id,
                    work.or_else(leaving).cloned(),
                    at_work.built.settings.target_type,
                )
            };
            at_work
                .iter()
                .filter(|(_, at_work)| wanted(at_work))
                .map(|(name, at_work)| (name.clone(), shown(at_work)))
                .collect()
        };
        let last_seq = *self.inbox.committed().borrow();
        let mut reports = Vec::with_capacity(handlers.len());
        for (name, (id, status, target_type)) in handlers {
            // In this order: what moves from memory into a row meanwhile is counted twice rather than not at all.
            let (shown, last) = match status {
                Some(status) => (status.shown(), status.last()),
                None => (
                    InMemory::elsewhere(self.inbox.position(id).await?),
                    Last::default(),
                ),
            };
            let rows = self.inbox.count(id).await?;
            let unread = (last_seq - shown.read_to).max(0).unsigned_abs();
            let lag_events = unread + shown.unsettled + rows.due + rows.waiting;
            let first_unread: Option<Seq> = (unread > 0).then_some(shown.read_to + 1);
            let lag = match [first_unread, shown.oldest, rows.oldest]
                .into_iter()
                .flatten()
                .min()
            {
                Some(oldest) => self.inbox.age_from(oldest).await?.unwrap_or_default(),
                None => Duration::ZERO,
            };
            let state = shown.state;
            reports.push(HandlerReport {
                name,
                target_type,
                state,
                lag_events,
                lag,
                rows,
                last,
            });
        }
        Ok(reports)
    }

    /// Brings the gauges of the handlers up to date.
    pub(crate) async fn measure(&self) -> Result<(), StoreError> {
        for report in self.report().await? {
            let label = HandlerLabel {
                handler: report.name,
            };
            let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            self.metrics
                .handler_lag_events
                .get_or_create(&label)
                .set(signed(report.lag_events));
            self.metrics
                .handler_lag_seconds
                .get_or_create(&label)
                .set(report.lag.as_secs_f64());
            self.metrics
                .parked
                .get_or_create(&label)
                .set(signed(report.rows.parked));
        }
        let internal = self.report_of(AtWork::is_internal).await?;
        let behind = internal.iter().map(|report| report.lag_events).sum::<u64>();
        let signed = i64::try_from(behind).unwrap_or(i64::MAX);
        self.metrics.streams_lag_events.set(signed);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
