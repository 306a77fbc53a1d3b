//! Searching for events.

use css_callbacks::Kind;

use super::*;
use crate::inbox::query::EventFilter;

/// All pages of a search, each of at most `limit`.
async fn pages(bench: &Bench, filter: &EventFilter, newest_first: bool, limit: usize) -> Vec<Seq> {
    let mut found = Vec::new();
    let mut beyond = None;
    loop {
        let page = bench
            .inbox()
            .search(filter.clone(), beyond, newest_first, limit)
            .await
            .unwrap();
        assert!(page.items.len() <= limit);
        assert!(page.items.iter().all(|event| filter.matches(event)));
        found.extend(seqs(&page.items));
        match page.next {
            Some(next) => beyond = Some(next),
            None => return found,
        }
    }
}

/// Searches in both orders and with pages of several lengths, which must all find the same.
async fn found(bench: &Bench, filter: EventFilter) -> Vec<Seq> {
    let found = pages(bench, &filter, false, 10_000).await;
    assert!(found.is_sorted());
    for limit in [2, found.len().max(1)] {
        assert_eq!(pages(bench, &filter, false, limit).await, found);
    }
    let mut back = pages(bench, &filter, true, 3).await;
    back.reverse();
    assert_eq!(back, found);
    found
}

pub(super) async fn both_orders_have_pages(bench: Bench) {
    let nothing = EventFilter::default();
    assert_eq!(found(&bench, nothing.clone()).await, NONE);
    bench.store(&["a"; 5]).await;
    assert_eq!(found(&bench, nothing.clone()).await, [1, 2, 3, 4, 5]);
    let page = async |beyond, newest_first| {
        let inbox = bench.inbox();
        let page = inbox
            .search(nothing.clone(), beyond, newest_first, 2)
            .await
            .unwrap();
        (seqs(&page.items), page.next)
    };
    assert_eq!(page(None, false).await, (vec![1, 2], Some(2)));
    assert_eq!(page(Some(2), false).await, (vec![3, 4], Some(4)));
    assert_eq!(page(Some(4), false).await, (vec![5], None));
    assert_eq!(page(None, true).await, (vec![5, 4], Some(4)));
    assert_eq!(page(Some(4), true).await, (vec![3, 2], Some(2)));
    assert_eq!(page(Some(2), true).await, (vec![1], None));
    assert_eq!(page(Some(3), true).await.0, [2, 1], "beyond any number");
}

