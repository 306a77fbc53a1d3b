//! Rows of deliveries, and their order.

use std::collections::BTreeMap;

use super::*;
use crate::inbox::delivery::replay_lane;

pub(super) async fn waiting_ones_follow_in_order(bench: Bench) {
    let events = bench.store(&["a"; 4]).await;
    let handler = bench.handler().await;
    let [a, b, c, d] = &events[..] else { panic!() };
    bench
        .commit(handler, vec![retry(a, BEGIN), wait(c), wait(b), wait(d)])
        .await;
    assert_eq!(bench.counts(handler).await, (1, 3, 0));
    for event in &events {
        assert_eq!(bench.due(handler).await, [event.seq()]);
        bench.commit(handler, vec![done(event)]).await;
    }
    assert_eq!(bench.counts(handler).await, (0, 0, 0));
}

pub(super) async fn parking_lets_the_lane_go_on(bench: Bench) {
    let events = bench.store(&["a"; 3]).await;
    let handler = bench.handler().await;
    let [a, b, c] = &events[..] else { panic!() };
    bench
        .commit(handler, vec![retry(a, BEGIN), wait(b), wait(c)])
        .await;
    bench.commit(handler, vec![park(a, BEGIN)]).await;
    assert_eq!(bench.due(handler).await, [2]);
    bench.commit(handler, vec![park(b, BEGIN)]).await;
    assert_eq!(bench.due(handler).await, [3]);
    assert_eq!(bench.counts(handler).await, (1, 0, 2));
    // A delivery without a row can be parked, too.
    let more = bench.store(&["b"]).await;
    bench.park(handler, &more[0]).await;
    assert_eq!(bench.parked_seqs(handler).await, [1, 2, 4]);
}

pub(super) async fn waiting_in_an_empty_lane_is_due(bench: Bench) {
    let events = bench.store(&["a", "a", "b"]).await;
    let handler = bench.handler().await;
    bench.park(handler, &events[2]).await;
    let more = bench.store(&["b"]).await;
    bench
        .commit(
            handler,
            vec![wait(&events[0]), wait(&events[1]), wait(&more[0])],
        )
        .await;
    let (owed, next) = bench
        .inbox()
        .due(handler, BEGIN, FOREVER, 10)
        .await
        .unwrap();
    let owed: Vec<_> = owed.iter().map(|owed| owed.event.seq()).collect();
    assert_eq!((owed, next), (vec![1, 4], None));
    assert_eq!(bench.counts(handler).await, (2, 1, 1));
}

pub(super) async fn waiting_overwrites_nothing(bench: Bench) {
    let events = bench.store(&["a", "b"]).await;
    let handler = bench.handler().await;
    let later = BEGIN.plus(DAY);
    bench
        .commit(
            handler,
            vec![retry(&events[0], later), park(&events[1], BEGIN)],
        )
        .await;
    bench
        .commit(handler, vec![wait(&events[0]), wait(&events[1])])
        .await;
    let (owed, next) = bench
        .inbox()
        .due(handler, BEGIN, FOREVER, 10)
        .await
        .unwrap();
    assert!(owed.is_empty());
    assert_eq!(next, Some(later));
    let parked = &bench.parked(handler).await[0];
    assert_eq!((parked.attempts.count, parked.replaying), (3, false));
}

pub(super) async fn a_retry_before_the_head_takes_its_place(bench: Bench) {
    let events = bench.store(&["a"; 3]).await;
    let handler = bench.handler().await;
    let [a, b, c] = &events[..] else { panic!() };
    bench
        .commit(handler, vec![retry(b, BEGIN), wait(c), retry(a, BEGIN)])
        .await;
    assert_eq!(bench.due(handler).await, [1]);
    assert_eq!(bench.counts(handler).await, (1, 2, 0));
    bench.commit(handler, vec![done(a)]).await;
    assert_eq!(bench.due(handler).await, [2]);
}

pub(super) async fn lanes_are_independent(bench: Bench) {
    let events = bench.store(&["a", "b", "a", "b"]).await;
    let handler = bench.handler().await;
    let [a, b, a2, b2] = &events[..] else {
        panic!()
    };
    bench
        .commit(
            handler,
            vec![retry(a, BEGIN), retry(b, BEGIN), wait(a2), wait(b2)],
        )
        .await;
    bench.commit(handler, vec![done(b)]).await;
    let mut due = bench.due(handler).await;
    due.sort_unstable();
    assert_eq!(due, [1, 4]);
}

pub(super) async fn handlers_are_independent(bench: Bench) {
    let events = bench.store(&["a", "a"]).await;
    let both = bench.register(&["x", "y"], Start::Oldest).await;
    for handler in &both {
        bench
            .commit(handler.id, vec![retry(&events[0], BEGIN), wait(&events[1])])
            .await;
    }
    bench.commit(both[0].id, vec![done(&events[0])]).await;
    bench.park(both[0].id, &events[1]).await;
    bench.finish_upto(both[0].id, 2).await;
    assert_eq!(bench.counts(both[0].id).await, (0, 0, 1));
    assert_eq!(bench.counts(both[1].id).await, (1, 1, 0));
    let again = bench.register(&["x", "y"], Start::Now).await;
    assert_eq!((again[0].position, again[1].position), (2, 0));
}

