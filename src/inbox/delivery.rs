//! How deliveries are stored: a position for each handler, and rows only for exceptions.
//!
//! Each event up to a handler's position is finished or has a row. A row is **due** (the head of its
//! lane, with the time of its next attempt), **waiting** (behind the head of its lane) or **parked**.
//! A lane has at most one due row. A replayed delivery is in a second lane beside that of its stream,
//! so that live events do not wait for it.

use std::time::Duration;

use css_callbacks::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::event::{Event, Seq};

/// A handler's number in the inbox. Numbers are never reused, names may be.
pub(crate) type HandlerId = i64;

/// What keeps order: rows of one lane are attempted one after the other, by `seq`.
pub(crate) type Lane = u64;

/// The lane for replays beside this lane of a stream.
pub(crate) const fn replay_lane(lane: Lane) -> Lane {
    lane | 1
}

/// The stream's own lane, from either of its two lanes.
pub(crate) const fn stream_lane(lane: Lane) -> Lane {
    lane & !1
}

/// Where a new handler begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Start {
    /// With the next event.
    #[default]
    Now,
    /// With the oldest event that is still stored.
    Oldest,
}

/// The stored state of a handler when it registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    pub id: HandlerId,
    /// Up to here each event is finished or has a row.
    pub position: Seq,
    /// The lanes with due or waiting rows, and how many rows each has. Lanes of replays are left out.
    pub blocked: Vec<(Lane, u64)>,
    /// The events after the position that have rows. The worker must skip them when it reads on.
    pub beyond: Vec<Seq>,
    /// Nothing is delivered while this is set.
    pub paused: bool,
}

/// The right to deliver for a handler. Only one receiver has it at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub handler: HandlerId,
    /// The number of this lease among the leases of the handler. `None` if there is only one process.
    pub epoch: Option<i64>,
    /// Until then no other receiver delivers.
    pub until: Instant,
    /// Another receiver has too few handlers: this lease should be given back.
    pub surplus: bool,
}

impl Lease {
    /// The lease of an engine that serves one process.
    pub(super) fn forever(handler: HandlerId) -> Self {
        Self {
            handler,
            epoch: None,
            until: Instant::now() + Duration::from_secs(10 * 365 * 24 * 3600),
            surplus: false,
        }
    }
}

/// A command from another receiver for the worker of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandRequest {
    pub id: String,
    pub handler: HandlerId,
    /// The command in the dispatcher's encoding.
    pub what: String,
}

/// What became of deliveries: written in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DeliveryCommit {
    /// The epoch of the [`Lease`] under which the attempts were made.
    pub epoch: Option<i64>,
    /// The new position, once `changes` are written.
    pub position: Option<Seq>,
    /// In the order in which they happened.
    pub changes: Vec<DeliveryChange>,
}

/// What became of one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeliveryChange {
    /// It waits behind the due row of its lane.
    Wait { seq: Seq, lane: Lane },
    /// It failed and becomes its lane's due row.
    Retry {
        seq: Seq,
        lane: Lane,
        attempts: Attempts,
        /// When to try again.
        due: Timestamp,
    },
    /// It is parked. Its lane goes on.
    Park {
        seq: Seq,
        lane: Lane,
        attempts: Attempts,
        /// When it was parked.
        at: Timestamp,
    },
    /// It had a row and is finished. Its lane goes on.
    Done { seq: Seq, lane: Lane },
}

impl DeliveryChange {
    pub(crate) fn seq(&self) -> Seq {
        let (Self::Wait { seq, .. }
        | Self::Retry { seq, .. }
        | Self::Park { seq, .. }
        | Self::Done { seq, .. }) = self;
        *seq
    }

    pub(crate) fn lane(&self) -> Lane {
        let (Self::Wait { lane, .. }
        | Self::Retry { lane, .. }
        | Self::Park { lane, .. }
        | Self::Done { lane, .. }) = self;
        *lane
    }
}

/// The attempts of a delivery so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Attempts {
    pub count: u32,
    /// When the first attempt began.
    pub first: Option<Timestamp>,
    /// Why the last attempt failed.
    pub error: String,
}

/// The row of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeliveryRow {
    pub state: RowState,
    pub attempts: Attempts,
    /// When the next attempt may begin, if the row is due.
    pub due: Option<Timestamp>,
    /// When it was parked. A replay does not clear this.
    pub parked: Option<Timestamp>,
}

/// What a delivery with a row waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowState {
    /// For its time.
    Due,
    /// For another delivery of its lane.
    Waiting,
    /// For the operator.
    Parked,
}

impl RowState {
    /// From the stored number.
    pub(super) fn of(stored: i64) -> Self {
        match stored {
            0 => Self::Due,
            1 => Self::Waiting,
            _ => Self::Parked,
        }
    }
}

/// A due delivery.
#[derive(Debug, Clone)]
pub(crate) struct Owed {
    pub event: Event,
    /// The lane of the row: the stream's own, or its [`replay_lane`].
    pub lane: Lane,
    pub attempts: Attempts,
}

/// A parked delivery.
#[derive(Debug, Clone)]
pub(crate) struct Parked {
    pub event: Event,
    pub attempts: Attempts,
    /// When it was parked.
    pub at: Timestamp,
    /// Whether it is being replayed.
    pub replaying: bool,
}

/// The rows of a handler, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RowCounts {
    pub due: u64,
    pub waiting: u64,
    /// Parked rows, also those that are being replayed.
    pub parked: u64,
    /// Due or waiting rows of replays, whether they were parked or not.
    pub replaying: u64,
    /// The lowest event with a due or waiting row.
    pub oldest: Option<Seq>,
}

/// Which deliveries to replay or discard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Selection {
    /// The delivery of one event.
    Event(Seq),
    /// All parked deliveries.
    Parked,
    /// Deliveries whose event arrived in this time, the end excluded.
    Range(Timestamp, Timestamp),
}

/// What a handler's worker has in memory about a delivery that is to be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InHand {
    /// Nothing. Its row, if it has one, says everything.
    Nothing,
    /// An attempt runs or begins in a moment. A replay leaves it alone.
    InProgress,
    /// It is owed. The worker delivers it without a row.
    Owed,
}

/// A delivery that is to be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplayedDelivery {
    pub seq: Seq,
    /// The lane of its stream.
    pub lane: Lane,
    /// The worker has it in memory: if it has no row, it gets none.
    pub is_owed: bool,
}
