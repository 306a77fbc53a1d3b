//! The events that were read and are not settled yet: at most so many, in lanes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use crate::event::{Event, Seq};
use crate::inbox::delivery::Lane;

/// At most so many events are read ahead.
const MAX_EVENTS: usize = 512;
/// Nothing more is read once their bodies have so many bytes.
const MAX_BYTES: usize = 4 << 20;

/// Events between a handler's position and what was read last.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// Not finished and without a row, with the size of the body.
    open: BTreeMap<Seq, usize>,
    bytes: usize,
    read_to: Seq,
    /// The highest event that is.
    highest_closed: Seq,
    /// Not in a lane yet. They come after everything that is in one.
    unassigned: VecDeque<Event>,
    queues: HashMap<Lane, VecDeque<Event>>,
    /// Lanes with a queue, in the order in which they may go on.
    ready: VecDeque<Lane>,
}

impl ReadAhead {
    pub(super) fn starting_at(position: Seq) -> Self {
        Self {
            read_to: position,
            ..Self::default()
        }
    }

    /// Up to here everything is settled.
    pub(super) fn position(&self) -> Seq {
        self.open
            .first_key_value()
            .map_or(self.read_to, |(seq, _)| seq - 1)
    }

    /// Up to here everything was read.
    pub(super) fn read_to(&self) -> Seq {
        self.read_to
    }

    /// The lowest event that is not settled.
    pub(super) fn oldest(&self) -> Option<Seq> {
        self.open.first_key_value().map(|(seq, _)| *seq)
    }

    /// How many events are not settled.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Every event that is not settled.
    pub(super) fn open(&self) -> impl Iterator<Item = Seq> {
        self.open.keys().copied()
    }

    /// How many more events may be read.
    pub(super) fn room(&self) -> usize {
        if self.bytes >= MAX_BYTES {
            0
        } else {
            MAX_EVENTS - self.open.len().min(MAX_EVENTS)
        }
    }

    /// Everything up to here was read; what of it is not pushed needs nothing.
    pub(super) fn mark_read(&mut self, seq: Seq) {
        self.read_to = self.read_to.max(seq);
    }

    /// Takes an event in.
    pub(super) fn push(&mut self, event: Event) {
        self.mark_read(event.seq());
        self.bytes += event.body().len();
        self.open.insert(event.seq(), event.body().len());
        self.unassigned.push_back(event);
    }

    /// Whether there is an event that is in no lane.
    pub(super) fn has_unassigned(&self) -> bool {
        !self.unassigned.is_empty()
    }

    /// Takes out the next event that is in no lane.
    pub(super) fn next_unassigned(&mut self) -> Option<Event> {
        self.unassigned.pop_front()
    }

    /// Puts an event that was in no lane into one.
    pub(super) fn queue(&mut self, lane: Lane, event: Event) {
        let queue = self.queues.entry(lane).or_default();
        if queue.is_empty() {
            self.ready.push_back(lane);
        }
        queue.push_back(event);
    }

    /// Whether an event waits in a lane.
    pub(super) fn has_queues(&self) -> bool {
        !self.queues.is_empty()
    }

    /// The next event of a lane that is not `busy`.
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

    /// An event is finished or gets a row.
    pub(super) fn close(&mut self, seq: Seq) {
        if let Some(bytes) = self.open.remove(&seq) {
            self.bytes -= bytes;
            self.highest_closed = self.highest_closed.max(seq);
        }
    }

    /// Whether an event keeps the position below something that is settled.
    pub(super) fn is_gap(&self, seq: Seq) -> bool {
        seq < self.highest_closed && self.open.contains_key(&seq)
    }

    /// Takes the queue of a lane out, settled: each of its events gets a row.
    pub(super) fn close_lane(&mut self, lane: Lane) -> Vec<Seq> {
        let queue = self.queues.remove(&lane).unwrap_or_default();
        self.ready.retain(|other| *other != lane);
        let seqs: Vec<Seq> = queue.iter().map(Event::seq).collect();
        seqs.iter().for_each(|seq| self.close(*seq));
        seqs
    }

    /// What is queued, lane by lane.
    pub(super) fn queued(&self) -> impl Iterator<Item = (Seq, Lane)> {
        self.queues
            .iter()
            .flat_map(|(lane, queue)| queue.iter().map(|event| (event.seq(), *lane)))
    }

    /// Lets events go that are not to be started, settled.
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

    /// The lanes that have a queue.
    pub(super) fn lanes(&self) -> HashSet<Lane> {
        self.queues.keys().copied().collect()
    }
}
