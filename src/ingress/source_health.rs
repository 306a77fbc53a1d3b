//! The health of a source: how far its sender's clock is off, and since when its callbacks fail.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use css_callbacks::{Kind, Timestamp};

use super::deaf::DeafDetector;
use crate::auth::Refusal;
use crate::metrics::{CallbackResult, Metrics, SourceLabel};

/// `t` is this many seconds after the sender sent the callback.
const SIGNATURE_LIFE: i64 = 600;
/// How many clock offsets the median is computed from.
const OFFSET_SAMPLES: usize = 101;
/// The largest normal clock offset, in seconds.
const MAX_OFFSET: i64 = 120;
/// The shortest time between two log lines about the same thing.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// A failure ends when nothing has failed for this long: retries arrive every minute or two.
pub(super) const FAILURE_END: Duration = Duration::from_secs(150);
/// How long an expired signature may count as a late retry: only attackers replay one for longer.
const EXPIRED_TRUST: Duration = Duration::from_secs(60);
/// How many expired signatures are remembered.
const EXPIRED_SIGNATURES: usize = 64;

/// What the callbacks of a source say about its sender.
#[derive(Debug, Default)]
pub(super) struct SourceHealth {
    state: Mutex<HealthState>,
    /// If false, [`HealthState::failing`] is empty: most answers need no lock.
    is_failing: AtomicBool,
    pub(super) deaf_detector: DeafDetector,
}

#[derive(Debug, Default)]
struct HealthState {
    /// The sender's clock minus ours, in seconds.
    offsets: VecDeque<i64>,
    /// What fails now. There are few kinds and results, so strangers cannot make it grow.
    failing: BTreeMap<(Kind, CallbackResult), FailurePeriod>,
    /// The `t` of expired signatures, and when each arrived first.
    expired: VecDeque<(i64, Timestamp)>,
    deaf_since: Option<FailurePeriod>,
    offset_logged: Option<Timestamp>,
    /// When each message was logged last.
    logged: HashMap<&'static str, Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct FailurePeriod {
    since: Timestamp,
    last: Timestamp,
    logged: Timestamp,
}

impl FailurePeriod {
    fn from(now: Timestamp) -> Self {
        Self {
            since: now,
            last: now,
            logged: now,
        }
    }

    /// Notes another failure. Returns whether to log it.
    fn extend(&mut self, now: Timestamp) -> bool {
        if now.since(self.last) >= FAILURE_END {
            *self = Self::from(now);
        }
        // The clock may have been set back since then.
        self.since = self.since.min(now);
        self.logged = self.logged.min(now);
        self.last = now;
        let due = now.since(self.logged) >= LOG_INTERVAL;
        if due {
            self.logged = now;
        }
        due
    }
}

/// A refused callback, and what is known about it.
#[derive(Debug)]
pub(super) struct RefusedCallback {
    pub(super) reason: Refusal,
    /// From the body if its signature is correct, else from the URL.
    pub(super) kind: Kind,
    /// Whether there is a signature, correct or not.
    pub(super) is_signed: bool,
    /// The `t` of a correct signature.
    pub(super) signed_t: Option<i64>,
}

/// Callbacks that fail now, and how long the sender still retries the first of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RetryWindow {
    /// The source of the callbacks.
    pub source: Arc<str>,
    /// From the body, or from the URL if the body is not authentic.
    pub kind: Kind,
    /// Why they fail.
    pub result: CallbackResult,
    /// When the first one failed.
    pub since: Timestamp,
    /// When the last one failed.
    pub last: Timestamp,
    /// How long the sender retries a callback of this kind.
    pub window: Duration,
    /// How long the sender still retries the first one.
    pub remaining: Duration,
}

impl SourceHealth {
    fn state(&self) -> MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a correct signature, expired or not, and logs a clock that is wrong.
    pub(super) fn signed(&self, source: &str, t: i64, now: Timestamp) {
        let mut state = self.state();
        if state.offsets.len() == OFFSET_SAMPLES {
            state.offsets.pop_front();
        }
        let offset = t
            .saturating_sub(SIGNATURE_LIFE)
            .saturating_sub(now.seconds());
        state.offsets.push_back(offset);
        // Sorting for the median costs, so it is computed only if this offset is large.
        let due = offset.abs() > MAX_OFFSET
            && state
                .offset_logged
                .is_none_or(|logged| now.since(logged) >= LOG_INTERVAL);
        if due
            && let Some(seconds) = median(&state.offsets).filter(|median| median.abs() > MAX_OFFSET)
        {
            state.offset_logged = Some(now);
            tracing::error!(
                callback.source = source,
                clock.here = %now,
                clock.sender = %Timestamp::from_seconds(now.seconds().saturating_add(seconds)),
                clock.offset_seconds = seconds,
                "this machine's clock and the sender's are {} s apart, so valid signatures expire too early or too late; correct this machine's clock",
                seconds.abs()
            );
        }
    }

