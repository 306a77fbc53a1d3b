//! Segments are removed whole, and what is owed of them is copied.

use super::*;

#[tokio::test]
async fn one_owed_event_of_many_is_copied_and_lives_on() {
    let mut bench = Bench::new();
    let events = bench.segment("room", 300).await;
    let handler = bench.handler("h", 300).await;
    let (owed, parked) = (&events[41], &events[99]);
    let park = DeliveryChange::Park {
        seq: parked.seq(),
        lane: parked.lane(),
        attempts: Attempts::default(),
        at: BEGIN.plus(8 * DAY),
    };
    bench.commit(handler, 300, vec![park, retry(owed)]).await;
    bench.clock.advance(8 * DAY);
    bench.sweep().await;
    assert!(bench.log(".log").is_empty() && bench.log(".idx").is_empty());
    for _ in 0..2 {
        let store = bench.store();
        assert_eq!(bench.stored().await, [42, 100]);
        assert_eq!(bench.due(handler).await, [42]);
        assert_eq!(bench.parked(handler).await.len(), 1);
        let found = store.find(owed.id()).await.unwrap().unwrap();
        assert_eq!(found.body(), owed.body());
        assert!(store.find(events[0].id()).await.unwrap().is_none());
        assert_eq!(store.existing(&[1, 42, 100, 300]).await.unwrap(), [42, 100]);
        assert_eq!(store.received_from(1).await.unwrap().unwrap().0, 42);
        for (newest_first, expected) in [(false, [42, 100]), (true, [100, 42])] {
            let page = store
                .search(EventFilter::default(), None, newest_first, 10)
                .await
                .unwrap();
            assert_eq!(
                page.items.iter().map(Event::seq).collect::<Vec<_>>(),
                expected
            );
        }
        bench.reopen();
    }
    // A row for an event of the removed segment is not made any more.
    bench.commit(handler, 300, vec![retry(&events[7])]).await;
    assert_eq!(bench.due(handler).await, [42]);
    bench.commit(handler, 300, vec![done(owed)]).await;
    bench.sweep().await;
    assert_eq!(bench.stored().await, [100]);
    assert_eq!(
        bench.try_accept(&body("room", 9999)).await.unwrap().seq(),
        301
    );
}

#[tokio::test]
async fn a_segment_stays_while_much_of_it_is_owed_and_later_ones_go() {
    let mut bench = Bench::new();
    let first = bench.segment("room", 100).await;
    bench.segment("room", 100).await;
    let handler = bench.handler("h", 200).await;
    bench
        .commit(handler, 200, first[..5].iter().map(retry).collect())
        .await;
    bench.clock.advance(8 * DAY);
    bench.sweep().await;
    assert_eq!(bench.stored().await, (1..=100).collect::<Vec<_>>());
    bench.reopen();
    assert_eq!(bench.stored().await.len(), 100);
    bench
        .commit(handler, 200, first[..5].iter().map(done).collect())
        .await;
    bench.sweep().await;
    assert!(bench.stored().await.is_empty());
}

#[tokio::test]
async fn a_handler_that_is_behind_paused_or_missing_holds_a_segment() {
    let mut bench = Bench::new();
    bench.segment("room", 10).await;
    bench.segment("room", 10).await;
    let behind = bench.handler("behind", 12).await;
    bench.clock.advance(8 * DAY);
    bench.sweep().await;
    assert_eq!(bench.stored().await, (11..=20).collect::<Vec<_>>());
    bench
        .store()
        .pause(behind, true, bench.clock.now())
        .await
        .unwrap();
    bench.sweep().await;
    // It is not configured any more.
    bench.handler("other", 20).await;
    bench.sweep().await;
    bench.reopen();
    assert_eq!(bench.stored().await.len(), 10);
    bench.clock.advance(8 * DAY);
    bench.sweep().await;
    assert!(bench.stored().await.is_empty());
}

#[tokio::test]
async fn a_removal_that_was_interrupted_is_finished_by_the_next_start() {
    let bench = Bench::new();
    bench.segment("room", 50).await;
    bench.segment("room", 50).await;
    let before = bench.log(".log")[0].clone();
    let kept = std::fs::read(&before).unwrap();
    bench.clock.advance(8 * DAY);
    bench.sweep().await;
    assert!(bench.stored().await.is_empty());
    std::fs::write(&before, kept).unwrap();
    let after = bench.crash();
    assert!(after.stored().await.is_empty());
    assert!(after.log(".log").is_empty());
    assert_eq!(after.try_accept(&body("room", 1)).await.unwrap().seq(), 101);
}

#[tokio::test]
async fn a_reader_of_the_state_at_the_start_delays_retention() {
    let mut bench = Bench::new();
    bench.segment("room", 5).await;
    bench.clock.advance(8 * DAY);
    let crashed = bench.crash();
    bench.store = None;
    let file = crashed.path().join("state.db");
    // Something must be in the write-ahead log.
    crashed.handler("h", 0).await;
    let reader = directory::connect(&file).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM handlers")
        .unwrap();
    let mut again = crashed.crash();
    let held = directory::connect(&again.path().join("state.db")).unwrap();
    again.handler("h", 5).await;
    held.execute_batch("BEGIN; SELECT count(*) FROM handlers")
        .unwrap();
    again.handler("h", 5).await;
    again.reopen();
    again.sweep().await;
    assert_eq!(
        again.stored().await.len(),
        5,
        "the state may not be on the disk"
    );
    drop(held);
    again.store().state.empty_wal().await.unwrap();
    again.sweep().await;
    assert!(again.stored().await.is_empty());
}
