//! A clock that is set forward or back while events wait.

use css_callbacks::Timestamp;

use super::*;
use crate::dispatch::settings::HandlerConfig;

const HOUR: i64 = 3_600_000;
const STREAMS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Sets pauses that are far shorter than the hours by which the clock is set.
fn pauses(config: &mut HandlerConfig) {
    config.retry.initial = Duration::from_millis(20);
    config.retry.max = Duration::from_millis(300);
}

async fn failing(harness: &Harness) {
    eventually(async || harness.report().await.state == HandlerState::Failing).await;
}

fn sorted(mut seqs: Vec<Seq>) -> Vec<Seq> {
    seqs.sort_unstable();
    seqs
}

#[tokio::test]
async fn set_back_it_delays_neither_probes_nor_retries() {
    let fake = Fake::always(Act::Retry);
    let mut harness = Harness::with(&fake, pauses).await;
    harness.store_all(&STREAMS).await;
    failing(&harness).await;
    harness.set_clock_by(-2 * HOUR);
    let begun = fake.begun().len();
    eventually(async || fake.begun().len() > begun + 3).await;
    fake.set_script(|_, _| Act::Done);
    harness.idle().await;
    assert_eq!(sorted(fake.done()), (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_stream_in_trouble_is_tried_on_as_well() {
    let fake = Fake::always(Act::Retry);
    let mut harness = Harness::with(&fake, pauses).await;
    harness.store_all(&["a", "a"]).await;
    for by in [-2 * HOUR, 26 * HOUR, -50 * HOUR] {
        harness.set_clock_by(by);
        let begun = fake.begun().len();
        eventually(async || fake.begun().len() > begun + 2).await;
    }
    assert_eq!(harness.rows().await.parked, 0, "a day has not passed");
    fake.set_script(|_, _| Act::Done);
    harness.idle().await;
    assert_eq!(fake.done(), [1, 2]);
}

#[tokio::test]
async fn what_was_written_while_it_was_ahead_is_not_waited_for_after_a_restart() {
    for crash in [true, false] {
        let fake = Fake::always(Act::Retry);
        let mut harness = Harness::new().await;
        harness.set_clock_by(8 * HOUR);
        harness.add_handler("h", &fake, pauses).await;
        harness.crash().await;
        harness.store_all(&STREAMS).await;
        failing(&harness).await;
        eventually(async || harness.rows().await.due >= 4).await;
        harness.set_clock_by(-8 * HOUR);
        if crash {
            harness.crash().await;
        } else {
            harness.restart(Duration::ZERO).await;
        }
        fake.set_script(|_, _| Act::Done);
        harness.idle().await;
        assert_eq!(sorted(fake.done()), (1..=8).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn the_age_of_a_delivery_from_ahead_counts_from_now() {
    let fake = Fake::always(Act::Retry);
    let mut harness = Harness::new().await;
    harness.set_clock_by(8 * HOUR);
    harness
        .add_handler("h", &fake, |config| {
            pauses(config);
            config.retry.max_age = Duration::from_millis(500);
        })
        .await;
    harness.crash().await;
    harness.store("a").await;
    eventually(async || harness.rows().await.due == 1).await;
    harness.set_clock_by(-8 * HOUR);
    harness.crash().await;
    eventually(async || harness.rows().await.parked == 1).await;
    let id = harness.dispatch.id("h").unwrap();
    let parked = harness.inbox.parked(id, None, false, 10).await.unwrap();
    let (soon, hour) = (all_time().1, Duration::from_secs(3600));
    for time in [parked.items[0].at, parked.items[0].attempts.first.unwrap()] {
        assert!(time < soon && time > soon.minus(hour), "{time}");
    }
}

/// Like a machine that starts days behind and gets the right time a moment later.
#[tokio::test]
async fn an_attempt_from_before_the_event_had_arrived_makes_no_delivery_old() {
    let fake = Fake::always(Act::Retry);
    let mut harness = Harness::new().await;
    harness.set_clock_by(-72 * HOUR);
    harness.add_handler("h", &fake, pauses).await;
    harness.crash().await;
    harness.set_clock_by(72 * HOUR);
    harness.store("a").await;
    eventually(async || harness.rows().await.due == 1).await;
    harness.crash().await;
    let begun = fake.begun().len();
    eventually(async || fake.begun().len() > begun + 2).await;
    assert_eq!(harness.rows().await.parked, 0, "it has come just now");
}

#[tokio::test]
async fn a_lag_is_not_hidden() {
    let fake = Fake::always(Act::Retry);
    let mut harness = Harness::with(&fake, pauses).await;
    harness.store_all(&STREAMS).await;
    failing(&harness).await;
    let before = harness.report().await.lag;
    harness.set_clock_by(-2 * HOUR);
    let grows = before + Duration::from_millis(100);
    eventually(async || harness.report().await.lag > grows).await;
    assert!(harness.report().await.lag < before + Duration::from_secs(60));
    // After a restart it is only known that the event waits.
    harness.crash().await;
    eventually(async || harness.report().await.lag > Duration::from_millis(100)).await;
}

#[tokio::test]
async fn times_are_shown_as_the_clock_is_now() {
    let fake = Fake::always(Act::RetryAfter(Duration::from_secs(600)));
    let mut harness =
        Harness::with(&fake, |config| config.retry.max = Duration::from_secs(600)).await;
    harness.store("a").await;
    eventually(async || harness.rows().await.due == 1).await;
    harness.set_clock_by(-2 * HOUR);
    let event = harness.inbox.after(0, 1, 1).await.unwrap().swap_remove(0);
    let reports = harness.dispatch.deliveries(&event).await.unwrap();
    let row = reports[0].row.clone().unwrap();
    let now = all_time().1.minus(Duration::from_secs(2 * 3600 + 60));
    let minutes = |time: Timestamp| (time.millis() - now.millis()).div_euclid(60_000);
    let first = minutes(row.attempts.first.unwrap());
    assert!((-9..=0).contains(&first), "{first}");
    let due = minutes(row.due.unwrap());
    assert!((0..=10).contains(&due), "{due}");
}
