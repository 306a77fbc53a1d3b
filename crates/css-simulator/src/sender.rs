//! One callback after another attempt: as strict and as patient as the platform.
//!
//! 200 is the only good answer, redirects are not followed, an answer is waited for for 20 s (5 s for push exceptions), and
//! what was not acknowledged comes again by the schedule of its kind. `time_scale` shortens only the pauses: the patience is
//! that of real connections.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use css_callbacks::{Kind, Secret};
use reqwest::Url;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::ack_log::{AckLog, SentIdentity};
use super::bad::{Bad, Secrets};
use super::connections::{Connections, RequestEnd, Slot};
use super::content::{Content, PreparedBody, Signature};
use super::oracle::PushEdge;
use super::template::Template;
use super::{Stop, stopped, time_ahead};
use crate::Now;

/// How long the platform waits for an answer (page 38080).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// `timeout` in the payload of push exceptions (page 53310).
const SHORT_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a signature lasts.
pub(super) const VALIDITY: i64 = 600;

/// How long the platform waits for the answer to a kind.
pub(super) fn answer_timeout(kind: Kind) -> Duration {
    match kind {
        Kind::PushException => SHORT_ANSWER_TIMEOUT,
        _ => ANSWER_TIMEOUT,
    }
}

/// A callback and how it will be sent.
pub(super) struct Planned {
    pub(super) kind: Kind,
    pub(super) written: PreparedBody,
    pub(super) identity: SentIdentity,
    /// What it tells of a push.
    pub(super) push: Option<PushEdge>,
    /// Whether a retry is signed anew; what the platform does is not known.
    pub(super) renewed: bool,
    /// Attempts that came to nothing before the first one that is sent.
    pub(super) late: u32,
    pub(super) repeat: RepeatTime,
    /// When the first attempt is due; none: as soon as it can be sent.
    pub(super) due: Option<Instant>,
}

/// Whether the platform sends the same callback twice although it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RepeatTime {
    Never,
    /// Twice at the same moment.
    AtOnce,
    /// Again when it was acknowledged.
    Later,
}

/// Why a request is sent.
#[derive(Clone, Copy)]
enum Purpose {
    First,
    Retry,
    Repeat,
}

/// Sends requests, at most so many at a time, and keeps the ack_log.
pub(super) struct Sender {
    connections: Connections,
    template: Template,
    /// Its URLs in the order of the kinds, put together once.
    urls: Vec<Url>,
    key: Option<Secret>,
    now: Now,
    /// What is added to the time, seconds: the sender's clock may be wrong.
    clock_offset: i64,
    time_scale: f64,
    ack_log: Mutex<AckLog>,
    stop: watch::Receiver<Stop>,
}

/// How a [`Sender`] sends.
pub(super) struct SenderConfig {
    pub(super) template: Template,
    pub(super) key: Option<Secret>,
    pub(super) now: Now,
    pub(super) clock_offset: i64,
    pub(super) time_scale: f64,
    pub(super) connections: usize,
    pub(super) stop: watch::Receiver<Stop>,
}

impl Sender {
    pub(super) fn new(config: SenderConfig) -> anyhow::Result<Self> {
        Ok(Self {
            connections: Connections::new(&config.template, config.connections)?,
            urls: Kind::all_and_unknown()
                .map(|kind| config.template.url(kind))
                .collect(),
            template: config.template,
            key: config.key,
            now: config.now,
            clock_offset: config.clock_offset,
            time_scale: config.time_scale,
            ack_log: Mutex::new(AckLog::new()),
            stop: config.stop,
        })
    }

    pub(super) fn ack_log(&self) -> MutexGuard<'_, AckLog> {
        self.ack_log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first attempt, with a repeat at the same moment if that is planned, and all that is left to do.
    pub(super) async fn begin(&self, mut planned: Planned) -> Delivery {
        let due = planned.due.unwrap_or_else(Instant::now);
        let push = planned.push.take();
        let number = self.ack_log().sent(planned.identity, push, due);
        let mut delivery = Delivery {
            t: self.now() + VALIDITY,
            attempt: planned.late,
            planned,
            number,
            good: false,
        };
        let good = if delivery.planned.repeat == RepeatTime::AtOnce {
            let (first, _) = tokio::join!(
                self.attempt(&delivery, Purpose::First, Some(due)),
                self.attempt(&delivery, Purpose::Repeat, Some(due))
            );
            first
        } else {
            self.attempt(&delivery, Purpose::First, delivery.planned.due)
                .await
        };
        delivery.good = good;
        delivery
    }

