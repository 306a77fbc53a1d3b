//! Reads `state.db`, and only reads it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::event::Seq;
use crate::inbox::embedded::schema::{self, SchemaError};
use crate::inbox::embedded::stored;
use crate::inbox::event_log::{KnownState, LogEntry};

/// How long SQLite waits for the process that uses the store.
const PATIENCE: Duration = Duration::from_secs(10);
/// Copies that are read at once.
const COPIES: usize = 100;

/// What the state says.
pub(super) struct StateReport {
    pub(super) known: KnownState,
    /// Events with a row in `deliveries`.
    pub(super) owed: BTreeSet<Seq>,
    pub(super) copies: BTreeSet<Seq>,
}

/// Reads the file. Adds what is wrong in it to `damage`.
pub(super) fn read(directory: &Path, damage: &mut Vec<String>) -> Result<StateReport, SchemaError> {
    let conn = open(&directory.join("state.db"))?;
    let snapshot = conn.unchecked_transaction()?;
    let mut wrong = integrity(&snapshot)?;
    schema::check(&snapshot)?;
    let mut copies = BTreeSet::new();
    let mut after = 0;
    loop {
        let some = stored::kept_after(&snapshot, after, COPIES)?;
        let Some(last) = some.last() else { break };
        after = last.seq();
        for copy in &some {
            copies.insert(copy.seq());
            if matches!(copy, LogEntry::Damaged(..)) {
                wrong.push(format!("the copy of event {} is damaged", copy.seq()));
            }
        }
    }
    let report = StateReport {
        known: stored::known_state(&snapshot, false)?,
        owed: seqs(&snapshot, "SELECT DISTINCT seq FROM deliveries")?,
        copies,
    };
    damage.extend(wrong.iter().map(|found| format!("state.db: {found}")));
    Ok(report)
}

/// Checks the rejected list, if there is one.
pub(super) fn check_rejected(directory: &Path, damage: &mut Vec<String>) {
    let file = directory.join("rejected.db");
    if file.exists() {
        let found = open(&file).and_then(|conn| integrity(&conn));
        let found = found.unwrap_or_else(|error| vec![error.to_string()]);
        damage.extend(found.iter().map(|found| format!("rejected.db: {found}")));
    }
}

/// Opens a file of SQLite without making any other file.
fn open(file: &Path) -> rusqlite::Result<Connection> {
    let name = file.to_str();
    let name = name.ok_or_else(|| rusqlite::Error::InvalidPath(file.to_owned()))?;
    let length = |suffix: &str| fs::metadata(format!("{name}{suffix}")).map(|file| file.len());
    let has_wal = length("-wal").is_ok_and(|length| length > 0);
    let is_shared = length("-shm").is_ok();
    let how = match (has_wal, is_shared) {
        // Nobody uses it.
        (false, _) => "immutable=1",
        (true, true) => "",
        // A copy of what a crash left. Without locks SQLite needs no memory that is shared.
        (true, false) => "vfs=unix-none",
    };
    let escaped: String = name
        .chars()
        .map(|c| match c {
            '%' | '?' | '#' => format!("%{:02x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let conn = Connection::open_with_flags(format!("file:{escaped}?mode=ro&{how}"), flags)?;
    conn.busy_timeout(PATIENCE)?;
    if !is_shared {
        conn.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    }
    Ok(conn)
}

/// What SQLite finds wrong.
fn integrity(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut check = conn.prepare("PRAGMA integrity_check")?;
    let found = check.query_map([], |row| row.get::<_, String>(0))?;
    let found: Vec<String> = found.collect::<Result<_, _>>()?;
    Ok(match &found[..] {
        [only] if only == "ok" => Vec::new(),
        _ => found,
    })
}

fn seqs(conn: &Connection, sql: &str) -> rusqlite::Result<BTreeSet<Seq>> {
    conn.prepare(sql)?
        .query_map([], |row| row.get(0))?
        .collect()
}
