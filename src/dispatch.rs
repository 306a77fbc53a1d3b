//! Hands what the inbox holds to the handlers, each at its own pace.
//!
//! Every handler has a loop of its own (`worker`), so that a slow or broken one is nobody else's business. Order per stream,
//! at least once: an event is remembered as done only after its handler said so. What one handler cannot do now is tried again
//! with pauses; what it refuses, or could not do for too long, is parked.
//!
//! Where several processes share an inbox, each handler is at work in one of them (`leases`).

mod deletion;
mod health;
mod leases;
mod projection;
mod read_ahead;
pub(crate) mod settings;
mod status;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use self::leases::{HeldLease, RemoteCommand};
use self::projection::ProjectionWorker;
use self::settings::HandlerSettings;
pub(crate) use self::status::{HandlerState, Last};
use self::status::{Status, WorkerView};
use self::worker::{LeasedHandler, Worker, WorkerCommand};
use crate::clock::Clock;
use crate::event::{Event, Seq};
use crate::handler::Consumer;
use crate::inbox::delivery::{HandlerId, OutOfLine, RowCounts, RowState, Selection};
use crate::inbox::{Inbox, StoreError};
use crate::metrics::{HandlerLabel, Metrics};

/// Between tries to have handlers begin that a failing store kept from it.
const RETRY_START: Duration = Duration::from_secs(1);

/// A handler that is ready to take events.
#[derive(Clone)]
pub(crate) struct Built {
    /// Its section of the configuration.
    pub settings: Arc<HandlerSettings>,
    /// The handler itself.
    pub handler: Consumer,
}

/// All handlers at work.
pub(crate) struct Dispatch {
    inbox: Inbox,
    clock: Clock,
    metrics: Arc<Metrics>,
    configured: Mutex<BTreeMap<String, ConfiguredHandler>>,
    /// The leases of those at work and of those that leave.
    held_leases: Mutex<HashMap<HandlerId, HeldLease>>,
    /// The loops that were told to stop and have not ended. Nothing else delivers for their handlers before they have.
    stopping_workers: watch::Sender<HashMap<HandlerId, StoppingWorker>>,
    /// One change of the handlers at a time.
    change_lock: Arc<tokio::sync::Mutex<()>>,
    /// One deletion at a time.
    deletion_lock: tokio::sync::Mutex<()>,
    stopping: AtomicBool,
}

/// A handler that is configured.
struct ConfiguredHandler {
    id: HandlerId,
    built: Built,
    /// None while another receiver delivers for it.
    worker: Option<WorkerHandle>,
}

impl ConfiguredHandler {
    fn is_projection(&self) -> bool {
        matches!(self.built.handler, Consumer::Projection(_))
    }
}

struct WorkerHandle {
    id: HandlerId,
    epoch: Option<i64>,
    timeout: Duration,
    status: Arc<Status>,
    commands: mpsc::Sender<WorkerCommand>,
    task: JoinHandle<()>,
}

struct StoppingWorker {
    status: Arc<Status>,
    commands: mpsc::Sender<WorkerCommand>,
}

/// How a handler is doing.
#[derive(Debug, Clone)]
pub(crate) struct HandlerReport {
    /// Its name.
    pub name: String,
    /// The `type` of its target; none if it is code.
    pub target_type: Option<&'static str>,
    /// Whether it works.
    pub state: HandlerState,
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
    pub progress: DeliveryProgress,
    /// What is known of a delivery that is out of line.
    pub row: Option<OutOfLine>,
}

/// How far a handler is with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryProgress {
    /// Its filters do not let it through.
    NotWanted,
    /// It is done, was discarded, or had been stored when the handler began.
    Done,
    /// It was read, and may be done in a moment or be so already.
    InProgress,
    /// The handler has not come so far.
    Ahead,
    /// It failed, or waits behind one that did.
    OutOfLine(RowState),
}

