//! Detects a deaf source: one that receives nothing authentic while signed callbacks are refused.
//!
//! A refused callback alone means nothing: anybody can send a forgery. But with a wrong key here,
//! every genuine callback looks like a forgery.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use css_callbacks::Timestamp;

use super::source_health::FAILURE_END;

/// Without an authentic callback for this long, refused ones may be genuine.
const DEAF_AFTER: Duration = Duration::from_secs(600);
const NEVER: i64 = i64::MIN;

/// The times of the last callbacks, in milliseconds since 1970.
#[derive(Debug)]
pub(super) struct DeafDetector {
    /// The last authentic one since the source changed.
    last_authentic: AtomicI64,
    /// The last signed one that was refused since the source changed.
    last_refused: AtomicI64,
}

impl Default for DeafDetector {
    fn default() -> Self {
        Self {
            last_authentic: AtomicI64::new(NEVER),
            last_refused: AtomicI64::new(NEVER),
        }
    }
}

impl DeafDetector {
    pub(super) fn note_authentic(&self, now: Timestamp) {
        self.last_authentic.store(now.millis(), Ordering::Relaxed);
    }

    /// Notes a signed callback that was refused.
    pub(super) fn note_refused(&self, now: Timestamp) {
        self.last_refused.store(now.millis(), Ordering::Relaxed);
    }

    /// Forgets both times. Call it when a reload changes the source: the new keys may be right.
    pub(super) fn reset(&self) {
        self.last_authentic.store(NEVER, Ordering::Relaxed);
        self.last_refused.store(NEVER, Ordering::Relaxed);
    }

    pub(super) fn is_deaf(&self, now: Timestamp) -> bool {
        let within = |last: &AtomicI64, limit| {
            // The clock may have been set back since then.
            let last = last.fetch_min(now.millis(), Ordering::Relaxed);
            last != NEVER && now.since(Timestamp::from_millis(last)) < limit
        };
        let (has_authentic, has_refused) = (
            within(&self.last_authentic, DEAF_AFTER),
            within(&self.last_refused, FAILURE_END),
        );
        has_refused && !has_authentic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn at(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_source_is_deaf_while_signed_callbacks_are_refused_and_nothing_authentic_comes() {
        let detector = DeafDetector::default();
        assert!(!detector.is_deaf(NOW), "nothing has come at all");
        detector.note_refused(at(0));
        assert!(detector.is_deaf(at(149)));
        assert!(!detector.is_deaf(at(150)), "nothing is refused any more");
        detector.note_refused(at(160));
        detector.note_authentic(at(170));
        detector.note_refused(at(180));
        assert!(!detector.is_deaf(at(180)), "it was a stranger");
        detector.note_refused(at(769));
        assert!(!detector.is_deaf(at(769)));
        detector.note_refused(at(770));
        assert!(detector.is_deaf(at(770)), "ten minutes without one");
        detector.note_authentic(at(771));
        assert!(!detector.is_deaf(at(771)));
        detector.reset();
        assert!(!detector.is_deaf(at(771)), "that was with other keys");
        detector.note_refused(at(772));
        assert!(detector.is_deaf(at(772)));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_make_it_hear_for_longer() {
        let detector = DeafDetector::default();
        detector.note_authentic(at(7200));
        assert!(!detector.is_deaf(at(0)));
        detector.note_refused(at(600));
        assert!(detector.is_deaf(at(600)));
    }
}
