//! How attempts start.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use css_callbacks::Timestamp;
use tokio::time::{Instant, timeout};

use super::{Attempt, Pending, Running, TaskOutput, Worker};
use crate::dispatch::settings::DeliveryOrder;
use crate::event::Event;
use crate::handler::{Failure, Outcome};
use crate::inbox::delivery::{Attempts, DeliveryChange, Lane, stream_lane};
use crate::metrics::DeliveryOutcome;

impl Worker {
    /// `false`: the time was over before everything that can start was started.
    pub(super) fn start_attempts(&mut self, now: Timestamp, until: Instant) -> bool {
        if self.paused {
            return true;
        }
        loop {
            let limit = match self.health.next_probe() {
                None => self.settings.concurrency,
                Some(next) if next <= now => 1,
                Some(_) => 0,
            };
            // The attempt must end before another process may deliver.
            let deadline = self.step_time + self.settings.timeout;
            if self.running.len() >= limit || deadline >= *self.lease_until.borrow() {
                return true;
            }
            if self.step_time >= until {
                return false;
            }
            let started = (self.prefer_new && self.start_new(now))
                || self.start_due(now)
                || self.start_new(now);
            if !started {
                return true;
            }
            self.prefer_new = !self.prefer_new;
        }
    }

    pub(super) fn start_due(&mut self, now: Timestamp) -> bool {
        let Some(at) = self.due.iter().position(|owed| !self.is_busy(owed.lane)) else {
            return false;
        };
        let owed = self.due.remove(at);
        self.start(owed.event, Some(owed.lane), true, owed.attempts, now);
        true
    }

    pub(super) fn start_new(&mut self, now: Timestamp) -> bool {
        self.assign_lanes();
        if let Some(event) = self.read_ahead.next_unassigned() {
            self.start(event, None, false, Attempts::default(), now);
            return true;
        }
        let busy = |lane: Lane| self.busy.contains(&stream_lane(lane));
        let Some((lane, event)) = self.read_ahead.next(busy) else {
            return false;
        };
        self.start(event, Some(lane), false, Attempts::default(), now);
        true
    }

    pub(super) fn is_busy(&self, lane: Lane) -> bool {
        self.busy.contains(&stream_lane(lane))
    }

    /// Nothing runs, waits, or fails, so no lane can block an event. Then its lane need not be
    /// known: computing it takes longer than many handlers do.
    pub(super) fn has_no_conflicts(&self) -> bool {
        self.busy.is_empty()
            && self.blocked.is_empty()
            && !self.read_ahead.has_queues()
            && self.health.is_healthy()
    }

    /// Puts the events that were read into their lanes, unless no lane can block them.
    pub(super) fn assign_lanes(&mut self) {
        if !self.read_ahead.has_unassigned() || self.has_no_conflicts() {
            return;
        }
        while let Some(event) = self.read_ahead.next_unassigned() {
            let (seq, lane) = (event.seq(), self.lane(&event));
            if let Some(rows) = self.blocked.get_mut(&lane) {
                *rows += 1;
                self.read_ahead.close(seq);
                self.unwritten.push(DeliveryChange::Wait { seq, lane });
            } else {
                self.read_ahead.queue(lane, event);
            }
        }
    }

    pub(super) fn lane(&self, event: &Event) -> Lane {
        match self.settings.order {
            DeliveryOrder::Stream => event.lane(),
            DeliveryOrder::None => event.seq().unsigned_abs() << 1,
        }
    }

    pub(super) fn start(
        &mut self,
        event: Event,
        lane: Option<Lane>,
        has_row: bool,
        attempts: Attempts,
        began: Timestamp,
    ) {
        let timer = self.step_time;
        let polled = self.poll_once(&event);
        self.step_time = Instant::now();
        let took = self.step_time - timer;
        if let (None, Ok(Ok(()))) = (lane, &polled) {
            self.read_ahead.close(event.seq());
            self.succeeded = true;
            self.count_untyped(&event);
            self.metrics.count(DeliveryOutcome::Done, took);
            return;
        }
        let attempt = Attempt {
            lane: lane.unwrap_or_else(|| self.lane(&event)),
            event,
            has_row,
            attempts,
            began,
            is_probe: self.health.is_down(),
            timer,
        };
        match polled {
            Ok(outcome) => self.finish_attempt(attempt, outcome, took),
            Err(pending) => self.spawn_attempt(attempt, pending),
        }
    }

    /// The outcome, if the attempt ends at once. Most attempts of a handler that waits for nothing
    /// do, and a task with a timer would cost more than everything else.
    pub(super) fn poll_once(&self, event: &Event) -> Result<Outcome, Pending<Outcome>> {
        let (handler, event) = (self.handler.clone(), event.clone());
        let attempt = Box::pin(async move { handler.handle(&event).await });
        let polled = catch_unwind(AssertUnwindSafe(|| ready_now(attempt)));
        polled.unwrap_or_else(|_| Ok(Err(panicked())))
    }

    /// Gives the attempt a task and a time limit.
    pub(super) fn spawn_attempt(&mut self, attempt: Attempt, pending: Pending<Outcome>) {
        self.busy.insert(stream_lane(attempt.lane));
        let limit = self.settings.timeout;
        let task = self.tasks.spawn(async move {
            let outcome = timeout(limit, pending).await;
            TaskOutput::Attempted(outcome.unwrap_or_else(|_| {
                Err(Failure::retry(format_args!(
                    "no answer within {}",
                    humantime::format_duration(limit)
                )))
            }))
        });
        self.running.insert(task.id(), Running { attempt, task });
    }

    /// If the read-ahead is full of events behind running ones, gives all of these a row, so that
    /// other streams continue. The running event gets the first row of its lane: even after a crash
    /// no later event overtakes it.
    pub(super) fn store_blocked_lanes(&mut self) {
        if self.read_ahead.room() > 0
            || self.health.is_down()
            || self.running.len() >= self.settings.concurrency
        {
            return;
        }
        let lanes = self.read_ahead.lanes();
        let now = self.clock.steady();
        for Running { attempt, .. } in self.running.values_mut() {
            if !attempt.has_row && lanes.contains(&attempt.lane) {
                let seq = attempt.event.seq();
                attempt.has_row = true;
                attempt.attempts.first = Some(attempt.began);
                self.read_ahead.close(seq);
                self.unconfirmed.insert(seq);
                *self.blocked.entry(attempt.lane).or_default() += 1;
                self.unwritten.push(DeliveryChange::Retry {
                    seq,
                    lane: attempt.lane,
                    attempts: attempt.attempts.clone(),
                    due: now,
                });
            }
        }
        // Events behind a running replay of their stream get rows too.
        for lane in lanes {
            if self.busy.contains(&stream_lane(lane)) {
                self.store_lane(lane);
            }
        }
    }
}

/// The output of a future that is ready at once. Else poll it again: nothing will wake it.
pub(super) fn ready_now<T>(mut future: Pending<T>) -> Result<T, Pending<T>> {
    let mut context = Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => Err(future),
    }
}

pub(super) fn panicked() -> Failure {
    Failure::retry("the handler panicked")
}
