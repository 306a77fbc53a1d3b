//! Storing callbacks.

use css_callbacks::Kind;

use super::*;
use crate::budget::Budget;
use crate::inbox::StoreError;

pub(super) async fn numbers_follow_arrival(bench: Bench) {
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let (inbox, body) = (bench.inbox().clone(), push("room", n));
            let callback = bench.callback(&body);
            tokio::spawn(async move { (inbox.accept(callback, None).await.unwrap(), body) })
        })
        .collect();
    let mut receipts = Vec::new();
    for task in tasks {
        let (receipt, body) = task.await.unwrap();
        assert!(!receipt.is_duplicate());
        receipts.push((receipt.seq(), body));
    }
    receipts.sort();
    let events = bench.all_after(0).await;
    assert_eq!(seqs(&events), (1..=200).collect::<Vec<_>>());
    for ((seq, body), event) in receipts.iter().zip(&events) {
        assert_eq!((*seq, body.as_bytes()), (event.seq(), &event.body()[..]));
    }
    for n in 201..210 {
        assert_eq!(bench.accept(&push("room", n)).await.seq(), n);
    }
}

pub(super) async fn bytes_are_kept_as_they_came(mut bench: Bench) {
    let bodies: [&[u8]; 4] = [
        b" {\"event_type\" : 0, \"a\":1, \"a\":\"\xFF\\ud800\"} ",
        b"{\"event_type\":999}",
        b"{}",
        b"{\"event_type\":344,\"average_score\":1}",
    ];
    let kinds = [
        Kind::StreamEnd,
        Kind::Unknown,
        Kind::Unknown,
        Kind::AssessmentAverage,
    ];
    let mut ids = Vec::new();
    for body in bodies {
        let callback = authentic("other", body, bench.now());
        ids.push(callback.id());
        bench.inbox().accept(callback, None).await.unwrap();
        bench.clock.advance(MILLISECOND);
    }
    bench.reopen().await;
    let events = bench.all_after(0).await;
    assert_eq!(events.len(), 4);
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event.body(), bodies[n]);
        assert_eq!(event.kind(), kinds[n]);
        assert_eq!(event.id(), ids[n]);
        assert_eq!(&**event.source(), "other");
        assert_eq!(event.received(), BEGIN.plus(MILLISECOND * n as u32));
    }
}

pub(super) async fn pages_keep_their_limits(bench: Bench) {
    let events = bench.store(&["a"; 5]).await;
    let size = events[0].body().len();
    let after =
        async |seq, limit, bytes| seqs(&bench.inbox().after(seq, limit, bytes).await.unwrap());
    assert_eq!(after(0, 2, usize::MAX).await, [1, 2]);
    assert_eq!(after(3, 10, usize::MAX).await, [4, 5]);
    assert_eq!(after(0, 10, 1).await, [1]);
    assert_eq!(after(0, 10, size + 1).await, [1, 2]);
    assert_eq!(after(5, 10, usize::MAX).await, NONE);
}

/// Readers read new and old events, near and far behind the newest one.
pub(super) async fn readers_miss_nothing(bench: Bench) {
    bench.handler().await;
    let readers: Vec<_> = [1, 7, 100]
        .map(|limit| {
            let inbox = bench.inbox().clone();
            tokio::spawn(async move {
                let mut committed = inbox.committed();
                let mut read: Vec<Event> = Vec::new();
                while read.len() < 6000 {
                    let after = read.len() as Seq;
                    while *committed.borrow_and_update() <= after {
                        committed.changed().await.unwrap();
                    }
                    let events = inbox.after(after, limit, usize::MAX).await.unwrap();
                    assert!(!events.is_empty(), "word came before its event");
                    read.extend(events);
                }
                read
            })
        })
        .into_iter()
        .collect();
    for _ in 0..12 {
        bench.store_many(500).await;
    }
    let stored = bench.all_after(0).await;
    for reader in readers {
        let read = reader.await.unwrap();
        assert_eq!(seqs(&read), (1..=6000).collect::<Vec<_>>());
        for (read, stored) in read.iter().zip(&stored) {
            assert_eq!(read.id(), stored.id());
            assert_eq!(read.body(), stored.body());
            assert_eq!(read.kind(), stored.kind());
            assert_eq!(read.received(), stored.received());
        }
    }
}

pub(super) async fn one_of_many_at_once_is_stored(bench: Bench) {
    let tasks: Vec<_> = (0..300)
        .map(|n| {
            let (inbox, callback) = (bench.inbox().clone(), bench.callback(&push("room", n % 3)));
            tokio::spawn(async move { (n % 3, inbox.accept(callback, None).await.unwrap()) })
        })
        .collect();
    let mut stored = [None; 3];
    let mut receipts = Vec::new();
    for task in tasks {
        let (which, receipt) = task.await.unwrap();
        if !receipt.is_duplicate() {
            assert_eq!(stored[which as usize].replace(receipt.seq()), None);
        }
        receipts.push((which, receipt));
    }
    for (which, receipt) in receipts {
        assert_eq!(Some(receipt.seq()), stored[which as usize]);
    }
    assert_eq!(bench.stored().await, [1, 2, 3]);
}

