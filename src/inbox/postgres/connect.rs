//! Connections to the server that takes writes.
//!
//! A bounded pool of our own: what it has to know is when *all* its connections are worth nothing. A dead or demoted primary is
//! noticed on one of them (it ends, or answers no more, or says that it is read-only), and then none of those that wait idle is
//! handed out again. Only what has just answered comes back: a caller that stopped waiting leaves its statement behind.
//!
//! Nothing rests on a session, so that a pooler of transactions may stand in between: no named statements, no settings but for
//! a transaction (`SET LOCAL`), and transactions only by [`Client::transaction`], which rolls back when it is dropped. What
//! [`Pool::listen`] hears is the exception, and only ever a hint.

mod error;
mod listen;
mod open;
mod promise;
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
use self::error::Refused;
use self::tls::Tls;
use crate::inbox::settings::PostgresSettings;

/// An idle connection that was used so recently is handed out untried.
const TRUSTED_FOR: Duration = Duration::from_secs(5);
/// What waits for nothing answers sooner.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// The connections of this process. Clones share them.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    settings: PostgresSettings,
    tls: Tls,
    /// The host that took the last connection: the others are likely to be standbys, or dead.
    favourite: AtomicUsize,
    /// What an acknowledgement means, as far as it was logged.
    told: Mutex<BTreeSet<String>>,
    free: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Connections of an earlier generation are not kept.
    generation: u64,
    clients: Vec<Kept>,
}

struct Kept {
    client: Client,
    host: usize,
    generation: u64,
    used: Instant,
}

impl Pool {
    /// A pool without connections; reads what the system trusts, if certificates are looked at.
    pub(super) fn new(settings: &PostgresSettings) -> Result<Self, String> {
        Ok(Self(Arc::new(Shared {
            tls: Tls::new(&settings.cluster.encryption)?,
            favourite: AtomicUsize::new(0),
            told: Mutex::default(),
            free: Arc::new(Semaphore::new(settings.connections)),
            idle: Mutex::default(),
            settings: settings.clone(),
        })))
    }

    /// A connection of one's own until it is dropped; waits for a free one as long as it takes.
    pub(super) async fn get(&self) -> Result<Connection, ConnectError> {
        let permit = self.0.free.clone().acquire_owned().await;
        let permit = permit.map_err(|closed| ConnectError::Away(closed.to_string()))?;
        while let Some(kept) = self.0.take() {
            if kept.used.elapsed() < TRUSTED_FOR || answers(&kept.client).await {
                return Ok(self.connection(kept, permit));
            }
            self.0.forget(kept.generation);
        }
        let generation = self.0.idle().generation;
        let (client, host, driver) = self.0.open(None).await?;
        tokio::spawn(watch(driver, Arc::downgrade(&self.0), generation));
        let kept = Kept {
            client,
            host,
            generation,
            used: Instant::now(),
        };
        Ok(self.connection(kept, permit))
    }

    fn connection(&self, kept: Kept, permit: OwnedSemaphorePermit) -> Connection {
        Connection {
            pool: self.0.clone(),
            parts: Some((kept, permit)),
        }
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that was used last: the others may age.
    fn take(&self) -> Option<Kept> {
        let mut idle = self.idle();
        std::iter::from_fn(|| idle.clients.pop()).find(|kept| !kept.client.is_closed())
    }

    fn put(&self, mut kept: Kept) {
        let mut idle = self.idle();
        if kept.generation == idle.generation && !kept.client.is_closed() {
            kept.used = Instant::now();
            idle.clients.push(kept);
        }
    }

    /// Keeps no connection that is as old as this one; which ones are in use, ends with their use.
    fn forget(&self, generation: u64) {
        let mut idle = self.idle();
        if generation == idle.generation {
            idle.generation += 1;
            idle.clients.clear();
        }
    }
}

async fn answers(client: &Client) -> bool {
    matches!(
        timeout(ANSWERS_WITHIN, client.check_connection()).await,
        Ok(Ok(()))
    )
}

/// Waits for the end of a connection, which if it was not ours is the end of all.
async fn watch(driver: open::Driver, pool: Weak<Shared>, generation: u64) {
    if let Ok(Err(error)) = driver.await
        && let Some(pool) = pool.upgrade()
    {
        let reason = error::cause(&error);
        tracing::debug!(reason, "a connection to PostgreSQL ended");
        pool.forget(generation);
    }
}

/// A connection of one's own. Dropped, it goes back when it has shown that nothing of what was asked is still under way.
pub(super) struct Connection {
    pool: Arc<Shared>,
    /// There until it is dropped.
    parts: Option<(Kept, OwnedSemaphorePermit)>,
}

impl Connection {
    /// Gives it back at once and saves asking it: for who has an answer to everything and no transaction open.
    pub(super) fn give_back(mut self) {
        if let Some((kept, permit)) = self.parts.take() {
            self.pool.put(kept);
            drop(permit);
        }
    }

    /// What a statement's failure means for a start. If it says that this server takes no more writes, its connections are
    /// not handed out again.
    pub(super) fn failed(&self, error: &tokio_postgres::Error) -> ConnectError {
        let kept = self.kept();
        if error::is_the_end(error) {
            self.pool.forget(kept.generation);
        }
        self.pool
            .error(vec![(kept.host, Refused::by_statement(error))])
    }

    fn kept(&self) -> &Kept {
        match &self.parts {
            Some((kept, _)) => kept,
            None => unreachable!("it was given back"),
        }
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.kept().client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        match &mut self.parts {
            Some((kept, _)) => &mut kept.client,
            None => unreachable!("it was given back"),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some((kept, permit)) = self.parts.take() else {
            return;
        };
        if kept.client.is_closed() {
            self.pool.forget(kept.generation);
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let pool = self.pool.clone();
        runtime.spawn(async move {
            if answers(&kept.client).await {
                pool.put(kept);
            } else {
                pool.forget(kept.generation);
            }
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests;
