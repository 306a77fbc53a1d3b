//! The counters of one source. They are looked up once, so that a callback needs no look-up.

use css_callbacks::Kind;
use prometheus_client::metrics::counter::Counter;

use super::{CallbackLabels, CallbackResult, ForgeryLabels, Metrics, MixedUpLabels, SourceLabel};
use crate::auth::Refusal;

/// The counters of one source.
#[derive(Debug)]
pub(crate) struct SourceMetrics {
    /// By kind, then by result.
    callbacks: Vec<Vec<Counter>>,
    /// By reason.
    forgeries: Vec<Counter>,
    /// By the URL's kind.
    mixed_up: Vec<Counter>,
    misrouted: Counter,
}

impl SourceMetrics {
    /// Requests to the source, by kind and result. `kind` is one that can be received.
    pub(crate) fn callbacks(&self, kind: Kind, result: CallbackResult) -> &Counter {
        &self.callbacks[kind as usize][result as usize]
    }

    /// Refused callbacks, without genuine ones that came late.
    pub(crate) fn forgeries(&self, reason: Refusal) -> &Counter {
        &self.forgeries[reason as usize]
    }

    /// Callbacks at the URL of this kind whose body names another one.
    pub(crate) fn mixed_up(&self, url: Kind) -> &Counter {
        &self.mixed_up[url as usize]
    }

    /// Callbacks of the source at an unknown URL.
    pub(crate) fn misrouted(&self) -> &Counter {
        &self.misrouted
    }
}

impl Metrics {
    /// Creates all counters of a source.
    pub(crate) fn of_source(&self, source: &str) -> SourceMetrics {
        let source = source.to_owned();
        let of_kind = |kind: Kind| {
            let results = CallbackResult::ALL.iter().map(|result| match result {
                // The source and kind of such a request are unknown.
                CallbackResult::Misrouted => self.of_no_source(),
                result => self.callbacks.get_or_create_owned(&CallbackLabels {
                    source: source.clone(),
                    kind: kind.slug(),
                    result: *result,
                }),
            });
            results.collect()
        };
        let of_reason = |reason| {
            let source = source.clone();
            self.forgeries
                .get_or_create_owned(&ForgeryLabels { source, reason })
        };
        let of_url = |url: Kind| {
            let source = source.clone();
            self.mixed_up.get_or_create_owned(&MixedUpLabels {
                source,
                url: url.slug(),
            })
        };
        SourceMetrics {
            callbacks: Kind::all_and_unknown().map(of_kind).collect(),
            forgeries: Refusal::ALL.into_iter().map(of_reason).collect(),
            mixed_up: Kind::ALL.into_iter().map(of_url).collect(),
            misrouted: self.misrouted.get_or_create_owned(&SourceLabel { source }),
        }
    }

    /// Requests to unknown URLs.
    pub(crate) fn of_no_source(&self) -> Counter {
        self.callbacks.get_or_create_owned(&CallbackLabels {
            source: Kind::Unknown.slug().to_owned(),
            kind: Kind::Unknown.slug(),
            result: CallbackResult::Misrouted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::TextFormat;

    #[test]
    fn what_can_be_counted_of_a_source_is_there_at_once() {
        let metrics = Metrics::default();
        let source = metrics.of_source("css");
        source
            .callbacks(Kind::Unknown, CallbackResult::Failed)
            .inc();
        source
            .callbacks(Kind::StreamMix, CallbackResult::Accepted)
            .inc();
        source.forgeries(Refusal::Unsigned).inc();
        source.mixed_up(Kind::StreamMix).inc();
        let text = metrics.encode(TextFormat::Prometheus);
        let has = |line: String| assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
        for kind in Kind::all_and_unknown() {
            for result in CallbackResult::ALL {
                let labels = format!("kind=\"{kind}\",result=\"{}\"", result.slug());
                let counted = match (kind, result) {
                    (Kind::Unknown, CallbackResult::Misrouted) => {
                        has("livehook_callbacks_total{source=\"unknown\",kind=\"unknown\",result=\"misrouted\"} 0".to_owned());
                        continue;
                    }
                    (_, CallbackResult::Misrouted) => continue,
                    (Kind::Unknown, CallbackResult::Failed)
                    | (Kind::StreamMix, CallbackResult::Accepted) => 1,
                    _ => 0,
                };
                has(format!(
                    "livehook_callbacks_total{{source=\"css\",{labels}}} {counted}"
                ));
            }
        }
        for reason in Refusal::ALL {
            let counted = u8::from(reason == Refusal::Unsigned);
            let labels = format!("source=\"css\",reason=\"{}\"", reason.slug());
            has(format!("livehook_forgeries_total{{{labels}}} {counted}"));
        }
        for kind in Kind::ALL {
            let counted = u8::from(kind == Kind::StreamMix);
            let labels = format!("source=\"css\",url=\"{kind}\"");
            has(format!(
                "livehook_mixed_up_urls_total{{{labels}}} {counted}"
            ));
        }
        has("livehook_misrouted_total{source=\"css\"} 0".to_owned());
    }
}
