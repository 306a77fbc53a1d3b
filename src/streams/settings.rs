//! `[streams]`: when a change is announced, and when a live stream counts as stale.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use crate::settings::{self, Invalid};

/// How many domains may have a metric series of their own.
const MAX_DOMAINS: usize = 100;

/// `[streams]` as written in the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StreamsConfig {
    /// How long a change must last before it is announced. A faster reconnect is not announced.
    #[serde(deserialize_with = "settings::duration")]
    pub settle: Duration,
    /// A stream that is live for longer counts as stale: its end may be lost.
    #[serde(deserialize_with = "settings::duration")]
    pub stale_after: Duration,
    /// The push domains whose live streams have their own metric series. All others share one.
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

/// `[streams]` after the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamsSettings {
    /// How long a change must last before it is announced.
    pub debounce: Duration,
    /// How long a stream may be live before it counts as stale.
    pub stale_after: Duration,
    /// The push domains that have their own metric series.
    pub domains: BTreeSet<String>,
}

impl StreamsConfig {
    pub(crate) fn validate(&self, place: &str) -> Result<StreamsSettings, Invalid> {
        settings::check_duration(format!("{place}.stale_after"), self.stale_after)?;
        if self.settle > Duration::from_secs(3600) {
            let problem = "must be at most 1h";
            return Err(Invalid::at(format!("{place}.settle"), problem));
        }
        if self.domains.len() > MAX_DOMAINS {
            let problem = format!("must be at most {MAX_DOMAINS}: each has its own metric series");
            return Err(Invalid::at(format!("{place}.domains"), problem));
        }
        Ok(StreamsSettings {
            debounce: self.settle,
            stale_after: self.stale_after,
            domains: self.domains.clone(),
        })
    }
}
