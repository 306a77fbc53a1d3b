//! The labels of metrics and their values.

use std::fmt::Write;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use crate::auth::Refusal;

/// The result of a callback, with the status of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum CallbackResult {
    /// Stored: 200.
    Accepted,
    /// Stored earlier: 200.
    Duplicate,
    /// Not authentic: 401.
    Refused,
    /// Not a callback: 400, 408, 413.
    Invalid,
    /// Too many requests, or shutting down: 503.
    Overloaded,
    /// The store failed, is full, or did not answer in time: 503.
    Failed,
    /// Sent to an unknown URL: 404.
    Misrouted,
}

/// The result of an attempt to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum DeliveryOutcome {
    Done,
    /// It is tried again.
    Retry,
    /// It is not tried again until somebody replays it.
    Parked,
}

macro_rules! label_value {
    ($type:ty { $($variant:ident => $text:literal),* $(,)? }) => {
        impl $type {
            /// The value of the label.
            pub(crate) fn slug(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl EncodeLabelValue for $type {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> std::fmt::Result {
                encoder.write_str(self.slug())
            }
        }
    };
}
impl CallbackResult {
    pub(crate) const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Duplicate,
        Self::Refused,
        Self::Invalid,
        Self::Overloaded,
        Self::Failed,
        Self::Misrouted,
    ];
}

label_value!(CallbackResult {
    Accepted => "accepted", Duplicate => "duplicate", Refused => "refused",
    Invalid => "invalid", Overloaded => "overloaded", Failed => "failed", Misrouted => "misrouted",
});
label_value!(DeliveryOutcome { Done => "done", Retry => "retry", Parked => "parked" });

impl EncodeLabelValue for Refusal {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> std::fmt::Result {
        encoder.write_str(self.slug())
    }
}

/// Labels of `livehook_callbacks_total`. A callback that is not authentic has the kind `unknown`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CallbackLabels {
    /// A configured source, or `unknown` for misrouted callbacks.
    pub source: String,
    /// The slug of the kind of an authentic callback.
    pub kind: &'static str,
    pub result: CallbackResult,
}

/// The label of metrics per source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SourceLabel {
    pub source: String,
}

/// Labels of callbacks whose body names another kind than their URL. The log has the other kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct MixedUpLabels {
    pub source: String,
    /// The slug of the kind whose URL was called.
    pub url: &'static str,
}

/// Labels of `livehook_forgeries_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ForgeryLabels {
    pub source: String,
    pub reason: Refusal,
}

/// The label of metrics per kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabel {
    /// The slug of the kind.
    pub kind: &'static str,
}

/// The label of metrics per handler.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct HandlerLabel {
    pub handler: String,
}

/// The label of metrics per push domain. Only configured domains appear, because a stranger can
/// send any domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DomainLabel {
    /// A configured push domain, or `other`.
    pub domain: String,
}

/// Labels of `livehook_deliveries_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DeliveryLabels {
    pub handler: String,
    pub outcome: DeliveryOutcome,
}
