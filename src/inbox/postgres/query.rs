//! Queries: one statement, one answer, within a time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::Shared;
use super::connect::{ConnectError, Connection};
use crate::inbox::StoreError;

/// A statement that takes longer has failed, even if the server finishes it later.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// A parameter and its type. As livehook gives the type, the server need not be asked for it, and no
/// statement is prepared.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl Shared {
    /// Runs one statement.
    pub(super) async fn query(
        &self,
        sql: &str,
        values: &[Parameter<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.query_within(ANSWER_WITHIN, sql, values)
            .await
            .map_err(|problem| {
                tracing::debug!(store.error = problem, "a query of the store failed");
                StoreError::Failed
            })
    }

    pub(super) async fn query_within(
        &self,
        limit: Duration,
        sql: &str,
        values: &[Parameter<'_>],
    ) -> Result<Vec<Row>, String> {
        if self.closed.load(Ordering::SeqCst) {
            return Err("the store is closed".to_owned());
        }
        let run = async {
            let connection = self.pool.get().await?;
            let rows = answer(&connection, sql, values).await?;
            connection.give_back();
            Ok(rows)
        };
        match timeout(limit, run).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(ConnectError::Setup(problem) | ConnectError::Away(problem))) => Err(problem),
            Err(_) => Err(format!(
                "PostgreSQL did not answer within {}",
                humantime::format_duration(limit)
            )),
        }
    }
}

async fn answer(
    connection: &Connection,
    sql: &str,
    values: &[Parameter<'_>],
) -> Result<Vec<Row>, ConnectError> {
    let answer = connection.query_typed(sql, values).await;
    answer.map_err(|error| connection.classify(&error))
}
