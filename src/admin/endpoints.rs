//! The list of API endpoints. Both the router and the OpenAPI document are built from it.

use std::sync::Arc;

use axum::routing::{MethodRouter, delete, get, post};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::openapi::Document;
use super::{Admin, backup, events, handlers, openapi, rejected, stream, streams};
use crate::api::{
    BackupAnswer, BackupProgressView, BackupRequest, CloudEventView, DeliveryView, EmptyRequest,
    EventView, HandlerView, PageView, ParkedView, RecheckRequest, RejectedView, RetryWindowView,
    SelectionRequest, StateAnswer, StoryView, StreamView,
};

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
    pub(super) body: Body,
    pub(super) answer: AnswerForm,
    pub(super) route: fn() -> MethodRouter<Arc<Admin>>,
}

/// Makes the schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The body of a request.
#[derive(Clone, Copy)]
pub(super) enum Body {
    None,
    /// It may be left out.
    Optional(SchemaOf),
    Required(SchemaOf),
}

/// The form of a successful answer.
pub(super) enum AnswerForm {
    /// An object.
    Object(SchemaOf),
    /// Status 202 and a number.
    Count,
    /// The bytes of a body.
    Bytes,
    /// Server-sent events.
    Stream,
}

/// The schema of `T`; that of a list has its name as the title.
fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<T>();
    if T::inline_schema() {
        schema.insert("title".to_owned(), T::schema_name().into());
    }
    schema
}

/// What an endpoint has unless it says something else.
const GET: Endpoint = Endpoint {
    method: "get",
    path: "",
    name: "",
    summary: "",
    query: &[],
    required: &[],
    body: Body::None,
    answer: AnswerForm::Count,
    route: MethodRouter::new,
};
const DELETE: Endpoint = Endpoint {
    method: "delete",
    ..GET
};
const POST: Endpoint = Endpoint {
    method: "post",
    ..GET
};

