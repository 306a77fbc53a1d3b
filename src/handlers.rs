//! Stub of the built-in handlers, replaced at merge.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::settings::{Invalid, SecretFields, Surroundings};

/// `to` of a handler.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum To {
    /// Log lines.
    Log(Log),
    /// A file of JSON lines.
    File(File),
    /// An HTTP endpoint.
    Http(Http),
    /// A program.
    Exec(Exec),
}

/// `type = "log"`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {}

/// `type = "file"`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    path: PathBuf,
    #[serde(default)]
    rotate: Rotate,
    #[serde(default = "yes")]
    sync: bool,
}

fn yes() -> bool {
    true
}

/// When a new file begins.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotate {
    /// Never.
    #[default]
    Never,
    /// Every hour.
    Hourly,
    /// Every day.
    Daily,
}

/// `type = "http"`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    url: String,
    secret: Option<String>,
    secret_file: Option<PathBuf>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    mode: Mode,
}

/// How the event stands in the request.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All in the body.
    #[default]
    Structured,
    /// Attributes in headers.
    Binary,
}

/// `type = "exec"`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    command: Vec<String>,
}

/// A validated [`To`].
#[derive(Debug, Clone, PartialEq)]
pub struct Target(To);

impl To {
    /// Its `type`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Log(_) => "log",
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Exec(_) => "exec",
        }
    }

    /// Checks it.
    pub fn validate(&self, place: &str, around: &Surroundings) -> Result<Target, Invalid> {
        if let Self::Http(http) = self {
            SecretFields {
                name: "secret",
                text: http.secret.as_deref(),
                file: http.secret_file.as_deref(),
                variable: None,
            }
            .resolve(place, around)?;
        }
        Ok(Target(self.clone()))
    }
}
