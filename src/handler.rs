//! What a handler is: something that takes one event at a time and says what became of it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::event::Event;
use crate::inbox::StoreError;

/// The future a handler returns.
pub type Handling<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// What became of an attempt: done, or a [`Failure`].
pub type Outcome = Result<(), Failure>;

/// Takes events, one call per attempt.
///
/// Events of one stream come in arrival order and one at a time; different streams come side by side, up to the handler's
/// `concurrency`. Every event comes at least once: after a crash or a failure the same event (the same [`Event::id`]) comes
/// again. A call that takes longer than the handler's `timeout` is dropped and counts as [`Failure::Retry`], as does a panic.
///
/// What a call does before it first waits for something is done in the handler's own loop, one call after the other: long
/// computations and blocking calls belong into `tokio::task::spawn_blocking`.
///
/// ```
/// use livehook::{Event, Handler, Handling};
///
/// struct Count(std::sync::atomic::AtomicU64);
///
/// impl Handler for Count {
///     fn handle<'a>(&'a self, _event: &'a Event) -> Handling<'a> {
///         Box::pin(async {
///             self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
///             Ok(())
///         })
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Handles one event.
    fn handle<'a>(&'a self, event: &'a Event) -> Handling<'a>;
}

/// The future of a [`Projection`].
pub(crate) type Applying<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// A part of livehook that takes events in arrival order, many at once. What fails is tried again until it works; what was taken
/// may come again.
pub(crate) trait Projection: Send + Sync + 'static {
    /// Takes events. Called in a thread that may be blocked.
    fn apply_events(&self, events: Vec<Event>) -> Applying<'_>;
}

/// Who gets events.
#[derive(Clone)]
pub(crate) enum Consumer {
    /// A handler, which gets them one by one.
    Handler(Arc<dyn Handler>),
    /// A part of livehook.
    Projection(Arc<dyn Projection>),
}

impl From<Arc<dyn Handler>> for Consumer {
    fn from(handler: Arc<dyn Handler>) -> Self {
        Self::Handler(handler)
    }
}

/// Why an attempt was not good. The reason is shown to the operator and logged: it must not hold a secret or the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may work later.
    Retry {
        /// What went wrong.
        reason: String,
        /// The earliest time for the next attempt, if the other side named one.
        after: Option<Duration>,
    },
    /// It will never work for this event: park it.
    Reject {
        /// What the other side found wrong with the event.
        reason: String,
    },
}

impl Failure {
    /// It may work later.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::Retry {
            reason: reason.to_string(),
            after: None,
        }
    }

    /// It will never work for this event.
    pub fn reject(reason: impl fmt::Display) -> Self {
        Self::Reject {
            reason: reason.to_string(),
        }
    }

    /// What went wrong.
    pub fn reason(&self) -> &str {
        match self {
            Self::Retry { reason, .. } | Self::Reject { reason } => reason,
        }
    }

    /// So many bytes of what the other side says of a failure are shown.
    pub(crate) const MAX_DETAIL: usize = 500;

    /// Adds to the reason what the other side said, such as the body of its answer: its beginning, in one line.
    #[must_use]
    pub(crate) fn with_detail(mut self, text: &[u8]) -> Self {
        let (Self::Retry { reason, .. } | Self::Reject { reason }) = &mut self;
        let text = text.trim_ascii();
        let shown = &text[..text.len().min(Self::MAX_DETAIL)];
        if shown.is_empty() {
            return self;
        }
        let shown = String::from_utf8_lossy(shown);
        // A cut goes through a character now and then.
        let shown = match text.len() > Self::MAX_DETAIL {
            true => shown.trim_end_matches(char::REPLACEMENT_CHARACTER),
            false => &shown,
        };
        reason.push_str(DETAIL_SEPARATOR);
        for character in shown.chars() {
            match character {
                // They hide nothing, and JSON is full of them.
                '"' | '\'' => reason.push(character),
                _ => reason.extend(character.escape_debug()),
            }
        }
        self
    }
}

/// What stands between the reason of a failure and what the other side said.
const DETAIL_SEPARATOR: &str = ", it said: ";

/// A reason as the log may have it: without what the other side said, which may repeat the event or a secret.
pub(crate) fn loggable(reason: &str) -> &str {
    reason
        .split_once(DETAIL_SEPARATOR)
        .map_or(reason, |(reason, _)| reason)
}

/// Whatever a handler did not judge itself may work later.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::retry(format_args!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_side_said_is_cut_escaped_and_kept_from_the_log() {
        let detailed = |text: &[u8]| {
            Failure::reject("HTTP 422")
                .with_detail(text)
                .reason()
                .to_owned()
        };
        assert_eq!(detailed(b" \r\n"), "HTTP 422");
        assert_eq!(
            detailed("{\"no\":\"such 房间\"}\n".as_bytes()),
            "HTTP 422, it said: {\"no\":\"such 房间\"}"
        );
        assert_eq!(
            detailed(b"a\r\n\x1b[31m\xff\0"),
            "HTTP 422, it said: a\\r\\n\\u{1b}[31m\u{FFFD}\\0"
        );
        let long = detailed(&b"x".repeat(501));
        assert_eq!(long, format!("HTTP 422, it said: {}", "x".repeat(500)));
        // 500 is no multiple of 3.
        let long = detailed("间".repeat(200).as_bytes());
        assert_eq!(long, format!("HTTP 422, it said: {}", "间".repeat(166)));
        assert_eq!(loggable(&long), "HTTP 422");
        assert_eq!(loggable("no answer"), "no answer");
    }
}
