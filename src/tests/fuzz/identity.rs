//! The id is that of the content: signature, order and blanks do not matter, everything else does.

use css_callbacks::{EventId, Kind, json};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestCaseError;

use super::bodies::{self, Draft};
use super::edits;
use super::reading::{self, Member};
use super::signatures;

/// A callback and a second one that is the same or nearly.
#[derive(Debug, Clone)]
struct Pair {
    kind: Kind,
    one: Draft,
    other: Draft,
}

fn pair() -> impl Strategy<Value = Pair> {
    let kind = prop_oneof![
        2 => Just(Kind::Relay),
        1 => Just(Kind::ImageAudit),
        1 => Just(Kind::StreamliveBegin),
        2 => select(&Kind::ALL[..]),
        1 => Just(Kind::Unknown),
    ];
    let change = prop_oneof![2 => Just(None), 1 => edits::any_edit().prop_map(Some)];
    let swaps = proptest::collection::vec(any::<[Index; 2]>(), 0..4);
    let again = (change, swaps, signatures::members(), bodies::blanks());
    (kind, bodies::draft(), signatures::members(), again).prop_map(
        |(kind, draft, signature, (change, swaps, again, blanks))| {
            let mut other = draft.clone();
            if let Some(edit) = change {
                other = edit.done_to(other);
            }
            for [one, two] in swaps {
                let count = other.members.len();
                if count > 0 {
                    other.members.swap(one.index(count), two.index(count));
                }
            }
            other.blanks = blanks;
            Pair {
                kind,
                one: bodies::signed(draft, &signature),
                other: bodies::signed(other, &again),
            }
        },
    )
}

/// What makes a callback of this kind itself: the members that count, by name, of one name in received order.
fn content(kind: Kind, body: &[u8]) -> Option<Vec<Member>> {
    let mut members = reading::members(body)?;
    if members.iter().any(|member| member.name.is_none()) {
        return None;
    }
    members.retain(|member| match member.name.as_deref() {
        Some(b"t") => matches!(kind, Kind::StreamliveBegin | Kind::StreamliveEnd),
        Some(b"sign") => false,
        Some(b"sendTime") => kind != Kind::ImageAudit,
        _ => true,
    });
    members.sort_by(|one, other| one.name.cmp(&other.name));
    Some(members)
}

fn id(source: &str, kind: Kind, body: &[u8], chance: u8) -> EventId {
    EventId::derive(source, kind, &json::members(body).unwrap(), || [chance; 16])
}

/// Whether the two have the same content; none if one of them has none that the test can tell.
fn compared(pair: &Pair) -> Result<Option<bool>, TestCaseError> {
    let kind = pair.kind;
    let (one, other) = (pair.one.written().0, pair.other.written().0);
    let (Some(this), Some(that)) = (content(kind, &one), content(kind, &other)) else {
        return Ok(None);
    };
    let own = id("css", kind, &one, 1);
    let same = this == that;
    prop_assert_eq!(
        own == id("css", kind, &other, 1),
        same,
        "{:?} {:?}",
        this,
        that
    );
    let dated = this.iter().any(|member| {
        member.name.as_deref() == Some(b"event_time")
            && !matches!(&*member.value, b"null" | b"\"\"")
    });
    let only_once = kind == Kind::Relay && !dated;
    prop_assert_eq!(
        own != id("css", kind, &one, 2),
        only_once,
        "chance is for relays without time"
    );
    prop_assert_ne!(own, id("css2", kind, &one, 1));
    let another = if kind == Kind::Summary {
        Kind::Highlight
    } else {
        Kind::Summary
    };
    prop_assert_ne!(own, id("css", another, &one, 1));
    Ok(Some(same))
}

proptest! {
    #![proptest_config(super::config(2000))]

    #[test]
    fn ids_are_equal_as_contents_are(pair in pair()) {
        compared(&pair)?;
    }
}

#[test]
fn equal_and_different_contents_are_met() {
    let results: Vec<_> = super::census(pair(), 1000)
        .map(|pair| compared(&pair).unwrap())
        .collect();
    for wanted in [Some(true), Some(false)] {
        let count = results.iter().filter(|result| **result == wanted).count();
        assert!(count > 100, "{wanted:?}: {count}");
    }
}
