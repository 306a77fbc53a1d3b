//! Whether a source hears its sender.
//!
//! Anybody can be refused, so a refusal alone says nothing of genuine callbacks. But where nothing authentic comes while signed
//! callbacks are refused, these may be the genuine ones: with a wrong key here, every genuine callback looks forged.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use css_callbacks::Timestamp;

use super::watch::QUIET;

/// Nothing authentic for this long: what is refused meanwhile may be genuine.
const SILENCE: Duration = Duration::from_secs(600);
const NEVER: i64 = i64::MIN;

/// What came last, in milliseconds since 1970.
#[derive(Debug)]
pub(super) struct Hearing {
    /// Something authentic, since the keys changed.
    heard: AtomicI64,
    /// Something signed that was refused, since the keys changed.
    refused: AtomicI64,
}

impl Default for Hearing {
    fn default() -> Self {
        Self {
            heard: AtomicI64::new(NEVER),
            refused: AtomicI64::new(NEVER),
        }
    }
}

impl Hearing {
    /// Something authentic came.
    pub(super) fn heard(&self, now: Timestamp) {
        self.heard.store(now.millis(), Ordering::Relaxed);
    }

    /// Something signed was refused.
    pub(super) fn refused(&self, now: Timestamp) {
        self.refused.store(now.millis(), Ordering::Relaxed);
    }

    /// The source has other keys from now on: whether they are right is not known yet.
    pub(super) fn begin_anew(&self) {
        self.heard.store(NEVER, Ordering::Relaxed);
        self.refused.store(NEVER, Ordering::Relaxed);
    }

    /// Whether nothing authentic comes while signed callbacks are refused.
    pub(super) fn is_deaf(&self, now: Timestamp) -> bool {
        let within = |last: &AtomicI64, limit| {
            // The clock may have been set back since.
            let last = last.fetch_min(now.millis(), Ordering::Relaxed);
            last != NEVER && now.since(Timestamp::from_millis(last)) < limit
        };
        let (hears, refuses) = (within(&self.heard, SILENCE), within(&self.refused, QUIET));
        refuses && !hears
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
        let hearing = Hearing::default();
        assert!(!hearing.is_deaf(NOW), "nothing has come at all");
        hearing.refused(at(0));
        assert!(hearing.is_deaf(at(149)));
        assert!(!hearing.is_deaf(at(150)), "nothing is refused any more");
        hearing.refused(at(160));
        hearing.heard(at(170));
        hearing.refused(at(180));
        assert!(!hearing.is_deaf(at(180)), "it was a stranger");
        hearing.refused(at(769));
        assert!(!hearing.is_deaf(at(769)));
        hearing.refused(at(770));
        assert!(hearing.is_deaf(at(770)), "ten minutes without one");
        hearing.heard(at(771));
        assert!(!hearing.is_deaf(at(771)));
        hearing.begin_anew();
        assert!(!hearing.is_deaf(at(771)), "that was with other keys");
        hearing.refused(at(772));
        assert!(hearing.is_deaf(at(772)));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_make_it_hear_for_longer() {
        let hearing = Hearing::default();
        hearing.heard(at(7200));
        assert!(!hearing.is_deaf(at(0)));
        hearing.refused(at(600));
        assert!(hearing.is_deaf(at(600)));
    }
}
