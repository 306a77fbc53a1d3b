//! What happens to a delivery after an attempt.

use std::time::Duration;

use css_callbacks::Timestamp;
use tokio::task::Id;

use super::{Attempt, Running, Worker};
use crate::dispatch::health::backoff;
use crate::event::{Event, PayloadForm};
use crate::handler::{Failure, Outcome, loggable};
use crate::inbox::delivery::{DeliveryChange, Lane, stream_lane};
use crate::metrics::DeliveryOutcome;

/// Failed deliveries are logged at most this often as warnings, otherwise at the debug level.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// The longest stored reason, in characters: up to 500 bytes from the other side, some of them
/// escaped, and livehook's own text before them.
const MAX_REASON: usize = 1000;

impl Worker {
    pub(super) fn attempt_ended(&mut self, id: Id, outcome: Outcome) {
        if let Some(Running { attempt, .. }) = self.running.remove(&id) {
            self.busy.remove(&stream_lane(attempt.lane));
            let took = attempt.timer.elapsed();
            self.finish_attempt(attempt, outcome, took);
        }
    }

    /// The stop has aborted the task of an attempt.
    pub(super) fn attempt_aborted(&mut self, id: Id) {
        if let Some(Running { attempt, .. }) = self.running.remove(&id)
            && !attempt.has_row
        {
            self.aborted.push((attempt.event.seq(), attempt.lane));
        }
    }

    /// At a stop, gives an unfinished event a row if a later one is finished. Without the row, the
    /// position would stay below both, and the finished event would come again.
    pub(super) fn store_gaps(&mut self) {
        let aborted = std::mem::take(&mut self.aborted);
        let mut gaps: Vec<_> = aborted
            .into_iter()
            .chain(self.read_ahead.queued())
            .collect();
        gaps.retain(|(seq, _)| self.read_ahead.is_gap(*seq));
        gaps.sort_unstable();
        for (seq, lane) in gaps {
            self.read_ahead.close(seq);
            self.unwritten.push(DeliveryChange::Wait { seq, lane });
        }
    }

    pub(super) fn finish_attempt(
        &mut self,
        mut attempt: Attempt,
        outcome: Outcome,
        took: Duration,
    ) {
        attempt.attempts.count += 1;
        // A first time in the future, or before the event arrived, comes from another clock.
        let began = attempt.began;
        let arrived = self.clock.steady_at(attempt.event.received());
        let first = attempt.attempts.first.unwrap_or(began).min(began);
        let first = if arrived < began {
            first.max(arrived)
        } else {
            first
        };
        attempt.attempts.first = Some(first);
        let discarded = self.discarded.remove(&attempt.event.seq());
        if discarded {
            // The discard has removed the row and unblocked the lane.
            self.unconfirmed.remove(&attempt.event.seq());
            self.look_for_due = true;
        }
        let result = match outcome {
            Ok(()) => {
                if self.health.succeeded(attempt.lane) {
                    tracing::info!(handler.name = self.name, "the handler works again");
                    self.look_for_due = true;
                }
                self.succeeded = true;
                self.count_untyped(&attempt.event);
                if !discarded {
                    self.complete(&attempt);
                }
                DeliveryOutcome::Done
            }
            Err(failure) => {
                let now = self.clock.steady();
                attempt.attempts.error = failure.reason().chars().take(MAX_REASON).collect();
                let wall_time = self.clock.now();
                self.status.failed(wall_time, &attempt.attempts.error);
                let (rejected, after) = match &failure {
                    Failure::Reject { .. } => (self.health.rejected(), None),
                    Failure::Retry { after, .. } => (false, *after),
                };
                let after = after.unwrap_or_default().min(self.settings.retry.max);
                if rejected {
                    self.look_for_due = true;
                } else {
                    self.record_failure(&attempt, now, after);
                }
                if discarded {
                    DeliveryOutcome::Parked
                } else if rejected || now.since(first) >= self.settings.retry.max_age {
                    self.park(&attempt);
                    DeliveryOutcome::Parked
                } else {
                    self.retry(&attempt, now, after);
                    DeliveryOutcome::Retry
                }
            }
        };
        self.metrics.count(result, took);
    }

