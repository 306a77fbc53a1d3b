//! Replay and discard.

use std::sync::atomic::Ordering;

use css_callbacks::Kind;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn range() -> Selection {
    let (begin, end) = all_time();
    Selection::Range(begin, end)
}

#[tokio::test]
async fn one_event_is_replayed_at_once_after_its_delivery() {
    let fake = Fake::always(Act::Done);
    let harness = Harness::with(&fake, |_| {}).await;
    for n in 1..20 {
        let seq = harness.store("a").await;
        eventually(async || fake.attempts(seq) == 1).await;
        // The worker may not know yet that the attempt has ended.
        eventually(async || harness.replay(Selection::Event(seq)).await == 1).await;
        eventually(async || fake.attempts(seq) == 2).await;
        harness.idle().await;
        assert_eq!(fake.begun().len(), 2 * n);
    }
}

#[tokio::test]
async fn parked_ones_are_replayed_and_leave_the_list_when_done() {
    let fake = Fake::always(Act::Reject);
    let harness = Harness::with(&fake, |_| {}).await;
    harness.store_all(&["a", "b", "a"]).await;
    eventually(async || harness.rows().await.parked == 3).await;
    assert_eq!(harness.replay(Selection::Parked).await, 3);
    eventually(async || fake.begun().len() == 6).await;
    harness.idle().await;
    assert_eq!(harness.rows().await.parked, 3, "rejected again");
    fake.set_script(|_, _| Act::Done);
    harness.replay(Selection::Parked).await;
    harness.idle().await;
    eventually(async || harness.rows().await == RowCounts::default()).await;
    let of_a: Vec<_> = fake.done().into_iter().filter(|seq| *seq != 2).collect();
    assert_eq!(of_a, [1, 3]);
}

#[tokio::test]
async fn a_range_is_replayed_in_order_through_the_filters_beside_live_events() {
    let fake = Fake::always(Act::Done);
    let mut harness = Harness::with(&fake, |_| {}).await;
    harness.store_many(60, |n| format!("s{}", n % 4)).await;
    harness.idle().await;
    assert_eq!(
        harness.dispatch.replay("h", range(), true).await.unwrap(),
        60,
        "a dry run only counts"
    );
    assert_eq!(harness.rows().await, RowCounts::default());
    fake.set_script(|event, _| {
        if event.seq() <= 60 {
            Act::Take(Duration::from_millis(10))
        } else {
            Act::Done
        }
    });
    assert_eq!(harness.replay(range()).await, 60);
    let live = harness.store_all(&["s0", "s1", "s2", "s3"]).await;
    eventually(async || live.iter().all(|seq| fake.done().contains(seq))).await;
    assert!(fake.done().len() < 100, "live events do not wait");
    harness.idle().await;
    assert!(!fake.overlapped.load(Ordering::Relaxed));
    let lanes: BTreeMap<Seq, u64> = harness
        .inbox
        .after(0, 100, 1 << 20)
        .await
        .unwrap()
        .iter()
        .map(|event| (event.seq(), event.lane()))
        .collect();
    let again: Vec<Seq> = fake.done()[60..]
        .iter()
        .copied()
        .filter(|seq| *seq <= 60)
        .collect();
    for lane in lanes.values() {
        let of_lane = again.iter().filter(|seq| lanes[seq] == *lane);
        assert!(of_lane.is_sorted());
    }
    assert_eq!(again.len(), 60);
    harness
        .add_handler("h", &fake, |config| config.kinds = [Kind::StreamEnd].into())
        .await;
    assert_eq!(harness.replay(range()).await, 0);
}

#[tokio::test]
async fn what_is_owed_is_not_doubled() {
    let fake = Fake::new(|event, _| match event.seq() {
        1 => Act::RetryAfter(HOUR),
        _ => Act::Hang,
    });
    let harness = Harness::with(&fake, |config| {
        config.retry.max = HOUR;
        config.timeout = HOUR;
    })
    .await;
    harness.store_all(&["a", "a", "b", "b"]).await;
    eventually(async || fake.attempts(3) == 1 && harness.rows().await.waiting == 1).await;
    for seq in [3, 4] {
        assert_eq!(harness.replay(Selection::Event(seq)).await, 0, "it comes");
    }
    for seq in [1, 2] {
        let begun = fake.attempts(1);
        assert_eq!(harness.replay(Selection::Event(seq)).await, 1);
        eventually(async || fake.attempts(1) == begun + 1).await;
        eventually(async || harness.dispatch.replay("h", range(), true).await == Ok(2)).await;
    }
    let rows = harness.rows().await;
    assert_eq!((rows.due, rows.waiting, rows.replaying), (1, 1, 0));
    assert_eq!(harness.open(), 2);
    assert_eq!(fake.begun().len(), 4);
}

