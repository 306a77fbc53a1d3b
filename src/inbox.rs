//! The inbox: every authentic callback, durable before it is answered, and what each handler still owes.
//!
//! Ingress puts in, dispatch takes out; they know nothing of each other. The contract of an engine:
//!
//! 1. [`Inbox::accept`] returns a [`Receipt`] only after the event is on disk, and is idempotent: the same id
//!    within the duplicate window gives the receipt of the first. Whoever waits may stop waiting; what was begun is finished.
//! 2. Events are numbered in arrival order; what [`Inbox::after`] does not show yet never appears below what it has shown.
//! 3. A [`DeliveryCommit`] is written whole or not at all, in the order in which commits were given.
//! 4. Retention removes nothing that a handler still owes an attempt, and nothing that is parked. [`Inbox::delete`] does.

mod arrivals;
#[cfg(test)]
pub(crate) mod contract;
pub(crate) mod delivery;
mod postgres;
pub(crate) mod query;
pub(crate) mod rejected;
pub(crate) mod settings;
mod sqlite;
mod sweep;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use css_callbacks::{EventId, Timestamp};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use self::arrivals::Arrivals;
use self::delivery::{
    CommandRequest, DeliveryCommit, DeliveryRow, HandlerId, InHand, Lane, Lease, Owed, Parked,
    Registered, ReplayedDelivery, RowCounts, Selection, Start,
};
pub(crate) use self::postgres::SharedBoard;
use self::query::{EventFilter, Page};
use self::rejected::{RejectedEntry, RejectedQuery, RejectedRow};
use self::settings::{InboxSettings, StoreSettings};
use crate::auth::Authentic;
use crate::budget::Charge;
use crate::clock::Clock;
use crate::event::{Event, Seq};
use crate::metrics::Metrics;

/// Proof that a callback is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    seq: Seq,
    duplicate: bool,
}

impl Receipt {
    /// Only the engines make receipts, after their commit.
    fn new(seq: Seq, duplicate: bool) -> Self {
        Self { seq, duplicate }
    }

    /// Where the event stands in the inbox.
    pub(crate) fn seq(&self) -> Seq {
        self.seq
    }

    /// Whether it had been stored before.
    pub(crate) fn is_duplicate(&self) -> bool {
        self.duplicate
    }
}

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It failed; the log says how.
    #[error("the store failed")]
    Failed,
    /// The disk is nearly full.
    #[error("the disk is nearly full")]
    Full,
}

/// Why the inbox could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory, or a file in it, cannot be written.
    #[error("inbox.path: cannot write to {}: {error}; make it writable for this user or choose another directory", path.display())]
    Unwritable {
        /// The directory or the file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Another process uses the directory.
    #[error(
        "inbox.path: {} is in use by another livehook (waited {}); stop that one, or give this one a directory of its own",
        path.display(),
        humantime::format_duration(*waited)
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// How long this process waited for it.
        waited: Duration,
    },
    /// The file is no usable inbox.
    #[error("inbox.path: {}: {reason}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The server, or what it holds, cannot be used as it is.
    #[error("inbox.url: {0}")]
    Refused(String),
    /// The server was not there.
    #[error(
        "inbox.url: {problem} (waited {}); start the server, or give it more time with connect_wait",
        humantime::format_duration(*waited)
    )]
    Away {
        /// What was tried, and what came of it.
        problem: String,
        /// How long this process waited for it.
        waited: Duration,
    },
    /// It ended before it was open.
    #[error("the inbox was not opened: {0}")]
    Ended(String),
}

/// Whether the inbox takes callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It does.
    Accepting,
    /// Not until there is room on the disk.
    Full,
    /// The last write failed.
    Failing,
}

/// A handle to the inbox.
#[derive(Clone)]
pub(crate) struct Inbox {
    engine: Arc<Engine>,
    arrivals: Arc<Arrivals>,
}

