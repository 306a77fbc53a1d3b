//! Parked deliveries: pages, replay and discard.

use super::*;
use crate::inbox::delivery::replay_lane;
use crate::inbox::query::{EventFilter, Page};

/// Parks all these events for the one handler.
async fn all_parked(bench: &Bench, events: &[Event]) -> HandlerId {
    let handler = bench.handler().await;
    let parks = events.iter().map(|event| park(event, bench.now()));
    bench.commit(handler, parks.collect()).await;
    handler
}

fn done_replaying(event: &Event) -> DeliveryChange {
    DeliveryChange::Done {
        seq: event.seq(),
        lane: replay_lane(event.lane()),
    }
}

pub(super) async fn parked_ones_come_in_pages(bench: Bench) {
    let events = bench.store(&["a"; 7]).await;
    let handler = all_parked(&bench, &events).await;
    bench.commit(handler, vec![done(&events[3])]).await;
    let filter = EventFilter::default();
    let pages = async |newest_first| {
        let mut pages: Vec<Vec<Seq>> = Vec::new();
        let mut beyond = None;
        loop {
            let inbox = bench.inbox();
            let page = inbox.parked(handler, beyond, newest_first, 2).await;
            let searched = inbox.search_parked(handler, &filter, beyond, newest_first, 2);
            let (page, searched) = (page.unwrap(), searched.await.unwrap());
            let seqs = |page: &Page<Parked>| -> Vec<Seq> {
                page.items.iter().map(|parked| parked.event.seq()).collect()
            };
            assert_eq!((seqs(&page), page.next), (seqs(&searched), searched.next));
            pages.push(seqs(&page));
            beyond = page.next;
            if beyond.is_none() {
                return pages;
            }
        }
    };
    assert_eq!(pages(false).await, [vec![1, 2], vec![3, 5], vec![6, 7]]);
    assert_eq!(pages(true).await, [vec![7, 6], vec![5, 3], vec![2, 1]]);
}

pub(super) async fn one_event_is_replayed(bench: Bench) {
    let events = bench.store(&["a", "b"]).await;
    let handler = bench.handler().await;
    bench.finish_upto(handler, 2).await;
    assert_eq!(bench.replay(handler, Selection::Event(2)).await, 1);
    assert_eq!(bench.due(handler).await, [2]);
    assert_eq!(bench.replay(handler, Selection::Event(2)).await, 1, "due");
    assert_eq!(bench.due(handler).await, [2]);
    assert_eq!(bench.replay(handler, Selection::Event(3)).await, 0, "none");
    bench
        .commit(handler, vec![done_replaying(&events[1])])
        .await;
    assert_eq!(bench.counts(handler).await, (0, 0, 0));
    let unwanted = bench
        .replay_if(handler, Selection::Event(1), |_| false, |_| InHand::Nothing)
        .await;
    assert_eq!(unwanted, 0);
}

pub(super) async fn parked_ones_are_replayed(bench: Bench) {
    let events = bench.store(&["a", "b", "a", "c", "d"]).await;
    let handler = all_parked(&bench, &events[..4]).await;
    let wants = |event: &Event| event.attributes().streamid.as_deref() != Some("c");
    let replayed = bench
        .replay_if(handler, Selection::Parked, wants, |_| InHand::Nothing)
        .await;
    assert_eq!(replayed, 3);
    let (owed, _) = bench
        .inbox()
        .due(handler, BEGIN, FOREVER, 10)
        .await
        .unwrap();
    assert!(
        owed.iter()
            .all(|owed| owed.attempts.count == 0 && owed.attempts.first.is_none())
    );
    assert_eq!(bench.due(handler).await, [1, 2]);
    assert_eq!(bench.counts(handler).await, (2, 1, 4));
    assert_eq!(
        bench.replay(handler, Selection::Parked).await,
        4,
        "the rest, and those that are not done"
    );
    assert_eq!(bench.counts(handler).await, (3, 1, 4));
}