impl DeliveryProgress {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::NotWanted,
        Self::Done,
        Self::InProgress,
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
            Self::InProgress => "at work",
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
            configured: Mutex::default(),
            held_leases: Mutex::default(),
            stopping_workers: watch::Sender::default(),
            change_lock: Arc::default(),
            deletion_lock: tokio::sync::Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Has exactly these handlers at work: new ones begin, missing ones stop, the others do not notice. A changed one finishes
    /// what it is at under its old settings and goes on under the new ones then; nothing else waits for that.
    pub(crate) async fn change_to(
        self: &Arc<Self>,
        handlers: BTreeMap<String, Built>,
    ) -> Result<(), StoreError> {
        let _guard = self.change_lock.lock().await;
        let starts = handlers
            .iter()
            .map(|(name, built)| (name.clone(), built.settings.start));
        // If the store does not work now, nothing has been stopped.
        let registered = self.inbox.register(starts.collect()).await?;
        let removed = self.remove_handlers(|name, configured| {
            handlers
                .get(name)
                .is_none_or(|built| built.settings != configured.built.settings)
        });
        for worker in removed {
            self.stop_worker(worker, None);
        }
        {
            let mut configured = self.configured();
            for ((name, built), registered) in handlers.into_iter().zip(registered) {
                if let Consumer::Handler(_) = built.handler {
                    // Its counters begin at 0 here, also while it is at work elsewhere.
                    self.metrics.of_handler(&name);
                }
                configured.entry(name).or_insert(ConfiguredHandler {
                    id: registered.id,
                    built,
                    worker: None,
                });
            }
        }
        // The change is made. What cannot begin now does so as soon as the store lets it.
        if self.renew_and_apply().await.is_err() {
            tokio::spawn(self.clone().start_later());
        }
        Ok(())
    }

    /// Has a loop stop, and takes up its handler again when it has ended. Without a grace it may use the time that an attempt
    /// may take.
    fn stop_worker(self: &Arc<Self>, worker: WorkerHandle, grace: Option<Duration>) {
        let stopping = StoppingWorker {
            status: worker.status,
            commands: worker.commands.clone(),
        };
        self.stopping_workers.send_modify(|all| {
            all.insert(worker.id, stopping);
        });
        let dispatch = self.clone();
        tokio::spawn(async move {
            let grace = grace.unwrap_or(worker.timeout);
            let _ = worker.commands.send(WorkerCommand::Stop { grace }).await;
            if worker.task.await.is_err() {
                tracing::error!("the loop of a handler had panicked");
            }
            dispatch.worker_ended(worker.id).await;
        });
    }

    /// A loop has ended. If its handler is configured, the next loop begins.
    async fn worker_ended(self: Arc<Self>, ended: HandlerId) {
        let started = {
            let _guard = self.change_lock.lock().await;
            self.stopping_workers.send_modify(|all| {
                all.remove(&ended);
            });
            self.start_missing().await
        };
        if !started {
            self.start_later().await;
        }
    }

    /// Has those begin that are configured and do not run, as soon as the store lets them.
    async fn start_later(self: Arc<Self>) {
        loop {
            sleep(RETRY_START).await;
            let _guard = self.change_lock.lock().await;
            if self.start_missing().await {
                return;
            }
        }
    }

    /// Has those begin that are configured: whether all that may have, which are none once it stops.
    async fn start_missing(self: &Arc<Self>) -> bool {
        self.stopping.load(Ordering::SeqCst) || self.renew_and_apply().await.is_ok()
    }

