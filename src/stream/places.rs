//! Where the events of a stream are in the inbox, and what its page shows of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use css_callbacks::{Kind, Timestamp};

use super::rule::Fact;
use crate::event::Seq;

/// The kinds of which the detail of a stream shows the newest events, and how many of each.
pub(crate) const NOTABLE: [(Kind, i64); 5] = [
    (Kind::Snapshot, 1),
    (Kind::Record, 100),
    (Kind::RecordStatus, 200),
    (Kind::ImageAudit, 20),
    (Kind::AudioAudit, 20),
];

/// An event of a stream: its number, and what the board needs to know without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub seq: Seq,
    pub kind: Kind,
    pub at: Timestamp,
    pub received: Timestamp,
    /// Set for a push exception. Most places are of other kinds, so it is boxed.
    pub exception: Option<Box<Exception>>,
}

/// The push that had an exception, and the begin of the event's id: one event may be stored twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exception {
    pub sequence: Option<String>,
    pub id: u64,
}

impl Place {
    pub(crate) fn of(fact: &Fact) -> Self {
        let exception = (fact.kind == Kind::PushException).then(|| {
            let (id, _) = fact.id.as_bytes().split_at(8);
            Box::new(Exception {
                sequence: fact.sequence.clone(),
                id: id.iter().fold(0, |id, byte| id << 8 | u64::from(*byte)),
            })
        });
        Self {
            seq: fact.seq,
            kind: fact.kind,
            at: fact.at,
            received: fact.received,
            exception,
        }
    }
}

/// A part of the timeline, the latest first: up to `limit` events before the event `before`.
pub(crate) fn page(places: &[Place], before: Option<Seq>, limit: usize) -> Vec<Seq> {
    let order = |place: &Place| (place.at, place.seq);
    let before = before.and_then(|seq| places.iter().find(|place| place.seq == seq));
    let before = before.map(order);
    let places = places.iter().map(order);
    newest(
        places.filter(|order| before.is_none_or(|before| *order < before)),
        limit,
    )
}

/// The newest events of the kinds in [`NOTABLE`].
pub(crate) fn notable(places: &[Place]) -> Vec<Seq> {
    let of_kind = |kind: Kind| {
        let places = places.iter().filter(move |place| place.kind == kind);
        places.map(|place| (place.at, place.seq))
    };
    let newest = |(kind, number)| newest(of_kind(kind), usize::try_from(number).unwrap_or(0));
    NOTABLE.into_iter().flat_map(newest).collect()
}

fn newest(places: impl Iterator<Item = (Timestamp, Seq)>, limit: usize) -> Vec<Seq> {
    let mut places: Vec<_> = places.collect();
    if places.len() > limit {
        places.select_nth_unstable_by_key(limit, |place| Reverse(*place));
        places.truncate(limit);
    }
    places.sort_unstable_by_key(|place| Reverse(*place));
    places.into_iter().map(|(_, seq)| seq).collect()
}

/// How many push exceptions each `sequence` had.
pub(crate) fn exceptions(places: &[Place]) -> Vec<(Option<String>, u64)> {
    let mut ids: BTreeMap<&Option<String>, BTreeSet<u64>> = BTreeMap::new();
    for exception in places.iter().filter_map(|place| place.exception.as_ref()) {
        ids.entry(&exception.sequence)
            .or_default()
            .insert(exception.id);
    }
    let number =
        |(sequence, ids): (&Option<String>, BTreeSet<u64>)| (sequence.clone(), ids.len() as u64);
    ids.into_iter().map(number).collect()
}