/// The engines, a closed set. They differ in storage, not in meaning.
enum Engine {
    Sqlite(Box<sqlite::Store>),
    Postgres(postgres::PostgresStore),
}

macro_rules! on_engine {
    ($self:ident, $store:ident => $call:expr) => {
        match &*$self.engine {
            Engine::Sqlite($store) => $call,
            Engine::Postgres($store) => $call,
        }
    };
}

/// Events looked at in one go by what goes through many.
const CHUNK: usize = 500;
/// So many of these are looked through for one part of a list.
const CHUNKS_SEARCHED: usize = 100;

impl Inbox {
    /// Opens or creates it. Waits for up to `lock_wait` if another process has it, or `connect_wait` if the server is away.
    pub(crate) async fn open(
        settings: &InboxSettings,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let engine = match &settings.store {
            StoreSettings::Sqlite(own) => {
                let (settings, own, clock) = (settings.clone(), own.clone(), clock.clone());
                let open = move || sqlite::Store::open(&settings, &own, clock, metrics);
                let opened = spawn_blocking(open).await;
                let store = opened.map_err(|error| OpenError::Ended(error.to_string()))??;
                Engine::Sqlite(Box::new(store))
            }
            StoreSettings::Postgres(own) => {
                let store =
                    postgres::PostgresStore::open(settings, own, clock.clone(), metrics).await?;
                Engine::Postgres(store)
            }
        };
        let committed = match &engine {
            Engine::Sqlite(store) => store.committed(),
            Engine::Postgres(store) => store.committed(),
        };
        Ok(Self {
            engine: Arc::new(engine),
            arrivals: Arc::new(Arrivals::new(clock, committed)),
        })
    }

    /// Stores a callback unless its id was stored within the duplicate window. `charge` is held until the commit.
    pub(crate) async fn accept(
        &self,
        callback: Authentic,
        charge: Option<Charge>,
    ) -> Result<Receipt, StoreError> {
        on_engine!(self, store => store.accept(callback, charge, false).await)
    }

    /// Stores a callback that was refused before, unless its id was ever stored.
    pub(crate) async fn accept_late(&self, callback: Authentic) -> Result<Receipt, StoreError> {
        on_engine!(self, store => store.accept(callback, None, true).await)
    }

    /// The number of the newest event, and word of newer ones.
    pub(crate) fn committed(&self) -> watch::Receiver<Seq> {
        on_engine!(self, store => store.committed())
    }

    /// Whether it takes callbacks.
    pub(crate) fn condition(&self) -> Condition {
        on_engine!(self, store => store.condition())
    }

    /// Gives each configured handler its number and position, durably. The others count as missing from now on.
    pub(crate) async fn register(
        &self,
        configured: Vec<(String, Start)>,
    ) -> Result<Vec<Registered>, StoreError> {
        on_engine!(self, store => store.register(configured).await)
    }

    /// Remembers what became of a handler's deliveries.
    pub(crate) async fn commit(
        &self,
        handler: HandlerId,
        commit: DeliveryCommit,
    ) -> Result<(), StoreError> {
        on_engine!(self, store => store.commit(handler, commit).await)
    }