    /// Repeats an event until it is acknowledged, or as often as the platform would.
    pub(super) async fn finish(&self, mut delivery: Delivery) {
        let schedule = delivery.planned.kind.retry_schedule();
        let pause = schedule.interval.div_f64(self.time_scale);
        while !delivery.good {
            delivery.attempt += 1;
            if *self.stop.borrow() > Stop::Not {
                return self.ack_log().dropped(delivery.number, false);
            }
            if delivery.attempt > schedule.retries {
                return self.ack_log().dropped(delivery.number, true);
            }
            if !self.wait(pause).await {
                return self.ack_log().dropped(delivery.number, false);
            }
            delivery.good = self.attempt(&delivery, Purpose::Retry, None).await;
        }
        if delivery.planned.repeat == RepeatTime::Later && self.wait(pause / 4).await {
            self.attempt(&delivery, Purpose::Repeat, None).await;
        }
    }

    /// Whether the pause went by before somebody said stop.
    async fn wait(&self, pause: Duration) -> bool {
        tokio::select! {
            () = sleep(pause) => true,
            () = stopped(self.stop.clone(), Stop::Soon) => false,
        }
    }

    /// A free slot; none if it shall stop.
    async fn slot(&self) -> Option<Slot<'_>> {
        tokio::select! {
            biased;
            () = stopped(self.stop.clone(), Stop::Soon) => None,
            slot = self.connections.slot() => Some(slot),
        }
    }

    /// A request and its answer; none if it is not waited for any more.
    async fn post(
        &self,
        slot: &Slot<'_>,
        url: &Url,
        body: String,
        answer_timeout: Duration,
    ) -> Option<RequestEnd> {
        // In a box: what a request needs while it runs is much, and most events only wait.
        let post = Box::pin(slot.post(url, body, answer_timeout));
        tokio::select! {
            reply = post => Some(reply),
            () = stopped(self.stop.clone(), Stop::Now) => None,
        }
    }

    async fn attempt(&self, delivery: &Delivery, purpose: Purpose, due: Option<Instant>) -> bool {
        let Delivery {
            planned, number, ..
        } = delivery;
        let Some(slot) = self.slot().await else {
            return false;
        };
        match purpose {
            Purpose::First => {}
            Purpose::Retry => self.ack_log().retried += 1,
            Purpose::Repeat => self.ack_log().duplicates += 1,
        }
        let started = due.unwrap_or_else(Instant::now);
        let body = planned.written.body(self.signature(delivery).as_ref());
        let kind = planned.kind;
        let url = &self.urls[kind as usize];
        let Some(reply) = self.post(&slot, url, body, answer_timeout(kind)).await else {
            return false;
        };
        self.ack_log().replied(*number, &reply, started);
        reply.is_good()
    }

    /// The signature of the next attempt. One that is not renewed grows old as fast as the schedule runs.
    fn signature(&self, delivery: &Delivery) -> Option<Signature> {
        if !delivery.planned.written.is_signed() {
            return None;
        }
        let interval = delivery.planned.kind.retry_schedule().interval;
        let late = delivery.planned.late;
        // The attempts that were skipped took no time at all, the others what is left of their pauses.
        let skipped = interval * late
            + (interval * (delivery.attempt - late)).mul_f64(1.0 - 1.0 / self.time_scale);
        let t = if delivery.planned.renewed {
            self.now() + VALIDITY
        } else {
            delivery.t - i64::try_from(skipped.as_secs()).unwrap_or(i64::MAX)
        };
        Some(Signature::new(self.key.as_ref().map(Secret::reveal), t))
    }

    /// Sends a request that must be refused.
    pub(super) async fn send_bad(&self, bad: Bad, content: &Content) {
        let Some(slot) = self.slot().await else {
            return;
        };
        // A sender whose clock is ahead would not be a day late.
        let now = self.now().min((self.now)().seconds());
        let now = if bad == Bad::Expired { now } else { self.now() };
        let (url, body) = bad.request(content, now, self.secrets(), &self.template);
        if bad.is_forgery()
            && let Some(source) = self.template.source()
            && let Some(id) = SentIdentity::of(
                source,
                self.template.url_kind(content.kind),
                body.as_bytes(),
            )
            .and_then(|it| it.id)
        {
            self.ack_log().forged.push(id);
        }
        if let Some(reply) = self.post(&slot, &url, body, ANSWER_TIMEOUT).await {
            self.ack_log().bad_replied(bad.slug(), &reply);
        }
    }

    pub(super) fn secrets(&self) -> Secrets<'_> {
        Secrets {
            key: self.key.as_ref(),
            token: self.template.token(),
        }
    }

    fn now(&self) -> i64 {
        time_ahead(&self.now, self.clock_offset).seconds()
    }
}

/// An event between its first attempt and its end.
pub(super) struct Delivery {
    planned: Planned,
    number: usize,
    /// The `t` of the first attempt.
    t: i64,
    attempt: u32,
    good: bool,
}
