//! The begins and ends of a stream by their pushes: which session decides, and what may be forgotten.

use std::collections::HashSet;

use css_callbacks::{EventId, Kind, Timestamp};

use super::rule::{Fact, Session, sessions};
use crate::event::Seq;

/// How many begins and ends of one `sequence` count at most: the latest ones. All begins and ends
/// of a stream that have no `sequence` share one such limit.
pub(crate) const MAX_PUSH_FACTS: usize = 1000;

/// A begin or an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PushFact {
    pub fact: Fact,
    /// Whether its event is removed: it stays as long as its session needs it.
    pub gone: bool,
}

/// The facts of one `sequence`, or all facts of a stream that have none. Without any it is no push.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    pub sequence: Option<String>,
    pub facts: Vec<PushFact>,
    /// Where it is stored, in the store's own terms.
    pub block: Option<i64>,
    /// Whether it changed since it was written.
    pub is_changed: bool,
    /// Whether it changed since it was decided who is live.
    pub is_undecided: bool,
}

/// Pushes of one stream, in the order of `sequence`. Most streams have few.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pushes(Vec<Push>);

impl Pushes {
    pub(crate) fn get(&self, sequence: Option<&str>) -> Option<&Push> {
        self.find(sequence).ok().map(|at| &self.0[at])
    }

    /// Adds a push, unless it is there already.
    pub(crate) fn add(&mut self, push: Push) {
        if let Err(at) = self.find(push.sequence.as_deref()) {
            self.insert(at, push);
        }
    }

    /// The push with this `sequence`; if it is not there, `load` gets it.
    pub(crate) fn get_or_add<E>(
        &mut self,
        sequence: Option<&str>,
        load: impl FnOnce() -> Result<Push, E>,
    ) -> Result<&mut Push, E> {
        let at = match self.find(sequence) {
            Ok(at) => at,
            Err(at) => {
                self.insert(at, load()?);
                at
            }
        };
        Ok(&mut self.0[at])
    }

    fn insert(&mut self, at: usize, push: Push) {
        self.0.reserve_exact(usize::from(self.0.is_empty()));
        self.0.insert(at, push);
    }

    fn find(&self, sequence: Option<&str>) -> Result<usize, usize> {
        self.0
            .binary_search_by(|push| push.sequence.as_deref().cmp(&sequence))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Push> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Push> {
        self.0.iter_mut()
    }

    pub(crate) fn facts(&self) -> impl Iterator<Item = &PushFact> {
        self.0.iter().flat_map(|push| &push.facts)
    }

    /// Forgets facts whose events are gone; these must be all pushes of the stream.
    ///
    /// Sessions are forgotten only as a whole, and the one that decides not before every begin is
    /// gone: else another session would decide, and a stream would become live that is not.
    pub(crate) fn forget(&mut self, gone: &HashSet<Seq>) {
        for push in &mut self.0 {
            push.mark_gone(gone);
        }
        let is_begin = |known: &PushFact| !known.gone && known.fact.kind == Kind::StreamBegin;
        let has_begin = self.facts().any(is_begin);
        let deciding = newest(self.iter()).filter(|_| has_begin);
        for push in &mut self.0 {
            let needed = push.needed(deciding.as_ref());
            push.retain(|known| !known.gone || needed.contains(&known.fact.seq));
        }
    }
}

impl Push {
    pub(crate) fn new(sequence: Option<&str>, facts: Vec<PushFact>) -> Self {
        Self {
            sequence: sequence.map(str::to_owned),
            facts,
            block: None,
            is_changed: false,
            is_undecided: false,
        }
    }

    /// Adds a fact, unless it is known.
    pub(crate) fn add(&mut self, fact: &Fact) {
        let is_known = |known: &PushFact| known.fact.seq == fact.seq;
        if self.facts.iter().any(is_known) {
            return;
        }
        let fact = fact.clone();
        self.facts.reserve_exact(usize::from(self.facts.len() < 2)); // most have no more than a begin and an end
        self.facts.push(PushFact { fact, gone: false });
        self.set_changed();
        if self.facts.len() > MAX_PUSH_FACTS {
            let age = |at: &usize| {
                let fact = &self.facts[*at].fact;
                (fact.at, fact.id, std::cmp::Reverse(fact.seq))
            };
            if let Some(oldest) = (0..self.facts.len()).min_by_key(age) {
                self.facts.swap_remove(oldest);
            }
        }
    }

    /// Keeps these facts.
    pub(crate) fn retain(&mut self, keep: impl Fn(&PushFact) -> bool) {
        let before = self.facts.len();
        self.facts.retain(keep);
        if self.facts.len() < before {
            self.set_changed();
        }
    }

    fn mark_gone(&mut self, gone: &HashSet<Seq>) {
        let mut is_changed = false;
        for known in &mut self.facts {
            if !known.gone && gone.contains(&known.fact.seq) {
                known.gone = true;
                is_changed = true;
            }
        }
        if is_changed {
            self.set_changed();
        }
    }

    /// The facts that must stay even if their events are gone: those of the deciding session, of
    /// sessions that have an event, and repeats of an event that is there.
    fn needed(&self, deciding: Option<&Session>) -> HashSet<Seq> {
        let there = || self.facts.iter().filter(|known| !known.gone);
        let seqs_there: HashSet<Seq> = there().map(|known| known.fact.seq).collect();
        let decides = |session: &Session| deciding.is_some_and(|one| one.key == session.key);
        let all = self.facts.iter().map(|known| known.fact.seq);
        let sessions = self.sessions();
        if self.sequence.is_some() {
            // It is one session, to which all facts belong.
            let is_needed = !seqs_there.is_empty() || sessions.iter().any(decides);
            return all.filter(|_| is_needed).collect();
        }
        let is_there = |session: &Session| session.seqs().any(|seq| seqs_there.contains(&seq));
        let sessions = sessions
            .iter()
            .filter(|session| decides(session) || is_there(session));
        let ids_there: HashSet<EventId> = there().map(|known| known.fact.id).collect();
        let is_repeat = |known: &&PushFact| ids_there.contains(&known.fact.id);
        let repeats = self.facts.iter().filter(is_repeat);
        let repeats = repeats.map(|known| known.fact.seq);
        sessions.flat_map(Session::seqs).chain(repeats).collect()
    }

    fn set_changed(&mut self) {
        self.is_changed = true;
        self.is_undecided = true;
    }

    pub(crate) fn sessions(&self) -> Vec<Session> {
        sessions(self.facts.iter().map(|known| &known.fact))
    }

    /// When the event arrived.
    pub(crate) fn received(&self, seq: Seq) -> Option<Timestamp> {
        let known = self.facts.iter().find(|known| known.fact.seq == seq)?;
        Some(known.fact.received)
    }
}

/// The session that decides among these pushes.
pub(crate) fn newest<'a>(pushes: impl IntoIterator<Item = &'a Push>) -> Option<Session> {
    let sessions = pushes.into_iter().flat_map(Push::sessions);
    sessions.max_by(|one, other| one.order().cmp(&other.order()))
}
