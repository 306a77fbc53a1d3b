//! Events change the state in memory.

use std::collections::BTreeMap;

use css_callbacks::Timestamp;

use super::entry::Entry;
use super::pauses::Pauses;
use super::{MAX_FACTS, MAX_STREAMS, Store};
use crate::event::Seq;
use crate::stream::{Announcement, Fact, FactsWritten, StreamFact, StreamKey};

impl Store {
    /// Applies the next events, up to `upto`. If it fails, the same events must come again: those
    /// that were applied make no difference then.
    pub(in crate::streams) fn apply(
        &mut self,
        facts: &[StreamFact],
        announcements: &[Announcement],
        upto: Seq,
        announce_at: Timestamp,
    ) -> rusqlite::Result<FactsWritten> {
        let mut written = self.decide(announce_at)?;
        self.make_room()?;
        let mut pauses = Pauses::new();
        for StreamFact { stream, fact } in facts {
            pauses.rest();
            let no = self.number_or_new(stream, fact.at)?;
            if let Some(entry) = self.changed.get_mut(&no)
                && fact.seq > entry.state.applied
            {
                entry.add(&self.conn, fact)?;
                self.facts += 1;
                self.undecided.insert(no);
            }
        }
        written.flaps += self.decide(announce_at)?.flaps;
        for announcement in announcements {
            self.note_announcement(announcement, announce_at)?;
        }
        self.meta.cursor = self.meta.cursor.max(upto);
        Ok(written)
    }

    /// Applies facts again: for their streams they are all that stands between `first` and `last`
    /// in the inbox.
    pub(in crate::streams) fn replace(
        &mut self,
        facts: &[StreamFact],
        (first, last): (Seq, Seq),
        announce_at: Timestamp,
    ) -> rusqlite::Result<FactsWritten> {
        self.make_room()?;
        let mut by_stream: BTreeMap<i64, Vec<&Fact>> = BTreeMap::new();
        for StreamFact { stream, fact } in facts {
            let no = self.number_or_new(stream, fact.at)?;
            by_stream.entry(no).or_default().push(fact);
        }
        for (no, facts) in by_stream {
            if let Some(entry) = self.changed.get_mut(&no) {
                self.facts += entry.clear_range(&self.conn, first..=last)? + facts.len();
                self.undecided.insert(no);
                for fact in facts {
                    entry.add(&self.conn, fact)?;
                }
            }
        }
        self.decide(announce_at)
    }

    /// Decides which of the streams that changed are live.
    pub(super) fn decide(&mut self, announce_at: Timestamp) -> rusqlite::Result<FactsWritten> {
        let mut written = FactsWritten::default();
        let mut pauses = Pauses::new();
        while let Some(no) = self.undecided.first().copied() {
            if let Some(entry) = self.changed.get_mut(&no)
                && entry.pushes.iter().any(|push| push.is_undecided)
            {
                let is_flap = entry.decide(&self.conn, announce_at, &mut self.meta.revision)?;
                written.flaps += u64::from(is_flap);
                self.list_announcement(no);
            }
            self.undecided.remove(&no);
            pauses.rest();
        }
        Ok(written)
    }

    /// The number of a stream, which is in memory then.
    fn number_or_new(&mut self, key: &StreamKey, at: Timestamp) -> rusqlite::Result<i64> {
        if let Some(no) = self.number_of(key)? {
            self.load(no)?;
            return Ok(no);
        }
        self.meta.streams += 1;
        self.meta.revision += 1;
        let no = self.meta.streams;
        let entry = Entry::new(no, key, at, self.meta.revision);
        self.changed.insert(no, entry);
        self.numbers.insert(key.clone(), no);
        Ok(no)
    }

    /// Flushes if there is much in memory.
    pub(super) fn make_room(&mut self) -> rusqlite::Result<()> {
        let streams = self.changed.len() + self.removed.len();
        if streams >= MAX_STREAMS || self.facts >= MAX_FACTS {
            self.flush()?;
        }
        Ok(())
    }
}
