//! What is told of changes, and when.

use super::*;
use crate::event::Event;
use crate::inbox::delivery::HandlerId;
use crate::streams::Subscribed;

const SETTLE: Duration = Duration::from_secs(3);

impl Bench {
    /// Everything is told that may be by now.
    async fn announce(&self, handler: HandlerId, subscribed: &Subscribed) {
        while self.board.announce(handler, subscribed).await.unwrap() {}
    }

    async fn derived(&self) -> Vec<Event> {
        let mut events = self.inbox.after(0, 1000, usize::MAX).await.unwrap();
        events.retain(|event| event.kind().is_derived());
        events
    }

    async fn told(&self) -> Vec<(Kind, String)> {
        let derived = self.derived().await;
        let told = |event: &Event| {
            let stream = event.attributes().streamid.clone().unwrap();
            (event.kind(), stream)
        };
        derived.iter().map(told).collect()
    }
}

fn everything() -> Subscribed {
    let subscribed = Subscribed::default();
    subscribed.set(|_| true);
    subscribed
}

async fn a_change_that_lasts_is_told_once(engine: &str) -> Vec<EventId> {
    let bench = Bench::of(engine).await;
    let handler = bench.register().await;
    let subscribed = everything();
    bench.callback(handler, "a", 1, 1).await;
    bench.announce(handler, &subscribed).await;
    assert_eq!(bench.told().await, [], "it has to last");
    bench.clock.advance(SETTLE);
    for _ in 0..3 {
        bench.announce(handler, &subscribed).await;
    }
    let live = (Kind::StreamLive, "a".to_owned());
    assert_eq!(bench.told().await, std::slice::from_ref(&live));
    // A reconnect.
    bench.callback(handler, "a", 0, 1).await;
    bench.clock.advance(SETTLE / 2);
    bench.announce(handler, &subscribed).await;
    bench.callback(handler, "a", 1, 2).await;
    bench.clock.advance(SETTLE);
    bench.announce(handler, &subscribed).await;
    assert_eq!(bench.told().await, std::slice::from_ref(&live));
    assert_eq!(bench.board.metrics.stream_flaps.get(), 1);
    // The end, and another begin much later.
    bench.callback(handler, "a", 0, 2).await;
    bench.clock.advance(SETTLE);
    bench.announce(handler, &subscribed).await;
    bench.callback(handler, "a", 1, 3).await;
    bench.clock.advance(SETTLE);
    bench.announce(handler, &subscribed).await;
    let offline = (Kind::StreamOffline, "a".to_owned());
    assert_eq!(bench.told().await, [live.clone(), offline, live]);
    let derived = bench.derived().await;
    let attributes = derived[0].attributes();
    assert_eq!(attributes.domain.as_deref(), Some("push-0.example.com"));
    assert_eq!(attributes.pushsequence.as_deref(), Some("1"));
    assert_eq!(attributes.time, Some(at(1)), "since when it is so");
    derived.iter().map(Event::id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_lasts_is_told_once_with_the_same_id_everywhere() {
    let ids = a_change_that_lasts_is_told_once("sqlite").await;
    assert_eq!(ids, a_change_that_lasts_is_told_once("postgres").await);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 3);
}

async fn only_what_is_asked_for_is_told(engine: &str) {
    let bench = Bench::of(engine).await;
    let handler = bench.register().await;
    let nobody = Subscribed::default();
    bench.callback(handler, "a", 1, 1).await;
    bench.clock.advance(SETTLE);
    bench.announce(handler, &nobody).await;
    // Whoever comes later hears of what changes from then on.
    bench.announce(handler, &everything()).await;
    assert_eq!(bench.told().await, []);
    let ends = Subscribed::default();
    ends.set(|kind| kind == Kind::StreamOffline);
    bench.callback(handler, "a", 0, 1).await;
    bench.callback(handler, "b", 1, 1).await;
    bench.clock.advance(SETTLE);
    bench.announce(handler, &ends).await;
    assert_eq!(bench.told().await, [(Kind::StreamOffline, "a".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_asked_for_is_told_on_sqlite() {
    only_what_is_asked_for_is_told("sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_asked_for_is_told_on_postgres() {
    only_what_is_asked_for_is_told("postgres").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_before_a_crash_is_not_told_again() {
    let bench = Bench::of("sqlite").await;
    let handler = bench.register().await;
    bench.callback(handler, "a", 1, 1).await;
    bench.clock.advance(SETTLE);
    bench.announce(handler, &everything()).await;
    // As if the crash had come before it was noted.
    let BoardBackend::File { shelf, .. } = &bench.board.backend else {
        panic!("it is in a file");
    };
    let undo = |shelf: &mut super::super::Shelf| shelf.unannounce();
    bench.board.write(shelf, undo).await.unwrap();
    bench.clock.advance(SETTLE);
    bench.announce(handler, &everything()).await;
    assert_eq!(bench.told().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_while_the_board_is_behind() {
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
    bench.clock.advance(SETTLE * 2);
    for set_by in [0, -2 * HOUR] {
        bench.clock.set_by(set_by);
        bench.announce(handler, &everything()).await;
        assert_eq!(
            bench.told().await,
            [],
            "an event waits for longer than that"
        );
    }
    bench.callback(handler, "c", 1, 1).await;
    bench.announce(handler, &everything()).await;
    assert_eq!(bench.told().await, [(Kind::StreamLive, "a".to_owned())]);
}

const HOUR: i64 = 3_600_000;

async fn a_clock_that_is_set_delays_nothing(engine: &str) {
    let mut bench = Bench::of(engine).await;
    let handler = bench.register().await;
    let subscribed = everything();
    bench.callback(handler, "a", 1, 1).await;
    bench.clock.set_by(-2 * HOUR);
    bench.announce(handler, &subscribed).await;
    assert_eq!(bench.told().await, [], "it has to last");
    bench.clock.advance(SETTLE);
    bench.announce(handler, &subscribed).await;
    assert_eq!(bench.told().await.len(), 1);
    // Nor is it hurried.
    bench.callback(handler, "a", 0, 1).await;
    bench.clock.set_by(10 * HOUR);
    bench.announce(handler, &subscribed).await;
    assert_eq!(bench.told().await.len(), 1);
    // After a restart, or at another receiver, only as much as any change has to last is believed.
    let clock = Clock::manual(bench.clock.now().minus(Duration::from_secs(16 * 3600)));
    bench.board = Bench::open(&bench.dir, &bench.inbox, &clock);
    bench.announce(handler, &subscribed).await;
    assert_eq!(bench.told().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_delays_nothing_on_sqlite() {
    a_clock_that_is_set_delays_nothing("sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_delays_nothing_on_postgres() {
    a_clock_that_is_set_delays_nothing("postgres").await;
}
