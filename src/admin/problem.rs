//! The error answers of the admin listener.

use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::dispatch::ControlError;
use crate::inbox::StoreError;
use crate::ingress::answer::error_body;

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Problem {
    /// A field is missing, unknown or invalid; the text names it.
    Bad(String),
    /// The token is missing or wrong.
    NotAuthorized,
    /// The request comes from another site, or names a host that is not allowed.
    Forbidden(&'static str),
    /// The page, event, handler, stream or source does not exist.
    NotFound(&'static str),
    /// The page does not support the method.
    WrongMethod,
    /// Too many clients use this endpoint at once.
    Busy(&'static str),
    /// What was asked for failed; the text says why.
    Failed(StatusCode, String),
    /// The store failed.
    Store(StoreError),
    /// A bug in livehook.
    Broken,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::Failed(status, message) => (status, message),
            Self::Bad(message) => (StatusCode::BAD_REQUEST, message),
            Self::NotAuthorized => (
                StatusCode::UNAUTHORIZED,
                "the token is missing or wrong".to_owned(),
            ),
            Self::Forbidden(message) => (StatusCode::FORBIDDEN, message.to_owned()),
            Self::NotFound(message) => (StatusCode::NOT_FOUND, message.to_owned()),
            Self::WrongMethod => (
                StatusCode::METHOD_NOT_ALLOWED,
                "this page does not support that method".to_owned(),
            ),
            Self::Broken => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal error; the log says more".to_owned(),
            ),
            Self::Busy(message) => (StatusCode::SERVICE_UNAVAILABLE, message.to_owned()),
            Self::Store(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        };
        let mut response = (
            status,
            [(CONTENT_TYPE, "application/json")],
            error_body(status, &message),
        )
            .into_response();
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Gives axum's own refusals, such as a path that is not UTF-8 or a body that is too long, the form
/// of the API's errors.
pub(super) async fn as_api_error(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE);
    if !status.is_client_error() || kind.is_some_and(|kind| kind == "application/json") {
        return response;
    }
    let message = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "the body is too long",
        _ => "the path or the body is invalid",
    };
    let body = error_body(status, message);
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::NoSuchHandler => Self::NotFound("there is no such handler"),
            ControlError::Store(error) => Self::Store(error),
        }
    }
}
