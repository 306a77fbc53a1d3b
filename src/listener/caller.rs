//! What is known of a connection's other end: what it is doing, and since when.
//!
//! The task of the connection writes it, mostly; the listener reads it to find a connection that can make room. Both agree by
//! one atomic: whoever rests can be sent away, and whoever was sent away cannot begin a request any more.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Limits;

/// What the connections of a listener share.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) limits: Limits,
    pub(super) opened: Instant,
    /// Every answer is the last of its connection.
    pub(super) draining: AtomicBool,
    /// Since when nothing is waited for any more.
    pub(super) stopped: OnceLock<Instant>,
}

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Nothing of a request is there.
    Resting,
    /// The first bytes of a head came just now.
    Begun,
    /// The rest of the head is waited for.
    Head,
    /// A request is being answered.
    Busy,
    /// The same, with a body that has no end of its own.
    Streaming,
    /// The answer is complete, though perhaps not written.
    Answered,
    /// No answer will follow.
    Closing,
    /// It had to make room.
    SentAway,
}

const PHASES: [Phase; 8] = [
    Phase::Resting,
    Phase::Begun,
    Phase::Head,
    Phase::Busy,
    Phase::Streaming,
    Phase::Answered,
    Phase::Closing,
    Phase::SentAway,
];

/// Whether the client takes what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Writing {
    Flows,
    /// Since just now it does not.
    Stops,
    /// It is known that it does not.
    Stuck,
}

#[derive(Debug)]
pub(super) struct Caller {
    pub(super) peer: SocketAddr,
    pub(super) rules: Arc<Rules>,
    pub(super) task: OnceLock<AbortHandle>,
    phase: AtomicU8,
    writing: AtomicU8,
    /// Nanoseconds after the listener was opened.
    rests_since: AtomicU64,
    /// What has arrived of the head, or more.
    head: AtomicU32,
    genuine: AtomicBool,
}

/// The head is longer than it may be.
const OVER: u32 = u32::MAX;

impl Caller {
    pub(super) fn new(peer: SocketAddr, rules: Arc<Rules>) -> Self {
        let caller = Self {
            peer,
            rules,
            task: OnceLock::new(),
            phase: AtomicU8::new(Phase::Resting as u8),
            writing: AtomicU8::new(Writing::Flows as u8),
            rests_since: AtomicU64::new(0),
            head: AtomicU32::new(0),
            genuine: AtomicBool::new(false),
        };
        caller.rest(Phase::Resting, Instant::now());
        caller
    }

    pub(super) fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Ordering::Acquire))]
    }

    pub(super) fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// From now on it can be sent away.
    pub(super) fn rest(&self, phase: Phase, since: Instant) {
        let since = since.saturating_duration_since(self.rules.opened);
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.rests_since.store(nanos, Ordering::Relaxed);
        self.set(phase);
    }

    /// A head begins; `false` if it is too late for it.
    #[must_use]
    pub(super) fn begin(&self) -> bool {
        match self.change(Phase::Resting, Phase::Begun) {
            Err(Phase::SentAway) => false,
            Err(_) => {
                self.set(Phase::Begun);
                true
            }
            Ok(()) => true,
        }
    }

    /// Since when it rests, if it does.
    pub(super) fn rests_since(&self) -> Option<u64> {
        matches!(self.phase(), Phase::Resting | Phase::Closing)
            .then(|| self.rests_since.load(Ordering::Relaxed))
    }

    /// Ends a connection that has rested since then; `false` if it does not any more.
    pub(super) fn send_away(&self, since: u64) -> bool {
        if self.rests_since.load(Ordering::Relaxed) != since {
            return false;
        }
        let gone = [Phase::Resting, Phase::Closing]
            .into_iter()
            .any(|phase| self.change(phase, Phase::SentAway).is_ok());
        if gone && let Some(task) = self.task.get() {
            task.abort();
        }
        gone
    }

    fn change(&self, from: Phase, to: Phase) -> Result<(), Phase> {
        self.phase
            .compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(|is| PHASES[usize::from(is)])
    }

    pub(super) fn writing(&self) -> Writing {
        match self.writing.load(Ordering::Relaxed) {
            0 => Writing::Flows,
            1 => Writing::Stops,
            _ => Writing::Stuck,
        }
    }

    pub(super) fn set_writing(&self, writing: Writing) {
        self.writing.store(writing as u8, Ordering::Relaxed);
    }

    /// How much has arrived of the head.
    pub(super) fn head(&self) -> u64 {
        self.head.load(Ordering::Relaxed).into()
    }

    pub(super) fn set_head(&self, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(OVER);
        self.head.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn head_is_over(&self) -> bool {
        self.head.load(Ordering::Relaxed) == OVER
    }

    pub(super) fn set_head_over(&self) {
        self.head.store(OVER, Ordering::Relaxed);
    }

    pub(super) fn is_genuine(&self) -> bool {
        self.genuine.load(Ordering::Relaxed)
    }

    pub(super) fn set_genuine(&self) {
        if !self.is_genuine() {
            self.genuine.store(true, Ordering::Relaxed);
        }
    }
}
