//! Hands what the inbox holds to the handlers, each at its own pace.
//!
//! Every handler has a loop of its own (`runner`), so that a slow or broken one is nobody else's business. Order per stream,
//! at least once: an event is remembered as done only after its handler said so. What one handler cannot do now is tried again
//! with pauses; what it refuses, or could not do for too long, is parked.

mod health;
mod runner;
pub mod settings;
mod status;
mod window;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::runner::{Command, Runner};
use self::settings::HandlerSettings;
use self::status::Status;
pub use self::status::{Last, State};
use crate::clock::Clock;
use crate::event::Seq;
use crate::handler::Handler;
use crate::inbox::delivery::{HandlerId, Registered, RowCounts, Selection, Start};
use crate::inbox::{Inbox, StoreError};
use crate::metrics::{HandlerLabel, Metrics};

/// A second apart.
const REGISTER_TRIES: u32 = 4;

/// A handler that is ready to take events.
#[derive(Clone)]
pub struct Built {
    /// Its section of the configuration.
    pub settings: Arc<HandlerSettings>,
    /// The handler itself.
    pub handler: Arc<dyn Handler>,
}

/// All handlers at work.
pub struct Dispatch {
    inbox: Inbox,
    clock: Clock,
    metrics: Arc<Metrics>,
    at_work: Mutex<BTreeMap<String, AtWork>>,
    /// Those that a change has told to stop and waits for.
    leaving: Mutex<Vec<mpsc::Sender<Command>>>,
    /// One change of the handlers at a time.
    changing: tokio::sync::Mutex<()>,
}

