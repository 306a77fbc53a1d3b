//! The stored format, and how it changes.
//!
//! A change only adds things, so that the previous release still works while receivers are replaced
//! one by one. `meta.version` counts the changes. `meta.readable_by` is the lowest version that may
//! use the database; it rises only if a change cannot just add. One receiver at a time makes a change.

mod columns;

use tokio_postgres::Client;

/// One step per released change, oldest first. A step is never edited.
const STEPS: [&str; 3] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
];

/// The advisory lock that a receiver holds while it changes the schema.
const LOCK: i64 = 7_810_209_847_122;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum MigrationError {
    #[error(
        "the schema \"livehook\" was made by a newer livehook (format {found}, this one reads up to {known})"
    )]
    Newer { found: i64, known: i64 },
    #[error(
        "the table livehook.{table} was changed by hand: it should have the column \"{column}\"; change it back, or restore the database"
    )]
    Changed {
        table: &'static str,
        column: &'static str,
    },
    #[error("the schema \"livehook\" was not made by livehook; rename it, or use another database")]
    Foreign,
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
}

/// Creates the schema or brings it up to date.
pub(super) async fn migrate(client: &mut Client) -> Result<(), MigrationError> {
    let known = STEPS.len() as i64;
    // Look without the lock first: if there is nothing to do, there is nothing to wait for.
    if applied_steps(client).await? >= known {
        check_readable(client, known).await?;
    } else {
        apply(client).await?;
    }
    columns::check(client).await
}

async fn apply(client: &mut Client) -> Result<(), MigrationError> {
    let transaction = client.transaction().await?;
    transaction
        .batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK})"))
        .await?;
    let applied = applied_steps(transaction.client()).await?;
    let first = usize::try_from(applied).unwrap_or(0).min(STEPS.len());
    for (number, step) in STEPS.iter().enumerate().skip(first) {
        if number == 0 && !has_schema(transaction.client()).await? {
            transaction.batch_execute("CREATE SCHEMA livehook").await?;
        }
        transaction.batch_execute(step).await?;
        let version = format!(
            "UPDATE livehook.meta SET value = {} WHERE name = 'version'",
            number + 1
        );
        transaction.batch_execute(&version).await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn has_schema(client: &Client) -> Result<bool, tokio_postgres::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = 'livehook')";
    let row = client.query_typed(sql, &[]).await?;
    Ok(row[0].get(0))
}

/// How many changes were made. The schema may be empty, if an operator created it for this role.
async fn applied_steps(client: &Client) -> Result<i64, MigrationError> {
    // A query of pg_class, not to_regclass, which may miss what another receiver has just committed.
    let sql = "SELECT coalesce(bool_or(relname = 'meta'), false), coalesce(bool_or(relname = 'events'), false)
        FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'livehook')";
    let row = &client.query_typed(sql, &[]).await?[0];
    if !row.get::<_, bool>(0) {
        return if row.get(1) {
            Err(MigrationError::Foreign)
        } else {
            Ok(0)
        };
    }
    let sql = "SELECT value FROM livehook.meta WHERE name = 'version'";
    let rows = client.query_typed(sql, &[]).await?;
    rows.first()
        .map(|row| row.get(0))
        .ok_or(MigrationError::Foreign)
}

async fn check_readable(client: &Client, known: i64) -> Result<(), MigrationError> {
    let sql = "SELECT value FROM livehook.meta WHERE name = 'readable_by'";
    let rows = client.query_typed(sql, &[]).await?;
    let found = rows.first().map_or(0, |row| row.get(0));
    if found > known {
        return Err(MigrationError::Newer { found, known });
    }
    Ok(())
}