#[tokio::test]
async fn what_waits_for_its_time_is_due_now_and_counted() {
    let fake = Fake::always(Act::RetryAfter(HOUR));
    let harness = Harness::with(&fake, |config| config.retry.max = HOUR).await;
    harness.store_all(&["a", "a", "b", "b"]).await;
    eventually(async || harness.rows().await.waiting == 2).await;
    fake.set_script(|_, _| Act::Done);
    // The second event waits behind the first, so the first must be delivered before it.
    assert_eq!(harness.replay(Selection::Event(2)).await, 1);
    eventually(async || fake.done() == [1, 2]).await;
    assert_eq!(fake.attempts(3), 1, "another stream waits on");
    assert_eq!(harness.replay(Selection::Event(3)).await, 1);
    harness.idle().await;
    assert_eq!(fake.done(), [1, 2, 3, 4]);
    assert_eq!(
        fake.begun().len(),
        6,
        "each once more, or for the first time"
    );
}

#[tokio::test]
async fn a_delivery_that_failed_this_moment_is_due_now_as_well() {
    for _ in 0..20 {
        let fake = Fake::new(|_, before| match before {
            0 => Act::RetryAfter(HOUR),
            _ => Act::Done,
        });
        let harness = Harness::with(&fake, |config| config.retry.max = HOUR).await;
        harness.store("a").await;
        // The worker may not know yet that the attempt has ended: then the count is 0.
        eventually(async || harness.replay(Selection::Event(1)).await == 1).await;
        harness.idle().await;
        assert_eq!(fake.done(), [1]);
    }
}

