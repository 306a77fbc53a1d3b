//! The contract that every engine keeps, in clauses that use only the public interface of the inbox.
//!
//! A clause is a function of a [`Bench`]. [`clauses!`] lists each clause once and makes a test of it
//! for each engine. A new engine needs one more constructor of [`Bench`] and one more line at the end
//! of this file.

#![allow(clippy::unwrap_used)]

mod accept;
mod deletion;
mod handlers;
mod lanes;
mod replay;
mod retention;
mod search;
#[path = "../../tests/it/support/postgres.rs"]
pub(crate) mod server;

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use css_callbacks::{Callback, Timestamp};

use super::delivery::{
    Attempts, DeliveryChange, DeliveryCommit, HandlerId, InHand, Lane, Parked, Registered,
    Selection, Start,
};
use super::settings::{EngineName, InboxConfig, InboxSettings, SqliteSettings, StoreSettings};
use super::{Inbox, Receipt};
use crate::auth::{Authentic, Presented, authenticate};
use crate::clock::Clock;
use crate::event::{Event, Seq};
use crate::settings::Env;
use crate::source::{Source, SourceConfig};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MILLISECOND: Duration = Duration::from_millis(1);
const WINDOW: Duration = Duration::from_secs(30 * 60);
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
const PARKED_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
const FOREVER: Timestamp = Timestamp::from_millis(i64::MAX);
/// No events.
const NONE: [Seq; 0] = [];
const BEGIN: Timestamp = Timestamp::from_seconds(1_795_420_800);

/// An inbox of one engine, with its own directory or database and its own clock.
pub(super) struct Bench {
    _dir: tempfile::TempDir,
    settings: InboxSettings,
    clock: Clock,
    inbox: Option<Inbox>,
}

impl Bench {
    async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::of(settings(dir.path()), dir).await
    }

    async fn postgres() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::of(postgres_settings(&server::shared().create_database()), dir).await
    }

    async fn of(settings: InboxSettings, dir: tempfile::TempDir) -> Self {
        let mut bench = Self {
            _dir: dir,
            settings,
            clock: Clock::manual(BEGIN),
            inbox: None,
        };
        bench.open().await;
        bench
    }

    async fn open(&mut self) {
        let opened = Inbox::open(&self.settings, self.clock.clone(), Arc::default());
        self.inbox = Some(opened.await.unwrap());
    }

    async fn reopen(&mut self) {
        self.inbox().close().await;
        self.open().await;
    }

    fn inbox(&self) -> &Inbox {
        self.inbox.as_ref().unwrap()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A callback that arrives now.
    fn callback(&self, body: &str) -> Authentic {
        authentic("css", body.as_bytes(), self.now())
    }

    async fn accept(&self, body: &str) -> Receipt {
        let callback = self.callback(body);
        self.inbox().accept(callback, None).await.unwrap()
    }

    /// Stores one new event for each of these streams, in this order. An embedded store has each in a file of its own, so that
    /// retention removes exactly what is old.
    async fn store(&self, streams: &[&str]) -> Vec<Event> {
        let before = *self.inbox().committed().borrow();
        for (n, stream) in streams.iter().enumerate() {
            let n = before + n as Seq;
            self.inbox().end_segment().await;
            assert!(!self.accept(&push(stream, n)).await.is_duplicate());
        }
        self.inbox().end_segment().await;
        self.all_after(before).await
    }

    /// Stores many different events at once. An embedded store has them in a file of their own.
    async fn store_many(&self, count: usize) {
        self.inbox().end_segment().await;
        let before = *self.inbox().committed().borrow();
        let each = (0..count).map(|n| {
            let callback = self.callback(&push("many", before * 1000 + n as Seq));
            let inbox = self.inbox().clone();
            tokio::spawn(async move { inbox.accept(callback, None).await.unwrap() })
        });
        for task in each.collect::<Vec<_>>() {
            assert!(!task.await.unwrap().is_duplicate());
        }
        self.inbox().end_segment().await;
    }

    fn is_embedded(&self) -> bool {
        matches!(self.settings.store, StoreSettings::Sqlite(_))
    }

    async fn all_after(&self, seq: Seq) -> Vec<Event> {
        self.inbox().after(seq, 100_000, usize::MAX).await.unwrap()
    }

    async fn stored(&self) -> Vec<Seq> {
        seqs(&self.all_after(0).await)
    }

    async fn register(&self, names: &[&str], start: Start) -> Vec<Registered> {
        let configured = names.iter().map(|name| ((*name).to_owned(), start));
        self.inbox().register(configured.collect()).await.unwrap()
    }

    /// The handler of a bench that has only one.
    async fn handler(&self) -> HandlerId {
        self.register(&["one"], Start::Oldest).await[0].id
    }

    async fn commit(&self, handler: HandlerId, changes: Vec<DeliveryChange>) {
        let commit = DeliveryCommit {
            epoch: None,
            position: None,
            changes,
        };
        self.inbox().commit(handler, commit).await.unwrap();
    }

    async fn finish_upto(&self, handler: HandlerId, position: Seq) {
        let commit = DeliveryCommit {
            epoch: None,
            position: Some(position),
            changes: Vec::new(),
        };
        self.inbox().commit(handler, commit).await.unwrap();
    }

    async fn park(&self, handler: HandlerId, event: &Event) {
        self.commit(handler, vec![park(event, self.now())]).await;
    }

    /// All due deliveries in order, whatever the time.
    async fn due(&self, handler: HandlerId) -> Vec<Seq> {
        let (owed, _) = self
            .inbox()
            .due(handler, FOREVER, FOREVER, 1000)
            .await
            .unwrap();
        owed.iter().map(|owed| owed.event.seq()).collect()
    }

    async fn parked(&self, handler: HandlerId) -> Vec<Parked> {
        let page = self
            .inbox()
            .parked(handler, None, false, 1000)
            .await
            .unwrap();
        assert_eq!(page.next, None);
        page.items
    }

    async fn parked_seqs(&self, handler: HandlerId) -> Vec<Seq> {
        let parked = self.parked(handler).await;
        parked.iter().map(|parked| parked.event.seq()).collect()
    }

    /// How many due, waiting and parked rows a handler has.
    async fn counts(&self, handler: HandlerId) -> (u64, u64, u64) {
        let counts = self.inbox().count(handler).await.unwrap();
        (counts.due, counts.waiting, counts.parked)
    }

    /// Replays the selection. The handler wants every event and has none in memory.
    async fn replay(&self, handler: HandlerId, selection: Selection) -> u64 {
        self.replay_if(handler, selection, |_| true, |_| InHand::Nothing)
            .await
    }

    /// Replays. A dry run before it must count the same and change nothing.
    async fn replay_if(
        &self,
        handler: HandlerId,
        selection: Selection,
        wants: impl Fn(&Event) -> bool + Send + Sync + 'static,
        in_hand: impl Fn(Seq) -> InHand + Send + Sync + 'static,
    ) -> u64 {
        let (wants, in_hand) = (Arc::new(wants), Arc::new(in_hand));
        let run = |dry| {
            self.inbox()
                .replay(handler, selection, wants.clone(), in_hand.clone(), dry)
        };
        let before = self.counts(handler).await;
        let counted = run(true).await.unwrap();
        assert_eq!(self.counts(handler).await, before);
        let replayed = run(false).await.unwrap();
        assert_eq!(counted, replayed);
        replayed
    }

    /// Discards. A dry run before it must count the same and change nothing.
    async fn discard(&self, handler: HandlerId, selection: Selection) -> (u64, Vec<Lane>) {
        let before = self.counts(handler).await;
        let (counted, _) = self
            .inbox()
            .discard(handler, selection, true)
            .await
            .unwrap();
        assert_eq!(self.counts(handler).await, before);
        let discarded = self
            .inbox()
            .discard(handler, selection, false)
            .await
            .unwrap();
        assert_eq!(counted, discarded.0);
        discarded
    }

    /// Runs retention until there is nothing more to do, with a pass that starts at the lowest event.
    async fn sweep(&self) {
        for _ in 0..11 {
            while self.inbox().sweep().await.unwrap() {}
        }
    }
}

