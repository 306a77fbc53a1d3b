//! A clock that is set, on or back, while events wait.

use css_callbacks::Timestamp;

use super::*;
use crate::dispatch::settings::HandlerConfig;

const HOUR: i64 = 3_600_000;
const STREAMS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// With pauses that a step of hours would be far longer than.
fn pauses(config: &mut HandlerConfig) {
    config.retry.initial = Duration::from_millis(20);
    config.retry.max = Duration::from_millis(300);
}

async fn failing(bench: &Bench) {
    eventually(async || bench.report().await.state == HandlerState::Failing).await;
}

fn sorted(mut seqs: Vec<Seq>) -> Vec<Seq> {
    seqs.sort_unstable();
    seqs
}

#[tokio::test]
async fn set_back_it_delays_neither_probes_nor_retries() {
    let fake = Fake::always(Act::Retry);
    let mut bench = Bench::with(&fake, pauses).await;
    bench.store_all(&STREAMS).await;
    failing(&bench).await;
    bench.set_clock_by(-2 * HOUR);
    let begun = fake.begun().len();
    eventually(async || fake.begun().len() > begun + 3).await;
    fake.follow(|_, _| Act::Done);
    bench.idle().await;
    assert_eq!(sorted(fake.done()), (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_stream_in_trouble_is_tried_on_as_well() {
    let fake = Fake::always(Act::Retry);
    let mut bench = Bench::with(&fake, pauses).await;
    bench.store_all(&["a", "a"]).await;
    for by in [-2 * HOUR, 26 * HOUR, -50 * HOUR] {
        bench.set_clock_by(by);
        let begun = fake.begun().len();
        eventually(async || fake.begun().len() > begun + 2).await;
    }
    assert_eq!(bench.rows().await.parked, 0, "a day has not passed");
    fake.follow(|_, _| Act::Done);
    bench.idle().await;
    assert_eq!(fake.done(), [1, 2]);
}

#[tokio::test]
async fn what_was_written_while_it_was_ahead_is_not_waited_for_after_a_restart() {
    for crash in [true, false] {
        let fake = Fake::always(Act::Retry);
        let mut bench = Bench::new().await;
        bench.set_clock_by(8 * HOUR);
        bench.hand_to("h", &fake, pauses).await;
        bench.crash().await;
        bench.store_all(&STREAMS).await;
        failing(&bench).await;
        eventually(async || bench.rows().await.due >= 4).await;
        bench.set_clock_by(-8 * HOUR);
        if crash {
            bench.crash().await;
        } else {
            bench.restart(Duration::ZERO).await;
        }
        fake.follow(|_, _| Act::Done);
        bench.idle().await;
        assert_eq!(sorted(fake.done()), (1..=8).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn the_age_of_a_delivery_from_ahead_counts_from_now() {
    let fake = Fake::always(Act::Retry);
    let mut bench = Bench::new().await;
    bench.set_clock_by(8 * HOUR);
    bench
        .hand_to("h", &fake, |config| {
            pauses(config);
            config.retry.max_age = Duration::from_millis(500);
        })
        .await;
    bench.crash().await;
    bench.store("a").await;
    eventually(async || bench.rows().await.due == 1).await;
    bench.set_clock_by(-8 * HOUR);
    bench.crash().await;
    eventually(async || bench.rows().await.parked == 1).await;
    let id = bench.dispatch.id("h").unwrap();
    let parked = bench.inbox.parked(id, None, false, 10).await.unwrap();
    let (soon, hour) = (ages().1, Duration::from_secs(3600));
    for time in [parked.items[0].at, parked.items[0].attempts.first.unwrap()] {
        assert!(time < soon && time > soon.minus(hour), "{time}");
    }
}

/// As when a machine starts days behind and asks for the time a moment later.
#[tokio::test]
async fn an_attempt_from_before_the_event_had_arrived_makes_no_delivery_old() {
    let fake = Fake::always(Act::Retry);
    let mut bench = Bench::new().await;
    bench.set_clock_by(-72 * HOUR);
    bench.hand_to("h", &fake, pauses).await;
    bench.crash().await;
    bench.set_clock_by(72 * HOUR);
    bench.store("a").await;
    eventually(async || bench.rows().await.due == 1).await;
    bench.crash().await;
    let begun = fake.begun().len();
    eventually(async || fake.begun().len() > begun + 2).await;
    assert_eq!(bench.rows().await.parked, 0, "it has come just now");
}

#[tokio::test]
async fn a_lag_is_not_hidden() {
    let fake = Fake::always(Act::Retry);
    let mut bench = Bench::with(&fake, pauses).await;
    bench.store_all(&STREAMS).await;
    failing(&bench).await;
    let before = bench.report().await.lag;
    bench.set_clock_by(-2 * HOUR);
    let grows = before + Duration::from_millis(100);
    eventually(async || bench.report().await.lag > grows).await;
    assert!(bench.report().await.lag < before + Duration::from_secs(60));
    // From before a restart nothing is known but that it waits.
    bench.crash().await;
    eventually(async || bench.report().await.lag > Duration::from_millis(100)).await;
}

#[tokio::test]
async fn times_are_shown_as_the_clock_is_now() {
    let fake = Fake::always(Act::RetryAfter(Duration::from_secs(600)));
    let mut bench = Bench::with(&fake, |config| config.retry.max = Duration::from_secs(600)).await;
    bench.store("a").await;
    eventually(async || bench.rows().await.due == 1).await;
    bench.set_clock_by(-2 * HOUR);
    let event = bench.inbox.after(0, 1, 1).await.unwrap().swap_remove(0);
    let reports = bench.dispatch.deliveries(&event).await.unwrap();
    let row = reports[0].row.clone().unwrap();
    let now = ages().1.minus(Duration::from_secs(2 * 3600 + 60));
    let minutes = |time: Timestamp| (time.millis() - now.millis()).div_euclid(60_000);
    let first = minutes(row.attempts.first.unwrap());
    assert!((-9..=0).contains(&first), "{first}");
    let due = minutes(row.due.unwrap());
    assert!((0..=10).contains(&due), "{due}");
}
