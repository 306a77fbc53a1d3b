//! The state of one connection: its phase, and since when it can be evicted.
//!
//! Mostly the connection's own task writes it. The listener reads it to find a connection to evict.
//! One atomic, the phase, settles a race between the two: only an idle connection can be evicted,
//! and an evicted one cannot start a request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Limits;

/// What all connections of a listener share.
#[derive(Debug)]
pub(super) struct ListenerState {
    pub(super) limits: Limits,
    pub(super) opened: Instant,
    /// True: each response closes its connection.
    pub(super) draining: AtomicBool,
    /// When the listener stopped. From then on, waits are short.
    pub(super) stopped: OnceLock<Instant>,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// No byte of a request has arrived.
    Idle,
    /// The first bytes of a head arrived. The deadline has not started yet.
    HeadStarted,
    /// The rest of the head has not arrived.
    ReadingHead,
    /// The router works on a request.
    Answering,
    /// The router sends a response body of unknown length.
    Streaming,
    /// The response is complete, but may not be written yet.
    Answered,
    /// No further response will be sent.
    Closing,
    /// The listener aborts it to make room.
    Evicted,
}

const PHASES: [Phase; 8] = [
    Phase::Idle,
    Phase::HeadStarted,
    Phase::ReadingHead,
    Phase::Answering,
    Phase::Streaming,
    Phase::Answered,
    Phase::Closing,
    Phase::Evicted,
];

/// Whether the client reads what is sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum WriteState {
    Flowing,
    /// A write has just blocked. The deadline has not started yet.
    JustBlocked,
    /// A write is blocked, and the deadline runs.
    Blocked,
}

#[derive(Debug)]
pub(super) struct ConnectionState {
    pub(super) peer: SocketAddr,
    pub(super) shared: Arc<ListenerState>,
    pub(super) task: OnceLock<AbortHandle>,
    phase: AtomicU8,
    write_state: AtomicU8,
    /// In nanoseconds after the listener opened. It counts only in a phase that can be evicted.
    evictable_since: AtomicU64,
    /// How many bytes of the head have arrived, or more: a read may bring bytes of the body too.
    head_bytes: AtomicU32,
    authentic: AtomicBool,
}

/// The value of `head_bytes` that marks a head over the limit.
const TOO_LONG: u32 = u32::MAX;

impl ConnectionState {
    pub(super) fn new(peer: SocketAddr, shared: Arc<ListenerState>) -> Self {
        let state = Self {
            peer,
            shared,
            task: OnceLock::new(),
            phase: AtomicU8::new(Phase::Idle as u8),
            write_state: AtomicU8::new(WriteState::Flowing as u8),
            evictable_since: AtomicU64::new(0),
            head_bytes: AtomicU32::new(0),
            authentic: AtomicBool::new(false),
        };
        state.set_evictable(Phase::Idle, Instant::now());
        state
    }

    pub(super) fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Ordering::Acquire))]
    }

    pub(super) fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Enters a phase in which the listener may evict the connection.
    pub(super) fn set_evictable(&self, phase: Phase, since: Instant) {
        let since = since.saturating_duration_since(self.shared.opened);
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.evictable_since.store(nanos, Ordering::Relaxed);
        self.set(phase);
    }

    /// Marks the start of a head. Returns `false` if the connection was evicted.
    #[must_use]
    pub(super) fn begin_head(&self) -> bool {
        match self.change(Phase::Idle, Phase::HeadStarted) {
            Err(Phase::Evicted) => false,
            Err(_) => {
                self.set(Phase::HeadStarted);
                true
            }
            Ok(()) => true,
        }
    }

    /// Since when the connection can be evicted; none if it cannot be.
    pub(super) fn evictable_since(&self) -> Option<u64> {
        matches!(self.phase(), Phase::Idle | Phase::Closing)
            .then(|| self.evictable_since.load(Ordering::Relaxed))
    }

    /// Aborts the connection if it is still idle since `since`. Returns whether it did.
    pub(super) fn evict(&self, since: u64) -> bool {
        if self.evictable_since.load(Ordering::Relaxed) != since {
            return false;
        }
        let evicted = [Phase::Idle, Phase::Closing]
            .into_iter()
            .any(|phase| self.change(phase, Phase::Evicted).is_ok());
        if evicted && let Some(task) = self.task.get() {
            task.abort();
        }
        evicted
    }

    fn change(&self, from: Phase, to: Phase) -> Result<(), Phase> {
        self.phase
            .compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(|current| PHASES[usize::from(current)])
    }

    pub(super) fn write_state(&self) -> WriteState {
        match self.write_state.load(Ordering::Relaxed) {
            0 => WriteState::Flowing,
            1 => WriteState::JustBlocked,
            _ => WriteState::Blocked,
        }
    }

    pub(super) fn set_write_state(&self, state: WriteState) {
        self.write_state.store(state as u8, Ordering::Relaxed);
    }

    pub(super) fn head_bytes(&self) -> u64 {
        self.head_bytes.load(Ordering::Relaxed).into()
    }

    pub(super) fn set_head_bytes(&self, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(TOO_LONG);
        self.head_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn is_head_too_long(&self) -> bool {
        self.head_bytes.load(Ordering::Relaxed) == TOO_LONG
    }

    pub(super) fn set_head_too_long(&self) {
        self.head_bytes.store(TOO_LONG, Ordering::Relaxed);
    }

    pub(super) fn is_authentic(&self) -> bool {
        self.authentic.load(Ordering::Relaxed)
    }

    pub(super) fn set_authentic(&self) {
        if !self.is_authentic() {
            self.authentic.store(true, Ordering::Relaxed);
        }
    }
}
