//! What is answered to a request that never reaches the router.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};

/// A status and fixed words. The connection is closed behind it: what follows on it is not to be trusted, or has no place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FixedAnswer {
    status: StatusCode,
    message: &'static str,
}

pub(super) const TOO_MANY: FixedAnswer = FixedAnswer {
    status: StatusCode::SERVICE_UNAVAILABLE,
    message: "too many connections",
};
pub(super) const TOO_MUCH: FixedAnswer = FixedAnswer {
    status: StatusCode::SERVICE_UNAVAILABLE,
    message: "too much at once",
};
pub(super) const LONG_HEAD: FixedAnswer = FixedAnswer {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    message: "the head of the request is too long",
};
pub(super) const HOST: FixedAnswer = FixedAnswer {
    status: StatusCode::BAD_REQUEST,
    message: "the request must have one Host header",
};
pub(super) const CODING: FixedAnswer = FixedAnswer {
    status: StatusCode::BAD_REQUEST,
    message: "the only transfer coding is chunked, once",
};
pub(super) const EXPECTATION: FixedAnswer = FixedAnswer {
    status: StatusCode::EXPECTATION_FAILED,
    message: "the only expectation is 100-continue",
};

const RETRY_SECONDS: &str = "5";

impl FixedAnswer {
    fn body(&self) -> String {
        let (status, message) = (self.status.as_u16(), self.message);
        format!("{{\"code\":{status},\"message\":\"{message}\"}}")
    }

    fn is_for_later(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    pub(super) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if self.is_for_later() {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
        }
        response
    }

    /// The same as it goes over the wire, where there is no whole request to answer.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let body = self.body();
        let reason = self.status.canonical_reason().unwrap_or_default();
        let later = match self.is_for_later() {
            true => format!("retry-after: {RETRY_SECONDS}\r\n"),
            false => String::new(),
        };
        format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\n{later}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.status.as_u16(),
            body.len()
        )
        .into_bytes()
    }
}
