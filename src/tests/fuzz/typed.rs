//! The typed form: of any object there is one and it is JSON, with what does not fit as it was received; of any other text there
//! is none and the error keeps silent about the content.

use std::collections::BTreeSet;

use css_callbacks::{Kind, Payload};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestCaseError;

use super::bodies::{self, Body};
use super::members;
use super::reading::{self, LEVELS};

/// Reads a text as a kind; tells whether it has a typed form, and how many members of it did not fit.
fn read(kind: Kind, text: &str) -> Result<Option<usize>, TestCaseError> {
    let payload = match (Payload::parse(kind, text), Payload::parse(kind, text)) {
        (Ok(payload), Ok(again)) => {
            prop_assert_eq!(&payload, &again);
            payload
        }
        (Err(error), Err(again)) => {
            prop_assert_eq!(error.to_string(), again.to_string());
            return Ok(None);
        }
        other => return Err(TestCaseError::fail(format!("it depends: {other:?}"))),
    };
    prop_assert_eq!(payload.kind(), kind);
    let typed = serde_json::to_string(&payload).unwrap();
    let Some(members) = reading::by_bytes(typed.as_bytes(), LEVELS * 4) else {
        return Err(TestCaseError::fail(format!("no JSON object: {typed}")));
    };
    let names: BTreeSet<_> = members.iter().map(|member| &member.name).collect();
    prop_assert_eq!(
        names.len(),
        members.len(),
        "a name comes twice in {}",
        typed
    );
    let received = reading::by_bytes(text.as_bytes(), LEVELS * 4).unwrap_or_default();
    for name in payload.misfits() {
        let same = reading::value(&members, name) == reading::value(&received, name);
        prop_assert!(same, "{} is not as received in {}", name, typed);
    }
    let again = Payload::parse(kind, &typed).and_then(|payload| serde_json::to_string(&payload));
    prop_assert_eq!(
        again.unwrap(),
        typed,
        "the typed form is its own typed form"
    );
    Ok(Some(payload.misfits().count()))
}

/// The kind that the body says, or any.
fn kind_and_text() -> impl Strategy<Value = (Kind, String)> {
    let kinds: Vec<_> = Kind::all_and_unknown().collect();
    (bodies::any_body(), proptest::option::of(select(kinds))).prop_map(|(body, kind)| {
        let text = String::from_utf8_lossy(&body.0).into_owned();
        let own = || {
            let members = reading::members(text.as_bytes())?;
            let code = std::str::from_utf8(reading::value(&members, "event_type")?).ok()?;
            Kind::from_code(code.parse().ok()?)
        };
        let kind = kind.or_else(own).unwrap_or(Kind::Unknown);
        (kind, text)
    })
}

/// In no name, only in values.
const HUSH: &str = "hush-hush";

/// A fixture of its kind in which one member has another value, somewhere in which is what must not be told.
fn with_a_secret() -> impl Strategy<Value = (Kind, String)> {
    let hush = Body(format!("\"{HUSH}\"").into_bytes());
    let hidden = prop_oneof![
        Just(hush.clone()),
        Just(Body(format!("[1,{{\"a\":\"{HUSH}\"}}]").into_bytes())),
        Just(Body(
            format!("{{\"Score\":\"{HUSH}\",\"Details\":\"{HUSH}\"}}").into_bytes()
        )),
        Just(Body(
            format!("\"{{\\\"code\\\":\\\"{HUSH}\\\"}}\"").into_bytes()
        )),
        Just(Body(format!("[[\"{HUSH}\"],\"{HUSH}\",7]").into_bytes())),
        members::value(),
    ];
    (
        bodies::draft(),
        any::<Index>(),
        hidden,
        select(&Kind::ALL[..]),
        any::<bool>(),
    )
        .prop_map(|(mut draft, place, hidden, any_kind, own)| {
            let code = |(name, value): &(Body, Body)| {
                let code = std::str::from_utf8(&value.0).ok()?.parse().ok()?;
                Kind::from_code(code).filter(|_| name.0 == b"event_type")
            };
            let kind = draft.members.iter().find_map(code).filter(|_| own);
            if !draft.members.is_empty() {
                let place = place.index(draft.members.len());
                draft.members[place].1 = hidden;
            }
            let text = String::from_utf8_lossy(&draft.written().0).into_owned();
            (kind.unwrap_or(any_kind), text)
        })
}

proptest! {
    #![proptest_config(super::config(3000))]

    #[test]
    fn any_text_has_one_typed_form_or_none((kind, text) in kind_and_text()) {
        read(kind, &text)?;
    }

    #[test]
    fn errors_do_not_repeat_values((kind, text) in with_a_secret()) {
        match Payload::parse(kind, &text) {
            Ok(payload) => prop_assert!(payload.misfits().all(|name| !name.contains(HUSH))),
            Err(error) => prop_assert!(!error.to_string().contains(HUSH), "{error}"),
        }
        read(kind, &text)?;
    }
}

#[test]
fn typed_and_untyped_ones_are_met() {
    let results: Vec<_> = super::census(kind_and_text(), 1000)
        .map(|(kind, text)| read(kind, &text).unwrap())
        .collect();
    let typed = results.iter().flatten().count();
    assert!(
        typed > 100 && results.len() - typed > 100,
        "{typed} of {}",
        results.len()
    );
    let with_misfits = super::census(with_a_secret(), 500)
        .filter(|(kind, text)| read(*kind, text).unwrap() > Some(0))
        .count();
    assert!(with_misfits > 100, "{with_misfits}");
}
