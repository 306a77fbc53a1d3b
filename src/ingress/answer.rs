//! Every answer to a callback: what the sender receives, and how it is counted.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::inbox::{Receipt, StoreError};
use crate::metrics::CallbackResult;

/// The result of a request. The messages are fixed: causes go to the log only.
#[derive(Debug)]
pub(crate) enum CallbackAnswer {
    /// The callback is on disk.
    Stored(Receipt),
    /// The body is not one JSON object, or it is nested too deeply.
    NotOneObject,
    /// The callback is not authentic.
    NotAuthentic,
    /// There is no such source or kind.
    NotFound,
    /// The method is not POST.
    NotPost,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The body ended too early.
    BodyBroken,
    /// The body is longer than `max_body`.
    BodyTooLong,
    /// The budget for requests in flight is used up.
    Overloaded,
    /// The store is full or has failed.
    NotStored(StoreError),
    /// The store did not answer in time.
    TooSlow,
}

/// When a sender that honours `Retry-After` retries.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("5");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl CallbackAnswer {
    /// The status, and the message if the status is not 200.
    fn status_and_message(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Stored(_) => (StatusCode::OK, ""),
            Self::NotOneObject => (StatusCode::BAD_REQUEST, "the body is not one JSON object"),
            Self::BodyBroken => (StatusCode::BAD_REQUEST, "the body broke off"),
            Self::NotAuthentic => (StatusCode::UNAUTHORIZED, "not authentic"),
            Self::NotFound => (StatusCode::NOT_FOUND, "no such source or kind"),
            Self::NotPost => (
                StatusCode::METHOD_NOT_ALLOWED,
                "the method is not allowed here",
            ),
            Self::BodyTooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time",
            ),
            Self::BodyTooLong => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too long"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "too much at once"),
            Self::NotStored(StoreError::Full) => {
                (StatusCode::SERVICE_UNAVAILABLE, "no room to store it")
            }
            Self::NotStored(StoreError::Failed) => {
                (StatusCode::SERVICE_UNAVAILABLE, "it could not be stored")
            }
            Self::TooSlow => (
                StatusCode::SERVICE_UNAVAILABLE,
                "it could not be stored in time",
            ),
        }
    }

    /// The message in the body; empty with 200.
    pub(crate) fn message(&self) -> &'static str {
        self.status_and_message().1
    }

    /// How the answer is counted.
    pub(crate) fn counts_as(&self) -> CallbackResult {
        match self {
            Self::Stored(receipt) if receipt.is_duplicate() => CallbackResult::Duplicate,
            Self::Stored(_) => CallbackResult::Accepted,
            Self::NotAuthentic => CallbackResult::Refused,
            Self::NotOneObject
            | Self::BodyBroken
            | Self::BodyTooSlow
            | Self::BodyTooLong
            | Self::NotPost => CallbackResult::Invalid,
            Self::NotFound => CallbackResult::Misrouted,
            Self::Overloaded => CallbackResult::Overloaded,
            Self::NotStored(_) | Self::TooSlow => CallbackResult::Failed,
        }
    }
}

impl IntoResponse for CallbackAnswer {
    fn into_response(self) -> Response {
        let (status, message) = self.status_and_message();
        let body = match self {
            Self::Stored(_) => Body::from("{\"code\":0}"),
            _ => Body::from(error_body(status, message)),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        match status {
            StatusCode::SERVICE_UNAVAILABLE => drop(headers.insert(RETRY_AFTER, RETRY_SECONDS)),
            // The rest of the body is not read, so no further request can follow it.
            StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE => {
                drop(headers.insert(CONNECTION, HeaderValue::from_static("close")));
            }
            _ => {}
        }
        response
    }
}

/// The body of every error answer, on both listeners.
pub(crate) fn error_body(status: StatusCode, message: &str) -> String {
    serde_json::json!({ "code": status.as_u16(), "message": message }).to_string()
}
