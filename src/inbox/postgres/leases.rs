//! Which receiver delivers for which handler.
//!
//! A lease counts in the database's time. It is renewed every second, far more often than a third of
//! its term. When a handler changes to another receiver, its epoch rises, and outcomes are written
//! only under the current epoch. Handlers are spread evenly over the receivers that have them in
//! their configuration. A receiver that stops gives its handlers back. One that dies loses them when
//! their terms end.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use rand::random;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::Type;

use super::accept::millis;
use super::query::Parameter;
use super::{POLL_EVERY, PostgresStore, Shared};
use crate::inbox::StoreError;
use crate::inbox::delivery::{CommandRequest, HandlerId, Lease};

/// How often a sender looks for the answer to its command.
const ANSWER_POLL: Duration = Duration::from_millis(100);

impl Shared {
    pub(super) fn configured(&self) -> Option<Vec<HandlerId>> {
        self.lock_configured().clone()
    }

    pub(super) fn set_configured(&self, handlers: Vec<HandlerId>) {
        *self.lock_configured() = Some(handlers);
    }

    fn lock_configured(&self) -> MutexGuard<'_, Option<Vec<HandlerId>>> {
        self.configured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives all leases back, so that other receivers need not wait for the end of a term.
    pub(super) async fn deregister(&self) {
        let sql = "WITH gone AS (DELETE FROM livehook.receivers WHERE id = $1::uuid)
            UPDATE livehook.handlers SET receiver = NULL, until = clock_timestamp() WHERE receiver = $1::uuid";
        let values: [Parameter; 1] = [(&self.receiver, Type::TEXT)];
        let _ = timeout(POLL_EVERY, self.query(sql, &values)).await;
    }
}

impl PostgresStore {
    pub(in crate::inbox) async fn lease(
        &self,
        wanted: &[(HandlerId, Duration)],
    ) -> Result<Vec<Lease>, StoreError> {
        let ids: Vec<HandlerId> = wanted.iter().map(|(id, _)| *id).collect();
        let terms: Vec<i64> = wanted.iter().map(|(_, term)| millis(*term)).collect();
        let values: [Parameter; 3] = [
            (&self.shared.receiver, Type::TEXT),
            (&ids, Type::INT8_ARRAY),
            (&terms, Type::INT8_ARRAY),
        ];
        let sql = "SELECT handler, epoch, surplus FROM livehook.lease_1($1::uuid, $2, $3)";
        // The term counts from before the query. In the database it begins, and ends, later.
        let sent_at = Instant::now();
        let rows = self.shared.query(sql, &values).await?;
        let lease = |row: &tokio_postgres::Row| {
            let handler = row.get(0);
            let term = wanted.iter().find(|(id, _)| *id == handler)?.1;
            Some(Lease {
                handler,
                epoch: Some(row.get(1)),
                until: sent_at + term,
                surplus: row.get(2),
            })
        };
        Ok(rows.iter().filter_map(lease).collect())
    }

    /// Gives a lease back if this is still its epoch.
    pub(in crate::inbox) async fn release(
        &self,
        handler: HandlerId,
        epoch: Option<i64>,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE livehook.handlers SET receiver = NULL, until = clock_timestamp()
            WHERE id = $1 AND epoch = $2 AND receiver = $3::uuid";
        let values: [Parameter; 3] = [
            (&handler, Type::INT8),
            (&epoch, Type::INT8),
            (&self.shared.receiver, Type::TEXT),
        ];
        self.shared.query(sql, &values).await.map(drop)
    }

    pub(in crate::inbox) async fn send_command(
        &self,
        handler: HandlerId,
        what: &str,
        wait: Duration,
    ) -> Result<u64, StoreError> {
        let number: [u8; 16] = random();
        let id = hex::encode(number);
        let values: [Parameter; 3] = [
            (&id, Type::TEXT),
            (&handler, Type::INT8),
            (&what, Type::TEXT),
        ];
        let sql = "INSERT INTO livehook.orders(id, handler, what) VALUES ($1::uuid, $2, $3)";
        self.shared.query(sql, &values).await?;
        let answer = async {
            loop {
                sleep(ANSWER_POLL).await;
                let sql =
                    "SELECT answer FROM livehook.orders WHERE id = $1::uuid AND answer IS NOT NULL";
                let rows = self.shared.query(sql, &values[..1]).await?;
                if let Some(row) = rows.first() {
                    let count: i64 = row.get(0);
                    return u64::try_from(count).map_err(|_| StoreError::Failed);
                }
            }
        };
        match timeout(wait, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                // No receiver may execute it later, when the sender has stopped waiting.
                let sql = "DELETE FROM livehook.orders WHERE id = $1::uuid AND NOT taken";
                let _ = self.shared.query(sql, &values[..1]).await;
                Err(StoreError::Failed)
            }
        }
    }

    pub(in crate::inbox) async fn take_commands(
        &self,
        handlers: &[HandlerId],
    ) -> Result<Vec<CommandRequest>, StoreError> {
        let sql = "UPDATE livehook.orders SET taken = true
            WHERE handler = ANY ($1) AND NOT taken AND asked > clock_timestamp() - interval '1 minute'
            RETURNING id::text, handler, what";
        let rows = self
            .shared
            .query(sql, &[(&handlers, Type::INT8_ARRAY)])
            .await?;
        let command = |row: &tokio_postgres::Row| CommandRequest {
            id: row.get(0),
            handler: row.get(1),
            what: row.get(2),
        };
        Ok(rows.iter().map(command).collect())
    }

    pub(in crate::inbox) async fn answer_command(
        &self,
        id: &str,
        answer: Result<u64, StoreError>,
    ) -> Result<(), StoreError> {
        let answer = answer.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX));
        let sql = "UPDATE livehook.orders SET answer = $2, answered = clock_timestamp() WHERE id = $1::uuid";
        let values: [Parameter; 2] = [(&id, Type::TEXT), (&answer, Type::INT8)];
        self.shared.query(sql, &values).await.map(drop)
    }
}
