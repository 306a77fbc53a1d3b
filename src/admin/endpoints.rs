//! The list of API endpoints. Both the router and the OpenAPI document are built from it.

use std::sync::Arc;

use axum::routing::{MethodRouter, delete, get, post};

use super::{Admin, api, backup, openapi, rejected, stream, streams};

pub(super) struct Endpoint {
    /// The HTTP method in lower case, as OpenAPI writes it.
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// The `operationId`: the function name in generated clients.
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    /// The allowed fields of the query string.
    pub(super) query: &'static [&'static str],
    /// The query fields that must be given.
    pub(super) required: &'static [&'static str],
    pub(super) body: Option<Body>,
    pub(super) answer: AnswerForm,
    pub(super) route: fn() -> MethodRouter<Arc<Admin>>,
}

/// The body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// Selects deliveries, and says whether they are only counted.
    Selection,
    /// Names a source, and says whether rejected callbacks are only counted.
    Recheck,
    /// Names a directory on the server's machine.
    Backup,
    /// Empty, or an empty object.
    Nothing,
}

/// The form of a successful answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerForm {
    /// A page of a list of items with this schema.
    List(&'static str),
    /// One object with this schema.
    One(&'static str),
    /// Status 202 and a number.
    Count,
    /// The bytes of a body.
    Bytes,
    /// Server-sent events.
    Stream,
}

const EVENT_LIST: &[&str] = &[
    "limit", "after", "order", "kind", "source", "domain", "stream", "from", "to",
];

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: "get",
        path: "/api/events",
        name: "listEvents",
        summary: "Stored events, without their data",
        query: EVENT_LIST,
        required: &[],
        body: None,
        answer: AnswerForm::List("Event"),
        route: || get(api::events),
    },
    Endpoint {
        method: "delete",
        path: "/api/events",
        name: "deleteEvents",
        summary: "Remove stored events of a stream for good, with their deliveries at every handler",
        query: &[
            "kind", "source", "domain", "stream", "from", "to", "dry_run",
        ],
        required: &["stream"],
        body: None,
        answer: AnswerForm::Count,
        route: || delete(api::delete),
    },
    Endpoint {
        method: "get",
        path: "/api/events/stream",
        name: "watchEvents",
        summary: "New events as server-sent events: `event` holds an Event, `handlers` holds the list of Handlers and is sent \
            when that changes; `Last-Event-ID` resumes where an earlier connection ended",
        query: &["kind", "source", "domain", "stream", "from", "to"],
        required: &[],
        body: None,
        answer: AnswerForm::Stream,
        route: || get(stream::events),
    },
    Endpoint {
        method: "get",
        path: "/api/events/{id}",
        name: "getEvent",
        summary: "One event as handlers receive it: a CloudEvent",
        query: &["payload"],
        required: &[],
        body: None,
        answer: AnswerForm::One("CloudEvent"),
        route: || get(api::event),
    },
    Endpoint {
        method: "get",
        path: "/api/events/{id}/body",
        name: "getEventBody",
        summary: "The body of an event, exactly the bytes that were received",
        query: &[],
        required: &[],
        body: None,
        answer: AnswerForm::Bytes,
        route: || get(api::body),
    },
    Endpoint {
        method: "get",
        path: "/api/events/{id}/deliveries",
        name: "listDeliveries",
        summary: "The delivery of an event at each handler",
        query: &[],
        required: &[],
        body: None,
        answer: AnswerForm::List("Delivery"),
        route: || get(api::deliveries),
    },
    Endpoint {
        method: "get",
        path: "/api/handlers",
        name: "listHandlers",
        summary: "The handlers, their state and their lag",
        query: &["limit", "after", "handler", "state"],
        required: &[],
        body: None,
        answer: AnswerForm::List("Handler"),
        route: || get(api::handlers),
    },
    Endpoint {
        method: "get",
        path: "/api/handlers/{name}/parked",
        name: "listParked",
        summary: "The parked deliveries of a handler, with their last errors",
        query: EVENT_LIST,
        required: &[],
        body: None,
        answer: AnswerForm::List("Parked"),
        route: || get(api::parked),
    },
    Endpoint {
        method: "post",
        path: "/api/handlers/{name}/replay",
        name: "replay",
        summary: "Deliver events to a handler again, through its filters",
        query: &[],
        required: &[],
        body: Some(Body::Selection),
        answer: AnswerForm::Count,
        route: || post(api::replay),
    },
    Endpoint {
        method: "post",
        path: "/api/handlers/{name}/discard",
        name: "discard",
        summary: "Discard parked deliveries for good; with `event`, also one that is still being retried",
        query: &[],
        required: &[],
        body: Some(Body::Selection),
        answer: AnswerForm::Count,
        route: || post(api::discard),
    },
    Endpoint {
        method: "post",
        path: "/api/handlers/{name}/pause",
        name: "pauseHandler",
        summary: "Start no more attempts, even after a restart",
        query: &[],
        required: &[],
        body: Some(Body::Nothing),
        answer: AnswerForm::One("State"),
        route: || post(api::pause),
    },
    Endpoint {
        method: "post",
        path: "/api/handlers/{name}/resume",
        name: "resumeHandler",
        summary: "Continue after a pause",
        query: &[],
        required: &[],
        body: Some(Body::Nothing),
        answer: AnswerForm::One("State"),
        route: || post(api::resume),
    },
    Endpoint {
        method: "get",
        path: "/api/retry-windows",
        name: "listRetryWindows",
        summary: "Kinds whose callbacks are currently refused or cannot be stored, and how long the platform repeats them",
        query: &[],
        required: &[],
        body: None,
        answer: AnswerForm::List("RetryWindow"),
        route: || get(api::retry_windows),
    },
    Endpoint {
        method: "get",
        path: "/api/rejected",
        name: "listRejected",
        summary: "Rejected callbacks; those sent to an unknown URL have the source `unknown` and the reason `misrouted`",
        query: &[
            "limit", "after", "order", "reason", "kind", "source", "from", "to",
        ],
        required: &[],
        body: None,
        answer: AnswerForm::List("Rejected"),
        route: || get(rejected::rejected),
    },
    Endpoint {
        method: "post",
        path: "/api/rejected/recheck",
        name: "recheckRejected",
        summary: "Accept rejected callbacks that are authentic now: those refused for their signature, with the current keys, \
            and those sent to an unknown URL, if they are authentic for exactly one source",
        query: &[],
        required: &[],
        body: Some(Body::Recheck),
        answer: AnswerForm::Count,
        route: || post(rejected::recheck),
    },
    Endpoint {
        method: "get",
        path: "/api/streams",
        name: "listStreams",
        summary: "The streams on the board; `live` selects those that are live or not live",
        query: &[
            "limit", "after", "live", "source", "domain", "stream", "search",
        ],
        required: &[],
        body: None,
        answer: AnswerForm::List("Stream"),
        route: || get(streams::streams),
    },
    Endpoint {
        method: "get",
        path: "/api/streams/stream",
        name: "watchStreams",
        summary: "Changes of the board as server-sent events: `stream` holds a Stream; `Last-Event-ID` resumes where an earlier \
            connection ended",
        query: &["live", "source", "domain", "stream", "search"],
        required: &[],
        body: None,
        answer: AnswerForm::Stream,
        route: || get(streams::changes),
    },
    Endpoint {
        method: "post",
        path: "/api/streams/rebuild",
        name: "rebuildStreams",
        summary: "Rebuild the board from the stored events",
        query: &[],
        required: &[],
        body: Some(Body::Nothing),
        answer: AnswerForm::Count,
        route: || post(streams::rebuild),
    },
    Endpoint {
        method: "get",
        path: "/api/streams/{source}/{domain}/{appname}/{streamid}",
        name: "getStream",
        summary: "One stream with its sessions, recordings, audits, last snapshot and a page of its events, the latest first; \
            `-` stands for an empty part of the path",
        query: &["limit", "after"],
        required: &[],
        body: None,
        answer: AnswerForm::One("Story"),
        route: || get(streams::stream),
    },
    Endpoint {
        method: "post",
        path: "/api/backup",
        name: "makeBackup",
        summary: "Copy the embedded store into a directory on the server's machine that does not exist or is empty; the answer \
            comes when the backup is done",
        query: &[],
        required: &[],
        body: Some(Body::Backup),
        answer: AnswerForm::One("Backup"),
        route: || post(backup::start),
    },
    Endpoint {
        method: "get",
        path: "/api/backup",
        name: "getBackupProgress",
        summary: "How far the backup has come that is being made",
        query: &[],
        required: &[],
        body: None,
        answer: AnswerForm::One("BackupProgress"),
        route: || get(backup::progress),
    },
    Endpoint {
        method: "get",
        path: "/api/openapi.json",
        name: "getDocument",
        summary: "This OpenAPI document",
        query: &[],
        required: &[],
        body: None,
        answer: AnswerForm::One("Document"),
        route: || get(openapi::document),
    },
];
