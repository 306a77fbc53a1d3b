//! Attempts that end at once, and how they share the worker with everything else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;

const SHORT_TIME: Duration = Duration::from_micros(200);

/// Blocks the thread for a short time and succeeds at once.
fn quick_handler() -> Arc<Fake> {
    Fake::new(|_, _| {
        thread::sleep(SHORT_TIME);
        Act::Done
    })
}

#[tokio::test]
async fn a_panic_at_once_is_an_outcome_and_others_go_on() {
    let fake = Fake::new(|event, before| match (event.seq(), before) {
        (2, 0..2) => Act::Panic,
        _ => Act::Done,
    });
    let harness = Harness::with(&fake, |_| {}).await;
    harness.store_all(&["a", "b", "c", "b"]).await;
    harness.idle().await;
    assert_eq!(fake.attempts(2), 3);
    let done = fake.done();
    assert!(done.iter().filter(|seq| *seq % 2 == 0).eq(&[2, 4]));
    assert_eq!(done.len(), 4);
    let (_, error) = harness.report().await.last.failure.unwrap();
    assert_eq!(error, "the handler panicked");
}

#[tokio::test]
async fn a_panic_before_there_is_a_future_is_an_outcome() {
    struct Refuses;
    impl Handler for Refuses {
        fn handle<'a>(&'a self, _: &'a crate::event::Event) -> crate::handler::Handling<'a> {
            panic!("as scripted")
        }
    }
    let mut harness = Harness::new().await;
    harness
        .add_any_handler("h", Arc::new(Refuses), |_| {})
        .await;
    harness.store("a").await;
    eventually(async || harness.rows().await.due == 1).await;
}

#[tokio::test]
async fn what_is_not_over_at_once_has_its_time() {
    let fake = Fake::new(|event, before| match (event.seq(), before) {
        (1, 0) => Act::Hang,
        (2, _) => Act::Take(Duration::from_millis(5)),
        _ => Act::Done,
    });
    let harness = Harness::with(&fake, |config| config.timeout = Duration::from_millis(50)).await;
    harness.store_all(&["a", "b", "c", "a"]).await;
    harness.idle().await;
    assert_eq!(fake.attempts(1), 2);
    assert_eq!(fake.done()[2..], [1, 4], "in order");
    let (_, error) = harness.report().await.last.failure.unwrap();
    assert_eq!(error, "no answer within 50ms");
}

#[tokio::test]
async fn a_backlog_leaves_other_tasks_their_turn() {
    let fake = quick_handler();
    let mut harness = Harness::new().await;
    harness.store_many(500, |n| format!("s{}", n % 3)).await;
    let turns = Arc::new(AtomicU64::new(0));
    harness.spawn({
        let turns = turns.clone();
        async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    harness.add_handler("h", &fake, |_| {}).await;
    eventually(async || !fake.done().is_empty()).await;
    let before = turns.load(Ordering::Relaxed);
    eventually(async || fake.done().len() == 500).await;
    assert!(turns.load(Ordering::Relaxed) - before > 50);
}

#[tokio::test]
async fn a_stop_is_obeyed_in_the_middle_of_a_backlog() {
    let fake = quick_handler();
    let mut harness = Harness::new().await;
    harness.store_many(2000, |n| format!("s{}", n % 3)).await;
    harness.add_handler("h", &fake, |_| {}).await;
    eventually(async || !fake.done().is_empty()).await;
    harness.restart(Duration::from_secs(5)).await;
    let at_stop = fake.done().len();
    assert!(at_stop < 1500, "{at_stop}");
    harness.idle().await;
    let mut begun = fake.begun();
    begun.sort_unstable();
    assert_eq!(begun, (1..=2000).collect::<Vec<_>>(), "none twice");
}
