//! A stream in memory, with what was loaded of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::{Occupied, Vacant};

use css_callbacks::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::block::{Block, sequence_key};
use super::encoding::decode;
use super::rows::{STREAM, state_of};
use crate::event::Seq;
use crate::stream::pushes::{self, Push, Pushes};
use crate::stream::{Fact, Place, Session, StreamKey, StreamState};

pub(super) struct Entry {
    pub state: StreamState,
    /// The pushes that were needed, or all of them.
    pub pushes: Pushes,
    pub has_all_pushes: bool,
    /// The newest places: they are in no block yet.
    pub tail: Vec<Place>,
    /// The blocks whose places changed.
    pub changed_blocks: BTreeMap<i64, Block>,
    /// The greatest key of a push in the blocks.
    pub greatest_push: String,
    /// Under which time it is in the list of unannounced changes.
    pub listed_at: Option<Timestamp>,
    /// Its row in the file, if it has one.
    pub stored: Option<StoredHead>,
}

/// What of a stream seldom changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredHead {
    pub live: bool,
    pub since: Option<Timestamp>,
    pub revision: i64,
    pub begin: Option<(Seq, Timestamp)>,
    pub start: Option<Timestamp>,
    pub announced_by: Seq,
    pub changes: i64,
    pub announce_at: Option<Timestamp>,
}

impl StoredHead {
    pub(super) fn of(state: &StreamState) -> Self {
        Self {
            live: state.row.live,
            since: state.row.since,
            revision: state.row.revision,
            begin: state.begin,
            start: state.start,
            announced_by: state.announced_by,
            changes: state.changes,
            announce_at: state.announce_at,
        }
    }
}

impl Entry {
    pub(super) fn new(no: i64, key: &StreamKey, last: Timestamp, revision: i64) -> Self {
        Self {
            state: StreamState::new(no, key.clone(), last, revision),
            pushes: Pushes::default(),
            has_all_pushes: true,
            tail: Vec::new(),
            changed_blocks: BTreeMap::new(),
            greatest_push: String::new(),
            listed_at: None,
            stored: None,
        }
    }

    pub(super) fn load(conn: &Connection, no: i64) -> rusqlite::Result<Option<Self>> {
        let mut select = conn.prepare_cached(&format!(
            "SELECT {STREAM}, start, begin_seq, begin_received, announced, announced_by, changes,
                 announce_at, applied, oldest, newest, greatest_push, tail FROM streams WHERE no = ?1"
        ))?;
        let found = select.query_row([no], |row| {
            let tail = decode(row.get_ref(21)?.as_blob()?)?;
            Ok((state_of(row)?, row.get(20)?, tail))
        });
        let Some((state, greatest_push, tail)) = found.optional()? else {
            return Ok(None);
        };
        let mut pushes = Pushes::default();
        for push in tail.pushes {
            pushes.add(push);
        }
        Ok(Some(Self {
            pushes,
            has_all_pushes: false,
            tail: tail.places,
            changed_blocks: BTreeMap::new(),
            greatest_push,
            listed_at: state.announce_at,
            stored: Some(StoredHead::of(&state)),
            state,
        }))
    }

    /// Takes a fact in. Nothing has changed if it fails.
    pub(super) fn add(&mut self, conn: &Connection, fact: &Fact) -> rusqlite::Result<()> {
        if fact.is_begin_or_end() {
            self.load_push(conn, fact.sequence.as_deref())?.add(fact);
        }
        self.tail.reserve_exact(usize::from(self.tail.is_empty()));
        self.tail.push(Place::of(fact));
        let state = &mut self.state;
        state.row.last = state.row.last.max(fact.at);
        state.applied = state.applied.max(fact.seq);
        state.arrived(fact.received);
        Ok(())
    }

    /// Decides by the pushes that changed. Returns whether it was a flap.
    pub(super) fn decide(
        &mut self,
        conn: &Connection,
        announce_at: Timestamp,
        revision: &mut i64,
    ) -> rusqlite::Result<bool> {
        if self.state.row.session.is_some() {
            let sequence = self.state.row.sequence().map(str::to_owned);
            self.load_push(conn, sequence.as_deref())?.is_undecided = true;
        }
        let touched = self.pushes.iter().filter(|push| push.is_undecided);
        let mut newest = pushes::newest(touched);
        if !self.state.may_decide(newest.as_ref()) {
            // The session that decided became older, or was removed: any other may be newer.
            self.load_pushes(conn)?;
            newest = pushes::newest(self.pushes.iter());
        }
        for push in self.pushes.iter_mut() {
            push.is_undecided = false;
        }
        let received = newest.as_ref().and_then(|session: &Session| {
            let push = self.pushes.get(session.sequence.as_deref())?;
            push.received(session.begin?)
        });
        Ok(self.state.decide(newest, received, announce_at, revision))
    }

    fn load_push(
        &mut self,
        conn: &Connection,
        sequence: Option<&str>,
    ) -> rusqlite::Result<&mut Push> {
        let stream = self.state.row.no;
        let may_be_stored =
            !self.has_all_pushes && sequence_key(sequence) <= self.greatest_push.as_str();
        self.pushes.get_or_add(sequence, || {
            let mut found = None;
            if may_be_stored {
                Block::read(conn, stream, |_, block| {
                    let mut pushes = block.pushes.into_iter();
                    found = pushes.find(|push| push.sequence.as_deref() == sequence);
                    found.is_none()
                })?;
            }
            Ok(found.unwrap_or_else(|| Push::new(sequence, Vec::new())))
        })
    }

    pub(super) fn load_pushes(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        if self.has_all_pushes {
            return Ok(());
        }
        let pushes = &mut self.pushes;
        Block::read(conn, self.state.row.no, |_, block| {
            for push in block.pushes {
                pushes.add(push);
            }
            true
        })?;
        self.has_all_pushes = true;
        Ok(())
    }

    /// The pushes that are in no block: they are new or changed.
    pub(super) fn tail_pushes(&self) -> impl Iterator<Item = &Push> {
        let is_in_tail =
            |push: &&Push| (push.block.is_none() || push.is_changed) && !push.facts.is_empty();
        self.pushes.iter().filter(is_in_tail)
    }

    /// The blocks to write again: those whose places changed, and those without the pushes that
    /// changed, which are in the tail now.
    pub(super) fn rewritten_blocks(
        &self,
        conn: &Connection,
    ) -> rusqlite::Result<BTreeMap<i64, Block>> {
        let mut blocks = self.changed_blocks.clone();
        for push in self.pushes.iter().filter(|push| push.is_changed) {
            let Some(id) = push.block else {
                continue;
            };
            let block = match blocks.entry(id) {
                Occupied(block) => block.into_mut(),
                Vacant(place) => place.insert(Block::load(conn, id)?),
            };
            block
                .pushes
                .retain(|stored| stored.sequence != push.sequence);
        }
        Ok(blocks)
    }
}