pub(super) async fn a_time_is_replayed(bench: Bench) {
    let mut events = Vec::new();
    for stream in ["a", "b", "c", "d", "e"] {
        events.extend(bench.store(&[stream]).await);
        bench.clock.advance(MINUTE);
    }
    let handler = bench.handler().await;
    bench.park(handler, &events[2]).await;
    let range = Selection::Range(BEGIN.plus(MINUTE), BEGIN.plus(4 * MINUTE));
    let wants = |event: &Event| event.attributes().streamid.as_deref() != Some("b");
    let replayed = bench
        .replay_if(handler, range, wants, |_| InHand::Nothing)
        .await;
    assert_eq!(replayed, 2);
    assert_eq!(bench.due(handler).await, [3, 4]);
    let nothing = Selection::Range(BEGIN.plus(MINUTE), BEGIN.plus(MINUTE));
    assert_eq!(bench.replay(handler, nothing).await, 0);
}

pub(super) async fn an_owed_delivery_is_not_doubled(bench: Bench) {
    let events = bench.store(&["a", "a", "b", "c", "d"]).await;
    let handler = bench.handler().await;
    bench
        .commit(handler, vec![retry(&events[0], FOREVER), wait(&events[1])])
        .await;
    let in_hand = |seq| match seq {
        3 => InHand::InProgress,
        4 => InHand::Owed,
        _ => InHand::Nothing,
    };
    let all = Selection::Range(BEGIN, FOREVER);
    let replayed = bench.replay_if(handler, all, |_| true, in_hand).await;
    assert_eq!(replayed, 4, "all but the one that comes by itself");
    assert_eq!(bench.counts(handler).await, (2, 1, 0));
    let one = bench.replay_if(handler, Selection::Event(3), |_| true, in_hand);
    assert_eq!(one.await, 0);
    let (owed, _) = bench.inbox().due(handler, BEGIN, FOREVER, 9).await.unwrap();
    assert_eq!(owed.len(), 2);
    let first = owed.iter().find(|owed| owed.event.seq() == 1).unwrap();
    assert_eq!(
        (first.lane, &first.attempts),
        (events[0].lane(), &attempts(1))
    );
}

pub(super) async fn a_replay_makes_an_owed_delivery_due_now(bench: Bench) {
    let events = bench.store(&["a", "a", "b"]).await;
    let handler = bench.handler().await;
    let due = async || {
        let due = bench.inbox().due(handler, BEGIN, FOREVER, 9).await;
        let (owed, next) = due.unwrap();
        let owed: Vec<_> = owed.iter().map(|owed| owed.event.seq()).collect();
        (owed, next)
    };
    for seq in [1, 2] {
        let later = BEGIN.plus(DAY);
        let changes = vec![
            retry(&events[0], later),
            wait(&events[1]),
            retry(&events[2], later),
        ];
        bench.commit(handler, changes).await;
        assert_eq!(due().await, (vec![], Some(later)));
        assert_eq!(bench.replay(handler, Selection::Event(seq)).await, 1);
        let expected = (vec![1], Some(later));
        assert_eq!(due().await, expected, "the head of its lane, and no other");
    }
    // A replay that waits for its next attempt becomes due, too.
    bench.park(handler, &events[2]).await;
    bench.replay(handler, Selection::Parked).await;
    let again = DeliveryChange::Retry {
        seq: 3,
        lane: replay_lane(events[2].lane()),
        attempts: attempts(1),
        due: BEGIN.plus(DAY),
    };
    bench.commit(handler, vec![again]).await;
    assert_eq!(due().await.0, [1]);
    assert_eq!(bench.replay(handler, Selection::Parked).await, 1);
    assert_eq!(due().await, (vec![1, 3], None));
}

pub(super) async fn replays_have_a_lane_of_their_own(bench: Bench) {
    let events = bench.store(&["a"; 5]).await;
    let handler = bench.handler().await;
    bench
        .commit(
            handler,
            vec![
                park(&events[0], BEGIN),
                park(&events[1], BEGIN),
                retry(&events[3], BEGIN),
                wait(&events[4]),
            ],
        )
        .await;
    bench.replay(handler, Selection::Event(2)).await;
    bench.replay(handler, Selection::Event(1)).await;
    let (owed, _) = bench.inbox().due(handler, BEGIN, FOREVER, 9).await.unwrap();
    let mut heads: Vec<_> = owed
        .iter()
        .map(|owed| (owed.event.seq(), owed.lane))
        .collect();
    heads.sort_unstable();
    let lane = events[0].lane();
    assert_eq!(heads, [(2, replay_lane(lane)), (4, lane)]);
    bench
        .commit(handler, vec![done_replaying(&events[1])])
        .await;
    let mut due = bench.due(handler).await;
    due.sort_unstable();
    assert_eq!(due, [1, 4]);
}

