//! Posts events, and derives the outcome from the answers.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use css_callbacks::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode};

use super::{HttpTarget, Mode};
use crate::clock::Clock;
use crate::event::{CloudEvent, Event, EventData, PayloadForm};
use crate::handler::{Failure, Handler, Handling, Outcome};
use crate::outbound::Clients;

/// The characters that the HTTP binding of CloudEvents encodes in header values, besides all that
/// are not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The most bytes of an answer that are read, so that the connection can be used again. The head
/// alone decides the outcome.
const MAX_ANSWER: usize = 64 << 10;
/// The longest time for reading the rest of an answer.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// The handler that posts events.
pub(in crate::handlers) struct Post {
    clients: Clients,
    target: HttpTarget,
    form: PayloadForm,
    clock: Clock,
}

impl HttpTarget {
    pub(in crate::handlers) fn build(
        &self,
        form: PayloadForm,
        clock: &Clock,
    ) -> anyhow::Result<Post> {
        let clients = Clients::new(&self.url, self.connection_lifetime, |client| client)?;
        Ok(Post {
            clients,
            target: self.clone(),
            form,
            clock: clock.clone(),
        })
    }
}

impl Post {
    async fn post(&self, event: &Event) -> Outcome {
        let request = self.request(event);
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(Failure::retry(failure_reason(&error))),
        };
        let outcome = outcome_of(response.status(), response.headers(), self.clock.now());
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, drain(&mut response, &mut answer)).await;
        outcome.map_err(|failure| failure.with_detail(&answer))
    }

    fn request(&self, event: &Event) -> RequestBuilder {
        let cloud_event = event.cloud_event(self.form);
        let request = self.clients.current().post(self.target.url.clone());
        let request = request.headers(self.target.headers.clone());
        let (mut request, body) = match self.target.mode {
            Mode::Structured => structured(request, &cloud_event),
            Mode::Binary => binary(request, &cloud_event),
        };
        if let Some(key) = &self.target.key {
            let id = event.id().to_string();
            // The time of the attempt, not of the event: receivers refuse old timestamps.
            let seconds = self.clock.now().seconds();
            request = request
                .header("webhook-signature", key.sign(&id, seconds, &body))
                .header("webhook-timestamp", seconds)
                .header("webhook-id", id);
        }
        request.body(body)
    }
}

impl Handler for Post {
    fn handle<'a>(&'a self, event: &'a Event) -> Handling<'a> {
        Box::pin(self.post(event))
    }
}

fn structured(request: RequestBuilder, event: &CloudEvent) -> (RequestBuilder, Vec<u8>) {
    let request = request.header(CONTENT_TYPE, "application/cloudevents+json");
    (request, event.to_json())
}

fn binary(mut request: RequestBuilder, event: &CloudEvent) -> (RequestBuilder, Vec<u8>) {
    for (name, value) in event.attributes() {
        request = match name {
            "datacontenttype" => request.header(CONTENT_TYPE, value),
            _ => {
                let value = Cow::from(utf8_percent_encode(value, ENCODED));
                request.header(format!("ce-{name}"), &*value)
            }
        };
    }
    let body = match event.data() {
        EventData::Json(text) => text.to_vec(),
        EventData::Binary(bytes) => bytes.to_vec(),
    };
    (request, body)
}

fn outcome_of(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Outcome {
    let reason = match status.as_u16() {
        200..=299 => return Ok(()),
        code @ (400 | 409 | 410 | 413 | 414 | 415 | 422) => {
            return Err(Failure::reject(format_args!("HTTP {code}")));
        }
        code @ 300..=399 => format!("HTTP {code}, and redirects are not followed"),
        code => format!("HTTP {code}"),
    };
    let after = headers.get(RETRY_AFTER).and_then(|value| {
        let text = value.to_str().ok()?;
        retry_after(text.trim(), now)
    });
    Err(Failure::Retry { reason, after })
}

/// Parses `Retry-After`: a number of seconds or a date.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large becomes the largest possible one.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()?;
    Some(Timestamp::from_millis(date.as_millisecond()).since(now))
}

/// The kind of the failure and its innermost cause. The errors in between repeat the URL.
fn failure_reason(error: &reqwest::Error) -> String {
    let kind = if error.is_connect() {
        "cannot connect"
    } else if error.is_builder() {
        "cannot make the request"
    } else {
        "no answer"
    };
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(Error::source) {
        cause = Some(deeper);
    }
    match cause {
        Some(cause) => format!("{kind}: {cause}"),
        None => kind.to_owned(),
    }
}

/// Reads the rest of an answer and keeps its beginning.
async fn drain(response: &mut Response, beginning: &mut Vec<u8>) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        let missing = Failure::MAX_DETAIL.saturating_sub(beginning.len());
        // One byte more shows that the answer was cut.
        beginning.extend(chunk.iter().take(missing + 1));
        read += chunk.len();
        if read > MAX_ANSWER {
            return;
        }
    }
}
