//! Shows the progress of a simulation.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use css_simulator::SendProgress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Seconds between two lines if there is no terminal.
const LINE_INTERVAL: u64 = 5;

/// A progress bar on a terminal, else plain lines. Both go to standard error, so that standard
/// output has only the report.
pub(super) struct ProgressDisplay {
    bar: Option<ProgressBar>,
    /// Whether the bar counts events. Otherwise it counts seconds.
    counts_events: bool,
    /// The second in which the last line was printed.
    last_line: Cell<u64>,
}

impl ProgressDisplay {
    pub(super) fn new(events: Option<u64>, duration: Option<Duration>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let length = events.or(duration.map(|duration| duration.as_secs().max(1)));
            let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
            match ProgressStyle::with_template("{bar:20} {wide_msg}") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Self {
            bar,
            counts_events: events.is_some(),
            last_line: Cell::new(0),
        }
    }

    pub(super) fn show(&self, progress: SendProgress) {
        let SendProgress {
            sent,
            acknowledged,
            under_way,
            given_up,
            elapsed,
            last_trouble,
        } = progress;
        let seconds = elapsed.as_secs();
        let text = format!(
            "{seconds} s: {sent} sent, {acknowledged} acknowledged, {under_way} under way, {given_up} given up{}",
            last_trouble.map_or(String::new(), |trouble| format!(
                ", last trouble: {trouble}"
            ))
        );
        if let Some(bar) = &self.bar {
            bar.set_position(if self.counts_events { sent } else { seconds });
            bar.set_message(text);
        } else if seconds >= self.last_line.get() + LINE_INTERVAL {
            self.last_line.set(seconds);
            // Standard error may be closed; the report has everything.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
