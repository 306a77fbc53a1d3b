//! `[streams]`: when a change is told, and what is suspicious.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use crate::settings::{self, Invalid};

/// Domains that have a series of their own.
const DOMAINS: usize = 100;

/// `[streams]` as it stands in the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StreamsConfig {
    /// How long a stream has to be live, or not, before that is told: a reconnect within it is none.
    #[serde(deserialize_with = "settings::duration")]
    pub settle: Duration,
    /// A stream that has been live for longer counts as stale: its end may have been lost.
    #[serde(deserialize_with = "settings::duration")]
    pub stale_after: Duration,
    /// The push domains whose live streams are counted by themselves in the metrics; all others are added up.
    pub domains: BTreeSet<String>,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(3),
            stale_after: Duration::from_secs(24 * 3600),
            domains: BTreeSet::new(),
        }
    }
}

/// `[streams]`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamsSettings {
    /// How long a change has to last before it is told.
    pub settle: Duration,
    /// How long a stream may be live without being suspicious.
    pub stale_after: Duration,
    /// The push domains that metrics may name.
    pub domains: BTreeSet<String>,
}

impl StreamsConfig {
    /// Checks the section.
    pub(crate) fn validate(&self, place: &str) -> Result<StreamsSettings, Invalid> {
        settings::check_duration(format!("{place}.stale_after"), self.stale_after)?;
        if self.settle > Duration::from_secs(3600) {
            let problem = "must be at most 1h";
            return Err(Invalid::at(format!("{place}.settle"), problem));
        }
        if self.domains.len() > DOMAINS {
            let problem = format!("must be at most {DOMAINS}: each is a series of its own");
            return Err(Invalid::at(format!("{place}.domains"), problem));
        }
        Ok(StreamsSettings {
            settle: self.settle,
            stale_after: self.stale_after,
            domains: self.domains.clone(),
        })
    }
}
