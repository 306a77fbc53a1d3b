//! The shared engine: one PostgreSQL and many receivers, which store nothing themselves.
//!
//! **Arrival order.** A batch gets its numbers under a lock, which is held until the commit is done.
//! So a reader that sees an event also sees all events with lower numbers, and a position never
//! passes an event that appears later. One statement takes the lock and gives it back: a receiver
//! that is frozen or cut off between two statements blocks nobody.
//!
//! **Duplicates** are found under the same lock and by the database's clock, so that a repeat may
//! come to any receiver.
//!
//! **Deliveries** of a handler belong to one receiver at a time. It has a lease in the database's
//! time, with an epoch (`leases`). Outcomes are written only under the epoch of their attempts.
//!
//! Nothing depends on a session, so that a transaction pooler may be in between. Receivers notify
//! each other, and also look for new events every second, because notifications may get lost.

mod accept;
mod board;
mod connect;
mod deliveries;
mod events;
mod leases;
mod query;
mod rejected;
mod schema;
mod sweep;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::random;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_postgres::types::Type;

use self::accept::AcceptRequest;
pub(crate) use self::board::SharedBoard;
use self::connect::{ConnectError, Pool};
use self::query::Parameter;
use self::schema::MigrationError;
use self::sweep::Sweep;
use super::delivery::HandlerId;
use super::settings::{InboxSettings, PostgresSettings};
use super::{Condition, OpenError, Receipt, StoreError};
use crate::auth::Authentic;
use crate::budget::Charge;
use crate::clock::Clock;
use crate::event::Seq;
use crate::metrics::Metrics;

/// The pause between attempts to connect at the start.
const RETRY: Duration = Duration::from_millis(500);
/// How often a receiver looks for events of other receivers.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// The pause until a receiver tries again whether notifications arrive.
const LISTEN_AGAIN: Duration = Duration::from_secs(60);
/// How often the size is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(30);
/// The channel on which receivers announce the number of the newest event that they have stored.
const CHANNEL: &str = "livehook";
/// The pause between two notifications. Each one wakes all workers of the other receivers.
const NOTIFY_EVERY: Duration = Duration::from_millis(20);

pub(super) struct PostgresStore {
    shared: Arc<Shared>,
    requests: Mutex<Option<mpsc::UnboundedSender<AcceptRequest>>>,
    committed: watch::Receiver<Seq>,
    accept_task: Mutex<Option<JoinHandle<()>>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What all tasks of the store use.
struct Shared {
    pool: Pool,
    settings: InboxSettings,
    own: PostgresSettings,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// The id of this receiver, new at each start.
    receiver: String,
    committed: watch::Sender<Seq>,
    /// The newest event that this receiver has stored.
    stored_here: watch::Sender<Seq>,
    /// Makes the receiver look for events of others at once.
    poll_now: Notify,
    failing: AtomicBool,
    closed: AtomicBool,
    size: AtomicU64,
    /// The handlers in this receiver's configuration. None until they are registered.
    configured: Mutex<Option<Vec<HandlerId>>>,
    sweep: Mutex<Sweep>,
}

impl PostgresStore {
    pub(super) fn board(&self) -> SharedBoard {
        SharedBoard {
            shared: self.shared.clone(),
        }
    }

    /// Connects, trying for up to `connect_wait`, and brings the schema up to date.
    pub(super) async fn open(
        settings: &InboxSettings,
        own: &PostgresSettings,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let pool = Pool::new(own).map_err(OpenError::Refused)?;
        connect(&pool, own.connect_wait).await?;
        let bytes: [u8; 16] = random();
        let (committed, watched) = watch::channel(0);
        let shared = Arc::new(Shared {
            pool,
            settings: settings.clone(),
            own: own.clone(),
            clock,
            metrics,
            receiver: hex::encode(bytes),
            committed,
            stored_here: watch::Sender::new(0),
            poll_now: Notify::new(),
            failing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            size: AtomicU64::new(0),
            configured: Mutex::default(),
            sweep: Mutex::default(),
        });
        let failed = |_| OpenError::Ended("its newest event could not be read".to_owned());
        shared.read_newest().await.map_err(failed)?;
        let (requests, received) = mpsc::unbounded_channel();
        let accept_task = tokio::spawn(accept::run(shared.clone(), received));
        let tasks = vec![
            tokio::spawn(shared.clone().watch_newest()),
            tokio::spawn(shared.clone().send_notifications()),
            tokio::spawn(shared.clone().receive_notifications()),
            tokio::spawn(shared.clone().measure_size()),
        ];
        Ok(Self {
            shared,
            requests: Mutex::new(Some(requests)),
            committed: watched,
            accept_task: Mutex::new(Some(accept_task)),
            tasks,
        })
    }

    pub(super) fn committed(&self) -> watch::Receiver<Seq> {
        self.committed.clone()
    }

    pub(super) fn condition(&self) -> Condition {
        let closed = self.shared.closed.load(Ordering::Relaxed);
        if closed || self.shared.failing.load(Ordering::Relaxed) {
            Condition::Failing
        } else {
            Condition::Accepting
        }
    }

    pub(super) async fn accept(
        &self,
        callback: Authentic,
        charge: Option<Charge>,
        unless_ever_stored: bool,
    ) -> Result<Receipt, StoreError> {
        let (reply, answer) = oneshot::channel();
        let request = AcceptRequest {
            callback,
            charge,
            unless_ever_stored,
            reply,
        };
        // If the reply is dropped, the answer is a failure.
        match &*self.requests() {
            Some(requests) => drop(requests.send(request)),
            None => drop(request),
        }
        answer.await.unwrap_or(Err(StoreError::Failed))
    }

