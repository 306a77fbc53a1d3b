//! Deleted events never come back, and a deletion blocks nothing.

use super::*;
use crate::inbox::delivery::replay_lane;

fn of(events: &[Event], chosen: &[usize]) -> Vec<Seq> {
    chosen.iter().map(|at| events[*at].seq()).collect()
}

pub(super) async fn deleted_events_are_gone(mut bench: Bench) {
    let events = bench.store(&["a", "b", "a", "b", "a"]).await;
    let inbox = bench.inbox();
    assert_eq!(inbox.delete(Vec::new()).await, Ok(0));
    assert_eq!(inbox.delete(of(&events, &[0, 2, 4])).await, Ok(3));
    assert_eq!(inbox.delete(of(&events, &[0, 4])).await, Ok(0));
    for _ in 0..2 {
        assert_eq!(bench.stored().await, [2, 4]);
        for (at, event) in events.iter().enumerate() {
            let found = bench.inbox().find(event.id()).await.unwrap();
            assert_eq!(found.is_some(), at % 2 == 1);
        }
        bench.reopen().await;
    }
    // The number of the last event is not used again.
    assert_eq!(bench.accept(&push("a", 100)).await.seq(), 6);
    let handler = &bench.register(&["late"], Start::Now).await[0];
    assert_eq!(handler.position, 6);
}

pub(super) async fn a_deleted_event_is_no_duplicate(mut bench: Bench) {
    let mut last = 0;
    for round in 0..20 {
        let receipt = bench.accept(&push("a", 1)).await;
        assert!(!receipt.is_duplicate(), "round {round}");
        assert!(receipt.seq() > last);
        last = receipt.seq();
        assert!(bench.accept(&push("a", 1)).await.is_duplicate());
        let deleted = bench.inbox().delete(vec![last]).await;
        assert_eq!(deleted, Ok(1));
        let late = bench.callback(&push("a", 1));
        let receipt = bench.inbox().accept_late(late).await.unwrap();
        assert!(!receipt.is_duplicate());
        last = receipt.seq();
        assert_eq!(bench.inbox().delete(vec![last]).await, Ok(1));
        if round % 5 == 4 {
            bench.reopen().await;
        }
    }
}

/// Deletes whole runs of ids, and parts of runs.
pub(super) async fn many_are_deleted(mut bench: Bench) {
    bench.store_many(3000).await;
    let all = bench.all_after(0).await;
    let (gone, kept): (Vec<&Event>, Vec<&Event>) = all
        .iter()
        .partition(|event| event.seq() <= 1500 || event.seq() % 3 == 0);
    for chunk in gone.chunks(500) {
        let seqs = chunk.iter().map(|event| event.seq()).collect();
        let deleted = bench.inbox().delete(seqs).await;
        assert_eq!(deleted, Ok(chunk.len() as u64));
    }
    bench.reopen().await;
    assert_eq!(
        bench.stored().await,
        kept.iter().map(|event| event.seq()).collect::<Vec<_>>()
    );
    for event in gone.iter().step_by(70) {
        assert!(bench.inbox().find(event.id()).await.unwrap().is_none());
        let again = authentic("css", event.body(), bench.now());
        let receipt = bench.inbox().accept(again, None).await.unwrap();
        assert!(!receipt.is_duplicate());
    }
    for event in kept.iter().step_by(70) {
        let again = authentic("css", event.body(), bench.now());
        let receipt = bench.inbox().accept(again, None).await.unwrap();
        assert_eq!((receipt.seq(), receipt.is_duplicate()), (event.seq(), true));
    }
    // Retention continues across the gaps.
    bench.clock.advance(RETENTION + SECOND);
    bench.sweep().await;
    assert_eq!(bench.stored().await, NONE);
}

