//! An event: a stored callback as handlers get it, with the attributes of CloudEvents 1.0.
//!
//! The body is the truth: it is stored as received, attributes are read from it after each load,
//! and `data` is the received text.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use css_callbacks::{Attributes, Callback, EventId, Kind, Payload, Timestamp, json};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// The number of an event in the inbox. Numbers grow in arrival order and start at 1.
pub(crate) type Seq = i64;

/// The value of the attribute `untyped` if the event has no typed form.
const UNTYPED: &str = "true";

/// A stored callback. Clones share everything, also what was read from the body.
#[derive(Debug, Clone)]
pub struct Event(Arc<Stored>);

#[derive(Debug, Clone)]
struct Stored {
    seq: Seq,
    id: EventId,
    source: Arc<str>,
    kind: Kind,
    received: Timestamp,
    body: Bytes,
    attributes: OnceLock<Attributes>,
    lane: OnceLock<u64>,
    misfits: OnceLock<usize>,
}

/// The form of `data` that a handler gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayloadForm {
    /// The body exactly as received.
    #[default]
    Original,
    /// Names and types are the same for all kinds. Members that do not fit stay as received, and so
    /// does a body without a typed form.
    Typed,
}

/// `data` of a CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventData<'a> {
    /// JSON text.
    Json(Cow<'a, [u8]>),
    /// A body that is not UTF-8, so a JSON document cannot contain it as it is.
    Binary(&'a [u8]),
}

impl Event {
    /// Makes an event from stored values.
    pub fn new(
        seq: Seq,
        id: EventId,
        source: Arc<str>,
        kind: Kind,
        received: Timestamp,
        body: Bytes,
    ) -> Self {
        Self(Arc::new(Stored {
            seq,
            id,
            source,
            kind,
            received,
            body,
            attributes: OnceLock::new(),
            lane: OnceLock::new(),
            misfits: OnceLock::new(),
        }))
    }

    /// Its number in the inbox.
    pub fn seq(&self) -> Seq {
        self.0.seq
    }

    /// Its identity. It is the same for every delivery and on every node.
    pub fn id(&self) -> EventId {
        self.0.id
    }

    /// The name of the source at which it arrived.
    pub fn source(&self) -> &Arc<str> {
        &self.0.source
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// When it arrived.
    pub fn received(&self) -> Timestamp {
        self.0.received
    }

    /// The body as received.
    pub fn body(&self) -> &Bytes {
        &self.0.body
    }

    /// The event with its attributes but without its body, to keep lists small.
    #[must_use]
    pub(crate) fn without_body(mut self) -> Self {
        self.attributes();
        Arc::make_mut(&mut self.0).body = Bytes::new();
        self
    }

    /// The attributes that the body contains.
    pub fn attributes(&self) -> &Attributes {
        let stored = &*self.0;
        stored
            .attributes
            .get_or_init(|| match Callback::parse(&stored.body) {
                Ok(callback) => Attributes::read(stored.kind, &callback),
                Err(_) => Attributes::default(),
            })
    }

    /// The typed form of the body. It is an error if there is none.
    pub fn payload(&self) -> Result<Payload, serde_json::Error> {
        let text = std::str::from_utf8(&self.0.body).map_err(serde::de::Error::custom)?;
        let payload = Payload::parse(self.0.kind, text)?;
        self.0.misfits.get_or_init(|| payload.misfits().count());
        Ok(payload)
    }

    /// How many members did not fit the typed form; 0 if nobody has read that form.
    pub(crate) fn misfits(&self) -> usize {
        self.0.misfits.get().copied().unwrap_or_default()
    }

    /// The duration of the push whose end the body reports.
    pub(crate) fn push_duration(&self) -> Option<Duration> {
        let callback = Callback::parse(&self.0.body).ok()?;
        let millis = json::integer(callback.value("push_duration")?)?;
        u64::try_from(millis).ok().map(Duration::from_millis)
    }

    /// The CloudEvents `subject`: `domain/appname/streamid`. It is absent if one of the three is
    /// unknown, or if the text is longer than an attribute may be.
    pub fn subject(&self) -> Option<String> {
        let Attributes {
            domain: Some(domain),
            appname: Some(app),
            streamid: Some(stream),
            ..
        } = self.attributes()
        else {
            return None;
        };
        Some(format!("{domain}/{app}/{stream}"))
            .filter(|subject| subject.len() <= Attributes::MAX_LENGTH)
    }

    /// The ordering key: the same for all events of one stream; each event without a stream has its
    /// own. It is even: the lowest bit marks the second lane of a stream, which replays use.
    pub(crate) fn lane(&self) -> u64 {
        *self.0.lane.get_or_init(|| self.hash_stream())
    }

    fn hash_stream(&self) -> u64 {
        let attributes = self.attributes();
        let mut hash = Sha256::new();
        match &attributes.streamid {
            Some(stream) => {
                for part in [
                    Some(&*self.0.source),
                    attributes.domain.as_deref(),
                    attributes.appname.as_deref(),
                    Some(stream),
                ] {
                    hash.update(part.unwrap_or_default());
                    hash.update([0xFF]); // this byte is in no UTF-8 text
                }
            }
            None => hash.update(self.0.seq.to_be_bytes()),
        }
        let digest = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(first) & !1
    }

    /// The event as a CloudEvent, which can be sent.
    pub fn cloud_event(&self, form: PayloadForm) -> CloudEvent<'_> {
        let typed = match form {
            PayloadForm::Original => None,
            PayloadForm::Typed => Some(self.typed()),
        };
        let untyped = match &typed {
            Some(Err(_)) if !self.0.kind.is_derived() => Some(UNTYPED.to_owned()),
            Some(Ok((_, misfits))) if !misfits.is_empty() => Some(misfits.clone()),
            _ => None,
        };
        let data = match typed.and_then(|typed| typed.ok().map(|(data, _)| data)) {
            Some(typed) => EventData::Json(Cow::Owned(typed)),
            None if std::str::from_utf8(&self.0.body).is_ok() => {
                EventData::Json(Cow::Borrowed(&self.0.body))
            }
            None => EventData::Binary(&self.0.body),
        };
        CloudEvent {
            attributes: self.all_attributes(untyped),
            data,
        }
    }

    /// The typed form, and the names of the members that did not fit.
    fn typed(&self) -> Result<(Vec<u8>, String), serde_json::Error> {
        let payload = self.payload()?;
        let misfits: Vec<&str> = payload.misfits().collect();
        Ok((serde_json::to_vec(&payload)?, misfits.join(",")))
    }

    fn all_attributes(&self, untyped: Option<String>) -> Vec<(&'static str, Cow<'_, str>)> {
        let attributes = self.attributes();
        fn text(value: &Option<String>) -> Option<Cow<'_, str>> {
            value.as_deref().map(Cow::Borrowed)
        }
        let optional = [
            ("subject", self.subject().map(Cow::Owned)),
            (
                "time",
                attributes.time.and_then(Timestamp::rfc3339).map(Cow::Owned),
            ),
            ("datacontenttype", Some(Cow::Borrowed("application/json"))),
            ("appid", text(&attributes.appid)),
            ("domain", text(&attributes.domain)),
            ("appname", text(&attributes.appname)),
            ("streamid", text(&attributes.streamid)),
            ("pushsequence", text(&attributes.pushsequence)),
            (
                "receivedtime",
                Some(Cow::Owned(self.0.received.to_string())),
            ),
            ("untyped", untyped.map(Cow::Owned)),
        ];
        let mut all = vec![
            ("specversion", Cow::Borrowed("1.0")),
            ("id", Cow::Owned(self.0.id.to_string())),
            ("source", Cow::Owned(format!("/{}", self.0.source))),
            ("type", Cow::Borrowed(self.0.kind.event_type())),
        ];
        all.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        all
    }
}

