//! What the callbacks tell of their senders: how far the clocks are apart, and since when something fails.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::auth::Refusal;
use crate::clock::Timestamp;
use crate::kind::Kind;
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
    /// What is not taken. As kinds and results are few, a stranger cannot make it grow.
    failing: BTreeMap<(Kind, CallbackResult), Failing>,
    told_offset: Option<Timestamp>,
    told_refusal: HashMap<Refusal, Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    since: Timestamp,
    last: Timestamp,
    told: Timestamp,
}

/// Callbacks that are not taken now, and how long the sender goes on repeating the first of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryWindow {
    /// Whose.
    pub source: Arc<str>,
    /// As the body says, or where it is not believed the URL.
    pub kind: Kind,
    /// What became of them.
    pub result: CallbackResult,
    /// When the first one was not taken.
    pub since: Timestamp,
    /// When the last one was not.
    pub last: Timestamp,
    /// How long the sender repeats one of this kind.
    pub window: Duration,
    /// What is left of that for the first one.
    pub remaining: Duration,
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

    /// A callback of `source` was answered.
    pub(super) fn answered(
        &self,
        source: &str,
        kind: Kind,
        result: CallbackResult,
        now: impl FnOnce() -> Timestamp,
    ) {
        match result {
            CallbackResult::Accepted | CallbackResult::Duplicate => {
                if self.is_failing.load(Ordering::Relaxed) {
                    let mut watched = self.watched();
                    // What came to the URL for all kinds may have been of this one.
                    watched.failing.retain(|(failing, _), _| {
                        !matches!(*failing, Kind::Unknown) && *failing != kind
                    });
                    self.is_failing
                        .store(!watched.failing.is_empty(), Ordering::Relaxed);
                }
            }
            CallbackResult::Refused | CallbackResult::Overloaded | CallbackResult::Failed => {
                let now = now();
                let mut watched = self.watched();
                let fresh = Failing {
                    since: now,
                    last: now,
                    told: now,
                };
                let failing = watched.failing.entry((kind, result)).or_insert(fresh);
                if now.since(failing.last) >= QUIET {
                    *failing = fresh;
                }
                failing.last = now;
                if now.since(failing.told) >= REPEAT {
                    failing.told = now;
                    tell(source, kind, result, failing.since, now);
                }
                self.is_failing.store(true, Ordering::Relaxed);
            }
            CallbackResult::Invalid => {}
        }
    }

    /// What is not taken now.
    pub(super) fn retry_windows(&self, source: &Arc<str>, now: Timestamp) -> Vec<RetryWindow> {
        let mut watched = self.watched();
        watched
            .failing
            .retain(|_, failing| now.since(failing.last) < QUIET);
        let windows = watched.failing.iter().map(|((kind, result), failing)| {
            let window = kind.retry_schedule().window();
            RetryWindow {
                source: source.clone(),
                kind: *kind,
                result: *result,
                since: failing.since,
                last: failing.last,
                window,
                remaining: window.saturating_sub(now.since(failing.since)),
            }
        });
        windows.collect()
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
    pub(super) fn measure(&self, source: &Arc<str>, metrics: &Metrics, now: Timestamp) {
        let windows = self.retry_windows(source, now);
        let label = SourceLabel {
            source: source.to_string(),
        };
        if let Some(offset) = median(&self.watched().offsets) {
            metrics
                .clock_offset
                .get_or_create(&label)
                .set(offset as f64);
        }
        // Of that which is lost first.
        match windows.iter().map(|window| window.remaining).min() {
            Some(remaining) => {
                metrics
                    .retry_window_remaining
                    .get_or_create(&label)
                    .set(remaining.as_secs_f64());
            }
            None => drop(metrics.retry_window_remaining.remove(&label)),
        }
    }
}

