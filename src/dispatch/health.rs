//! Whether a handler works at all, so that events do not suffer for a fault of the handler.
//!
//! A handler that fails for several streams without a success between is **down**. It is probed
//! with one delivery at a time, and hardly any new event is read for it. A stream that fails while
//! others succeed is **poisoned**. The fault is the stream's own, so it no longer counts towards
//! down. A long run of rejects without a success also points to the handler: from then on a reject
//! is a failure until one attempt succeeds. So an expired credential does not park a day's events.

use std::collections::HashSet;
use std::time::Duration;

use css_callbacks::Timestamp;

use super::settings::Retry;
use crate::inbox::delivery::{Lane, stream_lane};

/// The handler is down when so many streams fail and none succeeds.
const STREAMS_UNTIL_DOWN: usize = 4;
/// Further rejects in a row count as failures.
const MAX_REJECTS_IN_A_ROW: u32 = 50;

/// How many poisoned streams are remembered.
const MAX_POISONED: usize = 10_000;

/// A handler's health since its last success.
#[derive(Debug, Default)]
pub(super) struct HandlerHealth {
    failed: HashSet<Lane>,
    /// Streams that failed while others succeeded, and have not succeeded since.
    poisoned: HashSet<Lane>,
    rejects: u32,
    down: Option<Down>,
}

#[derive(Debug, Clone, Copy)]
struct Down {
    probes: u32,
    /// A steady time, like all times here.
    next: Timestamp,
}

impl HandlerHealth {
    /// Whether only probes are sent.
    pub(super) fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Whether a success would change nothing.
    pub(super) fn is_healthy(&self) -> bool {
        self.failed.is_empty()
            && self.poisoned.is_empty()
            && self.rejects == 0
            && self.down.is_none()
    }

    /// Moves the next probe forward to `now`, because an operator asked.
    pub(super) fn probe_at(&mut self, now: Timestamp) {
        if let Some(down) = &mut self.down {
            down.next = down.next.min(now);
        }
    }

    /// When the next probe may start; none if the handler is not down.
    pub(super) fn next_probe(&self) -> Option<Timestamp> {
        self.down.map(|down| down.next)
    }

    /// Records a success. `true`: the handler was down before.
    pub(super) fn succeeded(&mut self, lane: Lane) -> bool {
        if self.is_healthy() {
            return false;
        }
        let was_down = self.is_down();
        if self.poisoned.len() < MAX_POISONED {
            self.poisoned.extend(self.failed.drain());
        }
        self.poisoned.remove(&stream_lane(lane));
        *self = Self {
            poisoned: std::mem::take(&mut self.poisoned),
            ..Self::default()
        };
        was_down
    }

    /// Ends probing because there is no event to probe with: the next event is the probe. The run
    /// of rejects continues.
    pub(super) fn end_probing(&mut self) {
        self.failed.clear();
        self.down = None;
    }

    /// Records a reject. `false`: the caller must treat it as a failure.
    pub(super) fn rejected(&mut self) -> bool {
        self.rejects = self.rejects.saturating_add(1);
        let trusted = self.rejects <= MAX_REJECTS_IN_A_ROW;
        if trusted {
            // A handler that judges an event is not down.
            self.failed.clear();
            self.down = None;
        }
        trusted
    }

    /// Records a failure. `true`: the handler is down now and was not before. `pause` gives the
    /// wait after so many failed probes.
    pub(super) fn failed(
        &mut self,
        lane: Lane,
        is_probe: bool,
        now: Timestamp,
        pause: impl FnOnce(u32) -> Duration,
    ) -> bool {
        let lane = stream_lane(lane);
        if self.failed.len() < STREAMS_UNTIL_DOWN && !self.poisoned.contains(&lane) {
            self.failed.insert(lane);
        }
        match &mut self.down {
            Some(down) if is_probe => {
                down.probes = down.probes.saturating_add(1);
                down.next = now.plus(pause(down.probes));
                false
            }
            // It started before the handler was down, so only a longer pause matters.
            Some(down) => {
                down.next = down.next.max(now.plus(pause(down.probes)));
                false
            }
            None if self.failed.len() >= STREAMS_UNTIL_DOWN => {
                self.down = Some(Down {
                    probes: 1,
                    next: now.plus(pause(1)),
                });
                true
            }
            None => false,
        }
    }
}

/// The pause after so many failures in a row: exponential with full jitter. `chance` is in `0..1`.
pub(super) fn backoff(retry: &Retry, failures: u32, chance: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    retry
        .initial
        .saturating_mul(1 << doublings)
        .min(retry.max)
        .mul_f64(chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn pause(failures: u32) -> Duration {
        backoff(&Retry::default(), failures, 1.0)
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let retry = Retry {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(10),
            ..Retry::default()
        };
        let pauses: Vec<_> = (1..7)
            .map(|failures| backoff(&retry, failures, 1.0).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff(&retry, u32::MAX, 0.5), Duration::from_secs(5));
    }

    #[test]
    fn one_poisoned_stream_brings_nothing_down() {
        let mut health = HandlerHealth::default();
        for _ in 0..1000 {
            assert!(!health.failed(8, false, NOW, pause));
            assert!(
                !health.failed(9, false, NOW, pause),
                "its replays are the same stream"
            );
        }
        assert!(!health.is_down());
    }

    #[test]
    fn several_failing_streams_do_until_one_success() {
        let mut health = HandlerHealth::default();
        let fails = |health: &mut HandlerHealth, lane| health.failed(lane, false, NOW, pause);
        assert!([2, 4, 6].into_iter().all(|lane| !fails(&mut health, lane)));
        assert!(fails(&mut health, 8));
        assert!(!fails(&mut health, 10), "it is down already");
        let next = |seconds| Some(NOW.plus(Duration::from_secs(seconds)));
        assert_eq!(health.next_probe(), next(1), "it was no probe");
        assert!(!health.failed(12, true, NOW, pause));
        assert_eq!(health.next_probe(), next(2));
        assert!(health.succeeded(14));
        assert!(!health.is_down());
    }

    #[test]
    fn streams_that_fail_beside_successes_bring_it_down_no_more() {
        let mut health = HandlerHealth::default();
        let fails = |health: &mut HandlerHealth, lane| health.failed(lane, false, NOW, pause);
        let poisoned = [2, 4, 6, 8];
        let fail_all = |health: &mut HandlerHealth| poisoned.map(|lane| fails(health, lane));
        assert_eq!(fail_all(&mut health), [false, false, false, true]);
        assert!(health.succeeded(20));
        assert_eq!(fail_all(&mut health), [false; 4]);
        assert!(!health.is_down());
        assert!(!health.succeeded(2), "this one is well again");
        let lanes = [2, 12, 14, 16].map(|lane| fails(&mut health, lane));
        assert_eq!(lanes, [false, false, false, true]);
    }

    #[test]
    fn only_so_many_rejects_in_a_row_are_believed() {
        let mut health = HandlerHealth::default();
        assert!((0..50).all(|_| health.rejected()));
        assert!(!health.rejected());
        health.end_probing();
        assert!(!health.rejected());
        health.succeeded(2);
        assert!(health.rejected());
    }
}
