//! What a handler is: code that handles one event at a time and returns an outcome.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{Event, Seq};
use crate::inbox::StoreError;

/// The future a handler returns.
pub type Handling<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// The outcome of an attempt: done, or a [`Failure`].
pub type Outcome = Result<(), Failure>;

/// Handles events, one call for each attempt.
///
/// Events of one stream come in arrival order, one at a time. Events of different streams come side
/// by side, up to the handler's `concurrency`. Every event comes at least once: after a crash or a
/// failure the same event (the same [`Event::id`]) comes again. A call that takes longer than the
/// handler's `timeout` is dropped and counts as [`Failure::Retry`], and so does a panic.
///
/// The handler's worker makes one call after the other, and runs each call until it first waits for
/// something. Put long computations and blocking calls into `tokio::task::spawn_blocking`.
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

/// The future that a [`Projection`] returns.
pub(crate) type Applying<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// A part of livehook that gets events in arrival order, many at once. A batch that fails is
/// repeated until it succeeds. Events that were applied may come again. The thread that calls may be
/// blocked.
pub(crate) trait Projection: Send + Sync + 'static {
    /// The last event that was applied, if the projection keeps that itself: it gets those behind.
    fn cursor(&self) -> Option<Seq>;

    /// Applies events.
    fn apply_events(&self, events: Vec<Event>) -> Applying<'_>;

    /// Writes what was applied, if it is time for that or `at_once`. Returns the last event that need
    /// not come again after a crash. `None` if none of those that were applied needs to.
    fn flush(&self, at_once: bool) -> Result<Option<Seq>, StoreError>;
}

/// The receiver of events.
#[derive(Clone)]
pub(crate) enum Consumer {
    /// It gets events one by one.
    Handler(Arc<dyn Handler>),
    /// It gets many events at once.
    Projection(Arc<dyn Projection>),
}

impl From<Arc<dyn Handler>> for Consumer {
    fn from(handler: Arc<dyn Handler>) -> Self {
        Self::Handler(handler)
    }
}

/// Why an attempt failed. The reason is logged and shown to the operator, so it must not contain a
/// secret or the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A later attempt may succeed.
    Retry {
        /// What went wrong.
        reason: String,
        /// The shortest pause before the next attempt, if the other side named one.
        after: Option<Duration>,
    },
    /// No attempt for this event will succeed: park it.
    Reject {
        /// What the other side found wrong with the event.
        reason: String,
    },
}

impl Failure {
    /// A failure after which a later attempt may succeed.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::Retry {
            reason: reason.to_string(),
            after: None,
        }
    }

    /// A failure after which no attempt for this event will succeed.
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

    /// How many bytes of a detail are shown.
    pub(crate) const MAX_DETAIL: usize = 500;

    /// Adds the beginning of a text from the other side, such as its answer, in one line.
    #[must_use]
    pub(crate) fn with_detail(mut self, text: &[u8]) -> Self {
        let (Self::Retry { reason, .. } | Self::Reject { reason }) = &mut self;
        let text = text.trim_ascii();
        let shown = &text[..text.len().min(Self::MAX_DETAIL)];
        if shown.is_empty() {
            return self;
        }
        let shown = String::from_utf8_lossy(shown);
        // The cut may be within a character.
        let shown = match text.len() > Self::MAX_DETAIL {
            true => shown.trim_end_matches(char::REPLACEMENT_CHARACTER),
            false => &shown,
        };
        reason.push_str(DETAIL_SEPARATOR);
        for character in shown.chars() {
            match character {
                // Quotes are harmless, and JSON is full of them.
                '"' | '\'' => reason.push(character),
                _ => reason.extend(character.escape_debug()),
            }
        }
        self
    }
}

/// The text between the reason of a failure and the detail from the other side.
const DETAIL_SEPARATOR: &str = ", it said: ";

/// The reason for the log: without the detail, which may repeat the event or a secret.
pub(crate) fn loggable(reason: &str) -> &str {
    reason
        .split_once(DETAIL_SEPARATOR)
        .map_or(reason, |(reason, _)| reason)
}

/// A handler that returns another error gives no verdict on the event, so it is retried.
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
