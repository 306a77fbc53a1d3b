//! Requests to a path that is not an endpoint.
//!
//! Extra slashes are ignored. Every other path gets 404. A template with a mistyped URL would lose
//! its events without a trace, so these requests are counted, logged once a minute, and kept in the
//! rejected list. Most of them come from scanners: only those that are authentic for a source are
//! logged as a warning and count for an alert.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::Method;
use css_callbacks::{Callback, Kind, Signed};
use percent_encoding::percent_decode_str;
use tokio::time::timeout_at;

use super::answer::CallbackAnswer;
use super::client::RequestHead;
use super::source_state::SourceState;
use super::{Ingress, without_bom};
use crate::auth::{self, Presented, token_hash};
use crate::rejected::{Reason, UNKNOWN_SOURCE};

/// How many characters of a path are logged.
const LOGGED_PATH: usize = 100;
/// How many segments of a path, and characters of each, are compared with the endpoints.
const COMPARE_LIMIT: usize = 32;

impl Ingress {
    /// Answers a request to a path that is not exactly an endpoint.
    pub(super) async fn receive_misrouted(&self, mut request: Request) -> CallbackAnswer {
        if request.method() != Method::POST {
            return CallbackAnswer::NotFound;
        }
        let path = request.uri().path().to_owned();
        if let Some((source_state, url_kind)) = self.endpoint_ignoring_slashes(&path) {
            return self.receive_for(&source_state, url_kind, request).await;
        }
        self.misrouted.inc();
        let head = RequestHead::of(&mut request, &self.settings.trusted_proxies);
        let deadline = head.at + self.settings.deadline;
        let read = self.read(request, &head, deadline);
        // The charge lasts until the body has been processed.
        if let Ok(Ok((body, _charge))) = timeout_at(deadline, read).await {
            let presented = Presented {
                url_kind: kind_at_end(&path),
                token: head.token.as_deref(),
                client: head.client,
                received: self.clock.now(),
                body: without_bom(body),
            };
            if !presented.body.trim_ascii().is_empty() {
                self.note_misrouted(&path, &presented);
            }
        }
        CallbackAnswer::NotFound
    }

    fn endpoint_ignoring_slashes(&self, path: &str) -> Option<(Arc<SourceState>, Option<Kind>)> {
        let mut segments = segments(path);
        let source_state = self.sources.load().get(segments.next()?)?.clone();
        let url_kind = match segments.next() {
            Some(slug) => Some(kind_of_slug(slug)?),
            None => None,
        };
        segments
            .next()
            .is_none()
            .then_some((source_state, url_kind))
    }

    fn note_misrouted(&self, path: &str, presented: &Presented) {
        let callback = Callback::parse(&presented.body).ok();
        let token = presented.token.map(token_hash);
        let sources = self.sources.load();
        let mut owners: Vec<&SourceState> = Vec::new();
        if let Some(callback) = &callback {
            let claims = |source_state: &&Arc<SourceState>| {
                auth::authenticate_misrouted(
                    &source_state.source,
                    presented,
                    token,
                    callback,
                    rand::random,
                )
                .is_some()
            };
            owners.extend(
                sources
                    .values()
                    .filter(claims)
                    .map(|source_state| &**source_state),
            );
        }
        for owner in &owners {
            owner.metrics.misrouted().inc();
        }
        let kind = callback
            .as_ref()
            .map_or(Kind::Unknown, |callback| callback.kind(presented.url_kind));
        self.record_rejected(UNKNOWN_SOURCE.into(), Reason::Misrouted, presented, kind);

        let is_signed =
            callback.is_some_and(|callback| matches!(callback.signed(), Signed::Both { .. }));
        let what = match (owners.is_empty(), is_signed) {
            (false, _) => "authentic callbacks arrive at a URL of no source or kind, and get 404",
            (true, true) => "signed requests arrive at a URL of no source or kind, and get 404",
            (true, false) => "unsigned requests arrive at a URL of no source or kind, and get 404",
        };
        if !self.misrouted_health.should_log(what, presented.received) {
            return;
        }
        let all: Vec<&SourceState> = sources
            .values()
            .map(|source_state| &**source_state)
            .collect();
        let nearest = nearest_endpoint(path, if owners.is_empty() { &all } else { &owners });
        let path = loggable_path(path, &all);
        let client = presented.client.map(tracing::field::display);
        if let Some(owner) = owners.first() {
            tracing::warn!(
                callback.source = &**owner.source.name(),
                callback.kind = kind.slug(),
                http.path = path,
                url.nearest = nearest,
                client,
                "{what}: correct the URL in the template, then run `livehook rejected --recheck` to accept them"
            );
        } else if is_signed {
            tracing::info!(http.path = path, url.nearest = nearest, client, "{what}");
        } else {
            tracing::debug!(http.path = path, url.nearest = nearest, client, "{what}");
        }
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// The kind with this slug.
fn kind_of_slug(slug: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.slug() == slug)
}

/// The kind in the last segment of a path.
fn kind_at_end(path: &str) -> Option<Kind> {
    kind_of_slug(&segments(path).last()?.to_ascii_lowercase())
}

/// The endpoint that is most similar to one or two segments of the path, if any is.
fn nearest_endpoint(path: &str, sources: &[&SourceState]) -> Option<String> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let path = decoded.to_ascii_lowercase();
    let segments: Vec<String> = segments(&path)
        .take(COMPARE_LIMIT)
        .map(|segment| segment.chars().take(COMPARE_LIMIT).collect())
        .collect();
    let parts = segments.windows(1).chain(segments.windows(2));
    let parts: Vec<String> = parts.map(|part| part.join("/")).collect();
    let endpoints = sources.iter().flat_map(|source_state| {
        let source = source_state.source.name();
        let of_kinds = Kind::ALL.map(|kind| format!("{source}/{kind}"));
        of_kinds.into_iter().chain([source.to_string()])
    });
    // One different letter cancels two equal ones, or short endpoints would be similar to all.
    let likeness = |endpoint: &str| {
        let distance = |part: &String| strsim::damerau_levenshtein(part, endpoint);
        let least = parts.iter().map(distance).min()?;
        let like = endpoint.len().checked_sub(2 * least);
        // Of two endpoints with the same score, the one with fewer different letters.
        Some((like.filter(|like| *like > 0)?, Reverse(least)))
    };
    endpoints
        .filter_map(|endpoint| Some((likeness(&endpoint)?, endpoint)))
        .max_by_key(|(likeness, _)| *likeness)
        .map(|(_, endpoint)| format!("/{endpoint}"))
}

