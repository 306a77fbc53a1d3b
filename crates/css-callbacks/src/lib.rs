//! Event callbacks of Tencent Cloud CSS (Cloud Streaming Services, live video) for whoever receives them.
//!
//! The platform tells what happens to a live stream (it started, it ended, a file was recorded, a screenshot was taken, ...)
//! by a POST of one JSON object. This crate reads such an object. It opens no sockets and stores nothing; `livehook` is a
//! whole server around it.
//!
//! 1. [`Callback::parse`] finds the members of the object. Nothing of it may be believed yet.
//! 2. [`verify`] checks the signature, by the keys of the callback template.
//! 3. [`Callback::kind`] tells the [`Kind`], and [`Attributes::read`] the stream and the time.
//! 4. [`Payload::parse`] gives the typed form: one struct a kind, with every documented member.
//! 5. [`EventId::derive`] gives an identity that is the same when the platform sends a callback again.
//!
//! ```
//! use css_callbacks::{Callback, Payload, Secret, Timestamp, sign, verify};
//! use std::time::Duration;
//!
//! let body = format!(
//!     r#"{{"event_type":1,"app":"push.example.com","appname":"live","stream_id":"room-7","t":1600,"sign":"{}"}}"#,
//!     sign("my-callback-key", "1600"),
//! );
//! let callback = Callback::parse(body.as_bytes())?;
//! let keys = [Secret::new("my-callback-key")];
//! // Take the time of day here.
//! verify(&keys, &callback, Timestamp::from_seconds(1000), Duration::from_secs(600))?;
//! match Payload::parse(callback.kind(None), &body)? {
//!     Payload::StreamBegin(begin) => assert_eq!(begin.stream_id.as_deref(), Some("room-7")),
//!     other => println!("{}", other.kind()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// One by one, so that the order stays the reading order: each imports only what stands before it.

pub mod json;

mod time;

mod kind;

pub mod wire;

pub mod payload;

mod callback;

mod attributes;

mod identity;

mod sign;

pub use self::attributes::Attributes;
pub use self::callback::{Callback, Signed};
pub use self::identity::{EventId, needs_t};
pub use self::kind::{Kind, RetrySchedule, UrlField};
pub use self::payload::Payload;
pub use self::sign::{Secret, VerifyError, sign, verify};
pub use self::time::Timestamp;
