//! The loop goes round only when there is something to do.

use super::*;

const A_WHILE: Duration = Duration::from_millis(300);

async fn steps_in_a_while(bench: &Bench) -> u64 {
    let before = bench.steps();
    sleep(A_WHILE).await;
    bench.steps() - before
}

#[tokio::test]
async fn it_sleeps_when_there_is_nothing() {
    let fake = Fake::always(Act::Done);
    let bench = Bench::with(&fake, |_| {}).await;
    bench.store_all(&["a", "b", ""]).await;
    bench.idle().await;
    sleep(A_WHILE).await;
    assert_eq!(steps_in_a_while(&bench).await, 0);
}

#[tokio::test]
async fn it_sleeps_while_all_places_hang() {
    let fake = Fake::always(Act::Hang);
    let bench = Bench::with(&fake, |config| config.concurrency = Some(2)).await;
    bench.store_many(1500, |n| format!("s{}", n % 3)).await;
    eventually(async || fake.begun().len() == 2).await;
    sleep(A_WHILE).await;
    assert!(steps_in_a_while(&bench).await < 5);
}

#[tokio::test]
async fn it_sleeps_while_a_probe_hangs() {
    let fake = Fake::always(Act::Retry);
    let bench = Bench::with(&fake, |_| {}).await;
    bench.store_all(&["a", "b", "c", "d"]).await;
    eventually(async || bench.report().await.state == HandlerState::Failing).await;
    let before = fake.begun().len();
    fake.follow(|_, _| Act::Hang);
    eventually(async || fake.begun().len() > before).await;
    sleep(A_WHILE).await;
    assert!(steps_in_a_while(&bench).await < 5);
}

#[tokio::test]
async fn it_sleeps_between_far_retries() {
    let fake = Fake::always(Act::RetryAfter(Duration::from_secs(3600)));
    let bench = Bench::with(&fake, |config| {
        config.retry.max = Duration::from_secs(3600);
        config.concurrency = Some(2);
    })
    .await;
    bench
        .store_all(&["a", "b", "a", "b", "c", "d", "e", "f"])
        .await;
    eventually(async || bench.report().await.state == HandlerState::Failing).await;
    sleep(A_WHILE).await;
    assert!(steps_in_a_while(&bench).await < 5);
}

#[tokio::test]
async fn it_passes_events_that_are_gone() {
    let fake = Fake::always(Act::Done);
    let mut bench = Bench::new().await;
    bench.store_all(&["a", "b", "c"]).await;
    bench.remove_events().await;
    bench.hand_to("h", &fake, |_| {}).await;
    sleep(A_WHILE).await;
    assert!(steps_in_a_while(&bench).await < 5);
    assert_eq!(bench.report().await.lag_events, 0);
}

#[tokio::test]
async fn a_store_that_fails_is_left_alone_and_loses_nothing() {
    let fake = Fake::always(Act::Take(Duration::from_millis(100)));
    let mut bench = Bench::with(&fake, |_| {}).await;
    bench.store_all(&["a", "a", "b"]).await;
    eventually(async || fake.begun().len() >= 2).await;
    let inbox = bench.inbox.clone();
    inbox.close().await;
    sleep(A_WHILE).await;
    assert!(steps_in_a_while(&bench).await < 10);
    bench.crash().await;
    fake.follow(|_, _| Act::Done);
    bench.idle().await;
    let mut done = fake.done();
    done.sort_unstable();
    done.dedup();
    assert_eq!(done, [1, 2, 3]);
}
