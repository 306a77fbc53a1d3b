//! Which handlers are at work here, where several processes share an inbox.
//!
//! The inbox gives out leases: whoever has one of a handler delivers for it, and nobody else does. They are renewed every second.
//! An attempt begins only if it will be over before the lease is ([`Runner`] sees to that), so a process that cannot renew, or
//! slept for long, begins nothing that another one may have begun. What one process is asked about a handler that is at work
//! in another is ordered there through the inbox.

use tokio::time::{MissedTickBehavior, interval, timeout};

use serde::{Deserialize, Serialize};

use super::*;
use crate::inbox::delivery::{CommandRequest, Lease};

/// How often leases are renewed, and handlers taken and given back.
const EVERY: Duration = Duration::from_secs(1);
/// The shortest term of a lease.
const SHORTEST: Duration = Duration::from_secs(6);
/// How long another process may take for what it was asked.
const ORDER_WAIT: Duration = Duration::from_secs(20);

/// A lease, and word of its end for whoever delivers under it.
pub(super) struct Held {
    lease: Lease,
    until: watch::Sender<Instant>,
}

/// What is asked of the process that delivers for a handler.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ordered {
    Replay { selection: Selection, dry_run: bool },
    Discard { selection: Selection, dry_run: bool },
    Pause { paused: bool },
    Forget { seqs: Vec<Seq> },
}

impl Ordered {
    pub(super) fn command(self, reply: oneshot::Sender<Result<u64, StoreError>>) -> Command {
        match self {
            Self::Replay { selection, dry_run } => Command::Replay {
                selection,
                dry_run,
                reply,
            },
            Self::Discard { selection, dry_run } => Command::Discard {
                selection,
                dry_run,
                reply,
            },
            Self::Pause { paused } => Command::Pause { paused, reply },
            Self::Forget { seqs } => Command::Forget { seqs, reply },
        }
    }
}

/// Long enough for an attempt to begin at any time although the lease is renewed only at a third of it.
fn term(timeout: Duration) -> Duration {
    SHORTEST.max(timeout * 3 / 2)
}

