//! Connections to the writable server.
//!
//! livehook has its own bounded pool, because the pool must know when *all* its connections are
//! useless. If one connection shows that the primary is dead or demoted (it ends, does not answer, or
//! is read-only), no idle connection is handed out again. A connection returns to the pool only after
//! it has answered, because the caller may have stopped waiting for its statement.
//!
//! Nothing depends on a session, so that a transaction pooler may be in between: no named statements,
//! only settings of a transaction (`SET LOCAL`), and transactions only by [`Client::transaction`],
//! which rolls back when it is dropped. Only [`Pool::listen`] needs a session, and livehook works
//! without its notifications.

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

/// An idle connection that was used within this time is not checked before its next use.
const TRUSTED_FOR: Duration = Duration::from_secs(5);
/// A statement that waits for no lock is answered within this time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// The connections of this process. Clones share them.
#[derive(Clone)]
pub(super) struct Pool(Arc<PoolState>);

struct PoolState {
    settings: PostgresSettings,
    tls: Tls,
    /// The host of the last connection. The others are probably standbys, or dead.
    preferred: AtomicUsize,
    /// The meanings of an acknowledgement that were logged.
    logged: Mutex<BTreeSet<String>>,
    permits: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Connections of an earlier generation do not return to the pool.
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
    /// Makes a pool without connections. Reads the roots of the system if it has to verify
    /// certificates by them.
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

    /// Takes a connection out of the pool, or opens one. Waits without a limit if all are in use.
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

    /// Takes the connection that was used last. The others may age.
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

    /// Drops all idle connections of this generation. Those in use are dropped after their use.
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

/// Waits until a connection ends. If livehook did not end it, all others are dropped, too.
async fn watch(driver: open::Driver, pool: Weak<PoolState>, generation: u64) {
    if let Ok(Err(error)) = driver.await
        && let Some(pool) = pool.upgrade()
    {
        let reason = error::cause(&error);
        tracing::debug!(reason, "a connection to PostgreSQL ended");
        pool.invalidate(generation);
    }
}

/// A connection that was taken out of the pool. When dropped, it is checked first: it returns only if
/// no statement is still running on it.
pub(super) struct Connection {
    pool: Arc<PoolState>,
    /// None after it was given back.
    checked_out: Option<(PooledClient, OwnedSemaphorePermit)>,
}

impl Connection {
    /// Returns it to the pool without a check. The caller must have the answers to all its statements
    /// and no open transaction.
    pub(super) fn give_back(mut self) {
        if let Some((pooled, permit)) = self.checked_out.take() {
            self.pool.put(pooled);
            drop(permit);
        }
    }

    /// Makes the error of a statement a [`ConnectError`]. If it says that this server accepts no more
    /// writes, its connections are not handed out again.
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
