//! Time as an argument: what asks for the time of day gets a [`Clock`], so that tests can move it.
//!
//! A clock can be set, on or back. So it also has a steady time, which only passes: what is to happen after some time goes by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use css_callbacks::Timestamp;

/// Which times are old. Those that lie far ahead are as well: they are of a clock that was wrong, and would never be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AgeCutoff {
    /// Those before this,
    pub before: Timestamp,
    /// and those after this.
    pub beyond: Timestamp,
}

impl AgeCutoff {
    /// Every time.
    pub(crate) const ALL: Self = Self {
        before: Timestamp::from_millis(i64::MAX),
        beyond: Timestamp::from_millis(i64::MAX),
    };

    /// Those longer ago than so long, or as far ahead.
    pub(crate) fn older_than(age: Duration, now: Timestamp) -> Self {
        Self {
            before: now.minus(age),
            beyond: now.plus(age),
        }
    }
}

/// Tells the time of day.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    steady: SteadyClock,
    /// By how many milliseconds [`Clock::set_by`] has set it.
    set_by: AtomicI64,
}

#[derive(Debug)]
enum SteadyClock {
    /// The time of day when the clock was made, and what has passed since.
    Running(Timestamp, Instant),
    /// Milliseconds, until somebody moves them.
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

    /// The machine's clock as if it were ahead by so many milliseconds. For tests.
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

    /// What the time of day would be if nobody had set the clock since it was made. Only good to be compared with others of the
    /// same clock: see [`Clock::shown`].
    pub(crate) fn steady(&self) -> Timestamp {
        match &self.0.steady {
            SteadyClock::Running(began, since) => began.plus(since.elapsed()),
            SteadyClock::Manual(millis) => Timestamp::from_millis(millis.load(Ordering::Relaxed)),
        }
    }

    /// A steady time as the clock shows it now.
    pub(crate) fn time_of_day(&self, steady: Timestamp) -> Timestamp {
        Timestamp::from_millis(steady.millis().saturating_add(self.ahead()))
    }

    /// A time of day as a steady time, if the clock was right then.
    pub(crate) fn steady_at(&self, time: Timestamp) -> Timestamp {
        Timestamp::from_millis(time.millis().saturating_sub(self.ahead()))
    }

    /// By how many milliseconds the time of day is ahead of the steady time.
    fn ahead(&self) -> i64 {
        self.now().millis().saturating_sub(self.steady().millis())
    }

    /// Whether it is a clock that stands still by itself.
    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.0.steady, SteadyClock::Manual(_))
    }

    /// Moves a manual clock on; the machine's clock does not care.
    pub fn advance(&self, by: Duration) {
        if let SteadyClock::Manual(millis) = &self.0.steady {
            millis.store(self.steady().plus(by).millis(), Ordering::Relaxed);
        }
    }

    /// Sets the clock on by so many milliseconds, or back: no time passes. For tests.
    pub(crate) fn set_by(&self, millis: i64) {
        self.0.set_by.fetch_add(millis, Ordering::Relaxed);
    }
}

/// A step of the clock that is worth a word.
const MIN_JUMP: u64 = 60_000;

/// Notices that a clock was set.
#[derive(Debug)]
pub(crate) struct ClockJumps {
    clock: Clock,
    ahead: i64,
}

impl ClockJumps {
    /// From now on.
    pub(crate) fn of(clock: Clock) -> Self {
        let ahead = clock.ahead();
        Self { clock, ahead }
    }

    /// If the clock was set by more than a minute since that was last said: what time it would be, and what time it says.
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
    reason = "the one place that asks the machine"
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
