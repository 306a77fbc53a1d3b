//! The data of the stream board, and the rule that decides whether a stream is live.
//!
//! The rule does not depend on the order of arrival, nor on how often a callback arrives:
//!
//! 1. The state of a stream (source, domain, app, stream) depends only on its set of facts. Each
//!    stored event of the stream gives one fact.
//! 2. Begins and ends with the same `sequence` form one session. A begin that arrives after the end
//!    of its own session changes nothing.
//! 3. A session starts at the time of its begin. If only its end is known, it starts at the time of
//!    the end minus `push_duration`.
//! 4. A session is over if it has an end. Events of other sessions do not change that.
//! 5. If `sequence` is missing, an end is matched to the begin whose time is closest to end time
//!    minus push duration: at most 90 s before that time, 5 s after it. If no begin matches, the end
//!    is a session of its own.
//! 6. The newest session by start time (then by sequence) decides: the stream is live if that
//!    session is not over.
//! 7. The time of a fact is the event's own time, or the arrival time if the event has none.
//! 8. A fact is removed with its event. Retention keeps the events that decide, so it never makes a
//!    stream live or offline.

pub(crate) mod places;
pub(crate) mod pushes;
mod rule;
mod state;
#[cfg(test)]
mod tests;

use css_callbacks::{Kind, Timestamp};

pub(crate) use self::places::{NOTABLE, Place};
pub(crate) use self::pushes::MAX_PUSH_FACTS;
pub(crate) use self::rule::{Fact, Session, sessions};
pub(crate) use self::state::StreamState;
use crate::event::{Event, Seq};

/// Identifies a stream. A field is empty if the callback does not have it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct StreamKey {
    pub source: String,
    /// The push domain.
    pub domain: String,
    /// The push path.
    pub appname: String,
    /// The stream's name.
    pub streamid: String,
}

impl StreamKey {
    /// The stream that the event belongs to.
    pub(crate) fn of(event: &Event) -> Self {
        let attributes = event.attributes();
        let text = |text: &Option<String>| replace_nul(text.as_deref().unwrap_or_default());
        Self {
            source: event.source().to_string(),
            domain: text(&attributes.domain),
            appname: text(&attributes.appname),
            streamid: text(&attributes.streamid),
        }
    }
}

/// A stream as the board stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamRow {
    /// Numbers the streams in the order in which the board first saw them.
    pub no: i64,
    pub key: StreamKey,
    pub live: bool,
    /// When the stream became live or offline. `None` if no begin and no end is known.
    pub since: Option<Timestamp>,
    /// The key of the session that decides.
    pub session: Option<String>,
    /// The time of the stream's latest event.
    pub last: Timestamp,
    /// Increases whenever `live`, `since` or `session` changes. One counter serves all streams.
    pub revision: i64,
}

/// A fact and the stream that it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct StreamFact {
    pub(crate) stream: StreamKey,
    pub(crate) fact: Fact,
}

impl StreamFact {
    /// Reads the fact from an event. `None` as for [`Fact::of`].
    pub(crate) fn of(event: &Event) -> Option<Self> {
        let fact = Fact::of(event)?;
        let stream = StreamKey::of(event);
        Some(Self { stream, fact })
    }
}

/// A derived event: a change that was announced.
#[derive(Debug, Clone)]
pub(crate) struct Announcement {
    pub(crate) seq: Seq,
    pub(crate) stream: StreamKey,
    pub(crate) live: bool,
}

impl Announcement {
    /// `None` if the event is a callback.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        event.kind().is_derived().then(|| Self {
            seq: event.seq(),
            stream: StreamKey::of(event),
            live: event.kind() == Kind::StreamLive,
        })
    }
}

impl StreamRow {
    /// The `sequence` of the session that decides, if that session has one.
    pub(crate) fn sequence(&self) -> Option<&str> {
        self.session
            .as_deref()
            .filter(|session| !session.starts_with('~'))
    }
}

/// The result of a write of facts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FactsWritten {
    /// How many streams changed back before their change was announced.
    pub(crate) flaps: u64,
}

/// The begin of a live stream, and the stream's number.
pub(crate) type Begin = (Seq, i64);

/// A change that is to be announced.
#[derive(Debug, Clone)]
pub(crate) struct StreamChange {
    pub(crate) stream: StreamRow,
    /// How many changes of the stream were announced before this one.
    pub(crate) number: i64,
}

/// A filter for the list of streams. A field that is `None` excludes nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamQuery {
    pub live: Option<bool>,
    pub source: Option<String>,
    pub domain: Option<String>,
    /// Either `streamid` or `appname/streamid`.
    pub stream: Option<String>,
    /// A text, in lower case, that `domain/appname/streamid` contains.
    pub search: Option<String>,
}

impl StreamQuery {
    pub(crate) fn matches(&self, stream: &StreamRow) -> bool {
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

/// The sessions and events that the board stores for one stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamRecord {
    /// Its newest sessions, the newest first.
    pub sessions: Vec<Session>,
    /// Its events, the latest first.
    pub timeline: Vec<Seq>,
    /// The number of push exceptions of each `sequence`.
    pub exceptions: Vec<(Option<String>, u64)>,
    /// The newest events of the kinds in [`NOTABLE`].
    pub notable: Vec<Seq>,
}

/// PostgreSQL cannot store a NUL character in a text.
fn replace_nul(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}
