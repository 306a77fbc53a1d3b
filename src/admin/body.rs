//! The bodies of requests and answers.

use axum::Json;
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::Problem;
use crate::api::CountAnswer;

/// Status 200 and an object.
pub(super) type JsonResult<T> = Result<Json<T>, Problem>;
/// Status 202 and a number.
pub(super) type CountResult = Result<(StatusCode, Json<CountAnswer>), Problem>;

pub(super) fn count_answer(count: impl Into<CountAnswer>) -> CountResult {
    Ok((StatusCode::ACCEPTED, Json(count.into())))
}

impl From<u64> for CountAnswer {
    fn from(count: u64) -> Self {
        Self {
            count,
            ..Self::default()
        }
    }
}

/// Parses a body that must be a JSON object such as `example`.
pub(super) fn parse_object<T: DeserializeOwned>(body: &[u8], example: &str) -> Result<T, Problem> {
    // serde would also read an array, as the fields in order.
    if !body.trim_ascii_start().starts_with(b"{") {
        let problem = format!("the body must be a JSON object such as {example}");
        return Err(Problem::Bad(problem));
    }
    serde_json::from_slice(body).map_err(|error| Problem::Bad(error.to_string()))
}

/// Refuses a body that is neither empty nor an empty object.
pub(super) fn expect_empty(body: &[u8]) -> Result<(), Problem> {
    if matches!(body.trim_ascii(), b"" | b"{}") {
        return Ok(());
    }
    let problem = "this takes no fields: leave the body empty, or `{}`";
    Err(Problem::Bad(problem.to_owned()))
}
