//! Sign-in at the console: a cookie replaces the token in each request.
//!
//! The cookie holds the time of its end and an HMAC over that, made with the token. The server
//! stores no sessions. So a session is valid at every receiver with the same token, and changing
//! the token ends all sessions.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use css_callbacks::{Secret, Timestamp};
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::body::parse_object;
use super::{Admin, Problem, access};
use crate::auth;

const COOKIE_NAME: &str = "livehook_session";
/// One session lasts a working day.
const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignInRequest {
    token: String,
}

/// `POST /login`
pub(super) async fn login(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    access::check_origin(&headers)?;
    let presented: SignInRequest = parse_object(&body, "{\"token\":\"…\"}")?;
    let Some(token) = &admin.token else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    if !token.matches(presented.token.trim().as_bytes()) {
        return Err(admin.wrong_tokens.refuse("console").await);
    }
    let value = issue(token, admin.clock.now());
    let seconds = LIFETIME.as_secs();
    Ok(answer(format!("{value}; Max-Age={seconds}")))
}

/// `POST /logout`
pub(super) async fn logout(headers: HeaderMap) -> Result<Response, Problem> {
    access::check_origin(&headers)?;
    Ok(answer("; Max-Age=0".to_owned()))
}

fn answer(value: String) -> Response {
    let cookie = format!("{COOKIE_NAME}={value}; Path=/; HttpOnly; SameSite=Strict");
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response()
}

/// The session cookie of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionCookie {
    /// There is no cookie, or it has expired.
    None,
    /// The cookie is valid now.
    Valid,
    /// The cookie was not made with the token.
    Forged,
}

/// Checks the cookies of a request: one valid cookie is enough.
pub(super) fn presented(headers: &HeaderMap, token: &Secret, now: Timestamp) -> SessionCookie {
    let lines = headers.get_all(COOKIE).iter();
    let mut presented = SessionCookie::None;
    for value in lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
    {
        match verify(value, token, now) {
            SessionCookie::None => {}
            SessionCookie::Valid => return SessionCookie::Valid,
            SessionCookie::Forged => presented = SessionCookie::Forged,
        }
    }
    presented
}

fn issue(token: &Secret, now: Timestamp) -> String {
    let content = format!(
        "{}.{:032x}",
        now.plus(LIFETIME).seconds(),
        rand::random::<u128>()
    );
    let mac = mac(token, &content);
    format!("{content}.{mac}")
}

fn verify(value: &str, token: &Secret, now: Timestamp) -> SessionCookie {
    let Some((content, presented)) = value.rsplit_once('.') else {
        return SessionCookie::None;
    };
    if !bool::from(mac(token, content).as_bytes().ct_eq(presented.as_bytes())) {
        return SessionCookie::Forged;
    }
    let ends = content.split('.').next();
    match ends.and_then(|ends| ends.parse::<i64>().ok()) {
        Some(ends) if now.seconds() < ends => SessionCookie::Valid,
        _ => SessionCookie::None,
    }
}

fn mac(token: &Secret, content: &str) -> String {
    let parts = ["livehook console session 1.", content].map(str::as_bytes);
    hex::encode(auth::hmac_sha256(token.reveal().as_bytes(), parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_valid_for_its_time_and_its_token() {
        let token = Secret::new("AdminTokenItself");
        let now = Timestamp::from_seconds(1_800_000_000);
        let value = issue(&token, now);
        assert_eq!(verify(&value, &token, now), SessionCookie::Valid);
        let last = now.plus(LIFETIME - Duration::from_secs(1));
        assert_eq!(verify(&value, &token, last), SessionCookie::Valid);
        assert_eq!(
            verify(&value, &token, now.plus(LIFETIME)),
            SessionCookie::None
        );
        let another = Secret::new("another");
        assert_eq!(verify(&value, &another, now), SessionCookie::Forged);
        assert!(!value.contains("AdminTokenItself"));
        let later = value.replacen('1', "2", 1);
        assert_eq!(
            verify(&later, &token, now),
            SessionCookie::Forged,
            "{later}"
        );
        for bad in [".", "..", "1900000000.."] {
            assert_eq!(verify(bad, &token, now), SessionCookie::Forged, "{bad}");
        }
        for nothing in ["", "x"] {
            assert_eq!(
                verify(nothing, &token, now),
                SessionCookie::None,
                "{nothing}"
            );
        }
    }
}