pub(super) async fn kinds_and_sources_are_told_apart(bench: Bench) {
    for (source, body) in [
        ("css", r#"{"event_type":1}"#),
        ("css", r#"{"event_type":0}"#),
        ("other", r#"{"event_type":1}"#),
        ("other", r#"{"event_type":998}"#),
    ] {
        let callback = authentic(source, body.as_bytes(), bench.now());
        bench.inbox().accept(callback, None).await.unwrap();
    }
    let of = async |kind, source: Option<&str>| {
        let filter = EventFilter {
            kind,
            source: source.map(str::to_owned),
            ..EventFilter::default()
        };
        found(&bench, filter).await
    };
    assert_eq!(of(Some(Kind::StreamBegin), None).await, [1, 3]);
    assert_eq!(of(Some(Kind::Unknown), None).await, [4]);
    assert_eq!(of(Some(Kind::Record), None).await, NONE);
    assert_eq!(of(None, Some("css")).await, [1, 2]);
    assert_eq!(of(Some(Kind::StreamBegin), Some("other")).await, [3]);
    assert_eq!(of(None, Some("cs")).await, NONE);
}

pub(super) async fn streams_are_told_apart(bench: Bench) {
    for body in [
        r#"{"event_type":1,"app":"one.example","appname":"live","stream_id":"room"}"#,
        r#"{"event_type":1,"app":"two.example","appname":"live","stream_id":"room"}"#,
        r#"{"event_type":1,"app":"one.example","appname":"test","stream_id":"room"}"#,
        r#"{"event_type":1,"app":"one.example","stream_id":"live/room"}"#,
        r#"{"event_type":1,"app":"one.example"}"#,
        r#"{"event_type":338,"stream_id":"room"}"#,
        r#"{"event_type":314,"stream_id":"room","to_url":"rtmp://two.example/test/room"}"#,
    ] {
        bench.accept(body).await;
    }
    let of = async |domain: Option<&str>, stream: Option<&str>| {
        let filter = EventFilter {
            domain: domain.map(str::to_owned),
            stream: stream.map(str::to_owned),
            ..EventFilter::default()
        };
        found(&bench, filter).await
    };
    assert_eq!(of(None, Some("room")).await, [1, 2, 3, 6, 7]);
    assert_eq!(of(None, Some("live/room")).await, [1, 2, 4, 6]);
    assert_eq!(of(None, Some("test/room")).await, [3, 6, 7]);
    assert_eq!(of(None, Some("a/b/room")).await, [6]);
    assert_eq!(of(Some("two.example"), Some("test/room")).await, [7]);
    for none in ["/room", "live/oom", "room/", "live/room/", "x/om"] {
        assert_eq!(of(None, Some(none)).await, NONE, "{none}");
    }
    assert_eq!(of(Some("one.example"), Some("live/room")).await, [1, 4]);
    assert_eq!(of(Some("one.example"), None).await, [1, 3, 4, 5]);
    assert_eq!(of(None, Some("live")).await, NONE);
}

pub(super) async fn a_time_has_its_begin_but_not_its_end(bench: Bench) {
    for n in 0..6 {
        bench.accept(&push("room", n)).await;
        bench.clock.advance(SECOND);
    }
    let at = |seconds: u32| BEGIN.plus(SECOND * seconds);
    let between = async |from, to| {
        let filter = EventFilter {
            from,
            to,
            ..EventFilter::default()
        };
        found(&bench, filter).await
    };
    assert_eq!(between(Some(at(1)), Some(at(3))).await, [2, 3]);
    assert_eq!(
        between(Some(at(1).plus(MILLISECOND)), None).await,
        [3, 4, 5, 6]
    );
    assert_eq!(between(None, Some(at(1).plus(MILLISECOND))).await, [1, 2]);
    assert_eq!(between(Some(at(3)), Some(at(3))).await, NONE);
    assert_eq!(between(Some(at(9)), None).await, NONE);
}

pub(super) async fn everything_is_found_by_its_id(mut bench: Bench) {
    bench.store_many(2500).await;
    let events = bench.all_after(0).await;
    let none = bench.callback("{}").id();
    for _ in 0..2 {
        for event in events.iter().step_by(61).chain(events.last()) {
            let found = bench.inbox().find(event.id()).await.unwrap().unwrap();
            assert_eq!(found.seq(), event.seq());
            assert_eq!(found.body(), event.body());
        }
        assert!(bench.inbox().find(none).await.unwrap().is_none());
        bench.reopen().await;
    }
}

pub(super) async fn an_id_leads_to_its_newest_event(bench: Bench) {
    let id = bench.callback(&push("room", 1)).id();
    for _ in 0..3 {
        let seq = bench.accept(&push("room", 1)).await.seq();
        assert_eq!(bench.inbox().find(id).await.unwrap().unwrap().seq(), seq);
        bench.store_many(900).await;
        assert_eq!(bench.inbox().find(id).await.unwrap().unwrap().seq(), seq);
        bench.clock.advance(WINDOW);
    }
}

/// So many events that an engine skips those outside the time.
pub(super) async fn a_time_is_found_among_many_events(bench: Bench) {
    for _ in 0..5 {
        bench.store_many(900).await;
        bench.clock.advance(MINUTE);
    }
    // A late callback has a high number and an early time.
    let early = BEGIN.plus(MINUTE).plus(SECOND);
    let late = authentic("css", b"{}", early);
    bench.inbox().accept_late(late).await.unwrap();
    bench.store_many(900).await;
    let all = bench.all_after(0).await;
    for (from, to) in [(0, 1), (1, 2), (1, 3), (3, 9), (5, 6), (0, 9), (8, 9)] {
        let (from, to) = (BEGIN.plus(MINUTE * from), BEGIN.plus(MINUTE * to));
        let filter = EventFilter {
            from: Some(from),
            to: Some(to),
            ..EventFilter::default()
        };
        let expected: Vec<_> = all
            .iter()
            .filter(|event| (from..to).contains(&event.received()))
            .map(Event::seq)
            .collect();
        for (newest_first, limit) in [(false, 400), (true, 400), (false, 10_000)] {
            let mut found = pages(&bench, &filter, newest_first, limit).await;
            found.sort_unstable();
            assert_eq!(found, expected);
        }
    }
}
