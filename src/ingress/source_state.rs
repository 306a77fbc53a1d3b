//! The state of one source in the callback listener.

use std::sync::Arc;

use css_callbacks::{Kind, Timestamp};

use super::answer::CallbackAnswer;
use super::source_health::SourceHealth;
use crate::metrics::SourceMetrics;
use crate::source::Source;

/// A source with its health and its metrics, so that a request needs one look-up.
pub(super) struct SourceState {
    pub(super) source: Arc<Source>,
    pub(super) health: Arc<SourceHealth>,
    pub(super) metrics: SourceMetrics,
}

impl SourceState {
    /// Counts an answer. `kind` is the kind of an authentic callback, `url_kind` that of the URL.
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
        self.health
            .answered(self.source.name(), likely, result, now);
    }
}