/// The path for the log: escaped, cut, and without secrets, such as a token in the wrong place.
fn loggable_path(path: &str, sources: &[&SourceState]) -> String {
    let mut shown = path.to_owned();
    let decoded = percent_decode_str(path).decode_utf8_lossy().into_owned();
    for source_state in sources {
        let secrets = source_state
            .source
            .token()
            .into_iter()
            .chain(source_state.source.keys());
        for secret in secrets.map(|secret| secret.reveal()) {
            if shown.contains(secret) || decoded.contains(secret) {
                shown = decoded.replace(secret, "***");
            }
        }
    }
    let mut letters = shown.chars();
    let mut cut: String = letters.by_ref().take(LOGGED_PATH).collect();
    if letters.next().is_some() {
        cut.push('…');
    }
    cut.escape_debug().to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::super::source_health::SourceHealth;
    use super::*;
    use crate::metrics::Metrics;
    use crate::settings::Env;
    use crate::source::SourceConfig;

    fn source_state(name: &str) -> SourceState {
        let config = SourceConfig {
            keys: vec!["KeyOfTheSource".to_owned()],
            token: Some("Token+Of/It".to_owned()),
            ..SourceConfig::default()
        };
        let env = Env {
            base: Path::new("/"),
            variable: &|_| None,
        };
        SourceState {
            source: Arc::new(config.validate(name, &env).unwrap()),
            health: Arc::new(SourceHealth::default()),
            metrics: Metrics::default().of_source(name),
        }
    }

    #[test]
    fn the_nearest_endpoint_is_what_was_meant() {
        let sources = [source_state("css"), source_state("backup")];
        let sources: Vec<&SourceState> = sources.iter().collect();
        for (path, expected) in [
            ("/CSS/stream-begin", Some("/css/stream-begin")),
            ("/css/streambegin", Some("/css/stream-begin")),
            ("/css/stream_end", Some("/css/stream-end")),
            ("/ccs/stream-begin", Some("/css/stream-begin")),
            ("/callback/css/record", Some("/css/record")),
            ("/css/record/extra", Some("/css/record")),
            ("/callback/CSS", Some("/css")),
            ("/bakcup", Some("/backup")),
            ("/stream-mix", Some("/css/stream-mix")),
            ("/css/nothing", Some("/css")),
            ("/%63%73%73", Some("/css")),
            ("/%43ss%2F%72%65%63%6f%72%64", Some("/css/record")),
            ("/", None),
            ("/wp-login.php", None),
            ("/vendor/phpunit/eval-stdin.php", None),
        ] {
            assert_eq!(
                nearest_endpoint(path, &sources).as_deref(),
                expected,
                "{path}"
            );
        }
        assert_eq!(nearest_endpoint(&"/x".repeat(30_000), &sources), None);
        let alike = [source_state("css"), source_state("stage")];
        let alike: Vec<&SourceState> = alike.iter().collect();
        assert_eq!(
            nearest_endpoint("/css/stagf", &alike).as_deref(),
            Some("/css")
        );
    }

    #[test]
    fn a_path_is_shown_escaped_and_cut_and_without_secrets() {
        let source_state = source_state("css");
        let loggable = |path: &str| loggable_path(path, &[&source_state]);
        assert_eq!(loggable("/CSS/stream-begin"), "/CSS/stream-begin");
        assert_eq!(loggable("/a%0Ab\n\u{202e}\""), "/a%0Ab\\n\\u{202e}\\\"");
        assert_eq!(loggable(&"/x".repeat(300)), format!("{}…", "/x".repeat(50)));
        for path in [
            "/css&token=Token+Of/It",
            "/css%3Ftoken=Token%2BOf%2FIt",
            "/css?KeyOfTheSource",
        ] {
            let logged = loggable(path);
            assert!(logged.contains("***"), "{logged}");
            assert!(!logged.contains("Of"), "{logged}");
        }
    }
}
