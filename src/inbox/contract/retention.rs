//! Which events retention removes.

use super::*;
use crate::inbox::delivery::replay_lane;

pub(super) async fn events_that_all_handlers_finished_are_removed(mut bench: Bench) {
    let handlers = bench.register(&["x", "y"], Start::Oldest).await;
    bench.store(&["a"; 3]).await;
    bench.clock.advance(DAY);
    bench.store(&["a"; 2]).await;
    bench.finish_upto(handlers[0].id, 5).await;
    bench.finish_upto(handlers[1].id, 5).await;
    bench.clock.advance(RETENTION - DAY);
    bench.sweep().await;
    assert_eq!(bench.stored().await, [1, 2, 3, 4, 5], "exactly that old");
    bench.clock.advance(MILLISECOND);
    bench.sweep().await;
    assert_eq!(bench.stored().await, [4, 5]);
    bench.reopen().await;
    bench.clock.advance(DAY);
    bench.sweep().await;
    assert_eq!(bench.stored().await, NONE);
}

pub(super) async fn without_handlers_all_old_events_are_removed(bench: Bench) {
    bench.store(&["a"; 3]).await;
    bench.clock.advance(RETENTION + MILLISECOND);
    bench.store(&["b"]).await;
    bench.sweep().await;
    assert_eq!(bench.stored().await, [4]);
}

pub(super) async fn owed_events_stay(mut bench: Bench) {
    let handlers = bench.register(&["slow", "fast"], Start::Oldest).await;
    bench.store(&["a"; 4]).await;
    bench.finish_upto(handlers[0].id, 2).await;
    bench.finish_upto(handlers[1].id, 4).await;
    for _ in 0..2 {
        bench.clock.advance(100 * DAY);
        bench.sweep().await;
        assert_eq!(bench.stored().await, [3, 4]);
        bench.reopen().await;
    }
    bench.finish_upto(handlers[0].id, 3).await;
    bench.sweep().await;
    assert_eq!(bench.stored().await, [4]);
}

pub(super) async fn events_of_waiting_deliveries_stay(bench: Bench) {
    let handler = bench.handler().await;
    let events = bench.store(&["a", "a", "b", "a"]).await;
    bench
        .commit(handler, vec![retry(&events[0], FOREVER), wait(&events[3])])
        .await;
    bench.finish_upto(handler, 4).await;
    bench.clock.advance(100 * DAY);
    bench.sweep().await;
    assert_eq!(bench.stored().await, [1, 4]);
    bench.commit(handler, vec![done(&events[0])]).await;
    bench.sweep().await;
    assert_eq!(bench.stored().await, [4]);
    assert_eq!(bench.due(handler).await, [4]);
    bench.commit(handler, vec![done(&events[3])]).await;
    bench.sweep().await;
    assert_eq!(bench.stored().await, NONE);
}

pub(super) async fn parked_events_stay_longer(bench: Bench) {
    let handler = bench.handler().await;
    let events = bench.store(&["a", "b", "c"]).await;
    bench.finish_upto(handler, 3).await;
    bench.park(handler, &events[0]).await;
    bench.clock.advance(DAY);
    bench.park(handler, &events[2]).await;
    bench.clock.advance(PARKED_RETENTION - DAY);
    bench.sweep().await;
    assert_eq!(bench.stored().await, [1, 3]);
    assert_eq!(bench.parked_seqs(handler).await, [1, 3]);
    bench.clock.advance(MILLISECOND);
    bench.sweep().await;
    assert_eq!(bench.stored().await, [3]);
    assert_eq!(bench.counts(handler).await, (0, 0, 1));
    bench.clock.advance(DAY);
    bench.sweep().await;
    assert_eq!(bench.stored().await, NONE);
}

pub(super) async fn replayed_events_stay(bench: Bench) {
    let handler = bench.handler().await;
    let events = bench.store(&["a", "b"]).await;
    bench.finish_upto(handler, 2).await;
    bench.park(handler, &events[0]).await;
    bench.replay(handler, Selection::Parked).await;
    bench.replay(handler, Selection::Event(2)).await;
    bench.clock.advance(2 * PARKED_RETENTION);
    bench.sweep().await;
    assert_eq!(bench.due(handler).await, [1, 2]);
    // They are parked again now, so `PARKED_RETENTION` starts again.
    for event in &events {
        let again = DeliveryChange::Park {
            seq: event.seq(),
            lane: replay_lane(event.lane()),
            attempts: attempts(1),
            at: bench.now(),
        };
        bench.commit(handler, vec![again]).await;
    }
    bench.clock.advance(PARKED_RETENTION);
    bench.sweep().await;
    assert_eq!(bench.parked_seqs(handler).await, [1, 2]);
}