    /// Counts the members that did not fit the typed form.
    pub(super) fn count_untyped(&self, event: &Event) {
        if self.settings.payload == PayloadForm::Typed {
            let members = event.misfits();
            self.metrics.count_untyped(event.kind(), members);
        }
    }

    pub(super) fn record_failure(&mut self, attempt: &Attempt, now: Timestamp, after: Duration) {
        let retry = self.settings.retry;
        let pause = |probes| backoff(&retry, probes, rand::random()).max(after);
        self.probe_failed = true;
        if self
            .health
            .failed(attempt.lane, attempt.is_probe, now, pause)
        {
            tracing::warn!(
                handler.name = self.name,
                error = loggable(&attempt.attempts.error),
                "the handler is down: it gets one event at a time until it works again, the others wait in the inbox"
            );
        }
    }

    pub(super) fn complete(&mut self, attempt: &Attempt) {
        let seq = attempt.event.seq();
        if attempt.has_row {
            self.unwritten.push(DeliveryChange::Done {
                seq,
                lane: attempt.lane,
            });
            self.unblock(attempt.lane);
        } else {
            self.read_ahead.close(seq);
        }
    }

    pub(super) fn park(&mut self, attempt: &Attempt) {
        let seq = attempt.event.seq();
        tracing::warn!(
            handler.name = self.name,
            event.id = %attempt.event.id(),
            attempts = attempt.attempts.count,
            error = loggable(&attempt.attempts.error),
            "a delivery is parked"
        );
        // Wall-clock times: they are only shown, and retention compares them.
        let mut attempts = attempt.attempts.clone();
        attempts.first = attempts.first.map(|first| self.clock.time_of_day(first));
        let change = DeliveryChange::Park {
            seq,
            lane: attempt.lane,
            attempts,
            at: self.clock.now(),
        };
        self.unwritten.push(change);
        if attempt.has_row {
            self.unblock(attempt.lane);
        } else {
            self.read_ahead.close(seq);
        }
    }

    pub(super) fn retry(&mut self, attempt: &Attempt, now: Timestamp, after: Duration) {
        let retry = &self.settings.retry;
        let pause = backoff(retry, attempt.attempts.count, rand::random());
        let due = now.plus(pause.max(after));
        let (seq, lane) = (attempt.event.seq(), attempt.lane);
        macro_rules! log_failure {
            ($level:ident) => {
                tracing::$level!(
                    handler.name = self.name,
                    event.id = %attempt.event.id(),
                    attempts = attempt.attempts.count,
                    error = loggable(&attempt.attempts.error),
                    "a delivery failed and is tried again"
                )
            };
        }
        // The operator needs a warning, but not one for every failure.
        if self
            .failure_logged_at
            .is_none_or(|logged| now.since(logged) >= LOG_EVERY)
        {
            self.failure_logged_at = Some(now);
            log_failure!(warn);
        } else {
            log_failure!(debug);
        }
        self.unwritten.push(DeliveryChange::Retry {
            seq,
            lane,
            attempts: attempt.attempts.clone(),
            due,
        });
        if !attempt.has_row {
            self.read_ahead.close(seq);
            *self.blocked.entry(lane).or_default() += 1;
            self.store_lane(lane);
        }
    }

    /// Counts one due or waiting row less in a lane.
    pub(super) fn unblock(&mut self, lane: Lane) {
        if let Some(rows) = self.blocked.get_mut(&lane) {
            *rows -= 1;
            if *rows == 0 {
                self.blocked.remove(&lane);
            }
        }
    }

    /// Gives a row to each event that is queued in a lane.
    pub(super) fn store_lane(&mut self, lane: Lane) {
        for seq in self.read_ahead.close_lane(lane) {
            self.unwritten.push(DeliveryChange::Wait { seq, lane });
            *self.blocked.entry(lane).or_default() += 1;
        }
    }
}
