//! What the callbacks tell of their senders: how far the clocks are apart, and since when something fails.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::auth::Refusal;
use crate::clock::Timestamp;
use crate::kind::RetrySchedule;
use crate::metrics::{CallbackResult, Metrics, SourceLabel};

/// `t` is this long after the sending.
const SIGNATURE_LIFE: i64 = 600;
/// The median is taken over so many.
const SAMPLES: usize = 101;
/// Clocks this far apart are wrong.
const LOUD: i64 = 120;
/// A line about the same thing comes this often.
const REPEAT: Duration = Duration::from_secs(60);
/// Without another failure for this long, nothing is failing any more: retries come every minute or two.
const QUIET: Duration = Duration::from_secs(150);

/// What is known of a source's sender.
#[derive(Debug, Default)]
pub(super) struct SourceWatch {
    watched: Mutex<Watched>,
    /// Whether [`Watched::failing`] may be set: it seldom is, and every answer looks.
    is_failing: AtomicBool,
}

#[derive(Debug, Default)]
struct Watched {
    /// The sender's clock minus ours, in seconds.
    offsets: VecDeque<i64>,
    /// Since when, and when last, something was not taken.
    failing: Option<(Timestamp, Timestamp)>,
    told_offset: Option<Timestamp>,
    told_refusal: HashMap<Refusal, Timestamp>,
}

impl SourceWatch {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A correct signature came to `source`, expired or not.
    pub(super) fn signed(&self, source: &str, t: i64, now: Timestamp) {
        let mut watched = self.watched();
        if watched.offsets.len() == SAMPLES {
            watched.offsets.pop_front();
        }
        let offset = t
            .saturating_sub(SIGNATURE_LIFE)
            .saturating_sub(now.seconds());
        watched.offsets.push_back(offset);
        // The median is worth its sorting only where there is reason for doubt.
        let due = offset.abs() > LOUD
            && watched
                .told_offset
                .is_none_or(|told| now.since(told) >= REPEAT);
        if due && let Some(seconds) = median(&watched.offsets).filter(|median| median.abs() > LOUD)
        {
            watched.told_offset = Some(now);
            tracing::error!(
                callback.source = source,
                clock.here = %now,
                clock.sender = %Timestamp::from_seconds(now.seconds().saturating_add(seconds)),
                clock.offset_seconds = seconds,
                "this machine's clock and the sender's are {} s apart: callbacks are refused as expired, or forgeries live longer; set this machine's clock",
                seconds.abs()
            );
        }
    }

    /// A callback was answered.
    pub(super) fn answered(&self, result: CallbackResult, now: impl FnOnce() -> Timestamp) {
        match result {
            CallbackResult::Accepted | CallbackResult::Duplicate => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    self.watched().failing = None;
                }
            }
            CallbackResult::Refused | CallbackResult::Overloaded | CallbackResult::Failed => {
                let now = now();
                let mut watched = self.watched();
                let since = match watched.failing {
                    Some((since, last)) if now.since(last) < QUIET => since,
                    _ => now,
                };
                watched.failing = Some((since, now));
                self.is_failing.store(true, Ordering::Relaxed);
            }
            CallbackResult::Invalid => {}
        }
    }

    /// Whether it is time to tell of refusals for this reason.
    pub(super) fn is_first_refusal(&self, reason: Refusal, now: Timestamp) -> bool {
        let mut watched = self.watched();
        let due = watched
            .told_refusal
            .get(&reason)
            .is_none_or(|told| now.since(*told) >= REPEAT);
        if due {
            watched.told_refusal.insert(reason, now);
        }
        due
    }

    /// Brings the gauges of `source` up to date.
    pub(super) fn measure(&self, source: &str, metrics: &Metrics, now: Timestamp) {
        let mut watched = self.watched();
        let label = SourceLabel {
            source: source.to_owned(),
        };
        if let Some(offset) = median(&watched.offsets) {
            metrics
                .clock_offset
                .get_or_create(&label)
                .set(offset as f64);
        }
        watched.failing = watched.failing.filter(|(_, last)| now.since(*last) < QUIET);
        match watched.failing {
            Some((since, _)) => {
                let remaining = RetrySchedule::COMMON
                    .window()
                    .saturating_sub(now.since(since));
                metrics
                    .retry_window_remaining
                    .get_or_create(&label)
                    .set(remaining.as_secs_f64());
            }
            None => drop(metrics.retry_window_remaining.remove(&label)),
        }
    }
}

fn median(offsets: &VecDeque<i64>) -> Option<i64> {
    let mut sorted: Vec<i64> = offsets.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    #[test]
    fn a_few_late_retries_do_not_move_the_median() {
        let watch = SourceWatch::default();
        for late in [0, 0, 0, 500, 0] {
            watch.signed("css", NOW.seconds() + 600 - late, NOW);
        }
        let metrics = Metrics::default();
        watch.measure("css", &metrics, NOW);
        assert!(
            metrics
                .encode()
                .contains("livehook_clock_offset_seconds{source=\"css\"} 0")
        );
    }

    #[test]
    fn the_window_runs_only_while_something_fails() {
        let watch = SourceWatch::default();
        let metrics = Metrics::default();
        let shown = |seconds: u64| {
            watch.measure("css", &metrics, NOW.plus(Duration::from_secs(seconds)));
            let text = metrics.encode();
            text.lines()
                .find(|line| line.starts_with("livehook_retry_window_remaining_seconds{"))
                .map(str::to_owned)
        };
        assert_eq!(shown(0), None);
        watch.answered(CallbackResult::Failed, || NOW);
        watch.answered(CallbackResult::Failed, || NOW.plus(Duration::from_secs(60)));
        assert_eq!(
            shown(70).as_deref(),
            Some("livehook_retry_window_remaining_seconds{source=\"css\"} 650.0")
        );
        watch.answered(CallbackResult::Accepted, || {
            NOW.plus(Duration::from_secs(80))
        });
        assert_eq!(shown(81), None);
    }
}
