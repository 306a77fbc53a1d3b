//! Pause and resume.

use super::*;
use crate::dispatch::HandlerState;

async fn pause(harness: &Harness, paused: bool) {
    harness.dispatch.pause("h", paused).await.unwrap();
}

#[tokio::test]
async fn a_paused_handler_finishes_what_runs_and_begins_nothing_until_it_is_resumed() {
    let fake = Fake::always(Act::Take(Duration::from_millis(100)));
    let mut harness = Harness::with(&fake, |_| {}).await;
    harness.store("a").await;
    eventually(async || fake.begun() == [1]).await;
    pause(&harness, true).await;
    pause(&harness, true).await;
    harness.store_all(&["a", "b"]).await;
    eventually(async || fake.done() == [1]).await;
    // It is paused after a restart and a crash too.
    harness.restart(Duration::from_secs(1)).await;
    harness.crash().await;
    assert_eq!(harness.report().await.state, HandlerState::Paused);
    let replayed = harness.replay(Selection::Event(1)).await;
    // Long enough for a wrong attempt to start.
    sleep(Duration::from_millis(200)).await;
    assert_eq!(fake.begun(), [1]);
    assert!(harness.report().await.lag_events >= 2);
    let steps = harness.steps();
    sleep(Duration::from_millis(100)).await;
    assert!(harness.steps() - steps < 20, "it spins");

    pause(&harness, false).await;
    eventually(async || harness.report().await.state == HandlerState::Running).await;
    harness.idle().await;
    let mut begun = fake.begun();
    begun.sort_unstable();
    begun.dedup();
    assert_eq!(begun, [1, 2, 3]);
    assert_eq!(fake.attempts(1) as u64, 1 + replayed);
}

#[tokio::test]
async fn the_age_of_a_delivery_stands_still() {
    let fake = Fake::always(Act::Retry);
    let max_age = Duration::from_millis(1500);
    let harness = Harness::with(&fake, |config| config.retry.max_age = max_age).await;
    harness.store("a").await;
    eventually(async || fake.attempts(1) >= 2).await;
    pause(&harness, true).await;
    sleep(2 * max_age).await;
    pause(&harness, false).await;
    let begun = fake.attempts(1);
    // If the time of the pause counted, the next attempt would be the last.
    eventually(async || fake.attempts(1) >= begun + 2).await;
    eventually(async || harness.rows().await.parked == 1).await;
}
