//! Converts a store of the first format: `inbox.db` with all events, and a journal before it.
//!
//! The new store is built beside the old one. It counts from the moment when `state.db` has its name. A conversion that was
//! interrupted before is begun again. The old files stay, with `.old` at the end of their names, until the operator removes them.

mod events;
mod journal;

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Instant;

use css_callbacks::{EventId, Timestamp};
use rusqlite::{Connection, params};

use self::journal::JournalError;
use super::directory::{checkpoint_whole, close, connect};
use super::schema;
use crate::event::Seq;
use crate::inbox::OpenError;
use crate::inbox::event_log::{Layout, LogError};

const OLD: &str = "inbox.db";
const NEW_STATE: &str = "state.new.db";
const NEW_LOG: &str = "log.new";
/// Marks a file as the first format: "lhok".
const APPLICATION: i32 = 0x6c68_6f6b;
/// The newest form of the first format.
const NEWEST: i64 = 2;

/// An event of the old store.
#[derive(Debug, Clone)]
struct OldEvent {
    seq: Seq,
    received: Timestamp,
    id: EventId,
    /// Its `event_type`, or a number below 0.
    code: i64,
    source: String,
    body: Vec<u8>,
}

/// Why a store cannot be converted.
#[derive(Debug, thiserror::Error)]
enum ConvertError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Schema(#[from] schema::SchemaError),
    #[error("the file is not a livehook inbox")]
    Foreign,
    #[error(
        "the inbox was written by a newer livehook (format {0}, this one converts up to {NEWEST})"
    )]
    Newer(i64),
    #[error(
        "another program reads the file, so it cannot be converted; end that program and start livehook again"
    )]
    Busy,
    #[error(
        "there is too little room to convert the store: {needed} bytes are needed and {free} are free; make room, nothing was changed"
    )]
    NoRoom { needed: u64, free: u64 },
}

/// A moment of the conversion at which tests interrupt it.
type Interrupt<'a> = &'a mut dyn FnMut(&str) -> io::Result<()>;

/// Converts the store in this directory, if it has the first format.
pub(super) fn convert(dir: &Path, layout: &Layout) -> Result<(), OpenError> {
    convert_or(dir, layout, &mut |_| Ok(())).map_err(|error| OpenError::Broken {
        path: dir.join(OLD),
        reason: error.to_string(),
    })
}

