//! Which changes are announced, and when.

use super::*;
use crate::event::Event;
use crate::inbox::delivery::HandlerId;
use crate::streams::Subscribed;

const DEBOUNCE: Duration = Duration::from_secs(3);

impl Bench {
    /// Announces all changes that are due.
    async fn announce(&self, handler: HandlerId, subscribed: &Subscribed) {
        while self.board.announce(handler, subscribed).await.unwrap() {}
    }

    async fn derived(&self) -> Vec<Event> {
        let mut events = self.inbox.after(0, 1000, usize::MAX).await.unwrap();
        events.retain(|event| event.kind().is_derived());
        events
    }

    async fn announced(&self) -> Vec<(Kind, String)> {
        let derived = self.derived().await;
        let kind_and_stream = |event: &Event| {
            let stream = event.attributes().streamid.clone().unwrap();
            (event.kind(), stream)
        };
        derived.iter().map(kind_and_stream).collect()
    }
}

fn everything() -> Subscribed {
    let subscribed = Subscribed::default();
    subscribed.set(|_| true);
    subscribed
}

async fn a_lasting_change_is_announced_once(engine: &str) -> Vec<EventId> {
    let bench = Bench::of(engine).await;
    let handler = bench.register().await;
    let subscribed = everything();
    bench.callback(handler, "a", 1, 1).await;
    bench.announce(handler, &subscribed).await;
    assert_eq!(bench.announced().await, [], "the debounce is not over");
    bench.clock.advance(DEBOUNCE);
    for _ in 0..3 {
        bench.announce(handler, &subscribed).await;
    }
    let live = (Kind::StreamLive, "a".to_owned());
    assert_eq!(bench.announced().await, std::slice::from_ref(&live));
    // A reconnect is not announced.
    bench.callback(handler, "a", 0, 1).await;
    bench.clock.advance(DEBOUNCE / 2);
    bench.announce(handler, &subscribed).await;
    bench.callback(handler, "a", 1, 2).await;
    bench.clock.advance(DEBOUNCE);
    bench.announce(handler, &subscribed).await;
    assert_eq!(bench.announced().await, std::slice::from_ref(&live));
    assert_eq!(bench.board.metrics.stream_flaps.get(), 1);
    // An end and a much later begin are announced.
    bench.callback(handler, "a", 0, 2).await;
    bench.clock.advance(DEBOUNCE);
    bench.announce(handler, &subscribed).await;
    bench.callback(handler, "a", 1, 3).await;
    bench.clock.advance(DEBOUNCE);
    bench.announce(handler, &subscribed).await;
    let offline = (Kind::StreamOffline, "a".to_owned());
    assert_eq!(bench.announced().await, [live.clone(), offline, live]);
    let derived = bench.derived().await;
    let attributes = derived[0].attributes();
    assert_eq!(attributes.domain.as_deref(), Some("push-0.example.com"));
    assert_eq!(attributes.pushsequence.as_deref(), Some("1"));
    assert_eq!(attributes.time, Some(at(1)), "the start of the push");
    derived.iter().map(Event::id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lasting_change_is_announced_once_with_the_same_id_everywhere() {
    let ids = a_lasting_change_is_announced_once("sqlite").await;
    assert_eq!(ids, a_lasting_change_is_announced_once("postgres").await);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 3);
}

async fn only_subscribed_kinds_are_announced(engine: &str) {
    let bench = Bench::of(engine).await;
    let handler = bench.register().await;
    let nobody = Subscribed::default();
    bench.callback(handler, "a", 1, 1).await;
    bench.clock.advance(DEBOUNCE);
    bench.announce(handler, &nobody).await;
    // A later subscriber receives only what changes from then on.
    bench.announce(handler, &everything()).await;
    assert_eq!(bench.announced().await, []);
    let ends = Subscribed::default();
    ends.set(|kind| kind == Kind::StreamOffline);
    bench.callback(handler, "a", 0, 1).await;
    bench.callback(handler, "b", 1, 1).await;
    bench.clock.advance(DEBOUNCE);
    bench.announce(handler, &ends).await;
    assert_eq!(
        bench.announced().await,
        [(Kind::StreamOffline, "a".to_owned())]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_subscribed_kinds_are_announced_on_sqlite() {
    only_subscribed_kinds_are_announced("sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_subscribed_kinds_are_announced_on_postgres() {
    only_subscribed_kinds_are_announced("postgres").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_announces_no_change_twice() {
    let mut bench = Bench::of("sqlite").await;
    let handler = bench.register().await;
    bench.callback(handler, "a", 1, 1).await;
    bench.board.flush(true).unwrap();
    bench.clock.advance(DEBOUNCE);
    bench.announce(handler, &everything()).await;
    // The announcement was not written. One that comes again before it is read has the same id.
    bench.reopen();
    bench.announce(handler, &everything()).await;
    assert_eq!(bench.announced().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_the_board_reads_what_it_announced() {
    let mut bench = Bench::of("sqlite").await;
    let handler = bench.register().await;
    bench.callback(handler, "a", 1, 1).await;
    bench.clock.advance(DEBOUNCE);
    bench.announce(handler, &everything()).await;
    bench.reopen();
    assert!(bench.live().await.is_empty(), "nothing was written");
    bench.read_on().await;
    // Handlers know that it is live, so its end is a change however soon it comes.
    bench.callback(handler, "a", 0, 1).await;
    for _ in 0..2 {
        bench.clock.advance(DEBOUNCE);
        bench.announce(handler, &everything()).await;
        // What it announced since has no effect.
        bench.read_on().await;
    }
    let of = |kind| (kind, "a".to_owned());
    assert_eq!(
        bench.announced().await,
        [of(Kind::StreamLive), of(Kind::StreamOffline)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_board_that_is_behind_announces_nothing() {
    let bench = Bench::of("sqlite").await;
    let handler = bench.register().await;
    bench.callback(handler, "a", 1, 1).await;
    let late = crate::inbox::contract::authentic(
        "css",
        crate::inbox::contract::push("b", 1).as_bytes(),
        bench.clock.now(),
    );
    bench.inbox.accept(late, None).await.unwrap();
    bench.inbox.sample_arrivals();
    bench.clock.advance(DEBOUNCE * 2);
    for set_by in [0, -2 * HOUR] {
        bench.clock.set_by(set_by);
        bench.announce(handler, &everything()).await;
        assert_eq!(
            bench.announced().await,
            [],
            "an unread event is older than the debounce"
        );
    }
    bench.callback(handler, "c", 1, 1).await;
    bench.announce(handler, &everything()).await;
    assert_eq!(
        bench.announced().await,
        [(Kind::StreamLive, "a".to_owned())]
    );
}

const HOUR: i64 = 3_600_000;

async fn a_set_clock_neither_delays_nor_hurries(engine: &str) {
    let mut bench = Bench::of(engine).await;
    let handler = bench.register().await;
    let subscribed = everything();
    bench.callback(handler, "a", 1, 1).await;
    bench.clock.set_by(-2 * HOUR);
    bench.announce(handler, &subscribed).await;
    assert_eq!(bench.announced().await, [], "the debounce is not over");
    bench.clock.advance(DEBOUNCE);
    bench.announce(handler, &subscribed).await;
    assert_eq!(bench.announced().await.len(), 1);
    // A clock that is set forward announces nothing early.
    bench.callback(handler, "a", 0, 1).await;
    bench.clock.set_by(10 * HOUR);
    bench.announce(handler, &subscribed).await;
    assert_eq!(bench.announced().await.len(), 1);
    // After a restart, or on another receiver, the stored time comes from another steady clock. A
    // time further ahead than the debounce counts as due.
    let clock = Clock::manual(bench.clock.now().minus(Duration::from_secs(16 * 3600)));
    bench.board.flush(true).unwrap();
    bench.board = Bench::open(&bench.dir, &bench.inbox, &clock);
    bench.announce(handler, &subscribed).await;
    assert_eq!(bench.announced().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_clock_neither_delays_nor_hurries_on_sqlite() {
    a_set_clock_neither_delays_nor_hurries("sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_clock_neither_delays_nor_hurries_on_postgres() {
    a_set_clock_neither_delays_nor_hurries("postgres").await;
}
