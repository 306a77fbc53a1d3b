//! Tests whether a receiver is correct, case by case.
//!
//! A genuine callback must be answered 200 within the platform's time limit, in every form that the
//! documentation shows. A forged or malformed one must be refused. With a URL that returns how
//! often the receiver acted, a receiver also fails if it acts twice on one event. No request
//! depends on what another case sent, so a fault of the receiver fails only the cases that test for
//! it.

mod count;
mod events;
mod grader;
mod judge;
mod odd;
mod report;
mod shape;
mod trial;

use std::sync::Arc;

use anyhow::anyhow;
use css_callbacks::Secret;
use tokio::sync::watch;

pub use self::count::Counter;
use self::grader::Grader;
pub use self::report::{Case, CaseOutcome, Grades};
use self::trial::Trial;
use super::template::Template;
use super::{Stop, check_reachable, stopped};
use crate::Now;

/// What to grade, and how.
pub struct GradingSettings {
    /// The URLs to post to.
    pub template: Template,
    /// The CallbackKey. Without one, callbacks are signed with the empty key.
    pub key: Option<Secret>,
    /// Whether kinds that may come without a signature are sent without one even if there is no
    /// token.
    pub unsigned: bool,
    /// Counts how often the receiver acted.
    pub counter: Option<Counter>,
    /// Seconds by which the sender's clock is ahead of the real time.
    pub clock_offset: i64,
    /// The same seed makes the same requests, with new times.
    pub seed: u64,
}

/// The progress of a check.
#[derive(Debug, Clone, Copy)]
pub struct GradingProgress {
    /// Cases with an outcome.
    pub done: usize,
    /// The number of all cases.
    pub all: usize,
}

/// Runs all cases, or stops early at `stop`. Calls `watch` after each case.
///
/// # Errors
///
/// Fails if the receiver cannot be reached.
pub async fn run(
    settings: GradingSettings,
    now: Now,
    stop: watch::Receiver<Stop>,
    mut watch: impl FnMut(GradingProgress),
) -> anyhow::Result<Grades> {
    check_reachable(&settings.template).await?;
    if let Some(counter) = &settings.counter {
        let count = counter.read().await;
        count.map_err(|problem| anyhow!("--count-url: {problem}"))?;
    }
    let trials = Trial::all(&settings);
    let grader = Arc::new(Grader::new(settings, now)?);
    let mut outcomes = vec![None; trials.len()];
    let mut done = 0;
    let grading = grader.grade(&trials, |at, outcome| {
        outcomes[at] = Some(outcome);
        done += 1;
        watch(GradingProgress {
            done,
            all: trials.len(),
        });
    });
    let interrupted = tokio::select! {
        graded = grading => { graded?; false }
        () = stopped(stop, Stop::Soon) => true,
    };
    let cases = trials.iter().zip(outcomes).map(|(trial, outcome)| Case {
        name: trial.name(),
        outcome: outcome.unwrap_or(CaseOutcome::Skip("interrupted before it was known")),
    });
    Ok(Grades {
        cases: cases.collect(),
        interrupted,
    })
}
