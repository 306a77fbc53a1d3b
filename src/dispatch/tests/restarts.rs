//! Changes of the configuration, stops, and crashes.

use super::*;
use crate::dispatch::settings::HandlerConfig;

#[tokio::test]
async fn an_unchanged_handler_keeps_running_while_another_changes() {
    let (kept, changed) = (
        Fake::always(Act::Take(Duration::from_millis(200))),
        Fake::always(Act::Done),
    );
    let mut harness = Harness::with(&kept, |_| {}).await;
    harness.store("a").await;
    eventually(async || kept.begun() == [1]).await;
    harness.add_handler("i", &changed, |_| {}).await;
    harness
        .add_handler("i", &changed, |config| config.concurrency = Some(2))
        .await;
    harness.store("b").await;
    harness.idle().await;
    eventually(async || changed.done() == [1, 2]).await;
    assert_eq!(kept.begun(), [1, 2]);
}

#[tokio::test]
async fn a_changed_handler_finishes_under_its_old_settings() {
    let fake = Fake::always(Act::Take(Duration::from_millis(150)));
    let mut harness = Harness::with(&fake, |_| {}).await;
    harness.store_all(&["a", "a"]).await;
    eventually(async || fake.begun() == [1]).await;
    harness
        .add_handler("h", &fake, |config| {
            config.timeout = Duration::from_millis(5)
        })
        .await;
    eventually(async || fake.done().first() == Some(&1)).await;
    fake.set_script(|_, _| Act::Done);
    harness.idle().await;
    // On a busy machine a short attempt may exceed the new timeout and be repeated.
    let mut done = fake.done();
    done.dedup();
    assert_eq!(done, [1, 2]);
}

#[tokio::test]
async fn a_missing_handler_comes_back_where_it_was() {
    let fake = Fake::new(|event, before| match (event.seq(), before) {
        (2, 0) => Act::RetryAfter(Duration::from_secs(3600)),
        _ => Act::Done,
    });
    let config = |config: &mut HandlerConfig| {
        config.retry.max = Duration::from_millis(50);
    };
    let mut harness = Harness::with(&fake, config).await;
    harness.store_all(&["a", "b"]).await;
    eventually(async || fake.begun().len() == 2).await;
    harness.remove_handler("h").await;
    harness.store_all(&["a", "b"]).await;
    harness.add_handler("h", &fake, config).await;
    harness.idle().await;
    let mut done = fake.done();
    assert!(done.iter().filter(|seq| *seq % 2 == 0).copied().eq([2, 4]));
    done.sort_unstable();
    assert_eq!(done, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_stop_lets_attempts_finish_and_releases_those_that_hang() {
    let fake = Fake::new(|event, before| match (event.seq(), before) {
        (1, 0) => Act::Hang,
        (2, _) => Act::Take(Duration::from_millis(100)),
        (3, _) => Act::Retry,
        (4, _) => Act::Reject,
        _ => Act::Done,
    });
    let mut harness = Harness::with(&fake, |config| {
        config.retry.initial = Duration::from_secs(600);
        config.retry.max = Duration::from_secs(600);
    })
    .await;
    harness.store_all(&["a", "b", "c", "d", "a", "c"]).await;
    eventually(async || fake.begun().len() == 4).await;
    let began = std::time::Instant::now();
    harness.restart(Duration::from_millis(300)).await;
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(fake.done().first(), Some(&2));
    eventually(async || fake.done().contains(&5)).await;
    let of_a: Vec<Seq> = fake.done().into_iter().filter(|seq| *seq != 2).collect();
    assert_eq!(of_a, [1, 5], "what hung comes again, first");
    // The waiting event may be read only after the restart.
    eventually(async || {
        let rows = harness.rows().await;
        (rows.due, rows.waiting, rows.parked) == (1, 1, 1)
    })
    .await;
}

#[tokio::test]
async fn a_change_waits_for_no_running_attempt() {
    let (hangs, works) = (Fake::always(Act::Hang), Fake::always(Act::Done));
    let slow = |config: &mut HandlerConfig| config.timeout = Duration::from_secs(600);
    let mut harness = Harness::with(&hangs, slow).await;
    harness.store("a").await;
    eventually(async || hangs.begun() == [1]).await;
    // While the attempt runs, the handler is changed, removed, and added again.
    harness.add_handler("h", &works, |_| {}).await;
    harness.remove_handler("h").await;
    harness.add_handler("other", &works, |_| {}).await;
    harness.add_handler("h", &hangs, slow).await;
    harness.store("b").await;
    eventually(async || works.done().contains(&2)).await;
    assert_eq!(hangs.begun(), [1], "never twice side by side");
    let report = harness.dispatch.report().await.unwrap();
    let leaving = report.iter().find(|report| report.name == "h").unwrap();
    assert_eq!(leaving.state, HandlerState::Running);
    let stop = harness.dispatch.stop(Duration::ZERO);
    let stopped = tokio::time::timeout(Duration::from_secs(60), stop).await;
    assert!(
        stopped.is_ok(),
        "a stop waits for stopping workers only as long as its grace"
    );
}

#[tokio::test]
async fn a_change_that_the_store_cannot_remember_changes_nothing() {
    let fake = Fake::always(Act::Done);
    let harness = Harness::with(&fake, |_| {}).await;
    let inbox = harness.inbox.clone();
    inbox.close().await;
    assert!(harness.dispatch.change_to(BTreeMap::new()).await.is_err());
    assert!(harness.dispatch.id("h").is_ok());
}

#[tokio::test]
async fn what_is_done_does_not_come_again_after_a_moment() {
    let fake = Fake::always(Act::Done);
    let mut harness = Harness::with(&fake, |_| {}).await;
    harness.store_many(300, |n| format!("s{}", n % 7)).await;
    harness.idle().await;
    sleep(Duration::from_millis(300)).await;
    harness.crash().await;
    harness.store("a").await;
    eventually(async || fake.done().last() == Some(&301)).await;
    assert_eq!(fake.begun().len(), 301);
}

#[tokio::test]
async fn a_stop_in_a_backlog_repeats_nothing_that_was_done() {
    let fake = Fake::new(|event, _| match event.seq() {
        1 => Act::Hang,
        seq if seq % 5 == 0 => Act::Hang,
        _ => Act::Done,
    });
    let config = |config: &mut HandlerConfig| {
        config.concurrency = Some(4);
        config.timeout = Duration::from_secs(600);
    };
    let mut harness = Harness::new().await;
    harness.store_many(300, |n| format!("s{}", n % 40)).await;
    harness.add_handler("h", &fake, config).await;
    // Four attempts hang, and events behind the first of them are done.
    eventually(async || fake.begun().len() >= fake.done().len() + 4).await;
    let before = fake.done();
    assert!(
        !before.is_empty(),
        "something was done before all places hung"
    );
    fake.set_script(|_, _| Act::Done);
    harness.restart(Duration::ZERO).await;
    harness.idle().await;
    let mut done = fake.done();
    done.sort_unstable();
    let all: Vec<Seq> = (1..=300).collect();
    assert_eq!(done, all);
}
