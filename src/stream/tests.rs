//! The order and the repeats of facts make no difference to the sessions.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use css_callbacks::{EventId, Kind};
use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_764_000_000 + second)
}

/// The content of a callback. Two callbacks with equal content are one event.
#[derive(Debug, Clone)]
struct Callback {
    kind: Kind,
    second: Option<i64>,
    sequence: Option<u8>,
    lasted: Option<u8>,
}

impl Callback {
    fn id(&self) -> EventId {
        let text = format!("{self:?}");
        let mut id = [0u8; 16];
        for (at, byte) in text.bytes().enumerate() {
            id[at % 16] = id[at % 16].wrapping_mul(31).wrapping_add(byte);
        }
        EventId::from_bytes(id)
    }

    fn fact(&self, seq: Seq, received: Timestamp) -> Fact {
        Fact {
            seq,
            id: self.id(),
            kind: self.kind,
            at: self.second.map_or(received, at),
            received,
            sequence: self.sequence.map(|sequence| sequence.to_string()),
            lasted: self
                .lasted
                .filter(|_| self.kind == Kind::StreamEnd)
                .map(|seconds| Duration::from_secs(seconds.into())),
        }
    }
}

fn callback() -> impl Strategy<Value = Callback> {
    let kind = prop_oneof![
        4 => Just(Kind::StreamBegin),
        4 => Just(Kind::StreamEnd),
        1 => Just(Kind::Snapshot),
    ];
    let second = proptest::option::weighted(0.9, 0..40i64);
    let sequence = proptest::option::weighted(0.7, 1..6u8);
    let lasted = proptest::option::weighted(0.8, 0..20u8);
    (kind, second, sequence, lasted).prop_map(|(kind, second, sequence, lasted)| Callback {
        kind,
        second,
        sequence,
        lasted,
    })
}

/// The sessions in order of start and rank, with the ids of their events.
fn sorted_sessions(facts: &[Fact]) -> Vec<impl PartialEq + std::fmt::Debug + use<>> {
    let id = |seq: Seq| facts.iter().find(|fact| fact.seq == seq).unwrap().id;
    let mut sessions = sessions(facts);
    sessions.sort_by_key(|session| (session.start, session.rank()));
    let sessions = sessions.into_iter().map(|session| {
        let begin = session.begin.map(id);
        let end = session.end.map(|(at, seq)| (at, id(seq)));
        (session.key, session.start, begin, end)
    });
    sessions.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn order_and_repeats_make_no_difference(
        callbacks in proptest::collection::vec(callback(), 0..14),
        shuffle in proptest::collection::vec((any::<u64>(), 1..4usize), 14),
    ) {
        // Each callback first arrives at the same time in both runs. Repeats arrive later.
        let first: Vec<Fact> = callbacks
            .iter()
            .enumerate()
            .map(|(place, callback)| callback.fact(place as Seq + 1, at(100 + place as i64)))
            .collect();
        let mut other = Vec::new();
        for ((place, callback), (order, times)) in callbacks.iter().enumerate().zip(&shuffle) {
            for time in 0..*times {
                let received = at(100 + place as i64 + 60 * time as i64);
                other.push((order.rotate_left(time as u32 * 7), callback, received));
            }
        }
        other.sort_by_key(|(order, ..)| *order);
        let other: Vec<Fact> = other
            .iter()
            .enumerate()
            .map(|(place, (_, callback, received))| callback.fact(place as Seq + 1, *received))
            .collect();
        prop_assert_eq!(sorted_sessions(&first), sorted_sessions(&other));
    }
}

fn fact(kind: Kind, second: i64, sequence: Option<u8>, lasted: Option<u8>) -> Fact {
    let callback = Callback {
        kind,
        second: Some(second),
        sequence,
        lasted,
    };
    let seq = second * 10 + i64::from(kind == Kind::StreamEnd);
    callback.fact(seq, at(second))
}

fn begin(second: i64, sequence: impl Into<Option<u8>>) -> Fact {
    fact(Kind::StreamBegin, second, sequence.into(), None)
}

fn end(second: i64, sequence: impl Into<Option<u8>>, lasted: impl Into<Option<u8>>) -> Fact {
    fact(Kind::StreamEnd, second, sequence.into(), lasted.into())
}

fn is_live(facts: &[Fact]) -> bool {
    let mut sessions = sessions(facts);
    sessions.sort_by_key(|session| (session.start, session.rank()));
    sessions.last().is_some_and(Session::is_open)
}

#[test]
fn the_newest_session_decides() {
    assert!(!is_live(&[]));
    assert!(is_live(&[begin(1, 1)]));
    assert!(
        !is_live(&[end(5, 1, 4), begin(1, 1)]),
        "a begin after its own end changes nothing"
    );
    assert!(
        is_live(&[begin(1, 1), begin(6, 2), end(7, 1, 6)]),
        "an older session ends"
    );
    assert!(
        !is_live(&[begin(1, 1), begin(6, 2), end(7, 2, 1)]),
        "an older session has no end"
    );
    assert!(
        !is_live(&[begin(1, 1), end(7, 2, 1)]),
        "only its end is known"
    );
    assert!(
        is_live(&[begin(5, 1), end(7, 2, 5)]),
        "the ended session started earlier"
    );
    assert!(
        is_live(&[begin(5, 10), end(9, 9, 4)]),
        "equal starts: sequence 10 is newer than 9"
    );
}

#[test]
fn without_a_sequence_an_end_belongs_to_the_nearest_begin() {
    assert!(!is_live(&[begin(1, None), end(9, None, 8)]));
    assert!(
        is_live(&[begin(1, None), end(9, None, 8), begin(9, None)]),
        "a new begin at the same second"
    );
    assert!(
        is_live(&[begin(9, None), end(9, None, 8)]),
        "the end of an earlier push"
    );
    assert!(
        !is_live(&[begin(1, None), end(9, None, None)]),
        "an end without a duration"
    );
    let two = [begin(1, None), begin(20, None), end(30, None, 29)];
    assert!(is_live(&two), "the end of the first came late");
    let lost = [begin(1, None), end(200, None, 5)];
    let sessions = sessions(&lost);
    assert_eq!(sessions.len(), 2, "begin and end are too far apart");
}
