//! Who may use the admin listener.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::{Mutex, Semaphore};

use super::session::{self, SessionCookie};
use super::{Admin, Problem};
use crate::listener::Arrival;

/// Each answer to a wrong token takes at least this long. They are given one at a time.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_secs(1);
/// At most this many requests with wrong tokens wait. Each holds one of the listener's 64
/// connections.
const WRONG_TOKENS_WAITING: usize = 16;

/// Answers wrong tokens slowly, so that tokens cannot be guessed. Correct tokens never wait, so
/// nobody can lock the operator out.
pub(super) struct WrongTokens {
    /// Counts wrong tokens. Locked while one is answered, so that answers come one at a time.
    count: Mutex<u64>,
    waiting: Semaphore,
}

impl Default for WrongTokens {
    fn default() -> Self {
        Self {
            count: Mutex::new(0),
            waiting: Semaphore::new(WRONG_TOKENS_WAITING),
        }
    }
}

impl WrongTokens {
    /// Returns the answer to a wrong token after the pause, or at once if too many already wait.
    pub(super) async fn refuse(&self, part: &'static str) -> Problem {
        let Ok(_place) = self.waiting.try_acquire() else {
            return Problem::NotAuthorized;
        };
        let mut count = self.count.lock().await;
        *count += 1;
        let count = *count;
        tracing::warn!(count, "a wrong token was presented at the {part}");
        tokio::time::sleep(WRONG_TOKEN_PAUSE).await;
        Problem::NotAuthorized
    }
}

/// Passes a request on if it may use the API.
pub(super) async fn authorize(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let headers = request.headers();
    match &admin.token {
        Some(token) => {
            let presented = header_text(headers, AUTHORIZATION).and_then(|value| {
                let (scheme, token) = value.split_once(' ')?;
                scheme
                    .eq_ignore_ascii_case("bearer")
                    .then_some(token.trim())
            });
            if !presented.is_some_and(|presented| token.matches(presented.as_bytes())) {
                match session::presented(headers, token, admin.clock.now()) {
                    SessionCookie::Valid => {}
                    // The cookie's code is made with the token, so a forged cookie is a guess of
                    // the token.
                    SessionCookie::Forged => return Err(admin.wrong_tokens.refuse("API").await),
                    SessionCookie::None
                        if presented.is_some_and(|presented| !presented.is_empty()) =>
                    {
                        return Err(admin.wrong_tokens.refuse("API").await);
                    }
                    SessionCookie::None => return Err(Problem::NotAuthorized),
                }
                // A browser adds the cookie to every request, so requests that change something
                // must come from the console's own page.
                if !request.method().is_safe() && !is_same_origin(headers) {
                    return Err(Problem::Forbidden(
                        "a request with the cookie must come from the console",
                    ));
                }
            }
        }
        None if !header_text(headers, HOST).is_some_and(is_loopback) => {
            return Err(Problem::Forbidden(
                "without a token the Host header must be a loopback address",
            ));
        }
        None => {}
    }
    check_origin(headers)?;
    if let Some(arrival) = request.extensions().get::<Arrival>() {
        arrival.mark_authentic();
    }
    Ok(next.run(request).await)
}

/// Refuses requests that the browser marks as sent by another site, also one on this machine. Only
/// following a link to the console is allowed.
pub(super) async fn refuse_other_sites(request: Request, next: Next) -> Result<Response, Problem> {
    if is_cross_site(request.headers()) && !is_console_visit(&request) {
        return Err(Problem::Forbidden("requests from other sites are refused"));
    }
    Ok(next.run(request).await)
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    header_is(headers, "sec-fetch-site", "cross-site")
        || header_is(headers, "sec-fetch-site", "same-site")
}

fn is_console_visit(request: &Request) -> bool {
    request.method().is_safe()
        && request.uri().path() == "/"
        && header_is(request.headers(), "sec-fetch-mode", "navigate")
        && header_is(request.headers(), "sec-fetch-dest", "document")
}

fn header_is(headers: &HeaderMap, name: &str, value: &str) -> bool {
    let mut lines = headers.get_all(name).iter();
    lines.any(|line| line.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
}

/// Refuses a request whose `Origin` is not this listener.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    if let Some(origin) = header_text(headers, ORIGIN) {
        let own = header_text(headers, HOST).unwrap_or_default();
        if origin.split_once("://").map(|(_, host)| host) != Some(own) {
            return Err(Problem::Forbidden("requests from other sites are refused"));
        }
    }
    Ok(())
}

/// Whether the browser says that a page of this listener sent the request. [`check_origin`] checks
/// the `Origin` itself.
fn is_same_origin(headers: &HeaderMap) -> bool {
    header_text(headers, ORIGIN).is_some()
        || header_text(headers, HeaderName::from_static("sec-fetch-site")) == Some("same-origin")
}

fn header_text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a `Host` header is `localhost` or a loopback address, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_are_loopback() {
        for host in [
            "localhost",
            "LOCALHOST:9090",
            "127.0.0.1:9090",
            "127.8.8.8",
            "[::1]:9090",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "example.com",
            "localhost.example.com:9090",
            "10.0.0.1",
            "[fd00::1]:9090",
            "",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