    /// Notes an answer: a success ends the failure of its kind.
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
                    let mut state = self.state();
                    // A failure at the URL for all kinds may have been of this kind.
                    state.failing.retain(|(failing, _), _| {
                        !matches!(*failing, Kind::Unknown) && *failing != kind
                    });
                    self.is_failing
                        .store(!state.failing.is_empty(), Ordering::Relaxed);
                }
            }
            CallbackResult::Overloaded | CallbackResult::Failed => {
                self.note_failure(&mut self.state(), source, kind, result, now());
            }
            // `refused` notes refused callbacks.
            CallbackResult::Refused | CallbackResult::Invalid | CallbackResult::Misrouted => {}
        }
    }

    fn note_failure(
        &self,
        state: &mut HealthState,
        source: &str,
        kind: Kind,
        result: CallbackResult,
        now: Timestamp,
    ) {
        let failing = state.failing.entry((kind, result));
        let failing = failing.or_insert(FailurePeriod::from(now));
        if failing.extend(now) {
            log_failure(source, kind, result, failing.since, now);
        }
        self.is_failing.store(true, Ordering::Relaxed);
    }

    /// Notes a refused callback. Returns whether it looks like a forgery: all do but those that
    /// only came too late. A forgery is no loss, unless the source is deaf: then it may be genuine.
    pub(super) fn refused(&self, source: &str, refused: &RefusedCallback, now: Timestamp) -> bool {
        if refused.is_signed {
            self.deaf_detector.note_refused(now);
        }
        let is_deaf = self.deaf_detector.is_deaf(now);
        let mut state = self.state();
        let is_late = refused.reason == Refusal::Expired
            && refused
                .signed_t
                .is_some_and(|t| state.may_be_late_retry(t, now));
        if is_deaf {
            let deaf = state.deaf_since.get_or_insert(FailurePeriod::from(now));
            if deaf.extend(now) {
                tracing::error!(
                    callback.source = source,
                    "no authentic callback arrives at this source, and signed ones have been refused since {}: genuine ones may be \
                     among them; compare the key and the token with the template",
                    deaf.since
                );
            }
        } else {
            state.deaf_since = None;
        }
        if is_deaf || is_late {
            let result = CallbackResult::Refused;
            self.note_failure(&mut state, source, refused.kind, result, now);
        }
        !is_late
    }

    /// The retry windows of all that fails now.
    pub(super) fn retry_windows(&self, source: &Arc<str>, now: Timestamp) -> Vec<RetryWindow> {
        let mut state = self.state();
        state.failing.retain(|_, failing| {
            failing.last = failing.last.min(now);
            now.since(failing.last) < FAILURE_END
        });
        let windows = state.failing.iter().map(|((kind, result), failing)| {
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

    /// Whether to log this fixed message: at most once a minute.
    pub(super) fn should_log(&self, what: &'static str, now: Timestamp) -> bool {
        let mut state = self.state();
        let due = state
            .logged
            .get(what)
            .is_none_or(|logged| now.since(*logged) >= LOG_INTERVAL);
        if due {
            state.logged.insert(what, now);
        }
        due
    }

    /// Updates the gauges of `source`.
    pub(super) fn measure(&self, source: &Arc<str>, metrics: &Metrics, now: Timestamp) {
        let windows = self.retry_windows(source, now);
        let label = SourceLabel {
            source: source.to_string(),
        };
        if let Some(offset) = median(&self.state().offsets) {
            metrics
                .clock_offset
                .get_or_create(&label)
                .set(offset as f64);
        }
        let is_deaf = self.deaf_detector.is_deaf(now);
        metrics
            .source_deaf
            .get_or_create(&label)
            .set(i64::from(is_deaf));
        // The shortest one: of the callback that is lost first.
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

impl HealthState {
    /// Whether an expired signature may be that of a late retry, and not of a replay.
    fn may_be_late_retry(&mut self, t: i64, now: Timestamp) -> bool {
        if let Some((_, first)) = self.expired.iter().find(|(known, _)| *known == t) {
            return now.since(*first) < EXPIRED_TRUST;
        }
        if self.expired.len() == EXPIRED_SIGNATURES {
            self.expired.pop_front();
        }
        self.expired.push_back((t, now));
        true
    }
}

/// Logs callbacks that are about to be lost.
fn log_failure(source: &str, kind: Kind, result: CallbackResult, since: Timestamp, now: Timestamp) {
    let window = kind.retry_schedule().window();
    let left = window.saturating_sub(now.since(since));
    let is_refused = result == CallbackResult::Refused;
    let what = if is_refused {
        "have been refused"
    } else {
        "could not be accepted"
    };
    let lost = if is_refused {
        "it is lost unless the rejected list has it"
    } else {
        "it is lost"
    };
    let end = match left.as_secs() {
        0 => format!("the sender no longer retries the first of them: {lost}"),
        seconds => format!(
            "the sender retries the first of them for {} min more, then {lost}",
            seconds.div_ceil(60)
        ),
    };
    let kind = kind.slug();
    let result = result.slug();
    // A refused callback may be a forgery. One that the store does not accept is a genuine one.
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
mod tests;
