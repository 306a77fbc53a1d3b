//! The format of `state.db` and how it changes.
//!
//! Every change only adds, so that the previous release still works on what a newer one has written. `user_version` counts the
//! changes that were made. `meta.readable_by` is the oldest count that may still open the file. It is raised only if a change
//! cannot be additive.

use rusqlite::{Connection, TransactionBehavior};

/// Marks a file as livehook's state: "lhst".
const APPLICATION: i32 = 0x6c68_7374;

/// One step per released change, oldest first. A step is never edited.
const STEPS: [&str; 1] = [include_str!("schema.sql")];

/// Why a file is not an inbox that this release can use.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
    #[error("the file is not a livehook store")]
    Foreign,
    #[error(
        "the store was written by a newer livehook (format {found}, this one reads up to {known})"
    )]
    Newer { found: i64, known: i64 },
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Creates the schema or brings it up to date.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), SchemaError> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let is_empty: bool = tx.query_row(
        "SELECT NOT EXISTS (SELECT 1 FROM sqlite_master)",
        [],
        |row| row.get(0),
    )?;
    if !is_empty {
        check(&tx)?;
    }
    let done = pragma(&tx, "user_version")?;
    let known = STEPS.len() as i64;
    if done >= known {
        return Ok(()); // nothing is written: the disk may be full
    }
    for step in &STEPS[usize::try_from(done).unwrap_or(0)..] {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION)?;
    tx.pragma_update(None, "user_version", known)?;
    tx.commit()?;
    Ok(())
}

/// Whether this release can read a file that has a schema.
pub(super) fn check(conn: &Connection) -> Result<(), SchemaError> {
    if pragma(conn, "application_id")? != i64::from(APPLICATION) {
        return Err(SchemaError::Foreign);
    }
    let sql = "SELECT value FROM meta WHERE name = 'readable_by'";
    let (found, known) = (
        conn.query_row(sql, [], |row| row.get(0))?,
        STEPS.len() as i64,
    );
    match found > known {
        true => Err(SchemaError::Newer { found, known }),
        false => Ok(()),
    }
}

fn pragma(conn: &Connection, name: &str) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, name, |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_created_once_and_then_left_alone() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn).unwrap();
        conn.execute("INSERT INTO handlers(name, position) VALUES ('a', 1)", [])
            .unwrap();
        migrate(&mut conn).unwrap();
        assert_eq!(
            conn.query_row("SELECT count(*) FROM handlers", [], |row| row
                .get::<_, i64>(0))
                .unwrap(),
            1
        );
    }

    #[test]
    fn opening_it_again_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Connection::open(dir.path().join("state.db")).unwrap();
        migrate(&mut open()).unwrap();
        let observer = open();
        let version = || {
            observer
                .pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0))
                .unwrap()
        };
        let before = version();
        migrate(&mut open()).unwrap();
        assert_eq!(version(), before);
    }

    #[test]
    fn a_newer_additive_format_is_used_as_it_is() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn).unwrap();
        conn.execute_batch(
            "ALTER TABLE handlers ADD COLUMN shiny INTEGER; PRAGMA user_version = 99",
        )
        .unwrap();
        migrate(&mut conn).unwrap();
        conn.execute("UPDATE meta SET value = 99 WHERE name = 'readable_by'", [])
            .unwrap();
        assert!(matches!(
            migrate(&mut conn),
            Err(SchemaError::Newer { found: 99, .. })
        ));
    }

    #[test]
    fn another_programs_file_is_not_touched() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE theirs(x)").unwrap();
        assert!(matches!(migrate(&mut conn), Err(SchemaError::Foreign)));
    }
}
