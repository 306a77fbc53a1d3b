//! What a handler's loop shows of itself.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::event::Seq;

/// How a handler is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Events are handed to it.
    Running,
    /// It fails for everything and is probed.
    Failing,
}

impl State {
    /// The state in one word.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Failing => "failing",
        }
    }
}

/// Written by the loop, read by whoever asks.
#[derive(Debug, Default)]
pub(super) struct Status {
    failing: AtomicU8,
    read_to: AtomicI64,
    oldest: AtomicI64,
    unsettled: AtomicU64,
    last: Mutex<Last>,
    /// How often the loop has gone round.
    #[cfg(test)]
    pub(super) steps: AtomicU64,
}

/// The last outcomes.
#[derive(Debug, Clone, Default)]
pub struct Last {
    /// When an attempt was last done.
    pub success: Option<Timestamp>,
    /// When an attempt last failed, and why.
    pub failure: Option<(Timestamp, String)>,
}

/// What the loop holds in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct InMemory {
    pub(super) state: State,
    /// Up to here events were read.
    pub(super) read_to: Seq,
    /// The lowest event that was read and is not settled.
    pub(super) oldest: Option<Seq>,
    /// How many are not settled.
    pub(super) unsettled: u64,
}

impl Status {
    pub(super) fn starting_at(position: Seq) -> Self {
        let status = Self::default();
        status.read_to.store(position, Ordering::Relaxed);
        status
    }

    pub(super) fn show(&self, shown: InMemory) {
        #[cfg(test)]
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.failing
            .store((shown.state == State::Failing).into(), Ordering::Relaxed);
        self.read_to.store(shown.read_to, Ordering::Relaxed);
        self.oldest
            .store(shown.oldest.unwrap_or(0), Ordering::Relaxed);
        self.unsettled.store(shown.unsettled, Ordering::Relaxed);
    }

    pub(super) fn shown(&self) -> InMemory {
        let failing = self.failing.load(Ordering::Relaxed) != 0;
        InMemory {
            state: if failing {
                State::Failing
            } else {
                State::Running
            },
            read_to: self.read_to.load(Ordering::Relaxed),
            oldest: Some(self.oldest.load(Ordering::Relaxed)).filter(|seq| *seq > 0),
            unsettled: self.unsettled.load(Ordering::Relaxed),
        }
    }

    pub(super) fn succeeded(&self, at: Timestamp) {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .success = Some(at);
    }

    pub(super) fn failed(&self, at: Timestamp, error: &str) {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failure = Some((at, error.to_owned()));
    }

    pub(super) fn last(&self) -> Last {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
