//! The responses to requests that never reach the router.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};

/// A status and a fixed message. The connection closes after it, as it cannot be used further.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FixedResponse {
    status: StatusCode,
    message: &'static str,
}

pub(super) const TOO_MANY: FixedResponse = FixedResponse {
    status: StatusCode::SERVICE_UNAVAILABLE,
    message: "too many connections",
};
pub(super) const TOO_MUCH: FixedResponse = FixedResponse {
    status: StatusCode::SERVICE_UNAVAILABLE,
    message: "too much at once",
};
pub(super) const LONG_HEAD: FixedResponse = FixedResponse {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    message: "the head of the request is too long",
};
pub(super) const HOST: FixedResponse = FixedResponse {
    status: StatusCode::BAD_REQUEST,
    message: "the request must have one Host header",
};
pub(super) const CODING: FixedResponse = FixedResponse {
    status: StatusCode::BAD_REQUEST,
    message: "the only transfer coding is chunked, once",
};
pub(super) const EXPECTATION: FixedResponse = FixedResponse {
    status: StatusCode::EXPECTATION_FAILED,
    message: "the only expectation is 100-continue",
};

const RETRY_SECONDS: &str = "5";

impl FixedResponse {
    fn body(&self) -> String {
        let (status, message) = (self.status.as_u16(), self.message);
        format!("{{\"code\":{status},\"message\":\"{message}\"}}")
    }

    fn is_retryable(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    pub(super) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if self.is_retryable() {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
        }
        response
    }

    /// The response as bytes on the wire, for a connection on which hyper has no complete request.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let body = self.body();
        let reason = self.status.canonical_reason().unwrap_or_default();
        let retry_after = match self.is_retryable() {
            true => format!("retry-after: {RETRY_SECONDS}\r\n"),
            false => String::new(),
        };
        format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\n{retry_after}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.status.as_u16(),
            body.len()
        )
        .into_bytes()
    }
}
