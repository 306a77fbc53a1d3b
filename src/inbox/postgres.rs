//! The shared engine: one PostgreSQL behind many receivers, which keep nothing themselves.
//!
//! **Arrival order.** A batch gets its numbers under a lock that is held until its commit is over, so whoever sees an event sees
//! all that have lower numbers, and a position never passes one that may still appear. The lock is taken and given back inside
//! one statement: a receiver that is frozen or cut off between two statements holds nobody up.
//!
//! **Duplicates** are found under the same lock and judged by the database's clock, whichever receiver the repeat came to.
//!
//! **Deliveries** of a handler belong to one receiver at a time, by a lease in the database's time with an epoch (`leases`);
//! outcomes are written only under the epoch under which they came about.
//!
//! Nothing depends on a session, so that a pooler of transactions may stand in between. Notifications are a hint beside a look
//! every second.

mod accept;
mod board;
mod connect;
mod deliveries;
mod events;
mod leases;
mod query;
mod rejected;
mod schema;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use css_callbacks::Timestamp;
use rand::random;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::types::Type;

use self::accept::AcceptRequest;
pub(crate) use self::board::SharedBoard;
use self::connect::{ConnectError, Pool};
use self::query::Parameter;
use self::schema::MigrationError;
use super::delivery::HandlerId;
use super::settings::{InboxSettings, PostgresSettings};
use super::sweep::Sweep;
use super::{Condition, OpenError, Receipt, StoreError};
use crate::auth::Authentic;
use crate::budget::Charge;
use crate::clock::Clock;
use crate::event::Seq;
use crate::metrics::Metrics;

/// Between tries to reach a server at the start.
const RETRY: Duration = Duration::from_millis(500);
/// How often it is looked at what other receivers have stored, if no word of it came.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// Until it is tried again whether notifications come through.
const LISTEN_AGAIN: Duration = Duration::from_secs(60);
/// Between two sizes.
const MEASURE_EVERY: Duration = Duration::from_secs(30);
/// Here receivers tell one another the number of the newest event that they have stored.
const CHANNEL: &str = "livehook";
/// Between two such words. Who delivers is woken by each, and a batch of its own is known anyway.
const NOTIFY_EVERY: Duration = Duration::from_millis(20);

pub(super) struct PostgresStore {
    shared: Arc<Shared>,
    requests: Mutex<Option<mpsc::UnboundedSender<AcceptRequest>>>,
    committed: watch::Receiver<Seq>,
    /// What stores them.
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
    /// Who this is among the receivers, until it ends.
    receiver: String,
    committed: watch::Sender<Seq>,
    /// The newest that was stored by this receiver.
    stored_here: watch::Sender<Seq>,
    /// That others may have stored something.
    poll_now: Notify,
    failing: AtomicBool,
    closed: AtomicBool,
    size: AtomicU64,
    /// The handlers that are configured here, as soon as that is known.
    configured: Mutex<Option<Vec<HandlerId>>>,
    /// Where retention looks next.
    sweep: Mutex<Sweep>,
}

impl PostgresStore {
    pub(super) fn board(&self) -> SharedBoard {
        SharedBoard {
            shared: self.shared.clone(),
        }
    }

    /// Reaches the server, for up to `connect_wait`, and brings the schema up to date.
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
        // A reply that is dropped says that it failed.
        match &*self.requests() {
            Some(requests) => drop(requests.send(request)),
            None => drop(request),
        }
        answer.await.unwrap_or(Err(StoreError::Failed))
    }

    /// Finds out whether the server takes writes.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let sql = "UPDATE livehook.meta SET value = value WHERE name = 'version'";
        let result = self.shared.query(sql, &[]).await;
        self.shared.set_working(result.is_ok());
        result.map(drop)
    }

    /// Bytes in the database, as of lately.
    pub(super) fn size(&self) -> u64 {
        self.shared.size.load(Ordering::Relaxed)
    }

    /// Answers what was sent before, and ends.
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
            tracing::error!("a task of the inbox had panicked");
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
    /// The time to judge by, if it is not the database's: a clock that was given is given on.
    fn manual_now(&self) -> Option<i64> {
        self.clock.is_manual().then(|| self.clock.now().millis())
    }

    /// Tells whether the store works; the log tells of a change.
    fn set_working(&self, works: bool) {
        if self.failing.swap(!works, Ordering::Relaxed) && works {
            tracing::info!("the store takes callbacks again");
        }
    }

    /// Has everybody know that events up to here are stored.
    fn announce(&self, seq: Seq) {
        raise_to(&self.committed, seq);
    }

    /// Looks what there is.
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
                // Whoever balances the load should know before the next callback does.
                tracing::error!("the store does not answer");
            }
        }
    }

    async fn send_notifications(self: Arc<Self>) {
        let mut stored_here = self.stored_here.subscribe();
        while stored_here.changed().await.is_ok() {
            let newest = stored_here.borrow_and_update().to_string();
            let values: [Parameter; 2] = [(&CHANNEL, Type::TEXT), (&newest, Type::TEXT)];
            // Whoever missed it looks by itself.
            let _ = self.query("SELECT pg_notify($1, $2)", &values).await;
            sleep(NOTIFY_EVERY).await;
        }
    }

    async fn receive_notifications(self: Arc<Self>) {
        let mut logged = false;
        loop {
            let pause = match self.pool.listen(CHANNEL).await {
                Ok(Some(mut notifications)) => {
                    // What was stored in the meantime was announced to nobody.
                    self.poll_now.notify_one();
                    while let Some(newest) = notifications.recv().await {
                        // As numbers follow one another, all that are lower are there.
                        self.announce(newest.parse().unwrap_or(0));
                    }
                    POLL_EVERY
                }
                Ok(None) => {
                    if !std::mem::replace(&mut logged, true) {
                        tracing::info!(
                            "no notifications come through, as behind a pooler of transactions: \
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

/// Batches may tell of themselves in another order.
fn raise_to(newest: &watch::Sender<Seq>, seq: Seq) {
    newest.send_if_modified(|newest| {
        let newer = seq > *newest;
        *newest = seq.max(*newest);
        newer
    });
}

/// Tries until there is a server that takes writes and has the schema.
async fn connect(pool: &Pool, wait: Duration) -> Result<(), OpenError> {
    let began = Instant::now();
    let mut logged = None;
    loop {
        let problem = match prepare(pool).await {
            Ok(()) => {
                if logged.is_some() {
                    tracing::info!("PostgreSQL is there");
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
