//! The rule that decides whether a stream is live: a pure function of a set of facts.

use std::cmp::Ordering;
use std::iter::repeat_n;
use std::time::Duration;

use css_callbacks::{EventId, Kind, Timestamp};

use crate::event::{Event, Seq};

/// How long before end time minus push duration the begin may be, if `sequence` is missing. The
/// platform notices an end up to 70 s late.
const MAX_EARLIER: Duration = Duration::from_secs(90);
/// How long after end time minus push duration the begin may be.
const MAX_LATER: Duration = Duration::from_secs(5);

/// The part of an event that the board stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    /// The event's number in the inbox.
    pub seq: Seq,
    /// The event's identity. An event that is stored twice gives two facts, which count once.
    pub id: EventId,
    pub kind: Kind,
    /// The event's time by the platform's clock, or its arrival time if it has none.
    pub at: Timestamp,
    /// The arrival time.
    pub received: Timestamp,
    /// The `sequence`: all events of one push have the same.
    pub sequence: Option<String>,
    /// How long the push lasted. Only an end has it.
    pub lasted: Option<Duration>,
}

/// One push of a stream, from its begin to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// Unique among the stream's sessions: the `sequence`, or `~` and the id of its first event.
    pub key: String,
    pub sequence: Option<String>,
    pub start: Timestamp,
    /// The begin event. `None` if only the end is known.
    pub begin: Option<Seq>,
    /// The time of the end, and the end event.
    pub end: Option<(Timestamp, Seq)>,
}

impl Fact {
    /// Reads the fact from an event. `None` if the event names no stream, or if livehook derived it
    /// from other events.
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
            sequence: attributes.pushsequence.as_deref().map(super::replace_nul),
            lasted: lasted.flatten(),
        })
    }

    pub(crate) fn is_begin_or_end(&self) -> bool {
        matches!(self.kind, Kind::StreamBegin | Kind::StreamEnd)
    }

    /// When the push started, calculated from its end.
    fn push_start(&self) -> Timestamp {
        self.at.minus(self.lasted.unwrap_or_default())
    }
}

impl Session {
    /// Whether no end is known.
    pub(crate) fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// Its begin and its end, as far as they are known.
    pub(crate) fn seqs(&self) -> impl Iterator<Item = Seq> + use<> {
        self.begin.into_iter().chain(self.end.map(|(_, seq)| seq))
    }

    /// Orders the sessions of a stream: the newest one decides.
    pub(crate) fn order(&self) -> SessionOrder<'_> {
        SessionOrder {
            start: self.start,
            key: &self.key,
        }
    }

    /// Orders sessions that start at the same time. Padding makes `9` come before `10`.
    pub(crate) fn rank(&self) -> String {
        format!("{:0>RANK$}", self.key)
    }
}

/// The length of a rank, unless the key is longer.
const RANK: usize = 20;

/// The order of a session among those of its stream: by start, then by rank.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SessionOrder<'a> {
    pub start: Timestamp,
    pub key: &'a str,
}

impl Ord for SessionOrder<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        fn rank(key: &str) -> impl Iterator<Item = char> {
            let zeros = RANK.saturating_sub(key.chars().count());
            repeat_n('0', zeros).chain(key.chars())
        }
        let by_start = self.start.cmp(&other.start);
        by_start.then_with(|| rank(self.key).cmp(rank(other.key)))
    }
}

impl PartialOrd for SessionOrder<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Builds the sessions of one stream from its facts, in no particular order. The caller passes all
/// facts of a `sequence`, or all facts without one. Their order and repeats make no difference.
pub(crate) fn sessions<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Vec<Session> {
    let mut facts: Vec<&Fact> = facts
        .into_iter()
        .filter(|fact| fact.is_begin_or_end())
        .collect();
    facts.sort_by_key(|fact| order(fact));
    facts.dedup_by(|later, first| later.id == first.id);
    let (mut named, unnamed): (Vec<&Fact>, Vec<&Fact>) =
        facts.into_iter().partition(|fact| fact.sequence.is_some());
    named.sort_by(|a, b| a.sequence.cmp(&b.sequence)); // a stable sort: each group stays in order
    let of_sequence = named.chunk_by(|a, b| a.sequence == b.sequence);
    let mut sessions: Vec<Session> = of_sequence.filter_map(with_sequence).collect();
    sessions.extend(without_sequence(&unnamed));
    sessions
}

/// Puts facts of the same event side by side: it may be stored more than once.
fn order(fact: &Fact) -> (EventId, Timestamp, Seq) {
    (fact.id, fact.at, fact.seq)
}

/// A begin or an end may be repeated with another body: the earliest begin and the latest end count.
fn with_sequence(facts: &[&Fact]) -> Option<Session> {
    let of = |kind| facts.iter().filter(move |fact| fact.kind == kind);
    let begin = of(Kind::StreamBegin).min_by_key(|fact| (fact.at, fact.id));
    let end = of(Kind::StreamEnd).max_by_key(|fact| (fact.at, fact.id));
    let start = begin
        .map(|fact| fact.at)
        .or(end.map(|fact| fact.push_start()))?;
    let sequence = facts[0].sequence.clone()?;
    Some(Session {
        key: sequence.clone(),
        sequence: Some(sequence),
        start,
        begin: begin.map(|fact| fact.seq),
        end: end.map(|fact| (fact.at, fact.seq)),
    })
}

/// Matches each end to the begin nearest to its push start. An end without a match is a session of
/// its own.
fn without_sequence(facts: &[&Fact]) -> Vec<Session> {
    let of = |kind| {
        let mut facts: Vec<&Fact> = facts.to_vec();
        facts.retain(|fact| fact.kind == kind);
        facts.sort_by_key(|fact| (fact.at, fact.id));
        facts
    };
    let session = |first: &Fact| Session {
        // No `sequence` starts with `~`, and every receiver builds the same key.
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
        let start = end.push_start();
        let distance = |begin: &Fact| begin.at.since(start).max(start.since(begin.at));
        // Without a duration every begin before the end fits; the last one is the most likely.
        let is_near = |begin: &Fact| {
            start.since(begin.at) <= MAX_EARLIER && begin.at.since(start) <= MAX_LATER
        };
        let fits = |begin: &Fact| begin.at <= end.at && (end.lasted.is_none() || is_near(begin));
        let nearest = (0..open.len())
            .filter(|at| fits(open[*at].0))
            .min_by_key(|at| (distance(open[*at].0), std::cmp::Reverse(*at)));
        let mut ended = match nearest {
            Some(at) => open.remove(at).1,
            None => Session {
                start,
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
