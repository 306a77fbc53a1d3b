//! The grades, for people and for scripts.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// What became of all cases, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grades {
    /// The cases.
    pub cases: Vec<Case>,
    /// Whether it was ended before all was known.
    pub interrupted: bool,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its name, such as `genuine-stream-begin`.
    pub name: String,
    /// How it ended.
    pub outcome: CaseOutcome,
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseOutcome {
    /// The receiver did as it must.
    Pass,
    /// It did not, for this reason.
    Fail(String),
    /// It was not tried, for this reason.
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
    /// Passed cases.
    pub fn passed(&self) -> usize {
        self.count("pass")
    }

    /// Failed cases.
    pub fn failed(&self) -> usize {
        self.count("fail")
    }

    /// Cases that were not tried.
    pub fn skipped(&self) -> usize {
        self.count("skip")
    }

    fn count(&self, word: &str) -> usize {
        let outcomes = self.cases.iter().map(|case| case.outcome.word());
        outcomes.filter(|outcome| *outcome == word).count()
    }
}

/// For people: a line per case, then the sums.
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

/// For scripts.
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
