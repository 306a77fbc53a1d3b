//! What was sent and what became of it: what the checks at the end compare the receiver with.

use std::collections::BTreeMap;
use std::time::Duration;

use css_callbacks::{
    self, Callback, EventId, Kind,
    json::{self, Member},
};
use hdrhistogram::Histogram;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::connections::RequestEnd;
use super::oracle::{Oracle, PushEdge};

/// So many descriptions of what went wrong are kept.
const KEPT: usize = 5;
/// The longest time that a latency can be told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(3600);

/// A body without what a retry may renew: the same for every attempt, and for what the receiver stored of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BodyDigest([u8; 16]);

impl BodyDigest {
    /// The digest of a body; none if it is not one JSON object.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        Some(Self::of_members(body, &json::members(body).ok()?))
    }

    /// The digest of a body that was read already.
    fn of_members(body: &[u8], members: &[Member]) -> Self {
        // Blanks around it are no part of what is stored.
        let end = body.trim_ascii_end().len();
        let mut from = body.len() - body.trim_ascii_start().len();
        let mut hash = Sha256::new();
        for member in members {
            if matches!(&*member.name, b"t" | b"sign") {
                // Where the value stands in the body of which it is a part.
                let begin = member.value.as_ptr() as usize - body.as_ptr() as usize;
                hash.update(&body[from..begin]);
                from = begin + member.value.len();
            }
        }
        hash.update(&body[from..end]);
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        Self(digest)
    }
}

/// The name under which the receiver knows an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SentIdentity {
    /// None where the receiver makes one by chance, for a relay without a time, or a new one when it is signed anew.
    pub(super) id: Option<EventId>,
    pub(super) digest: BodyDigest,
}

impl SentIdentity {
    /// Of a body that is sent to a URL of this kind, as the source of this name derives it.
    pub(super) fn of(source: &str, url_kind: Option<Kind>, body: &[u8]) -> Option<Self> {
        let callback = Callback::parse(body).ok()?;
        let kind = callback.kind(url_kind);
        let mut by_chance = false;
        let id = EventId::derive(source, kind, callback.members(), || {
            by_chance = true;
            [0; 16]
        });
        Some(Self {
            id: (!by_chance && !css_callbacks::EventId::covers_t(kind)).then_some(id),
            digest: BodyDigest::of_members(body, callback.members()),
        })
    }
}

/// An event that was sent.
pub(super) struct SentEvent {
    pub(super) identity: SentIdentity,
    pub(super) acknowledged: bool,
}

/// Everything that was counted.
pub(super) struct AckLog {
    pub(super) entries: Vec<SentEvent>,
    /// Begins and ends of pushes, with the numbers of their entries.
    pushes: Vec<(usize, PushEdge)>,
    /// What was forged, and must not be found.
    pub(super) forged: Vec<EventId>,
    pub(super) acknowledged: u64,
    pub(super) retried: u64,
    pub(super) given_up: u64,
    pub(super) pending: u64,
    pub(super) duplicates: u64,
    pub(super) bad: u64,
    pub(super) refused: u64,
    pub(super) accepted_bad: u64,
    /// Names of bad requests that were taken.
    pub(super) mistakes: Vec<&'static str>,
    pub(super) answers: BTreeMap<u16, u64>,
    pub(super) timed_out: u64,
    pub(super) failed: u64,
    /// The last genuine request that was not answered 200.
    pub(super) last_trouble: Option<RequestEnd>,
    pub(super) good: u64,
    latency: Histogram<u64>,
    began: Option<Instant>,
    last_good: Option<Instant>,
}

impl AckLog {
    pub(super) fn new() -> Self {
        let longest = LONGEST.as_micros() as u64;
        Self {
            entries: Vec::new(),
            pushes: Vec::new(),
            forged: Vec::new(),
            acknowledged: 0,
            retried: 0,
            given_up: 0,
            pending: 0,
            duplicates: 0,
            bad: 0,
            refused: 0,
            accepted_bad: 0,
            mistakes: Vec::new(),
            answers: BTreeMap::new(),
            timed_out: 0,
            failed: 0,
            last_trouble: None,
            good: 0,
            latency: Histogram::new_with_bounds(1, longest, 3).expect("the bounds are in order"),
            began: None,
            last_good: None,
        }
    }

    /// An event is about to be sent for the first time; its number.
    pub(super) fn sent(
        &mut self,
        identity: SentIdentity,
        push: Option<PushEdge>,
        due: Instant,
    ) -> usize {
        self.began.get_or_insert(due);
        self.entries.push(SentEvent {
            identity,
            acknowledged: false,
        });
        let number = self.entries.len() - 1;
        self.pushes.extend(push.map(|push| (number, push)));
        number
    }

    /// Which streams are live by what was acknowledged.
    pub(super) fn oracle(&self) -> Oracle {
        Oracle::of(&self.entries, &self.pushes)
    }

