//! The board and retention: what is to be pinned, what may be gone, and what is forgotten.

use std::collections::BTreeMap;

use css_callbacks::Timestamp;
use rusqlite::{Params, params};

use super::Store;
use crate::clock::AgeCutoff;
use crate::event::Seq;
use crate::stream::{Begin, Place};

/// Events by the numbers of their streams.
pub(in crate::streams) type EventsOfStreams = BTreeMap<i64, Vec<Seq>>;

/// Which streams [`Store::old_events`] looks at.
#[derive(Debug, Clone, Copy)]
pub(in crate::streams) enum Look {
    All,
    /// Those that are offline and whose newest event has become old since this cutoff.
    OfflineSince(Timestamp),
}

impl Store {
    /// Old events of the next streams after `after`, and up to which stream that is. `None` if there
    /// are no more streams.
    pub(in crate::streams) fn old_events(
        &mut self,
        after: i64,
        look: Look,
        old: AgeCutoff,
        limit: usize,
    ) -> rusqlite::Result<Option<(i64, EventsOfStreams)>> {
        self.flush_for_readers()?;
        let (before, beyond, limit_of_streams) =
            (old.before.millis(), old.beyond.millis(), limit as i64);
        let streams = match look {
            Look::All => self.select_numbers(
                "SELECT no FROM streams WHERE no > ?1 AND (oldest < ?2 OR newest > ?3) ORDER BY no LIMIT ?4",
                params![after, before, beyond, limit_of_streams],
            ),
            Look::OfflineSince(from) => self.select_numbers(
                "SELECT no FROM streams WHERE no > ?1 AND live = 0 AND newest >= ?2 AND newest < ?3
                 ORDER BY no LIMIT ?4",
                params![after, from.millis(), before, limit_of_streams],
            ),
        };
        let (mut upto, mut events, mut number) = (None, EventsOfStreams::new(), 0);
        for no in streams? {
            let seqs = self.events(no, |place| old.is_old(place.received))?;
            number += seqs.len();
            upto = Some(no);
            events.insert(no, seqs);
            if number >= limit {
                break;
            }
        }
        Ok(upto.map(|upto| (upto, events)))
    }

    /// The wanted events of a stream.
    pub(in crate::streams) fn events(
        &self,
        no: i64,
        is_wanted: impl Fn(&Place) -> bool,
    ) -> rusqlite::Result<Vec<Seq>> {
        let places = self.with(no, |entry| entry.places(&self.conn))?;
        let places = places.transpose()?.unwrap_or_default();
        let wanted = places.iter().filter(|place| is_wanted(place));
        Ok(wanted.map(|place| place.seq).collect())
    }

    /// Forgets events that are gone.
    pub(in crate::streams) fn forget(
        &mut self,
        gone: &EventsOfStreams,
        announce_at: Timestamp,
    ) -> rusqlite::Result<()> {
        for (no, seqs) in gone {
            self.make_room()?;
            self.load(*no)?;
            let Some(entry) = self.changed.get_mut(no) else {
                continue;
            };
            self.facts += entry.forget(&self.conn, seqs)?;
            self.undecided.insert(*no);
            if !entry.summarize(&self.conn)? {
                self.remove(*no);
            }
        }
        self.decide(announce_at).map(drop)
    }

    fn remove(&mut self, no: i64) {
        self.undecided.remove(&no);
        let Some(entry) = self.changed.remove(&no) else {
            return;
        };
        self.numbers.remove(&entry.state.row.key);
        if let Some(at) = entry.listed_at {
            self.unannounced.remove(&(at, no));
        }
        self.removed.insert(no);
    }

    /// The begins beyond `after` of live streams that are old: up to where was looked, and those to pin.
    pub(in crate::streams) fn begins_to_pin(
        &mut self,
        after: Seq,
        old: AgeCutoff,
        limit: usize,
    ) -> rusqlite::Result<(Option<Seq>, Vec<Begin>)> {
        self.flush_for_readers()?;
        let mut select = self.conn.prepare_cached(
            "SELECT begin_seq, no FROM streams WHERE live = 1 AND begin_seq > ?1
             AND (begin_received < ?2 OR begin_received > ?3) ORDER BY begin_seq LIMIT ?4",
        )?;
        let values = params![
            after,
            old.before.millis(),
            old.beyond.millis(),
            limit as i64
        ];
        let begins = select.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let begins: Vec<Begin> = begins.collect::<Result<_, _>>()?;
        Ok((begins.last().map(|(seq, _)| *seq), begins))
    }

    /// What is pinned and need not be any more.
    pub(in crate::streams) fn begins_to_unpin(&mut self) -> rusqlite::Result<Vec<Seq>> {
        self.flush_for_readers()?;
        self.select_numbers(
            "SELECT seq FROM pinned LEFT JOIN streams ON no = stream
             WHERE (live = 1 AND begin_seq = seq) IS NOT 1",
            [],
        )
    }

    /// Notes what is pinned for streams, and what no more.
    pub(in crate::streams) fn note_pinned(
        &mut self,
        pin: &[Begin],
        unpin: &[Seq],
    ) -> rusqlite::Result<()> {
        let tx = self.conn.transaction()?;
        for (seq, stream) in pin {
            tx.prepare_cached("INSERT OR IGNORE INTO pinned VALUES (?1, ?2)")?
                .execute([seq, stream])?;
        }
        for seq in unpin {
            tx.prepare_cached("DELETE FROM pinned WHERE seq = ?1")?
                .execute([seq])?;
        }
        tx.commit()
    }

    fn select_numbers(&self, sql: &str, values: impl Params) -> rusqlite::Result<Vec<i64>> {
        let mut select = self.conn.prepare_cached(sql)?;
        let rows = select.query_map(values, |row| row.get(0))?;
        rows.collect()
    }
}