fn convert_or(dir: &Path, layout: &Layout, at: Interrupt) -> Result<(), ConvertError> {
    if !dir.join(OLD).exists() {
        return Ok(());
    }
    if !dir.join("state.db").exists() {
        tracing::info!(
            "the store has the format of an earlier release and is converted: callbacks are accepted when that is done"
        );
        let began = Instant::now();
        let count = build(dir, layout, at)?;
        at("built")?;
        let _ = std::fs::remove_dir_all(dir.join("log"));
        std::fs::rename(dir.join(NEW_LOG), dir.join("log"))?;
        sync(dir)?;
        at("log")?;
        // From here on the new store counts.
        std::fs::rename(dir.join(NEW_STATE), dir.join("state.db"))?;
        sync(dir)?;
        tracing::info!(
            events = count,
            seconds = began.elapsed().as_secs(),
            "the store was converted: the old files are inbox.db.old and accepted.*.old, remove them when you no longer need them"
        );
    }
    at("state")?;
    // inbox.db is the last one: it says that there is something to do.
    for name in journal::NAMES.into_iter().chain([OLD]) {
        let old = dir.join(format!("{name}.old"));
        match std::fs::rename(dir.join(name), old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        at(name)?;
    }
    Ok(sync(dir)?)
}

/// Builds the new store beside the old one. Returns the number of events.
fn build(dir: &Path, layout: &Layout, at: Interrupt) -> Result<u64, ConvertError> {
    let old = open_old(dir)?;
    check_room(dir)?;
    recover_journal(&old, dir)?;
    at("recovered")?;
    // The old file is whole by itself, and what is read next is on the disk.
    if !checkpoint_whole(&old)? {
        return Err(ConvertError::Busy);
    }
    for ending in ["", "-wal", "-shm"] {
        remove(&dir.join(format!("{NEW_STATE}{ending}")))?;
    }
    let new_log = dir.join(NEW_LOG);
    let _ = std::fs::remove_dir_all(&new_log);
    std::fs::create_dir(&new_log)?;
    let mut state = connect(&dir.join(NEW_STATE))?;
    schema::migrate(&mut state)?;
    copy_deliveries(&state, &dir.join(OLD))?;
    at("deliveries")?;
    state.execute_batch("BEGIN IMMEDIATE")?;
    let count = events::copy(&old, &state, new_log, layout, at)?;
    state.execute_batch("COMMIT")?;
    close(old);
    // Without its write-ahead log.
    close(state);
    File::open(dir.join(NEW_STATE))?.sync_all()?;
    Ok(count)
}

fn open_old(dir: &Path) -> Result<Connection, ConvertError> {
    let conn = connect(&dir.join(OLD))?;
    let pragma = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if pragma("application_id")? != i64::from(APPLICATION) {
        return Err(ConvertError::Foreign);
    }
    let version = pragma("user_version")?;
    if version > NEWEST {
        let sql = "SELECT value FROM meta WHERE name = 'readable_by'";
        let readable_by: i64 = conn.query_row(sql, [], |row| row.get(0))?;
        if readable_by > NEWEST {
            return Err(ConvertError::Newer(readable_by));
        }
    }
    Ok(conn)
}

/// Both stores lie beside each other for a while.
fn check_room(dir: &Path) -> Result<(), ConvertError> {
    let length = |name: &str| std::fs::metadata(dir.join(name)).map_or(0, |file| file.len());
    let needed = length(OLD) + length("inbox.db-wal") + (8 << 20);
    let volume = rustix::fs::statvfs(dir).map_err(io::Error::from)?;
    let free = volume.f_bavail * volume.f_frsize;
    match free < needed {
        true => Err(ConvertError::NoRoom { needed, free }),
        false => Ok(()),
    }
}

/// Moves what only the journal has into `inbox.db`, as the first release did.
fn recover_journal(old: &Connection, dir: &Path) -> Result<(), ConvertError> {
    let last = last_given(old)?;
    old.execute_batch("BEGIN IMMEDIATE")?;
    let recovered = journal::recover(dir, last, |event| {
        old.prepare_cached(
            "INSERT OR IGNORE INTO events(seq, received, source, kind, id, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            event.seq,
            event.received.millis(),
            event.source,
            event.code,
            event.id.as_bytes(),
            event.body,
        ])
        .map(drop)
    });
    old.execute_batch(if recovered.is_ok() {
        "COMMIT"
    } else {
        "ROLLBACK"
    })?;
    Ok(recovered?)
}

/// The highest number that was ever given to an event.
fn last_given(old: &Connection) -> rusqlite::Result<Seq> {
    old.query_row(
        "SELECT max(
            coalesce((SELECT max(seq) FROM events), 0),
            coalesce((SELECT max(position) FROM handlers), 0),
            coalesce((SELECT max(last) FROM id_runs), 0),
            (SELECT value FROM meta WHERE name = 'last_seq'))",
        [],
        |row| row.get(0),
    )
}

/// Copies handlers, and deliveries whose events are there.
fn copy_deliveries(state: &Connection, old: &Path) -> rusqlite::Result<()> {
    state.execute("ATTACH ?1 AS old", [old.to_string_lossy()])?;
    state.execute_batch(
        "BEGIN;
         INSERT INTO handlers(id, name, position, paused, missing_since)
             SELECT id, name, position, paused, missing_since FROM old.handlers;
         DELETE FROM sqlite_sequence WHERE name = 'handlers';
         INSERT INTO sqlite_sequence(name, seq) SELECT name, seq FROM old.sqlite_sequence WHERE name = 'handlers';
         INSERT INTO deliveries(handler, seq, lane, state, attempts, first_attempt, due, parked, error)
             SELECT handler, seq, lane, state, attempts, first_attempt, due, parked, error FROM old.deliveries
             WHERE seq IN (SELECT seq FROM old.events);
         COMMIT;
         DETACH old;",
    )
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
