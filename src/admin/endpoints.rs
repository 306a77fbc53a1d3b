//! Every endpoint of the API, once: the router and the document that describes it are made from this list.

use std::sync::Arc;

use axum::routing::{MethodRouter, delete, get, post};

use super::{Admin, api, openapi, rejected, stream, streams};

/// An endpoint.
pub(super) struct Endpoint {
    /// In lower case, as the document has it.
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// What a program that is made from the document calls it.
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    /// The fields of the query string.
    pub(super) query: &'static [&'static str],
    /// Those of them that have to be there.
    pub(super) required: &'static [&'static str],
    pub(super) body: Option<Body>,
    pub(super) answer: AnswerForm,
    pub(super) route: fn() -> MethodRouter<Arc<Admin>>,
}

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// Which deliveries, and whether they are only counted.
    Selection,
    /// Which source, and whether it is only counted.
    Recheck,
    /// Nothing, or an empty object.
    Nothing,
}

/// What is answered if all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerForm {
    /// A part of a list of these.
    List(&'static str),
    /// One of these.
    One(&'static str),
    /// 202, and a number.
    Count,
    /// Bytes.
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
        summary: "What arrives: messages `event` with an Event, and `handlers` with a list of Handlers whenever it changes; \
            `Last-Event-ID` goes on where an earlier stream ended",
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
        summary: "One event as handlers get it: a CloudEvent",
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
        summary: "The body of an event, byte for byte as it was received",
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
        summary: "What became of an event at each handler",
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
        summary: "How the handlers are doing",
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
        summary: "What a handler has given up, and why",
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
        summary: "Deliver again, through the handler's filters",
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
        summary: "Give parked deliveries up for good; by `event` also one that is still retrying",
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
        summary: "Begin no more attempts, also after a restart",
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
        summary: "Go on after a pause",
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
        summary: "What is refused or cannot be taken right now, and how long the platform repeats it",
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
        summary: "What was refused, or came to a URL that is nobody's: the source of that is `unknown`, its reason `misrouted`",
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
        summary: "Take what was refused for its signature and is authentic by the keys of now, and what came to a URL that is \
            nobody's and is authentic for one source",
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
        summary: "The streams on the board: those that are live, or all",
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
        summary: "Changes of the board: messages `stream` with a Stream; `Last-Event-ID` goes on where an earlier stream ended",
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
        summary: "Make the board again from the stored events",
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
        summary: "One stream with its sessions, what belongs to them, and a part of its events, the latest first; \
            `-` stands for what is empty",
        query: &["limit", "after"],
        required: &[],
        body: None,
        answer: AnswerForm::One("Story"),
        route: || get(streams::stream),
    },
    Endpoint {
        method: "get",
        path: "/api/openapi.json",
        name: "getDocument",
        summary: "This document",
        query: &[],
        required: &[],
        body: None,
        answer: AnswerForm::One("Document"),
        route: || get(openapi::document),
    },
];
