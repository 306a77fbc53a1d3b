//! The connections of a listener, and which of them makes room for another.
//!
//! Nobody gives way who has a request under way. Of the others, first those that never brought anything authentic, the
//! longest at rest first: strangers who fill the listener send each other away. Then one of the peer that has most.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::caller::Caller;

/// A search goes over all connections: it finds so many strangers for later, one of so many connections.
const SHARE: usize = 16;
/// After a search in vain, for each connection that was looked at: to search costs a tenth of it.
const NEXT_SEARCH: Duration = Duration::from_micros(1);

/// So many connections, and no more.
pub(super) struct Crowd {
    limit: usize,
    members: Members,
    /// Who can go, the best last.
    can_go: Vec<Resting>,
    next_search: Option<Instant>,
}

#[derive(Clone, Default)]
struct Members(Arc<Mutex<Present>>);

#[derive(Default)]
struct Present {
    next: u64,
    callers: HashMap<u64, Arc<Caller>>,
}

#[derive(Clone, Copy)]
struct Resting {
    id: u64,
    since: u64,
}

/// A place in the crowd, given back when dropped.
pub(super) struct CrowdPlace {
    members: Members,
    id: u64,
}

impl Crowd {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            members: Members::default(),
            can_go: Vec::new(),
            next_search: None,
        }
    }

    /// A place, which may have been another's; none if nobody can go.
    pub(super) fn place(&mut self, caller: &Arc<Caller>) -> Option<CrowdPlace> {
        if self.members.lock().callers.len() >= self.limit && !self.make_room() {
            return None;
        }
        let mut present = self.members.lock();
        let id = present.next;
        present.next += 1;
        present.callers.insert(id, caller.clone());
        Some(CrowdPlace {
            members: self.members.clone(),
            id,
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.members.lock().callers.len() >= self.limit
    }

    /// Sends one away.
    pub(super) fn make_room(&mut self) -> bool {
        if self.send_one_away() {
            return true;
        }
        if self.next_search.is_some_and(|next| Instant::now() < next) {
            return false;
        }
        let present = self.members.lock();
        let pause = NEXT_SEARCH * u32::try_from(present.callers.len()).unwrap_or(u32::MAX);
        self.can_go = present.who_can_go();
        drop(present);
        let found = self.send_one_away();
        self.next_search = (!found).then(|| Instant::now() + pause);
        found
    }

    fn send_one_away(&mut self) -> bool {
        while let Some(Resting { id, since }) = self.can_go.pop() {
            let mut present = self.members.lock();
            let caller = present.callers.get(&id);
            if caller.is_some_and(|caller| caller.send_away(since)) {
                present.callers.remove(&id);
                return true;
            }
        }
        false
    }
}

impl Members {
    fn lock(&self) -> MutexGuard<'_, Present> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Present {
    fn who_can_go(&self) -> Vec<Resting> {
        let mut strangers = self.resting(|caller| !caller.is_genuine());
        if !strangers.is_empty() {
            strangers.sort_unstable_by_key(|resting| std::cmp::Reverse(resting.since));
            let few = self.callers.len() / SHARE + 1;
            return strangers.split_off(strangers.len().saturating_sub(few));
        }
        let mut most: HashMap<IpAddr, (usize, bool)> = HashMap::new();
        for caller in self.callers.values() {
            let (count, can_go) = most.entry(ip(caller)).or_default();
            *count += 1;
            *can_go |= caller.rests_since().is_some();
        }
        let crowded = most.into_iter().filter(|(_, (_, can_go))| *can_go);
        let Some((peer, _)) = crowded.max_by_key(|(_, (count, _))| *count) else {
            return Vec::new();
        };
        let theirs = self.resting(|caller| ip(caller) == peer);
        let longest = theirs.into_iter().min_by_key(|resting| resting.since);
        longest.into_iter().collect()
    }

    fn resting(&self, wanted: impl Fn(&Caller) -> bool) -> Vec<Resting> {
        let wanted = self.callers.iter().filter(|(_, caller)| wanted(caller));
        wanted
            .filter_map(|(id, caller)| Some((*id, caller.rests_since()?)))
            .map(|(id, since)| Resting { id, since })
            .collect()
    }
}

fn ip(caller: &Caller) -> IpAddr {
    caller.peer.ip().to_canonical()
}

impl Drop for CrowdPlace {
    fn drop(&mut self) {
        self.members.lock().callers.remove(&self.id);
    }
}