    /// The events after `seq` in order: at most `limit`, at least one if there is one, and no more once their bodies have
    /// more than `bytes` bytes.
    pub(crate) async fn after(
        &self,
        seq: Seq,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Event>, StoreError> {
        on_engine!(self, store => store.after(seq, limit, bytes).await)
    }

    /// As [`after`](Self::after), but only what has come to rest, and read in the thread that calls: for who is in no hurry.
    pub(crate) async fn after_at_rest(
        &self,
        seq: Seq,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Event>, StoreError> {
        match &*self.engine {
            Engine::Sqlite(store) => store.after_at_rest(seq, limit, bytes),
            Engine::Postgres(store) => store.after(seq, limit, bytes).await,
        }
    }

    /// The deliveries of a handler that are due at `until`, longest due first, and when the next one after them is due. One that
    /// is due only beyond `latest` is due now: nobody has to wait so long, so it was written by another clock.
    pub(crate) async fn due(
        &self,
        handler: HandlerId,
        until: Timestamp,
        latest: Timestamp,
        limit: usize,
    ) -> Result<(Vec<Owed>, Option<Timestamp>), StoreError> {
        on_engine!(self, store => store.due(handler, until, latest, limit).await)
    }

    /// Those of these events that are there, by number.
    pub(crate) async fn by_seq(&self, mut seqs: Vec<Seq>) -> Result<Vec<Event>, StoreError> {
        seqs.sort_unstable();
        match &*self.engine {
            Engine::Sqlite(store) => store.these(seqs).await,
            Engine::Postgres(store) => store.by_seq(&seqs).await,
        }
    }

    /// Which of these events are there.
    pub(crate) async fn existing(&self, seqs: Vec<Seq>) -> Result<Vec<Seq>, StoreError> {
        match &*self.engine {
            Engine::Sqlite(store) => store.existing(seqs).await,
            Engine::Postgres(store) => store.existing(&seqs).await,
        }
    }

    /// Keeps events from retention for a handler, until [`discard_events`](Self::discard_events).
    pub(crate) async fn pin(&self, handler: HandlerId, seqs: Vec<Seq>) -> Result<(), StoreError> {
        match &*self.engine {
            Engine::Sqlite(store) => store.hold(handler, seqs).await,
            Engine::Postgres(store) => store.pin(handler, &seqs).await,
        }
    }

    /// The board of streams, if it is in the inbox.
    pub(crate) fn shared_board(&self) -> Option<SharedBoard> {
        match &*self.engine {
            Engine::Sqlite(_) => None,
            Engine::Postgres(store) => Some(store.board()),
        }
    }

    /// Counts a handler's rows.
    pub(crate) async fn count(&self, handler: HandlerId) -> Result<RowCounts, StoreError> {
        on_engine!(self, store => store.count(handler).await)
    }

    /// An event or the first one after it that is still there, and when it arrived.
    pub(crate) async fn received_from(
        &self,
        seq: Seq,
    ) -> Result<Option<(Seq, Timestamp)>, StoreError> {
        on_engine!(self, store => store.received_from(seq).await)
    }

    /// How long ago an event arrived that says when: at least as long as it is known here, should the clock have been set back.
    pub(crate) fn age(&self, seq: Seq, received: Timestamp) -> Duration {
        self.arrivals.age(seq, received)
    }

    /// As [`age`](Self::age) of [`received_from`](Self::received_from).
    pub(crate) async fn age_from(&self, seq: Seq) -> Result<Option<Duration>, StoreError> {
        let first = self.received_from(seq).await?;
        Ok(first.map(|(seq, received)| self.age(seq, received)))
    }

    /// Takes note of how far it has come, so that [`age`](Self::age) can tell. Once a second is enough.
    pub(crate) fn sample_arrivals(&self) {
        self.arrivals.sample();
    }

    /// The parked deliveries of a handler beyond the event `beyond`, in the order of their events or newest first. The events
    /// come without their bodies.
    pub(crate) async fn parked(
        &self,
        handler: HandlerId,
        beyond: Option<Seq>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Page<Parked>, StoreError> {
        let beyond = beyond.unwrap_or(if newest_first { Seq::MAX } else { 0 });
        let mut items = on_engine!(self, store => store.parked(handler, beyond, newest_first, limit + 1).await)?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items
            .last()
            .filter(|_| more)
            .map(|parked| parked.event.seq());
        Ok(Page { items, next })
    }

    /// The parked deliveries whose event passes the filter, as [`parked`](Self::parked). Stops after a bounded effort.
    pub(crate) async fn search_parked(
        &self,
        handler: HandlerId,
        filter: &EventFilter,
        mut beyond: Option<Seq>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Page<Parked>, StoreError> {
        let mut items = Vec::new();
        for _ in 0..CHUNKS_SEARCHED {
            let page = self.parked(handler, beyond, newest_first, CHUNK).await?;
            beyond = page.next;
            items.extend(
                page.items
                    .into_iter()
                    .filter(|parked| filter.matches(&parked.event)),
            );
            if items.len() > limit {
                items.truncate(limit);
                beyond = items.last().map(|parked| parked.event.seq());
                break;
            }
            if beyond.is_none() {
                break;
            }
        }
        Ok(Page {
            items,
            next: beyond,
        })
    }

    /// The events that pass the filter, in arrival order or newest first, beyond the event `beyond`, without their bodies.
    pub(crate) async fn search(
        &self,
        filter: EventFilter,
        beyond: Option<Seq>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Page<Event>, StoreError> {
        on_engine!(self, store => store.search(filter, beyond, newest_first, limit).await)
    }

    /// The newest event with this id.
    pub(crate) async fn find(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        on_engine!(self, store => store.find(id).await)
    }

    /// Makes what is selected due now for a handler, as far as it wants it: how many deliveries. What it owes anyway is not doubled:
    /// one that waits for its time, or behind one that does, waits no longer. `in_hand` says what the handler's loop knows of an
    /// event. A dry run only counts.
    pub(crate) async fn replay(
        &self,
        handler: HandlerId,
        selection: Selection,
        wants: Arc<dyn Fn(&Event) -> bool + Send + Sync>,
        in_hand: Arc<dyn Fn(Seq) -> InHand + Send + Sync>,
        dry_run: bool,
    ) -> Result<u64, StoreError> {
        let mut replayed = 0;
        let mut after = Some(0);
        while let Some(from) = after {
            let events = match selection {
                Selection::Event(seq) => {
                    after = None;
                    let page = self.after(seq - 1, 1, 1).await?;
                    page.into_iter()
                        .filter(|event| event.seq() == seq)
                        .collect()
                }
                Selection::Parked => {
                    let page = self.parked(handler, Some(from), false, CHUNK).await?;
                    after = page.next;
                    page.items.into_iter().map(|parked| parked.event).collect()
                }
                Selection::Range(begin, end) => {
                    let filter = EventFilter {
                        from: Some(begin),
                        to: Some(end),
                        ..EventFilter::default()
                    };
                    let page = self.search(filter, Some(from), false, CHUNK).await?;
                    after = page.next;
                    page.items
                }
            };
            let again = |event: &Event| {
                let in_hand = in_hand(event.seq());
                (in_hand != InHand::InProgress && wants(event)).then(|| ReplayedDelivery {
                    seq: event.seq(),
                    lane: event.lane(),
                    is_owed: in_hand == InHand::Owed,
                })
            };
            let wanted = events.iter().filter_map(again).collect();
            replayed += on_engine!(self, store => store.replay(handler, wanted, dry_run).await)?;
        }
        Ok(replayed)
    }

    /// Gives deliveries up for good: those parked, for [`Selection::Event`] also one that is due or waiting. How many, and the
    /// lanes of those that were due or waiting. A dry run only counts.
    pub(crate) async fn discard(
        &self,
        handler: HandlerId,
        selection: Selection,
        dry_run: bool,
    ) -> Result<(u64, Vec<Lane>), StoreError> {
        if let Selection::Event(seq) = selection {
            if dry_run {
                let owed = on_engine!(self, store => store.delivery_row(handler, seq).await)?;
                return Ok((owed.is_some().into(), Vec::new()));
            }
            return on_engine!(self, store => store.discard(handler, vec![seq]).await);
        }
        let mut discarded = (0, Vec::new());
        let mut after = Some(0);
        while let Some(from) = after {
            let page = self.parked(handler, Some(from), false, CHUNK).await?;
            after = page.next;
            let selected = |event: &Event| match selection {
                Selection::Range(begin, end) => (begin..end).contains(&event.received()),
                _ => true,
            };
            let wanted: Vec<Seq> = page
                .items
                .iter()
                .map(|parked| &parked.event)
                .filter(|event| selected(event))
                .map(Event::seq)
                .collect();
            if dry_run {
                discarded.0 += wanted.len() as u64;
            } else {
                let (number, lanes) =
                    on_engine!(self, store => store.discard(handler, wanted).await)?;
                discarded.0 += number;
                discarded.1.extend(lanes);
            }
        }
        Ok(discarded)
    }

    /// Gives up for good a handler's deliveries of these events that are out of line, in one transaction; as
    /// [`discard`](Self::discard) of each.
    pub(crate) async fn discard_events(
        &self,
        handler: HandlerId,
        seqs: Vec<Seq>,
    ) -> Result<(u64, Vec<Lane>), StoreError> {
        on_engine!(self, store => store.discard(handler, seqs).await)
    }

    /// Removes these events for good, with the rows of every handler, whether it is configured or not; lanes go on. How many
    /// there were. Nothing of them comes back, also after a crash, and the same callbacks are new if they come again.
    ///
    /// It is written in a few short transactions, whose number does not depend on that of the events: give a few hundred.
    pub(crate) async fn delete(&self, seqs: Vec<Seq>) -> Result<u64, StoreError> {
        on_engine!(self, store => store.delete(seqs).await)
    }

    /// One round of retention; `true` if there is more to do.
    pub(crate) async fn sweep(&self) -> Result<bool, StoreError> {
        on_engine!(self, store => store.sweep().await)
    }

    /// Finds out whether a store that failed or was full works again; changes nothing but [`Inbox::condition`].
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        on_engine!(self, store => store.probe().await)
    }

    /// Looks whether the files of an embedded store are still in their place; changes nothing but [`Inbox::condition`].
    pub(crate) async fn check_files(&self) {
        if let Engine::Sqlite(store) = &*self.engine {
            store.check_files().await;
        }
    }

    /// A file beside the embedded store failed. If it could not be synced, nothing on this disk is trusted until a new start.
    pub(crate) fn condemn_if_not_synced(&self, error: &rusqlite::Error) {
        if let Engine::Sqlite(store) = &*self.engine {
            store.condemn_if_not_synced(error);
        }
    }

    /// Ends when the store has failed so that only a new start can tell what is on the disk.
    pub(crate) async fn until_condemned(&self) {
        match &*self.engine {
            Engine::Sqlite(store) => store.until_condemned().await,
            Engine::Postgres(_) => std::future::pending().await,
        }
    }

    /// Bytes on disk.
    pub(crate) fn size(&self) -> u64 {
        on_engine!(self, store => store.size())
    }

    /// Finishes what was begun and closes it. What is asked of it afterwards fails.
    pub(crate) async fn close(&self) {
        match &*self.engine {
            Engine::Sqlite(_) => {
                let inbox = self.clone();
                let close = move || match &*inbox.engine {
                    Engine::Sqlite(store) => store.close(),
                    Engine::Postgres(_) => {}
                };
                if spawn_blocking(close).await.is_err() {
                    tracing::error!("the inbox could not be closed");
                }
            }
            Engine::Postgres(store) => store.close().await,
        }
    }

    /// Whether other processes use it as well, so that what is to be delivered has to be shared out by leases.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(&*self.engine, Engine::Postgres(_))
    }

    /// Renews the leases of these handlers, and takes those that are to be had, for a term each. Where one process has
    /// everything it has all of them.
    pub(crate) async fn lease(
        &self,
        wanted: &[(HandlerId, Duration)],
    ) -> Result<Vec<Lease>, StoreError> {
        match &*self.engine {
            Engine::Sqlite(_) => Ok(wanted.iter().map(|(id, _)| Lease::forever(*id)).collect()),
            Engine::Postgres(store) => store.lease(wanted).await,
        }
    }

    /// Gives a lease back.
    pub(crate) async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        match &*self.engine {
            Engine::Sqlite(_) => Ok(()),
            Engine::Postgres(store) => store.release(lease.handler, lease.epoch).await,
        }
    }

    /// What is to be known of a handler to deliver for it from now on.
    pub(crate) async fn resume(&self, handler: HandlerId) -> Result<Registered, StoreError> {
        on_engine!(self, store => store.resume(handler).await)
    }

    /// Pauses a handler or resumes it, durably. While it is paused the age of its deliveries stands still: when it is resumed
    /// their first attempts count as later by as much.
    pub(crate) async fn pause(
        &self,
        handler: HandlerId,
        paused: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        on_engine!(self, store => store.pause(handler, paused, now).await)
    }

    /// A handler's delivery of an event, if it is out of line.
    pub(crate) async fn delivery_row(
        &self,
        handler: HandlerId,
        seq: Seq,
    ) -> Result<Option<DeliveryRow>, StoreError> {
        on_engine!(self, store => store.delivery_row(handler, seq).await)
    }

    /// Up to where a handler is finished, or has rows.
    pub(crate) async fn position(&self, handler: HandlerId) -> Result<Seq, StoreError> {
        on_engine!(self, store => store.position(handler).await)
    }

    /// Has the process that delivers for a handler do something, within so long: what came of it.
    pub(crate) async fn send_command(
        &self,
        handler: HandlerId,
        what: &str,
        wait: Duration,
    ) -> Result<u64, StoreError> {
        match &*self.engine {
            Engine::Sqlite(_) => Err(StoreError::Failed), // nobody else could
            Engine::Postgres(store) => store.send_command(handler, what, wait).await,
        }
    }

    /// Takes what other processes have ordered for these handlers.
    pub(crate) async fn take_commands(
        &self,
        handlers: &[HandlerId],
    ) -> Result<Vec<CommandRequest>, StoreError> {
        match &*self.engine {
            Engine::Sqlite(_) => Ok(Vec::new()),
            Engine::Postgres(store) => store.take_commands(handlers).await,
        }
    }

    /// Adds refused callbacks to the list that all processes share, which keeps the newest `entries` and `bytes` per source
    /// and reason.
    pub(crate) async fn add_rejected(
        &self,
        rows: &[RejectedRow],
        entries: u64,
        bytes: u64,
    ) -> Result<(), StoreError> {
        match &*self.engine {
            Engine::Sqlite(_) => Err(StoreError::Failed), // its list is a file of its own
            Engine::Postgres(store) => store.add_rejected(rows, entries, bytes).await,
        }
    }

    /// A part of that list: up to `limit` entries, fewer if their bodies are longer than `bytes`.
    pub(crate) async fn rejected(
        &self,
        wanted: &RejectedQuery,
        limit: usize,
        bytes: u64,
    ) -> Result<Vec<RejectedEntry>, StoreError> {
        match &*self.engine {
            Engine::Sqlite(_) => Err(StoreError::Failed),
            Engine::Postgres(store) => store.rejected(wanted, limit, bytes).await,
        }
    }

    /// Takes entries off that list.
    pub(crate) async fn remove_rejected(&self, ids: &[i64]) -> Result<(), StoreError> {
        match &*self.engine {
            Engine::Sqlite(_) => Err(StoreError::Failed),
            Engine::Postgres(store) => store.remove_rejected(ids).await,
        }
    }

    /// Tells what came of an order.
    pub(crate) async fn answer_command(
        &self,
        command: &CommandRequest,
        answer: Result<u64, StoreError>,
    ) -> Result<(), StoreError> {
        match &*self.engine {
            Engine::Sqlite(_) => Ok(()),
            Engine::Postgres(store) => store.answer_command(&command.id, answer).await,
        }
    }
}
