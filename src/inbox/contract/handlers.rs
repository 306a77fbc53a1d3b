//! Handlers and their positions.

use super::*;

pub(super) async fn now_begins_with_the_next_event(bench: Bench) {
    assert_eq!(bench.register(&["early"], Start::Now).await[0].position, 0);
    for n in 1..20 {
        bench.accept(&push("room", n)).await;
        let name = format!("at-{n}");
        assert_eq!(bench.register(&[&name], Start::Now).await[0].position, n);
    }
}

pub(super) async fn oldest_begins_at_the_begin(bench: Bench) {
    bench.store(&["a", "b"]).await;
    let registered = bench.register(&["x", "y"], Start::Oldest).await;
    assert_eq!(registered[0].position, 0);
    assert_eq!(registered[1].position, 0);
    assert_ne!(registered[0].id, registered[1].id);
}

pub(super) async fn a_position_survives(mut bench: Bench) {
    bench.store(&["a"; 5]).await;
    let first = bench.register(&["x", "y"], Start::Now).await;
    bench.store(&["a"; 5]).await;
    bench.finish_upto(first[1].id, 8).await;
    bench.reopen().await;
    // For a known name, neither the order nor the start matters.
    let again = bench.register(&["y", "x"], Start::Oldest).await;
    assert_eq!((again[1].id, again[1].position), (first[0].id, 5));
    assert_eq!((again[0].id, again[0].position), (first[1].id, 8));
}

pub(super) async fn a_position_never_goes_back(bench: Bench) {
    bench.store(&["a"; 5]).await;
    let handler = bench.handler().await;
    for (given, position) in [(3, 3), (2, 3), (0, 3), (4, 4)] {
        bench.finish_upto(handler, given).await;
        let registered = bench.register(&["one"], Start::Now).await;
        assert_eq!(registered[0].position, position);
    }
}

pub(super) async fn a_missing_handler_resumes(mut bench: Bench) {
    let events = bench.store(&["a", "b", "c"]).await;
    let away = bench.register(&["away"], Start::Oldest).await[0].id;
    bench.finish_upto(away, 2).await;
    bench.commit(away, vec![retry(&events[0], BEGIN)]).await;
    // While it is missing, the time counts from when it was last configured.
    for _ in 0..3 {
        bench.register(&["here"], Start::Now).await;
        bench.clock.advance(2 * DAY);
        bench.sweep().await;
        bench.reopen().await;
    }
    let back = &bench.register(&["away", "here"], Start::Now).await[0];
    assert_eq!((back.id, back.position), (away, 2));
    assert_eq!(bench.due(away).await, [1]);
    // It was configured again, so the time starts again.
    bench.register(&["here"], Start::Now).await;
    bench.clock.advance(6 * DAY);
    bench.sweep().await;
    let back = &bench.register(&["away"], Start::Now).await[0];
    assert_eq!((back.id, back.position), (away, 2));
}

pub(super) async fn a_forgotten_handler_begins_again(mut bench: Bench) {
    let events = bench.store(&["a", "b", "c"]).await;
    let old = bench.register(&["away", "here"], Start::Oldest).await;
    let (away, here) = (old[0].id, old[1].id);
    bench
        .commit(
            away,
            vec![retry(&events[0], BEGIN), park(&events[1], BEGIN)],
        )
        .await;
    bench.finish_upto(here, 3).await;
    bench.register(&["here"], Start::Now).await;
    bench.clock.advance(RETENTION + SECOND);
    bench.sweep().await;
    assert_eq!(bench.stored().await, NONE, "nothing holds them any more");
    bench.reopen().await;
    assert_eq!(bench.counts(away).await, (0, 0, 0));
    bench.store(&["d"]).await;
    let new = &bench.register(&["here", "away"], Start::Now).await[1];
    assert_ne!(new.id, away);
    assert_eq!(new.position, 4);
    assert_eq!(bench.counts(new.id).await, (0, 0, 0));
    assert!(bench.parked(new.id).await.is_empty());
}

pub(super) async fn blocked_lanes_are_reported(bench: Bench) {
    let events = bench.store(&["a", "a", "b", "c", "d", "d"]).await;
    let handler = bench.handler().await;
    let [a, a2, b, c, d, d2] = &events[..] else {
        panic!()
    };
    bench
        .commit(
            handler,
            vec![
                retry(a, FOREVER),
                wait(a2),
                retry(b, BEGIN),
                park(c, BEGIN),
                retry(d, BEGIN),
                wait(d2),
                park(d, BEGIN),
            ],
        )
        .await;
    bench.replay(handler, Selection::Event(c.seq())).await;
    let mut blocked = bench.register(&["one"], Start::Now).await[0]
        .blocked
        .clone();
    blocked.sort_unstable();
    let mut expected = vec![(a.lane(), 2), (b.lane(), 1), (d.lane(), 1)];
    expected.sort_unstable();
    assert_eq!(blocked, expected);
}

pub(super) async fn arrival_times_are_reported(bench: Bench) {
    assert_eq!(bench.inbox().received_from(1).await.unwrap(), None);
    bench.store(&["a"]).await;
    bench.clock.advance(DAY);
    bench.store(&["b"]).await;
    bench.clock.advance(RETENTION);
    bench.sweep().await;
    let from = async |seq| bench.inbox().received_from(seq).await.unwrap();
    assert_eq!(
        from(1).await,
        Some((2, BEGIN.plus(DAY))),
        "the first is gone"
    );
    assert_eq!(from(2).await, Some((2, BEGIN.plus(DAY))));
    assert_eq!(from(3).await, None);
}

pub(super) async fn a_pause_survives_and_stops_the_clock(mut bench: Bench) {
    let events = bench.store(&["a", "b", "c"]).await;
    let registered = bench.register(&["one", "other"], Start::Oldest).await;
    assert!(!registered[0].paused);
    let (one, other) = (registered[0].id, registered[1].id);
    for handler in [one, other] {
        bench
            .commit(
                handler,
                vec![retry(&events[0], BEGIN), park(&events[1], BEGIN)],
            )
            .await;
        bench.commit(handler, vec![wait(&events[2])]).await;
    }
    let firsts = async |bench: &Bench, handler| {
        let (owed, _) = bench
            .inbox()
            .due(handler, FOREVER, FOREVER, 10)
            .await
            .unwrap();
        owed.iter()
            .map(|owed| owed.attempts.first)
            .collect::<Vec<_>>()
    };
    let before = firsts(&bench, one).await;
    let pause = async |bench: &Bench, paused| {
        let now = bench.now();
        bench.inbox().pause(one, paused, now).await.unwrap();
    };
    pause(&bench, false).await;
    pause(&bench, true).await;
    bench.clock.advance(DAY);
    pause(&bench, true).await;
    bench.reopen().await;
    let registered = bench.register(&["one", "other"], Start::Oldest).await;
    assert_eq!((registered[0].paused, registered[1].paused), (true, false));
    bench.clock.advance(DAY);
    pause(&bench, false).await;
    pause(&bench, false).await;
    let resumed = bench.inbox().resume(one).await.unwrap();
    assert!(!resumed.paused);
    let later = |first: &Option<Timestamp>| first.map(|first| first.plus(2 * DAY));
    let expected: Vec<_> = before.iter().map(later).collect();
    assert!(expected.iter().any(Option::is_some));
    assert_eq!(firsts(&bench, one).await, expected);
    assert_eq!(firsts(&bench, other).await, before, "nobody else's");
    let parked = bench.parked(one).await[0].attempts.first;
    assert_eq!(parked, attempts(1).first, "parked ones have no age");
}
