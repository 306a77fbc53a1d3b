//! Nothing is accepted without a valid signature or token, and what has one is.

use std::collections::BTreeMap;

use crate::auth::{Refusal, Verdict, authenticate};
use css_callbacks::Callback;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::bodies;
use super::delivery;
use super::oracle::{Opinion, Proof};
use super::reading::{self, LEVELS, Member};
use super::requests::{self, Case};
use super::sites;

/// Passes a request to livehook and to the oracle, and tells what came of it.
fn judged(case: &Case) -> Result<(String, Option<Vec<Member>>), TestCaseError> {
    let presented = case.presented();
    let expected = reading::members(&case.body.0);
    let callback = match (Callback::parse(&case.body.0), &expected) {
        (Err(_), None) => return Ok(("no object".to_owned(), None)),
        (Ok(callback), Some(_)) => callback,
        (parsed, _) => {
            let problem = format!("one object: {}, expected {expected:?}", parsed.is_ok());
            return Err(TestCaseError::fail(problem));
        }
    };
    let expected = expected.unwrap_or_default();
    same_members(&callback, &expected)?;
    let source = case.site.source().unwrap();
    let verdict = authenticate(&source, &presented, &callback, || [7; 16]);
    let opinion = Opinion::of(case, &expected);
    prop_assert_eq!(verdict.kind, opinion.kind);
    if let Some(accepts) = opinion.accepts() {
        let accepted = verdict.outcome.is_ok();
        prop_assert_eq!(accepted, accepts, "{:?} by {:?}", verdict, opinion);
    }
    no_clock_for_strangers(&verdict, &opinion)?;
    let what = match verdict.outcome {
        Ok(authentic) => {
            prop_assert_eq!(&authentic.body()[..], &case.body.0[..]);
            prop_assert_eq!(authentic.kind(), opinion.kind);
            prop_assert_eq!(authentic.received(), presented.received);
            prop_assert_eq!(&**authentic.source(), "css");
            delivery::comes_out_as_it_went_in(&authentic)?;
            format!("accepted: {}", reason(case, &opinion))
        }
        Err(refusal) => {
            prop_assert!(is_true(refusal, &opinion), "{refusal:?} by {opinion:?}");
            format!("refused: {}", refusal.slug())
        }
    };
    Ok((what, Some(expected)))
}

fn same_members(callback: &Callback, expected: &[Member]) -> Result<(), TestCaseError> {
    prop_assert_eq!(callback.members().len(), expected.len());
    for (found, expected) in callback.members().iter().zip(expected) {
        prop_assert_eq!(found.value, &expected.value);
        if let Some(name) = &expected.name {
            prop_assert_eq!(&*found.name, &name[..]);
        }
    }
    Ok(())
}

/// `signed_t` is that of a right signature, and only for whom address and token let in.
fn no_clock_for_strangers(verdict: &Verdict, opinion: &Opinion) -> Result<(), TestCaseError> {
    let expected = match opinion.proof {
        Proof::Right { t, .. } if opinion.address && opinion.token => Some(t),
        _ => None,
    };
    if opinion.proof != Proof::Escaped {
        prop_assert_eq!(verdict.signed_t, expected, "{:?}", opinion);
    }
    Ok(())
}

/// Whether what the operator is told is the case.
fn is_true(refusal: Refusal, opinion: &Opinion) -> bool {
    match refusal {
        Refusal::Address => !opinion.address,
        Refusal::Token => !opinion.token,
        Refusal::HalfSigned => matches!(opinion.proof, Proof::Half | Proof::Malformed),
        Refusal::Signature => matches!(opinion.proof, Proof::Wrong | Proof::Escaped),
        Refusal::Expired => matches!(opinion.proof, Proof::Right { late: true, .. }),
        Refusal::Unsigned => opinion.proof == Proof::Absent && !opinion.vouched,
    }
}

