//! The connection limit of a listener, and which connection it closes to admit another.
//!
//! A connection with a request in progress is never closed. Of the idle ones, those that never sent
//! an authentic request go first, the longest idle first: so strangers who fill the listener evict
//! each other. If there is none, the peer with the most connections loses its longest idle one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection_state::ConnectionState;

/// A search visits all connections, so it keeps one candidate for every 16 of them.
const EVICTION_SHARE: usize = 16;
/// The pause after a vain search, per connection visited: ten times what the visit costs.
const SEARCH_PAUSE: Duration = Duration::from_micros(1);

/// Admits connections up to a limit.
pub(super) struct ConnectionLimit {
    limit: usize,
    connections: OpenConnections,
    /// Candidates from the last search. The next to evict is the last one.
    evictable: Vec<IdleConnection>,
    next_search: Option<Instant>,
}

#[derive(Clone, Default)]
struct OpenConnections(Arc<Mutex<ConnectionTable>>);

#[derive(Default)]
struct ConnectionTable {
    next: u64,
    states: HashMap<u64, Arc<ConnectionState>>,
}

#[derive(Clone, Copy)]
struct IdleConnection {
    id: u64,
    since: u64,
}

/// The right to hold a connection open. Dropping it frees the slot.
pub(super) struct ConnectionPermit {
    connections: OpenConnections,
    id: u64,
}

impl ConnectionLimit {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            connections: OpenConnections::default(),
            evictable: Vec::new(),
            next_search: None,
        }
    }

    /// Admits a connection. At the limit it evicts an idle one; none if there is no idle one.
    pub(super) fn acquire(&mut self, state: &Arc<ConnectionState>) -> Option<ConnectionPermit> {
        if self.connections.lock().states.len() >= self.limit && !self.make_room() {
            return None;
        }
        let mut table = self.connections.lock();
        let id = table.next;
        table.next += 1;
        table.states.insert(id, state.clone());
        Some(ConnectionPermit {
            connections: self.connections.clone(),
            id,
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.connections.lock().states.len() >= self.limit
    }

    /// Evicts one idle connection. Returns whether there was one.
    pub(super) fn make_room(&mut self) -> bool {
        if self.evict_one() {
            return true;
        }
        if self.next_search.is_some_and(|next| Instant::now() < next) {
            return false;
        }
        let table = self.connections.lock();
        let pause = SEARCH_PAUSE * u32::try_from(table.states.len()).unwrap_or(u32::MAX);
        self.evictable = table.evictable();
        drop(table);
        let found = self.evict_one();
        self.next_search = (!found).then(|| Instant::now() + pause);
        found
    }

    fn evict_one(&mut self) -> bool {
        while let Some(IdleConnection { id, since }) = self.evictable.pop() {
            let mut table = self.connections.lock();
            let state = table.states.get(&id);
            if state.is_some_and(|state| state.evict(since)) {
                table.states.remove(&id);
                return true;
            }
        }
        false
    }
}

impl OpenConnections {
    fn lock(&self) -> MutexGuard<'_, ConnectionTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionTable {
    fn evictable(&self) -> Vec<IdleConnection> {
        let mut unauthenticated = self.idle(|state| !state.is_authentic());
        if !unauthenticated.is_empty() {
            unauthenticated.sort_unstable_by_key(|idle| std::cmp::Reverse(idle.since));
            let few = self.states.len() / EVICTION_SHARE + 1;
            return unauthenticated.split_off(unauthenticated.len().saturating_sub(few));
        }
        let mut by_peer: HashMap<IpAddr, (usize, bool)> = HashMap::new();
        for state in self.states.values() {
            let (count, has_idle) = by_peer.entry(ip(state)).or_default();
            *count += 1;
            *has_idle |= state.evictable_since().is_some();
        }
        let peers = by_peer.into_iter().filter(|(_, (_, has_idle))| *has_idle);
        let Some((peer, _)) = peers.max_by_key(|(_, (count, _))| *count) else {
            return Vec::new();
        };
        let of_peer = self.idle(|state| ip(state) == peer);
        let longest = of_peer.into_iter().min_by_key(|idle| idle.since);
        longest.into_iter().collect()
    }

    fn idle(&self, wanted: impl Fn(&ConnectionState) -> bool) -> Vec<IdleConnection> {
        let wanted = self.states.iter().filter(|(_, state)| wanted(state));
        wanted
            .filter_map(|(id, state)| Some((*id, state.evictable_since()?)))
            .map(|(id, since)| IdleConnection { id, since })
            .collect()
    }
}

fn ip(state: &ConnectionState) -> IpAddr {
    state.peer.ip().to_canonical()
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connections.lock().states.remove(&self.id);
    }
}
