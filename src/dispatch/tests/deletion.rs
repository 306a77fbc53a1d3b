//! Deletes a stream while its events are being delivered.

use std::sync::atomic::Ordering;

use super::*;
use crate::inbox::query::EventFilter;

const HOUR: Duration = Duration::from_secs(3600);

fn stream(name: &str) -> EventFilter {
    EventFilter {
        stream: Some(name.to_owned()),
        ..EventFilter::default()
    }
}

impl Harness {
    async fn delete(&self, name: &str) -> u64 {
        let counted = self.dispatch.delete(stream(name), true).await.unwrap();
        let deleted = self.dispatch.delete(stream(name), false).await.unwrap();
        assert_eq!(counted, deleted);
        deleted.count
    }

    /// Delivers the next event of a stream, which gets no row: the deleted events left no trace.
    async fn delivers_without_row(&self, fake: &Fake, name: &str) {
        let before = self.rows().await;
        fake.set_script(|_, _| Act::Take(Duration::from_millis(50)));
        let seq = self.store(name).await;
        eventually(async || fake.attempts(seq) == 1).await;
        assert_eq!(self.rows().await, before);
        eventually(async || fake.done().contains(&seq)).await;
    }
}

#[tokio::test]
async fn a_failing_stream_is_deleted_and_begins_anew() {
    let fake = Fake::new(|event, _| match event.seq() {
        1 | 4 => Act::RetryAfter(HOUR),
        _ => Act::Done,
    });
    let mut harness = Harness::with(&fake, |config| config.retry.max = HOUR).await;
    harness.store_all(&["a", "a", "a", "b", "a", "b"]).await;
    eventually(async || (harness.rows().await.due, harness.rows().await.waiting) == (2, 4)).await;
    assert_eq!(harness.delete("a").await, 4);
    assert_eq!(harness.delete("a").await, 0);
    let rows = harness.rows().await;
    assert_eq!((rows.due, rows.waiting, rows.parked), (1, 1, 0));
    harness.delivers_without_row(&fake, "a").await;
    assert_eq!((fake.attempts(1), fake.attempts(2)), (1, 0));
    harness.crash().await;
    assert_eq!(harness.rows().await, rows);
    harness.delivers_without_row(&fake, "a").await;
    assert_eq!(harness.delete("b").await, 2);
    harness.delivers_without_row(&fake, "b").await;
    harness.idle().await;
}

#[tokio::test]
async fn an_attempt_that_runs_may_end_as_it_does() {
    for act in [Act::Done, Act::Retry, Act::Reject] {
        let fake = Fake::always(Act::Hang);
        let open = Arc::new(tokio::sync::Semaphore::new(0));
        let gated = Arc::new(Gated {
            fake: fake.clone(),
            open: open.clone(),
        });
        let mut harness = Harness::new().await;
        harness
            .add_any_handler("h", gated, |config| config.concurrency = Some(4))
            .await;
        fake.set_script(move |_, _| act);
        harness.store_all(&["a", "a", "b", "a"]).await;
        eventually(async || harness.open() == 4).await;
        assert_eq!(harness.delete("a").await, 3);
        // The attempt of the other stream is left.
        eventually(async || harness.open() == 1).await;
        assert_eq!(harness.delete("b").await, 1);
        open.add_permits(1000);
        eventually(async || fake.begun().len() == 2).await;
        harness.idle().await;
        harness.delivers_without_row(&fake, "a").await;
        harness.delivers_without_row(&fake, "b").await;
        assert_eq!(fake.begun().len(), 4, "{act:?}");
        assert_eq!(harness.rows().await, RowCounts::default());
    }
}

/// Waits for a permit in each attempt.
struct Gated {
    fake: Arc<Fake>,
    open: Arc<tokio::sync::Semaphore>,
}

