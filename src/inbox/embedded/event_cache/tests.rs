#![allow(clippy::unwrap_used)]

use std::ops::RangeInclusive;

use css_callbacks::Timestamp;

use super::*;
use crate::inbox::contract::{authentic, push};

fn commit(cache: &EventCache, seqs: RangeInclusive<Seq>) {
    let stored: Vec<_> = seqs
        .map(|seq| {
            let body = push("room", seq);
            (seq, authentic("css", body.as_bytes(), Timestamp::default()))
        })
        .collect();
    cache.push(stored.iter().map(|(seq, stored)| (*seq, stored)));
}

fn after(cache: &EventCache, seq: Seq) -> Option<Vec<Seq>> {
    let events = cache.after(seq, usize::MAX, usize::MAX)?;
    Some(events.iter().map(Event::seq).collect())
}

#[test]
fn it_tells_only_what_it_holds_without_gaps() {
    let cache = EventCache::default();
    assert_eq!(after(&cache, 0), None);
    commit(&cache, 5..=7);
    commit(&cache, 8..=8);
    assert_eq!(after(&cache, 3), None, "4 is on disk");
    assert_eq!(after(&cache, 4), Some(vec![5, 6, 7, 8]));
    assert_eq!(after(&cache, 7), Some(vec![8]));
    for seq in [8, 9, Seq::MAX, Seq::MIN] {
        assert_eq!(after(&cache, seq), None);
    }
    let event = &cache.after(6, 1, 1).unwrap()[0];
    assert_eq!(event.body(), push("room", 7).as_bytes());
}

#[test]
fn it_begins_anew_behind_a_gap() {
    let cache = EventCache::default();
    commit(&cache, 1..=3);
    commit(&cache, 6..=7);
    assert_eq!(after(&cache, 2), None);
    assert_eq!(after(&cache, 5), Some(vec![6, 7]));
}

#[test]
fn pages_keep_their_limits() {
    let cache = EventCache::default();
    commit(&cache, 1..=5);
    let size = push("room", 1).len();
    let count = |limit, bytes| cache.after(0, limit, bytes).unwrap().len();
    assert_eq!(count(2, usize::MAX), 2);
    assert_eq!(count(10, 1), 1);
    assert_eq!(count(10, size), 1);
    assert_eq!(count(10, size + 1), 2);
}

#[test]
fn it_holds_so_many_and_so_much() {
    let cache = EventCache::default();
    commit(&cache, 1..=5000);
    assert_eq!(after(&cache, 5000 - EVENTS as Seq - 1), None);
    assert_eq!(after(&cache, 5000 - EVENTS as Seq).unwrap().len(), EVENTS);
    let long = format!(r#"{{"event_type":1,"x":"{}"}}"#, "x".repeat(BYTES / 4));
    let long = authentic("css", long.as_bytes(), Timestamp::default());
    cache.push((5001..=5005).map(|seq| (seq, &long)));
    assert_eq!(after(&cache, 5002), Some(vec![5003, 5004, 5005]));
    assert_eq!(after(&cache, 5001), None);
}

#[test]
fn what_retention_has_removed_is_forgotten() {
    let cache = EventCache::default();
    commit(&cache, 1..=4);
    cache.forget(2);
    assert_eq!(after(&cache, 1), None);
    assert_eq!(after(&cache, 2), Some(vec![3, 4]));
    cache.forget(9);
    commit(&cache, 10..=10);
    assert_eq!(after(&cache, 9), Some(vec![10]));
    assert_eq!(cache.held().bytes, push("room", 10).len());
}
