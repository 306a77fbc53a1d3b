//! Retention: segments of the log are removed whole.
//!
//! A segment is removed when all its events are old and each handler has finished them or has rows for them. If only few of them
//! have rows, copies of those are kept in the state; else the segment stays.

use std::time::Duration;

use rusqlite::Connection;

use super::damage::count_damaged;
use super::deliveries;
use super::handlers::{self, floor};
use super::reads::ReadError;
use super::stored::{self, StoreLog};
use super::{CHUNK, EmbeddedStore};
use crate::clock::AgeCutoff;
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::event_log::{LogEntry, SegmentInfo, TimeSpan};

/// A segment is removed if copies of what is owed take at most this part of it.
const COPIED_PART: u64 = 100;
/// Events that are read at once to find out how old they are.
const READ: usize = 1024;
const READ_BYTES: usize = 4 << 20;

impl EmbeddedStore {
    /// One round of retention. Returns whether there is more to do.
    pub(in super::super) async fn sweep(&self) -> Result<bool, StoreError> {
        self.finish_deletions().await;
        let has_more = self.sweep_deliveries().await?;
        self.end_segment(segment_span(self.settings.retention))
            .await?;
        let removed = self.remove_segments().await?;
        if removed || !has_more {
            self.write(stored::drop_unneeded_copies).await?;
        }
        Ok(has_more)
    }

    /// Forgets missing handlers, and removes deliveries that are parked for too long.
    async fn sweep_deliveries(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let newest = self.read(|reads| reads.newest()).await?;
        // Then the clock is wrong now, and times ahead of it may be right: a machine may start in 1970 and set its clock later.
        let is_behind = newest.is_some_and(|newest| newest > now);
        let (retention, parked) = (self.settings.retention, self.settings.parked_retention);
        let (forgotten, dropped) = self
            .write(move |conn| {
                let forgotten = handlers::forget_missing(conn, now, is_behind, retention)?;
                let dropped = handlers::drop_orphans(conn, CHUNK)?
                    + handlers::drop_old_parked(conn, now, is_behind, parked, CHUNK)?;
                Ok((forgotten, dropped))
            })
            .await?;
        for (name, rows) in forgotten {
            tracing::warn!(
                handler.name = name,
                deliveries = rows,
                "a handler that was not in the configuration for too long is forgotten, with its owed deliveries"
            );
        }
        Ok(dropped > 0)
    }

    /// Removes the segments that nothing needs any more. Returns whether there were any.
    async fn remove_segments(&self) -> Result<bool, StoreError> {
        // A backup needs what is there.
        let Ok(_unpinned) = self.removals.try_read() else {
            return Ok(false);
        };
        if self.health.is_in_doubt() {
            return Ok(false);
        }
        let old = AgeCutoff::older_than(self.settings.retention, self.clock.now());
        let segments = self
            .read(move |reads| old_segments(&reads.log, old))
            .await?;
        let mut any = false;
        for segment in segments {
            let log = self.reads.log.clone();
            let is_removed = self
                .write(move |conn| note_if_unneeded(conn, &log, segment))
                .await?;
            if is_removed {
                self.cache.forget(segment.last);
                self.maintenance.remove(segment.first).await?;
                any = true;
            }
        }
        if any {
            let damaged = self.read_state(count_damaged).await?;
            self.metrics.damaged_events.set(damaged);
        }
        Ok(any)
    }
}

/// After so long a segment is ended, so that retention can remove it: an eighth of the retention time, but at least ten minutes
/// if that is possible.
pub(super) fn segment_span(retention: Duration) -> Duration {
    (retention / 8).max(retention.min(Duration::from_secs(600)))
}

/// The segments that nothing more is written to and in which every event is old. An event from the far future tells nothing, because
/// the clock was wrong: it is old if an event after it is.
fn old_segments(log: &StoreLog, old: AgeCutoff) -> Result<Vec<SegmentInfo>, ReadError> {
    let mut has_old_after = false;
    let mut found = Vec::new();
    for segment in log.segments().into_iter().rev() {
        let TimeSpan { oldest, newest } = segment.span;
        let is_old = match newest <= old.beyond {
            _ if segment.sealed.is_none() || !old.is_old(oldest) => false,
            true => newest < old.before,
            false => is_old_but_for_the_future(log, &segment, old, has_old_after)?,
        };
        if is_old {
            found.push(segment);
        }
        has_old_after |= oldest < old.before;
    }
    found.reverse();
    Ok(found)
}

/// Whether each event of a segment is old or from the far future, with an old one after it.
fn is_old_but_for_the_future(
    log: &StoreLog,
    segment: &SegmentInfo,
    old: AgeCutoff,
    has_old_after: bool,
) -> Result<bool, ReadError> {
    let mut is_last_old = false;
    let mut at = segment.first - 1;
    while at < segment.last {
        let entries = log.after(at, READ, READ_BYTES)?;
        let Some(last) = entries.last() else { break };
        at = last.seq();
        for entry in &entries {
            let Some(event) = entry.head() else {
                continue;
            };
            if event.seq() > segment.last {
                break;
            }
            let received = event.received();
            if !old.is_old(received) {
                return Ok(false);
            }
            is_last_old = received < old.before;
        }
    }
    Ok(is_last_old || has_old_after)
}

/// Notes that an old segment is removed, with copies of what handlers need of it. Returns whether that was possible.
fn note_if_unneeded(
    conn: &Connection,
    log: &StoreLog,
    segment: SegmentInfo,
) -> rusqlite::Result<bool> {
    if floor(conn)? < segment.last {
        return Ok(false);
    }
    let most = segment.sealed.unwrap_or(0) / COPIED_PART;
    let rows: Vec<Seq> = conn
        .prepare_cached(
            "SELECT DISTINCT seq FROM deliveries INDEXED BY deliveries_by_seq WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq",
        )?
        .query_map([segment.first, segment.last], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut size = 0;
    let (mut copies, mut unreadable) = (Vec::new(), Vec::new());
    for seq in rows {
        match log.get(seq) {
            Ok(Some(LogEntry::Event(event))) => {
                size += event.body().len() as u64;
                copies.push(event);
            }
            Ok(Some(LogEntry::Damaged(..) | LogEntry::Erased(_)) | None) => unreadable.push(seq),
            Err(error) => {
                tracing::error!(store.error = %error, "an event could not be read, its part of the log is kept");
                return Ok(false);
            }
        }
        if size > most {
            return Ok(false);
        }
    }
    deliveries::delete(conn, &unreadable)?;
    for event in &copies {
        stored::keep(conn, event)?;
    }
    stored::note_removed(conn, segment.first, segment.last)?;
    Ok(true)
}
