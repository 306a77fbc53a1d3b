//! Where the callbacks of one source arrive.

use std::sync::Arc;

use css_callbacks::{Kind, Timestamp};

use super::answer::CallbackAnswer;
use super::watch::SourceWatch;
use crate::metrics::SourceMetrics;
use crate::source::Source;

/// A source with what is counted and known of it, so that a request looks it up once.
pub(super) struct SourceState {
    pub(super) source: Arc<Source>,
    pub(super) watch: Arc<SourceWatch>,
    pub(super) metrics: SourceMetrics,
}

impl SourceState {
    /// Counts an answer; `kind` is that of an authentic callback, `url_kind` that of the URL.
    pub(super) fn count(
        &self,
        kind: Option<Kind>,
        url_kind: Option<Kind>,
        answer: &CallbackAnswer,
        now: impl FnOnce() -> Timestamp,
    ) {
        let likely = kind.or(url_kind).unwrap_or(Kind::Unknown);
        let kind = kind.unwrap_or(Kind::Unknown);
        let result = answer.counts_as();
        self.metrics.callbacks(kind, result).inc();
        self.watch.answered(self.source.name(), likely, result, now);
    }
}
