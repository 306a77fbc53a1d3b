//! The state of a worker, for reports.

use std::sync::{Mutex, PoisonError};

use css_callbacks::Timestamp;

use crate::event::Seq;

/// How a handler is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum HandlerState {
    /// Events are delivered to it.
    #[default]
    Running,
    /// It is down: it fails for everything and is probed.
    Failing,
    /// No event is delivered to it until it is resumed.
    Paused,
    /// Another process delivers to it.
    Elsewhere,
}

impl HandlerState {
    pub(crate) const ALL: [Self; 4] = [Self::Running, Self::Failing, Self::Paused, Self::Elsewhere];

    /// The word for it in the API.
    pub(crate) fn slug(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Failing => "failing",
            Self::Paused => "paused",
            Self::Elsewhere => "elsewhere",
        }
    }
}

/// The worker writes it, reports read it.
#[derive(Debug, Default)]
pub(super) struct Status {
    view: Mutex<WorkerView>,
    last: Mutex<Last>,
    /// How many steps the worker has made.
    #[cfg(test)]
    pub(super) steps: std::sync::atomic::AtomicU64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Last {
    /// When an attempt last succeeded.
    pub success: Option<Timestamp>,
    /// When an attempt last failed, and why.
    pub failure: Option<(Timestamp, String)>,
}

/// What a worker holds in memory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WorkerView {
    pub(super) state: HandlerState,
    /// All events up to this one were read.
    pub(super) read_to: Seq,
    /// The lowest event that was read, is not finished, and has no row in the store.
    pub(super) oldest: Option<Seq>,
    /// How many events were read, are not finished, and have no row in the store.
    pub(super) open: u64,
}

impl WorkerView {
    /// For a handler whose worker is in another process.
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
