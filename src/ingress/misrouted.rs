//! What comes to a path that is no endpoint.
//!
//! Slashes too many do no harm. Every other path is nobody's and answered 404. A template with a mis-typed URL would lose its
//! events that way without a trace, so what was sent there is counted, told once a minute, and kept in the rejected list. But
//! most of it comes from scanners: only what is authentic for a source is told aloud and counts for an alert.

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
use super::{Ingress, without_mark};
use crate::auth::{self, Presented, token_hash};
use crate::rejected::{NOBODY, Reason};

/// Characters of a path that are logged.
const SHOWN: usize = 100;
/// Segments of a path, and characters of each, that are compared with the endpoints.
const COMPARED: usize = 32;

impl Ingress {
    /// A request to a path that is no endpoint as it stands.
    pub(super) async fn receive_astray(&self, mut request: Request) -> CallbackAnswer {
        if request.method() != Method::POST {
            return CallbackAnswer::NotFound;
        }
        let path = request.uri().path().to_owned();
        if let Some((source_state, url_kind)) = self.endpoint_but_for_slashes(&path) {
            return self.receive_at(&source_state, url_kind, request).await;
        }
        self.misrouted.inc();
        let head = RequestHead::of(&mut request, &self.settings.trusted_proxies);
        let deadline = head.at + self.settings.deadline;
        let read = self.read(request, &head, deadline);
        // The charge is held until the body was looked at.
        if let Ok(Ok((body, _charge))) = timeout_at(deadline, read).await {
            let presented = Presented {
                url_kind: kind_at_end(&path),
                token: head.token.as_deref(),
                client: head.client,
                received: self.clock.now(),
                body: without_mark(body),
            };
            if !presented.body.trim_ascii().is_empty() {
                self.note_misrouted(&path, &presented);
            }
        }
        CallbackAnswer::NotFound
    }

    fn endpoint_but_for_slashes(&self, path: &str) -> Option<(Arc<SourceState>, Option<Kind>)> {
        let mut segments = segments(path);
        let source_state = self.desks.load().get(segments.next()?)?.clone();
        let url_kind = match segments.next() {
            Some(slug) => Some(received_kind(slug)?),
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
        let desks = self.desks.load();
        let mut owners: Vec<&SourceState> = Vec::new();
        if let Some(callback) = &callback {
            let claims = |source_state: &&Arc<SourceState>| {
                auth::claim(
                    &source_state.source,
                    presented,
                    token,
                    callback,
                    rand::random,
                )
                .is_some()
            };
            owners.extend(
                desks
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
        self.keep(NOBODY.into(), Reason::Misrouted, presented, kind);

        let is_signed =
            callback.is_some_and(|callback| matches!(callback.signed(), Signed::Both { .. }));
        let what = match (owners.is_empty(), is_signed) {
            (false, _) => "callbacks come to a URL that is nobody's and are answered 404",
            (true, true) => "signed bodies come to a URL that is nobody's and are answered 404",
            (true, false) => "something comes to a URL that is nobody's and is answered 404",
        };
        if !self.nowhere.is_time_to_tell(what, presented.received) {
            return;
        }
        let all: Vec<&SourceState> = desks.values().map(|source_state| &**source_state).collect();
        let nearest = nearest(path, if owners.is_empty() { &all } else { &owners });
        let path = shown(path, &all);
        let client = presented.client.map(tracing::field::display);
        if let Some(owner) = owners.first() {
            tracing::warn!(
                callback.source = &**owner.source.name(),
                callback.kind = kind.slug(),
                http.path = path,
                url.nearest = nearest,
                client,
                "{what}: mend the URL in the template, then `livehook rejected --recheck` takes what came meanwhile"
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

/// The kind whose URL ends in this.
fn received_kind(slug: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.slug() == slug)
}

/// The kind that a path names, whatever stands before.
fn kind_at_end(path: &str) -> Option<Kind> {
    received_kind(&segments(path).last()?.to_ascii_lowercase())
}

/// The endpoint of these sources that is most like one or two segments of the path; none if no one is like them.
fn nearest(path: &str, desks: &[&SourceState]) -> Option<String> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let path = decoded.to_ascii_lowercase();
    let segments: Vec<String> = segments(&path)
        .take(COMPARED)
        .map(|segment| segment.chars().take(COMPARED).collect())
        .collect();
    let parts = segments.windows(1).chain(segments.windows(2));
    let parts: Vec<String> = parts.map(|part| part.join("/")).collect();
    let endpoints = desks.iter().flat_map(|source_state| {
        let source = source_state.source.name();
        let of_kinds = Kind::ALL.map(|kind| format!("{source}/{kind}"));
        of_kinds.into_iter().chain([source.to_string()])
    });
    // A letter that differs outweighs two that fit, so that a short endpoint is not like everything.
    let likeness = |endpoint: &str| {
        let distance = |part: &String| strsim::damerau_levenshtein(part, endpoint);
        let least = parts.iter().map(distance).min()?;
        let like = endpoint.len().checked_sub(2 * least);
        // Of two that are equally like it, the nearer one.
        Some((like.filter(|like| *like > 0)?, Reverse(least)))
    };
    endpoints
        .filter_map(|endpoint| Some((likeness(&endpoint)?, endpoint)))
        .max_by_key(|(likeness, _)| *likeness)
        .map(|(_, endpoint)| format!("/{endpoint}"))
}

/// The path as it is logged: escaped, cut, and without secrets, as a mis-typed URL may have its token there.
fn shown(path: &str, desks: &[&SourceState]) -> String {
    let mut shown = path.to_owned();
    let decoded = percent_decode_str(path).decode_utf8_lossy().into_owned();
    for source_state in desks {
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
    let mut cut: String = letters.by_ref().take(SHOWN).collect();
    if letters.next().is_some() {
        cut.push('…');
    }
    cut.escape_debug().to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::super::watch::SourceWatch;
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
        let around = Env {
            base: Path::new("/"),
            variable: &|_| None,
        };
        SourceState {
            source: Arc::new(config.validate(name, &around).unwrap()),
            watch: Arc::new(SourceWatch::default()),
            metrics: Metrics::default().of_source(name),
        }
    }

    #[test]
    fn the_nearest_endpoint_is_what_was_meant() {
        let desks = [source_state("css"), source_state("backup")];
        let desks: Vec<&SourceState> = desks.iter().collect();
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
            assert_eq!(nearest(path, &desks).as_deref(), expected, "{path}");
        }
        assert_eq!(nearest(&"/x".repeat(30_000), &desks), None);
        let alike = [source_state("css"), source_state("stage")];
        let alike: Vec<&SourceState> = alike.iter().collect();
        assert_eq!(nearest("/css/stagf", &alike).as_deref(), Some("/css"));
    }

    #[test]
    fn a_path_is_shown_escaped_and_cut_and_without_secrets() {
        let source_state = source_state("css");
        let shown = |path: &str| shown(path, &[&source_state]);
        assert_eq!(shown("/CSS/stream-begin"), "/CSS/stream-begin");
        assert_eq!(shown("/a%0Ab\n\u{202e}\""), "/a%0Ab\\n\\u{202e}\\\"");
        assert_eq!(shown(&"/x".repeat(300)), format!("{}…", "/x".repeat(50)));
        for path in [
            "/css&token=Token+Of/It",
            "/css%3Ftoken=Token%2BOf%2FIt",
            "/css?KeyOfTheSource",
        ] {
            let shown = shown(path);
            assert!(shown.contains("***"), "{shown}");
            assert!(!shown.contains("Of"), "{shown}");
        }
    }
}
