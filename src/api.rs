//! The requests and answers of the admin API. The server and the commands share these types, and the
//! OpenAPI document is made from them: the comments of the members are its descriptions.
//!
//! A member that is one of several words is a text here, so that a command also reads the answer of a
//! server that knows more words. Members stand in the order in which they are sent.
//!
//! A `…View` is what the API shows of a thing. A `…Request` asks for work, and an `…Answer` tells how
//! that went. The OpenAPI document keeps the short names, because generated clients use them.

mod requests;
mod streams;

use std::fmt;
use std::path::PathBuf;

use css_callbacks::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::requests::{BackupRequest, EmptyRequest, RecheckRequest, SelectionRequest};
pub(crate) use self::streams::{
    AuditView, RecordingView, SessionView, SnapshotView, StoryView, StreamView,
};
use crate::dispatch::{DeliveryProgress, HandlerState};
use crate::event::Seq;
use crate::metrics::CallbackResult;
use crate::rejected::Reason;

/// The names of server-sent messages.
pub(crate) mod message {
    /// An `EventView` that arrived.
    pub(crate) const EVENT: &str = "event";
    /// The list of `HandlerView`s, when it has changed.
    pub(crate) const HANDLERS: &str = "handlers";
    /// A `StreamView` that has changed.
    pub(crate) const STREAM: &str = "stream";
    /// The number of events that were not sent, because the client is too far behind.
    pub(crate) const SKIPPED: &str = "skipped";
}

// A time as in RFC 3339. It is kept as text, because a callback may claim a time that no calendar
// has. (A doc comment here would be a description in the OpenAPI document.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, extend("format" = "date-time"))]
pub(crate) struct Time(pub(crate) String);

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(time.to_string())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, rename = "{T}List")]
pub(crate) struct PageView<T> {
    pub items: Vec<T>,
    /// the `after` of the next page
    pub next: Option<String>,
}

impl<T> PageView<T> {
    pub(crate) fn of<U>(items: &[U], next: Option<Seq>) -> Self
    where
        T: for<'a> From<&'a U>,
    {
        Self {
            items: items.iter().map(T::from).collect(),
            next: next.map(|next| next.to_string()),
        }
    }
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Event")]
pub(crate) struct EventView {
    pub specversion: String,
    pub id: String,
    pub source: String,
    pub r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    pub datacontenttype: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub appid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub appname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streamid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushsequence: Option<String>,
    pub receivedtime: Time,
}

// Only commands use it: the server writes an event as a text, in which `data` is as received.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CloudEvent")]
pub(crate) struct CloudEventView {
    #[serde(flatten)]
    pub event: EventView,
    /// the part of the typed form that did not fit its type and is as received
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("type" = ["boolean", "string"]))]
    pub untyped: Option<Value>,
    /// the body, as received or typed
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("type" = "object"))]
    pub data: Option<Value>,
    /// the body, if it is not UTF-8
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Delivery")]
pub(crate) struct DeliveryView {
    pub attempts: Option<u32>,
    pub due: Option<Time>,
    pub error: Option<String>,
    pub first_attempt: Option<Time>,
    pub handler: String,
    pub parked_at: Option<Time>,
    #[schemars(extend("enum" = DeliveryProgress::ALL.map(DeliveryProgress::slug)))]
    pub state: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Handler")]
pub(crate) struct HandlerView {
    pub lag_events: u64,
    pub lag_seconds: f64,
    pub last_failure: Option<FailureView>,
    pub last_success: Option<Time>,
    pub name: String,
    pub parked: u64,
    pub replaying: u64,
    pub retrying: u64,
    #[schemars(extend("enum" = HandlerState::ALL.map(HandlerState::slug)))]
    pub state: String,
    pub r#type: String,
    pub waiting: u64,
}

/// The data of [`message::HANDLERS`].
#[derive(Debug, Serialize)]
pub(crate) struct HandlersView {
    pub items: Vec<HandlerView>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct FailureView {
    pub error: String,
    pub time: Time,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Parked")]
pub(crate) struct ParkedView {
    #[serde(flatten)]
    pub event: EventView,
    pub attempts: u32,
    pub first_attempt: Option<Time>,
    pub parked_at: Time,
    pub error: String,
    pub replaying: bool,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RetryWindow")]
pub(crate) struct RetryWindowView {
    pub kind: String,
    pub last: Time,
    pub remaining_seconds: u64,
    #[schemars(extend("enum" = [CallbackResult::Refused, CallbackResult::Overloaded, CallbackResult::Failed].map(CallbackResult::slug)))]
    pub result: String,
    pub since: Time,
    pub source: String,
    pub window_seconds: u64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Rejected")]
pub(crate) struct RejectedView {
    pub body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    pub client: Option<String>,
    pub id: String,
    pub kind: String,
    #[schemars(extend("enum" = Reason::all().map(Reason::slug).collect::<Vec<_>>()))]
    pub reason: String,
    pub receivedtime: Time,
    pub size: u64,
    pub source: String,
    pub token_sha256: Option<String>,
    pub url_kind: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Count")]
pub(crate) struct CountAnswer {
    pub count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maybe_another_app: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_appname: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "State")]
pub(crate) struct StateAnswer {
    pub state: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Backup")]
pub(crate) struct BackupAnswer {
    pub bytes: u64,
    pub dir: PathBuf,
    pub events: u64,
    pub seconds: f64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "BackupProgress")]
pub(crate) struct BackupProgressView {
    pub bytes: u64,
    pub running: bool,
    pub total_bytes: u64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorAnswer {
    pub code: u16,
    pub message: String,
}
