//! Looking for events.

use css_callbacks::{Kind, Timestamp};

use crate::event::{Event, Seq};

/// Which events to list. What is not set lets everything pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct EventFilter {
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Of this source.
    pub source: Option<String>,
    /// With this `domain`.
    pub domain: Option<String>,
    /// With this `streamid`, or `appname/streamid`; of the latter, what has no `appname` is matched by its `streamid`.
    pub stream: Option<String>,
    /// Received at or after this time.
    pub from: Option<Timestamp>,
    /// Received before this time.
    pub to: Option<Timestamp>,
}

impl EventFilter {
    /// Whether the event passes.
    pub(crate) fn matches(&self, event: &Event) -> bool {
        self.kind.is_none_or(|kind| kind == event.kind())
            && self
                .source
                .as_deref()
                .is_none_or(|source| source == &**event.source())
            && self.from.is_none_or(|from| event.received() >= from)
            && self.to.is_none_or(|to| event.received() < to)
            && (self.domain.is_none() || self.domain == event.attributes().domain)
            && self
                .stream
                .as_deref()
                .is_none_or(|stream| matches_stream(event, stream))
    }
}

/// Some kinds tell no appname: their events are of whatever app has a stream of this name.
fn matches_stream(event: &Event, stream: &str) -> bool {
    let own = event.attributes();
    let Some(id) = own.streamid.as_deref() else {
        return false;
    };
    id == stream
        || app_in(stream, id).is_some_and(|app| {
            let own = own.appname.as_deref();
            own.is_none_or(|own| own == app)
        })
}

/// The appname in `appname/streamid`, if that names this stream.
pub(crate) fn app_in<'a>(stream: &'a str, id: &str) -> Option<&'a str> {
    let app = stream.strip_suffix(id)?.strip_suffix('/')?;
    (!app.is_empty()).then_some(app)
}

/// What is beyond a number, and the order that goes on there, in SQL.
pub(crate) fn sql_order(newest_first: bool) -> (&'static str, &'static str) {
    if newest_first {
        ("<", "DESC")
    } else {
        (">", "ASC")
    }
}

/// A part of a list.
#[derive(Debug, Clone)]
pub(crate) struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next part begins; none at the end. A part may be short, even empty, and not be the last one: a search
    /// stops after a bounded effort.
    pub next: Option<Seq>,
}
