//! What a handler's loop shows of itself.

use std::sync::{Mutex, PoisonError};

use css_callbacks::Timestamp;

use crate::event::Seq;

/// How a handler is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum HandlerState {
    /// Events are handed to it.
    #[default]
    Running,
    /// It fails for everything and is probed.
    Failing,
    /// Nothing is handed to it until it is resumed.
    Paused,
    /// Another receiver hands events to it.
    Elsewhere,
}

impl HandlerState {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Running, Self::Failing, Self::Paused, Self::Elsewhere];

    /// The state in one word.
    pub(crate) fn slug(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Failing => "failing",
            Self::Paused => "paused",
            Self::Elsewhere => "elsewhere",
        }
    }
}

/// Written by the loop, read by whoever asks.
#[derive(Debug, Default)]
pub(super) struct Status {
    view: Mutex<WorkerView>,
    last: Mutex<Last>,
    /// How often the loop has gone round.
    #[cfg(test)]
    pub(super) steps: std::sync::atomic::AtomicU64,
}

/// The last outcomes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Last {
    /// When an attempt was last done.
    pub success: Option<Timestamp>,
    /// When an attempt last failed, and why.
    pub failure: Option<(Timestamp, String)>,
}

/// What the loop holds in memory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WorkerView {
    pub(super) state: HandlerState,
    /// Up to here events were read.
    pub(super) read_to: Seq,
    /// The lowest event that was read, is not settled and has no row.
    pub(super) oldest: Option<Seq>,
    /// How many are not settled, those included whose row is not written yet.
    pub(super) open: u64,
}

impl WorkerView {
    /// What is known of a handler that is at work elsewhere.
    pub(super) fn elsewhere(position: Seq) -> Self {
        Self {
            state: HandlerState::Elsewhere,
            read_to: position,
            ..Self::default()
        }
    }
}

impl Status {
    pub(super) fn starting_at(position: Seq, paused: bool) -> Self {
        let status = Self::default();
        status.publish(WorkerView {
            state: if paused {
                HandlerState::Paused
            } else {
                HandlerState::Running
            },
            read_to: position,
            ..WorkerView::default()
        });
        status
    }

    pub(super) fn publish(&self, view: WorkerView) {
        #[cfg(test)]
        self.steps
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    pub(super) fn view(&self) -> WorkerView {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner)
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
