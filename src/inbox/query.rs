//! Searching for events.

use css_callbacks::{Kind, Timestamp};

use crate::event::{Event, Seq};

/// Which events to list. A field that is not set excludes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct EventFilter {
    pub kind: Option<Kind>,
    pub source: Option<String>,
    pub domain: Option<String>,
    /// A `streamid`, or `appname/streamid`. In the second form, an event without an `appname` is
    /// matched by its `streamid` alone.
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

/// Some kinds have no appname. Their events match a stream of that name in any app.
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

/// The appname in `appname/streamid`, if the rest is this stream id.
pub(crate) fn app_in<'a>(stream: &'a str, id: &str) -> Option<&'a str> {
    let app = stream.strip_suffix(id)?.strip_suffix('/')?;
    (!app.is_empty()).then_some(app)
}

/// The SQL comparison that continues a list after a number, and the SQL order of the list.
pub(crate) fn sql_order(newest_first: bool) -> (&'static str, &'static str) {
    if newest_first {
        ("<", "DESC")
    } else {
        (">", "ASC")
    }
}

/// One page of a list.
#[derive(Debug, Clone)]
pub(crate) struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page begins; none after the last page. A page that is short or empty may have
    /// a next one, because a search stops after a bounded effort.
    pub next: Option<Seq>,
}