/// What an accepted callback is believed for.
fn reason(case: &Case, opinion: &Opinion) -> &'static str {
    match (opinion.proof, case.site.token) {
        (Proof::Right { key: 0, .. }, _) => "first key",
        (Proof::Right { .. }, _) => "second key",
        (Proof::NotAsked, Some(_)) => "token alone",
        (Proof::NotAsked, None) => "open",
        (_, Some(_)) => "unsigned, by the token",
        (_, None) => "unsigned, by the list",
    }
}

proptest! {
    #![proptest_config(super::config(4000))]

    #[test]
    fn callbacks_are_judged_as_the_contract_says(case in requests::case(bodies::callback())) {
        judged(&case)?;
    }
}

proptest! {
    #![proptest_config(super::config(2000))]

    #[test]
    fn anything_is_judged_as_the_contract_says(case in requests::case(bodies::any_body())) {
        judged(&case)?;
    }

    #[test]
    fn a_source_that_keeps_nobody_out_is_not_built(site in sites::any_site()) {
        prop_assert_eq!(site.source().is_ok(), site.is_sound());
    }
}

/// How often the census must meet each outcome: about a third of how often it does.
const FLOORS: [(&str, usize); 19] = [
    ("accepted: first key", 130),
    ("accepted: second key", 40),
    ("accepted: token alone", 35),
    ("accepted: open", 85),
    ("accepted: unsigned, by the token", 20),
    ("accepted: unsigned, by the list", 25),
    ("accepted though it is no UTF-8", 25),
    ("accepted though serde_json cannot read it", 60),
    ("accepted though it is nested to the limit", 4),
    ("accepted though a member comes twice", 80),
    ("accepted though its signature comes twice", 15),
    ("accepted though a name is escaped", 9),
    ("refused: address", 140),
    ("refused: token", 45),
    ("refused: half-signed", 100),
    ("refused: signature", 110),
    ("refused: expired", 50),
    ("refused: unsigned", 100),
    ("no object for being nested too deep", 14),
];

#[test]
fn every_outcome_and_every_oddity_is_met() {
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    let mut meet = |what: String| *met.entry(what).or_default() += 1;
    for case in super::census(requests::case(bodies::callback()), 4000) {
        let body = &case.body.0;
        let (what, members) = judged(&case).unwrap();
        match members {
            Some(members) if what.starts_with("accepted") => {
                for oddity in oddities(body, &members) {
                    meet(format!("accepted though {oddity}"));
                }
            }
            None if reading::by_bytes(body, LEVELS + 1).is_some() => {
                meet(format!("{what} for being nested too deep"));
            }
            _ => {}
        }
        meet(what);
    }
    for (what, floor) in FLOORS {
        let count = met.get(what).copied().unwrap_or_default();
        assert!(count >= floor, "{what}: {count} times, of {met:#?}");
    }
}

/// What is unusual about a body that is taken all the same.
fn oddities(body: &[u8], members: &[Member]) -> Vec<&'static str> {
    let mut names: Vec<_> = members
        .iter()
        .map(|member| member.name.as_deref())
        .collect();
    names.sort();
    let twice = |name: &[u8]| names.iter().filter(|of| **of == Some(name)).count() > 1;
    let has = |text: &[u8]| body.windows(text.len()).any(|part| part == text);
    let all = [
        ("it is no UTF-8", std::str::from_utf8(body).is_err()),
        (
            "serde_json cannot read it",
            reading::by_serde(body).is_none(),
        ),
        ("it is nested to the limit", reading::levels(body) == LEVELS),
        (
            "a member comes twice",
            names.windows(2).any(|pair| pair[0] == pair[1]),
        ),
        ("its signature comes twice", twice(b"sign") && twice(b"t")),
        (
            "a name is escaped",
            has(b"\"\\u0073ign") || has(b"\"\\u0074\""),
        ),
    ];
    let is = |(oddity, is): (&'static str, bool)| is.then_some(oddity);
    all.into_iter().filter_map(is).collect()
}
