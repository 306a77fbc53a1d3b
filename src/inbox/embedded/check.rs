//! Checks a store on the disk. It only reads, also beside the process that uses the store.

mod state;

use std::io;
use std::path::{Path, PathBuf};

use self::state::StateReport;
use super::backup::UNFINISHED_STATE;
use crate::event::Seq;
use crate::inbox::event_log::{self, Directory, LogReport};

/// What a check has found.
#[derive(Debug, Default)]
pub(crate) struct StoreCheck {
    /// A sentence for each damage.
    pub(crate) damage: Vec<String>,
    /// Events that can be delivered, listed and found.
    pub(crate) events: u64,
    /// Files of the log with events.
    pub(crate) segments: u64,
    /// Deleted events whose bodies the next start overwrites, because a deletion was interrupted.
    pub(crate) unfinished_deletions: u64,
}

/// Why a store could not be checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("{} has no store", .0.display())]
    NoStore(PathBuf),
    #[error("{} has the store of an earlier release; start livehook once, which converts it", .0.display())]
    OldFormat(PathBuf),
    #[error("{}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
}

/// Checks the store in this directory, whether a process uses it or not.
pub(crate) fn check_store(path: &Path) -> Result<StoreCheck, CheckError> {
    let mut report = check_once(path)?;
    if !report.damage.is_empty() {
        // What changed while it was looked at is not damage. Only what is found again is.
        let again = check_once(path)?;
        let mut damage = std::mem::take(&mut report.damage);
        damage.retain(|found| again.damage.contains(found));
        report = StoreCheck { damage, ..again };
    }
    Ok(report)
}

fn check_once(path: &Path) -> Result<StoreCheck, CheckError> {
    let unreadable = |error| CheckError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let is_there = |name: &str| path.join(name).try_exists().map_err(unreadable);
    let mut damage = Vec::new();
    if is_there(UNFINISHED_STATE)? {
        damage.push("this is a backup that was not finished".to_owned());
    }
    let has_state = is_there("state.db")?;
    if !has_state && is_there("inbox.db")? {
        return Err(CheckError::OldFormat(path.to_owned()));
    }
    if !has_state && !is_there("log")? && damage.is_empty() {
        return Err(CheckError::NoStore(path.to_owned()));
    }
    // The state first: the log has everything then that the state knows of.
    let state = match has_state {
        true => state::read(path, &mut damage).map_err(|error| format!("state.db: {error}")),
        false => Err("state.db is missing".to_owned()),
    };
    let state = state.map_err(|problem| damage.push(problem)).ok();
    state::check_rejected(path, &mut damage);
    let log = match is_there("log")? {
        true => {
            let volume = Directory::new(path.join("log"));
            let known = state.as_ref().map(|state| &state.known);
            event_log::check(&volume, known).map_err(unreadable)?
        }
        false => {
            damage.push("log is missing".to_owned());
            LogReport::default()
        }
    };
    damage.extend(
        log.damage
            .iter()
            .map(|found| match found.starts_with("log") {
                true => found.clone(),
                false => format!("log/{found}"),
            }),
    );
    let mut report = StoreCheck {
        damage,
        events: log.records,
        segments: log.segments.len() as u64,
        unfinished_deletions: 0,
    };
    if let Some(state) = state {
        combine(state, &log, &mut report);
    }
    Ok(report)
}

/// Checks what the state says of events that are, or are not, in the log.
fn combine(state: StateReport, log: &LogReport, report: &mut StoreCheck) {
    let is_in_log = |seq: Seq| {
        let at = log.segments.partition_point(|(first, _)| *first <= seq);
        let holds = |(_, last): &(Seq, Seq)| seq <= *last;
        at.checked_sub(1).is_some_and(|at| holds(&log.segments[at]))
    };
    let known = &state.known;
    for seq in &state.owed {
        let is_stored = state.copies.contains(seq)
            || is_in_log(*seq) && !known.is_removed(*seq, *seq) && !known.is_deleted(*seq);
        if !is_stored {
            report.damage.push(format!(
                "state.db: a delivery of event {seq} is owed, but there is no such event"
            ));
        }
    }
    for seq in &state.copies {
        if !known.is_removed(*seq, *seq) {
            report.damage.push(format!(
                "state.db: event {seq} has a copy, but its part of the log was not removed"
            ));
        }
    }
    let deleted = known.erased.iter().chain(&known.erasing);
    let deleted = deleted.filter(|seq| is_in_log(**seq)).count() as u64;
    report.events = (report.events + state.copies.len() as u64).saturating_sub(deleted);
    report.unfinished_deletions = known.erasing.len() as u64;
}

#[cfg(test)]
mod tests;