impl Handler for Gated {
    fn handle<'a>(&'a self, event: &'a Event) -> crate::handler::Handling<'a> {
        Box::pin(async move {
            if let Ok(permit) = self.open.acquire().await {
                permit.forget();
            }
            self.fake.handle(event).await
        })
    }
}

#[tokio::test]
async fn what_was_not_read_is_not_delivered() {
    let fake = Fake::always(Act::Done);
    let mut harness = Harness::with(&fake, |_| {}).await;
    harness.dispatch.pause("h", true).await.unwrap();
    harness.store_many(3000, |n| format!("s{}", n % 3)).await;
    assert_eq!(harness.delete("s1").await, 1000);
    harness.store_all(&["s0", "s1"]).await;
    harness.dispatch.pause("h", false).await.unwrap();
    harness.idle().await;
    assert_eq!(fake.begun().len(), 2002);
    assert_eq!(harness.rows().await, RowCounts::default());
    harness.restart(Duration::from_secs(5)).await;
    harness.idle().await;
    assert_eq!(fake.begun().len(), 2002);
}

#[tokio::test]
async fn parked_and_replayed_ones_go() {
    let fake = Fake::always(Act::Reject);
    let harness = Harness::with(&fake, |config| config.concurrency = Some(2)).await;
    harness.store_many(40, |n| format!("s{}", n % 4)).await;
    eventually(async || harness.rows().await.parked == 40).await;
    assert_eq!(harness.delete("s0").await, 10);
    assert_eq!(harness.rows().await.parked, 30);
    fake.set_script(|_, _| Act::Take(Duration::from_millis(20)));
    assert_eq!(harness.replay(Selection::Parked).await, 30);
    eventually(async || fake.begun().len() > 40).await;
    fake.set_script(|_, _| Act::RetryAfter(HOUR));
    for name in ["s1", "s2", "s3"] {
        assert_eq!(harness.delete(name).await, 10);
    }
    harness.idle().await;
    assert_eq!(harness.rows().await, RowCounts::default());
    for name in ["s0", "s1", "s2", "s3"] {
        harness.delivers_without_row(&fake, name).await;
    }
}

/// Streams are deleted again and again. The other streams are delivered in order.
#[tokio::test]
async fn a_busy_handler_does_not_notice() {
    let fake = Fake::new(|event, before| match (event.seq() % 11, before) {
        (0..=2, 0..=3) => Act::Retry,
        (3, 0) => Act::Take(Duration::from_millis(3)),
        (4, 0) => Act::Panic,
        (5, _) => Act::Reject,
        _ => Act::Done,
    });
    let harness = Harness::with(&fake, |config| config.concurrency = Some(3)).await;
    for round in 0..30 {
        harness.store_many(60, |n| format!("s{}", n % 6)).await;
        let name = format!("s{}", round % 3);
        harness.dispatch.delete(stream(&name), false).await.unwrap();
    }
    harness.idle().await;
    assert!(!fake.overlapped.load(Ordering::Relaxed));
    let stored = harness.inbox.after(0, 10_000, usize::MAX).await.unwrap();
    let kept = ["s3", "s4", "s5"].map(|name| {
        let of_it = |event: &&Event| stream(name).matches(event);
        let seqs = stored.iter().filter(of_it).map(Event::seq);
        seqs.collect::<Vec<_>>()
    });
    let done = fake.done();
    for seqs in kept {
        assert_eq!(seqs.len(), 300);
        let wanted: Vec<Seq> = seqs.iter().copied().filter(|seq| seq % 11 != 5).collect();
        let of_it = done.iter().copied().filter(|seq| seqs.contains(seq));
        assert_eq!(of_it.collect::<Vec<_>>(), wanted);
    }
    for name in ["s0", "s1", "s2", "s3", "s4", "s5"] {
        harness.delete(name).await;
    }
    assert_eq!(harness.rows().await, RowCounts::default());
    for name in ["s0", "s1", "s2", "s3", "s4", "s5"] {
        harness.delivers_without_row(&fake, name).await;
    }
}
