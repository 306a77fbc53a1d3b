//! Why a section could not be read, with the exact key.

use std::fmt;
use std::iter;

use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Error, Expected, Unexpected};

#[derive(Debug, thiserror::Error)]
#[error("{}", self.message(&self.place.join(".")))]
pub(crate) struct KeyError {
    /// The keys from the top of the file down to the error.
    pub(crate) place: Vec<String>,
    pub(crate) problem: KeyProblem,
}

#[derive(Debug)]
pub(crate) enum KeyProblem {
    UnknownKey(&'static [&'static str]),
    UnknownWord(String, &'static [&'static str]),
    TextForList(String),
    Other(String),
}

impl KeyError {
    /// The same error, seen from further up.
    pub(super) fn below(mut self, keys: impl IntoIterator<Item = String>) -> Self {
        self.place.splice(..0, keys);
        self
    }

    fn new(problem: KeyProblem) -> Self {
        Self {
            place: Vec::new(),
            problem,
        }
    }

    /// The message for the operator. `place` is the dotted key.
    pub(crate) fn message(&self, place: &str) -> String {
        let last = self.place.last().map_or("", String::as_str);
        match &self.problem {
            KeyProblem::UnknownKey([]) => {
                format!("unknown option `{place}`, nothing can be set here")
            }
            KeyProblem::UnknownKey(known) => {
                format!("unknown option `{place}`{}", meant(last, known))
            }
            KeyProblem::UnknownWord(word, known) => {
                format!("{place}: unknown value `{word}`{}", meant(word, known))
            }
            KeyProblem::TextForList(problem) => {
                format!("{place}: {problem}; write {last} = [\"\u{2026}\"]")
            }
            KeyProblem::Other(problem) => format!("{place}: {problem}"),
        }
    }
}

/// The keys of a section, from its type.
pub(crate) fn keys<T: DeserializeOwned>() -> &'static [&'static str] {
    let unknown = MapDeserializer::new(iter::once(("", ())));
    match T::deserialize(unknown).map_err(|error: KeyError| error.problem) {
        Err(KeyProblem::UnknownKey(keys)) => keys,
        _ => &[],
    }
}

/// The least likeness of a word to what was probably meant: two of five letters may differ.
const LIKENESS: f64 = 0.6;

/// The rest of a message about an unknown word: what was probably meant, else all known words.
pub(crate) fn meant(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(nearest) => format!(", did you mean `{nearest}`?"),
        None => format!("; known: `{}`", known.join("`, `")),
    }
}

/// The known word that is most similar to `word`, if one is similar enough.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
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
            false => Self::custom(problem),
        }
    }

    fn invalid_value(found: Unexpected, expected: &dyn Expected) -> Self {
        let expected = plain(expected);
        match found {
            Unexpected::Signed(number) => {
                Self::custom(format_args!("`{number}` is not {expected}"))
            }
            _ => Self::custom(format_args!("expected {expected}")),
        }
    }

    fn unknown_field(_field: &str, known: &'static [&'static str]) -> Self {
        Self::new(KeyProblem::UnknownKey(known))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::new(KeyProblem::UnknownWord(word.to_owned(), known))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom("is missing").below([field.to_owned()])
    }
}

/// Names what serde expects in words for people who do not know Rust.
fn plain(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    let plain = match text.as_str() {
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0 up",
        "a string" | "path string" => "a text in quotes",
        other if other.starts_with("enum ") => "a text in quotes",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    plain.to_owned()
}
