//! What livehook counts, in the names of Prometheus. No label ever holds anything that a stranger sent.
//!
//! Whatever labels a counter can have are known beforehand, so each of its series is there from the start, at 0: Prometheus
//! sees no growth in one that appears with what had already happened.

mod source;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use css_callbacks::Kind;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub(crate) use self::source::SourceMetrics;
pub(crate) use self::text::TextFormat;
use crate::auth::Refusal;

/// What became of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum CallbackResult {
    /// Stored: 200.
    Accepted,
    /// Stored before: 200.
    Duplicate,
    /// Not authentic: 401.
    Refused,
    /// Not a callback: 400, 408, 413.
    Invalid,
    /// More than fits, or shutting down: 503.
    Overloaded,
    /// The store failed, is full, or did not answer in time: 503.
    Failed,
    /// Sent to a URL that is nobody's: 404.
    Misrouted,
}

/// What became of an attempt to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum DeliveryOutcome {
    /// Handled.
    Done,
    /// To be tried again.
    Retry,
    /// Given up until somebody replays it.
    Parked,
}

macro_rules! label_value {
    ($type:ty { $($variant:ident => $text:literal),* $(,)? }) => {
        impl $type {
            /// It in one word, as in labels.
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
    /// Every one.
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

/// Labels of `livehook_callbacks_total`. What is not authenticated has kind `unknown`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CallbackLabels {
    /// A configured source, or `unknown` for what was misrouted.
    pub source: String,
    /// The slug of the kind of an authentic callback.
    pub kind: &'static str,
    /// What became of it.
    pub result: CallbackResult,
}

/// The label of what is counted per source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SourceLabel {
    /// A configured source.
    pub source: String,
}

/// Labels of callbacks whose body names another kind than their URL. Which one, the log says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct MixedUpLabels {
    /// A configured source.
    pub source: String,
    /// The slug of the kind whose URL was called.
    pub url: &'static str,
}

/// Labels of `livehook_forgeries_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ForgeryLabels {
    /// A configured source.
    pub source: String,
    /// Why it was refused.
    pub reason: Refusal,
}

/// The label of what is counted per kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabel {
    /// The slug of the kind.
    pub kind: &'static str,
}

/// The label of what is counted per handler.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct HandlerLabel {
    /// A configured handler.
    pub handler: String,
}

/// The label of what is counted per push domain. A domain is what a stranger sends, unless the operator has named it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DomainLabel {
    /// A configured push domain, or `other`.
    pub domain: String,
}

/// Labels of `livehook_deliveries_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DeliveryLabels {
    /// A configured handler.
    pub handler: String,
    /// What became of the attempt.
    pub outcome: DeliveryOutcome,
}

type Seconds = Gauge<f64, AtomicU64>;
type Count = Gauge<i64, AtomicI64>;

/// Every metric. Counters and histograms are moved where things happen, gauges just before they are shown.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Requests to a configured source by what became of them.
    pub callbacks: Family<CallbackLabels, Counter>,
    /// Callbacks whose body named another kind than their URL.
    pub mixed_up: Family<MixedUpLabels, Counter>,
    /// Refused callbacks that do not even look like genuine ones that came late.
    pub forgeries: Family<ForgeryLabels, Counter>,
    /// Callbacks of a source that came to a URL that is nobody's.
    pub misrouted: Family<SourceLabel, Counter>,
    /// Requests that were no HTTP/1.1.
    pub unreadable: Counter,
    /// From the complete head of a request to its answer.
    pub callback_duration: Histogram,
    /// From the begin of a batch of callbacks to the end of its sync.
    pub commit_duration: Histogram,
    /// Callbacks per batch.
    pub commit_batch_size: Histogram,
    /// Attempts by what became of them.
    pub deliveries: Family<DeliveryLabels, Counter>,
    /// Members that did not fit their types, of events that handlers got in the typed form.
    pub untyped_members: Family<KindLabel, Counter>,
    /// How long attempts took.
    pub delivery_duration: Family<HandlerLabel, Histogram, fn() -> Histogram>,
    /// Events a handler has not finished.
    pub handler_lag_events: Family<HandlerLabel, Count>,
    /// Age of the oldest event a handler has not finished.
    pub handler_lag_seconds: Family<HandlerLabel, Seconds>,
    /// Parked deliveries.
    pub parked: Family<HandlerLabel, Count>,
    /// Until the sender gives up what is failing now.
    pub retry_window_remaining: Family<SourceLabel, Seconds>,
    /// 1 while nothing authentic comes to a source, and signed callbacks are refused.
    pub source_deaf: Family<SourceLabel, Count>,
    /// The sender's clock minus ours, by the `t` of correct signatures.
    pub clock_offset: Family<SourceLabel, Seconds>,
    /// What the inbox takes on disk.
    pub inbox_bytes: Count,
    /// Refused callbacks that were not kept in the rejected list.
    pub rejected_dropped: Counter,
    /// Lines of livehook's own log that nobody read in time.
    pub log_lines_dropped: Counter,
    /// Streams that are live, by domain.
    pub streams_live: Family<DomainLabel, Count>,
    /// Streams that were again as before, before their change was told.
    pub stream_flaps: Counter,
    /// Streams that have been live suspiciously long.
    pub streams_stale: Count,
    /// Events that are not on the board of streams yet.
    pub streams_lag_events: Count,
}

/// The counters of one handler's attempts.
#[derive(Debug)]
pub(crate) struct DeliveryMetrics {
    done: Counter,
    retry: Counter,
    parked: Counter,
    duration: Histogram,
    untyped: Family<KindLabel, Counter>,
}

