//! Making few runs of many, and removing what is left of them, in steps so small that nothing waits for them.
//!
//! The parts of a merged run are written under numbers of their own, each step in a transaction of its own. The last one writes
//! its row and removes those of the runs that it holds: whoever reads sees the one or the others. Their parts stay until the
//! check asks the merged run, which [`Upkeep::swapped`] tells. A crash leaves parts without a row, which the next start finds.

use rusqlite::{Connection, OptionalExtension};

use super::disk::{
    GROUPS, load_runs, parts, parts_of_group, read_parts, run_of, write_parts, write_row,
};
use super::filter::Filter;
use super::{Change, MERGED, RUN, Run};

/// Groups of the filter of a merged run, each about as many ids as a group of the others: one is merged per step.
const MERGED_GROUPS: i64 = GROUPS * MERGED as i64;
/// Parts that are removed per step.
const REMOVED: i64 = 128;

/// What there is to do about runs on disk.
pub(in super::super) struct Upkeep {
    /// Runs whose parts are to be removed.
    gone: Vec<i64>,
    merge: Option<Merge>,
    /// What was merged, while the check may still ask it.
    merged: Vec<i64>,
    /// Of the next merged run: downwards, and never given twice while anybody may remember it.
    next_number: i64,
    /// There may be enough to merge.
    looks: bool,
}

struct Merge {
    sources: Vec<Run>,
    /// What is merged so far: of the filter no more than the first groups, none if one of them cannot be made.
    run: Run,
    groups: i64,
    is_finished: bool,
}

impl Upkeep {
    /// What was left undone.
    pub(in super::super) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let mut lowest = 0;
        let mut gone = Vec::new();
        let mut is_there = conn.prepare("SELECT 1 FROM id_runs WHERE run = ?1")?;
        let mut next =
            conn.prepare("SELECT part FROM id_parts WHERE part >= ?1 ORDER BY part LIMIT 1")?;
        let mut from = i64::MIN;
        while let Some(part) = next.query_row([from], |row| row.get(0)).optional()? {
            let run = run_of(part);
            if !is_there.exists([run])? {
                gone.push(run);
            }
            lowest = lowest.min(run);
            from = parts(run).end;
        }
        Ok(Self {
            gone,
            merge: None,
            merged: Vec::new(),
            next_number: lowest - 1,
            looks: true,
        })
    }

    /// Another run is on disk.
    pub(in super::super) fn look(&mut self) {
        self.looks = true;
    }

    /// Nobody asks any more the runs that were merged.
    pub(in super::super) fn swapped(&mut self) {
        self.gone.append(&mut self.merged);
        self.looks = true;
    }

    /// Of these no event is left.
    pub(in super::super) fn remove(&mut self, runs: Vec<i64>) {
        self.gone.extend(runs);
        self.looks = true;
    }

    /// Whether there is something to do, as far as is known.
    pub(in super::super) fn is_due(&self) -> bool {
        self.looks
    }

    /// Does a little inside the running transaction, whose fate [`committed`](Self::committed) or [`failed`](Self::failed) has
    /// to tell. The change is to be told once it is committed.
    pub(in super::super) fn step(&mut self, conn: &Connection) -> rusqlite::Result<Option<Change>> {
        if let Some(run) = self.gone.last() {
            if remove_some(conn, *run)? == 0 {
                self.gone.pop();
            }
            return Ok(None);
        }
        match &mut self.merge {
            Some(merge) if merge.groups < MERGED_GROUPS => merge.step(conn).map(|()| None),
            Some(merge) => {
                let change = merge.finish(conn)?;
                if change.is_none() {
                    self.abandon();
                }
                Ok(change)
            }
            None => {
                // One after the other: the filter of each is held until it is in place.
                if self.merged.is_empty() {
                    self.merge = self.plan(conn)?;
                }
                self.looks = self.merge.is_some();
                Ok(None)
            }
        }
    }

    pub(in super::super) fn committed(&mut self) {
        if let Some(merge) = self.merge.take_if(|merge| merge.is_finished) {
            self.merged = merge.sources.iter().map(|run| run.number).collect();
        }
    }

    /// What is left to do waits until there is more. Should the commit only seem to have failed, then nothing is removed that
    /// has a row, and the check goes on with the parts of runs that have none.
    pub(in super::super) fn failed(&mut self) {
        self.abandon();
        self.looks = false;
    }

    /// The oldest that were not merged, if they are enough.
    fn plan(&mut self, conn: &Connection) -> rusqlite::Result<Option<Merge>> {
        let mut sources = load_runs(conn)?;
        sources.retain(|run| run.number >= 0);
        sources.truncate(MERGED);
        if sources.len() < MERGED {
            return Ok(None);
        }
        let number = self.next_number;
        self.next_number -= 1;
        let spans = sources.iter().map(|run| run.span);
        Ok(spans.reduce(|all, span| all.and(span)).map(|span| Merge {
            run: Run {
                number,
                span,
                filter: Some(Filter::new()),
            },
            groups: 0,
            is_finished: false,
            sources,
        }))
    }

    fn abandon(&mut self) {
        if let Some(merge) = self.merge.take() {
            self.gone.push(merge.run.number);
        }
    }
}

impl Merge {
    /// Merges the next group. A part that is gone was one of a run of which no event is left.
    fn step(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let run = &mut self.run;
        let mut ids = Vec::with_capacity(RUN / GROUPS as usize * 9 / 8);
        for source in &self.sources {
            let away = run.span.distance(source.span.first);
            let parts = parts_of_group(source.number, self.groups, MERGED_GROUPS);
            read_parts(conn, parts, |fingerprint, distance| {
                ids.push((fingerprint, away.saturating_add(distance)));
            })?;
        }
        ids.sort_unstable();
        let parts = parts_of_group(run.number, self.groups, MERGED_GROUPS);
        write_parts(conn, run.number, parts, &ids)?;
        run.filter
            .take_if(|filter| !filter.add(ids.iter().map(|(fingerprint, _)| *fingerprint)));
        self.groups += 1;
        Ok(())
    }

    /// Puts it in the place of what it was made of, unless of that no event is left.
    fn finish(&mut self, conn: &Connection) -> rusqlite::Result<Option<Change>> {
        let sources: Vec<_> = self.sources.iter().map(|run| run.number).collect();
        let mut replaced = 0;
        for source in &sources {
            replaced += conn.execute("DELETE FROM id_runs WHERE run = ?1", [source])?;
        }
        if replaced == 0 {
            return Ok(None);
        }
        write_row(conn, &self.run)?;
        self.is_finished = true;
        let run = Run {
            filter: self.run.filter.take(),
            ..self.run
        };
        Ok(Some(Change::Merged(sources, run)))
    }
}

/// Removes some parts of a run that is not there: how many.
fn remove_some(conn: &Connection, run: i64) -> rusqlite::Result<usize> {
    let parts = parts(run);
    conn.prepare_cached(
        "DELETE FROM id_parts WHERE part IN (
            SELECT part FROM id_parts WHERE part >= ?1 AND part < ?2
            AND NOT EXISTS (SELECT 1 FROM id_runs WHERE run = ?3) LIMIT ?4)",
    )?
    .execute([parts.start, parts.end, run, REMOVED])
}

#[cfg(test)]
mod tests;
