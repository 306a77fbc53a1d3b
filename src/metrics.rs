//! The metrics that Prometheus reads. No label contains anything that a stranger sent.
//!
//! All label values of counters are known in advance, so each series exists from the start, at 0.
//! If a series appeared later with a value above 0, Prometheus would not see that growth.

mod labels;
mod source;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use css_callbacks::Kind;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub(crate) use self::labels::{
    CallbackLabels, CallbackResult, DeliveryLabels, DeliveryOutcome, DomainLabel, ForgeryLabels,
    HandlerLabel, KindLabel, MixedUpLabels, SourceLabel,
};
pub(crate) use self::source::SourceMetrics;
pub(crate) use self::text::TextFormat;

type Seconds = Gauge<f64, AtomicU64>;
type Count = Gauge<i64, AtomicI64>;

/// Declares [`Metrics`]: for each metric the field, its type, its name and its help text. A metric
/// that does not start with its default has its start value in a third place.
macro_rules! metrics {
    ($($field:ident: $type:ty = $name:literal, $help:literal $(, $new:expr)?;)*) => {
        /// Every metric. Counters and histograms change when something happens; gauges are set just
        /// before they are read.
        #[derive(Debug)]
        pub(crate) struct Metrics {
            registry: Registry,
            $(pub $field: $type,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::with_prefix("livehook");
                $(
                    let $field = metrics!(@new $type $(, $new)?);
                    registry.register($name, $help, $field.clone());
                )*
                Self { registry, $($field),* }
            }
        }
    };
    (@new $type:ty) => { <$type>::default() };
    (@new $type:ty, $new:expr) => { $new };
}

metrics! {
    callbacks: Family<CallbackLabels, Counter> = "callbacks", "Requests to a source, by result";
    mixed_up: Family<MixedUpLabels, Counter> =
        "mixed_up_urls", "Callbacks whose body names another kind than their URL";
    forgeries: Family<ForgeryLabels, Counter> =
        "forgeries", "Refused callbacks, without genuine ones that came late";
    misrouted: Family<SourceLabel, Counter> =
        "misrouted", "Authentic callbacks of a source at an unknown URL";
    unreadable: Counter =
        "unreadable_requests", "Requests that were not HTTP/1.1, such as TLS, HTTP/2 or the PROXY protocol";
    callback_duration: Histogram =
        "callback_duration_seconds", "Time from the complete head of a request to its answer", durations();
    commit_duration: Histogram =
        "commit_duration_seconds", "Time to write and sync a batch of callbacks", durations();
    commit_batch_size: Histogram =
        "commit_batch_size", "Callbacks in a batch that is synced at once",
        Histogram::new((0..13).map(|power| f64::from(1 << power)));
    deliveries: Family<DeliveryLabels, Counter> = "deliveries", "Attempts to deliver, by outcome";
    untyped_members: Family<KindLabel, Counter> =
        "untyped_members", "Members of delivered events that did not fit their types and stayed as received",
        zero_for_each_kind();
    delivery_duration: Family<HandlerLabel, Histogram, fn() -> Histogram> =
        "delivery_duration_seconds", "Duration of attempts to deliver",
        Family::new_with_constructor(durations as fn() -> Histogram);
    handler_lag_events: Family<HandlerLabel, Count> =
        "handler_lag_events", "Events that the handler has not finished";
    handler_lag_seconds: Family<HandlerLabel, Seconds> =
        "handler_lag_seconds", "Age of the oldest event that the handler has not finished";
    parked: Family<HandlerLabel, Count> =
        "parked", "Parked deliveries, which wait for a replay or a discard";
    retry_window_remaining: Family<SourceLabel, Seconds> =
        "retry_window_remaining_seconds", "Time until the sender gives up a callback that fails now";
    source_deaf: Family<SourceLabel, Count> =
        "source_deaf", "1 while signed callbacks are refused and no authentic one comes, else 0";
    clock_offset: Family<SourceLabel, Seconds> =
        "clock_offset_seconds", "The sender's clock minus this machine's, by the t of correct signatures";
    inbox_bytes: Count = "inbox_bytes", "Size of the inbox on disk";
    inbox_preallocated_bytes: Counter =
        "inbox_preallocated_bytes", "Zeros written ahead for the log of an embedded inbox";
    damaged_events: Count =
        "damaged_events", "Events that are damaged on the disk, so that they cannot be delivered";
    streams_live: Family<DomainLabel, Count> =
        "streams_live", "Streams that are live, by configured domain";
    stream_flaps: Counter =
        "stream_flaps", "Changes of a stream that were undone before they were announced";
    streams_stale: Count =
        "streams_stale", "Streams that have been live for longer than stale_after";
    streams_lag_events: Count =
        "streams_lag_events", "Events that are not on the board of streams yet";
    rejected_dropped: Counter =
        "rejected_dropped", "Refused callbacks that were not kept in the rejected list";
    log_lines_dropped: Counter =
        "log_lines_dropped", "Lines of livehook's own log that nobody read in time";
}

/// From 0.1 ms, doubling: a sync takes 0.1 to 3 ms, and the sender waits 20 s.
fn durations() -> Histogram {
    Histogram::new((0..18).map(|power| 0.0001 * f64::from(1 << power)))
}

fn zero_for_each_kind() -> Family<KindLabel, Counter> {
    let family = Family::<KindLabel, Counter>::default();
    for kind in Kind::ALL {
        let _ = family.get_or_create(&KindLabel { kind: kind.slug() });
    }
    family
}

/// The metrics of one handler's attempts.
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

    /// Counts members of a delivered event that did not fit their types.
    pub(crate) fn count_untyped(&self, kind: Kind, members: usize) {
        if members > 0 {
            let counter = self.untyped.get_or_create(&KindLabel { kind: kind.slug() });
            counter.inc_by(members as u64);
        }
    }
}

impl Metrics {
    /// The metrics of a handler, looked up once.
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

    /// Sets the number of live streams in each of the `known` domains, and in all others.
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

    /// Returns all metrics as text.
    pub(crate) fn encode(&self, format: TextFormat) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            text.clear(); // writing to a String does not fail
        }
        format.of_openmetrics(text)
    }
}