pub(super) async fn a_repeat_gets_the_first_receipt(mut bench: Bench) {
    bench.store(&["other"]).await;
    let first = bench.accept(&push("room", 7)).await;
    assert_eq!((first.seq(), first.is_duplicate()), (2, false));
    bench.store(&["other"]).await;
    for _ in 0..2 {
        let again = bench.accept(&push("room", 7)).await;
        assert_eq!((again.seq(), again.is_duplicate()), (2, true));
        bench.reopen().await;
    }
    assert_eq!(bench.stored().await, [1, 2, 3]);
}

pub(super) async fn the_window_has_an_exact_end(mut bench: Bench) {
    bench.accept(&push("room", 1)).await;
    bench.accept(&push("room", 2)).await;
    bench.clock.advance(WINDOW - MILLISECOND);
    assert!(bench.accept(&push("room", 1)).await.is_duplicate());
    bench.reopen().await;
    assert!(bench.accept(&push("room", 1)).await.is_duplicate());
    bench.clock.advance(MILLISECOND);
    let again = bench.accept(&push("room", 1)).await;
    assert_eq!((again.seq(), again.is_duplicate()), (3, false));
    bench.reopen().await;
    let again = bench.accept(&push("room", 2)).await;
    assert_eq!((again.seq(), again.is_duplicate()), (4, false));
}

pub(super) async fn an_event_that_is_stored_again_begins_a_new_window(mut bench: Bench) {
    for round in 1..=4 {
        let stored = bench.accept(&push("room", 1)).await;
        assert_eq!((stored.seq(), stored.is_duplicate()), (round, false));
        bench.clock.advance(WINDOW - MILLISECOND);
        if round % 2 == 0 {
            bench.reopen().await;
        }
        let repeated = bench.accept(&push("room", 1)).await;
        assert_eq!((repeated.seq(), repeated.is_duplicate()), (round, true));
        bench.clock.advance(MILLISECOND);
    }
}

pub(super) async fn an_event_stored_in_the_far_future_hides_no_repeat(mut bench: Bench) {
    let set = |bench: &Bench, minutes: i64| bench.clock.set_by(minutes * 60_000);
    // The clock is set back by less than the window: nothing is stored twice.
    bench.accept(&push("room", 1)).await;
    set(&bench, -20);
    assert!(bench.accept(&push("room", 1)).await.is_duplicate());
    // By more than the window: if the stored time counted, repeats would be lost for years.
    set(&bench, 60 * 24 * 365 * 50);
    assert_eq!(bench.accept(&push("room", 2)).await.seq(), 2);
    set(&bench, -60 * 24 * 365 * 50);
    for seq in 3..5 {
        let again = bench.accept(&push("room", 2)).await;
        assert_eq!((again.seq(), again.is_duplicate()), (seq, false));
        let repeated = bench.accept(&push("room", 2)).await;
        assert_eq!((repeated.seq(), repeated.is_duplicate()), (seq, true));
        bench.reopen().await;
        assert!(bench.accept(&push("room", 2)).await.is_duplicate());
        bench.clock.advance(WINDOW);
    }
}

pub(super) async fn only_signature_and_time_may_differ(bench: Bench) {
    let same = [
        r#"{"event_type":317,"img":"a","t":1,"sign":"x","sendTime":1}"#,
        r#"{"sign":"y","event_type":317,"t":"2","img":"a","sendTime":2}"#,
        r#"{ "event_type":317, "img":"a" }"#,
    ];
    let others = [
        r#"{"event_type":317,"img":"b","t":1,"sign":"x"}"#,
        r#"{"event_type":1,"img":"a","t":1,"sign":"x"}"#,
    ];
    for body in same {
        assert_eq!(bench.accept(body).await.seq(), 1, "{body}");
    }
    for body in others {
        assert!(!bench.accept(body).await.is_duplicate(), "{body}");
    }
    let elsewhere = authentic("other", same[0].as_bytes(), bench.now());
    let receipt = bench.inbox().accept(elsewhere, None).await.unwrap();
    assert!(!receipt.is_duplicate());
}

pub(super) async fn a_duplicate_leads_to_its_event(bench: Bench) {
    bench.handler().await;
    for n in 0..20 {
        bench.accept(&push("room", n)).await;
        for m in 0..=n {
            let receipt = bench.accept(&push("room", m)).await;
            let event = &bench.all_after(receipt.seq() - 1).await[0];
            assert_eq!(event.seq(), receipt.seq());
            assert_eq!(event.body(), push("room", m).as_bytes());
        }
    }
    assert_eq!(bench.stored().await.len(), 20);
}

