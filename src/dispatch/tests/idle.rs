//! A worker makes a step only when there is something to do.

use super::*;

const A_WHILE: Duration = Duration::from_millis(300);

async fn steps_in_a_while(harness: &Harness) -> u64 {
    let before = harness.steps();
    sleep(A_WHILE).await;
    harness.steps() - before
}

#[tokio::test]
async fn it_sleeps_when_there_is_nothing() {
    let fake = Fake::always(Act::Done);
    let harness = Harness::with(&fake, |_| {}).await;
    harness.store_all(&["a", "b", ""]).await;
    harness.idle().await;
    sleep(A_WHILE).await;
    assert_eq!(steps_in_a_while(&harness).await, 0);
}

#[tokio::test]
async fn it_sleeps_while_all_places_hang() {
    let fake = Fake::always(Act::Hang);
    let harness = Harness::with(&fake, |config| config.concurrency = Some(2)).await;
    harness.store_many(1500, |n| format!("s{}", n % 3)).await;
    eventually(async || fake.begun().len() == 2).await;
    sleep(A_WHILE).await;
    assert!(steps_in_a_while(&harness).await < 5);
}

#[tokio::test]
async fn it_sleeps_while_a_probe_hangs() {
    let fake = Fake::always(Act::Retry);
    let harness = Harness::with(&fake, |_| {}).await;
    harness.store_all(&["a", "b", "c", "d"]).await;
    eventually(async || harness.report().await.state == HandlerState::Failing).await;
    let before = fake.begun().len();
    fake.set_script(|_, _| Act::Hang);
    eventually(async || fake.begun().len() > before).await;
    sleep(A_WHILE).await;
    assert!(steps_in_a_while(&harness).await < 5);
}

#[tokio::test]
async fn it_sleeps_between_far_retries() {
    let fake = Fake::always(Act::RetryAfter(Duration::from_secs(3600)));
    let harness = Harness::with(&fake, |config| {
        config.retry.max = Duration::from_secs(3600);
        config.concurrency = Some(2);
    })
    .await;
    harness
        .store_all(&["a", "b", "a", "b", "c", "d", "e", "f"])
        .await;
    eventually(async || harness.report().await.state == HandlerState::Failing).await;
    sleep(A_WHILE).await;
    assert!(steps_in_a_while(&harness).await < 5);
}

#[tokio::test]
async fn it_passes_events_that_are_gone() {
    let fake = Fake::always(Act::Done);
    let mut harness = Harness::new().await;
    harness.store_all(&["a", "b", "c"]).await;
    harness.remove_events().await;
    harness.add_handler("h", &fake, |_| {}).await;
    sleep(A_WHILE).await;
    assert!(steps_in_a_while(&harness).await < 5);
    assert_eq!(harness.report().await.lag_events, 0);
}

#[tokio::test]
async fn a_store_that_fails_is_left_alone_and_loses_nothing() {
    let fake = Fake::always(Act::Take(Duration::from_millis(100)));
    let mut harness = Harness::with(&fake, |_| {}).await;
    harness.store_all(&["a", "a", "b"]).await;
    eventually(async || fake.begun().len() >= 2).await;
    let inbox = harness.inbox.clone();
    inbox.close().await;
    sleep(A_WHILE).await;
    assert!(steps_in_a_while(&harness).await < 10);
    harness.crash().await;
    fake.set_script(|_, _| Act::Done);
    harness.idle().await;
    let mut done = fake.done();
    done.sort_unstable();
    done.dedup();
    assert_eq!(done, [1, 2, 3]);
}