const EVENT_LIST: &[&str] = &[
    "limit", "after", "order", "kind", "source", "domain", "stream", "from", "to",
];

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        path: "/api/events",
        name: "listEvents",
        summary: "Stored events, without their data",
        query: EVENT_LIST,
        answer: AnswerForm::Object(of::<PageView<EventView>>),
        route: || get(events::events),
        ..GET
    },
    Endpoint {
        path: "/api/events",
        name: "deleteEvents",
        summary: "Remove stored events of a stream for good, with their deliveries at every handler",
        query: &[
            "kind", "source", "domain", "stream", "from", "to", "dry_run",
        ],
        required: &["stream"],
        route: || delete(events::delete),
        ..DELETE
    },
    Endpoint {
        path: "/api/events/stream",
        name: "watchEvents",
        summary: "New events as server-sent events: `event` holds an Event, `handlers` holds the list of Handlers and is sent \
            when that changes, `skipped` holds the number of events that a client too far behind does not get; `Last-Event-ID` \
            resumes where an earlier connection ended",
        query: &["kind", "source", "domain", "stream", "from", "to"],
        answer: AnswerForm::Stream,
        route: || get(stream::events),
        ..GET
    },
    Endpoint {
        path: "/api/events/{id}",
        name: "getEvent",
        summary: "One event as handlers receive it: a CloudEvent",
        query: &["payload"],
        answer: AnswerForm::Object(of::<CloudEventView>),
        route: || get(events::event),
        ..GET
    },
    Endpoint {
        path: "/api/events/{id}/body",
        name: "getEventBody",
        summary: "The body of an event, exactly the bytes that were received",
        answer: AnswerForm::Bytes,
        route: || get(events::body),
        ..GET
    },
    Endpoint {
        path: "/api/events/{id}/deliveries",
        name: "listDeliveries",
        summary: "The delivery of an event at each handler",
        answer: AnswerForm::Object(of::<PageView<DeliveryView>>),
        route: || get(events::deliveries),
        ..GET
    },
    Endpoint {
        path: "/api/handlers",
        name: "listHandlers",
        summary: "The handlers, their state and their lag",
        query: &["limit", "after", "handler", "state"],
        answer: AnswerForm::Object(of::<PageView<HandlerView>>),
        route: || get(handlers::handlers),
        ..GET
    },
    Endpoint {
        path: "/api/handlers/{name}/parked",
        name: "listParked",
        summary: "The parked deliveries of a handler, with their last errors",
        query: EVENT_LIST,
        answer: AnswerForm::Object(of::<PageView<ParkedView>>),
        route: || get(handlers::parked),
        ..GET
    },
    Endpoint {
        path: "/api/handlers/{name}/replay",
        name: "replay",
        summary: "Deliver events to a handler again, through its filters",
        body: Body::Required(of::<SelectionRequest>),
        route: || post(handlers::replay),
        ..POST
    },
    Endpoint {
        path: "/api/handlers/{name}/discard",
        name: "discard",
        summary: "Discard parked deliveries for good; with `event`, also one that is still being retried",
        body: Body::Required(of::<SelectionRequest>),
        route: || post(handlers::discard),
        ..POST
    },
    Endpoint {
        path: "/api/handlers/{name}/pause",
        name: "pauseHandler",
        summary: "Start no more attempts, even after a restart",
        body: Body::Optional(of::<EmptyRequest>),
        answer: AnswerForm::Object(of::<StateAnswer>),
        route: || post(handlers::pause),
        ..POST
    },
    Endpoint {
        path: "/api/handlers/{name}/resume",
        name: "resumeHandler",
        summary: "Continue after a pause",
        body: Body::Optional(of::<EmptyRequest>),
        answer: AnswerForm::Object(of::<StateAnswer>),
        route: || post(handlers::resume),
        ..POST
    },
    Endpoint {
        path: "/api/retry-windows",
        name: "listRetryWindows",
        summary: "Kinds whose callbacks are currently refused or cannot be stored, and how long the platform repeats them",
        answer: AnswerForm::Object(of::<PageView<RetryWindowView>>),
        route: || get(rejected::retry_windows),
        ..GET
    },
    Endpoint {
        path: "/api/rejected",
        name: "listRejected",
        summary: "Rejected callbacks; those sent to an unknown URL have the source `unknown` and the reason `misrouted`",
        query: &[
            "limit", "after", "order", "reason", "kind", "source", "from", "to",
        ],
        answer: AnswerForm::Object(of::<PageView<RejectedView>>),
        route: || get(rejected::rejected),
        ..GET
    },
    Endpoint {
        path: "/api/rejected/recheck",
        name: "recheckRejected",
        summary: "Accept rejected callbacks that are authentic now: those refused for their signature, with the current keys, \
            and those sent to an unknown URL, if they are authentic for exactly one source",
        body: Body::Optional(of::<RecheckRequest>),
        route: || post(rejected::recheck),
        ..POST
    },
    Endpoint {
        path: "/api/streams",
        name: "listStreams",
        summary: "The streams on the board; `live` selects those that are live or not live",
        query: &[
            "limit", "after", "live", "source", "domain", "stream", "search",
        ],
        answer: AnswerForm::Object(of::<PageView<StreamView>>),
        route: || get(streams::streams),
        ..GET
    },
    Endpoint {
        path: "/api/streams/stream",
        name: "watchStreams",
        summary: "Changes of the board as server-sent events: `stream` holds a Stream; `Last-Event-ID` resumes where an earlier \
            connection ended",
        query: &["live", "source", "domain", "stream", "search"],
        answer: AnswerForm::Stream,
        route: || get(streams::changes),
        ..GET
    },
    Endpoint {
        path: "/api/streams/rebuild",
        name: "rebuildStreams",
        summary: "Rebuild the board from the stored events",
        body: Body::Optional(of::<EmptyRequest>),
        route: || post(streams::rebuild),
        ..POST
    },
    Endpoint {
        path: "/api/streams/{source}/{domain}/{appname}/{streamid}",
        name: "getStream",
        summary: "One stream with its sessions, recordings, audits, last snapshot and a page of its events, the latest first; \
            `-` stands for an empty part of the path",
        query: &["limit", "after"],
        answer: AnswerForm::Object(of::<StoryView>),
        route: || get(streams::stream),
        ..GET
    },
    Endpoint {
        path: "/api/backup",
        name: "makeBackup",
        summary: "Copy the embedded store into a directory on the server's machine that does not exist or is empty; the answer \
            comes when the backup is done",
        body: Body::Required(of::<BackupRequest>),
        answer: AnswerForm::Object(of::<BackupAnswer>),
        route: || post(backup::start),
        ..POST
    },
    Endpoint {
        path: "/api/backup",
        name: "getBackupProgress",
        summary: "How far the backup has come that is being made",
        answer: AnswerForm::Object(of::<BackupProgressView>),
        route: || get(backup::progress),
        ..GET
    },
    Endpoint {
        path: "/api/openapi.json",
        name: "getDocument",
        summary: "This OpenAPI document",
        answer: AnswerForm::Object(of::<Document>),
        route: || get(openapi::document),
        ..GET
    },
];