/// More events than an engine keeps in memory.
pub(super) async fn many_are_remembered(mut bench: Bench) {
    bench.store_many(6000).await;
    for _ in 0..2 {
        for event in bench.all_after(0).await.iter().step_by(97) {
            let callback = authentic("css", event.body(), bench.now());
            let receipt = bench.inbox().accept(callback, None).await.unwrap();
            assert_eq!((receipt.seq(), receipt.is_duplicate()), (event.seq(), true));
        }
        bench.reopen().await;
    }
    bench.clock.advance(WINDOW);
    let early = bench.accept(&push("many", 5)).await;
    assert!(!early.is_duplicate());
}

pub(super) async fn a_late_callback_is_stored_unless_it_was_stored_before(mut bench: Bench) {
    bench.accept(&push("room", 1)).await;
    bench.clock.advance(3 * WINDOW);
    for _ in 0..2 {
        let late = |n, at| authentic("css", push("room", n).as_bytes(), at);
        let known = bench.inbox().accept_late(late(1, BEGIN)).await.unwrap();
        assert_eq!((known.seq(), known.is_duplicate()), (1, true));
        let new = bench
            .inbox()
            .accept_late(late(2, BEGIN.plus(SECOND)))
            .await
            .unwrap();
        assert_eq!(new.seq(), 2);
        bench.clock.advance(WINDOW);
        bench.reopen().await;
    }
    let events = bench.all_after(0).await;
    assert_eq!(seqs(&events), [1, 2]);
    assert_eq!(events[1].received(), BEGIN.plus(SECOND));
}

pub(super) async fn a_cancelled_accept_may_be_repeated(bench: Bench) {
    for n in 0..50 {
        let accept = bench.inbox().accept(bench.callback(&push("room", n)), None);
        if n % 2 == 0 {
            // The future is polled once, then dropped.
            tokio::select! {
                biased;
                receipt = accept => assert!(!receipt.unwrap().is_duplicate()),
                () = std::future::ready(()) => {}
            }
        } else {
            drop(accept);
        }
    }
    for n in 0..50 {
        bench.accept(&push("room", n)).await;
    }
    let mut bodies: Vec<_> = bench.all_after(0).await;
    assert_eq!(bodies.len(), 50);
    bodies.sort_by(|a, b| a.body().cmp(b.body()));
    bodies.dedup_by(|a, b| a.body() == b.body());
    assert_eq!(bodies.len(), 50);
}

pub(super) async fn closing_finishes_what_was_begun(mut bench: Bench) {
    let tasks: Vec<_> = (0..500)
        .map(|n| {
            let (inbox, callback) = (bench.inbox().clone(), bench.callback(&push("room", n)));
            tokio::spawn(async move { inbox.accept(callback, None).await })
        })
        .collect();
    bench.reopen().await;
    let mut acknowledged = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(receipt) => acknowledged.push(receipt.seq()),
            Err(error) => assert_eq!(error, StoreError::Failed),
        }
    }
    let stored = bench.stored().await;
    acknowledged.sort_unstable();
    assert_eq!(acknowledged, stored);
}

pub(super) async fn a_closed_inbox_fails(bench: Bench) {
    let handler = bench.handler().await;
    bench.store(&["a"]).await;
    bench.inbox().close().await;
    bench.inbox().close().await;
    let inbox = bench.inbox();
    let failed = StoreError::Failed;
    let accepted = inbox.accept(bench.callback("{}"), None).await;
    assert_eq!(accepted.unwrap_err(), failed);
    assert_eq!(inbox.after(0, 1, 1).await.unwrap_err(), failed);
    assert_eq!(inbox.count(handler).await.unwrap_err(), failed);
    assert_eq!(inbox.sweep().await.unwrap_err(), failed);
    assert_eq!(inbox.condition(), crate::inbox::Condition::Failing);
}

pub(super) async fn the_budget_is_given_back(bench: Bench) {
    let budget = Budget::new(100);
    for _ in 0..3 {
        let charge = budget.charge(100);
        assert!(charge.is_some());
        let callback = bench.callback(&push("room", 1));
        bench.inbox().accept(callback, charge).await.unwrap();
    }
    assert!(budget.charge(100).is_some());
}

pub(super) async fn new_events_are_announced(mut bench: Bench) {
    let mut committed = bench.inbox().committed();
    assert_eq!(*committed.borrow_and_update(), 0);
    for n in 1..50 {
        let receipt = bench.accept(&push("room", n)).await;
        assert!(committed.has_changed().unwrap());
        assert_eq!(*committed.borrow_and_update(), receipt.seq());
    }
    bench.accept(&push("room", 1)).await;
    bench.handler().await;
    assert!(!committed.has_changed().unwrap());
    bench.reopen().await;
    assert_eq!(*bench.inbox().committed().borrow(), 49);
    assert!(committed.changed().await.is_err());
}
