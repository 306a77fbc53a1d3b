//! The two text formats of metrics.

use std::fmt::Write;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextFormat {
    /// The format of Prometheus, which every scraper understands.
    Prometheus,
    /// OpenMetrics 1.0, for clients that ask for it.
    OpenMetrics,
}

impl TextFormat {
    /// The format for a request with these `Accept` headers: OpenMetrics only if they name it and
    /// do not prefer the other format.
    pub(crate) fn accepted<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let (mut plain, mut open) = (0.0, 0.0);
        for range in accept.flat_map(|header| header.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.trim().parse::<f32>().ok());
            let weight = weight.unwrap_or(1.0);
            if name.eq_ignore_ascii_case("application/openmetrics-text") {
                open = weight.max(open);
            } else if name.eq_ignore_ascii_case("text/plain") {
                plain = weight.max(plain);
            }
        }
        if open > 0.0 && open >= plain {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Converts a text in the OpenMetrics format. The samples are the same in both formats. In the
    /// Prometheus format, a counter's description has the name of its samples, and there is no end
    /// mark.
    pub(super) fn of_openmetrics(self, text: String) -> String {
        if self == Self::OpenMetrics {
            return text;
        }
        let mut plain = String::with_capacity(text.len());
        let mut help = None;
        for line in text.lines() {
            if line == "# EOF" || line.starts_with("# UNIT ") {
                continue;
            }
            if let Some(described) = line.strip_prefix("# HELP ") {
                help = described.split_once(' ');
                continue;
            }
            let Some((name, kind)) = line
                .strip_prefix("# TYPE ")
                .and_then(|described| described.split_once(' '))
            else {
                plain.push_str(line);
                plain.push('\n');
                continue;
            };
            let end = match kind {
                "counter" => "_total",
                _ => "",
            };
            if let Some((_, words)) = help.take() {
                let _ = writeln!(plain, "# HELP {name}{end} {words}"); // into a String
            }
            let _ = writeln!(plain, "# TYPE {name}{end} {kind}");
        }
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let format = |accept: &str| TextFormat::accepted([accept].into_iter());
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/openmetrics-text;q=0",
            "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5",
        ] {
            assert_eq!(format(accept), TextFormat::Prometheus, "{accept}");
        }
        for accept in [
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; version=1.0.0",
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        ] {
            assert_eq!(format(accept), TextFormat::OpenMetrics, "{accept}");
        }
    }

    #[test]
    fn both_have_the_same_samples_under_names_of_their_own() {
        let metrics = Metrics::default();
        metrics.of_source("css");
        metrics.callback_duration.observe(0.5);
        let open = metrics.encode(TextFormat::OpenMetrics);
        let plain = metrics.encode(TextFormat::Prometheus);
        let samples = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(samples(&open), samples(&plain));
        assert!(open.ends_with("# EOF\n") && open.contains("# TYPE livehook_callbacks counter\n"));
        assert!(!plain.contains("# EOF"));
        for line in [
            "# HELP livehook_callbacks_total Requests to a source, by result.\n",
            "# TYPE livehook_callbacks_total counter\n",
            "# TYPE livehook_callback_duration_seconds histogram\n",
            "# TYPE livehook_inbox_bytes gauge\n",
        ] {
            assert!(plain.contains(line), "{line} in\n{plain}");
        }
        let described = |text: &str, what: &str| text.matches(what).count();
        for what in ["# HELP ", "# TYPE "] {
            assert_eq!(described(&open, what), described(&plain, what));
        }
    }
}
