//! Receives event callbacks of Tencent Cloud CSS (Cloud Streaming Services, live video), makes each one durable before
//! answering, and hands it to as many handlers as configured, each at its own pace.
//!
//! Most people run the `livehook` program. This library is for handlers of your own, written in Rust: implement [`Handler`],
//! give it to [`Server::builder`], and run the server. `examples/custom_handler.rs` is a whole program.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use livehook::{Config, Event, Handler, Handling, Server, environment};
//!
//! struct Print;
//!
//! impl Handler for Print {
//!     fn handle<'a>(&'a self, event: &'a Event) -> Handling<'a> {
//!         Box::pin(async move {
//!             println!("{} {}", event.kind(), event.id());
//!             Ok(())
//!         })
//!     }
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::load(Path::new("livehook.toml"), &environment())?;
//! let server = Server::builder(config).handler("print", Print).bind().await?;
//! server.run(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # The path of a callback
//!
//! 1. `listener` takes the connection and gives the head of the request a limited time.
//! 2. `ingress` reads the body within its limits. 405, 408, 413: nothing was looked at. 503: more than fits. 404: nobody has
//!    this URL; what was posted there has a place in the `rejected` list.
//! 3. [`css_callbacks::Callback`] finds the members of the one JSON object that the body must be, else 400. The few that decide
//!    are `event_type`, `sign`, and `t`.
//! 4. `auth::authenticate` makes it an `Authentic`, with its [`Kind`] and [`EventId`], else 401 and a place in the `rejected`
//!    list. Nothing unauthentic goes further.
//! 5. `Inbox::accept` makes it a `Receipt` when it is in the journal, on disk, or finds that it was there before. 503: the
//!    store failed, is full, or took too long; the sender comes again.
//! 6. `Answer::Stored` holds the receipt: 200 `{"code":0}`. A crash from here on loses nothing.
//! 7. `dispatch` reads the inbox behind each handler's own position: as [`Event`], in arrival order per stream.
//! 8. A [`Handler`] says what became of it: done, [`Failure::Retry`], or [`Failure::Reject`]. What is not done has a row in
//!    the inbox until it is, or until it is parked and an operator decides.
//!
//! Beside the handlers, `streams` is fed from the inbox: the board that says which streams are live.

// The modules in reading order: each imports only what stands before it. One by one, so that the order stays.

mod clock;

mod settings;

mod source;

mod auth;

mod event;

mod stream;

mod budget;

mod metrics;

mod log;

mod inbox;

mod handler;

mod outbound;

mod handlers;

mod dispatch;

mod rejected;

mod streams;

mod listener;

mod ingress;

mod admin;

mod config;

mod server;

mod cli;

#[doc(hidden)]
pub mod bench;

#[cfg(test)]
mod tests;

#[doc(hidden)]
pub use self::cli::main;
pub use self::clock::Clock;
pub use self::config::{Config, ConfigError, Environment, environment};
pub use self::event::{CloudEvent, Event, EventData, PayloadForm};
pub use self::handler::{Failure, Handler, Handling, Outcome};
pub use self::handlers::exec::main as program_guard;
pub use self::inbox::StoreError;
pub use self::log::flush as flush_log;
pub use self::server::{Builder, Reloader, Server, StartError};
pub use css_callbacks;
pub use css_callbacks::{Attributes, EventId, Kind, Payload, Timestamp};
