//! What is known of a stream: its name, facts about it, its pushes, and the rule by which it is live.
//!
//! Whatever the order in which callbacks arrive, and however often they come:
//!
//! 1. What is known is a function of the set of facts, one per stored event of a stream (source, domain, app, stream).
//! 2. Begins and ends with the same `sequence` are one session. A begin that arrives after its own end changes nothing.
//! 3. A session starts at its begin's time; if only its end is known, at that one's time less `push_duration`.
//! 4. It is over if there is an end of it. What happens to other sessions makes no difference to it.
//! 5. Without a sequence, an end belongs to the begin nearest to the one it tells of (at most 90 s before, 5 s after it), or is
//!    a session by itself.
//! 6. The newest session by start (ties by sequence) decides: the stream is live if that one is not over.
//! 7. The time is the event's own, or that of its arrival if it has none.
//! 8. Facts go with their events. Retention leaves those that decide, so that nothing becomes live or offline by it.

mod rule;
#[cfg(test)]
mod tests;

use css_callbacks::{Kind, Timestamp};

pub(crate) use self::rule::{Fact, Session, sessions};
use crate::event::{Event, Seq};

/// Only so many of the latest begins and ends of one sequence, or of a stream's sessions without one, count.
pub(crate) const NUMBERLESS: usize = 1000;

/// Names a stream. What is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct StreamKey {
    /// The source's name.
    pub source: String,
    /// The push domain.
    pub domain: String,
    /// The push path.
    pub appname: String,
    /// The stream's name.
    pub streamid: String,
}

impl StreamKey {
    /// The stream that an event is of.
    pub(crate) fn of(event: &Event) -> Self {
        let attributes = event.attributes();
        let text = |text: &Option<String>| storable(text.as_deref().unwrap_or_default());
        Self {
            source: event.source().to_string(),
            domain: text(&attributes.domain),
            appname: text(&attributes.appname),
            streamid: text(&attributes.streamid),
        }
    }
}

/// A stream on the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamRow {
    /// Its number, in the order in which streams were first heard of.
    pub no: i64,
    /// Its name.
    pub key: StreamKey,
    /// Whether it is live.
    pub live: bool,
    /// Since when it is live, or is not; none if nothing was heard of a push.
    pub since: Option<Timestamp>,
    /// The session that decides, by its key.
    pub session: Option<String>,
    /// When something of it happened last.
    pub last: Timestamp,
    /// Rises whenever a stream becomes live or offline, or is so since another time.
    pub revision: i64,
}

/// Kinds of which the newest are looked for whenever a stream is shown, and how many.
pub(crate) const NOTABLE: [(Kind, i64); 5] = [
    (Kind::Snapshot, 1),
    (Kind::Record, 100),
    (Kind::RecordStatus, 200),
    (Kind::ImageAudit, 20),
    (Kind::AudioAudit, 20),
];

/// A fact, and the stream it is about.
#[derive(Debug, Clone)]
pub(crate) struct StreamFact {
    pub(crate) stream: StreamKey,
    pub(crate) fact: Fact,
}

impl StreamFact {
    /// What an event tells.
    pub(crate) fn by(event: &Event) -> Option<Self> {
        let fact = Fact::of(event)?;
        let stream = StreamKey::of(event);
        Some(Self { stream, fact })
    }
}

impl StreamRow {
    /// The `sequence` of the session that decides.
    pub(crate) fn sequence(&self) -> Option<&str> {
        self.session
            .as_deref()
            .filter(|session| !session.starts_with('~'))
    }
}

/// What came of writing facts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FactsWritten {
    /// Streams that were again as they had been before a change was told.
    pub(crate) flaps: u64,
}

/// The begin of a stream that is live, and the stream's number.
pub(crate) type Begin = (Seq, i64);

/// A change to be told.
#[derive(Debug, Clone)]
pub(crate) struct StreamChange {
    pub(crate) stream: StreamRow,
    /// Counts the changes of the stream.
    pub(crate) number: i64,
}

/// Which streams to list. What is not set lets everything pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamQuery {
    /// Live or not.
    pub live: Option<bool>,
    /// Of this source.
    pub source: Option<String>,
    /// Of this domain.
    pub domain: Option<String>,
    /// With this `streamid`, or `appname/streamid`.
    pub stream: Option<String>,
    /// With this text, in lower case, in `domain/appname/streamid`.
    pub search: Option<String>,
}

impl StreamQuery {
    /// Whether a stream passes.
    pub(crate) fn lets(&self, stream: &StreamRow) -> bool {
        let key = &stream.key;
        let path = format!("{}/{}", key.appname, key.streamid);
        let is = |wanted: &Option<String>, text: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == text)
        };
        self.live.is_none_or(|live| live == stream.live)
            && is(&self.source, &key.source)
            && is(&self.domain, &key.domain)
            && (is(&self.stream, &key.streamid) || is(&self.stream, &path))
            && self.search.as_deref().is_none_or(|search| {
                let text = format!("{}/{path}", key.domain).to_ascii_lowercase();
                text.contains(search)
            })
    }
}

/// What is known of one stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamRecord {
    /// Its newest sessions, the newest first.
    pub sessions: Vec<Session>,
    /// Its events, the latest first.
    pub timeline: Vec<Seq>,
    /// How many push exceptions there were, by sequence.
    pub exceptions: Vec<(Option<String>, u64)>,
    /// The events behind the newest of kind that is shown by itself.
    pub notable: Vec<Seq>,
}

/// Texts of PostgreSQL hold no zero.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}