pub(super) async fn rows_of_every_handler_go(bench: Bench) {
    let events = bench.store(&["a", "a", "a", "b"]).await;
    let handlers = bench.register(&["x", "y", "away"], Start::Oldest).await;
    let [x, y, away] = [0, 1, 2].map(|at: usize| handlers[at].id);
    for handler in [x, away] {
        let changes = vec![
            retry(&events[0], FOREVER),
            wait(&events[1]),
            wait(&events[2]),
            wait(&events[3]),
        ];
        bench.commit(handler, changes).await;
    }
    bench.park(y, &events[0]).await;
    bench.park(y, &events[3]).await;
    bench.commit(y, vec![wait(&events[1])]).await;
    bench.replay(y, Selection::Event(events[0].seq())).await;
    bench.register(&["x", "y"], Start::Oldest).await;
    let deleted = bench.inbox().delete(of(&events, &[0])).await;
    assert_eq!(deleted, Ok(1));
    for handler in [x, away] {
        assert_eq!(bench.counts(handler).await, (2, 1, 0));
        assert_eq!(bench.due(handler).await, [2, 4], "the lane goes on");
    }
    assert_eq!(bench.counts(y).await, (1, 0, 1));
    assert_eq!(bench.inbox().delete(of(&events, &[1, 2])).await, Ok(2));
    for handler in [x, away] {
        assert_eq!(bench.due(handler).await, [4]);
        assert_eq!(bench.counts(handler).await, (1, 0, 0));
    }
    assert_eq!(bench.parked_seqs(y).await, [4]);
    assert_eq!(bench.counts(y).await, (0, 0, 1));
}

/// An attempt that ran during the deletion may have any outcome.
pub(super) async fn a_deleted_event_gets_no_row(mut bench: Bench) {
    let events = bench.store(&["a", "a", "b"]).await;
    let handler = bench.handler().await;
    bench.commit(handler, vec![retry(&events[0], BEGIN)]).await;
    assert_eq!(bench.inbox().delete(of(&events, &[0, 1])).await, Ok(2));
    let replay = DeliveryChange::Retry {
        seq: events[0].seq(),
        lane: replay_lane(events[0].lane()),
        attempts: attempts(1),
        due: BEGIN,
    };
    let changes = vec![
        retry(&events[0], BEGIN),
        wait(&events[1]),
        park(&events[1], BEGIN),
        done(&events[0]),
        replay,
        retry(&events[2], BEGIN),
    ];
    bench.commit(handler, changes).await;
    bench.finish_upto(handler, 3).await;
    assert_eq!(bench.counts(handler).await, (1, 0, 0));
    assert_eq!(bench.replay(handler, Selection::Event(1)).await, 0);
    bench.reopen().await;
    let registered = &bench.register(&["one"], Start::Now).await[0];
    assert_eq!(registered.position, 3);
    assert_eq!(registered.blocked, [(events[2].lane(), 1)]);
}

/// Callbacks and deletions run at the same time. Each event with a receipt is stored, unless it was
/// deleted later.
pub(super) async fn callbacks_are_accepted_during_a_deletion(bench: Bench) {
    bench.store_many(2000).await;
    let inbox = bench.inbox().clone();
    let deleting = tokio::spawn(async move {
        for first in (1..=2000).step_by(100) {
            let seqs = (first..first + 100).collect();
            assert_eq!(inbox.delete(seqs).await, Ok(100));
        }
    });
    bench.store_many(1000).await;
    deleting.await.unwrap();
    assert_eq!(bench.stored().await, (2001..=3000).collect::<Vec<_>>());
}

/// A worker that does not know of the deletion writes rows for the events that are being deleted.
pub(super) async fn outcomes_are_written_during_a_deletion(bench: Bench) {
    let events = bench.store(&["a", "b", "a", "b"].repeat(50)).await;
    let handler = bench.handler().await;
    let (inbox, again) = (bench.inbox().clone(), events.clone());
    let committing = tokio::spawn(async move {
        for _ in 0..5 {
            for event in &again {
                let changes = vec![retry(event, BEGIN)];
                let commit = DeliveryCommit {
                    changes,
                    ..DeliveryCommit::default()
                };
                // A commit that meets a deletion may fail.
                let _ = inbox.commit(handler, commit).await;
            }
        }
    });
    let chosen: Vec<usize> = (0..events.len()).step_by(2).collect();
    for part in chosen.chunks(10) {
        // On PostgreSQL so may a deletion whose events get new rows again and again. Its caller
        // repeats it.
        let mut deleted = bench.inbox().delete(of(&events, part)).await;
        for _ in 0..100 {
            if deleted.is_ok() || matches!(bench.settings.store, StoreSettings::Sqlite(_)) {
                break;
            }
            deleted = bench.inbox().delete(of(&events, part)).await;
        }
        assert_eq!(deleted, Ok(10));
    }
    committing.await.unwrap();
    assert_eq!(bench.stored().await.len(), 100);
    assert_eq!(bench.counts(handler).await, (1, 99, 0));
}
