//! What the callbacks tell of their senders: how far the clocks are apart, and since when something fails.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{CallbackResult, Metrics, Refusal};
use crate::clock::Timestamp;
use crate::kind::RetrySchedule;
use crate::metrics::SourceLabel;

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

/// The clocks of a sender and of this machine, compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    /// The sender's minus ours, in seconds.
    pub seconds: i64,
}

/// What is known of each source's sender.
#[derive(Debug, Default)]
pub struct SourceWatch(Mutex<HashMap<Arc<str>, Watched>>);

#[derive(Debug, Default)]
struct Watched {
    offsets: VecDeque<i64>,
    /// Since when, and when last, something was not taken.
    failing: Option<(Timestamp, Timestamp)>,
    told_offset: Option<Timestamp>,
    told_refusal: HashMap<Refusal, Timestamp>,
}

impl SourceWatch {
    fn with<T>(&self, source: &Arc<str>, change: impl FnOnce(&mut Watched) -> T) -> T {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match watched.get_mut(source) {
            Some(watched) => change(watched),
            None => change(watched.entry(source.clone()).or_default()),
        }
    }

    /// A correct signature came, expired or not.
    pub(super) fn signed(&self, source: &Arc<str>, t: i64, now: Timestamp) {
        self.with(source, |watched| {
            if watched.offsets.len() == SAMPLES {
                watched.offsets.pop_front();
            }
            watched.offsets.push_back(t.saturating_sub(SIGNATURE_LIFE).saturating_sub(now.seconds()));
            let due = watched.told_offset.is_none_or(|told| now.since(told) >= REPEAT);
            // The median is worth its sorting only where there is reason for doubt.
            if due && watched.offsets.back().is_some_and(|offset| offset.abs() > LOUD) {
                let Some(ClockOffset { seconds }) = median(&watched.offsets).filter(|offset| offset.seconds.abs() > LOUD) else {
                    return;
                };
                watched.told_offset = Some(now);
                tracing::error!(
                    callback.source = &**source,
                    clock.here = %now,
                    clock.sender = %Timestamp::from_seconds(now.seconds().saturating_add(seconds)),
                    clock.offset_seconds = seconds,
                    "this machine's clock and the sender's are {} s apart: callbacks are refused as expired, or forgeries live longer; set this machine's clock",
                    seconds.abs()
                );
            }
        });
    }

    /// A callback was answered.
    pub(super) fn answered(&self, source: &Arc<str>, result: CallbackResult, now: Timestamp) {
        self.with(source, |watched| match result {
            CallbackResult::Accepted | CallbackResult::Duplicate => watched.failing = None,
            CallbackResult::Refused | CallbackResult::Overloaded | CallbackResult::Failed => {
                let since = match watched.failing {
                    Some((since, last)) if now.since(last) < QUIET => since,
                    _ => now,
                };
                watched.failing = Some((since, now));
            }
            CallbackResult::Invalid => {}
        });
    }

    /// Whether it is time to tell of refusals for this reason.
    pub(super) fn is_first_refusal(
        &self,
        source: &Arc<str>,
        reason: Refusal,
        now: Timestamp,
    ) -> bool {
        self.with(source, |watched| {
            let due = watched
                .told_refusal
                .get(&reason)
                .is_none_or(|told| now.since(*told) >= REPEAT);
            if due {
                watched.told_refusal.insert(reason, now);
            }
            due
        })
    }

    /// Brings the gauges up to date.
    pub(super) fn measure(&self, metrics: &Metrics, now: Timestamp) {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (source, watched) in watched.iter_mut() {
            let label = SourceLabel {
                source: source.to_string(),
            };
            if let Some(offset) = median(&watched.offsets) {
                metrics
                    .clock_offset
                    .get_or_create(&label)
                    .set(offset.seconds as f64);
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
}

fn median(offsets: &VecDeque<i64>) -> Option<ClockOffset> {
    let mut sorted: Vec<i64> = offsets.iter().copied().collect();
    sorted.sort_unstable();
    sorted
        .get(sorted.len() / 2)
        .map(|seconds| ClockOffset { seconds: *seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    #[test]
    fn a_few_late_retries_do_not_move_the_median() {
        let watch = SourceWatch::default();
        let source = Arc::from("css");
        for late in [0, 0, 0, 500, 0] {
            watch.signed(&source, NOW.seconds() + 600 - late, NOW);
        }
        let metrics = Metrics::default();
        watch.measure(&metrics, NOW);
        assert!(
            metrics
                .encode()
                .contains("livehook_clock_offset_seconds{source=\"css\"} 0")
        );
    }

    #[test]
    fn the_window_runs_only_while_something_fails() {
        let watch = SourceWatch::default();
        let source = Arc::from("css");
        let metrics = Metrics::default();
        let shown = |seconds: u64| {
            watch.measure(&metrics, NOW.plus(Duration::from_secs(seconds)));
            let text = metrics.encode();
            text.lines()
                .find(|line| line.starts_with("livehook_retry_window_remaining_seconds{"))
                .map(str::to_owned)
        };
        assert_eq!(shown(0), None);
        watch.answered(&source, CallbackResult::Failed, NOW);
        watch.answered(
            &source,
            CallbackResult::Failed,
            NOW.plus(Duration::from_secs(60)),
        );
        assert_eq!(
            shown(70).as_deref(),
            Some("livehook_retry_window_remaining_seconds{source=\"css\"} 650.0")
        );
        watch.answered(
            &source,
            CallbackResult::Accepted,
            NOW.plus(Duration::from_secs(80)),
        );
        assert_eq!(shown(81), None);
    }
}
