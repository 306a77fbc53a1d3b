//! The deadline of a connection: one timer for every phase.
//!
//! The deadline does not depend on hyper reading from the socket. hyper does not read in every
//! phase, and a deadline checked only in reads would then never fire.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::connection_state::{ConnectionState, Phase, WriteState};
use super::fixed_response::{FixedResponse, LONG_HEAD, TOO_MANY, TOO_MUCH};
use crate::budget::Charge;

/// How long to wait for the client to read the last response.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// When the listener stops: how long to wait for a request on an idle connection.
const STOP_IDLE_GRACE: Duration = Duration::from_millis(500);
/// When the listener stops: how long a blocked write may stay blocked.
const STOP_WRITE_GRACE: Duration = Duration::from_secs(2);

/// How a connection ends before hyper ends it.
pub(super) enum ConnectionEnd {
    /// Without a response.
    Close,
    Respond(&'static FixedResponse),
}

pub(super) struct ConnectionDeadline<'a> {
    state: &'a ConnectionState,
    /// The connection was admitted beyond `max_connections`.
    is_spare: bool,
    /// When the current phase began.
    since: Instant,
    blocked_since: Instant,
    had_response: bool,
    /// The charge for a head that does not arrive in one piece, and how many bytes it covers.
    charge: Option<(Charge, u64)>,
    /// It may fire early, and is set again then: so most requests do not touch it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<'a> ConnectionDeadline<'a> {
    pub(super) fn new(state: &'a ConnectionState, is_spare: bool) -> Self {
        let now = Instant::now();
        Self {
            state,
            is_spare,
            since: now,
            blocked_since: now,
            had_response: false,
            charge: None,
            timer: None,
        }
    }

    /// Ready when the connection must end. Poll it after each poll of the hyper connection.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionEnd> {
        if let Some(response) = self.update() {
            return Poll::Ready(ConnectionEnd::Respond(response));
        }
        let Some(deadline) = self.deadline() else {
            return Poll::Pending;
        };
        if self.poll_timer(deadline, cx).is_pending() {
            return Poll::Pending;
        }
        let has_no_request = matches!(self.state.phase(), Phase::Idle | Phase::ReadingHead);
        Poll::Ready(
            match self.is_spare && has_no_request && !self.had_response {
                true => ConnectionEnd::Respond(&TOO_MANY),
                false => ConnectionEnd::Close,
            },
        )
    }

    /// Follows the phase. Returns a response if the head is too long or the budget is used up.
    fn update(&mut self) -> Option<&'static FixedResponse> {
        let state = self.state;
        if state.write_state() == WriteState::JustBlocked {
            self.blocked_since = Instant::now();
            state.set_write_state(WriteState::Blocked);
        }
        match state.phase() {
            Phase::HeadStarted => {
                self.since = Instant::now();
                self.charge = None;
                state.set(Phase::ReadingHead);
            }
            Phase::Answered if state.write_state() == WriteState::Flowing => {
                self.since = Instant::now();
                self.had_response = true;
                state.set_evictable(Phase::Idle, self.since);
            }
            _ => {}
        }
        if state.phase() != Phase::ReadingHead {
            self.charge = None;
            return None;
        }
        if state.is_head_too_long() {
            return Some(&LONG_HEAD);
        }
        (!self.charge_head()).then_some(&TOO_MUCH)
    }

    fn charge_head(&mut self) -> bool {
        let head = self.state.head_bytes();
        if let Some((charge, charged)) = &mut self.charge {
            let more = head - *charged;
            *charged = head;
            return more == 0 || charge.grow(more);
        }
        let charge = self.state.shared.limits.heads.charge(head);
        self.charge = charge.map(|charge| (charge, head));
        self.charge.is_some()
    }

    fn deadline(&self) -> Option<Instant> {
        let shared = &self.state.shared;
        let limits = &shared.limits;
        let stopped = shared.stopped.get().copied();
        let no_later = |deadline: Instant, grace: Duration| match stopped {
            Some(stopped) => deadline.min(stopped + grace),
            None => deadline,
        };
        if self.state.write_state() != WriteState::Flowing {
            return Some(no_later(
                self.blocked_since + limits.write_timeout,
                STOP_WRITE_GRACE,
            ));
        }
        match self.state.phase() {
            Phase::Idle if self.had_response => {
                Some(no_later(self.since + limits.idle_timeout, STOP_IDLE_GRACE))
            }
            Phase::Idle => Some(no_later(
                self.since + limits.header_timeout,
                STOP_IDLE_GRACE,
            )),
            Phase::HeadStarted | Phase::ReadingHead => Some(self.since + limits.header_timeout),
            Phase::Closing => Some(self.closing_since() + LINGER),
            Phase::Answering | Phase::Streaming | Phase::Answered | Phase::Evicted => None,
        }
    }

    fn closing_since(&self) -> Instant {
        let nanos = self.state.evictable_since().unwrap_or_default();
        self.state.shared.opened + Duration::from_nanos(nanos)
    }

    fn poll_timer(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = match &mut self.timer {
            // This task has polled the timer before, so the timer will wake it.
            Some(timer) if timer.deadline() <= deadline && !timer.is_elapsed() => {
                return Poll::Pending;
            }
            Some(_) if deadline <= Instant::now() => return Poll::Ready(()),
            Some(timer) => {
                timer.as_mut().reset(deadline);
                timer
            }
            None => self.timer.insert(Box::pin(sleep_until(deadline))),
        };
        timer.as_mut().poll(cx)
    }
}
