//! Which changes are to be announced, and which were.

use css_callbacks::Timestamp;

use super::Store;
use crate::event::Seq;
use crate::stream::{Announcement, StreamChange};

impl Store {
    /// The changes that have lasted. None lasts longer than until `latest`: what says so is of
    /// another clock.
    pub(in crate::streams) fn changes_to_announce(
        &self,
        now: Timestamp,
        latest: Timestamp,
        limit: usize,
    ) -> rusqlite::Result<Vec<StreamChange>> {
        let due = self.unannounced.iter().take_while(|(at, _)| *at <= now);
        let from_ahead = self
            .unannounced
            .iter()
            .rev()
            .take_while(|(at, _)| *at > latest);
        due.chain(from_ahead)
            .take(limit)
            .filter_map(|(_, no)| self.with(*no, |entry| entry.state.change()).transpose())
            .collect()
    }

    /// Changes were announced, each by an event, or nobody asked for it.
    pub(in crate::streams) fn announced(
        &mut self,
        changes: &[(StreamChange, Option<Seq>)],
        announce_at: Timestamp,
    ) -> rusqlite::Result<()> {
        for (change, by) in changes {
            let no = change.stream.no;
            if let Some(entry) = self.load(no)?
                && entry.state.changes == change.number
            {
                entry.state.announced(change.stream.live, *by, announce_at);
                self.list_announcement(no);
            }
        }
        Ok(())
    }

    /// Brings the list of unannounced changes up to date with a stream.
    pub(super) fn list_announcement(&mut self, no: i64) {
        let Some(entry) = self.changed.get_mut(&no) else {
            return;
        };
        let now = entry.state.announce_at;
        if let Some(before) = std::mem::replace(&mut entry.listed_at, now) {
            self.unannounced.remove(&(before, no));
        }
        self.unannounced.extend(now.map(|at| (at, no)));
    }

    /// An announcement that stands in the inbox, read after a crash: the board made it, but it was not
    /// flushed.
    pub(super) fn note_announcement(
        &mut self,
        announcement: &Announcement,
        announce_at: Timestamp,
    ) -> rusqlite::Result<()> {
        let Some(no) = self.number_of(&announcement.stream)? else {
            return Ok(());
        };
        let by = announcement.seq;
        let is_news = self.with(no, |entry| by > entry.state.announced_by)?;
        if is_news == Some(true)
            && let Some(entry) = self.load(no)?
        {
            entry
                .state
                .announced(announcement.live, Some(by), announce_at);
            self.list_announcement(no);
        }
        Ok(())
    }
}
