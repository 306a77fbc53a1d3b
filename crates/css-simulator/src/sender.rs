//! Sends callbacks and repeats them, as strictly and as patiently as the platform.
//!
//! Only 200 is a good answer. Redirects are not followed. An answer may take 20 s (5 s for push
//! exceptions). An event that was not acknowledged is repeated on the schedule of its kind.
//! `time_scale` shortens only the pauses, not the time for an answer, because connections are real.

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
use super::{SendProgress, Stop, stopped, time_ahead};
use crate::Now;

/// The longest time for an answer (page 38080).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// `timeout` in the payload of push exceptions (page 53310).
const SHORT_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The validity of a signature, seconds.
pub(super) const VALIDITY: i64 = 600;

/// The longest time for the answer to a kind.
pub(super) fn answer_timeout(kind: Kind) -> Duration {
    match kind {
        Kind::PushException => SHORT_ANSWER_TIMEOUT,
        _ => ANSWER_TIMEOUT,
    }
}

/// A callback and when and how to send it.
pub(super) struct Planned {
    pub(super) kind: Kind,
    pub(super) written: PreparedBody,
    pub(super) identity: SentIdentity,
    /// The begin or end of a push that it reports.
    pub(super) push: Option<PushEdge>,
    /// Whether a retry gets a new signature. The platform's behaviour is unknown.
    pub(super) renewed: bool,
    /// The number of attempts that count as failed before the first one is sent.
    pub(super) late: u32,
    pub(super) repeat: RepeatTime,
    /// When the first attempt is due; none means as soon as possible.
    pub(super) due: Option<Instant>,
}

/// When the platform sends a callback again although it was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RepeatTime {
    Never,
    /// Twice at the same moment.
    AtOnce,
    /// Again after its acknowledgement.
    Later,
}

/// The reason for a request.
#[derive(Clone, Copy)]
enum Purpose {
    First,
    Retry,
    Repeat,
}

/// Sends requests over a limited number of connections and records the answers.
pub(super) struct Sender {
    connections: Connections,
    template: Template,
    /// The URLs by kind, built once.
    urls: Vec<Url>,
    key: Option<Secret>,
    now: Now,
    /// Seconds by which the sender's clock is ahead. The clock may be wrong.
    clock_offset: i64,
    time_scale: f64,
    ack_log: Mutex<AckLog>,
    stop: watch::Receiver<Stop>,
}

/// The settings of a [`Sender`].
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

    pub(super) fn progress(&self, began: Instant) -> SendProgress {
        let ack_log = self.ack_log();
        let sent = ack_log.entries.len() as u64;
        SendProgress {
            sent,
            acknowledged: ack_log.acknowledged,
            under_way: sent - ack_log.acknowledged - ack_log.given_up - ack_log.pending,
            given_up: ack_log.given_up,
            elapsed: began.elapsed(),
            last_trouble: ack_log.last_trouble.clone(),
        }
    }

    /// Sends the first attempt, and a repeat at the same moment if one is planned. Returns what is
    /// left to do.
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

    /// Waits. Returns false if the simulation should stop.
    async fn wait(&self, pause: Duration) -> bool {
        tokio::select! {
            () = sleep(pause) => true,
            () = stopped(self.stop.clone(), Stop::Soon) => false,
        }
    }

    /// Waits for a free connection. Returns none if the simulation should stop.
    async fn slot(&self) -> Option<Slot<'_>> {
        tokio::select! {
            biased;
            () = stopped(self.stop.clone(), Stop::Soon) => None,
            slot = self.connections.slot() => Some(slot),
        }
    }

    /// Sends a request. Returns none if the simulation is stopped before the answer.
    async fn post(
        &self,
        slot: &Slot<'_>,
        url: &Url,
        body: String,
        answer_timeout: Duration,
    ) -> Option<RequestEnd> {
        // Boxed: a running request needs much memory, and most events only wait.
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

    /// The signature of the next attempt. One that is not renewed expires after as many attempts as
    /// at the platform.
    fn signature(&self, delivery: &Delivery) -> Option<Signature> {
        if !delivery.planned.written.is_signed() {
            return None;
        }
        let interval = delivery.planned.kind.retry_schedule().interval;
        let late = delivery.planned.late;
        // By how much the platform would be later: it has no skipped attempts and no short pauses.
        let skipped = interval * late
            + (interval * (delivery.attempt - late)).mul_f64(1.0 - 1.0 / self.time_scale);
        let t = if delivery.planned.renewed {
            self.now() + VALIDITY
        } else {
            delivery.t - i64::try_from(skipped.as_secs()).unwrap_or(i64::MAX)
        };
        Some(Signature::new(self.key.as_ref().map(Secret::reveal), t))
    }

    /// Sends a bad request.
    pub(super) async fn send_bad(&self, bad: Bad, content: &Content) {
        let Some(slot) = self.slot().await else {
            return;
        };
        // If the sender's clock is ahead, an expired signature would not be a day old.
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

/// An event from its first attempt to its acknowledgement, or until it is given up.
pub(super) struct Delivery {
    planned: Planned,
    number: usize,
    /// The `t` of the first attempt.
    t: i64,
    attempt: u32,
    good: bool,
}
