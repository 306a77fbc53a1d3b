//! What the API tells of streams.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EventView, Time};

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Stream")]
pub(crate) struct StreamView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub appname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    pub last: Time,
    pub live: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushsequence: Option<String>,
    pub since: Option<Time>,
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streamid: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Story")]
pub(crate) struct StoryView {
    #[serde(flatten)]
    pub stream: StreamView,
    pub audits: Vec<AuditView>,
    pub last_snapshot: Option<SnapshotView>,
    pub next: Option<String>,
    pub push_exceptions: u64,
    pub recordings: Vec<RecordingView>,
    pub sessions: Vec<SessionView>,
    pub timeline: Vec<EventView>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct SessionView {
    pub begin_known: bool,
    pub duration_seconds: Option<f64>,
    pub end: Option<Time>,
    pub end_reason: Option<String>,
    pub errcode: Option<i64>,
    pub errmsg: Option<String>,
    pub height: Option<i64>,
    pub push_exceptions: u64,
    pub pusher: Option<String>,
    pub pushsequence: Option<String>,
    pub start: Time,
    pub superseded: bool,
    pub width: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct SnapshotView {
    pub height: Option<i64>,
    pub id: String,
    pub time: Option<Time>,
    pub url: Option<String>,
    pub width: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct RecordingView {
    pub end: Option<Time>,
    pub id: String,
    pub open: bool,
    pub start: Option<Time>,
    pub state: String,
    pub url: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct AuditView {
    pub id: String,
    pub label: Option<String>,
    pub suggestion: Option<String>,
    pub time: Option<Time>,
    pub r#type: String,
}
