//! Leases: which handlers have their worker in this process, if several processes share an inbox.
//!
//! The inbox grants leases. Only the process that holds a handler's lease delivers for it. Leases
//! are renewed every second. The worker starts an attempt only if the lease will outlast it. So a
//! process that cannot renew, or was suspended for long, starts nothing that another one may have
//! started. A command for a handler of another process is sent there through the inbox.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::worker::{LeasedHandler, WorkerCommand};
use super::{Built, ControlError, Dispatch, WorkerHandle};
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::delivery::{CommandRequest, HandlerId, Lease, Selection};

/// How often leases are renewed, and handlers taken over or released.
const RENEW_EVERY: Duration = Duration::from_secs(1);
const MIN_TERM: Duration = Duration::from_secs(6);
/// How long a command may take in another process.
const COMMAND_WAIT: Duration = Duration::from_secs(20);

/// A lease, and the channel that tells its worker when it ends.
pub(super) struct HeldLease {
    lease: Lease,
    until: watch::Sender<Instant>,
}

/// A command to the process that delivers for a handler.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RemoteCommand {
    Replay { selection: Selection, dry_run: bool },
    Discard { selection: Selection, dry_run: bool },
    Pause { paused: bool },
    Forget { seqs: Vec<Seq> },
}

impl RemoteCommand {
    pub(super) fn with_reply(
        self,
        reply: oneshot::Sender<Result<u64, StoreError>>,
    ) -> WorkerCommand {
        match self {
            Self::Replay { selection, dry_run } => WorkerCommand::Replay {
                selection,
                dry_run,
                reply,
            },
            Self::Discard { selection, dry_run } => WorkerCommand::Discard {
                selection,
                dry_run,
                reply,
            },
            Self::Pause { paused } => WorkerCommand::Pause { paused, reply },
            Self::Forget { seqs } => WorkerCommand::Forget { seqs, reply },
        }
    }
}

/// So long that an attempt can start even if a third passes without a renewal.
fn term(timeout: Duration) -> Duration {
    MIN_TERM.max(timeout * 3 / 2)
}

impl Dispatch {
    /// Renews leases, and takes over and releases handlers, until the future is dropped. On SQLite
    /// there is nothing to do: one process has every handler.
    pub(crate) async fn keep_leases(self: Arc<Self>) {
        if !self.inbox.is_shared() {
            return;
        }
        let mut ticks = interval(RENEW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Ok(leases) = self.renew().await else {
                continue; // the leases expire by themselves
            };
            if self.stopping.load(Ordering::SeqCst) {
                continue;
            }
            // This may take long if the store is slow, and leases must be renewed meanwhile.
            if let Ok(guard) = self.change_lock.clone().try_lock_owned() {
                let dispatch = self.clone();
                tokio::spawn(async move {
                    let _guard = guard;
                    // A failure is repaired at the next tick.
                    let _ = dispatch.apply_leases(&leases).await;
                });
            }
            self.execute_remote_commands().await;
        }
    }

    fn held_leases(&self) -> MutexGuard<'_, HashMap<HandlerId, HeldLease>> {
        self.held_leases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the leases of all configured handlers and of stopping workers.
    pub(super) async fn renew(&self) -> Result<Vec<Lease>, StoreError> {
        let mut wanted: BTreeMap<HandlerId, Duration> = BTreeMap::new();
        let stopping = self.stopping.load(Ordering::SeqCst);
        for configured in self.configured().values().filter(|_| !stopping) {
            wanted.insert(configured.id, term(configured.built.settings.timeout));
        }
        for id in self.held_leases().keys() {
            wanted.entry(*id).or_insert(MIN_TERM);
        }
        let wanted: Vec<_> = wanted.into_iter().collect();
        let leases = self.inbox.lease(&wanted).await?;
        let mut held = self.held_leases();
        for lease in &leases {
            match held.get_mut(&lease.handler) {
                Some(held) if held.lease.epoch == lease.epoch => {
                    held.lease = *lease;
                    held.until.send_replace(lease.until);
                }
                _ => {
                    let (until, _) = watch::channel(lease.until);
                    let lost = held.insert(
                        lease.handler,
                        HeldLease {
                            lease: *lease,
                            until,
                        },
                    );
                    end_lease(lost.as_ref());
                }
            }
        }
        for (id, lost) in held.iter() {
            if !leases.iter().any(|lease| lease.handler == *id) {
                end_lease(Some(lost));
            }
        }
        Ok(leases)
    }

    pub(super) async fn renew_and_apply(self: &Arc<Self>) -> Result<(), StoreError> {
        let leases = self.renew().await?;
        self.apply_leases(&leases).await
    }