pub(super) async fn due_deliveries_come_in_order(bench: Bench) {
    let events = bench.store(&["a", "b", "c", "d", "e"]).await;
    let handler = bench.handler().await;
    let at = |seconds: u32| BEGIN.plus(SECOND * seconds);
    let times = [30, 10, 20, 10, 60];
    let retries = events
        .iter()
        .zip(times)
        .map(|(event, seconds)| retry(event, at(seconds)));
    bench.commit(handler, retries.collect()).await;
    let due = async |until, limit| {
        let (owed, next) = bench
            .inbox()
            .due(handler, until, FOREVER, limit)
            .await
            .unwrap();
        let owed: Vec<_> = owed.iter().map(|owed| owed.event.seq()).collect();
        (owed, next)
    };
    assert_eq!(due(at(9), 9).await, (vec![], Some(at(10))));
    assert_eq!(due(at(10), 9).await, (vec![2, 4], Some(at(20))));
    assert_eq!(due(at(59), 9).await, (vec![2, 4, 3, 1], Some(at(60))));
    assert_eq!(due(at(60), 9).await, (vec![2, 4, 3, 1, 5], None));
    assert_eq!(due(at(60), 3).await.0, [2, 4, 3]);
    let oldest = bench.inbox().count(handler).await.unwrap().oldest;
    assert_eq!(oldest, Some(1));
}

pub(super) async fn a_time_too_far_ahead_is_due_now(bench: Bench) {
    let events = bench.store(&["a", "b", "c", "d"]).await;
    let handler = bench.handler().await;
    let latest = BEGIN.plus(MINUTE);
    let times = [BEGIN, latest, latest.plus(MILLISECOND), FOREVER];
    let retries = events.iter().zip(times);
    let retries = retries.map(|(event, due)| retry(event, due));
    bench.commit(handler, retries.collect()).await;
    let due = async |until, limit| {
        let due = bench.inbox().due(handler, until, latest, limit).await;
        let (owed, next) = due.unwrap();
        let owed: Vec<_> = owed.iter().map(|owed| owed.event.seq()).collect();
        (owed, next)
    };
    assert_eq!(due(BEGIN, 9).await, (vec![3, 4, 1], Some(latest)));
    assert_eq!(due(BEGIN, 2).await.0, [3, 4]);
    assert_eq!(due(FOREVER, 9).await, (vec![3, 4, 1, 2], None));
}

pub(super) async fn attempts_are_remembered(mut bench: Bench) {
    let events = bench.store(&["a", "b"]).await;
    let handler = bench.handler().await;
    let change = |event: &Event, count| DeliveryChange::Retry {
        seq: event.seq(),
        lane: event.lane(),
        attempts: attempts(count),
        due: BEGIN,
    };
    bench
        .commit(
            handler,
            vec![
                change(&events[0], 1),
                change(&events[0], 2),
                wait(&events[1]),
            ],
        )
        .await;
    bench.reopen().await;
    let (owed, _) = bench
        .inbox()
        .due(handler, BEGIN, FOREVER, 10)
        .await
        .unwrap();
    let of = |seq| owed.iter().find(|owed| owed.event.seq() == seq).unwrap();
    assert_eq!(of(1).attempts, attempts(2));
    assert_eq!(of(1).lane, events[0].lane());
    assert_eq!(of(1).event.body(), events[0].body());
    assert_eq!(of(2).attempts, Attempts::default());
}

pub(super) async fn rows_survive(mut bench: Bench) {
    let events = bench.store(&["a", "a", "b"]).await;
    let handler = bench.handler().await;
    bench
        .commit(
            handler,
            vec![
                retry(&events[0], FOREVER),
                wait(&events[1]),
                park(&events[2], BEGIN),
            ],
        )
        .await;
    bench.reopen().await;
    assert_eq!(bench.counts(handler).await, (1, 1, 1));
    assert_eq!(bench.due(handler).await, [1]);
    let parked = &bench.parked(handler).await[0];
    assert_eq!(parked.event.seq(), 3);
    assert_eq!((parked.at, &parked.attempts), (BEGIN, &attempts(3)));
}

