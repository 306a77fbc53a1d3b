//! Delivers the events of the inbox to the handlers, to each at its own pace.
//!
//! Each handler has a worker (`worker`), so a slow or broken handler does not hold up another one.
//! Events of one stream are delivered in order, and each event at least once: a delivery is stored
//! as done only after the handler has said so. A failed delivery is retried after a pause. A
//! rejected delivery is parked, and so is one that has failed for too long.
//!
//! If several processes share an inbox, each handler has its worker in one of them (`leases`).

mod deletion;
mod health;
mod leases;
mod projection;
mod read_ahead;
mod report;
pub(crate) mod settings;
mod status;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::leases::{HeldLease, RemoteCommand};
use self::projection::ProjectionWorker;
pub(crate) use self::report::{DeliveryProgress, DeliveryReport, HandlerReport};
use self::settings::HandlerSettings;
pub(crate) use self::status::HandlerState;
use self::status::Status;
use self::worker::{LeasedHandler, Worker, WorkerCommand};
use crate::clock::Clock;
use crate::handler::Consumer;
use crate::inbox::delivery::{HandlerId, Selection};
use crate::inbox::{Inbox, StoreError};
use crate::metrics::Metrics;

/// The pause between tries to start workers while the store fails.
const RETRY_START: Duration = Duration::from_secs(1);

/// A handler that is ready for events.
#[derive(Clone)]
pub(crate) struct Built {
    /// The handler's section of the configuration.
    pub settings: Arc<HandlerSettings>,
    pub handler: Consumer,
}

/// The dispatcher: all handlers and their workers.
pub(crate) struct Dispatch {
    inbox: Inbox,
    clock: Clock,
    metrics: Arc<Metrics>,
    configured: Mutex<BTreeMap<String, ConfiguredHandler>>,
    /// The leases of running and of stopping workers.
    held_leases: Mutex<HashMap<HandlerId, HeldLease>>,
    /// Workers that have not ended yet. Their handlers get no other worker before that.
    stopping_workers: watch::Sender<HashMap<HandlerId, StoppingWorker>>,
    /// Held while handlers change.
    change_lock: Arc<tokio::sync::Mutex<()>>,
    /// Held while events are deleted.
    deletion_lock: tokio::sync::Mutex<()>,
    stopping: AtomicBool,
}

struct ConfiguredHandler {
    id: HandlerId,
    built: Built,
    /// None while another process delivers for the handler.
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

/// Why a command to a handler failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("there is no such handler")]
    NoSuchHandler,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Dispatch {
    /// A dispatcher without handlers; [`Dispatch::change_to`] adds them.
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

    /// Makes these the configured handlers. New handlers start, missing ones stop, unchanged ones
    /// continue. A changed handler finishes its running attempts under its old settings and then
    /// continues under the new ones; no other handler waits for that.
    pub(crate) async fn change_to(
        self: &Arc<Self>,
        handlers: BTreeMap<String, Built>,
    ) -> Result<(), StoreError> {
        let _guard = self.change_lock.lock().await;
        let starts = handlers
            .iter()
            .map(|(name, built)| (name.clone(), built.settings.start));
        // This comes first: if the store fails, no worker has stopped.
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
                    // Its counters exist from now on, even if another process delivers for it.
                    self.metrics.of_handler(&name);
                }
                configured.entry(name).or_insert(ConfiguredHandler {
                    id: registered.id,
                    built,
                    worker: None,
                });
            }
        }
        // The change is complete. Workers that cannot start now start as soon as the store works.
        if self.renew_and_apply().await.is_err() {
            tokio::spawn(self.clone().start_later());
        }
        Ok(())
    }

    /// Stops a worker. When it has ended, starts its handler again if that is still configured.
    /// Without a `grace` the worker may take as long as one attempt may.
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
                tracing::error!("the worker of a handler has panicked");
            }
            dispatch.worker_ended(worker.id).await;
        });
    }

    /// Starts the next worker of the handler, if it is configured.
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

    /// Starts the missing workers as soon as the store works.
    async fn start_later(self: Arc<Self>) {
        loop {
            sleep(RETRY_START).await;
            let _guard = self.change_lock.lock().await;
            if self.start_missing().await {
                return;
            }
        }
    }

    /// Starts the missing workers, if there is no stop. `false`: the store failed.
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

    /// Stops all handlers. Running attempts get `grace` to finish.
    pub(crate) async fn stop(self: &Arc<Self>, grace: Duration) {
        self.stopping.store(true, Ordering::SeqCst);
        {
            let _guard = self.change_lock.lock().await;
            for stopping in self.stopping_workers.borrow().values() {
                let _ = stopping.commands.try_send(WorkerCommand::Stop { grace });
            }
            // The handlers stay in the list: who asks meanwhile must not believe that they are gone.
            for worker in self.take_workers(|_| true) {
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

    /// The number of a handler in the inbox. A projection is no handler.
    pub(crate) fn id(&self, name: &str) -> Result<HandlerId, ControlError> {
        let configured = self.configured();
        let configured = configured
            .get(name)
            .filter(|configured| !configured.is_projection());
        Ok(configured.ok_or(ControlError::NoSuchHandler)?.id)
    }

    /// The number of a projection, if this process delivers to it.
    pub(crate) fn projection_here(&self, name: &str) -> Option<HandlerId> {
        let configured = self.configured();
        let configured = configured
            .get(name)
            .filter(|configured| configured.worker.is_some())?;
        Some(configured.id)
    }

    /// The number of a projection, whichever process delivers to it.
    pub(crate) fn projection_id(&self, name: &str) -> Option<HandlerId> {
        Some(self.configured().get(name)?.id)
    }

    /// Makes deliveries due again if the filters still pass their events. A dry run only counts.
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

    /// Gives deliveries up for good, and returns how many. A dry run only counts.
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

    /// Pauses or resumes a handler. A pause outlives a restart.
    pub(crate) async fn pause(&self, name: &str, paused: bool) -> Result<(), ControlError> {
        self.id(name)?;
        self.send(name, RemoteCommand::Pause { paused })
            .await
            .map(drop)
    }

    /// Sends a command to the process that delivers for the handler.
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
}

#[cfg(test)]
mod tests;