pub(super) async fn numbers_are_never_given_twice(mut bench: Bench) {
    bench.store_many(1200).await;
    for next in 1201..1204 {
        bench.clock.advance(RETENTION + SECOND);
        bench.sweep().await;
        assert_eq!(bench.stored().await, NONE);
        bench.reopen().await;
        assert_eq!(*bench.inbox().committed().borrow(), next - 1);
        assert_eq!(bench.accept(&push("room", 1)).await.seq(), next);
        let name = next.to_string();
        let handler = &bench.register(&[&name], Start::Now).await[0];
        assert_eq!(handler.position, next);
    }
}

pub(super) async fn removed_events_are_not_found(mut bench: Bench) {
    bench.store_many(2000).await;
    let ids: Vec<_> = bench.all_after(0).await.iter().map(Event::id).collect();
    let handler = bench.handler().await;
    bench.finish_upto(handler, 2000).await;
    let kept = bench.all_after(699).await.swap_remove(0);
    bench.park(handler, &kept).await;
    bench.clock.advance(RETENTION + SECOND);
    bench.sweep().await;
    for _ in 0..2 {
        for id in ids.iter().step_by(50) {
            assert!(bench.inbox().find(*id).await.unwrap().is_none());
        }
        let found = bench.inbox().find(kept.id()).await.unwrap().unwrap();
        assert_eq!(found.seq(), 700);
        bench.reopen().await;
    }
    // Nothing is left of the removed ones, so even a late callback is new. The parked one is known.
    let late = |seq: Seq| authentic("css", push("many", seq).as_bytes(), bench.now());
    let kept = authentic("css", kept.body(), bench.now());
    let inbox = bench.inbox();
    assert!(inbox.accept_late(kept).await.unwrap().is_duplicate());
    assert!(!inbox.accept_late(late(7)).await.unwrap().is_duplicate());
}

pub(super) async fn many_events_are_removed_in_rounds(bench: Bench) {
    let handler = bench.handler().await;
    bench.store_many(2900).await;
    bench.store_many(100).await;
    bench.finish_upto(handler, 2900).await;
    bench.clock.advance(RETENTION + SECOND);
    let mut rounds = 0;
    let mut left = 3000;
    while bench.inbox().sweep().await.unwrap() {
        let stored = bench.stored().await.len();
        assert!(stored <= left);
        left = stored;
        rounds += 1;
    }
    // An embedded store removes a file, however many events are in it.
    let is_slow = !bench.is_embedded();
    assert!(rounds > 1 || !is_slow, "one round would hold up callbacks");
    assert_eq!(bench.stored().await, (2901..=3000).collect::<Vec<_>>());
}

pub(super) async fn a_missing_handler_keeps_events_for_a_while(bench: Bench) {
    bench.register(&["away", "here"], Start::Oldest).await;
    bench.clock.advance(2 * DAY);
    let here = bench.register(&["here"], Start::Now).await[0].id;
    bench.store(&["a"; 3]).await;
    bench.finish_upto(here, 3).await;
    bench.clock.advance(RETENTION);
    bench.sweep().await;
    assert_eq!(bench.stored().await, [1, 2, 3]);
    bench.clock.advance(MILLISECOND);
    bench.sweep().await;
    assert_eq!(bench.stored().await, NONE);
}

const YEAR: i64 = 365 * 24 * 3_600_000;

/// Stores events while the clock is ahead by `by` milliseconds.
async fn store_ahead(bench: &Bench, by: i64, count: usize) {
    bench.clock.set_by(by);
    bench.store_many(count).await;
    bench.clock.set_by(-by);
}

