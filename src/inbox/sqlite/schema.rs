//! The stored format and how it changes.
//!
//! Every change only adds, so that the previous release keeps working on what a newer one has touched. `user_version` counts
//! the changes that were made; `meta.readable_by` is the oldest count that may still open the file, and is raised only if a
//! change cannot be additive.

use rusqlite::{Connection, TransactionBehavior};

/// Marks a file as livehook's: "lhok".
const APPLICATION: i32 = 0x6c68_6f6b;

/// One step per released change, oldest first. A step is never edited.
const STEPS: [&str; 2] = [
    "
    CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('readable_by', 1), ('last_seq', 0);

    -- Only ever appended to in the order of seq; nothing else may be indexed here.
    CREATE TABLE events(
        seq INTEGER PRIMARY KEY,
        received INTEGER NOT NULL, -- milliseconds since 1970
        source TEXT NOT NULL,
        kind INTEGER NOT NULL,     -- event_type, -1 if unknown
        id BLOB NOT NULL,
        body BLOB NOT NULL
    );

    -- Ids of past events in sorted runs, for the duplicate check and for finding an event by its id.
    CREATE TABLE id_runs(
        run INTEGER PRIMARY KEY,
        first INTEGER NOT NULL, last INTEGER NOT NULL,    -- seq
        oldest INTEGER NOT NULL, newest INTEGER NOT NULL  -- received
    );
    CREATE TABLE id_parts(part INTEGER PRIMARY KEY, ids BLOB NOT NULL);

    CREATE TABLE handlers(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        position INTEGER NOT NULL,
        paused INTEGER NOT NULL DEFAULT 0,  -- since when; 0 if it is not
        missing_since INTEGER
    );

    -- Only deliveries that are out of line.
    CREATE TABLE deliveries(
        handler INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        lane INTEGER NOT NULL,
        state INTEGER NOT NULL, -- 0 due, 1 waiting, 2 parked
        attempts INTEGER NOT NULL,
        first_attempt INTEGER,
        due INTEGER NOT NULL,
        parked INTEGER,         -- since when; stays while it is replayed
        error TEXT NOT NULL,
        PRIMARY KEY (handler, seq)
    ) WITHOUT ROWID;
    CREATE INDEX deliveries_by_due ON deliveries(handler, state, due);
    CREATE INDEX deliveries_by_lane ON deliveries(handler, lane, state, seq);
    CREATE INDEX deliveries_by_parked ON deliveries(handler, parked) WHERE parked IS NOT NULL;
    CREATE INDEX deliveries_parked_in_order ON deliveries(handler, seq) WHERE parked IS NOT NULL;
    CREATE INDEX deliveries_by_seq ON deliveries(seq);
    ",
    "
    -- What of the ids is held in memory. Runs that were merged have numbers below zero.
    ALTER TABLE id_runs ADD COLUMN filter BLOB;
    ",
];

/// Why a file is not an inbox that this release can use.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
    #[error("the file is no livehook inbox")]
    Foreign,
    #[error(
        "the inbox was written by a newer livehook (format {found}, this one reads up to {known})"
    )]
    Newer { found: i64, known: i64 },
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Creates the schema or brings it up to date.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), SchemaError> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let pragma = |name: &str| tx.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let done = pragma("user_version")?;
    let known = STEPS.len() as i64;
    let application = pragma("application_id")?;
    let empty: bool = tx.query_row(
        "SELECT NOT EXISTS (SELECT 1 FROM sqlite_master)",
        [],
        |row| row.get(0),
    )?;
    if application != i64::from(APPLICATION) && !empty {
        return Err(SchemaError::Foreign);
    }
    if done > known {
        let found = tx.query_row(
            "SELECT value FROM meta WHERE name = 'readable_by'",
            [],
            |row| row.get(0),
        )?;
        return if found > known {
            Err(SchemaError::Newer { found, known })
        } else {
            Ok(())
        };
    }
    if done == known {
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
    fn what_the_first_release_wrote_is_kept() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(STEPS[0]).unwrap();
        conn.pragma_update(None, "application_id", APPLICATION)
            .unwrap();
        conn.pragma_update(None, "user_version", 1).unwrap();
        let write = "INSERT OR REPLACE INTO id_runs(run, first, last, oldest, newest) VALUES (3, 1, 9, 5, 6)";
        conn.execute(write, []).unwrap();
        migrate(&mut conn).unwrap();
        let read = || {
            let select = "SELECT last, filter FROM id_runs WHERE run = 3";
            conn.query_row(select, [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Option<Vec<u8>>>(1)?))
            })
            .unwrap()
        };
        assert_eq!(read(), (9, None));
        // As it would go on beside this one: a filter never outlives its run.
        conn.execute("UPDATE id_runs SET filter = x'01'", [])
            .unwrap();
        conn.execute(write, []).unwrap();
        assert_eq!(read(), (9, None));
    }

    #[test]
    fn opening_it_again_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Connection::open(dir.path().join("inbox.db")).unwrap();
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
        conn.execute_batch("ALTER TABLE events ADD COLUMN shiny INTEGER; PRAGMA user_version = 99")
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
