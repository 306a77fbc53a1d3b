//! What the callbacks tell of their senders: how far the clocks are apart, and since when something fails.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use css_callbacks::{Kind, Timestamp};

use super::hearing::Hearing;
use crate::auth::Refusal;
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
pub(super) const QUIET: Duration = Duration::from_secs(150);
/// The signature of one second keeps a window open for so long at most if it is expired: whoever found one can present it for
/// ever, but genuine callbacks go on with others.
const EXPIRED_SIGNATURE: Duration = Duration::from_secs(60);
/// So many expired signatures are remembered.
const EXPIRED_SIGNATURES: usize = 64;

/// What is known of a source's sender.
#[derive(Debug, Default)]
pub(super) struct SourceWatch {
    watched: Mutex<Watched>,
    /// Whether [`Watched::failing`] may be set: it seldom is, and every answer looks.
    is_failing: AtomicBool,
    pub(super) hearing: Hearing,
}

#[derive(Debug, Default)]
struct Watched {
    /// The sender's clock minus ours, in seconds.
    offsets: VecDeque<i64>,
    /// What is not taken. As kinds and results are few, a stranger cannot make it grow.
    failing: BTreeMap<(Kind, CallbackResult), Failing>,
    /// `t` of expired signatures, and when each came first.
    expired: VecDeque<(i64, Timestamp)>,
    deaf: Option<Failing>,
    told_offset: Option<Timestamp>,
    /// By what it was about.
    told: HashMap<&'static str, Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    since: Timestamp,
    last: Timestamp,
    told: Timestamp,
}

impl Failing {
    fn from(now: Timestamp) -> Self {
        Self {
            since: now,
            last: now,
            told: now,
        }
    }

    /// It fails still, or again. Whether it is time to tell.
    fn go_on(&mut self, now: Timestamp) -> bool {
        if now.since(self.last) >= QUIET {
            *self = Self::from(now);
        }
        // The clock may have been set back since.
        self.since = self.since.min(now);
        self.told = self.told.min(now);
        self.last = now;
        let due = now.since(self.told) >= REPEAT;
        if due {
            self.told = now;
        }
        due
    }
}

/// A refusal, and what it says of who was refused.
#[derive(Debug)]
pub(super) struct RefusedCallback {
    pub(super) reason: Refusal,
    /// What the body says if its signature was right, else the URL.
    pub(super) kind: Kind,
    /// Whether there was a signature, right or wrong.
    pub(super) is_signed: bool,
    /// `t` of a right signature.
    pub(super) signed_t: Option<i64>,
}

/// Callbacks that are not taken now, and how long the sender goes on repeating the first of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RetryWindow {
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
            CallbackResult::Overloaded | CallbackResult::Failed => {
                self.fail(&mut self.watched(), source, kind, result, now());
            }
            // What was refused is judged by `refused`.
            CallbackResult::Refused | CallbackResult::Invalid | CallbackResult::Misrouted => {}
        }
    }

    fn fail(
        &self,
        watched: &mut Watched,
        source: &str,
        kind: Kind,
        result: CallbackResult,
        now: Timestamp,
    ) {
        let failing = watched.failing.entry((kind, result));
        let failing = failing.or_insert(Failing::from(now));
        if failing.go_on(now) {
            tell(source, kind, result, failing.since, now);
        }
        self.is_failing.store(true, Ordering::Relaxed);
    }

    /// A callback of `source` was refused. Returns whether it was a forgery, as far as can be told: all but those that are
    /// authentic but for expiry. A forgery is no loss, unless the source is deaf and every genuine callback looks like one.
    pub(super) fn refused(&self, source: &str, refused: &RefusedCallback, now: Timestamp) -> bool {
        if refused.is_signed {
            self.hearing.refused(now);
        }
        let is_deaf = self.hearing.is_deaf(now);
        let mut watched = self.watched();
        let is_late = refused.reason == Refusal::Expired
            && refused
                .signed_t
                .is_some_and(|t| watched.is_fresh_though_expired(t, now));
        if is_deaf {
            let deaf = watched.deaf.get_or_insert(Failing::from(now));
            if deaf.go_on(now) {
                tracing::error!(
                    callback.source = source,
                    "nothing authentic comes to this source, and signed callbacks have been refused since {}: every genuine one may \
                     be among them; compare key and token with the template",
                    deaf.since
                );
            }
        } else {
            watched.deaf = None;
        }
        if is_deaf || is_late {
            let result = CallbackResult::Refused;
            self.fail(&mut watched, source, refused.kind, result, now);
        }
        !is_late
    }

    /// What is not taken now.
    pub(super) fn retry_windows(&self, source: &Arc<str>, now: Timestamp) -> Vec<RetryWindow> {
        let mut watched = self.watched();
        watched.failing.retain(|_, failing| {
            failing.last = failing.last.min(now);
            now.since(failing.last) < QUIET
        });
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

    /// Whether it is time to tell of this, which is in fixed words.
    pub(super) fn is_time_to_tell(&self, what: &'static str, now: Timestamp) -> bool {
        let mut watched = self.watched();
        let due = watched
            .told
            .get(what)
            .is_none_or(|told| now.since(*told) >= REPEAT);
        if due {
            watched.told.insert(what, now);
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
        let is_deaf = self.hearing.is_deaf(now);
        metrics
            .source_deaf
            .get_or_create(&label)
            .set(i64::from(is_deaf));
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

impl Watched {
    /// Whether an expired signature may be that of a genuine callback: not one that is presented again and again.
    fn is_fresh_though_expired(&mut self, t: i64, now: Timestamp) -> bool {
        if let Some((_, first)) = self.expired.iter().find(|(known, _)| *known == t) {
            return now.since(*first) < EXPIRED_SIGNATURE;
        }
        if self.expired.len() == EXPIRED_SIGNATURES {
            self.expired.pop_front();
        }
        self.expired.push_back((t, now));
        true
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
    // What is refused may still be a stranger's; what the store does not take is certainly somebody's loss.
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
