//! Receives event callbacks of Tencent Cloud CSS (Cloud Streaming Services, live video). Each
//! callback is on disk before it is answered. Then it goes to any number of handlers, each at its
//! own pace.
//!
//! Most people run the `livehook` program. Use this library to write a handler in Rust: implement
//! [`Handler`], give it to [`Server::builder`], and run the server. `examples/custom_handler.rs` is
//! a complete program.
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
//! 1. `listener` accepts the connection and limits the time for the head of the request.
//! 2. `ingress` reads the body within its limits. It answers 404 if no source or kind has this URL,
//!    and adds the body to the `rejected` list. It answers 405, 408 or 413 without reading further,
//!    and 503 if too much is being received at once.
//! 3. [`css_callbacks::Callback`] finds the members of the JSON object in the body, else the answer
//!    is 400. Three members decide what follows: `event_type`, `sign` and `t`.
//! 4. `auth::authenticate` turns the callback into an `Authentic`, with its [`Kind`] and
//!    [`EventId`]. If the callback is not authentic, the answer is 401 and the callback goes to the
//!    `rejected` list. Only an `Authentic` goes further.
//! 5. `Inbox::accept` returns a `Receipt` when the event is on disk, or was there already. The
//!    answer is 503 if the store failed, is full, or took too long; then the sender repeats the
//!    callback.
//! 6. `CallbackAnswer::Stored` holds the receipt: 200 `{"code":0}`. From here on, a crash loses nothing.
//! 7. `dispatch` reads each [`Event`] after the handler's own position and passes events of one
//!    stream on in arrival order.
//! 8. A [`Handler`] reports the outcome: done, [`Failure::Retry`] or [`Failure::Reject`]. An event
//!    that is not done keeps a row in the inbox until it is done, or until it is parked and an
//!    operator decides.
//!
//! The inbox also feeds `streams`, the board that shows which streams are live.

// Modules in reading order: each imports only modules above it. Blank lines keep rustfmt from
// sorting them.

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

mod backup;

mod listener;

mod ingress;

mod api;

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
