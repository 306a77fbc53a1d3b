//! Decides what is sent when: callbacks with their duplicates, delays and bad requests.
//!
//! It runs on its own thread and ahead of time. A timer of the async runtime is only exact to a
//! millisecond, and a request that starts late would make the receiver look slow.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use css_callbacks::Timestamp;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ack_log::SentIdentity;
use super::bad::{Bad, Secrets};
use super::content::Content;
use super::oracle::{PushEdge, StreamName};
use super::scenario::Scenario;
use super::sender::{Planned, RepeatTime};
use super::{Pace, Settings, time_ahead};
use crate::Now;

/// The number of callbacks that are prepared in advance.
const AHEAD: usize = 64;
/// The longest sleep without a look whether to stop.
const NAP: Duration = Duration::from_millis(100);

/// The next request.
pub(super) enum PlannedRequest {
    Genuine(Box<Planned>),
    Bad(Bad, Content),
}

/// Starts the thread. It ends with the events, the duration, `stop`, or when the receiver of the
/// requests is dropped.
pub(super) fn start(
    settings: &Settings,
    now: &Now,
    stop: Arc<AtomicBool>,
) -> std::io::Result<(mpsc::Receiver<PlannedRequest>, JoinHandle<()>)> {
    let (steps, taken) = mpsc::channel(AHEAD);
    let planner = Planner {
        scenario: Scenario::new(settings.seed, settings.streams, &settings.kinds),
        // Bad requests use other streams, so that they do not change the scenario.
        strangers: Scenario::new(!settings.seed, 1, &Bad::KINDS),
        bad: Bad::ALL
            .into_iter()
            .filter(|bad| {
                bad.is_detectable(Secrets {
                    key: settings.key.as_ref(),
                    token: settings.template.token(),
                })
            })
            .collect(),
        rng: StdRng::seed_from_u64(settings.seed.rotate_left(32)),
        held: VecDeque::new(),
        made: 0,
        names: HashSet::new(),
        settings: settings.clone(),
        now: now.clone(),
        stop,
    };
    let thread = std::thread::Builder::new().name("planner".to_owned());
    let planner = thread.spawn(move || planner.run(&steps))?;
    Ok((taken, planner))
}

struct Planner {
    settings: Settings,
    now: Now,
    scenario: Scenario,
    strangers: Scenario,
    bad: Vec<Bad>,
    rng: StdRng,
    /// Callbacks that are held back, each with the number of the event after which it is sent.
    held: VecDeque<(u64, Content)>,
    made: u64,
    /// The names of streams, kept once each.
    names: HashSet<Arc<StreamName>>,
    stop: Arc<AtomicBool>,
}

impl Planner {
    fn run(mut self, steps: &mpsc::Sender<PlannedRequest>) {
        let began = Instant::now();
        let end = self.settings.duration.map(|duration| began + duration);
        for number in 0..self.settings.events.unwrap_or(u64::MAX) {
            let due = match self.settings.pace {
                Pace::Open { rate } => Some(began + Duration::from_secs_f64(number as f64 / rate)),
                Pace::Closed => None,
            };
            if end.is_some_and(|end| due.unwrap_or_else(Instant::now) >= end) {
                return;
            }
            let planned = self.plan(due);
            if due.is_some_and(|due| !self.sleep_until(due)) || self.stop.load(Ordering::Relaxed) {
                return;
            }
            if self.rng.random_bool(self.settings.bad) {
                let content = self.strangers.next(self.now());
                let bad = *self
                    .bad
                    .choose(&mut self.rng)
                    .expect("what is no JSON can always be told");
                if steps
                    .blocking_send(PlannedRequest::Bad(bad, content))
                    .is_err()
                {
                    return;
                }
            }
            if steps
                .blocking_send(PlannedRequest::Genuine(Box::new(planned)))
                .is_err()
            {
                return;
            }
        }
    }

    fn plan(&mut self, due: Option<Instant>) -> Planned {
        let content = self.content();
        let push = self.push(&content);
        let settings = &self.settings;
        let may_be_bare = content.kind.may_be_unsigned() || settings.key.is_none();
        let signed = !(settings.unsigned && may_be_bare);
        let written = content.written(signed);
        let source = settings.template.source().unwrap_or_default();
        let url_kind = settings.template.url_kind(content.kind);
        // With empty places for `t` and `sign`, which are not part of an identity.
        let identity = SentIdentity::of(source, url_kind, written.body(None).as_bytes());
        let repeat = match self.rng.random_bool(settings.duplicates) {
            false => RepeatTime::Never,
            true => *[RepeatTime::AtOnce, RepeatTime::Later]
                .choose(&mut self.rng)
                .unwrap_or(&RepeatTime::Later),
        };
        let late = if settings.reorder && self.rng.random_bool(0.05) {
            // The remaining attempts are enough for a receiver that is away for a moment.
            let retries = content.kind.retry_schedule().retries;
            self.rng.random_range(1..=(retries / 2).max(1))
        } else {
            0
        };
        Planned {
            identity: identity.expect("a body is an object"),
            push,
            kind: content.kind,
            written,
            renewed: self.rng.random_bool(0.5),
            late,
            repeat,
            due,
        }
    }

    fn push(&mut self, content: &Content) -> Option<PushEdge> {
        let mut push = PushEdge::of(content)?;
        match self.names.get(&push.stream) {
            Some(known) => push.stream = known.clone(),
            None => drop(self.names.insert(push.stream.clone())),
        }
        Some(push)
    }

    /// The next callback, or one that was held back. With `reorder`, one in ten is sent after later
    /// ones.
    fn content(&mut self) -> Content {
        self.made += 1;
        let left = self.settings.events.map(|events| events + 1 - self.made);
        loop {
            let due = self
                .held
                .front()
                .is_some_and(|(after, _)| *after <= self.made);
            let last = left.is_some_and(|left| self.held.len() as u64 >= left);
            if (due || last)
                && let Some((_, content)) = self.held.pop_front()
            {
                return content;
            }
            let content = self.scenario.next(self.now());
            if !self.settings.reorder || !self.rng.random_bool(0.1) {
                return content;
            }
            // Long enough for one or two further events of its stream.
            let streams = self.settings.streams as u64;
            let after = self.made + streams + self.rng.random_range(1..=streams);
            let at = self.held.partition_point(|(other, _)| *other <= after);
            self.held.insert(at, (after, content));
        }
    }

    fn now(&self) -> Timestamp {
        time_ahead(&self.now, self.settings.clock_offset)
    }

    /// Sleeps with a precise end. Returns false if it should stop.
    fn sleep_until(&self, due: Instant) -> bool {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(left.min(NAP));
        }
    }
}