/// Says aloud what is about to be lost.
fn tell(source: &str, kind: Kind, result: CallbackResult, since: Timestamp, now: Timestamp) {
    let window = kind.retry_schedule().window();
    let left = window.saturating_sub(now.since(since));
    let is_refused = result == CallbackResult::Refused;
    let what = if is_refused {
        "have been refused"
    } else {
        "could not be taken"
    };
    let lost = if is_refused {
        "at best the rejected list has it"
    } else {
        "it is lost"
    };
    let end = match left.as_secs() {
        0 => format!("the sender has given up the first of them: {lost}"),
        seconds => format!(
            "in {} min the sender gives up the first of them, and then {lost}",
            seconds.div_ceil(60)
        ),
    };
    let kind = kind.slug();
    let result = result.slug();
    // A stranger can be refused as long as he likes; what the store does not take is certainly somebody's loss.
    if is_refused {
        tracing::warn!(
            callback.source = source,
            callback.kind = kind,
            callback.result = result,
            "callbacks {what} since {since}: {end}"
        );
    } else {
        tracing::error!(
            callback.source = source,
            callback.kind = kind,
            callback.result = result,
            "callbacks {what} since {since}: {end}"
        );
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
    use crate::log::Written;
    use crate::metrics::TextFormat;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    #[test]
    fn a_few_late_retries_do_not_move_the_median() {
        let watch = SourceWatch::default();
        for late in [0, 0, 0, 500, 0] {
            watch.signed("css", NOW.seconds() + 600 - late, NOW);
        }
        let metrics = Metrics::default();
        watch.measure(&"css".into(), &metrics, NOW);
        assert!(
            metrics
                .encode(TextFormat::Prometheus)
                .contains("livehook_clock_offset_seconds{source=\"css\"} 0")
        );
    }

    #[test]
    fn the_window_runs_only_while_something_fails() {
        let watch = SourceWatch::default();
        let metrics = Metrics::default();
        let at = |seconds: u64| NOW.plus(Duration::from_secs(seconds));
        let shown = |seconds: u64| {
            watch.measure(&"css".into(), &metrics, at(seconds));
            let text = metrics.encode(TextFormat::Prometheus);
            text.lines()
                .find(|line| line.starts_with("livehook_retry_window_remaining_seconds{"))
                .map(str::to_owned)
        };
        let answered = |kind, result, seconds| watch.answered("css", kind, result, || at(seconds));
        assert_eq!(shown(0), None);
        answered(Kind::StreamBegin, CallbackResult::Failed, 0);
        answered(Kind::StreamBegin, CallbackResult::Failed, 60);
        assert_eq!(
            shown(70).as_deref(),
            Some("livehook_retry_window_remaining_seconds{source=\"css\"} 650.0")
        );
        // Screenshots are repeated for ten minutes only, and of all kinds the most urgent one counts.
        answered(Kind::Snapshot, CallbackResult::Refused, 20);
        answered(Kind::Snapshot, CallbackResult::Refused, 75);
        answered(Kind::Unknown, CallbackResult::Refused, 75);
        assert_eq!(
            shown(75).as_deref(),
            Some("livehook_retry_window_remaining_seconds{source=\"css\"} 545.0")
        );
        answered(Kind::StreamBegin, CallbackResult::Accepted, 80);
        let windows = watch.retry_windows(&"css".into(), at(80));
        let windows: Vec<_> = windows
            .iter()
            .map(|window| {
                (
                    window.kind,
                    window.window.as_secs(),
                    window.remaining.as_secs(),
                )
            })
            .collect();
        assert_eq!(windows, [(Kind::Snapshot, 600, 540)]);
        answered(Kind::Snapshot, CallbackResult::Duplicate, 81);
        assert_eq!(shown(81), None);
        // Nothing came again: nobody repeats it any more.
        answered(Kind::Record, CallbackResult::Overloaded, 100);
        assert!(shown(101).is_some());
        assert_eq!(shown(251), None);
        answered(Kind::Record, CallbackResult::Overloaded, 900);
        assert_eq!(
            shown(900).as_deref(),
            Some("livehook_retry_window_remaining_seconds{source=\"css\"} 720.0"),
            "it begins anew"
        );
    }

    #[test]
    fn the_log_says_once_a_minute_what_is_about_to_be_lost() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(move || writer.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        let watch = SourceWatch::default();
        let answered = |kind, result, seconds| {
            let at = NOW.plus(Duration::from_secs(seconds));
            watch.answered("css", kind, result, || at);
        };
        for seconds in (0..200).step_by(10) {
            answered(Kind::Subtitle, CallbackResult::Failed, seconds);
            // One that has just begun is no reason to shout, however often.
            answered(Kind::Relay, CallbackResult::Overloaded, seconds);
            answered(Kind::Relay, CallbackResult::Accepted, seconds + 5);
        }
        for seconds in [0, 120] {
            answered(Kind::Snapshot, CallbackResult::Refused, seconds);
        }
        drop(guard);
        let log = written.text();
        let lines: Vec<&str> = log.lines().map(str::trim).collect();
        let subtitle =
            "callback.source=\"css\" callback.kind=\"subtitle\" callback.result=\"failed\"";
        let snapshot =
            "callback.source=\"css\" callback.kind=\"snapshot\" callback.result=\"refused\"";
        let failing = format!("ERROR callbacks could not be taken since {NOW}: ");
        let refused = format!("WARN callbacks have been refused since {NOW}: ");
        assert_eq!(
            lines,
            [
                format!(
                    "{failing}in 2 min the sender gives up the first of them, and then it is lost {subtitle}"
                ),
                format!(
                    "{failing}in 1 min the sender gives up the first of them, and then it is lost {subtitle}"
                ),
                format!(
                    "{failing}the sender has given up the first of them: it is lost {subtitle}"
                ),
                format!(
                    "{refused}in 8 min the sender gives up the first of them, and then at best the rejected list has it {snapshot}"
                ),
            ]
        );
    }
}
