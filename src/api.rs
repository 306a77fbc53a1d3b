//! The requests and answers of the admin API. The server and the commands share these types, and the
//! OpenAPI document is made from them: the comments of the members are its descriptions.
//!
//! A member that is one of several words is a text here, so that a command also reads the answer of a
//! server that knows more words. Members stand in the order in which they are sent.

mod requests;
mod streams;

use std::fmt;
use std::path::PathBuf;

use css_callbacks::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::requests::{BackupRequest, Nothing, Recheck, Selection};
pub(crate) use self::streams::{Audit, Recording, Session, Snapshot, Story, Stream};
use crate::dispatch::{DeliveryProgress, HandlerState};
use crate::event::Seq;
use crate::metrics::CallbackResult;
use crate::rejected::Reason;

/// The names of server-sent messages.
pub(crate) mod message {
    /// An `Event` that arrived.
    pub(crate) const EVENT: &str = "event";
    /// The list of `Handler`s, when it has changed.
    pub(crate) const HANDLERS: &str = "handlers";
    /// A `Stream` that has changed.
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
pub(crate) struct Page<T> {
    pub items: Vec<T>,
    /// the `after` of the next page
    pub next: Option<String>,
}

impl<T> Page<T> {
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
pub(crate) struct Event {
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
pub(crate) struct CloudEvent {
    #[serde(flatten)]
    pub event: Event,
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
pub(crate) struct Delivery {
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
pub(crate) struct Handler {
    pub lag_events: u64,
    pub lag_seconds: f64,
    pub last_failure: Option<Failure>,
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
pub(crate) struct Handlers {
    pub items: Vec<Handler>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Failure {
    pub error: String,
    pub time: Time,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Parked {
    #[serde(flatten)]
    pub event: Event,
    pub attempts: u32,
    pub first_attempt: Option<Time>,
    pub parked_at: Time,
    pub error: String,
    pub replaying: bool,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RetryWindow {
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
pub(crate) struct Rejected {
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
pub(crate) struct Count {
    pub count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maybe_another_app: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_appname: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct State {
    pub state: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Backup {
    pub bytes: u64,
    pub dir: PathBuf,
    pub events: u64,
    pub seconds: f64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct BackupProgress {
    pub bytes: u64,
    pub running: bool,
    pub total_bytes: u64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Error {
    pub code: u16,
    pub message: String,
}