impl Dispatch {
    /// Renews leases, takes handlers and gives them back, until it is dropped. Nothing to do where one process has everything.
    pub(crate) async fn keep_leases(self: Arc<Self>) {
        if !self.inbox.is_shared() {
            return;
        }
        let mut ticks = interval(EVERY);
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
            if let Ok(changing) = self.changing.clone().try_lock_owned() {
                let dispatch = self.clone();
                tokio::spawn(async move {
                    let _changing = changing;
                    // What did not work is tried again at the next tick.
                    let _ = dispatch.arrange(&leases).await;
                });
            }
            self.obey_orders().await;
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<HandlerId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the leases of all that are configured, and those of handlers that are still about to leave.
    pub(super) async fn renew(&self) -> Result<Vec<Lease>, StoreError> {
        let mut wanted: BTreeMap<HandlerId, Duration> = BTreeMap::new();
        let stopping = self.stopping.load(Ordering::SeqCst);
        for at_work in self.at_work().values().filter(|_| !stopping) {
            wanted.insert(at_work.id, term(at_work.built.settings.timeout));
        }
        for id in self.held().keys() {
            wanted.entry(*id).or_insert(SHORTEST);
        }
        let wanted: Vec<_> = wanted.into_iter().collect();
        let leases = self.inbox.lease(&wanted).await?;
        let mut held = self.held();
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
                        Held {
                            lease: *lease,
                            until,
                        },
                    );
                    end(lost.as_ref());
                }
            }
        }
        for (id, lost) in held.iter() {
            if !leases.iter().any(|lease| lease.handler == *id) {
                end(Some(lost));
            }
        }
        Ok(leases)
    }

    pub(super) async fn renew_and_arrange(self: &Arc<Self>) -> Result<(), StoreError> {
        let leases = self.renew().await?;
        self.arrange(&leases).await
    }

    /// Has those at work whose leases these are, and no others.
    async fn arrange(self: &Arc<Self>, leases: &[Lease]) -> Result<(), StoreError> {
        let has = |work: &Work, surplus: bool| {
            leases.iter().any(|lease| {
                (lease.handler, lease.epoch) == (work.id, work.epoch) && lease.surplus <= surplus
            })
        };
        for lost in self.interrupt(|work| !has(work, true)) {
            self.retire(lost, Some(Duration::ZERO));
        }
        // Another one should have these; what runs is finished first.
        for given_up in self.interrupt(|work| !has(work, false)) {
            self.retire(given_up, None);
        }
        for lease in leases {
            if self.leaving.borrow().contains_key(&lease.handler) {
                continue; // it is arranged again when that loop has ended
            }
            let configured = self
                .at_work()
                .iter()
                .find(|(_, at_work)| at_work.id == lease.handler)
                .map(|(name, at_work)| {
                    (name.clone(), at_work.built.clone(), at_work.work.is_some())
                });
            match configured {
                Some((_, _, true)) => {}
                Some((name, built, false))
                    if !lease.surplus && !self.stopping.load(Ordering::SeqCst) =>
                {
                    self.begin_under(lease, name, &built).await?;
                }
                _ => {
                    self.held().remove(&lease.handler);
                    self.inbox.release(lease).await?;
                }
            }
        }
        self.held()
            .retain(|id, _| leases.iter().any(|lease| lease.handler == *id));
        Ok(())
    }

    async fn begin_under(
        &self,
        lease: &Lease,
        name: String,
        built: &Built,
    ) -> Result<(), StoreError> {
        let registered = self.inbox.resume(lease.handler).await?;
        let until = self
            .held()
            .get(&lease.handler)
            .filter(|held| held.lease.epoch == lease.epoch)
            .map(|held| held.until.subscribe());
        let mut at_work = self.at_work();
        if let (Some(until), Some(at_work)) = (until, at_work.get_mut(&name)) {
            let leased = Leased {
                registered,
                epoch: lease.epoch,
                until,
            };
            let begun = self.begin(&name, built, leased);
            at_work.work = Some(begun);
        }
        Ok(())
    }

    /// Takes out what is at work and must not be.
    fn interrupt(&self, must_stop: impl Fn(&Work) -> bool) -> Vec<Work> {
        self.at_work()
            .values_mut()
            .filter_map(|at_work| at_work.work.take_if(|work| must_stop(work)))
            .collect()
    }

    pub(super) async fn send_command(
        &self,
        id: HandlerId,
        ordered: Ordered,
    ) -> Result<u64, ControlError> {
        let what = serde_json::to_string(&ordered).map_err(|_| StoreError::Failed)?;
        Ok(self.inbox.send_command(id, &what, ORDER_WAIT).await?)
    }

    /// Does what other processes have ordered for handlers that are at work here.
    async fn obey_orders(self: &Arc<Self>) {
        let names: BTreeMap<HandlerId, String> = self
            .at_work()
            .iter()
            .filter(|(_, at_work)| at_work.work.is_some())
            .map(|(name, at_work)| (at_work.id, name.clone()))
            .collect();
        let ids: Vec<HandlerId> = names.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        for order in self.inbox.take_commands(&ids).await.unwrap_or_default() {
            let name = names.get(&order.handler).cloned().unwrap_or_default();
            tokio::spawn(self.clone().obey(name, order));
        }
    }

    async fn obey(self: Arc<Self>, name: String, order: CommandRequest) {
        let answer = match serde_json::from_str(&order.what) {
            Ok(ordered) => self.ask_here(&name, ordered).await,
            // A newer release may know orders that this one does not.
            Err(_) => Err(StoreError::Failed),
        };
        let _ = self.inbox.answer_command(&order, answer).await;
    }

    pub(super) async fn ask_here(&self, name: &str, ordered: Ordered) -> Result<u64, StoreError> {
        let commands = match self.commands_of(name) {
            Some(commands) => commands,
            None => timeout(ORDER_WAIT, self.commands_soon(name))
                .await
                .unwrap_or_default()
                .ok_or(StoreError::Failed)?,
        };
        let (reply, answer) = oneshot::channel();
        // A handler that leaves drops the command, and so the reply.
        let _ = commands.send(ordered.command(reply)).await;
        answer.await.unwrap_or(Err(StoreError::Failed))
    }

    fn commands_of(&self, name: &str) -> Option<mpsc::Sender<Command>> {
        let at_work = self.at_work();
        let work = at_work.get(name)?.work.as_ref()?;
        Some(work.commands.clone())
    }

    /// Waits for a handler that has yet to finish what it is at under its old settings.
    async fn commands_soon(&self, name: &str) -> Option<mpsc::Sender<Command>> {
        let mut leaving = self.leaving.subscribe();
        loop {
            {
                // A loop leaves, and the next one begins, within this lock.
                let _changing = self.changing.lock().await;
                if let Some(commands) = self.commands_of(name) {
                    return Some(commands);
                }
                let id = self.at_work().get(name)?.id;
                if !leaving.borrow_and_update().contains_key(&id) {
                    return None;
                }
            }
            leaving.changed().await.ok()?;
        }
    }
}

/// Whoever delivers under it begins nothing more.
fn end(lost: Option<&Held>) {
    if let Some(lost) = lost {
        lost.until.send_replace(Instant::now());
    }
}