pub(crate) fn settings(path: &Path) -> InboxSettings {
    InboxSettings {
        store: StoreSettings::Sqlite(SqliteSettings {
            path: path.join("inbox"),
            lock_wait: Duration::ZERO,
            min_free: Some(0),
            segment_size: None,
        }),
        retention: RETENTION,
        parked_retention: PARKED_RETENTION,
        dedupe_window: WINDOW,
    }
}

/// As [`settings`], but in a database of the tests' PostgreSQL server.
pub(crate) fn postgres_settings(database: &str) -> InboxSettings {
    let config = InboxConfig {
        engine: EngineName::Postgres,
        url: Some(server::shared().url(database)),
        ..InboxConfig::default()
    };
    let env = Env {
        base: Path::new("/"),
        variable: &|_| None,
    };
    let validated = config.validate("inbox", &env, Duration::ZERO).unwrap();
    InboxSettings {
        store: validated.store,
        ..settings(Path::new("/"))
    }
}

/// An authentic callback. Its source accepts unsigned ones.
pub(crate) fn authentic(source: &str, body: &[u8], received: Timestamp) -> Authentic {
    static OPEN: LazyLock<SourceConfig> = LazyLock::new(|| {
        let text = config::File::from_str("allow_unsigned = true", config::FileFormat::Toml);
        let config = config::Config::builder().add_source(text).build().unwrap();
        config.try_deserialize().unwrap()
    });
    let env = Env {
        base: Path::new("/"),
        variable: &|_| None,
    };
    let source: Source = OPEN.validate(source, &env).unwrap();
    let presented = Presented {
        url_kind: None,
        token: None,
        client: None,
        received,
        body: Bytes::copy_from_slice(body),
    };
    let callback = Callback::parse(body).unwrap();
    authenticate(&source, &presented, &callback, || [0; 16])
        .outcome
        .unwrap()
}

