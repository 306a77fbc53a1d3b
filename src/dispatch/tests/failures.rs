//! Retry, reject, park, and handlers that fail for everything.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn failures_of_every_sort_are_tried_again() {
    for act in [Act::Retry, Act::Hang, Act::Panic] {
        let fake = Fake::new(move |_, before| if before < 3 { act } else { Act::Done });
        let harness =
            Harness::with(&fake, |config| config.timeout = Duration::from_millis(20)).await;
        harness.store_all(&["a", "a"]).await;
        harness.idle().await;
        assert_eq!(fake.begun(), [1, 1, 1, 1, 2, 2, 2, 2], "{act:?}");
        assert!(harness.report().await.last.failure.is_some());
    }
}

#[tokio::test]
async fn too_old_is_parked_after_an_attempt_and_lets_the_stream_go_on() {
    let fake = Fake::new(|event, _| {
        if event.seq() == 1 {
            Act::Retry
        } else {
            Act::Done
        }
    });
    let harness = Harness::with(&fake, |config| {
        config.retry.max_age = Duration::from_millis(60);
    })
    .await;
    harness.store_all(&["a", "a", "a"]).await;
    harness.idle().await;
    assert_eq!(fake.done(), [2, 3]);
    assert!(fake.attempts(1) > 1);
    assert_eq!(harness.rows().await.parked, 1);
}

#[tokio::test]
async fn a_reject_parks_at_once() {
    let fake = Fake::new(|event, _| {
        if event.seq() == 1 {
            Act::Reject
        } else {
            Act::Done
        }
    });
    let mut harness = Harness::with(&fake, |_| {}).await;
    harness.store_all(&["a", "a"]).await;
    harness.idle().await;
    assert_eq!(fake.begun(), [1, 2]);
    eventually(async || harness.rows().await.parked == 1).await;
    harness.crash().await;
    harness.store("a").await;
    eventually(async || fake.done().contains(&3)).await;
    assert_eq!(fake.attempts(1), 1, "it stays parked");
}

#[tokio::test]
async fn fifty_rejects_are_believed_and_then_none_until_one_success() {
    let fake = Fake::always(Act::Reject);
    let harness = Harness::with(&fake, |config| config.concurrency = Some(1)).await;
    harness.store_many(80, |n| format!("s{n}")).await;
    eventually(async || harness.report().await.state == HandlerState::Failing).await;
    eventually(async || harness.rows().await.parked == 50).await;
    fake.set_script(|_, _| Act::Done);
    harness.idle().await;
    assert_eq!(fake.done().len(), 30);
    fake.set_script(|_, _| Act::Reject);
    harness.store_all(&["a", "b"]).await;
    harness.idle().await;
    eventually(async || harness.rows().await.parked == 52).await;
}

#[tokio::test]
async fn a_handler_that_is_down_is_probed_and_gets_everything_when_it_is_back() {
    let fake = Fake::always(Act::Retry);
    let harness = Harness::with(&fake, |config| {
        config.retry.initial = Duration::from_millis(40);
        config.retry.max = Duration::from_millis(40);
    })
    .await;
    harness
        .store_many(20_000, |n| format!("s{}", n % 5000))
        .await;
    eventually(async || harness.report().await.state == HandlerState::Failing).await;
    let before = fake.begun().len();
    sleep(Duration::from_millis(400)).await;
    let report = harness.report().await;
    assert!(fake.begun().len() < before + 100);
    assert!(harness.open() <= 512);
    let rows = report.rows.due + report.rows.waiting;
    assert!(rows < 5000, "the backlog stays where it is: {rows}");
    assert!(report.lag_events >= 19_999);
    fake.set_script(|_, _| Act::Done);
    harness.idle().await;
    let mut done = fake.done();
    done.sort_unstable();
    assert_eq!(done, (1..=20_000).collect::<Vec<_>>());
    assert_eq!(harness.report().await.state, HandlerState::Running);
}

#[tokio::test]
async fn streams_in_trouble_on_a_quiet_day_do_not_keep_others_out() {
    let fake = Fake::new(|event, _| match event.attributes().streamid.as_deref() {
        Some("fine") => Act::Done,
        _ => Act::Retry,
    });
    let harness = Harness::with(&fake, |_| {}).await;
    harness.store_all(&["a", "b", "c", "d", "a", "e"]).await;
    eventually(async || harness.report().await.state == HandlerState::Failing).await;
    for _ in 0..5 {
        let seq = harness.store("fine").await;
        eventually(async || fake.done().contains(&seq)).await;
    }
    assert_eq!(harness.rows().await.waiting, 1);
}

#[tokio::test]
async fn one_poisoned_stream_brings_nothing_down() {
    let fake = Fake::new(|event, _| match event.attributes().streamid.as_deref() {
        Some("bad") => Act::Retry,
        _ => Act::Done,
    });
    let harness = Harness::with(&fake, |_| {}).await;
    harness.store_all(&["bad", "bad"]).await;
    eventually(async || fake.attempts(1) > 20).await;
    assert_eq!(harness.report().await.state, HandlerState::Running);
    let fine = harness.store("fine").await;
    eventually(async || fake.done() == [fine]).await;
}

#[tokio::test]
async fn retry_after_is_honoured_up_to_the_longest_pause() {
    let fake = Fake::always(Act::RetryAfter(HOUR));
    let harness = Harness::with(&fake, |config| {
        config.retry.max = Duration::from_millis(300);
    })
    .await;
    let began = std::time::Instant::now();
    harness.store("a").await;
    eventually(async || fake.attempts(1) == 2).await;
    assert!(began.elapsed() >= Duration::from_millis(300));
    // Probes wait that long too.
    harness
        .store_all(&["b", "c", "d", "e", "f", "g", "h", "i"])
        .await;
    eventually(async || harness.report().await.state == HandlerState::Failing).await;
    let before = fake.begun().len();
    sleep(Duration::from_millis(200)).await;
    assert!(fake.begun().len() <= before + 9, "{:?}", fake.begun());
}
