//! What the inbox remembers of deliveries: a position per handler, and a row only for what is out of line.
//!
//! Every event up to a handler's position is finished by it, or has a row. A row is **due** (the head of its lane: to be tried
//! from a time on), **waiting** (behind the head of its lane) or **parked**. A lane has at most one due row. Replayed
//! deliveries have a lane of their own beside their stream's, so that live events do not wait for them.

use std::time::Duration;

use css_callbacks::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::event::{Event, Seq};

/// A handler's number in the inbox; names come and go, numbers are never reused.
pub(crate) type HandlerId = i64;

/// Whether a name is one of a part of livehook: those of handlers have no dot.
pub(crate) fn is_projection(name: &str) -> bool {
    name.contains('.')
}

/// Keeps order: rows of one lane are tried one after the other, by `seq`.
pub(crate) type Lane = u64;

/// The lane of replayed deliveries beside a stream's own.
pub(crate) const fn replay_lane(lane: Lane) -> Lane {
    lane | 1
}

/// The stream's own lane of any of its two lanes.
pub(crate) const fn stream_lane(lane: Lane) -> Lane {
    lane & !1
}

/// Where a handler that was never seen before begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Start {
    /// With the next event.
    #[default]
    Now,
    /// With the oldest event that is still there.
    Oldest,
}

/// What a handler finds when it registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    /// Its number.
    pub id: HandlerId,
    /// Up to here everything is finished or has a row.
    pub position: Seq,
    /// The lanes that have due or waiting rows, with their number; without those of replays.
    pub blocked: Vec<(Lane, u64)>,
    /// The events beyond the position that have rows: not to be taken up again from the inbox.
    pub beyond: Vec<Seq>,
    /// Whether it is paused: nothing is delivered until it is resumed.
    pub paused: bool,
}

/// The right to deliver for a handler, which others may want as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The handler.
    pub handler: HandlerId,
    /// Which of its leases this is; none if nobody else can have one.
    pub epoch: Option<i64>,
    /// Until then nobody else delivers.
    pub until: Instant,
    /// Whether another receiver should have it instead.
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

/// What another receiver asks of the one that delivers for a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandRequest {
    /// Names it.
    pub id: String,
    /// The handler.
    pub handler: HandlerId,
    /// What to do, as the dispatcher wrote it.
    pub what: String,
}

/// What became of deliveries, to be remembered in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DeliveryCommit {
    /// The epoch of the lease under which it came about; see [`Lease`].
    pub epoch: Option<i64>,
    /// Up to here everything is finished or has a row, once `changes` are written.
    pub position: Option<Seq>,
    /// In the order in which they happened.
    pub changes: Vec<DeliveryChange>,
}

impl DeliveryCommit {}

/// What became of one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeliveryChange {
    /// It waits behind its stream's due row.
    Wait {
        /// The event.
        seq: Seq,
        /// Its lane.
        lane: Lane,
    },
    /// It failed and becomes its lane's due row.
    Retry {
        /// The event.
        seq: Seq,
        /// Its lane.
        lane: Lane,
        /// What is known of its attempts.
        attempts: Attempts,
        /// When to try again.
        due: Timestamp,
    },
    /// It is given up; its lane goes on.
    Park {
        /// The event.
        seq: Seq,
        /// Its lane.
        lane: Lane,
        /// What is known of its attempts.
        attempts: Attempts,
        /// When it was given up.
        at: Timestamp,
    },
    /// It had a row and is finished; its lane goes on.
    Done {
        /// The event.
        seq: Seq,
        /// Its lane.
        lane: Lane,
    },
}

impl DeliveryChange {
    /// The event.
    pub(crate) fn seq(&self) -> Seq {
        let (Self::Wait { seq, .. }
        | Self::Retry { seq, .. }
        | Self::Park { seq, .. }
        | Self::Done { seq, .. }) = self;
        *seq
    }

    /// Its lane.
    pub(crate) fn lane(&self) -> Lane {
        let (Self::Wait { lane, .. }
        | Self::Retry { lane, .. }
        | Self::Park { lane, .. }
        | Self::Done { lane, .. }) = self;
        *lane
    }
}

/// What is known of a delivery's attempts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Attempts {
    /// How many there were.
    pub count: u32,
    /// When the first one began.
    pub first: Option<Timestamp>,
    /// Why the last one failed.
    pub error: String,
}

/// A delivery that is out of line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeliveryRow {
    /// What it waits for.
    pub state: RowState,
    /// What was tried.
    pub attempts: Attempts,
    /// When the next attempt may begin, if it is due.
    pub due: Option<Timestamp>,
    /// Since when it is parked; it stays so while it is replayed.
    pub parked: Option<Timestamp>,
}

/// What a delivery that is out of line waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowState {
    /// Its time.
    Due,
    /// Another delivery of its stream.
    Waiting,
    /// The operator.
    Parked,
}

impl RowState {
    /// As it is stored.
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
    /// The event to deliver.
    pub event: Event,
    /// Its lane; see [`replay_lane`].
    pub lane: Lane,
    /// What is known of its attempts.
    pub attempts: Attempts,
}

/// A delivery that was given up.
#[derive(Debug, Clone)]
pub(crate) struct Parked {
    /// The event.
    pub event: Event,
    /// What is known of its attempts.
    pub attempts: Attempts,
    /// When it was given up.
    pub at: Timestamp,
    /// Whether it is being replayed.
    pub replaying: bool,
}

/// The rows of a handler, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RowCounts {
    /// To be tried from a time on.
    pub due: u64,
    /// Behind a due one of their lane.
    pub waiting: u64,
    /// Given up, those being replayed included.
    pub parked: u64,
    /// Of those due or waiting, the replayed ones, the parked ones among them included.
    pub replaying: u64,
    /// The lowest event that is due or waiting.
    pub oldest: Option<Seq>,
}

/// Which deliveries to replay or discard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Selection {
    /// One event.
    Event(Seq),
    /// All parked ones.
    Parked,
    /// Those whose event arrived in this time, the end excluded.
    Range(Timestamp, Timestamp),
}

/// What a handler's loop knows of a delivery that is asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InHand {
    /// Nothing that its row, if it has one, does not tell.
    Nothing,
    /// It is being delivered, or will be in a moment: to be left alone.
    InProgress,
    /// It is owed, and needs no row to be delivered again.
    Owed,
}

/// A delivery that is asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplayedDelivery {
    /// The event.
    pub seq: Seq,
    /// Of its stream.
    pub lane: Lane,
    /// Whether it gets no row if it has none: it is owed all the same.
    pub is_owed: bool,
}
