//! Time as an argument: code receives a [`Clock`], so that tests can set the time.
//!
//! The time of day jumps when somebody sets the clock. The steady time does not: waits use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use css_callbacks::Timestamp;

/// Which times count as old. Far future ones do too: they come from a wrong clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AgeCutoff {
    /// Times before this are old.
    pub before: Timestamp,
    /// Times after this are old.
    pub beyond: Timestamp,
}

impl AgeCutoff {
    /// Every time is old.
    pub(crate) const ALL: Self = Self {
        before: Timestamp::from_millis(i64::MAX),
        beyond: Timestamp::from_millis(i64::MAX),
    };

    /// Times more than `age` before `now`, or more than `age` after it.
    pub(crate) fn older_than(age: Duration, now: Timestamp) -> Self {
        Self {
            before: now.minus(age),
            beyond: now.plus(age),
        }
    }

    pub(crate) fn is_old(self, time: Timestamp) -> bool {
        time < self.before || time > self.beyond
    }
}

/// Tells the time of day.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    steady: SteadyClock,
    /// By how many milliseconds [`Clock::set_by`] has moved the time of day.
    set_by: AtomicI64,
}

#[derive(Debug)]
enum SteadyClock {
    /// The time of day when the clock was created, and the instant of its creation.
    Running(Timestamp, Instant),
    /// Milliseconds since 1970. Only [`Clock::advance`] changes them.
    Manual(AtomicI64),
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::system_ahead(0)
    }

    /// The machine's clock, ahead by so many milliseconds. For tests.
    pub fn system_ahead(millis: i64) -> Self {
        let now = Timestamp::from_millis(system_time().millis().saturating_add(millis));
        let clock = Self::of(SteadyClock::Running(now, Instant::now()));
        clock.set_by(millis);
        clock
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn manual(now: Timestamp) -> Self {
        Self::of(SteadyClock::Manual(AtomicI64::new(now.millis())))
    }

    fn of(steady: SteadyClock) -> Self {
        let set_by = AtomicI64::new(0);
        Self(Arc::new(Inner { steady, set_by }))
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        let unset = match &self.0.steady {
            SteadyClock::Running(..) => system_time(),
            SteadyClock::Manual(millis) => Timestamp::from_millis(millis.load(Ordering::Relaxed)),
        };
        let set_by = self.0.set_by.load(Ordering::Relaxed);
        Timestamp::from_millis(unset.millis().saturating_add(set_by))
    }

    /// The time of day as if nobody had set the clock since its creation. Compare it only with
    /// steady times of the same clock; see [`Clock::time_of_day`].
    pub(crate) fn steady(&self) -> Timestamp {
        match &self.0.steady {
            SteadyClock::Running(began, since) => began.plus(since.elapsed()),
            SteadyClock::Manual(millis) => Timestamp::from_millis(millis.load(Ordering::Relaxed)),
        }
    }

    /// Converts a steady time to a time of day.
    pub(crate) fn time_of_day(&self, steady: Timestamp) -> Timestamp {
        Timestamp::from_millis(steady.millis().saturating_add(self.ahead()))
    }

    /// Converts a time of day to a steady time. Wrong if the clock has been set since then.
    pub(crate) fn steady_at(&self, time: Timestamp) -> Timestamp {
        Timestamp::from_millis(time.millis().saturating_sub(self.ahead()))
    }

    /// By how many milliseconds the time of day is ahead of the steady time.
    fn ahead(&self) -> i64 {
        self.now().millis().saturating_sub(self.steady().millis())
    }

    /// Whether the clock is a manual one.
    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.0.steady, SteadyClock::Manual(_))
    }

    /// Moves a manual clock forward. Has no effect on the machine's clock.
    pub fn advance(&self, by: Duration) {
        if let SteadyClock::Manual(millis) = &self.0.steady {
            millis.store(self.steady().plus(by).millis(), Ordering::Relaxed);
        }
    }

    /// Moves the time of day by milliseconds, but not the steady time. For tests.
    pub(crate) fn set_by(&self, millis: i64) {
        self.0.set_by.fetch_add(millis, Ordering::Relaxed);
    }
}

/// The smallest jump to report, in milliseconds.
const MIN_JUMP: u64 = 60_000;

/// Detects that somebody set a clock.
#[derive(Debug)]
pub(crate) struct ClockJumps {
    clock: Clock,
    ahead: i64,
}

impl ClockJumps {
    /// Starts to watch this clock.
    pub(crate) fn of(clock: Clock) -> Self {
        let ahead = clock.ahead();
        Self { clock, ahead }
    }

    /// The time without and with the jump, if the clock jumped by more than a minute.
    pub(crate) fn check(&mut self) -> Option<(Timestamp, Timestamp)> {
        let ahead = self.clock.ahead();
        if ahead.abs_diff(self.ahead) <= MIN_JUMP {
            return None;
        }
        let now = self.clock.now();
        let before = Timestamp::from_millis(
            now.millis()
                .saturating_sub(ahead)
                .saturating_add(self.ahead),
        );
        self.ahead = ahead;
        Some((before, now))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only place that reads the machine's clock"
)]
fn system_time() -> Timestamp {
    std::time::SystemTime::now().into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_stays_steady_and_is_noticed() {
        const HOUR: i64 = 3_600_000;
        let begin = Timestamp::from_seconds(1_795_420_800);
        for clock in [Clock::system(), Clock::manual(begin)] {
            let mut jumps = ClockJumps::of(clock.clone());
            let (steady, now) = (clock.steady(), clock.now());
            clock.advance(Duration::from_secs(3600));
            assert_eq!(jumps.check(), None, "time that passes is none");
            clock.set_by(-59_000);
            assert_eq!(jumps.check(), None);
            clock.set_by(-2 * HOUR);
            assert!(clock.steady() >= steady);
            assert!(clock.now() < now);
            let (would, is) = jumps.check().unwrap();
            let by = would.since(is).as_millis().abs_diff(2 * 3_600_000 + 59_000);
            assert!(by < 1000, "{would} {is}");
            assert_eq!(jumps.check(), None, "once");
            let shown = clock.time_of_day(clock.steady()).millis();
            assert!(shown.abs_diff(clock.now().millis()) < 1000);
            clock.set_by(HOUR);
            assert!(jumps.check().unwrap().0 < clock.now());
        }
    }
}
