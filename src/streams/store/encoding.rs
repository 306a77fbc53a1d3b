//! The blobs of `streams.db`: postcard, with times and numbers as distances, so that most take few bytes.

use std::time::Duration;

use css_callbacks::{EventId, Kind, Timestamp};
use rusqlite::types::Type;

use super::block::Block;
use crate::event::Seq;
use crate::stream::places::Exception;
use crate::stream::pushes::{Push, PushFact};
use crate::stream::{Fact, Place};

/// Distance of `seq` and arrival from those of the place before, kind, distance of the time from
/// the arrival, and of a push exception `sequence` and id.
type StoredPlace<S> = (i64, i64, i64, i64, Option<(Option<S>, u64)>);
/// `seq`, id, kind, arrival, distance of the time from it, push duration in ms, whether it is gone.
type StoredFact = (Seq, [u8; 16], i64, i64, i64, Option<u64>, bool);

type StoredPush<S> = (Option<S>, Vec<StoredFact>);

pub(super) fn encode<'a>(
    places: impl IntoIterator<Item = &'a Place>,
    pushes: impl IntoIterator<Item = &'a Push>,
) -> rusqlite::Result<Vec<u8>> {
    postcard::to_stdvec(&(stored_places(places), stored_pushes(pushes)))
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

pub(super) fn decode(bytes: &[u8]) -> rusqlite::Result<Block> {
    let (places, pushes) = postcard::from_bytes(bytes)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, error.into()))?;
    Ok(Block {
        places: places_of(places),
        pushes: pushes_of(pushes),
    })
}

fn stored_places<'a>(places: impl IntoIterator<Item = &'a Place>) -> Vec<StoredPlace<&'a str>> {
    let (mut seq, mut received) = (0, 0);
    let stored = places.into_iter().map(|place| -> StoredPlace<_> {
        let arrival = place.received.millis();
        let exception = place.exception.as_ref();
        let stored = (
            place.seq - seq,
            arrival.wrapping_sub(received),
            place.kind.stored(),
            place.at.millis().wrapping_sub(arrival),
            exception.map(|exception| (exception.sequence.as_deref(), exception.id)),
        );
        (seq, received) = (place.seq, arrival);
        stored
    });
    stored.collect()
}

fn places_of(stored: Vec<StoredPlace<String>>) -> Vec<Place> {
    let (mut seq, mut received) = (0, 0i64);
    let place = |(distance, later, kind, at, exception): StoredPlace<_>| {
        (seq, received) = (seq + distance, received.wrapping_add(later));
        Place {
            seq,
            kind: Kind::from_stored(kind),
            at: Timestamp::from_millis(received.wrapping_add(at)),
            received: Timestamp::from_millis(received),
            exception: exception.map(|(sequence, id)| Box::new(Exception { sequence, id })),
        }
    };
    stored.into_iter().map(place).collect()
}

fn stored_pushes<'a>(pushes: impl IntoIterator<Item = &'a Push>) -> Vec<StoredPush<&'a str>> {
    let stored = pushes.into_iter().map(|push| -> StoredPush<_> {
        let facts = push.facts.iter().map(stored_fact).collect();
        (push.sequence.as_deref(), facts)
    });
    stored.collect()
}

fn stored_fact(PushFact { fact, gone }: &PushFact) -> StoredFact {
    let arrival = fact.received.millis();
    let lasted = |lasted: Duration| u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
    (
        fact.seq,
        *fact.id.as_bytes(),
        fact.kind.stored(),
        arrival,
        fact.at.millis().wrapping_sub(arrival),
        fact.lasted.map(lasted),
        *gone,
    )
}

fn pushes_of(stored: Vec<StoredPush<String>>) -> Vec<Push> {
    let push = |(sequence, facts): StoredPush<String>| {
        let fact = |(seq, id, kind, received, at, lasted, gone): StoredFact| PushFact {
            fact: Fact {
                seq,
                id: EventId::from_bytes(id),
                kind: Kind::from_stored(kind),
                at: Timestamp::from_millis(received.wrapping_add(at)),
                received: Timestamp::from_millis(received),
                sequence: sequence.clone(),
                lasted: lasted.map(Duration::from_millis),
            },
            gone,
        };
        let facts = facts.into_iter().map(fact).collect();
        Push::new(sequence.as_deref(), facts)
    };
    stored.into_iter().map(push).collect()
}
