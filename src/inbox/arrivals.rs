//! The least age of an event, whatever the clock says.
//!
//! An event carries the time of day of its arrival. If the clock was set back since, that time can
//! be in the future, and an old event would look new. So livehook also samples the newest event
//! together with the steady time.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use css_callbacks::Timestamp;
use tokio::sync::watch;

use super::{Inbox, StoreError};
use crate::clock::Clock;
use crate::event::Seq;

/// Beyond this number, the sample whose loss matters least is dropped.
const MAX_SAMPLES: usize = 256;

pub(super) struct Arrivals {
    clock: Clock,
    committed: watch::Receiver<Seq>,
    /// The newest event at some steady time. Both only rise.
    samples: Mutex<VecDeque<(Seq, Timestamp)>>,
}

impl Arrivals {
    pub(super) fn new(clock: Clock, committed: watch::Receiver<Seq>) -> Self {
        let arrivals = Self {
            clock,
            committed,
            samples: Mutex::default(),
        };
        arrivals.sample();
        arrivals
    }

    /// Records the newest event and the steady time.
    pub(super) fn sample(&self) {
        let newest = *self.committed.borrow();
        let now = self.clock.steady();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.back().is_some_and(|(seen, _)| *seen >= newest) {
            return;
        }
        samples.push_back((newest, now));
        if samples.len() > MAX_SAMPLES {
            // For older samples, a larger gap does no harm.
            let gap = |at: usize| {
                let (before, after) = (samples[at - 1].1, samples[at + 1].1);
                let age = now.since(samples[at].1).max(Duration::from_millis(1));
                after.since(before).as_secs_f64() / age.as_secs_f64()
            };
            let least = (1..samples.len() - 1).min_by(|a, b| gap(*a).total_cmp(&gap(*b)));
            least.and_then(|at| samples.remove(at));
        }
    }

    /// How long ago an event arrived: by the clock or by the samples, whichever is longer.
    pub(super) fn age(&self, seq: Seq, received: Timestamp) -> Duration {
        self.sample();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = samples.get(samples.partition_point(|(newest, _)| *newest < seq));
        let seen = seen.map_or(Duration::ZERO, |(_, at)| self.clock.steady().since(*at));
        seen.max(self.clock.now().since(received))
    }
}

impl Inbox {
    /// How long ago an event arrived. If the clock was set back since, the answer is at least as long
    /// as this process has known the event.
    pub(crate) fn age(&self, seq: Seq, received: Timestamp) -> Duration {
        self.arrivals.age(seq, received)
    }

    /// The [`age`](Self::age) of the event that [`received_from`](Self::received_from) finds.
    pub(crate) async fn age_from(&self, seq: Seq) -> Result<Option<Duration>, StoreError> {
        let first = self.received_from(seq).await?;
        Ok(first.map(|(seq, received)| self.age(seq, received)))
    }

    /// Records the newest event and the time, for [`age`](Self::age). Once a second is enough.
    pub(crate) fn sample_arrivals(&self) {
        self.arrivals.sample();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Timestamp = Timestamp::from_seconds(1_795_420_800);
    const HOUR: i64 = 3_600_000;

    #[test]
    fn an_event_ages_when_the_clock_is_set_back() {
        let clock = Clock::manual(BEGIN);
        let (committed, watched) = watch::channel(7);
        let arrivals = Arrivals::new(clock.clone(), watched);
        let seconds = |seq, received| arrivals.age(seq, received).as_secs();
        assert_eq!(seconds(7, BEGIN), 0);
        clock.advance(Duration::from_secs(5));
        committed.send_replace(9);
        assert_eq!((seconds(7, BEGIN), seconds(9, clock.now())), (5, 0));
        let received = clock.now();
        clock.set_by(-2 * HOUR);
        clock.advance(Duration::from_secs(10));
        assert_eq!((seconds(7, BEGIN), seconds(8, received)), (15, 10));
        // It arrived before the start: only the clock knows more.
        assert_eq!(seconds(3, clock.now().minus(Duration::from_secs(60))), 60);
    }

    #[test]
    fn samples_are_bounded_and_no_age_is_too_long() {
        let clock = Clock::manual(BEGIN);
        let (committed, watched) = watch::channel(0);
        let arrivals = Arrivals::new(clock.clone(), watched);
        clock.set_by(-24 * HOUR);
        for seq in 1..5000 {
            clock.advance(Duration::from_secs(1));
            committed.send_replace(seq);
            arrivals.sample();
        }
        assert!(arrivals.samples.lock().unwrap().len() <= MAX_SAMPLES);
        for seq in [1, 100, 2500, 4900, 4999] {
            let age = arrivals.age(seq, BEGIN).as_secs();
            let true_age = 4999 - seq.unsigned_abs();
            let least = true_age - true_age / 10;
            assert!((least..=true_age).contains(&age), "{seq}: {age}");
        }
        assert_eq!(arrivals.age(4990, BEGIN).as_secs(), 9);
    }
}
