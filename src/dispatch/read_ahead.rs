//! Events that a worker has read and not settled (finished, or given a row), in lanes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use crate::event::{Event, Seq};
use crate::inbox::delivery::Lane;

/// The most events that are read ahead.
const MAX_EVENTS: usize = 512;
/// When the bodies have this many bytes, nothing more is read.
const MAX_BYTES: usize = 4 << 20;

/// Events between a handler's position and what was read last.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// Events that are not settled, with the size of their bodies.
    open: BTreeMap<Seq, usize>,
    bytes: usize,
    read_to: Seq,
    /// The highest event that is settled.
    highest_closed: Seq,
    /// Events that are not in a lane yet. All of them are newer than the events in lanes.
    unassigned: VecDeque<Event>,
    queues: HashMap<Lane, VecDeque<Event>>,
    /// Lanes with a queue, in the order of their turns.
    ready: VecDeque<Lane>,
}

impl ReadAhead {
    pub(super) fn starting_at(position: Seq) -> Self {
        Self {
            read_to: position,
            ..Self::default()
        }
    }

    /// All events up to this one are settled.
    pub(super) fn position(&self) -> Seq {
        self.open
            .first_key_value()
            .map_or(self.read_to, |(seq, _)| seq - 1)
    }

    /// All events up to this one were read.
    pub(super) fn read_to(&self) -> Seq {
        self.read_to
    }

    pub(super) fn oldest(&self) -> Option<Seq> {
        self.open.first_key_value().map(|(seq, _)| *seq)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn open(&self) -> impl Iterator<Item = Seq> {
        self.open.keys().copied()
    }

    pub(super) fn room(&self) -> usize {
        if self.bytes >= MAX_BYTES {
            0
        } else {
            MAX_EVENTS - self.open.len().min(MAX_EVENTS)
        }
    }

    /// Marks all events up to this one as read. Those that are not pushed are settled.
    pub(super) fn mark_read(&mut self, seq: Seq) {
        self.read_to = self.read_to.max(seq);
    }

    pub(super) fn push(&mut self, event: Event) {
        self.mark_read(event.seq());
        self.bytes += event.body().len();
        self.open.insert(event.seq(), event.body().len());
        self.unassigned.push_back(event);
    }

    pub(super) fn has_unassigned(&self) -> bool {
        !self.unassigned.is_empty()
    }

    /// Removes and returns the next event that is in no lane.
    pub(super) fn next_unassigned(&mut self) -> Option<Event> {
        self.unassigned.pop_front()
    }

    pub(super) fn queue(&mut self, lane: Lane, event: Event) {
        let queue = self.queues.entry(lane).or_default();
        if queue.is_empty() {
            self.ready.push_back(lane);
        }
        queue.push_back(event);
    }

    pub(super) fn has_queues(&self) -> bool {
        !self.queues.is_empty()
    }

    /// Removes and returns the next event of a lane that is not `busy`.
    pub(super) fn next(&mut self, busy: impl Fn(Lane) -> bool) -> Option<(Lane, Event)> {
        for _ in 0..self.ready.len() {
            let lane = self.ready.pop_front()?;
            if busy(lane) {
                self.ready.push_back(lane);
                continue;
            }
            let queue = self.queues.get_mut(&lane)?;
            let event = queue.pop_front()?;
            if queue.is_empty() {
                self.queues.remove(&lane);
            } else {
                self.ready.push_back(lane);
            }
            return Some((lane, event));
        }
        None
    }

    /// Settles an event.
    pub(super) fn close(&mut self, seq: Seq) {
        if let Some(bytes) = self.open.remove(&seq) {
            self.bytes -= bytes;
            self.highest_closed = self.highest_closed.max(seq);
        }
    }

    /// Whether an event keeps the position below a settled event.
    pub(super) fn is_gap(&self, seq: Seq) -> bool {
        seq < self.highest_closed && self.open.contains_key(&seq)
    }

    /// Removes the queue of a lane and settles its events: the caller gives each a row.
    pub(super) fn close_lane(&mut self, lane: Lane) -> Vec<Seq> {
        let queue = self.queues.remove(&lane).unwrap_or_default();
        self.ready.retain(|other| *other != lane);
        let seqs: Vec<Seq> = queue.iter().map(Event::seq).collect();
        seqs.iter().for_each(|seq| self.close(*seq));
        seqs
    }

    pub(super) fn queued(&self) -> impl Iterator<Item = (Seq, Lane)> {
        self.queues
            .iter()
            .flat_map(|(lane, queue)| queue.iter().map(|event| (event.seq(), *lane)))
    }

    /// Removes those of these events that have not started, and settles them.
    pub(super) fn forget(&mut self, gone: &HashSet<Seq>) {
        let is_gone = |event: &Event| gone.contains(&event.seq());
        let mut closed: Vec<Seq> = Vec::new();
        for events in self.queues.values_mut().chain([&mut self.unassigned]) {
            closed.extend(events.iter().filter(|event| is_gone(event)).map(Event::seq));
            events.retain(|event| !is_gone(event));
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        self.ready.retain(|lane| self.queues.contains_key(lane));
        closed.iter().for_each(|seq| self.close(*seq));
    }

    pub(super) fn lanes(&self) -> HashSet<Lane> {
        self.queues.keys().copied().collect()
    }
}
