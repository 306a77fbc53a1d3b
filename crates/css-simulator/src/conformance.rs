//! Grading a receiver: what the platform does to it, case by case, and whether it bears it.
//!
//! A genuine callback must be answered 200, exactly and within the platform's patience, in every form that the documentation
//! shows; a forged or malformed one must be refused. With a URL that tells how often the receiver acted, it is also held
//! against it if it acts twice on one event. Invariant: no request depends on what another case sent, so that each flaw fails
//! the cases that are about it, and no others.

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
    /// The URLs.
    pub template: Template,
    /// The CallbackKey; without one everything is signed with the empty key.
    pub key: Option<Secret>,
    /// Whether kinds that may come without a signature do, although no token vouches for them.
    pub unsigned: bool,
    /// How often the receiver acted.
    pub counter: Option<Counter>,
    /// What is added to the sender's clock, seconds.
    pub clock_offset: i64,
    /// What makes the same requests again, but for their times.
    pub seed: u64,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct GradingProgress {
    /// Cases that have their outcome.
    pub done: usize,
    /// All cases.
    pub all: usize,
}

/// Goes through all cases, or until it shall `stop`. `watch` is told after each how far it is.
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
