//! Records what was sent and how it was answered, for the report and the checks at the end.

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

/// The most names of accepted bad requests that are kept.
const MAX_MISTAKES: usize = 5;
/// The longest latency that is recorded exactly.
const MAX_LATENCY: Duration = Duration::from_secs(3600);

/// The digest of a body without the members that a retry may renew. It is the same for each attempt
/// and for the stored body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BodyDigest([u8; 16]);

impl BodyDigest {
    /// Returns none if the body is not one JSON object.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        Some(Self::of_members(body, &json::members(body).ok()?))
    }

    /// Returns the digest of a body that was already parsed.
    fn of_members(body: &[u8], members: &[Member]) -> Self {
        // White space around the body is not stored.
        let end = body.trim_ascii_end().len();
        let mut from = body.len() - body.trim_ascii_start().len();
        let mut hash = Sha256::new();
        for member in members {
            if matches!(&*member.name, b"t" | b"sign") {
                // The offset of the value in the body that contains it.
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

/// Identifies an event at the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SentIdentity {
    /// None if the receiver makes a random id, for a relay without a time, or a new id when the
    /// event is signed again.
    pub(super) id: Option<EventId>,
    pub(super) digest: BodyDigest,
}

impl SentIdentity {
    /// The identity of a body that is sent to the URL of this kind of this source.
    pub(super) fn of(source: &str, url_kind: Option<Kind>, body: &[u8]) -> Option<Self> {
        let callback = Callback::parse(body).ok()?;
        let kind = callback.kind(url_kind);
        let mut random_id = false;
        let id = EventId::derive(source, kind, callback.members(), || {
            random_id = true;
            [0; 16]
        });
        Some(Self {
            id: (!random_id && !css_callbacks::EventId::covers_t(kind)).then_some(id),
            digest: BodyDigest::of_members(body, callback.members()),
        })
    }
}

pub(super) struct SentEvent {
    pub(super) identity: SentIdentity,
    pub(super) acknowledged: bool,
}

/// The events and all counts.
pub(super) struct AckLog {
    pub(super) entries: Vec<SentEvent>,
    /// Begins and ends of pushes, with the indexes of their entries.
    pushes: Vec<(usize, PushEdge)>,
    /// The ids of forgeries. None of them may be stored.
    pub(super) forged: Vec<EventId>,
    pub(super) acknowledged: u64,
    pub(super) retried: u64,
    pub(super) given_up: u64,
    pub(super) pending: u64,
    pub(super) duplicates: u64,
    pub(super) bad: u64,
    pub(super) refused: u64,
    pub(super) accepted_bad: u64,
    /// The names of bad requests that were accepted.
    pub(super) mistakes: Vec<&'static str>,
    pub(super) answers: BTreeMap<u16, u64>,
    pub(super) timed_out: u64,
    pub(super) failed: u64,
    /// The result of the last genuine request that was not answered 200.
    pub(super) last_trouble: Option<RequestEnd>,
    pub(super) good: u64,
    latency: Histogram<u64>,
    began: Option<Instant>,
    last_good: Option<Instant>,
}

impl AckLog {
    pub(super) fn new() -> Self {
        let longest = MAX_LATENCY.as_micros() as u64;
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

    /// Records an event that is about to be sent for the first time. Returns its number.
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

    /// The expected state of each stream, from the acknowledged events.
    pub(super) fn oracle(&self) -> Oracle {
        Oracle::of(&self.entries, &self.pushes)
    }

    /// Records the end of a genuine request that was due at `due`.
    pub(super) fn replied(&mut self, number: usize, reply: &RequestEnd, due: Instant) {
        let took = due.elapsed();
        self.count(reply);
        // A fast refusal is not a fast answer, so it does not count; a missing answer counts with
        // the timeout.
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

    /// Records the end of a bad request.
    pub(super) fn bad_replied(&mut self, name: &'static str, reply: &RequestEnd) {
        self.count(reply);
        self.bad += 1;
        match reply {
            // Only 200 acknowledges, but a receiver that answers 201 has accepted the request.
            RequestEnd::Status(200..=299) => {
                self.accepted_bad += 1;
                if self.mistakes.len() < MAX_MISTAKES && !self.mistakes.contains(&name) {
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

    /// Records an event that is not repeated any more: the platform drops it after the last
    /// attempt, or the simulation ended.
    pub(super) fn dropped(&mut self, number: usize, by_platform: bool) {
        if self.entries[number].acknowledged {
            return;
        }
        if by_platform {
            self.given_up += 1;
        } else {
            self.pending += 1;
        }
    }

    /// Takes the events and the forgeries out. The counts stay.
    pub(super) fn take_sent(&mut self) -> (Vec<SentEvent>, Vec<EventId>) {
        (
            std::mem::take(&mut self.entries),
            std::mem::take(&mut self.forged),
        )
    }

    /// The time from the first request to the last good answer, or to now.
    pub(super) fn lasted(&self) -> Duration {
        match (self.began, self.last_good) {
            (Some(began), Some(last)) => last.saturating_duration_since(began),
            (Some(began), None) => began.elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// The longest latency among the fastest `hundredths` percent; none if there is no latency. 100
    /// is the longest of all.
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
