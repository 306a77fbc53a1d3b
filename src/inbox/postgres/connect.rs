//! Connections to the server that takes writes.
//!
//! A bounded pool of our own: what it has to know is when *all* its connections are worth nothing. A dead or demoted primary is
//! noticed on one of them (it ends, or answers no more, or says that it is read-only), and then none of those that wait idle is
//! handed out again. Only what has just answered comes back: a caller that stopped waiting leaves its statement behind.
//!
//! Nothing rests on a session, so that a pooler of transactions may stand in between: no named statements, no settings but for
//! a transaction (`SET LOCAL`), and transactions only by [`Client::transaction`], which rolls back when it is dropped. What
//! [`Pool::listen`] hears is the exception, and only ever a hint.

mod durability;
mod error;
mod listen;
mod open;
mod tls;

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

pub(super) use self::error::ConnectError;
use self::error::HostError;
use self::tls::Tls;
use crate::inbox::settings::PostgresSettings;

/// An idle connection that was used so recently is handed out untried.
const TRUSTED_FOR: Duration = Duration::from_secs(5);
/// What waits for nothing answers sooner.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// The connections of this process. Clones share them.
#[derive(Clone)]
pub(super) struct Pool(Arc<PoolState>);

struct PoolState {
    settings: PostgresSettings,
    tls: Tls,
    /// The host that took the last connection: the others are likely to be standbys, or dead.
    preferred: AtomicUsize,
    /// What an acknowledgement means, as far as it was logged.
    logged: Mutex<BTreeSet<String>>,
    permits: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Connections of an earlier generation are not kept.
    generation: u64,
    clients: Vec<PooledClient>,
}

struct PooledClient {
    client: Client,
    host: usize,
    generation: u64,
    used: Instant,
}

impl Pool {
    /// A pool without connections; reads what the system trusts, if certificates are looked at.
    pub(super) fn new(settings: &PostgresSettings) -> Result<Self, String> {
        Ok(Self(Arc::new(PoolState {
            tls: Tls::new(&settings.cluster.encryption)?,
            preferred: AtomicUsize::new(0),
            logged: Mutex::default(),
            permits: Arc::new(Semaphore::new(settings.connections)),
            idle: Mutex::default(),
            settings: settings.clone(),
        })))
    }

    /// A connection of one's own until it is dropped; waits for a free one as long as it takes.
    pub(super) async fn get(&self) -> Result<Connection, ConnectError> {
        let permit = self.0.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|closed| ConnectError::Away(closed.to_string()))?;
        while let Some(pooled) = self.0.take() {
            if pooled.used.elapsed() < TRUSTED_FOR || is_alive(&pooled.client).await {
                return Ok(self.connection(pooled, permit));
            }
            self.0.invalidate(pooled.generation);
        }
        let generation = self.0.idle().generation;
        let (client, host, driver) = self.0.open(None).await?;
        tokio::spawn(watch(driver, Arc::downgrade(&self.0), generation));
        let pooled = PooledClient {
            client,
            host,
            generation,
            used: Instant::now(),
        };
        Ok(self.connection(pooled, permit))
    }

    fn connection(&self, pooled: PooledClient, permit: OwnedSemaphorePermit) -> Connection {
        Connection {
            pool: self.0.clone(),
            checked_out: Some((pooled, permit)),
        }
    }
}

impl PoolState {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that was used last: the others may age.
    fn take(&self) -> Option<PooledClient> {
        let mut idle = self.idle();
        std::iter::from_fn(|| idle.clients.pop()).find(|pooled| !pooled.client.is_closed())
    }

    fn put(&self, mut pooled: PooledClient) {
        let mut idle = self.idle();
        if pooled.generation == idle.generation && !pooled.client.is_closed() {
            pooled.used = Instant::now();
            idle.clients.push(pooled);
        }
    }

    /// Keeps no connection that is as old as this one; which ones are in use, ends with their use.
    fn invalidate(&self, generation: u64) {
        let mut idle = self.idle();
        if generation == idle.generation {
            idle.generation += 1;
            idle.clients.clear();
        }
    }
}

async fn is_alive(client: &Client) -> bool {
    matches!(
        timeout(ANSWERS_WITHIN, client.check_connection()).await,
        Ok(Ok(()))
    )
}

/// Waits for the end of a connection, which if it was not ours is the end of all.
async fn watch(driver: open::Driver, pool: Weak<PoolState>, generation: u64) {
    if let Ok(Err(error)) = driver.await
        && let Some(pool) = pool.upgrade()
    {
        let reason = error::cause(&error);
        tracing::debug!(reason, "a connection to PostgreSQL ended");
        pool.invalidate(generation);
    }
}

/// A connection of one's own. Dropped, it goes back when it has shown that nothing of what was asked is still under way.
pub(super) struct Connection {
    pool: Arc<PoolState>,
    /// There until it is dropped.
    checked_out: Option<(PooledClient, OwnedSemaphorePermit)>,
}

impl Connection {
    /// Gives it back at once and saves asking it: for who has an answer to everything and no transaction open.
    pub(super) fn give_back(mut self) {
        if let Some((pooled, permit)) = self.checked_out.take() {
            self.pool.put(pooled);
            drop(permit);
        }
    }

    /// What a statement's failure means for a start. If it says that this server takes no more writes, its connections are
    /// not handed out again.
    pub(super) fn classify(&self, error: &tokio_postgres::Error) -> ConnectError {
        let pooled = self.pooled();
        if error::ends_writes(error) {
            self.pool.invalidate(pooled.generation);
        }
        self.pool
            .error(vec![(pooled.host, HostError::from_statement(error))])
    }

    fn pooled(&self) -> &PooledClient {
        match &self.checked_out {
            Some((pooled, _)) => pooled,
            None => unreachable!("it was given back"),
        }
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.pooled().client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        match &mut self.checked_out {
            Some((pooled, _)) => &mut pooled.client,
            None => unreachable!("it was given back"),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some((pooled, permit)) = self.checked_out.take() else {
            return;
        };
        if pooled.client.is_closed() {
            self.pool.invalidate(pooled.generation);
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let pool = self.pool.clone();
        runtime.spawn(async move {
            if is_alive(&pooled.client).await {
                pool.put(pooled);
            } else {
                pool.invalidate(pooled.generation);
            }
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests;