    /// A genuine request ended, so long after it was due.
    pub(super) fn replied(&mut self, number: usize, reply: &RequestEnd, due: Instant) {
        let took = due.elapsed();
        self.count(reply);
        // Whoever refuses fast is not fast; whoever does not answer is as slow as the sender is patient.
        if reply.is_good() || *reply == RequestEnd::TimedOut {
            let micros = took.as_micros() as u64;
            self.latency.saturating_record(micros);
        }
        if reply.is_good() {
            self.good += 1;
            self.last_good = Some(Instant::now());
            let entry = &mut self.entries[number];
            self.acknowledged += u64::from(!entry.acknowledged);
            entry.acknowledged = true;
        } else {
            self.last_trouble = Some(reply.clone());
        }
    }

    /// A bad request ended.
    pub(super) fn bad_replied(&mut self, name: &'static str, reply: &RequestEnd) {
        self.count(reply);
        self.bad += 1;
        match reply {
            // To the platform only 200 is good, but whoever answers 201 has taken it.
            RequestEnd::Status(200..=299) => {
                self.accepted_bad += 1;
                if self.mistakes.len() < KEPT && !self.mistakes.contains(&name) {
                    self.mistakes.push(name);
                }
            }
            RequestEnd::Status(_) => self.refused += 1,
            RequestEnd::TimedOut | RequestEnd::Failed(_) => {}
        }
    }

    fn count(&mut self, reply: &RequestEnd) {
        match reply {
            RequestEnd::Status(status) => *self.answers.entry(*status).or_default() += 1,
            RequestEnd::TimedOut => self.timed_out += 1,
            RequestEnd::Failed(_) => self.failed += 1,
        }
    }

    /// The platform drops an event after the last attempt; or the simulation ended before.
    pub(super) fn dropped(&mut self, number: usize, by_the_platform: bool) {
        if self.entries[number].acknowledged {
            return;
        }
        if by_the_platform {
            self.given_up += 1;
        } else {
            self.pending += 1;
        }
    }

    /// What was sent, and what was forged; the counts stay.
    pub(super) fn take_sent(&mut self) -> (Vec<SentEvent>, Vec<EventId>) {
        (
            std::mem::take(&mut self.entries),
            std::mem::take(&mut self.forged),
        )
    }

    /// From the first request to the last good answer, or to now.
    pub(super) fn lasted(&self) -> Duration {
        match (self.began, self.last_good) {
            (Some(began), Some(last)) => last.saturating_duration_since(began),
            (Some(began), None) => began.elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// So many of a hundred took no longer than this; none if there were none. A hundred is the longest.
    pub(super) fn percentile(&self, hundredths: f64) -> Option<Duration> {
        let micros = self.latency.value_at_quantile(hundredths / 100.0);
        (!self.latency.is_empty()).then(|| Duration::from_micros(micros))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_does_not_see_what_a_retry_renews_and_sees_all_else() {
        let digest = |body: &str| BodyDigest::of(body.as_bytes()).unwrap();
        let one = digest(r#"{"a":1,"sign":"x","t":1,"z":[2]}"#);
        assert_eq!(
            one,
            digest(" {\"a\":1,\"sign\":\"yy\",\"t\":\"2\",\"z\":[2]}\n")
        );
        for other in [
            r#"{"a":2,"sign":"x","t":1,"z":[2]}"#,
            r#"{"a":1,"sign":"x","t":1,"z":[3]}"#,
            r#"{"a":1, "sign":"x","t":1,"z":[2]}"#,
            r#"{"a":1,"z":[2]}"#,
        ] {
            assert_ne!(one, digest(other), "{other}");
        }
        assert_eq!(BodyDigest::of(b"[]"), None);
    }

    #[test]
    fn what_the_receiver_takes_for_new_has_no_id() {
        let id = |body: &str| SentIdentity::of("css", None, body.as_bytes()).unwrap().id;
        assert_eq!(id(r#"{"event_type":314}"#), None);
        assert!(id(r#"{"event_type":314,"event_time":"1"}"#).is_some());
        assert_eq!(id(r#"{"event_type":329,"t":1}"#), None);
    }

    #[test]
    fn an_event_counts_as_acknowledged_once() {
        let mut ack_log = AckLog::new();
        let identity = SentIdentity::of("css", None, b"{}").unwrap();
        let number = ack_log.sent(identity, None, Instant::now());
        for reply in [
            RequestEnd::Failed("refused".to_owned()),
            RequestEnd::Status(503),
            RequestEnd::Status(200),
            RequestEnd::Status(200),
        ] {
            ack_log.replied(number, &reply, Instant::now());
        }
        ack_log.dropped(number, true);
        assert_eq!(
            (ack_log.acknowledged, ack_log.good, ack_log.given_up),
            (1, 2, 0)
        );
        assert_eq!((ack_log.failed, ack_log.answers[&503]), (1, 1));
    }
}