    fn start_worker(&self, name: &str, built: &Built, leased: LeasedHandler) -> WorkerHandle {
        let status = Arc::new(Status::starting_at(
            leased.registered.position,
            leased.registered.paused,
        ));
        let (commands, received) = mpsc::channel(16);
        let (id, epoch) = (leased.registered.id, leased.epoch);
        let task = match &built.handler {
            Consumer::Handler(handler) => {
                let worker = Worker::new(
                    name.to_owned(),
                    leased,
                    built.settings.clone(),
                    handler.clone(),
                    self.inbox.clone(),
                    self.clock.clone(),
                    self.metrics.of_handler(name),
                    status.clone(),
                );
                tokio::spawn(worker.run(received))
            }
            Consumer::Projection(projection) => {
                let worker = ProjectionWorker::new(
                    leased,
                    projection.clone(),
                    self.inbox.clone(),
                    status.clone(),
                );
                projection::spawn(name, worker, received)
            }
        };
        WorkerHandle {
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
            let _guard = self.change_lock.lock().await;
            for stopping in self.stopping_workers.borrow().values() {
                let _ = stopping.commands.try_send(WorkerCommand::Stop { grace });
            }
            for worker in self.remove_handlers(|_, _| true) {
                self.stop_worker(worker, Some(grace));
            }
        }
        let _ = self
            .stopping_workers
            .subscribe()
            .wait_for(HashMap::is_empty)
            .await;
    }

    fn configured(&self) -> MutexGuard<'_, BTreeMap<String, ConfiguredHandler>> {
        self.configured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_handlers(
        &self,
        must_stop: impl Fn(&str, &ConfiguredHandler) -> bool,
    ) -> Vec<WorkerHandle> {
        self.configured()
            .extract_if(.., |name, configured| must_stop(name, configured))
            .filter_map(|(_, configured)| configured.worker)
            .collect()
    }

    /// The number of a handler in the inbox.
    pub(crate) fn id(&self, name: &str) -> Result<HandlerId, ControlError> {
        let configured = self.configured();
        let configured = configured
            .get(name)
            .filter(|configured| !configured.is_projection());
        Ok(configured.ok_or(ControlError::NoSuchHandler)?.id)
    }

    /// The number of a part of livehook, if it is here that events are delivered to it.
    pub(crate) fn projection_here(&self, name: &str) -> Option<HandlerId> {
        let configured = self.configured();
        let configured = configured
            .get(name)
            .filter(|configured| configured.worker.is_some())?;
        Some(configured.id)
    }

    /// The number of a part of livehook, wherever events are delivered to it.
    pub(crate) fn projection_id(&self, name: &str) -> Option<HandlerId> {
        Some(self.configured().get(name)?.id)
    }

    /// Makes deliveries due again, as far as the handler's filters let them through: how many. A dry run only counts.
    pub(crate) async fn replay(
        &self,
        name: &str,
        selection: Selection,
        dry_run: bool,
    ) -> Result<u64, ControlError> {
        self.id(name)?;
        let command = RemoteCommand::Replay { selection, dry_run };
        self.send(name, command).await
    }

    /// Gives deliveries up for good: how many. A dry run only counts.
    pub(crate) async fn discard(
        &self,
        name: &str,
        selection: Selection,
        dry_run: bool,
    ) -> Result<u64, ControlError> {
        self.id(name)?;
        let command = RemoteCommand::Discard { selection, dry_run };
        self.send(name, command).await
    }

