//! What strangers may send: random and damaged bodies against livehook's judgement and its reading of them.
//!
//! The properties: nothing makes it panic, nothing is accepted without a valid signature or token (and what has one is), and
//! the bytes that went in come out. Who is right is decided by `oracle` and `reading`, which know the contract but share no
//! code with livehook. `PROPTEST_CASES` sets how many cases each property tries.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod bodies;
mod damage;
mod edits;
mod members;
mod oracle;
mod reading;
mod requests;
mod signatures;
mod sites;

mod authentication;
mod delivery;
mod identity;
mod typed;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// No file for failures: the tree stays as it is, and the message of a failure has the whole case.
fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: match std::env::var_os("PROPTEST_CASES") {
            Some(_) => default.cases,
            None => cases,
        },
        failure_persistence: None,
        ..default
    }
}

/// The same cases in every run, for counting: a property that never meets what it is about holds for nothing.
fn census<S: Strategy>(strategy: S, cases: usize) -> impl Iterator<Item = S::Value> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config(1), rng);
    (0..cases).map(move |_| strategy.new_tree(&mut runner).unwrap().current())
}