impl DeliveryMetrics {
    /// Counts an attempt and its duration.
    pub(crate) fn count(&self, outcome: DeliveryOutcome, took: Duration) {
        let counter = match outcome {
            DeliveryOutcome::Done => &self.done,
            DeliveryOutcome::Retry => &self.retry,
            DeliveryOutcome::Parked => &self.parked,
        };
        counter.inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts members of a delivered event that did not fit.
    pub(crate) fn count_untyped(&self, kind: Kind, members: usize) {
        if members > 0 {
            let counter = self.untyped.get_or_create(&KindLabel { kind: kind.slug() });
            counter.inc_by(members as u64);
        }
    }
}

/// From a tenth of a millisecond, doubling: a sync takes 0.1 to 3 ms, the sender waits 20 s.
fn durations() -> Histogram {
    Histogram::new((0..18).map(|power| 0.0001 * f64::from(1 << power)))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("livehook");
        macro_rules! register {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        Self {
            callbacks: register!(
                "callbacks",
                "Requests to a source by what became of them",
                Family::default()
            ),
            mixed_up: register!(
                "mixed_up_urls",
                "Callbacks whose body names another kind than their URL",
                Family::default()
            ),
            forgeries: register!(
                "forgeries",
                "Refused callbacks that are not genuine ones that came late",
                Family::default()
            ),
            misrouted: register!(
                "misrouted",
                "Authentic callbacks of a source at a URL that is nobody's",
                Family::default()
            ),
            unreadable: register!(
                "unreadable_requests",
                "Requests that were no HTTP/1.1: TLS, HTTP/2, the PROXY protocol",
                Counter::default()
            ),
            callback_duration: register!(
                "callback_duration_seconds",
                "From the head of a request to its answer",
                durations()
            ),
            commit_duration: register!(
                "commit_duration_seconds",
                "Batches of callbacks, sync included",
                durations()
            ),
            commit_batch_size: register!(
                "commit_batch_size",
                "Callbacks per batch that is synced",
                { Histogram::new((0..13).map(|power| f64::from(1 << power))) }
            ),
            deliveries: register!(
                "deliveries",
                "Attempts to deliver by what became of them",
                Family::default()
            ),
            untyped_members: register!(
                "untyped_members",
                "Members that stayed as received in the typed form of delivered events",
                {
                    let family = Family::<KindLabel, Counter>::default();
                    for kind in Kind::ALL {
                        let _ = family.get_or_create(&KindLabel { kind: kind.slug() });
                    }
                    family
                }
            ),
            delivery_duration: register!("delivery_duration_seconds", "How long attempts took", {
                Family::new_with_constructor(durations as fn() -> Histogram)
            }),
            handler_lag_events: register!(
                "handler_lag_events",
                "Events not finished by the handler",
                Family::default()
            ),
            handler_lag_seconds: register!(
                "handler_lag_seconds",
                "Age of the oldest event not finished by the handler",
                Family::default()
            ),
            parked: register!(
                "parked",
                "Deliveries given up until replayed or discarded",
                Family::default()
            ),
            retry_window_remaining: register!(
                "retry_window_remaining_seconds",
                "Until the sender gives up what fails now",
                Family::default()
            ),
            source_deaf: register!(
                "source_deaf",
                "Whether nothing authentic comes while signed callbacks are refused",
                Family::default()
            ),
            clock_offset: register!(
                "clock_offset_seconds",
                "The sender's clock minus this machine's",
                Family::default()
            ),
            inbox_bytes: register!("inbox_bytes", "Size of the inbox on disk", Count::default()),
            streams_live: register!(
                "streams_live",
                "Streams that are live, by configured domain",
                Family::default()
            ),
            stream_flaps: register!(
                "stream_flaps",
                "Streams that went offline, or live, and back before that was told",
                Counter::default()
            ),
            streams_stale: register!(
                "streams_stale",
                "Streams that have been live for longer than stale_after",
                Count::default()
            ),
            streams_lag_events: register!(
                "streams_lag_events",
                "Events that are not on the board of streams yet",
                Count::default()
            ),
            rejected_dropped: register!(
                "rejected_dropped",
                "Refused callbacks not kept in the rejected list",
                Counter::default()
            ),
            log_lines_dropped: register!(
                "log_lines_dropped",
                "Lines of livehook's own log that nobody read in time",
                Counter::default()
            ),
            registry,
        }
    }
}

impl Metrics {
    /// What is counted of a handler's attempts, looked up once.
    pub(crate) fn of_handler(&self, handler: &str) -> DeliveryMetrics {
        let counter = |outcome| {
            let handler = handler.to_owned();
            self.deliveries
                .get_or_create_owned(&DeliveryLabels { handler, outcome })
        };
        DeliveryMetrics {
            done: counter(DeliveryOutcome::Done),
            retry: counter(DeliveryOutcome::Retry),
            parked: counter(DeliveryOutcome::Parked),
            duration: self.delivery_duration.get_or_create_owned(&HandlerLabel {
                handler: handler.to_owned(),
            }),
            untyped: self.untyped_members.clone(),
        }
    }

    /// Shows how many streams are live in each of the domains that are `known`, and in all others.
    pub(crate) fn show_live(&self, known: &BTreeSet<String>, live: Vec<(String, u64)>) {
        let mut shown: BTreeMap<&str, u64> = known.iter().map(|name| (&**name, 0)).collect();
        shown.insert("other", 0);
        for (domain, number) in &live {
            let label = known.get(domain).map_or("other", String::as_str);
            *shown.entry(label).or_default() += number;
        }
        for (domain, number) in shown {
            let domain = domain.to_owned();
            self.streams_live
                .get_or_create_owned(&DomainLabel { domain })
                .set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// Everything.
    pub(crate) fn encode(&self, format: TextFormat) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            text.clear(); // writing to a String does not fail
        }
        format.of_openmetrics(text)
    }
}
