//! Typed and verified event callbacks of Tencent Cloud CSS (Cloud Streaming Services, live video).
//!
//! The platform tells what happens to a live stream by an HTTP POST of one JSON object: a push started or ended, a file was
//! recorded, a screenshot was taken, and so on. This crate works on the body of that request. It opens no sockets, stores
//! nothing, and needs no async runtime.
//!
//! A receiver does this with each body:
//!
//! 1. [`Callback::parse`] finds the members of the object. Do not believe any of them yet.
//! 2. [`verify`] checks the signature with the keys of the callback template.
//! 3. [`Callback::kind`] tells the [`Kind`].
//! 4. [`EventId::derive`] makes the id, which stays the same when the platform repeats a callback.
//! 5. [`Payload::parse`] makes the typed form: one struct for each kind, with every documented field. [`Attributes::read`]
//!    tells the time and the stream, whatever the kind calls them.
//! 6. Store the callback under its id, and only then answer 200. The platform repeats a callback that was not answered with
//!    200, and gives up after some minutes: see [`Kind::retry_schedule`].
//!
//! ```
//! use css_callbacks::{Callback, EventId, Payload, Secret, Timestamp, sign, verify};
//! use std::time::Duration;
//!
//! let body = format!(
//!     r#"{{"event_type":1,"app":"push.example.com","stream_id":"room-7","t":1600,"sign":"{}"}}"#,
//!     sign("the-callback-key", "1600"),
//! );
//! let now = Timestamp::from_seconds(1000); // SystemTime::now().into()
//! let keys = [Secret::new("the-callback-key")];
//!
//! let callback = Callback::parse(body.as_bytes())?;
//! verify(&keys, &callback, now, Duration::from_secs(600))?;
//! let kind = callback.kind(None);
//! // `rand::random` is a good last argument.
//! let id = EventId::derive("my-template", kind, callback.members(), || [0; 16]);
//! match Payload::parse(kind, &body)? {
//!     Payload::StreamBegin(begin) => assert_eq!(begin.stream_id.as_deref(), Some("room-7")),
//!     other => println!("{id}: {}", other.kind()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/axum.rs` and `examples/hyper.rs` in the repository are whole receivers. `vectors` has test vectors for receivers
//! in other languages.
//!
//! # What to know before you trust a callback
//!
//! The signature covers only the key and a time. Whoever sees one callback can sign any other until the signature expires. So
//! receive callbacks through HTTPS, put a secret into the URL as well, and compare it with [`Secret::matches`]. Some kinds may
//! come unsigned ([`Kind::may_be_unsigned`]); without that secret nothing proves where they are from.
//!
//! # Page numbers
//!
//! The documentation here names pages of the vendor's documentation by number. Page 38081 is
//! `https://www.tencentcloud.com/document/product/267/38081`. The Chinese pages are at
//! `https://cloud.tencent.com/document/product/267/` and the number.
//!
//! # Features
//!
//! `schema`: JSON Schemas of the typed payloads, made with `schemars`: `Payload::schema`. It is off by default.

#![forbid(unsafe_code)]

// One by one, so that the order stays the reading order: each module imports only modules that stand before it.

// Public because livehook uses its functions; they can change in any release. Users find its types at the root.
#[doc(hidden)]
pub mod json;

mod time;

mod kind;

mod wire;

pub mod payload;

mod callback;

mod attributes;

mod identity;

mod sign;

pub use self::attributes::Attributes;
pub use self::callback::{Callback, Signed};
pub use self::identity::EventId;
#[doc(inline)]
pub use self::json::{Member, NotOneObject};
pub use self::kind::{Kind, RetrySchedule, UrlField};
#[doc(inline)]
pub use self::payload::Payload;
pub use self::sign::{Secret, VerifyError, sign, verify};
pub use self::time::Timestamp;

/// So that the code in the README is tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
