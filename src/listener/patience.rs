//! How long a connection is waited for: with one timer, whatever the connection is at.
//!
//! HTTP is not asked whether it reads: it does not always, and who does not read would not be looked at.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::caller::{Caller, Phase, Writing};
use super::refusal::{FixedAnswer, LONG_HEAD, TOO_MANY, TOO_MUCH};
use crate::budget::Charge;

/// How long a client that was sent everything may take to read it.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// When the listener stops: what a request may take that is on its way on a connection that rests.
const ON_ITS_WAY: Duration = Duration::from_millis(500);
/// When the listener stops: what a client may take that does not read.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Why a connection ends before HTTP says so.
pub(super) enum Impatience {
    /// There is nobody to tell.
    Leave,
    Tell(&'static FixedAnswer),
}

pub(super) struct Patience<'a> {
    caller: &'a Caller,
    /// It has one of the places for those that are too many.
    is_spare: bool,
    /// When it began what it is at.
    since: Instant,
    stuck_since: Instant,
    had_answer: bool,
    /// For a head that does not come in one piece.
    charge: Option<(Charge, u64)>,
    /// Rings at some time up to when patience ends, and is set anew then: most requests leave it alone.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<'a> Patience<'a> {
    pub(super) fn new(caller: &'a Caller, is_spare: bool) -> Self {
        let now = Instant::now();
        Self {
            caller,
            is_spare,
            since: now,
            stuck_since: now,
            had_answer: false,
            charge: None,
            timer: None,
        }
    }

    /// Ready when it is over; else wakes the task when there is something to look at. To be asked behind HTTP, each time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Impatience> {
        if let Some(refusal) = self.look() {
            return Poll::Ready(Impatience::Tell(refusal));
        }
        let Some(until) = self.until() else {
            return Poll::Pending;
        };
        if self.poll_timer(until, cx).is_pending() {
            return Poll::Pending;
        }
        let has_no_request = matches!(self.caller.phase(), Phase::Resting | Phase::Head);
        Poll::Ready(match self.is_spare && has_no_request && !self.had_answer {
            true => Impatience::Tell(&TOO_MANY),
            false => Impatience::Leave,
        })
    }

    /// Notes what has changed; a refusal, if it is too much.
    fn look(&mut self) -> Option<&'static FixedAnswer> {
        let caller = self.caller;
        if caller.writing() == Writing::Stops {
            self.stuck_since = Instant::now();
            caller.set_writing(Writing::Stuck);
        }
        match caller.phase() {
            Phase::Begun => {
                self.since = Instant::now();
                self.charge = None;
                caller.set(Phase::Head);
            }
            Phase::Answered if caller.writing() == Writing::Flows => {
                self.since = Instant::now();
                self.had_answer = true;
                caller.rest(Phase::Resting, self.since);
            }
            _ => {}
        }
        if caller.phase() != Phase::Head {
            self.charge = None;
            return None;
        }
        if caller.head_is_over() {
            return Some(&LONG_HEAD);
        }
        (!self.charge_head()).then_some(&TOO_MUCH)
    }

    fn charge_head(&mut self) -> bool {
        let head = self.caller.head();
        if let Some((charge, charged)) = &mut self.charge {
            let more = head - *charged;
            *charged = head;
            return more == 0 || charge.grow(more);
        }
        let charge = self.caller.rules.limits.heads.charge(head);
        self.charge = charge.map(|charge| (charge, head));
        self.charge.is_some()
    }

    fn until(&self) -> Option<Instant> {
        let rules = &self.caller.rules;
        let limits = &rules.limits;
        let stopped = rules.stopped.get().copied();
        let no_later = |until: Instant, grace: Duration| match stopped {
            Some(stopped) => until.min(stopped + grace),
            None => until,
        };
        if self.caller.writing() != Writing::Flows {
            return Some(no_later(
                self.stuck_since + limits.write_timeout,
                LAST_WRITE,
            ));
        }
        match self.caller.phase() {
            Phase::Resting if self.had_answer => {
                Some(no_later(self.since + limits.idle_timeout, ON_ITS_WAY))
            }
            Phase::Resting => Some(no_later(self.since + limits.header_timeout, ON_ITS_WAY)),
            Phase::Begun | Phase::Head => Some(self.since + limits.header_timeout),
            Phase::Closing => Some(self.closing_since() + LINGER),
            Phase::Busy | Phase::Streaming | Phase::Answered | Phase::SentAway => None,
        }
    }

    fn closing_since(&self) -> Instant {
        let nanos = self.caller.rests_since().unwrap_or_default();
        self.caller.rules.opened + Duration::from_nanos(nanos)
    }

    fn poll_timer(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = match &mut self.timer {
            // It was polled by this task before, which is all it takes to be woken.
            Some(timer) if timer.deadline() <= until && !timer.is_elapsed() => {
                return Poll::Pending;
            }
            Some(_) if until <= Instant::now() => return Poll::Ready(()),
            Some(timer) => {
                timer.as_mut().reset(until);
                timer
            }
            None => self.timer.insert(Box::pin(sleep_until(until))),
        };
        timer.as_mut().poll(cx)
    }
}
