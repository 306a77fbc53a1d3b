//! Where the callbacks of one source arrive.

use std::sync::{Arc, OnceLock};

use prometheus_client::metrics::counter::Counter;

use super::answer::Answer;
use super::watch::SourceWatch;
use crate::clock::Timestamp;
use crate::kind::Kind;
use crate::metrics::{CallbackResult, Metrics};
use crate::source::Source;

/// A source with what is counted and known of it, so that a request looks it up once.
pub(super) struct Desk {
    pub(super) source: Arc<Source>,
    pub(super) watch: Arc<SourceWatch>,
    /// By kind.
    accepted: [OnceLock<Counter>; Kind::COUNT],
}

impl Desk {
    pub(super) fn new(source: Arc<Source>, watch: Arc<SourceWatch>) -> Self {
        Self {
            source,
            watch,
            accepted: [const { OnceLock::new() }; Kind::COUNT],
        }
    }

    /// Counts an answer; `kind` is that of an authentic callback, `url_kind` that of the URL.
    pub(super) fn count(
        &self,
        metrics: &Metrics,
        kind: Option<Kind>,
        url_kind: Option<Kind>,
        answer: &Answer,
        now: impl FnOnce() -> Timestamp,
    ) {
        let likely = kind.or(url_kind).unwrap_or(Kind::Unknown);
        let kind = kind.unwrap_or(Kind::Unknown);
        let result = answer.counts_as();
        let counter = || metrics.callback_counter(self.source.name(), kind, result);
        match result {
            CallbackResult::Accepted => {
                self.accepted[kind as usize].get_or_init(counter).inc();
            }
            _ => {
                counter().inc();
            }
        }
        self.watch.answered(self.source.name(), likely, result, now);
    }
}
