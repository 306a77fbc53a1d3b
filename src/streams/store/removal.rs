//! Facts and places are taken out of a stream.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;

use rusqlite::Connection;

use super::block::Block;
use super::entry::Entry;
use crate::event::Seq;
use crate::stream::Place;

impl Entry {
    /// Removes all facts and places in a range of the inbox, except facts whose events are gone.
    /// Returns how much came into memory for that.
    pub(super) fn clear_range(
        &mut self,
        conn: &Connection,
        range: RangeInclusive<Seq>,
    ) -> rusqlite::Result<usize> {
        self.load_pushes(conn)?;
        let blocks = self.blocks(conn)?;
        for push in self.pushes.iter_mut() {
            push.retain(|known| known.gone || !range.contains(&known.fact.seq));
        }
        Ok(self.retain_places(blocks, |place| !range.contains(&place.seq)))
    }

    /// Forgets events that are gone. Returns how much came into memory for that.
    pub(super) fn forget(&mut self, conn: &Connection, gone: &[Seq]) -> rusqlite::Result<usize> {
        self.load_pushes(conn)?;
        let blocks = self.blocks(conn)?;
        let gone: HashSet<Seq> = gone.iter().copied().collect();
        self.pushes.forget(&gone);
        Ok(self.retain_places(blocks, |place| !gone.contains(&place.seq)))
    }

    fn retain_places(
        &mut self,
        blocks: BTreeMap<i64, Block>,
        keep: impl Fn(&Place) -> bool,
    ) -> usize {
        self.tail.retain(&keep);
        let mut loaded = self.pushes.facts().count();
        for (id, mut block) in blocks {
            let before = block.places.len();
            block.places.retain(&keep);
            if block.places.len() < before {
                loaded += block.places.len();
                self.changed_blocks.insert(id, block);
            }
        }
        loaded
    }

    /// Brings what follows from all facts and places up to date. Returns whether there are any.
    pub(super) fn summarize(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        let places = self.places(conn)?;
        let times = self.pushes.facts().map(|known| known.fact.at);
        let last = times.chain(places.iter().map(|place| place.at)).max();
        self.state.row.last = last.unwrap_or(self.state.row.last);
        self.state.arrivals = None;
        for place in &places {
            self.state.arrived(place.received);
        }
        Ok(last.is_some())
    }

    /// All its places.
    pub(super) fn places(&self, conn: &Connection) -> rusqlite::Result<Vec<Place>> {
        let blocks = self.blocks(conn)?.into_values();
        let places = blocks.flat_map(|block| block.places);
        Ok(places.chain(self.tail.iter().cloned()).collect())
    }

    /// All blocks but the tail.
    fn blocks(&self, conn: &Connection) -> rusqlite::Result<BTreeMap<i64, Block>> {
        let mut blocks = self.changed_blocks.clone();
        Block::read(conn, self.state.row.no, |id, block| {
            blocks.entry(id).or_insert(block);
            true
        })?;
        Ok(blocks)
    }
}