    /// Tries whether the server accepts writes.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let sql = "UPDATE livehook.meta SET value = value WHERE name = 'version'";
        let result = self.shared.query(sql, &[]).await;
        self.shared.set_working(result.is_ok());
        result.map(drop)
    }

    /// Bytes in the database, when last measured.
    pub(super) fn size(&self) -> u64 {
        self.shared.size.load(Ordering::Relaxed)
    }

    /// Answers earlier requests and ends.
    pub(super) async fn close(&self) {
        drop(self.requests().take());
        let accept_task = self
            .accept_task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(accept_task) = accept_task
            && accept_task.await.is_err()
        {
            tracing::error!("a task of the inbox panicked");
        }
        if !self.shared.closed.load(Ordering::SeqCst) {
            self.shared.deregister().await;
        }
        self.shared.closed.store(true, Ordering::SeqCst);
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    fn requests(&self) -> std::sync::MutexGuard<'_, Option<mpsc::UnboundedSender<AcceptRequest>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    /// The time that the database has to use instead of its own, if the clock is a manual one.
    fn manual_now(&self) -> Option<i64> {
        self.clock.is_manual().then(|| self.clock.now().millis())
    }

    /// Records whether the store works, and logs when it works again.
    fn set_working(&self, works: bool) {
        if self.failing.swap(!works, Ordering::Relaxed) && works {
            tracing::info!("the store accepts callbacks again");
        }
    }

    /// Announces in this process that events up to here are stored.
    fn announce(&self, seq: Seq) {
        raise_to(&self.committed, seq);
    }

    /// Reads the number of the newest event and announces it.
    async fn read_newest(&self) -> Result<(), StoreError> {
        let sql = "SELECT greatest(
            (SELECT coalesce(max(seq), 0) FROM livehook.events),
            (SELECT coalesce(max(position), 0) FROM livehook.handlers),
            (SELECT coalesce(max(value), 0) FROM livehook.meta WHERE name = 'last_seq'))";
        let rows = self.query(sql, &[]).await?;
        self.announce(rows[0].get(0));
        Ok(())
    }

    async fn watch_newest(self: Arc<Self>) {
        let mut ticks = interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.poll_now.notified() => {}
                _ = ticks.tick() => {}
            }
            if self.read_newest().await.is_err() && !self.failing.swap(true, Ordering::Relaxed) {
                // A load balancer should learn it before the next callback fails.
                tracing::error!("the store does not answer");
            }
        }
    }

    async fn send_notifications(self: Arc<Self>) {
        let mut stored_here = self.stored_here.subscribe();
        while stored_here.changed().await.is_ok() {
            let newest = stored_here.borrow_and_update().to_string();
            let values: [Parameter; 2] = [(&CHANNEL, Type::TEXT), (&newest, Type::TEXT)];
            // A receiver that misses it finds the event when it looks.
            let _ = self.query("SELECT pg_notify($1, $2)", &values).await;
            sleep(NOTIFY_EVERY).await;
        }
    }

    async fn receive_notifications(self: Arc<Self>) {
        let mut logged = false;
        loop {
            let pause = match self.pool.listen(CHANNEL).await {
                Ok(Some(mut notifications)) => {
                    // Events that were stored in the meantime were not notified here.
                    self.poll_now.notify_one();
                    while let Some(newest) = notifications.recv().await {
                        // All events with lower numbers are committed, too.
                        self.announce(newest.parse().unwrap_or(0));
                    }
                    POLL_EVERY
                }
                Ok(None) => {
                    if !std::mem::replace(&mut logged, true) {
                        tracing::info!(
                            "notifications do not arrive, as behind a transaction pooler: \
                             events that other receivers store are noticed within a second"
                        );
                    }
                    LISTEN_AGAIN
                }
                Err(_) => POLL_EVERY,
            };
            sleep(pause).await;
        }
    }

    async fn measure_size(self: Arc<Self>) {
        let mut ticks = interval(MEASURE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let sql = "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
                JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'livehook' AND c.relkind = 'r'";
            if let Ok(rows) = self.query(sql, &[]).await {
                let size: i64 = rows.first().map_or(0, |row| row.get(0));
                self.size.store(size.unsigned_abs(), Ordering::Relaxed);
            }
        }
    }
}

/// Sets a newer number. Batches may finish in another order, so an older number is ignored.
fn raise_to(newest: &watch::Sender<Seq>, seq: Seq) {
    newest.send_if_modified(|newest| {
        let newer = seq > *newest;
        *newest = seq.max(*newest);
        newer
    });
}

/// Tries until a server accepts writes and has the schema.
async fn connect(pool: &Pool, wait: Duration) -> Result<(), OpenError> {
    let began = Instant::now();
    let mut logged = None;
    loop {
        let problem = match prepare(pool).await {
            Ok(()) => {
                if logged.is_some() {
                    tracing::info!("connected to PostgreSQL");
                }
                return Ok(());
            }
            Err(ConnectError::Setup(problem)) => return Err(OpenError::Refused(problem)),
            Err(ConnectError::Away(problem)) => problem,
        };
        if began.elapsed() >= wait {
            return Err(OpenError::Away {
                problem,
                waited: wait,
            });
        }
        if logged.as_ref() != Some(&problem) {
            tracing::warn!(
                "inbox.url: {problem}; trying again for up to {}",
                humantime::format_duration(wait)
            );
            logged = Some(problem);
        }
        sleep(RETRY).await;
    }
}

async fn prepare(pool: &Pool) -> Result<(), ConnectError> {
    let mut connection = pool.get().await?;
    match schema::migrate(&mut connection).await {
        Ok(()) => Ok(()),
        Err(MigrationError::Postgres(error)) => Err(connection.classify(&error)),
        Err(error) => Err(ConnectError::Setup(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