    /// What became of an event at each handler, by name.
    pub(crate) async fn deliveries(
        &self,
        event: &Event,
    ) -> Result<Vec<DeliveryReport>, StoreError> {
        let handlers: Vec<_> = {
            let configured = self.configured();
            let handlers = configured
                .iter()
                .filter(|(_, configured)| !configured.is_projection());
            let targets = handlers.map(|(name, configured)| {
                let read_to = configured
                    .worker
                    .as_ref()
                    .map(|worker| worker.status.view().read_to);
                let wants = configured.built.settings.wants(event);
                (name.clone(), configured.id, wants, read_to)
            });
            targets.collect()
        };
        let mut reports = Vec::with_capacity(handlers.len());
        for (handler, id, wants, read_to) in handlers {
            // In this order: what fails meanwhile is out of line rather than done.
            let position = self.inbox.position(id).await?;
            let mut row = self.inbox.out_of_line(id, event.seq()).await?;
            if let Some(row) = row.as_mut().filter(|row| row.state != RowState::Parked) {
                let wall_time = |steady| self.clock.shown(steady);
                row.attempts.first = row.attempts.first.map(wall_time);
                row.due = row.due.map(wall_time);
            }
            let progress = match &row {
                // Replayed, or its turn has just come.
                Some(row) if row.state == RowState::Due && row.attempts.count == 0 => {
                    DeliveryProgress::OutOfLine(RowState::Waiting)
                }
                Some(row) => DeliveryProgress::OutOfLine(row.state),
                None if !wants => DeliveryProgress::NotWanted,
                None if event.seq() <= position => DeliveryProgress::Done,
                None if read_to.is_some_and(|read_to| event.seq() <= read_to) => {
                    DeliveryProgress::InProgress
                }
                None => DeliveryProgress::Ahead,
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
        self.send(name, RemoteCommand::Pause { paused })
            .await
            .map(drop)
    }

    /// Asks whoever delivers for the handler, here or elsewhere.
    async fn send(&self, name: &str, command: RemoteCommand) -> Result<u64, ControlError> {
        let (id, is_here) = {
            let configured = self.configured();
            let configured = configured.get(name).ok_or(ControlError::NoSuchHandler)?;
            (configured.id, configured.worker.is_some())
        };
        if is_here || !self.inbox.is_shared() {
            Ok(self.send_here(name, command).await?)
        } else {
            self.send_remote(id, command).await
        }
    }

    /// How every handler is doing, by name.
    pub(crate) async fn report(&self) -> Result<Vec<HandlerReport>, StoreError> {
        self.report_of(|configured| !configured.is_projection())
            .await
    }

    async fn report_of(
        &self,
        wanted: impl Fn(&ConfiguredHandler) -> bool,
    ) -> Result<Vec<HandlerReport>, StoreError> {
        let handlers: Vec<_> = {
            let configured = self.configured();
            let stopping = self.stopping_workers.borrow();
            let described = |configured: &ConfiguredHandler| {
                let worker = configured.worker.as_ref().map(|worker| &worker.status);
                let stopped = || stopping.get(&configured.id).map(|worker| &worker.status);
                (
                    configured.id,
                    worker.or_else(stopped).cloned(),
                    configured.built.settings.target_type,
                )
            };
            configured
                .iter()
                .filter(|(_, configured)| wanted(configured))
                .map(|(name, configured)| (name.clone(), described(configured)))
                .collect()
        };
        let last_seq = *self.inbox.committed().borrow();
        let mut reports = Vec::with_capacity(handlers.len());
        for (name, (id, status, target_type)) in handlers {
            // In this order: what moves from memory into a row meanwhile is counted twice rather than not at all.
            let (view, last) = match status {
                Some(status) => (status.view(), status.last()),
                None => (
                    WorkerView::elsewhere(self.inbox.position(id).await?),
                    Last::default(),
                ),
            };
            let rows = self.inbox.count(id).await?;
            let unread = (last_seq - view.read_to).max(0).unsigned_abs();
            let lag_events = unread + view.open + rows.due + rows.waiting;
            let first_unread: Option<Seq> = (unread > 0).then_some(view.read_to + 1);
            let lag = match [first_unread, view.oldest, rows.oldest]
                .into_iter()
                .flatten()
                .min()
            {
                Some(oldest) => self.inbox.age_from(oldest).await?.unwrap_or_default(),
                None => Duration::ZERO,
            };
            let state = view.state;
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
        let projections = self.report_of(ConfiguredHandler::is_projection).await?;
        let lag = projections
            .iter()
            .map(|report| report.lag_events)
            .sum::<u64>();
        let signed = i64::try_from(lag).unwrap_or(i64::MAX);
        self.metrics.streams_lag_events.set(signed);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