/// A reader sees all of a commit or nothing of it.
pub(super) async fn a_commit_is_atomic(bench: Bench) {
    let events = bench.store(&["a"; 40]).await;
    let handler = bench.handler().await;
    let inbox = bench.inbox().clone();
    let reader = tokio::spawn(async move {
        loop {
            let counts = inbox.count(handler).await.unwrap();
            assert_eq!(counts.due + counts.waiting, 2 * (counts.parked / 2));
            assert_eq!(counts.parked % 2, 0);
            if counts.parked == 20 {
                return;
            }
        }
    });
    for four in events.chunks(4) {
        let changes = vec![
            retry(&four[0], BEGIN),
            wait(&four[1]),
            park(&four[2], BEGIN),
            park(&four[3], BEGIN),
        ];
        bench.commit(handler, changes).await;
    }
    reader.await.unwrap();
}

pub(super) async fn commits_keep_their_order(bench: Bench) {
    let events = bench.store(&["a"]).await;
    let handler = bench.handler().await;
    let mut begun = Vec::new();
    for round in 1..=100 {
        let commit = DeliveryCommit {
            epoch: None,
            position: None,
            changes: vec![DeliveryChange::Retry {
                seq: events[0].seq(),
                lane: events[0].lane(),
                attempts: attempts(round),
                due: BEGIN,
            }],
        };
        // Each future is polled once, which gives its commit a place in the order. They are awaited
        // later.
        let mut commit = Box::pin({
            let inbox = bench.inbox().clone();
            async move { inbox.commit(handler, commit).await.unwrap() }
        });
        tokio::select! {
            biased;
            () = &mut commit => {}
            () = std::future::ready(()) => begun.push(commit),
        }
    }
    for commit in begun {
        commit.await;
    }
    let (owed, _) = bench
        .inbox()
        .due(handler, BEGIN, FOREVER, 10)
        .await
        .unwrap();
    assert_eq!(owed[0].attempts, attempts(100));
}

/// After any changes in any order, each lane with due or waiting rows has exactly one due row, and no
/// row is lost.
pub(super) async fn any_order_keeps_one_head(bench: Bench) {
    let events = bench
        .store(&["a", "b", "c", "a", "b", "a", "a", "c", "b", "a"])
        .await;
    let handler = bench.handler().await;
    let mut rows: BTreeMap<Seq, (Lane, bool)> = BTreeMap::new();
    let mut chance = 0x2545_F491_4F6C_DD1D_u64;
    for _ in 0..600 {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let event = &events[chance as usize % events.len()];
        let (seq, lane) = (event.seq(), event.lane());
        match chance >> 32 & 7 {
            0 | 1 => {
                bench.commit(handler, vec![wait(event)]).await;
                rows.entry(seq).or_insert((lane, false));
            }
            2 => {
                bench.commit(handler, vec![retry(event, BEGIN)]).await;
                rows.insert(seq, (lane, false));
            }
            3 => {
                bench.park(handler, event).await;
                rows.insert(seq, (lane, true));
            }
            4 | 5 => {
                bench.commit(handler, vec![done(event)]).await;
                rows.remove(&seq);
            }
            6 => {
                let replayed = bench.replay(handler, Selection::Event(seq)).await;
                let owed = matches!(rows.get(&seq), Some((_, false)));
                assert_eq!(replayed, 1);
                if !owed {
                    rows.insert(seq, (replay_lane(lane), false));
                }
            }
            _ => {
                let (discarded, lanes) = bench.discard(handler, Selection::Event(seq)).await;
                let row = rows.remove(&seq);
                assert_eq!(discarded, u64::from(row.is_some()));
                let freed = row.filter(|(_, parked)| !parked).map(|(lane, _)| lane);
                assert_eq!(lanes, Vec::from_iter(freed));
            }
        }
        let mut lanes: Vec<_> = rows.values().filter(|(_, parked)| !parked).collect();
        let tried = lanes.len() as u64;
        lanes.sort_unstable();
        lanes.dedup();
        let (due, waiting, _) = bench.counts(handler).await;
        assert_eq!((due, due + waiting), (lanes.len() as u64, tried));
        let (owed, _) = bench
            .inbox()
            .due(handler, FOREVER, FOREVER, 100)
            .await
            .unwrap();
        let mut heads: Vec<_> = owed.iter().map(|owed| (owed.lane, false)).collect();
        heads.sort_unstable();
        assert_eq!(heads.iter().collect::<Vec<_>>(), lanes);
    }
}

/// The delivery was discarded during its attempt, and retention removed the event. A row for the outcome
/// would block the lane for ever.
pub(super) async fn a_removed_event_gets_no_row(bench: Bench) {
    let events = bench.store(&["a", "a"]).await;
    let handler = bench.handler().await;
    bench.finish_upto(handler, 2).await;
    bench.clock.advance(RETENTION + SECOND);
    bench.sweep().await;
    assert_eq!(bench.stored().await, NONE);
    bench
        .commit(
            handler,
            vec![
                retry(&events[0], BEGIN),
                wait(&events[1]),
                park(&events[1], BEGIN),
            ],
        )
        .await;
    assert_eq!(bench.counts(handler).await, (0, 0, 0));
    assert_eq!(bench.replay(handler, Selection::Event(1)).await, 0);
}
