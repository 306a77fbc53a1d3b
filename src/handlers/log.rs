//! `type = "log"`: one line per event on standard error, with the attributes as fields and never
//! the body.
//!
//! The lines look like those of livehook's own log. Unlike these, they do not depend on `[log]
//! level` and are never dropped.

use css_callbacks::Timestamp;
use serde::Deserialize;

use crate::event::Event;
use crate::handler::{Failure, Handler, Handling};
use crate::log::lines::Lines;

/// The handler has no options.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {}

pub(super) struct Log {
    name: String,
    lines: &'static Lines,
}

impl Log {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            lines: Lines::to_stderr(),
        }
    }

    fn trace(&self, event: &Event) {
        let attributes = event.attributes();
        // Strings, not `%` values: the values come from outside, and strings are written quoted and
        // escaped.
        tracing::info!(
            handler.name = self.name.as_str(),
            event.id = event.id().to_string(),
            "event.type" = event.kind().event_type(),
            event.source = format!("/{}", event.source()),
            event.subject = event.subject(),
            event.time = attributes.time.and_then(Timestamp::rfc3339),
            event.appid = attributes.appid,
            event.domain = attributes.domain,
            event.appname = attributes.appname,
            event.streamid = attributes.streamid,
            event.pushsequence = attributes.pushsequence,
            event.receivedtime = event.received().to_string(),
            "event received"
        );
    }
}

impl Handler for Log {
    fn handle<'a>(&'a self, event: &'a Event) -> Handling<'a> {
        Box::pin(async move {
            let written = self.lines.write(|| self.trace(event)).await;
            written.map_err(Failure::retry)
        })
    }
}

#[cfg(test)]
mod tests;
