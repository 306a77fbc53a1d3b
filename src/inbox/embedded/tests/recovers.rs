//! A log or a state that cannot be written for a while.

use super::*;

#[tokio::test]
async fn a_log_that_fails_loses_nothing_and_recovers() {
    let bench = Bench::new();
    bench.segment("room", 10).await;
    // The next segment cannot be begun.
    let obstacle = bench.path().join("log").join("segment.new");
    std::fs::create_dir(&obstacle).unwrap();
    for _ in 0..3 {
        let refused = bench.try_accept(&body("room", 11)).await;
        assert_eq!(refused, Err(StoreError::Failed));
        assert_eq!(bench.store().condition(), Condition::Failing);
        assert_eq!(bench.store().probe().await, Err(StoreError::Failed));
    }
    assert_eq!(bench.stored().await.len(), 10);
    assert_eq!(*bench.store().committed().borrow(), 10);
    std::fs::remove_dir(&obstacle).unwrap();
    bench.store().probe().await.unwrap();
    assert_eq!(bench.store().condition(), Condition::Accepting);
    let receipt = bench.try_accept(&body("room", 11)).await.unwrap();
    assert_eq!((receipt.seq(), receipt.is_duplicate()), (11, false));
    assert_eq!(bench.crash().stored().await, (1..=11).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_state_that_fails_stops_no_callback_and_recovers() {
    let bench = Bench::new();
    let handler = bench.handler("h", 0).await;
    let outside = directory::connect(&bench.path().join("state.db")).unwrap();
    outside
        .execute_batch(
            "CREATE TRIGGER trouble BEFORE UPDATE ON meta
             BEGIN SELECT RAISE(ROLLBACK, 'as on a full disk'); END;
             CREATE TRIGGER handlers_too BEFORE UPDATE ON handlers
             BEGIN SELECT RAISE(ROLLBACK, 'as on a full disk'); END;",
        )
        .unwrap();
    bench.try_accept(&body("room", 1)).await.unwrap();
    let paused = bench.store().pause(handler, true, BEGIN).await;
    assert_eq!(paused, Err(StoreError::Failed));
    assert_eq!(bench.store().condition(), Condition::Failing);
    assert_eq!(bench.store().probe().await, Err(StoreError::Failed));
    bench.try_accept(&body("room", 2)).await.unwrap();
    assert_eq!(bench.stored().await, [1, 2]);
    assert_eq!(bench.crash().stored().await, [1, 2]);
    outside
        .execute_batch("DROP TRIGGER trouble; DROP TRIGGER handlers_too")
        .unwrap();
    bench.store().probe().await.unwrap();
    assert_eq!(bench.store().condition(), Condition::Accepting);
    bench.store().pause(handler, true, BEGIN).await.unwrap();
    assert!(bench.store().resume(handler).await.unwrap().paused);
}

#[tokio::test]
async fn when_there_is_room_again_the_next_callback_is_accepted() {
    let mut bench = Bench::with(|own| own.min_free = Some(u64::MAX / 4));
    let handler = bench.handler("h", 0).await;
    for n in 1..=3 {
        let refused = bench.try_accept(&body("room", n)).await;
        assert_eq!(refused, Err(StoreError::Full));
    }
    bench.store().pause(handler, true, BEGIN).await.unwrap();
    assert_eq!(bench.store().condition(), Condition::Full);
    if let StoreSettings::Sqlite(own) = &mut bench.settings.store {
        own.min_free = Some(0);
    }
    bench.reopen();
    // A write that found the volume full is believed until it is asked again.
    bench.store().health.found_full();
    assert_eq!(bench.try_accept(&body("room", 1)).await.unwrap().seq(), 1);
    assert_eq!(bench.store().condition(), Condition::Accepting);
    assert!(bench.store().resume(handler).await.unwrap().paused);
}
