//! Which handlers are at work here, where several processes share an inbox.
//!
//! The inbox gives out leases: whoever has one of a handler delivers for it, and nobody else does. They are renewed every second.
//! An attempt begins only if it will be over before the lease is ([`Worker`] sees to that), so a process that cannot renew, or
//! slept for long, begins nothing that another one may have begun. What one process is asked about a handler that is at work
//! in another is ordered there through the inbox.

use tokio::time::{MissedTickBehavior, interval, timeout};

use serde::{Deserialize, Serialize};

use super::*;
use crate::inbox::delivery::{CommandRequest, Lease};

/// How often leases are renewed, and handlers taken and given back.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// The shortest term of a lease.
const MIN_TERM: Duration = Duration::from_secs(6);
/// How long another process may take for what it was asked.
const COMMAND_WAIT: Duration = Duration::from_secs(20);

/// A lease, and word of its end for whoever delivers under it.
pub(super) struct HeldLease {
    lease: Lease,
    until: watch::Sender<Instant>,
}

/// What is asked of the process that delivers for a handler.
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

/// Long enough for an attempt to begin at any time although the lease is renewed only at a third of it.
fn term(timeout: Duration) -> Duration {
    MIN_TERM.max(timeout * 3 / 2)
}

impl Dispatch {
    /// Renews leases, takes handlers and gives them back, until it is dropped. Nothing to do where one process has everything.
    pub(crate) async fn keep_leases(self: Arc<Self>) {
        if !self.inbox.is_shared() {
            return;
        }
        let mut ticks = interval(RENEW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Ok(leases) = self.renew().await else {
                continue; // what is held runs out by itself
            };
            if self.stopping.load(Ordering::SeqCst) {
                continue;
            }
            // The store may be slow; leases are renewed meanwhile.
            if let Ok(guard) = self.change_lock.clone().try_lock_owned() {
                let dispatch = self.clone();
                tokio::spawn(async move {
                    let _guard = guard;
                    // What did not work is tried again at the next tick.
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

    /// Asks for the leases of all that are configured, and those of handlers that are still about to leave.
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

    /// Has those at work whose leases these are, and no others.
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
        // Another one should have these; what runs is finished first.
        for surplus in self.take_workers(|worker| !is_leased(worker, false)) {
            self.stop_worker(surplus, None);
        }
        for lease in leases {
            if self.stopping_workers.borrow().contains_key(&lease.handler) {
                continue; // it is arranged again when that loop has ended
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

    /// Takes out what is at work and must not be.
    fn take_workers(&self, must_stop: impl Fn(&WorkerHandle) -> bool) -> Vec<WorkerHandle> {
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

    /// Does what other processes have ordered for handlers that are at work here.
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
            // A newer release may know orders that this one does not.
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
        // A handler that leaves drops the command, and so the reply.
        let _ = commands.send(command.with_reply(reply)).await;
        answer.await.unwrap_or(Err(StoreError::Failed))
    }

    fn sender_of(&self, name: &str) -> Option<mpsc::Sender<WorkerCommand>> {
        let configured = self.configured();
        let worker = configured.get(name)?.worker.as_ref()?;
        Some(worker.commands.clone())
    }

    /// Waits for a handler that has yet to finish what it is at under its old settings.
    async fn wait_for_sender(&self, name: &str) -> Option<mpsc::Sender<WorkerCommand>> {
        let mut stopping = self.stopping_workers.subscribe();
        loop {
            {
                // A loop leaves, and the next one begins, within this lock.
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

/// Whoever delivers under it begins nothing more.
fn end_lease(lost: Option<&HeldLease>) {
    if let Some(lost) = lost {
        lost.until.send_replace(Instant::now());
    }
}
