//! Why a section could not be read, with the exact key.

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use super::value::ConfigValue;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct KeyError {
    /// The keys from the section down to the error.
    pub(super) place: Vec<String>,
    problem: KeyProblem,
}

#[derive(Debug, Clone, PartialEq)]
enum KeyProblem {
    UnknownKey(&'static [&'static str]),
    UnknownWord(String, &'static [&'static str]),
    Missing,
    TextForList(String),
    Other(String),
}

impl KeyError {
    /// The same error, seen from one level up.
    pub(super) fn under(mut self, key: &str) -> Self {
        self.place.insert(0, key.to_owned());
        self
    }

    fn new(problem: KeyProblem) -> Self {
        Self {
            place: Vec::new(),
            problem,
        }
    }

    /// The message for the operator. `place` is the dotted key.
    pub(super) fn message(&self, place: &str) -> String {
        match &self.problem {
            KeyProblem::UnknownKey(known) => {
                let last = self.place.last().map_or("", String::as_str);
                unknown_option(place, last, known)
            }
            KeyProblem::UnknownWord(word, known) => {
                let meant = meant(word, known);
                format!("{place}: unknown value `{word}`{meant}")
            }
            KeyProblem::Missing => format!("{place}: is missing"),
            KeyProblem::TextForList(problem) => {
                let last = self.place.last().map_or("", String::as_str);
                format!("{place}: {problem}; write {last} = [\"\u{2026}\"]")
            }
            KeyProblem::Other(problem) => format!("{place}: {problem}"),
        }
    }

    /// Finds the exact key, if it is below the place that serde reports.
    ///
    /// Serde reads a table with a `type` in two steps, and in the second it no longer knows the
    /// key. So this function reads the table again with one key at a time until the same error
    /// appears. If the error appears without any key, it belongs to the table as a whole.
    pub(super) fn locate(
        mut self,
        section: &ConfigValue,
        read: impl Fn(&ConfigValue) -> Option<KeyError>,
    ) -> Self {
        let original = self.clone();
        while let Some(ConfigValue::Table(table)) = section.at(&self.place) {
            let has_same_error = |only: Option<&String>| {
                read(&section.reduced(&self.place, only)).as_ref() == Some(&original)
            };
            if has_same_error(None) {
                break;
            }
            let Some(key) = table.keys().find(|key| has_same_error(Some(key))) else {
                break;
            };
            let key = key.clone();
            self.place.push(key);
        }
        self
    }
}

/// The least likeness of a word to what was probably meant: two of five letters may differ.
const LIKENESS: f64 = 0.6;

/// The message for an option that does not exist.
fn unknown_option(place: &str, key: &str, known: &[&str]) -> String {
    match known {
        [] => format!("unknown option `{place}`, nothing can be set here"),
        _ => format!("unknown option `{place}`{}", meant(key, known)),
    }
}

/// The rest of a message about an unknown word: what was probably meant, else all known words.
pub(super) fn meant(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(nearest) => format!(", did you mean `{nearest}`?"),
        None => format!("; known: `{}`", known.join("`, `")),
    }
}

/// The known word that is most similar to `word`, if one is similar enough.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|other| (strsim::normalized_damerau_levenshtein(word, other), *other))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, other)| other)
}

impl Error for KeyError {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self::new(KeyProblem::Other(problem.to_string()))
    }

    /// Shows the type of the value but not the value: it may be a secret in the wrong place.
    fn invalid_type(found: Unexpected, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "`true` or `false`",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
            Unexpected::Str(_) => "a text",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a table",
            _ => "something else",
        };
        let expected = plain(expected);
        let problem = format!("expected {expected}, found {found}");
        match found == "a text" && expected.contains("a list") {
            true => Self::new(KeyProblem::TextForList(problem)),
            false => Self::new(KeyProblem::Other(problem)),
        }
    }

    fn invalid_value(found: Unexpected, expected: &dyn Expected) -> Self {
        match found {
            Unexpected::Signed(number) => {
                Self::custom(format_args!("`{number}` is not {}", plain(expected)))
            }
            _ => Self::custom(format_args!("expected {}", plain(expected))),
        }
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(KeyProblem::UnknownKey(known)).under(field)
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::new(KeyProblem::UnknownWord(word.to_owned(), known))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(KeyProblem::Missing).under(field)
    }
}

/// Names what serde expects in words for people who do not know Rust.
fn plain(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "a boolean" => "true or false".to_owned(),
        "a string" | "path string" => "a text in quotes".to_owned(),
        "a sequence" => "a list".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0 up".to_owned(),
        "a map" => "a table".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other if other.starts_with("internally tagged enum ") => "a table with `type`".to_owned(),
        _ => text,
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message(&self.place.join(".")))
    }
}

impl std::error::Error for KeyError {}