pub(super) async fn a_replay_stays_listed_until_it_is_done(mut bench: Bench) {
    let events = bench.store(&["a"]).await;
    let handler = all_parked(&bench, &events).await;
    bench.replay(handler, Selection::Parked).await;
    for _ in 0..2 {
        let parked = bench.parked(handler).await;
        assert_eq!((parked.len(), parked[0].replaying), (1, true));
        assert_eq!(bench.counts(handler).await, (1, 0, 1));
        // Another failed attempt changes nothing.
        let again = DeliveryChange::Retry {
            seq: 1,
            lane: replay_lane(events[0].lane()),
            attempts: attempts(1),
            due: BEGIN,
        };
        bench.commit(handler, vec![again]).await;
        bench.reopen().await;
    }
    bench
        .commit(handler, vec![done_replaying(&events[0])])
        .await;
    assert!(bench.parked(handler).await.is_empty());
    assert_eq!(bench.counts(handler).await, (0, 0, 0));
}

pub(super) async fn a_replay_may_be_parked_again(bench: Bench) {
    let events = bench.store(&["a", "a"]).await;
    let handler = all_parked(&bench, &events).await;
    bench.replay(handler, Selection::Parked).await;
    bench.clock.advance(DAY);
    let again = DeliveryChange::Park {
        seq: 1,
        lane: replay_lane(events[0].lane()),
        attempts: attempts(9),
        at: bench.now(),
    };
    bench.commit(handler, vec![again]).await;
    assert_eq!(bench.due(handler).await, [2], "the next one of its lane");
    let parked = bench.parked(handler).await;
    assert_eq!(
        (parked[0].at, parked[0].replaying),
        (BEGIN.plus(DAY), false)
    );
    assert_eq!(parked[0].attempts, attempts(9));
    assert_eq!((parked[1].at, parked[1].replaying), (BEGIN, true));
    assert_eq!(bench.replay(handler, Selection::Parked).await, 2);
}

pub(super) async fn replays_are_counted(mut bench: Bench) {
    let events = bench.store(&["a", "a", "a", "b", "c", "d", "d"]).await;
    let handler = all_parked(&bench, &events[..4]).await;
    bench
        .commit(handler, vec![retry(&events[5], BEGIN), wait(&events[6])])
        .await;
    let other = bench.register(&["one", "other"], Start::Oldest).await[1].id;
    bench.replay(other, Selection::Event(1)).await;
    let replaying = async |bench: &Bench| {
        let counts = bench.inbox().count(handler).await.unwrap();
        assert!(counts.replaying <= counts.due + counts.waiting);
        counts.replaying
    };
    assert_eq!(
        replaying(&bench).await,
        0,
        "neither what is parked nor what is late"
    );
    bench.replay(handler, Selection::Parked).await;
    bench.replay(handler, Selection::Event(5)).await;
    for _ in 0..2 {
        assert_eq!(replaying(&bench).await, 5);
        assert_eq!(bench.counts(handler).await, (4, 3, 4));
        bench.reopen().await;
    }
    let (seq, lane) = (1, replay_lane(events[0].lane()));
    let again = DeliveryChange::Retry {
        seq,
        lane,
        attempts: attempts(1),
        due: FOREVER,
    };
    bench.commit(handler, vec![again]).await;
    assert_eq!(replaying(&bench).await, 5, "it is tried once more");
    let given_up = DeliveryChange::Park {
        seq,
        lane,
        attempts: attempts(2),
        at: BEGIN,
    };
    bench.commit(handler, vec![given_up]).await;
    assert_eq!(replaying(&bench).await, 4, "parked again");
    for (done, left) in [(1, 3), (3, 2), (4, 1)] {
        let done = done_replaying(&events[done]);
        bench.commit(handler, vec![done]).await;
        assert_eq!(replaying(&bench).await, left);
    }
    bench.discard(handler, Selection::Event(3)).await;
    assert_eq!(replaying(&bench).await, 0);
    assert_eq!(bench.counts(handler).await, (1, 1, 1));
}

