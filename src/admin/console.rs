//! The console: a web page inside the binary that uses only the public API.
//!
//! The page itself is public; the data that it shows needs the token. The page runs only its own
//! scripts, so that text in an event, such as a stream's name, cannot become a script.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{Admin, Problem};

const PAGE: &str = include_str!("console/index.html");
/// The sign-out button of the page, removed if there is no token.
const SIGN_OUT: &str = "<button id=\"logout\" type=\"button\" hidden>Sign out</button>\n";

macro_rules! files {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("console/", $name)))),*] };
}

const FILES: [(&str, &str); 16] = files!(
    "style.css" "app.js" "api.js" "dom.js" "metrics.js" "chart.js"
    "watch.js" "overview.js" "board.js" "streams.js" "stream.js" "timeline.js" "feed.js" "event.js" "rejected.js" "handlers.js"
);

const HEADERS: [(HeaderName, &str); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

/// Routes for the page and its files.
pub(super) fn router() -> Router<Arc<Admin>> {
    Router::new()
        .route("/", get(page))
        .route("/console/{name}", get(file))
}

async fn page(State(admin): State<Arc<Admin>>) -> Response {
    let page = match admin.token {
        Some(_) => PAGE.to_owned(),
        None => PAGE.replace(SIGN_OUT, ""),
    };
    with_content_type("text/html; charset=utf-8", page)
}

async fn file(Path(name): Path<String>) -> Result<Response, Problem> {
    let found = FILES.iter().find(|(known, _)| *known == name);
    let &(name, text) = found.ok_or(Problem::NotFound("there is no such page"))?;
    Ok(match name.ends_with(".css") {
        true => with_content_type("text/css; charset=utf-8", text),
        false => with_content_type("text/javascript; charset=utf-8", text),
    })
}

fn with_content_type(kind: &'static str, text: impl IntoResponse) -> Response {
    ([(CONTENT_TYPE, kind)], text).into_response()
}

/// Adds the headers that tell a browser what it may do with an answer, for pages and API.
pub(super) async fn security_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        let headers = response.headers_mut();
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