#[tokio::test]
async fn a_handler_that_is_down_is_probed_at_once_and_all_that_it_owes_counted() {
    let fake = Fake::always(Act::RetryAfter(HOUR));
    let harness = Harness::with(&fake, |config| config.retry.max = HOUR).await;
    harness.store_many(700, |n| format!("s{}", n % 300)).await;
    eventually(async || harness.report().await.state == HandlerState::Failing).await;
    // Attempts that ran when the handler went down have ended now.
    eventually(async || harness.dispatch.replay("h", range(), true).await == Ok(700)).await;
    let begun = fake.begun().len();
    assert_eq!(
        harness.dispatch.replay("h", Selection::Parked, false).await,
        Ok(0)
    );
    assert_eq!(fake.begun().len(), begun, "nothing was asked for");
    // This event is not read yet.
    assert_eq!(harness.replay(Selection::Event(700)).await, 1);
    eventually(async || fake.begun().len() == begun + 1).await;
    // A delivery is not counted while its attempt runs.
    eventually(async || harness.dispatch.replay("h", range(), true).await == Ok(700)).await;
    fake.set_script(|_, _| Act::Done);
    assert_eq!(harness.replay(range()).await, 700);
    harness.idle().await;
    let mut done = fake.done();
    done.sort_unstable();
    assert_eq!(done, (1..=700).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_replay_that_waits_is_due_now() {
    let fake = Fake::always(Act::Reject);
    let harness = Harness::with(&fake, |config| config.retry.max = HOUR).await;
    harness.store("a").await;
    eventually(async || harness.rows().await.parked == 1).await;
    fake.set_script(|_, _| Act::RetryAfter(HOUR));
    assert_eq!(harness.replay(Selection::Parked).await, 1);
    eventually(async || fake.begun().len() == 2).await;
    fake.set_script(|_, _| Act::Done);
    eventually(async || harness.replay(Selection::Parked).await == 1).await;
    eventually(async || harness.rows().await == RowCounts::default()).await;
    assert_eq!(fake.done(), [1]);
}

#[tokio::test]
async fn a_discarded_head_lets_its_stream_go_on() {
    let fake = Fake::new(|event, _| match event.seq() {
        1 => Act::RetryAfter(HOUR),
        _ => Act::Done,
    });
    let harness = Harness::with(&fake, |config| config.retry.max = HOUR).await;
    harness.store_all(&["a", "a", "a"]).await;
    eventually(async || harness.rows().await.waiting == 2).await;
    assert_eq!(harness.discard(Selection::Event(3)).await, 1);
    assert_eq!(harness.discard(Selection::Event(1)).await, 1);
    assert_eq!(harness.discard(Selection::Event(1)).await, 0);
    harness.idle().await;
    assert_eq!(fake.done(), [2]);
    let next = harness.store("a").await;
    eventually(async || fake.done() == [2, next]).await;
    assert_eq!(fake.attempts(1), 1);
}

#[tokio::test]
async fn a_delivery_is_discarded_while_its_attempt_runs() {
    for act in [Act::Done, Act::Retry, Act::Reject] {
        let open = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let fake = {
            let open = open.clone();
            Fake::new(move |event, before| match (event.seq(), before) {
                (1, 0) => Act::Retry,
                (1, _) => act,
                _ if open.load(Ordering::Relaxed) => Act::Done,
                _ => Act::RetryAfter(HOUR),
            })
        };
        let slow = Arc::new(Slow {
            fake: fake.clone(),
            hold: tokio::sync::Semaphore::new(1),
        });
        let mut harness = Harness::new().await;
        harness
            .add_any_handler("h", slow.clone(), |config| config.retry.max = HOUR / 10_000)
            .await;
        harness.store_all(&["a", "a", "a", "a"]).await;
        eventually(async || harness.rows().await.waiting == 3 && slow.attempts() == 1).await;
        assert_eq!(harness.discard(Selection::Event(1)).await, 1);
        slow.hold.add_permits(2);
        // The second event fails for long. Later events must stay behind the third and fourth.
        eventually(async || fake.attempts(2) > 0).await;
        eventually(async || harness.rows().await.due == 1).await;
        let last = {
            harness.store("a").await;
            harness.store("a").await
        };
        open.store(true, Ordering::Relaxed);
        slow.hold.add_permits(1_000);
        eventually(async || fake.done().last() == Some(&last)).await;
        harness.idle().await;
        let mut done = fake.done();
        done.retain(|seq| *seq != 1);
        assert_eq!(done, [2, 3, 4, 5, 6], "{act:?}");
        assert_eq!(fake.attempts(1), 2);
        assert_eq!(harness.rows().await, RowCounts::default());
    }
}

/// Waits for a permit in each attempt.
struct Slow {
    fake: Arc<Fake>,
    hold: tokio::sync::Semaphore,
}

impl Slow {
    fn attempts(&self) -> usize {
        self.fake.begun().len()
    }
}

impl Handler for Slow {
    fn handle<'a>(&'a self, event: &'a crate::event::Event) -> crate::handler::Handling<'a> {
        Box::pin(async move {
            if let Ok(permit) = self.hold.acquire().await {
                permit.forget();
            }
            self.fake.handle(event).await
        })
    }
}

#[tokio::test]
async fn discarded_replays_do_not_come_back() {
    let fake = Fake::always(Act::Reject);
    let harness = Harness::with(&fake, |config| config.concurrency = Some(2)).await;
    harness.store_many(30, |n| format!("s{}", n % 10)).await;
    eventually(async || harness.rows().await.parked == 30).await;
    fake.set_script(|_, _| Act::Take(Duration::from_millis(100)));
    harness.replay(Selection::Parked).await;
    eventually(async || fake.begun().len() == 32).await;
    fake.set_script(|_, _| Act::Retry);
    assert_eq!(harness.discard(Selection::Parked).await, 30);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(fake.begun().len(), 32, "only those that ran");
    assert_eq!(harness.rows().await, RowCounts::default());
    harness.idle().await;
}

#[tokio::test]
async fn commands_for_nobody_say_so() {
    let harness = Harness::new().await;
    let answer = harness.dispatch.replay("h", Selection::Parked, false).await;
    assert_eq!(answer, Err(ControlError::NoSuchHandler));
}
