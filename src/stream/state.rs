//! The state of a stream as it changes: whether it is live, and what was announced of that.

use css_callbacks::Timestamp;

use super::rule::{Session, SessionOrder};
use super::{StreamChange, StreamKey, StreamRow};
use crate::event::Seq;

/// What the board knows of a stream, without its pushes and places.
#[derive(Debug, Clone)]
pub(crate) struct StreamState {
    pub row: StreamRow,
    /// The start of the session that decides.
    pub start: Option<Timestamp>,
    /// The begin of that session: its event, and when it arrived.
    pub begin: Option<(Seq, Timestamp)>,
    /// The `live` that was announced last, and the event that announced it.
    pub announced: bool,
    pub announced_by: Seq,
    /// How many changes were announced.
    pub changes: i64,
    /// When to announce the change that was not announced yet, by the steady clock.
    pub announce_at: Option<Timestamp>,
    /// The last event that was applied.
    pub applied: Seq,
    /// The arrival of its oldest and of its newest event that is not removed.
    pub arrivals: Option<(Timestamp, Timestamp)>,
}

impl StreamState {
    pub(crate) fn new(no: i64, key: StreamKey, last: Timestamp, revision: i64) -> Self {
        Self {
            row: StreamRow {
                no,
                key,
                live: false,
                since: None,
                session: None,
                last,
                revision,
            },
            start: None,
            begin: None,
            announced: false,
            announced_by: 0,
            changes: 0,
            announce_at: None,
            applied: 0,
            arrivals: None,
        }
    }

    /// An event arrived.
    pub(crate) fn arrived(&mut self, received: Timestamp) {
        let (oldest, newest) = self.arrivals.unwrap_or((received, received));
        self.arrivals = Some((oldest.min(received), newest.max(received)));
    }

    /// Whether the session is newer than the one that decides, or that one.
    pub(crate) fn may_decide(&self, session: Option<&Session>) -> bool {
        let deciding = self.start.zip(self.row.session.as_deref());
        deciding.is_none_or(|(start, key)| {
            let order = SessionOrder { start, key };
            session.is_some_and(|session| session.order() >= order)
        })
    }

    /// The newest session decides. `received` is the arrival of its begin. Returns whether it is a
    /// flap: the stream is again as it was before a change that was not announced yet.
    pub(crate) fn decide(
        &mut self,
        newest: Option<Session>,
        received: Option<Timestamp>,
        announce_at: Timestamp,
        revision: &mut i64,
    ) -> bool {
        let live = newest.as_ref().is_some_and(Session::is_open);
        let since = newest.as_ref().map(|session| match session.end {
            Some((end, _)) => end,
            None => session.start,
        });
        self.start = newest.as_ref().map(|session| session.start);
        self.begin = newest
            .as_ref()
            .and_then(|session| session.begin)
            .zip(received);
        let session = newest.map(|session| session.key);
        let row = &mut self.row;
        if (row.live, row.since, &row.session) == (live, since, &session) {
            return false;
        }
        *revision += 1;
        row.revision = *revision;
        (row.live, row.since, row.session) = (live, since, session);
        let was_unannounced = self.announce_at.is_some();
        self.announce_later(announce_at);
        was_unannounced && self.announce_at.is_none()
    }

    /// A change was announced by the event `by`, or nobody asked for it.
    pub(crate) fn announced(&mut self, live: bool, by: Option<Seq>, announce_at: Timestamp) {
        self.announced = live;
        self.announced_by = by.unwrap_or(self.announced_by);
        self.changes += 1;
        self.announce_later(announce_at);
    }

    fn announce_later(&mut self, announce_at: Timestamp) {
        let is_announced = self.announced == self.row.live;
        let announce_at = self.announce_at.unwrap_or(announce_at);
        self.announce_at = (!is_announced).then_some(announce_at);
    }

    /// The change to announce.
    pub(crate) fn change(&self) -> StreamChange {
        StreamChange {
            stream: self.row.clone(),
            number: self.changes,
        }
    }
}