/// The body of a `stream-begin`.
pub(crate) fn push(stream: &str, n: Seq) -> String {
    format!(
        r#"{{"event_type":1,"app":"push.example.com","appname":"live","stream_id":"{stream}","sequence":"{n}"}}"#
    )
}

fn seqs(events: &[Event]) -> Vec<Seq> {
    events.iter().map(Event::seq).collect()
}

fn wait(event: &Event) -> DeliveryChange {
    DeliveryChange::Wait {
        seq: event.seq(),
        lane: event.lane(),
    }
}

fn done(event: &Event) -> DeliveryChange {
    DeliveryChange::Done {
        seq: event.seq(),
        lane: event.lane(),
    }
}

fn retry(event: &Event, due: Timestamp) -> DeliveryChange {
    DeliveryChange::Retry {
        seq: event.seq(),
        lane: event.lane(),
        attempts: attempts(1),
        due,
    }
}

fn park(event: &Event, at: Timestamp) -> DeliveryChange {
    DeliveryChange::Park {
        seq: event.seq(),
        lane: event.lane(),
        attempts: attempts(3),
        at,
    }
}

fn attempts(count: u32) -> Attempts {
    Attempts {
        count,
        first: Some(BEGIN),
        error: "it does not listen".to_owned(),
    }
}

/// The list of clauses. It makes a test of each for one engine.
macro_rules! clauses {
    ($engine:ident) => {
        clauses! { $engine:
            accept::{
                numbers_follow_arrival, bytes_are_kept_as_they_came, pages_keep_their_limits,
                readers_miss_nothing, one_of_many_at_once_is_stored, a_repeat_gets_the_first_receipt, the_window_has_an_exact_end,
                an_event_that_is_stored_again_begins_a_new_window, an_event_stored_in_the_far_future_hides_no_repeat, only_signature_and_time_may_differ,
                a_duplicate_leads_to_its_event, many_are_remembered, a_late_callback_is_stored_unless_it_was_stored_before,
                a_cancelled_accept_may_be_repeated, closing_finishes_what_was_begun, a_closed_inbox_fails,
                the_budget_is_given_back, new_events_are_announced,
            }
            deletion::{
                deleted_events_are_gone, a_deleted_event_is_no_duplicate, many_are_deleted, rows_of_every_handler_go,
                a_deleted_event_gets_no_row, callbacks_are_accepted_during_a_deletion, outcomes_are_written_during_a_deletion,
            }
            handlers::{
                now_begins_with_the_next_event, oldest_begins_at_the_begin, a_position_survives,
                a_position_never_goes_back, a_pause_survives_and_stops_the_clock, a_missing_handler_resumes, a_forgotten_handler_begins_again,
                blocked_lanes_are_reported, arrival_times_are_reported,
            }
            lanes::{
                waiting_ones_follow_in_order, parking_lets_the_lane_go_on, waiting_in_an_empty_lane_is_due,
                waiting_overwrites_nothing, a_retry_before_the_head_takes_its_place, lanes_are_independent,
                handlers_are_independent, due_deliveries_come_in_order, a_time_too_far_ahead_is_due_now, attempts_are_remembered, rows_survive,
                a_commit_is_atomic, commits_keep_their_order, any_order_keeps_one_head,
                a_removed_event_gets_no_row,
            }
            replay::{
                parked_ones_come_in_pages, one_event_is_replayed, parked_ones_are_replayed, a_time_is_replayed,
                an_owed_delivery_is_not_doubled, a_replay_makes_an_owed_delivery_due_now, replays_have_a_lane_of_their_own, a_replay_stays_listed_until_it_is_done,
                a_replay_may_be_parked_again, replays_are_counted, one_event_is_discarded, parked_ones_are_discarded, a_time_is_discarded,
                a_discarded_head_frees_its_lane, thousands_are_replayed_and_discarded,
            }
            retention::{
                events_that_all_handlers_finished_are_removed, without_handlers_all_old_events_are_removed, owed_events_stay, events_of_waiting_deliveries_stay,
                parked_events_stay_longer, replayed_events_stay, numbers_are_never_given_twice,
                removed_events_are_not_found, many_events_are_removed_in_rounds, a_missing_handler_keeps_events_for_a_while, events_from_the_future_stop_nothing,
                events_from_the_far_future_are_removed, deliveries_parked_in_the_far_future_are_removed, a_handler_missing_since_the_far_future_is_forgotten,
                a_clock_that_is_behind_removes_nothing,
            }
            search::{
                both_orders_have_pages, kinds_and_sources_are_told_apart, streams_are_told_apart,
                a_time_has_its_begin_but_not_its_end, everything_is_found_by_its_id, an_id_leads_to_its_newest_event,
                a_time_is_found_among_many_events,
            }
        }
    };
    ($engine:ident: $($part:ident::{ $($clause:ident,)* })*) => {
        mod $engine {
            $(mod $part {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $clause() {
                    super::super::$part::$clause(super::super::Bench::$engine().await).await;
                })*
            })*
        }
    };
}

clauses!(sqlite);
clauses!(postgres);
