//! The bodies of requests.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// Selects deliveries: exactly one of `event`, `parked`, and `from` with `to` is given.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Selection")]
pub(crate) struct SelectionRequest {
    /// only the event with this id
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// `true`: all parked deliveries
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<bool>,
    /// with `to`: events received at this time or later
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// with `from`: events received before this time
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Time>,
    /// only count, change nothing
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Rejected callbacks to check again: without `source`, those of all sources.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Recheck")]
pub(crate) struct RecheckRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupRequest {
    /// an absolute path on the server's machine
    pub dir: PathBuf,
}

// The body of a request that takes no fields.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Nothing", extend("maxProperties" = 0))]
pub(crate) struct EmptyRequest {}