struct AtWork {
    id: HandlerId,
    settings: Arc<HandlerSettings>,
    status: Arc<Status>,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

/// How a handler is doing.
#[derive(Debug, Clone)]
pub struct HandlerReport {
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

/// Why a handler did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no handler of this name.
    #[error("there is no such handler")]
    NoSuchHandler,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Dispatch {
    /// Nothing is handed out before [`Dispatch::change_to`].
    pub fn new(inbox: Inbox, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self {
            inbox,
            clock,
            metrics,
            at_work: Mutex::default(),
            leaving: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// Has exactly these handlers at work: new ones begin, missing ones stop, changed ones finish what they are at under their
    /// old settings and go on under the new ones, the others do not notice.
    pub async fn change_to(&self, handlers: BTreeMap<String, Built>) -> Result<(), StoreError> {
        let _changing = self.changing.lock().await;
        let starts: Vec<_> = handlers
            .iter()
            .map(|(name, built)| (name.clone(), built.settings.start))
            .collect();
        // If the store does not work now, nothing has been stopped.
        self.inbox.register(starts.clone()).await?;
        let leaving = self.take_out(|name, at_work| {
            handlers
                .get(name)
                .is_none_or(|built| built.settings != at_work.settings)
        });
        self.leaving().extend(senders(&leaving));
        stop(leaving, None).await;
        self.leaving().clear();
        // Once more: those that left have moved on.
        let registered = self.register(starts).await?;
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        for ((name, built), registered) in handlers.into_iter().zip(registered) {
            if let Entry::Vacant(place) = at_work.entry(name) {
                let begun = self.begin(place.key(), built, registered);
                place.insert(begun);
            }
        }
        Ok(())
    }

    /// A store that fails just now is not given up at once: the handlers that left would be missing.
    async fn register(&self, starts: Vec<(String, Start)>) -> Result<Vec<Registered>, StoreError> {
        for _ in 0..REGISTER_TRIES {
            if let Ok(registered) = self.inbox.register(starts.clone()).await {
                return Ok(registered);
            }
            sleep(Duration::from_secs(1)).await;
        }
        self.inbox.register(starts).await
    }

    fn begin(&self, name: &str, built: Built, registered: Registered) -> AtWork {
        let status = Arc::new(Status::starting_at(registered.position));
        let (commands, received) = mpsc::channel(16);
        let id = registered.id;
        let runner = Runner::new(
            name.to_owned(),
            registered,
            built.clone(),
            self.inbox.clone(),
            self.clock.clone(),
            &self.metrics,
            status.clone(),
        );
        AtWork {
            id,
            settings: built.settings,
            status,
            commands,
            task: tokio::spawn(runner.run(received)),
        }
    }

    /// Stops all handlers; what runs may finish for so long.
    pub async fn stop(&self, grace: Duration) {
        // A change that waits for running attempts waits no longer.
        for commands in self.leaving().iter() {
            let _ = commands.try_send(Command::Stop { grace });
        }
        let _changing = self.changing.lock().await;
        stop(self.take_out(|_, _| true), Some(grace)).await;
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<mpsc::Sender<Command>>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_out(&self, leaves: impl Fn(&str, &AtWork) -> bool) -> Vec<AtWork> {
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        at_work
            .extract_if(.., |name, at_work| leaves(name, at_work))
            .map(|(_, at_work)| at_work)
            .collect()
    }

    /// The number of a handler in the inbox.
    pub fn id(&self, name: &str) -> Result<HandlerId, ControlError> {
        self.with(name, |at_work| at_work.id)
    }

    /// Makes deliveries due again, as far as the handler's filters let them through: how many. A dry run only counts.
    pub async fn replay(
        &self,
        name: &str,
        selection: Selection,
        dry_run: bool,
    ) -> Result<u64, ControlError> {
        self.ask(name, |reply| Command::Replay {
            selection,
            dry_run,
            reply,
        })
        .await
    }

    /// Gives deliveries up for good: how many. A dry run only counts.
    pub async fn discard(
        &self,
        name: &str,
        selection: Selection,
        dry_run: bool,
    ) -> Result<u64, ControlError> {
        self.ask(name, |reply| Command::Discard {
            selection,
            dry_run,
            reply,
        })
        .await
    }

    async fn ask(
        &self,
        name: &str,
        command: impl FnOnce(oneshot::Sender<Result<u64, StoreError>>) -> Command,
    ) -> Result<u64, ControlError> {
        let commands = self.with(name, |at_work| at_work.commands.clone())?;
        let (reply, answer) = oneshot::channel();
        // A handler that leaves drops the command, and so the reply.
        let _ = commands.send(command(reply)).await;
        Ok(answer.await.unwrap_or(Err(StoreError::Failed))?)
    }

    fn with<T>(&self, name: &str, get: impl FnOnce(&AtWork) -> T) -> Result<T, ControlError> {
        let at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        at_work
            .get(name)
            .map(get)
            .ok_or(ControlError::NoSuchHandler)
    }

    /// How every handler is doing, by name.
    pub async fn report(&self) -> Result<Vec<HandlerReport>, StoreError> {
        let handlers: Vec<_> = {
            let at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
            let shown = |at_work: &AtWork| {
                (
                    at_work.id,
                    at_work.status.clone(),
                    at_work.settings.target_type,
                )
            };
            at_work
                .iter()
                .map(|(name, at_work)| (name.clone(), shown(at_work)))
                .collect()
        };
        let last_seq = *self.inbox.committed().borrow();
        let mut reports = Vec::with_capacity(handlers.len());
        for (name, (id, status, target_type)) in handlers {
            // In this order: what moves from memory into a row meanwhile is counted twice rather than not at all.
            let shown = status.shown();
            let rows = self.inbox.count(id).await?;
            let unread = (last_seq - shown.read_to).max(0).unsigned_abs();
            let lag_events = unread + shown.unsettled + rows.due + rows.waiting;
            let first_unread: Option<Seq> = (unread > 0).then_some(shown.read_to + 1);
            let lag = match [first_unread, shown.oldest, rows.oldest]
                .into_iter()
                .flatten()
                .min()
            {
                Some(oldest) => {
                    let received = self.inbox.received_from(oldest).await?;
                    received.map_or(Duration::ZERO, |received| self.clock.now().since(received))
                }
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
                last: status.last(),
            });
        }
        Ok(reports)
    }

    /// Brings the gauges of the handlers up to date.
    pub async fn measure(&self) -> Result<(), StoreError> {
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
        Ok(())
    }
}

fn senders(leaving: &[AtWork]) -> impl Iterator<Item = mpsc::Sender<Command>> {
    leaving.iter().map(|at_work| at_work.commands.clone())
}

/// Without a grace, each may use the time an attempt may take.
async fn stop(leaving: Vec<AtWork>, grace: Option<Duration>) {
    for at_work in &leaving {
        let grace = grace.unwrap_or(at_work.settings.timeout);
        let _ = at_work.commands.send(Command::Stop { grace }).await;
    }
    for at_work in leaving {
        if at_work.task.await.is_err() {
            tracing::error!("the loop of a handler had panicked");
        }
    }
}

#[cfg(test)]
mod tests;
