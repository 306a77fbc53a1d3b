//! `type = "log"`: one line per event in livehook's own log, with the attributes as fields and never the body.

use serde::Deserialize;

use crate::clock::Timestamp;
use crate::event::Event;
use crate::handler::{Handler, Handling};

/// There is nothing to choose.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

pub(super) struct Log {
    name: String,
}

impl Log {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
        }
    }

    fn write(&self, event: &Event) {
        if !tracing::enabled!(tracing::Level::INFO) {
            return; // the fields would be read from the body for nothing
        }
        let attributes = event.attributes();
        // As texts, not as `%`: the values come from outside, and texts are written quoted and escaped.
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
            self.write(event);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
