//! The rule by which a stream is live or not, as a pure function of a set of facts.

use std::time::Duration;

use css_callbacks::{EventId, Kind, Timestamp};

use crate::event::{Event, Seq};

/// The begin that an end without a sequence tells of may have been so much earlier: an end is noticed up to 70 s late.
const EARLIER: Duration = Duration::from_secs(90);
/// And so much later.
const LATER: Duration = Duration::from_secs(5);

/// What the board knows of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    /// Where it stands in the inbox.
    pub seq: Seq,
    /// Its identity: an event that is stored twice is two facts, and counts once.
    pub id: EventId,
    /// Its kind.
    pub kind: Kind,
    /// When it happened by the platform's clock, or else when it arrived.
    pub at: Timestamp,
    /// When it arrived.
    pub received: Timestamp,
    /// `sequence`: links the events of a push.
    pub sequence: Option<String>,
    /// How long the push had lasted; only of an end.
    pub lasted: Option<Duration>,
}

/// A push of a stream, from its begin to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// Its name among the stream's sessions: the sequence, or made of the id of its first event.
    pub key: String,
    /// `sequence`, if its events have one.
    pub sequence: Option<String>,
    /// When it started.
    pub start: Timestamp,
    /// The event that says so; none if only the end is known.
    pub begin: Option<Seq>,
    /// When it ended, and the event that says so.
    pub end: Option<(Timestamp, Seq)>,
}

impl Fact {
    /// What an event tells; none if it is of no stream, or tells nothing of one that others have not told.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        let attributes = event.attributes();
        if event.kind().is_derived() || attributes.streamid.is_none() {
            return None;
        }
        let lasted = (event.kind() == Kind::StreamEnd).then(|| event.push_duration());
        Some(Self {
            seq: event.seq(),
            id: event.id(),
            kind: event.kind(),
            at: attributes.time.unwrap_or(event.received()),
            received: event.received(),
            sequence: attributes.pushsequence.as_deref().map(super::storable),
            lasted: lasted.flatten(),
        })
    }

    /// Whether it is one end of a push.
    pub(crate) fn decides(&self) -> bool {
        matches!(self.kind, Kind::StreamBegin | Kind::StreamEnd)
    }

    /// The begin that an end tells of.
    fn begun(&self) -> Timestamp {
        self.at.minus(self.lasted.unwrap_or_default())
    }
}

impl Session {
    /// Whether nobody has told of its end.
    pub(crate) fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// Orders sessions that start at the same time; digits as numbers.
    pub(crate) fn rank(&self) -> String {
        format!("{:0>20}", self.sequence.as_deref().unwrap_or(&self.key))
    }
}

/// The sessions of one stream that these facts tell of, in no particular order. The facts of a sequence have to be all there
/// are, as have those without one; their order, and how often each is there, make no difference.
pub(crate) fn sessions<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Vec<Session> {
    let mut facts: Vec<&Fact> = facts.into_iter().filter(|fact| fact.decides()).collect();
    facts.sort_by_key(|fact| order(fact));
    facts.dedup_by(|later, first| later.id == first.id);
    let (mut named, unnamed): (Vec<&Fact>, Vec<&Fact>) =
        facts.into_iter().partition(|fact| fact.sequence.is_some());
    named.sort_by(|a, b| a.sequence.cmp(&b.sequence)); // stable: still in order within
    let of_sequence = named.chunk_by(|a, b| a.sequence == b.sequence);
    let mut sessions: Vec<Session> = of_sequence.filter_map(with_sequence).collect();
    sessions.extend(without_sequence(&unnamed));
    sessions
}

/// The same event may have been stored more than once.
fn order(fact: &Fact) -> (EventId, Timestamp, Seq) {
    (fact.id, fact.at, fact.seq)
}

/// What repeats an end, or a begin, of the same push with another text: the earliest begin counts, and the latest end.
fn with_sequence(facts: &[&Fact]) -> Option<Session> {
    let of = |kind| facts.iter().filter(move |fact| fact.kind == kind);
    let begin = of(Kind::StreamBegin).min_by_key(|fact| (fact.at, fact.id));
    let end = of(Kind::StreamEnd).max_by_key(|fact| (fact.at, fact.id));
    let start = begin.map(|fact| fact.at).or(end.map(|fact| fact.begun()))?;
    let sequence = facts[0].sequence.clone()?;
    Some(Session {
        key: sequence.clone(),
        sequence: Some(sequence),
        start,
        begin: begin.map(|fact| fact.seq),
        end: end.map(|fact| (fact.at, fact.seq)),
    })
}

/// Each end belongs to the begin that is nearest to the one it tells of; one without any is a session by itself.
fn without_sequence(facts: &[&Fact]) -> Vec<Session> {
    let of = |kind| {
        let mut facts: Vec<&Fact> = facts.to_vec();
        facts.retain(|fact| fact.kind == kind);
        facts.sort_by_key(|fact| (fact.at, fact.id));
        facts
    };
    let session = |first: &Fact| Session {
        // No sequence has it, and it is the same wherever it is made.
        key: format!("~{}", first.id),
        sequence: None,
        start: first.at,
        begin: Some(first.seq),
        end: None,
    };
    let mut open: Vec<(&Fact, Session)> = of(Kind::StreamBegin)
        .into_iter()
        .map(|fact| (fact, session(fact)))
        .collect();
    let mut sessions = Vec::new();
    for end in of(Kind::StreamEnd) {
        let told = end.begun();
        let apart = |begin: &Fact| begin.at.since(told).max(told.since(begin.at));
        // Without a duration whatever began before it may be meant, the last one most likely.
        let close = |begin: &Fact| told.since(begin.at) <= EARLIER && begin.at.since(told) <= LATER;
        let fits = |begin: &Fact| begin.at <= end.at && (end.lasted.is_none() || close(begin));
        let nearest = (0..open.len())
            .filter(|at| fits(open[*at].0))
            .min_by_key(|at| (apart(open[*at].0), std::cmp::Reverse(*at)));
        let mut ended = match nearest {
            Some(at) => open.remove(at).1,
            None => Session {
                start: told,
                begin: None,
                ..session(end)
            },
        };
        ended.end = Some((end.at, end.seq));
        sessions.push(ended);
    }
    sessions.extend(open.into_iter().map(|(_, session)| session));
    sessions
}
