//! Which events are delivered one after the other, and which side by side.

use std::sync::atomic::Ordering;

use super::*;
use crate::dispatch::settings::DeliveryOrder;

const MOMENT: Duration = Duration::from_millis(5);

#[tokio::test]
async fn streams_go_side_by_side_and_each_in_order() {
    let fake = Fake::always(Act::Take(MOMENT));
    let mut harness = Harness::new().await;
    let seqs = harness
        .store_all(&["a", "b", "a", "c", "d", "a", "b", "a"])
        .await;
    harness
        .add_handler("h", &fake, |config| config.concurrency = Some(3))
        .await;
    harness.idle().await;
    let done = fake.done();
    let of = |wanted: &[usize]| -> Vec<Seq> {
        let wanted: Vec<Seq> = wanted.iter().map(|at| seqs[*at]).collect();
        done.iter()
            .copied()
            .filter(|seq| wanted.contains(seq))
            .collect()
    };
    assert_eq!(of(&[0, 2, 5, 7]), [seqs[0], seqs[2], seqs[5], seqs[7]]);
    assert_eq!(of(&[1, 6]), [seqs[1], seqs[6]]);
    assert!(!fake.overlapped.load(Ordering::Relaxed));
    assert_eq!(*fake.max_running.lock().unwrap(), 3);
    assert_eq!(done.len(), 8);
}

#[tokio::test]
async fn without_order_one_stream_fills_all_places() {
    let fake = Fake::new(|event, _| {
        if event.seq() == 1 {
            Act::Hang
        } else {
            Act::Take(MOMENT)
        }
    });
    let mut harness = Harness::new().await;
    // On a busy machine storing an event takes longer than handling it, so store first.
    harness.store_all(&["a"; 9]).await;
    harness
        .add_handler("h", &fake, |config| {
            config.order = DeliveryOrder::None;
            config.concurrency = Some(4);
        })
        .await;
    eventually(async || fake.done().len() == 8).await;
    assert_eq!(*fake.max_running.lock().unwrap(), 4);
}

#[tokio::test]
async fn an_event_without_a_stream_waits_for_nobody() {
    let fake = Fake::new(|event, _| {
        if event.seq() == 1 {
            Act::Hang
        } else {
            Act::Done
        }
    });
    let harness = Harness::with(&fake, |_| {}).await;
    harness.store_all(&["", "", "", ""]).await;
    eventually(async || fake.done().len() == 3).await;
}

#[tokio::test]
async fn what_waits_behind_a_failing_event_is_remembered_and_comes_in_order() {
    let fake = Fake::new(|event, _| match event.seq() {
        1 => Act::RetryAfter(Duration::from_secs(600)),
        _ => Act::Done,
    });
    let mut harness = Harness::with(&fake, |config| {
        config.retry.max = Duration::from_secs(3);
    })
    .await;
    harness.store_all(&["a", "a", "b", "a"]).await;
    eventually(async || fake.done() == [3]).await;
    eventually(async || harness.rows().await.waiting == 2).await;
    assert_eq!(harness.rows().await.due, 1);
    harness.crash().await;
    harness.store("a").await;
    fake.set_script(|_, _| Act::Done);
    harness.idle().await;
    assert_eq!(fake.done()[..], [3, 1, 2, 4, 5]);
    assert_eq!(harness.rows().await, RowCounts::default());
}

#[tokio::test]
async fn a_busy_stream_that_fills_the_window_stays_in_order() {
    for act in [Act::Done, Act::Retry, Act::Reject, Act::Panic] {
        let open = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let fake = {
            let open = open.clone();
            Fake::new(move |event, before| match event.seq() {
                1 if !open.load(Ordering::Relaxed) => Act::Take(Duration::from_secs(600)),
                1 if before == 1 => act,
                _ => Act::Done,
            })
        };
        let mut harness = Harness::with(&fake, |_| {}).await;
        harness.store("hot").await;
        harness.store_many(700, |_| "hot".to_owned()).await;
        let other = harness.store("other").await;
        eventually(async || fake.done() == [other]).await;
        eventually(async || harness.rows().await.waiting > 100).await;
        assert_eq!(fake.begun().iter().filter(|seq| **seq != other).count(), 1);
        harness.crash().await;
        open.store(true, Ordering::Relaxed);
        eventually(async || fake.done().len() > 20).await;
        let mut hot = fake.begun();
        hot.retain(|seq| *seq != other);
        hot.dedup();
        assert!(hot.is_sorted(), "{act:?}: {hot:?}");
    }
}

#[tokio::test]
async fn a_failing_head_of_a_busy_stream_is_not_overtaken() {
    let fake = Fake::new(|event, before| match (event.seq(), before) {
        (1, 0) => Act::Hang,
        _ => Act::Done,
    });
    // Long enough for the later events to get rows, and for the worker to look for due rows.
    let harness = Harness::with(&fake, |config| config.timeout = Duration::from_millis(500)).await;
    harness.store("hot").await;
    harness.store_many(600, |_| "hot".to_owned()).await;
    eventually(async || fake.done().len() > 20).await;
    let mut begun = fake.begun();
    begun.dedup();
    assert!(begun.is_sorted(), "{begun:?}");
    assert_eq!(fake.attempts(1), 2);
}

#[tokio::test]
async fn failed_deliveries_are_tried_again_in_the_middle_of_a_backlog() {
    let fake = Fake::new(|event, before| match (event.seq(), before) {
        (1, 0) => Act::Retry,
        _ => Act::Take(Duration::from_millis(1)),
    });
    let mut harness = Harness::new().await;
    harness.store_many(2000, |n| format!("s{n}")).await;
    harness
        .add_handler("h", &fake, |config| config.concurrency = Some(2))
        .await;
    eventually(async || fake.attempts(1) == 2).await;
    assert!(
        fake.done().len() < 1500,
        "not after the backlog: {}",
        fake.done().len()
    );
}

#[tokio::test]
async fn an_attempt_that_ends_while_its_row_is_written_is_not_repeated() {
    let fake = Fake::always(Act::Hang);
    let config = |config: &mut crate::dispatch::settings::HandlerConfig| {
        config.concurrency = Some(2);
    };
    let mut harness = Harness::with(&fake, config).await;
    let mut stored = 0;
    for round in 0..8 {
        harness.remove_handler("h").await;
        // The others fill the read-ahead, so the first gets a row while its attempt runs.
        fake.set_script(move |event, _| match event.seq() - stored {
            1 => Act::Take(Duration::from_micros(300 * (1 + round))),
            _ => Act::Done,
        });
        harness.store_many(520, |_| "busy".to_owned()).await;
        stored += 520;
        harness.add_handler("h", &fake, config).await;
        harness.idle().await;
        assert_eq!(fake.done().len() as Seq, stored);
    }
}