    /// Starts and stops workers, so that exactly the handlers with these leases have one.
    async fn apply_leases(self: &Arc<Self>, leases: &[Lease]) -> Result<(), StoreError> {
        let is_leased = |worker: &WorkerHandle, even_surplus: bool| {
            leases.iter().any(|lease| {
                (lease.handler, lease.epoch) == (worker.id, worker.epoch)
                    && lease.surplus <= even_surplus
            })
        };
        for lost in self.take_workers(|worker| !is_leased(worker, true)) {
            self.stop_worker(lost, Some(Duration::ZERO));
        }
        // Another process should have these. Running attempts finish first.
        for surplus in self.take_workers(|worker| !is_leased(worker, false)) {
            self.stop_worker(surplus, None);
        }
        for lease in leases {
            if self.stopping_workers.borrow().contains_key(&lease.handler) {
                continue; // this runs again when that worker has ended
            }
            let configured = self
                .configured()
                .iter()
                .find(|(_, configured)| configured.id == lease.handler)
                .map(|(name, configured)| {
                    (
                        name.clone(),
                        configured.built.clone(),
                        configured.worker.is_some(),
                    )
                });
            match configured {
                Some((_, _, true)) => {}
                Some((name, built, false))
                    if !lease.surplus && !self.stopping.load(Ordering::SeqCst) =>
                {
                    self.start_leased(lease, name, &built).await?;
                }
                _ => {
                    self.held_leases().remove(&lease.handler);
                    self.inbox.release(lease).await?;
                }
            }
        }
        self.held_leases()
            .retain(|id, _| leases.iter().any(|lease| lease.handler == *id));
        Ok(())
    }

    async fn start_leased(
        &self,
        lease: &Lease,
        name: String,
        built: &Built,
    ) -> Result<(), StoreError> {
        let registered = self.inbox.resume(lease.handler).await?;
        let until = self
            .held_leases()
            .get(&lease.handler)
            .filter(|held| held.lease.epoch == lease.epoch)
            .map(|held| held.until.subscribe());
        let mut configured = self.configured();
        if let (Some(until), Some(configured)) = (until, configured.get_mut(&name)) {
            let leased = LeasedHandler {
                registered,
                epoch: lease.epoch,
                until,
            };
            let begun = self.start_worker(&name, built, leased);
            configured.worker = Some(begun);
        }
        Ok(())
    }

    pub(super) fn take_workers(
        &self,
        must_stop: impl Fn(&WorkerHandle) -> bool,
    ) -> Vec<WorkerHandle> {
        self.configured()
            .values_mut()
            .filter_map(|configured| configured.worker.take_if(|worker| must_stop(worker)))
            .collect()
    }

    pub(super) async fn send_remote(
        &self,
        id: HandlerId,
        command: RemoteCommand,
    ) -> Result<u64, ControlError> {
        let what = serde_json::to_string(&command).map_err(|_| StoreError::Failed)?;
        Ok(self.inbox.send_command(id, &what, COMMAND_WAIT).await?)
    }

    /// Executes the commands of other processes for handlers of this one.
    async fn execute_remote_commands(self: &Arc<Self>) {
        let names: BTreeMap<HandlerId, String> = self
            .configured()
            .iter()
            .filter(|(_, configured)| configured.worker.is_some())
            .map(|(name, configured)| (configured.id, name.clone()))
            .collect();
        let ids: Vec<HandlerId> = names.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        for request in self.inbox.take_commands(&ids).await.unwrap_or_default() {
            let name = names.get(&request.handler).cloned().unwrap_or_default();
            tokio::spawn(self.clone().execute_remote(name, request));
        }
    }

    async fn execute_remote(self: Arc<Self>, name: String, request: CommandRequest) {
        let answer = match serde_json::from_str(&request.what) {
            Ok(command) => self.send_here(&name, command).await,
            // A newer release may send commands that this one does not know.
            Err(_) => Err(StoreError::Failed),
        };
        let _ = self.inbox.answer_command(&request, answer).await;
    }

    pub(super) async fn send_here(
        &self,
        name: &str,
        command: RemoteCommand,
    ) -> Result<u64, StoreError> {
        let commands = match self.sender_of(name) {
            Some(commands) => commands,
            None => timeout(COMMAND_WAIT, self.wait_for_sender(name))
                .await
                .unwrap_or_default()
                .ok_or(StoreError::Failed)?,
        };
        let (reply, answer) = oneshot::channel();
        // A stopping worker drops the command, and with it the reply.
        let _ = commands.send(command.with_reply(reply)).await;
        answer.await.unwrap_or(Err(StoreError::Failed))
    }

    fn sender_of(&self, name: &str) -> Option<mpsc::Sender<WorkerCommand>> {
        let configured = self.configured();
        let worker = configured.get(name)?.worker.as_ref()?;
        Some(worker.commands.clone())
    }

    /// Waits while the handler finishes its running attempts under its old settings.
    async fn wait_for_sender(&self, name: &str) -> Option<mpsc::Sender<WorkerCommand>> {
        let mut stopping = self.stopping_workers.subscribe();
        loop {
            {
                // One worker ends and the next one starts under this lock.
                let _guard = self.change_lock.lock().await;
                if let Some(commands) = self.sender_of(name) {
                    return Some(commands);
                }
                let id = self.configured().get(name)?.id;
                if !stopping.borrow_and_update().contains_key(&id) {
                    return None;
                }
            }
            stopping.changed().await.ok()?;
        }
    }
}

/// The worker under this lease starts no more attempts.
fn end_lease(lost: Option<&HeldLease>) {
    if let Some(lost) = lost {
        lost.until.send_replace(Instant::now());
    }
}
