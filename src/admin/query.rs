//! Query strings. A request with an unknown or invalid field is refused.

use std::fmt::Display;

use axum::extract::{FromRequestParts, Query};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use css_callbacks::{Kind, Timestamp};

use super::Problem;
use crate::dispatch::HandlerState;
use crate::event::{PayloadForm, Seq};
use crate::inbox::query::EventFilter;
use crate::rejected::{self, Reason};
use crate::stream::StreamQuery;

pub(super) const DEFAULT_LIMIT: usize = 100;
pub(super) const MAX_LIMIT: usize = 1000;

/// The fields of a query string. Each is removed when it is read, so that [`Fields::end`] finds
/// unknown ones.
pub(super) struct Fields(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Fields {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        query
            .map(|Query(fields)| Self(fields))
            .map_err(|_| Problem::Bad("the query string is invalid".to_owned()))
    }
}

/// Parses a position as `next` and `Last-Event-ID` name it.
pub(super) fn cursor(text: &str) -> Option<Seq> {
    text.parse().ok().filter(|seq| *seq >= 0)
}

/// Where an earlier connection ended, from the `Last-Event-ID` header.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<Seq>, Problem> {
    let Some(id) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let id = id.to_str().ok().and_then(cursor);
    let problem = "`Last-Event-ID` must be an `id` of this stream";
    id.map(Some).ok_or_else(|| Problem::Bad(problem.to_owned()))
}

/// Which page of a list is wanted.
pub(super) struct Paging {
    pub(super) limit: usize,
    pub(super) after: Option<Seq>,
}

impl Fields {
    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(field, _)| field == name)?;
        Some(self.0.remove(at).1)
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        expected: impl Display,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        parse(&value)
            .map(Some)
            .ok_or_else(|| Problem::Bad(format!("`{name}` must be {expected}")))
    }

    /// `limit` and `after`.
    pub(super) fn paging(&mut self) -> Result<Paging, Problem> {
        let limit = self.parsed(
            "limit",
            format_args!("a number from 1 to {MAX_LIMIT}"),
            |text| {
                text.parse()
                    .ok()
                    .filter(|limit| (1..=MAX_LIMIT).contains(limit))
            },
        )?;
        let after = self.parsed("after", "the `next` of an earlier answer", cursor)?;
        Ok(Paging {
            limit: limit.unwrap_or(DEFAULT_LIMIT),
            after,
        })
    }

    /// `order`: whether the newest items come first.
    pub(super) fn newest_first(&mut self) -> Result<bool, Problem> {
        let order = self.parsed("order", "`oldest` or `newest`", |text| match text {
            "oldest" => Some(false),
            "newest" => Some(true),
            _ => None,
        })?;
        Ok(order.unwrap_or(false))
    }

    /// `kind`, `source`, `domain`, `stream`, `from`, `to`.
    pub(super) fn event_filter(&mut self) -> Result<EventFilter, Problem> {
        Ok(EventFilter {
            domain: self.take("domain"),
            stream: self.take("stream"),
            ..self.received_filter()?
        })
    }

    /// `kind`, `source`, `from`, `to`.
    fn received_filter(&mut self) -> Result<EventFilter, Problem> {
        let time = "a time such as 2026-11-23T08:00:00Z";
        Ok(EventFilter {
            kind: self.parsed("kind", "a kind such as stream-begin", Kind::from_slug)?,
            source: self.take("source"),
            from: self.parsed("from", time, Timestamp::from_rfc3339)?,
            to: self.parsed("to", time, Timestamp::from_rfc3339)?,
            ..EventFilter::default()
        })
    }

    /// `source`, `reason`, `kind`, `from`, `to`, `order` of the rejected list.
    pub(super) fn refused(&mut self) -> Result<rejected::RejectedQuery, Problem> {
        let reasons: Vec<_> = Reason::all().map(Reason::slug).collect();
        let reasons = reasons.join(", ");
        let newest_first = self.newest_first()?;
        let filter = self.received_filter()?;
        Ok(rejected::RejectedQuery {
            source: filter.source,
            kind: filter.kind,
            from: filter.from,
            to: filter.to,
            reason: self.parsed(
                "reason",
                format_args!("one of {reasons}"),
                Reason::from_slug,
            )?,
            after: None,
            newest_first,
        })
    }

    /// `live`, `source`, `domain`, `stream`, `search`.
    pub(super) fn streams(&mut self) -> Result<StreamQuery, Problem> {
        Ok(StreamQuery {
            live: self.parsed("live", "`true` or `false`", |text| text.parse().ok())?,
            source: self.take("source"),
            domain: self.take("domain"),
            stream: self.take("stream"),
            search: self.take("search").map(|text| text.to_ascii_lowercase()),
        })
    }

    /// `payload`: the form of an event's data.
    pub(super) fn payload(&mut self) -> Result<PayloadForm, Problem> {
        let form = self.parsed("payload", "`original` or `typed`", |text| match text {
            "original" => Some(PayloadForm::Original),
            "typed" => Some(PayloadForm::Typed),
            _ => None,
        })?;
        Ok(form.unwrap_or_default())
    }

    /// `dry_run`.
    pub(super) fn dry_run(&mut self) -> Result<bool, Problem> {
        let flag = self.parsed("dry_run", "`true` or `false`", |text| text.parse().ok())?;
        Ok(flag.unwrap_or(false))
    }

    /// `handler`.
    pub(super) fn handler(&mut self) -> Option<String> {
        self.take("handler")
    }

    /// `state` of a handler.
    pub(super) fn handler_state(&mut self) -> Result<Option<HandlerState>, Problem> {
        self.parsed(
            "state",
            "`running`, `failing`, `paused` or `elsewhere`",
            |text| {
                HandlerState::ALL
                    .into_iter()
                    .find(|state| state.slug() == text)
            },
        )
    }

    /// Fails if a field is left: it is unknown, or was given twice.
    pub(super) fn end(self) -> Result<(), Problem> {
        match self.0.first() {
            Some((name, _)) => Err(Problem::Bad(format!(
                "there is no filter `{}`, or it is given twice",
                name.escape_debug()
            ))),
            None => Ok(()),
        }
    }
}
