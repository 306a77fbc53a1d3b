//! The result of a conformance check, for people and for scripts.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// The outcomes of all cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grades {
    /// The cases, in a fixed order.
    pub cases: Vec<Case>,
    /// Whether the check was stopped before all outcomes were known.
    pub interrupted: bool,
}

/// One case of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The name, such as `genuine-stream-begin`.
    pub name: String,
    /// Whether the receiver passed.
    pub outcome: CaseOutcome,
}

/// The outcome of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseOutcome {
    /// The receiver is correct.
    Pass,
    /// The receiver is wrong, for this reason.
    Fail(String),
    /// The case was not run, for this reason.
    Skip(&'static str),
}

impl CaseOutcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail(_) => "fail",
            Self::Skip(_) => "skip",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Pass => None,
            Self::Fail(reason) => Some(reason),
            Self::Skip(reason) => Some(reason),
        }
    }
}

impl Grades {
    /// The number of passed cases.
    pub fn passed(&self) -> usize {
        self.count("pass")
    }

    /// The number of failed cases.
    pub fn failed(&self) -> usize {
        self.count("fail")
    }

    /// The number of cases that were not run.
    pub fn skipped(&self) -> usize {
        self.count("skip")
    }

    fn count(&self, word: &str) -> usize {
        let outcomes = self.cases.iter().map(|case| case.outcome.word());
        outcomes.filter(|outcome| *outcome == word).count()
    }
}

/// For people: one line per case, then the totals.
impl fmt::Display for Grades {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.cases.iter().map(|case| case.name.len()).max();
        let width = width.unwrap_or_default();
        for Case { name, outcome } in &self.cases {
            let word = outcome.word();
            match outcome.reason() {
                None => writeln!(f, "{word}  {name}")?,
                Some(reason) => writeln!(f, "{word}  {name:width$}  {reason}")?,
            }
        }
        writeln!(
            f,
            "\n{} passed, {} failed, {} skipped",
            self.passed(),
            self.failed(),
            self.skipped()
        )
    }
}

/// For scripts, as JSON.
impl Serialize for Grades {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut report = serializer.serialize_struct("Grades", 4)?;
        report.serialize_field("passed", &self.passed())?;
        report.serialize_field("failed", &self.failed())?;
        report.serialize_field("skipped", &self.skipped())?;
        report.serialize_field("cases", &self.cases)?;
        report.end()
    }
}

impl Serialize for Case {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut case = serializer.serialize_struct("Case", 3)?;
        case.serialize_field("case", &self.name)?;
        case.serialize_field("result", self.outcome.word())?;
        case.serialize_field("reason", &self.outcome.reason())?;
        case.end()
    }
}