pub(super) async fn one_event_is_discarded(bench: Bench) {
    let events = bench.store(&["a", "b", "b"]).await;
    let handler = bench.handler().await;
    let [a, b, b2] = &events[..] else { panic!() };
    bench
        .commit(handler, vec![park(a, BEGIN), retry(b, BEGIN), wait(b2)])
        .await;
    let discard = async |seq| bench.discard(handler, Selection::Event(seq)).await;
    assert_eq!(discard(1).await, (1, vec![]));
    assert_eq!(discard(1).await, (0, vec![]));
    assert_eq!(discard(3).await, (1, vec![b2.lane()]), "a waiting one");
    assert_eq!(bench.due(handler).await, [2]);
    assert_eq!(discard(2).await, (1, vec![b.lane()]));
    assert_eq!(bench.counts(handler).await, (0, 0, 0));
}

pub(super) async fn parked_ones_are_discarded(bench: Bench) {
    let events = bench.store(&["a", "b", "c", "d"]).await;
    let handler = all_parked(&bench, &events[..3]).await;
    bench.commit(handler, vec![retry(&events[3], BEGIN)]).await;
    bench.replay(handler, Selection::Event(1)).await;
    let lane = replay_lane(events[0].lane());
    let discarded = bench.discard(handler, Selection::Parked).await;
    assert_eq!(discarded, (3, vec![lane]), "also the one that is replayed");
    assert_eq!(bench.due(handler).await, [4]);
}

pub(super) async fn a_time_is_discarded(bench: Bench) {
    let mut events = Vec::new();
    for stream in ["a", "b", "c", "d"] {
        events.extend(bench.store(&[stream]).await);
        bench.clock.advance(MINUTE);
    }
    let handler = all_parked(&bench, &events[..3]).await;
    bench.commit(handler, vec![retry(&events[3], BEGIN)]).await;
    let range = Selection::Range(BEGIN.plus(MINUTE), FOREVER);
    assert_eq!(bench.discard(handler, range).await, (2, vec![]));
    assert_eq!(bench.parked_seqs(handler).await, [1]);
    assert_eq!(bench.due(handler).await, [4], "only parked ones");
}

pub(super) async fn a_discarded_head_frees_its_lane(bench: Bench) {
    let events = bench.store(&["a"; 3]).await;
    let handler = bench.handler().await;
    bench
        .commit(
            handler,
            vec![
                retry(&events[0], FOREVER),
                wait(&events[1]),
                wait(&events[2]),
            ],
        )
        .await;
    bench.discard(handler, Selection::Event(1)).await;
    let (owed, _) = bench.inbox().due(handler, BEGIN, FOREVER, 9).await.unwrap();
    assert_eq!(owed.len(), 1);
    assert_eq!(owed[0].event.seq(), 2);
    // The attempt that ran during the discard ends later.
    bench.commit(handler, vec![done(&events[0])]).await;
    assert_eq!(bench.due(handler).await, [2]);
    assert_eq!(bench.counts(handler).await, (1, 1, 0));
}

/// More than one chunk.
pub(super) async fn thousands_are_replayed_and_discarded(bench: Bench) {
    bench.store_many(1100).await;
    let events = bench.all_after(0).await;
    let handler = all_parked(&bench, &events).await;
    assert_eq!(bench.replay(handler, Selection::Parked).await, 1100);
    assert_eq!(bench.counts(handler).await, (1, 1099, 1100));
    let (discarded, lanes) = bench.discard(handler, Selection::Parked).await;
    assert_eq!((discarded, lanes.len()), (1100, 1100));
    assert_eq!(bench.counts(handler).await, (0, 0, 0));
    let all = Selection::Range(BEGIN, FOREVER);
    assert_eq!(bench.replay(handler, all).await, 1100);
    assert_eq!(bench.due(handler).await, [1]);
}
