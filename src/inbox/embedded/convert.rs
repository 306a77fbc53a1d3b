//! Converts a store of the first format: `inbox.db` with all events, and a journal before it.
//!
//! The new store is built beside the old one. It counts from the moment when `state.db` has its name. A conversion that was
//! interrupted before is begun again. The old files stay, with `.old` in their names, until the operator removes them.

mod error;
mod events;
mod journal;
mod old_store;

use std::io;
use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;

use self::error::ConvertError;
use self::events::NewLog;
use self::old_store::{OLD, OldStore};
use super::directory::{checkpoint_whole, close, connect, sync};
use super::{disk_space, schema};
use crate::clock::AgeCutoff;
use crate::inbox::OpenError;
use crate::inbox::event_log::Layout;

const NEW_STATE: &str = "state.new.db";
const NEW_LOG: &str = "log.new";
/// The files of the old store, and what they are called afterwards. The database is the last one: it says that there is something
/// to do. What SQLite has beside it keeps its place beside it.
const RENAMED: [(&str, &str); 5] = [
    ("accepted.0-wal", "accepted.0-wal.old"),
    ("accepted.1-wal", "accepted.1-wal.old"),
    ("inbox.db-wal", "inbox.db.old-wal"),
    ("inbox.db-shm", "inbox.db.old-shm"),
    (OLD, "inbox.db.old"),
];

/// A moment of the conversion at which tests interrupt it.
type Interrupt<'a> = &'a mut dyn FnMut(&str) -> io::Result<()>;

/// Converts the store in this directory, if it has the first format. `old`: which events retention may remove.
pub(super) fn convert(dir: &Path, layout: &Layout, old: AgeCutoff) -> Result<(), OpenError> {
    convert_or(dir, layout, old, &mut |_| Ok(())).map_err(|error| {
        // A full volume would stay full.
        let _ = remove_new(dir);
        error.into_open(dir)
    })
}

fn convert_or(
    dir: &Path,
    layout: &Layout,
    old: AgeCutoff,
    at: Interrupt,
) -> Result<(), ConvertError> {
    if !dir.join(OLD).exists() {
        return Ok(());
    }
    let is_converted = dir.join("state.db").exists();
    if dir.join("inbox.db.old").exists() {
        return Err(ConvertError::Refused(two_stores(is_converted).to_owned()));
    }
    if !is_converted {
        tracing::info!(
            "the store has the format of an earlier release and is converted: callbacks are accepted when that is done"
        );
        let began = Instant::now();
        let count = build(dir, layout, old, at)?;
        at("built")?;
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
    for (name, renamed) in RENAMED {
        if_there(std::fs::rename(dir.join(name), dir.join(renamed)))?;
        at(name)?;
    }
    Ok(sync(dir)?)
}

fn two_stores(is_converted: bool) -> &'static str {
    if is_converted {
        "inbox.db.old is there, too: an earlier release was started after the store was converted, and may have accepted callbacks \
         into inbox.db; to go on without those, move inbox.db and accepted.*-wal to another place"
    } else {
        "inbox.db.old is there, too, and would be overwritten; if inbox.db is the store, move inbox.db.old to another place"
    }
}

/// Builds the new store beside the old one. Returns the number of events.
fn build(
    dir: &Path,
    layout: &Layout,
    cutoff: AgeCutoff,
    at: Interrupt,
) -> Result<u64, ConvertError> {
    let mut old = OldStore::open(dir)?;
    // What an interrupted conversion left would take the room of this one.
    remove_new(dir)?;
    remove_directory(&dir.join("log"))?;
    check_room(dir)?;
    at("removed")?;
    old.recover_journal(dir)?;
    at("recovered")?;
    // The old file is whole by itself, and what is read next is on the disk.
    old.make_whole()?;
    std::fs::create_dir(dir.join(NEW_LOG))?;
    let mut state = connect(&dir.join(NEW_STATE))?;
    schema::migrate(&mut state)?;
    old.copy_deliveries(&state, dir)?;
    at("deliveries")?;
    state.execute_batch("BEGIN IMMEDIATE")?;
    let log = NewLog::open(&state, dir.join(NEW_LOG), layout, cutoff)?;
    let count = log.copy(&old, at)?;
    state.execute_batch("COMMIT")?;
    at("committed")?;
    old.close();
    finish_state(state, dir)?;
    Ok(count)
}

/// Closes the new state. It is renamed without its write-ahead log, so nothing may be left in that.
fn finish_state(state: Connection, dir: &Path) -> Result<(), ConvertError> {
    if !checkpoint_whole(&state)? {
        return Err(ConvertError::busy(NEW_STATE));
    }
    close(state);
    for ending in ["-wal", "-shm"] {
        remove(&dir.join(format!("{NEW_STATE}{ending}")))?;
    }
    Ok(sync(&dir.join(NEW_STATE))?)
}

/// Both stores lie beside each other for a while. A record of the log is a little longer than a row, and what is only in the journal
/// is written twice.
fn check_room(dir: &Path) -> Result<(), ConvertError> {
    const SMALLEST: u64 = 8 << 20;
    let length = |name: &str| std::fs::metadata(dir.join(name)).map_or(0, |file| file.len());
    let database = length(OLD) + length("inbox.db-wal");
    let journal: u64 = journal::NAMES.into_iter().map(length).sum();
    let needed = database + database / 8 + 2 * journal + SMALLEST;
    let volume = rustix::fs::statvfs(dir).map_err(io::Error::from)?;
    let free = disk_space::free(&volume);
    match free < needed {
        true => Err(ConvertError::Refused(format!(
            "there is too little room to convert the store: {needed} bytes are needed and {free} are free; make room, nothing was changed"
        ))),
        false => Ok(()),
    }
}

/// Removes what a conversion has not finished.
fn remove_new(dir: &Path) -> io::Result<()> {
    remove_directory(&dir.join(NEW_LOG))?;
    for ending in ["", "-wal", "-shm"] {
        remove(&dir.join(format!("{NEW_STATE}{ending}")))?;
    }
    Ok(())
}

fn remove(file: &Path) -> io::Result<()> {
    if_there(std::fs::remove_file(file))
}

fn remove_directory(directory: &Path) -> io::Result<()> {
    if_there(std::fs::remove_dir_all(directory))
}

fn if_there(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