/// A CloudEvent: attributes and data.
#[derive(Debug, Clone)]
pub struct CloudEvent<'a> {
    attributes: Vec<(&'static str, Cow<'a, str>)>,
    data: EventData<'a>,
}

impl CloudEvent<'_> {
    /// The attributes that are present, as text, in the order of the documentation.
    pub fn attributes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.attributes
            .iter()
            .map(|(name, value)| (*name, &**value))
    }

    /// The data.
    pub fn data(&self) -> &EventData<'_> {
        &self.data
    }

    /// The JSON form, with `data` unchanged.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = self.attributes_buffer(match &self.data {
            EventData::Json(text) => text.len(),
            EventData::Binary(bytes) => 2 * bytes.len(),
        });
        match &self.data {
            EventData::Json(text) => {
                out.extend_from_slice(b",\"data\":");
                out.extend_from_slice(text);
            }
            EventData::Binary(bytes) => {
                out.extend_from_slice(b",\"data_base64\":\"");
                out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
                out.push(b'"');
            }
        }
        out.push(b'}');
        out
    }

    /// The JSON form in one line that ends with a line break.
    pub fn to_json_line(&self) -> Vec<u8> {
        let json = self.to_json();
        let mut line = match json::one_line(&json) {
            Cow::Owned(line) => line,
            Cow::Borrowed(_) => json,
        };
        line.push(b'\n');
        line
    }

    /// The JSON form without `data` and without the closing brace.
    pub fn attributes_json(&self) -> Vec<u8> {
        self.attributes_buffer(0)
    }

    /// The same, with capacity for `extra` more bytes.
    fn attributes_buffer(&self, extra: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024 + extra);
        for (name, value) in &self.attributes {
            out.push(if out.is_empty() { b'{' } else { b',' });
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            if *name == "untyped" && value == UNTYPED {
                out.extend_from_slice(value.as_bytes()); // a boolean: no typed member is named `true`
            } else {
                let _ = serde_json::to_writer(&mut out, value); // writing text into memory does not fail
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
