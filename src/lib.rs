//! Receives event callbacks of Tencent Cloud CSS (live streaming), makes each one durable before answering, and hands it to
//! as many handlers as configured, each at its own pace.
//!
//! # The path of a callback
//!
//! 1. [`listener`] takes the connection and gives the head of the request a limited time.
//! 2. [`ingress`] reads the body within its limits. 405, 408, 413: nothing was looked at. 503: more than fits. 404: what was posted
//!    to a URL that is nobody's has a place in the [`rejected`] list.
//! 3. [`json`] finds the members of the one JSON object that the body must be, else 400; [`callback`] reads the few of them
//!    that decide: `event_type`, `sign`, `t`.
//! 4. [`auth::authenticate`] makes it an [`auth::Authentic`], with its [`kind::Kind`] and [`identity::EventId`], else 401 and a
//!    place in the [`rejected`] list. Nothing unauthentic goes further.
//! 5. [`inbox::Inbox::accept`] makes it an [`inbox::Receipt`] when it is in the journal, on disk, or finds that it was there
//!    before. 503: the store failed, is full, or took too long; the sender comes again.
//! 6. [`ingress::answer::Answer::Stored`] holds the receipt: 200 `{"code":0}`. A crash from here on loses nothing.
//! 7. [`dispatch`] reads the inbox behind each handler's own position: as [`event::Event`], in arrival order per stream.
//! 8. A [`handler::Handler`] says what became of it: done, [`handler::Failure::Retry`], or [`handler::Failure::Reject`]. What
//!    is not done has a row in the inbox until it is, or until it is parked and an operator decides.
//!
//! Beside the handlers, [`streams`] is fed from the inbox: the board that says which streams are live.
//!
//! [`simulate`] is the other side of all this: the sender, and what it holds against a receiver.
//!
//! # The modules in reading order
//!
//! Each imports only what stands before it; `ingress` and `dispatch` meet only at `inbox`.

// One by one, so that the order stays the reading order.

pub mod clock;

pub mod settings;

pub mod source;

pub mod auth;

pub mod event;

pub mod stream;

pub mod budget;

pub mod metrics;

pub mod log;

pub mod inbox;

pub mod handler;

mod outbound;

pub mod handlers;

pub mod dispatch;

pub mod rejected;

pub mod streams;

pub mod listener;

pub mod ingress;

pub mod admin;

pub mod config;

pub mod server;

pub mod cli;