pub(super) async fn events_from_the_future_stop_nothing(bench: Bench) {
    let day = DAY.as_millis() as i64;
    let handler = bench.handler().await;
    bench.store_many(10).await;
    store_ahead(&bench, day, 2).await;
    // More events than one round examines.
    bench.store_many(700).await;
    store_ahead(&bench, day, 800).await;
    bench.store_many(700).await;
    bench.finish_upto(handler, 2212).await;
    bench.clock.advance(RETENTION);
    bench.store(&["young"]).await;
    bench.finish_upto(handler, 2213).await;
    bench.clock.advance(MILLISECOND);
    bench.sweep().await;
    let mut left = vec![11, 12];
    left.extend(713..=1512);
    left.push(2213);
    assert_eq!(bench.stored().await, left);
    bench.clock.advance(DAY);
    bench.sweep().await;
    assert_eq!(bench.stored().await, [2213]);
}

pub(super) async fn events_from_the_far_future_are_removed(mut bench: Bench) {
    let handler = bench.handler().await;
    store_ahead(&bench, 50 * YEAR, 1200).await;
    bench.store(&["a"]).await;
    bench.finish_upto(handler, 1201).await;
    let owed = bench.all_after(6).await.swap_remove(0);
    bench.commit(handler, vec![retry(&owed, BEGIN)]).await;
    bench.clock.advance(RETENTION);
    bench.sweep().await;
    assert_eq!(bench.stored().await.len(), 1201);
    bench.clock.advance(MILLISECOND);
    store_ahead(&bench, 50 * YEAR, 1).await;
    bench.finish_upto(handler, 1202).await;
    bench.sweep().await;
    assert_eq!(
        bench.stored().await,
        [owed.seq(), 1202],
        "what came before an old one is old, but what is owed stays"
    );
    bench.commit(handler, vec![done(&owed)]).await;
    bench.reopen().await;
    bench.sweep().await;
    // PostgreSQL cannot tell any more that it is old.
    let left: &[Seq] = if bench.is_embedded() {
        &[1202]
    } else {
        &[owed.seq(), 1202]
    };
    assert_eq!(bench.stored().await, left);
    bench.store(&["b"]).await;
    bench.finish_upto(handler, 1203).await;
    bench.clock.advance(RETENTION + MILLISECOND);
    bench.sweep().await;
    assert_eq!(bench.stored().await, NONE);
}

pub(super) async fn deliveries_parked_in_the_far_future_are_removed(bench: Bench) {
    let handler = bench.handler().await;
    let events = bench.store(&["a"]).await;
    bench.finish_upto(handler, 1).await;
    bench.clock.set_by(50 * YEAR);
    bench.park(handler, &events[0]).await;
    bench.clock.set_by(-50 * YEAR);
    bench.sweep().await;
    bench.clock.advance(PARKED_RETENTION);
    bench.sweep().await;
    assert_eq!(bench.parked_seqs(handler).await, [1]);
    bench.clock.advance(MILLISECOND);
    bench.sweep().await;
    assert_eq!(bench.stored().await, NONE);
}

/// A machine may start in 1970 and set its clock later.
pub(super) async fn a_clock_that_is_behind_removes_nothing(bench: Bench) {
    bench.register(&["away", "here"], Start::Oldest).await;
    let events = bench.store(&["a", "b"]).await;
    let here = bench.register(&["here"], Start::Oldest).await[0].id;
    bench.finish_upto(here, 2).await;
    bench.park(here, &events[0]).await;
    bench.clock.set_by(-50 * YEAR);
    bench.sweep().await;
    bench.clock.set_by(50 * YEAR);
    bench.sweep().await;
    assert_eq!(bench.parked_seqs(here).await, [1]);
    assert_eq!(
        bench.stored().await,
        [1, 2],
        "one that is missing is still owed them"
    );
}

pub(super) async fn a_handler_missing_since_the_far_future_is_forgotten(bench: Bench) {
    bench.clock.set_by(50 * YEAR);
    bench.register(&["away", "here"], Start::Oldest).await;
    let here = bench.register(&["here"], Start::Now).await[0].id;
    bench.clock.set_by(-50 * YEAR);
    bench.store(&["a"]).await;
    bench.finish_upto(here, 1).await;
    bench.sweep().await;
    bench.clock.advance(RETENTION + MILLISECOND);
    bench.sweep().await;
    assert_eq!(bench.stored().await, NONE);
}
